"""What the tokenizer keeps of pictures it has not seen."""

import numpy as np
import torch
from numpy import ndarray as Array

from hubmodels.pixelscene import measures
from hubmodels.pixelscene.palettes import oklab
from hubmodels.pixelscene.vqgan import PixelVQGAN

Picture = tuple[Array, Array]
"""Indices (H, W) uint8 and palette (K, 3) uint8."""


def cropped(indices: Array, stride: int) -> Array:
    """The middle of a picture (H, W), as much of it as the stride divides."""
    rows, columns = ((side % stride, side - side % stride) for side in indices.shape)
    top, left = rows[0] // 2, columns[0] // 2
    return indices[top : top + rows[1], left : left + columns[1]]


def rebuilt(model: PixelVQGAN, picture: Picture) -> tuple[Array, Array, Array]:
    """A picture and what comes back of it, (H, W) indices, and its tokens (h, w)."""
    indices, palette = cropped(picture[0], model.config.stride), torch.from_numpy(oklab(picture[1])).float()[None]
    device = model.pointer.sharpness.device
    tokens = model.encode(torch.from_numpy(indices.copy())[None].to(device), palette.to(device))
    made = model.decode(tokens, palette.to(device))
    return indices, made[0].cpu().numpy(), tokens[0].cpu().numpy()


def compared(made: Array, true: Array) -> dict[str, float]:
    """Of two pictures (H, W, 3) uint8."""
    return {
        "psnr": measures.psnr(made, true),
        "index_accuracy": measures.index_accuracy(made, true),
        "delta_e": measures.delta_e(made, true),
        "edges": measures.edges(made) / max(measures.edges(true), 1e-6),
        "dither": measures.dither(made) / max(measures.dither(true), 1e-6),
    }


def quick(model: PixelVQGAN, pictures: list[Picture]) -> dict[str, float]:
    """Means over pictures; edges and dither are shares of the true ones. usage is of the codebook."""
    rows, tokens = [], []
    for picture in pictures:
        true, made, codes = rebuilt(model, picture)
        rows.append(compared(picture[1][made], picture[1][true]))
        tokens.append(codes.ravel())
    even, used = measures.perplexity(np.concatenate(tokens), model.config.codebook_size)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {"perplexity": even, "usage": used}
