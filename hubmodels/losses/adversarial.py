"""A PatchGAN that tells real pictures from made ones, and the losses that go with it."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchGAN(nn.Module):
    """Patches of pictures, real or made up? A condition keeps it from praising a picture of something else.

    Source: Isola et al. 2017 (arXiv 1611.07004), section 3.2.2. 3, 4, 5 and 6 layers see 70, 142, 286 and 574 pixels.
    """

    def __init__(self, inputs: int, layers: int = 3, channels: int = 64) -> None:
        """
        Args:
            inputs: channels of a picture, and of its condition if there is one.
            layers: of stride 2; two of stride 1 follow.
            channels: of the first layer, a multiple of 8.

        Raises:
            ValueError: there are not 3 to 6 layers.
        """
        super().__init__()
        if not 3 <= layers <= 6:
            raise ValueError(f"the discriminator has from 3 to 6 layers, got {layers}")
        widths = [inputs, *(channels * min(2**i, 8) for i in range(layers)), channels * 8, 1]
        strides = [2] * layers + [1, 1]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride, padding=1)
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in widths[2:-1])

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Scores (B, 1, h, w) of pictures (B, C, H, W), one a patch, above 0 for real; and the features under them."""
        x = pictures if condition is None else torch.cat([pictures, condition], 1)
        x = F.leaky_relu(self.convs[0](x), 0.2)
        features = [x]
        for conv, norm in zip(list(self.convs)[1:-1], self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            features.append(x)
        return self.convs[-1](x), features


def discriminator_loss(real: Tensor, made: Tensor, kind: Literal["hinge", "bce"] = "hinge") -> Tensor:
    """What the discriminator minimises, from its scores of real and of made pictures."""
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + made).mean()
    return F.softplus(-real).mean() + F.softplus(made).mean()


def generator_loss(made: Tensor, kind: Literal["hinge", "bce"] = "hinge") -> Tensor:
    """What the network that makes pictures minimises, from their scores."""
    return -made.mean() if kind == "hinge" else F.softplus(-made).mean()


def feature_matching(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Mean distance of the discriminator's features. Source: Wang et al. 2018 (pix2pixHD, arXiv 1711.11585), eq. 3."""
    return torch.stack([F.l1_loss(b, a.detach()) for a, b in zip(real, made, strict=True)]).mean()


def gradient_penalty(discriminator: nn.Module, real: Tensor, condition: Tensor | None = None) -> Tensor:
    """R1: squared gradient of the scores by real pictures, mean over them. Source: Mescheder et al. 2018, eq. 9."""
    pictures = real.detach().requires_grad_()
    scores, _ = discriminator(pictures, condition)
    (gradient,) = torch.autograd.grad(scores.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
