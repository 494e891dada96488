"""The oracle: what a picture shows, from its pixels alone, without learning.

    picture (3, 64, 64) --background, then one thing after another--> Reading --agrees(scene)--> Verdict

1. Background. Things are colourful, so where a picture is grey it is background: the one that fits best, moved by up
   to a unit and made lighter or darker. The picture is then brought to the background's true level.
2. Proposals. Every pixel is marked by how much it is like the fill and like the outline of each colour. Marks in
   blocks of 2 x 2 pixels, correlated with all sprites, say where to look more closely.
3. Decision. All kinds at all places around a proposal are scored on the full marks; the best are drawn, on top of
   what was seen so far and behind it, and the one that puts most of the picture right is taken. Those that put right
   nearly all that they cover are taken first: nothing hides them. What is half hidden is judged with what hides it in
   place, so its order in depth is found with it.
4. Again, on the pixels that are still wrong, until nothing is found that puts enough of them right.

A picture that is still wrong in many pixels may be soft: it is read once more, sharpened, and the better reading kept.
Errors of a pixel are clipped, so that what is wrong somewhere does not matter elsewhere. No step knows of captions or
of what layouts are possible, except that things may overlap in pairs but do not pile up.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from hubmodels.scenes import shapes
from hubmodels.scenes.layout import holds
from hubmodels.scenes.renderer import OUTLINE_SHADE, paper
from hubmodels.scenes.world import (
    BACKGROUNDS,
    CANVAS,
    COLORS,
    MAX_INSTANCES,
    SHAPES,
    SIZES,
    Group,
    Place,
    Scene,
)

TOLERANCE = 40.0
"""Levels of 255 (root mean square over the channels) at which a pixel is wrong, and its error is clipped."""
LIKE_BARE = 20.0
"""Levels from the background below which a pixel is not like any colour."""
GREY = 30.0
"""Levels between the channels of a pixel below which it may be background."""
LEAST_PIXELS = 7.0
"""Pixels that a thing must put right to be seen."""
LEAST_SHARE = 0.35
"""Share of what is wrong under a thing that it must put right to be seen."""
CLEAR = 0.85
"""Share of what is wrong under a thing above which nothing hides it."""
KNOWN_COST = 0.05
"""Cost, in the choice of what to draw, of a pixel that is right already."""
SOFT = 0.02
"""Share of a picture's colourful pixels that may stay wrong before it is read again, sharpened."""
MOST_THINGS = MAX_INSTANCES + 2
MOST_PROPOSALS = 12
REACH = 6
"""Units around a proposal in which things are tried."""
APART = 10
"""Units between things that are taken in one go."""
FINALISTS = 32
"""Things that are drawn around a proposal."""

Found = tuple[int, int, int, int]
"""Number of the colour, number of the kind, x, y."""


@dataclass(frozen=True)
class Thing:
    """One thing seen."""

    color: str
    shape: str
    size: str
    place: Place

    @property
    def group(self) -> Group:
        return Group(self.color, self.shape, self.size, 1, (self.place,))

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.size, self.color, self.shape


@dataclass(frozen=True)
class Reading:
    """What was seen in one picture."""

    background: str
    things: tuple[Thing, ...]
    """Back to front."""
    explained: float
    """Share of the pixels unlike the background that the things explain; 1 where there are none."""


@dataclass(frozen=True)
class Verdict:
    """A reading against a scene. Shares are in [0, 1]."""

    exact: bool
    """The same things, the same background, and every stated relation true."""
    color: float
    shape: float
    size: float
    """Share of the things whose colour, shape, size was seen, as multisets; missing and extra things count."""
    count: bool
    """As many things as there are."""
    count_error: int
    background: bool
    relations: float
    """Share of the stated relations that are true of things seen; nan where the scene states none."""
    place_error: float
    """Mean distance in units from where the scene places things; nan if it does not, or the things differ."""


@dataclass(frozen=True)
class _Proof:
    """What a thing that was drawn does for the picture."""

    thing: Found
    behind: bool
    """Whether it fits better behind what was seen before than in front."""
    gain: float
    """Pixels put right, less those put wrong."""
    share: float
    """Of the error under the thing, the part that it puts right."""

    @property
    def merit(self) -> float:
        return self.gain * self.share


# --- sprites ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sprites:
    """Every kind in one window of W x W pixels, W = 2 * half + 1."""

    half: int
    ink: np.ndarray
    """(colours, kinds, 4, W, W): levels times coverage, and coverage."""
    telling: np.ndarray
    """(2 * W * W, kinds) 0 or 1: pixels of clear fill, then of outline; not blends with what is around."""
    coarse: np.ndarray
    """(2 * V * V, kinds): telling pixels in blocks of 2 x 2, V = half + 1."""
    inside: np.ndarray
    """(kinds, 64, 64) bool: centres at which a kind lies inside the canvas or reaches over it by a unit."""


@cache
def _palette() -> np.ndarray:
    """(3, colours, 3) levels: fills, outlines, and outlines that share a pixel with the fill."""
    fills = np.array(list(COLORS.values()), np.float32)
    outlines = (fills * OUTLINE_SHADE).round()
    return np.stack([fills, outlines, (fills + outlines) / 2])


@cache
def _sprites() -> _Sprites:
    half = max(shapes.sprites(size)[0].shape[-1] for size in SIZES) // 2
    pairs, inside = [], []
    at = np.arange(CANVAS) + 0.5
    for shape, size in shapes.KINDS:
        pair = np.stack([sprite[SHAPES.index(shape)] for sprite in shapes.sprites(size)])
        pairs.append(np.pad(pair, ((0, 0), *[(half - pair.shape[-1] // 2,) * 2] * 2)))
        left, up, right, down = shapes.extent(shape, size)
        x, y = (at >= left - 1) & (at <= CANVAS + 1 - right), (at >= up - 1) & (at <= CANVAS + 1 - down)
        inside.append(y[:, None] & x)
    whole, fill = np.stack(pairs, 1)
    ring = whole - fill
    fills, outlines, _ = _palette()[:, :, None, :, None, None]
    levels = fills * fill[:, None] + outlines * ring[:, None]  # (colours, kinds, 3, W, W)
    telling = np.stack([fill > 0.8, (ring > 0.4) & (whole > 0.9)], 1).astype(np.float32)
    blocks = np.pad(telling, ((0, 0), (0, 0), (0, 1), (0, 1))).reshape(len(whole), 2, half + 1, 2, half + 1, 2)
    return _Sprites(
        half,
        np.concatenate([levels, np.broadcast_to(whole[:, None], (len(levels), *whole[:, None].shape))], 2),
        np.ascontiguousarray(telling.reshape(len(whole), -1).T),
        np.ascontiguousarray(blocks.sum((3, 5)).reshape(len(whole), -1).T),
        np.stack(inside),
    )


def _over(ink: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Levels (..., 3, H, W) of ink (..., 4, H, W) laid on levels (..., 3 or 1, H, W)."""
    return ink[..., :3, :, :] + under * (1 - ink[..., 3:, :, :])


def _drawn(things: list[Found]) -> np.ndarray:
    """Ink (4, 64, 64) of things laid on each other, back to front."""
    half = _sprites().half
    sheet = np.zeros((4, CANVAS + 2 * half, CANVAS + 2 * half), np.float32)
    for color, kind, x, y in things:
        window = sheet[:, y : y + 2 * half + 1, x : x + 2 * half + 1]
        new = _sprites().ink[color, kind]
        window[:] = new + window * (1 - new[3])
    return sheet[:, half:-half, half:-half]


# --- reading ------------------------------------------------------------------------------------------------------


def read(pictures: Tensor) -> list[Reading]:
    """Read pictures.

    Args:
        pictures: (B, 3, 64, 64) uint8 sRGB.

    Raises:
        ValueError: they are not of that shape or type.
    """
    if pictures.ndim != 4 or pictures.shape[1:] != (3, CANVAS, CANVAS) or pictures.dtype != torch.uint8:
        raise ValueError(
            f"pictures must be uint8 (B, 3, {CANVAS}, {CANVAS}), got {pictures.dtype} {tuple(pictures.shape)}"
        )
    return [_read(picture) for picture in pictures.cpu().numpy().astype(np.float32)]


def _read(picture: np.ndarray) -> Reading:
    background, levels, bare = _background(picture)
    things, wrong = _search(levels, bare)
    odd = np.square(levels - bare).mean(0) > TOLERANCE**2
    if (wrong & odd).sum() > SOFT * odd.sum():
        other = _background(_sharpened(picture))
        more, wronger = _search(*other[1:])
        if wronger.sum() < wrong.sum():
            background, things, wrong = other[0], more, wronger
    seen = []
    for color, kind, x, y in things:
        shape, size = shapes.KINDS[kind]
        seen.append(Thing(list(COLORS)[color], shape, size, (x, y)))
    return Reading(background, tuple(seen), float((odd & ~wrong).sum() / odd.sum()) if odd.any() else 1.0)


@cache
def _papers() -> tuple[list[str], np.ndarray]:
    """Every background, moved by up to a unit each way: names, and levels (N, 64 * 64)."""
    names, rows = [], []
    for name in BACKGROUNDS:
        level = paper(name, CANVAS).numpy()
        repeats = "edge" if name == "shaded" else "wrap"
        field = np.pad(level, 1, mode=repeats)
        unlike = np.unique([field[y : y + CANVAS, x : x + CANVAS] for y in range(3) for x in range(3)], axis=0)
        names += [name] * len(unlike)
        rows.append(unlike.reshape(len(unlike), -1))
    return names, np.concatenate(rows)


def _background(picture: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """Which background it is, by least squares where the picture is grey.

    Contrast may be lower than it should be, as in a picture too light for its levels; brightness counts less than
    pattern. The brightness that remains is taken for a gain, and for an offset if the gain would be too much.

    Returns:
        its name; the picture (3, 64, 64) and the background (64, 64), both at the true level.
    """
    names, papers = _papers()
    grey = (picture.max(0) - picture.min(0) < GREY).ravel()
    seen = picture.mean(0).ravel()
    n = max(grey.sum(), 1)
    mean, means = seen[grey].sum() / n, papers[:, grey].sum(1) / n
    away, aways = (seen - mean) * grey, (papers - means[:, None]) * grey
    spread, match = np.square(aways).sum(1), aways @ away
    slope = (match / spread.clip(1)).clip(0.5, 1.2)
    miss = (np.square(away).sum() - 2 * slope * match + slope**2 * spread) / n
    best = int((miss + np.square((mean - means) / 8)).argmin())
    bare = mean + slope[best] * (papers[best] - means[best])
    gain = float((mean / means[best].clip(1)).clip(0.88, 1.12))
    offset = float((mean - gain * means[best]).clip(-12, 12))
    return names[best], (picture - offset) / gain, (bare.reshape(CANVAS, CANVAS) - offset) / gain


def _sharpened(picture: np.ndarray) -> np.ndarray:
    """What a picture was before a Gaussian blur of 0.6 pixels (van Cittert's iteration)."""
    sharp = picture
    for _ in range(4):
        soft = np.pad(sharp, ((0, 0), (1, 1), (1, 1)), mode="edge")
        soft = 0.668 * soft[:, 1:-1] + 0.166 * (soft[:, :-2] + soft[:, 2:])
        soft = 0.668 * soft[..., 1:-1] + 0.166 * (soft[..., :-2] + soft[..., 2:])
        sharp = (sharp + picture - soft).clip(0, 255)
    return sharp


def _search(levels: np.ndarray, bare: np.ndarray) -> tuple[list[Found], np.ndarray]:
    """Things, back to front, and (64, 64) bool, the pixels that are still wrong with them."""
    like = _marks(levels, bare)
    canvas = np.concatenate([levels, bare[None], np.ones((1, CANVAS, CANVAS), np.float32)])
    things: list[Found] = []
    while True:
        ink = _drawn(things)
        wrong = np.square(levels - _over(ink, bare)).mean(0) > TOLERANCE**2
        open_marks = np.where(wrong | (ink[3] < 0.01), like, -KNOWN_COST)
        clear: list[Found] = []
        doubtful: list[_Proof] = []
        for color, x, y in _proposals(open_marks):
            if not any(max(abs(x - a), abs(y - b)) < APART for *_, a, b in clear):
                proof = _settle(np.concatenate([canvas, ink]), open_marks[color], color, x, y)
                if proof.share > CLEAR and not proof.behind and proof.gain > LEAST_PIXELS:
                    clear.append(proof.thing)
                    ink = _drawn([*things, *clear])
                elif proof.share > LEAST_SHARE and proof.gain > LEAST_PIXELS:
                    doubtful.append(proof)
        if clear:
            things += clear
        elif doubtful:
            best = max(doubtful, key=lambda proof: proof.merit)
            things.insert(0 if best.behind else len(things), best.thing)
        if not (clear or doubtful) or len(things) >= MOST_THINGS:
            things = things[:MOST_THINGS]
            return things, np.square(levels - _over(_drawn(things), bare)).mean(0) > TOLERANCE**2


def _marks(levels: np.ndarray, bare: np.ndarray) -> np.ndarray:
    """How much pixels are like the fill and the outline of each colour, 1 to -1: (colours, 2, 64, 64)."""
    flat = levels.reshape(3, -1)
    squares = np.square(flat).sum(0) - 2 * _palette() @ flat + np.square(_palette()).sum(2)[..., None]
    like = np.maximum(1 - np.stack([squares[0], squares[1:].min(0)], 1) / (3 * TOLERANCE**2), -1)
    like = like.reshape(-1, 2, CANVAS, CANVAS)
    return np.where(np.square(levels - bare).mean(0) < LIKE_BARE**2, np.float32(-1), like)


@cache
def _band() -> np.ndarray:
    """(32, 64): which pixels of a line are within 5 of the middle of a block of two."""
    return (abs(np.arange(CANVAS) - 2 * np.arange(CANVAS // 2)[:, None] - 0.5) < 5).astype(np.float32)


def _proposals(like: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Where to look more closely, best first: colour, x, y.

    A block counts as what is most like a colour in it, so that no place is missed for being off by a pixel.
    """
    sprites = _sprites()
    alike = (like.max(1) > 0.3).astype(np.float32)
    color, y, x = (_band() @ alike @ _band().T >= LEAST_PIXELS).nonzero()
    if len(color) == 0:
        return
    rows = np.maximum(like[:, :, ::2], like[:, :, 1::2])
    blocks = np.pad(np.maximum(rows[..., ::2], rows[..., 1::2]), ((0, 0), (0, 0), *[(sprites.half // 2,) * 2] * 2))
    windows = sliding_window_view(blocks, (sprites.half + 1,) * 2, (2, 3))[color, :, y, x]
    scores = (windows.reshape(len(color), -1) @ sprites.coarse).clip(0)
    best = (np.square(scores) / sprites.telling.sum(0)).max(1)
    for _ in range(MOST_PROPOSALS):
        top = int(best.argmax())
        if best[top] <= 0:
            return
        yield int(color[top]), 2 * int(x[top]), 2 * int(y[top])
        best[(color == color[top]) & (abs(x - x[top]) < 4) & (abs(y - y[top]) < 4)] = 0


def _windows(fields: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(M, n, W, W) around places (M,) of fields (n, 64, 64), 0 outside."""
    half = _sprites().half
    padded = np.pad(fields, ((0, 0), (half, half), (half, half)))
    return sliding_window_view(padded, (2 * half + 1,) * 2, (1, 2))[:, y, x].swapaxes(0, 1)


def _settle(canvas: np.ndarray, like: np.ndarray, color: int, x: int, y: int) -> _Proof:
    """The thing of a colour near (x, y) that, drawn, puts most of the picture right.

    Args:
        canvas: (9, 64, 64): picture, background, ones, ink of the things seen so far.
        like: (2, 64, 64) marks of fill and outline.
    """
    sprites = _sprites()
    ys, xs = (np.arange(max(at - REACH + 1, 0), min(at + REACH + 1, CANVAS)) for at in (y, x))
    ys, xs = (at.ravel() for at in np.meshgrid(ys, xs, indexing="ij"))
    scores = _windows(like, xs, ys).reshape(len(xs), -1) @ sprites.telling
    scores[~sprites.inside[:, ys, xs].T] = -np.inf
    at, kind = np.divmod(scores.ravel().argpartition(-FINALISTS)[-FINALISTS:], scores.shape[1])
    cut = _windows(canvas, xs[at], ys[at])
    levels, bare, inside, ink = cut[:, :3], cut[:, 3:4], cut[:, 4], cut[:, 5:]
    new = sprites.ink[color, kind]

    def error(drawn: np.ndarray) -> np.ndarray:
        apart = levels - drawn
        return (np.einsum("mchw,mchw->mhw", apart, apart) / (3 * TOLERANCE**2)).clip(max=1) * inside

    now = error(_over(ink, bare))
    front = error(_over(new, _over(ink, bare)))
    behind = error(_over(ink, _over(new, bare))) if ink[:, 3].any() else front
    gain = np.stack([(now - front).sum((1, 2)), (now - behind).sum((1, 2))])
    share = gain / (now * new[:, 3]).sum((1, 2)).clip(min=1)
    side, best = divmod(int((gain.clip(0) * share).argmax()), len(kind))
    thing = color, int(kind[best]), int(xs[at[best]]), int(ys[at[best]])
    return _Proof(thing, side == 1, float(gain[side, best]), float(share[side, best]))


# --- is it the scene? -------------------------------------------------------------------------------------------


def agrees(reading: Reading, scene: Scene) -> Verdict:
    """Judge a reading. Any true sentence is right: stated relations must hold, others may."""
    said = [(g.size, g.color, g.shape) for g in scene.groups for _ in range(g.count)]
    seen = [thing.kind for thing in reading.things]
    same = Counter(said) == Counter(seen)
    parties = list(_assignments(scene, reading)) if same else []
    truths = [_truths(scene, reading, party) for party in parties]
    relations = (
        max((sum(t) / len(t) for t in truths if t), default=_loosely(scene, reading))
        if scene.relations
        else float("nan")
    )
    background = reading.background == scene.background
    most = max(len(said), len(seen), 1)
    color, shape, size = (
        sum((Counter(k[i] for k in said) & Counter(k[i] for k in seen)).values()) / most for i in (1, 2, 0)
    )
    return Verdict(
        exact=same and background and (not scene.relations or relations == 1),
        color=color,
        shape=shape,
        size=size,
        count=len(said) == len(seen),
        count_error=abs(len(said) - len(seen)),
        background=background,
        relations=relations,
        place_error=_place_error(scene, reading) if same and scene.placed else float("nan"),
    )


def _assignments(scene: Scene, reading: Reading) -> Iterator[list[tuple[int, ...]]]:
    """Every way to give the things seen to the groups they could belong to."""

    def assign(index: int, free: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
        if index == len(scene.groups):
            yield []
            return
        group = scene.groups[index]
        alike = [i for i in free if reading.things[i].kind == (group.size, group.color, group.shape)]
        for own in combinations(alike, group.count):
            for rest in assign(index + 1, tuple(i for i in free if i not in own)):
                yield [own, *rest]

    yield from assign(0, tuple(range(len(reading.things))))


def _true(kind: str, a: int, b: int, reading: Reading) -> bool:
    """Whether a relation holds between two things seen; contacts in depth also need the right one in front."""
    first, second = reading.things[a], reading.things[b]
    in_order = {"in front of": a > b, "inside": a > b, "behind": a < b, "around": a < b}.get(kind, True)
    return in_order and _near(kind, first, second)


def _near(kind: str, first: Thing, second: Thing) -> bool:
    (x, y), b = first.place, second.place
    slack = (0,) if kind in ("left of", "right of", "above", "below") else (0, -1, 1)
    return any(holds(kind, first.group, (x + dx, y + dy), second.group, b) for dx in slack for dy in slack)


def _truths(scene: Scene, reading: Reading, party: list[tuple[int, ...]]) -> list[bool]:
    return [
        all(_true(r.kind, a, b, reading) for a in party[r.source] for b in party[r.target]) for r in scene.relations
    ]


def _loosely(scene: Scene, reading: Reading) -> float:
    """Where the things differ: the share of relations true of some two things that could be meant."""

    def alike(index: int) -> list[int]:
        group = scene.groups[index]
        return [i for i, t in enumerate(reading.things) if t.kind == (group.size, group.color, group.shape)]

    true = [
        any(a != b and _true(r.kind, a, b, reading) for a in alike(r.source) for b in alike(r.target))
        for r in scene.relations
    ]
    return sum(true) / max(len(true), 1)


def _place_error(scene: Scene, reading: Reading) -> float:
    """Mean distance of things alike, each to the nearest of its kind."""
    errors = [
        min(
            ((x - t.place[0]) ** 2 + (y - t.place[1]) ** 2) ** 0.5
            for t in reading.things
            if t.kind == (g.size, g.color, g.shape)
        )
        for g in scene.groups
        for x, y in g.places
    ]
    return sum(errors) / len(errors)
