"""What the two networks are worth on pictures and captions that no training had.

    rebuilt, quick -> how well the tokenizer keeps a picture      report(pair, data) -> plain JSON      card -> Markdown

`painted` pictures are procedural ones, whose captions say exactly what is there, so that a judge can tell how much of
it is drawn; `real` ones are of games. References stand beside: painted pictures themselves, drawn ones for the captions of
others, training pictures as the tokenizer gives them back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from datasets import Dataset as Table
from numpy import ndarray as Array
from PIL import Image

from hubmodels.pixelscene import judge, measures, scene
from hubmodels.pixelscene.data import cropped, opened, read
from hubmodels.pixelscene.files import png
from hubmodels.pixelscene.judge import Progress
from hubmodels.pixelscene.palettes import oklab
from hubmodels.pixelscene.sampling import Sampling
from hubmodels.pixelscene.scene import Pair, Picture
from hubmodels.pixelscene.vqgan import PixelVQGAN

ROWS = 128
"""Captions that are drawn, if nothing else is said."""
AT_ONCE = 8
COARSE = 8
"""Pixels a side of the squares whose means are compared with those of training pictures."""
TILED, TWINS = 8, 2
"""Pictures that are made to tile, and that are drawn by both libraries."""
SHOWN = 24
NEVER_SEEN = "near copies of training pictures"


# --- the tokenizer ------------------------------------------------------------------------------------------------


def rebuilt(model: PixelVQGAN, picture: Picture) -> tuple[Array, Array, Array]:
    """A picture and what comes back of it, (H, W) indices, and its tokens (h, w)."""
    indices, palette = cropped(picture[0], model.config.stride), torch.from_numpy(oklab(picture[1])).float()[None]
    device = model.pointer.sharpness.device
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


def quick(model: PixelVQGAN, pictures: list[Picture]) -> dict[str, float]:
    """Means over pictures; edges and dither are shares of the true ones. usage is of the codebook."""
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
    top, left = ((side - side // COARSE * COARSE) // 2 for side in indices.shape)
    rows, columns = min(24, indices.shape[0] // COARSE), min(40, indices.shape[1] // COARSE)
    lab = oklab(palette)[indices[top : top + rows * COARSE, left : left + columns * COARSE]]
    means = lab.reshape(rows, COARSE, columns, COARSE, 3).mean((1, 3))
    return np.pad(means, ((0, 24 - rows), (0, 40 - columns), (0, 0)), mode="edge").astype(np.float32)


def nearest(pictures: list[Picture], known: Array) -> tuple[Array, Array]:
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


def report(pair: Pair, vqgan: PixelVQGAN, twin: Pair | None, data: Data, rows: int, seed: int, progress: Progress):
    """Measure everything.

    Args:
        twin: the same networks on the other library, or None.
        rows: captions that are drawn, of the painted test pictures.

    Returns:
        Plain JSON, and the pictures to look at: drawn ones, and each with the training picture that is nearest.
    """
    count = min(rows, len(data.painted))
    test = [data.painted[row] for row in range(count)]
    captions, painted = [row["caption"] for row in test], [read(row) for row in test]
    groups = {"painted": painted}
    if data.real is not None:
        groups["real"] = [read(data.real[row]) for row in range(len(data.real))]
    tokenizer = {name: quick(vqgan, [*progress(own, f"{name} pictures rebuilt")]) for name, own in groups.items()}

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
        "pictures": count,
        "parameters": {"tokenizer": sum(p.numel() for p in vqgan.parameters()), "both": pair.weights},
        "tokenizer": tokenizer,
        "exact_palette": exact_share(made),
        "agreement": agreement,
        "memory": memory,
        "seam": seams(pair, made[:TILED], captions[:TILED], seed),
        "twin": compared_twin(pair, twin, captions[:TWINS], seed) if twin else None,
    }
    return result | {"targets": targets(result)}, list(zip(captions, made, near, strict=True))


def procedural(table: Table) -> Table:
    """Rows whose source is the generator."""
    return table.select([row for row, source in enumerate(table["source"][:]) if source == "procedural"])


def remembered(
    vqgan: PixelVQGAN, made: list[Picture], unseen: list[Picture], train: Table, progress: Progress
) -> tuple[dict, list[Picture]]:
    """How near what is drawn comes to training pictures, and for each the nearest one.

    A copy is as near as 99 in 100 training pictures are to what the tokenizer gives back of them.
    """
    known = np.stack([coarse(read(train[row])) for row in progress(range(len(train)), "training pictures")])
    some = np.linspace(0, len(train) - 1, min(100, len(train))).round().astype(int)
    copies = []
    for row in some:
        indices, palette = read(train[int(row)])
        _, again, _ = rebuilt(vqgan, (indices, palette))
        copies.append(float(nearest([(again, palette)], known[[row]])[0][0]))
    copy = float(np.quantile(copies, 0.99))
    apart, which = nearest(made, known)
    fresh, _ = nearest(unseen, known)
    found = {
        "copy": copy,
        "drawn": {"least": float(apart.min()), "median": float(np.median(apart))},
        "unseen": {"least": float(fresh.min()), "median": float(np.median(fresh))},
        "near_copies": int((apart <= copy).sum()),
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
    colours = [(a[1] == b[1]).all(-1).mean() for a, b in zip(first, second, strict=True)]
    return {"pixels": float(np.mean(pixels)), "colours": float(np.mean(colours))}


def targets(result: dict) -> list[dict]:
    """What released weights should reach, what these reach, and whether that is enough."""
    agreement, painted = result["agreement"], result["tokenizer"]["painted"]
    share = agreement["drawn"]["all"] / agreement["painted"]["all"]
    lines = [
        ("pixels exactly of the palette", "100 %", f"{result['exact_palette']:.2%}", result["exact_palette"] == 1),
        ("codebook in use", "90 %", f"{painted['usage']:.0%}", painted["usage"] >= 0.9),
        ("PSNR, painted", "24 dB", f"{painted['psnr']:.1f} dB", painted["psnr"] >= 24),
    ]
    if "real" in result["tokenizer"]:
        psnr = result["tokenizer"]["real"]["psnr"]
        lines.append(("PSNR, real", "21 dB", f"{psnr:.1f} dB", psnr >= 21))
    lines.append(("agreement, of that of painted pictures", "90 %", f"{share:.0%}", share >= 0.9))
    near = result["memory"]["near_copies"]
    lines.append((NEVER_SEEN, "0", str(near), near == 0))
    return [dict(zip(("target", "wanted", "got", "met"), line, strict=True)) for line in lines]
