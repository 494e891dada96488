"""Exponential moving average of a network's weights.

    average <- d_t * average + (1 - d_t) * weights,   d_t = min(decay, (1 + t) / (10 + t)),   t = 0, 1, 2, ...

The warm-up of d keeps the random first weights from lingering for 1 / (1 - decay) steps (TensorFlow's
`ExponentialMovingAverage(num_updates=)`). Integer buffers are copied. Under FSDP2 ranks average their shards.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class EMA:
    """Follows every parameter and every saved buffer of one network."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema decay must lie between 0 and 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards the network's present weights; call it after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in network.state_dict().items():
            mean, value = _shard(self.weights[name]), _shard(value)
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def load(self, weights: dict[str, Tensor], updates: int) -> None:
        """Go on from whole tensors, as a checkpoint holds them."""
        for name, own in self.weights.items():
            value = weights[name].to(own.device)
            own.copy_(distribute_tensor(value, own.device_mesh, own.placements) if isinstance(own, DTensor) else value)
        self.updates = updates

    @contextmanager
    def swapped(self, network: nn.Module) -> Iterator[None]:
        """The network holds the averaged weights inside the `with`, and its own bits again after it."""
        own = {name: _shard(value).clone() for name, value in network.state_dict().items()}
        _copy(self.weights, network)
        try:
            yield
        finally:
            _copy(own, network)


@torch.no_grad()
def _copy(weights: dict[str, Tensor], network: nn.Module) -> None:
    for name, value in network.state_dict().items():
        _shard(value).copy_(_shard(weights[name]))


def _shard(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
