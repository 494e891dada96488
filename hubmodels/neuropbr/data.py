"""Batches for `neuropbr`: materials made up on the spot and photographed, rectified, cut into crops.

Batch: views (B, N, 3, S, S) sRGB in the texture's frame, seen (B, N, 1, S, S), and the maps (B, C, S, S).

Which split a procedural material belongs to is decided by its number alone, for ever.
"""

from hashlib import blake2b

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hubmodels.neuropbr.cameras import rectify
from hubmodels.neuropbr.capture import capture
from hubmodels.neuropbr.model import Maps
from hubmodels.neuropbr.photos import dirt
from hubmodels.neuropbr.procedural import make

Batch = dict[str, Tensor]
MAPS = ("albedo", "roughness", "metallic", "normal")
SCALES = (1, 2, 3, 4)
"""How many crops wide a texture may be: details come large and small."""
VALIDATION, TEST = 0.05, 0.1
"""Shares of the numbers."""


def split(number: int) -> str:
    """train, validation or test: a material's, by its number."""
    drawn = int.from_bytes(blake2b(f"neuropbr {number}".encode(), digest_size=8).digest()) / 2**64
    return "test" if drawn < TEST else "validation" if drawn < TEST + VALIDATION else "train"


def numbers(name: str, start: int = 0):
    """The numbers of a split, from the first."""
    number = start
    while True:
        if split(number) == name:
            yield number
        number += 1


class Photographed(Dataset):
    """Crops of procedural materials of one split with photos of them. Row i is a pure function of (seed, i)."""

    def __init__(self, rows: int, seed: int, size: int, views: int, dirty: float, name: str = "train") -> None:
        self.rows, self.seed, self.size, self.views, self.dirty, self.name = rows, seed, size, views, dirty, name

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Batch:
        draw = torch.Generator().manual_seed(self.seed * 2_000_003 + row)
        number = int(torch.randint(2**40, (), generator=draw))
        while split(number) != self.name:
            number += 1
        scale = SCALES[int(torch.randint(len(SCALES), (), generator=draw))]
        maps = cropped(make(number, self.size * scale).maps, self.size, draw)
        return photographed(maps, self.views, self.dirty, draw)


def cropped(maps: Maps, size: int, draw: torch.Generator) -> Maps:
    """A square out of maps (C, H, W) that tile, from anywhere."""
    height, width = maps["albedo"].shape[-2:]
    down, across = (int(torch.randint(side, (), generator=draw)) for side in (height, width))
    return {name: maps[name].roll((-down, -across), (-2, -1))[:, :size, :size] for name in MAPS}


def photographed(maps: Maps, views: int, dirty: float, draw: torch.Generator) -> Batch:
    """Photos of maps (C, S, S), already in the texture's frame, as many as `views` or some fewer, and the maps.

    Photos that are not there count as not seen. One in `dirty` materials is photographed dirty.
    """
    size = maps["albedo"].shape[-1]
    seed, count = int(torch.randint(2**40, (), generator=draw)), int(torch.randint(1, views + 1, (), generator=draw))
    soil = dirt(draw) if torch.rand((), generator=draw) < dirty else None
    shots = capture(maps, seed, count, round(size * 1.5), soil, supersample=1)
    matrices = torch.stack([shot.homography for shot in shots])
    flat, seen = rectify(torch.stack([shot.photo for shot in shots]), matrices, size, size)
    missing = (0, 0, 0, 0, 0, 0, 0, views - count)
    padded = (torch.nn.functional.pad(part, missing) for part in (flat, seen.float()))
    return dict(zip(("views", "seen"), padded, strict=True)) | {name: maps[name] for name in MAPS}
