"""One toy script, run for real: what it writes, how it stops, and how it goes on."""

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hubmodels.training import Run, RunConfig, Stop, checkpoint, resumed
from hubmodels.training.ema import EMA
from hubmodels.training.schedules import one_cycle

from . import toy


def config(out: Path, **run: object) -> toy.Config:
    settings = RunConfig(out=str(out), steps=8, batch_size=4, save_every=3, log_every=1, trackers=())
    return toy.Config(run=replace(settings, **run))  # type: ignore


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def tensors(out: Path, step: int) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, by file and name."""
    files = sorted((out / "checkpoints" / f"step_{step:08d}").glob("*.safetensors"))
    return {f"{file.stem}/{name}": value for file in files for name, value in load_file(file).items()}


def assert_same_run(one: Path, other: Path, step: int) -> None:
    first, second = tensors(one, step), tensors(other, step)
    assert first.keys() == second.keys() and len(first) > 20
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    timing = {"images_per_second", "seconds"}
    lines = [[{k: v for k, v in line.items() if k not in timing} for line in log(out)] for out in (one, other)]
    assert lines[0] == lines[1]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps in one go; the others are compared with it and none may change it."""
    out = tmp_path_factory.mktemp("straight")
    toy.main(config(out, trackers=("tensorboard",)))
    return out


def test_a_run_leaves_what_it_should(straight: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert (straight / "command.txt").read_text() == shlex.join(sys.argv) + "\n"
    assert [line["step"] for line in log(straight)] == list(range(1, 9))
    assert all(line["loss"] > line["l1"] > 0 for line in log(straight))
    assert log(straight)[0]["lr"] == pytest.approx(0.01 / 25)
    assert max(line["lr"] for line in log(straight)) == pytest.approx(0.01)
    curves = EventAccumulator(str(straight / "tensorboard" / straight.name)).Reload()
    assert [event.step for event in curves.Scalars("loss")] == list(range(1, 9))
    assert curves.Scalars("loss")[4].value == pytest.approx(log(straight)[4]["loss"])
    assert [event.step for event in curves.Images("row")] == [4, 8]
    picture = np.asarray(Image.open(straight / "samples" / "row_00000008.png"))
    assert (picture.transpose(2, 0, 1).reshape(-1) == np.round(np.linspace(0, 255, 48))).all()
    assert not list(straight.rglob("*.tmp")) and not list(straight.rglob("*.pt"))
    exported, final = load_file(straight / "export" / "model.safetensors"), tensors(straight, 8)
    assert all(torch.equal(value, final[f"average_0/{name}"]) for name, value in exported.items())
    assert not torch.equal(exported["head.weight"], final["model_0/head.weight"])


def test_killed_while_it_writes_a_checkpoint_and_resumed_it_ends_in_the_same_bits(
    straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ["--run.out", str(out), "--run.trackers", "--workers", "1"]
    # A checkpoint takes six syncs: the ninth is inside the second one, of step 4.
    environment = os.environ | {"TOY_DIE_IN_FSYNC": "9", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.toy", *options]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint.steps_in(out / "checkpoints") == [3]
    assert (out / "checkpoints" / "step_00000004.tmp").exists()
    with (out / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # a line cut short, too
    again = subprocess.run([*command[:3], "--resume", str(out)], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert_same_run(straight, out, step=8)
    assert checkpoint.steps_in(out / "checkpoints") == [8] and not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_exits_with_0_and_the_run_goes_on(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TOY_SIGNAL_AT", "5")
    monkeypatch.setenv("TOY_SIGNAL", name)
    before = signal.getsignal(signal.Signals[name])
    with pytest.raises(SystemExit) as stop:
        toy.main(config(tmp_path))
    assert stop.value.code == 0 and checkpoint.steps_in(tmp_path / "checkpoints") == [4, 5]
    assert signal.getsignal(signal.Signals[name]) is before
    monkeypatch.delenv("TOY_SIGNAL_AT")
    toy.main(resumed(toy.Config(resume=str(tmp_path))))
    assert_same_run(straight, tmp_path, step=8)


def test_killed_before_the_export_it_only_exports(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    shutil.rmtree(out / "export")
    toy.main(resumed(toy.Config(resume=str(out))))
    exported = [(folder / "export" / "model.safetensors").read_bytes() for folder in (straight, out)]
    assert exported[0] == exported[1]
    assert_same_run(straight, out, step=8)


def test_nan_stops_before_the_step_and_names_the_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_NAN_AT", "4")
    with pytest.raises(Stop, match="^step 5: l2 is nan, l1 is nan. Nothing was updated or saved"):
        toy.main(config(tmp_path))
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [4]
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4]


def test_an_infinite_gradient_of_a_finite_loss_stops_too(tmp_path: Path) -> None:
    run = Run(RunConfig(out=str(tmp_path), trackers=()), toy.Config())
    model = nn.Linear(1, 1)
    model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), 1.0))
    before = model.weight.item()
    with pytest.raises(Stop, match="step 1: the gradient norm is nan"), run.accumulate(model):
        run.descend((model.weight - model.weight).sqrt().sum(), optimizer)  # 0, with slope 0/0
    assert model.weight.item() == before


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    small = config(tmp_path / "run", save_every=2)
    big = replace(small, network=toy.NetworkConfig(width=512))
    toy.main(replace(small, run=replace(small.run, steps=4)))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(Stop, match="^cannot write .*step_00000002: File too large. .*make room") as stop:
            toy.main(replace(big, run=replace(big.run, out=str(tmp_path / "big"))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(stop.value)
    assert not list((tmp_path / "big" / "checkpoints").iterdir())
    # A later write into the first run's folder fails as well: what it had is still there, and whole.
    root = tmp_path / "run" / "checkpoints"
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(Stop):
            checkpoint.write(root / "step_00000006", {"model_0": {"x": torch.zeros(2000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in root.iterdir()] == ["step_00000004"]
    checkpoint.read(root / "step_00000004")


def test_a_folder_that_cannot_be_used_is_one_line_and_is_left_alone(straight: Path, tmp_path: Path) -> None:
    def refused(run: toy.Config, message: str) -> None:
        with pytest.raises(Stop, match=message) as stop:
            toy.main(run)
        assert "\n" not in str(stop.value)

    kept = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    refused(config(straight), "already holds a run: go on with --resume .* or choose another --run.out")
    refused(resumed(toy.Config(resume=str(straight))), "is finished: 8 steps are done")
    assert kept == {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    refused(config(tmp_path, resume=True), "has no checkpoint to resume from")
    refused(config(tmp_path, processes=2), "asked for 2 processes, accelerate has 1. .* torchrun")

    toy.main(config(tmp_path, steps=4))
    longer = config(tmp_path, resume=True)
    wide = replace(longer, network=toy.NetworkConfig(width=9))
    refused(wide, r"another network: head.weight is \(1, 8\) there and \(1, 9\) in the model")
    refused(config(tmp_path, resume=True, ema=0.0), "of a run with other .*averages")
    damaged = tmp_path / "checkpoints" / "step_00000004" / "model_0.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    refused(longer, "step_00000004 is damaged .* delete it to go back")


def test_the_best_the_last_and_every_nth_checkpoint_stay_and_the_best_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BEST_AT", "4")
    toy.main(config(tmp_path, save_every=1, keep_every=3))
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [3, 4, 6, 8]
    exported, best = load_file(tmp_path / "export" / "model.safetensors"), tensors(tmp_path, 4)
    assert all(torch.equal(value, best[f"average_0/{name}"]) for name, value in exported.items())
    assert not torch.equal(exported["head.weight"], tensors(tmp_path, 8)["average_0/head.weight"])


def test_of_equal_scores_the_latest_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BEST_AT", "6")  # as far from 4 as from 8, where it is scored
    toy.main(config(tmp_path, save_every=1))
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [8]


def test_accumulated_micro_batches_make_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    plain = toy.NetworkConfig(dropout=0.0, norm=False)
    whole = replace(config(tmp_path / "whole", batch_size=4), network=plain, noise=0.0)
    halves = replace(config(tmp_path / "halves", batch_size=2, accumulate=2), network=plain, noise=0.0)
    toy.main(whole)
    toy.main(halves)
    assert [line["loss"] for line in log(tmp_path / "whole")] == pytest.approx(
        [line["loss"] for line in log(tmp_path / "halves")], rel=1e-4
    )
    assert [line["step"] for line in log(tmp_path / "halves")] == list(range(1, 9))


def test_two_networks_and_several_steps_a_batch_fit_the_same_verbs(tmp_path: Path) -> None:
    """A GAN's shape (two optimizers, one schedule) and RL's (inner epochs), against a plain torch loop."""

    def parts() -> list[Any]:
        torch.manual_seed(5)
        one, two = nn.Linear(3, 1), nn.Linear(3, 1)
        optimizers = [torch.optim.AdamW(one.parameters(), 0.1), torch.optim.AdamW(two.parameters(), 0.05)]
        return [one, two, *optimizers]

    data = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    run = Run(RunConfig(out=str(tmp_path), steps=6, batch_size=4, log_every=2, clip=0.0, trackers=()), toy.Config())
    one, two, first, second = parts()
    schedule = one_cycle(first, steps=6, warmup=2)
    loader = DataLoader(TensorDataset(data), 4)
    one, two, first, second, schedule, loader = run.prepare(one, two, first, second, schedule, loader)
    seen, due = [], []
    for (batch,) in run.batches(loader):
        seen.append(batch)
        for _ in range(3):
            with run.accumulate(one, two):
                run.descend(one(batch).square().mean(), first)
                run.descend(two(batch).abs().mean(), second)
        due.append((run.step, run.every(2), run.every(4), run.every(0)))
    assert due == [(3, True, False, False), (6, True, True, False)]
    assert log(tmp_path)[0].keys() > {"lr", "lr_1", "gradient_norm", "gradient_norm_1"}

    ours, theirs = (one, two), parts()
    oracle = one_cycle(theirs[2], steps=6, warmup=2)
    average = EMA(theirs[0], 0.999)
    for batch in seen:
        for _ in range(3):
            for network, optimizer, loss in ((0, 2, torch.square), (1, 3, torch.abs)):
                theirs[optimizer].zero_grad()
                loss(theirs[network](batch)).mean().backward()
                theirs[optimizer].step()
            oracle.step()
            average.update(theirs[0])
    assert all(torch.equal(ours[i].weight, theirs[i].weight) for i in (0, 1))
    with run.averaged(one) as network:
        assert torch.equal(network.weight, average.weights["weight"]) and not network.training
    assert one.training and torch.equal(one.weight, theirs[0].weight)
