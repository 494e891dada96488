"""The oracle: what a picture shows, from its pixels alone, without learning.

    picture (3, 64, 64) --background, then one thing after another--> Reading --agrees(scene)--> Verdict

A thing is a sprite of a shape, size and colour at a place. Correlation with the pixels that nothing has explained
yet proposes things; each proposal and its neighbours are drawn, and the one that comes closest to the picture is
taken, if it comes closer than the bare background. The pixels that it explains stop counting for or against others,
so what is partly hidden is judged by what still shows. Where two overlap, the order that looks more like the picture
when drawn again says who is in front.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import torch
import torch.nn.functional as F
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
"""Levels of 255 (root mean square over the channels) at which a pixel is as much like a colour as not."""
LEAST_SHARE = 0.2
"""Of a thing's pixels that must be explained for it to be seen."""
LEAST_PIXELS = 7.0
"""Of pixels better explained with a thing than without it, for it to be seen."""
HIDDEN_COST = 0.02
"""Cost of a pixel that was explained before: of two explanations, the one that hides less."""
CLEAR = 0.8
"""Share of a thing's pixels that must match for it to be taken along with a better one."""
MOST_THINGS = MAX_INSTANCES + 2
NEAR = 4
"""Units around the best explanation in which other kinds are tried."""
TOGETHER = 8
"""Pictures read at a time: what is larger than a few MB costs more to allocate than to compute."""
FFT = 80
"""Side of the transforms: a picture and half of the widest sprite."""

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


@cache
def _palette() -> tuple[Tensor, Tensor]:
    fills = torch.tensor(list(COLORS.values()), dtype=torch.float32)
    return fills, (fills * OUTLINE_SHADE).round()


@cache
def _kernels(size: str) -> tuple[Tensor, Tensor]:
    """Pixels that tell, (shapes, 2, W, W): clear fill and clear outline, not blends; and what is covered."""
    whole, fill = (torch.from_numpy(sprite) for sprite in shapes.sprites(size))
    ring = whole - fill
    return torch.stack([fill * (fill > 0.8), ring * ((ring > 0.5) & (whole > 0.9))], 1), whole


@cache
def _spectra() -> tuple[Tensor, Tensor]:
    """Transforms of every kind's telling pixels, (kinds, 2, FFT, FFT / 2 + 1), and their number, (kinds, 1, 1)."""
    rows = []
    for shape, size in shapes.KINDS:
        kernel = _kernels(size)[0][SHAPES.index(shape)]
        half = kernel.shape[-1] // 2
        field = F.pad(kernel, (0, FFT - kernel.shape[-1], 0, FFT - kernel.shape[-1])).roll((-half, -half), (-1, -2))
        rows.append(field)
    fields = torch.stack(rows)
    return torch.fft.rfft2(fields).conj(), fields.sum((1, 2, 3))[:, None, None]


@cache
def _inside() -> Tensor:
    """(kinds, 64, 64) bool: places at which a kind lies inside the canvas."""
    at = torch.arange(CANVAS) + 0.5
    rows = []
    for shape, size in shapes.KINDS:
        left, up, right, down = shapes.extent(shape, size)
        x = (at >= left) & (at <= CANVAS - right)
        y = (at >= up) & (at <= CANVAS - down)
        rows.append(y[:, None] & x)
    return torch.stack(rows)


def _correlate(maps: Tensor) -> Tensor:
    """Sums of maps (P, 2, 64, 64) over the telling pixels of every kind at every place, (P, kinds, 64, 64)."""
    spectra = torch.fft.rfft2(maps, s=(FFT, FFT))
    return torch.fft.irfft2((spectra[:, None] * _spectra()[0]).sum(2), s=(FFT, FFT))[..., :CANVAS, :CANVAS]


@torch.inference_mode()
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
    if len(pictures) > TOGETHER:
        return [seen for few in pictures.split(TOGETHER) for seen in read(few)]
    levels = pictures.cpu().float()
    papers = torch.stack([paper(name, CANVAS) for name in BACKGROUNDS])
    apart = (levels[:, None] - papers[None, :, None]).square().mean(2)  # (B, papers, 64, 64)
    background = apart.clamp(max=(TOLERANCE * 1.2) ** 2).sum((-1, -2)).argmin(1)
    bare = apart[torch.arange(len(levels)), background]
    like = 1 - ((levels[:, None] - torch.cat(_palette())[:, :, None, None]).square().mean(2) / TOLERANCE**2)
    like = like.clamp(min=-1)  # (B, 16, 64, 64): eight fills, eight outlines
    like = torch.where((bare < 20**2)[:, None], -1.0, like)
    things: list[list[Found]] = [[] for _ in levels]
    fresh = torch.ones(len(levels), CANVAS, CANVAS)
    active = list(range(len(levels)))
    for _ in range(MOST_THINGS):
        proposed = _propose(like[active], fresh[active])
        before = [len(things[b]) for b in active]
        for b, proposals in zip(active, proposed, strict=True):
            for color, candidates in proposals:
                one = _settle(levels[b], papers[background[b]], fresh[b], color, candidates)
                if one is not None and len(things[b]) < MOST_THINGS:
                    things[b].append(one)
                    _explain(like[b], fresh[b], one)
        active = [b for b, count in zip(active, before, strict=True) if len(things[b]) > count]
        if not active:
            break
    odd = bare > 40**2
    return [
        Reading(
            BACKGROUNDS[int(background[b])],
            tuple(_thing(one) for one in _back_to_front(levels[b], papers[background[b]], things[b])),
            float(((fresh[b] < 0.5) & odd[b]).sum() / odd[b].sum()) if odd[b].any() else 1.0,
        )
        for b in range(len(levels))
    ]


def _propose(like: Tensor, fresh: Tensor) -> list[list[tuple[int, Tensor]]]:
    """What to look at more closely in each picture, best first: colours, each with candidates (M, 3) of (kind, x, y).

    The best explanation of the picture is there, and the best in each other colour if nothing hides it.
    """
    pairs = torch.stack([like[:, :8], like[:, 8:]], 2) * fresh[:, None, None]  # (B, 8, 2, 64, 64)
    which, color = ((pairs > 0.3).sum((2, 3, 4)) >= LEAST_PIXELS / 2).nonzero(as_tuple=True)
    proposed: list[list[tuple[int, Tensor]]] = [[] for _ in like]
    if len(which) == 0:
        return proposed
    _, telling = _spectra()
    areas = _correlate(fresh[:, None].expand(-1, 2, -1, -1))[which]
    scores = _correlate(pairs[which, color]) - HIDDEN_COST * (telling - areas)
    merit = torch.where((scores > 0) & _inside(), scores.square() / areas.clamp(min=1), 0)
    top, at = merit.flatten(1).max(1)
    clear = scores.flatten(1).gather(1, at[:, None])[:, 0] > CLEAR * telling.flatten()[at // CANVAS**2]
    for row in top.argsort(descending=True).tolist():
        if top[row] > 0 and (clear[row] or not proposed[int(which[row])]):
            y, x = divmod(int(at[row]) % CANVAS**2, CANVAS)
            proposed[int(which[row])].append((int(color[row]), _around(merit[row], x, y)))
    return proposed


def _around(merit: Tensor, x: int, y: int) -> Tensor:
    """(M, 3) of (kind, x, y): every kind at its best place near (x, y), and the places next to that."""
    left, top = max(x - NEAR, 0), max(y - NEAR, 0)
    near = merit[:, top : y + NEAR + 1, left : x + NEAR + 1]
    best = near.flatten(1).argmax(1)
    cells = torch.stack([left + best % near.shape[2], top + best // near.shape[2]], 1)
    steps = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))
    kinds = torch.arange(len(merit))[:, None, None].expand(-1, len(steps), 1)
    return torch.cat([kinds, cells[:, None] + steps], 2).flatten(0, 1)


@cache
def _painted() -> tuple[Tensor, Tensor]:
    """Every kind drawn in every colour, (colours, kinds, 3, W, W), and its coverage (kinds, W, W), in one window."""
    fills, outlines = _palette()
    rows = [
        [torch.from_numpy(sprite[SHAPES.index(shape)]) for sprite in shapes.sprites(size)]
        for shape, size in shapes.KINDS
    ]
    widest = max(whole.shape[-1] for whole, _ in rows)
    pads = [(widest - whole.shape[-1]) // 2 for whole, _ in rows]
    whole, fill = (
        torch.stack([F.pad(row[i], (pad,) * 4) for row, pad in zip(rows, pads, strict=True)]) for i in (0, 1)
    )
    paint = fills[:, None, :, None, None] * fill[:, None] + outlines[:, None, :, None, None] * (whole - fill)[:, None]
    return paint, whole


def _settle(levels: Tensor, bare: Tensor, fresh: Tensor, color: int, candidates: Tensor) -> Found | None:
    """The candidate that, drawn on the bare background, comes closest to the picture; None if it is no better than
    the background alone. Pixels explained before do not count."""
    kind, x, y = candidates[_inside()[candidates[:, 0], candidates[:, 2].clamp(0, 63), candidates[:, 1].clamp(0, 63)]].T
    if len(kind) == 0:
        return None
    paint, whole = _painted()
    width = whole.shape[-1]
    half = width // 2
    seen = F.pad(torch.cat([levels, bare[None], fresh[None]]), (half,) * 4)
    span = torch.arange(width)
    cut = seen[:, y[:, None, None] + span[:, None], x[:, None, None] + span].transpose(0, 1)  # (M, 5, W, W)
    picture, under, counts = cut[:, :3], cut[:, 3:4], cut[:, 4]
    drawn = paint[color, kind] + under * (1 - whole[kind])[:, None]
    miss = ((picture - drawn).square().mean(1) / TOLERANCE**2).clamp(max=1)
    without = ((picture - under).square().mean(1) / TOLERANCE**2).clamp(max=1)
    cover = whole[kind] * counts
    gain = ((without - miss) * counts).sum((1, 2)) - HIDDEN_COST * (whole[kind] * (1 - counts)).sum((1, 2))
    best = int(gain.argmax())
    if gain[best] < max(LEAST_PIXELS, LEAST_SHARE * float(cover[best].sum())):
        return None
    return color, int(kind[best]), int(x[best]), int(y[best])


def _matched(like: Tensor, one: Found) -> tuple[tuple[slice, slice], Tensor, Tensor]:
    """The window of a thing on the picture, what it covers there, and how well the pixels match it, -1 to 1."""
    color, kind, x, y = one
    telling, whole = _kernels(shapes.KINDS[kind][1])
    half = whole.shape[-1] // 2
    on = tuple(slice(max(c - half, 0), min(c + half + 1, CANVAS)) for c in (y, x))
    of = tuple(slice(max(half - c, 0), min(half + CANVAS - c, 2 * half + 1)) for c in (y, x))
    fill, ring = telling[kind // len(SIZES)][(slice(None), *of)]
    match = (like[color][on] * fill + like[color + 8][on] * ring) / (fill + ring).clamp(min=1e-6)
    return (on[0], on[1]), whole[kind // len(SIZES)][of], match


def _explain(like: Tensor, fresh: Tensor, one: Found) -> None:
    """Take out the pixels that a thing explains, its blurred edge included."""
    on, cover, match = _matched(like, one)
    blend = (cover > 0) & (match == 0)
    fresh[on][((cover > 0) & (match > 0)) | blend] = 0


def _back_to_front(levels: Tensor, bare: Tensor, found: list[Found]) -> list[Found]:
    """Order overlapping pairs as they were drawn: the order that, drawn again, is closer to the picture."""
    order = list(found)
    for a, b in combinations(found, 2):
        if max(abs(a[2] - b[2]), abs(a[3] - b[3])) < _painted()[1].shape[-1]:
            misses = [
                (_stamped(_stamped(bare.expand(3, -1, -1), back), front) - levels).square().sum()
                for back, front in ((a, b), (b, a))
            ]
            front, back = (b, a) if misses[0] < misses[1] else (a, b)
            if misses[0] != misses[1] and order.index(front) < order.index(back):
                order.remove(front)
                order.insert(order.index(back) + 1, front)
    return order


def _stamped(canvas: Tensor, one: Found) -> Tensor:
    """A canvas (3, 64, 64) with a thing drawn on it."""
    color, kind, x, y = one
    paint, whole = _painted()
    half = whole.shape[-1] // 2
    field = F.pad(canvas, (half,) * 4)
    on = (..., slice(y, y + 2 * half + 1), slice(x, x + 2 * half + 1))
    field[on] = paint[color, kind] + field[on] * (1 - whole[kind])
    return field[:, half:-half, half:-half]


def _thing(one: Found) -> Thing:
    color, kind, x, y = one
    shape, size = shapes.KINDS[kind]
    return Thing(list(COLORS)[color], shape, size, (x, y))


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
