"""Make hubmodels/lens/assets: silhouettes and textures of camouflage scenes, out of two packages of PyPI and a third.

    python -m datasets_builders.lens_assets --out hubmodels/lens/assets

The same bytes every time. The wheel of scikit-image that is read is the one for CPython 3.11 on Linux, x86-64; nothing
of it is run.
"""

import gzip
import io
import json
import pickletools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from datasets_builders.folder import BuildError
from datasets_builders.packages import Package, member
from datasets_builders.real_materials import THREEJS
from hubmodels.lens.camo import ACROSS, CLASSES, SIDE, TEXTURE

ANIMALS = Package(
    "animal-mnist",
    "0.4",
    "pip",
    "animal_mnist-0.4-py3-none-any.whl",
    "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
)
SKIMAGE = Package(
    "scikit-image",
    "0.26.0",
    "pip",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
)
AT = "threejs_materials/pbr_properties/_assets"


@dataclass(frozen=True)
class Texture:
    """A picture of a package, and what is known about it."""

    name: str
    split: str
    package: Package
    file: str
    origin: str
    """Where the package has it from; all are CC0 1.0, as the package says."""


TEXTURES = (
    Texture("gravel", "train", SKIMAGE, "skimage/data/gravel.png", "CC0Textures (ambientCG) Gravel 04"),
    Texture("brick", "train", SKIMAGE, "skimage/data/brick.png", "CC0Textures (ambientCG) Bricks 25"),
    Texture("cardboard", "train", THREEJS, f"{AT}/corrugated_cardboard/color.png", "ambientCG Cardboard 002"),
    Texture("ridges", "train", THREEJS, f"{AT}/corrugated_cardboard/roughness.png", "ambientCG Cardboard 002"),
    Texture("felt", "train", THREEJS, f"{AT}/felt/color.png", "ambientCG Fabric 034"),
    Texture("flecks", "train", THREEJS, f"{AT}/felt/roughness.png", "ambientCG Fabric 034"),
    Texture("leather", "validation", THREEJS, f"{AT}/leather/color.png", "ambientCG Leather 028"),
    Texture("paper", "validation", THREEJS, f"{AT}/paper/color.png", "ambientCG Paper 001"),
    Texture("grass", "test", SKIMAGE, "skimage/data/grass.png", "linolafett on DeviantArt, Grass 01"),
    Texture("weave", "test", THREEJS, f"{AT}/fabric_weave/color.png", "ambientCG Fabric 060"),
    Texture("styrofoam", "test", THREEJS, f"{AT}/foamboard/color.png", "ambientCG Styrofoam 004"),
)
"""Two maps of one material are in one split."""
EVEN = 32
"""Pixels around a pixel whose mean is taken out, so that no part of a texture is darker than the others."""
DEVIATION = 42
"""Standard deviation of the levels of a texture; their mean is 128."""
GREYS = (0, 85, 170, 255)
"""Levels of a silhouette as silhouettes.png shows them."""
THRESHOLDS = (43, 128, 213)
"""From which level of the original on a pixel is brought to the next of `GREYS`, the nearest."""


@dataclass(frozen=True)
class Config:
    """Make the folder of assets anew."""

    out: Path
    """Files of these names in it are replaced."""


def array(content: bytes) -> bytes:
    """Numbers of the one array in a gzipped pickle. Nothing is unpickled: its parts are listed, and the longest string
    of bytes among them is taken.

    Raises:
        BuildError: there is none.
    """
    parts = [part for _, part, _ in pickletools.genops(gzip.decompress(content)) if isinstance(part, bytes)]
    if not parts:
        raise BuildError("the pickle holds no array")
    return max(parts, key=len)


def silhouettes() -> tuple[np.ndarray, dict[str, int]]:
    """(N, SIDE, SIDE) uint8 from 0 to 3, all different, class by class, and how many of each class there are."""
    data = "animal_mnist/data/Animal_MNIST/animal_{}_version_3.gz"
    pictures = np.frombuffer(array(member(ANIMALS, data.format("data"))), np.uint8).reshape(-1, SIDE, SIDE)
    labels = np.frombuffer(array(member(ANIMALS, data.format("label"))), "<i8")
    steps = np.digitize(pictures, THRESHOLDS).astype(np.uint8)
    different = [dict.fromkeys(one.tobytes() for one in steps[labels == label]) for label in range(len(CLASSES))]
    kept = np.frombuffer(b"".join(one for found in different for one in found), np.uint8)
    return kept.reshape(-1, SIDE, SIDE), {name: len(found) for name, found in zip(CLASSES, different, strict=True)}


def texture(content: bytes) -> np.ndarray:
    """(TEXTURE, TEXTURE) uint8: luminance at half the size, evened out, of the same mean and deviation for all."""
    grey = np.asarray(Image.open(io.BytesIO(content)).convert("L"))[: 2 * TEXTURE, : 2 * TEXTURE]
    half = grey.reshape(TEXTURE, 2, TEXTURE, 2).astype(np.int64).sum((1, 3))
    side = 2 * EVEN + 1
    total = np.pad(half, EVEN, mode="reflect").cumsum(0).cumsum(1)
    total = np.pad(total, ((1, 0), (1, 0)))
    around = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    fine = half - around / side**2
    return (128 + fine * (DEVIATION / fine.std())).round().clip(0, 255).astype(np.uint8)


def sheet(pictures: np.ndarray) -> bytes:
    """Silhouettes side by side, ACROSS in a row, as PNG of 2 bits a pixel."""
    missing = -len(pictures) % ACROSS
    whole = np.concatenate([pictures, np.zeros((missing, SIDE, SIDE), np.uint8)])
    whole = whole.reshape(-1, ACROSS, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(-1, ACROSS * SIDE)
    image = Image.frombytes("P", (whole.shape[1], whole.shape[0]), whole.tobytes())
    image.putpalette([grey for grey in GREYS for _ in range(3)])
    return png(image)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


LICENSES = """\
# What is in this folder, and whose it is

Made by `python -m datasets_builders.lens_assets`. Do not edit.

## silhouettes.png

{silhouettes} silhouettes of 28 x 28 pixels, in 4 levels of grey, of the data set Animal-MNIST by Sina Mohammadi: PyPI
package animal-mnist 0.4, file {animals}, sha256
{digest}.
Silhouettes that were there more than once are here once.

{mit}

## textures.png

Textures of 256 x 256 pixels, one below the other: grey, half the size, evened out. All are dedicated to the public
domain (CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/), as their packages say: scikit-image in the
docstrings of `skimage.data`, threejs-materials in the `license` of each material.

| texture | split | from | PyPI package | file |
|---|---|---|---|---|
{textures}
"""


def assets() -> dict[str, bytes]:
    """All files of the folder, by name.

    Raises:
        BuildError: a package cannot be had.
    """
    found, counts = silhouettes()
    strip = np.concatenate([texture(member(one.package, one.file)) for one in TEXTURES])
    listed = {"silhouettes": counts, "textures": {one.name: one.split for one in TEXTURES}}
    text = LICENSES.format(
        silhouettes=len(found),
        animals=ANIMALS.file,
        digest=ANIMALS.sha256,
        mit=member(ANIMALS, "animal_mnist-0.4.dist-info/licenses/LICENSE").decode().replace("\r\n", "\n").strip(),
        textures="\n".join(
            f"| {one.name} | {one.split} | {one.origin} | {one.package.name} {one.package.version} | {one.file} |"
            for one in TEXTURES
        ),
    )
    return {
        "silhouettes.png": sheet(found),
        "textures.png": png(Image.fromarray(strip)),
        "assets.json": (json.dumps(listed, indent=2) + "\n").encode(),
        "LICENSES.md": text.encode(),
    }


def main(config: Config) -> None:
    """Write the files; one line to stderr and exit code 1 when it cannot be done."""
    try:
        made = assets()
        config.out.mkdir(parents=True, exist_ok=True)
        for name, content in made.items():
            (config.out / name).write_bytes(content)
    except BuildError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot write {config.out}: {error}")


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m datasets_builders.lens_assets"))
