import numpy as np
import pytest
import scipy.ndimage
import skimage.data
import skimage.filters
import skimage.restoration
import torch
from torch import Tensor

from hubmodels.images import from_uint8, from_unit, linear_to_srgb, srgb_to_linear, to_unit
from hubmodels.lens.corruptions import corrupt
from hubmodels.lens.filters import FILTERS, LOCAL, PATCH, SEARCH, grey_world, noise_level, non_local_means


def photos() -> Tensor:
    """Two crops that are not square, (2, 3, 48, 64)."""
    cat = from_uint8(torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1))
    return torch.stack([cat[:, 100:148, 150:214], cat[:, 30:126:2, 200:328:2]])


def channels_last(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).double().contiguous().numpy()


@pytest.mark.parametrize("name", FILTERS)
def test_shape_range_and_each_picture_for_itself(name: str) -> None:
    pictures = photos()
    kept = pictures.clone()
    filtered = FILTERS[name](pictures)
    assert filtered.shape == pictures.shape and filtered.dtype == pictures.dtype
    assert filtered.min() >= -1 and filtered.max() <= 1
    assert torch.equal(pictures, kept)
    single = torch.cat([FILTERS[name](pictures[i : i + 1]) for i in range(2)])
    assert torch.allclose(filtered, single, atol=1e-5)  # sums run in another order
    assert not torch.allclose(filtered, pictures, atol=0.01)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), (0.7, -0.2, -0.9)])
def test_one_colour_stays(name: str, colour: tuple[float, ...]) -> None:
    flat = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 16, 20).contiguous()
    if name == "grey_world" and colour[0] != colour[1]:
        filtered = grey_world(flat)
        grey = linear_to_srgb(srgb_to_linear(to_unit(flat)).mean(1, keepdim=True)).expand_as(flat)
        assert torch.allclose(to_unit(filtered), grey, atol=1e-5)
    else:
        assert torch.allclose(FILTERS[name](flat), flat, atol=1e-5)


def test_autocontrast_stretches_from_percentile_to_percentile() -> None:
    picture = photos()[:1]
    red, green, blue = channels_last(picture[0]).transpose(2, 0, 1)
    low, high = np.percentile(0.299 * red + 0.587 * green + 0.114 * blue, [2, 98])
    expected = ((channels_last(picture[0]) - low) / (high - low) * 2 - 1).clip(-1, 1)
    assert np.allclose(channels_last(FILTERS["autocontrast"](picture)[0]), expected, atol=1e-5)


def test_autocontrast_undoes_haze() -> None:
    """Haze moves every luma alike, so the stretched picture is the same with it and without."""
    clean = photos()
    assert torch.allclose(FILTERS["autocontrast"](0.25 * clean + 0.1), FILTERS["autocontrast"](clean), atol=1e-4)


def test_median() -> None:
    pictures = photos()
    expected = scipy.ndimage.median_filter(pictures.numpy(), (1, 1, 3, 3), mode="nearest")
    assert np.array_equal(FILTERS["median"](pictures).numpy(), expected)


def test_unsharp_and_local_contrast() -> None:
    picture = photos()[:1]
    image = channels_last(picture[0])
    for name, radius, amount in [
        ("unsharp", 1, 1),
        ("local_contrast_1.5", LOCAL * 64, 0.5),
        ("local_contrast_2", LOCAL * 64, 1),
    ]:
        # channel_axis=-1 would fill three rows only, and leave the rest as memory had it
        expected = skimage.filters.unsharp_mask(image, radius, amount, preserve_range=True, channel_axis=2)
        assert np.abs(channels_last(FILTERS[name](picture)[0]) - expected.clip(-1, 1)).max() < 1e-5


def test_local_contrast_keeps_the_surroundings() -> None:
    """A ramp has itself for surroundings, far from the edges; a faint wave upon it grows by the factor."""
    x = torch.linspace(-0.5, 0.5, 128).expand(1, 3, 128, 128)
    wave = 0.05 * torch.sin(torch.arange(128) * torch.pi / 4)  # far shorter than the Gaussian
    for name, times in [("local_contrast_1.5", 1.5), ("local_contrast_2", 2.0)]:
        inner = (..., slice(48, 80), slice(48, 80))
        assert torch.allclose(FILTERS[name](x)[inner], x[inner], atol=1e-4)
        assert torch.allclose(FILTERS[name](x + wave)[inner], (x + times * wave)[inner], atol=1e-4)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_noise_level(sigma: float) -> None:
    """On a ramp, which has no second derivative, within four standard errors of an absolute deviation (0.76 / n^0.5,
    of which neighbours that overlap leave a ninth)."""
    ramp = torch.linspace(-0.5, 0.5, 128).expand(1, 3, 128, 128)
    noisy = ramp + sigma * torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert noise_level(noisy).item() == pytest.approx(sigma, rel=4 * 0.76 * 3 / (3 * 126**2) ** 0.5)
    assert noise_level(ramp).item() < 1e-6


def by_hand(picture: np.ndarray, noise: float) -> np.ndarray:
    """Non-local means pixel by pixel, (H, W, 3)."""
    rim, (height, width, _) = PATCH + SEARCH, picture.shape
    wide = np.pad(picture, ((rim, rim), (rim, rim), (0, 0)), mode="reflect")
    patch = {
        (row, column): wide[row - PATCH : row + PATCH + 1, column - PATCH : column + PATCH + 1]
        for row in range(PATCH, height + rim + SEARCH)
        for column in range(PATCH, width + rim + SEARCH)
    }
    result = np.zeros_like(picture)
    for row in range(height):
        for column in range(width):
            own, total = patch[row + rim, column + rim], 0.0
            for other_row in range(row + PATCH, row + PATCH + 2 * SEARCH + 1):
                for other_column in range(column + PATCH, column + PATCH + 2 * SEARCH + 1):
                    distance = ((own - patch[other_row, other_column]) ** 2).mean()
                    unlike = max(distance - 2 * noise**2, 0) / (0.8 * noise) ** 2
                    weight = np.exp(-unlike) if unlike <= 5 else 0.0
                    total += weight
                    result[row, column] += weight * wide[other_row, other_column]
            result[row, column] /= total
    return result


def test_non_local_means_by_hand() -> None:
    picture = photos()[:1, :, 10:22, 20:34]
    noise = noise_level(picture).item()
    expected = by_hand(channels_last(picture[0]), noise)
    assert np.abs(channels_last(non_local_means(picture)[0]) - expected).max() < 1e-4


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_non_local_means_is_as_good_as_that_of_scikit_image(severity: int) -> None:
    """Not pixel by pixel: its fast mode sums 4 x 4 pixels of a patch of 5 x 5, and divides by 25."""
    clean = photos()[:1]
    noisy = corrupt(clean, "gaussian_noise", severity, 0)
    noise = noise_level(noisy).item()
    image = (channels_last(noisy[0]) + 1) / 2
    theirs = skimage.restoration.denoise_nl_means(
        image, 2 * PATCH + 1, SEARCH, 0.8 * noise / 2, True, noise / 2, channel_axis=-1
    )
    error, their_error = (
        np.square(x - channels_last(clean[0])).mean()
        for x in (channels_last(non_local_means(noisy)[0]), theirs * 2 - 1)
    )
    assert error == pytest.approx(their_error, rel=0.15)


def test_non_local_means_and_median_take_noise_away() -> None:
    clean = photos()
    for name, noise in [("non_local_means", "gaussian_noise"), ("median", "impulse_noise")]:
        noisy = corrupt(clean, noise, 5, 0)
        assert (FILTERS[name](noisy) - clean).square().mean() < 0.4 * (noisy - clean).square().mean()


def test_grey_world_takes_a_tint_away() -> None:
    """Lamps scale channels in linear light, so both pictures come out alike; small scales, so that nothing clips."""
    light = 0.1 + 0.4 * torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    lamp = torch.tensor([1.2, 1.0, 0.7]).view(3, 1, 1)
    plain, tinted = (grey_world(from_unit(linear_to_srgb(x))) for x in (light, light * lamp))
    means = srgb_to_linear(to_unit(tinted)).mean((2, 3))[0]
    assert torch.allclose(means, means.mean().expand(3), atol=1e-4)
    ratio = srgb_to_linear(to_unit(tinted)) / srgb_to_linear(to_unit(plain))
    assert ratio.std() < 1e-4


def test_non_local_means_needs_room() -> None:
    with pytest.raises(ValueError, match="7 x 7 pixels, got 7 x 20"):
        non_local_means(torch.zeros(1, 3, 7, 20))
    assert non_local_means(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8, 8)
