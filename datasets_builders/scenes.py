"""Build the `scenes` data set: captions, pictures and the truth about them; and `templates`, sentences alone.

    python -m datasets_builders.scenes --out data/scenes --rows 20000
    python -m datasets_builders.scenes --out data/scenes --rows 20000 --push-to org/scenes

`datasets.load_dataset("data/scenes")` opens the folder. Row i is a pure function of (seed, i); its meaning
decides its split. A build that was stopped goes on when the same command is run again.
"""

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from datasets import Features, Image, List, Value
from PIL import Image as Picture

from datasets_builders import folder
from datasets_builders.folder import BuildError, Engine, Part, Sizes
from hubmodels.scenes import canonical, caption, encode, place, sample, splits, templates
from hubmodels.scenes.renderer import RESOLUTIONS, draw, pack
from hubmodels.scenes.world import CANVAS

BATCH = 200
"""Pictures drawn at a time; they do not depend on it."""
SHEET = (8, 3)
"""Columns and rows of preview.png."""

FEATURES = Features(
    {
        "index": Value("int64"),
        "image": Image(),
        "caption": Value("string"),
        "placed_caption": Value("string"),
        "canonical": Value("string"),
        "tokens": List(Value("int32")),
        "graph": Value("string"),
        "layout_seed": Value("int64"),
        "masks": Image(),
        "split": Value("string"),
    }
)
TEMPLATE_FEATURES = Features(
    {
        "index": Value("int64"),
        "sentence": Value("string"),
        "tokens": List(Value("int32")),
        "template": Value("int32"),
        "slots": Value("string"),
        "split": Value("string"),
    }
)


@dataclass(frozen=True)
class Config:
    """Build a folder of scenes that datasets.load_dataset opens, and publish it if asked to."""

    out: Path
    """Folder to make. It must not exist; OUT.partial holds the work until it is finished."""
    rows: int = 20_000
    """Rows of each configuration, all splits together."""
    seed: int = 0
    """Another seed, other rows; splits stay disjoint across seeds."""
    resolution: int = CANVAS
    """Side of the pictures in pixels."""
    config: Literal["both", "scenes", "templates"] = "both"
    """Which configurations to build."""
    engine: Engine = "local"
    """Processes of this machine, or a Ray cluster, the one at RAY_ADDRESS if set. The bytes are the same."""
    workers: int = 0
    """Blocks made at a time; 0 takes one for each processor."""
    push_to: str = ""
    """Publish to this data set of the Hub, org/name; a finished folder of the same settings as it is."""


def rows(seed: int, start: int, stop: int, resolution: int = CANVAS) -> Iterator[dict]:
    """Rows start <= i < stop of `scenes`, each a pure function of (seed, i, resolution)."""
    for first in range(start, stop, BATCH):
        drawn = []
        for index in range(first, min(first + BATCH, stop)):
            rng = random.Random(f"scenes {seed} {index}")
            scene, layout_seed = sample(rng), rng.getrandbits(31)
            drawn.append((index, scene, layout_seed, place(scene, layout_seed)))
        pictures, masks = draw(pack([placed for *_, placed in drawn]), resolution)
        pictures = pictures.permute(0, 2, 3, 1).numpy()
        for (index, scene, layout_seed, placed), picture, mask in zip(drawn, pictures, masks.numpy(), strict=True):
            placed_caption = caption(placed)
            yield {
                "index": index,
                "image": {"bytes": png(picture), "path": None},
                "caption": caption(scene),
                "placed_caption": placed_caption,
                "canonical": canonical(scene),
                "tokens": encode(placed_caption),
                "graph": json.dumps(placed.graph()),
                "layout_seed": layout_seed,
                "masks": {"bytes": png(mask), "path": None},
                "split": splits.split(scene),
            }


def template_rows(seed: int, start: int, stop: int) -> Iterator[dict]:
    """Rows start <= i < stop of `templates`, each a pure function of (seed, i)."""
    for index in range(start, stop):
        sentence = templates.sample_template(random.Random(f"templates {seed} {index}"))
        number, slots = templates.parse_template(sentence)
        yield {
            "index": index,
            "sentence": sentence,
            "tokens": templates.encode(sentence),
            "template": number,
            "slots": json.dumps(slots),
            "split": templates.split_template(sentence),
        }


def png(array: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as PNG, always the same bytes."""
    buffer = io.BytesIO()
    Picture.fromarray(array).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def sheet(seed: int) -> bytes:
    """The first pictures of a data set side by side, as PNG."""
    across, down = SHEET
    side, gap = 2 * CANVAS, 8
    whole = Picture.new("RGB", (across * (side + gap) + gap, down * (side + gap) + gap), (128, 128, 128))
    for number, row in enumerate(rows(seed, 0, across * down, side)):
        y, x = divmod(number, across)
        picture = Picture.open(io.BytesIO(row["image"]["bytes"]))
        whole.paste(picture, (gap + x * (side + gap), gap + y * (side + gap)))
    return png(np.asarray(whole))


# --- the command --------------------------------------------------------------------------------------------


def parts(config: Config) -> list[Part]:
    """The configurations to build, the default one first."""
    pictures = Part(
        "scenes",
        FEATURES,
        splits.SPLITS,
        config.rows,
        partial(rows, config.seed, resolution=config.resolution),
    )
    sentences = Part("templates", TEMPLATE_FEATURES, templates.SPLITS, config.rows, partial(template_rows, config.seed))
    return {"scenes": [pictures], "templates": [sentences], "both": [pictures, sentences]}[config.config]


def settings(config: Config) -> dict:
    """All that decides the bytes."""
    return {
        "builder": "datasets_builders.scenes",
        "rows": config.rows,
        "seed": config.seed,
        "resolution": config.resolution,
        "config": config.config,
    }


def build(config: Config) -> Path:
    """Build the folder, or go on with it.

    Raises:
        BuildError: a setting makes no sense, or the folder is in the way of another.
        OSError: the disk is full or cannot be written.
    """
    if config.rows < 1:
        raise BuildError(f"--rows must be at least 1, got {config.rows}")
    if config.resolution not in RESOLUTIONS:
        raise BuildError(f"--resolution must be from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}, got {config.resolution}")
    if config.workers < 0:
        raise BuildError(f"--workers must not be negative, got {config.workers}")
    chosen = parts(config)

    def extras() -> dict[str, bytes]:
        return {"preview.png": sheet(config.seed)} if config.config != "templates" else {}

    folder.build(
        config.out,
        chosen,
        settings(config),
        partial(card, config),
        extras,
        config.engine,
        config.workers,
    )
    return config.out


def main(config: Config) -> None:
    """Build, publish; one line to stderr and exit code 1 when it cannot be done."""
    folder.command(config.out, config.push_to, partial(settings, config), partial(build, config))


# --- the card -----------------------------------------------------------------------------------------------

ABOUT = {
    "license": "cc0-1.0",
    "language": ["en"],
    "pretty_name": "Scenes",
    "task_categories": ["text-to-image", "image-to-text"],
    "tags": ["synthetic", "compositionality", "scene-graphs"],
}

INTRODUCTION = """\
# Scenes

Pictures of a small world in which truth is known. Coloured shapes in three sizes stand left of, above, on, in
front of or inside each other, one to six on a canvas; a caption says what is there, and a seed decides where.
Grammar, layout and picture are pure functions, so each row can be made again from its caption and its seed.
"""

SCENES = """
## scenes

![Some rows](preview.png)

```python
from datasets import load_dataset

# "{where}" is this folder; its name on the Hub does as well
train = load_dataset("{where}", split="train")
stream = load_dataset("{where}", split="train", streaming=True)
```

| column | what it holds |
|---|---|
| index | number of the row; row i depends on the seed and on i alone |
| image | {resolution} x {resolution} sRGB, PNG |
| caption | what is there |
| placed_caption | the same, saying where each thing is, in units of 1/64 of the canvas |
| canonical | one caption for each meaning: "left of (A, B)" and "right of (B, A)" share it |
| tokens | the placed caption as ids of `hubmodels.scenes.grammar.VOCABULARY` |
| graph | JSON of `hubmodels.scenes.world.Scene.graph`: groups with places, relations, background |
| layout_seed | seed with which `hubmodels.scenes.place` finds these places |
| masks | {resolution} x {resolution}: 0 is background, n the nth thing mentioned, where it is on top; PNG |
| split | name of the split |

Splits are decided by the canonical caption, so no two of them share a meaning, whatever the seed of the data:

| split | rows | what is in it |
|---|---|---|
{table}
"""

ABOUT_SPLITS = {
    "train": "none of the combinations held out below; every word of the language occurs",
    "validation": "like train, other meanings",
    "test": "like train, other meanings",
    "test_color_shape": ", ".join(" ".join(pair) for pair in sorted(splits.COLOR_SHAPE)),
    "test_count_shape": ", ".join(f"{count} {shape}s" for count, shape in sorted(splits.COUNT_SHAPE)),
    "test_relation": "some shapes in some relations, such as anything in front of a ring",
    "test_longer": "four groups of things; all other splits have at most three",
}

TEMPLATES = """
## templates

Sentences of ten templates, without pictures: `load_dataset("{where}", "templates")`. Columns: index,
sentence, tokens (ids of `hubmodels.scenes.templates.VOCABULARY`), template (its number), slots (JSON), split.
Splits share no sentence; within a split a sentence may return.

| split | rows |
|---|---|
{table}
"""

PROVENANCE = """
## Provenance

All of it was drawn by a program; no picture, name or text of anybody is in it. It is dedicated to the public
domain (CC0 1.0). The same bytes come from

```
python -m datasets_builders.scenes --out {where} --rows {rows} --seed {seed} \\
    --resolution {resolution} --config {config}
```
"""


def card(config: Config, sizes: Sizes) -> str:
    """README.md of the data set."""
    where = "data/scenes"
    text = f"---\n{folder.metadata(parts(config), sizes, ABOUT)}\n---\n\n{INTRODUCTION}"
    if "scenes" in sizes:
        table = "\n".join(f"| {s} | {size.rows} | {ABOUT_SPLITS[s]} |" for s, size in sizes["scenes"].items())
        text += SCENES.format(where=where, resolution=config.resolution, table=table)
    if "templates" in sizes:
        table = "\n".join(f"| {s} | {size.rows} |" for s, size in sizes["templates"].items())
        text += TEMPLATES.format(where=where, table=table)
    return text + PROVENANCE.format(where=where, **settings(config))


if __name__ == "__main__":
    # Workers import what they run by the name of its module, which must not be __main__ then.
    from datasets_builders import scenes

    scenes.main(tyro.cli(scenes.Config, prog="python -m datasets_builders.scenes"))
