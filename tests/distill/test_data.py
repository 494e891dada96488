"""What the student sees: the renderer's pictures of scenes of one split, drawn now or built before."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import load_dataset
from torch.utils.data import DataLoader

from datasets_builders.scenes import Config, build
from hubmodels.distill.data import Rendered, Stored, collate, loader, scene_of
from hubmodels.scenes import caption, decode, encode, masks, parse, place, render
from hubmodels.scenes.splits import SPLITS, split
from hubmodels.scenes.world import from_graph


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set as the builder makes it."""
    out = tmp_path_factory.mktemp("data") / "scenes"
    return build(Config(out, rows=60, config="scenes", workers=1))


@pytest.mark.parametrize("name", SPLITS)
def test_a_rendered_row_is_pure_and_lands_in_its_split(name: str) -> None:
    scenes = [scene_of(row, 3, name) for row in range(12)]
    assert {split(scene) for scene in scenes} == {name}
    state = random.getstate()
    assert [scene_of(row, 3, name) for row in reversed(range(12))] == scenes[::-1]
    assert random.getstate() == state
    assert all(place(parse(caption(scene)), seed=5) == scene for scene in scenes), "a place is missing"
    assert len({caption(scene) for scene in scenes}) == 12
    assert scene_of(0, 4, name) != scenes[0]


def test_rendered_rows_are_those_of_scene_of() -> None:
    rows = Rendered(5, 3, "test")
    assert len(rows) == 5 and [rows[i] for i in range(5)] == [scene_of(i, 3, "test") for i in range(5)]


@pytest.mark.parametrize("resolution", [64, 128])
def test_a_batch_is_what_the_renderer_draws_one_by_one(resolution: int) -> None:
    scenes = [scene_of(row, 0) for row in range(6)]
    batch = collate(scenes, resolution)
    assert batch["picture"].dtype == torch.uint8 and batch["foreground"].dtype == torch.bool
    for i, scene in enumerate(scenes):
        assert torch.equal(batch["picture"][i], render([scene], resolution)[0])
        assert torch.equal(batch["foreground"][i], masks([scene], resolution)[0] > 0)
        said = encode(caption(scene))
        assert batch["tokens"][i].tolist() == said + [0] * (batch["tokens"].shape[1] - len(said))


def test_a_stored_row_is_drawn_again_as_it_was_built(data: Path) -> None:
    """The pictures, masks, tokens and graphs of the data set are the oracle: training reads none of them."""
    built: Any = load_dataset(str(data), "scenes", split="train")
    stored = Stored(str(data))
    scenes = [stored[row] for row in range(len(stored))]
    assert scenes == [from_graph(json.loads(graph)) for graph in built["graph"]]
    batch = collate(scenes, 64)
    assert batch["tokens"].shape[1] == max(map(len, built["tokens"]))
    for i, row in enumerate(built):
        assert (batch["picture"][i].permute(1, 2, 0).numpy() == np.asarray(row["image"])).all()
        assert (batch["foreground"][i].numpy() == (np.asarray(row["masks"]) > 0)).all()
        assert batch["tokens"][i].tolist()[: len(row["tokens"])] == row["tokens"]


def test_stored_and_rendered_scenes_of_the_same_captions_make_the_same_batch(data: Path) -> None:
    said: Any = load_dataset(str(data), "scenes", split="test_color_shape+test_longer")
    for name in ("test_color_shape", "test_longer"):
        rows = Stored(str(data), name)
        assert len(rows) and {split(rows[i]) for i in range(len(rows))} == {name}
        # the caption without places and the layout's seed, as on the fly, instead of the places
        again = [place(parse(row["caption"]), row["layout_seed"]) for row in said if row["split"] == name]
        one, other = collate([rows[i] for i in range(len(rows))], 64), collate(again, 64)
        assert all(torch.equal(one[key], other[key]) for key in ("tokens", "picture", "foreground"))


def test_the_loader_makes_whole_batches_of_the_split(data: Path) -> None:
    for source, rows in (("", 10), (str(data), len(Stored(str(data))))):
        batches = loader(source, 10, 3, 4, 64, 0)
        assert isinstance(batches, DataLoader) and len(batches) == rows // 4
        for batch in batches:
            assert batch["picture"].shape == (4, 3, 64, 64) and batch["foreground"].shape == (4, 64, 64)
            assert {split(parse(decode(tokens.tolist()))) for tokens in batch["tokens"]} == {"train"}


def test_worker_processes_make_the_same_batches() -> None:
    def drawn(workers: int) -> list[dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        return list(loader("", 8, 3, 4, 64, workers))

    for one, other in zip(drawn(0), drawn(2), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
