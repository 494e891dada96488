"""The networks on MLX behind torch tensors, so that `scene` and `sampling` need not know on what they run.

Chance comes from NumPy in both, so one seed draws the same tokens.
"""

import mlx.core as mx
import numpy as np
import torch
from torch import Tensor

from hubmodels.pixelscene import transformer_mlx, vqgan_mlx, weights_mlx
from hubmodels.pixelscene.transformer import Cache, PixelTransformer
from hubmodels.pixelscene.vqgan import PixelVQGAN


class Tokenizer:
    """See `vqgan.PixelVQGAN`."""

    def __init__(self, model: PixelVQGAN) -> None:
        self.config = model.config
        self.network = vqgan_mlx.PixelVQGAN(model.config)
        weights_mlx.take(self.network, {name: _mlx(one) for name, one in model.state_dict().items()})

    def encode(self, indices: Tensor, palette: Tensor) -> Tensor:
        return _torch(self.network.encode(_mlx(indices), _mlx(palette))).long()

    def decode(self, tokens: Tensor, palette: Tensor) -> Tensor:
        return _torch(self.network.decode(_mlx(tokens), _mlx(palette)))


class Transformer:
    """See `transformer.PixelTransformer`."""

    def __init__(self, model: PixelTransformer) -> None:
        self.config = model.config
        self.network = transformer_mlx.PixelTransformer(model.config)
        weights_mlx.take(self.network, {name: _mlx(one) for name, one in model.state_dict().items()})
        self.network.eval()

    def read(self, words: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        context, there = self.network.read(_mlx(words), _mlx(told))
        return _torch(context), _torch(there)

    def say(self, palette: Tensor, tokens: Tensor, context: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        colours, picture = self.network.say(*(_mlx(one) for one in (palette, tokens, context, told)))
        return _torch(colours), _torch(picture)

    def step(
        self, last: Tensor | None, place: int, size: tuple[int, int], context: Tensor, told: Tensor, cache: Cache
    ) -> tuple[Tensor, Cache]:
        known = [(_mlx(key), _mlx(value)) for key, value in cache]
        said, grown = self.network.step(
            None if last is None else _mlx(last), place, size, _mlx(context), _mlx(told), known
        )
        return _torch(said), [(_torch(key), _torch(value)) for key, value in grown]


def _mlx(tensor: Tensor) -> mx.array:
    return mx.array(tensor.cpu().numpy())


def _torch(array: mx.array) -> Tensor:
    return torch.from_numpy(np.array(array))
