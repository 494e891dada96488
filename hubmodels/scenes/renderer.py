"""Scenes to pictures: anti-aliased, batched, any resolution, on any torch device; a pure function.

    placed scenes --pack--> arrays (B, K) --draw--> pictures (B, 3, R, R) uint8 sRGB, instance ids (B, R, R) uint8

K instances at most; R pixels a side. Things are drawn back to front: containers and what is behind come first.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hubmodels.scenes import shapes
from hubmodels.scenes.world import BACKGROUNDS, CANVAS, COLORS, MAX_INSTANCES, Scene

RESOLUTIONS = range(32, 513)
OUTLINE_SHADE = 0.45
"""An outline is its colour times this."""


@dataclass(frozen=True)
class Packed:
    """A batch of placed scenes as arrays. K = `MAX_INSTANCES`; absent instances have kind -1."""

    kind: Tensor
    """(B, K) int64, number of the sprite, in drawing order."""
    color: Tensor
    """(B, K) int64."""
    place: Tensor
    """(B, K, 2) int64, x and y in units."""
    name: Tensor
    """(B, K) uint8, 1 + the instance's number in the order of mention."""
    background: Tensor
    """(B,) int64."""

    def to(self, device: torch.device | str) -> "Packed":
        return Packed(*(getattr(self, field).to(device) for field in self.__dataclass_fields__))


def drawing_order(scene: Scene) -> list[int]:
    """Group indices back to front. Only contacts overlap, and each group is in one at most."""
    behind = {r.primary().target for r in scene.relations if r.primary().kind in ("in front of", "inside")}
    return sorted(range(len(scene.groups)), key=lambda index: index not in behind)


_COLOR = {name: number for number, name in enumerate(COLORS)}
_BACKGROUND = {name: number for number, name in enumerate(BACKGROUNDS)}


def pack(scenes: list[Scene]) -> Packed:
    """Placed scenes as arrays.

    Raises:
        ValueError: a scene has a group without places; `layout.place` gives it some.
    """
    kind, color, place, name, background = [], [], [], [], []
    for scene in scenes:
        if not scene.placed:
            raise ValueError("cannot draw a scene without places; pass it through layout.place first")
        starts = [sum(g.count for g in scene.groups[:i]) for i in range(len(scene.groups))]
        rows = [
            (shapes.KIND[group.shape, group.size], _COLOR[group.color], group.places[i], starts[index] + i + 1)
            for index in drawing_order(scene)
            for i, group in [(i, scene.groups[index]) for i in range(scene.groups[index].count)]
        ]
        rows += [(-1, 0, (0, 0), 0)] * (MAX_INSTANCES - len(rows))
        for column, value in zip((kind, color, place, name), zip(*rows, strict=True), strict=True):
            column.append(value)
        background.append(_BACKGROUND[scene.background])
    return Packed(
        torch.tensor(kind),
        torch.tensor(color),
        torch.tensor(place),
        torch.tensor(name, dtype=torch.uint8),
        torch.tensor(background),
    )


@lru_cache(maxsize=None)
def _tables(resolution: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sprites (kinds, W*W) of fill and outline coverage, palette (2, colours, 3), backgrounds (N, 3, R, R)."""
    whole, fill = (torch.from_numpy(s).flatten(1) for s in shapes.sprites(resolution))
    fills = torch.tensor(list(COLORS.values()), dtype=torch.float32)
    palette = torch.stack([fills, (fills * OUTLINE_SHADE).round()])
    papers = torch.stack([_paper(name, resolution) for name in BACKGROUNDS])[:, None].expand(-1, 3, -1, -1)
    return whole.to(device), fill.to(device), palette.to(device), papers.contiguous().to(device)


def _paper(name: str, resolution: int) -> Tensor:
    """A background as grey levels (R, R) in [0, 255]; patterns repeat every 8 units."""
    units = (torch.arange(resolution) + 0.5) * (CANVAS / resolution)
    y, x = torch.meshgrid(units, units, indexing="ij")
    if name in ("white", "gray", "black"):
        return torch.full_like(x, {"white": 255.0, "gray": 150.0, "black": 20.0}[name])
    if name == "striped":
        return torch.where(x % 8 < 4, 255.0, 215.0)
    if name == "checkered":
        return torch.where((x % 8 < 4) ^ (y % 8 < 4), 255.0, 215.0)
    if name == "dotted":
        return torch.where((x % 8 - 4) ** 2 + (y % 8 - 4) ** 2 < 2.25, 190.0, 255.0)
    return 255.0 - 115.0 * y / CANVAS  # shaded: light above, darker below


def draw(packed: Packed, resolution: int = CANVAS) -> tuple[Tensor, Tensor]:
    """Pictures and instance ids of a packed batch, on its device.

    Returns:
        (B, 3, R, R) uint8 sRGB, and (B, R, R) uint8: 0 for background, else the number of the topmost instance
        (1 for the first mentioned) that covers at least half of the pixel.

    Raises:
        ValueError: the resolution is outside `RESOLUTIONS`.
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"resolution must be from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}, got {resolution}")
    device = packed.kind.device
    whole, fill, palette, papers = _tables(resolution, device)
    width = int(whole.shape[1] ** 0.5)
    side = resolution + 2 * width  # a border as wide as a sprite, so that none is ever cut by the index arithmetic
    count = len(packed.background)
    canvas = torch.empty(count, 3, side, side, device=device)
    canvas[..., width:-width, width:-width] = papers[packed.background]
    ids = torch.zeros(count, side, side, dtype=torch.uint8, device=device)
    flat_canvas, flat_ids = canvas.view(-1), ids.view(-1)
    corner = ((packed.place + 0.5) * (resolution / CANVAS) - width / 2).round().long() + width
    window = torch.arange(width, device=device)
    window = (window[:, None] * side + window).flatten()
    channel = torch.arange(3, device=device)[:, None] * (side * side)
    for k in range(packed.kind.shape[1]):
        (which,) = (packed.kind[:, k] >= 0).nonzero(as_tuple=True)
        if len(which) == 0:
            break
        kind, color = packed.kind[which, k], packed.color[which, k]
        start = corner[which, k, 1] * side + corner[which, k, 0]
        covered, filled = whole[kind], fill[kind]
        at = (which * (3 * side * side) + start)[:, None, None] + channel + window
        paint = palette[0][color][..., None] * filled[:, None]
        paint += palette[1][color][..., None] * (covered - filled)[:, None]
        flat_canvas[at] = flat_canvas[at] * (1 - covered)[:, None] + paint
        at = (which * (side * side) + start)[:, None] + window
        flat_ids[at] = torch.where(covered >= 0.5, packed.name[which, k][:, None], flat_ids[at])
    inner = (..., slice(width, -width), slice(width, -width))
    return canvas[inner].round().to(torch.uint8), ids[inner].contiguous()


def render(scenes: list[Scene], resolution: int = CANVAS, device: torch.device | str = "cpu") -> Tensor:
    """Pictures (B, 3, R, R) uint8 sRGB of placed scenes."""
    return draw(pack(scenes).to(device), resolution)[0]


def masks(scenes: list[Scene], resolution: int = CANVAS, device: torch.device | str = "cpu") -> Tensor:
    """Instance ids (B, R, R) uint8 of placed scenes: 0 is background, 1 the first thing mentioned."""
    return draw(pack(scenes).to(device), resolution)[1]
