"""Tokens of a picture from its thumbnail and from the tokens around them, by convolutions.

    thumbnail (B, h, w), tokens that are known (B, h, w) --embeddings--> Convolution --Blocks--> logits (B, h w, V)

What words say of a picture is in its thumbnail; what is missing are edges, grain and dither, which follow from what is
beside them. Convolutions learn that from a third of the pictures that attention wants (LOG.md).

B batch, P colours of a palette, h and w of the tokens, V of them, C channels.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray as Array
from torch import Tensor, nn

from hubmodels.pixelscene.palettes import oklab, shades
from hubmodels.pixelscene.shape import CODE, COLOURS, GREY, PixelTransformerConfig
from hubmodels.pixelscene.vqgan import Block, Convolution, Norm

CONTRAST = 3.0
"""By which OKLab is multiplied, so that its numbers are about as large as those of codes."""
SCALES = 0.15, 1.5
"""Distances of codes at which they are somewhat alike at first: of neighbours, and of half of all that there are."""


class Details(nn.Module):
    """Logits of all tokens of a picture from those that are known."""

    shade: Tensor

    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        channels = config.channels
        self.token = nn.Embedding(config.codebook_size + 1, CODE)
        """The last is of what is not known."""
        self.enter = Convolution(CODE + 4, channels, 3)
        self.blocks = nn.ModuleList(Block(channels, 2**number) for number in range(config.convolutions))
        self.norm = Norm(channels)
        self.leave = nn.Linear(channels, config.codebook_size)
        self.register_buffer("shade", torch.from_numpy(told_of_shades()), persistent=False)

    def forward(self, palette: Tensor, thumbnail: Tensor, tokens: Tensor) -> Tensor:
        """
        Args:
            palette: (B, P) colour tokens.
            thumbnail: (B, h, w) colours of the palette, P where it is not known.
            tokens: (B, h, w), V where they are not known.
        """
        colours = F.embedding(shaded(palette, thumbnail), self.shade)
        x = torch.cat([self.token(tokens), colours], 3).permute(0, 3, 1, 2)
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(F.silu(self.norm(x)).permute(0, 2, 3, 1)).flatten(1, 2)

    @torch.no_grad()
    def begin(self, codes: Tensor) -> None:
        """Before any training: tell tokens by their codes (V, D), and that they are known; and say alike codes alike,
        so that what is learned of one is learned of those near it."""
        width = min(codes.shape[1], CODE - 1)
        self.token.weight.zero_()
        self.token.weight[:-1, :width] = codes[:, :width]
        self.token.weight[:-1, -1] = 1
        channels = self.leave.in_features
        self.leave.weight.copy_(channels**-0.5 * waves(codes, channels, SCALES))


def shaded(palette: Tensor, plane: Tensor) -> Tensor:
    """(B, h, w) shades of colours of a palette (B, P); COLOURS where there is none."""
    return F.pad(palette, (0, 1), value=COLOURS).gather(1, plane.flatten(1)).view_as(plane)


@functools.cache
def told_of_shades() -> Array:
    """(COLOURS + 1, 4) float32: OKLab of each shade about grey, scaled to about 1, and 1; of none all 0."""
    lab = CONTRAST * (oklab(shades()) - (GREY, 0, 0))
    return np.pad(np.concatenate([lab, np.ones((COLOURS, 1))], 1), ((0, 1), (0, 0))).astype(np.float32)


def waves(places: Tensor, width: int, scales: tuple[float, float]) -> Tensor:
    """(N, width) of unit variance for places (N, D), alike where those are near each other, at scales from one to
    another.

    Source: random Fourier features of Rahimi & Recht 2007, of Gaussians with such deviations.
    """
    near, far = (math.log(scale) for scale in scales)
    deviations = (near + (far - near) * torch.rand(width)).exp()
    directions = torch.randn(places.shape[1], width) / deviations
    return 2**0.5 * (places @ directions + 2 * math.pi * torch.rand(width)).cos()
