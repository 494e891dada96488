"""The smallest model that keeps the contract, for tests of what all models share; and models that are awake."""

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from hubmodels.hub import HubModel

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TinyConfig:
    width: int = 4
    slope: float = 0.1
    mode: Literal["add", "mul"] = "add"
    bias: bool = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


class Tiny(HubModel, pipeline_tag="image-to-image", paper_url="https://arxiv.org/abs/1234.56789", tags=["toy"]):
    """Two layers with dropout, a buffer of integers and one of numbers.

    Shapes: (B, 3) to (B, 3).
    """

    def __init__(self, config: TinyConfig):
        super().__init__()
        self.config = config
        self.first = nn.Linear(3, config.width, bias=config.bias)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(config.width, 3)
        self.register_buffer("mean", torch.full((3,), 0.1))
        self.register_buffer("seen", torch.tensor(7))

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.leaky_relu(self.first(x), self.config.slope)
        return self.last(self.drop(hidden)) + self.get_buffer("mean")


def awake(model: M, size: float = 0.1) -> M:
    """The same model, with random numbers for weights that begin as zero: blocks start out as nothing, and then what
    goes into them does not matter."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=size)
    return model
