"""Photos of a material that never was: light, a hand-held camera, and what the camera's picture suffers.

    maps, seed --camera, lights--> radiance in the texture's frame --shadow--> seen through a homography --> photo

All of a capture follows from (maps, seed): the room's light and the dirt on the surface are the same in all its photos,
camera, flash or lamp, exposure and noise differ from photo to photo.
"""

import io
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from hubmodels.images import from_pil, from_unit, to_pil, to_unit
from hubmodels.neuropbr import lights as light
from hubmodels.neuropbr.cameras import Camera, blurred_surround, homography, photograph, random_camera
from hubmodels.neuropbr.photos import Development, Dirt, develop, metered, shadow, snapshot, soiled
from hubmodels.neuropbr.shading import shade_supersampled

Maps = dict[str, Tensor]
"""(C, H, W) or (B, C, H, W) by name, as the package has them. Not that of model.py, which takes seconds to import."""
FLASH, LAMP = 0.4, 0.35
"""Shares of the photos that are taken with the flash, and with a lamp held to one side: how to photograph a material.
The others have the light of the room alone."""
STRIP = 2**16
"""Samples shaded at a time: as many as stay in the cache of a processor, which is three times as fast."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A photo and how it came about."""

    photo: Tensor
    """(3, h, w) sRGB in [0, 1]: the pixels of `file`."""
    file: bytes
    """As the camera wrote it: JPEG, or PNG where the development's quality is 100."""
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
    sky: int = light.SKY_LIGHTS,
) -> list[Shot]:
    """Photos of one material.

    Args:
        maps: (C, H, W) each.
        views: how many photos; more of them begin with the same ones.
        size: side of the square photos in pixels.
        dirt: what lies on the surface and between; None is clean.
        panorama: linear radiance (3, He, We) of the room; None makes up a sky and lamps.
        supersample: shading samples a side of each texel.
        sky: lights that a made-up sky consists of.
    """
    material = {name: maps[name][None] for name in ("albedo", "roughness", "metallic", "normal")}
    height, width = maps["albedo"].shape[-2:]
    turn = float(torch.rand((), generator=_random(seed, 0)))
    dirt = dirt or Dirt()
    room = (
        light.room_lights(_random(seed, 0), sky)
        if panorama is None
        else light.environment(panorama, 256, 6.2832 * turn)
    )
    shots = []
    for number in range(views):
        draw = _random(seed, number + 1)
        camera = random_camera(draw, height / width, crop=0.5)
        chance = torch.rand((), generator=draw)
        if chance < FLASH:
            lit = light.flashed(room, camera.eye, draw)
        else:
            lit = light.side_lit(room, draw) if chance < FLASH + LAMP else room
        eye = camera.eye[None]
        radiance = _shaded(material, lit, eye, supersample)
        if dirt.shadow:
            radiance = radiance * shadow(height, width, dirt.shadow, _random(seed, -1))
        matrix = homography(camera, height / width)
        surround = blurred_surround(radiance, size, size)
        seen = photograph(radiance, matrix[None], size, size, surround, 2)[0]
        red, green, blue = light.plane_irradiance(lit)[0].tolist()
        how = snapshot(draw, metered(seen, (red + green + blue) / 3))
        if panorama is not None:  # an automatic camera takes the colour of the day out, and chance leaves some of it
            how = replace(how, red=how.red * green / red, blue=how.blue * green / blue)
        file = written(soiled(develop(seen, replace(how, jpeg=100), draw), dirt, draw), how.jpeg)
        photo = to_unit(from_pil(Image.open(io.BytesIO(file))))
        shots.append(Shot(photo, file, matrix, camera, lit, how, dirt))
    return shots


def written(photo: Tensor, quality: int) -> bytes:
    """A photo (3, h, w) in [0, 1] as JPEG, as PNG if the quality is 100."""
    file, image = io.BytesIO(), to_pil(from_unit(photo))
    if quality < 100:
        image.save(file, "JPEG", quality=quality)
    else:
        image.save(file, "PNG", compress_level=4)
    return file.getvalue()


def _shaded(material: Maps, lights: light.Lights, eye: Tensor, factor: int) -> Tensor:
    """`shade_supersampled`, strip by strip.

    A strip is a texture of its own, so the world moves by as much as its middle is off that of the whole; it takes
    along a row above and below, from which supersampling interpolates.
    """
    height, width = material["albedo"].shape[-2:]
    rows = max(1, STRIP // (width * factor**2))
    strips = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - 1, 0), min(bottom + 1, height)
        moved = torch.tensor([0.0, (height - first - last) / width, 0.0])
        near = replace(lights, position=lights.position - moved * lights.is_point[..., None])
        part = {name: one[:, :, first:last] for name, one in material.items()}
        shaded = shade_supersampled(part, near, eye - moved, factor)
        strips.append(shaded[:, :, top - first : bottom - first])
    return torch.cat(strips, 2)


def _random(seed: int, stream: int) -> torch.Generator:
    """Independent random numbers for each stream of a seed."""
    return torch.Generator().manual_seed((seed * 1_000_003 + stream + 1) % 2**63)
