"""What happens to a picture between painter and reader, so that nothing which it says hangs on a single pixel.

Pictures are (B, 3, R, R) in [-1, 1] and stay so. All six disturbances are differentiable or straight-through, each
picture draws its own from torch's global generator, and `strength` 0 leaves pictures as they are.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 0.5
"""Chance of each disturbance, for each picture."""


def disturb(pictures: Tensor, strength: float = 1.0) -> Tensor:
    """Blur, shift, JPEG-like coding, quantisation, noise and erasing, in this order, each in `SHARE` of the pictures.

    At strength 1: blur of up to 1 pixel (sigma), shifts of up to 2 pixels, block transform coefficients in steps of up
    to 0.15, levels in steps of up to 0.25, noise of up to 0.2 (sigma), a square of up to 1/8 of the width turned grey.
    """
    if strength == 0:
        return pictures
    size = pictures.new_tensor(strength) * torch.rand(6, len(pictures), 1, 1, 1, device=pictures.device)
    size = size * (torch.rand_like(size) < SHARE)
    x = blur(pictures, size[0])
    x = shift(x, (2 * size[1] * torch.empty(len(x), 2, 1, 1, device=x.device).uniform_(-1, 1)).round().long())
    x = coded(x, 0.15 * size[2])
    x = quantised(x, 0.25 * size[3])
    x = x + 0.2 * size[4] * torch.randn_like(x)
    return erased(x, size[5] / 8).clamp(-1, 1)


def blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian of sigma (B, 1, 1, 1) pixels, at most 1 for a kernel of 5; edges are repeated."""
    x = torch.arange(-2, 3, device=pictures.device, dtype=pictures.dtype)
    kernel = (-0.5 * (x / sigma.view(-1, 1).clamp(min=1e-3)).square()).softmax(1)  # (B, 5)
    batch, channels = pictures.shape[:2]
    flat = pictures.reshape(1, batch * channels, *pictures.shape[2:])
    kernel = kernel.repeat_interleave(channels, 0)[:, None]
    flat = F.conv2d(F.pad(flat, (2, 2, 2, 2), mode="replicate"), kernel[:, :, None], groups=len(kernel))
    return F.conv2d(flat, kernel[:, :, :, None], groups=len(kernel)).view_as(pictures)


def shift(pictures: Tensor, by: Tensor) -> Tensor:
    """Moved by whole pixels (B, 2, 1, 1), right and down; edges are repeated."""
    height, width = pictures.shape[2:]
    x = (torch.arange(width, device=pictures.device) - by[:, :1, 0]).clamp(0, width - 1)  # (B, 1, W)
    y = (torch.arange(height, device=pictures.device) - by[:, 1:, 0]).clamp(0, height - 1)
    at = y.unsqueeze(-1) * width + x.unsqueeze(-2)  # (B, 1, H, W)
    return pictures.flatten(2).gather(2, at.flatten(2).expand(-1, pictures.shape[1], -1)).view_as(pictures)


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The orthonormal discrete cosine transform of 8 samples, (8, 8): rows are frequencies."""
    at = torch.arange(8.0)
    waves = (math.pi / 8 * (at + 0.5) * at[:, None]).cos() / 2
    return torch.cat([waves[:1] / math.sqrt(2), waves[1:]])


def coded(pictures: Tensor, step: Tensor) -> Tensor:
    """What JPEG does: coefficients of blocks of 8 x 8 pixels, rounded to steps (B, 1, 1, 1) that grow with frequency.

    Source: Wallace 1992. The step of frequency (u, v) is `step` * (1 + u + v); rounding passes gradients through.
    """
    cosines = _cosines().to(pictures)
    blocks = F.pixel_unshuffle(pictures, 8).unflatten(1, (3, 8, 8)).permute(0, 1, 4, 5, 2, 3)  # (B, 3, h, w, 8, 8)
    coefficients = cosines @ blocks @ cosines.T
    grows = 1 + torch.arange(8.0, device=pictures.device).add(torch.arange(8.0, device=pictures.device)[:, None])
    coefficients = quantised(coefficients, step[..., None, None] * grows)
    blocks = cosines.T @ coefficients @ cosines
    return F.pixel_shuffle(blocks.permute(0, 1, 4, 5, 2, 3).flatten(1, 3), 8)


def quantised(values: Tensor, step: Tensor) -> Tensor:
    """Values rounded to multiples of a step, which broadcasts; 0 leaves them. Gradients pass straight through."""
    rounded = torch.where(step > 0, (values / step.clamp(min=1e-6)).round() * step, values)
    return values + (rounded - values).detach()


def erased(pictures: Tensor, share: Tensor) -> Tensor:
    """A square of `share` (B, 1, 1, 1) of the width and height turned grey, somewhere in each picture."""
    size = pictures.shape[-1]
    corner = torch.rand(len(pictures), 2, device=pictures.device) * size
    at = torch.arange(size, device=pictures.device)
    inside = (at >= corner[..., None]) & (at < corner[..., None] + share.view(-1, 1, 1) * size)  # (B, 2, R)
    return pictures.masked_fill((inside[:, 1, :, None] & inside[:, 0, None, :])[:, None], 0.0)
