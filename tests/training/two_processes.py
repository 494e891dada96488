"""What `test_processes.py` has torchrun do in two processes; ends by writing `done`.

The exit code of torchrun means nothing on CPUs: now and then an interpreter aborts after all work is done.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import toy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hubmodels.training import checkpoint, load_config, resumed
from hubmodels.training.ema import EMA


def train(out: Path) -> None:
    """The settings that the test wrote into the folder; half the rows of its one process on each of ours."""
    config = load_config(toy.Config, out)
    toy.main(replace(config, run=replace(config.run, processes=2)))


def stopped_and_resumed(out: Path) -> None:
    """Rank 0 alone gets a SIGTERM; both must save the same step, exit with 0, and go on."""
    os.environ |= {"TOY_SIGNAL": "SIGTERM", "TOY_SIGNAL_AT": "2"}
    try:
        train(out)
    except SystemExit as stop:
        assert stop.code == 0
    assert checkpoint.steps_in(out / "checkpoints") == [2]
    del os.environ["TOY_SIGNAL_AT"]
    toy.main(resumed(toy.Config(resume=str(out))))


def sharded() -> dict[str, bool]:
    """A sharded network, its optimizer and its average through whole tensors and back, bit for bit."""
    mesh = init_device_mesh("cpu", (2,))

    def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, EMA]:
        torch.manual_seed(seed)
        network: Any = fully_shard(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)), mesh=mesh)
        optimizer, average = torch.optim.AdamW(network.parameters(), 0.01), EMA(network, 0.9)
        for _ in range(3):
            network(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update(network)
        return network, optimizer, average

    def contents(network: nn.Module, optimizer: torch.optim.Optimizer, average: EMA) -> checkpoint.Tensors:
        state, _ = checkpoint.optimizer_state(optimizer)
        own = {f"own.{name}": value for name, value in checkpoint.weights(network).items()}
        mean = {f"mean.{name}": value for name, value in checkpoint.whole(average.weights).items()}
        return own | mean | state

    first, second = make(seed=1), make(seed=2)
    wanted, before = contents(*first), contents(*second)
    tensors, rest = checkpoint.optimizer_state(first[1])
    checkpoint.load_weights(second[0], checkpoint.weights(first[0]), Path("memory"))
    checkpoint.load_optimizer(second[1], tensors, json.loads(json.dumps(rest)), Path("memory"))
    second[2].load(checkpoint.whole(first[2].weights), first[2].updates)
    after = contents(*second)
    with first[2].swapped(first[0]):
        swapped = checkpoint.weights(first[0])
    return {
        "whole": wanted["own.0.weight"].shape == (5, 4) and wanted["0.exp_avg"].shape == (5, 4),
        "differed": not torch.equal(wanted["own.0.weight"], before["own.0.weight"]),
        "equal": all(torch.equal(wanted[name], after[name]) for name in wanted),
        "swapped": all(torch.equal(swapped[name], wanted[f"mean.{name}"]) for name in swapped),
        "restored": torch.equal(checkpoint.weights(first[0])["0.weight"], wanted["own.0.weight"]),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    train(folder / "parity")
    train(folder / "straight")
    stopped_and_resumed(folder / "stopped")
    result = sharded()
    torch.distributed.barrier()
    if os.environ["RANK"] == "0":
        (folder / "done").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()
    os._exit(0)
