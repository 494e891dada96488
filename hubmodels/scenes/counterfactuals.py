"""Pairs of placed scenes that differ in one attribute and are alike, to the unit, in everything else.

    placed scene --edits(kind)--> before, after, and the numbers of the things that differ

Colour, shape and size change in place. A thing joins or leaves a group. For another relation one group
moves, as a whole, and nothing else does. All possibilities are tried, in random order, before it is None.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from hubmodels.scenes.grammar import GrammarError, canonical, caption, parse
from hubmodels.scenes.layout import GAP, LayoutError, check, offsets
from hubmodels.scenes.shapes import extent
from hubmodels.scenes.splits import unplaced
from hubmodels.scenes.world import (
    CANVAS,
    COLORS,
    DIRECTIONS,
    MARGIN,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Place,
    Relation,
    Scene,
)

Kind = Literal["color", "shape", "size", "count", "relation"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Pair(NamedTuple):
    """Two placed scenes, both sayable, with different meanings."""

    before: Scene
    after: Scene
    changed: tuple[tuple[int, ...], tuple[int, ...]]
    """Numbers, as in `renderer.masks`, of the things that differ: in `before`, and in `after`."""


def edits(scene: Scene, kind: Kind, rng: random.Random) -> Pair | None:
    """A random edit, each valid choice of group and value as likely as another; None if there is none.

    Raises:
        ValueError: the scene has things without places, or there is no such kind of edit.
    """
    if not scene.placed:
        raise ValueError("cannot edit a scene without places; pass it through layout.place first")
    if kind not in KINDS:
        raise ValueError(f"an edit is one of {', '.join(KINDS)}, got {kind}")
    if kind == "count":
        candidates = _counts(scene, rng)
    elif kind == "relation":
        candidates = _relations(scene, rng)
    else:
        candidates = _attributes(scene, kind, rng)
    return next((pair for pair in candidates if _sound(pair)), None)


def _sound(pair: Pair) -> bool:
    """Whether the scene after can be drawn and said, and means something else."""
    try:
        check(pair.after)
        said = parse(caption(pair.after)) == pair.after
    except (LayoutError, GrammarError):
        return False
    return said and canonical(unplaced(pair.after)) != canonical(unplaced(pair.before))


def _numbers(scene: Scene, index: int) -> tuple[int, ...]:
    """The numbers that masks give to the things of a group."""
    first = 1 + sum(group.count for group in scene.groups[:index])
    return tuple(range(first, first + scene.groups[index].count))


def _with(scene: Scene, index: int, group: Group) -> Scene:
    return replace(scene, groups=(*scene.groups[:index], group, *scene.groups[index + 1 :]))


def _shuffled(choices: list, rng: random.Random) -> list:
    return rng.sample(choices, len(choices))


def _attributes(scene: Scene, kind: str, rng: random.Random) -> Iterator[Pair]:
    """A group with another colour, shape or size, in place."""
    values = {"color": tuple(COLORS), "shape": SHAPES, "size": tuple(SIZES)}[kind]
    choices = [(i, v) for i, g in enumerate(scene.groups) for v in values if v != getattr(g, kind)]
    for index, value in _shuffled(choices, rng):
        edited = replace(scene.groups[index], **{kind: value})
        numbers = _numbers(scene, index)
        yield Pair(scene, _with(scene, index, edited), (numbers, numbers))


def _counts(scene: Scene, rng: random.Random) -> Iterator[Pair]:
    """A group with one thing fewer, or with one more where there is room."""
    choices = [(i, step) for i in range(len(scene.groups)) for step in (-1, 1)]
    for index, step in _shuffled(choices, rng):
        group, numbers = scene.groups[index], _numbers(scene, index)
        if step < 0 and group.count > 1:
            gone = rng.randrange(group.count)
            left = (*group.places[:gone], *group.places[gone + 1 :])
            fewer = replace(group, count=group.count - 1, places=left)
            yield Pair(scene, _with(scene, index, fewer), ((numbers[gone],), ()))
        elif step > 0 and group.count < len(NUMBERS):
            cells = np.argwhere(_room(scene, index, [], [(0, 0)]))
            if len(cells):
                y, x = cells[rng.randrange(len(cells))].tolist()
                more = replace(group, count=group.count + 1, places=(*group.places, (x, y)))
                yield Pair(scene, _with(scene, index, more), ((), (numbers[-1] + 1,)))


def _relations(scene: Scene, rng: random.Random) -> Iterator[Pair]:
    """Another relation between the same two groups, made true by moving one of them."""
    choices = [
        (number, kind, mover)
        for number, relation in enumerate(scene.relations)
        for kind in RELATIONS
        if kind != relation.kind
        for mover in (relation.source, relation.target)
    ]
    for number, kind, mover in _shuffled(choices, rng):
        relations = list(scene.relations)
        relations[number] = replace(relations[number], kind=kind)
        said = replace(scene, relations=tuple(relations))
        group, numbers = scene.groups[mover], _numbers(scene, mover)
        (x0, y0), *_ = group.places
        shape = [(x - x0, y - y0) for x, y in group.places]
        cells = np.argwhere(_room(said, mover, list(group.places), shape))
        if len(cells):
            y, x = cells[rng.randrange(len(cells))].tolist()
            moved = replace(group, places=tuple((x + dx, y + dy) for dx, dy in shape))
            yield Pair(scene, _with(said, mover, moved), (numbers, numbers))


def _room(scene: Scene, index: int, leaving: list[Place], shape: list[Place]) -> np.ndarray:
    """Where things of a group can go, all else staying: what `layout.check` accepts, for all cells at once.

    Args:
        leaving: the group's places that are given up; its others stay.
        shape: offsets (dx, dy) of the things to be put down.

    Returns:
        (64, 64) bool, [y, x]: cells at which the things can be put down together.
    """
    y, x = np.mgrid[:CANVAS, :CANVAS]
    free = np.ones((CANVAS, CANVAS), bool)
    group = scene.groups[index]
    left, up, right, down = extent(group.shape, group.size)
    relations = [r.primary() for r in scene.relations if index in (r.source, r.target)]
    touching = {i for r in relations if r.kind not in DIRECTIONS for i in (r.source, r.target)} - {index}
    for dx, dy in shape:
        px, py = x + dx, y + dy
        free &= (px + 0.5 >= left) & (px + 0.5 <= CANVAS - right)
        free &= (py + 0.5 >= up) & (py + 0.5 <= CANVAS - down)
        for other, them in enumerate(scene.groups):
            theirs = extent(them.shape, them.size)
            for ox, oy in them.places:
                if other == index and (ox, oy) in leaving or other in touching:
                    continue
                gap_x = np.maximum(ox - px - right - theirs[0], px - ox - left - theirs[2])
                gap_y = np.maximum(oy - py - down - theirs[1], py - oy - up - theirs[3])
                free &= np.maximum(gap_x, gap_y) >= GAP
        for relation in relations:
            free &= _true(scene, relation, index, px, py)
    return free


def _true(scene: Scene, relation: Relation, index: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a primary relation holds of a thing of group `index` at (x, y) and all of the other group."""
    source, target = scene.groups[relation.source], scene.groups[relation.target]
    sense = 1 if index == relation.source else -1
    true = np.ones(x.shape, bool)
    for ox, oy in (target if sense == 1 else source).places:
        dx, dy = (x - ox) * sense, (y - oy) * sense  # of the source from the target
        if relation.kind in DIRECTIONS:
            true &= (dx if relation.kind == "left of" else dy) <= -MARGIN
        else:
            allowed = offsets(relation.kind, (source.shape, source.size), (target.shape, target.size))
            true &= np.isin(dx * 1000 + dy, [ax * 1000 + ay for ax, ay in allowed])
    return true
