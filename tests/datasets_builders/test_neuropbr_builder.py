"""Rows are true to their material, bytes do not depend on how they came about, and bad input is named and kept."""

import hashlib
import json
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, load_dataset
from PIL import Image as Picture
from torch.utils.data import default_collate

from datasets_builders import folder, neuropbr
from datasets_builders.folder import BuildError, Part
from datasets_builders.neuropbr import CATEGORIES, Config, Material, Shoot, build, made_rows, main, photographed
from hubmodels.images import from_pil, to_unit
from hubmodels.neuropbr.cameras import Camera, homography, photograph
from hubmodels.neuropbr.data import MAPS, Photographed, Stored, decoded, directions, split
from hubmodels.neuropbr.lights import LUMINANCE, Lights
from hubmodels.neuropbr.photos import Development, develop
from hubmodels.neuropbr.procedural import make
from hubmodels.neuropbr.shading import shade

SMALL = {"BLOCK_BYTES": 2 * 10 * 32**2, "GROUPS_A_SHARD": 3, "TILES": 1, "TILE_PX": 16}
"""Two rows of 32 x 32 a block, six a shard."""
OPTIONS = {"materials": 20, "size": 32, "dirty": 0.4}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Cut small builds as large ones are: several blocks, row groups and shards."""
    for name, value in SMALL.items():
        monkeypatch.setattr(neuropbr, name, value)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished folder, made by this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(neuropbr, name, value)
        return build(Config(tmp_path_factory.mktemp("data") / "pbr", **OPTIONS, workers=1))


def contents(root: Path) -> dict[str, str]:
    """Every file below a folder, and its hash."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def load(where, tmp_path, **options):
    return load_dataset(str(where), cache_dir=str(tmp_path / "cache"), **options)


def refusal(config: Config) -> str:
    with pytest.raises(SystemExit) as refused:
        main(config)
    assert isinstance(refused.value.code, str) and "\n" not in refused.value.code
    return refused.value.code


# --- what a row is ----------------------------------------------------------------------------------------------


def test_a_row_depends_on_its_number_and_the_settings_alone():
    shoot = Shoot(32, 40, 2, 0.5, False, 0, 1)
    whole = list(made_rows(shoot, 0, 4))
    assert list(made_rows(shoot, 1, 3)) == whole[1:3]
    torch.set_num_threads(2)
    assert list(made_rows(shoot, 3, 4)) == whole[3:]
    others = list(made_rows(replace(shoot, seed=1), 0, 4))
    assert not {row["material"] for row in whole} & {row["material"] for row in others}
    more = next(made_rows(replace(shoot, views=3), 0, 1))
    assert more["views"][:2] == whole[0]["views"] and len(more["views"]) == 3


def test_rows_tell_the_truth(built, tmp_path):
    data = load(built, tmp_path)
    assert sum(len(part) for part in data.values()) == 20 and set(data) <= set(neuropbr.SPLITS)
    conditions = set()
    for name, part in data.items():
        for row in part:
            number = int(row["material"][-6:])
            true = make(number, 32)
            assert row["split"] == name == split(number)
            assert (row["category"], row["license"]) == (true.category, "CC0-1.0")
            assert row["physical_size"] == pytest.approx(true.physical_size)
            _, matrices, maps = decoded(row)
            for one in ("albedo", "roughness", "metallic"):
                assert (maps[one] - true.maps[one]).abs().max() <= 0.5 / 255 + 1e-6
            assert (maps["normal"] - true.maps["normal"]).abs().max() < 0.02
            height = (to_unit(from_pil(row["height"]))[:1] - 0.5) * row["height_scale"]
            assert (height - true.maps["height"]).abs().max() <= row["height_scale"] / 65535
            assert [view.size for view in row["views"]] == [(48, 48)] * 3
            for matrix, camera in zip(matrices, json.loads(row["camera"]), strict=True):
                camera = Camera(*(torch.tensor(camera[key]) for key in ("intrinsics", "rotation", "translation")))
                assert torch.allclose(matrix, homography(camera, 1.0), atol=1e-5)
            assert (row["condition"] == "dirty") == (max(json.loads(row["dirt"]).values()) > 0)
            conditions.add(row["condition"])
    assert conditions == {"clean", "dirty"}


def test_a_photo_follows_from_what_its_row_says(built, tmp_path):
    """Rendered again from stored maps, camera, light and development, without noise; not so with another's light."""
    rows = [row for row in load(built, tmp_path, split="train") if row["condition"] == "clean"][:6]
    same, other = [], []
    for number, row in enumerate(rows):
        photos, matrices, maps = decoded(row)
        for lit_by, scores in ((row, same), (rows[number - 1], other)):
            camera, light, how = (
                json.loads(r[k])[0] for r, k in ((row, "camera"), (lit_by, "lights"), (row, "development"))
            )
            camera = Camera(*(torch.tensor(camera[key]) for key in ("intrinsics", "rotation", "translation")))
            lights = Lights(*(torch.tensor(light[key]) for key in ("position", "is_point", "color", "radius")))
            radiance = shade({name: maps[name][None] for name in MAPS}, lights, camera.eye[None])
            seen = photograph(radiance, matrices[:1], 48, 48)[0]
            noiseless = replace(Development(**how), shot=0.0, read=0.0)
            photo = develop(seen, noiseless, torch.Generator())
            inside = photograph(torch.ones_like(radiance), matrices[:1], 48, 48)[0] == 1
            error = (photo - photos[0])[inside].square().mean()
            scores.append(float(-10 * error.log10()))
    assert min(same) > 25 and np.mean(same) > np.mean(other) + 6, (same, other)


def test_a_column_that_splits_must_not_share_is_checked(tmp_path):
    features = Features({"name": Value("string"), "split": Value("string")})
    rows = [{"name": "oak", "split": "train"}, {"name": "pine", "split": "test"}, {"name": "oak", "split": "test"}]
    part = Part("p", features, ("train", "test"), 3, lambda start, stop: iter(rows[start:stop]), apart="name")
    with pytest.raises(BuildError, match="name 'oak' is both in train and in test"):
        folder.build(tmp_path / "out", [part], {}, lambda sizes: "", dict, workers=1)
    assert not (tmp_path / "out").exists()


def test_panoramas_of_tests_light_no_training(monkeypatch):
    used = set()

    def environment(name):
        used.add(name)
        return (
            torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(len(name)))
            * torch.tensor([3, 1, 0.3])[:, None, None]
        )

    monkeypatch.setattr(neuropbr.real_materials, "environment", environment)
    maps = make(2, 32).maps
    shoot = Shoot(32, 40, 1, 0, True, 0, 1)
    rows = {
        name: [photographed(Material(f"{name}{n}", "", name), maps, shoot) for n in range(4)]
        for name in ("train", "test")
    }
    told = {name: {json.loads(row["lights"])[0]["panorama"] for row in some} for name, some in rows.items()}
    assert told["train"] <= set(neuropbr.real_materials.TRAINING_LIGHT)
    assert told["test"] <= set(neuropbr.real_materials.HELD_OUT_LIGHT)
    assert told["train"] | told["test"] == used
    # a reddish day is taken out by the camera
    gains = json.loads(rows["train"][0]["development"])[0]
    assert gains["red"] < 0.6 and gains["blue"] > 1.8


# --- the folder -------------------------------------------------------------------------------------------------


def test_it_loads_and_streams_alike_with_its_features(built, tmp_path):
    loaded, streamed = load(built, tmp_path), load(built, tmp_path, streaming=True)
    for name in loaded:
        assert loaded[name].features == streamed[name].features == neuropbr.FEATURES
        keys = ("material", "condition", "homography")
        assert [[row[k] for k in keys] for row in loaded[name]] == [[row[k] for k in keys] for row in streamed[name]]
    assert streamed["train"].num_shards == -(-len(loaded["train"]) // 6) > 1


def test_the_folder_holds_what_it_says_and_nothing_else(built):
    names = set(contents(built))
    assert {"README.md", "build.json", "preview.png"} == {name for name in names if "/" not in name}
    assert all(name.endswith(".parquet") for name in names if "/" in name)
    text = (built / "README.md").read_text()
    assert "license: cc0-1.0" in text and "--materials 20 --size 32" in text
    assert str(built.parent) not in text + (built / "build.json").read_text()


COMMAND = f"""
import runpy
from datasets_builders import neuropbr
for name, value in {SMALL!r}.items():
    setattr(neuropbr, name, value)
runpy.run_module("datasets_builders.neuropbr", run_name="__main__")
"""
"""`python -m datasets_builders.neuropbr`, but for the blocks."""


def test_a_killed_build_goes_on_and_ends_in_the_same_bytes(built, tmp_path):
    out, partial_folder = tmp_path / "pbr", tmp_path / "pbr.partial"
    typed = f"--out {out} --materials 20 --size 32 --dirty 0.4 --workers 1".split()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *typed], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(partial_folder.glob("blocks/*.arrow"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(partial_folder.glob("blocks/*.arrow")))
    assert not out.exists() and 2 <= kept < 10
    assert contents(build(Config(out, **OPTIONS, workers=1))) == contents(built)
    assert not partial_folder.exists()


def test_two_processes_make_the_same_bytes(built, tmp_path):
    assert contents(build(Config(tmp_path / "pbr", **OPTIONS, workers=2))) == contents(built)


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same_bytes_and_says_what_is_wrong(built, tmp_path):
    ray = pytest.importorskip("ray")
    photos, maps = tree(tmp_path)
    (photos / "clean/sample_0/0.png").write_bytes((photos / "clean/sample_0/0.png").read_bytes()[:-300])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert contents(build(Config(tmp_path / "pbr", **OPTIONS, engine="ray"))) == contents(built)
        said = refusal(Config(tmp_path / "out", from_folder=(photos, maps), engine="ray"))
    finally:
        ray.shutdown()
    assert "clean/sample_0/0.png is damaged" in said


def test_published_it_loads_from_the_hub(built, hub, tmp_path):
    main(Config(built, **OPTIONS, push_to="org/pbr"))
    files = hub.repo("org/pbr", "datasets").at("main").files
    assert contents(built) == {path: blob.sha256 for path, blob in files.items() if path != ".gitattributes"}
    theirs, ours = load("org/pbr", tmp_path), load(built, tmp_path)
    assert {name: part["material"][:] for name, part in theirs.items()} == {
        name: part["material"][:] for name, part in ours.items()
    }
    assert np.array_equal(theirs["train"][0]["views"][0], ours["train"][0]["views"][0])


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"materials": 0}, "--materials must be at least 1, got 0"),
        ({"size": 8}, "--size must be from 16 to 4096, or 0, got 8"),
        ({"photo": 8}, "--photo must be from 16"),
        ({"views": 0}, "--views must be from 1 to 16, got 0"),
        ({"views": 100}, "--views must be from 1 to 16, got 100"),
        ({"dirty": 1.5}, "--dirty must be from 0 to 1"),
        ({"supersample": 0}, "--supersample"),
        ({"seed": -1}, "must not be negative"),
        ({"real": True, "matsynth": "org/x"}, "choose one"),
        ({"real": True, "push_to": "org/x"}, "not for publishing"),
        ({"push_to": "pbr"}, "org/name"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(options, message, tmp_path):
    assert message in refusal(Config(tmp_path / "pbr", **options))
    assert list(tmp_path.iterdir()) == []


def test_what_stands_at_out_is_not_touched(built, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    before, finished = contents(tmp_path), contents(built)
    assert "exists already" in refusal(Config(tmp_path / "mine", **OPTIONS))
    assert "is finished already" in refusal(Config(built, **OPTIONS))
    assert contents(tmp_path) == before and contents(built) == finished


def test_a_full_disk_is_one_line_and_the_build_goes_on_later(built, tmp_path):
    """A limit on the size of files stands in for the disk: the kernel refuses the write just so."""
    out = tmp_path / "pbr"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        assert "cannot write" in refusal(Config(out, **OPTIONS, workers=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not out.exists() and not list(tmp_path.rglob("*.tmp"))
    assert contents(build(Config(out, **OPTIONS, workers=1))) == contents(built)


# --- folders of pictures ----------------------------------------------------------------------------------------


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def tree(root: Path, side: int = 32) -> tuple[Path, Path]:
    """Two materials and four samples: clean 0, 1 and 10, dirty 1; names zero padded or not."""
    photos, maps = root / "input", root / "output"
    for number, path in enumerate(("clean/sample_0", "clean/sample_10", "clean/sample_01", "dirty/sample_1")):
        (photos / path).mkdir(parents=True)
        for view in range(3):
            Picture.fromarray(noise(10 * number + view, side, side, 3)).save(photos / path / f"{view}.png")
    for number, name in enumerate(("oak", "wet stone")):
        (maps / name).mkdir(parents=True)
        Picture.fromarray(noise(100 + number, side, side, 3)).save(maps / name / "albedo.png")
        Picture.fromarray(noise(200 + number, side, side)).save(maps / name / "roughness.png")
        Picture.fromarray(noise(300 + number, side, side)).save(maps / name / "metallic.png")
        flat = noise(400 + number, side, side, 3)
        flat[..., 2] |= 128
        Picture.fromarray(flat).save(maps / name / "normal.png")
    said = {"sample_0": "oak", "sample_1": "wet stone", "sample_0010": "oak"}
    (photos / "render_metadata.json").write_text(json.dumps(said))
    return photos, maps


def test_a_folder_of_pictures_becomes_rows_with_the_same_files(tmp_path):
    photos, maps = tree(tmp_path)
    before = contents(tmp_path)
    out = build(Config(tmp_path / "mine", from_folder=(photos, maps), size=32, workers=1))
    data = load(out, tmp_path)
    rows = [row for part in data.values() for row in part.cast_column("views", List(Image(decode=False)))]
    found = {(row["condition"], row["material"], row["views"][1]["bytes"]) for row in rows}
    assert found == {
        (condition, material, (photos / condition / sample / "1.png").read_bytes())
        for condition, sample, material in (
            ("clean", "sample_0", "oak"),
            ("clean", "sample_01", "wet stone"),
            ("clean", "sample_10", "oak"),
            ("dirty", "sample_1", "wet stone"),
        )
    }
    for row in rows:
        assert row["homography"] is None and row["camera"] is None and row["height"] is None
        assert row["split"] == split(row["material"])
        assert np.array_equal(row["roughness"], Picture.open(maps / row["material"] / "roughness.png"))
    assert {
        name: digest for name, digest in contents(tmp_path).items() if name.startswith(("input", "output"))
    } == before
    assert str(tmp_path) not in (out / "build.json").read_text() + (out / "README.md").read_text()


def save(array: np.ndarray, mode: str = "") -> "partial[None]":
    image = Picture.fromarray(array)
    return partial((image.convert(mode) if mode else image).save)


def png_of_16_bits(path: Path, side: int = 32) -> None:
    """RGB, which PIL cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + b"\x80\x34\x80\x12\xf0\x00" * side for _ in range(side))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_pictures_whose_meaning_is_clear_are_taken(tmp_path):
    photos, maps = tree(tmp_path)
    oak = maps / "oak"
    levels = noise(1, 32, 32)
    save(levels)(photos / "clean/sample_0/0.png")  # grey
    opaque = np.dstack([noise(2, 32, 32, 3), np.full((32, 32), 255, np.uint8)])
    save(opaque)(photos / "clean/sample_0/1.png")
    Picture.fromarray(noise(3, 32, 32, 3)).convert("P").save(photos / "clean/sample_0/2.png")
    save(levels.astype(np.uint16) * 257)(oak / "roughness.png")
    save(np.dstack([levels] * 3))(oak / "metallic.png")
    png_of_16_bits(oak / "normal.png")
    upside_down = Picture.Exif()
    upside_down[0x0112] = 3
    Picture.fromarray(noise(5, 32, 32, 3)).save(oak / "albedo.png", exif=upside_down)
    data = load(build(Config(tmp_path / "mine", from_folder=(photos, maps), workers=1)), tmp_path)
    row = next(row for part in data.values() for row in part if row["material"] == "oak")
    assert [view.mode for view in row["views"]] == ["RGB"] * 3
    assert np.array_equal(row["views"][0], np.dstack([levels] * 3)) and np.array_equal(row["views"][1], opaque[..., :3])
    assert (np.asarray(row["roughness"]) == levels.astype(np.uint16) * 257).all()
    assert np.array_equal(row["metallic"], levels) and row["normal"].getpixel((0, 0)) == (128, 128, 240)
    assert np.array_equal(row["albedo"], noise(5, 32, 32, 3)[::-1, ::-1])


def bomb(path: Path) -> None:
    """A few bytes that say they are 30,000 x 30,000."""
    save(noise(0, 4, 4))(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def cmyk(path: Path) -> None:
    Picture.fromarray(noise(0, 32, 32, 4), "CMYK").save(path, "JPEG")


def metadata(said: object):
    return lambda path: path.write_text(said if isinstance(said, str) else json.dumps(said))


META, VIEW, OAK = "input/render_metadata.json", "input/clean/sample_0/1.png", "output/oak"
RGBA = np.dstack([noise(0, 32, 32, 3), noise(1, 32, 32)])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (META, Path.unlink, "render_metadata.json is missing"),
        (META, metadata("{"), "cannot be read as JSON"),
        (META, metadata(["oak"]), "must be an object"),
        (META, metadata({"sample_0": 5}), "wants entries such as"),
        (META, metadata({"sample_0": "../oak"}), "wants entries such as"),
        (META, metadata({"sample_0": "oak", "sample_1": "oak"}), "does not say which material clean/sample_10 is of"),
        (META, metadata({f"sample_{n}": "oak" for n in (0, 1, 10, 7)}), "names sample_7, but neither"),
        (META, metadata({f"sample_{n}": "gold" for n in (0, 1, 10)}), "output/gold/albedo.png is missing"),
        (VIEW, Path.unlink, f"{VIEW} is missing"),
        ("input/clean/sample_0/3.png", save(noise(0, 32, 32, 3)), "more photos than 3"),
        ("input/clean/sample_00", Path.mkdir, "have the same number"),
        ("input/dirty/other", Path.mkdir, "is not named sample_N"),
        (f"{OAK}/metallic.png", Path.unlink, "metallic.png is missing"),
        (VIEW, save(noise(0, 32, 16, 3)), f"{VIEW} is 16 x 32, 0.png is 32 x 32"),
        (f"{OAK}/normal.png", save(noise(0, 64, 64, 3)), "normal.png is 64 x 64, not 32 x 32 as --size says"),
        (VIEW, truncate, f"{VIEW} is damaged"),
        (f"{OAK}/albedo.png", truncate, "albedo.png is damaged"),
        (VIEW, metadata("hello"), f"{VIEW} is not a picture"),
        (VIEW, save(noise(0, 32, 32).astype(np.uint16)), f"{VIEW} has 16 bits"),
        (f"{OAK}/albedo.png", png_of_16_bits, "albedo.png has 16 bits"),
        (VIEW, save(RGBA), f"{VIEW} is transparent in places"),
        (f"{OAK}/normal.png", save(RGBA | 128), "normal.png is transparent in places"),
        (VIEW, cmyk, f"{VIEW} is CMYK"),
        (f"{OAK}/roughness.png", cmyk, "roughness.png is CMYK"),
        (f"{OAK}/roughness.png", save(noise(0, 32, 32, 3)), "roughness.png is coloured"),
        (f"{OAK}/normal.png", save(noise(0, 32, 32)), "a normal map has three channels"),
        (f"{OAK}/normal.png", save(noise(0, 32, 32, 3) >> 1), "is not a normal map"),
        (VIEW, bomb, f"{VIEW} has far more than"),
        (f"{OAK}/albedo.png", bomb, "albedo.png has far more than"),
    ],
)
def test_bad_pictures_are_named_and_nothing_is_lost(file, change, message, tmp_path):
    photos, maps = tree(tmp_path)
    change(tmp_path / file)
    before = contents(tmp_path)
    assert message in refusal(Config(tmp_path / "mine", from_folder=(photos, maps), size=32, workers=1))
    assert not (tmp_path / "mine").exists()
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before


# --- MatSynth ---------------------------------------------------------------------------------------------------

SCHEMA = Features(
    {
        "name": Value("string"),
        "category": ClassLabel(names=list(CATEGORIES)),
        "metadata": {
            "authors": List(Value("string")),
            "license": Value("string"),
            "physical_size": Value("string"),
            "source": Value("string"),
            "height_factor": Value("float32"),
        },
        **{name: Image() for name in ("basecolor", "diffuse", "displacement", "height", "metallic", "normal")},
        **{name: Image() for name in ("opacity", "roughness", "specular", "blend_mask")},
    }
)


def matsynth(names: list[str], missing: dict[str, str]) -> Dataset:
    """Rows of that schema; `missing` says which map one of them lacks."""
    rows = []
    for number, name in enumerate(names):
        made = make(number, 32)
        files = neuropbr.pictures(made.maps)
        row = dict.fromkeys(SCHEMA) | {
            "name": name,
            "category": number % 13,
            "metadata": {
                "authors": ["A", "B"],
                "license": "CC-BY 4.0",
                "physical_size": "0.5",
                "source": "somewhere",
                "height_factor": 2.0,
            },
            "diffuse" if number % 2 else "basecolor": files["albedo"],
            **{key: files[key] for key in ("roughness", "metallic", "normal")},
        }
        row |= {missing[name]: None} if name in missing else {}
        rows.append(row)
    return Dataset.from_list(rows, features=SCHEMA)


@pytest.fixture(scope="module")
def synth(tmp_path_factory) -> tuple[Path, DatasetDict]:
    """Two files of train, a group of three rows each, one of test; b lacks a map, and t1 is in both."""
    root = tmp_path_factory.mktemp("synth")
    train = matsynth(["a", "b", "c", "d", "e", "t1"], {"b": "metallic"})
    data = DatasetDict(train=train, test=matsynth(["t0", "t1", "t2"], {"t2": "normal"}))
    for number in range(2):
        part = train.select(range(3 * number, 3 * number + 3))
        part.to_parquet(root / f"train-0000{number}-of-00002.parquet", batch_size=2)
    data["test"].to_parquet(root / "test-00000-of-00001.parquet")
    return root, data


def test_matsynth_from_a_folder(synth, tmp_path):
    root, _ = synth
    out = build(Config(tmp_path / "pbr", matsynth=str(root), materials=100, size=32, workers=1))
    data = load(out, tmp_path)
    rows = {row["material"]: row for part in data.values() for row in part}
    assert set(rows) == {"a", "c", "d", "e", "t0", "t1"}
    assert "Of 9 rows 3 were left out" in (out / "README.md").read_text()
    for name, row in rows.items():
        official = "test" if name.startswith("t") else "validation" if split(name) == "validation" else "train"
        assert row["split"] == official
        assert (row["license"], row["author"], row["source"]) == ("CC-BY 4.0", "A, B", "somewhere")
        assert row["physical_size"] == 0.5 and json.loads(row["metadata"])["height_factor"] == 2.0
    for name, number in (("a", 0), ("c", 2), ("d", 3), ("e", 4), ("t0", 0)):
        assert rows[name]["category"] == CATEGORIES[number]
        maps = decoded(rows[name])[2]
        assert (maps["albedo"] - make(number, 32).maps["albedo"]).abs().max() < 0.01
    few = load(build(Config(tmp_path / "few", matsynth=str(root), materials=1, size=32, workers=1)), tmp_path)
    assert {name: part["material"][:] for name, part in few.items()} == {rows["a"]["split"]: ["a"], "test": ["t0"]}


def test_matsynth_from_the_hub(synth, hub, tmp_path):
    root, data = synth
    data.push_to_hub("org/synth")
    ours = build(Config(tmp_path / "ours", matsynth=str(root), size=32, views=1, workers=1))
    theirs = build(Config(tmp_path / "theirs", matsynth="org/synth", size=32, views=1, workers=1))
    different = {name for name, digest in contents(ours).items() if contents(theirs)[name] != digest}
    assert different == {"build.json"}  # it says which files, or which commit


def test_what_is_no_matsynth_is_one_line(built, tmp_path):
    assert "is not MatSynth: it has no basecolor" in refusal(Config(tmp_path / "pbr", matsynth=str(built)))
    assert "cannot read" in refusal(Config(tmp_path / "pbr", matsynth=str(tmp_path / "nowhere")))
    assert list(tmp_path.iterdir()) == []


# --- reading it back for training -------------------------------------------------------------------------------


def test_stored_rows_are_batches_like_those_made_on_the_spot(built):
    rows, live = Stored(str(built), 8, 3, 16, 3), Photographed(4, 0, 16, 3, 0.5)
    ours, theirs = (default_collate([some[n] for n in range(4)]) for some in (rows, live))
    assert {name: (one.shape, one.dtype) for name, one in ours.items()} == {
        name: (one.shape, one.dtype) for name, one in theirs.items()
    }
    assert len(rows) == 8 and all(torch.equal(rows[5][name], rows[5][name]) for name in ours)
    other = Stored(str(built), 8, 4, 16, 3)
    assert not torch.equal(rows[0]["albedo"], other[0]["albedo"])
    assert not (ours["views"] * (1 - ours["seen"])).any()
    assert torch.allclose(ours["normal"].norm(dim=1), torch.ones(4, 16, 16), atol=1e-4)
    with pytest.raises(ValueError, match="no crops of 64"):
        Stored(str(built), 0, 0, 64, 3)[0]


def test_stored_photos_lie_on_their_maps(built):
    """The rectified crop of a photo is like the crop of the albedo, and not like that crop turned."""
    rows = Stored(str(built), 60, 0, 16, 1, curriculum=0)
    alike, turned = [], []
    for row in (rows[n] for n in range(60)):
        where = row["seen"][0, 0] > 0
        photo, albedo = row["views"][0].mean(0), row["albedo"].mean(0)
        if where.float().mean() > 0.9 and albedo.std() > 0.05 and row["metallic"].mean() < 0.1:
            alike.append(float(torch.corrcoef(torch.stack([photo[where], albedo[where]]))[0, 1]))
            turned.append(float(torch.corrcoef(torch.stack([photo[where], albedo.rot90()[where]]))[0, 1]))
    assert len(alike) >= 5 and np.mean(alike) > 0.6 > 0.3 > np.mean(turned), (alike, turned)


def test_stored_light_is_that_of_the_photos(built):
    """Where a photo's flash is all there is to tell it from another, so is its light."""
    rows = load_dataset(str(built), split="train")
    told = json.loads(rows[0]["lights"])
    found = directions(rows[0]["lights"])
    assert found.shape == (len(told), 3) and (found[:, 2] > 0).all()
    for one, direction in zip(told, found, strict=True):
        position, color = np.array(one["position"][0]), np.array(one["color"][0]) @ LUMINANCE
        away = np.linalg.norm(position, axis=1)
        given = color * np.clip(position[:, 2], 0, None) / away**3
        expected = (position / away[:, None] * given[:, None]).sum(0) / given.sum()
        np.testing.assert_allclose(direction.numpy(), expected, atol=1e-5)
    batch = Stored(str(built), 0, 0, 16, 3)[0]
    some = {tuple(one) for one in batch["light"].tolist() if any(one)}
    assert some and some <= {tuple(one) for one in found.tolist()}


def test_stored_photos_without_homography_are_taken_as_they_are(tmp_path):
    photos, maps = tree(tmp_path)
    out = build(Config(tmp_path / "mine", from_folder=(photos, maps), workers=1))
    name = split("oak")
    row = Stored(str(out), 0, 0, 32, 3, 0, name)[0]
    files = [to_unit(from_pil(Picture.open(photos / f"clean/sample_0/{view}.png"))) for view in range(3)]
    first = row["views"][0]
    assert any(torch.equal(first, file) for file in files)
    assert not row["light"].any(), "nobody knows it"
    assert torch.allclose(row["albedo"], to_unit(from_pil(Picture.open(maps / "oak/albedo.png"))), atol=1e-5)
    assert Stored(str(out), 0, 0, 16, 3, 1, name)[0]["views"].shape == (3, 3, 16, 16)


def test_curricula_take_clean_and_dirty_rows(built, tmp_path):
    conditions = load(built, tmp_path, split="train")["condition"][:]
    counts = [len(Stored(str(built), 0, 0, 16, 3, curriculum)) for curriculum in range(3)]
    assert counts == [conditions.count("clean"), len(conditions), conditions.count("dirty")]
    with pytest.raises(ValueError, match="curriculum is 0"):
        Stored(str(built), 0, 0, 16, 3, 3)
    clean = build(Config(tmp_path / "clean", materials=2, size=32, views=1, dirty=0, workers=1))
    with pytest.raises(FileNotFoundError, match="has no dirty photos in train"):
        Stored(str(clean), 0, 0, 16, 3, 2)


@pytest.mark.parametrize(("data", "name"), [("nowhere", "train"), ("", "test_real"), ("plain", "train")])
def test_missing_data_is_one_line(data, name, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plain").mkdir()
    Path("plain/a.csv").write_text("a\n1\n")
    with pytest.raises(FileNotFoundError) as refused:
        Stored(data or str(built), 0, 0, 16, 3, name=name)
    assert "\n" not in str(refused.value)
