"""Data sets of hidden and corrupted objects, as their authors publish them, and the camouflage scenes of `camo`.

    opened("cifar10-c", "data", "test", "fog", 3) -> pictures, labels, names of classes

Pictures are opened when they are asked for, never augmented, and never distorted: the square in their middle is
brought to `size`. Only COD10K has a split of its own; a tenth of its training pictures is for validation. The others
are test sets, and split by the picture: 80 : 10 : 10, the same picture in the same split whatever was done to it. The
published numbers are about "all" of them.
"""

import difflib
import random
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from hubmodels import images
from hubmodels.lens import camo

DATASETS = ("camo", "cod", "cifar10-c", "cifar100-c", "tiny-imagenet-c", "imagenet-c")
SPLITS = ("train", "validation", "test", "all")
VALIDATION, TEST = 0.1, 0.1
"""Shares of the pictures, where a data set has no such split."""
SEVERITIES = (1, 2, 3, 4, 5)
CAMO_ROWS = {"train": 50_000, "validation": 5_000, "test": 10_000}
"""Scenes of each split, ten classes in turn."""
LEAST = 8
"""Pixels a side: smaller pictures show nothing."""
MOST = 8192 * 8192
"""Pixels of a file."""

COD10K_HOME = "https://github.com/DengPingFan/SINet"
CORRUPTED_HOME = "https://github.com/hendrycks/robustness"
FOLDERS = {
    "cifar10-c": "CIFAR-10-C",
    "cifar100-c": "CIFAR-100-C",
    "tiny-imagenet-c": "Tiny-ImageNet-C",
    "imagenet-c": "ImageNet-C",
}
NAME_FILES = {
    "tiny-imagenet-c": ("tiny-imagenet-200/words.txt", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
    "imagenet-c": ("ImageNet-1000/LOC_synset_mapping.txt", "https://www.image-net.org"),
}
"""What classes are called, below the root, and where it comes from."""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(name.replace("_", " ") for name in _FINE.split())
"""Fine labels, in the order of their numbers."""


@dataclass(frozen=True)
class Row:
    """A picture that was not opened yet, and the number of its class."""

    source: Path | int
    """A file, or a number in an array or of a scene."""
    label: int


@dataclass(frozen=True)
class Pictures(Dataset):
    """Pictures of a data set: [i] is (3, size, size) float32 in [-1, 1], and a label."""

    classes: tuple[str, ...]
    """Names, all different, as they go into a prompt."""
    rows: tuple[Row, ...]
    read: Callable[[Path | int], Tensor]
    left_out: tuple[str, ...] = ()
    """Files whose names say no class."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        """One picture and its label.

        Raises:
            ValueError: it cannot be read; the file is named.
        """
        row = self.rows[number]
        return self.read(row.source), row.label


def opened(
    dataset: str,
    root: str | Path,
    split: str = "train",
    corruption: str = "",
    severity: int = 1,
    size: int = 64,
    seed: int = 0,
) -> Pictures:
    """A data set that lies in a folder below `root`, or the scenes of `camo`, which need none.

    Args:
        dataset: one of `DATASETS`.
        split: one of `SPLITS`; "all" of a published set.
        corruption: of `camo` one of its tasks ("" is "camouflage"), or a corruption, which is done to clear scenes;
            of cod none; else one that was published.
        severity: 1 to 5, of a corruption.
        size: pixels a side.
        seed: of `camo`: another seed, other scenes.

    Raises:
        FileNotFoundError: the folder or a file of it is not there.
        ValueError: no such data set, split, corruption or severity, or what is there is damaged.
    """
    if dataset not in DATASETS:
        raise ValueError(f"there is no data set {dataset!r}{_near(dataset, DATASETS)}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be 1, 2, 3, 4 or 5, got {severity}")
    if size < LEAST:
        raise ValueError(f"size must be at least {LEAST} pixels, got {size}")
    root = Path(root)
    if dataset == "camo":
        return _camo(split, corruption or "camouflage", severity, size, seed)
    if dataset == "cod":
        if corruption:
            raise ValueError(f"cod is published without corruptions, got {corruption!r}")
        return _cod10k(root, split, size)
    if not corruption:
        raise ValueError(f"{dataset} needs the name of a corruption{_near('', published(dataset, root))}")
    open_one = _arrays if dataset.startswith("cifar") else _folders
    return open_one(dataset, root, split, corruption, severity, size)


def balanced(rows: Sequence[Row], n: int, seed: int) -> list[Row]:
    """`n` rows with as many of each class as can be, in random order; a pure function of its arguments.

    Raises:
        ValueError: there are fewer rows.
    """
    if not 0 < n <= len(rows):
        raise ValueError(f"from 1 to {len(rows)} rows can be taken, got {n}")
    rng = random.Random(f"balanced {seed}")
    of_class: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        of_class[row.label].append(row)
    # the first of each class, then the second of each that has one, and so on; who is first is drawn each time
    rounds: dict[int, list[Row]] = defaultdict(list)
    for label in sorted(of_class):
        for number, row in enumerate(rng.sample(of_class[label], len(of_class[label]))):
            rounds[number].append(row)
    taken = [row for number in sorted(rounds) for row in rng.sample(rounds[number], len(rounds[number]))][:n]
    rng.shuffle(taken)
    return taken


def split_of(name: str) -> str:
    """Of a picture that a data set without splits calls so."""
    drawn = int.from_bytes(blake2b(f"lens {name}".encode(), digest_size=8).digest()) / 2**64
    return "test" if drawn < TEST else "validation" if drawn < TEST + VALIDATION else "train"


# --- camouflage scenes ------------------------------------------------------------------------------------------


def _camo(split: str, hidden: str, severity: int, size: int, seed: int) -> Pictures:
    from hubmodels.lens.corruptions import CORRUPTIONS

    if split == "all":
        raise ValueError("scenes of camo have no end: choose train, validation or test")
    if hidden not in (*camo.TASKS, *CORRUPTIONS):
        raise ValueError(f"there is no task or corruption {hidden!r}{_near(hidden, (*camo.TASKS, *CORRUPTIONS))}")
    rows = tuple(Row(number, number % len(camo.CLASSES)) for number in range(CAMO_ROWS[split]))
    return Pictures(camo.CLASSES, rows, partial(_scene, split, seed, hidden, severity, size))


def _scene(split: str, seed: int, hidden: str, severity: int, size: int, number: Path | int) -> Tensor:
    assert isinstance(number, int)
    if hidden in camo.TASKS:
        return camo.scene(split, seed, number, hidden, size)[0]
    from hubmodels.lens.corruptions import corrupt

    clear = camo.scene(split, seed, number, "clear", size)[0]
    return corrupt(clear[None], hidden, severity, seed + number)[0]


# --- COD10K -----------------------------------------------------------------------------------------------------


def cod10k_class(name: str) -> str | None:
    """What a file of COD10K shows, "ghost pipefish" of COD10K-CAM-1-Aquatic-9-GhostPipefish-399.jpg; None if its name
    does not say so."""
    parts = name.rpartition(".")[0].split("-")
    if len(parts) < 6 or parts[:2] != ["COD10K", "CAM"]:
        return None
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", parts[5])
    return " ".join(words).lower() or None


def _cod10k(root: Path, split: str, size: int) -> Pictures:
    found: dict[str, list[tuple[Path, str]]] = {}
    strange: list[str] = []
    for part in ("Train", "Test"):
        folder = root / "COD10K" / part / "Image"
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not there: unpack COD10K-v3 into {root / 'COD10K'}; it comes from {COD10K_HOME}"
            )
        files = [one for one in _pictures(folder) if "NonCAM" not in one.name]
        named = [(one, cod10k_class(one.name)) for one in files]
        strange += [f"{part}/Image/{one.name}" for one, name in named if name is None]
        found[part] = [(one, name) for one, name in named if name is not None]
        if not found[part]:
            raise ValueError(
                f"{folder} has no picture named like COD10K-CAM-1-Aquatic-1-BatFish-1.jpg: unpack COD10K-v3 "
                f"from {COD10K_HOME} again"
            )
    if strange:
        warnings.warn(f"left out {len(strange)} files whose names say no class, such as {strange[0]}", stacklevel=3)
    classes = tuple(sorted({name for part in found.values() for _, name in part}))
    splits = {
        "train": [one for one in found["Train"] if split_of(one[0].name) != "validation"],
        "validation": [one for one in found["Train"] if split_of(one[0].name) == "validation"],
        "test": found["Test"],
        "all": [*found["Train"], *found["Test"]],
    }
    rows = tuple(Row(path, classes.index(name)) for path, name in splits[split])
    return Pictures(classes, rows, partial(from_file, size), tuple(strange))


# --- arrays: CIFAR-10-C and CIFAR-100-C ---------------------------------------------------------------------------


def _arrays(dataset: str, root: Path, split: str, corruption: str, severity: int, size: int) -> Pictures:
    """Five blocks of pictures, one for each severity; labels.npy repeats itself in the same way.

    A file classes.txt beside the arrays, a name a line, says that these are other classes than those of CIFAR.
    """
    home = _home(dataset, root)
    path = home / f"{corruption}.npy"
    if not path.is_file():
        raise _absent(dataset, root, corruption, path)
    levels, labels = array(path), array(home / "labels.npy")
    if levels.dtype != np.uint8 or levels.ndim != 4 or levels.shape[3] != 3 or min(levels.shape[1:3]) < LEAST:
        raise ValueError(f"{path} must be uint8 of (5 n, height, width, 3), got {levels.dtype} of {levels.shape}")
    if len(levels) % len(SEVERITIES) or not len(levels):
        raise ValueError(f"{path} must hold five blocks of the same length, got {len(levels)} pictures")
    if labels.shape != (len(levels),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{home / 'labels.npy'} must be {len(levels)} whole numbers, one for each picture of {path.name}, "
            f"got {labels.dtype} of {labels.shape}"
        )
    other, given = home / "classes.txt", CIFAR10 if dataset == "cifar10-c" else CIFAR100
    classes = tuple(other.read_text().splitlines()) if other.is_file() else given
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"{home / 'labels.npy'} must be from 0 to {len(classes) - 1}, got {labels.min()} to {labels.max()}"
        )
    block = len(levels) // len(SEVERITIES)
    first = block * (severity - 1)
    kept = [n for n in range(block) if split in ("all", split_of(str(n)))]
    rows = tuple(Row(first + n, int(labels[first + n])) for n in kept)
    return Pictures(classes, rows, partial(_from_array, path, size))


def array(path: Path) -> np.ndarray:
    """A .npy file, not read before it is indexed.

    Raises:
        FileNotFoundError, ValueError: it is not there, or damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: unpack the archive from {CORRUPTED_HOME} again") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged, download it again: {error}") from None


def _from_array(path: Path, size: int, number: Path | int) -> Tensor:
    assert isinstance(number, int)
    # opened each time, since an open array would travel whole to the workers of a loader
    return square(Image.fromarray(np.array(array(path)[number])), size)


# --- folders: Tiny-ImageNet-C and ImageNet-C ----------------------------------------------------------------------


def _folders(dataset: str, root: Path, split: str, corruption: str, severity: int, size: int) -> Pictures:
    """CORRUPTION/SEVERITY/WNID/*.JPEG, where WNID is a number of WordNet that a file of names explains."""
    folder = _home(dataset, root) / corruption
    if not folder.is_dir():
        raise _absent(dataset, root, corruption, folder)
    wnids = {one: _folders_of(folder / str(one)) for one in SEVERITIES if (folder / str(one)).is_dir()}
    here = folder / str(severity)
    if not wnids.get(severity):
        there = ", ".join(map(str, wnids)) or "none"
        raise FileNotFoundError(
            f"{here} is not there, or empty; severities that are there: {there}. It comes from {CORRUPTED_HOME}"
        )
    every = sorted(set().union(*wnids.values()))
    lacking = [wnid for wnid in every if wnid not in wnids[severity]]
    if lacking:
        raise ValueError(f"{here} has no folder {lacking[0]}, other severities have: {_again(lacking)}")
    files = {wnid: _pictures(here / wnid) for wnid in every}
    empty = [wnid for wnid in every if not files[wnid]]
    if empty:
        raise ValueError(f"{here / empty[0]} has no pictures: {_again(empty)}")
    classes = tuple(_names(dataset, root, every))
    rows = tuple(
        Row(path, label)
        for label, wnid in enumerate(every)
        for path in files[wnid]
        if split in ("all", split_of(f"{wnid}/{path.name}"))
    )
    return Pictures(classes, rows, partial(from_file, size))


def _again(wnids: list[str]) -> str:
    return f"{len(wnids)} classes are incomplete, unpack the archive from {CORRUPTED_HOME} again"


def _names(dataset: str, root: Path, wnids: list[str]) -> list[str]:
    """What to call each, all different: the first synonym; where two share it also the second; else the wnid too."""
    at, origin = NAME_FILES[dataset]
    path = root / at
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: it says what classes are called; it comes from {origin}")
    lines = (line.split(maxsplit=1) for line in path.read_text().splitlines())
    listed = {line[0]: [one.strip() for one in line[1].split(",")] for line in lines if len(line) == 2}
    unknown = [wnid for wnid in wnids if wnid not in listed]
    if unknown:
        raise ValueError(f"{path} does not say what {unknown[0]} is, and {len(unknown) - 1} more")
    names = [listed[wnid][0] for wnid in wnids]
    names = [
        ", ".join(listed[wnid][:2]) if names.count(name) > 1 else name for wnid, name in zip(wnids, names, strict=True)
    ]
    return [f"{name} ({wnid})" if names.count(name) > 1 else name for wnid, name in zip(wnids, names, strict=True)]


# --- files ------------------------------------------------------------------------------------------------------


def from_file(size: int, path: Path | int) -> Tensor:
    """A picture of a file, (3, size, size) in [-1, 1].

    Raises:
        ValueError: it cannot be read, or is too small; the file is named.
    """
    assert isinstance(path, Path)
    image = images.opened(path, MOST)
    if min(image.size) < LEAST:
        raise ValueError(f"{path} has {image.width} x {image.height} pixels: at least {LEAST} a side are wanted")
    return square(image, size)


def square(image: Image.Image, size: int) -> Tensor:
    """The square in the middle of a picture, as (3, size, size) in [-1, 1]."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if image.mode not in ("RGB", "L"):
        image = images.to_pil(images.from_pil(image))  # lays transparency on white
    box = (left, top, left + side, top + side)
    return images.from_pil(image.resize((size, size), Image.Resampling.BICUBIC, box))


def _pictures(folder: Path) -> list[Path]:
    """JPEG and PNG files of a folder, by name."""
    return sorted(one for one in folder.iterdir() if one.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _folders_of(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.is_dir())


def _home(dataset: str, root: Path) -> Path:
    home = root / FOLDERS[dataset]
    if not home.is_dir():
        raise FileNotFoundError(
            f"{home} is not there: unpack {FOLDERS[dataset]} into it; it comes from {CORRUPTED_HOME}"
        )
    return home


def published(dataset: str, root: Path) -> list[str]:
    """Corruptions of a published set that are there.

    Raises:
        FileNotFoundError: its folder is not there.
    """
    home = _home(dataset, root)
    if dataset.startswith("cifar"):
        return sorted(one.stem for one in home.glob("*.npy") if one.stem != "labels")
    return _folders_of(home)


def _absent(dataset: str, root: Path, corruption: str, path: Path) -> Exception:
    """Of a corruption that is not there: a wrong name, or a part that was not downloaded."""
    from hubmodels.lens.corruptions import CORRUPTIONS

    there = published(dataset, root)
    if corruption in CORRUPTIONS:
        return FileNotFoundError(
            f"{path} is not there, {', '.join(there) or 'no corruption'} is; the rest comes from {CORRUPTED_HOME}"
        )
    return ValueError(f"there is no corruption {corruption!r}{_near(corruption, (*there, *CORRUPTIONS))}")


def _near(name: str, names: Sequence[str]) -> str:
    """End of a message: which of the names was meant, and all of them."""
    close = difflib.get_close_matches(name, names, 1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    return f"{hint} there are {', '.join(dict.fromkeys(names))}"
