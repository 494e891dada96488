"""What reinforcement learns from: advantages of rewards, and the loss of a policy.

Rewards and advantages are (B, G): G samples of each of B pictures; G is 1 where each picture is drawn once.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Baseline = Literal["global", "group", "prompt"]
"""What a reward is compared with: the mean of all, that of the same picture, or that of the same prompt so far."""


def advantages(rewards: Tensor, baseline: Literal["global", "group"]) -> Tensor:
    """(B, G) rewards -> (B, G): above the baseline, by one standard deviation over all.

    With `group` a picture that is easy whatever is done to it counts for nothing: its advantages sum to 0.
    """
    if baseline == "global":
        return (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-8)
    if rewards.shape[1] < 2:
        raise ValueError("a baseline of the group needs two samples of each picture or more")
    above = rewards - rewards.mean(1, keepdim=True)
    return above / (above.std(correction=0) + 1e-8)


class PromptTracker:
    """Mean and deviation of the last rewards of each prompt. Until there are enough those of the batch stand in.

    Source: Black et al. 2023, per-prompt statistics.
    """

    def __init__(self, length: int = 16, least: int = 16) -> None:
        self.length, self.least = length, least
        self.rewards: dict[str, deque[float]] = {}

    def update(self, prompts: list[str], rewards: Tensor) -> Tensor:
        """(B,) rewards of prompts -> (B,) advantages, after these rewards have been noted."""
        values = rewards.detach().cpu().numpy()
        result = np.empty_like(values)
        for prompt in dict.fromkeys(prompts):
            own = np.array([said == prompt for said in prompts])
            kept = self.rewards.setdefault(prompt, deque(maxlen=self.length))
            kept.extend(values[own].tolist())
            among = values if len(kept) < self.least else np.array(kept)
            result[own] = (values[own] - among.mean()) / (among.std() + 1e-6)
        return torch.from_numpy(result).to(rewards)

    def state_dict(self) -> dict:
        return {prompt: list(kept) for prompt, kept in self.rewards.items()}

    def load_state_dict(self, state: dict) -> None:
        self.rewards = {prompt: deque(kept, maxlen=self.length) for prompt, kept in state.items()}


@dataclass(frozen=True)
class Learned:
    """What a step of the policy is about; all scalars."""

    loss: Tensor
    kl: Tensor
    """Half the mean squared change of log-probabilities: how far this policy is from the one that drew."""
    clipped: Tensor
    """Share of the samples whose ratio lies outside the clip."""
    ratio: Tensor
    """The largest |ratio - 1|; 0 before the first update."""


def clipped_loss(now: Tensor, before: Tensor, advantage: Tensor, clip: float, most: float = 5.0) -> Learned:
    """The clipped surrogate of PPO. Source: Schulman et al. 2017, equation 7; for diffusion Black et al. 2023.

    Args:
        now: log-probabilities under the policy that learns; `before` under the one that drew, of the same shape.
        clip: by how much the ratio may leave 1.
        most: bound of the advantages.
    """
    advantage = advantage.clamp(-most, most)
    ratio = (now - before).exp()
    loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
    with torch.no_grad():
        apart = (ratio - 1).abs()
        return Learned(loss, 0.5 * (now - before).square().mean(), (apart > clip).float().mean(), apart.max())


def kl_to_base(mean: Tensor, base: Tensor, sigma: Tensor) -> Tensor:
    """KL, in nats a number, of one Gaussian from another of the same sigma: (mean - base)^2 / (2 sigma^2).

    Args:
        mean: (B, C, h, w) of this policy; `base` of the network that it started from.
        sigma: (B, 1, 1, 1), above 0.
    """
    return ((mean.float() - base.float()).square() / (2 * sigma.float().square())).mean()
