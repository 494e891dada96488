"""From light to photo: what a camera, its file format and dirt do to a picture, as numbers that can be kept.

    radiance (3, H, W) linear --shadow (in the scene)--> --develop (a camera and JPEG)--> photo (3, H, W) sRGB in [0, 1]

A photo is a pure function of (radiance, Camera, Dirt, seed). Lengths are in widths of the picture.
"""

import io
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hubmodels.images import from_pil, from_unit, linear_to_srgb, to_pil, to_unit

USUAL = 0.2
"""Mean reflectance of surfaces."""


@dataclass(frozen=True)
class Development:
    """What a camera makes of light. The defaults change nothing but the coding."""

    exposure: float = 1.0
    """Linear gain; what comes out above 1 is clipped."""
    red: float = 1.0
    blue: float = 1.0
    """Gains of white balance relative to green."""
    vignette: float = 0.0
    """Share of the light that the corners lose."""
    blur: float = 0.0
    """Standard deviation of a Gaussian, in widths of the picture: lens, focus and hand."""
    shot: float = 0.0
    """Noise at full signal, standard deviation; it grows with the root of the signal."""
    read: float = 0.0
    """Noise without any signal, standard deviation."""
    jpeg: int = 100
    """Quality of the file; 100 keeps the pixels as they are, rounded to 8 bits."""


@dataclass(frozen=True)
class Dirt:
    """What lies between a clean surface and its photo. Zero is clean, one is a lot."""

    shadow: float = 0.0
    smudge: float = 0.0
    scratch: float = 0.0

    @property
    def severity(self) -> float:
        return max(self.shadow, self.smudge, self.scratch)


def snapshot(generator: torch.Generator, exposure: float = 1.0) -> Development:
    """A plausible hand-held shot around an exposure: within 0.7 stops of it, mild cast, noise, blur and JPEG."""
    u = torch.rand(8, generator=generator).tolist()
    return Development(
        exposure=exposure * 2 ** (1.4 * (u[0] - 0.5)),
        red=math.exp(0.16 * (u[1] - 0.5)),
        blue=math.exp(0.16 * (u[2] - 0.5)),
        vignette=0.3 * u[3] ** 2,
        blur=0.0015 * u[4] ** 2,
        shot=0.002 + 0.018 * u[5] ** 2,
        read=0.001 + 0.006 * u[6] ** 2,
        jpeg=round(98 - 28 * u[7] ** 2),
    )


def dirt(generator: torch.Generator) -> Dirt:
    """Shadows on three photos in four, smudges and scratches on three in five; one in ten gets nothing."""
    u = torch.rand(6, generator=generator).tolist()
    return Dirt(u[3] * (u[0] < 0.75), u[4] * (u[1] < 0.6), u[5] * (u[1] < 0.6))


def metered(radiance: Tensor, irradiance: float = math.pi, target: float = 0.35) -> float:
    """The exposure that a camera takes which is half automatic: between one set for a usual surface in this light, as
    by hand or with a grey card, and one that brings the middle of any picture to `target`.

    With the latter alone black and white surfaces would look alike.

    Args:
        radiance: (..., 3, H, W) linear.
        irradiance: on the surface; pi shows a white matt one with a radiance of 1.
        target: mean of the middle, of a usual surface.
    """
    height, width = radiance.shape[-2:]
    middle = radiance[..., height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None]
    white = max(irradiance / math.pi, 1e-6)
    return target / white / math.sqrt(USUAL * max(float(middle.mean()) / white, 1e-4))


def shadow(height: int, width: int, strength: float, generator: torch.Generator) -> Tensor:
    """(1, H, W) share of light that is left: soft blobs of shade, at the darkest 1 - 0.85 * strength."""
    field = clouds(height, width, 3, 3, generator)
    edge, threshold = 0.05 + 0.4 * torch.rand(2, generator=generator)
    shade = ((field - threshold) / edge).clamp(0, 1)
    shade = shade * shade * (3 - 2 * shade)
    return 1 - 0.85 * strength * shade


def soiled(photo: Tensor, dirt: Dirt, generator: torch.Generator) -> Tensor:
    """Greasy smudges, which veil up to 0.2 of a photo (3, H, W), and fine bright or dark scratches."""
    height, width = photo.shape[-2:]
    if dirt.smudge:
        veil = 0.2 * dirt.smudge * (clouds(height, width, 4, 4, generator) - 0.3).clamp(min=0)
        photo = photo + veil * (photo.mean((-2, -1), keepdim=True) * 1.3 - photo)
    if dirt.scratch:
        photo = photo + 0.5 * dirt.scratch * scratches(height, width, round(4 + 20 * dirt.scratch), generator)
    return photo.clamp(0, 1)


def clouds(height: int, width: int, cells: int, octaves: int, generator: torch.Generator) -> Tensor:
    """(1, H, W) smooth noise, 0 to 1: octaves of random grids, bicubic between their points."""
    total = torch.zeros(1, 1, height, width)
    for octave in range(octaves):
        side = cells * 2**octave + 1
        points = torch.rand(1, 1, side, side, generator=generator)
        total += F.interpolate(points, (height, width), mode="bicubic", align_corners=True) / 2**octave
    low, high = total.min(), total.max()
    return ((total - low) / (high - low).clamp(min=1e-6))[0]


def scratches(height: int, width: int, count: int, generator: torch.Generator) -> Tensor:
    """(1, H, W) in about [-1, 1]: thin, slightly bent lines, some bright and some dark, one pixel in 512 wide."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / width, (torch.arange(width) + 0.5) / width, indexing="ij")
    field, thickness = torch.zeros(height, width), max(1 / 512, 0.7 / width)
    for _ in range(count):
        u = torch.rand(7, generator=generator).tolist()
        angle = math.pi * u[0]
        along = (x - u[1]) * math.cos(angle) + (y - u[2] * height / width) * math.sin(angle)
        across = (y - u[2] * height / width) * math.cos(angle) - (x - u[1]) * math.sin(angle)
        across = across - 0.3 * (u[3] - 0.5) * along * along
        line = (1 - (across / thickness).abs()).clamp(min=0) * (along.abs() < 0.05 + 0.3 * u[4])
        field += line * (u[5] - 0.4) * (0.4 + 0.6 * u[6])
    return field.clamp(-1, 1)[None]


def develop(radiance: Tensor, how: Development, generator: torch.Generator) -> Tensor:
    """A photo (3, H, W) of linear radiance (3, H, W), rounded to 8 bits as in a file.

    Noise as in Foi et al. 2008 (Practical Poissonian-Gaussian noise modelling), equation 3, before the coding.
    """
    height, width = radiance.shape[-2:]
    light = radiance * (how.exposure * torch.tensor([how.red, 1.0, how.blue]))[:, None, None]
    if how.vignette:
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        light = light * (1 - how.vignette * (x * x + y * y) / 2)
    if how.blur * width > 0.15:
        light = blurred(light, how.blur * width)
    if how.shot or how.read:
        noise = torch.randn(light.shape, generator=generator)
        light = light + noise * (how.shot**2 * light.clamp(min=0) + how.read**2).sqrt()
    image = to_pil(from_unit(linear_to_srgb(light.clamp(0, 1))))
    if how.jpeg < 100:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=how.jpeg)
        image = Image.open(file)
    return to_unit(from_pil(image))


def blurred(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (C, H, W), sigma in pixels; the edge repeats."""
    reach = min(math.ceil(3 * sigma), *(side - 1 for side in picture.shape[-2:]))
    at = torch.arange(-reach, reach + 1)
    kernel = (-0.5 * (at / sigma) ** 2).exp()
    kernel = (kernel / kernel.sum()).to(picture)
    padded = F.pad(picture[:, None], (reach,) * 4, "replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[:, 0]
