"""Batches for `pixelscene`: crops for the tokenizer, whole pictures as tokens for the transformer.

Crops: indices (B, S, S) uint8 and palette (B, SHOWN, 3) OKLab. A palette of fewer colours is filled up with its first.
Told: palette (B, P) and tokens (B, h, w), -1 where a picture is lower than others; words and told
(B, T), as of `text.encoded`.
"""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset as Table
from datasets import concatenate_datasets, load_dataset
from numpy import ndarray as Array
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from hubmodels.images import save
from hubmodels.pixelscene.palettes import oklab, reduced
from hubmodels.pixelscene.shape import PixelTransformerConfig
from hubmodels.pixelscene.text import encoded
from hubmodels.pixelscene.transformer import colour_tokens, nearest_shades, thumbnail, token_colours
from hubmodels.pixelscene.vqgan import PixelVQGAN

Batch = dict[str, Tensor]
COLUMNS = ("image", "palette", "caption", "place", "time", "weather", "objects", "source", "license")
LEAST = 1024
"""Crops of an epoch: few pictures are cropped several times, so that they make batches of any size."""
FEWER = (64, 32, 16)
SHOWN = 128
"""Colours of a crop's palette. What a pixel costs grows with them, and few crops of a picture use more."""


def opened(data: tuple[str, ...], split: str) -> Table:
    """The rows of one split of built data sets, folders or names on the Hub, one after the other; of small ones that
    have no such split, none.

    Raises:
        FileNotFoundError: one is not there or is something else, or none has a row of this split.
    """
    tables = []
    for one in data:
        try:
            found = load_dataset(one)
            tables += [found[split].select_columns(list(COLUMNS))] if split in found else []
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"{one} has no pictures to read ({error}): build them with "
                f"python -m datasets_builders.pixelscene --out {one}"
            ) from error
    if not tables:
        raise FileNotFoundError(f"{', '.join(data) or 'no data set'} has no {split} pictures")
    return concatenate_datasets(tables)


def held_back(data: tuple[str, ...], most: int) -> tuple[Table, str]:
    """Validation pictures, evenly out of all of them, since the sets stand one after the other; and their split, which
    is train where too few pictures are there for another."""
    try:
        table, split = opened(data, "validation"), "validation"
    except FileNotFoundError:
        table, split = opened(data, "train"), "train"
    rows = np.linspace(0, len(table) - 1, min(most, len(table))).round().astype(int)
    return table.select(rows), split


def read(row: dict[str, Any]) -> tuple[Array, Array]:
    """Indices (H, W) uint8 and palette (K, 3) uint8 of a row.

    Raises:
        ValueError: its picture is not one of indices.
    """
    image: Image.Image = row["image"]
    if image.mode != "P":
        raise ValueError(f"a picture of {row['caption']!r} is {image.mode}, not an index picture: build the data anew")
    return np.asarray(image, np.uint8), np.array(row["palette"], np.uint8)


def cropped(indices: Array, stride: int) -> Array:
    """The middle of a picture (H, W), as much of it as the stride divides."""
    rows, columns = ((side % stride, side - side % stride) for side in indices.shape)
    top, left = rows[0] // 2, columns[0] // 2
    return indices[top : top + rows[1], left : left + columns[1]]


class Crops(Dataset):
    """Squares out of pictures, with their palettes; where, and what is done to them, is drawn from torch's generator,
    which a run seeds for each batch."""

    def __init__(self, table: Table, size: int, stride: int, varied: bool = True) -> None:
        """
        Args:
            table: of `opened`.
            size: side of a crop; pictures that are smaller are an error.
            stride: they begin at its multiples, as tokens do: a dither lies in each token as it does in whole pictures.
            varied: whether some are turned in hue or brought to fewer colours.
        """
        self.table, self.size, self.stride, self.varied = table, size, stride, varied

    def __len__(self) -> int:
        return len(self.table) * max(1, -(-LEAST // len(self.table)))

    def __getitem__(self, number: int) -> Batch:
        row = self.table[number % len(self.table)]
        indices, palette = read(row)
        if min(indices.shape) < self.size:
            raise ValueError(f"the picture of {row['caption']!r} is smaller than a crop of {self.size}")
        steps = ((side - self.size) // self.stride + 1 for side in indices.shape)
        down, across = (self.stride * int(torch.randint(count, ())) for count in steps)
        crop = indices[down : down + self.size, across : across + self.size]
        few = self.varied and torch.rand(()) < 0.2
        most = FEWER[int(torch.randint(len(FEWER), ()))] if few else SHOWN
        if len(np.unique(crop)) > most:
            crop, palette = reduced(crop, palette, most)
        crop, colours = shown(crop, palette)
        if self.varied and torch.rand(()) < 0.1:
            colours = turned(colours)
        return {"indices": crop, "palette": colours}


def shown(crop: Array, palette: Array) -> tuple[Tensor, Tensor]:
    """A crop (S, S) of at most SHOWN colours, and a palette (SHOWN, 3) OKLab: all that it uses, and half of the time as
    many more as there is room for, else some. Without them a network learns to take colours just for being there."""
    used, which = np.unique(crop, return_inverse=True)
    others = torch.from_numpy(np.setdiff1d(np.arange(len(palette)), used))
    room = SHOWN - len(used)
    count = room if torch.rand(()) < 0.5 else int(torch.randint(room + 1, ()))
    more = others[torch.randperm(len(others))][:count]
    lab = torch.from_numpy(oklab(palette[np.concatenate([used, more])])).float()
    filled = torch.cat([lab, lab[:1].expand(SHOWN - len(lab), -1)])
    return torch.from_numpy(which.reshape(crop.shape).astype(np.uint8)), filled


def turned(palette: Tensor) -> Tensor:
    """OKLab colours (K, 3), all turned in hue by the same angle, and with more or less of it."""
    angle = float(torch.rand(())) * 2 * torch.pi
    chroma = 0.4 + 0.8 * float(torch.rand(()))
    lightness, red, yellow = palette.unbind(-1)
    cos, sin = np.cos(angle) * chroma, np.sin(angle) * chroma
    return torch.stack([lightness, cos * red - sin * yellow, sin * red + cos * yellow], -1)


# --- told ---------------------------------------------------------------------------------------------------------

NO_TOKEN = -1
FORMAT = 2
"""Of files with tokens: 2 has thumbnails."""


def tokenized(table: Table, tokenizer: PixelVQGAN, colours: int, file: Path) -> tuple[Tensor, Tensor]:
    """Tokens of palettes (N, P), and thumbnails and tokens of pictures (N, 2, h, w), of all rows, int32; made once and
    kept in a file.

    A picture is brought to so many colours first, each of them one of the `shades`: what the transformer can say.

    Raises:
        ValueError: the file is of other pictures or of another tokenizer.
    """
    digest = blake2b(f"{tokenizer.meaning()} {colours} {FORMAT}".encode(), digest_size=16)
    for row in table:
        for part in read(row):  # pyright: ignore[reportArgumentType]
            digest.update(part.tobytes())
    made_of = {"made_of": digest.hexdigest()}
    if not file.exists():
        numbers = tqdm(range(len(table)), "tokens", unit="picture", leave=False)
        rows = [_tokens(table[number], tokenizer, colours) for number in numbers]
        height, width = (max(tokens.shape[axis] for _, tokens in rows) for axis in (1, 2))
        room = [(0, width - tokens.shape[2], 0, height - tokens.shape[1]) for _, tokens in rows]
        pictures = [F.pad(tokens, pad, value=NO_TOKEN) for (_, tokens), pad in zip(rows, room, strict=True)]
        tensors = {"palette": torch.stack([palette for palette, _ in rows]), "tokens": torch.stack(pictures)}
        save(file, serialize({name: one.int() for name, one in tensors.items()}, made_of))
    with safe_open(file, "pt") as stored:
        if stored.metadata() != made_of:
            raise ValueError(f"{file} holds tokens of other pictures or of another tokenizer: remove it")
        return stored.get_tensor("palette"), stored.get_tensor("tokens")


def _tokens(row: dict[str, Any], tokenizer: PixelVQGAN, colours: int) -> tuple[Tensor, Tensor]:
    indices, palette = reduced(*read(row), colours)
    shades = nearest_shades(torch.from_numpy(palette))
    lab = torch.from_numpy(oklab(token_colours(shades).numpy())).float()[None]
    device = next(tokenizer.parameters()).device
    cut, known = cropped(indices, tokenizer.config.stride).copy(), colour_tokens(torch.from_numpy(palette), colours)
    tokens = tokenizer.encode(torch.from_numpy(cut)[None].to(device), lab.to(device))[0].cpu()
    return known, torch.stack([thumbnail(cut, palette, known, tokenizer.config.stride), tokens])


class Told(Dataset):
    """Tokens of pictures and their captions."""

    def __init__(self, captions: Sequence[str], palette: Tensor, tokens: Tensor) -> None:
        self.captions, self.palette, self.tokens = list(captions), palette, tokens

    def __len__(self) -> int:
        return len(self.captions) * max(1, -(-LEAST // len(self.captions)))

    def __getitem__(self, number: int) -> tuple[str, Tensor, Tensor]:
        row = number % len(self.captions)
        return self.captions[row], self.palette[row].long(), self.tokens[row].long()


def together(rows: list[tuple[str, Tensor, Tensor]], config: PixelTransformerConfig) -> Batch:
    """A batch of `Told`: palette (B, P), tokens (B, planes, h, w) and words."""
    captions, palettes, tokens = zip(*rows, strict=True)
    words, told = encoded(captions, config)
    planes = torch.stack(tokens)[:, -config.planes :]
    return {"palette": torch.stack(palettes), "tokens": planes, "words": words, "told": told}
