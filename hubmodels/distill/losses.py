"""The distillation loss and its terms. Pictures are (B, 3, R, R) sRGB in [-1, 1]; every term is a scalar."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Features = Callable[[Tensor], list[Tensor]]


def weighted_mean(error: Tensor, foreground: Tensor, weight: float) -> Tensor:
    """Mean of (B, 3, R, R) in which the pixels of `foreground` (B, R, R) bool count `weight` times."""
    weights = 1 + (weight - 1) * foreground[:, None].float()
    return (error * weights).sum() / (weights.sum() * error.shape[1])


def total_variation(picture: Tensor) -> Tensor:
    """Anisotropic: mean |dx| + mean |dy|."""
    across, down = picture.diff(dim=-1), picture.diff(dim=-2)
    return across.abs().mean() + down.abs().mean()


def random_features(seed: int) -> nn.Module:
    """A frozen random CNN, 3 -> 16 -> 32 -> 64 channels, strides 1, 2, 2, with ReLU.

    The same weights for the same seed; the global random state is neither read nor moved.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for inputs, outputs, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2)):
        with torch.random.fork_rng(devices=[]):
            layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        layers.append(layer)
    return nn.ModuleList(layers).requires_grad_(False)


def perceptual(features: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over the layers of a `random_features` network of the mean squared difference of their outputs."""
    a, b = (student + 1) / 2, (teacher + 1) / 2
    total = student.new_zeros(())
    for layer in features.children():
        a, b = F.relu(layer(a)), F.relu(layer(b))
        total = total + F.mse_loss(a, b)
    return total
