"""From photos to a finished folder: what the `pbr` command and the Space do.

photos --predict--> maps --refine--> maps --compare, validate--> what to think of them --save_material--> files
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hubmodels.images import from_unit, to_uint8
from hubmodels.neuropbr.cameras import blurred_surround, homography, photograph, project, random_camera
from hubmodels.neuropbr.export import is_ours_to_fill, save_material
from hubmodels.neuropbr.lights import flashed, plane_irradiance, room_lights, side_lit
from hubmodels.neuropbr.model import Maps, NeuroPBR
from hubmodels.neuropbr.photos import develop, metered, snapshot
from hubmodels.neuropbr.predict import FRAME, SIDES, Progress, predict, silent
from hubmodels.neuropbr.preview import Comparison, compare, preview_files, previews
from hubmodels.neuropbr.procedural import make
from hubmodels.neuropbr.refine import refine
from hubmodels.neuropbr.shading import shade
from hubmodels.neuropbr.validate import Finding, validate

EXAMPLES = {"brick wall": 1, "rusted metal": 10, "leather": 0}
"""Seeds of made-up materials."""


@dataclass(frozen=True, eq=False)
class Material:
    """What was made of photos."""

    maps: Maps
    """(1, C, H, W)."""
    comparisons: list[Comparison]
    """One for each photo."""
    findings: list[Finding]
    shown: dict[str, tuple[Tensor, Tensor]]
    """Plane and sphere, (1, 3, h, w) sRGB in [0, 1], by the name of the light."""
    gain: tuple[float, float] | None
    """PSNR in dB of the photos before and after refining, where that was asked for."""
    files: list[Path]


def make_material(
    model: NeuroPBR,
    photos: Sequence[Tensor],
    folder: str | Path,
    homographies: Tensor | None = None,
    size: int = 1024,
    aspect: float | None = None,
    normal: Literal["gl", "dx"] = "gl",
    tile: bool = False,
    steps: int = 0,
    physical_size: float | None = None,
    credit: str = "",
    names: Sequence[str] = (),
    report: bool = True,
    progress: Progress = silent,
) -> Material:
    """Predict, refine, judge and save the material in some photos, with a page that shows it.

    Args:
        photos: (3, h, w) uint8 each.
        folder: to make, or one that was made by this.
        homographies: (N, 3, 3) from texture to photo; None if each photo shows the surface from edge to edge.
        size: texels along the longer side.
        aspect: height by width of the surface; None is that of the first photo, or 1 where homographies are given.
        normal: convention of the normal map.
        tile: opposite edges of the surface meet.
        steps: of `refine`; 0 is none.
        physical_size: width of the surface in metres.
        credit: who made it, and the licence, one line.
        names: of the photos, for the page.
        report: compare with the photos, and save previews and the page; some seconds.
        progress: called with the tiles, the steps and the photos.

    Raises:
        ValueError: an argument makes no sense.
        FileExistsError: the folder holds something else.
        OSError: it cannot be written.
    """
    if not is_ours_to_fill(Path(folder)):  # before the minutes that the rest takes
        raise FileExistsError(f"{folder} is not a material that was saved here: name a folder that does not exist")
    if aspect is None:
        aspect = photos[0].shape[1] / photos[0].shape[2] if homographies is None and len(photos) else 1.0
    if not 1 / 16 <= aspect <= 16:
        raise ValueError(f"the aspect of a surface is its height by its width, from 1/16 to 16, got {aspect:g}")
    shape = tuple(max(SIDES[0], round(size * min(1, by))) for by in (aspect, 1 / aspect))
    maps = predict(model, photos, homographies, (shape[0], shape[1]), wrap=tile, progress=progress)
    gain = None
    if steps:
        maps, before, after = refine(maps, photos, homographies, steps, progress)
        gain = before, after
    findings = validate(maps, tile)
    comparisons, shown, extra = [], {}, {}
    if report:
        comparisons, shown = compare(maps, photos, homographies, progress), previews(maps)
        extra = preview_files(maps, findings, comparisons, normal, physical_size, credit, names, shown)
    files = save_material(maps, folder, normal, physical_size, credit, tile, extra=extra)
    return Material(maps, comparisons, findings, shown, gain, files)


def example_photos(name: str, size: int = 640) -> list[tuple[Tensor, list[list[float]]]]:
    """Three photos (3, h, w) uint8 of a made-up material, in the light of the room, with a flash and with a lamp at one
    side, and where its corners are in each, in pixels.

    Args:
        name: one of `EXAMPLES`.
        size: pixels a side.
    """
    maps = {channel: torch.as_tensor(one)[None] for channel, one in make(EXAMPLES[name], 256).maps.items()}
    pairs = []
    for number in range(3):
        draw = torch.Generator().manual_seed(number)
        camera = random_camera(draw, max_tilt=30)
        matrix = homography(camera, 1.0)
        lights = room_lights(torch.Generator().manual_seed(EXAMPLES[name]))
        if number == 1:
            lights = flashed(lights, camera.eye, draw)
        elif number == 2:
            lights = side_lit(lights, draw)
        radiance = shade(maps, lights, camera.eye[None])
        seen = photograph(radiance, matrix[None], size, size, blurred_surround(radiance, size, size))[0]
        photo = develop(seen, snapshot(draw, metered(seen, float(plane_irradiance(lights).mean()))), draw)
        pairs.append((to_uint8(from_unit(photo)), ((project(matrix, FRAME) + 1) * (size / 2)).tolist()))
    return pairs
