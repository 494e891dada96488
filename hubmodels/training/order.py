"""The order in which a run sees its data: a pure function of (seed, position).

position: micro-batches drawn since the run began. Each is the next slice of its epoch's shuffle, dealt to the
ranks in turn, so a resumed run jumps to its place without reading what came before, and two processes see
together what one would see with twice the batch. The last rows, too few for a batch, wait for another epoch.
"""

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, SequentialSampler

from .stop import Stop


def sow(*key: int) -> None:
    """Seed torch (all devices), numpy and python from a key, such as (seed, position, rank)."""
    words = [int(word) for word in np.random.SeedSequence(key).generate_state(3, np.uint32)]
    torch.manual_seed(words[0] << 32 | words[1])
    np.random.seed(words[2])
    random.seed(words[2])


class Order(Sampler[list[tuple[int, int]]]):
    """An endless batch sampler over (position, row), which starts wherever `position` is set to."""

    def __init__(self, loader: DataLoader, seed: int, rank: int, processes: int) -> None:
        self.rows, self.batch = len(loader.dataset), loader.batch_size or 1  # pyright: ignore[reportArgumentType]
        self.shuffle = not isinstance(loader.sampler, SequentialSampler)
        self.seed, self.rank, self.processes = seed, rank, processes
        self.position = 0
        if self.rows < self.batch * processes:
            raise Stop(
                f"the data has {self.rows} rows, too few for one batch of {self.batch} x {processes}: "
                "lower the batch size or build more rows"
            )

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batches = self.rows // (self.batch * self.processes)
        order, shuffled = range(self.rows), -1
        for position in count(self.position):
            epoch, turn = divmod(position, batches)
            if self.shuffle and epoch != shuffled:
                order, shuffled = np.random.default_rng((self.seed, epoch)).permutation(self.rows), epoch
            first = (turn * self.processes + self.rank) * self.batch
            yield [(position, int(row)) for row in order[first : first + self.batch]]


class Seeded(Dataset):
    """Rows drawn under a seed of their own batch, so augmentation is the same for any number of workers."""

    def __init__(self, dataset: Dataset, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __getitems__(self, keys: list[tuple[int, int]]) -> Any:
        sow(self.seed, keys[0][0], self.rank, 1)
        rows = [row for _, row in keys]
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(rows)  # pyright: ignore[reportAttributeAccessIssue]
        return [self.dataset[row] for row in rows]


def ordered(loader: DataLoader, seed: int, rank: int, processes: int) -> DataLoader:
    """The same rows, batch size, collation and workers as `loader`, endless and in the run's own order."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        raise Stop(
            f"{type(loader.dataset).__name__} is a stream or batched by hand, but a resumed run has to jump "
            "to its place: give a map-style dataset and a batch size"
        )
    return DataLoader(
        Seeded(loader.dataset, seed, rank),
        batch_sampler=Order(loader, seed, rank, processes),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
    )
