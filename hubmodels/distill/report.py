"""What a distilled renderer is worth, on scenes it was not trained on, beside what broken models would score.

    report(model, scenes) -> plain JSON      card(report) -> Markdown      publish(...) -> files to look at

Every score is a mean over pictures. References: `teacher` is the renderer itself (what a perfect student gets,
the reader's own errors included), `blank` a white picture, `mean` the mean of 512 training pictures, `shuffled`
the student's pictures of other captions of the split.
"""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hubmodels import hub
from hubmodels.distill.data import Batch, opened, scene_of
from hubmodels.distill.model import DistilledRenderer, tokenize
from hubmodels.images import from_uint8, grid, save_png, to_pil, to_uint8, to_unit
from hubmodels.metrics import checkerboard, foreground_psnr, iou, psnr, ssim
from hubmodels.scenes import Scene, caption, decode, parse, place
from hubmodels.scenes.counterfactuals import KINDS, edits
from hubmodels.scenes.reader import Reading, agrees, read
from hubmodels.scenes.renderer import draw, pack, paper
from hubmodels.scenes.splits import SPLITS, assert_disjoint, unplaced
from hubmodels.scenes.world import CANVAS

BATCH = 64
TOGETHER = 16
"""Pictures compared at a time: what is larger costs more to allocate than to compute."""
HELD_OUT = tuple(name for name in SPLITS if name != "train")
ATTRIBUTES = ("color", "shape", "size", "count", "background", "relations", "count_error")
VISIBLE = 24
"""Levels of 255 by which a pixel must differ from the bare background to be foreground."""
PERFECT = 100.0
"""PSNR in dB that stands for equal pictures, so that a mean stays finite."""
Progress = Callable[[Iterable, str], Iterable]


def drawn(model: DistilledRenderer, scenes: list[Scene]) -> Tensor:
    """The student's pictures of placed scenes, (B, 3, R, R) uint8."""
    batches = [scenes[i : i + BATCH] for i in range(0, len(scenes), BATCH)]
    return torch.cat([to_uint8(model.draw(tokenize([caption(s) for s in batch]))).cpu() for batch in batches])


def taught(model: DistilledRenderer, scenes: list[Scene]) -> Tensor:
    """The teacher's pictures of placed scenes at the student's resolution, (B, 3, R, R) uint8."""
    return draw(pack(scenes), model.config.resolution)[0]


def foreground(pictures: Tensor, scenes: list[Scene]) -> Tensor:
    """Where pictures (B, 3, R, R) uint8 differ from their bare backgrounds, (B, R, R) bool."""
    bare = torch.stack([paper(scene.background, pictures.shape[-1]) for scene in scenes])[:, None]
    return (pictures - bare).abs().amax(1) > VISIBLE


def likeness(student: Tensor, teacher: Tensor, scenes: list[Scene]) -> dict[str, Tensor]:
    """Per-picture scores against the teacher's pictures, both (B, 3, R, R) uint8."""
    if len(scenes) > TOGETHER:
        cuts = range(0, len(scenes), TOGETHER)
        few = [likeness(student[i : i + TOGETHER], teacher[i : i + TOGETHER], scenes[i : i + TOGETHER]) for i in cuts]
        return {name: torch.cat([part[name] for part in few]) for name in few[0]}
    a, b = to_unit(from_uint8(student)), to_unit(from_uint8(teacher))
    shown = foreground(teacher, scenes)
    return {
        "psnr": psnr(a, b),
        "ssim": ssim(a, b),
        "foreground_psnr": foreground_psnr(a, b, shown),
        "foreground_iou": iou(foreground(student, scenes), shown),
    }


def readings(pictures: Tensor) -> list[Reading]:
    """What the oracle sees in pictures (B, 3, R, R) uint8; it reads at 64 pixels, larger ones are averaged down."""
    if pictures.shape[-1] > CANVAS:
        pictures = F.avg_pool2d(pictures.float(), pictures.shape[-1] // CANVAS).round().to(torch.uint8)
    return read(pictures)


def judged(seen: list[Reading], scenes: list[Scene]) -> dict[str, Tensor]:
    """Whether what was seen is the scene, in all and in each respect, per picture."""
    verdicts = [agrees(one, unplaced(scene)) for one, scene in zip(seen, scenes, strict=True)]
    return {
        name: torch.tensor([float(getattr(verdict, name)) for verdict in verdicts]) for name in ("exact", *ATTRIBUTES)
    }


def means(scores: dict[str, Tensor]) -> dict[str, float]:
    """Means over pictures; pictures without a relation do not count in `relations`."""
    return {name: round(float(values[~values.isnan()].clamp(max=PERFECT).mean()), 4) for name, values in scores.items()}


def on_split(model: DistilledRenderer, scenes: list[Scene], mean: Tensor) -> dict:
    """Scores of the student and of the references on placed scenes. `mean` is a picture (3, R, R) uint8."""
    teacher, student = taught(model, scenes), drawn(model, scenes)
    blank = torch.full_like(teacher, 255)
    seen = readings(student)
    pictures = {
        "student": (student, seen),
        "teacher": (teacher, readings(teacher)),
        "blank": (blank, readings(blank[:1]) * len(scenes)),
        "mean": (mean.expand_as(teacher), readings(mean[None]) * len(scenes)),
        "shuffled": (student.roll(1, 0), [seen[-1], *seen[:-1]]),
    }
    result: dict = {"pictures": len(scenes)}
    for name, (shown, seen) in pictures.items():
        result[name] = means(likeness(shown, teacher, scenes) | judged(seen, scenes))
    squares = checkerboard(to_unit(from_uint8(student)), to_unit(from_uint8(teacher)))
    result["student"]["checkerboard"] = round(float(squares), 4)
    return result


def counterfactuals(model: DistilledRenderer, scenes: list[Scene], seed: int = 0) -> dict[str, dict]:
    """One word changed, the layout kept: does the picture change there, and only there?

    success: the reader sees the edited scene. locality: share of the squared change that lies inside the things
    that were edited (their masks before and after, grown by two pixels for anti-aliased edges). The teacher's
    own scores on the same pairs stand beside the student's.
    """
    result, size = {}, model.config.resolution
    for kind in KINDS:
        rng = random.Random(f"counterfactuals {seed} {kind}")
        pairs = [pair for scene in scenes if (pair := edits(scene, kind, rng)) is not None]
        if not pairs:
            continue
        before, after = [p.before for p in pairs], [p.after for p in pairs]
        inside = torch.stack(
            [_edited(_ids(p.before, size), p.changed[0]) | _edited(_ids(p.after, size), p.changed[1]) for p in pairs]
        )
        result[kind] = {"pairs": len(pairs)}
        for name, paint in (("student", drawn), ("teacher", taught)):
            a, b = paint(model, before), paint(model, after)
            energy = (a.float() - b.float()).square().sum(1)
            local = (energy * inside).sum((1, 2)) / energy.sum((1, 2)).clamp_min(1e-9)
            result[kind][f"{name}_success"] = means(judged(readings(b), after))["exact"]
            result[kind][f"{name}_locality"] = round(float(local.mean()), 4)
    return result


def _ids(scene: Scene, resolution: int) -> Tensor:
    return draw(pack([scene]), resolution)[1][0]


def _edited(ids: Tensor, numbers: Iterable[int]) -> Tensor:
    """Pixels of the numbered instances, grown by two."""
    own = torch.isin(ids, torch.tensor([*numbers], dtype=ids.dtype))
    return F.max_pool2d(own[None].float(), 5, 1, 2)[0] > 0


def diversity(model: DistilledRenderer, scenes: list[Scene], seeds: int = 4) -> dict[str, float]:
    """Pictures of one caption under several layout seeds: how far apart, and how many are right."""
    result = {}
    layouts = [[place(unplaced(scene), seed) for scene in scenes] for seed in range(seeds)]
    for name, paint in (("student", drawn), ("teacher", taught)):
        pictures = torch.stack([to_unit(from_uint8(paint(model, layout))) for layout in layouts])
        apart = [(pictures[i] - pictures[j]).abs().mean() for i in range(seeds) for j in range(i + 1, seeds)]
        result[f"{name}_distance"] = round(float(torch.stack(apart).mean()), 4)
    exact = [means(judged(readings(drawn(model, layout)), layout))["exact"] for layout in layouts]
    result["all_seeds_exact"] = round(sum(exact) / seeds, 4)
    return result


def rendered(rows: int, seed: int) -> dict[str, list[Scene]]:
    """`rows` placed scenes of every split but train, rendered on the fly."""
    return {name: [scene_of(row, seed, name) for row in range(rows)] for name in HELD_OUT}


def scenes_of(data: str) -> dict[str, list[Scene]]:
    """All placed scenes of the held-out splits of a built data set, a folder or a Hub id.

    Raises:
        FileNotFoundError: there is no such data set.
        ValueError: it has a meaning in two splits, or lacks a split.
    """
    loaded = opened(data)
    missing = [name for name in HELD_OUT if name not in loaded]
    if missing:
        raise ValueError(f"{data} has no rows in {', '.join(missing)}; build it with more --rows")
    assert_disjoint({str(name): part["canonical"] for name, part in loaded.items()})
    return {name: [parse(said) for said in loaded[name]["placed_caption"]] for name in HELD_OUT}


def report(model: DistilledRenderer, scenes: dict[str, list[Scene]], seed: int, progress: Progress) -> dict:
    """Measure everything on placed scenes of each split.

    Returns:
        {"splits": {name: {student, teacher, blank, mean, shuffled: {score: mean}}}, "counterfactuals": ...,
        "diversity": ...}, plain JSON.
    """
    seen = taught(model, [scene_of(row, seed) for row in range(512)])
    mean = seen.float().mean(0).round().to(torch.uint8)
    few = scenes["test"][: max(2, len(scenes["test"]) // 4)]
    parts: dict = {
        "resolution": model.config.resolution,
        "parameters": sum(p.numel() for p in model.parameters()),
        "splits": {},
    }
    for name in progress([*scenes, "counterfactuals", "diversity"], "measuring"):
        if name in scenes:
            parts["splits"][name] = on_split(model, scenes[name], mean)
        else:
            parts[name] = counterfactuals(model, few) if name == "counterfactuals" else diversity(model, few)
    return parts


# --- for people -------------------------------------------------------------------------------------------------


def table(result: dict) -> str:
    """The headline scores as Markdown: the student on every split, then the references on `test`."""
    names = ("exact", "psnr", "ssim", "foreground_psnr", "foreground_iou", "relations", "count_error")
    lines = ["| | pictures | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    rows = [(f"student, {name}", part, "student") for name, part in result["splits"].items()]
    test = result["splits"]["test"]
    rows += [(f"{reference}, test", test, reference) for reference in ("teacher", "blank", "mean", "shuffled")]
    for label, part, who in rows:
        scores = " | ".join(_number(name, part[who][name]) for name in names)
        lines.append(f"| {label} | {part['pictures']} | {scores} |")
    return "\n".join(lines)


def _number(name: str, value: float) -> str:
    if name.endswith("psnr"):
        return f"{value:.1f} dB" if value < PERFECT else "equal"
    return f"{value:.3f}" if name in ("ssim", "foreground_iou", "count_error") else f"{100 * value:.1f} %"


CARD = """\
## What it does

A sentence of the scene language goes in, a picture of {resolution} x {resolution} pixels comes out, drawn by a network
of {millions:.2f} M parameters that learned from a procedural renderer. A sentence that does not say where things
are gets a layout from a seed.

```python
model.generate(["There are two green cubes."], seed=7)[0].save("x.png")
```

![teacher above, student, difference](grid.png)

## Measured

Held out by meaning, not by picture: no caption below was in training, in any wording or layout. `exact` is the
share of pictures that an oracle reader, which sees nothing but pixels, reads back as exactly the scene of the
caption. The teacher is the renderer itself: its row is the ceiling. Blank, mean (of training pictures) and shuffled
(the student's pictures of other captions) are what broken models would score.

{table}

On `test`, by attribute: {attributes}. Checkerboard energy, as a multiple of the teacher's: {checkerboard:.2f}.

Counterfactual pairs, one attribute edited and the layout kept. Success: the reader sees the edited scene. Locality:
share of the changed energy that lies inside the edited things. Each beside the teacher's own.

{edits}

![before the edit, after it, difference](pairs.png)

Four layout seeds a caption: pictures differ by {student_distance:.4f} on average (teacher's: {teacher_distance:.4f}),
and {all_seeds_exact:.1%} of them are exact.

## Data

Scenes of `hubmodels.scenes`, rendered procedurally: no pictures or texts of others, so no licence of theirs.
`test_color_shape`, `test_count_shape`, `test_relation` and `test_longer` hold combinations that training never
saw.

## Limits

It knows one world: eight colours, eight shapes, three sizes, seven backgrounds, up to four groups and six things.
Sentences outside its grammar are refused with a hint, not guessed at.
{training}"""


def card(result: dict, training: str = "") -> str:
    """The part of the model card that was measured, as Markdown."""
    student = result["splits"]["test"]["student"]
    edits = ["| edit | pairs | success | teacher | locality | teacher |", "|---|---|---|---|---|---|"]
    for kind, s in result["counterfactuals"].items():
        keys = ("student_success", "teacher_success", "student_locality", "teacher_locality")
        edits.append(f"| {kind} | {s['pairs']} | " + " | ".join(f"{s[key]:.1%}" for key in keys) + " |")
    return CARD.format(
        resolution=result["resolution"],
        millions=result["parameters"] / 1e6,
        table=table(result),
        attributes="; ".join(f"{name} {student[name]:.1%}" for name in ATTRIBUTES if name != "count_error"),
        checkerboard=student["checkerboard"],
        edits="\n".join(edits),
        training=training,
        **result["diversity"],
    )


def history(run: Path) -> str:
    """How a run went, for the card; see `hubmodels.hub.history`."""
    return hub.history(run, "pictures, rendered on the fly", "read best on validation scenes")


def publish(model: DistilledRenderer, result: dict, scenes: list[Scene], path: Path) -> list[Path]:
    """Write the report and, beside it, grid.png (teacher, student, difference) and pairs.png (edits).

    Returns:
        The files written.
    """
    some = scenes[:16]
    teacher, student = taught(model, some), drawn(model, some)
    edited = [edits(scene, KINDS[i % len(KINDS)], random.Random(0)) for i, scene in enumerate(some)]
    pairs = [pair for pair in edited if pair is not None]
    before, after = drawn(model, [p.before for p in pairs]), drawn(model, [p.after for p in pairs])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    save_png(rows(teacher, student), path.parent / "grid.png")
    save_png(rows(before, after), path.parent / "pairs.png")
    return [path, path.parent / "grid.png", path.parent / "pairs.png"]


def rows(*pictures: Tensor) -> Image.Image:
    """A sheet: each batch (B, 3, R, R) uint8 a row, then the difference of the first two around grey."""
    first, second = (batch.float() for batch in pictures[:2])
    difference = (127.5 + (second - first) / 2).round().to(torch.uint8)
    return to_pil(grid(torch.cat([*pictures, difference]), columns=len(pictures[0])))


def quick(model: DistilledRenderer, batch: Batch) -> dict[str, float]:
    """The scores that choose between checkpoints, on one batch of `data.collate`."""
    scenes = [parse(decode(row)) for row in batch["tokens"].tolist()]
    teacher, student = batch["picture"].cpu(), to_uint8(model.draw(batch["tokens"])).cpu()
    scores = means(judged(readings(student), scenes) | likeness(student, teacher, scenes))
    return {name: scores[name] for name in ("exact", "psnr", "ssim", "foreground_iou")}
