"""Where things go: a pure function of (scene, seed) that cannot fail on a caption without placement clauses.

Things in contact (on, in front of, inside) form one body with a fixed offset; every other thing is a body of its
own. Bodies are placed by a complete search: each keeps the set of cells where it can still go, placing one removes
from the others what would overlap it or break a relation, and an empty set sends the search back. Relations
therefore hold by construction. The first seed's layout depends on shapes, sizes and relations but not on colours.
"""

import random
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from hubmodels.scenes.shapes import OUTLINE, extent, signed_distance, sprites
from hubmodels.scenes.world import CANVAS, MARGIN, SHAPES, Group, Place, Relation, Scene

GAP = 1.0
"""Units left free between the boxes of things that are not in contact."""
VISIBLE = 0.55
"""Least share of a thing that shows from behind another."""
OVERLAP = 0.15
"""Least share of the smaller of the two that overlaps, for in front of to be plain."""
PATIENCE = 40
"""Cells tried before the search starts over on cells that pack tightly."""
TRIES = 400
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
    if scene.placed:
        check(scene)
        return scene
    rng = random.Random(f"layout {seed}")
    bodies = _bodies(scene, rng)
    cells = _search(scene, bodies, rng)
    if cells is None:
        raise LayoutError("there is no room left for the rest of the scene; move what is placed or say fewer places")
    places: list[dict[int, Place]] = [{} for _ in scene.groups]
    for body, (x, y) in zip(bodies, cells, strict=True):
        for group, instance, dx, dy in body.parts:
            places[group][instance] = (x + dx, y + dy)
    groups = [
        replace(group, places=tuple(where[i] for i in range(group.count)))
        for group, where in zip(scene.groups, places, strict=True)
    ]
    placed = replace(scene, groups=tuple(groups))
    check(placed)
    return placed


def _bodies(scene: Scene, rng: random.Random) -> list[_Body]:
    """Pairs in contact with a drawn offset, then the single things."""
    bodies, paired = [], set()
    for relation in (r.primary() for r in scene.relations):
        if relation.kind in ("left of", "above"):
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


def _search(scene: Scene, bodies: list[_Body], rng: random.Random) -> list[Place] | None:
    """A cell for each body, fewest cells first. None if there is none.

    The first try takes cells at random. A crowded scene that runs out of patience is tried again on cells that hug
    what is there already, which packs tightly; the last try has all the patience that a complete search needs.
    """
    relations = [r.primary() for r in scene.relations if r.primary().kind in ("left of", "above")]
    start = [_free_cells(scene, body) for body in bodies]
    for _ in relations:  # once for each link of the longest chain
        _tighten(scene, bodies, relations, start)
    found: list[Place | None] = [None] * len(bodies)

    def descend(domains: list[np.ndarray], hug: bool) -> bool:
        nonlocal patience
        open_ones = [i for i, cell in enumerate(found) if cell is None]
        if not open_ones:
            return True
        sizes = [int(np.count_nonzero(domains[i])) for i in open_ones]
        chosen = open_ones[sizes.index(min(sizes))]
        cells = np.flatnonzero(_corners(domains[chosen]) if hug else domains[chosen])
        while len(cells) and patience > 0:
            patience -= 1
            pick = int(rng.random() * len(cells))
            y, x = divmod(int(cells[pick]), CANVAS)
            cells = np.delete(cells, pick)
            found[chosen] = (x, y)
            rest = [d if found[i] is not None else d.copy() for i, d in enumerate(domains)]
            for other in open_ones:
                if other != chosen:
                    _forbid(scene, bodies[chosen], (x, y), bodies[other], rest[other], relations)
            if all(rest[i].any() for i in open_ones if i != chosen) and descend(rest, hug):
                return True
            found[chosen] = None
        return False

    if not all(domain.any() for domain in start):
        return None
    for attempt in range(TRIES + 1):
        patience = PATIENCE if attempt < TRIES else 10**9
        if descend(start, hug=0 < attempt < TRIES):
            return found  # type: ignore[return-value]
    return None


def _corners(domain: np.ndarray) -> np.ndarray:
    """Cells of a domain that cannot move a unit along x nor along y in one of the four diagonal senses."""
    padded = np.pad(domain, 1)
    left, right, up, down = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    return domain & ((~left | ~right) & (~up | ~down))


def _reach(group: Group) -> tuple[float, float, float, float]:
    return extent(group.shape, group.size)


def _free_cells(scene: Scene, body: _Body) -> np.ndarray:
    """(64, 64) bool, [y, x]: cells at which all parts lie inside the canvas and at their stated places."""
    free = np.ones((CANVAS, CANVAS), bool)
    for index, instance, dx, dy in body.parts:
        group = scene.groups[index]
        left, up, right, down = _reach(group)
        keep = np.zeros_like(free)
        # the centre is at (cell + 0.5); a part may touch the border but not cross it
        x0, x1 = int(np.ceil(left - 0.5)) - dx, int(np.floor(CANVAS - right - 0.5)) - dx
        y0, y1 = int(np.ceil(up - 0.5)) - dy, int(np.floor(CANVAS - down - 0.5)) - dy
        if group.places:
            x, y = group.places[instance]
            x0, x1, y0, y1 = max(x0, x - dx), min(x1, x - dx), max(y0, y - dy), min(y1, y - dy)
        keep[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = True
        free &= keep
    return free


def _tighten(scene: Scene, bodies: list[_Body], relations: list[Relation], domains: list[np.ndarray]) -> None:
    """Drop cells that a relation rules out against every cell of the other body."""
    for relation in relations:
        for i, a in enumerate(bodies):
            for j, b in enumerate(bodies):
                for ag, _, adx, ady in a.parts:
                    for bg, _, bdx, bdy in b.parts:
                        if (ag, bg) != (relation.source, relation.target) or not (
                            domains[i].any() and domains[j].any()
                        ):
                            continue
                        axis, da, db = (0, adx, bdx) if relation.kind == "left of" else (1, ady, bdy)
                        first = int(np.flatnonzero(domains[i].any(axis))[0]) + da
                        last = int(np.flatnonzero(domains[j].any(axis))[-1]) + db
                        _keep(domains[j], axis, first + MARGIN - db, CANVAS)
                        _keep(domains[i], axis, 0, last - MARGIN - da + 1)


def _keep(domain: np.ndarray, axis: int, low: int, high: int) -> None:
    """Clear all cells but low <= coordinate < high along x (axis 0) or y (axis 1)."""
    view = domain.T if axis == 0 else domain
    view[: max(low, 0)] = False
    view[max(high, 0) :] = False


def _forbid(
    scene: Scene, placed: _Body, cell: Place, other: _Body, domain: np.ndarray, relations: list[Relation]
) -> None:
    """Remove from `domain` the cells at which `other` would overlap `placed` or break a relation with it."""
    for ag, _, adx, ady in placed.parts:
        a, ax, ay = scene.groups[ag], cell[0] + adx, cell[1] + ady
        al, au, ar, ad = _reach(a)
        for bg, _, bdx, bdy in other.parts:
            bl, bu, br, bd = _reach(scene.groups[bg])
            x0, x1 = int(np.floor(ax - al - br - GAP)) + 1 - bdx, int(np.ceil(ax + ar + bl + GAP)) - bdx
            y0, y1 = int(np.floor(ay - au - bd - GAP)) + 1 - bdy, int(np.ceil(ay + ad + bu + GAP)) - bdy
            domain[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = False
            for relation in relations:
                axis, at, offset = (0, ax, bdx) if relation.kind == "left of" else (1, ay, bdy)
                if (relation.source, relation.target) == (ag, bg):
                    _keep(domain, axis, at + MARGIN - offset, CANVAS)
                elif (relation.source, relation.target) == (bg, ag):
                    _keep(domain, axis, 0, at - MARGIN - offset + 1)


# --- checking ---------------------------------------------------------------------------------------------------


def _name(group: Group, place: Place) -> str:
    size = "" if group.size == "medium" else group.size + " "
    return f"the {size}{group.color} {group.shape} at {place[0]} {place[1]}"


def check(scene: Scene) -> None:
    """Assert that a placed scene is one: inside the canvas, apart unless in contact, relations true.

    Raises:
        LayoutError: it is not; the message names the things.
    """
    instances = [(i, group, where) for i, group in enumerate(scene.groups) for where in group.places]
    for _, group, (x, y) in instances:
        left, up, right, down = _reach(group)
        if min(x + 0.5 - left, y + 0.5 - up, CANVAS - x - 0.5 - right, CANVAS - y - 0.5 - down) < 0:
            raise LayoutError(f"{_name(group, (x, y))} reaches outside the {CANVAS} x {CANVAS} canvas; move it inward")
    for relation in scene.relations:
        a, b = scene.groups[relation.source], scene.groups[relation.target]
        for a_place in a.places:
            for b_place in b.places:
                if not holds(relation.kind, a, a_place, b, b_place):
                    raise LayoutError(f"{_name(a, a_place)} is not {relation.kind} {_name(b, b_place)}")
    touching = {
        frozenset((r.source, r.target)) for r in scene.relations if r.primary().kind not in ("left of", "above")
    }
    for at, (i, a, (ax, ay)) in enumerate(instances):
        for j, b, (bx, by) in instances[at + 1 :]:
            if i != j and frozenset((i, j)) in touching:
                continue
            al, au, ar, ad = _reach(a)
            bl, bu, br, bd = _reach(b)
            gap_x = max(bx - ax - ar - bl, ax - bx - al - br)
            gap_y = max(by - ay - ad - bu, ay - by - au - bd)
            if max(gap_x, gap_y) < GAP - 1e-6:
                raise LayoutError(f"{_name(a, (ax, ay))} and {_name(b, (bx, by))} overlap; move one of them")
