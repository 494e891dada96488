"""Oracle: the silhouettes that the renderer paints; they know nothing of the layout's own arithmetic."""

import hashlib
import inspect
import itertools
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from hubmodels.scenes import GrammarError, LayoutError, caption, layout, masks, parse, place
from hubmodels.scenes.world import (
    CANVAS,
    COLORS,
    CONTAINERS,
    DIRECTIONS,
    MARGIN,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Relation,
    Scene,
)

KINDS = list(itertools.product(SHAPES, SIZES))


def pairs():
    """Every relation between single things of every shape and size that the language lets one say."""
    for kind in RELATIONS:
        for (shape, size), (other, other_size) in itertools.product(KINDS, KINDS):
            if kind == "inside" and (size != "small" or other_size != "large" or other not in CONTAINERS):
                continue
            if kind == "around" and (other_size != "small" or size != "large" or shape not in CONTAINERS):
                continue
            yield Scene((Group("red", shape, size), Group("blue", other, other_size)), (Relation(kind, 0, 1),))


def trees(rng):
    """Every sayable sequence of two or three relations, chained or of the first thing, about crowds of large things."""
    for length in (2, 3):
        for kinds in itertools.product(RELATIONS, repeat=length):
            for sources in itertools.product(*((0, i) if i else (0,) for i in range(length))):
                relations = tuple(Relation(k, s, i + 1) for i, (k, s) in enumerate(zip(kinds, sources, strict=True)))
                scene = Scene(tuple(things(relations, length + 1, rng)), relations)
                try:
                    if parse(caption(scene)) == scene:
                        yield scene
                except GrammarError:
                    continue


def things(relations, groups, rng):
    """Groups that fit the relations: as many things as there may be, three in four large."""
    touching = {i for r in relations if r.kind not in DIRECTIONS for i in (r.source, r.target)}
    inner = {i for r in relations if r.kind in ("inside", "around") for i in (r.primary().source,)}
    outer = {i for r in relations if r.kind in ("inside", "around") for i in (r.primary().target,)}
    counts = [1] * groups
    for _ in range(6 - groups):
        free = [i for i in range(groups) if i not in touching and counts[i] < 3]
        if free:
            counts[rng.choice(free)] += 1
    for i, count in enumerate(counts):
        size = "small" if i in inner else "large" if i in outer else rng.choice(("large", "large", "large", "medium"))
        yield Group(rng.choice(list(COLORS)), rng.choice(CONTAINERS if i in outer else SHAPES), size, count)


@pytest.fixture(scope="module")
def placed():
    rng = random.Random("crowds")
    return [place(scene, seed) for seed, scene in enumerate([*pairs(), *trees(rng)])]


def silhouettes(wanted):
    """{(shape, size, place): (64, 64) bool}: what each thing would show of itself, alone on the canvas."""
    wanted = sorted(wanted)
    scenes = [Scene((Group("red", shape, size, 1, (where,)),)) for shape, size, where in wanted]
    shown = [masks(scenes[i : i + 256]).numpy() > 0 for i in range(0, len(scenes), 256)]
    return dict(zip(wanted, np.concatenate(shown), strict=True))


@pytest.fixture(scope="module")
def seen(placed):
    """(scene, ids (64, 64), [(group number, silhouette (64, 64))] in the order of mention) for every scene."""
    keys = [[(i, (g.shape, g.size, where)) for i, g in enumerate(s.groups) for where in g.places] for s in placed]
    alone = silhouettes({key for row in keys for _, key in row})
    ids = np.concatenate([masks(placed[i : i + 256]).numpy() for i in range(0, len(placed), 256)])
    return [
        (scene, shown, [(i, alone[key]) for i, key in row]) for scene, shown, row in zip(placed, ids, keys, strict=True)
    ]


def contacts(scene):
    """{frozenset of two group numbers: primary relation}."""
    return {frozenset((r.source, r.target)): r.primary() for r in scene.relations if r.kind not in DIRECTIONS}


def box(shape):
    """First and last column, first and last row."""
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    return columns[0], columns[-1], rows[0], rows[-1]


def grown(shape):
    """With the pixels beside, above and below."""
    padded = np.pad(shape, 1)
    return shape | padded[1:-1, :-2] | padded[1:-1, 2:] | padded[:-2, 1:-1] | padded[2:, 1:-1]


def test_every_relation_of_every_two_kinds_and_every_tree_of_relations_is_placed(placed):
    """`place` raised nothing; here, that the lists are as long as they should be and the scenes are those asked for."""
    listed = list(pairs())
    assert len(listed) == 8 * len(KINDS) ** 2 + 2 * len(SHAPES) * len(CONTAINERS)
    grown_trees = placed[len(listed) :]
    said = {tuple((r.kind, r.source) for r in scene.relations) for scene in grown_trees}
    assert {kind for kinds in said for kind, _ in kinds} == set(RELATIONS)
    assert len(said) == len(grown_trees) > 1500
    assert np.mean([sum(g.count for g in scene.groups) >= 5 for scene in grown_trees]) > 0.75
    assert all(scene.placed for scene in placed)


def test_nothing_is_cut_off_by_the_canvas(seen):
    whole = silhouettes({(shape, size, (CANVAS // 2, CANVAS // 2)) for shape, size in KINDS})
    for scene, _, silhouette in seen:
        for number, shape in silhouette:
            group = scene.groups[number]
            assert shape.sum() == whole[group.shape, group.size, (CANVAS // 2, CANVAS // 2)].sum(), caption(scene)


def test_each_thing_shows_its_share_and_only_what_touches_overlaps(seen):
    for scene, ids, silhouette in seen:
        touching = contacts(scene)
        for number, (i, shape) in enumerate(silhouette, start=1):
            shown = (ids == number).sum() / shape.sum()
            fact = next((r for pair, r in touching.items() if i in pair), None)
            if fact is None or (fact.kind in ("in front of", "inside") and fact.source == i):
                assert shown == 1, caption(scene)
            elif fact.kind == "in front of":
                assert shown >= layout.VISIBLE - 0.01, caption(scene)
            else:
                assert shown >= 0.5, caption(scene)
        for (i, a), (j, b) in itertools.combinations(silhouette, 2):
            if i == j or frozenset((i, j)) not in touching:
                assert not (a & b).any(), caption(scene)


def test_left_and_above_are_true_of_the_centroids(seen):
    checked = 0
    for scene, _, silhouette in seen:
        for relation in (r.primary() for r in scene.relations):
            if relation.kind not in DIRECTIONS:
                continue
            axis = 1 if relation.kind == "left of" else 0
            ends = (
                [np.argwhere(s).mean(0)[axis] for i, s in silhouette if i == g]
                for g in (relation.source, relation.target)
            )
            sources, targets = ends
            # a triangle's centroid lies up to 2.4 below the middle of its box
            assert max(sources) + MARGIN - 2.5 <= min(targets), caption(scene)
            checked += 1
    assert checked > 4000


def test_in_front_covers_inside_is_within_and_on_touches(seen):
    checked = dict.fromkeys(("in front of", "inside", "on"), 0)
    for scene, ids, silhouette in seen:
        for fact in contacts(scene).values():
            numbers = [next(n for n, (i, _) in enumerate(silhouette, 1) if i == g) for g in (fact.source, fact.target)]
            a, b = (silhouette[n - 1][1] for n in numbers)
            checked[fact.kind] += 1
            if fact.kind == "in front of":
                assert (a & b).sum() >= layout.OVERLAP * min(a.sum(), b.sum()) - 1, caption(scene)
                assert (ids[a & b] == numbers[0]).all(), caption(scene)
            elif fact.kind == "inside":
                assert not (grown(a) & ~b).any(), caption(scene)
                assert (ids[a] == numbers[0]).all(), caption(scene)
            else:
                (x0, x1, _, bottom), (u0, u1, top, _) = box(a), box(b)
                assert abs(top - bottom - 1) <= layout.CONTACT + 1, caption(scene)
                assert min(x1, u1) - max(x0, u0) + 1 >= 0.5 * min(x1 - x0, u1 - u0), caption(scene)
    assert min(checked.values()) >= 48


# --- the function of (scene, seed) ---

CAPTIONS = (
    "There is one red ball.",
    "There are five large pink stars.",
    "The small red ball is inside the large blue cube, which is left of the three green crosses.",
    "The cyan ring is behind the large orange block and above the two yellow triangles. The background is dotted.",
    "The red ball is on the blue cube, which is right of the small purple diamond, which is under the pink star.",
    "The two large red blocks are left of the two large green blocks, which are above the two large blue blocks.",
)
PLACES = "4e0ed3f96281e5d7bd5280f3fc83807875ea2bb74ffa76a94a4483549c9a8ef3"


def digest():
    told = [[g.places for g in place(parse(said), seed).groups] for said in CAPTIONS for seed in range(8)]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def test_places_are_those_of_every_other_process_and_of_the_released_weights():
    program = f"import hashlib\nfrom hubmodels.scenes import parse, place\nCAPTIONS = {CAPTIONS}\n"
    there = subprocess.run(
        [sys.executable, "-c", f"{program}{inspect.getsource(digest)}\nprint(digest())"],
        env={**os.environ, "PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert digest() == there.stdout.strip() == PLACES


def test_seeds_differ_and_colours_do_not_matter():
    for said in CAPTIONS:
        scene = parse(said)
        layouts = [tuple(g.places for g in place(scene, seed).groups) for seed in range(30)]
        assert len(set(layouts)) >= 29
        recolored = parse(said.replace("red", "green").replace("pink", "cyan"))
        assert [tuple(g.places for g in place(recolored, seed).groups) for seed in range(30)] == layouts


def test_stated_places_are_kept():
    rng = random.Random("stated")
    kept = 0
    for seed, scene in enumerate(itertools.islice(trees(rng), 0, None, 11)):
        everywhere = place(scene, seed)
        stated = rng.randrange(len(scene.groups))
        groups = [g if i == stated else scene.groups[i] for i, g in enumerate(everywhere.groups)]
        partly = place(Scene(tuple(groups), scene.relations), seed + 1)
        assert partly.groups[stated] == everywhere.groups[stated]
        assert place(everywhere, 5) == everywhere
        kept += 1
    assert kept > 100


# --- what cannot be ---


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "The red ball at 0 0 is left of the blue cube.",
            "the red ball at 0 0 reaches outside the 64 x 64 canvas; give it an x from 6 to 57 and a y from 6 to 57",
        ),
        ("There is one large red block at 20 63.", "give it an x from 10 to 53 and a y from 6 to 57"),
        (
            "The red ball at 50 40 is left of the blue cube at 12 31.",
            "is not left of the blue cube at 12 31; move it 6",
        ),
        (
            "The red ball at 20 20 is under the blue cube at 20 50.",
            "not under the blue cube at 20 50; say the place of",
        ),
        ("There are two red balls at 30 30 and 31 31.", "the red ball at 30 30 and the red ball at 31 31 overlap"),
        ("The red ball at 6 30 is right of the blue cube.", "no room left"),
        ("The red ball at 32 57 is on the blue cube.", "no room left"),
        ("The red ball at 32 20 is on the blue cube, which is above the red ring at 32 36.", "no room left"),
        (
            "The large red ball at 9 44 is above the three large blue blocks, which are above the two large red cubes.",
            "no room left",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(said, words, monkeypatch):
    tried = counted(monkeypatch)
    with pytest.raises(LayoutError) as refused:
        place(parse(said))
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert len(tried) <= layout.EFFORT + layout.LAST_PATIENCE + layout.TRIES * layout.PATIENCE


def test_stated_things_alone_are_accepted_up_to_the_border():
    for shape, size in KINDS:
        left, right = (first(shape, size, where) for where in (lambda i: (i, 32), lambda i: (CANVAS - 1 - i, 32)))
        shown = silhouettes({(shape, size, (left, 32)), (shape, size, (CANVAS - 1 - right, 32))})
        assert len({s.sum() for s in shown.values()}) == 1  # nothing cut off
        assert all(min(box(s)[0], CANVAS - 1 - box(s)[1]) <= 1 for s in shown.values())  # and hard by the border


def first(shape, size, where):
    """The least i for which a thing alone may be at `where(i)`."""
    for i in range(CANVAS):
        try:
            place(Scene((Group("red", shape, size, 1, (where(i),)),)))
            return i
        except LayoutError:
            continue
    raise AssertionError(shape)


# --- work ---


def counted(monkeypatch):
    """One entry for each cell that is tried from now on."""
    tried = []
    nth = layout._nth
    monkeypatch.setattr(layout, "_nth", lambda cells, n: (tried.append(n), nth(cells, n))[1])
    return tried


def test_six_large_things_cost_little(monkeypatch):
    tried = counted(monkeypatch)
    for shape, other in itertools.product(SHAPES, SHAPES):
        crowd = (Group("red", shape, "large", 3), Group("blue", other, "large", 3))
        for kind in sorted(DIRECTIONS):
            tried.clear()
            place(Scene(crowd, (Relation(kind, 0, 1),)), seed=1)
            assert len(tried) <= 2000, (shape, kind, other)


def test_sets_of_cells_are_those_of_a_brute_force():
    rng = random.Random("cells")
    for density in (0.001, 0.3, 0.9, 1):
        picture = np.array([[rng.random() < density for _ in range(CANVAS)] for _ in range(CANVAS)])
        picture[rng.randrange(CANVAS), rng.randrange(CANVAS)] = True
        cells = sum(1 << int(i) for i in np.flatnonzero(picture))
        assert [layout._nth(cells, n) for n in range(int(picture.sum()))] == np.flatnonzero(picture).tolist()
        p = np.pad(picture, 1)
        stuck = (~p[1:-1, :-2] | ~p[1:-1, 2:]) & (~p[:-2, 1:-1] | ~p[2:, 1:-1])
        assert layout._corners(cells) == sum(1 << int(i) for i in np.flatnonzero(picture & stuck))
    for axis, low, high in [(0, -5, 3), (0, 60, 99), (1, 7, 7), (1, 9, 2), (1, -9, -2), (1, 0, CANVAS), (0, 70, 80)]:
        at = np.mgrid[:CANVAS, :CANVAS][1 - axis]
        inside = (low <= at) & (at < high)
        assert layout._band(axis, low, high) == sum(1 << int(i) for i in np.flatnonzero(inside))
