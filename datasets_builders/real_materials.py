"""Real materials and real light that anyone can install, in packages of PyPI, npm and Debian. Held out of training.

    read(material, size) -> maps      environment(light) -> radiance

Nothing of them is part of this project; `packages` fetches what is read here.
"""

import base64
import io
import re
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from datasets_builders.folder import BuildError
from datasets_builders.packages import Package, member
from hubmodels.images import from_pil, linear_to_srgb, srgb_to_linear, to_unit

PYPBR = Package(
    "pypbr",
    "0.1.0b5",
    "pip",
    "pypbr-0.1.0b5-py3-none-any.whl",
    "29b23a4e458ea74a7658f405b482017209895149500714c4fb8218f3322f6aa9",
)
THREEJS = Package(
    "threejs-materials",
    "1.2.5",
    "pip",
    "threejs_materials-1.2.5-py3-none-any.whl",
    "e622264388045fa35612b514ddaedecb213831c98aa0b140a101bbf3fdd527a6",
)
QUILTIX = Package(
    "quiltix",
    "0.8.0",
    "pip",
    "quiltix-0.8.0-py3-none-any.whl",
    "6cb64c3d2e8a4b2e729f923d7f918cc277cbe9ced39b8fab61263318402d34dd",
)
PMNDRS = Package(
    "@pmndrs/assets",
    "1.7.0",
    "npm",
    "pmndrs-assets-1.7.0.tgz",
    "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc",
)
BLENDER = Package(
    "blender-data",
    "3.4.1+dfsg-2",
    "apt",
    "blender-data_3.4.1+dfsg-2_all.deb",
    "5ceaf56a49ba3ded95c751d739aeec3d19e7fad76fba5cb70666986af9303b0e",
)


@dataclass(frozen=True)
class Real:
    """One material: which files of an archive are its maps, and what is known about it."""

    name: str
    package: Package
    category: str
    license: str
    """As the package states it; empty where it states none."""
    source: str
    files: dict[str, str]
    """By map; `color` is sRGB."""
    color: tuple[float, float, float] | None = None
    """sRGB; where there is a file as well, the file is grey and this its tint."""
    metallic: float = 0.0

    @property
    def author(self) -> str | None:
        """Who made it, as far as its source says."""
        makers = ("ambientCG", "AMD GPUOpen", "physicallybased.info", "threejs-materials, generated")
        return next((maker for maker in makers if self.source.startswith(maker)), None)


def _threejs(name: str, category: str, license: str, source: str, folder: str = "") -> Real:
    at = f"threejs_materials/pbr_properties/_assets/{folder or name}"
    files = {"albedo": f"{at}/color.png", "normal": f"{at}/normal.png", "roughness": f"{at}/roughness.png"}
    return Real(name, THREEJS, category, license, source, files)


def _metal(name: str, finish: str, color: tuple[float, float, float]) -> Real:
    at = f"threejs_materials/pbr_properties/_assets/_{finish}"
    files = {"normal": f"{at}/normal.png", "roughness": f"{at}/roughness.png"}
    return Real(f"{name}_{finish}", THREEJS, "metal", "CC0 1.0", "physicallybased.info", files, color, 1.0)


def _pypbr(name: str, category: str) -> Real:
    names = {"albedo": "basecolor", "normal": "normal", "roughness": "roughness", "height": "height"}
    files = {target: f"tests/data/{name}/{file}.png" for target, file in names.items()}
    return Real(name, PYPBR, category, "MIT", "tests of pypbr", files)


COPPER = "QuiltiX/resources/materials/Copper_Old_1k_8b/textures/Copper_Old_"
MATERIALS = (
    _pypbr("rocks", "ground"),
    _pypbr("tiles", "ceramic"),
    *(_threejs(name, "wood", "", "threejs-materials, no licence stated") for name in ("oak", "pine", "walnut", "osb")),
    _threejs("corrugated_cardboard", "misc", "CC0 1.0", "ambientCG Cardboard 002"),
    _threejs("foamboard", "plastic", "CC0 1.0", "ambientCG Styrofoam 004"),
    _threejs("plastic_rough", "plastic", "CC0 1.0", "ambientCG Plastic 013 A", "_rough"),
    _threejs("plastic_fdm", "plastic", "MIT", "threejs-materials, generated", "_fdm"),
    _threejs("carbon_fiber", "fabric", "CC0 1.0", "ambientCG Fabric 004"),
    _threejs("fabric_weave", "fabric", "CC0 1.0", "ambientCG Fabric 060"),
    _threejs("felt", "fabric", "CC0 1.0", "ambientCG Fabric 034"),
    replace(_threejs("leather", "leather", "CC0 1.0", "ambientCG Leather 028"), color=(0.478, 0.322, 0.188)),
    _metal("aluminum", "brush", (0.962, 0.965, 0.966)),
    _metal("gold", "brush", (1.0, 0.893, 0.590)),
    _metal("copper", "matte", (0.969, 0.811, 0.750)),
    _metal("steel", "matte", (0.755, 0.744, 0.731)),
    Real(
        "copper_old",
        QUILTIX,
        "metal",
        "Apache-2.0",
        "AMD GPUOpen MaterialX library",
        {
            name: f"{COPPER}{file}.png"
            for name, file in (("albedo", "baseColor"), ("normal", "normal"), ("roughness", "roughness"))
        },
        metallic=1.0,
    ),
)
"""Held out, all of them: what the network knows of them it learned from procedural materials. `height` is not used
as truth, its scale is not stated anywhere."""

_INDOORS = ("apartment", "hall", "lab", "lobby", "studio", "warehouse", "workshop")
_OUTDOORS = ("bridge", "city", "dawn", "forest", "night", "sunset", "venice")
TRAINING_LIGHT = tuple(f"pmndrs/{name}" for name in (*_INDOORS, *_OUTDOORS))
"""Those of the npm package without a black square at the sun."""
_WORLDS = ("city", "courtyard", "forest", "interior", "night", "studio", "sunrise", "sunset")
HELD_OUT_LIGHT = tuple(f"blender/{name}" for name in _WORLDS)


# --- reading -----------------------------------------------------------------------------------------------------


def read(material: Real, size: int) -> dict[str, Tensor]:
    """Maps (C, size, size) of a material, its larger side cut to a square and averaged down.

    Albedo sRGB-coded, roughness and metallic linear, normals unit, OpenGL.
    """
    maps = {name: _picture(member(material.package, file), name) for name, file in material.files.items()}
    side = min(min(one.shape[-2:]) for one in maps.values())
    maps = {name: _resized(one[:, :side, :side], size) for name, one in maps.items() if name != "height"}
    if material.color is not None:
        grey = srgb_to_linear(maps["albedo"]) if "albedo" in maps else torch.ones(3, size, size)
        maps["albedo"] = linear_to_srgb(grey * srgb_to_linear(torch.tensor(material.color))[:, None, None])
    maps["normal"] = F.normalize(maps["normal"] * 2 - 1, dim=0)
    maps["metallic"] = torch.full((1, size, size), material.metallic)
    return maps


def _picture(content: bytes, name: str) -> Tensor:
    """(3, H, W), or (1, H, W) of what is no colour, in [0, 1]."""
    picture = to_unit(from_pil(Image.open(io.BytesIO(content))))
    return picture if name in ("albedo", "normal") else picture[:1]


def _resized(one: Tensor, size: int) -> Tensor:
    return F.interpolate(one[None], (size, size), mode="area" if one.shape[-1] >= size else "bilinear")[0]


@lru_cache(maxsize=64)
def environment(name: str, width: int = 128) -> Tensor:
    """Linear radiance (3, width / 2, width) of a light of TRAINING_LIGHT or HELD_OUT_LIGHT, equirectangular.

    Compression left negative pixels around bright lights; they are set to 0. Its mean is brought to 1.
    """
    try:
        import OpenEXR
    except ModuleNotFoundError:
        raise BuildError("environment light needs OpenEXR: pip install 'hubmodels[materials]'") from None
    origin, stem = name.split("/")
    if origin == "pmndrs":
        script = member(PMNDRS, f"package/hdri/{stem}.exr.js").decode()
        found = re.search(r"base64,([A-Za-z0-9+/=]+)", script)
        assert found is not None
        content = base64.b64decode(found[1])
    else:
        content = member(BLENDER, f"./usr/share/blender/datafiles/studiolights/world/{stem}.exr")
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(content)
        file.flush()
        with OpenEXR.File(file.name, separate_channels=True) as picture:
            channels = picture.channels()
            light = np.stack([channels[c].pixels.astype(np.float32) for c in "RGB"])
    light = F.interpolate(torch.from_numpy(light)[None].clamp(min=0), (width // 2, width), mode="area")[0]
    return light / light.mean()
