"""A PatchGAN that judges maps beside the average photo they were made from, and the losses that go with it."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hubmodels.neuropbr.model import Maps

MAPS = 3 + 1 + 1 + 3


class Discriminator(nn.Module):
    """Patches of maps, real or made up? A condition keeps it from praising maps of another surface.

    Source: Isola et al. 2017 (arXiv 1611.07004), section 3.2.2. 3, 4, 5 and 6 layers see 70, 142, 286 and 574 pixels.
    """

    def __init__(self, layers: int = 4, channels: int = 64) -> None:
        super().__init__()
        if not 3 <= layers <= 6:
            raise ValueError(f"the discriminator has from 3 to 6 layers, got {layers}")
        widths = [MAPS + 3, *(channels * min(2**i, 8) for i in range(layers)), channels * 8, 1]
        strides = [2] * layers + [1, 1]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride, padding=1)
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in widths[2:-1])

    def forward(self, maps: Maps, photo: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores (B, 1, h, w), one a patch, above 0 for real; and the features under them."""
        x = torch.cat([maps[name] * 2 - 1 for name in ("albedo", "roughness", "metallic")], 1)
        x = F.leaky_relu(self.convs[0](torch.cat([x, maps["normal"], photo * 2 - 1], 1)), 0.2)
        features = [x]
        for conv, norm in zip(list(self.convs)[1:-1], self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            features.append(x)
        return self.convs[-1](x), features


def discriminator_loss(real: Tensor, made: Tensor, kind: Literal["hinge", "bce"]) -> Tensor:
    """What the discriminator minimises, from its scores of real and of made-up maps."""
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + made).mean()
    return F.softplus(-real).mean() + F.softplus(made).mean()


def generator_loss(made: Tensor, kind: Literal["hinge", "bce"]) -> Tensor:
    """What the network that makes maps minimises, from the scores of its maps."""
    return -made.mean() if kind == "hinge" else F.softplus(-made).mean()


def feature_matching(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Mean distance of the discriminator's features. Source: Wang et al. 2018 (pix2pixHD, arXiv 1711.11585), eq. 3."""
    return torch.stack([F.l1_loss(b, a.detach()) for a, b in zip(real, made, strict=True)]).mean()


def gradient_penalty(discriminator: Discriminator, maps: Maps, photo: Tensor) -> Tensor:
    """R1: squared gradient of the scores of real maps, mean over pictures. Source: Mescheder et al. 2018, eq. 9."""
    real = {name: one.detach().requires_grad_() for name, one in maps.items() if name in NAMES}
    scores, _ = discriminator(real, photo)
    gradients = torch.autograd.grad(scores.sum(), list(real.values()), create_graph=True)
    return sum((g.square().flatten(1).sum(1) for g in gradients), scores.new_zeros(len(photo))).mean()


NAMES = ("albedo", "roughness", "metallic", "normal")
