"""The 19 corruptions of ImageNet-C, CIFAR-C and Tiny-ImageNet-C, for pictures of any size.

Source: Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations",
section 3; the numbers are those of the programs that made the three published data sets.

Those differ by size: a blur that hides a picture of 32 pixels is not seen in one of 224. A picture takes the numbers
of the size that its shorter side is nearest to by ratio: up to 45 pixels those of CIFAR-C (32), up to 119 those of
Tiny-ImageNet-C (64), above those of ImageNet-C (224). Lengths stay in pixels, as Michaelis et al. 2019
("imagecorruptions") have them too; those of `elastic_transform`, `pixelate`, `fog` and `frost` go with the size.

The original rounds to 8 bits between its steps, this does not, but for `jpeg_compression` and `pixelate`. Damage does
not always grow with severity, pixel by pixel: in the published numbers `elastic_transform`, `frost`, `glass_blur`,
`saturate`, `snow` and `spatter` change their kind on the way.
"""

import difflib
import io
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from hubmodels.images import from_pil, from_uint8, from_unit, to_pil, to_uint8, to_unit

SIDES = (32, 64, 224)
"""Pixels a side in CIFAR-C, Tiny-ImageNet-C and ImageNet-C: the keys of `NUMBERS`."""
LEAST = 8
"""Pixels a side: below, the coarsest steps leave nothing of a picture."""

Numbers = Sequence[tuple[float, ...]]
_OFF = 244 / 224
"""The lengths of `elastic_transform` were reckoned for 244 pixels, and published so."""

NUMBERS: dict[str, dict[int, Numbers]] = {
    "gaussian_noise": {
        32: [(0.04,), (0.06,), (0.08,), (0.09,), (0.1,)],
        64: [(0.04,), (0.08,), (0.12,), (0.15,), (0.18,)],
        224: [(0.08,), (0.12,), (0.18,), (0.26,), (0.38,)],
    },
    "shot_noise": {
        32: [(500,), (250,), (100,), (75,), (50,)],
        64: [(250,), (100,), (50,), (30,), (15,)],
        224: [(60,), (25,), (12,), (5,), (3,)],
    },
    "impulse_noise": {
        32: [(0.01,), (0.02,), (0.03,), (0.05,), (0.07,)],
        64: [(0.01,), (0.02,), (0.05,), (0.08,), (0.14,)],
        224: [(0.03,), (0.06,), (0.09,), (0.17,), (0.27,)],
    },
    "speckle_noise": {
        32: [(0.06,), (0.1,), (0.12,), (0.16,), (0.2,)],
        64: [(0.15,), (0.2,), (0.25,), (0.3,), (0.35,)],
        224: [(0.15,), (0.2,), (0.35,), (0.45,), (0.6,)],
    },
    "defocus_blur": {
        32: [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
        64: [(0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)],
        224: [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
    },
    "glass_blur": {
        32: [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
        64: [(0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)],
        224: [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
    },
    "motion_blur": {
        32: [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
        64: [(10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)],
        224: [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
    },
    "zoom_blur": {
        32: [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
        64: [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
        224: [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
    },
    "gaussian_blur": {
        32: [(0.4,), (0.6,), (0.7,), (0.8,), (1,)],
        64: [(0.5,), (0.75,), (1,), (1.25,), (1.5,)],
        224: [(1,), (2,), (3,), (4,), (6,)],
    },
    "snow": {
        32: [
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ],
        64: [
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ],
        224: [
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ],
    },
    "frost": {
        32: [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
        64: [(1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)],
        224: [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    },
    "fog": {
        32: [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
        64: [(0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)],
        224: [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
    },
    "brightness": {
        32: [(0.05,), (0.1,), (0.15,), (0.2,), (0.3,)],
        64: [(0.1,), (0.2,), (0.3,), (0.4,), (0.5,)],
        224: [(0.1,), (0.2,), (0.3,), (0.4,), (0.5,)],
    },
    "spatter": {
        32: [
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ],
        64: [
            (0.62, 0.1, 0.7, 0.7, 0.6, 0),
            (0.65, 0.1, 0.8, 0.7, 0.6, 0),
            (0.65, 0.3, 1, 0.69, 0.6, 0),
            (0.65, 0.1, 0.7, 0.68, 0.6, 1),
            (0.65, 0.1, 0.5, 0.67, 0.6, 1),
        ],
        224: [
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ],
    },
    "contrast": {
        32: [(0.75,), (0.5,), (0.4,), (0.3,), (0.15,)],
        64: [(0.4,), (0.3,), (0.2,), (0.1,), (0.05,)],
        224: [(0.4,), (0.3,), (0.2,), (0.1,), (0.05,)],
    },
    "elastic_transform": {
        32: [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
        64: [(0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)],
        224: [
            (2 * _OFF, 0.7 * _OFF, 0.1 * _OFF),
            (2 * _OFF, 0.08 * _OFF, 0.2 * _OFF),
            (0.05 * _OFF, 0.01 * _OFF, 0.02 * _OFF),
            (0.07 * _OFF, 0.01 * _OFF, 0.02 * _OFF),
            (0.12 * _OFF, 0.01 * _OFF, 0.02 * _OFF),
        ],
    },
    "pixelate": {
        32: [(0.95,), (0.9,), (0.85,), (0.75,), (0.65,)],
        64: [(0.9,), (0.8,), (0.7,), (0.6,), (0.5,)],
        224: [(0.6,), (0.5,), (0.4,), (0.3,), (0.25,)],
    },
    "jpeg_compression": {
        32: [(80,), (65,), (58,), (50,), (40,)],
        64: [(65,), (58,), (50,), (40,), (25,)],
        224: [(25,), (18,), (15,), (10,), (7,)],
    },
    "saturate": {
        32: [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
        64: [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)],
        224: [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)],
    },
}
"""What is passed to the function of that name after picture and generator, for severities 1 to 5, by size."""

CORRUPTIONS: tuple[str, ...] = tuple(NUMBERS)
"""Four of noise, five of blur, five of weather, five of digital processing."""


def corrupt(pictures: Tensor, name: str, severity: int, seed: int) -> Tensor:
    """Pictures as a bad camera, bad weather or bad storage would have left them.

    Picture i hangs on its own pixels, the name, the severity and `seed` + i only, so a batch equals its pictures one
    by one; torch's global generator is not touched. Severities share their random draws: the same grains, but larger.
    Computed on the CPU.

    Args:
        pictures: (B, 3, H, W) floats, sRGB in [-1, 1].
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.

    Returns:
        The same shape, range, type and device.

    Raises:
        ValueError: no such name or severity; not pictures, smaller than `LEAST`, or out of range.
    """
    if name not in NUMBERS:
        near = difflib.get_close_matches(name, CORRUPTIONS, 1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"there is no corruption {name!r}{hint} there are {', '.join(CORRUPTIONS)}")
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity must be 1, 2, 3, 4 or 5, got {severity}")
    _check(pictures)
    side = min(pictures.shape[2:])
    nearest = min(SIDES, key=lambda published: abs(math.log(side / published)))
    function, numbers = _FUNCTIONS[name], NUMBERS[name][nearest][int(severity) - 1]
    corrupted = [
        function(picture, torch.Generator().manual_seed(seed + i), *numbers)
        for i, picture in enumerate(to_unit(pictures.detach().cpu().float()))
    ]
    return from_unit(torch.stack(corrupted).clamp(0, 1)).to(pictures)


def _check(pictures: Tensor) -> None:
    if pictures.ndim != 4 or pictures.shape[1] != 3 or len(pictures) == 0:
        raise ValueError(f"pictures must be (B, 3, H, W), at least one, got {tuple(pictures.shape)}")
    if not pictures.is_floating_point():
        raise ValueError(f"pictures must be of floats in [-1, 1], got {pictures.dtype}: pass them to from_uint8")
    if min(pictures.shape[2:]) < LEAST:
        height, width = pictures.shape[2:]
        raise ValueError(f"pictures must have at least {LEAST} x {LEAST} pixels, got {height} x {width}: enlarge them")
    low, high = pictures.min().item(), pictures.max().item()
    if not (low >= -1 and high <= 1):
        raise ValueError(f"pictures must be in [-1, 1], got {low:.3g} to {high:.3g}: clamp them")


# What follows takes one picture (3, H, W) in [0, 1], a generator and the numbers of a severity, and gives (3, H, W),
# not yet clamped.


def gaussian_noise(x: Tensor, rng: Generator, sigma: float) -> Tensor:
    """Normal noise of `sigma` on each value, as from a sensor in low light."""
    return x + sigma * torch.randn(x.shape, generator=rng)


def shot_noise(x: Tensor, rng: Generator, photons: float) -> Tensor:
    """Poisson noise: white is `photons` photons on average, so the variance of x is x / `photons`."""
    return torch.poisson(x * photons, generator=rng) / photons


def impulse_noise(x: Tensor, rng: Generator, share: float) -> Tensor:
    """That share of the values lost, half of them at 0 and half at 1, each channel for itself."""
    chance = torch.rand(x.shape, generator=rng)
    return torch.where(chance < share, (chance < share / 2).float(), x)


def speckle_noise(x: Tensor, rng: Generator, sigma: float) -> Tensor:
    """Normal noise in proportion to the value."""
    return x + x * sigma * torch.randn(x.shape, generator=rng)


def defocus_blur(x: Tensor, rng: Generator, radius: float, soft: float) -> Tensor:
    """The disk of a lens out of focus, its rim softened by a Gaussian of sigma `soft`; radii in pixels."""
    reach = max(8, int(radius))
    at = torch.arange(-reach, reach + 1)
    disk = (at.square() + at[:, None].square() <= radius**2).float()
    # reflects at the end of the kernel, so large disks sum to 1.01 and brighten a little: as published
    disk = blurred(disk / disk.sum(), soft, "mirror", 1 if radius <= 8 else 2)
    height, width = x.shape[1:]
    rows = _folded(torch.arange(-reach, height + reach), height, "mirror")
    columns = _folded(torch.arange(-reach, width + reach), width, "mirror")
    return F.conv2d(x[:, rows][:, :, columns][:, None], disk[None, None])[:, 0]


def glass_blur(x: Tensor, rng: Generator, sigma: float, reach: float, rounds: float) -> Tensor:
    """Frosted glass: every pixel takes the place of one at most `reach` away, between two Gaussian blurs.

    The paper swaps pixels; its program means to, but copies the neighbour over the pixel, because the two sides of
    its swap are views of one array. Published data were made so, and so is this: neighbours are drawn from -`reach`
    to `reach` - 1, in place from the last pixel to the first, and a rim stays.
    """
    height, width = x.shape[1:]
    step = torch.randint(-int(reach), int(reach), (int(rounds), height, width, 2), generator=rng)
    steps = (step[..., 0] * width + step[..., 1]).flatten(1).tolist()
    source = list(range(height * width))
    for by in steps:
        for row in range(height - int(reach), int(reach), -1):
            for at in range((row + 1) * width - int(reach), row * width + int(reach), -1):
                source[at] = source[at + by[at]]
    return blurred(blurred(x, sigma).flatten(1)[:, source].view_as(x), sigma)


def motion_blur(x: Tensor, rng: Generator, radius: float, sigma: float) -> Tensor:
    """The camera moves, within 45 degrees of level: a `_trail` of the whole picture."""
    return _trail(x, radius, sigma, _uniform(rng, -45, 45))


def zoom_blur(x: Tensor, rng: Generator, end: float, step: float) -> Tensor:
    """The camera approaches: the mean of the picture and its enlargements by 1, 1 + `step` ... below `end`."""
    factors = np.arange(1, end, step)  # rounding may let `end` itself in: so it was published
    total = x.clone()
    for factor in factors.tolist():
        total += _enlarged(x, factor)
    return total / (len(factors) + 1)


def gaussian_blur(x: Tensor, rng: Generator, sigma: float) -> Tensor:
    """Normal of `sigma` pixels."""
    return blurred(x, sigma)


def snow(
    x: Tensor,
    rng: Generator,
    mean: float,
    sigma: float,
    size: float,
    least: float,
    radius: float,
    blur: float,
    keep: float,
) -> Tensor:
    """Flakes that fall, and the light of a snowy day.

    Flakes are normal noise (`mean`, `sigma`), enlarged by `size`, kept above `least` and drawn into trails within 45
    degrees of upright; the layer and the same turned by 180 degrees are added. The picture keeps the share `keep`, the
    rest is bleached towards 1.5 times its luma plus 0.5.
    """
    flakes = _enlarged(mean + sigma * torch.randn(1, *x.shape[1:], generator=rng), size)
    flakes = torch.where(flakes < least, 0.0, flakes).clamp(0, 1)
    flakes = _trail(flakes, radius, blur, _uniform(rng, -135, -45))
    bleached = torch.maximum(x, luma(x) * 1.5 + 0.5)
    return keep * x + (1 - keep) * bleached + flakes + flakes.rot90(2, (1, 2))


def frost(x: Tensor, rng: Generator, keep: float, ice: float) -> Tensor:
    """`keep` of the picture and `ice` of a frozen pane over it.

    The original lays crops of five photographs of ice over pictures. We have none, so `_pane` draws one: what is seen
    through it is damaged alike, by the published weights, but not pixel by pixel.
    """
    return keep * x + ice * _pane(x.shape[1], x.shape[2], rng)


def fog(x: Tensor, rng: Generator, density: float, decay: float) -> Tensor:
    """A cloud, `_plasma`, of up to `density` over the picture, which dims to keep its brightest value where it is."""
    brightest = x.max()
    cloud = _plasma(max(x.shape), decay, rng)[: x.shape[1], : x.shape[2]]
    return (x + density * cloud) * brightest / (brightest + density)


def brightness(x: Tensor, rng: Generator, more: float) -> Tensor:
    """`more` value in the sense of hue, saturation and value."""
    value = x.amax(0, keepdim=True)
    brighter = (value + more).clamp(max=1)
    # at constant hue and saturation all three channels go with the value; black turns grey
    return torch.where(value > 0, x * brighter / value.clamp(min=1e-9), brighter)


def spatter(
    x: Tensor, rng: Generator, mean: float, sigma: float, blur: float, least: float, strength: float, mud: float
) -> Tensor:
    """Drops on the lens: of water, or of mud from severity 4 on.

    The liquid is normal noise (`mean`, `sigma`), blurred, where it is at least `least`. Water is lighter where
    `_relief` says so, at most by `strength` of pale turquoise; mud hides the picture, its rim blurred by `strength`.
    """
    liquid = blurred(mean + sigma * torch.randn(x.shape[1:], generator=rng), blur)
    liquid = torch.where(liquid < least, 0.0, liquid)
    if mud:
        cover = blurred((liquid > least).float(), strength)
        cover = torch.where(cover < 0.8, 0.0, cover)
        return x * (1 - cover) + cover * _colour(63, 42, 20)
    water = liquid * _relief(liquid)
    return x + strength * water / water.max().clamp(min=1e-9) * _colour(175, 238, 238)


def contrast(x: Tensor, rng: Generator, keep: float) -> Tensor:
    """That share of the distance from the mean of the channel."""
    return x.mean((1, 2), keepdim=True).lerp(x, keep)


def elastic_transform(x: Tensor, rng: Generator, amount: float, sigma: float, corner: float) -> Tensor:
    """Stretched as rubber: an affine map that moves three points by up to `corner`, then a smooth field of shifts.

    The field is uniform noise in [-1, 1], smoothed by `sigma` and times `amount`. All three are shares of the shorter
    side. Source of the field: Simard, Steinkraus & Platt 2003, section 2.
    """
    height, width = x.shape[1:]
    side = min(height, width)
    middle, arm = torch.tensor([width // 2, height // 2]), side // 3
    before = middle + arm * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    after = before + corner * side * (2 * torch.rand(3, 2, generator=rng) - 1)
    ones = torch.ones(3, 1)
    back = torch.linalg.solve(torch.cat([after, ones], 1).double(), before.double()).float()  # (3, 2): from x, y, 1
    row, column = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    source = torch.stack([column, row, torch.ones_like(row)], -1) @ back
    x = _sampled(x, source[..., 1], source[..., 0], "mirror")
    noise = 2 * torch.rand(2, height, width, generator=rng) - 1
    field = amount * side * blurred(noise, sigma * side, "symmetric", int(3 * sigma * side + 0.5))
    return _sampled(x, row + field[0], column + field[1], "symmetric")


def pixelate(x: Tensor, rng: Generator, share: float) -> Tensor:
    """Reduced to `share` of its sides and enlarged again, both with a box; in 8 bits."""
    image = to_pil(from_unit(x))
    small = image.resize((int(image.width * share), int(image.height * share)), Image.Resampling.BOX)
    return to_unit(from_pil(small.resize(image.size, Image.Resampling.BOX)))


def jpeg_compression(x: Tensor, rng: Generator, quality: float) -> Tensor:
    """Stored as JPEG of that quality, colours at half resolution, which is Pillow's default; in 8 bits."""
    data = io.BytesIO()
    to_pil(from_unit(x)).save(data, "JPEG", quality=int(quality))
    return to_unit(from_pil(Image.open(data)))


def saturate(x: Tensor, rng: Generator, times: float, more: float) -> Tensor:
    """Saturation, in the sense of hue, saturation and value, `times` its own and `more`.

    Greys have hue 0, so where `more` is above 0 they turn red: as published.
    """
    value, lowest = x.amax(0, keepdim=True), x.amin(0, keepdim=True)
    chroma = value - lowest
    saturation = (times * chroma / value.clamp(min=1e-9) + more).clamp(0, 1)
    below = torch.where(chroma > 0, (value - x) / chroma.clamp(min=1e-9), torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1))
    return value * (1 - saturation * below)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "gaussian_blur": gaussian_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "spatter": spatter,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "saturate": saturate,
}


def luma(x: Tensor) -> Tensor:
    """(..., 3, H, W) -> (..., 1, H, W), same range. Source: ITU-R BT.601, section 2.5.1."""
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(-3, keepdim=True)


def blurred(x: Tensor, sigma: float, edge: str = "nearest", reach: int | None = None) -> Tensor:
    """(..., H, W) under a Gaussian of `sigma` pixels, cut off at `reach`: at 4 sigma where it is not given."""
    reach = int(4 * sigma + 0.5) if reach is None else reach
    rows, columns = (_smoothing(size, sigma, edge, reach).to(x) for size in x.shape[-2:])
    return rows @ x @ columns.T


@lru_cache(maxsize=8)
def _smoothing(size: int, sigma: float, edge: str, reach: int) -> Tensor:
    """(size, size): what each of `size` samples takes of each. One product, however far the kernel reaches."""
    by = torch.arange(-reach, reach + 1)
    weights = (-0.5 * (by.double() / max(sigma, 1e-9)).square()).softmax(0)
    source = _folded(torch.arange(size)[:, None] + by, size, edge)
    return torch.zeros(size, size, dtype=torch.double).scatter_add_(1, source, weights.expand(size, -1)).float()


def _folded(at: Tensor, size: int, edge: str) -> Tensor:
    """Whole places outside of 0 to `size` - 1 brought inside: the last is repeated ("nearest"), or the row goes back
    from it without repeating it ("mirror": 2 1 0 1 2) or with ("symmetric": 1 0 0 1 2)."""
    if edge == "nearest":
        return at.clamp(0, size - 1)
    last = 2 * size - (2 if edge == "mirror" else 1)
    at = at.remainder(last if edge == "mirror" else last + 1)
    return torch.minimum(at, last - at)


def _sampled(x: Tensor, row: Tensor, column: Tensor, edge: str) -> Tensor:
    """(C, H, W) read at places between pixels, (H, W) each, bilinear."""
    top, left = row.floor(), column.floor()
    down, right = row - top, column - left
    rows = [_folded(top.long() + i, x.shape[1], edge) for i in (0, 1)]
    columns = [_folded(left.long() + i, x.shape[2], edge) for i in (0, 1)]
    upper, lower = (x[:, r, columns[0]].lerp(x[:, r, columns[1]], right) for r in rows)
    return upper.lerp(lower, down)


def _enlarged(x: Tensor, factor: float) -> Tensor:
    """The middle of (C, H, W), enlarged bilinearly to that size; corners of the part are corners of the result."""
    height, width = x.shape[1:]
    part = [math.ceil(size / factor) for size in (height, width)]
    top, left = (height - part[0]) // 2, (width - part[1]) // 2
    x = x[None, :, top : top + part[0], left : left + part[1]]
    x = F.interpolate(x, [round(size * factor) for size in part], mode="bilinear", align_corners=True)[0]
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def _trail(x: Tensor, radius: float, sigma: float, angle: float) -> Tensor:
    """(C, H, W) drawn along a line at `angle` degrees, fading as half a Gaussian of `sigma` over 2 `radius` + 1 pixels.

    The places on the line are whole pixels, as those of ImageMagick, which made the published data; edges are repeated.
    """
    taps = 2 * int(radius) + 1
    weights = torch.softmax(-0.5 * (torch.arange(taps) / sigma).square(), 0).tolist()
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    height, width = x.shape[1:]
    wide = F.pad(x[None], (taps, taps, taps, taps), mode="replicate")[0]
    total = torch.zeros_like(x)
    for i, weight in enumerate(weights):
        top, left = taps + math.ceil(i * down - 0.5), taps + math.ceil(i * right - 0.5)
        total += weight * wide[:, top : top + height, left : left + width]
    return total


def _plasma(size: int, decay: float, rng: Generator) -> Tensor:
    """A cloud in [0, 1] on a square whose edges meet, of the next power of two of `size`.

    Midpoints of ever smaller squares take the mean of their four neighbours and noise, whose size falls by `decay`
    squared with each halving. Source: Fournier, Fussell & Carpenter 1982.
    """
    side = 1 << (size - 1).bit_length()
    height = torch.zeros(side, side)
    step, noise = side, 1.0
    while step >= 2:
        half = step // 2

        def midpoint(four: Tensor, by: float = noise) -> Tensor:
            return four / 4 + by * (2 * torch.rand(four.shape, generator=rng) - 1)

        corner = height[::step, ::step]
        pair = corner + corner.roll(-1, 0)
        centre = midpoint(pair + pair.roll(-1, 1))
        height[half::step, half::step] = centre
        height[::step, half::step] = midpoint(corner + corner.roll(-1, 1) + centre + centre.roll(1, 0))
        height[half::step, ::step] = midpoint(corner + corner.roll(-1, 0) + centre + centre.roll(1, 1))
        step, noise = half, noise / decay**2
    height -= height.min()
    return height / height.max()


def _pane(height: int, width: int, rng: Generator) -> Tensor:
    """Frost on a window, (3, H, W) in [0, 1]: drawn, not photographed.

    Crystals are cells around random points, each a feather with a spine and barbs at 60 degrees to it, the angle at
    which ice grows, over a cloud. Level, contrast and tint are drawn from the range of the photographs of the original:
    means of 0.44 to 0.8, deviations of 0.06 to 0.13, bluish.
    """
    side = max(height, width)
    cloud = _plasma(side, 1.5, rng)[:height, :width]
    bend = 0.08 * (cloud - cloud.mean())  # so that neither barbs nor borders are ruled lines
    row, column = torch.meshgrid(torch.arange(height) / side, torch.arange(width) / side, indexing="ij")
    seed = torch.rand(40, 2, 1, 1, generator=rng)
    turn = 2 * math.pi * torch.rand(40, generator=rng)
    down, right = row + bend - seed[:, 0], column + bend - seed[:, 1]
    cell = (down.square() + right.square()).argmin(0, keepdim=True)
    down, right, turn = down.gather(0, cell)[0], right.gather(0, cell)[0], turn[cell[0]]
    along = right * turn.cos() + down * turn.sin()
    across = (down * turn.cos() - right * turn.sin()).abs()
    phase = (along + across / math.sqrt(3)) * min(28.0, side / 3)  # barbs of at least 3 pixels
    barbs = 2 * (phase - phase.floor() - 0.5).abs()
    spine = (-across * 60).exp()
    grain = torch.rand(height, width, generator=rng)
    ice = 2 * cloud + barbs.square() + 1.5 * spine + 0.7 * grain
    ice = (ice - ice.mean()) / ice.std()
    level, spread, tint = (_uniform(rng, *ends) for ends in ((0.44, 0.8), (0.06, 0.13), (0.3, 1.0)))
    return (level + spread * ice + tint * torch.tensor([-0.08, 0.01, 0.07]).view(3, 1, 1)).clamp(0, 1)


def _relief(liquid: Tensor) -> Tensor:
    """Light and shade of drops, (H, W) in [0, 1]: the distance from their outline, evened out, lit from one corner.

    Outline: Canny 1986 with thresholds 50 and 150 of 255. Distance: Euclidean, at most 20 pixels. Evened out: its
    histogram is equalised over the picture.
    """
    distance = _box(_distance(_outline(to_uint8(from_unit(liquid)).float())))
    level = (distance + 1e-4).long()
    counts = level.flatten().bincount(minlength=21).cumsum(0).float()
    lowest = counts[level.min()]
    even = (counts - lowest) / (level.numel() - lowest).clamp(min=1)
    light = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    lit = F.conv2d(_rimmed(even[level], "reflect"), light[None, None])[0, 0].clamp(0, 1)
    return _box(lit)


def _outline(levels: Tensor) -> Tensor:
    """(H, W) in [0, 255] -> bool: the edges of Canny 1986, with 3 x 3 Sobel slopes in the L1 norm."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    right, down = F.conv2d(_rimmed(levels, "replicate"), torch.stack([sobel, sobel.T])[:, None])[0]
    slope = right.abs() + down.abs()
    wide = F.pad(slope, (1, 1, 1, 1))
    height, width = slope.shape

    def beside(rows: int, columns: int) -> Tensor:
        return wide[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    # a pixel stays if it is the steepest across the edge; of two equal ones the first
    flat, steep = math.tan(math.pi / 8) * right.abs(), math.tan(3 * math.pi / 8) * right.abs()
    level = (slope > beside(0, -1)) & (slope >= beside(0, 1))
    upright = (slope > beside(-1, 0)) & (slope >= beside(1, 0))
    falling = (slope > beside(-1, -1)) & (slope > beside(1, 1))
    rising = (slope > beside(-1, 1)) & (slope > beside(1, -1))
    diagonal = torch.where(right * down < 0, rising, falling)
    ridge = torch.where(down.abs() < flat, level, torch.where(down.abs() > steep, upright, diagonal))
    weak = ridge & (slope > 50)
    edge = ridge & (slope > 150)
    while True:
        grown = weak & (F.max_pool2d(edge[None].float(), 3, 1, 1)[0] > 0)
        if grown.equal(edge):
            return edge
        edge = grown


def _distance(edge: Tensor, most: int = 20) -> Tensor:
    """(H, W) bool -> pixels to the nearest True, Euclidean, at most `most`."""
    away = torch.arange(-most, most + 1.0).square()
    near = torch.where(edge, 0.0, float(most**2))
    for _ in range(2):  # down the columns, then along the rows
        near = F.pad(near.T, (most, most), value=most**2).unfold(1, 2 * most + 1, 1).add(away).amin(-1)
    return near.clamp(max=most**2).sqrt()


def _box(x: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels, (H, W)."""
    return F.avg_pool2d(_rimmed(x, "reflect"), 3, 1)[0, 0]


def _rimmed(x: Tensor, edge: str) -> Tensor:
    """(H, W) -> (1, 1, H + 2, W + 2)."""
    return F.pad(x[None, None], (1, 1, 1, 1), mode=edge)


def _colour(*levels: int) -> Tensor:
    """Three levels of 255 as (3, 1, 1) in [0, 1]."""
    return to_unit(from_uint8(torch.tensor(levels, dtype=torch.uint8))).view(3, 1, 1)


def _uniform(rng: Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=rng).item()
