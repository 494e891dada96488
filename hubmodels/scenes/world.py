"""What exists in the little world: colours, shapes, sizes, backgrounds, relations, and what a scene is.

The canvas is 64 x 64 units at every resolution, x to the right, y down. A thing is placed by the whole-unit
cell (x, y) that its centre lies in, so its centre is the point (x + 0.5, y + 0.5). Colours are sRGB in [0, 255].
"""

from dataclasses import dataclass

CANVAS = 64

COLORS = {
    "red": (220, 50, 50),
    "green": (50, 180, 60),
    "blue": (50, 90, 220),
    "yellow": (235, 215, 50),
    "purple": (150, 60, 190),
    "orange": (240, 140, 40),
    "cyan": (60, 205, 215),
    "pink": (245, 145, 195),
}
SHAPES = ("ball", "cube", "block", "triangle", "star", "diamond", "ring", "cross")
PLURALS = tuple("crosses" if shape == "cross" else shape + "s" for shape in SHAPES)
SIZES = {"small": 4.25, "medium": 6.0, "large": 8.25}
"""Radius in units. Medium is never said: it is what a thing without a size word is."""
BACKGROUNDS = ("white", "gray", "black", "striped", "dotted", "checkered", "shaded")
NUMBERS = ("one", "two", "three", "four", "five")

CONTAINERS = ("ball", "cube", "diamond")
"""Shapes that, when large, hold any small thing inside their outline."""

MAX_GROUPS = 4
MAX_INSTANCES = 6
MAX_COUNT_IN_RELATION = 3

MARGIN = 6
"""Units by which centres must differ for left, right, above and below to be true."""

INVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "on": "under",
    "under": "on",
    "in front of": "behind",
    "behind": "in front of",
    "inside": "around",
    "around": "inside",
}
RELATIONS = tuple(INVERSE)
DIRECTIONS = frozenset({"left of", "right of", "above", "below"})
"""Relations between whole groups, at a distance. The others are contacts between two single things."""
PRIMARY = frozenset({"left of", "above", "on", "in front of", "inside"})
"""One of each pair of inverses; meaning is compared in these."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Group:
    """What one noun phrase names: `count` things alike.

    `places` holds a cell (x, y) for each of them, or nothing when the sentence does not say where.
    """

    color: str
    shape: str
    size: str = "medium"
    count: int = 1
    places: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        if self.color not in COLORS or self.shape not in SHAPES or self.size not in SIZES:
            raise ValueError(f"no such thing in this world: {self.size} {self.color} {self.shape}")
        if not 1 <= self.count <= len(NUMBERS):
            raise ValueError(f"a group has 1 to {len(NUMBERS)} things, got {self.count}")
        if self.places and len(self.places) != self.count:
            raise ValueError(f"{self.count} things need {self.count} places, got {len(self.places)}")
        for x, y in self.places:
            if not (0 <= x < CANVAS and 0 <= y < CANVAS):
                raise ValueError(f"a place is two numbers from 0 to {CANVAS - 1}, got {x} {y}")


@dataclass(frozen=True)
class Relation:
    """Every thing of group `source` is `kind` every thing of group `target` (indices into the scene's groups)."""

    kind: str
    source: int
    target: int

    def primary(self) -> "Relation":
        """The same fact in the word of `PRIMARY`: right of (A, B) becomes left of (B, A)."""
        if self.kind in PRIMARY:
            return self
        return Relation(INVERSE[self.kind], self.target, self.source)


@dataclass(frozen=True)
class Scene:
    """What a caption says: groups in the order of mention, relations that tie them into a tree, a background."""

    groups: tuple[Group, ...]
    relations: tuple[Relation, ...] = ()
    background: str = "white"

    @property
    def placed(self) -> bool:
        """Whether every thing has a place, as drawing needs."""
        return all(group.places for group in self.groups)

    def graph(self) -> dict:
        """The scene as plain JSON: groups, relations, background; places where they are known."""
        return {
            "background": self.background,
            "groups": [
                {
                    "count": g.count,
                    "size": g.size,
                    "color": g.color,
                    "shape": g.shape,
                    "places": [list(p) for p in g.places],
                }
                for g in self.groups
            ],
            "relations": [{"kind": r.kind, "source": r.source, "target": r.target} for r in self.relations],
        }


def from_graph(graph: dict) -> Scene:
    """The inverse of `Scene.graph`."""
    groups = tuple(
        Group(g["color"], g["shape"], g["size"], g["count"], tuple((x, y) for x, y in g["places"]))
        for g in graph["groups"]
    )
    relations = tuple(Relation(r["kind"], r["source"], r["target"]) for r in graph["relations"])
    return Scene(groups, relations, graph["background"])
