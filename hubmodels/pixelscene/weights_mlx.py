"""One safetensors file for torch and MLX: names are the same, convolutions lie otherwise in memory."""

import hubmodels.pixelscene.openblas  # noqa: F401

# isort: split

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

CONVOLUTION = 4
"""Dimensions: torch has (out, in, height, width), MLX (out, height, width, in)."""


def load(model: nn.Module, file: str | Path) -> None:
    """Weights of torch's network of the same shape.

    Raises:
        ValueError: a tensor is missing, extra or of another shape; it is named.
    """
    found = mx.load(str(file))
    assert isinstance(found, dict)
    take(model, found, str(file))


def take(model: nn.Module, found: dict[str, mx.array], source: str = "the state") -> None:
    """Weights as torch has them in memory; otherwise like `load`."""
    own = _flat(model)
    stored = {name: one.transpose(0, 2, 3, 1) if one.ndim == CONVOLUTION else one for name, one in found.items()}
    odd = [f"{name} is missing" for name in own.keys() - stored.keys()]
    odd += [f"{name} is unknown" for name in stored.keys() - own.keys()]
    odd += [
        f"{name} is {stored[name].shape} instead of {own[name].shape}"
        for name in own.keys() & stored.keys()
        if own[name].shape != stored[name].shape
    ]
    if odd:
        raise ValueError(f"{source} holds another network: {', '.join(sorted(odd)[:3])}")
    model.load_weights([(name, mx.contiguous(one)) for name, one in stored.items()])
    mx.eval(model.parameters())


def save(model: nn.Module, file: str | Path) -> None:
    """As torch would."""
    tensors = {
        name: mx.contiguous(one.transpose(0, 3, 1, 2)) if one.ndim == CONVOLUTION else one
        for name, one in _flat(model).items()
    }
    mx.save_safetensors(str(file), tensors, metadata={"format": "pt"})


def _flat(model: nn.Module) -> dict[str, mx.array]:
    """Every weight by its name, as torch has it in a state_dict."""
    flat = {}
    for name, one in tree_flatten(model.parameters()):
        assert isinstance(one, mx.array)
        flat[str(name)] = one
    return flat
