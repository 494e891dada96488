"""What lights a flat texture: points, far lights, a flash at the camera and whole environments, in one form.

World: the texture lies in the plane z = 0, x right, y up, z towards the viewer, and spans x from -1 to 1.
B batch, L lights. Light is linear RGB. A white matt surface at the origin, squarely lit by an irradiance of pi,
sends out a radiance of 1; the samplers below are scaled to about that.
"""

import math
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear sRGB primaries. Source: IEC 61966-2-1."""
SKY_LIGHTS = 36
"""Enough for the smooth sky of `photo_lights`; a real panorama wants 256 or more."""
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True, eq=False)
class Lights:
    """Any mixture of near and far lights; a batch of 1 serves every surface of a batch.

    Raises:
        ValueError: the shapes do not fit each other.
    """

    position: Tensor
    """(B, L, 3): where a point is, or the unit vector towards a light that is infinitely far."""
    is_point: Tensor
    """(B, L) bool."""
    color: Tensor
    """(B, L, 3): radiant intensity of a point, which falls off by the square of the distance; of a far light, the
    irradiance on a surface that faces it."""
    radius: Tensor = field(default_factory=lambda: torch.zeros(()))
    """(B, L): radians from the middle of a far light to its rim, 0 for a point. It softens highlights."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", self.radius.to(self.color).expand(self.is_point.shape))
        batch, count = self.is_point.shape if self.is_point.ndim == 2 else (-1, -1)
        for name, value in (("position", self.position), ("color", self.color)):
            if value.shape != (batch, count, 3):
                raise ValueError(
                    f"lights need position and color (B, L, 3) and is_point (B, L), got {name} {tuple(value.shape)}, "
                    f"is_point {tuple(self.is_point.shape)}"
                )

    def __len__(self) -> int:
        return self.is_point.shape[0]

    def __getitem__(self, index: int) -> "Lights":
        """One set of lights of the batch, as a batch of 1."""
        rows = slice(index, index + 1 or None)
        return Lights(self.position[rows], self.is_point[rows], self.color[rows], self.radius[rows])

    def to(self, device: torch.device | str) -> "Lights":
        return Lights(*(part.to(device) for part in (self.position, self.is_point, self.color, self.radius)))

    def scaled(self, factor: Tensor | float) -> "Lights":
        """All colours times a number, or times (B, 1, 1) numbers: an exposure before the shot."""
        return Lights(self.position, self.is_point, self.color * factor, self.radius)


# --- kinds of light ---------------------------------------------------------------------------------------------


def point(position: Tensor, intensity: Tensor) -> Lights:
    """Small lamps near the surface.

    Args:
        position: (B, L, 3), z > 0.
        intensity: (B, L, 3); a surface that faces the lamp at distance r gets intensity / r^2.
    """
    return Lights(position, torch.ones(position.shape[:2], dtype=torch.bool, device=position.device), intensity)


def directional(direction: Tensor, irradiance: Tensor) -> Lights:
    """Lights so far away that direction and strength are the same all over the surface.

    Args:
        direction: (B, L, 3) towards the light, of any length but 0.
        irradiance: (B, L, 3) on a surface that faces the light.
    """
    far = torch.zeros(direction.shape[:2], dtype=torch.bool, device=direction.device)
    return Lights(F.normalize(direction, dim=-1), far, irradiance)


def flash(eye: Tensor, intensity: Tensor) -> Lights:
    """A lamp exactly at the camera: no shadows to see, and every highlight mirrors back.

    Args:
        eye: (B, 3).
        intensity: (B, 3).
    """
    return point(eye.unsqueeze(1), intensity.unsqueeze(1))


def environment(panorama: Tensor, count: int = 256, rotation: float = 0.0) -> Lights:
    """Light from all around as far lights, one for each cell of a grid over the upper half of a panorama.

    Each cell radiates what its pixels do, integrated over exact solid angles, from their mean direction by
    luminance: without noise, and a small sun stays in its place. The upper edge of the panorama is +z; its centre
    column stands over +y, and what is right of it over +x. Negative pixels, ringing of lossy compression, count 0.

    Args:
        panorama: (3, H, W) linear radiance, equirectangular, of 2 rows or more.
        count: least number of lights; there are 4 n^2 of them.
        rotation: radians about z, counterclockwise seen from the viewer.

    Returns:
        A batch of 1.

    Raises:
        ValueError: not one picture of three channels, not finite somewhere, or no lights are asked for.
    """
    if panorama.ndim != 3 or panorama.shape[0] != 3 or panorama.shape[1] < 2:
        raise ValueError(f"a panorama must be (3, H, W) of 2 rows or more, got {tuple(panorama.shape)}")
    if not panorama.isfinite().all():
        raise ValueError("the panorama holds NaN or infinity: clamp or repair those pixels first")
    if count < 1:
        raise ValueError(f"an environment needs at least one light, got count {count}")
    radiance = panorama.double().clamp(min=0)
    rows = math.ceil(math.sqrt(count / 4))
    # over each overlap of a cell with a pixel: polar angle from the zenith, azimuth from +y towards +x
    low, high = _overlaps(0, math.pi / 2, rows, 0, math.pi, radiance.shape[1], radiance)
    left, right = _overlaps(-math.pi, math.pi, 4 * rows, -math.pi, math.pi, radiance.shape[2], radiance)
    solid = (low.cos() - high.cos(), right - left)
    moments = (
        ((high - low) / 2 - (high.mul(2).sin() - low.mul(2).sin()) / 4, left.cos() - right.cos()),
        ((high - low) / 2 - (high.mul(2).sin() - low.mul(2).sin()) / 4, right.sin() - left.sin()),
        ((high.sin().square() - low.sin().square()) / 2, right - left),
    )
    color = (solid[0] @ radiance @ solid[1].T).flatten(1).T
    luminance = torch.tensordot(radiance.new_tensor(LUMINANCE), radiance, 1)
    luminance = luminance + luminance.mean() * 1e-6 + 1e-30  # a black cell still has a centre
    direction = torch.stack([(down @ luminance @ across.T).flatten() for down, across in moments], -1)
    x, y, z = F.normalize(direction, dim=-1, eps=0).unbind(-1)
    cos, sin = math.cos(rotation), math.sin(rotation)
    direction = torch.stack([cos * x - sin * y, sin * x + cos * y, z], -1)
    far = directional(direction[None].to(panorama.dtype), color[None].to(panorama.dtype))
    return replace(far, radius=torch.full_like(far.radius, math.sqrt(2 / len(direction))))  # discs of their solid angle


def _overlaps(
    start: float, end: float, cells: int, first: float, last: float, pixels: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Ends of the overlap of each of even `cells` with each of even `pixels`, (cells, pixels); equal where none is."""
    cell = torch.linspace(start, end, cells + 1, dtype=like.dtype, device=like.device)
    pixel = torch.linspace(first, last, pixels + 1, dtype=like.dtype, device=like.device)
    low = torch.maximum(cell[:-1, None], pixel[:-1])
    return low, torch.maximum(low, torch.minimum(cell[1:, None], pixel[1:]))


def join(*parts: Lights) -> Lights:
    """All of the parts shine at once; batches are equal or 1."""
    batch = max(len(part) for part in parts)
    return Lights(
        torch.cat([part.position.expand(batch, -1, -1) for part in parts], 1),
        torch.cat([part.is_point.expand(batch, -1) for part in parts], 1),
        torch.cat([part.color.expand(batch, -1, -1) for part in parts], 1),
        torch.cat([part.radius.expand(batch, -1) for part in parts], 1),
    )


def batch(sets: list[Lights]) -> Lights:
    """One set of lights for each surface: (B, L) of sets of a batch of 1; short sets are filled up with darkness."""
    longest = max(lights.is_point.shape[1] for lights in sets)
    filled = [join(lights, _darkness(longest - lights.is_point.shape[1], lights.color)) for lights in sets]
    return Lights(
        torch.cat([lights.position for lights in filled]),
        torch.cat([lights.is_point for lights in filled]),
        torch.cat([lights.color for lights in filled]),
        torch.cat([lights.radius for lights in filled]),
    )


def _darkness(count: int, like: Tensor) -> Lights:
    up = like.new_tensor([0, 0, 1]).expand(1, count, 3)
    return directional(up, torch.zeros_like(up))


def plane_irradiance(lights: Lights) -> Tensor:
    """(B, 3) that falls on the flat surface at the origin: what an exposure is set by."""
    distance = lights.position.norm(dim=-1, keepdim=True)  # 1 for far lights
    cosine = (lights.position[..., 2:] / distance).clamp(min=0)
    return (lights.color * cosine / distance.square()).sum(1)


def mean_direction(lights: Lights) -> Tensor:
    """(B, 3) from where the flat surface at the origin is lit: the mean of the unit vectors towards its lights, each by
    the luminance it gives. Its length is 1 for a single light and less the more the light comes from everywhere."""
    toward = F.normalize(lights.position, dim=-1)
    distance = lights.position.norm(dim=-1)  # 1 for far lights
    given = luminance(lights.color) * toward[..., 2].clamp(min=0) / distance.square()
    return (toward * given[..., None]).sum(1) / given.sum(1, keepdim=True).clamp(min=1e-9)


def luminance(color: Tensor) -> Tensor:
    """(..., 3) linear RGB to (...)."""
    return (color * color.new_tensor(LUMINANCE)).sum(-1)


# --- samplers ---------------------------------------------------------------------------------------------------


def room_lights(generator: Generator, sky: int = SKY_LIGHTS) -> Lights:
    """Light that somebody with a phone would find: a soft sky, perhaps lamps.

    Args:
        sky: how many lights the sky is made of.

    Returns:
        A batch of 1 whose `plane_irradiance` has a luminance of pi.
    """
    parts = [environment(_sky(generator), sky)]
    lamps = int(torch.randint(0, 4, (), generator=generator))
    if lamps:
        distance = between(generator, 1.5, 4, lamps, 1)
        position = _hemisphere(generator, lamps, least=0.3) * distance
        tint = _tint(generator, lamps, 0.15)
        parts.append(point(position[None], (between(generator, 0.2, 1.5, lamps, 1) * distance.square() * tint)[None]))
    weights = [between(generator, 0.3, 1, 1)[0] for _ in parts]
    lights = join(*(_exposed(part).scaled(weight) for part, weight in zip(parts, weights, strict=True)))
    return _exposed(lights)


def flashed(lights: Lights, eye: Tensor, generator: Generator) -> Lights:
    """The same with a phone's flash, which gives the plane from as much to sixteen times as much.

    A flash moves with the camera: photos with one are lit from other sides, which says more of relief and gloss than
    any number of photos in the light of the room.

    Args:
        lights: a batch of 1.
        eye: (3,) position of the camera.
    """
    return _outshone(lights, flash(eye[None], _tint(generator, 1, 0.05)), generator)


def side_lit(lights: Lights, generator: Generator) -> Lights:
    """The same with a lamp that is held to one side, 15 to 55 degrees above the plane, as strong as a flash may be.

    It shows relief as no other light does: at 30 degrees a slope of 10 degrees is a third brighter or darker.
    """
    elevation, azimuth, distance = (between(generator, low, high) for low, high in ((15, 55), (0, 360), (1.5, 4)))
    elevation, azimuth = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    flat = elevation.cos()
    toward = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()])
    return _outshone(lights, point((distance * toward)[None, None], _tint(generator, 1, 0.1)[None]), generator)


def _outshone(lights: Lights, by: Lights, generator: Generator) -> Lights:
    """Both together, of which the second gives the plane from as much to sixteen times as much."""
    share = 2 ** between(generator, 0, 4, 1)[0] * luminance(plane_irradiance(lights)) / math.pi
    return join(lights, _exposed(by).scaled(share[:, None, None]))


def unseen(count: int = 8) -> Lights:
    """Fixed white lights for evaluation, one a row (B = count, L = 1): points and far lights in turns, all around.

    Each gives the plane an irradiance of pi at the origin, from 30 to 75 degrees above it.
    """
    number = torch.arange(count)
    elevation = torch.deg2rad(30 + 45 * (number + 0.5) / count)
    azimuth = number * GOLDEN_ANGLE
    flat = elevation.cos()
    direction = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], -1)
    is_point = number % 2 == 0
    distance = torch.where(is_point, 2.5, 1.0)
    strength = math.pi * distance.square() / elevation.sin()
    return Lights(
        (direction * distance[:, None])[:, None], is_point[:, None], strength[:, None, None].expand(-1, -1, 3)
    )


def rendering_configurations(
    generator: Generator, surfaces: int, free: int = 3, mirrored: int = 6
) -> list[tuple[Lights, Tensor]]:
    """Lights and eyes under which a rendering loss compares two surfaces: some anywhere, some that see a highlight.

    In a mirrored one light and eye are mirror images about a random point of the surface, so that its highlight is
    in sight there. Each light gives pi to a surface that faces it from the origin or that point.
    Source: Deschaintre et al. 2018, section 4.2 and its published code (distances log-normal, median e^0.5).

    Returns:
        One (a point light, eyes (B, 3)) for each configuration, of a batch of `surfaces`.
    """
    configurations = []
    for number in range(free + mirrored):
        toward_eye, toward_light = (_hemisphere(generator, surfaces, least=0.2) for _ in range(2))
        centre = torch.zeros(surfaces, 3)
        if number >= free:
            toward_light = toward_eye * torch.tensor([-1.0, -1, 1])
            centre = torch.cat([between(generator, -1, 1, surfaces, 2), torch.zeros(surfaces, 1)], 1)
        near, far = ((0.5 + 0.75 * torch.randn(surfaces, 1, generator=generator)).exp().clamp(0.8, 6) for _ in range(2))
        light = point((centre + toward_light * near)[:, None], (math.pi * near.square()).expand(-1, 3)[:, None])
        configurations.append((light, centre + toward_eye * far))
    return configurations


def _sky(generator: Generator) -> Tensor:
    """(3, 16, 32) panorama of a gradient and up to three soft windows or clouds."""
    polar = (torch.arange(16) + 0.5)[:, None] * (math.pi / 16)
    azimuth = (torch.arange(32) + 0.5) * (math.pi / 16)
    flat = polar.sin()
    toward = torch.stack([flat * azimuth.sin(), flat * azimuth.cos(), polar.cos().expand(-1, 32)])
    sky = between(generator, 0.2, 1, 1, 1) + toward[2] * between(generator, -0.2, 0.5, 1, 1)
    sky = sky * _tint(generator, 1, 0.1)[0][:, None, None]
    for _ in range(int(torch.randint(0, 4, (), generator=generator))):
        centre = _hemisphere(generator, 1, least=0.1)[0]
        sharpness, strength = between(generator, 3, 20, 1), between(generator, 0.5, 5, 1)
        lobe = ((torch.tensordot(centre, toward, 1) - 1) * sharpness).exp() * strength
        sky = sky + lobe * _tint(generator, 1, 0.15)[0][:, None, None]
    return sky


def _exposed(lights: Lights) -> Lights:
    """The same lights, scaled to a luminance of pi on the plane."""
    return lights.scaled((math.pi / luminance(plane_irradiance(lights)))[:, None, None])


def _hemisphere(generator: Generator, count: int, least: float) -> Tensor:
    """(count, 3) unit vectors with z from `least` to 1, as frequent as their cosine to the plane's normal."""
    z = between(generator, least * least, 1, count).sqrt()
    azimuth = between(generator, 0, 2 * math.pi, count)
    flat = (1 - z.square()).sqrt()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), z], -1)


def _tint(generator: Generator, count: int, spread: float) -> Tensor:
    """(count, 3) from warm to cool, green left at 1."""
    warmth = between(generator, -spread, spread, count)
    return torch.stack([1 + warmth, torch.ones(count), 1 - warmth], -1)


def between(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Even random numbers of a shape, on the CPU whatever the machine, so that a seed is the same everywhere."""
    return low + (high - low) * torch.rand(shape, generator=generator)
