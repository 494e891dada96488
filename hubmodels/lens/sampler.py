"""DDIM on pictures that are given: which steps are run, what each does, and how likely what it did was.

    x_t --predict--> noise --moments--> mean and sigma of x_(t-1) --noise of a policy--> x_(t-1), log-probability

Latents are (B, C, h, w). The same functions serve drawing, reinforcement and backpropagation, so the steps that are
executed are the steps that are trained. Source: Song et al. 2021, equations 12 and 16.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""What the network says of latents (B, C, h, w) at times (B,), by the scheduler's kind of prediction; of B * G latents
too, G for each picture in turn."""


def schedule(scheduler: DDIMScheduler, steps: int, strength: float) -> Tensor:
    """(S,) int64, times that are executed, falling: the last int(steps * strength) of `steps`, as diffusers has it.

    Raises:
        ValueError: strength is not above 0 and at most 1, or so small that no step is left.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength:g}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if int(steps * strength) == 0:
        raise ValueError(f"{steps} steps at strength {strength:g} leave none to run: use at least {1 / strength:.0f}")
    scheduler.set_timesteps(steps)
    return scheduler.timesteps[steps - int(steps * strength) :].clone()


@dataclass(frozen=True)
class Moments:
    """Of the Gaussian that x_(t-1) is drawn from."""

    mean: Tensor
    """(B, C, h, w)."""
    sigma: Tensor
    """(B, 1, 1, 1); 0 is a step without chance."""


def moments(scheduler: DDIMScheduler, prediction: Tensor, time: Tensor, latents: Tensor, eta: float) -> Moments:
    """Mean and sigma of x_(t-1) after `schedule` has set the steps.

    Args:
        prediction: of the network for `latents`, of the same shape.
        time: (B,) or (1,) int64.
        eta: 0 is DDIM, 1 is DDPM.

    Raises:
        ValueError: the scheduler predicts something else than epsilon, sample or v.
    """
    config: Any = scheduler.config
    before = time.cpu() - config.num_train_timesteps // scheduler.num_inference_steps
    table = scheduler.alphas_cumprod
    now = table[time.cpu()]
    then = torch.where(before >= 0, table[before.clamp(min=0)], scheduler.final_alpha_cumprod)
    sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
    now, then, sigma = (value.to(latents.device).view(-1, 1, 1, 1) for value in (now, then, sigma))
    if config.prediction_type == "epsilon":
        clean, noise = (latents - (1 - now) ** 0.5 * prediction) / now**0.5, prediction
    elif config.prediction_type == "sample":
        clean, noise = prediction, (latents - now**0.5 * prediction) / (1 - now) ** 0.5
    elif config.prediction_type == "v_prediction":
        clean = now**0.5 * latents - (1 - now) ** 0.5 * prediction
        noise = now**0.5 * prediction + (1 - now) ** 0.5 * latents
    else:
        raise ValueError(f"prediction_type must be epsilon, sample or v_prediction, got {config.prediction_type!r}")
    if config.clip_sample:
        clean = clean.clamp(-config.clip_sample_range, config.clip_sample_range)
    return Moments(then**0.5 * clean + (1 - then - sigma**2) ** 0.5 * noise, sigma)


def pooled(latents: Tensor, grid: int) -> Tensor:
    """(..., C, h, w) -> (..., C, grid, grid), means of cells; 0 leaves latents as they are."""
    if not grid:
        return latents
    return F.adaptive_avg_pool2d(latents.flatten(0, -4), grid).unflatten(0, latents.shape[:-3])


def explored(shape: tuple[int, ...], grid: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Noise (..., C, h, w) of unit variance: white, or for a `grid` constant in each of its cells, which is a search in
    fewer dimensions."""
    cells = (*shape[:-2], grid, grid) if grid else shape
    noise = torch.randn(cells, generator=generator).to(device)
    if not grid:
        return noise
    if shape[-1] % grid or shape[-2] % grid:
        raise ValueError(f"a grid of {grid} does not divide latents of {shape[-2]} x {shape[-1]}")
    return noise.repeat_interleave(shape[-2] // grid, -2).repeat_interleave(shape[-1] // grid, -1)


def log_probability(sample: Tensor, gaussian: Moments, grid: int = 0) -> Tensor:
    """Mean over the numbers of a latent of its Gaussian log-density, in float32; 0 where sigma is 0.

    Args:
        sample: (B, C, h, w), or (B, G, C, h, w) for G samples of each Gaussian.
        grid: of `explored`; the density is that of the means of cells, of which the noise has no others.

    Returns:
        (B,) or (B, G).
    """
    mean, sigma = gaussian.mean.float(), gaussian.sigma.float()
    if sample.ndim == 5:
        mean, sigma = mean.unsqueeze(1), sigma.unsqueeze(1)
    safe = sigma.clamp(min=1e-12)
    apart = (pooled(sample.detach().float(), grid) - pooled(mean, grid)) / safe
    density = -0.5 * apart**2 - safe.log() - 0.5 * torch.tensor(2 * torch.pi).log()
    return torch.where(sigma > 0, density, 0).flatten(-3).mean(-1)


@dataclass(frozen=True)
class Trajectory:
    """What was executed, for all of S steps of B pictures."""

    times: Tensor
    """(S,)."""
    latents: Tensor
    """(S + 1, B, C, h, w), the first before any step, each as it is stored and fed on."""
    log_probabilities: Tensor
    """(S, B), of the stored values."""


def run(
    scheduler: DDIMScheduler,
    predict: Predict,
    latents: Tensor,
    times: Tensor,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    grid: int = 0,
    last: bool = False,
) -> Trajectory:
    """Execute steps from `latents` (B, C, h, w) at `times[0]` on.

    Args:
        last: the last step has noise as well; it has next to no effect and a gradient larger than all others.
    """
    kept, densities = [latents], []
    for number, time in enumerate(times):
        x = kept[-1]
        time = time.to(x.device).expand(len(x))
        chance = eta if last or number + 1 < len(times) else 0.0
        gaussian = moments(scheduler, predict(x, time), time, x, chance)
        after = gaussian.mean
        if chance:
            after = after + gaussian.sigma * explored(tuple(x.shape), grid, generator, x.device)
        kept.append(after.to(latents.dtype))
        densities.append(log_probability(kept[-1], gaussian, grid))
    likely = torch.stack(densities) if densities else torch.zeros(0, len(latents), device=latents.device)
    return Trajectory(times, torch.stack(kept), likely)


@dataclass(frozen=True)
class Branches:
    """G ways on from one step, for each of B pictures: what `ddpo-branch` learns from."""

    time: Tensor
    """() of the step with chance."""
    latents: Tensor
    """(B, C, h, w) before it, shared by all branches."""
    after: Tensor
    """(B, G, C, h, w)."""
    log_probabilities: Tensor
    """(B, G)."""
    ends: Tensor
    """(B, G, C, h, w), after the last step."""


def branch(
    scheduler: DDIMScheduler,
    predict: Predict,
    latents: Tensor,
    times: Tensor,
    at: int,
    ways: int,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
    grid: int = 0,
    free: Predict | None = None,
) -> Branches:
    """Deterministic steps but for one, number `at`, where each picture goes `ways` ways in antithetic pairs.

    All that differs within a picture is one noise, so its rewards are compared with nothing but each other, and the
    network sees each picture once for all its ways. Source: the idea of Flow-GRPO-Fast (Liu et al. 2025).

    Args:
        free: says the same as `predict`, but for rounding, and faster: of the steps without chance, from which nothing
            is learned.

    Raises:
        ValueError: `ways` is odd, or `at` is no step but the last.
    """
    if ways < 2 or ways % 2:
        raise ValueError(f"branches come in pairs, got {ways}")
    if not 0 <= at < len(times) - 1:
        raise ValueError(f"the step with chance must be one of the first {len(times) - 1} of {len(times)}, got {at}")
    start = run(scheduler, free or predict, latents, times[:at]).latents[-1]
    batch, time = len(start), times[at].to(start.device)
    gaussian = moments(scheduler, predict(start, time.expand(batch)), time.expand(1), start, eta)
    half = explored((batch, ways // 2, *start.shape[1:]), grid, generator, start.device)
    noise = torch.cat([half, -half], 1)
    after = (gaussian.mean.unsqueeze(1) + gaussian.sigma.unsqueeze(1) * noise).to(latents.dtype)
    ends = run(scheduler, free or predict, after.flatten(0, 1), times[at + 1 :]).latents[-1]
    densities = log_probability(after, gaussian, grid)
    return Branches(time, start, after, densities, ends.unflatten(0, (batch, ways)))
