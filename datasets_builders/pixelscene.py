"""Build a data set of backgrounds in the colours of a VGA card: index pictures, their palettes and captions.

    python -m datasets_builders.pixelscene --out data/vga --rows 4000
    python -m datasets_builders.pixelscene --out data/vga --rows 4000 --push-to org/vga

`datasets.load_dataset("data/vga")` opens the folder. Row i is a pure function of (seed, i); what its caption says
decides its split. A build that was stopped goes on when the same command is run again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import tyro
from datasets import Features, Image, List, Value

from datasets_builders import folder
from datasets_builders.folder import BuildError, Cut, Engine, Part, Sizes
from hubmodels.pixelscene import files
from hubmodels.pixelscene.procedural import HEIGHT, HEIGHTS, make

SPLITS = ("train", "validation", "test")
VALIDATION, TEST = 0.05, 0.1
"""Shares of what captions say."""
SHEET = 24
"""Pictures of preview.png."""
FEATURES = Features(
    {
        "index": Value("int64"),
        "image": Image(),
        "palette": List(List(Value("uint8"))),
        "caption": Value("string"),
        "place": Value("string"),
        "time": Value("string"),
        "weather": Value("string"),
        "objects": List(Value("string")),
        "source": Value("string"),
        "license": Value("string"),
        "split": Value("string"),
    }
)


@dataclass(frozen=True)
class Config:
    """Build a folder of backgrounds that datasets.load_dataset opens, and publish it if asked to."""

    out: Path
    """Folder to make. It must not exist; OUT.partial holds the work until it is finished."""
    rows: int = 4000
    """Backgrounds, all splits together."""
    seed: int = 0
    """Another seed, other rows; splits stay disjoint across seeds."""
    height: int = HEIGHT
    """200, or 192, which 16 divides. All are 320 wide."""
    engine: Engine = "local"
    """Processes of this machine, or a Ray cluster, the one at RAY_ADDRESS if set. The bytes are the same."""
    workers: int = 0
    """Blocks made at a time; 0 takes one for each processor."""
    push_to: str = ""
    """Publish to this data set of the Hub, org/name; a finished folder of the same settings as it is."""


def rows(seed: int, height: int, start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop, each a pure function of (seed, i, height)."""
    for index in range(start, stop):
        scene = make(seed * 2**32 + index, height)
        yield {
            "index": index,
            "image": {"bytes": files.png(scene.indices, scene.palette), "path": None},
            "palette": scene.palette.tolist(),
            "caption": scene.caption,
            "place": scene.place,
            "time": scene.time,
            "weather": scene.weather,
            "objects": list(scene.objects),
            "source": "procedural",
            "license": "CC0-1.0",
            "split": split(scene.facts),
        }


def split(facts: str) -> str:
    """Of all captions that say this."""
    drawn = int.from_bytes(blake2b(f"pixelscene {facts}".encode(), digest_size=8).digest()) / 2**64
    return "test" if drawn < TEST else "validation" if drawn < TEST + VALIDATION else "train"


def sheet(config: Config) -> bytes:
    """The first pictures of a data set with their captions, as PNG."""
    scenes = [make(config.seed * 2**32 + index, config.height) for index in range(min(SHEET, config.rows))]
    pictures = [(scene.indices, scene.palette) for scene in scenes]
    data = BytesIO()
    files.contact_sheet(pictures, [scene.caption for scene in scenes], 4).save(data, "PNG")
    return data.getvalue()


# --- the command ------------------------------------------------------------------------------------------------


def parts(config: Config) -> list[Part]:
    make_rows = partial(rows, config.seed, config.height)
    return [Part("default", FEATURES, SPLITS, config.rows, make_rows, Cut(100, 500, 2000), apart="caption")]


def settings(config: Config) -> dict:
    """All that decides the bytes."""
    return {
        "builder": "datasets_builders.pixelscene",
        "rows": config.rows,
        "seed": config.seed,
        "height": config.height,
    }


def build(config: Config) -> Path:
    """Build the folder, or go on with it.

    Raises:
        BuildError: a setting makes no sense, or the folder is in the way of another.
        OSError: the disk is full or cannot be written.
    """
    if config.rows < 1:
        raise BuildError(f"--rows must be at least 1, got {config.rows}")
    if config.height not in HEIGHTS:
        raise BuildError(f"--height must be one of {', '.join(map(str, HEIGHTS))}, got {config.height}")
    if not 0 <= config.seed < 2**31:
        raise BuildError(f"--seed must be from 0 to {2**31 - 1}, got {config.seed}")
    if config.workers < 0:
        raise BuildError(f"--workers must not be negative, got {config.workers}")
    extras = {"preview.png": sheet(config)}
    card_of = partial(card, config)
    folder.build(config.out, parts(config), settings(config), card_of, extras, config.engine, config.workers)
    return config.out


def main(config: Config) -> None:
    """Build, publish; one line to stderr and exit code 1 when it cannot be done."""
    folder.command(config.out, config.push_to, partial(settings, config), partial(build, config))


# --- the card ---------------------------------------------------------------------------------------------------

ABOUT = {
    "license": "cc0-1.0",
    "language": ["en"],
    "pretty_name": "VGA backgrounds",
    "task_categories": ["text-to-image"],
    "tags": ["synthetic", "pixel-art", "indexed-color"],
}

CARD = """\
# VGA backgrounds

Backgrounds as adventure games of the VGA era had them, painted by a program: 320 x {height} pixels, 256 colours of
6 bits each, in ramps with ordered dithers. What a caption says can be seen in its picture.

![Some rows](preview.png)

```python
from datasets import load_dataset

# "data/vga" is this folder; its name on the Hub does as well
train = load_dataset("data/vga", split="train")
```

| column | what it holds |
|---|---|
| index | number of the row; row i depends on the seed and on i alone |
| image | index picture (mode P), PNG |
| palette | its 256 colours, sRGB, in 16 ramps of 16, dark to light |
| caption | the place, mostly with the hour and the weather, and up to four of the things in it |
| place, time, weather | of the picture; time and weather are empty inside of buildings and caves |
| objects | all that can be named and is to be seen |
| source, license | procedural, CC0-1.0 |
| split | name of the split |

Splits are decided by what a caption says, whatever its words, so that none of them shares a caption with another.

| split | rows |
|---|---|
{table}

## Provenance

All of it was drawn by a program; no picture of anybody is in it. It is dedicated to the public domain (CC0 1.0). The
same bytes come from

```
python -m datasets_builders.pixelscene --out data/vga --rows {rows} --seed {seed} --height {height}
```
"""


def card(config: Config, sizes: Sizes) -> str:
    """README.md of the data set."""
    table = "\n".join(f"| {name} | {size.rows} |" for name, size in sizes["default"].items())
    said = {name: value for name, value in settings(config).items() if name != "builder"}
    return f"---\n{folder.metadata(parts(config), sizes, ABOUT)}\n---\n\n{CARD.format(table=table, **said)}"


if __name__ == "__main__":
    # Workers import what they run by the name of its module, which must not be __main__ then.
    from datasets_builders import pixelscene

    pixelscene.main(tyro.cli(pixelscene.Config, prog="python -m datasets_builders.pixelscene"))
