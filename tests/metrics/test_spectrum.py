import pytest
import torch
from torch import Tensor, nn

from hubmodels.metrics import checkerboard, checkerboard_energy


def alternating(size: int, rows: bool, columns: bool) -> Tensor:
    """(1, 3, size, size) of +1 and -1 that changes with every row, column, or both."""
    sign = 1 - 2 * (torch.arange(size) % 2).float()
    pattern = (sign if rows else torch.ones(size))[:, None] * (sign if columns else torch.ones(size))
    return pattern.expand(1, 3, -1, -1)


@pytest.mark.parametrize(("rows", "columns"), [(True, False), (False, True), (True, True)])
def test_energy_of_a_pattern_is_its_amplitude_squared(rows: bool, columns: bool) -> None:
    pattern = 0.5 + 0.1 * alternating(64, rows, columns)
    assert checkerboard_energy(pattern).item() == pytest.approx(0.01, rel=1e-4)
    assert checkerboard(pattern, 0.5 + 0.05 * alternating(64, rows, columns)).item() == pytest.approx(4, rel=1e-3)


def test_a_pattern_that_comes_and_goes_counts_whole() -> None:
    x = torch.arange(64) * (2 * torch.pi / 64)
    envelope = (1 + x.cos()) / 2  # mean square 3/8
    pattern = 0.5 + 0.1 * alternating(64, True, True) * envelope
    assert checkerboard_energy(pattern).item() == pytest.approx(0.01 * 3 / 8, rel=1e-4)


def test_what_is_not_fine_does_not_count() -> None:
    flat = torch.full((1, 3, 64, 64), 0.7)
    assert checkerboard_energy(flat).item() < 1e-12
    period_four = torch.tensor([1.0, 1, -1, -1]).repeat(16).expand(1, 3, 64, 64)
    assert checkerboard_energy(period_four).item() < 1e-9


def test_tells_a_transposed_convolution_from_an_upsampling() -> None:
    """The culprit itself: kernel 3 with stride 2 overlaps unevenly, nearest then convolution does not."""
    generator = torch.Generator().manual_seed(0)
    smooth = nn.functional.interpolate(torch.rand(8, 3, 4, 4, generator=generator), 32, mode="bicubic")
    target = nn.functional.interpolate(smooth, 64, mode="bilinear")
    box = torch.ones(3, 1, 3, 3)
    uneven = nn.functional.conv_transpose2d(smooth, box * 4 / 9, stride=2, padding=1, output_padding=1, groups=3)
    doubled = nn.functional.interpolate(smooth, 64, mode="nearest")
    even = nn.functional.conv2d(doubled, box / 9, padding=1, groups=3)
    assert checkerboard(uneven, target) > 100 * checkerboard(even, target)


def test_blur_has_less_than_its_target() -> None:
    noise = torch.rand(4, 3, 33, 50, generator=torch.Generator().manual_seed(0))
    assert checkerboard(noise, noise) == 1
    assert checkerboard(nn.functional.avg_pool2d(noise, 3, 1, 1), noise) < 0.3
