import random
from collections import Counter

import pytest

from hubmodels.scenes import parse, place, sample
from hubmodels.scenes.grammar import COORDINATES, VOCABULARY, caption, wordings, words
from hubmodels.scenes.splits import COLOR_SHAPE, COUNT_SHAPE, RELATION, SPLITS, assert_disjoint, split
from hubmodels.scenes.world import INVERSE, PRIMARY, RELATIONS, SHAPES


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random("test splits")
    return [sample(rng) for _ in range(4000)]


def test_every_wording_and_layout_of_a_meaning_is_in_its_split(scenes):
    for scene in scenes[:300]:
        name = split(scene)
        assert {split(parse(caption(said))) for said in wordings(scene)} == {name}
        assert split(place(scene, seed=3)) == name


def test_train_gets_most_and_every_split_gets_some(scenes):
    shares = Counter(split(scene) for scene in scenes)
    assert set(shares) == set(SPLITS)
    assert shares["train"] >= 0.64 * len(scenes)
    assert shares["test"] >= 0.03 * len(scenes)


def test_every_word_relation_and_argument_occurs_in_train(scenes):
    train = [scene for scene in scenes if split(scene) == "train"]
    said = {word for scene in train for word in words(caption(scene))}
    assert set(VOCABULARY[3:]) - said - set(COORDINATES) == {"at", "white"}  # placement; what is never said
    relations = [(r, scene) for scene in train for r in scene.relations]
    assert {r.kind for r, _ in relations} == set(RELATIONS)
    # each shape of a held-out relation is seen in that relation, with another partner
    sources = {(r.primary().kind, s.groups[r.primary().source].shape) for r, s in relations}
    targets = {(r.primary().kind, s.groups[r.primary().target].shape) for r, s in relations}
    for kind, source, target in RELATION:
        assert (kind, source) in sources
        assert (kind, target) in targets or (kind, target) == ("in front of", "ring")
    # a ring is never covered in train, but it covers
    assert ("in front of", "ring") not in targets and ("in front of", "ring") in sources


def held(scene):
    """What is held out, said again from scratch."""
    pairs = {(g.color, g.shape) for g in scene.groups}
    counts = {(g.count, g.shape) for g in scene.groups}
    triples = set()
    for r in scene.relations:
        a, b = scene.groups[r.source].shape, scene.groups[r.target].shape
        triples |= {(r.kind, a, b), (INVERSE[r.kind], b, a)}
    return [
        ("test_longer", len(scene.groups) == 4),
        ("test_color_shape", bool(pairs & {("yellow", "cube"), ("purple", "star"), ("cyan", "ring")})),
        ("test_count_shape", bool(counts & {(5, "ball"), (3, "star")})),
        ("test_relation", bool(triples & RELATION)),
    ]


def test_a_scene_is_in_the_first_split_that_claims_it_and_train_holds_no_held_out_combination(scenes):
    assert {kind for kind, *_ in RELATION} == PRIMARY
    for scene in scenes:
        claims = [name for name, holds in held(scene) if holds]
        if claims:
            assert split(scene) == claims[0]
        else:
            assert split(scene) in ("train", "validation", "test")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("There is one yellow cube.", "test_color_shape"),
        ("There are five red balls.", "test_count_shape"),
        ("There are five yellow cubes.", "test_color_shape"),
        ("The red ring is behind the blue ball.", "test_relation"),
        ("The blue ball is in front of the red ring.", "test_relation"),
        ("The red cross is right of the blue ball.", "test_relation"),
        (
            "The red ball is left of the blue cube, which is above the red ball and above the pink star.",
            "test_longer",
        ),
    ],
)
def test_named_examples(text, name):
    assert split(parse(text)) == name


def test_held_out_words_are_words_of_the_world():
    scene = parse("There is one red ball.")
    assert split(scene) in SPLITS
    assert {shape for _, shape in COLOR_SHAPE | COUNT_SHAPE} <= set(SHAPES)


def test_a_meaning_in_two_splits_is_refused():
    assert_disjoint({"train": ["a", "a", "b"], "test": ["c"]})
    with pytest.raises(ValueError, match="“b” is both in train and in test"):
        assert_disjoint({"train": ["a", "b"], "test": ["c", "b"]})
