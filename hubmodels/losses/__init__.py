"""Terms of training losses, each a scalar: pure functions of pictures (B, C, H, W); and a discriminator."""

from hubmodels.losses.adversarial import (
    PatchGAN,
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
)
from hubmodels.losses.perceptual import perceptual, random_features
from hubmodels.losses.pixel import foreground_weights, total_variation, weighted_l1, weighted_l2

__all__ = [
    "PatchGAN",
    "discriminator_loss",
    "feature_matching",
    "foreground_weights",
    "generator_loss",
    "gradient_penalty",
    "perceptual",
    "random_features",
    "total_variation",
    "weighted_l1",
    "weighted_l2",
]
