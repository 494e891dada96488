"""How near a picture is to the one it should be. Pictures are (B, 3, H, W) sRGB in [0, 1]."""

import torch
from torch import Tensor

WINDOW = 11
"""Pixels a side of the Gaussian of SSIM: 1.5 sigma wide, cut at 3.5 sigma."""


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB, peak 1; infinite where the pictures are equal.

    Raises:
        ValueError: the shapes differ, or values are outside [0, 1].
    """
    _check(prediction, target)
    return _decibel((prediction.float() - target.float()).square().mean((1, 2, 3)))


def foreground_psnr(prediction: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
    """`psnr` over the pixels of a mask: a blank picture, good on a large background, scores low.

    Args:
        foreground: (B, H, W) bool.

    Returns:
        (B,) in dB; NaN where the mask is empty.
    """
    _check(prediction, target)
    if foreground.dtype != torch.bool or foreground.shape != (len(target), *target.shape[2:]):
        raise ValueError(f"foreground must be bool (B, H, W), got {foreground.dtype} {tuple(foreground.shape)}")
    error = (prediction.float() - target.float()).square().mean(1) * foreground
    return _decibel(error.sum((1, 2)) / foreground.sum((1, 2)))


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (B,), at most 1, over the pixels whose window is inside of the picture.

    Source: Wang et al. 2004, equation 13 and section III.C, colour channels averaged. Equal to scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)`.

    Raises:
        ValueError: the shapes differ, values are outside [0, 1], or a side is shorter than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # costs ten seconds

    _check(prediction, target)
    if min(target.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} x {WINDOW}, got {tuple(target.shape)}")
    # in double precision: a variance is the small difference of two means, and SSIM divides by it
    _, everywhere = structural_similarity_index_measure(
        prediction.double(), target.double(), sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    edge = WINDOW // 2
    return everywhere[..., edge:-edge, edge:-edge].mean((1, 2, 3)).float()


def _decibel(mean_square: Tensor) -> Tensor:
    return -10 * mean_square.log10()


def _check(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or target.ndim != 4:
        raise ValueError(
            f"prediction and target must both be (B, 3, H, W), got {tuple(prediction.shape)}, {tuple(target.shape)}"
        )
    for name, pictures in (("prediction", prediction), ("target", target)):
        if not pictures.is_floating_point():
            raise ValueError(f"{name} must be of floats in [0, 1], got {pictures.dtype}")
        low, high = pictures.min().item(), pictures.max().item()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} must be in [0, 1], got {low:.3g} to {high:.3g}: pass it to_unit and clamped")
