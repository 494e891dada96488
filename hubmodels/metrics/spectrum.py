"""Traces that upsampling leaves: patterns of period two, which show as peaks at the end of the spectrum.

Source: Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard; Durall et al. 2020, arXiv 2003.01826.
"""

import torch
from torch import Tensor

BAND = 1 / 16
"""Cycles per pixel around the three corners that count: a pattern that comes and goes has a wider peak."""


def checkerboard_energy(pictures: Tensor) -> Tensor:
    """Mean square (B,) of what alternates from pixel to pixel: around the frequencies (pi, 0), (0, pi), (pi, pi).

    A pattern of c + a and c - a in columns, rows or squares has a^2, a picture without fine detail none.
    """
    height, width = pictures.shape[-2:]
    share = torch.fft.fft2(pictures.float(), norm="forward").abs().square().mean(1)  # sums to the mean square
    away_y, away_x = (torch.fft.fftfreq(size, device=pictures.device).abs() for size in (height, width))
    (slow_y, fast_y), (slow_x, fast_x) = ((f <= BAND, f >= 0.5 - BAND) for f in (away_y, away_x))
    corners = (fast_y[:, None] & (slow_x | fast_x)) | (slow_y[:, None] & fast_x)
    return (share * corners).sum((1, 2))


def checkerboard(predictions: Tensor, targets: Tensor) -> Tensor:
    """How many times the `checkerboard_energy` of the targets is in the predictions, over the batch: a scalar.

    1 for pictures as fine as their targets, more for a pattern that is not theirs, less for blur. NaN if
    neither has any, infinite if only the predictions do.
    """
    return checkerboard_energy(predictions).mean() / checkerboard_energy(targets).mean()
