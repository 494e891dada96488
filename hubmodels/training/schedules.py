"""Learning-rate schedules as pure functions of the step, so that resuming needs nothing but the step.

Each factor multiplies the learning rate that its parameter group was made with, which is the peak. The betas
stay as they are (torch's `OneCycleLR` rewrites them unless told otherwise).
"""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(optimizer: Optimizer, steps: int, warmup: int = 0, floor: float = 0.0) -> LambdaLR:
    """Linear warm-up, then half a cosine down to `floor` times the peak at `steps`."""
    _check(steps, warmup)
    return LambdaLR(optimizer, partial(cosine_factor, steps=steps, warmup=warmup, floor=floor))


def one_cycle(optimizer: Optimizer, steps: int, warmup: int) -> LambdaLR:
    """Half a cosine up to the peak in `warmup` steps, half a cosine down to almost nothing at the end."""
    _check(steps, warmup)
    return LambdaLR(optimizer, partial(one_cycle_factor, steps=steps, warmup=warmup))


def step(optimizer: Optimizer, every: int, factor: float, warmup: int = 0) -> LambdaLR:
    """Linear warm-up, then `factor` times as much after each `every` steps."""
    if every < 1:
        raise ValueError(f"the rate must stay for at least one step, got {every}")
    return LambdaLR(optimizer, partial(step_factor, every=every, factor=factor, warmup=warmup))


def constant(optimizer: Optimizer, warmup: int = 0) -> LambdaLR:
    """Linear warm-up, then the peak for good."""
    return LambdaLR(optimizer, partial(step_factor, every=1, factor=1.0, warmup=warmup))


class Plateau(LambdaLR):
    """Linear warm-up, then `factor` times as much whenever scores have stopped rising. The script calls `report`."""

    def __init__(self, optimizer: Optimizer, patience: int, factor: float, warmup: int = 0) -> None:
        """
        Args:
            patience: reports in a row without a new best that are put up with.
        """
        self.patience, self.fall, self.warmup = patience, factor, warmup
        self.best: float | None = None
        self.waited, self.scale = 0, 1.0
        super().__init__(optimizer, self._factor)

    def report(self, score: float) -> None:
        """How good the weights are; higher is better."""
        if self.best is None or score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.waited, self.scale = 0, self.scale * self.fall

    def _factor(self, step: int) -> float:
        return self.scale * step_factor(step, 1, 1.0, self.warmup)


def step_factor(step: int, every: int, factor: float, warmup: int) -> float:
    """A staircase after a ramp."""
    return (step + 1) / warmup if step < warmup else factor ** ((step - warmup) // every)


def cosine_factor(step: int, steps: int, warmup: int, floor: float) -> float:
    """Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5 without restarts."""
    if step < warmup:
        return (step + 1) / warmup
    return _anneal(1.0, floor, (step - warmup) / (steps - warmup))


def one_cycle_factor(step: int, steps: int, warmup: int) -> float:
    """Smith & Topin 2018, https://arxiv.org/abs/1708.07120, with the constants of torch's `OneCycleLR`."""
    start, end = 1 / 25, 1 / 25 / 1e4
    if step < warmup - 1:
        return _anneal(start, 1.0, step / (warmup - 1))
    peak = max(warmup - 1, 0)
    return _anneal(1.0, end, (step - peak) / (steps - 1 - peak))


def _anneal(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2


def _check(steps: int, warmup: int) -> None:
    if not 0 <= warmup < steps:
        raise ValueError(f"the schedule's warm-up must be shorter than its {steps} steps, got {warmup}")
