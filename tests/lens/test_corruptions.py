import math
from functools import lru_cache

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.stats
import skimage.color
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from hubmodels.images import from_pil, from_unit, to_unit
from hubmodels.lens.corruptions import CORRUPTIONS, LEAST, NUMBERS, SIDES, _distance, _outline, corrupt

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
FIXED = (
    "defocus_blur",
    "zoom_blur",
    "gaussian_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "saturate",
)
"""Those that draw nothing."""
SEVERITIES = (1, 2, 3, 4, 5)

PUBLISHED = {
    "gaussian_noise": {
        32: [(111.8, 41.9, 10.2), (111.8, 43.4, 15.2), (111.8, 45.3, 20.3), (111.9, 46.5, 22.8), (111.9, 47.6, 25.3)],
        64: [(111.8, 43.2, 10.2), (111.9, 46.4, 20.3), (112.1, 51.2, 30.2), (112.3, 55.4, 37.4), (112.6, 59.7, 44.2)],
        224: [(111.9, 47.3, 20.3), (112.1, 51.9, 30.1), (112.7, 60.2, 44.1), (113.7, 71.2, 60.3), (115.6, 84.2, 78.2)],
    },
    "shot_noise": {
        32: [(111.8, 41.4, 7.6), (111.8, 42.1, 10.7), (111.8, 44.1, 16.9), (111.9, 45.1, 19.5), (111.8, 47.2, 23.9)],
        64: [(111.8, 43.4, 10.7), (111.8, 45.3, 16.9), (111.8, 48.3, 23.9), (111.9, 51.9, 30.7), (111.8, 59.4, 42.5)],
        224: [(111.9, 48.2, 21.8), (111.7, 54.3, 33.5), (111.2, 63.0, 47.0), (108.7, 78.3, 67.9), (104.9, 89.8, 82.5)],
    },
    "impulse_noise": {
        32: [(112.4, 42.4, 13.5), (112.6, 44.2, 19.0), (112.7, 45.8, 23.3), (113.1, 48.9, 30.1), (113.3, 51.8, 35.6)],
        64: [(112.4, 43.7, 13.4), (112.6, 45.4, 19.0), (113.0, 50.0, 30.2), (113.5, 54.2, 38.2), (114.4, 61.8, 50.5)],
        224: [(112.7, 47.8, 23.5), (113.2, 52.2, 33.2), (113.7, 56.3, 40.7), (114.9, 65.8, 55.8), (116.4, 76.1, 70.4)],
    },
    "speckle_noise": {
        32: [(111.8, 41.3, 7.2), (111.8, 42.4, 12.0), (111.8, 43.1, 14.3), (111.8, 44.9, 19.1), (111.8, 47.1, 23.8)],
        64: [(111.8, 45.7, 18.0), (111.7, 48.3, 23.9), (111.7, 51.3, 29.7), (111.5, 54.6, 35.3), (111.3, 58.0, 40.7)],
        224: [(111.8, 46.6, 18.0), (111.7, 49.1, 23.9), (111.3, 58.7, 40.7), (110.8, 65.3, 50.6), (110.0, 74.1, 62.7)],
    },
    "glass_blur": {
        32: [(111.6, 40.7, 19.7), (110.6, 40.3, 19.2), (110.5, 38.8, 17.6), (109.8, 40.3, 25.9), (109.9, 38.7, 23.9)],
        64: [(111.9, 42.1, 16.5), (111.0, 39.4, 13.8), (110.7, 38.2, 18.4), (111.0, 37.1, 18.0), (110.7, 35.9, 21.4)],
        224: [(111.1, 41.2, 11.9), (111.2, 40.5, 11.6), (110.9, 39.7, 17.5), (111.0, 38.9, 16.6), (111.1, 37.6, 18.0)],
    },
    "motion_blur": {
        32: [(112.4, 38.3, 10.4), (112.6, 37.2, 14.5), (112.8, 36.4, 17.1), (112.8, 36.4, 17.2), (113.0, 35.7, 19.0)],
        64: [(112.4, 40.4, 8.8), (112.4, 39.6, 12.6), (112.5, 38.9, 15.2), (112.6, 38.3, 17.1), (112.7, 37.7, 18.7)],
        224: [(112.4, 41.2, 12.7), (112.4, 40.1, 16.6), (112.5, 38.9, 20.1), (112.8, 37.7, 22.8), (112.9, 36.9, 24.3)],
    },
    "snow": {
        32: [(123.4, 40.9, 13.9), (137.3, 41.4, 28.0), (139.4, 43.2, 32.2), (152.2, 42.9, 44.4), (170.0, 42.9, 61.0)],
        64: [(152.1, 41.3, 41.2), (156.5, 42.1, 46.3), (176.9, 42.3, 67.1), (192.0, 42.5, 82.7), (203.2, 40.2, 93.1)],
        224: [(157.0, 44.6, 48.2), (186.8, 45.7, 78.6), (186.1, 46.1, 78.6), (201.6, 45.1, 94.7), (219.7, 38.7, 110.8)],
    },
    "fog": {
        32: [(109.6, 33.2, 11.0), (109.5, 27.6, 20.9), (107.3, 25.8, 26.6), (107.1, 26.0, 31.5), (106.1, 27.0, 37.4)],
        64: [(108.7, 30.0, 18.4), (108.1, 26.6, 25.9), (107.0, 25.9, 31.0), (106.4, 26.3, 37.5), (107.1, 28.1, 41.4)],
        224: [(109.9, 26.4, 36.8), (111.5, 26.4, 40.6), (113.7, 29.4, 44.5), (109.9, 30.6, 45.0), (111.0, 32.5, 46.9)],
    },
    "spatter": {
        32: [(113.4, 41.4, 8.4), (115.3, 42.6, 13.8), (119.5, 44.2, 19.9), (109.6, 41.8, 14.0), (108.0, 42.4, 17.7)],
        64: [(113.4, 42.8, 8.5), (115.6, 44.3, 15.2), (120.3, 46.1, 21.9), (107.8, 43.8, 18.4), (105.9, 44.4, 21.9)],
        224: [(113.2, 43.5, 6.2), (117.0, 45.5, 16.3), (120.3, 46.5, 20.7), (104.5, 45.7, 24.4), (99.9, 46.7, 31.0)],
    },
    "elastic_transform": {
        32: [(111.3, 38.7, 26.6), (111.4, 38.4, 24.7), (111.4, 37.8, 22.6), (111.5, 37.6, 20.9), (111.6, 37.6, 18.2)],
        64: [(111.6, 40.7, 30.6), (111.7, 40.5, 27.5), (111.8, 40.1, 27.0), (111.7, 39.9, 20.3), (111.8, 40.0, 19.8)],
        224: [(111.7, 42.0, 36.2), (110.9, 42.5, 41.7), (111.8, 42.2, 21.3), (111.8, 42.2, 21.8), (111.8, 42.2, 22.7)],
    },
}
"""Mean, deviation and distance (root mean square) from `photo`, in levels of 255, by size and severity.

Measured once on what the programs of Hendrycks & Dietterich for CIFAR-C, Tiny-ImageNet-C and ImageNet-C make of it:
means of 300 draws, of 100 at 224 pixels, a tenth as many of glass. They ran as published, with scikit-image 0.26 and
OpenCV 5.0, but for the motion blur of ImageMagick, for which that of imagecorruptions 1.1.2 stood in. Frost is left
out, because our ice is another.
"""


JPEG_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Steps of the waves at quality 50: ITU-T T.81, table K.1."""


@lru_cache
def photo(side: int) -> Tensor:
    """The cat of scikit-image, its middle square reduced to (1, 3, side, side)."""
    image = Image.fromarray(skimage.data.chelsea()).crop((75, 0, 375, 300))
    return from_pil(image.resize((side, side), Image.Resampling.LANCZOS))[None]


def plain(level: float, side: int, batch: int = 1) -> Tensor:
    """Grey of that level in [0, 1]."""
    return from_unit(torch.full((batch, 3, side, side), level))


def image_of(pictures: Tensor) -> np.ndarray:
    """The only picture of a batch as (H, W, 3) in [0, 1]."""
    (picture,) = to_unit(pictures)
    return picture.permute(1, 2, 0).double().contiguous().numpy()


def corrupted(pictures: Tensor, name: str, severity: int, seed: int = 0) -> np.ndarray:
    return image_of(corrupt(pictures, name, severity, seed))


# --- what holds for all of them


def test_there_are_19_with_5_severities_in_3_sizes() -> None:
    assert len(set(CORRUPTIONS)) == 19
    for name in CORRUPTIONS:
        assert tuple(NUMBERS[name]) == SIDES
        assert all(len(numbers) == 5 for numbers in NUMBERS[name].values())


@pytest.mark.parametrize(
    ("name", "sums"),
    [
        ("glass_blur", [(1.35, 5, 7), (2.8, 7, 7), (5.2, 12, 10)]),
        ("fog", [(3.95, 12.25), (5.6, 12.25), (11.5, 8.6)]),
        ("elastic_transform", [(0.33, 0.33, 0.29), (0.41, 0.44, 0.25), (4.6186, 0.8823, 0.3921)]),
        (
            "snow",
            [
                (0.9, 1.3, 7.25, 2.9, 54, 29, 4.4),
                (0.9, 1.3, 7.25, 2.9, 54, 29, 3.55),
                (1.95, 1.5, 16, 3.6, 58, 36, 3.4),
            ],
        ),
        (
            "spatter",
            [(3.22, 0.7, 3.7, 3.46, 2.7, 2), (3.22, 0.7, 3.7, 3.44, 3, 2), (3.27, 1.6, 11, 3.35, 4.7, 2)],
        ),
    ],
)
def test_numbers_sum_to_those_of_the_published_tables(name: str, sums: list[tuple[float, ...]]) -> None:
    """Over the severities, for those that statistics alone would not tell from their neighbours. All 57 tables were
    compared number by number with the published ones when they were written; these are sums of the published."""
    for side, expected in zip(SIDES, sums, strict=True):
        assert np.allclose(np.sum(NUMBERS[name][side], 0), expected, atol=5e-5)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(8, 8), (9, 40), (48, 33), (130, 121)])
def test_shape_range_and_each_picture_by_its_own_seed(name: str, shape: tuple[int, int]) -> None:
    pictures = 2 * torch.rand(3, 3, *shape, generator=torch.Generator().manual_seed(0)) - 1
    pictures[2] = pictures[1]
    kept, state = pictures.clone(), torch.get_rng_state()
    for severity in (1, 4, 5):
        batch = corrupt(pictures, name, severity, 7)
        assert batch.shape == pictures.shape and batch.dtype == torch.float32
        assert batch.min() >= -1 and batch.max() <= 1 and not batch.isnan().any()
        for i in range(3):
            assert torch.equal(corrupt(pictures[i : i + 1], name, severity, 7 + i), batch[i : i + 1])
        assert torch.equal(batch[1], batch[2]) or name not in FIXED
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(pictures, kept)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_another_seed_is_another_draw(name: str) -> None:
    same = torch.equal(corrupt(photo(64), name, 3, 0), corrupt(photo(64), name, 3, 1))
    assert same == (name in FIXED)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_stay_what_they_are(name: str, dtype: torch.dtype) -> None:
    other = corrupt(photo(32).to(dtype), name, 2, 0)
    assert other.dtype == dtype
    # 1/128 is half a step of bfloat16 below 1; glass and saturation turn it into more at edges and near grey
    close = (other.float() - corrupt(photo(32), name, 2, 0)).abs() < 0.02
    assert close.float().mean() > 0.9 or name == "shot_noise"  # which draws more where a photon is more likely


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_one_colour_is_no_special_case(name: str, level: float) -> None:
    result = corrupt(plain(level, 32), name, 5, 0)
    assert result.isfinite().all()
    if "blur" in name or name in ("contrast", "elastic_transform", "pixelate"):
        # 0.02: pixelate goes through 8 bits, which is 0.008
        assert torch.allclose(result, plain(level, 32), atol=0.02)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", SIDES)
def test_damage_grows(name: str, side: int) -> None:
    batch = photo(side).expand(16 if side < 224 else 8, -1, -1, -1)
    damage = np.array([(corrupt(batch, name, s, 0) - batch).square().mean().item() for s in SEVERITIES])
    assert damage.min() > 0
    # Published numbers that take turns: shift and stretch, picture and ice, reach and blur, pale and gaudy, size and
    # amount of flakes, water and mud. What they do there, `test_statistics_are_those_of_the_published_programs` knows.
    if name in ("frost", "glass_blur", "saturate", "snow", "spatter"):
        assert damage[4] > damage[0]
    elif name != "elastic_transform":
        # the trail of motion gets longer from 3 to 4 in CIFAR-C, but where it has faded
        assert (damage[1:] > 0.99 * damage[:-1]).all() and damage[4] > 1.5 * damage[0], damage


@pytest.mark.parametrize(
    ("pictures", "name", "severity", "message"),
    [
        (torch.zeros(1, 3, 8, 8), "gausian_noise", 1, "did you mean 'gaussian_noise'.* there are .*saturate"),
        (torch.zeros(1, 3, 8, 8), "", 1, "no corruption ''; there are gaussian_noise"),
        (torch.zeros(1, 3, 8, 8), "fog", 0, "1, 2, 3, 4 or 5, got 0"),
        (torch.zeros(1, 3, 8, 8), "fog", 6, "1, 2, 3, 4 or 5, got 6"),
        (torch.zeros(1, 3, 8, 8), "fog", -1, "got -1"),
        (torch.zeros(1, 3, 8, 8), "fog", 2.5, "got 2.5"),
        (torch.zeros(3, 8, 8), "fog", 1, r"\(B, 3, H, W\), at least one, got \(3, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8), "fog", 1, r"got \(1, 1, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8), "fog", 1, r"at least one, got \(0, 3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "fog", 1, "torch.uint8: pass them to from_uint8"),
        (torch.zeros(1, 3, 1, 1), "fog", 1, "at least 8 x 8 pixels, got 1 x 1"),
        (torch.zeros(1, 3, 64, 7), "fog", 1, "got 64 x 7: enlarge"),
        (torch.full((1, 3, 8, 8), 1.5), "fog", 1, r"in \[-1, 1\], got 1.5 to 1.5: clamp"),
        (torch.full((1, 3, 8, 8), math.nan), "fog", 1, "got nan"),
    ],
)
def test_what_is_wrong_is_said(pictures: Tensor, name: str, severity: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(pictures, name, severity, 0)


@pytest.mark.parametrize(("side", "share"), [(LEAST, 0.75), (45, 0.75), (46, 0.4), (119, 0.4)])
def test_the_nearest_size_gives_the_numbers(side: int, share: float) -> None:
    """Contrast keeps 0.75 at severity 1 in CIFAR-C, and 0.4 in the other two."""
    picture = plain(0.5, side)
    picture[..., : side // 2] = 0.6
    mean = picture.mean((2, 3), keepdim=True)
    assert torch.allclose(corrupt(picture, "contrast", 1, 0), mean + share * (picture - mean), atol=1e-6)


@pytest.mark.parametrize(("side", "sigma"), [(119, 0.5), (120, 1.0), (300, 1.0)])
def test_large_pictures_take_the_numbers_of_imagenet(side: int, sigma: float) -> None:
    dot = plain(0.0, side)
    dot[..., side // 2, side // 2] = 1
    assert corrupted(dot, "gaussian_blur", 1).max() == pytest.approx(
        scipy.ndimage.gaussian_filter(image_of(dot)[..., 0], sigma).max(), rel=1e-4
    )


# --- against the published programs


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("side", SIDES)
def test_statistics_are_those_of_the_published_programs(name: str, side: int) -> None:
    """Within 4 standard errors of the two means, and what the programs lose by cutting off at whole levels: half a
    level, a whole one in glass, which cuts twice, and half of one more where that turns up in a distance."""
    draws, theirs = (8, 100) if side == 224 else (40, 300)
    clean = photo(side)
    cut = 1.2 if name == "glass_blur" else 0.7
    for severity, published in zip(SEVERITIES, PUBLISHED[name][side], strict=True):
        pictures = to_unit(corrupt(clean.expand(draws, -1, -1, -1), name, severity, 100)) * 255
        distance = (pictures - to_unit(clean) * 255).square().mean((1, 2, 3)).sqrt()
        measured = torch.stack([pictures.mean((1, 2, 3)), pictures.std((1, 2, 3)), distance], 1)
        error = measured.std(0) * (1 / draws + 1 / theirs) ** 0.5
        gap = (measured.mean(0) - torch.tensor(published)).abs()
        assert (gap < 4 * error + cut).all(), (severity, measured.mean(0), published, error)


# --- those that draw nothing, against a second computation in double precision


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_colours(side: int, severity: int) -> None:
    clean = photo(side)
    image = image_of(clean)
    small = side == 32
    hsv = skimage.color.rgb2hsv(image)

    more = ([0.05, 0.1, 0.15, 0.2, 0.3] if small else [0.1, 0.2, 0.3, 0.4, 0.5])[severity - 1]
    value = np.clip(hsv[..., 2:] + more, 0, 1)
    expected = skimage.color.hsv2rgb(np.concatenate([hsv[..., :2], value], -1))
    assert np.abs(corrupted(clean, "brightness", severity) - expected).max() < 1e-5

    times, more = {
        32: [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
        64: [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)],
        224: [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)],
    }[side][severity - 1]
    saturation = np.clip(hsv[..., 1:2] * times + more, 0, 1)
    expected = skimage.color.hsv2rgb(np.concatenate([hsv[..., :1], saturation, hsv[..., 2:]], -1))
    assert np.abs(corrupted(clean, "saturate", severity) - expected).max() < 1e-4  # 30 times single precision

    keep = ([0.75, 0.5, 0.4, 0.3, 0.15] if small else [0.4, 0.3, 0.2, 0.1, 0.05])[severity - 1]
    means = image.mean((0, 1))
    assert np.abs(corrupted(clean, "contrast", severity) - (means + keep * (image - means))).max() < 1e-5


def test_greys_turn_red_and_black_stays() -> None:
    """Saturation of grey has hue 0 in scikit-image and so in published data; value 0 is black at any saturation."""
    grey = corrupted(plain(0.5, 64), "saturate", 5)
    assert np.allclose(grey, np.array([0.5, 0.4, 0.4]), atol=1e-6)
    assert corrupted(plain(0.0, 64), "saturate", 5).max() == 0
    assert np.allclose(corrupted(plain(0.0, 64), "brightness", 5), 0.5)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur(side: int, severity: int) -> None:
    sigma = {32: [0.4, 0.6, 0.7, 0.8, 1], 64: [0.5, 0.75, 1, 1.25, 1.5], 224: [1, 2, 3, 4, 6]}[side][severity - 1]
    expected = scipy.ndimage.gaussian_filter(image_of(photo(side)), (sigma, sigma, 0), mode="nearest", truncate=4)
    assert np.abs(corrupted(photo(side), "gaussian_blur", severity) - expected).max() < 1e-5


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur(side: int, severity: int) -> None:
    radius, soft = {
        32: [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
        64: [(0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)],
        224: [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
    }[side][severity - 1]
    reach = max(8, math.floor(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (np.hypot(x, y) <= radius).astype(float)
    disk /= disk.sum()
    taps = scipy.stats.norm.pdf(np.arange(-2, 3) if radius > 8 else np.arange(-1, 2), scale=soft)
    for axis in (0, 1):
        disk = scipy.ndimage.correlate1d(disk, taps / taps.sum(), axis, mode="mirror")
    expected = scipy.ndimage.correlate(image_of(photo(side)), disk[..., None], mode="mirror").clip(0, 1)
    assert np.abs(corrupted(photo(side), "defocus_blur", severity) - expected).max() < 1e-5


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur(side: int, severity: int) -> None:
    small = [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)]
    large = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)]
    end, step = {32: small, 64: small, 224: large}[side][severity - 1]
    factors = np.arange(1, end, step)
    image = image_of(photo(side))
    total = image.copy()
    for factor in factors:
        part = math.ceil(side / factor)
        top = (side - part) // 2
        zoomed = scipy.ndimage.zoom(image[top : top + part, top : top + part], (factor, factor, 1), order=1)
        top = (len(zoomed) - side) // 2
        total += zoomed[top : top + side, top : top + side]
    assert np.abs(corrupted(photo(side), "zoom_blur", severity) - total / (len(factors) + 1)).max() < 1e-4


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate(side: int, severity: int) -> None:
    share = {
        32: [0.95, 0.9, 0.85, 0.75, 0.65],
        64: [0.9, 0.8, 0.7, 0.6, 0.5],
        224: [0.6, 0.5, 0.4, 0.3, 0.25],
    }[side][severity - 1]
    small = math.floor(side * share)

    def box(size: int, to: int) -> np.ndarray:
        """Each of `to` cells is the mean of the samples whose middle lies in it, or the sample that it lies in."""
        cells, samples = np.arange(to)[:, None] + 0.5, np.arange(size)[None] + 0.5
        inside = np.abs(samples - cells * size / to) / max(size / to, 1)
        weights = (inside < 0.5 - 1e-9).astype(float)
        # a sample on a border belongs to the lower cell
        weights += np.isclose(inside, 0.5) & (samples - cells * size / to < 0)
        return weights / weights.sum(1, keepdims=True)

    both = box(small, side) @ box(side, small)
    expected = np.einsum("ij,jkc,lk->ilc", both, image_of(photo(side)), both, optimize=True)
    # Pillow rounds to 8 bits after each direction
    assert np.abs(corrupted(photo(side), "pixelate", severity) - expected).max() < 1.5 / 255


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_compression(side: int, severity: int) -> None:
    quality = {32: [80, 65, 58, 50, 40], 64: [65, 58, 50, 40, 25], 224: [25, 18, 15, 10, 7]}[side][severity - 1]
    luma = np.round(image_of(photo(side)).mean(-1) * 255)
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = np.floor((JPEG_LUMA * math.floor(scale) + 50) / 100).clip(1, 255)
    blocks = (luma - 128).reshape(side // 8, 8, side // 8, 8)
    waves = np.round(scipy.fft.dctn(blocks, axes=(1, 3), norm="ortho") / steps[:, None]) * steps[:, None]
    expected = (scipy.fft.idctn(waves, axes=(1, 3), norm="ortho") + 128).clip(0, 255).reshape(side, side, 1)
    grey = from_unit(torch.from_numpy(luma / 255).float().expand(1, 3, -1, -1))
    difference = np.abs(corrupted(grey, "jpeg_compression", severity) * 255 - expected)
    # Levels are whole, which is 0.25, and the library's transform nearly so: now and then a wave takes the other step.
    # A quality that is wrong by two makes 1.5 and more.
    assert difference.mean() < 0.7


def test_jpeg_has_half_the_colours() -> None:
    """Columns of one pixel in two colours of one luma come out as their mean, those of two pixels do not."""
    red, green = torch.tensor([0.7, 0.3, 0.3]), torch.tensor([0.3, 0.5038, 0.3])  # luma 0.4196
    for width, kept in ((1, False), (2, True)):
        columns = (torch.arange(32) // width % 2).bool()
        picture = from_unit(torch.where(columns, red[:, None], green[:, None])[None, :, None].expand(1, 3, 32, 32))
        image = corrupted(picture, "jpeg_compression", 1)
        assert (image[:, columns, 0].mean() - image[:, ~columns, 0].mean() > 0.15) == kept


# --- those that draw, against closed forms


def clipped_normal(mean: float, sigma: float) -> tuple[float, float]:
    """Mean and variance of a normal value that is clipped to [0, 1]."""
    normal = scipy.stats.norm(mean, sigma)
    x = np.linspace(0, 1, 20001)
    # E x^n over [0, 1] by the trapezoid rule, and all that is above 1 lies at 1
    first, second = (np.trapezoid(x**n * normal.pdf(x), x) + normal.sf(1) for n in (1, 2))
    return first, second - first**2


def near(values: np.ndarray, mean: float, variance: float) -> bool:
    """Whether independent values have that mean within 4 standard errors, and that variance within 4 of its own."""
    n = values.size
    fourth = ((values - values.mean()) ** 4).mean()
    return (
        abs(values.mean() - mean) < 4 * (variance / n) ** 0.5
        and abs(values.var() - variance) < 4 * ((fourth - variance**2) / n) ** 0.5
    )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("level", [0.3, 0.9])
def test_gaussian_and_speckle_noise(side: int, severity: int, level: float) -> None:
    sigmas = {
        32: ([0.04, 0.06, 0.08, 0.09, 0.1], [0.06, 0.1, 0.12, 0.16, 0.2]),
        64: ([0.04, 0.08, 0.12, 0.15, 0.18], [0.15, 0.2, 0.25, 0.3, 0.35]),
        224: ([0.08, 0.12, 0.18, 0.26, 0.38], [0.15, 0.2, 0.35, 0.45, 0.6]),
    }[side]
    gaussian = corrupted(plain(level, side), "gaussian_noise", severity)
    assert near(gaussian, *clipped_normal(level, sigmas[0][severity - 1]))
    speckle = corrupted(plain(level, side), "speckle_noise", severity)
    assert near(speckle, *clipped_normal(level, level * sigmas[1][severity - 1]))
    assert np.abs(np.corrcoef(gaussian.reshape(-1, 3).T) - np.eye(3)).max() < 4.5 / side


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("level", [0.1, 0.6])
def test_shot_noise(side: int, severity: int, level: float) -> None:
    photons = {32: [500, 250, 100, 75, 50], 64: [250, 100, 50, 30, 15], 224: [60, 25, 12, 5, 3]}[side][severity - 1]
    values = corrupted(plain(level, side), "shot_noise", severity)
    assert np.abs(values * photons - np.round(values * photons)).max() < 1e-3  # whole photons
    counts = np.arange(photons + 1)
    chance = scipy.stats.poisson(level * photons).pmf(counts)
    chance[-1] = scipy.stats.poisson(level * photons).sf(photons - 1)  # more than white is white
    mean = (chance * counts / photons).sum()
    assert near(values, mean, (chance * (counts / photons - mean) ** 2).sum())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise(side: int, severity: int) -> None:
    share = {
        32: [0.01, 0.02, 0.03, 0.05, 0.07],
        64: [0.01, 0.02, 0.05, 0.08, 0.14],
        224: [0.03, 0.06, 0.09, 0.17, 0.27],
    }[side][severity - 1]
    values = corrupted(plain(0.4, side), "impulse_noise", severity)
    lost = np.abs(values - 0.4) > 1e-6
    assert set(np.unique(values[lost])) == {0.0, 1.0}
    assert near(lost.astype(float), share, share * (1 - share))
    assert near((values == 1).astype(float), share / 2, share / 2 * (1 - share / 2))
    # each channel for itself
    assert np.abs(np.corrcoef(lost.reshape(-1, 3).T) - np.eye(3)).max() < 5 / side


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur(side: int, severity: int) -> None:
    radius, sigma = {
        32: [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
        64: [(10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)],
        224: [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
    }[side][severity - 1]
    for seed in range(3):
        angle = -45 + 90 * torch.rand((), generator=torch.Generator().manual_seed(seed)).item()
        weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
        image = np.pad(image_of(photo(side)), ((60, 60), (60, 60), (0, 0)), mode="edge")
        total = np.zeros_like(image)
        for i, weight in enumerate(weights / weights.sum()):
            # halves go down, as in ImageMagick
            down, right = (math.ceil(i * f(math.radians(angle)) - 0.5) for f in (math.sin, math.cos))
            total += weight * np.roll(image, (-down, -right), (0, 1))
        expected = total[60:-60, 60:-60]
        assert np.abs(corrupted(photo(side), "motion_blur", severity, seed) - expected).max() < 1e-5


@pytest.mark.parametrize("side", [32, 64])
def test_glass_blur_moves_pixels(side: int) -> None:
    """At severity 1, one round without blur to speak of: on a ramp the shift is seen. Neighbours are 0 or 1 back, each
    half of the time; the rim, which no neighbour reaches, stays."""
    ramp = torch.arange(side) / side
    across = from_unit(ramp.expand(1, 3, side, side).contiguous())
    for pictures, turn in ((across, False), (across.transpose(2, 3), True)):
        image = corrupted(pictures, "glass_blur", 1)[..., 0]
        moved = ((image.T if turn else image) - ramp.numpy()) * side
        inside = moved[2:, 2:]
        assert np.abs(moved[:2]).max() < 1e-3 and np.abs(moved[:, :2]).max() < 1e-3
        assert np.abs(inside - np.round(inside)).max() < 1e-3
        assert set(np.unique(np.round(inside))) == {-1.0, 0.0}
        assert near(-np.round(inside), 0.5, 0.25)


@pytest.mark.parametrize("side", [32, 64])
def test_elastic_transform_is_affine_at_severity_1(side: int) -> None:
    """Three points, a third of the side from the middle, move by at most 0.08 of the side, and all else with them."""
    column, row = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="xy")
    pictures = from_unit(torch.stack([column, row, column])[None])
    for seed in range(5):
        image = corrupted(pictures, "elastic_transform", 1, seed)
        inside = (slice(side // 4, -side // 4),) * 2  # beyond, edges are mirrored
        at = np.stack([column[inside].numpy(), row[inside].numpy(), np.ones((side // 2, side // 2))], -1).reshape(-1, 3)
        map_back, residue, *_ = np.linalg.lstsq(at, image[inside][..., :2].reshape(-1, 2), rcond=None)
        assert residue.max() < 1e-8
        third = side // 3 / side
        points = 0.5 + third * np.array([[1, 1], [1, -1], [-1, -1]])
        # points that moved to `after` are read from `points`
        after = (points - map_back[2]) @ np.linalg.inv(map_back[:2])
        assert np.abs(after - points).max() < 0.08 + 1e-4
        assert np.abs(after - points).max() > 0.01


@pytest.mark.parametrize("side", [32, 64, 256])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_spans_its_range(side: int, severity: int) -> None:
    """On one colour x, from x m / (m + c) to (x + c) m / (m + c) with m = x, for the cloud reaches 0 and 1."""
    density = {32: [0.2, 0.5, 0.75, 1, 1.5], 64: [0.4, 0.7, 1, 1.5, 2], 256: [1.5, 2, 2.5, 2.5, 3]}[side][severity - 1]
    image = corrupted(plain(0.6, side), "fog", severity)
    assert image.min() == pytest.approx(0.36 / (0.6 + density), abs=1e-5)
    assert image.max() == pytest.approx(0.6, abs=1e-5)
    assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_falls_on_what_is_bleached(side: int, severity: int) -> None:
    """On black, bleached to (1 - keep) / 2; flakes are added to that, the same when the picture is turned round."""
    keep = {
        32: [0.95, 0.9, 0.9, 0.85, 0.8],
        64: [0.8, 0.8, 0.7, 0.65, 0.6],
        224: [0.8, 0.7, 0.7, 0.65, 0.55],
    }[side][severity - 1]
    image = corrupted(plain(0.0, side), "snow", severity)
    assert image.min() >= (1 - keep) / 2 - 1e-6
    assert image.max() > (1 - keep) / 2 + 0.1
    assert np.abs(image - image[::-1, ::-1]).max() < 1e-6
    assert np.abs(image - image[..., :1]).max() < 1e-6
    assert (corrupt(photo(side), "snow", severity, 0) >= photo(side) - 1e-6).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_is_bluish_ice_over_the_picture(side: int, severity: int) -> None:
    keep, ice = {
        32: [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
        64: [(1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)],
        224: [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    }[side][severity - 1]
    panes = to_unit(corrupt(plain(0.0, side, 6), "frost", severity, 0)) / ice
    red, _, blue = panes.mean((2, 3)).T
    assert (blue > red).all()
    # the range of the photographs of the original
    assert (panes.mean((1, 2, 3)) > 0.4).all() and (panes.mean((1, 2, 3)) < 0.84).all()
    assert (panes.mean(1).std((1, 2)) > 0.04).all() and (panes.mean(1).std((1, 2)) < 0.14).all()
    over = to_unit(corrupt(plain(0.2, side, 6), "frost", severity, 0))
    assert torch.allclose(over, (keep * 0.2 + ice * panes).clamp(max=1), atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_spatter_is_water_then_mud(side: int) -> None:
    clean = plain(0.4, side, 8 if side < 224 else 3)
    shares = []
    for severity in SEVERITIES:
        change = to_unit(corrupt(clean, "spatter", severity, 0)) - 0.4
        hit = change.abs().amax(1) > 0.01
        shares.append(hit.float().mean().item())
        red, green, blue = change.movedim(1, 0)[:, hit]
        if severity <= 3:
            turquoise = (green < 0.6 - 1e-4) & hit[hit]  # where it is not cut off at white
            assert torch.allclose(red[turquoise] / green[turquoise], torch.tensor(175 / 238), atol=1e-3)
            assert torch.allclose(blue, green) and (change >= -1e-6).all()
        else:
            cover = red / (63 / 255 - 0.4)
            assert cover.min() > 0.8 - 1e-4 and cover.max() < 1 + 1e-4  # thinner mud is left out
            for channel, level in ((green, 42), (blue, 20)):
                assert torch.allclose(channel, cover * (level / 255 - 0.4), atol=1e-4)
    assert shares[0] < shares[1] < shares[2] and shares[3] < shares[4]


def test_outline_and_distance() -> None:
    """The outline of a square is a closed line on the border or next to it; distances are those of SciPy."""
    levels = torch.zeros(40, 50)
    levels[10:25, 15:35] = 200
    edge = _outline(levels).numpy()
    square = levels.numpy() > 0
    border = scipy.ndimage.binary_dilation(square) & ~scipy.ndimage.binary_erosion(square)
    assert (edge <= border).all()
    assert scipy.ndimage.binary_fill_holes(edge).sum() >= 14 * 19
    expected = scipy.ndimage.distance_transform_edt(~edge).clip(max=20)
    assert np.abs(_distance(torch.from_numpy(edge)).numpy() - expected).max() < 1e-4
    assert (_distance(torch.zeros(9, 9, dtype=torch.bool)) == 20).all()
    assert not _outline(torch.full((9, 9), 200.0)).any()
    faint = levels.clone() * 0.1  # slope 80: above the lower threshold, but nothing strong to hang on
    assert not _outline(faint).any()
