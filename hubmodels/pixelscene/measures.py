"""How alike index pictures are, and how much of them is edge and dither. Pictures are (H, W, 3) uint8 sRGB."""

import numpy as np
from numpy import ndarray as Array

from hubmodels.pixelscene.palettes import oklab


def psnr(made: Array, true: Array) -> float:
    """In dB; 99 at most, for pictures that are the same."""
    error = ((made.astype(float) - true) ** 2).mean()
    return min(99.0, 10 * np.log10(255**2 / error)) if error else 99.0


def index_accuracy(made: Array, true: Array) -> float:
    """Share of pixels of exactly the right colour."""
    return float((made == true).all(-1).mean())


def delta_e(made: Array, true: Array) -> float:
    """Mean distance in OKLab, times 100; 2 is just to be seen."""
    return float(100 * np.sqrt(((oklab(made) - oklab(true)) ** 2).sum(-1)).mean())


def edges(picture: Array) -> float:
    """Mean absolute step between neighbours, in OKLab."""
    lab = oklab(picture)
    return float(np.mean([np.abs(np.diff(lab, axis=axis)).mean() for axis in (0, 1)]))


def dither(picture: Array) -> float:
    """Mean absolute answer to a checker of 2 x 2 pixels in lightness: 0 for straight edges and for smooth ramps."""
    light = oklab(picture)[..., 0]
    checker = light[:-1, :-1] - light[1:, :-1] - light[:-1, 1:] + light[1:, 1:]
    return float(np.abs(checker).mean() / 2)


def seam(picture: Array) -> float:
    """Step from the last column to the first by the mean step between neighbours in a row: about 1 where it tiles."""
    lab = oklab(picture)
    across, inside = np.abs(lab[:, 0] - lab[:, -1]).mean(), np.abs(np.diff(lab, axis=1)).mean()
    return float(across / max(inside, 1e-6))


def perplexity(tokens: Array, size: int) -> tuple[float, float]:
    """How many codes are used as if evenly, and the share of all that are used at all."""
    counts = np.bincount(tokens.ravel(), minlength=size)
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())), float((counts > 0).mean())
