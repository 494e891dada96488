"""A material as files that other programs open: pictures, glTF, MaterialX and USD; and back into maps.

    maps --material_files--> {name: bytes} --save_material--> folder --load_material--> maps

Maps are (1, C, H, W) floats, row 0 the top of the texture: `albedo` sRGB-coded in [0, 1]; `roughness`, `metallic`
and `ao` linear in [0, 1]; `normal` unit vectors, x right, y up, z out of the surface (OpenGL); `height` in widths of
the texture. Files hold the first as sRGB and all others as plain numbers.

Relief is in the normal map. glTF, MaterialX and USD leave height.png out, for surfaces that are displaced by it
and then shaded with the normal map as well would show it twice.
"""

import io
import json
import math
import os
import shutil
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hubmodels.images import FORMATS, from_pil, from_unit, to_uint8, to_unit

Maps = dict[str, Tensor]

CHANNELS = {"albedo": 3, "roughness": 1, "metallic": 1, "normal": 3, "height": 1, "ao": 1}
REQUIRED = ("albedo", "roughness", "metallic", "normal")
FILES = (
    "albedo.png",
    "roughness.png",
    "metallic.png",
    "normal_gl.png",
    "normal_dx.png",
    "height.png",
    "ao.png",
    "orm.png",
    "material.glb",
    "material.mtlx",
    "material.usda",
    "material.json",
    "preview.jpg",
    "sweep.gif",
    "report.html",
)
"""All names that a saved material may have; whatever else lies in its folder is somebody else's."""
PREVIEWS = ("preview.jpg", "sweep.gif", "report.html")
"""Those among them that are for looking at, which `preview` makes."""
FORMAT = "hubmodels.material"
MAX_SIDE = 4096
UNIT_TOLERANCE = 0.02
"""By how much the length of a normal may miss 1: three times what 8 bits do to it."""
MIN_Z = 0.05
"""Normals steeper than this, 87 degrees, count as this steep: slopes go to infinity there."""
AO_DIRECTIONS = 16
AO_STEP = 1.25
"""Ratio of distances at which a horizon is looked for."""
AO_REACH = 1 / 8
"""Furthest of them, in widths of the texture."""
GREY, COLOUR, GREY16 = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA"), ("I", "I;16", "I;16B")
"""Modes of PIL that a map may come in."""
SEGMENTS = (64, 32)
"""Of the sphere, around and from pole to pole."""


# --- relief -------------------------------------------------------------------------------------------------


def height_from_normal(normal: Tensor, tile: bool = True) -> Tensor:
    """The surface whose slopes come closest to those of the normals: a Poisson equation, solved by FFT.

    Source: Frankot and Chellappa 1988, "A Method for Enforcing Integrability in Shape from Shading Algorithms".

    Args:
        normal: (B, 3, H, W) unit vectors, y up, z > 0.
        tile: opposite edges meet, so that the slope over the whole is zero; else the surface is continued by
            mirroring, and a slope over the whole is kept.

    Returns:
        (B, 1, H, W) in widths of the texture, mean 0.
    """
    height, width = normal.shape[-2:]
    x, y, z = normal.float().unbind(1)
    z = z.clamp(min=MIN_Z)
    right, down = -x / z, y / z  # slopes; rows go down where y goes up
    if not tile:
        right = torch.cat([right, -right.flip(-1)], -1)
        right = torch.cat([right, right.flip(-2)], -2)
        down = torch.cat([down, down.flip(-1)], -1)
        down = torch.cat([down, -down.flip(-2)], -2)
    rows, columns = right.shape[-2:]
    per_width = 2 * math.pi * width  # from cycles a pixel to radians a width
    omega_x = torch.fft.rfftfreq(columns, device=normal.device) * per_width
    omega_y = torch.fft.fftfreq(rows, device=normal.device)[:, None] * per_width
    spectrum = torch.fft.rfft2(right).mul_(omega_x).add_(torch.fft.rfft2(down).mul_(omega_y))
    square = omega_x**2 + omega_y**2
    square[0, 0] = 1  # the spectrum is 0 there: any mean height has these normals
    surface = torch.fft.irfft2(spectrum.mul_(-1j).div_(square), s=(rows, columns))
    surface = surface[:, None, :height, :width]
    return surface - surface.mean((-2, -1), keepdim=True)


def ao_from_height(height: Tensor, tile: bool = True) -> Tensor:
    """Share of a bright sky that is seen above the horizon, weighted by cosine: what reaches a matt, level spot.

    With a horizon of slope t in each direction that is the mean of 1 / (1 + t ** 2), so an infinitely long groove,
    d deep and w wide, has 1 / sqrt(1 + (2 d / w) ** 2) in its middle. Horizons are looked for up to `AO_REACH`.
    Source: Bavoil and Sainz 2008, "Image-space horizon-based ambient occlusion", with a level receiver.

    Args:
        height: (B, 1, H, W) in widths of the texture.
        tile: opposite edges meet; else the outermost heights go on beyond the edge.

    Returns:
        (B, 1, H, W) in (0, 1]; 1 where nothing stands higher.
    """
    rows, columns = height.shape[-2:]
    reach = max(1, min(round(columns * AO_REACH), rows, columns))
    around = F.pad(height, (reach,) * 4, mode="circular" if tile else "replicate")
    total = torch.zeros_like(height)
    for direction in range(AO_DIRECTIONS):
        angle = 2 * math.pi * direction / AO_DIRECTIONS
        steps = {(round(d * math.sin(angle)), round(d * math.cos(angle))) for d in _distances(reach)}
        slope = torch.zeros_like(height)
        for y, x in sorted(steps):
            there = around[..., reach + y : reach + y + rows, reach + x : reach + x + columns]
            slope = torch.maximum(slope, (there - height).mul_(columns / math.hypot(x, y)), out=slope)
        total += slope.square_().add_(1).reciprocal_()
    return total / AO_DIRECTIONS


def _distances(reach: int) -> list[float]:
    """1, 2, 3 ... pixels, and then each `AO_STEP` times the one before."""
    distances = [1.0]
    while distances[-1] < reach:
        distances.append(min(max(distances[-1] + 1, distances[-1] * AO_STEP), float(reach)))
    return distances


# --- maps to files ------------------------------------------------------------------------------------------


def save_material(
    maps: Maps,
    folder: str | Path,
    normal: Literal["gl", "dx"] = "gl",
    physical_size: float | None = None,
    credit: str = "",
    tile: bool = True,
    shape: Literal["plane", "sphere"] = "plane",
    extra: Mapping[str, bytes] | None = None,
) -> list[Path]:
    """Write `material_files` into a folder, all or none of them.

    A folder that is missing or empty is made anew; one that was made here before has its files replaced, and what
    others put there stays. Arguments are those of `material_files`.

    Returns:
        Paths of all files.

    Raises:
        ValueError: see `material_files`.
        FileExistsError: the folder holds something else.
        OSError: it cannot be written, for instance because the disk is full.
    """
    folder = Path(folder).resolve()
    if not is_ours_to_fill(folder):
        raise FileExistsError(f"{folder} is not a material that was saved here: name a folder that does not exist")
    files = material_files(maps, normal, physical_size, credit, tile, shape, extra)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name, content in files.items():
            with (scratch / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _move(scratch, folder)
    except OSError as error:
        raise OSError(f"cannot save {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [folder / name for name in files]


def is_ours_to_fill(folder: Path) -> bool:
    """Whether a material may be saved there: nothing is there, an empty folder, or one that was saved here before."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return json.loads((folder / "material.json").read_bytes())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _move(scratch: Path, folder: Path) -> None:
    """All files of one folder into the other."""
    if not folder.exists() or not any(folder.iterdir()):
        scratch.replace(folder)
        return
    names = sorted(path.name for path in scratch.iterdir())
    if blocked := [name for name in names if (folder / name).is_dir()]:
        raise IsADirectoryError(f"{blocked[0]} in it is a folder")
    for name in names:
        (scratch / name).replace(folder / name)
    for name in set(FILES) - set(names):  # a normal map of the other convention, from the time before
        (folder / name).unlink(missing_ok=True)


def material_files(
    maps: Maps,
    normal: Literal["gl", "dx"] = "gl",
    physical_size: float | None = None,
    credit: str = "",
    tile: bool = True,
    shape: Literal["plane", "sphere"] = "plane",
    extra: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """Names and contents of the files of a material.

    Pictures are PNG of 8 bits, height of 16; orm.png is occlusion, roughness, metallic as glTF and Unreal Engine
    pack them. Height and ambient occlusion are computed where the maps lack them, and material.json says so.

    Args:
        maps: see the head of this module; albedo, roughness, metallic and normal are required. Sides up to 4096.
        normal: convention of the normal map, also its name: green is up (OpenGL) or down (DirectX). material.glb
            holds its own, for glTF is always OpenGL; the others are told which it is.
        physical_size: width of the texture in metres. Unknown, the planes are 2 units wide.
        credit: who made it, and the licence, one line; it goes into all descriptions.
        tile: opposite edges meet, where height and occlusion are computed.
        shape: what material.glb shows the material on.
        extra: contents of further files, named as in `PREVIEWS`.

    Raises:
        ValueError: a map is missing, of a wrong size or out of its range, or an argument makes no sense.
    """
    if normal not in ("gl", "dx"):
        raise ValueError(f"normal must be 'gl' or 'dx', got {normal!r}")
    if shape not in ("plane", "sphere"):
        raise ValueError(f"shape must be 'plane' or 'sphere', got {shape!r}")
    if physical_size is not None and not 0 < physical_size < math.inf:
        raise ValueError(f"physical_size must be the width of the texture in metres, above 0, got {physical_size}")
    if not credit.isprintable():
        raise ValueError(f"credit must be one line of printable text, got {credit[:40]!r}")
    if unknown := sorted(set(extra or {}) - set(PREVIEWS)):
        raise ValueError(f"extra files are {', '.join(PREVIEWS)}, got {unknown[0]!r}")
    derived = [name for name in ("height", "ao") if name not in maps]
    maps = _checked(maps)
    if "height" not in maps:
        maps["height"] = height_from_normal(maps["normal"], tile)
    if "ao" not in maps:
        maps["ao"] = ao_from_height(maps["height"], tile)
    rows, columns = maps["albedo"].shape[-2:]
    aspect = rows / columns
    reach = float(maps["height"].abs().max())
    normal_map = f"normal_{normal}.png"

    files = {f"{name}.png": _png(maps[name]) for name in ("albedo", "roughness", "metallic", "ao")}
    files[normal_map] = encode_normal(maps["normal"], normal)
    files["height.png"] = _height_png(maps["height"], reach)
    files["orm.png"] = _png(torch.cat([maps["ao"], maps["roughness"], maps["metallic"]], 1))
    mesh = _plane(physical_size or 2.0, aspect) if shape == "plane" else _sphere(physical_size, aspect)
    gl = files[normal_map] if normal == "gl" else encode_normal(maps["normal"], "gl")
    files["material.glb"] = _glb(mesh, [files["albedo.png"], files["orm.png"], gl], credit)
    files["material.mtlx"] = _materialx(normal, credit).encode()
    files["material.usda"] = _usda(normal, physical_size or 2.0, aspect, credit).encode()
    files.update(extra or {})
    description = {
        "format": FORMAT,
        "version": 1,
        "width": columns,
        "height": rows,
        "physical_size_m": physical_size,
        "tileable": tile,
        "credit": credit,
        "maps": {
            "albedo": {"file": "albedo.png", "encoding": "sRGB"},
            "roughness": {"file": "roughness.png", "encoding": "linear", "alpha": "roughness ** 2"},
            "metallic": {"file": "metallic.png", "encoding": "linear"},
            "normal": {
                "file": normal_map,
                "encoding": "rgb = n / 2 + 1 / 2",
                "convention": {"gl": "OpenGL, green is up", "dx": "DirectX, green is down"}[normal],
            },
            "height": {
                "file": "height.png",
                "encoding": "16 bits; height = offset + scale * level / 65535",
                "unit": "widths of the texture",
                "scale": 2 * reach,
                "offset": -reach,
                "scale_m": physical_size and 2 * reach * physical_size,
                "offset_m": physical_size and -reach * physical_size,
            },
            "ao": {"file": "ao.png", "encoding": "linear"},
            "orm": {"file": "orm.png", "encoding": "linear", "channels": ["ao", "roughness", "metallic"]},
        },
        "derived": derived,
        "files": [name for name in FILES if name in files or name == "material.json"],
    }
    files["material.json"] = (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode()
    return {name: files[name] for name in FILES if name in files}


def _checked(maps: Maps) -> Maps:
    """Float32 on the CPU, in range, normals of length 1; or an error that names the map."""
    if missing := [name for name in REQUIRED if name not in maps]:
        raise ValueError(f"the material lacks {', '.join(missing)}: it needs {', '.join(REQUIRED)}")
    if unknown := sorted(set(maps) - set(CHANNELS)):
        raise ValueError(f"unknown map {unknown[0]!r}: a material has {', '.join(CHANNELS)}")
    rows, columns = maps["albedo"].shape[-2:]
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
        raise ValueError(f"albedo must have 1 to {MAX_SIDE} pixels a side, got {columns} x {rows}")
    return {name: _checked_map(name, one.detach(), (1, CHANNELS[name], rows, columns)) for name, one in maps.items()}


def _checked_map(name: str, one: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    if one.shape != shape:
        raise ValueError(f"{name} must be {shape}, one material and all maps of one size, got {tuple(one.shape)}")
    if not one.is_floating_point():
        raise ValueError(f"{name} must be of floats, got {one.dtype}")
    one = one.cpu().float()
    if bad := int((~one.isfinite()).sum()):
        raise ValueError(f"{name} holds {bad} values that are not numbers: the network that made it has diverged")
    if name == "normal":
        length = one.norm(dim=1)
        if (length - 1).abs().max() > UNIT_TOLERANCE:
            raise ValueError(f"normal must hold unit vectors, got lengths {length.min():.3f} to {length.max():.3f}")
        if one[:, 2].min() < -UNIT_TOLERANCE:
            raise ValueError(f"normal must point out of the surface, z > 0, got {one[:, 2].min():.3f}")
        return one / length[:, None]
    low, high = one.aminmax()
    least = -1 if name == "height" else 0
    if low < least - 1e-4 or high > 1 + 1e-4:
        unit = " widths of the texture" if name == "height" else ""
        raise ValueError(f"{name} must lie in [{least}, 1]{unit}, got {low:.3f} to {high:.3f}")
    return one.clamp(least, 1)


def _png(one: Tensor) -> bytes:
    """(1, 1 or 3, H, W) in [0, 1] as an 8-bit PNG, grey or colour."""
    levels = to_uint8(from_unit(one))[0]
    return _written(Image.fromarray((levels.permute(1, 2, 0) if len(levels) == 3 else levels[0]).numpy()))


def _written(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)  # a tenth larger than the default, in half the time
    return buffer.getvalue()


def encode_normal(normal: Tensor, convention: Literal["gl", "dx"]) -> bytes:
    """A normal map as PNG, of (1, 3, H, W) unit vectors, y up: rgb = n / 2 + 1 / 2, green turned over for DirectX."""
    flip = normal.new_tensor([1, 1 if convention == "gl" else -1, 1]).view(1, 3, 1, 1)
    return _png(to_unit(normal * flip))


def _height_png(height: Tensor, reach: float) -> bytes:
    """16 bits over [-reach, reach], so that zero is mid-grey, as programs that displace by pictures expect."""
    levels = (height[0, 0].double() / (2 * reach) + 0.5) * 65535 if reach else torch.full(height.shape[-2:], 32768.0)
    return _written(Image.fromarray(levels.round().clamp(0, 65535).numpy().astype(np.uint16)))


# --- glTF ---------------------------------------------------------------------------------------------------

Mesh = dict[str, np.ndarray]
"""Attributes of vertices by their glTF names, and `indices` of triangles, counter-clockwise seen from outside."""


def _plane(width: float, aspect: float) -> Mesh:
    """Upright and facing +z, the texture's top up. glTF puts v = 0 at the top of a picture."""
    x, y = width / 2, width / 2 * aspect
    return {
        "POSITION": np.array([[-x, y, 0], [x, y, 0], [-x, -y, 0], [x, -y, 0]], np.float32),
        "NORMAL": np.tile(np.array([0, 0, 1], np.float32), (4, 1)),
        "TANGENT": np.tile(np.array([1, 0, 0, 1], np.float32), (4, 1)),
        "TEXCOORD_0": np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32),
        "indices": np.array([0, 2, 1, 1, 2, 3], np.uint16),
    }


def _sphere(width: float | None, aspect: float) -> Mesh:
    """The texture once from pole to pole, and whole times around; of radius 1 where its width is not known."""
    around, down = SEGMENTS
    repeats = max(1, round(2 * aspect))
    radius = width * repeats / (2 * math.pi) if width else 1.0
    steps = np.meshgrid(np.linspace(0, 1, down + 1), np.linspace(0, 1, around + 1), indexing="ij")
    v, u = (step.ravel() for step in steps)
    longitude, colatitude = 2 * math.pi * (u - 0.5), math.pi * v  # the ends of u meet at the back
    ring = np.stack([np.sin(longitude), np.zeros_like(u), np.cos(longitude)], -1)
    east = np.stack([np.cos(longitude), np.zeros_like(u), -np.sin(longitude)], -1)
    normal = ring * np.sin(colatitude)[:, None] + np.array([0, 1, 0]) * np.cos(colatitude)[:, None]
    triangles = []
    for row in range(down):
        for column in range(around):
            a = row * (around + 1) + column
            b, c, d = a + 1, a + around + 1, a + around + 2
            if row > 0:  # at the poles one triangle of the two is a line
                triangles.append((a, c, b))
            if row < down - 1:
                triangles.append((b, c, d))
    return {
        "POSITION": (normal * radius).astype(np.float32),
        "NORMAL": normal.astype(np.float32),
        "TANGENT": np.concatenate([east, np.ones_like(u)[:, None]], -1).astype(np.float32),
        "TEXCOORD_0": np.stack([u * repeats, v], -1).astype(np.float32),
        "indices": np.array(triangles, np.uint16).ravel(),
    }


def _glb(mesh: Mesh, pictures: list[bytes], credit: str) -> bytes:
    """Binary glTF of one mesh in one material. Pictures: albedo, ORM, OpenGL normal map.

    Source: glTF 2.0 specification, section 4 (GLB) and 3.9 (materials).
    """
    views, accessors, binary = [], [], bytearray()

    def stored(content: bytes, target: dict) -> int:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(content), **target})
        binary.extend(content + bytes(-len(content) % 4))
        return len(views) - 1

    for name, values in mesh.items():
        indices = name == "indices"
        accessor = {
            "bufferView": stored(values.tobytes(), {"target": 34963 if indices else 34962}),
            "componentType": 5123 if indices else 5126,
            "count": len(values),
            "type": "SCALAR" if indices else f"VEC{values.shape[1]}",
        }
        if name == "POSITION":
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        accessors.append(accessor)
    images = [{"bufferView": stored(picture, {}), "mimeType": "image/png"} for picture in pictures]
    attributes = {name: number for number, name in enumerate(mesh) if name != "indices"}
    scene = {
        "asset": {"version": "2.0", "generator": "hubmodels"} | ({"copyright": credit} if credit else {}),
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "material"}],
        "meshes": [
            {"primitives": [{"attributes": attributes, "indices": list(mesh).index("indices"), "material": 0}]},
        ],
        "materials": [
            {
                "name": "material",
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 1}},
                "occlusionTexture": {"index": 1},
                "normalTexture": {"index": 2},
            }
        ],
        "textures": [{"sampler": 0, "source": number} for number in range(len(images))],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}],
        "images": images,
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(scene, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    header = struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON")
    return b"".join([header, text, struct.pack("<I4s", len(binary), b"BIN\0"), binary])


# --- MaterialX and USD --------------------------------------------------------------------------------------

MATERIALX = """\
<?xml version="1.0"?>
<materialx version="1.38" colorspace="lin_rec709" doc={credit}>
  <nodegraph name="NG_material">
    <image name="albedo" type="color3">
      <input name="file" type="filename" value="albedo.png" colorspace="srgb_texture" />
    </image>
    <image name="roughness" type="float">
      <input name="file" type="filename" value="roughness.png" />
    </image>
    <image name="metallic" type="float">
      <input name="file" type="filename" value="metallic.png" />
    </image>
    <image name="normal_levels" type="vector3">
      <input name="file" type="filename" value="normal_{normal}.png" />
    </image>
{flip}    <normalmap name="normal" type="vector3">
      <input name="in" type="vector3" nodename="{levels}" />
    </normalmap>
    <output name="out_albedo" type="color3" nodename="albedo" />
    <output name="out_roughness" type="float" nodename="roughness" />
    <output name="out_metallic" type="float" nodename="metallic" />
    <output name="out_normal" type="vector3" nodename="normal" />
  </nodegraph>
  <standard_surface name="SR_material" type="surfaceshader">
    <input name="base" type="float" value="1" />
    <input name="base_color" type="color3" nodegraph="NG_material" output="out_albedo" />
    <input name="specular_roughness" type="float" nodegraph="NG_material" output="out_roughness" />
    <input name="metalness" type="float" nodegraph="NG_material" output="out_metallic" />
    <input name="normal" type="vector3" nodegraph="NG_material" output="out_normal" />
  </standard_surface>
  <surfacematerial name="material" type="material">
    <input name="surfaceshader" type="surfaceshader" nodename="SR_material" />
  </surfacematerial>
</materialx>
"""

FLIP_GREEN = """\
    <multiply name="normal_down" type="vector3">
      <input name="in1" type="vector3" nodename="normal_levels" />
      <input name="in2" type="vector3" value="1, -1, 1" />
    </multiply>
    <add name="normal_up" type="vector3">
      <input name="in1" type="vector3" nodename="normal_down" />
      <input name="in2" type="vector3" value="0, 1, 0" />
    </add>
"""


def _materialx(normal: str, credit: str) -> str:
    """MaterialX 1.38 with a standard surface, which has no input for occlusion: renderers trace it.

    Colours name their space; numbers and vectors are never converted.
    """
    flip, levels = ("", "normal_levels") if normal == "gl" else (FLIP_GREEN, "normal_up")
    return MATERIALX.format(normal=normal, flip=flip, levels=levels, credit=quoteattr(credit))


USDA = """\
#usda 1.0
(
    customLayerData = {{
        string credit = {credit}
    }}
    defaultPrim = "Material"
    metersPerUnit = 1
    upAxis = "Y"
)

def Xform "Material" (
    kind = "component"
)
{{
    def Mesh "Plane" (
        prepend apiSchemas = ["MaterialBindingAPI"]
    )
    {{
        float3[] extent = [({left}, {bottom}, 0), ({right}, {top}, 0)]
        int[] faceVertexCounts = [4]
        int[] faceVertexIndices = [0, 1, 2, 3]
        point3f[] points = [({left}, {bottom}, 0), ({right}, {bottom}, 0), ({right}, {top}, 0), ({left}, {top}, 0)]
        normal3f[] normals = [(0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1)] (
            interpolation = "vertex"
        )
        texCoord2f[] primvars:st = [(0, 0), (1, 0), (1, 1), (0, 1)] (
            interpolation = "vertex"
        )
        rel material:binding = </Material/Surface>
        uniform token subdivisionScheme = "none"
    }}

    def Material "Surface"
    {{
        token outputs:surface.connect = </Material/Surface/Preview.outputs:surface>

        def Shader "Preview"
        {{
            uniform token info:id = "UsdPreviewSurface"
            color3f inputs:diffuseColor.connect = </Material/Surface/Albedo.outputs:rgb>
            float inputs:roughness.connect = </Material/Surface/Roughness.outputs:r>
            float inputs:metallic.connect = </Material/Surface/Metallic.outputs:r>
            float inputs:occlusion.connect = </Material/Surface/Occlusion.outputs:r>
            normal3f inputs:normal.connect = </Material/Surface/Normal.outputs:rgb>
            token outputs:surface
        }}

        def Shader "Coordinates"
        {{
            uniform token info:id = "UsdPrimvarReader_float2"
            string inputs:varname = "st"
            float2 outputs:result
        }}
{textures}    }}
}}
"""

USD_TEXTURE = """
        def Shader "{name}"
        {{
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @./{file}@
            token inputs:sourceColorSpace = "{space}"
            token inputs:wrapS = "repeat"
            token inputs:wrapT = "repeat"
            float2 inputs:st.connect = </Material/Surface/Coordinates.outputs:result>
{more}            {output}
        }}
"""

USD_NORMAL = """\
            float4 inputs:scale = (2, {green}, 2, 1)
            float4 inputs:bias = (-1, {less}, -1, 0)
"""


def _usda(normal: str, width: float, aspect: float, credit: str) -> str:
    """USD with a preview surface on an upright plane. USD puts t = 0 at the bottom of a picture.

    Source: UsdPreviewSurface specification 2.6, whose normal maps are OpenGL after scale and bias.
    """
    green = {"green": 2, "less": -1} if normal == "gl" else {"green": -2, "less": 1}
    colour, number = "float3 outputs:rgb", "float outputs:r"
    textures = [
        ("Albedo", "albedo.png", "sRGB", "", colour),
        ("Roughness", "roughness.png", "raw", "", number),
        ("Metallic", "metallic.png", "raw", "", number),
        ("Occlusion", "ao.png", "raw", "", number),
        ("Normal", f"normal_{normal}.png", "raw", USD_NORMAL.format(**green), colour),
    ]
    written = [
        USD_TEXTURE.format(name=name, file=file, space=space, more=more, output=output)
        for name, file, space, more, output in textures
    ]
    x, y = width / 2, width / 2 * aspect
    # of what JSON escapes, printable text has only quotes and backslashes, and USD escapes those alike
    quoted = json.dumps(credit, ensure_ascii=False)
    return USDA.format(credit=quoted, left=-x, right=x, bottom=-y, top=y, textures="".join(written))


# --- files to maps ------------------------------------------------------------------------------------------


def load_material(folder: str | Path) -> Maps:
    """Maps of a folder that `save_material` made, or of any folder with albedo, roughness, metallic and normal PNGs.

    Of normal_gl.png, normal_dx.png and normal.png the first that is there counts; the last is taken as OpenGL.
    ao.png is read where there is one, height.png if material.json says how high white is. Pictures may have 8 or
    16 bits (colours of 16 are read as 8), grey, colour or a palette. Alpha is dropped, not laid on white: the
    colours below it are the map.

    Raises:
        ValueError: a map is missing, damaged, of another size or of another kind of colour; the file is named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one with {', '.join(REQUIRED)} as PNG")
    paths = {name: folder / f"{name}.png" for name in CHANNELS if name != "normal"}
    normals = [folder / f"{name}.png" for name in ("normal_gl", "normal_dx", "normal")]
    paths["normal"] = next((path for path in normals if path.exists()), normals[-1])
    for name in REQUIRED:
        if not paths[name].exists():
            raise ValueError(f"{folder} has no {paths[name].name}: a material needs {', '.join(REQUIRED)}")
    maps = {name: _read(paths[name], CHANNELS[name]) for name in REQUIRED}
    if paths["ao"].exists():
        maps["ao"] = _read(paths["ao"], 1)
    if paths["height"].exists() and (folder / "material.json").exists():
        scale, offset = _height_range(folder / "material.json")
        maps["height"] = _read(paths["height"], 1) * scale + offset
    rows, columns = maps["albedo"].shape[-2:]
    for name, one in maps.items():
        if one.shape[-2:] != (rows, columns):
            got = f"{one.shape[-1]} x {one.shape[-2]}"
            raise ValueError(f"{paths[name]} is {got}, albedo.png is {columns} x {rows}: all maps must be of one size")
    normal = from_unit(maps["normal"])
    if paths["normal"].name == "normal_dx.png":
        normal[:, 1].neg_()
    if normal[:, 2].min() < -UNIT_TOLERANCE or (normal.norm(dim=1) < 0.5).any():
        raise ValueError(f"{paths['normal']} is not a normal map of a surface: blue must be at least 128")
    maps["normal"] = F.normalize(normal, dim=1)
    return maps


def _height_range(path: Path) -> tuple[float, float]:
    try:
        height = json.loads(path.read_bytes())["maps"]["height"]
        return float(height["scale"]), float(height["offset"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} does not say the scale and offset of height.png: save the material again") from None


def _read(path: Path, channels: int) -> Tensor:
    """(1, channels, H, W) in [0, 1] of a PNG, as its levels are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            image = Image.open(path, formats=FORMATS)
        with image:
            if max(image.size) > MAX_SIDE:
                raise ValueError(f"maps may have up to {MAX_SIDE} pixels a side, got {image.width} x {image.height}")
            if image.mode not in GREY + COLOUR + GREY16:
                raise ValueError(f"a map cannot be {image.mode}: save it as grey or RGB")
            grey = image.mode not in COLOUR
            image.info.pop("transparency", None)
            plain = image if image.mode in GREY16 else image.convert("L" if grey else "RGB")
            pixels = to_unit(from_pil(plain))[None]
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture: save it as PNG again") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path}: maps may have up to {MAX_SIDE} pixels a side, this has far more") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path}: {error}") from None
    if path.stem.startswith("normal") and grey:
        raise ValueError(f"{path}: a normal map has three channels, this is grey")
    if channels == 1:
        if (pixels.amax(1) - pixels.amin(1)).max() > 0.02:
            raise ValueError(f"{path}: this map must be grey, and the picture is in colour: save one channel of it")
        return pixels[:, :1].contiguous()
    return pixels
