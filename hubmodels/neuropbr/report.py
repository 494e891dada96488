"""What maps are worth on materials that no training had, beside what one would have without this network.

    report(model, groups) -> plain JSON      card(report) -> Markdown      publish(...) -> files to look at

Groups of materials are measured apart: `procedural` ones of the test split, made and photographed on the spot, and
`real` ones of a built data set. References: `constant` is the mean of training maps; `raw` the mean of the photos as
they are, `rectified` their mean in the texture's frame, `dimmed` the latter at a constant share of its light, all flat,
half rough and without metal; `shuffled` are the network's maps of another material of the group.

Materials are taken one at a time, each by `NeuroPBR.predict`, as a user would. Every score is a mean over texels and
then over materials. PSNR is in dB, angles in degrees; maps are compared in [0, 1], normals as (n + 1) / 2.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels import hub
from hubmodels.images import from_unit, linear_to_srgb, save_png, sheet, srgb_to_linear, to_unit
from hubmodels.metrics import psnr
from hubmodels.neuropbr import predict as predicting
from hubmodels.neuropbr.cameras import centres
from hubmodels.neuropbr.capture import capture
from hubmodels.neuropbr.data import MAPS, Batch, decoded, numbers, opened, resized, shrunk
from hubmodels.neuropbr.lights import Lights, unseen
from hubmodels.neuropbr.losses import dissimilar
from hubmodels.neuropbr.model import Maps, NeuroPBR, average
from hubmodels.neuropbr.photos import Dirt, dirt
from hubmodels.neuropbr.predict import Progress
from hubmodels.neuropbr.procedural import make
from hubmodels.neuropbr.shading import shade
from hubmodels.neuropbr.validate import SEAM, seam

EYE = (0.0, 0.0, 3.0)
METAL = 0.5
LIGHTS = 8
ROWS, SIZE = 64, 256
"""Procedural materials, and texels a side of all maps, if nothing else is said."""
SIZES = range(32, 1025)
DIRTY = 0.25
"""Share of the procedural materials that are photographed with shadows, smudges and scratches, but for one in ten."""
VIEWS = 3
"""Photos of a material, if it has as many."""
COUNTS = (1, 2, 3, 5)
"""Photos of the curve of errors."""
PERFECT = 60.0
"""PSNR in dB that stands for all that is better: files of 8 bits hold no more."""
RELIEF = 5.0
"""Degrees by which normals must differ from flat, in the mean, for a material to have relief."""
TENTHS = 1801
"""Angles from 0 to 180 degrees are counted by tenths."""
TYPICAL = 64
"""Training materials whose mean is the constant."""
DIMMED = 0.55
"""Of the light of the mean photo: what re-rendered best on validation materials. Photos are mostly brighter than
surfaces, and whoever knows no more than that has this."""
SHOWN, CELL = 6, 128
"""Materials of a picture sheet, and pixels a side of its pictures."""
REFERENCES = ("constant", "raw", "rectified", "dimmed", "shuffled")
WHO = ("network", *REFERENCES)


# --- scores -----------------------------------------------------------------------------------------------------


def relit(maps: Maps, light: Lights) -> Tensor:
    """(B, 3, H, W) sRGB pictures of maps under a light, seen from straight above."""
    radiance = shade(maps, light.to(maps["albedo"].device), maps["albedo"].new_tensor(EYE)[None])
    return linear_to_srgb(radiance.clamp(0, 1))


def lit(maps: Maps) -> Iterator[Tensor]:
    """Pictures of maps under each of the lights that no photo and no training had."""
    lights = unseen(LIGHTS)
    for number in range(len(lights)):
        yield relit(maps, lights[number])


def alike(these: Iterable[Tensor], those: Iterable[Tensor]) -> Tensor:
    """(B,) PSNR in dB over pairs of pictures (B, 3, H, W), all of them together; at most 100."""
    errors = [(a - b).square().mean((1, 2, 3)) for a, b in zip(these, those, strict=True)]
    return -10 * torch.stack(errors).mean(0).clamp(min=1e-10).log10()


def rerender_psnr(made: Maps, true: Maps) -> Tensor:
    """(B,) PSNR in dB of pictures under lights that no photo and no training had, over all of them together."""
    return alike(lit(made), lit(true))


def angles(made: Tensor, true: Tensor) -> Tensor:
    """(B, H, W) degrees between unit normals. By their chord: the arc cosine of what rounds to 1 loses 0.03 degrees."""
    return torch.rad2deg(2 * ((made - true).norm(dim=1) / 2).clamp(max=1).asin())


def balanced_accuracy(made: Tensor, true: Tensor) -> float:
    """Mean of the shares of metal and of other pixels that are told right, over a whole set; 0.5 is a coin."""
    metal = true > METAL
    told = made > METAL
    shares = [(told == metal)[side].float().mean() for side in (metal, ~metal) if side.any()]
    return float(torch.stack(shares).mean())


def without_a_network(batch: Batch) -> Maps:
    """What the rectified photos alone give: their mean as albedo, flat, half rough, no metal."""
    return flat(average(batch["views"], batch["seen"]))


def flat(albedo: Tensor) -> Maps:
    """A smooth plane of half roughness and without metal."""
    up = torch.zeros_like(albedo)
    up[:, 2] = 1
    half = torch.full_like(albedo[:, :1], 0.5)
    return {"albedo": albedo, "roughness": half, "metallic": torch.zeros_like(half), "normal": up}


@torch.no_grad()
def scores(made: Maps, true: Maps) -> dict[str, float]:
    """Means over a batch."""
    return errors(made, true, lit(true)) | {
        "metallic_balanced_accuracy": balanced_accuracy(made["metallic"], true["metallic"])
    }


def errors(made: Maps, true: Maps, lit_true: Iterable[Tensor]) -> dict[str, float]:
    """What a batch of maps is judged by that is a mean over its materials; `lit_true` is `lit` of the true maps."""
    return {
        "rerender_psnr": float(alike(lit(made), lit_true).mean()),
        "albedo_mae": float(F.l1_loss(made["albedo"], true["albedo"])),
        "roughness_mae": float(F.l1_loss(made["roughness"], true["roughness"])),
        "normal_degrees": float(angles(made["normal"], true["normal"]).mean()),
    }


def quick(network: NeuroPBR, batch: Batch) -> dict[str, float]:
    """The scores that choose between checkpoints, and how much better they are than without a network.

    `summary_spread` is by how much summaries of different materials differ; near 0, the network's deep part is dead.
    """
    made = network(batch["views"], valid=batch["seen"], toward=batch["toward"])
    ours, none = scores(made, batch), scores(without_a_network(batch), batch)
    summaries = network.summarise(batch["views"], valid=batch["seen"], toward=batch["toward"])[:, 0]
    return ours | {
        "gain": ours["rerender_psnr"] - none["rerender_psnr"],
        "degrees_of_flat": ours["normal_degrees"] / max(none["normal_degrees"], 1e-6),
        "summary_spread": float(summaries.std(0, correction=0).mean()),
    }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of one material against the true ones."""

    maps: dict[str, dict[str, float]]
    """psnr, ssim, mae and mse of each."""
    rerender_psnr: float
    angles: Tensor
    """(1801,) shares of the texels, by tenths of a degree."""
    degrees: float
    flat_degrees: float
    """Mean angle of the flat normal."""
    metal: Tensor
    """(2, 2) shares of the texels: true, then told; other than metal, then metal."""


@torch.no_grad()
def compared(made: Maps, true: Maps, lit_true: Sequence[Tensor]) -> Comparison:
    """Maps (1, C, H, W) of one material; `lit_true` is `lit` of the true ones."""
    apart = angles(made["normal"], true["normal"])
    up = torch.zeros_like(true["normal"])
    up[:, 2] = 1
    pairs = 2 * (true["metallic"] > METAL) + (made["metallic"] > METAL)
    tenths = (apart.flatten() * 10).round().long().bincount(minlength=TENTHS)
    return Comparison(
        {name: distances(_coded(name, made), _coded(name, true)) for name in MAPS},
        min(float(alike(lit(made), lit_true)), PERFECT),
        tenths.double() / tenths.sum(),
        float(apart.mean()),
        float(angles(up, true["normal"]).mean()),
        pairs.flatten().bincount(minlength=4).view(2, 2).double() / pairs.numel(),
    )


def distances(made: Tensor, true: Tensor) -> dict[str, float]:
    """Of maps (1, C, H, W) in [0, 1]. SSIM is that of training, in double precision."""
    difference = made - true
    return {
        "psnr": min(float(psnr(made, true)), PERFECT),
        "ssim": 1 - float(dissimilar(made.double(), true.double())),
        "mae": float(difference.abs().mean()),
        "mse": float(difference.square().mean()),
    }


def _coded(name: str, maps: Maps) -> Tensor:
    """In [0, 1], where overlapping tiles round a little beyond it."""
    one = to_unit(maps[name]) if name == "normal" else maps[name]
    return one.clamp(0, 1)


def summed_up(parts: list[Comparison]) -> dict:
    """Plain JSON of all materials of a group."""
    result: dict = {"rerender_psnr": _mean(part.rerender_psnr for part in parts)}
    for name in MAPS:
        result[name] = {score: _mean(part.maps[name][score] for part in parts) for score in ("psnr", "ssim", "mae")}
        result[name]["rmse"] = round(_mean(part.maps[name]["mse"] for part in parts) ** 0.5, 6)
    cumulated = torch.stack([part.angles for part in parts]).mean(0).cumsum(0)
    result["normal_degrees"] = {
        "mean": _mean(part.degrees for part in parts),
        **{name: int((cumulated < share - 1e-9).sum()) / 10 for name, share in (("median", 0.5), ("p95", 0.95))},
    }
    with_relief = [part for part in parts if part.flat_degrees > RELIEF]
    result["normal_of_flat_on_relief"] = (
        round(sum(part.degrees for part in with_relief) / sum(part.flat_degrees for part in with_relief), 4)
        if with_relief
        else None
    )
    metal = torch.stack([part.metal for part in parts]).mean(0)
    both = bool((metal.sum(1) > 0).all())
    right = metal.diagonal() / metal.sum(1)
    return result | {"metallic_balanced_accuracy": round(float(right.mean()), 6) if both else None}


def _mean(values: Iterable[float]) -> float:
    values = [*values]
    return round(sum(values) / len(values), 6)


# --- materials --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sample:
    """A material and photos of it."""

    photos: list[Tensor]
    """(3, h, w) sRGB in [0, 1] each."""
    matrices: Tensor | None
    """(N, 3, 3) from texture to photo; None where each photo shows the texture from edge to edge."""
    maps: Maps
    """(1, C, S, S), what is true."""
    dirty: bool


@dataclass(frozen=True)
class Group:
    """Materials that are measured together."""

    name: str
    count: int
    sample: Callable[[int], Sample]
    """The material of a row, always the same."""
    licenses: dict[str, int]
    authors: dict[str, int]
    """How many materials say so; "" where they say nothing."""


def groups(data: str, rows: int, seed: int, size: int) -> list[Group]:
    """`rows` procedural materials, and those of a built data set if there is one, at `size` texels a side.

    Raises:
        FileNotFoundError: there is no such data set, or it has no test split.
        ValueError: too few materials, or a size out of range.
    """
    if size not in SIZES:
        raise ValueError(f"--size must be from {SIZES[0]} to {SIZES[-1]}, got {size}")
    made = Group("procedural", rows, partial(procedural, seed, size), {"CC0-1.0": rows}, {"": rows})
    chosen = [made, stored(data, size)] if data else [made]
    for group in chosen:
        if group.count < 2:
            raise ValueError(f"{group.name} materials must be at least 2, so that one can be mistaken for another")
    return chosen


def procedural(seed: int, size: int, row: int) -> Sample:
    """A whole texture of the test split with as many photos as the longest curve takes."""
    draw = torch.Generator().manual_seed(seed * 2_000_003 + row)
    maps = make(_number(draw, "test"), size).maps
    soil = dirt(draw) if torch.rand((), generator=draw) < DIRTY else Dirt()
    number = int(torch.randint(2**40, (), generator=draw))
    shots = capture(maps, number, max(COUNTS), round(size * 1.5), soil, supersample=1)
    return Sample(
        [shot.photo for shot in shots],
        torch.stack([shot.homography for shot in shots]),
        {name: maps[name][None] for name in MAPS},
        soil.severity > 0,
    )


def _number(draw: torch.Generator, split: str) -> int:
    """Of a procedural material of a split."""
    return next(numbers(split, int(torch.randint(2**40, (), generator=draw))))


def stored(data: str, size: int) -> Group:
    """All of `test_real` of a data set that `datasets_builders.neuropbr` made; of `test` where there is no such split.

    Raises:
        FileNotFoundError: it has neither.
    """
    try:
        name, table = "real", opened(data, "test_real")
    except FileNotFoundError:
        name, table = "test", opened(data, "test")

    def sample(row: int) -> Sample:
        of = table[row]
        photos, matrices, maps = decoded(of)
        true = {name: one[None] for name, one in shrunk(maps, size).items()}
        return Sample(photos, matrices, true, of["condition"] == "dirty")

    said = {column: Counter(one or "" for one in _column(table, column)) for column in ("license", "author")}
    return Group(name, len(table), sample, dict(said["license"]), dict(said["author"]))


def _column(table, name: str) -> Iterable[str | None]:
    return table[name] if name in table.column_names else [None] * len(table)


def typical(seed: int) -> Maps:
    """The constant (1, C, 1, 1) that is the mean of training maps."""
    draw = torch.Generator().manual_seed(seed)
    return constant([make(_number(draw, "train"), 64).maps for _ in range(TYPICAL)])


def constant(materials: Sequence[Maps]) -> Maps:
    """(1, C, 1, 1) mean over texels and materials of maps (C, H, W); the normal is unit."""
    means = {name: torch.stack([maps[name].mean((1, 2)) for maps in materials]).mean(0) for name in MAPS}
    return {
        name: one.view(1, -1, 1, 1) for name, one in (means | {"normal": F.normalize(means["normal"], dim=0)}).items()
    }


# --- measuring --------------------------------------------------------------------------------------------------


def predicted(model: NeuroPBR, sample: Sample, views: int, wrap: bool = False) -> Maps:
    """The network's maps (1, C, S, S) of the first photos of a material."""
    matrices = None if sample.matrices is None else sample.matrices[:views]
    height, width = sample.maps["albedo"].shape[-2:]
    return model.predict(sample.photos[:views], matrices, (height, width), wrap)


def aligned(sample: Sample, views: int) -> Batch:
    """The first photos of a material as the network sees them: views (1, N, 3, S, S) and seen (1, N, 1, S, S)."""
    matrices = None if sample.matrices is None else sample.matrices[:views]
    photos, matrices = predicting.checked_photos(sample.photos[:views], matrices)
    height, width = sample.maps["albedo"].shape[-2:]
    x, y = (centres(side, torch.empty(0)) for side in (width, height))
    flat_views, seen = predicting.aligned(predicting.shrunk(photos, matrices, height, width), matrices, x, y)
    return {"views": flat_views, "seen": seen}


def references(sample: Sample, constant: Maps, views: int) -> dict[str, Maps]:
    """What takes no network, from the same photos."""
    size = sample.maps["albedo"].shape[-1]
    raw = torch.stack([resized(photo, size) for photo in sample.photos[:views]]).mean(0, keepdim=True)
    rectified = without_a_network(aligned(sample, views))
    return {
        "constant": {name: one.expand(-1, -1, size, size) for name, one in constant.items()},
        "raw": flat(raw),
        "rectified": rectified,
        "dimmed": flat(linear_to_srgb(DIMMED * srgb_to_linear(rectified["albedo"]))),
    }


def worst_seam(maps: Maps) -> tuple[float, bool]:
    """The largest step across edges by those inside of a material's maps, and whether one of them is surely a seam."""
    found = [seam(name, maps[name]) for name in MAPS]
    return max(one.value for one in found), any(one.level == "fail" for one in found)


@torch.no_grad()
def on_group(model: NeuroPBR, group: Group, constant: Maps, progress: Progress) -> dict:
    """Scores of the network and of the references, the curve over numbers of photos, and seams."""
    parts: dict[str, list[Comparison]] = {who: [] for who in WHO}
    curve: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    seams: dict[str, list[float]] = {"wrapped": [], "plain": [], "true": []}
    dirty, before = 0, predicted(model, group.sample(group.count - 1), VIEWS)
    for row in progress(range(group.count), f"{group.name} materials"):
        sample = group.sample(row)
        true, lit_true = sample.maps, [*lit(sample.maps)]
        own = predicted(model, sample, VIEWS)
        all_maps = {"network": own, **references(sample, constant, VIEWS), "shuffled": before}
        for who in WHO:
            parts[who].append(compared(all_maps[who], true, lit_true))
        for count in COUNTS:
            if count <= len(sample.photos):
                made = own if count == VIEWS else predicted(model, sample, count)
                curve[count].append(errors(made, true, lit_true))
        of_truth, torn = worst_seam(true)
        if not torn:
            wrapped, _ = worst_seam(predicted(model, sample, VIEWS, wrap=True))
            for name, value in (("wrapped", wrapped), ("plain", worst_seam(own)[0]), ("true", of_truth)):
                seams[name].append(value)
        dirty, before = dirty + sample.dirty, own
    flat_degrees = [part.flat_degrees for part in parts["network"]]
    return {
        "materials": group.count,
        "dirty": dirty,
        "with_relief": sum(degrees > RELIEF for degrees in flat_degrees),
        "flat_degrees": _mean(flat_degrees),
        "metal": _mean(float(part.metal[1].sum()) for part in parts["network"]),
        "licenses": group.licenses,
        "authors": group.authors,
        **{who: summed_up(parts[who]) for who in WHO},
        "views": {  # a count that some materials lack would be of other materials
            str(count): {name: _mean(one[name] for one in of) for name in of[0]}
            for count, of in curve.items()
            if len(of) == group.count
        },
        "seam": {
            "materials": len(seams["true"]),
            **{name: _mean(values) if values else None for name, values in seams.items()},
            "passed": _mean(float(value <= SEAM) for value in seams["wrapped"]) if seams["wrapped"] else None,
        },
    }


def report(model: NeuroPBR, chosen: list[Group], seed: int, progress: Progress) -> dict:
    """Measure everything on each group.

    Returns:
        {"groups": {name: {network, constant, raw, rectified, dimmed, shuffled: scores, views, seam, ...}},
        "targets": [...]}, plain JSON.
    """
    mean = typical(seed)
    measured = {group.name: on_group(model, group, mean, progress) for group in chosen}
    return {
        "size": chosen[0].sample(0).maps["albedo"].shape[-1],
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "relief_degrees": RELIEF,
        "photos": VIEWS,
        "groups": measured,
        "targets": [target for name, part in measured.items() for target in targets(name, part)],
    }


def targets(name: str, part: dict) -> list[dict]:
    """What released weights should reach on a group, what these reach, and whether that is enough."""
    gain = part["network"]["rerender_psnr"] - part["rectified"]["rerender_psnr"]
    result = [
        {
            "target": "re-render above the mean rectified photo",
            "wanted": "4 dB",
            "got": f"{gain:.1f} dB",
            "met": gain >= 4,
        }
    ]
    share = part["network"]["normal_of_flat_on_relief"]
    if share is not None:
        got = f"{100 * share:.0f} %"
        result.append({"target": "normal error of the flat one's", "wanted": "60 %", "got": got, "met": share <= 0.6})
    balanced = part["network"]["metallic_balanced_accuracy"]
    if name == "procedural" and balanced is not None:
        result.append(
            {"target": "metallic balanced accuracy", "wanted": "0.90", "got": f"{balanced:.3f}", "met": balanced >= 0.9}
        )
    counts = [count for count in ("1", "3", "5") if count in part["views"]]
    still = unimproved(part["views"], counts)
    if len(counts) > 1:
        got = "all do" if not still else f"not {', '.join(still).replace('_', ' ')}"
        said = f"errors fall over {', '.join(counts)} photos"
        result.append({"target": said, "wanted": "all", "got": got, "met": not still})
    return [{"group": name, **one} for one in result]


def unimproved(curve: dict[str, dict[str, float]], counts: list[str]) -> list[str]:
    """The scores that do not get better with each further count of photos."""
    better = {"rerender_psnr": 1, "albedo_mae": -1, "roughness_mae": -1, "normal_degrees": -1}
    steps = [*zip(counts, counts[1:], strict=False)]
    return [
        name for name, sign in better.items() if any(sign * (curve[b][name] - curve[a][name]) <= 0 for a, b in steps)
    ]


# --- for people -------------------------------------------------------------------------------------------------


def table(result: dict) -> str:
    """The headline scores as Markdown, then the targets."""
    names = ("re-render", "albedo", "albedo MAE", "roughness MAE", "metallic", "normal: mean, median, 95 %", "of flat")
    lines = ["| | materials | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for name, part in result["groups"].items():
        for who in WHO:
            lines.append(f"| {who}, {name} | {part['materials']} | {' | '.join(_cells(part[who]))} |")
    if [*result["groups"]] == ["procedural"]:
        lines += ["", "Real materials were not measured: there was no data set of them."]
    lines += ["", "| group | target | wanted | got | |", "|---|---|---|---|---|"]
    for one in result["targets"]:
        verdict = "met" if one["met"] else "missed"
        lines.append(f"| {one['group']} | {one['target']} | {one['wanted']} | {one['got']} | {verdict} |")
    return "\n".join(lines)


def _cells(one: dict) -> list[str]:
    degrees, share, balanced = (
        one[name] for name in ("normal_degrees", "normal_of_flat_on_relief", "metallic_balanced_accuracy")
    )
    return [
        _decibel(one["rerender_psnr"]),
        _decibel(one["albedo"]["psnr"]),
        f"{one['albedo']['mae']:.3f}",
        f"{one['roughness']['mae']:.3f}",
        "-" if balanced is None else f"{balanced:.3f}",
        ", ".join(f"{degrees[name]:.1f}°" for name in ("mean", "median", "p95")),
        "-" if share is None else f"{100 * share:.0f} %",
    ]


def _decibel(value: float) -> str:
    return f"{value:.1f} dB" if value < PERFECT else "equal"


def map_table(part: dict) -> str:
    """PSNR, SSIM, MAE and RMSE of each map of a group, as Markdown."""
    lines = ["| | " + " | ".join(MAPS) + " |", "|---" * (len(MAPS) + 1) + "|"]
    for who in WHO:
        cells = [
            f"{one['psnr']:.1f}, {one['ssim']:.3f}, {one['mae']:.3f}, {one['rmse']:.3f}"
            for one in (part[who][name] for name in MAPS)
        ]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines)


def views_table(part: dict) -> str:
    """Errors by the number of photos, as Markdown."""
    lines = ["| photos | re-render | albedo MAE | roughness MAE | normal |", "|---" * 5 + "|"]
    for count, one in part["views"].items():
        lines.append(
            f"| {count} | {_decibel(one['rerender_psnr'])} | {one['albedo_mae']:.4f} | {one['roughness_mae']:.4f} "
            f"| {one['normal_degrees']:.2f}° |"
        )
    return "\n".join(lines)


CARD = """\
## What it does

Photos of a flat surface go in, one or more; maps of its material come out: albedo (sRGB), roughness, metallic and
normal (OpenGL), of any size, from a network of {millions:.2f} M parameters. More photos, from other places, help.

```python
maps = model.predict(photos)  # (3, h, w) each, in the texture's frame, or with a homography for each
```

`hubmodels pbr photo1.jpg photo2.jpg -o material/` makes files of them for glTF, MaterialX, USD and any renderer, with
height and occlusion.

{pictures}

## Measured

On materials that training never had, {size} x {size} texels, from {photos} photos each, procedural and real ones
apart. `re-render` compares pictures under {lights} lights that no photo and no training had. `metallic` is balanced
accuracy: metal and the rest count alike, a coin has 0.5. `of flat` is the error of the normals by that of the flat
normal, on materials where the latter is more than {relief:.0f} degrees. Beside the network: the mean of training maps
(constant), the mean photo as it is (raw), in the texture's frame (rectified) and at {dimmed} of its light (dimmed), all
flat, half rough and without metal, and the network's maps of another material (shuffled).

{table}

{groups}
## Data

{data}

## Limits

- Flat, opaque surfaces that a homography unrolls. No transparency, cloth sheen, subsurface light or brushed highlights.
- It learned from photos in which relief casts no shadows on itself and throws no light back: deep relief in hard light
  is further from what it knows than these numbers tell.
- Relief is read off its shading, and slopes lit from near the camera hardly shade: with flashes alone, a linear fit to
  three photos, given the true albedo and the best light, missed by 78 % of the flat normal's error. Lamps held low
  show more; the network does not yet make enough of them.
- Real materials gain less than made-up ones: their mean photo is nearer to their albedo, and how bright they are was
  missed by factors from 0.6 to 1.7 (0.9 in the median of ten).
- How bright a surface is and how bright the light was cannot be told apart by photos alone: albedo is right up to a
  factor that it guesses.
- Dark smooth plastic and dark metal look alike in one photo without a highlight. Look at the metallic map.
- No training material is smoother than a roughness of 0.08.
{training}"""

GROUP = """\
### {title}: {materials} materials

{dirty} of them were photographed with shadows, smudges or scratches; {with_relief} have relief; {metal:.0%} of the
texels are metal. The flat normal misses by {flat_degrees:.1f} degrees.

PSNR in dB, SSIM, mean absolute and root mean square error of each map:

{maps}

The same materials with more photos of the same capture:

{views}

{seam}
"""


def card(result: dict, training: str = "") -> str:
    """The part of the model card that was measured, as Markdown."""
    parts = result["groups"]
    sections, data = [], []
    for name, part in parts.items():
        facts = {key: part[key] for key in ("materials", "dirty", "with_relief", "metal", "flat_degrees")}
        tables = {"maps": map_table(part), "views": views_table(part), "seam": _seam_said(part["seam"])}
        sections.append(GROUP.format(title=name.capitalize(), **facts, **tables))
        if name == "procedural":
            data.append("Procedural materials of `hubmodels.neuropbr`: no pictures of others, so no licence of theirs.")
        else:
            data.append(
                f"{name.capitalize()} materials, for this report only, never for training; licences, by materials: "
                f"{_counted(part['licenses'])}; authors: {_counted(part['authors'])}."
            )
    columns = "the mean photo; albedo, roughness, metallic, normal and a re-render, each true and made"
    return CARD.format(
        millions=result["parameters"] / 1e6,
        pictures="\n\n".join(f"![{name} materials, a line each: {columns}]({name}.png)" for name in parts),
        size=result["size"],
        photos=result["photos"],
        lights=LIGHTS,
        dimmed=DIMMED,
        relief=result["relief_degrees"],
        table=table(result),
        groups="\n".join(sections),
        data="\n\n".join(data),
        training=training,
    )


def _seam_said(found: dict) -> str:
    if not found["materials"]:
        return "None of them tiles, so seams were not measured."
    return (
        f"Seams, on the {found['materials']} that tile: the step across the edge by those inside, of the worst map, is "
        f"{found['wrapped']:.2f} in the mean where the network was told so, {found['plain']:.2f} where not, "
        f"{found['true']:.2f} in the true maps; {found['passed']:.0%} stay below {SEAM}."
    )


def _counted(said: dict[str, int]) -> str:
    return ", ".join(f"{name or 'none stated'} ({count})" for name, count in sorted(said.items()))


def history(run: Path) -> str:
    """How a run went, for the card; see `hubmodels.hub.history`."""
    return hub.history(run, "crops of materials", "re-rendered best on validation materials")


def publish(model: NeuroPBR, result: dict, chosen: list[Group], path: Path) -> list[Path]:
    """Write the report and, beside it, a picture of some materials of each group.

    Returns:
        The files written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    files = [path]
    for group in chosen:
        rows = [index * group.count // SHOWN for index in range(SHOWN)] if group.count > SHOWN else range(group.count)
        cells = [cell for row in rows for cell in pictures(model, group.sample(row))]
        columns = len(cells) // len(rows)
        files.append(path.parent / f"{group.name}.png")
        shown = torch.stack([from_unit(one) for _, one in cells])
        save_png(sheet(shown, [caption for caption, _ in cells], columns), files[-1])
    return files


@torch.no_grad()
def pictures(model: NeuroPBR, sample: Sample) -> list[tuple[str, Tensor]]:
    """Captions and pictures (3, CELL, CELL) in [0, 1] of a material: mean photo, then each map and a re-render, true
    beside made."""
    made, true = predicted(model, sample, VIEWS), sample.maps
    batch, light = aligned(sample, VIEWS), unseen(LIGHTS)[2]
    pairs = [(name, _coded(name, true), _coded(name, made)) for name in MAPS]
    pairs.append(("re-render", relit(true, light), relit(made, light)))
    cells = [("mean photo", average(batch["views"], batch["seen"]))]
    for name, first, second in pairs:
        cells += [(f"{name}, true", first), (f"{name}, made", second)]
    return [(name, resized(one[0], CELL).expand(3, -1, -1)) for name, one in cells]
