"""Batches for `neuropbr`: materials made up on the spot and photographed, rectified, cut into crops.

Batch: views (B, N, 3, S, S) sRGB in the texture's frame; seen (B, N, 1, S, S); toward (B, N, 3, S, S), unit vectors
from texels to cameras; light (B, N, 3), the `mean_direction` of that of each photo, 0 where it is not known; and the
maps (B, C, S, S).

Which split a procedural material belongs to is decided by its number alone, for ever.
"""

import json
from hashlib import blake2b
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from hubmodels.images import from_pil, linear_to_srgb, srgb_to_linear, to_unit
from hubmodels.neuropbr.cameras import STRAIGHT, centres, rectify, toward
from hubmodels.neuropbr.capture import Maps, capture
from hubmodels.neuropbr.lights import Lights, mean_direction
from hubmodels.neuropbr.photos import dirt
from hubmodels.neuropbr.procedural import make

Batch = dict[str, Tensor]
MAPS = ("albedo", "roughness", "metallic", "normal")
SCALES = (1, 2, 3, 4)
"""How many crops wide a texture may be: details come large and small."""
LAG = 48
"""Captures between two uses of one. Rows of a capture then fall to the same worker for most sizes of batches."""
TOGETHER = 24
"""Rows in turn that have equally many photos: a batch of them wastes no time on photos that are not there."""
SKY = 16
"""Lights of a made-up sky: less fine than in a built data set, and half the time."""
VALIDATION, TEST = 0.05, 0.1
"""Shares of the numbers."""


def split(number: int | str) -> str:
    """train, validation or test: a material's, by its number, or by its name if it was not made up here."""
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
    """Crops of procedural materials of one split with photos of them. Row i is a pure function of (seed, i).

    Photographing takes longer than learning from it, so each capture may serve `echo` rows (data echoing, Choi et al.
    2019, arXiv 1907.05550): other crops of it, turned, with other of its photos. Rows are to be read in order, since
    only so many captures are remembered; a batch then holds few that are alike.
    """

    def __init__(
        self, rows: int, seed: int, size: int, views: int, dirty: float, name: str = "train", echo: int = 1
    ) -> None:
        self.rows, self.seed, self.size, self.views, self.dirty, self.name = rows, seed, size, views, dirty, name
        self.echo = echo
        self._captures: dict[int, Batch] = {}

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Batch:
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        newest, turn = divmod(row, self.echo)
        number = newest - turn * LAG
        if number < 0:  # there is nothing older yet
            number = newest
        whole = self._captures.get(number) or self._capture(number)
        self._captures[number] = whole
        if len(self._captures) > self.echo * LAG:
            del self._captures[max(self._captures, key=lambda other: abs(other - newest))]
        if self.echo == 1:
            return whole
        count = int(torch.randint(1, self.views + 1, (), generator=_draw(self.seed + 2, row // TOGETHER)))
        return varied(whole, self.size, count, _draw(self.seed + 1, row))

    def _capture(self, number: int) -> Batch:
        """All that is random about capture `number`, with room for other crops if there are any."""
        draw = _draw(self.seed, number)
        size = self.size if self.echo == 1 else self.size * 3 // 2
        material = int(torch.randint(2**40, (), generator=draw))
        while split(material) != self.name:
            material += 1
        scale = SCALES[int(torch.randint(len(SCALES), (), generator=draw))]
        maps = cropped(make(material, self.size * scale).maps, size, draw)
        return photographed(maps, self.views, self.dirty, draw, at_least=1 if self.echo == 1 else self.views)


def _draw(seed: int, row: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 2_000_003 + row)


def varied(whole: Batch, size: int, count: int, draw: torch.Generator) -> Batch:
    """A crop of a batch row (..., H, W), turned and mirrored at random, with `count` of its photos in any order."""
    views = len(whole["views"])
    kept = torch.randperm(views, generator=draw)
    down, across = (int(torch.randint(room - size + 1, (), generator=draw)) for room in whole["albedo"].shape[-2:])
    quarters, mirrored = (int(torch.randint(n, (), generator=draw)) for n in (4, 2))
    part = {
        name: one if name == "light" else one[..., down : down + size, across : across + size]
        for name, one in whole.items()
    }
    part = turned(part, quarters, bool(mirrored))
    there = (torch.arange(views) < count).view(-1, 1, 1, 1)
    seen, light = part["seen"][kept] * there, part["light"][kept] * there[:, 0, 0]
    return part | {"views": part["views"][kept] * seen, "seen": seen, "toward": part["toward"][kept], "light": light}


def turned(part: Batch, quarters: int, mirrored: bool) -> Batch:
    """Square pictures (..., H, W) turned counterclockwise by quarters and then mirrored left to right; so are normals
    and the directions of cameras and light."""
    pictures = {name: one.rot90(quarters, (-2, -1)) for name, one in part.items() if name != "light"}
    if mirrored:
        pictures = {name: one.flip(-1) for name, one in pictures.items()}
    for name, axis in (("normal", -3), ("toward", -3), ("light", -1)):
        x, y, z = (part[name] if name == "light" else pictures[name]).unbind(axis)
        for _ in range(quarters % 4):
            x, y = -y, x
        pictures[name] = torch.stack([-x if mirrored else x, y, z], axis)
    return pictures


def cropped(maps: Maps, size: int, draw: torch.Generator) -> Maps:
    """A square out of maps (C, H, W) that tile, from anywhere, of any size."""
    height, width = maps["albedo"].shape[-2:]
    down, across = (int(torch.randint(side, (), generator=draw)) for side in (height, width))
    rows, columns = (torch.arange(start, start + size) % side for start, side in ((down, height), (across, width)))
    return {name: maps[name][:, rows[:, None], columns] for name in MAPS}


def photographed(maps: Maps, views: int, dirty: float, draw: torch.Generator, at_least: int = 1) -> Batch:
    """Photos of maps (C, S, S), already in the texture's frame, from `at_least` to `views` of them, and the maps.

    Photos that are not there count as not seen. One in `dirty` materials is photographed dirty.
    """
    size = maps["albedo"].shape[-1]
    seed = int(torch.randint(2**40, (), generator=draw))
    count = int(torch.randint(at_least, views + 1, (), generator=draw))
    soil = dirt(draw) if torch.rand((), generator=draw) < dirty else None
    shots = capture(maps, seed, count, round(size * 1.5), soil, supersample=1, sky=SKY)
    matrices = torch.stack([shot.homography for shot in shots])
    flat, seen = rectify(torch.stack([shot.photo for shot in shots]), matrices, size, size)
    light = torch.cat([mean_direction(shot.lights) for shot in shots])
    across = centres(size, matrices)
    return filled_up(flat, seen, toward(matrices, across, across), light, views) | {name: maps[name] for name in MAPS}


def filled_up(flat: Tensor, seen: Tensor, eyes: Tensor, light: Tensor, views: int) -> Batch:
    """Rectified photos (n, 3, S, S), where they see the surface, from where they do and whence they are lit, with black
    ones up to `views`."""
    parts = {"views": flat, "seen": seen.float(), "toward": eyes, "light": light}
    return {name: F.pad(one, (0, 0) * (one.ndim - 1) + (0, views - len(flat))) for name, one in parts.items()}


# --- built data sets --------------------------------------------------------------------------------------------

CONDITIONS = (("clean",), ("clean", "dirty"), ("dirty",))
"""Of the rows that a curriculum of 0, 1 or 2 takes."""


class Stored(Dataset):
    """Crops of a split of a built data set. Row i is a pure function of (seed, i): a crop of its i-th material, and
    from the beginning again.

    Photos with homographies are rectified; those without are taken whole, as they are, and so are their maps.
    """

    def __init__(
        self, data: str, rows: int, seed: int, size: int, views: int, curriculum: int = 1, name: str = "train"
    ) -> None:
        """
        Args:
            data: a folder that `datasets_builders.neuropbr` made, or a data set of the Hub.
            rows: how many; 0 is one for each material.
            size: side of the crops.
            views: the most photos of a row; there may be fewer.
            curriculum: 0 takes clean photos only, 1 all as they come, 2 dirty ones only.

        Raises:
            FileNotFoundError: there is no such data set or split, or no row of this curriculum.
            ValueError: the curriculum is none of the three.
        """
        if curriculum not in range(len(CONDITIONS)):
            raise ValueError(f"the curriculum is 0 (clean), 1 (all) or 2 (dirty), got {curriculum}")
        table = opened(data, name)
        wanted = CONDITIONS[curriculum]
        chosen = [row for row, condition in enumerate(table["condition"]) if condition in wanted]
        if not chosen:
            raise FileNotFoundError(f"{data} has no {wanted[0]} photos in {name}: take curriculum 1")
        self.table = table.select(chosen).select_columns(["views", "homography", "lights", *MAPS])
        self.rows, self.seed, self.size, self.views = rows or len(chosen), seed, size, views

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Batch:
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        draw = torch.Generator().manual_seed(self.seed * 2_000_003 + row)
        stored = self.table[row % len(self.table)]
        photos, matrices, maps = decoded(stored)
        light = torch.zeros(len(photos), 3) if stored["lights"] is None else directions(stored["lights"])
        count = int(torch.randint(1, min(self.views, len(photos)) + 1, (), generator=draw))
        chosen = torch.randperm(len(photos), generator=draw)[:count].tolist()
        side = min(maps["albedo"].shape[-2:])
        if matrices is None:
            flat = torch.stack([resized(photos[n], self.size) for n in chosen])
            part, seen, eyes = maps, torch.ones_like(flat[:, :1]), STRAIGHT.expand_as(flat)
        elif side < self.size:
            raise ValueError(f"maps of {side} pixels have no crops of {self.size}: build the data with a larger --size")
        else:
            wide = self.size * int(torch.randint(1, min(side // self.size, SCALES[-1]) + 1, (), generator=draw))
            part, window = cut_out(maps, wide, draw)
            # photos may be larger than what is asked of them
            fine = max(1, round(wide / self.size))
            pairs = [rectify(photos[n][None], matrices[n : n + 1] @ window, self.size, self.size, fine) for n in chosen]
            flat, seen = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            across, aspects = centres(self.size, flat), [photo.shape[1] / photo.shape[2] for photo in photos]
            eyes = torch.stack([toward(matrices[n] @ window, across, across, 1.0, aspects[n]) for n in chosen])
        return filled_up(flat, seen, eyes, light[chosen], self.views) | shrunk(part, self.size)


def opened(data: str, split: str) -> Any:
    """A split of a built data set, a folder or a Hub id.

    Raises:
        FileNotFoundError: there is no such data set or split.
    """
    from datasets import load_dataset

    try:
        table = load_dataset(data, split=split)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{data} has no {split} materials to read ({' '.join(str(error).split())}): build them with "
            f"python -m datasets_builders.neuropbr --out {data}"
        ) from error
    missing = {"condition", "views", "homography", "lights", *MAPS} - set(table.column_names)
    if missing:
        raise FileNotFoundError(f"{data} is no data set of materials: it has no {', '.join(sorted(missing))}")
    return table


def decoded(row: dict[str, Any]) -> tuple[list[Tensor], Tensor | None, Maps]:
    """Photos (3, h, w) in [0, 1], homographies (N, 3, 3) where they are known, and maps (C, H, W) of a stored row."""
    photos = [to_unit(from_pil(view)) for view in row["views"]]
    matrices = None if row["homography"] is None else torch.tensor(row["homography"])
    maps = {name: to_unit(from_pil(row[name]))[:channels] for name, channels in zip(MAPS, (3, 1, 1, 3), strict=True)}
    return photos, matrices, maps | {"normal": F.normalize(maps["normal"] * 2 - 1, dim=0)}


def directions(lights: str) -> Tensor:
    """(N, 3) from where the light of each photo comes, of the JSON that a row has of it."""
    kept = [{name: torch.tensor(one[name]) for name in ("position", "is_point", "color")} for one in json.loads(lights)]
    return torch.cat([mean_direction(Lights(**one)) for one in kept])


def cut_out(maps: Maps, side: int, draw: torch.Generator) -> tuple[Maps, Tensor]:
    """A square of maps (C, H, W), from anywhere within, and where it lies: (3, 3), from its own texture coordinates to
    those of the whole."""
    height, width = maps["albedo"].shape[-2:]
    top, left = (int(torch.randint(room - side + 1, (), generator=draw)) for room in (height, width))
    part = {name: maps[name][:, top : top + side, left : left + side] for name in MAPS}
    window = torch.diag(torch.tensor([side / width, side / height, 1.0]))
    window[:2, 2] = torch.tensor([(2 * left + side) / width - 1, (2 * top + side) / height - 1])
    return part, window


def shrunk(maps: Maps, size: int) -> Maps:
    """Maps (C, H, W) at (C, size, size): averaged, albedo as light, normals unit again."""
    smaller = {name: resized(maps[name], size) for name in ("roughness", "metallic", "normal")}
    albedo = linear_to_srgb(resized(srgb_to_linear(maps["albedo"]), size))
    return {"albedo": albedo, **smaller, "normal": F.normalize(smaller["normal"], dim=0)}


def resized(one: Tensor, size: int) -> Tensor:
    """(C, H, W) at (C, size, size)."""
    if one.shape[-2:] == (size, size):
        return one
    return F.interpolate(one[None], (size, size), mode="area" if min(one.shape[-2:]) >= size else "bilinear")[0]
