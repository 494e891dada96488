"""Loaders of the four real data sets, on folders that the builder plants as their authors do."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_builders.lens import Config, build
from hubmodels.images import from_uint8
from hubmodels.lens import camo, data
from hubmodels.lens.data import Row, balanced, opened

ROWS = 200


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    tree = out / "data"
    build(Config(out / "camo", rows=ROWS, tree=tree, workers=1))
    for kind in ("cifar10-c", "cifar100-c", "tiny-imagenet-c", "imagenet-c"):
        build(Config(out / kind, kind, 20, size=32, corruptions=("fog", "contrast"), tree=tree, workers=1))
    return tree


def test_cod10k_is_read_with_its_own_splits(root: Path) -> None:
    splits = {split: opened("cod", root, split, size=32) for split in data.SPLITS}
    assert all(found.classes == camo.CLASSES for found in splits.values())
    names = {split: {row.source for row in found.rows} for split, found in splits.items()}
    assert names["train"] | names["validation"] | names["test"] == names["all"]
    assert sum(map(len, splits.values())) == 2 * ROWS and len(splits["test"]) == ROWS // 10
    picture, label = splits["test"][0]
    source = splits["test"].rows[0].source
    assert isinstance(source, Path) and camo.CLASSES[label].title() in source.name
    assert picture.shape == (3, 32, 32) and picture.min() >= -1 and picture.max() <= 1


def test_names_of_classes_are_words() -> None:
    assert data.cod10k_class("COD10K-CAM-1-Aquatic-9-GhostPipefish-399.jpg") == "ghost pipefish"
    assert data.cod10k_class("COD10K-CAM-3-Flying-55-Owl-12.jpg") == "owl"
    assert data.cod10k_class("COD10K-NonCAM-1-Aquatic-1.jpg") is None
    assert data.cod10k_class("IMG_1.jpg") is None


def test_files_without_a_class_are_left_out_and_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "COD10K", tmp_path / "COD10K")
    first = next((tmp_path / "COD10K/Train/Image").iterdir())
    shutil.copy(first, first.with_name("COD10K-CAM-strange.jpg"))
    shutil.copy(first, first.with_name("COD10K-NonCAM-1-Aquatic-1-x-7.jpg"))
    with pytest.warns(UserWarning, match="left out 1 files whose names say no class, such as Train/Image/COD10K-CAM"):
        found = opened("cod", tmp_path, "all")
    assert len(found) == ROWS and found.left_out == ("Train/Image/COD10K-CAM-strange.jpg",)


@pytest.mark.parametrize("severity", [1, 5])
def test_blocks_of_cifar_are_the_severities(root: Path, severity: int) -> None:
    found = opened("cifar10-c", root, "all", "fog", severity, 32)
    block = np.load(root / "CIFAR-10-C/fog.npy")[20 * (severity - 1) : 20 * severity]
    assert len(found) == 20 and found.classes == camo.CLASSES
    made = torch.stack([found[number][0] for number in range(20)])
    torch.testing.assert_close(made, from_uint8(torch.from_numpy(block).permute(0, 3, 1, 2)))
    assert [found[number][1] for number in range(20)] == [number % 10 for number in range(20)]


def test_without_names_of_its_own_it_is_cifar(root: Path, tmp_path: Path) -> None:
    for name, count in (("CIFAR-10-C", 10), ("CIFAR-100-C", 100)):
        shutil.copytree(root / name, tmp_path / name)
        (tmp_path / name / "classes.txt").unlink()
        found = opened(name.lower().replace("cifar-", "cifar"), tmp_path, "all", "fog")
        assert len(found.classes) == count == len(set(found.classes))
    assert found.classes[8] == "bicycle" and data.CIFAR10[4] == "deer"


@pytest.mark.parametrize("dataset", ["tiny-imagenet-c", "imagenet-c"])
def test_folders_are_named_by_wordnet(root: Path, dataset: str) -> None:
    found = opened(dataset, root, "all", "contrast", 2, 32)
    assert sorted(found.classes) == sorted(camo.CLASSES) and len(found) == 20
    assert Counter(row.label for row in found.rows) == {number: 2 for number in range(10)}
    bears = {path.name for path in (root / data.FOLDERS[dataset] / "contrast/2/n02131653").iterdir()}
    label = found.classes.index("bear")
    assert {row.source.name for row in found.rows if row.label == label and isinstance(row.source, Path)} == bears


def test_names_that_two_share_are_told_apart(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "ImageNet-C", tmp_path / "ImageNet-C")
    names = (root / "ImageNet-1000/LOC_synset_mapping.txt").read_text()
    names = names.replace(" bird", " crane, bird crane").replace(" dog", " crane, machine").replace(" cat", " cow, x")
    names = names.replace("n01887787 cow", "n01887787 cow, x")
    (tmp_path / "ImageNet-1000").mkdir()
    (tmp_path / "ImageNet-1000/LOC_synset_mapping.txt").write_text(names)
    classes = opened("imagenet-c", tmp_path, "all", "fog").classes
    assert len(set(classes)) == 10
    assert {"crane, bird crane", "crane, machine", "cow, x (n01887787)", "cow, x (n02121620)"} <= set(classes)


def test_splits_of_a_test_set_keep_a_picture_together(root: Path) -> None:
    for split in ("train", "validation", "test"):
        numbers = [
            [row.source % 20 for row in opened("cifar10-c", root, split, name, severity).rows]  # pyright: ignore
            for name in ("fog", "contrast")
            for severity in data.SEVERITIES
        ]
        assert all(one == numbers[0] for one in numbers)


def test_scenes_are_corrupted_as_they_are_asked_for() -> None:
    clear, fog = (opened("camo", "", "test", name, 4, 32) for name in ("clear", "fog"))
    assert clear.classes == camo.CLASSES and len(fog) == data.CAMO_ROWS["test"]
    assert torch.equal(fog[3][0], fog[3][0]) and not torch.equal(fog[3][0], clear[3][0])
    assert torch.equal(clear[7][0], camo.scene("test", 0, 7, "clear", 32)[0]) and clear[7][1] == 7


def test_subsets_have_as_many_of_each_class_as_can_be() -> None:
    rows = [Row(number, 0 if number < 90 else 1 + number % 2) for number in range(100)]
    taken = balanced(rows, 30, 0)
    assert Counter(row.label for row in taken) == {0: 20, 1: 5, 2: 5}
    assert Counter(row.label for row in balanced(rows, 9, 0)) == {0: 3, 1: 3, 2: 3}
    assert taken == balanced(rows, 30, 0) != balanced(rows, 30, 1)
    assert len(set(taken)) == 30
    with pytest.raises(ValueError, match="from 1 to 100 rows can be taken, got 101"):
        balanced(rows, 101, 0)


def test_a_picture_is_never_distorted(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    picture = data.square(Image.fromarray(wide), 20)
    assert picture.shape == (3, 20, 20) and (picture == 1).all()


def broken(root: Path, tmp_path: Path, what: str) -> None:
    """One thing of a data set is not as it should be."""
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    if what == "labels":
        np.save(tmp_path / "CIFAR-10-C/labels.npy", np.zeros(7, int))
    elif what == "numbers":
        np.save(tmp_path / "CIFAR-10-C/labels.npy", np.full(100, 12))
    elif what == "cut":
        path = tmp_path / "CIFAR-10-C/fog.npy"
        path.write_bytes(path.read_bytes()[:1000])
    elif what == "pickle":
        np.save(tmp_path / "CIFAR-10-C/fog.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif what == "empty":
        for path in (tmp_path / "ImageNet-C/fog/3/n02131653").iterdir():
            path.unlink()
    elif what == "class":
        shutil.rmtree(tmp_path / "ImageNet-C/fog/3/n02131653")
    elif what == "names":
        (tmp_path / "ImageNet-1000/LOC_synset_mapping.txt").unlink()
    elif what == "severity":
        shutil.rmtree(tmp_path / "ImageNet-C/fog/3")
    elif what == "half":
        shutil.rmtree(tmp_path / "COD10K/Test")


@pytest.mark.parametrize(
    ("what", "dataset", "message"),
    [
        (
            "labels",
            "cifar10-c",
            "labels.npy must be 100 whole numbers, one for each picture of fog.npy, got int64 of .7",
        ),
        ("numbers", "cifar10-c", "labels.npy must be from 0 to 9, got 12 to 12"),
        ("cut", "cifar10-c", "fog.npy is damaged, download it again"),
        ("pickle", "cifar10-c", "fog.npy is damaged"),
        ("empty", "imagenet-c", "n02131653 has no pictures: 1 classes are incomplete, unpack the archive from https"),
        ("class", "imagenet-c", "has no folder n02131653, other severities have"),
        ("names", "imagenet-c", "LOC_synset_mapping.txt is not there: it says what classes are called; it comes from"),
        ("severity", "imagenet-c", "severities that are there: 1, 2, 4, 5. It comes from https://github.com/hendrycks"),
        ("half", "cod", "Test/Image is not there: unpack COD10K-v3 into .*; it comes from https://github.com/DengPing"),
    ],
)
def test_what_is_wrong_is_named(root: Path, tmp_path: Path, what: str, dataset: str, message: str) -> None:
    broken(root, tmp_path, what)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        opened(dataset, tmp_path, "all", "" if dataset == "cod" else "fog", 3)


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ("cifar", {}, "there is no data set 'cifar', did you mean 'cifar1"),
        ("camo", {"split": "dev"}, "split must be one of train, validation, test, all, got 'dev'"),
        ("camo", {"split": "all"}, "scenes of camo have no end"),
        ("camo", {"corruption": "fogg"}, "there is no task or corruption 'fogg', did you mean 'fog'"),
        ("camo", {"severity": 0}, "severity must be 1, 2, 3, 4 or 5, got 0"),
        ("camo", {"severity": 6}, "got 6"),
        ("camo", {"size": 4}, "size must be at least 8 pixels, got 4"),
        ("cod", {"corruption": "fog"}, "cod is published without corruptions, got 'fog'"),
        ("cifar10-c", {}, "cifar10-c needs the name of a corruption; there are contrast, fog"),
        ("cifar10-c", {"corruption": "smoke"}, "there is no corruption 'smoke'"),
        ("cifar10-c", {"corruption": "snow"}, "snow.npy is not there, contrast, fog is; the rest comes from https"),
    ],
)
def test_what_makes_no_sense_is_refused(root: Path, dataset: str, settings: dict, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        opened(dataset, root, **settings)


def test_an_absent_folder_says_where_the_data_comes_from(tmp_path: Path) -> None:
    for dataset in ("cod", "cifar10-c", "cifar100-c", "tiny-imagenet-c", "imagenet-c"):
        with pytest.raises(FileNotFoundError, match="is not there: unpack .* it comes from https://github.com"):
            opened(dataset, tmp_path, corruption="" if dataset == "cod" else "fog")


def test_a_picture_that_cannot_be_read_is_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "COD10K", tmp_path / "COD10K")
    found = opened("cod", tmp_path, "test")
    path = found.rows[0].source
    assert isinstance(path, Path)
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=path.name):
        found[0]
    Image.new("RGB", (1, 1)).save(path)
    with pytest.raises(ValueError, match="has 1 x 1 pixels: at least 8 a side are wanted"):
        found[0]
