"""How well one region covers another."""

import torch
from torch import Tensor


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (B,) of masks (B, H, W) bool; 1 where both are empty, for then they agree.

    Raises:
        ValueError: the shapes differ, or the masks are not bool.
    """
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"masks must both be (B, H, W), got {tuple(a.shape)}, {tuple(b.shape)}")
    if not a.dtype == b.dtype == torch.bool:
        raise ValueError(f"masks must be bool, got {a.dtype}, {b.dtype}")
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return torch.where(either == 0, 1.0, both / either.clamp(min=1))
