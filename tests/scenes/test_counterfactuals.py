import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hubmodels.scenes import LayoutError, canonical, caption, masks, parse, place, render, sample
from hubmodels.scenes.counterfactuals import KINDS, _room, edits
from hubmodels.scenes.layout import check
from hubmodels.scenes.shapes import extent
from hubmodels.scenes.splits import unplaced


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random("test counterfactuals")
    return [place(sample(rng), seed) for seed in range(250)]


@pytest.fixture(scope="module")
def pairs(scenes):
    rng = random.Random(0)
    return [(kind, scene, edits(scene, kind, rng)) for kind in KINDS for scene in scenes]


def things(scene):
    """(group number, colour, shape, size, place) of every thing in the order of mention."""
    return [(i, g.color, g.shape, g.size, p) for i, g in enumerate(scene.groups) for p in g.places]


def test_both_scenes_are_sound_sayable_and_differ_in_meaning(pairs):
    for _, scene, pair in pairs:
        if pair is None:
            continue
        assert pair.before == scene
        check(pair.after)
        for said in (pair.before, pair.after):
            assert parse(caption(said)) == said
        assert canonical(unplaced(pair.before)) != canonical(unplaced(pair.after))


def test_one_attribute_changes_and_everything_else_stays(pairs):
    field = {"color": 1, "shape": 2, "size": 3, "relation": 4}
    for kind, _, pair in pairs:
        if pair is None:
            continue
        before, after = things(pair.before), things(pair.after)
        gone, come = pair.changed
        if kind == "count":
            assert abs(len(before) - len(after)) == 1 == len(gone) + len(come)
            assert [t for n, t in enumerate(before, 1) if n not in gone] == [
                t for n, t in enumerate(after, 1) if n not in come
            ]
            assert pair.before.relations == pair.after.relations
            continue
        assert gone == come
        for number, (a, b) in enumerate(zip(before, after, strict=True), 1):
            differs = [f for f in range(5) if a[f] != b[f]]
            assert differs in ([], [field[kind]]) if number in gone else differs == []
        assert any(before[n - 1] != after[n - 1] for n in gone) or kind == "relation"
        assert len({before[n - 1][0] for n in gone}) == 1  # one group
        changed = [(a, b) for a, b in zip(pair.before.relations, pair.after.relations, strict=True) if a != b]
        assert len(changed) == (kind == "relation")
        assert all((a.source, a.target) == (b.source, b.target) for a, b in changed)
        assert pair.before.background == pair.after.background


def test_pictures_differ_only_where_the_changed_things_are(pairs):
    found = [pair for _, _, pair in pairs if pair is not None][::7]
    pictures = [render(side).int() for side in ([p.before for p in found], [p.after for p in found])]
    for i, pair in enumerate(found):
        near = np.zeros((64, 64), bool)
        for scene, numbers in zip((pair.before, pair.after), pair.changed, strict=True):
            for _, _, shape, size, (x, y) in (things(scene)[n - 1] for n in numbers):
                left, up, right, down = (int(reach) + 1 for reach in extent(shape, size))
                near[max(y - up, 0) : y + down + 1, max(x - left, 0) : x + right + 1] = True
        differs = (pictures[0][i] != pictures[1][i]).any(0).numpy()
        assert differs.any()
        assert not (differs & ~near).any()


def test_numbers_are_those_of_the_masks(pairs):
    for _, _, pair in pairs[::9]:
        if pair is None:
            continue
        for scene, numbers in zip((pair.before, pair.after), pair.changed, strict=True):
            shown = masks([scene])[0].numpy()
            for n in numbers:
                group, color, *_, (x, y) = things(scene)[n - 1]
                alone = replace(scene, groups=(replace(scene.groups[group], count=1, places=((x, y),)),), relations=())
                assert ((shown == n) <= (masks([alone])[0].numpy() == 1)).all()
                assert (shown == n).any()


def test_none_only_where_the_language_or_the_canvas_has_no_other_answer(pairs):
    none = Counter(kind for kind, _, pair in pairs if pair is None)
    total = len(pairs) / len(KINDS)
    contact = {"on", "under", "in front of", "behind", "inside", "around"}
    for kind, scene, pair in pairs:
        if pair is not None:
            continue
        kinds = {relation.kind for relation in scene.relations}
        if kind == "count":  # two single things in contact, or a chain of contacts
            assert kinds & contact
    relationless = sum(not scene.relations for kind, scene, _ in pairs if kind == "relation")
    assert none["color"] == 0
    assert none["shape"] <= 0.05 * total
    assert none["size"] <= 0.2 * total
    assert none["count"] <= 0.3 * total
    assert none["relation"] <= relationless + 0.05 * total


def test_room_is_exactly_what_check_accepts():
    rng = random.Random(5)
    for seed in range(3):
        scene = place(parse("The two red balls are left of the blue cube, which is above the small pink ring."), seed)
        index = rng.randrange(3)
        group = scene.groups[index]
        (x0, y0), *_ = group.places
        shape = [(x - x0, y - y0) for x, y in group.places]
        room = _room(scene, index, list(group.places), shape)
        expected = np.zeros_like(room)
        for y in range(64):
            for x in range(64):
                places = tuple((x + dx, y + dy) for dx, dy in shape)
                if all(0 <= a < 64 and 0 <= b < 64 for a, b in places):
                    groups = list(scene.groups)
                    groups[index] = replace(group, places=places)
                    try:
                        check(replace(scene, groups=tuple(groups)))
                        expected[y, x] = True
                    except LayoutError:
                        pass
        assert expected.any()
        assert (room == expected).all()


def test_a_relation_edit_finds_the_only_way_out():
    crowded = parse("The small red ball at 32 32 is inside the large blue cube at 32 32.")
    pair = edits(crowded, "relation", random.Random(0))
    assert pair is not None
    assert pair.after.relations[0].kind != "inside"


def test_it_is_repeatable_and_every_valid_value_turns_up():
    scene = place(parse("There is one red ball."), 0)
    assert edits(scene, "color", random.Random(1)) == edits(scene, "color", random.Random(1))
    found = {edits(scene, "color", random.Random(n)).after.groups[0].color for n in range(100)}
    assert len(found) == 7


def test_what_it_refuses():
    with pytest.raises(ValueError, match="layout.place"):
        edits(parse("There is one red ball."), "color", random.Random(0))
    with pytest.raises(ValueError, match="an edit is one of color"):
        edits(place(parse("There is one red ball.")), "weight", random.Random(0))
