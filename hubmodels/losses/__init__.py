"""Terms of training losses: pure functions of pictures (B, C, H, W), each a scalar."""

from hubmodels.losses.perceptual import perceptual, random_features
from hubmodels.losses.pixel import foreground_weights, total_variation, weighted_l1, weighted_l2

__all__ = [
    "foreground_weights",
    "perceptual",
    "random_features",
    "total_variation",
    "weighted_l1",
    "weighted_l2",
]
