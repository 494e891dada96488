"""Schedules, averages, decay groups, the order of data and the configuration file, each against an oracle."""

import json
import math
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from hubmodels.training import RunConfig, Stop, load_config, resumed
from hubmodels.training.config import write_config
from hubmodels.training.decay import decay_groups
from hubmodels.training.ema import EMA
from hubmodels.training.order import ordered
from hubmodels.training.schedules import Plateau, constant, cosine, one_cycle, step


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.3)


def rates(schedule: LRScheduler, steps: int) -> list[float]:
    lived = []
    for _ in range(steps):
        lived.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return lived


@pytest.mark.parametrize(("steps", "warmup"), [(100, 30), (50, 2), (7, 6)])
def test_one_cycle_is_torchs_and_leaves_the_betas_alone(steps: int, warmup: int) -> None:
    ours, theirs = optimizer(), optimizer()
    oracle = OneCycleLR(theirs, 0.3, total_steps=steps, pct_start=warmup / steps, cycle_momentum=False)
    # torch's own refuses a step past the last; a loop that steps the schedule once more must not fail
    assert rates(one_cycle(ours, steps, warmup), steps)[:-1] == pytest.approx(rates(oracle, steps - 1), rel=1e-9)
    assert ours.param_groups[0]["lr"] == pytest.approx(0.3 / 25 / 1e4)
    assert ours.param_groups[0]["betas"] == (0.9, 0.999)


def test_cosine_is_torchs_after_a_linear_warm_up() -> None:
    oracle = CosineAnnealingLR(optimizer(), T_max=40, eta_min=0.03)
    ours = rates(cosine(optimizer(), steps=50, warmup=10, floor=0.1), 50)
    assert ours[:10] == pytest.approx([0.3 * (step + 1) / 10 for step in range(10)])
    assert ours[10:] == pytest.approx(rates(oracle, 40), rel=1e-9)


def test_step_is_torchs_after_a_linear_warm_up() -> None:
    ours = rates(step(optimizer(), every=4, factor=0.5, warmup=5), 20)
    assert ours[:5] == pytest.approx([0.3 * (done + 1) / 5 for done in range(5)])
    assert ours[5:] == pytest.approx(rates(StepLR(optimizer(), 4, 0.5), 15), rel=1e-9)
    with pytest.raises(ValueError, match="at least one step, got 0"):
        step(optimizer(), every=0, factor=0.5)


def test_constant_is_torchs_after_a_linear_warm_up() -> None:
    ours = rates(constant(optimizer(), warmup=3), 9)
    assert ours[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert ours[3:] == pytest.approx(rates(ConstantLR(optimizer(), factor=1.0), 6), rel=1e-9)
    assert rates(constant(optimizer()), 3) == pytest.approx([0.3] * 3)


SCORES = [1.0, 3.0, 2.0, 3.0, 3.5, 3.4, 3.3, 3.2, 3.1, 4.0, 3.9]
FALLEN = [1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
"""After each score, with two without a new best put up with: the third in a row, 3.2, is one too many."""


def test_plateau_falls_when_scores_have_stopped_rising() -> None:
    schedule = Plateau(optimizer(), patience=2, factor=0.5, warmup=4)
    lived = []
    for number, score in enumerate(SCORES):
        lived += rates(schedule, 2)
        schedule.report(score)
        assert schedule.scale == FALLEN[number], (number, score)
    # the step that the score comes after has set the rate of the next one already
    ramp = [min(1.0, (done + 1) / 4) for done in range(22)]
    scale = [1.0] + [FALLEN[(done - 1) // 2 - 1] if done > 2 else 1.0 for done in range(1, 22)]
    assert lived == pytest.approx([0.3 * r * s for r, s in zip(ramp, scale, strict=True)])
    for _ in range(2):  # 3.9 was the first without a new best
        assert schedule.scale == 0.5
        schedule.report(0.0)
    assert schedule.scale == 0.25


@pytest.mark.parametrize("when", [0, 3, 7, 9])
def test_schedules_go_on_from_json(when: int) -> None:
    """Every kind, stopped before any score or right after a fall."""

    def made(kind: str) -> LRScheduler:
        own = optimizer()
        if kind == "plateau":
            return Plateau(own, patience=2, factor=0.5, warmup=4)
        if kind == "step":
            return step(own, 4, 0.5, 4)
        return cosine(own, 30, 4, 0.1) if kind == "cosine" else constant(own, 4)

    def lived(schedule: LRScheduler, scores: list[float]) -> list[float]:
        values = []
        for score in scores:
            values += rates(schedule, 2)
            if isinstance(schedule, Plateau):
                schedule.report(score)
        return values

    for kind in ("plateau", "step", "cosine", "constant"):
        whole, stopped, resumed_one = made(kind), made(kind), made(kind)
        straight = lived(whole, SCORES)
        before = lived(stopped, SCORES[:when])
        resumed_one.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
        # the rate itself is in the optimizer's state
        resumed_one.optimizer.load_state_dict(stopped.optimizer.state_dict())
        assert before + lived(resumed_one, SCORES[when:]) == straight, kind
        assert resumed_one.state_dict() == whole.state_dict(), kind


@pytest.mark.parametrize("schedule", [cosine, one_cycle])
def test_a_warm_up_as_long_as_the_run_is_refused(schedule) -> None:
    with pytest.raises(ValueError, match="shorter than its 10 steps, got 10"):
        schedule(optimizer(), steps=10, warmup=10)


def test_average_has_its_closed_form_and_gives_the_weights_back() -> None:
    network = nn.BatchNorm1d(1)
    assert network.num_batches_tracked is not None
    ema = EMA(network, decay=0.5)
    values, decays = [3.0, -1.0, 4.0, 1.5, 2.0], [min(0.5, (1 + t) / (10 + t)) for t in range(5)]
    for value in values:
        nn.init.constant_(network.weight, value)
        network.num_batches_tracked += 1
        ema.update(network)
    # Each value weighs (1 - its decay) times the later decays; the first weight, 1, has them all left.
    wanted = math.prod(decays) + sum(
        (1 - d) * v * math.prod(decays[i + 1 :]) for i, (d, v) in enumerate(zip(decays, values, strict=True))
    )
    assert ema.weights["weight"].item() == pytest.approx(wanted, rel=1e-6)
    assert ema.weights["num_batches_tracked"].item() == 5
    with ema.swapped(network):
        assert network.weight.item() == ema.weights["weight"].item() != 2.0
    assert network.weight.item() == 2.0


def test_decay_is_for_matrices_only() -> None:
    layers = [nn.Embedding(7, 4), nn.Conv2d(1, 2, 3), nn.LayerNorm(4), nn.Linear(4, 7)]
    model = nn.ModuleList(layers)
    layers[3].weight = layers[0].weight  # tied: an embedding still
    layers[1].bias.requires_grad_(False)
    decayed, others = decay_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(2, 1, 3, 3)] and decayed["weight_decay"] == 0.1
    assert [tuple(p.shape) for p in others["params"]] == [(7, 4), (4,), (4,), (7,)]
    assert others["weight_decay"] == 0.0
    torch.optim.AdamW([decayed, others])


def rows_drawn(batches: int, rank: int = 0, processes: int = 1, start: int = 0, batch: int = 2) -> list[list[int]]:
    loader = DataLoader(TensorDataset(torch.arange(11)), batch_size=batch, shuffle=True)
    run = ordered(loader, seed=3, rank=rank, processes=processes)
    run.batch_sampler.position = start  # type: ignore
    return [rows.tolist() for (rows,), _ in zip(run, range(batches), strict=False)]


def test_order_covers_each_epoch_once_resumes_anywhere_and_is_shared_by_the_ranks() -> None:
    straight = rows_drawn(12)
    first, second = sum(straight[:5], []), sum(straight[5:10], [])
    assert len(set(first)) == len(set(second)) == 10 and first != second and set(first) < set(range(11))
    assert first != sorted(first)
    assert all(rows_drawn(12 - start, start=start) == straight[start:] for start in (1, 5, 7))
    ranks = zip(rows_drawn(6, 0, 2), rows_drawn(6, 1, 2), strict=True)
    assert [a + b for a, b in ranks] == rows_drawn(6, batch=4)


class Noisy(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[float, float]:
        return float(torch.rand(1)), float(np.random.rand())


def test_augmentation_is_the_same_for_any_number_of_workers_and_after_a_jump() -> None:
    def drawn(workers: int, start: int) -> list[float]:
        run = ordered(DataLoader(Noisy(), batch_size=2, num_workers=workers), seed=0, rank=0, processes=1)
        run.batch_sampler.position = start  # type: ignore
        return [value for batch, _ in zip(run, range(4), strict=False) for row in batch for value in row.tolist()]

    assert drawn(0, 2) == drawn(2, 2)
    assert len(set(drawn(0, 0))) == 16
    assert drawn(0, 2)[:8] == drawn(0, 0)[8:]


def test_data_that_cannot_fill_a_batch_or_be_jumped_into_is_refused() -> None:
    with pytest.raises(Stop, match="11 rows, too few for one batch of 6 x 2"):
        rows_drawn(1, processes=2, batch=6)

    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[int]:
            return iter(range(9))

    with pytest.raises(Stop, match="Stream is a stream"):
        ordered(DataLoader(Stream()), 0, 0, 1)


@dataclass(frozen=True)
class Part:
    sizes: tuple[int, ...] = (1, 2)
    folder: Path | None = Path("somewhere")


@dataclass(frozen=True)
class Config:
    resume: str = ""
    lr: float = 0.1
    part: Part = field(default_factory=Part)
    run: RunConfig = field(default_factory=RunConfig)


def test_config_comes_back_from_its_file(tmp_path: Path) -> None:
    config = Config(lr=1 / 3, part=Part(sizes=(), folder=None), run=RunConfig(out="elsewhere", steps=7))
    write_config(config, tmp_path)
    assert load_config(Config, tmp_path) == config
    write_config(Config(), tmp_path)
    assert load_config(Config, tmp_path) == Config()
    assert resumed(config) is config
    again = resumed(Config(resume=str(tmp_path)))
    assert again == replace(Config(), run=RunConfig(out=str(tmp_path), resume=True))
    with pytest.raises(Stop, match="leave the other options out"):
        resumed(Config(resume=str(tmp_path), lr=1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is .* the folder of a run"),
        ("{", "not JSON"),
        ('{"lr": 1}', "Config differs in part, resume, run"),
    ],
)
def test_a_folder_that_is_no_run_of_this_script_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(Stop, match=message) as stop:
        resumed(Config(resume=str(tmp_path)))
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"batch_size": -1}, {"clip": -1.0}, {"ema": 1.0}])
def test_settings_out_of_range_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        RunConfig(**bad)


def test_config_file_is_json_of_every_value(tmp_path: Path) -> None:
    write_config(Config(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["run"]["ema"] == RunConfig().ema


FAULTS = """
import resource, sys, torch
from hubmodels.training.launch import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(20):
    torch.zeros(16, 1024, 1024)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.zeros(16, 1024, 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    """The system clears a page when it is first touched: a tensor of 64 MiB has 16,384 of 4 KiB."""
    script = [sys.executable, "-c", FAULTS]
    given_back, kept = (int(subprocess.check_output([*script, how])) for how in ("as it is", "kept"))
    assert given_back > 10 * 16_384 * 0.9 and kept < 1000
