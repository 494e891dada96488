"""Build a data set of hidden or corrupted objects, made up or from a folder as its authors publish it.

    python -m datasets_builders.lens --kind camo --out data/camo
    python -m datasets_builders.lens --kind cifar10-c --out data/animals-c --tree data/animals
    python -m datasets_builders.lens --kind cifar10-c --out data/cifar10-c --from-disk data --push-to org/cifar10-c

`datasets.load_dataset("data/camo")` opens the folder; of a corrupted set every corruption is a configuration. What is
made up shows animals on textures, see `hubmodels.lens.camo`, row i a pure function of (seed, i). With --tree the same
rows also lie as the authors of that kind have them, so that what reads theirs reads these. A build that was stopped
goes on when the same command is run again.
"""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
import tyro
from datasets import ClassLabel, Features, Image, Value, load_dataset
from torch import Tensor

from datasets_builders import folder
from datasets_builders.folder import BuildError, Cut, Part, Sizes
from hubmodels.images import from_uint8, from_unit, sheet, to_uint8
from hubmodels.lens import camo, data
from hubmodels.lens.corruptions import CORRUPTIONS, corrupt

Kind = Literal["camo", "cifar10-c", "cifar100-c", "tiny-imagenet-c", "imagenet-c"]
FORMAT = 1
"""Raised whenever the same settings give other bytes: what was built before is not gone on with."""
SIDES = {"camo": 64, "cifar10-c": 32, "cifar100-c": 32, "tiny-imagenet-c": 64, "imagenet-c": 224}
"""Pixels a side of what is made up."""
ROWS, EACH = 2000, 200
"""Pictures of camo, and of each severity of a corruption, that are made up if nothing else is said."""
WNIDS = (
    "n02131653",
    "n01503061",
    "n02121620",
    "n01887787",
    "n02084071",
    "n02503517",
    "n02439033",
    "n02374451",
    "n02411705",
    "n02391049",
)
"""Numbers of `camo.CLASSES` in WordNet 3.0."""
SHEET = 24
CUT = Cut(250, 500, 5000)


@dataclass(frozen=True)
class Config:
    """Build a folder that datasets.load_dataset opens, and publish it if asked to."""

    out: Path
    """Folder to make. It must not exist; OUT.partial holds the work until it is finished."""
    kind: Kind = "camo"
    """camo: hidden animals with their masks, as in COD10K. Others: pictures corrupted in 19 ways, 5 severities."""
    rows: int = 0
    """Made up: pictures of camo, 2000 if 0; of others pictures of each severity and corruption, 200 if 0."""
    size: int = 0
    """Made up: pixels a side; 0 is 64 for camo, and what the authors of the others have: 32, 64 or 224."""
    task: Literal["camouflage", "haze", "noise", "clear"] = "camouflage"
    """Of camo: how animals are hidden."""
    seed: int = 0
    """Made up: another seed, other rows; splits share neither silhouettes nor textures, whatever the seed."""
    corruptions: tuple[str, ...] = ()
    """Which ones; none is all that there are."""
    from_disk: Path | None = None
    """Folder in which the real one lies, unpacked: COD10K, CIFAR-10-C, CIFAR-100-C, Tiny-ImageNet-C or ImageNet-C."""
    tree: Path | None = None
    """Made up: also write it below this folder as the authors of that kind have it."""
    workers: int = 0
    """Blocks made at a time; 0 takes one for each processor."""
    push_to: str = ""
    """Publish to this data set of the Hub, org/name; a finished folder of the same settings as it is."""


# --- rows -------------------------------------------------------------------------------------------------------


def picture(levels: Tensor) -> dict:
    """(3, H, W) or (H, W) uint8 as a row has it."""
    return {"bytes": png(levels.numpy() if levels.ndim == 2 else levels.permute(1, 2, 0).numpy()), "path": None}


def png(levels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(levels)).save(file, "PNG")
    return file.getvalue()


def hidden(seed: int, task: str, size: int, start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop of camo."""
    for index in range(start, stop):
        label = index % 10
        name = f"COD10K-CAM-1-Terrestrial-{label + 1}-{camo.CLASSES[label].title()}-{index + 1}"
        first = data.split_of(f"{name}.jpg")  # as what reads a tree has it
        split = "test" if index // 10 % 10 == 9 else "validation" if first == "validation" else "train"
        made = camo.scenes(split, seed, [index], task, size)
        mask = to_uint8(from_unit(made.masks[0].float()))
        yield {
            "index": index,
            "image": picture(made.pictures[0]),
            "mask": picture(mask),
            "label": label,
            "name": name,
            "split": split,
        }


def corrupted(kind: str, seed: int, size: int, each: int, name: str, start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop of a corruption: `each` of severity 1, the same of severity 2, and so on."""
    for index in range(start, stop):
        severity, number = 1 + index // each, index % each
        said = f"{WNIDS[number % 10]}/{number:05d}"
        split = data.split_of(
            str(number) if kind.startswith("cifar") else f"{said}.JPEG"
        )  # as what reads a tree has it
        clear = camo.scenes(split, seed, [number], "clear", size).pictures
        made = to_uint8(corrupt(from_uint8(clear), name, severity, seed + number))[0]
        row = {"index": index, "image": picture(made), "label": number % 10, "severity": severity}
        yield row | {"name": said, "split": split}


def real_hidden(root: Path, start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop of COD10K, its files as they are."""
    train = {row.source for row in data.opened("cod", root, "train").rows}
    validation = {row.source for row in data.opened("cod", root, "validation").rows}
    for index, row in enumerate(data.opened("cod", root, "all").rows[start:stop], start):
        assert isinstance(row.source, Path)
        mask = row.source.parents[1] / "GT_Object" / f"{row.source.stem}.png"
        split = "train" if row.source in train else "validation" if row.source in validation else "test"
        yield {
            "index": index,
            "image": {"bytes": row.source.read_bytes(), "path": None},
            "mask": {"bytes": mask.read_bytes(), "path": None} if mask.is_file() else None,
            "label": row.label,
            "name": row.source.stem,
            "split": split,
        }


def real_corrupted(kind: str, root: Path, name: str, starts: list[int], start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop of a corruption; severity s begins at `starts[s - 1]`."""
    for severity, first in enumerate(starts[:-1], 1):
        low, high = max(start, first), min(stop, starts[severity])
        if low >= high:
            continue
        found = data.opened(kind, root, "all", name, severity)
        for index in range(low, high):
            row = found.rows[index - first]
            if isinstance(row.source, Path):
                said = f"{row.source.parent.name}/{row.source.stem}"
                split, content = data.split_of(f"{row.source.parent.name}/{row.source.name}"), row.source.read_bytes()
            else:
                said, split = str(index - first), data.split_of(str(index - first))
                content = png(data.array(root / data.FOLDERS[kind] / f"{name}.npy")[row.source])
            image = {"bytes": content, "path": None}
            yield {
                "index": index,
                "image": image,
                "label": row.label,
                "severity": severity,
                "name": said,
                "split": split,
            }


# --- the command ------------------------------------------------------------------------------------------------


def features(config: Config, classes: tuple[str, ...]) -> Features:
    own = {"mask": Image()} if config.kind == "camo" else {"severity": Value("int32")}
    columns = {"index": Value("int64"), "image": Image(), **own, "label": ClassLabel(names=list(classes))}
    return Features(columns | {"name": Value("string"), "split": Value("string")})


def parts(config: Config) -> list[Part]:
    """The configurations of the data set.

    Raises:
        BuildError: a setting makes no sense, or what should be there is not.
    """
    check(config)
    size, splits, root = config.size or SIDES[config.kind], camo.SPLITS, config.from_disk
    try:
        if config.kind == "camo" and root:
            found = data.opened("cod", root, "all")
            return [Part("default", features(config, found.classes), splits, len(found), partial(real_hidden, root))]
        if config.kind == "camo":
            make = partial(hidden, config.seed, config.task, size)
            return [Part("default", features(config, camo.CLASSES), splits, config.rows or ROWS, make, CUT)]
        if root is None:
            each, columns = config.rows or EACH, features(config, camo.CLASSES)
            own = (config.kind, config.seed, size, each)
            return [
                Part(name, columns, splits, 5 * each, partial(corrupted, *own, name), CUT)
                for name in config.corruptions or CORRUPTIONS
            ]
        made: list[Part] = []
        for name in config.corruptions or data.published(config.kind, root):
            found = [data.opened(config.kind, root, "all", name, severity) for severity in data.SEVERITIES]
            starts = [sum(map(len, found[:number])) for number in range(6)]
            make = partial(real_corrupted, config.kind, root, name, starts)
            made.append(Part(name, features(config, found[0].classes), splits, starts[-1], make))
        return made
    except (OSError, ValueError) as error:
        raise BuildError(str(error)) from None


def check(config: Config) -> None:
    """Refuse settings that make no sense, before any work is done."""
    if config.rows < 0 or config.workers < 0 or not 0 <= config.seed < 2**31:
        raise BuildError(f"--rows, --workers and --seed must not be negative, and --seed below {2**31}")
    if config.size and config.size not in camo.SIZES:
        raise BuildError(f"--size must be from {camo.SIZES[0]} to {camo.SIZES[-1]}, got {config.size}")
    if config.kind == "camo" and config.corruptions:
        raise BuildError("--corruptions are of the other kinds: camo hides animals in its own ways, see --task")
    if config.from_disk and config.tree:
        raise BuildError("--tree writes what is made up: what comes --from-disk is there already")
    unknown = [name for name in config.corruptions if name not in CORRUPTIONS]
    if unknown:
        raise BuildError(f"there is no corruption {unknown[0]!r}; there are {', '.join(CORRUPTIONS)}")


def settings(config: Config, made: list[Part] | None = None) -> dict:
    """All that decides the bytes, but for what lies on the disk."""
    made = made or parts(config)
    own = {"rows": config.rows, "size": config.size, "task": config.task, "seed": config.seed}
    return {
        "builder": "datasets_builders.lens",
        "format": FORMAT,
        "kind": config.kind,
        "parts": {part.name: part.rows for part in made},
        **({"from_disk": True} if config.from_disk else own),  # its path is nobody's business
    }


def build(config: Config) -> Path:
    """Build the folder, or go on with it, and the tree.

    Raises:
        BuildError: a setting makes no sense, the source cannot be used, or a folder is in the way of another.
        OSError: the disk is full or cannot be written.
    """
    made = parts(config)
    if config.tree:
        refuse(config.tree / tree_name(config.kind))

    def extras() -> dict[str, bytes]:
        return {"preview.png": preview(made)} | ({} if config.from_disk else {"LICENSES.md": licences()})

    folder.build(config.out, made, settings(config, made), partial(card, config, made), extras, "local", config.workers)
    if config.tree:
        plant(config)
    return config.out


def licences() -> bytes:
    return (camo.ASSETS / "LICENSES.md").read_bytes()


def preview(made: list[Part]) -> bytes:
    """Some rows with what they show, as PNG."""
    part = made[0]
    rows = list(part.make(0, min(SHEET, part.rows)))
    names = part.features["label"].names
    tiles = [data.square(PIL.Image.open(io.BytesIO(row["image"]["bytes"])), 64) for row in rows]
    file = io.BytesIO()
    sheet(torch.stack(tiles), [names[row["label"]] for row in rows], 8).save(file, "PNG")
    return file.getvalue()


# --- as the authors have it ---------------------------------------------------------------------------------------


def tree_name(kind: str) -> str:
    return "COD10K" if kind == "camo" else data.FOLDERS[kind]


def refuse(home: Path) -> None:
    if home.exists():
        raise BuildError(f"{home} exists already; remove it or choose another --tree (nothing was changed)")


def plant(config: Config) -> None:
    """Write the finished rows once more, below `config.tree`."""
    assert config.tree
    home = config.tree / tree_name(config.kind)
    draft = home.with_name(home.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    if config.kind == "camo":
        plant_hidden(config, draft)
    else:
        plant_corrupted(config, draft)
    draft.rename(home)


def rows_of(config: Config, name: str) -> list[dict]:
    """Rows of a finished configuration in their order; pictures are opened."""
    splits: Any = load_dataset(str(config.out), name)
    return sorted((row for split in splits.values() for row in split), key=lambda row: row["index"])


def plant_hidden(config: Config, draft: Path) -> None:
    """As COD10K: validation pictures are among those of training, where what reads COD10K finds its own."""
    for row in rows_of(config, "default"):
        half = draft / ("Test" if row["split"] == "test" else "Train")
        for kind, column, suffix in (("Image", "image", "jpg"), ("GT_Object", "mask", "png")):
            (half / kind).mkdir(parents=True, exist_ok=True)
            row[column].save(half / kind / f"{row['name']}.{suffix}", quality=95)


def plant_corrupted(config: Config, draft: Path) -> None:
    """As CIFAR-10-C, an array for each corruption, or as ImageNet-C, a folder for each."""
    draft.mkdir(parents=True)
    for part in parts(config):
        rows = rows_of(config, part.name)
        if config.kind.startswith("cifar"):
            np.save(draft / f"{part.name}.npy", np.stack([np.asarray(row["image"]) for row in rows]))
            np.save(draft / "labels.npy", np.array([row["label"] for row in rows]))
            (draft / "classes.txt").write_text("\n".join(camo.CLASSES) + "\n")
            continue
        for row in rows:
            path = draft / part.name / str(row["severity"]) / f"{row['name']}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            row["image"].save(path, quality=95)
    if not config.kind.startswith("cifar"):
        said = draft.parent / data.NAME_FILES[config.kind][0]
        said.parent.mkdir(parents=True, exist_ok=True)
        space = "\t" if config.kind.startswith("tiny") else " "
        said.write_text("".join(f"{wnid}{space}{name}\n" for wnid, name in zip(WNIDS, camo.CLASSES, strict=True)))


def main(config: Config) -> None:
    """Build, publish; one line to stderr and exit code 1 when it cannot be done."""
    folder.command(config.out, config.push_to, partial(settings, config), partial(build, config))


# --- the card ---------------------------------------------------------------------------------------------------

CARD = """\
# {name}

{about}

![Some rows](preview.png)

```python
from datasets import load_dataset

# "{out}" is this folder; its name on the Hub does as well
train = load_dataset("{out}"{first}, split="train")
```

| column | what it holds |
|---|---|
| index | number of the row |
| image | picture, sRGB |
{own}
| label | number of the class: {classes} |
| name | what the file is called where the authors of that kind have it |
| split | name of the split |

{splits}

| configuration | split | rows |
|---|---|---|
{table}

## Provenance

{provenance}
"""
MADE = {
    "camo": """Animals of ten kinds on textures, hidden: figure and ground are two crops of one texture and differ by a
little of their tint. Masks say where they are.""",
    "corrupted": """Animals of ten kinds on textures, corrupted in the ways of Hendrycks & Dietterich 2019, with their
numbers for pictures of this size.""",
}
FOUND = "The pictures of {home}, as their authors publish them."
OURS = """Silhouettes of Animal-MNIST (MIT) on CC0 textures, whose notices are in LICENSES.md. The same bytes come from

```
python -m datasets_builders.lens --kind {kind} --out {out} --rows {rows} --size {size} \\
    --task {task} --seed {seed}{which}
```"""
THEIRS = "Nothing was changed. They are under the terms of their authors, {where}."


def card(config: Config, made: list[Part], sizes: Sizes) -> str:
    """README.md of the data set."""
    name = tree_name(config.kind) if config.from_disk else "Hidden animals" if config.kind == "camo" else "Animals-C"
    about = {
        "license": "other" if config.from_disk else "mit",
        "pretty_name": name,
        "task_categories": ["image-classification"],
        "tags": ["camouflage" if config.kind == "camo" else "robustness"] + ["synthetic"] * (not config.from_disk),
    }
    names = made[0].features["label"].names
    said = {field: getattr(config, field) for field in ("kind", "rows", "size", "task", "seed")}
    said["which"] = " \\\n    --corruptions " + " ".join(config.corruptions) if config.corruptions else ""
    where = data.COD10K_HOME if config.kind == "camo" else data.CORRUPTED_HOME
    text = CARD.format(
        name=name,
        about=FOUND.format(home=name) if config.from_disk else MADE["camo" if config.kind == "camo" else "corrupted"],
        out=f"data/{config.out.name}",
        first="" if made[0].name == "default" else f', "{made[0].name}"',
        own="| mask | white where the animal is |" if config.kind == "camo" else "| severity | 1 to 5 |",
        classes=", ".join(names[:10]) + (", ..." if len(names) > 10 else ""),
        splits="Splits share no picture, whatever was done to it, and what is made up neither silhouette nor texture.",
        table="\n".join(f"| {part} | {name} | {size.rows} |" for part in sizes for name, size in sizes[part].items()),
        provenance=THEIRS.format(where=where)
        if config.from_disk
        else OURS.format(out=f"data/{config.out.name}", **said),
    )
    return f"---\n{folder.metadata(made, sizes, about)}\n---\n\n{text}"


if __name__ == "__main__":
    # Workers import what they run by the name of its module, which must not be __main__ then.
    from datasets_builders import lens

    lens.main(tyro.cli(lens.Config, prog="python -m datasets_builders.lens"))
