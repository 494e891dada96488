"""What the renderer teaches: batches of caption tokens, pictures and foreground, drawn on the fly or read back.

Batch: tokens (B, T) int64 padded with 0, picture (B, 3, R, R) uint8 sRGB, foreground (B, R, R) bool.
"""

import random
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hubmodels.distill.model import tokenize
from hubmodels.scenes import Scene, caption, parse, place, sample
from hubmodels.scenes.renderer import draw, pack
from hubmodels.scenes.splits import held_out, split

Batch = dict[str, Tensor]


def scene_of(row: int, seed: int, name: str = "train") -> Scene:
    """The placed scene of a row that is rendered on the fly: a pure function, always in the split `name`."""
    rng = random.Random(f"distill {seed} {row}")
    while True:
        scene = sample(rng)
        # the compositional hold-outs are cheap to see and most of what is turned away
        claimed = held_out(scene)
        if (claimed == name) if claimed or name.startswith("test_") else (split(scene) == name):
            return place(scene, rng.randrange(2**31))


class Rendered(Dataset):
    """Scenes of one split, made when they are asked for. Row i is a pure function of (seed, i)."""

    def __init__(self, rows: int, seed: int, name: str = "train") -> None:
        self.rows, self.seed, self.name = rows, seed, name

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Scene:
        return scene_of(row, self.seed, self.name)


class Stored(Dataset):
    """A split of a built data set. Its scenes are drawn again from their captions: the bytes are the same."""

    def __init__(self, data: str, name: str = "train") -> None:
        self.captions = opened(data, name)["placed_caption"]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, row: int) -> Scene:
        return parse(self.captions[row])


def opened(data: str, split: str | None = None) -> Any:
    """The `scenes` table of a built data set, a folder or a Hub id: one split of it, or all by name.

    Raises:
        FileNotFoundError: there is no such data set, table or split.
    """
    from datasets import load_dataset

    try:
        return load_dataset(data, "scenes", split=split)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{data} has no {split or 'scenes'} scenes to read ({error}): build them with "
            f"python -m datasets_builders.scenes --out {data}"
        ) from error


def collate(scenes: list[Scene], resolution: int) -> Batch:
    """Draw a batch."""
    pictures, instances = draw(pack(scenes), resolution)
    tokens = tokenize([caption(scene) for scene in scenes])
    return {"tokens": tokens, "picture": pictures, "foreground": instances > 0}


def loader(
    data: str, rows: int, seed: int, batch: int, resolution: int, workers: int, name: str = "train"
) -> DataLoader:
    """Batches of a split: of the data set at `data` (a folder or a Hub id), or rendered on the fly if it is empty."""
    rendered = Rendered(rows, seed, name) if not data else Stored(str(Path(data)), name)
    together = partial(collate, resolution=resolution)
    return DataLoader(rendered, batch, shuffle=True, collate_fn=together, num_workers=workers, drop_last=True)
