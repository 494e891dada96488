"""Photos of a material that never was: light, a hand-held camera, and what the camera's picture suffers.

    maps, seed --camera, lights--> radiance in the texture's frame --shadow--> seen through a homography --> photo

All of a capture follows from (maps, seed): the light and the dirt on the surface are the same in all its photos,
camera, flash, exposure and noise differ from photo to photo.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hubmodels.neuropbr import lights as light
from hubmodels.neuropbr.cameras import Camera, blurred_surround, homography, photograph, random_camera
from hubmodels.neuropbr.model import Maps
from hubmodels.neuropbr.photos import Development, Dirt, develop, metered, shadow, snapshot, soiled
from hubmodels.neuropbr.shading import shade_supersampled


@dataclass(frozen=True, eq=False)
class Shot:
    """A photo and how it came about."""

    photo: Tensor
    """(3, h, w) sRGB in [0, 1]."""
    homography: Tensor
    """(3, 3) from texture to photo."""
    camera: Camera
    lights: light.Lights
    development: Development
    dirt: Dirt


def capture(
    maps: Maps,
    seed: int,
    views: int,
    size: int,
    dirt: Dirt | None = None,
    panorama: Tensor | None = None,
    supersample: int = 2,
) -> list[Shot]:
    """Photos of one material.

    Args:
        maps: (C, H, W) each.
        views: how many photos; more of them begin with the same ones.
        size: side of the square photos in pixels.
        dirt: what lies on the surface and between; None is clean.
        panorama: linear radiance (3, He, We) to light it with; None makes up a sky, lamps and a flash.
        supersample: shading samples a side of each texel.
    """
    material = {name: maps[name][None] for name in ("albedo", "roughness", "metallic", "normal")}
    height, width = maps["albedo"].shape[-2:]
    turn = float(torch.rand((), generator=_random(seed, 0)))
    dirt = dirt or Dirt()
    shots = []
    for number in range(views):
        draw = _random(seed, number + 1)
        camera = random_camera(draw, height / width, crop=0.5)
        if panorama is None:
            lit = light.photo_lights(_random(seed, 0), camera.eye)
        else:
            lit = light.environment(panorama, 256, 6.2832 * turn)
        eye = camera.eye[None]
        radiance = shade_supersampled(material, lit, eye, supersample)
        if dirt.shadow:
            radiance = radiance * shadow(height, width, dirt.shadow, _random(seed, -1))
        matrix = homography(camera, height / width)
        surround = blurred_surround(radiance, size, size)
        seen = photograph(radiance, matrix[None], size, size, surround, 2)[0]
        how = snapshot(draw, metered(seen))
        photo = soiled(develop(seen, how, draw), dirt, draw)
        shots.append(Shot(photo, matrix, camera, lit, how, dirt))
    return shots


def _random(seed: int, stream: int) -> torch.Generator:
    """Independent random numbers for each stream of a seed."""
    return torch.Generator().manual_seed((seed * 1_000_003 + stream + 1) % 2**63)
