"""Which scenes a model may learn from: a pure predicate on meaning, so no wording or layout of it leaks.

Five tests, each its own split. Four hold out a combination of words that are all common in train; one is
random. A scene belongs to the first that applies:

    test_longer         four groups; train has at most three
    test_color_shape    names a held-out pair of colour and shape
    test_count_shape    names a held-out pair of count and shape
    test_relation       states a relation between held-out shapes
    test, validation    random, by a hash of the canonical caption
    train               all else, about 65 % of what `grammar.sample` draws
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b

from hubmodels.scenes.grammar import canonical
from hubmodels.scenes.world import MAX_GROUPS, SHAPES, Scene

SPLITS = (
    "train",
    "validation",
    "test",
    "test_color_shape",
    "test_count_shape",
    "test_relation",
    "test_longer",
)

COLOR_SHAPE = frozenset({("yellow", "cube"), ("purple", "star"), ("cyan", "ring")})
COUNT_SHAPE = frozenset({(5, "ball"), (3, "star")})
RELATION = frozenset(
    {
        ("left of", "ball", "cross"),
        ("above", "triangle", "block"),
        ("on", "cube", "ball"),
        ("inside", "star", "cube"),
        *(("in front of", shape, "ring") for shape in SHAPES),
    }
)
"""A relation of `world.PRIMARY`, the shape of its source and of its target; the inverse is held out too."""

TEST = 0.05
VALIDATION = 0.02
"""Shares of the scenes that no combination claims."""


def unplaced(scene: Scene) -> Scene:
    """The scene as a caption without placement clauses says it."""
    return replace(scene, groups=tuple(replace(group, places=()) for group in scene.groups))


def held_out(scene: Scene) -> str | None:
    """The compositional split that claims the scene, if any."""
    if len(scene.groups) == MAX_GROUPS:
        return "test_longer"
    if any((group.color, group.shape) in COLOR_SHAPE for group in scene.groups):
        return "test_color_shape"
    if any((group.count, group.shape) in COUNT_SHAPE for group in scene.groups):
        return "test_count_shape"
    for relation in (r.primary() for r in scene.relations):
        if (relation.kind, *(scene.groups[i].shape for i in (relation.source, relation.target))) in RELATION:
            return "test_relation"
    return None


def chance(meaning: str) -> float:
    """A number in [0, 1) that a text has for ever, on every machine."""
    return int.from_bytes(blake2b(meaning.encode(), digest_size=8).digest()) / 2**64


def split(scene: Scene) -> str:
    """The one of `SPLITS` that the meaning of a scene belongs to; places do not count."""
    claimed = held_out(scene)
    if claimed:
        return claimed
    drawn = chance(canonical(unplaced(scene)))
    return "test" if drawn < TEST else "validation" if drawn < TEST + VALIDATION else "train"


def assert_disjoint(meanings: Mapping[str, Iterable[str]]) -> None:
    """Refuse splits that share a meaning. Takes the canonical captions (or template sentences) of each split.

    Raises:
        ValueError: a text stands in two splits; the message says which and where.
    """
    owner: dict[str, str] = {}
    for name, texts in meanings.items():
        for meaning in set(texts):
            if owner.setdefault(meaning, name) != name:
                raise ValueError(f"“{meaning}” is both in {owner[meaning]} and in {name}; build the data again")
