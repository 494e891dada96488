"""Where things go: a pure function of (scene, seed) that cannot fail on a caption without placement clauses.

Things in contact (on, in front of, inside) form one body with an offset drawn beforehand; every other thing is a
body of its own. Bodies are placed by a backtracking search: each keeps the set of cells where it can still go,
placing one removes from the others what would overlap it or break a relation, and an empty set sends the search
back. Where no cells are found, offsets are drawn again. Relations therefore hold by construction, and the work is
bounded. A layout depends on shapes, sizes and relations but not on colours.
"""

import random
from dataclasses import dataclass
from functools import cache
from math import ceil, floor

import numpy as np

from hubmodels.scenes.shapes import OUTLINE, extent, signed_distance, sprites
from hubmodels.scenes.world import CANVAS, DIRECTIONS, MARGIN, SHAPES, Group, Place, Relation, Scene

GAP = 1.0
"""Units left free between the boxes of things that are not in contact."""
VISIBLE = 0.55
"""Least share of a thing that shows from behind another."""
OVERLAP = 0.15
"""Least share of the smaller of the two that overlaps, for in front of to be plain."""
PATIENCE = 40
"""Cells tried before the search starts over on cells that pack tightly."""
TRIES = 400
LAST_PATIENCE = 20_000
"""Cells that the last try of a search may cost; the rare pairs in contact that need more are drawn again."""
EFFORT = 200_000
"""Cells tried, over all draws of contacts, before stated places get the blame; a draw counts for at least 1/1000."""
CONTACT = 1.0
"""Units between bottom and top that still count as touching."""


class LayoutError(ValueError):
    """Placement clauses that contradict the relations, each other, or the canvas."""


@dataclass(frozen=True)
class _Body:
    """One thing, or two in contact. `parts`: (group, instance, dx, dy) from the body's own cell."""

    parts: tuple[tuple[int, int, int, int], ...]


def _kind(group: Group) -> tuple[str, str]:
    return group.shape, group.size


# --- what relations mean ----------------------------------------------------------------------------------------


def holds(kind: str, a: Group, a_place: Place, b: Group, b_place: Place) -> bool:
    """Whether thing `a` is `kind` thing `b`, from their places alone (who covers whom is the renderer's order)."""
    (ax, ay), (bx, by) = a_place, b_place
    if kind == "left of":
        return ax + MARGIN <= bx
    if kind == "above":
        return ay + MARGIN <= by
    if kind in ("on", "in front of", "inside"):
        return (ax - bx, ay - by) in _allowed(kind, _kind(a), _kind(b))
    inverse = Relation(kind, 0, 1).primary().kind
    return holds(inverse, b, b_place, a, a_place)


@cache
def _allowed(kind: str, a: tuple[str, str], b: tuple[str, str]) -> frozenset[Place]:
    return frozenset(offsets(kind, a, b))


@cache
def offsets(kind: str, a: tuple[str, str], b: tuple[str, str]) -> tuple[Place, ...]:
    """Every offset (dx, dy) of `a` from `b`, (shape, size) each, at which a contact relation holds; never empty."""
    if kind == "on":
        drop = extent(*a)[3] + extent(*b)[1]
        return tuple(
            (dx, -dy) for dx in range(-2, 3) for dy in range(int(drop) - 1, int(drop) + 3) if abs(dy - drop) <= CONTACT
        )
    if kind == "inside":
        return _inside_offsets(a, b)
    covers, covered = (sprites(size)[0][SHAPES.index(shape)] >= 0.5 for shape, size in (a, b))
    reach = len(covers) // 2 + len(covered) // 2
    field = np.pad(covered, len(covers))
    middle = len(field) // 2 - len(covers) // 2
    smaller = min(covers.sum(), covered.sum())
    found = []
    for dy in range(2, reach):  # what is in front stands lower
        for dx in range(-10, 11):
            top, left = middle + dy, max(middle + dx, 0)
            window = field[top : top + len(covers), left : left + len(covers)]
            hidden = (window & covers[: window.shape[0], : window.shape[1]]).sum()
            if hidden >= OVERLAP * smaller and covered.sum() - hidden >= VISIBLE * covered.sum():
                found.append((dx, dy))
    return tuple(found)


def _inside_offsets(a: tuple[str, str], b: tuple[str, str]) -> tuple[Place, ...]:
    """Offsets that keep `a` off the outline of `b`."""
    steps = np.linspace(-8, 8, 129)
    x, y = np.meshgrid(steps, steps)
    body = signed_distance(*a, x, y) <= 0
    x, y = x[body], y[body]
    return tuple(
        (dx, dy)
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if signed_distance(*b, x + dx, y + dy).max() <= -OUTLINE * 0.9
    )


# --- the search -------------------------------------------------------------------------------------------------


def place(scene: Scene, seed: int = 0) -> Scene:
    """Give every thing a place. Places that the caption states are kept.

    Raises:
        LayoutError: stated places contradict a relation, overlap, leave the canvas, or leave no room for the rest.
    """
    check(scene)
    if scene.placed:
        return scene
    rng = random.Random(f"layout {seed}")
    bodies, cells = _settle(scene, rng)
    places: list[dict[int, Place]] = [{} for _ in scene.groups]
    for body, (x, y) in zip(bodies, cells, strict=True):
        for group, instance, dx, dy in body.parts:
            places[group][instance] = (x + dx, y + dy)
    groups = [
        Group(group.color, group.shape, group.size, group.count, tuple(where[i] for i in range(group.count)))
        for group, where in zip(scene.groups, places, strict=True)
    ]
    placed = Scene(tuple(groups), scene.relations, scene.background)
    check(placed)
    return placed


def _settle(scene: Scene, rng: random.Random) -> tuple[list[_Body], list[Place]]:
    """Bodies with a cell for each: contacts are drawn until there is room."""
    effort = 0
    while effort < EFFORT:
        bodies = _bodies(scene, rng)
        cells, tried = _search(scene, bodies, rng)
        if cells is not None:
            return bodies, cells
        drawn = [body for body in bodies if len(body.parts) == 2]
        if all(scene.groups[part[0]].places for body in drawn for part in body.parts):
            break  # another draw would be the same
        effort += max(tried, EFFORT // 1000)
    raise LayoutError("there is no room left for the rest of the scene; move what is placed or say fewer places")


def _bodies(scene: Scene, rng: random.Random) -> list[_Body]:
    """Pairs in contact with a drawn offset, then the single things."""
    bodies, paired = [], set()
    for relation in (r.primary() for r in scene.relations):
        if relation.kind in DIRECTIONS:
            continue
        a, b = scene.groups[relation.source], scene.groups[relation.target]
        options = offsets(relation.kind, _kind(a), _kind(b))
        dx, dy = options[int(rng.random() * len(options))]
        if a.places and b.places:
            dx, dy = a.places[0][0] - b.places[0][0], a.places[0][1] - b.places[0][1]
        bodies.append(_Body(((relation.target, 0, 0, 0), (relation.source, 0, dx, dy))))
        paired |= {relation.source, relation.target}
    for index, group in enumerate(scene.groups):
        if index not in paired:
            bodies += [_Body(((index, i, 0, 0),)) for i in range(group.count)]
    return bodies


def _search(scene: Scene, bodies: list[_Body], rng: random.Random) -> tuple[list[Place] | None, int]:
    """A cell for each body, fewest cells first, or None; and how many cells were tried.

    The first try takes cells at random. A crowded scene that runs out of patience is tried again on cells that hug
    what is there already, which packs tightly; the last try takes cells at random with much more patience.
    """
    before = {
        (r.source, r.target): 0 if r.kind == "left of" else 1
        for r in (relation.primary() for relation in scene.relations)
        if r.kind in DIRECTIONS
    }
    found: dict[int, Place] = {}

    def descend(free: list[int], hug: bool) -> bool:
        nonlocal patience, tried
        waiting = [i for i in range(len(bodies)) if i not in found]
        if not waiting:
            return True
        chosen = min(waiting, key=lambda i: free[i].bit_count())
        waiting.remove(chosen)
        cells = _corners(free[chosen]) if hug else free[chosen]
        while cells and patience > 0:
            patience, tried = patience - 1, tried + 1
            cell = _nth(cells, int(rng.random() * cells.bit_count()))
            cells ^= 1 << cell
            y, x = divmod(cell, CANVAS)
            found[chosen] = (x, y)
            rest = free.copy()
            for other in waiting:
                rest[other] &= _compatible(scene, bodies[chosen], (x, y), bodies[other], before)
                if not rest[other]:
                    break
            else:
                if descend(rest, hug):
                    return True
            del found[chosen]
        return False

    tried = 0
    start = _start(scene, bodies, before)
    if not all(start):
        return None, tried
    for attempt in range(TRIES + 1):
        patience = PATIENCE if attempt < TRIES else LAST_PATIENCE
        if descend(start, hug=0 < attempt < TRIES):
            return [found[i] for i in range(len(bodies))], tried
        if attempt == 0 and patience > 0:
            break  # every cell was tried in vain
    return None, tried


def _start(scene: Scene, bodies: list[_Body], before: dict[tuple[int, int], int]) -> list[int]:
    """For each body the cells that keep it in the canvas, at its stated places, and apart as relations demand."""
    spans = [_spans(scene, body) for body in bodies]
    parts = [(part[0], part[2:], span) for body, span in zip(bodies, spans, strict=True) for part in body.parts]
    for _ in before:  # once for each link of the longest chain
        for (source, target), axis in before.items():
            for a_offset, a in ((offset, span) for group, offset, span in parts if group == source):
                for b_offset, b in ((offset, span) for group, offset, span in parts if group == target):
                    apart = MARGIN + a_offset[axis] - b_offset[axis]
                    a[axis][1], b[axis][0] = min(a[axis][1], b[axis][1] - apart), max(b[axis][0], a[axis][0] + apart)
    return [_band(0, *x) & _band(1, *y) for x, y in spans]


def _spans(scene: Scene, body: _Body) -> tuple[list[int], list[int]]:
    """From which x to below which, and from which y, a body's cell is inside the canvas and as stated."""
    xs, ys = [0, CANVAS], [0, CANVAS]
    for index, instance, dx, dy in body.parts:
        group = scene.groups[index]
        (x0, x1), (y0, y1) = _within(group.shape, group.size)
        if group.places:
            x, y = group.places[instance]
            x0, x1, y0, y1 = max(x0, x), min(x1, x), max(y0, y), min(y1, y)
        xs = [max(xs[0], x0 - dx), min(xs[1], x1 - dx + 1)]
        ys = [max(ys[0], y0 - dy), min(ys[1], y1 - dy + 1)]
    return xs, ys


@cache
def _within(shape: str, size: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last x, and y, of the cells at which a thing may touch the border but not cross it."""
    left, up, right, down = extent(shape, size)
    x, y = ((ceil(before - 0.5), floor(CANVAS - after - 0.5)) for before, after in ((left, right), (up, down)))
    return x, y


def _compatible(scene: Scene, placed: _Body, cell: Place, other: _Body, before: dict[tuple[int, int], int]) -> int:
    """The cells at which `other` neither overlaps `placed`, put at `cell`, nor breaks a relation with it."""
    cells = _ALL
    for a, _, adx, ady in placed.parts:
        at = cell[0] + adx, cell[1] + ady
        for b, _, *offset in other.parts:
            dx, dy = offset
            near_x, near_y = _near(_kind(scene.groups[a]), _kind(scene.groups[b]))
            (x0, x1), (y0, y1) = near_x[at[0]], near_y[at[1]]
            cells &= ~(_band(0, x0 - dx, x1 - dx) & _band(1, y0 - dy, y1 - dy))
            if (a, b) in before:
                axis = before[a, b]
                cells &= _band(axis, at[axis] + MARGIN - offset[axis], CANVAS)
            elif (b, a) in before:
                axis = before[b, a]
                cells &= _band(axis, 0, at[axis] - MARGIN - offset[axis] + 1)
    return cells


@cache
def _near(a: tuple[str, str], b: tuple[str, str]) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """For each x of a thing `a`, and each y, where `b` is too near: the first coordinate and one past the last."""
    al, au, ar, ad = extent(*a)
    bl, bu, br, bd = extent(*b)
    return (
        tuple((floor(x - al - br - GAP) + 1, ceil(x + ar + bl + GAP)) for x in range(CANVAS)),
        tuple((floor(y - au - bd - GAP) + 1, ceil(y + ad + bu + GAP)) for y in range(CANVAS)),
    )


# --- sets of cells: the cell (x, y) is bit 64 y + x of an integer --------------------------------------------------

_ALL = (1 << CANVAS * CANVAS) - 1
_FIRST_COLUMN = sum(1 << CANVAS * y for y in range(CANVAS))


@cache
def _band(axis: int, low: int, high: int) -> int:
    """Cells with low <= x < high (axis 0) or low <= y < high (axis 1)."""
    low, high = max(low, 0), min(high, CANVAS)
    if low >= high:
        return 0
    if axis == 1:
        return (1 << CANVAS * high) - (1 << CANVAS * low)
    return ((1 << high) - (1 << low)) * _FIRST_COLUMN


def _corners(cells: int) -> int:
    """Cells of a set that cannot move a unit along x nor along y in one of the four diagonal senses."""
    left, right = cells << 1 & ~_FIRST_COLUMN, cells >> 1 & ~(_FIRST_COLUMN << CANVAS - 1)
    up, down = cells << CANVAS, cells >> CANVAS
    return cells & ~(left & right) & ~(up & down)


def _nth(cells: int, n: int) -> int:
    """The number of the n-th cell of a set, from 0, row by row."""
    first, width = 0, CANVAS * CANVAS
    while width > 1:
        width //= 2
        lower = cells & (1 << width) - 1
        count = lower.bit_count()
        if n < count:
            cells = lower
        else:
            first, n, cells = first + width, n - count, cells >> width
    return first


# --- checking ---------------------------------------------------------------------------------------------------


def _name(group: Group, place: Place) -> str:
    size = "" if group.size == "medium" else group.size + " "
    return f"the {size}{group.color} {group.shape} at {place[0]} {place[1]}"


def check(scene: Scene) -> None:
    """Assert of the places given so far: inside the canvas, apart unless in contact, relations true.

    Raises:
        LayoutError: they are not; the message names the things.
    """
    instances = [(i, group, where) for i, group in enumerate(scene.groups) for where in group.places]
    if not instances:
        return
    for _, group, (x, y) in instances:
        (x0, x1), (y0, y1) = _within(*_kind(group))
        if not (x0 <= x <= x1 and y0 <= y <= y1):
            raise LayoutError(
                f"{_name(group, (x, y))} reaches outside the {CANVAS} x {CANVAS} canvas; "
                f"give it an x from {x0} to {x1} and a y from {y0} to {y1}"
            )
    for relation in scene.relations:
        a, b, far = scene.groups[relation.source], scene.groups[relation.target], relation.kind in DIRECTIONS
        for a_place in a.places:
            for b_place in b.places:
                if not holds(relation.kind, a, a_place, b, b_place):
                    cure = f"move it {MARGIN} units or more that way" if far else "say the place of only one of them"
                    raise LayoutError(f"{_name(a, a_place)} is not {relation.kind} {_name(b, b_place)}; {cure}")
    touching = {frozenset((r.source, r.target)) for r in scene.relations if r.kind not in DIRECTIONS}
    for at, (i, a, (ax, ay)) in enumerate(instances):
        al, au, ar, ad = extent(*_kind(a))
        for j, b, (bx, by) in instances[at + 1 :]:
            if touching and frozenset((i, j)) in touching:
                continue
            bl, bu, br, bd = extent(*_kind(b))
            gap_x = max(bx - ax - ar - bl, ax - bx - al - br)
            gap_y = max(by - ay - ad - bu, ay - by - au - bd)
            if max(gap_x, gap_y) < GAP - 1e-6:
                raise LayoutError(f"{_name(a, (ax, ay))} and {_name(b, (bx, by))} overlap; move one of them")
