"""What the maps of `neuropbr` are trained on: pure functions of (B, C, H, W) maps, each a scalar.

Albedo sRGB-coded in [0, 1], roughness and metallic in [0, 1], normals unit vectors.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import linear_to_srgb
from hubmodels.neuropbr.lights import Lights
from hubmodels.neuropbr.model import Maps
from hubmodels.neuropbr.shading import shade


@dataclass(frozen=True)
class Weights:
    """Of the terms of the loss."""

    l1: float = 1.0
    """Of all mean absolute differences; the four below are relative to it."""
    albedo: float = 1.0
    roughness: float = 1.0
    metallic: float = 1.0
    """Metal and the rest count alike."""
    normal_map: float = 0.5
    ssim: float = 0.3
    """Of 1 - SSIM of albedo."""
    normal: float = 8.0
    """Of 1 - cos of the angle between normals; it asks for their mean where several are likely, an absolute difference
    for flat ones."""
    render: float = 1.0
    """Of the difference of log radiance under random and mirrored lights."""
    picture: float = 5.0
    """Of the squared difference of the pictures, as seen on a screen, under the same lights."""
    light: float = 1.0
    """Of the squared distance between the vectors to where the light of each photo comes from. Normals follow from
    shading only for one who knows the light."""


def terms(
    weights: Weights, prediction: Maps, target: Maps, configurations: list[tuple[Lights, Tensor]]
) -> dict[str, Tensor]:
    """The weighted terms of the loss; `configurations` are those of `rerendered`."""
    radiance, picture = rerendered(prediction, target, configurations)
    return {
        "albedo": weights.l1 * weights.albedo * absolute(prediction["albedo"], target["albedo"]),
        "roughness": weights.l1 * weights.roughness * absolute(prediction["roughness"], target["roughness"]),
        "metallic": weights.l1 * weights.metallic * balanced(prediction["metallic"], target["metallic"]),
        "normal_map": weights.l1 * weights.normal_map * absolute(prediction["normal"], target["normal"]),
        "ssim": weights.ssim * dissimilar(prediction["albedo"], target["albedo"]),
        "normal": weights.normal * angular(prediction["normal"], target["normal"]),
        "render": weights.render * radiance,
        "picture": weights.picture * picture,
        "light": weights.light * misplaced(prediction["light"], target["light"]),
    }


def absolute(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of a map."""
    return (prediction - target).abs().mean()


def angular(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between normals; 0 where they are equal, 2 where they are opposite."""
    return (1 - (F.normalize(prediction, dim=1) * F.normalize(target, dim=1)).sum(1)).mean()


def balanced(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of metallic, in which all metal counts as much as all that is none.

    Most pixels of most materials are no metal: an unweighted mean is low for a network that never sees any.
    Pixels between 0 and 1 count to both sides by their share; a batch with one side only has that side's mean.
    """
    error = (prediction - target).abs()
    sides = torch.stack([target, 1 - target])
    mass = sides.sum((1, 2, 3, 4))
    means = (sides * error).sum((1, 2, 3, 4)) / mass.clamp(min=1e-6)
    present = (mass > 0.5).to(means)
    return (means * present).sum() / present.sum()


def dissimilar(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM of albedo: windows of 11 x 11, Gaussian of 1.5 pixels, the edge mirrored (Wang et al. 2004, eq. 13)."""
    at = torch.arange(-5, 6, device=prediction.device, dtype=prediction.dtype)
    kernel = (-0.5 * (at / 1.5) ** 2).exp()
    kernel = kernel / kernel.sum()

    def local(x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = F.pad(x, (5,) * 4, "reflect")
        x = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)

    stacked = torch.cat([prediction, target, prediction**2, target**2, prediction * target], 1)
    a, b, aa, bb, ab = local(stacked).chunk(5, 1)
    similarity = (2 * a * b + 1e-4) * (2 * (ab - a * b) + 9e-4)
    return 1 - (similarity / ((a * a + b * b + 1e-4) * (aa - a * a + bb - b * b + 9e-4))).mean()


def misplaced(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of light vectors (B, N, 3), over the photos whose light is known: the others have 0."""
    known = target.square().sum(2) > 0
    return ((prediction - target).square().sum(2) * known).sum() / known.sum().clamp(min=1)


def rerendered(prediction: Maps, target: Maps, configurations: list[tuple[Lights, Tensor]]) -> tuple[Tensor, Tensor]:
    """How unlike both materials look under some lights and from some places.

    Deschaintre et al. 2018 (arXiv 1810.09718), section 4.2: maps may differ where it does not show, and small
    differences that show count. The logarithm, of radiance + 0.1, keeps highlights from deciding everything. An
    absolute difference asks for the likeliest of several materials, a squared one for their mean.

    Args:
        configurations: lights and the place of the eye (B, 3), as `shade` takes them.

    Returns:
        Mean absolute difference of log radiance; mean squared difference of sRGB pictures in [0, 1].
    """
    pairs = [(shade(prediction, lights, eye), shade(target, lights, eye)) for lights, eye in configurations]
    radiance = [((a + 0.1).log() - (b + 0.1).log()).abs().mean() for a, b in pairs]
    picture = [F.mse_loss(linear_to_srgb(a.clamp(0, 1)), linear_to_srgb(b.clamp(0, 1))) for a, b in pairs]
    return torch.stack(radiance).mean(), torch.stack(picture).mean()
