"""Scenes to pictures: anti-aliased, batched, any resolution, on any torch device; a pure function.

    placed scenes --pack--> arrays (B, K) --draw--> pictures (B, 3, R, R) uint8 sRGB, instance ids (B, R, R) uint8

K instances at most; R pixels a side. Things are drawn back to front: containers and what is behind come first.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hubmodels.scenes import shapes
from hubmodels.scenes.world import BACKGROUNDS, CANVAS, COLORS, MAX_INSTANCES, SIZES, Scene

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
    order = list(range(len(scene.groups)))
    for relation in scene.relations:
        fact = relation.primary()
        if fact.kind in ("in front of", "inside") and order.index(fact.source) < order.index(fact.target):
            order.remove(fact.source)
            order.append(fact.source)
    return order


_COLOR = {name: number for number, name in enumerate(COLORS)}
_BACKGROUND = {name: number for number, name in enumerate(BACKGROUNDS)}


def pack(scenes: list[Scene]) -> Packed:
    """Placed scenes as arrays.

    Raises:
        ValueError: a scene has a group without places; `layout.place` gives it some.
    """
    kind = np.full((len(scenes), MAX_INSTANCES), -1)
    color, name = np.zeros_like(kind), np.zeros_like(kind, dtype=np.uint8)
    place = np.zeros((len(scenes), MAX_INSTANCES, 2), np.int64)
    for row, scene in enumerate(scenes):
        if not scene.placed:
            raise ValueError("cannot draw a scene without places; pass it through layout.place first")
        first, numbers = 1, []
        for group in scene.groups:
            numbers.append(first)
            first += group.count
        k = 0
        for index in drawing_order(scene):
            group = scene.groups[index]
            for i, where in enumerate(group.places):
                kind[row, k] = shapes.KIND[group.shape, group.size]
                color[row, k] = _COLOR[group.color]
                place[row, k] = where
                name[row, k] = numbers[index] + i
                k += 1
    background = torch.tensor([_BACKGROUND[scene.background] for scene in scenes])
    kinds, colors, places, names = map(torch.from_numpy, (kind, color, place, name))
    return Packed(kinds, colors, places, names, background)


@cache
def _sprites(resolution: int, size: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Coverage of outline-and-fill and of fill alone, (shapes, W, W), for the shapes of one size."""
    whole, fill = shapes.sprites(size, resolution)
    return torch.from_numpy(whole).to(device), torch.from_numpy(fill).to(device)


@cache
def _colors(resolution: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Palette (2, colours, 3) of fills and outlines, and backgrounds (N, R, R, 3), in [0, 255]."""
    fills = torch.tensor(list(COLORS.values()), dtype=torch.float32)
    palette = torch.stack([fills, (fills * OUTLINE_SHADE).round()])
    papers = torch.stack([paper(name, resolution) for name in BACKGROUNDS])[..., None].expand(-1, -1, -1, 3)
    return palette.to(device), papers.round().to(torch.uint8).contiguous().to(device)


def paper(name: str, resolution: int) -> Tensor:
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
    palette, papers = _colors(resolution, device)
    border = max(len(_sprites(resolution, size, device)[0][0]) for size in SIZES) // 2 + 1
    side = resolution + 2 * border  # sprites reach over the edge, though what they cover does not
    inner = slice(border, border + resolution)
    canvas = torch.empty(len(packed.background), side, side, 3, dtype=torch.uint8, device=device)
    canvas[:, inner, inner] = papers[packed.background]
    ids = torch.zeros(len(packed.background), side, side, dtype=torch.uint8, device=device)
    pixels, names = canvas.view(-1, 3), ids.view(-1)
    for k in range(packed.kind.shape[1]):
        for number, size in enumerate(SIZES):
            (which,) = ((packed.kind[:, k] >= 0) & (packed.kind[:, k] % len(SIZES) == number)).nonzero(as_tuple=True)
            if len(which) == 0:
                continue
            whole, fill = _sprites(resolution, size, device)
            width = whole.shape[-1]
            corner = (packed.place[which, k] + 0.5) * (resolution / CANVAS) - width / 2
            corner = corner.round().long() + border
            window = torch.arange(width, device=device)
            window = (window[:, None] * side + window).flatten()
            at = ((which * side + corner[:, 1]) * side + corner[:, 0])[:, None] + window
            shape, color = packed.kind[which, k] // len(SIZES), packed.color[which, k]
            # one small table of premultiplied sprites, (colours, shapes, W*W, 3), serves the whole batch
            paint = _paint(resolution, size, device)[color, shape]
            covered = whole.flatten(1)[shape]
            pixels[at] = torch.addcmul(paint, pixels[at].float(), 1 - covered[..., None]).round().to(torch.uint8)
            names[at] = torch.where(covered >= 0.5, packed.name[which, k][:, None], names[at])
    pictures = canvas[:, inner, inner].permute(0, 3, 1, 2).contiguous()
    return pictures, ids[:, inner, inner].contiguous()


@cache
def _paint(resolution: int, size: str, device: torch.device) -> Tensor:
    """Colour times coverage, (colours, shapes, W*W, 3) in [0, 255]."""
    whole, fill = (sprite.flatten(1) for sprite in _sprites(resolution, size, device))
    palette, _ = _colors(resolution, device)
    fills, outlines = palette[:, :, None, None]
    return fills * fill[..., None] + outlines * (whole - fill)[..., None]


def render(scenes: list[Scene], resolution: int = CANVAS, device: torch.device | str = "cpu") -> Tensor:
    """Pictures (B, 3, R, R) uint8 sRGB of placed scenes."""
    return draw(pack(scenes).to(device), resolution)[0]


def masks(scenes: list[Scene], resolution: int = CANVAS, device: torch.device | str = "cpu") -> Tensor:
    """Instance ids (B, R, R) uint8 of placed scenes: 0 is background, 1 the first thing mentioned."""
    return draw(pack(scenes).to(device), resolution)[1]
