"""Folders of hidden and corrupted objects, opened as a user opens them."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import load_dataset
from loopback_hub import LoopbackHub
from PIL import Image

from datasets_builders import lens_assets
from datasets_builders.folder import BuildError
from datasets_builders.lens import Config, build, main, settings
from hubmodels.images import from_uint8, to_uint8
from hubmodels.lens import camo
from hubmodels.lens.corruptions import CORRUPTIONS, corrupt


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    build(Config(out / "camo", rows=100, tree=out / "tree", workers=1))
    return out


def load(where: Path, tmp_path: Path, name: str = "default") -> Any:
    return load_dataset(str(where), name, cache_dir=str(tmp_path / "cache"))


def levels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).movedim(-1, 0)


def test_camo_opens_with_masks_names_and_splits(built: Path, tmp_path: Path) -> None:
    opened = load(built / "camo", tmp_path)
    assert sum(len(split) for split in opened.values()) == 100 and len(opened["test"]) == 10
    assert opened["train"].features["label"].names == list(camo.CLASSES)
    for split, rows in opened.items():
        for row in list(rows)[:5]:
            made = camo.scenes(split, 0, [row["index"]])
            assert torch.equal(levels(row["image"]), made.pictures[0])
            assert np.array_equal(np.array(row["mask"]) > 0, made.masks[0].numpy())
            assert row["label"] == row["index"] % 10 and camo.CLASSES[row["label"]].title() in row["name"]


def test_the_tree_is_that_of_cod10k(built: Path) -> None:
    files = sorted(str(path.relative_to(built / "tree")) for path in (built / "tree").rglob("*") if path.is_file())
    assert len(files) == 200
    assert "COD10K/Test/Image/COD10K-CAM-1-Terrestrial-1-Bear-91.jpg" in files
    assert "COD10K/Test/GT_Object/COD10K-CAM-1-Terrestrial-1-Bear-91.png" in files


def test_a_real_tree_becomes_the_same_rows(built: Path, tmp_path: Path) -> None:
    out = build(Config(tmp_path / "real", from_disk=built / "tree", workers=1))
    real, made = load(out, tmp_path), load(built / "camo", tmp_path / "other")
    for split in made:
        names = {row["name"]: row for row in made[split]}
        assert {row["name"] for row in real[split]} == set(names)
        row = real[split][0]
        assert row["label"] == names[row["name"]]["label"]
        assert np.array_equal(np.array(row["mask"]), np.array(names[row["name"]]["mask"]))
        assert row["image"].format == "JPEG"


def test_corruptions_are_configurations(tmp_path: Path) -> None:
    config = Config(tmp_path / "c", "cifar10-c", 10, corruptions=("fog", "pixelate"), tree=tmp_path / "t", workers=1)
    out = build(config)
    fog = sorted((row for split in load(out, tmp_path, "fog").values() for row in split), key=lambda row: row["index"])
    assert [row["severity"] for row in fog] == [s for s in range(1, 6) for _ in range(10)]
    row = fog[27]
    splits = load(out, tmp_path, "fog")
    split = next(name for name, rows in splits.items() if row["index"] in rows["index"])
    clear = from_uint8(camo.scenes(split, 0, [7], "clear", 32).pictures)
    assert torch.equal(levels(row["image"]), to_uint8(corrupt(clear, "fog", 3, 7))[0])
    array = np.load(tmp_path / "t/CIFAR-10-C/fog.npy")
    assert array.shape == (50, 32, 32, 3) and np.array_equal(array[27], np.array(row["image"]))
    again = build(Config(tmp_path / "real", "cifar10-c", from_disk=tmp_path / "t", workers=1))
    real = [row for split in load(again, tmp_path / "r", "fog").values() for row in split]
    assert str(tmp_path) not in (again / "build.json").read_text() + (again / "README.md").read_text()
    assert "--corruptions fog pixelate" in (out / "README.md").read_text()
    assert np.array_equal(np.array(sorted(real, key=lambda row: row["index"])[27]["image"]), array[27])


def test_all_corruptions_are_made_if_none_is_named(tmp_path: Path) -> None:
    assert list(settings(Config(tmp_path, "imagenet-c", 5))["parts"].items()) == [(name, 25) for name in CORRUPTIONS]


def test_it_is_published_once_and_loads_from_the_hub(built: Path, tmp_path: Path, hub: LoopbackHub) -> None:
    config = Config(built / "camo", rows=100, tree=built / "tree", push_to="org/camo")
    commits = []
    for _ in range(2):
        main(config)
        commits.append(len(list(hub.repo("org/camo", "datasets").history("main"))))
    assert commits[0] == commits[1]
    assert len(load_dataset("org/camo", split="test", cache_dir=str(tmp_path))) == 10


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(Path("x"), rows=-1), "must not be negative"),
        (Config(Path("x"), size=8), "--size must be from 16 to 512, got 8"),
        (Config(Path("x"), corruptions=("fog",)), "camo hides animals in its own ways, see --task"),
        (Config(Path("x"), "cifar10-c", corruptions=("smoke",)), "there is no corruption 'smoke'; there are gaussian"),
        (Config(Path("x"), from_disk=Path("nowhere")), "nowhere/COD10K/Train/Image is not there: unpack COD10K-v3"),
        (Config(Path("x"), "imagenet-c", from_disk=Path("nowhere")), "nowhere/ImageNet-C is not there"),
        (Config(Path("x"), from_disk=Path("a"), tree=Path("b")), "--tree writes what is made up"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_line(config: Config, message: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=message):
        build(replace(config, out=tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_tree_in_the_way_is_kept(built: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="COD10K exists already; remove it or choose another --tree"):
        build(Config(tmp_path / "out", rows=10, tree=built / "tree"))
    assert not (tmp_path / "out").exists()


# --- what scenes are made of -----------------------------------------------------------------------------------------


def test_an_array_is_taken_out_of_a_pickle_without_running_it() -> None:
    import gzip
    import pickle

    given = np.arange(5000, dtype=np.uint8).reshape(50, 100)

    class Evil:
        def __reduce__(self) -> tuple:
            return (pytest.fail, ("it was run",))

    content = gzip.compress(pickle.dumps([Evil(), given]))
    assert lens_assets.array(content) == given.tobytes()
    with pytest.raises(BuildError, match="holds no array"):
        lens_assets.array(gzip.compress(pickle.dumps(3)))


def test_textures_are_even_and_alike() -> None:
    ramp = np.add.outer(np.arange(512), np.arange(512)) // 8
    grain = np.random.default_rng(0).integers(0, 60, (512, 512))
    file = io.BytesIO()
    Image.fromarray((ramp + grain).clip(0, 255).astype(np.uint8)).save(file, "PNG")
    even = lens_assets.texture(file.getvalue())
    assert even.shape == (camo.TEXTURE, camo.TEXTURE)
    assert abs(float(even.mean()) - 128) < 2 and float(even.std()) == pytest.approx(lens_assets.DEVIATION, rel=0.05)
    quarters = [float(even[y : y + 128, x : x + 128].mean()) for y in (0, 128) for x in (0, 128)]
    assert max(quarters) - min(quarters) < 10  # as they were, 80 and more


def test_a_sheet_of_silhouettes_keeps_every_level() -> None:
    given = np.random.default_rng(0).integers(0, 4, (230, camo.SIDE, camo.SIDE)).astype(np.uint8)
    opened = np.array(Image.open(io.BytesIO(lens_assets.sheet(given))).convert("L"))
    tiles = (
        opened.reshape(-1, camo.SIDE, camo.ACROSS, camo.SIDE).transpose(0, 2, 1, 3).reshape(-1, camo.SIDE, camo.SIDE)
    )
    assert np.array_equal(tiles[:230], np.array(lens_assets.GREYS)[given])
