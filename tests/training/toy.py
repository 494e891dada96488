"""A script as small as a script gets, which the tests of the training services run for real.

It learns a sum, with dropout in the network and augmentation in the rows, so that every generator matters.
"""

import os
import random
import signal
from dataclasses import dataclass, field

import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from hubmodels.training import Run, RunConfig, resumed
from hubmodels.training.schedules import one_cycle


@dataclass(frozen=True)
class NetworkConfig:
    width: int = 8
    dropout: float = 0.5
    norm: bool = True


@dataclass(frozen=True)
class Config:
    resume: str = ""
    """Folder of a run to go on with."""
    rows: int = 20
    workers: int = 0
    noise: float = 0.1
    lr: float = 0.01
    network: NetworkConfig = field(default_factory=NetworkConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(steps=8, batch_size=4, save_every=3, log_every=1))


class Rows(Dataset):
    """Row i is a function of i, plus noise from all three generators."""

    def __init__(self, rows: int, noise: float) -> None:
        self.inputs = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))
        self.noise = noise

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(4) + float(np.random.rand()) + random.random()
        return self.inputs[index] + self.noise * noise, self.inputs[index].sum(0, keepdim=True)


class Network(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, config.width)
        self.norm = nn.BatchNorm1d(config.width) if config.norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.dropout(torch.relu(self.norm(self.hidden(inputs)))))

    def save_pretrained(self, folder: os.PathLike) -> None:
        os.makedirs(folder, exist_ok=True)
        save_file(self.state_dict(), os.path.join(folder, "model.safetensors"))


def die_in_fsync(countdown: int) -> None:
    """kill -9 in the middle of writing a checkpoint, before its n-th file is safe."""
    fsync, left = os.fsync, iter(range(countdown - 1, -1, -1))

    def fatal(handle: int) -> None:
        if not next(left):
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = fatal


def main(config: Config) -> None:
    run = Run(config.run, config)
    model = Network(config.network)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr)
    schedule = one_cycle(optimizer, steps=config.run.steps, warmup=3)
    rows = Rows(config.rows, config.noise)
    loader = DataLoader(rows, config.run.batch_size, shuffle=True, num_workers=config.workers)
    model, optimizer, schedule, loader = run.prepare(model, optimizer, schedule, loader)

    for inputs, targets in run.batches(loader):
        if run.step == int(os.environ.get("TOY_NAN_AT", -1)):
            inputs = inputs * float("nan")
        with run.accumulate(model):
            l2 = F.mse_loss(model(inputs), targets)
            l1 = F.l1_loss(model(inputs), targets)
            run.descend({"l2": l2, "l1": l1}, optimizer)
        run.log(loss=l1 + l2, l1=l1)
        if run.every(4):
            run.log_images("row", torch.linspace(0, 1, 48).view(3, 4, 4))
            run.score(-abs(run.step - float(os.environ.get("TOY_BEST_AT", config.run.steps))))
        if run.is_main and run.step == int(os.environ.get("TOY_SIGNAL_AT", -1)):
            os.kill(os.getpid(), signal.Signals[os.environ["TOY_SIGNAL"]])

    run.export(model)


if __name__ == "__main__":
    if "TOY_DIE_IN_FSYNC" in os.environ:
        die_in_fsync(int(os.environ["TOY_DIE_IN_FSYNC"]))
    main(resumed(tyro.cli(Config)))
