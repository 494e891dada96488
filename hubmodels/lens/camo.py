"""Camouflage scenes: silhouettes of animals on real textures, made as they are asked for.

    scenes("train", seed, rows) -> pictures, masks, labels

A figure and its ground are two crops of one texture, whose tints differ by a little, `alpha`: one sees where the
texture breaks off, and where the tint changes. Row i is a pure function of (split, seed, i), and all tasks show the
same scene, its animal hidden in another way. Splits share neither silhouettes nor textures. Whose these are:
assets/LICENSES.md.

Computed with additions and multiplications of numpy alone, which are the same on all machines.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hubmodels.images import from_uint8, from_unit, to_uint8, to_unit

CLASSES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
TASKS = ("camouflage", "haze", "noise", "clear")
SPLITS = ("train", "validation", "test")
VALIDATION, TEST = 0.1, 0.1
"""Shares of the silhouettes."""
CLEAR = (0.3, 0.8)
CAMOUFLAGE = (0.14, 0.26)
"""From which alpha to which."""
HAZE = 0.25
"""What is left of the contrast."""
NOISE = 0.6
"""Standard deviation, of a range of 1."""
SIZES = range(16, 513)
"""Sides of pictures, in pixels."""

ASSETS = Path(__file__).with_name("assets")
SIDE = 28
"""Of silhouettes, in pixels."""
ACROSS = 100
"""Silhouettes in a row of silhouettes.png."""
TEXTURE = 256
"""Side of textures, in pixels."""
FINE = 128
"""Pixels a side up to which a pixel shows a pixel of a texture, or a bit more; larger pictures show softer textures."""
TOGETHER = 16
"""Scenes made at a time, so that they stay in the processor's cache; they do not depend on it."""

_LINE = 0.4
"""Of its pixel, what a silhouette covers at its outline: less than half, or thin legs would break."""
_GRAIN = 0.55
"""How dark the dark parts of a texture are."""
_SHADE = 0.15
"""How much darker or brighter parts of a scene are lit."""


@dataclass(frozen=True)
class Scenes:
    """Scenes, and the truth about them."""

    pictures: Tensor
    """(N, 3, S, S) uint8, sRGB."""
    masks: Tensor
    """(N, S, S) bool: where the animal covers at least half of a pixel."""
    labels: Tensor
    """(N,) int64, numbers of `CLASSES`."""
    alphas: Tensor
    """(N,) float64: twice the mean distance of the tints of figure and ground, of a range of 1."""
    silhouettes: Tensor
    """(N,) int64, numbers in silhouettes.png."""
    textures: Tensor
    """(N,) int64, numbers in textures.png."""


def scenes(
    split: str,
    seed: int,
    rows: Sequence[int],
    task: str = "camouflage",
    size: int = 64,
    alpha: tuple[float, float] | None = None,
    noise: float = NOISE,
) -> Scenes:
    """Scenes of those rows. Row i shows an animal of class i % 10.

    Args:
        task: one of `TASKS`. "haze" leaves a quarter of the contrast of "clear", "noise" adds a lot of noise to it.
        size: pixels a side.
        alpha: from which to which; None takes those of the task.
        noise: of "noise".

    Raises:
        ValueError: no such split, task, size, seed or row, or an alpha that is not in [0, 1].
    """
    low, high = _checked(split, seed, rows, task, size, alpha)
    made = [
        _made(split, seed, rows[first : first + TOGETHER], task, size, low, high, noise)
        for first in range(0, len(rows), TOGETHER)
    ]
    return Scenes(*(torch.cat(parts) for parts in zip(*made, strict=True)))


def scene(
    split: str, seed: int, row: int, task: str = "camouflage", size: int = 64, alpha: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor, int]:
    """One of `scenes`: picture (3, S, S) float32 in [-1, 1], mask (S, S) bool, label."""
    one = scenes(split, seed, [row], task, size, alpha)
    return from_uint8(one.pictures[0]), one.masks[0], int(one.labels[0])


def _checked(
    split: str, seed: int, rows: Sequence[int], task: str, size: int, alpha: tuple[float, float] | None
) -> tuple[float, float]:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if size not in SIZES:
        raise ValueError(f"size must be from {SIZES[0]} to {SIZES[-1]} pixels, got {size}")
    if seed < 0 or not rows or min(rows) < 0:
        raise ValueError("seed and rows must not be negative, and there must be at least one row")
    low, high = alpha or (CAMOUFLAGE if task == "camouflage" else CLEAR)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"alpha must be from a number to a larger one, both in [0, 1], got {low:g} to {high:g}")
    return low, high


# --- assets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shapes:
    """All silhouettes."""

    cover: np.ndarray
    """(N, SIDE, SIDE) float32 in [0, 1]: how much of a pixel is covered."""
    boxes: np.ndarray
    """(N, 4) float64: middle and half extent of what is covered, x, y, x, y, in pixels."""
    members: dict[tuple[str, int], np.ndarray]
    """Numbers of the silhouettes of a split and class."""


@cache
def shapes() -> Shapes:
    """What silhouettes.png holds. Bitmap and mirrored bitmap are in one split."""
    sheet = np.array(Image.open(ASSETS / "silhouettes.png").convert("L"))
    tiles = sheet.reshape(-1, SIDE, ACROSS, SIDE).transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
    counts = [_listed()["silhouettes"][name] for name in CLASSES]
    tiles = tiles[: sum(counts)]
    labels = np.repeat(np.arange(len(CLASSES)), counts)
    splits = np.array([_split(tile) for tile in tiles])
    members = {(split, k): np.flatnonzero((splits == split) & (labels == k)) for split in SPLITS for k in range(10)}
    seen: np.ndarray = tiles > 0
    boxes = np.stack([*_extent(seen.max(1)), *_extent(seen.max(2))], 1)[:, [0, 2, 1, 3]]
    # through torch, which knows the range
    return Shapes(to_unit(from_uint8(torch.from_numpy(tiles.copy()))).numpy(), boxes, members)


def _split(tile: np.ndarray) -> str:
    digest = blake2b(min(tile.tobytes(), tile[:, ::-1].tobytes()), digest_size=8, person=b"lens-camo").digest()
    drawn = int.from_bytes(digest) / 2**64
    return "test" if drawn < TEST else "validation" if drawn < TEST + VALIDATION else "train"


def _extent(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, SIDE) bool -> middle and half length of what is seen."""
    first, last = seen.argmax(1), SIDE - seen[:, ::-1].argmax(1)
    return (first + last) / 2, (last - first) / 2


@cache
def textures() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(T, TEXTURE, TEXTURE) float32 around 0 of what textures.png holds, and numbers of those of a split."""
    strip = np.array(Image.open(ASSETS / "textures.png"))
    levels = from_uint8(torch.from_numpy(strip)).numpy().reshape(-1, TEXTURE, TEXTURE)
    splits = np.array(list(_listed()["textures"].values()))
    return levels, {split: np.flatnonzero(splits == split) for split in SPLITS}


def _listed() -> dict[str, dict]:
    return json.loads((ASSETS / "assets.json").read_text())


# --- drawing ----------------------------------------------------------------------------------------------------


def _made(
    split: str, seed: int, rows: Sequence[int], task: str, size: int, low: float, high: float, noise: float
) -> tuple[Tensor, ...]:
    """Fields of `Scenes`, of some rows."""
    found, (grains, of_split) = shapes(), textures()
    generators = [np.random.default_rng([SPLITS.index(split), seed, row]) for row in rows]
    drawn = np.stack([rng.random(32) for rng in generators])
    labels = np.array(rows) % len(CLASSES)
    members = [found.members[split, label] for label in labels]
    chosen = np.array([among[int(u * len(among))] for among, u in zip(members, drawn[:, 0], strict=True)])
    grain = of_split[split][(drawn[:, 1] * len(of_split[split])).astype(int)]
    alphas = low + (high - low) * drawn[:, 2]

    cover = _figures(found.cover[chosen], found.boxes[chosen], drawn[:, 3:8], size)
    ground, figure = _grounds(grains, grain, drawn[:, 8:14], size)
    below, above = _tints(alphas, drawn[:, 14:22])
    light = 1 + _SHADE * _smooth(drawn[:, 22:31].reshape(-1, 3, 3) * 2 - 1, size)
    # of each tint, what its texture and the light leave
    ground, figure = (light * (1 + _GRAIN * one) for one in (ground, figure))
    pictures = np.empty((len(rows), 3, size, size), np.float32)
    for channel in range(3):
        under, over = (tint[:, channel, None, None] * one for tint, one in ((below, ground), (above, figure)))
        pictures[:, channel] = under + cover * (over - under)
    pictures = pictures.clip(0, 1)
    if task == "haze":
        pictures = 0.5 + (pictures - 0.5) * np.float32(HAZE)
    if task == "noise":
        shape = pictures.shape[1:]
        pictures += np.float32(noise) * np.stack([rng.standard_normal(shape, np.float32) for rng in generators])
    return (
        to_uint8(from_unit(torch.from_numpy(pictures))),
        torch.from_numpy(cover >= 0.5),
        torch.from_numpy(labels),
        torch.from_numpy(alphas),
        torch.from_numpy(chosen),
        torch.from_numpy(grain),
    )


def _figures(cover: np.ndarray, boxes: np.ndarray, drawn: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size) float32 in [0, 1]: how much of a pixel a silhouette covers.

    What there is of it is 0.5 to 0.9 of the frame long, turned by at most 15 degrees, perhaps mirrored, and somewhere.

    Args:
        cover: (N, SIDE, SIDE) of the silhouettes.
        boxes: theirs.
        drawn: (N, 5) in [0, 1).
    """
    share, turn, mirror, right, down = drawn.T
    longest = boxes[:, 2:].max(1)
    scale = (0.5 + 0.4 * share) * size / (2 * longest)  # pixels of the picture a pixel of the silhouette
    angles = [math.radians(30 * u - 15) for u in turn]
    # rounded, since sines are not the same on all machines to the last bit
    cosine, sine = (np.array([round(f(a), 9) for a in angles]) for f in (math.cos, math.sin))
    free = size / 2 - boxes[:, 2:] * scale[:, None]
    middle = size / 2 + free * (np.stack([right, down], 1) * 2 - 1)

    while cover.shape[-1] < size:
        cover = _doubled(_doubled(cover).swapaxes(1, 2)).swapaxes(1, 2)
    finer = cover.shape[-1] // SIDE
    step = finer / scale
    across, along = (np.arange(size) + 0.5 - middle[:, axis, None] for axis in (0, 1))
    flip = np.where(mirror < 0.5, -1, 1)
    # of pixel (y, x): where it is in the silhouette
    x_of_x, x_of_y = (one[:, None] for one in (flip * step * cosine, flip * step * sine))
    y_of_x, y_of_y = (one[:, None] for one in (-step * sine, step * cosine))
    x = (finer * boxes[:, :1] - 0.5 + x_of_x * across)[:, None, :] + (x_of_y * along)[:, :, None]
    y = (finer * boxes[:, 1:2] - 0.5 + y_of_x * across)[:, None, :] + (y_of_y * along)[:, :, None]
    edge = np.pad(cover, ((0, 0), (2, 2), (2, 2)))  # nothing is covered outside
    x, y = ((one.astype(np.float32) + 2).clip(0, edge.shape[-1] - 1.001) for one in (x, y))
    value = _between(edge, np.arange(len(cover)), y, x)
    # the outline is as sharp as pixels allow, however much the silhouette was enlarged
    return ((value - _LINE) * scale.clip(1)[:, None, None].astype(np.float32) + 0.5).clip(0, 1)


def _doubled(rows: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, 2 H, W), with the cubics of Catmull and Rom a quarter of a pixel to both sides."""
    one = np.pad(rows, ((0, 0), (2, 2), (0, 0)))
    a, b, c, d, e = (one[:, i : i + rows.shape[1]] for i in range(5))
    both = np.stack([-3 * a + 29 * b + 111 * c - 9 * d, -9 * b + 111 * c + 29 * d - 3 * e], 2) / 128
    return both.reshape(len(rows), -1, rows.shape[2])


def _grounds(grains: np.ndarray, grain: np.ndarray, drawn: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two crops (N, size, size) of one texture, both turned and mirrored alike, at most a window apart.

    Args:
        grains: (T, TEXTURE, TEXTURE).
        grain: (N,), which of them.
        drawn: (N, 6) in [0, 1).
    """
    turn, zoom = (drawn[:, 0] * 8).astype(int), 1 + 0.6 * drawn[:, 1]
    step = zoom * min(size, FINE) / size  # pixels of the texture a pixel
    room = TEXTURE - 1 - step * (size - 1)
    first = drawn[:, 2:4] * room[:, None]
    other = (first + (0.3 + 0.4 * drawn[:, 4:6]) * room[:, None]) % room[:, None]
    steps = step[:, None] * np.arange(size)
    crops = []
    for corner in (first, other):
        x, y = ((corner[:, axis, None] + steps).astype(np.float32) for axis in (0, 1))
        x = np.where((turn & 1)[:, None] == 1, TEXTURE - 1 - x, x)[:, None, :]
        y = np.where((turn & 2)[:, None] == 2, TEXTURE - 1 - y, y)[:, :, None]
        crop = _between(grains, grain, y, x)
        crops.append(np.where((turn & 4)[:, None, None] == 4, crop.swapaxes(1, 2), crop))
    return crops[0], crops[1]


def _between(pictures: np.ndarray, which: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear values of pictures (P, H, W) at places y, x that broadcast to (N, size, size), inside of [0, H - 1)."""
    width = pictures.shape[2]
    left, top = x.astype(np.int32), y.astype(np.int32)
    right, bottom = x - left, y - top
    start = which[:, None, None] * pictures[0].size + top * width + left
    flat = pictures.reshape(-1)
    upper = flat.take(start)
    upper += right * (flat.take(start + 1) - upper)
    start += width
    lower = flat.take(start)
    lower += right * (flat.take(start + 1) - lower)
    return upper + bottom * (lower - upper)


def _tints(alphas: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tints (N, 3) of ground and figure, whose mean distance is half of alpha."""
    light = 0.38 + 0.24 * drawn[:, :1]
    middle = light + 0.12 * _centred(drawn[:, 1:4])
    away = np.where(drawn[:, 4:5] < 0.5, -1, 1) * (1 + 0.8 * _centred(drawn[:, 5:8]))
    half = alphas[:, None] / 4 * away / np.abs(away).mean(1, keepdims=True)
    return (middle - half).astype(np.float32), (middle + half).astype(np.float32)


def _centred(drawn: np.ndarray) -> np.ndarray:
    """(N, 3) in [0, 1) -> in [-1, 1], of mean 0."""
    return (drawn - drawn.mean(1, keepdims=True)) * 1.5


def _smooth(knots: np.ndarray, size: int) -> np.ndarray:
    """(N, 3, 3) -> (N, size, size) float32: smooth between knots at the corners, edges and in the middle."""
    at = (np.arange(size) + 0.5) / size * 2
    part = at - at.astype(int)
    part = part * part * (3 - 2 * part)
    weights = np.zeros((3, size))
    for knot in range(3):
        weights[knot] = np.where(at.astype(int) == knot, 1 - part, np.where(at.astype(int) == knot - 1, part, 0))
    rows = sum(weights[i][:, None] * knots[:, i, None, :] for i in range(3))
    return sum((weights[i] * rows[:, :, i, None]).astype(np.float32) for i in range(3))  # pyright: ignore
