"""Losses that compare a pixel with the same pixel, or with its neighbours."""

import torch
from torch import Tensor


def foreground_weights(foreground: Tensor, weight: float) -> Tensor:
    """(B, H, W) bool -> (B, 1, H, W) of `weight` where True and 1 elsewhere.

    A picture that is mostly background would otherwise be learned as all background.
    """
    return torch.where(foreground, weight, 1.0).unsqueeze(1)


def weighted_l1(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the absolute error.

    Args:
        prediction: (B, C, H, W).
        target: (B, C, H, W), same range.
        weights: broadcasts to them; only proportions matter, for their sum is divided out.
    """
    return _mean((prediction - target).abs(), weights)


def weighted_l2(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the squared error; arguments as those of `weighted_l1`."""
    return _mean((prediction - target).square(), weights)


def total_variation(picture: Tensor) -> Tensor:
    """Anisotropic: mean |dx| + mean |dy| of (B, C, H, W). A step of h across the width counts h / (W - 1).

    Source: Rudin, Osher & Fatemi 1992, with the L1 norm of the gradient.
    """
    return picture.diff(dim=-1).abs().mean() + picture.diff(dim=-2).abs().mean()


def _mean(error: Tensor, weights: Tensor) -> Tensor:
    return (error * weights).sum() / weights.expand_as(error).sum()
