"""Classical filters: what a hand-made rule can do for a classifier, so the baselines of a trained editor.

Each takes pictures (B, 3, H, W), sRGB in [-1, 1], and gives the same, clamped. Every picture is filtered for itself.
One that is all one colour stays as it is, but under `grey_world`, which makes it grey.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import from_unit, linear_to_srgb, srgb_to_linear, to_unit
from hubmodels.lens.corruptions import blurred, luma

CUT = 0.02
"""Share of the pixels that `autocontrast` lets go to black, and as many to white."""
LOCAL = 0.08
"""Share of the width: sigma of what `local_contrast` takes for the surroundings."""
PATCH = 2
"""Pixels from the middle of a patch of `non_local_means` to its edge."""
SEARCH = 5
"""Pixels, across and down, within which it looks for patches."""


def autocontrast(pictures: Tensor) -> Tensor:
    """Luma from its 2nd to its 98th percentile stretched over the whole range, all channels alike.

    Source: Gonzalez & Woods 2018, section 3.2, contrast stretching. Pillow's `autocontrast` cuts each channel for
    itself, which shifts hues.
    """
    levels = luma(pictures).flatten(1).sort(1).values  # `torch.quantile` refuses large batches
    low, high = (_percentile(levels, share).view(-1, 1, 1, 1) for share in (CUT, 1 - CUT))
    stretched = from_unit((pictures - low) / (high - low).clamp(min=1e-6))
    return torch.where(high - low > 1e-6, stretched, pictures).clamp(-1, 1)


def _percentile(ascending: Tensor, share: float) -> Tensor:
    """(B, N) sorted -> (B,), linear between two values."""
    at = share * (ascending.shape[1] - 1)
    low = math.floor(at)
    high = min(low + 1, ascending.shape[1] - 1)
    return ascending[:, low].lerp(ascending[:, high], at - low)


def median(pictures: Tensor) -> Tensor:
    """The median of 3 x 3 pixels in each channel; edges are repeated. Source: Tukey 1977, chapter 7."""
    return _neighbours(pictures, 1, "replicate").median(2).values.clamp(-1, 1)


def _neighbours(pictures: Tensor, reach: int, edge: str) -> Tensor:
    """(B, 3, H, W) -> (B, 3, (2 reach + 1)^2, H, W)."""
    wide = F.pad(pictures, (reach, reach, reach, reach), mode=edge)
    return wide.unfold(2, 2 * reach + 1, 1).unfold(3, 2 * reach + 1, 1).flatten(4).movedim(-1, 2)


def noise_level(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B,): sigma of white noise in a picture, in its own units; fine texture counts as noise.

    Source: Immerkaer 1996, "Fast noise variance estimation", the absolute deviation.
    """
    laplacian = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]).to(pictures)
    response = F.conv2d(pictures.flatten(0, 1)[:, None], laplacian[None, None]).view(len(pictures), -1)
    return math.sqrt(math.pi / 2) / 6 * response.abs().mean(1)


def non_local_means(pictures: Tensor) -> Tensor:
    """Each pixel becomes the mean of those around whose patches look alike, weighed by how much.

    The weight of a patch at a mean squared distance of d is exp(-max(d - 2 s^2, 0) / h^2), with the `noise_level` s of
    the picture and h = 0.8 s, and nothing below exp(-5). Source: Buades, Coll & Morel 2005 and 2011, with the even
    weights in a patch of Darbon et al. 2008; h as scikit-image advises for those.

    Raises:
        ValueError: a side is not longer than patch and search reach.
    """
    rim = PATCH + SEARCH
    height, width = pictures.shape[2:]
    if min(height, width) <= rim:
        raise ValueError(f"non-local means needs pictures of more than {rim} x {rim} pixels, got {height} x {width}")
    noise = noise_level(pictures).clamp(min=1e-6).view(-1, 1, 1, 1)
    wide = F.pad(pictures, (rim, rim, rim, rim), mode="reflect")
    middle = wide[..., SEARCH:-SEARCH, SEARCH:-SEARCH]
    total, weights = torch.zeros_like(pictures), torch.zeros_like(pictures[:, :1])
    for down in range(2 * SEARCH + 1):
        for right in range(2 * SEARCH + 1):
            other = wide[..., down : down + height + 2 * PATCH, right : right + width + 2 * PATCH]
            distance = F.avg_pool2d((other - middle).square().mean(1, keepdim=True), 2 * PATCH + 1, 1)
            unlike = (distance - 2 * noise.square()).clamp(min=0) / (0.8 * noise).square()
            weight = torch.where(unlike <= 5, (-unlike).exp(), 0.0)
            total += weight * other[..., PATCH:-PATCH, PATCH:-PATCH]
            weights += weight
    return (total / weights).clamp(-1, 1)


def unsharp(pictures: Tensor) -> Tensor:
    """The picture and its difference from one blurred by a sigma of one pixel. Source: Gonzalez & Woods 2018,
    section 3.6, unsharp masking."""
    return (2 * pictures - blurred(pictures, 1.0, "symmetric")).clamp(-1, 1)


def local_contrast(pictures: Tensor, times: float) -> Tensor:
    """The difference from the surroundings, a Gaussian mean of `LOCAL` of the width, times `times`, each channel.

    What is hidden by its ground stands out from it, where stretching the whole picture would do nothing. Source:
    Lee 1980, "Digital image enhancement and noise filtering by use of local statistics", the mean unchanged.
    """
    surroundings = blurred(pictures, LOCAL * pictures.shape[-1], "symmetric")
    return surroundings.lerp(pictures, times).clamp(-1, 1)


def grey_world(pictures: Tensor) -> Tensor:
    """Channels scaled, in linear light, until their means are that of all three. Source: Buchsbaum 1980."""
    light = srgb_to_linear(to_unit(pictures))
    means = light.mean((2, 3), keepdim=True)
    return from_unit(linear_to_srgb(light * means.mean(1, keepdim=True) / means.clamp(min=1e-6))).clamp(-1, 1)


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "autocontrast": autocontrast,
    "median": median,
    "non_local_means": non_local_means,
    "unsharp": unsharp,
    "local_contrast_1.5": partial(local_contrast, times=1.5),
    "local_contrast_2": partial(local_contrast, times=2.0),
    "grey_world": grey_world,
}
"""Every filter by the name that reports give it."""
