"""`Details` on MLX: the same names and numbers; channels lie last.

See `details` for what everything is and where it comes from.
"""

import hubmodels.pixelscene.openblas  # noqa: F401

# isort: split

import mlx.core as mx
import mlx.nn as nn

from hubmodels.pixelscene.details import told_of_shades
from hubmodels.pixelscene.shape import CODE, COLOURS, PixelTransformerConfig
from hubmodels.pixelscene.vqgan_mlx import Block


class Details(nn.Module):
    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        channels = config.channels
        self.token = nn.Embedding(config.codebook_size + 1, CODE)
        self.enter = nn.Conv2d(CODE + 4, channels, 3, padding=1)
        self.blocks = [Block(channels, 2**number) for number in range(config.convolutions)]
        self.norm = nn.RMSNorm(channels, eps=1e-6)
        self.leave = nn.Linear(channels, config.codebook_size)
        self._shade = mx.array(told_of_shades())

    def __call__(self, palette: mx.array, thumbnail: mx.array, tokens: mx.array) -> mx.array:
        x = self.enter(mx.concatenate([self.token(tokens), self._shade[shaded(palette, thumbnail)]], 3))
        for block in self.blocks:
            x = block(x)
        return self.leave(nn.silu(self.norm(x))).flatten(1, 2)


def shaded(palette: mx.array, plane: mx.array) -> mx.array:
    """(B, h, w) shades of colours of a palette (B, P); COLOURS where there is none."""
    known = mx.pad(palette, [(0, 0), (0, 1)], constant_values=COLOURS)
    return mx.take_along_axis(known, plane.reshape(len(plane), -1), 1).reshape(plane.shape)
