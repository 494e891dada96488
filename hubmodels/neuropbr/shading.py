"""The light that a flat texture sends to the eye: a differentiable renderer in closed form, without noise.

    maps, lights, eye --shade--> radiance (B, 3, H, W), linear, in the frame of the texture

n normal, l towards the light, v towards the eye, h half-way between them, a = roughness^2.

    f = (1 - metallic) albedo / pi + D F G(l) G(v) / (4 (n.l) (n.v))
    D = a^2 / (pi ((n.h)^2 (a^2 - 1) + 1)^2)              GGX: Trowbridge & Reitz 1975; Walter et al. 2007, eq. 33
    G(w) = 2 (n.w) / (n.w + sqrt(a^2 + (1 - a^2) (n.w)^2))     Smith, exact for GGX, uncorrelated: Walter, eq. 34
    F = F0 + (1 - F0) (1 - v.h)^5, F0 = lerp(0.04, albedo, metallic)                       Schlick 1994, eq. 15

A far light that is wide, such as a piece of sky, is shaded from its middle with a = roughness^2 + radius / 2, so
that mirrors show it as a soft disc and not as a star: Karis 2013 (Real Shading in Unreal Engine 4), eq. 14.

Of the usual variants this one is nearest to the `principled` of Mitsuba 3; in particular the matt part is not
dimmed by 1 - F. Nothing casts shadows on anything else. World as in lights.py.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import srgb_to_linear
from hubmodels.neuropbr.lights import Lights

DIELECTRIC_F0 = 0.04
"""Reflectance at normal incidence of an index of refraction of 1.5."""
LEAST_ROUGHNESS = 0.03
"""Smoother is shaded as this: the highlight of a perfect mirror under a point has no finite value."""
LEAST_COSINE = 1e-4
"""Facets that the normal map turns away from the eye are shaded as seen from their edge, not as holes."""
CHANNELS = {"albedo": 3, "roughness": 1, "metallic": 1, "normal": 3}
"""The maps that are shaded, and how many channels each has."""


def brdf(albedo: Tensor, roughness: Tensor, metallic: Tensor, normal: Tensor, light: Tensor, view: Tensor) -> Tensor:
    """Reflected radiance for each unit of irradiance on a surface that faces the light: f (n.l).

    All shapes broadcast to (B, 3, H, W). f is symmetric in light and view, where the surface faces both.

    Args:
        albedo: (..., 3, H, W) linear, not sRGB.
        roughness: (..., 1, H, W) perceptual, in [0, 1].
        metallic: (..., 1, H, W) in [0, 1].
        normal: (..., 3, H, W) unit vectors.
        light: (..., 3, H, W) unit vectors towards the light.
        view: (..., 3, H, W) unit vectors towards the eye.
    """
    half = _unit(light + view)
    cos_light = _dot(normal, light).clamp(min=0)
    cos_view = _dot(normal, view).clamp(min=LEAST_COSINE)
    # 1 - (n.h)^2 cancels in a highlight, just where it matters; |n - h|^2 does not
    gap = (normal - half).square().sum(-3, keepdim=True)
    sin2_half = gap * (1 - gap / 4)
    a2 = roughness.clamp(min=LEAST_ROUGHNESS).square().square()
    b2 = 1 - a2
    # G(l) G(v) / (4 (n.l) (n.v)) is 1 / masked: so written, nothing is 0 / 0 at the horizon
    masked = (cos_light + (a2 + b2 * cos_light.square()).sqrt()) * (cos_view + (a2 + b2 * cos_view.square()).sqrt())
    strength = a2 / (math.pi * (a2 + b2 * sin2_half).square() * masked)
    miss = (1 - _dot(view, half)).clamp(min=0)  # rounding makes it negative straight on
    schlick = miss.square().square() * miss
    f0 = DIELECTRIC_F0 + metallic * (albedo - DIELECTRIC_F0)
    matt = (1 - metallic) / math.pi * albedo
    return cos_light * (matt + strength * (f0 + (1 - f0) * schlick))


def shade(maps: dict[str, Tensor], lights: Lights, eye: Tensor) -> Tensor:
    """What each texel of a flat texture sends to the eye.

    Lights are taken one by one and, where gradients are asked for, computed again on the way back, so that memory
    does not grow with their number. Ambient occlusion and height are not used; radiance adds up over lights, so a
    caller may dim the part of a sky by occlusion itself.

    Args:
        maps: `albedo` (B, 3, H, W) sRGB in [0, 1]; `roughness`, `metallic` (B, 1, H, W); `normal` (B, 3, H, W) unit,
            x right, y up. Row 0 is at the top, the texture spans x from -1 to 1 and y from H/W down to -H/W.
        lights: their batch, that of the maps and that of the eye are equal or 1.
        eye: (B, 3) position of a camera with z > 0; or, for a camera infinitely far away, directions towards it
            (B, 3, 1, 1) or (B, 3, H, W).

    Returns:
        (B, 3, H, W) linear radiance, not clamped.

    Raises:
        ValueError: a map is missing or of another shape, or batches differ.
    """
    batch = _checked_batch(maps, lights, eye)
    return _shade(_surface(maps), lights, eye, batch)


def shade_supersampled(maps: dict[str, Tensor], lights: Lights, eye: Tensor, factor: int = 2) -> Tensor:
    """`shade` at `factor` times the size, averaged back: highlights on relief do not flicker from texel to texel.

    Maps are interpolated bilinearly, albedo as light and normals renormalised, as a path tracer reads textures.
    """
    batch = _checked_batch(maps, lights, eye)
    if factor < 1:
        raise ValueError(f"the factor of supersampling must be 1 or more, got {factor}")
    surface = [F.interpolate(one, scale_factor=factor, mode="bilinear") for one in _surface(maps)]
    surface[3] = _unit(surface[3])
    if eye.ndim == 4 and eye.shape[2:] != (1, 1):
        eye = F.interpolate(eye, scale_factor=factor, mode="bilinear")
    return F.avg_pool2d(_shade(surface, lights, eye, batch), factor)


def texel_positions(height: int, width: int, like: Tensor) -> Tensor:
    """(1, 3, H, W) centres of the texels in the world, of the device and type of `like`."""
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) * (2 / width) - 1
    y = height / width - (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) * (2 / width)
    down, across = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([across, down, torch.zeros_like(x).expand_as(across)])[None]


def view_directions(eye: Tensor, positions: Tensor) -> Tensor:
    """Unit vectors from positions (1, 3, H, W) to the eye; see `shade` for the two kinds of eye."""
    return _unit(eye if eye.ndim == 4 else eye[:, :, None, None] - positions)


def _shade(surface: list[Tensor], lights: Lights, eye: Tensor, batch: int) -> Tensor:
    albedo, roughness, metallic, normal = surface
    positions = texel_positions(*albedo.shape[2:], like=albedo)
    view = view_directions(eye, positions)
    near = lights.is_point.any(0).tolist()
    tracked = torch.is_grad_enabled() and any(
        value.requires_grad for value in (*surface, eye, lights.position, lights.color)
    )
    reflect = _Recomputed.apply if tracked and len(near) > 1 else _reflected
    radiance = albedo.new_zeros(batch, 3, *albedo.shape[2:])
    for number, any_near in enumerate(near):
        position, color = (value[:, number, :, None, None] for value in (lights.position, lights.color))
        # from a far light's point of view all texels are at the origin, and it is at distance 1
        mask = lights.is_point[:, number, None, None, None]
        origin = positions if mask.all() else positions * mask if any_near else positions.new_zeros(1, 3, 1, 1)
        wide = lights.radius[:, number, None, None, None]
        rough = (roughness.square() + wide / 2).clamp(max=1).sqrt() if wide.any() else roughness
        reflected = reflect(albedo, rough, metallic, normal, view, origin, position, color)
        radiance = radiance + reflected if tracked else radiance.add_(reflected)
    return radiance


def _reflected(
    albedo: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    normal: Tensor,
    view: Tensor,
    origin: Tensor,
    position: Tensor,
    color: Tensor,
) -> Tensor:
    to_light = position - origin
    distance2 = _dot(to_light, to_light)
    irradiance = color / distance2 * (to_light[:, 2:] > 0)  # from below, the surface is in its own shadow
    return irradiance * brdf(albedo, roughness, metallic, normal, to_light * distance2.rsqrt(), view)


class _Recomputed(torch.autograd.Function):
    """`_reflected` that keeps nothing but its inputs, which lights share, and computes the rest again on the way back.

    What torch.utils.checkpoint does too, but its first call imports a compiler for ten seconds.
    """

    @staticmethod
    def forward(ctx, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return _reflected(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad
        inputs = [value.detach().requires_grad_(want) for value, want in zip(ctx.saved_tensors, wanted, strict=True)]
        with torch.enable_grad():
            product = (_reflected(*inputs) * gradient).sum()
        # a gradient given as an argument would import that compiler as well
        found = iter(torch.autograd.grad(product, [value for value in inputs if value.requires_grad]))
        return tuple(next(found) if want else None for want in wanted)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-3, keepdim=True)


def _unit(vectors: Tensor) -> Tensor:
    # F.normalize along channels takes fifty times as long on a CPU
    return vectors * _dot(vectors, vectors).clamp(min=1e-20).rsqrt()


def _surface(maps: dict[str, Tensor]) -> list[Tensor]:
    """In the order of `brdf`, albedo turned into light."""
    return [srgb_to_linear(maps["albedo"]), maps["roughness"], maps["metallic"], maps["normal"]]


def _checked_batch(maps: dict[str, Tensor], lights: Lights, eye: Tensor) -> int:
    missing = [name for name in CHANNELS if name not in maps]
    if missing:
        raise ValueError(f"a surface needs the maps {', '.join(CHANNELS)}; missing: {', '.join(missing)}")
    batch, _, height, width = maps["albedo"].shape if maps["albedo"].ndim == 4 else (0, 0, 0, 0)
    for name, channels in CHANNELS.items():
        if batch == 0 or maps[name].shape != (batch, channels, height, width):
            shapes = ", ".join(f"{name} {tuple(maps[name].shape)}" for name in CHANNELS)
            raise ValueError(f"maps must be (B, C, H, W) of one size, of 3, 1, 1 and 3 channels, got {shapes}")
    is_position = eye.ndim == 2
    is_direction = eye.ndim == 4 and eye.shape[2:] in ((1, 1), (height, width))
    if not (is_position or is_direction) or eye.shape[1] != 3:
        raise ValueError(f"eye must be (B, 3) or directions (B, 3, {height}, {width}), got {tuple(eye.shape)}")
    batches = {batch, len(lights), len(eye)} - {1}
    if len(batches) > 1:
        raise ValueError(f"batches must be equal or 1, got maps {batch}, lights {len(lights)}, eye {len(eye)}")
    return max(batches, default=1)
