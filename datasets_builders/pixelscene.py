"""Build a data set of backgrounds in the colours of a VGA card: index pictures, their palettes and captions.

    python -m datasets_builders.pixelscene --out data/vga --rows 4000
    python -m datasets_builders.pixelscene --out data/vga-games --source debian
    python -m datasets_builders.pixelscene --out data/mine --source folder --images images --captions captions.jsonl
    python -m datasets_builders.pixelscene --out data/vga --rows 4000 --push-to org/vga

`datasets.load_dataset("data/vga")` opens the folder. Painted scenes: row i is a pure function of (seed, i), and what
its caption says decides its split. Backgrounds of games that anyone may distribute are fetched from Debian and split by
room. Pictures of one's own are split by their captions. A build that was stopped goes on when the same command is run
again.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import tyro
from datasets import Features, Image, List, Value

from datasets_builders import folder, pixel_folder, vga_captions, vga_games
from datasets_builders.folder import BuildError, Cut, Engine, Part, Sizes
from hubmodels.pixelscene import files
from hubmodels.pixelscene.procedural import HEIGHT, HEIGHTS, make
from hubmodels.pixelscene.text import split as words

SPLITS = ("train", "validation", "test")
VALIDATION, TEST = 0.05, 0.1
"""Shares of what captions say."""
Source = Literal["procedural", "debian", "folder"]
FORMAT = 2
"""Raised whenever the same settings give other bytes: what was built before is not gone on with."""
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
        "name": Value("string"),
        "license": Value("string"),
        "split": Value("string"),
    }
)


@dataclass(frozen=True)
class Config:
    """Build a folder of backgrounds that datasets.load_dataset opens, and publish it if asked to."""

    out: Path
    """Folder to make. It must not exist; OUT.partial holds the work until it is finished."""
    source: Source = "procedural"
    """Painted by a program, out of games in Debian, or pictures of your own."""
    rows: int = 4000
    """Of procedural: backgrounds, all splits together."""
    seed: int = 0
    """Of procedural: another seed, other rows; splits stay disjoint across seeds."""
    images: Path | None = None
    """Of folder: PNG, BMP, JPEG or still GIF files."""
    captions: Path | None = None
    """Of folder: lines of JSON, {"image": "a.png", "caption": "A forest"}."""
    unscale: bool = True
    """Of folder: a picture that was enlarged 2 to 8 times comes back to one pixel a block."""
    license: str = "other"
    """Of folder: under which the pictures may be used; it goes along with every row."""
    height: int = HEIGHT
    """Of procedural and folder: 200, or 192, which 16 divides. All are 320 wide."""
    engine: Engine = "local"
    """Processes of this machine, or a Ray cluster, the one at RAY_ADDRESS if set. The bytes are the same."""
    workers: int = 0
    """Blocks made at a time; 0 takes one for each processor."""
    push_to: str = ""
    """Publish to this data set of the Hub, org/name; a finished folder of the same settings as it is."""


# --- rows -------------------------------------------------------------------------------------------------------


def painted(seed: int, height: int, start: int, stop: int) -> Iterator[dict]:
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
            "name": str(seed * 2**32 + index),
            "license": "CC0-1.0",
            "split": split(scene.facts),
        }


def of_games(start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop of all backgrounds of all games; both halves of a room are in one split."""
    first = 0
    for game in vga_games.GAMES:
        rooms = vga_captions.captions(game.captions)
        if start < first + len(rooms) and first < stop:
            for index, (picture, caption) in enumerate(vga_games.backgrounds(game), first):
                if start <= index < stop:
                    room = picture.name.split("-")[0]
                    apart = split(f"{game.name} {vga_captions.ALIKE[game.name].get(room, room)}")
                    yield found_row(index, picture.indices, picture.palette, caption, picture.things, apart) | {
                        "source": game.title,
                        "name": picture.name,
                        "license": game.license,
                    }
        first += len(rooms)


def of_folder(pictures: list[tuple[str, str]], config: "Config", start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop of names and captions; captions of the same words are in one split."""
    assert config.images is not None
    for index, (name, caption) in enumerate(pictures[start:stop], start):
        indices, palette = pixel_folder.read_picture(config.images / name, config.unscale)
        apart = split(" ".join(sorted(words(caption))))
        yield found_row(index, pixel_folder.framed(indices, palette, config.height), palette, caption, (), apart) | {
            "source": "folder",
            "name": name,
            "license": config.license,
        }


def found_row(
    index: int, indices: np.ndarray, palette: np.ndarray, caption: str, things: tuple[str, ...], split: str
) -> dict:
    """Of a picture that was not painted here: nobody knows more of it than its caption, and its things at best."""
    return {
        "index": index,
        "image": {"bytes": files.png(indices, palette), "path": None},
        "palette": palette.tolist(),
        "caption": caption,
        "place": "",
        "time": "",
        "weather": "",
        "objects": list(things),
        "split": split,
    }


def split(facts: str) -> str:
    """Of all pictures of which this can be said."""
    drawn = int.from_bytes(blake2b(f"pixelscene {facts}".encode(), digest_size=8).digest()) / 2**64
    return "test" if drawn < TEST else "validation" if drawn < TEST + VALIDATION else "train"


def sheet(rows: list[dict]) -> bytes:
    """Some rows with their captions, as PNG."""
    opened = [PIL.Image.open(BytesIO(row["image"]["bytes"])) for row in rows]
    pictures = [
        (np.asarray(image), np.array(row["palette"], np.uint8)) for image, row in zip(opened, rows, strict=True)
    ]
    data = BytesIO()
    files.contact_sheet(pictures, [row["caption"] for row in rows], 4).save(data, "PNG")
    return data.getvalue()


# --- the command ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a source has to offer."""

    rows: int
    make: Callable[[int, int], Iterator[dict]]
    extras: Callable[[], dict[str, bytes]]
    facts: Mapping[str, str | int]
    """All that decides the bytes, beside the source."""


def plan(config: Config) -> Plan:
    """Look at the source. Packages are fetched only when rows or licences are asked for.

    Raises:
        BuildError: it cannot be used.
    """
    if config.source == "procedural":
        facts = {"rows": config.rows, "seed": config.seed, "height": config.height}
        return Plan(config.rows, partial(painted, config.seed, config.height), dict, facts)
    if config.source == "debian":
        said = [vga_captions.captions(game.captions) for game in vga_games.GAMES]
        digest = blake2b(repr((said, vga_captions.ALIKE)).encode(), digest_size=16).hexdigest()
        facts = {game.name: game.package.sha256 for game in vga_games.GAMES} | {"captions": digest}
        return Plan(sum(map(len, said)), of_games, notices, facts)
    if config.images is None or config.captions is None:
        raise BuildError("--source folder wants --images FOLDER and --captions FILE.jsonl")
    if not config.images.is_dir():
        raise BuildError(f"--images {config.images} is no folder")
    kept, left_out, digest = pixel_folder.found(config.images, config.captions, config.height, config.unscale)
    for one in left_out:
        print(f"left out: {one['image']}: {one['why']}", file=sys.stderr)
    listed = {"left_out.jsonl": "".join(json.dumps(one) + "\n" for one in left_out).encode()}
    facts = {"pictures": digest, "height": config.height, "license": config.license}
    return Plan(len(kept), partial(of_folder, kept, config), lambda: listed, facts)


def notices() -> dict[str, bytes]:
    """Licences of the games."""
    return {f"LICENSE-{game.name}.txt": game.notice() for game in vga_games.GAMES}


def parts(chosen: Plan) -> list[Part]:
    return [Part("default", FEATURES, SPLITS, chosen.rows, chosen.make, Cut(250, 500, 2000), apart="caption")]


def settings(config: Config, chosen: Plan | None = None) -> dict:
    """All that decides the bytes."""
    return {
        "builder": "datasets_builders.pixelscene",
        "format": FORMAT,
        "source": config.source,
        **(chosen or plan(config)).facts,
    }


def build(config: Config) -> Path:
    """Build the folder, or go on with it.

    Raises:
        BuildError: a setting makes no sense, the source cannot be used, or the folder is in the way of another.
        OSError: the disk is full or cannot be written.
    """
    check(config)
    chosen = plan(config)
    said, card_of = settings(config, chosen), partial(card, config, chosen)

    def extras() -> dict[str, bytes]:
        return chosen.extras() | {"preview.png": sheet(list(chosen.make(0, min(SHEET, chosen.rows))))}

    folder.build(config.out, parts(chosen), said, card_of, extras, config.engine, config.workers)
    return config.out


def check(config: Config) -> None:
    """Refuse settings that make no sense, before any work is done."""
    if config.rows < 1:
        raise BuildError(f"--rows must be at least 1, got {config.rows}")
    if config.height not in HEIGHTS:
        raise BuildError(f"--height must be one of {', '.join(map(str, HEIGHTS))}, got {config.height}")
    if not 0 <= config.seed < 2**31:
        raise BuildError(f"--seed must be from 0 to {2**31 - 1}, got {config.seed}")
    if config.workers < 0:
        raise BuildError(f"--workers must not be negative, got {config.workers}")


def main(config: Config) -> None:
    """Build, publish; one line to stderr and exit code 1 when it cannot be done."""
    folder.command(config.out, config.push_to, partial(settings, config), partial(build, config))


# --- the card ---------------------------------------------------------------------------------------------------

NAMES = {"procedural": "VGA backgrounds", "debian": "VGA backgrounds of games", "folder": "Pixel-art backgrounds"}
LICENSES = {"procedural": "cc0-1.0", "debian": "other", "folder": "other"}
ABOUT = {
    "procedural": """\
Backgrounds as adventure games of the VGA era had them, painted by a program: 320 x {height} pixels, 256 colours of
6 bits each, in ramps with ordered dithers. What a caption says can be seen in its picture.""",
    "debian": """\
Backgrounds of adventure games of the VGA era that anyone may distribute, each with its own palette of 6 bits a channel,
320 wide. Captions were written for this data set by somebody who looked at each picture.""",
    "folder": """\
Pixel-art backgrounds of 320 x {height} pixels, each in its own palette. Nothing was resampled. left_out.jsonl names
the pictures that were left out, and why.""",
}
PROVENANCE = {
    "procedural": """\
All of it was drawn by a program; no picture of anybody is in it. It is dedicated to the public domain (CC0 1.0). The
same bytes come from

```
python -m datasets_builders.pixelscene --out data/vga --rows {rows} --seed {seed} --height {height}
```""",
    "debian": """\
Modified from the games' files: decoded, brought to the colours of a VGA card, and wide rooms cut in two. The games may
be distributed, changed too, with their notices, which are in the LICENSE files beside this one; they may not be sold.

{games}

The same bytes come from

```
python -m datasets_builders.pixelscene --out data/vga-games --source debian
```""",
    "folder": """\
Pictures and captions were given by whoever built the data set, under the licence of each row.""",
}
CARD = """\
# {name}

{about}

![Some rows](preview.png)

```python
from datasets import load_dataset

# "{out}" is this folder; its name on the Hub does as well
train = load_dataset("{out}", split="train")
```

| column | what it holds |
|---|---|
| index | number of the row |
| image | index picture (mode P), PNG |
| palette | its colours, sRGB; of painted scenes in 16 ramps of 16, dark to light |
| caption | what is to be seen |
| place, time, weather | of painted scenes; time and weather are empty inside of buildings and caves |
| objects | of painted scenes all that can be named and seen; of games what they call things in the room |
| source, name, license | where a picture is from, what it is called there, and what allows to use it |
| split | name of the split |

Splits are decided by what captions say, whatever their words, and of games by the room: none shares a caption with
another.

| split | rows |
|---|---|
{table}

## Provenance

{provenance}
"""


def card(config: Config, chosen: Plan, sizes: Sizes) -> str:
    """README.md of the data set."""
    about = {
        "license": LICENSES[config.source],
        "language": ["en"],
        "pretty_name": NAMES[config.source],
        "task_categories": ["text-to-image"],
        "tags": ["pixel-art", "indexed-color"] + ["synthetic"] * (config.source == "procedural"),
    }
    games = "\n".join(f"- {game.title} ({game.license}, Debian {game.package.file})" for game in vga_games.GAMES)
    said = {"rows": config.rows, "seed": config.seed, "height": config.height, "games": games}
    text = CARD.format(
        name=NAMES[config.source],
        about=ABOUT[config.source].format(**said),
        out=f"data/{config.out.name}",
        table="\n".join(f"| {name} | {size.rows} |" for name, size in sizes["default"].items()),
        provenance=PROVENANCE[config.source].format(**said),
    )
    return f"---\n{folder.metadata(parts(chosen), sizes, about)}\n---\n\n{text}"


if __name__ == "__main__":
    # Workers import what they run by the name of its module, which must not be __main__ then.
    from datasets_builders import pixelscene

    pixelscene.main(tyro.cli(pixelscene.Config, prog="python -m datasets_builders.pixelscene"))
