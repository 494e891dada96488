"""Whether a lens helps, told honestly: beside no editing, beside the base, beside filters that learned nothing.

    readings -> what classifier and judge say of each picture, however it was made      report -> plain JSON

Edits are made by the sampler that training had. Gate and best filter are chosen on validation pictures, all numbers are
of test pictures. "fixed" counts pictures that are read rightly and were not before, "broken" the reverse; p is that of
McNemar's exact test, two-sided.
"""

import html
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hubmodels import hub
from hubmodels.images import save_png, sheet
from hubmodels.lens.classifier import Classifier
from hubmodels.lens.data import Pictures, balanced, opened
from hubmodels.lens.filters import FILTERS
from hubmodels.lens.model import DiffusionLens
from hubmodels.lens.rewards import Seen, l1, ssim

Progress = Callable[[Iterable, str], Iterable]
ROWS, BEST_OF, CHUNK = 2000, 4, 32
"""Test pictures if nothing else is said; edits that `best of n` chooses from; pictures that are read at a time."""
APART = 2**24
"""From the seeds of one edit to those of the next: more than there are pictures, and a seed has 32 bits."""
BINS = 15
"""Of the expected calibration error."""
DRAWS = 2000
"""Of the bootstrap."""
SHOWN = 8
NAMES = {
    "raw": "not edited",
    "vae": "VAE there and back",
    "base": "base, not tuned",
    "tuned": "**tuned**",
    "ensemble": "**tuned and not edited**, mean of logits",
    "gated": "**tuned where the classifier was unsure**",
    "best_of": f"**surest of {BEST_OF} edits**",
}
OURS = ("tuned", "ensemble", "gated", "best_of")


def stacked(pictures: Pictures) -> tuple[Tensor, Tensor]:
    """All of a data set: (N, 3, S, S) in [-1, 1] and labels (N,)."""
    rows = [pictures[number] for number in range(len(pictures))]
    return torch.stack([picture for picture, _ in rows]), torch.tensor([label for _, label in rows])


# --- reading ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What is read of N pictures."""

    logits: Tensor
    """(N, K), by the classifier that gave the reward."""
    judged: Tensor
    """(N, K), by one that never did."""
    l1: Tensor
    """(N,), mean distance of a pixel from the original, of a range of 2."""
    ssim: Tensor
    """(N,), likeness to the original, 1 is the same."""

    def where(self, chosen: Tensor, other: "Reading") -> "Reading":
        """These for rows that are `chosen`, (N,) bool, and others for the rest."""
        return self.mixed(other, lambda a, b: torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b))

    def mean(self, other: "Reading") -> "Reading":
        """Means of logits."""
        return self.mixed(other, lambda a, b: (a + b) / 2)

    def mixed(self, other: "Reading", how: Callable[[Tensor, Tensor], Tensor]) -> "Reading":
        return Reading(
            how(self.logits, other.logits),
            how(self.judged, other.judged),
            how(self.l1, other.l1),
            how(self.ssim, other.ssim),
        )

    @property
    def confidence(self) -> Tensor:
        """(N,), of the likeliest label."""
        return self.logits.softmax(1).amax(1)


@torch.inference_mode()
def logits_of(reader: Classifier, pictures: Tensor) -> Tensor:
    """(N, K), on the CPU."""
    return torch.cat([reader(part.to(reader.mean.device)).cpu() for part in pictures.split(CHUNK)])


@torch.inference_mode()
def read(reader: Classifier, judge: Classifier, edits: Tensor, originals: Tensor) -> Reading:
    """What both say of edits."""
    logits, features = reader.read(edits)
    nobody = torch.zeros(len(edits), dtype=torch.long)
    seen = Seen(edits, originals, nobody, logits, logits, features, features)
    return Reading(logits.cpu(), judge(edits).cpu(), -l1(seen).cpu(), 1 + ssim(seen).cpu())


def readings(
    lens: DiffusionLens,
    reader: Classifier,
    judge: Classifier,
    pictures: Pictures,
    seed: int,
    progress: Progress,
    best_of: int = BEST_OF,
) -> tuple[dict[str, Reading], Tensor]:
    """By what was done to the pictures, and their labels (N,). "tuned" is the first of the edits that `best_of`
    chooses from; filters have their own names."""
    parts: dict[str, list[Reading]] = {}
    labels = []
    for first in progress(range(0, len(pictures), CHUNK), "editing and reading"):
        raw, names = stacked(replace(pictures, rows=pictures.rows[first : first + CHUNK]))
        raw = raw.to(reader.mean.device)
        labels.append(names)
        made = {"raw": raw, "vae": lens.roundtrip(raw)}
        with lens.as_base():
            made["base"] = lens.edit(raw, seed + first)
        made |= {f"tuned_{n}": lens.edit(raw, seed + first + n * APART) for n in range(best_of)}
        made |= {name: filtered(raw) for name, filtered in FILTERS.items()}
        for name, edits in made.items():
            parts.setdefault(name, []).append(read(reader, judge, edits, raw))
    found = {
        name: Reading(*(torch.cat([getattr(one, part) for one in some]) for part in ("logits", "judged", "l1", "ssim")))
        for name, some in parts.items()
    }
    edits = [found.pop(f"tuned_{n}") for n in range(best_of)]
    surest = found["tuned"] = edits[0]
    for edit in edits[1:]:
        surest = edit.where(edit.confidence > surest.confidence, surest)
    return found | {"best_of": surest, "ensemble": edits[0].mean(found["raw"])}, torch.cat(labels)


def gated(found: dict[str, Reading], gate: float) -> Reading:
    """Pictures of which the classifier is at least so sure are left as they are."""
    return found["raw"].where(found["raw"].confidence >= gate, found["tuned"])


def chosen_gate(found: dict[str, Reading], labels: Tensor) -> float:
    """The gate with which most validation pictures are read rightly, of equals the one that edits least."""
    gates = [step / 20 for step in range(1, 21)]
    return max(gates, key=lambda gate: (int(right(gated(found, gate).logits, labels).sum()), -gate))


# --- numbers ----------------------------------------------------------------------------------------------------


def right(logits: Tensor, labels: Tensor, within: int = 1) -> Tensor:
    """(N,) bool: the label is among the likeliest."""
    best = logits.topk(min(within, logits.shape[1]), 1).indices
    return (best == labels[:, None]).any(1)


def best(found: dict[str, Reading], labels: Tensor, names: Iterable[str]) -> str:
    """The way by which most pictures are read rightly."""
    return max(names, key=lambda name: int(right(found[name].logits, labels).sum()))


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided p of so uneven a split of the pictures that changed, by chance. Source: McNemar 1947, exact."""
    changed = fixed + broken
    tail = sum(comb(changed, k) for k in range(min(fixed, broken) + 1))
    return min(1.0, 2 * tail / 2**changed)


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Mean distance of confidence and accuracy over 15 bins of confidence. Source: Guo et al. 2017, equation 3."""
    sure, correct = logits.softmax(1).amax(1), right(logits, labels).float()
    bins = (sure * BINS).long().clamp(max=BINS - 1)
    return sum(float((sure[bins == b] - correct[bins == b]).sum().abs()) for b in range(BINS)) / len(labels)


def interval(gains: Tensor, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of (N,), which has few different values: how often each is drawn is drawn."""
    values, counts = np.unique(gains.numpy(), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(gains), counts / len(gains), size=DRAWS)
    means = drawn @ values / len(gains)
    low, high = np.percentile(means, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def against(logits: Tensor, others: Tensor, labels: Tensor) -> dict:
    """Readings beside those of the same pictures made in another way."""
    now, before = right(logits, labels), right(others, labels)
    fixed, broken = int((now & ~before).sum()), int((before & ~now).sum())
    gains = now.float() - before.float()
    return {
        "gain": round(float(gains.mean()), 4),
        "gain_interval": interval(gains),
        "fixed": fixed,
        "broken": broken,
        "p": mcnemar(fixed, broken),
    }


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Of one way to make pictures."""
    found = {f"top{k}": round(float(right(logits, labels, k).float().mean()), 4) for k in (1, 3, 5)}
    likely = torch.nn.functional.cross_entropy(logits, labels)
    return found | {"nll": round(float(likely), 4), "ece": round(calibration_error(logits, labels), 4)}


def per_class(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Top-1 of each class that is there."""
    correct = right(logits, labels).float()
    there = [number for number in range(len(classes)) if (labels == number).any()]
    return {classes[number]: round(float(correct[labels == number].mean()), 4) for number in there}


def quick(lens: DiffusionLens, reader: Classifier, pictures: Tensor, labels: Tensor) -> tuple[dict[str, float], Tensor]:
    """During training: how edits are read, alone and together with what was not edited; and the edits."""
    edits = lens.edit(pictures, 0)
    raw, now = (logits_of(reader, one) for one in (pictures, edits))
    found = scores(now, labels)
    both = scores((raw + now) / 2, labels)
    return {"top1": found["top1"], "nll": found["nll"], "top1_ensemble": both["top1"]}, edits.cpu()


def recognised(reader: Classifier, pictures: Pictures) -> str:
    """How a classifier reads pictures as they are, as Markdown."""
    firsts = range(0, len(pictures), CHUNK)
    parts = [stacked(replace(pictures, rows=pictures.rows[first : first + CHUNK])) for first in firsts]
    said = torch.cat([logits_of(reader, seen) for seen, _ in parts])
    names = torch.cat([labels for _, labels in parts])
    found = scores(said, names)
    lines = ["| pictures | top-1 | top-3 | top-5 | NLL | ECE |", "|---|---|---|---|---|---|"]
    shares = " | ".join(f"{found[name]:.1%}" for name in ("top1", "top3", "top5"))
    lines += [
        f"| {len(names)} | {shares} | {found['nll']:.3f} | {found['ece']:.3f} |",
        "",
        "| class | top-1 |",
        "|---|---|",
    ]
    own = per_class(said, names, pictures.classes)
    return "\n".join([*lines, *(f"| {name} | {share:.1%} |" for name, share in own.items())])


# --- the report -------------------------------------------------------------------------------------------------


def held_out(lens: DiffusionLens, root: str, rows: int, seed: int) -> tuple[Pictures, Pictures]:
    """Validation and test pictures of what a lens learned from, as many of each class as can be.

    Raises:
        FileNotFoundError, ValueError: the data set does not lie in `root`, or is damaged.
    """
    config = lens.config
    where = (config.dataset, root)
    how = (config.corruption, config.severity, config.size, seed)
    found = [opened(*where, split, *how) for split in ("validation", "test")]
    counts = (min(rows // 2 or 1, len(found[0])), min(rows, len(found[1])))
    validation, test = (
        replace(one, rows=tuple(balanced(one.rows, count, seed))) for one, count in zip(found, counts, strict=True)
    )
    return validation, test


def report(
    lens: DiffusionLens,
    reader: Classifier,
    judge: Classifier,
    validation: Pictures,
    test: Pictures,
    seed: int,
    progress: Progress,
) -> dict:
    """All that is measured, as plain JSON."""
    found, labels = readings(lens, reader, judge, validation, seed, progress, best_of=1)
    gate = chosen_gate(found, labels)
    found["gated"] = gated(found, gate)
    helper = best(found, labels, FILTERS)
    chosen = best(found, labels, ("tuned", "ensemble", "gated"))

    found, labels = readings(lens, reader, judge, test, seed + 2**20, progress)
    found["gated"] = gated(found, gate)
    found[f"ensemble_{helper}"] = found[helper].mean(found["raw"])
    raw = found["raw"]
    rival = best(found, labels, FILTERS)
    ways = {}
    for name, one in found.items():
        judged = scores(one.judged, labels) | against(one.judged, raw.judged, labels)
        ways[name] = scores(one.logits, labels) | {
            "raw": against(one.logits, raw.logits, labels),
            "base": against(one.logits, found["base"].logits, labels),
            "vae": against(one.logits, found["vae"].logits, labels),
            "filter": against(one.logits, found[rival].logits, labels),
            "judge": judged,
            "l1": round(float(one.l1.mean()), 4),
            "ssim": round(float(one.ssim.mean()), 4),
            "classes": per_class(one.logits, labels, test.classes),
        }
    return {
        "pictures": len(labels),
        "classes": list(test.classes),
        "gate": gate,
        "chosen": chosen,
        "filter": rival,
        "filter_of_validation": helper,
        "ways": ways,
    }


def verdict(result: dict) -> str:
    """In a sentence or two, whether all this was worth it."""
    name, rival = result["chosen"], result["filter"]
    own, other = result["ways"][name], result["ways"][rival]
    words = f"{NAMES[name].replace('*', '')}, chosen on validation pictures, reads {own['top1']:.1%}"
    raw = own["raw"]
    lines = [f"{words}: {100 * raw['gain']:+.1f} points to not editing (p = {raw['p']:.1g})."]
    if other["top1"] > own["top1"]:
        lines.append(f"A filter that learned nothing, {rival}, reads {other['top1']:.1%} and beats it.")
    else:
        lines.append(
            f"The best filter, {rival}, reads {other['top1']:.1%} ({100 * own['filter']['gain']:+.1f} points to it, "
            f"p = {own['filter']['p']:.1g})."
        )
    judge = own["judge"]
    agrees = "agrees" if judge["gain"] * raw["gain"] > 0 else "does not agree"
    lines.append(
        f"The judge, who never gave a reward, {agrees}: {100 * judge['gain']:+.1f} points (p = {judge['p']:.1g})."
    )
    return " ".join(lines)


def label(name: str) -> str:
    """Of a row."""
    if name.startswith("ensemble_"):
        return f"{name.removeprefix('ensemble_')} and not edited, mean of logits"
    return NAMES.get(name, name.replace("_", " "))


def table(result: dict) -> str:
    """All ways as Markdown, best last."""
    lines = ["| | top-1 | top-3 | NLL | ECE | fixed | broken | p | judge | change |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for name, one in sorted(result["ways"].items(), key=lambda item: item[1]["top1"]):
        raw = one["raw"]
        lines.append(
            f"| {label(name)} | {one['top1']:.1%} | {one['top3']:.1%} | {one['nll']:.3f} | {one['ece']:.3f} | "
            f"{raw['fixed']} | {raw['broken']} | {raw['p']:.1g} | {one['judge']['top1']:.1%} | {one['l1']:.3f} |"
        )
    return "\n".join(lines)


CARD = """\
## What it does

It edits a picture a little, with {executed} step(s) of a diffusion model, so that a classifier reads what is hidden in
it. It was tuned on {task}, by a reward of that classifier, and learned {millions:.2f} M numbers beside a frozen base.

```python
edited = model.edit(pictures, seed=0)  # (B, 3, {size}, {size}), sRGB in [-1, 1]
```

![Pictures, and what becomes of them](edits.png)

## Measured

{verdict}

On {pictures} test pictures{held}. `fixed` and `broken` are counted against
not editing, `p` is McNemar's. `judge` is a classifier of another kind that never gave a reward. `change` is the mean
distance of a pixel from the original, of a range of 2.

{table}

The gate, chosen on validation pictures, is {gate:g}.

![Fixed](fixed.png)

![Broken](broken.png)

## Data

{data}

## Limits

It helps the classifier that it was tuned for, on pictures of the kind that it was tuned on. An edit is evidence for no
one: what it shows may not be there.
{training}"""
OWN = """Silhouettes of Animal-MNIST (MIT) on CC0 textures; see `hubmodels/lens/assets/LICENSES.md`."""


def card(lens: DiffusionLens, result: dict, training: str = "") -> str:
    """The part of the model card that was measured, as Markdown."""
    config = lens.config
    return CARD.format(
        executed=int(config.steps * config.strength),
        task=" ".join(filter(None, (config.dataset, config.corruption or "camouflage"))),
        millions=sum(p.numel() for p in lens.parameters()) / 1e6,
        size=config.size,
        verdict=verdict(result),
        pictures=result["pictures"],
        held=", whose silhouettes and textures no training had" if config.dataset == "camo" else "",
        table=table(result),
        gate=result["gate"],
        data=OWN if config.dataset == "camo" else f"{config.dataset}, under its own terms.",
        training=training,
    )


def history(run: Path) -> str:
    """How a run went, for the card; see `hubmodels.hub.history`."""
    return hub.history(run, "pictures", "the classifier read best on validation pictures")


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.2rem .7rem;text-align:right}}td:first-child{{text-align:left}}
tr:nth-child(even){{background:#f3f3f3}}.ours{{font-weight:bold}}
img{{max-width:100%;image-rendering:pixelated}}</style>
<h1>{title}</h1><p>{verdict}</p><table>{rows}</table>
<h2>Pictures, and what becomes of them</h2><img src="edits.png" alt="">
<h2>Fixed</h2><img src="fixed.png" alt=""><h2>Broken</h2><img src="broken.png" alt="">
<h2>Classes</h2><table>{classes}</table></html>
"""


def page(result: dict, title: str) -> str:
    """The report as a page that shows the pictures that lie beside it."""
    first, _, *others = table(result).splitlines()
    rows = [f"<tr>{_cells(first, 'th')}</tr>"]
    for line in others:
        rows.append(f"<tr{' class=ours' if '**' in line else ''}>{_cells(line.replace('**', ''), 'td')}</tr>")
    shown = ["raw", "base", *OURS, result["filter"]]
    classes = [
        "<tr><th></th>" + "".join(f"<th>{html.escape(label(n).replace('**', ''))}</th>" for n in shown) + "</tr>"
    ]
    for name in result["ways"]["raw"]["classes"]:
        shares = "".join(f"<td>{result['ways'][one]['classes'][name]:.1%}</td>" for one in shown)
        classes.append(f"<tr><td>{html.escape(name)}</td>{shares}</tr>")
    return PAGE.format(
        title=html.escape(title), verdict=html.escape(verdict(result)), rows="".join(rows), classes="".join(classes)
    )


def _cells(line: str, kind: str) -> str:
    return "".join(f"<{kind}>{html.escape(cell.strip())}</{kind}>" for cell in line.strip("|").split("|"))


def publish(lens: DiffusionLens, reader: Classifier, result: dict, test: Pictures, seed: int, path: Path) -> list[Path]:
    """Write the report and, beside it, a page and the pictures that it shows.

    Returns:
        The files written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    page_of = path.with_suffix(".html")
    page_of.write_text(page(result, f"{lens.config.dataset} {lens.config.corruption or 'camouflage'}"))
    raw, labels = stacked(test)
    raw, labels = raw[:512], labels[:512]
    edits = lens.edit(raw, seed + 2**20).cpu()
    with lens.as_base():
        untuned = lens.edit(raw[:SHOWN], seed + 2**20).cpu()
    before, after = (logits_of(reader, pictures) for pictures in (raw, edits))
    first = torch.arange(min(SHOWN, len(raw)))
    columns = {
        "not edited": raw[first],
        "VAE": lens.roundtrip(raw[first]).cpu(),
        "base": untuned,
        "tuned": edits[first],
        result["filter"].replace("_", " "): FILTERS[result["filter"]](raw[first]),
    }
    tiles, texts = [], []
    for name, pictures in columns.items():
        said = logits_of(reader, pictures).argmax(1).tolist()
        tiles.append(pictures)
        for number, truth in zip(said, labels.tolist(), strict=False):
            read = test.classes[number]
            texts.append(f"{name}: {read}" if tiles[1:] else f"{test.classes[truth]}, read {read}")
    files = {"edits.png": (torch.cat(tiles), texts)}
    now, then = right(after, labels), right(before, labels)
    for name, rows in {"fixed.png": now & ~then, "broken.png": then & ~now}.items():
        which = rows.nonzero()[: 2 * SHOWN, 0]
        pairs = torch.stack([raw[which], edits[which]], 1).flatten(0, 1)
        said = [
            f"{how}: {test.classes[int(logits[row].argmax())]}"
            for row in which.tolist()
            for how, logits in (("before", before), ("after", after))
        ]
        files[name] = (pairs, said) if len(which) else (raw[:1], ["none"])
    for name, (pictures, captions) in files.items():
        save_png(sheet(pictures, captions, SHOWN), path.parent / name)
    return [path, page_of, *(path.parent / name for name in files)]
