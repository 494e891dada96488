"""What an artist sees of a material before any other program opens it.

    maps --plane, sphere, sweep--> pictures under lights
    maps, photos --compare--> each photo beside what the maps look like in its light, and how alike they are
    all of that --preview_files--> preview.jpg, sweep.gif, report.html: a page that needs no network

Maps are (1, C, H, W); pictures are (1, 3, H, W) sRGB in [0, 1]. World and light as in lights.py.
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hubmodels.images import from_unit, grid, linear_to_srgb, to_pil
from hubmodels.neuropbr.export import Maps
from hubmodels.neuropbr.lights import Lights, directional, environment, join, luminance, plane_irradiance, point
from hubmodels.neuropbr.predict import Progress, checked_photos, silent
from hubmodels.neuropbr.refine import fitted, observed, rerender_psnr, rerendered, resized
from hubmodels.neuropbr.shading import CHANNELS, shade
from hubmodels.neuropbr.validate import Finding

EYE = (0.0, 0.0, 3.0)
"""Where planes are seen from."""
SIDE = 256
"""Pixels along the longer side of previews."""
SUPERSAMPLE = 2
"""Of spheres, a side: their rim and their highlights."""
BACKDROP = 0.16
"""Around spheres, sRGB."""
BRIGHTEST = 1.2 * math.pi
"""Irradiance of the side of a sphere that gets most."""
FRAMES, MOST_FRAMES = 24, 36
FRAME_MS = 90
COLOURS = 128
"""Of a sweep, for all frames alike, so that still parts do not flicker."""
LAMP_HEIGHT = math.radians(28)
GAIN = 4
"""By how much differences between photos and maps are exaggerated."""
LIKE = (18.0, 23.0)
"""PSNR in dB from which maps explain a photo in part, and well. Exact maps have about 24 where a sky, lamps and a flash
shine together: that is more than one lamp and an even sky can be."""


# --- pictures -----------------------------------------------------------------------------------------------------


def studio() -> dict[str, Lights]:
    """Lights that show different things of a surface, by name; each gives a plane a luminance of pi at the origin."""
    lamps = {
        "soft sky": environment(_sky(), 16),
        "low lamp": join(
            point(_toward(155, 16)[None, None] * 2.5, torch.ones(1, 1, 3)), environment(_sky() * 0.005, 4)
        ),
        "flash": point(torch.tensor([[EYE]]), torch.ones(1, 1, 3)),
        "two lamps": join(
            directional(_toward(200, 35)[None, None], torch.tensor([[[1.0, 0.5, 0.2]]])),
            directional(_toward(20, 35)[None, None], torch.tensor([[[0.25, 0.55, 1.0]]])),
            environment(_sky() * 0.03, 4),
        ),
        "window": environment(_window(), 36),
    }
    return {name: one.scaled(math.pi / float(luminance(plane_irradiance(one)))) for name, one in lamps.items()}


def plane(maps: Maps, lights: Lights) -> Tensor:
    """A material as it lies, seen from above; as large as the maps."""
    radiance = shade(maps, lights, maps["albedo"].new_tensor(EYE)[None])
    return linear_to_srgb(radiance.clamp(0, 1))


def sphere(maps: Maps, lights: Lights, size: int = SIDE) -> Tensor:
    """A material on a ball: its middle in front, its longer side from rim to rim.

    Lamps are taken to be far away, as strong as they are at the middle. Where the ball turns away from a light there
    is none of it, however the normal map leans.
    """
    surface, facing, inside = _wrapped(maps, SUPERSAMPLE * size)
    far = _far(lights)
    eye = facing.new_tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    radiance = torch.zeros_like(facing)
    for number in range(far.position.shape[1]):
        one = Lights(*(part[:, number : number + 1] for part in vars(far).values()))
        turned_to = (facing * one.position.view(1, 3, 1, 1)).sum(1, keepdim=True) > 0
        radiance += shade(surface, one, eye) * turned_to
    cover = F.avg_pool2d(inside, SUPERSAMPLE)
    ball = linear_to_srgb(F.avg_pool2d(radiance.clamp(0, 1) * inside, SUPERSAMPLE) / cover.clamp(min=1e-6))
    return ball * cover + BACKDROP * (1 - cover)


def exposed_on_a_sphere(lights: Lights) -> Lights:
    """The same lights at a strength that shows a ball well, whose sides get more than a plane does of a low lamp."""
    far = _far(lights)
    normals = torch.cat([torch.stack([_toward(az, el) for az in range(0, 360, 15)]) for el in range(0, 91, 10)])
    cosines = torch.einsum("nc,blc->bnl", normals, far.position).clamp(min=0)
    most = luminance(torch.einsum("bnl,blc->bnc", cosines, far.color)).max()
    return far.scaled(BRIGHTEST / float(most))


def sweep(maps: Maps, frames: int = FRAMES) -> bytes:
    """A GIF without end: a low lamp goes once around the material, under a faint sky."""
    if not 2 <= frames <= MOST_FRAMES:
        raise ValueError(f"a sweep has 2 to {MOST_FRAMES} frames, got {frames}")
    eye = maps["albedo"].new_tensor(EYE)[None]
    sky = shade(maps, environment(_sky(), 16).scaled(0.12), eye)
    pictures = []
    for number in range(frames):
        lamp = point(_toward(360 * number / frames, math.degrees(LAMP_HEIGHT))[None, None] * 2.5, torch.ones(1, 1, 3))
        lamp = lamp.scaled(0.85 * math.pi / float(luminance(plane_irradiance(lamp))))
        pictures.append(linear_to_srgb((shade(maps, lamp, eye) + sky).clamp(0, 1)))
    whole = to_pil(from_unit(torch.cat(pictures[:: max(1, frames // 6)], 2)[0]))
    palette = whole.quantize(COLOURS, dither=Image.Dither.NONE)
    images = [to_pil(from_unit(one[0])).quantize(palette=palette, dither=Image.Dither.NONE) for one in pictures]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=FRAME_MS, loop=0)
    return file.getvalue()


def previews(maps: Maps) -> dict[str, tuple[Tensor, Tensor]]:
    """By the name of a light: the plane and the sphere, at most `SIDE` pixels a side and no larger than the maps."""
    small = resized({name: maps[name] for name in CHANNELS}, SIDE)
    side = max(small["albedo"].shape[-2:])
    return {
        name: (plane(small, lights), sphere(small, exposed_on_a_sphere(lights), side))
        for name, lights in studio().items()
    }


def _toward(azimuth: float, elevation: float) -> Tensor:
    """(3,) unit vector, in degrees; azimuth counterclockwise from +x."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])


def _sky() -> Tensor:
    """(3, 16, 32): brighter above than at the horizon, and a little blue."""
    up = ((torch.arange(16) + 0.5) * math.pi / 16).cos().clamp(min=0)[:, None]
    return (0.35 + 0.65 * up).expand(16, 32) * torch.tensor([0.92, 1.0, 1.08])[:, None, None]


def _window() -> Tensor:
    """(3, 64, 128): a dim room with one bright rectangle in it."""
    room = torch.full((3, 64, 128), 0.06)
    room[:, 10:24, 34:52] = torch.tensor([1.0, 0.97, 0.9])[:, None, None] * 6
    return room


def _far(lights: Lights) -> Lights:
    """Lamps so far away that they shine everywhere as they do at the origin."""
    distance = lights.position.norm(dim=-1, keepdim=True)
    far = torch.zeros_like(lights.is_point)
    return Lights(lights.position / distance, far, lights.color / distance.square(), lights.radius)


def _wrapped(maps: Maps, size: int) -> tuple[Maps, Tensor, Tensor]:
    """Maps as a square picture of a ball shows them, the ball's own normals (1, 3, S, S), and where it is."""
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    square = x * x + y * y
    inside = (square < 1).float()[None, None]
    shrink = square.clamp(min=1).sqrt()  # beside the ball, its rim
    x, y = x / shrink, y / shrink
    z = (1 - x * x - y * y).clamp(min=0).sqrt()
    longitude, latitude = torch.atan2(x, z), y.clamp(-1, 1).asin()
    height, width = maps["albedo"].shape[-2:]
    across = longitude * (2 / math.pi) * min(1, height / width)
    down = -latitude * (2 / math.pi) * min(1, width / height)
    places = torch.stack([across, down], -1)[None]
    on_ball = {name: F.grid_sample(maps[name], places, "bilinear", "border", align_corners=False) for name in CHANNELS}
    zero = torch.zeros_like(x)
    east = torch.stack([longitude.cos(), zero, -longitude.sin()])[None]
    north = torch.stack([-latitude.sin() * longitude.sin(), latitude.cos(), -latitude.sin() * longitude.cos()])[None]
    facing = torch.stack([x, y, z])[None]
    right, up, out = on_ball["normal"].split(1, 1)
    return on_ball | {"normal": F.normalize(right * east + up * north + out * facing, dim=1)}, facing, inside


# --- photos -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Comparison:
    """A photo, rectified, and what the maps look like in the light that suits it best."""

    photo: Tensor
    """(1, 3, H, W)."""
    made: Tensor
    """(1, 3, H, W)."""
    seen: Tensor
    """(1, 1, H, W): 1 where the photo shows the material."""
    psnr: float | None
    """Of both in dB, where the photo shows the material; None where it does not at all."""

    @property
    def difference(self) -> Tensor:
        """(1, 3, H, W): how far apart they are, `GAIN` times as far."""
        return ((self.photo - self.made).abs() * GAIN * self.seen).clamp(0, 1)

    @property
    def verdict(self) -> str:
        if self.psnr is None:
            return "does not show the surface"
        words = ("explained poorly", "explained in part", "explained well")
        return f"{self.psnr:.1f} dB, {words[sum(self.psnr >= least for least in LIKE)]}"


def compare(
    maps: Maps, photos: Sequence[Tensor], homographies: Tensor | None, progress: Progress = silent
) -> list[Comparison]:
    """Each photo beside its re-render. Little likeness says that the maps or the corners are wrong; much of it does not
    prove the maps right, since a picture of the photo itself, taken for albedo, is like the photo too.

    Args:
        maps: (1, C, H, W).
        photos: as in `predict`.
        homographies: as in `predict`.
        progress: called with the photos.
    """
    photos, matrices = checked_photos(photos, homographies)
    small = resized({name: maps[name] for name in CHANNELS}, SIDE)
    views, seen, eyes = observed(small, photos, matrices)
    found = []
    for number in progress(range(len(photos)), "re-rendering"):
        view, mask, eye = views[number], seen[number], eyes[number]
        if not mask.any():
            found.append(Comparison(view, torch.zeros_like(view), mask, None))
            continue
        light = fitted(small, view, mask, eye)
        psnr = rerender_psnr(small, view[None], mask[None], eye[None], [light])
        found.append(Comparison(view, rerendered(small, light, eye) * mask, mask, psnr))
    return found


# --- the page -----------------------------------------------------------------------------------------------------

WHAT = {
    "albedo.png": "base colour, sRGB",
    "roughness.png": "roughness, linear; alpha = roughness²",
    "metallic.png": "metallic, linear",
    "normal_gl.png": "normals, OpenGL: green is up",
    "normal_dx.png": "normals, DirectX: green is down",
    "height.png": "height, 16 bits; scale and offset in material.json",
    "ao.png": "ambient occlusion, linear",
    "orm.png": "occlusion, roughness and metallic in red, green and blue",
    "material.glb": "glTF 2.0, to look at and for engines",
    "material.mtlx": "MaterialX",
    "material.usda": "USD with UsdPreviewSurface",
    "material.json": "what all of this is, for programs",
    "preview.jpg": "plane and ball under five lights",
    "sweep.gif": "a lamp goes around",
    "report.html": "this page",
}
"""All files of a material, in the order of the page."""
SHOWN = ("albedo", "normal", "roughness", "metallic", "height", "ao")

STYLE = """
:root { color-scheme: light dark; --back: #fafaf9; --text: #1c1917; --dim: #57534e; --line: #d6d3d1; --card: #fff;
  --ok: #15803d; --warn: #b45309; --fail: #b91c1c }
@media (prefers-color-scheme: dark) { :root { --back: #171614; --text: #f5f5f4; --dim: #a8a29e; --line: #3f3b38;
  --card: #211f1d; --ok: #4ade80; --warn: #fbbf24; --fail: #f87171 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 24px 16px 64px; max-width: 1120px; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 28px; margin: 0 } h2 { font-size: 19px; margin: 40px 0 12px }
p { margin: 4px 0; overflow-wrap: anywhere } .dim, figcaption { color: var(--dim); font-size: 14px }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(46%, 165px), 1fr)) }
.photos { display: grid; gap: 12px }
.photos > div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 12px }
.three { display: grid; gap: 8px; grid-template-columns: repeat(3, minmax(0, 256px)) }
figure { margin: 0; min-width: 0 } img { display: block; width: 100%; height: auto; border-radius: 8px }
.sweep { max-width: 384px }
table { border-collapse: collapse; width: 100%; font-size: 15px } td, th { text-align: left; padding: 6px 8px;
  border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere }
td:first-child { white-space: nowrap; width: 1% }
b.ok { color: var(--ok) } b.warn { color: var(--warn) } b.fail { color: var(--fail) } a { color: inherit }
"""


def preview_files(
    maps: Maps,
    findings: Sequence[Finding],
    comparisons: Sequence[Comparison] = (),
    normal: str = "gl",
    physical_size: float | None = None,
    credit: str = "",
    names: Sequence[str] = (),
    shown: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> dict[str, bytes]:
    """Names and contents of what `save_material` takes as extra files; report.html shows the others beside it.

    Args:
        maps: (1, C, H, W).
        findings: of `validate`.
        comparisons: of `compare`, in the order of the photos.
        normal: convention of the normal map that is saved, gl or dx.
        physical_size: width of the texture in metres.
        credit: who made it, and the licence.
        names: of the photos, for their captions.
        shown: of `previews`; None makes them.
    """
    shown = previews(maps) if shown is None else shown
    moving = sweep(resized({name: maps[name] for name in CHANNELS}, SIDE))
    rows, columns = maps["albedo"].shape[-2:]
    size = f"{columns} × {rows} texels"
    if physical_size:
        size += f", {physical_size:g} × {physical_size * rows / columns:.4g} m"
    maps_shown = "".join(
        _figure(f"{name}_{normal}.png" if name == "normal" else f"{name}.png", name, link=True) for name in SHOWN
    )
    lit = "".join(
        _figure(_uri(picture), f"{name}, {form}")
        for form, number in (("plane", 0), ("ball", 1))
        for name, picture in ((name, pair[number]) for name, pair in shown.items())
    )
    pairs = "".join(
        f"<div><p><b>{html.escape(names[number] if number < len(names) else f'photo {number + 1}')}</b>: "
        f'{html.escape(one.verdict)}</p><div class="three">{_figure(_uri(one.photo), "photo, rectified")}'
        f"{_figure(_uri(one.made), 'from the maps')}{_figure(_uri(one.difference), f'difference × {GAIN}')}</div></div>"
        for number, one in enumerate(comparisons)
    )
    photos = (
        f"<h2>Photos and what the maps make of them</h2><p class=dim>The light of each photo is guessed as one lamp "
        f"and an even sky. From {LIKE[1]:g} dB on the maps explain a photo well, which does not prove them right; "
        f"below {LIKE[0]:g} dB they are wrong, or the corners are."
        f'</p><div class="photos">{pairs}</div>'
        if comparisons
        else ""
    )
    other = {"gl": "normal_dx.png", "dx": "normal_gl.png"}[normal]
    listed = "".join(
        f'<tr><td><a href="{name}">{name}</a></td><td>{what}</td></tr>' for name, what in WHAT.items() if name != other
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Material</title>'
        f"<style>{STYLE}</style></head><body><h1>Material</h1><p>{size}</p>"
        f'<p class="dim">{html.escape(credit) or "no credit given"}</p>'
        f'<h2>Maps</h2><div class="cards">{maps_shown}</div>'
        f'<h2>Under five lights</h2><div class="cards">{lit}</div>'
        f'<h2>A lamp goes around</h2><div class="sweep">{_figure("sweep.gif", "from 28 degrees above the plane")}</div>'
        f"{photos}<h2>Is it plausible?</h2>{_table(findings)}"
        f"<h2>Files</h2><table>{listed}</table></body></html>\n"
    )
    return {"preview.jpg": _jpeg(_sheet(shown)), "sweep.gif": moving, "report.html": page.encode()}


def _table(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f'<tr><td><b class="{one.level}">{one.level}</b></td><td>{html.escape(one.sentence)}</td></tr>'
        for one in sorted(findings, key=lambda one: ("fail", "warn", "ok").index(one.level))
    )
    return f"<table>{rows}</table>"


def _figure(source: str, caption: str, link: bool = False) -> str:
    caption = html.escape(caption)
    image = f'<img src="{source}" alt="{caption}" loading="lazy">'
    image = f'<a href="{source}">{image}</a>' if link else image
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _sheet(shown: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """(3, H, W): planes above spheres."""
    squares = []
    for picture in (*(pair[0] for pair in shown.values()), *(pair[1] for pair in shown.values())):
        down, across = SIDE - picture.shape[-2], SIDE - picture.shape[-1]
        sides = (across // 2, across - across // 2, down // 2, down - down // 2)
        squares.append(F.pad(picture, sides, value=BACKDROP))
    return grid(from_unit(torch.cat(squares)), len(shown))


def _jpeg(picture: Tensor) -> bytes:
    file = io.BytesIO()
    to_pil(picture).save(file, "JPEG", quality=90)
    return file.getvalue()


def _uri(picture: Tensor) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(from_unit(picture[0]))).decode()
