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
from hubmodels.scenes.world import BACKGROUNDS, CANVAS, COLORS, MAX_INSTANCES, SHAPES, SIZES, Scene

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
    background = torch.tensor([_BACKGROUND[scene.background] for scene in scenes], dtype=torch.int64)
    kinds, colors, places, names = map(torch.from_numpy, (kind, color, place, name))
    return Packed(kinds, colors, places, names, background)


@dataclass(frozen=True)
class _Sprites:
    """The pixels that each kind covers at one resolution, end to end; N of them in all.

    A pixel has four channels, red, green, blue and the instance's number, so that it moves as one 32-bit word. To
    draw is to replace `old` by `old * keep + paint`: sums of 1/64ths, exact in floats, hence the same on any device.
    """

    first: Tensor
    """(kinds,) where a kind's pixels begin."""
    count: Tensor
    """(kinds,) how many it has."""
    width: Tensor
    """(kinds,) side of the window that they lie in."""
    offset: Tensor
    """(N,) distance in words of a pixel from its window's corner."""
    keep: Tensor
    """(N, 4) share of what is behind that stays."""
    paint: Tensor
    """(colours * N, 4) colour times coverage in [0, 255], and whether at least half of the pixel is covered."""
    papers: Tensor
    """(backgrounds, S * S) words: canvases with nothing on them, S pixels a side."""
    border: int
    """Sprites reach over the picture's edge, though what they cover does not; S is R + 2 * border."""


@cache
def _sprites(resolution: int, device: torch.device) -> _Sprites:
    drawn = {size: shapes.sprites(size, resolution) for size in SIZES}
    border = max(len(whole[0]) for whole, _ in drawn.values()) // 2 + 1
    side = resolution + 2 * border
    offsets, wholes, fills, widths = [], [], [], []
    for shape, size in shapes.KINDS:
        whole, fill = (sprite[SHAPES.index(shape)] for sprite in drawn[size])
        y, x = whole.nonzero()
        offsets.append(torch.from_numpy(y * side + x))
        wholes.append(torch.from_numpy(whole[y, x]))
        fills.append(torch.from_numpy(fill[y, x]))
        widths.append(len(whole))
    count = torch.tensor([len(one) for one in offsets])
    whole, fill = torch.cat(wholes)[:, None], torch.cat(fills)[:, None]
    top = (whole >= 0.5).float()
    inks = torch.tensor(list(COLORS.values()), dtype=torch.float32)[:, None]
    ink = inks * fill + (inks * OUTLINE_SHADE).round() * (whole - fill)
    sheets = torch.zeros(len(BACKGROUNDS), side, side, 4, dtype=torch.uint8)
    inner = slice(border, border + resolution)
    for sheet, name in zip(sheets, BACKGROUNDS, strict=True):
        sheet[inner, inner, :3] = paper(name, resolution).round().to(torch.uint8)[..., None]
    return _Sprites(
        first=(count.cumsum(0) - count).to(device),
        count=count.to(device),
        width=torch.tensor(widths, device=device),
        offset=torch.cat(offsets).to(device),
        keep=torch.cat([1 - whole.expand(-1, 3), 1 - top], 1).to(device),
        paint=torch.cat([ink, top.expand(len(inks), -1, -1)], 2).flatten(0, 1).to(device),
        papers=sheets.flatten(1).view(torch.int32).to(device),
        border=border,
    )


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
    sprites = _sprites(resolution, packed.kind.device)
    side = resolution + 2 * sprites.border
    canvas = sprites.papers.index_select(0, packed.background)
    words = canvas.view(-1)
    for k in range(packed.kind.shape[1]):
        (row,) = (packed.kind[:, k] >= 0).nonzero(as_tuple=True)
        kind, color = packed.kind[row, k], packed.color[row, k]
        centre = (packed.place[row, k] + 0.5) * (resolution / CANVAS)
        x, y = ((centre - sprites.width[kind, None] / 2).round().long() + sprites.border).unbind(1)
        # the covered pixels of the whole batch, one after the other: whose it is, and which of the sprites'
        count = sprites.count[kind]
        owner = torch.arange(len(row), device=row.device).repeat_interleave(count)
        pixel = torch.arange(len(owner), device=row.device) + (sprites.first[kind] - count.cumsum(0) + count)[owner]
        at = ((row * side + y) * side + x)[owner] + sprites.offset[pixel]
        paint = sprites.paint.index_select(0, (color * len(sprites.offset))[owner] + pixel)
        paint[:, 3] *= packed.name[row, k][owner]
        behind = words.index_select(0, at)[:, None].view(torch.uint8).float()
        drawn = torch.addcmul(paint, behind, sprites.keep.index_select(0, pixel)).round_().to(torch.uint8)
        words[at] = drawn.view(torch.int32)[:, 0]
    inner = slice(sprites.border, sprites.border + resolution)
    planes = canvas.view(torch.uint8).view(-1, side, side, 4)[:, inner, inner].permute(0, 3, 1, 2)
    return planes[:, :3].contiguous(), planes[:, 3].contiguous()


def render(scenes: list[Scene], resolution: int = CANVAS, device: torch.device | str = "cpu") -> Tensor:
    """Pictures (B, 3, R, R) uint8 sRGB of placed scenes."""
    return draw(pack(scenes).to(device), resolution)[0]


def masks(scenes: list[Scene], resolution: int = CANVAS, device: torch.device | str = "cpu") -> Tensor:
    """Instance ids (B, R, R) uint8 of placed scenes: 0 is background, 1 the first thing mentioned."""
    return draw(pack(scenes).to(device), resolution)[1]
