import numpy as np
import pytest
import torch
from torch import Tensor

from hubmodels.metrics import foreground_psnr, psnr, ssim


def pairs(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Targets of smooth waves, a flat square, and noise; predictions with noise, blur, a shift, and a blank."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 7, width), indexing="ij")
    waves = torch.stack([x.sin(), y.cos(), (x + y).sin()]) / 2 + 0.5
    square = torch.ones(3, height, width)
    square[:, 4:9, 3:12] = torch.tensor([0.9, 0.1, 0.3])[:, None, None]
    noise = torch.rand(3, height, width, generator=generator)
    target = torch.stack([waves, square, noise, square])
    blurred = torch.nn.functional.avg_pool2d(square, 3, 1, 1)
    noisy = waves + 0.1 * torch.randn(3, height, width, generator=generator)
    prediction = torch.stack([noisy, blurred, noise.roll(1, -1), torch.ones_like(square)])
    return prediction.clamp(0, 1), target


def arrays(pictures: Tensor) -> list[np.ndarray]:
    return [picture.double().permute(1, 2, 0).numpy() for picture in pictures]


@pytest.mark.parametrize("size", [(24, 40), (64, 64)])
def test_equal_to_scikit_image(size: tuple[int, int]) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    prediction, target = pairs(*size)
    for ours, a, b in zip(psnr(prediction, target), arrays(prediction), arrays(target), strict=True):
        assert ours.item() == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-4)
    for ours, a, b in zip(ssim(prediction, target), arrays(prediction), arrays(target), strict=True):
        theirs = structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1
        )
        assert ours.item() == pytest.approx(theirs, abs=1e-6)


def test_a_constant_shift_in_closed_form() -> None:
    a, b = 0.4, 0.7
    prediction, target = torch.full((2, 3, 16, 16), a), torch.full((2, 3, 16, 16), b)
    assert psnr(prediction, target).tolist() == pytest.approx([-20 * np.log10(0.3)] * 2, abs=1e-4)
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)  # without contrast, only this term is left
    assert ssim(prediction, target).tolist() == pytest.approx([luminance] * 2, abs=1e-6)
    assert psnr(target, target).tolist() == [torch.inf] * 2
    assert ssim(target, target).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_foreground_is_judged_alone() -> None:
    prediction, target = torch.full((3, 3, 16, 16), 0.5), torch.full((3, 3, 16, 16), 0.5)
    foreground = torch.zeros(3, 16, 16, dtype=torch.bool)
    foreground[:2, 2:4, 5:9] = True
    prediction[0, :, 2:4, 5:9] = 0.6
    prediction[1, 0, 10, 10] = 0  # outside
    first, second, third = foreground_psnr(prediction, target, foreground).tolist()
    assert first == pytest.approx(20, abs=1e-4) and second == torch.inf and np.isnan(third)
    everything = torch.ones_like(foreground)
    assert torch.equal(foreground_psnr(prediction, target, everything), psnr(prediction, target))


def test_other_ranges_and_shapes_are_refused() -> None:
    half = torch.full((1, 3, 16, 16), 0.5)
    for wrong, message in (
        (half - 1, r"prediction must be in \[0, 1\], got -0.5 to -0.5"),
        (half * torch.nan, "got nan to nan"),
        (half.byte(), "prediction must be of floats"),
        (half[0], r"got \(3, 16, 16\), \(1, 3, 16, 16\)"),
    ):
        for metric in (psnr, ssim):
            with pytest.raises(ValueError, match=message):
                metric(wrong, half)
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(half[..., :10], half[..., :10])
    with pytest.raises(ValueError, match="foreground must be bool"):
        foreground_psnr(half, half, torch.ones(1, 16, 16))
