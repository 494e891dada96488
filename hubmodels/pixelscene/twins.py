"""The networks on MLX behind torch tensors, so that `scene`, `sampling` and training need not know on what they run.

Chance comes from NumPy in both, so one seed draws the same tokens. Training has torch's weights, losses and optimizer;
what costs, the network forward and backward, is done by MLX.
"""

import hubmodels.pixelscene.openblas  # noqa: F401

# isort: split

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx.utils import tree_unflatten
from torch import Tensor

from hubmodels.pixelscene import transformer_mlx, vqgan_mlx, weights_mlx
from hubmodels.pixelscene.transformer import Asked, PixelTransformer, Said
from hubmodels.pixelscene.vqgan import VQ, PixelVQGAN, Reconstruction


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

    def say(self, asked: Asked, context: Tensor, told: Tensor) -> Said:
        return tuple(_torch(one) for one in self.network.say(_asked(asked), _mlx(context), _mlx(told)))

    def step(
        self, last: Tensor | None, place: int, size: tuple[int, int], context: Tensor, told: Tensor, cache: Any
    ) -> tuple[Tensor, Any]:
        """`cache` is MLX's own, which is only handed back."""
        known = None if last is None else _mlx(last)
        said, grown = self.network.step(known, place, size, _mlx(context), _mlx(told), cache)
        return _torch(said), grown


# --- training -----------------------------------------------------------------------------------------------------

Network = Callable[..., Sequence[mx.array]]


def trained_vqgan(model: PixelVQGAN) -> Callable[[Tensor, Tensor], Reconstruction]:
    """`model.forward` by way of MLX: gradients reach the weights of `model`, on whatever device they are."""
    twin = vqgan_mlx.PixelVQGAN(model.config)

    def network(colours: mx.array, palette: mx.array) -> Sequence[mx.array]:
        logits, made, tokens, commitment = twin(colours, palette)
        return logits.transpose(0, 3, 1, 2), made.transpose(0, 3, 1, 2), commitment, tokens.astype(mx.float32)

    def forward(colours: Tensor, palette: Tensor) -> Reconstruction:
        inputs = _mlx(colours.permute(0, 2, 3, 1)), _mlx(palette)
        codes = model.quantizer
        if isinstance(codes, VQ) and codes.training and codes.follows:  # on torch, then MLX reads them
            weights_mlx.take(twin, {name: _mlx(one) for name, one in model.state_dict().items()})
            codes.follow(_torch(twin.encoder(inputs[0])).permute(0, 3, 1, 2).to(codes.codebook.device))
        weights_mlx.take(twin, {name: _mlx(one) for name, one in model.state_dict().items()})
        logits, made, commitment, tokens = _Passed.apply(twin, network, inputs, model, *model.parameters())
        return Reconstruction(logits, made, tokens.detach().long(), commitment)

    return forward


def trained_transformer(model: PixelTransformer) -> Callable[..., Said]:
    """`model.forward` by way of MLX, likewise."""
    twin = transformer_mlx.PixelTransformer(model.config)

    def forward(asked: Sequence[Asked], words: Tensor, told: Tensor) -> Said:
        inputs = [_asked(one) for one in asked], _mlx(words), _mlx(told)
        twin.train(model.training)
        return _Passed.apply(twin, twin, inputs, model, *model.parameters())

    return forward


class _Passed(torch.autograd.Function):
    """Of a network on MLX, as torch sees it: a function of its weights."""

    @staticmethod
    def forward(ctx: Any, twin: nn.Module, network: Network, inputs: Any, model: torch.nn.Module, *weights: Tensor):
        names = [name for name, _ in model.named_parameters()]
        seed = int(torch.randint(2**31, ()))  # of dropout: a run seeds torch for each batch

        def function(*given: mx.array) -> Sequence[mx.array]:
            mx.random.seed(seed)
            turned = [one.transpose(0, 2, 3, 1) if one.ndim == weights_mlx.CONVOLUTION else one for one in given]
            twin.update(tree_unflatten(list(zip(names, turned, strict=True))))
            return network(*inputs)

        ctx.function, ctx.given, ctx.device = function, [_mlx(one) for one in weights], weights[0].device
        return tuple(_torch(one).to(ctx.device) for one in function(*ctx.given))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor):
        # MLX keeps nothing of the way forward, so it goes it again
        _, gradients = mx.vjp(ctx.function, ctx.given, [_mlx(one.contiguous()) for one in cotangents])
        return None, None, None, None, *(_torch(one).to(ctx.device) for one in gradients)


def _mlx(tensor: Tensor) -> mx.array:
    return mx.array(tensor.detach().cpu().numpy())


def _asked(asked: Asked) -> transformer_mlx.Asked:
    stage, palette, *rest = asked
    above, plane = (None if one is None else _mlx(one) for one in rest)
    return stage, _mlx(palette), above, plane


def _torch(array: mx.array) -> Tensor:
    return torch.from_numpy(np.array(array))
