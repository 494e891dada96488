"""Folders of backgrounds: painted, out of games, and of one's own; opened as a user opens them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from loopback_hub import LoopbackHub
from PIL import Image

from datasets_builders import pixelscene, vga_captions, vga_games
from datasets_builders.folder import BuildError
from datasets_builders.pixelscene import Config, build, main, painted, split
from datasets_builders.vga_games import Picture
from hubmodels.pixelscene.data import read
from hubmodels.pixelscene.procedural import make

RNG = np.random.default_rng(0)
ROWS = 24


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(Config(tmp_path_factory.mktemp("data") / "vga", rows=ROWS, workers=1))


def load(where: Path, tmp_path: Path) -> Any:
    return load_dataset(str(where), cache_dir=str(tmp_path / "cache"))


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_row_depends_on_seed_and_number_alone() -> None:
    rows = list(painted(3, 200, 0, 4))
    assert list(painted(3, 200, 2, 3)) == rows[2:3]
    assert list(painted(4, 200, 2, 3)) != rows[2:3]
    assert np.asarray(read(next(iter(decoded(painted(3, 192, 0, 1)))))[0]).shape == (192, 320)


def decoded(rows: Any) -> Any:
    import io

    for row in rows:
        yield row | {"image": Image.open(io.BytesIO(row["image"]["bytes"]))}


def test_rows_hold_what_was_painted(built: Path, tmp_path: Path) -> None:
    data = load(built, tmp_path)
    assert sum(len(part) for part in data.values()) == ROWS and data["train"].features == pixelscene.FEATURES
    captions: set[str] = set()
    for name, part in data.items():
        for row in part:
            scene = make(int(row["name"]), 200)
            indices, palette = read(row)
            assert (indices == scene.indices).all() and (palette == scene.palette).all()
            assert row["caption"] == scene.caption and split(scene.facts) == row["split"] == name
            assert row["license"] == "CC0-1.0"
        assert captions.isdisjoint(part["caption"])
        captions |= set(part["caption"])
    sheet = Image.open(built / "preview.png")
    assert sheet.width > 4 * 320


def test_shares_of_splits_are_what_they_should_be() -> None:
    names = [split(f"facts {number}") for number in range(4000)]
    assert names.count("test") / 4000 == pytest.approx(pixelscene.TEST, abs=0.02)
    assert names.count("validation") / 4000 == pytest.approx(pixelscene.VALIDATION, abs=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": 0}, "--rows must be at least 1"),
        ({"height": 100}, "--height must be one of 192, 200"),
        ({"seed": -1}, "--seed must be from 0"),
        ({"workers": -1}, "--workers must not be negative"),
        ({"source": "folder"}, "wants --images FOLDER and --captions"),
        ({"source": "folder", "images": Path("nowhere"), "captions": Path("x")}, "--images nowhere is no folder"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        build(replace(Config(tmp_path / "out"), **change))
    assert not (tmp_path / "out").exists()


# --- games ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def games(monkeypatch: pytest.MonkeyPatch) -> dict[str, Picture]:
    """All games with other pictures: noise, of which no test needs to fetch anything."""
    made = {}

    def read_game(game: vga_games.Game) -> Any:
        for name in dict.fromkeys(name.split("-")[0] for name in vga_captions.captions(game.captions)):
            wide = {f"{name}-l", f"{name}-r"} & vga_captions.captions(game.captions).keys()
            indices = RNG.integers(0, 256, (150, 640 if wide else 320), dtype=np.uint8)
            palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8) & 0xFC
            made[f"{game.name} {name}"] = Picture(name, indices, palette, ("door", "dummy"))
        return lambda package: (one for key, one in made.items() if key.startswith(f"{game.name} "))

    fakes = tuple(replace(game, read=read_game(game)) for game in vga_games.GAMES)
    monkeypatch.setattr(vga_games, "GAMES", fakes)
    monkeypatch.setattr(vga_games.Game, "notice", lambda self: f"the licence of {self.name}".encode())
    return made


def test_rooms_of_games_stay_together_and_bring_their_licences(games: dict[str, Picture], tmp_path: Path) -> None:
    out = build(Config(tmp_path / "games", source="debian", workers=1))
    data = load(out, tmp_path)
    owners: dict[str, str] = {}
    count = 0
    for name, part in data.items():
        for row in part:
            game = next(game for game in vga_games.GAMES if game.title == row["source"])
            room, half = (row["name"].split("-") + [""])[:2]
            assert owners.setdefault(f"{game.name} {room}", name) == name
            indices, palette = read(row)
            true = games[f"{game.name} {room}"]
            assert (indices == (true.indices[:, -320:] if half == "r" else true.indices[:, :320])).all()
            assert (palette == true.palette).all()
            assert row["caption"] == vga_captions.captions(game.captions)[row["name"]]
            assert row["objects"] == ["door"] and row["license"] == game.license
            count += 1
    assert count >= 220
    for game, pairs in vga_captions.ALIKE.items():
        assert all(owners[f"{game} {one}"] == owners[f"{game} {other}"] for one, other in pairs.items()), game
    card = (out / "README.md").read_text()
    for game in vga_games.GAMES:
        assert (out / f"LICENSE-{game.name}.txt").read_text() == f"the licence of {game.name}"
        assert game.title in card
    assert "license: other" in card


# --- folders of one's own ---------------------------------------------------------------------------------------------


def own(folder: Path, count: int, first: int = 0) -> None:
    """Adds pictures and their captions to a folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "captions.jsonl").open("a") as captions:
        for number in range(first, first + count):
            pixels = np.random.default_rng(number).integers(0, 256, (30, 3), dtype=np.uint8)
            picture = pixels[np.random.default_rng(number).integers(0, 30, (200, 320))]
            Image.fromarray(picture).save(folder / "images" / f"{number}.png")
            captions.write(json.dumps({"image": f"{number}.png", "caption": f"A hall with {number} doors"}) + "\n")


def test_a_folder_of_ones_own_grows_and_splits_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(tmp_path / "mine", 30)
    config = Config(tmp_path / "first", source="folder", license="CC-BY-4.0", workers=1)
    config = replace(config, images=tmp_path / "mine/images", captions=tmp_path / "mine/captions.jsonl")
    data = load(build(config), tmp_path)
    splits = {row["name"]: name for name, part in data.items() for row in part}
    assert len(splits) == 30 and set(splits.values()) >= {"train", "test"}
    row = data["train"][0]
    with Image.open(tmp_path / "mine/images" / row["name"]) as image:
        indices, palette = read(row)
        assert (palette[indices] == np.asarray(image)).all()
    assert row["license"] == "CC-BY-4.0" and row["caption"] == f"A hall with {row['name'][:-4]} doors"
    own(tmp_path / "mine", 10, 30)
    Image.new("RGB", (320, 200)).save(tmp_path / "mine/images/black.png")
    grown = build(replace(config, out=tmp_path / "second"))
    again = {row["name"]: name for name, part in load(grown, tmp_path).items() for row in part}
    assert len(again) == 40 and again.items() >= splits.items()
    assert json.loads((grown / "left_out.jsonl").read_text()) == {"image": "black.png", "why": "it has no caption"}
    assert "left out: black.png" in capsys.readouterr().err


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_any_number_of_workers_makes_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """Two more processes, which import torch and paint all again."""
    other = build(Config(tmp_path / "vga", rows=ROWS, workers=2))
    assert bytes_of(other) == bytes_of(built)


def test_it_is_published_once_and_loads_from_the_hub(
    built: Path, tmp_path: Path, hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(built, rows=ROWS, push_to="org/vga")
    for _ in range(2):
        main(config)
    assert "finished already" in capsys.readouterr().err
    pushed = load_dataset("org/vga", cache_dir=str(tmp_path / "cache"))
    assert sum(len(part) for part in pushed.values()) == ROWS  # type: ignore[union-attr]


def test_what_is_in_the_way_is_said_in_one_line(built: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(Config(built, rows=ROWS))
    assert "is finished already" in str(stop.value) and "\n" not in str(stop.value)
