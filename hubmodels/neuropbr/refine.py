"""Maps a little closer to their photos: a descent through the renderer.

    photos --rectified--> views --fitted--> Light of each --Adam on maps and lights--> maps, PSNR before and after

Nobody says where the light of a photo was, or how long it was exposed. Each is explained by one lamp, an even sky
and the camera's position that follows from its homography; exposure is in the strengths of both. Whatever else was
there, shadows for instance, ends up in the maps, so they are held near to what they were.

Changes are sought at up to `SIDE` texels a side and added to maps of any size: details stay as they were.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import linear_to_srgb, srgb_to_linear
from hubmodels.neuropbr.cameras import centres, pose
from hubmodels.neuropbr.lights import point
from hubmodels.neuropbr.model import Maps
from hubmodels.neuropbr.predict import Progress, aligned, checked_photos, shrunk, silent
from hubmodels.neuropbr.shading import DIELECTRIC_F0, shade

SIDE = 512
FIT_SIDE = 96
"""Texels a side from which lights are found: they are the same all over the texture."""
FIT_STEPS = 60
RATE = 0.03
SPREAD = {"albedo": 0.3, "roughness": 0.3, "metallic": 0.3, "normal": 0.05}
"""How far off maps are thought to be, standard deviations: in logits, and in slopes of the normals."""
MISFIT = 0.1
"""How far off photos may be from what the renderer can do, standard deviation in sRGB."""
BRIGHT = 0.98
"""Levels from here up may have been clipped, and do not say how strong a light is."""
LEAST_HEIGHT = 0.1
"""Of lamps above the surface."""


@dataclass(frozen=True, eq=False)
class Light:
    """What lit a photo: a lamp and an even sky."""

    position: Tensor
    """(3,) of the lamp in the world."""
    strength: Tensor
    """(3,) log radiant intensity of the lamp, exposure included."""
    sky: Tensor
    """(3,) log radiance of the sky."""


def refine(
    maps: Maps,
    photos: Sequence[Tensor],
    homographies: Tensor | None,
    steps: int,
    progress: Progress = silent,
) -> tuple[Maps, float, float]:
    """Maps that shine more like the photos, and how near they were before and are after.

    Args:
        maps: (1, C, H, W); others than albedo, roughness, metallic and normal stay as they are.
        photos: as in `predict`.
        homographies: as in `predict`.
        steps: of Adam, 1 to 1000.
        progress: called with the steps.

    Returns:
        The maps, and the PSNR in dB of the photos as shaded from the maps, over all that the photos show of the
        texture: before, with the lights that suit the maps given best, and after, never less. Where nothing is
        gained these are the maps that were given.

    Raises:
        ValueError: an argument makes no sense.
    """
    if not 1 <= steps <= 1000:
        raise ValueError(f"steps must be from 1 to 1000, got {steps}")
    if len(maps["albedo"]) != 1:
        raise ValueError(f"maps must be of one material (1, C, H, W), got {tuple(maps['albedo'].shape)}")
    photos, matrices = checked_photos(photos, homographies)
    maps = {name: one.detach().clone() for name, one in maps.items()}
    small = resized({name: maps[name] for name in SPREAD}, SIDE)
    views, seen, eyes = observed(small, photos, matrices)
    lights = [fitted(small, *one) for one in zip(views, seen, eyes, strict=True)]
    changes = {name: torch.zeros_like(one[:, :2] if name == "normal" else one) for name, one in small.items()}
    before = rerender_psnr(small, views, seen, eyes, lights)

    best, most = {name: one.clone() for name, one in changes.items()}, before
    for parameter in (*changes.values(), *(part for light in lights for part in vars(light).values())):
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(
        [{"params": [*changes.values()]}, {"params": [part for light in lights for part in vars(light).values()]}],
        RATE,
        betas=(0.9, 0.99),
    )
    for _ in progress(range(steps), "refining"):
        optimizer.zero_grad()
        for view, mask, eye, light in zip(views, seen, eyes, lights, strict=True):
            made = rerendered(changed(small, changes), light, eye)
            (((made - view) * mask).square().sum() / MISFIT**2 / seen.sum()).backward()
        far = sum(((one / SPREAD[name]).square().sum() for name, one in changes.items()), torch.zeros(()))
        (far / seen.sum()).backward()
        optimizer.step()
        with torch.no_grad():
            for light in lights:
                light.position[2].clamp_(min=LEAST_HEIGHT)
        after = rerender_psnr(changed(small, changes), views, seen, eyes, lights)
        if after > most:
            best, most = {name: one.detach().clone() for name, one in changes.items()}, after
    if most == before:
        return maps, before, before
    size = maps["albedo"].shape[-2:]
    larger = {name: F.interpolate(one, size, mode="bilinear") for name, one in best.items()}
    return maps | changed({name: maps[name] for name in SPREAD}, larger), before, most


def observed(maps: Maps, photos: Sequence[Tensor], matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views (N, 1, 3, H, W) of the photos as large as the maps, where they show the texture (N, 1, 1, H, W), and
    the eyes (N, 3)."""
    height, width = maps["albedo"].shape[-2:]
    x, y = centres(width, maps["albedo"]), centres(height, maps["albedo"])
    views, seen = aligned(shrunk(photos, matrices, height, width), matrices, x, y)
    if not seen.any():
        raise ValueError("no photo shows any of the texture: check the corners")
    eyes = torch.stack(
        [
            pose(matrix, height / width, photo.shape[1] / photo.shape[2])[0]
            for matrix, photo in zip(matrices, photos, strict=True)
        ]
    )
    eyes[:, 2].clamp_(min=LEAST_HEIGHT)
    return views.transpose(0, 1), seen.transpose(0, 1), eyes


def rerendered(maps: Maps, light: Light, eye: Tensor) -> Tensor:
    """(1, 3, H, W) sRGB in [0, 1]: what the maps look like in a photo's light from its eye (3,).

    The sky is mirrored as by a rough surface, without a look at its roughness: by F0 as a whole.
    """
    lit = shade(maps, point(light.position[None, None], light.strength.exp()[None, None]), eye[None])
    sky = _under_sky(maps) * light.sky.exp()[None, :, None, None]
    return linear_to_srgb((lit + sky).clamp(0, 1))


def changed(maps: Maps, changes: Maps) -> Maps:
    """Maps after steps: of logits, and of the slopes of normals. Steps of 0 change nothing, not even at 0 and 1."""
    moved = {}
    for name in ("albedo", "roughness", "metallic"):
        logit = torch.logit(maps[name].clamp(0.02, 0.98))
        moved[name] = (maps[name] + torch.sigmoid(logit + changes[name]) - torch.sigmoid(logit)).clamp(0, 1)
    x, y, z = maps["normal"].split(1, 1)
    steep = z.clamp(min=0.05)
    x, y = x + changes["normal"][:, :1] * steep, y + changes["normal"][:, 1:] * steep
    moved["normal"] = torch.cat([x, y, z], 1) / (x.square() + y.square() + z.square()).clamp(min=1e-12).sqrt()
    return moved


def fitted(maps: Maps, view: Tensor, seen: Tensor, eye: Tensor) -> Light:
    """The light that explains a view best: the best of some lamps, each as strong as least squares say, and then a
    descent from there.

    Args:
        maps: (1, C, H, W).
        view: (1, 3, H, W) sRGB.
        seen: (1, 1, H, W), 1 where the view counts.
        eye: (3,).
    """
    maps = resized(maps, FIT_SIDE)
    size = maps["albedo"].shape[-2:]
    cover = F.interpolate(seen, size, mode="area")
    view = F.interpolate(view * seen, size, mode="area") / cover.clamp(min=1e-6)
    seen = (cover > 0.99).float() if (cover > 0.99).any() else (cover > 0).float()
    with torch.no_grad():
        places = torch.cat([eye[None], lamps()])
        ones = torch.ones(len(places), 1, 3)
        lit, sky = shade(maps, point(places[:, None], ones), eye[None]), _under_sky(maps)
        lamp, ambient = _strengths(lit, sky.expand_as(lit), srgb_to_linear(view), seen * (view < BRIGHT))
        made = linear_to_srgb((lit * lamp + sky * ambient).clamp(0, 1))
        nearest = int(((made - view).square() * seen).sum((1, 2, 3)).argmin())
    light = Light(
        places[nearest].clone().requires_grad_(),
        lamp[nearest, :, 0, 0].clamp(min=1e-4).log().requires_grad_(),
        ambient[nearest, :, 0, 0].clamp(min=1e-4).log().requires_grad_(),
    )
    optimizer = torch.optim.Adam(vars(light).values(), RATE)
    for _ in range(FIT_STEPS):
        optimizer.zero_grad()
        ((rerendered(maps, light, eye) - view) * seen).abs().mean().backward()
        optimizer.step()
        with torch.no_grad():
            light.position[2].clamp_(min=LEAST_HEIGHT)
    return Light(*(part.detach() for part in vars(light).values()))


def lamps() -> Tensor:
    """(L, 3) places where a lamp may be: above and all around, high and low, near and far."""
    places = [(0.0, 0.0, 1.0)]
    for elevation in (0.5, 1.0):
        for number in range(6):
            angle = 2 * math.pi * (number + elevation) / 6
            flat = math.cos(elevation)
            places.append((flat * math.cos(angle), flat * math.sin(angle), math.sin(elevation)))
    return torch.cat([torch.tensor(places) * distance for distance in (1.5, 3.0, 8.0)])


def _strengths(lit: Tensor, sky: Tensor, light: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(L, 3, 1, 1) each, at least 0: least squares of a lit + b sky = light, for each lamp and colour."""
    aa, ab, bb, ay, by = (
        (weight * one * other).sum((2, 3), keepdim=True)
        for one, other in ((lit, lit), (lit, sky), (sky, sky), (lit, light), (sky, light))
    )
    determinant = aa * bb - ab * ab
    a, b = ay * bb - by * ab, by * aa - ay * ab
    both = (a > 0) & (b > 0) & (determinant > 1e-6 * aa * bb)
    safe = determinant.clamp(min=1e-20)
    lone_a, lone_b = ay / aa.clamp(min=1e-20), by / bb.clamp(min=1e-20)
    lamp_explains_more = ay * lone_a > by * lone_b
    a = torch.where(both, a / safe, torch.where(lamp_explains_more, lone_a, 0.0))
    b = torch.where(both, b / safe, torch.where(lamp_explains_more, 0.0, lone_b))
    return a, b


def _under_sky(maps: Maps) -> Tensor:
    """What a surface sends out under a sky of radiance 1, about."""
    albedo, metallic = srgb_to_linear(maps["albedo"]), maps["metallic"]
    return albedo * (1 - metallic) + DIELECTRIC_F0 + metallic * (albedo - DIELECTRIC_F0)


@torch.no_grad()
def rerender_psnr(maps: Maps, views: Tensor, seen: Tensor, eyes: Tensor, lights: list[Light]) -> float:
    """PSNR in dB of photos as shaded from the maps, over all that they show of the texture; arguments as `observed`
    returns them, with a light for each. At most 100."""
    errors = [
        ((rerendered(maps, light, eye) - view) * mask).square().sum()
        for view, mask, eye, light in zip(views, seen, eyes, lights, strict=True)
    ]
    return -10 * math.log10(max(float(torch.stack(errors).sum() / (3 * seen.sum())), 1e-10))


def resized(maps: Maps, side: int) -> Maps:
    """Averaged down to at most that many texels a side, normals to unit length."""
    height, width = maps["albedo"].shape[-2:]
    shrink = min(1.0, side / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    smaller = {name: one if shrink == 1 else F.interpolate(one, size, mode="area") for name, one in maps.items()}
    return smaller | {"normal": F.normalize(smaller["normal"], dim=1)}
