"""What the two networks are worth on pictures and captions that no training had.

    rebuilt, quick -> how well the tokenizer keeps a picture      report(pair, data) -> plain JSON      card -> Markdown

`painted` pictures are procedural ones, whose captions say exactly what is there, so that a judge can tell how much of
it is drawn; `real` ones are of games. References stand beside: painted pictures themselves, drawn ones for the captions
of others, training pictures as the tokenizer gives them back.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset as Table
from numpy import ndarray as Array
from PIL import Image

from hubmodels import hub
from hubmodels.images import save_png
from hubmodels.pixelscene import judge, measures, scene
from hubmodels.pixelscene.data import cropped, opened, read
from hubmodels.pixelscene.files import contact_sheet, png
from hubmodels.pixelscene.judge import Progress
from hubmodels.pixelscene.palettes import oklab
from hubmodels.pixelscene.sampling import Sampling
from hubmodels.pixelscene.scene import AT_ONCE, Pair, Picture
from hubmodels.pixelscene.vqgan import PixelVQGAN

Drawn = tuple[str, Picture, Picture]
"""A caption, what is drawn for it, and the training picture that is nearest to that."""
ROWS = 128
"""Captions that are drawn, if nothing else is said."""
COARSE = 8
"""Pixels a side of the squares whose means are compared with those of training pictures."""
TILED, TWINS = 8, 2
"""Pictures that are made to tile, and that are drawn by both libraries."""
SHOWN = 24
GROUPS = {"painted": "painted pictures", "real": "pictures of games"}
SHARES = "delta_e", "edges", "dither"
NEVER_SEEN = "near copies of training pictures"


# --- the tokenizer ------------------------------------------------------------------------------------------------


def rebuilt(model: PixelVQGAN, picture: Picture) -> tuple[Array, Array, Array]:
    """A picture and what comes back of it, (H, W) indices, and its tokens (h, w)."""
    indices, palette = cropped(picture[0], model.config.stride), torch.from_numpy(oklab(picture[1])).float()[None]
    device = next(model.parameters()).device
    tokens = model.encode(torch.from_numpy(indices.copy())[None].to(device), palette.to(device))
    made = model.decode(tokens, palette.to(device))
    return indices, made[0].cpu().numpy(), tokens[0].cpu().numpy()


def compared(made: Array, true: Array) -> dict[str, float]:
    """Of two pictures (H, W, 3) uint8."""
    return {
        "psnr": measures.psnr(made, true),
        "index_accuracy": measures.index_accuracy(made, true),
        "delta_e": measures.delta_e(made, true),
        "edges": measures.edges(made) / max(measures.edges(true), 1e-6),
        "dither": measures.dither(made) / max(measures.dither(true), 1e-6),
    }


def quick(model: PixelVQGAN, pictures: Iterable[Picture]) -> dict[str, float]:
    """Means over pictures; edges and dither are shares of the true ones. usage is of the codebook, by all of them."""
    rows, tokens = [], []
    for picture in pictures:
        true, made, codes = rebuilt(model, picture)
        rows.append(compared(picture[1][made], picture[1][true]))
        tokens.append(codes.ravel())
    even, used = measures.perplexity(np.concatenate(tokens), model.config.codebook_size)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {"perplexity": even, "usage": used}


# --- what is drawn ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Data:
    """What a report is made on."""

    train: Table
    """Pictures that training had: the judge learns on them, and what is drawn must not be one of them."""
    painted: Table
    """Procedural pictures of the test split."""
    real: Table | None
    """Pictures of games of the test split."""


def data_of(painted: str, real: str) -> Data:
    """Built data sets, folders or names on the Hub; no `real` leaves that part out.

    Raises:
        FileNotFoundError: one is not there or lacks a split.
    """
    trained_on = (painted, real) if real else (painted,)
    return Data(opened(trained_on, "train"), opened((painted,), "test"), opened((real,), "test") if real else None)


def drawn(pair: Pair, captions: Sequence[str], seed: int, progress: Progress) -> list[Picture]:
    """A picture for each caption, each with a palette of its own; number i is of seed + i."""
    made: list[Picture] = []
    for start in progress(range(0, len(captions), AT_ONCE), "pictures drawn"):
        some = captions[start : start + AT_ONCE]
        made += scene.draw(pair, some, pair.size, how=Sampling(seed=seed + start))
    return made


def exact_share(pictures: list[Picture]) -> float:
    """Share of pixels whose colour, in the file that is written, is one of the palette that was given, and one that
    a VGA card of 6 bits a channel has."""
    right = []
    for indices, palette in pictures:
        with Image.open(BytesIO(png(indices, palette))) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        known = {tuple(colour) for colour in palette.tolist()}
        colours, counts = np.unique(pixels, axis=0, return_counts=True)
        kept = [tuple(one) in known and all(c == (c >> 2 << 2 | c >> 6) for c in one) for one in colours.tolist()]
        right.append((counts * kept).sum() / counts.sum())
    return float(np.mean(right))


def coarse(picture: Picture) -> Array:
    """(24, 40, 3) float32: mean OKLab colours of squares in the middle of a picture."""
    indices, palette = picture
    rows, columns = min(24, indices.shape[0] // COARSE), min(40, indices.shape[1] // COARSE)
    top, left = ((side - count * COARSE) // 2 for side, count in zip(indices.shape, (rows, columns), strict=True))
    lab = oklab(palette)[indices[top : top + rows * COARSE, left : left + columns * COARSE]]
    means = lab.reshape(rows, COARSE, columns, COARSE, 3).mean((1, 3))
    return np.pad(means, ((0, 24 - rows), (0, 40 - columns), (0, 0)), mode="edge").astype(np.float32)


def nearest(pictures: Iterable[Picture], known: Array) -> tuple[Array, Array]:
    """How far the nearest of `known` (N, 24, 40, 3) is from each picture, as it is or mirrored, and which it is.

    The distance is the mean difference of the squares' colours in OKLab, times 100.
    """
    apart, which = [], []
    for picture in pictures:
        own = coarse(picture)
        both = [np.sqrt(((known - one) ** 2).sum(-1)).mean((1, 2)) for one in (own, own[:, ::-1])]
        distances = 100 * np.minimum(*both)
        which.append(int(distances.argmin()))
        apart.append(float(distances.min()))
    return np.array(apart), np.array(which)


def report(
    pair: Pair, twin: Pair | None, data: Data, rows: int, seed: int, progress: Progress
) -> tuple[dict, list[Drawn]]:
    """Measure everything.

    Args:
        pair: both networks on torch.
        twin: both on MLX, or None.
        rows: captions that are drawn, of the painted test pictures.

    Returns:
        Plain JSON, and what is drawn.
    """
    vqgan = tokenizer_of(pair)
    count = min(rows, len(data.painted))
    test = [data.painted[row] for row in range(count)]
    captions, painted = [row["caption"] for row in test], [read(row) for row in test]
    groups = {"painted": data.painted} | ({} if data.real is None else {"real": data.real})
    tokenizer = {
        name: quick(vqgan, (read(row) for row in progress(own, f"{name} pictures rebuilt")))
        for name, own in groups.items()
    }

    judged = judge.trained(procedural(data.train), seed, progress)
    made = drawn(pair, captions, seed, progress)
    said = [judge.facts(row) for row in test]
    others = said[1:] + said[:1]
    agreement = {
        "painted": judge.agreement(judged, painted, said),
        "drawn": judge.agreement(judged, made, said),
        "shuffled": judge.agreement(judged, made, others),
    }
    memory, near = remembered(vqgan, made, painted, data.train, progress)
    result = {
        "seed": seed,
        "pictures": {name: len(own) for name, own in groups.items()} | {"drawn": count},
        "parameters": {"tokenizer": sum(p.numel() for p in vqgan.parameters()), "both": pair.weights},
        "tokenizer": tokenizer,
        "exact_palette": exact_share(made),
        "agreement": agreement,
        "memory": memory,
        "seam": seams(pair, made[:TILED], captions[:TILED], seed),
        "twin": compared_twin(pair, twin, captions[:TWINS], seed) if twin else None,
    }
    return result | {"targets": targets(result)}, list(zip(captions, made, near, strict=True))


def tokenizer_of(pair: Pair) -> PixelVQGAN:
    """That of a pair on torch."""
    assert isinstance(pair.tokenizer, PixelVQGAN), "a report is of the networks on torch"
    return pair.tokenizer


def procedural(table: Table) -> Table:
    """Rows whose source is the generator."""
    return table.select([row for row, source in enumerate(table["source"][:]) if source == "procedural"])


def remembered(
    vqgan: PixelVQGAN, made: list[Picture], unseen: list[Picture], train: Table, progress: Progress
) -> tuple[dict, list[Picture]]:
    """How near what is drawn comes to training pictures, and for each the nearest one.

    A copy is as near as 99 in 100 painted training pictures are to what the tokenizer gives back of them. New painted
    pictures that are as near to one of training say how often that is chance.
    """
    known = np.stack([coarse(read(train[row])) for row in progress(range(len(train)), "training pictures")])
    painted = [row for row, source in enumerate(train["source"][:]) if source == "procedural"]
    some = [painted[at] for at in np.linspace(0, len(painted) - 1, min(100, len(painted))).round().astype(int)]
    copies = []
    for row in progress(some, "copies"):
        indices, palette = read(train[row])
        _, again, _ = rebuilt(vqgan, (indices, palette))
        copies.append(float(nearest([(again, palette)], known[[row]])[0][0]))
    copy = float(np.quantile(copies, 0.99))
    apart, which = nearest(progress(made, "drawn beside training"), known)
    fresh, _ = nearest(progress(unseen, "unseen beside training"), known)
    found = {
        "copy": copy,
        "drawn": {"least": float(apart.min()), "median": float(np.median(apart))},
        "unseen": {"least": float(fresh.min()), "median": float(np.median(fresh))},
        "near_copies": int((apart <= copy).sum()),
        "near_by_chance": int((fresh <= copy).sum()),
    }
    return found, [read(train[int(row)]) for row in which]


def seams(pair: Pair, made: list[Picture], captions: list[str], seed: int) -> dict[str, float]:
    """Step across the left and right edge by those inside, as drawn and when made to tile."""
    tiled = [
        scene.tile(pair, picture, caption, Sampling(seed=seed)) for picture, caption in zip(made, captions, strict=True)
    ]
    return {
        name: float(np.mean([measures.seam(palette[indices]) for indices, palette in pictures]))
        for name, pictures in (("plain", made), ("tiled", tiled))
    }


def compared_twin(pair: Pair, twin: Pair, captions: list[str], seed: int) -> dict[str, float]:
    """Share of pixels and of palette colours that both libraries draw alike from one seed."""
    first, second = (scene.draw(one, captions, one.size, how=Sampling(seed=seed)) for one in (pair, twin))
    pixels = [(a[1][a[0]] == b[1][b[0]]).all(-1).mean() for a, b in zip(first, second, strict=True)]
    sets = [[set(map(tuple, palette.tolist())) for _, palette in made] for made in (first, second)]
    colours = [len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)]
    return {"pixels": float(np.mean(pixels)), "colours": float(np.mean(colours))}


def targets(result: dict) -> list[dict]:
    """What released weights should reach, what these reach, and whether that is enough."""
    agreement, painted, count = result["agreement"], result["tokenizer"]["painted"], result["pictures"]["painted"]
    drawn, best, none = (agreement[who]["all"] for who in ("drawn", "painted", "shuffled"))
    share, way = drawn / best, (drawn - none) / max(best - none, 1e-6)
    lines = [
        ("pixels exactly of the palette", "100 %", f"{result['exact_palette']:.2%}", result["exact_palette"] == 1),
        (f"codebook in use, by {count} painted pictures", "90 %", f"{painted['usage']:.0%}", painted["usage"] >= 0.9),
        ("PSNR, painted", "24 dB", f"{painted['psnr']:.1f} dB", painted["psnr"] >= 24),
    ]
    if "real" in result["tokenizer"]:
        psnr = result["tokenizer"]["real"]["psnr"]
        lines.append(("PSNR, real", "21 dB", f"{psnr:.1f} dB", psnr >= 21))
    lines.append(("agreement, of that of painted pictures", "90 %", f"{share:.0%}", share >= 0.9))
    lines.append(("agreement, of the way from shuffled to painted pictures", "75 %", f"{way:.0%}", way >= 0.75))
    near = result["memory"]["near_copies"]
    lines.append((NEVER_SEEN, "0", str(near), near == 0))
    return [dict(zip(("target", "wanted", "got", "met"), line, strict=True)) for line in lines]


# --- for people ---------------------------------------------------------------------------------------------------


def table(result: dict) -> str:
    """The headline scores as Markdown, then the targets."""
    names = ("PSNR", "exact pixels", "ΔE", "edges", "dither", "codes in use", "perplexity")
    lines = ["| rebuilt | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for group, one in result["tokenizer"].items():
        shown = f"{one['psnr']:.1f} dB", f"{one['index_accuracy']:.1%}", *(f"{one[name]:.2f}" for name in SHARES)
        lines.append(f"| {group} | {' | '.join(shown)} | {one['usage']:.0%} | {one['perplexity']:.0f} |")
    kinds = [*result["agreement"]["drawn"]]
    lines += ["", "| captions and pictures agree | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for who, one in result["agreement"].items():
        lines.append(f"| {who} | " + " | ".join(f"{one[kind]:.1%}" if kind in one else "-" for kind in kinds) + " |")
    lines += ["", "| target | wanted | got | |", "|---|---|---|---|"]
    for one in result["targets"]:
        lines.append(f"| {one['target']} | {one['wanted']} | {one['got']} | {'met' if one['met'] else 'missed'} |")
    return "\n".join(lines)


OTHERS = """

Pictures of others were modified: decoded, cropped, brought to the colours of a VGA card. Their licences, whose texts
are in `licenses/`, go along with these weights: the games may be changed and passed on with them, but not be sold."""

TOKENIZER_CARD = """\
## What it does

An index picture goes in with its palette, and comes out as one token for {stride} x {stride} pixels; tokens and any
palette make a picture again, always of exactly the palette's colours. {millions:.2f} M parameters.

```python
tokens = model.encode(indices, palette)  # (B, H, W) and (B, K, 3) OKLab -> (B, H / {stride}, W / {stride})
indices = model.decode(tokens, palette)
```

![Pictures of the test splits, each beside what comes back of it](rebuilt.png)

"""

TRANSFORMER_CARD = """\
## What it does

Words go in; a palette of {colours} colours and the tokens of a picture come out, which a `PixelVQGAN` makes pixels of.
It also repaints a part, goes on beyond an edge, varies and tiles. {millions:.2f} M parameters.

    hubmodels scene "A spooky mansion on a cliff at night" -o mansion.png -n 4 --seed 3

![Pictures drawn for captions of the test split](drawn.png)

"""

MEASURED = """\
## Measured

On {pictures}, which training never had; with both networks, `PixelVQGAN` and `PixelTransformer`. Pictures are drawn
for the captions of {drawn} painted ones.

{table}

- **rebuilt**: a picture through the tokenizer and back. ΔE is 100 times the mean distance in OKLab. `edges` and
  `dither` are steps between neighbours and answers to a checker, as shares of the true picture's.
- **agreement**: what a judge sees that the caption says. The judge is a network of its own that learned on training
  pictures; `painted` are the true pictures, so this is how well it sees; `shuffled` are drawn pictures with the
  caption of another. `things` counts in equal parts those that are named and those that the place never has.
- **memory**: mean ΔE of squares of {coarse} pixels to the nearest training picture, as it is or mirrored: {least:.1f}
  at least and {median:.1f} in the median for drawn pictures, {fresh_least:.1f} and {fresh_median:.1f} for painted ones
  that are new. What the tokenizer gives back of a training picture is within {copy:.1f}: that would be a copy, in the
  same colours and place. {near} of the drawn pictures are so near to one of training, and {chance} of the new ones.
- **seam**: the step from the right edge to the left by those inside is {tiled:.2f} after `--tile`, {plain:.2f} before.
{twin}

"""


def cards(result: dict, pair: Pair, training: Sequence[str], notices: str, ablations: str) -> tuple[str, str]:
    """What was measured, as Markdown for the cards of the tokenizer and of the transformer.

    Args:
        training: how the run of each went, or "".
        notices: what the owners of pictures that it learned from ask to be said.
        ablations: Markdown of what choices in the tokenizer are worth, or "".
    """
    memory, seam, twin, counted = result["memory"], result["seam"], result["twin"], result["pictures"]
    said = (
        f"- **MLX**: of one seed, {twin['pixels']:.2%} of the pixels are those that torch draws."
        if twin
        else "- The networks on MLX were not measured here."
    )
    measured = MEASURED.format(
        pictures=" and ".join(f"{count} {GROUPS[name]}" for name, count in counted.items() if name in GROUPS),
        drawn=counted["drawn"],
        table=table(result),
        coarse=COARSE,
        least=memory["drawn"]["least"],
        median=memory["drawn"]["median"],
        fresh_least=memory["unseen"]["least"],
        fresh_median=memory["unseen"]["median"],
        copy=memory["copy"],
        near=memory["near_copies"],
        chance=memory["near_by_chance"],
        tiled=seam["tiled"],
        plain=seam["plain"],
        twin=said,
    )
    counts = result["parameters"]
    tokenizer = TOKENIZER_CARD.format(stride=pair.tokenizer.config.stride, millions=counts["tokenizer"] / 1e6)
    transformer = TRANSFORMER_CARD.format(
        colours=pair.transformer.config.colours, millions=(counts["both"] - counts["tokenizer"]) / 1e6
    )
    worth = f"## What its parts are worth\n\n{ablations}\n" if ablations else ""
    ends = [f"{notices}\n\n{how}".strip() + "\n" for how in training]
    return tokenizer + measured + worth + ends[0], transformer + measured + ends[1]


def notices(table: Table) -> str:
    """Sources and licences of the pictures of a training split, as Markdown."""
    rows = sorted({(source, license) for source, license in zip(table["source"][:], table["license"][:], strict=True)})
    said = "## Learned from\n\n" + "\n".join(f"- {source}: {license}" for source, license in rows)
    return said + OTHERS if any(license != "CC0-1.0" for _, license in rows) else said


def history(run: Path, of: str) -> str:
    """How a run went, for a card; see `hubmodels.hub.history`."""
    return hub.history(run, of, "did best on validation pictures")


def publish(pair: Pair, result: dict, made: list[Drawn], data: Data, path: Path) -> list[Path]:
    """Write the report and, beside it, drawn.png, nearest.png and rebuilt.png.

    Returns:
        The files written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    some = made[:SHOWN]
    sheets = {"drawn": contact_sheet([one for _, one, _ in some], [caption for caption, _, _ in some], 4)}
    beside = [cell for _, one, other in some[: SHOWN // 2] for cell in (one, other)]
    sheets["nearest"] = contact_sheet(beside, ["drawn", "nearest of training"] * (len(beside) // 2), 4)
    tables = [data.painted] if data.real is None else [data.painted, data.real]
    true = [
        read(own[int(row)])
        for own in tables
        for row in np.linspace(0, len(own) - 1, min(SHOWN // 2 // len(tables), len(own)))
    ]
    cells = [cell for picture in true for cell in pair_of(tokenizer_of(pair), picture)]
    sheets["rebuilt"] = contact_sheet(cells, ["true", "rebuilt"] * len(true), 4)
    for name, sheet in sheets.items():
        save_png(sheet, path.parent / f"{name}.png")
    return [path, *(path.parent / f"{name}.png" for name in sheets)]


def pair_of(vqgan: PixelVQGAN, picture: Picture) -> list[Picture]:
    """A picture, cropped to what the stride divides, and what comes back of it."""
    true, made, _ = rebuilt(vqgan, picture)
    return [(true, picture[1]), (made, picture[1])]
