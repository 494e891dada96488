"""`hubmodels scene`: words become index pictures that say what drew them, or one line says why not."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import refusal, run
from PIL import Image

from hubmodels.cli import scene
from hubmodels.pixelscene import scene as pixelscene
from hubmodels.pixelscene.palettes import BUILT_IN, read
from hubmodels.pixelscene.sampling import Sampling
from tests.pixelscene.test_scene import PALETTE, models

QUICK = ["--rounds", "2", "--size", "80x64"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    for name, model in zip(("vqgan", "prior"), models(), strict=True):
        model.save_pretrained(folder / name)
    return folder / "vqgan", folder / "prior"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: tuple[Path, Path]) -> None:
    """A folder of its own with a picture of 96 x 72 in 40 colours; the small models are the released ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQGAN", str(weights[0]))
    monkeypatch.setenv("PRIOR", str(weights[1]))
    image = Image.fromarray(np.random.default_rng(1).integers(0, 40, (72, 96), dtype=np.uint8), "P")
    image.putpalette(PALETTE.tobytes())
    image.save("room.png")


def test_the_command_draws_as_the_library_does_if_nothing_is_said() -> None:
    said = inspect.signature(scene).parameters
    for setting in fields(Sampling):
        assert setting.name == "seed" or said[setting.name].default == setting.default, setting.name


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        assert image.mode == "P"
        return np.asarray(image)


def test_several_pictures_with_all_that_goes_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-o", "out.png", "-t", "0.9", "-k", "10", "-n", "2", "--seed", "3", "--palette", "ega"]
    run("scene", "A castle at night", *options, *QUICK, "--scale", "3", "--export", "gpl", "aseprite", "lbm")
    written = [line.removeprefix("wrote ") for line in capsys.readouterr().out.splitlines() if "wrote" in line]
    expected = {f"out-{n}{end}" for n in (1, 2) for end in (".png", "-x3.png", ".gpl", ".aseprite", ".lbm")}
    assert set(written) == expected | {"out-sheet.png"} == {path.name for path in Path().iterdir()} - {"room.png"}
    with Image.open("out-1.png") as image, Image.open("out-2.png") as other:
        assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3), BUILT_IN["ega"])
        assert image.text["caption"] == "A castle at night" and image.text["seed"] == "3"  # type: ignore
        assert other.text["seed"] == "4" and len(other.text["weights"]) == 16  # type: ignore
        assert np.array_equal(pixels("out-1-x3.png")[::3, ::3], np.asarray(image))
    assert np.array_equal(read("out-1.gpl"), BUILT_IN["ega"])
    assert (pixels("out-1.png") != pixels("out-2.png")).any()
    run("scene", "A castle at night", "-o", "again.png", "--seed", "4", "-k", "10", "--palette", "ega", *QUICK)
    assert np.array_equal(pixels("again.png"), pixels("out-2.png")), "picture i is that of seed + i - 1"


def test_many_pictures_come_in_parts_and_are_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["a castle in Transylvania", "--seed", "3", "-n", "3", *QUICK]
    run("scene", *options, "-o", "a.png")
    assert "not known, so not drawn: " in (said := capsys.readouterr().err) and "transylvania" in said
    monkeypatch.setattr(pixelscene, "AT_ONCE", 2)
    run("scene", *options, "-o", "b.png")
    for number in (1, 2, 3):
        assert np.array_equal(pixels(f"a-{number}.png"), pixels(f"b-{number}.png"))


def test_what_is_finished_is_kept_when_the_next_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixelscene, "AT_ONCE", 1)
    draw, left = pixelscene.draw, iter([True, False])

    def once(*arguments: Any, **options: Any) -> Any:
        if not next(left):
            raise ValueError("no more of them")
        return draw(*arguments, **options)

    monkeypatch.setattr(pixelscene, "draw", once)
    with pytest.raises(SystemExit, match="no more of them"):
        run("scene", "a castle", "-n", "2", "--seed", "1", *QUICK)
    assert pixels("scene-1.png").shape == (64, 80)


@pytest.mark.parametrize(
    "options",
    [["--size", "big"], *(["--edit", "room.png", *wrong] for wrong in (
        ["--mask", "here"], ["--outpaint", "rihgt=8"], ["--variations", "2", "--strength", "2"]
    ))],
)  # fmt: skip
def test_what_is_asked_for_is_looked_at_before_networks_are_loaded(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQGAN", "org/nothing")
    assert "org/nothing" not in refusal("scene", "a castle", *options)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_part_is_drawn_anew(backend: str) -> None:
    run("scene", "a castle", "--edit", "room.png", "--mask", "8,16,40,24", "-o", "o.png", "--seed", "1", *QUICK[:2],
        "--backend", backend)  # fmt: skip
    before, after = pixels("room.png"), pixels("o.png")
    changed = before != after
    assert changed[16:40, 8:48].any() and changed.sum() == changed[16:40, 8:48].sum()
    marked = np.zeros((72, 96), np.uint8)
    marked[16:40, 8:48] = 255
    Image.fromarray(marked).save("mask.png")
    run("scene", "a castle", "--edit", "room.png", "--mask", "mask.png", "-o", "p.png", "--seed", "1", *QUICK[:2],
        "--backend", backend)  # fmt: skip
    assert np.array_equal(pixels("p.png"), after)


def test_beyond_the_edge_variations_and_tiles() -> None:
    run("scene", "a castle", "--edit", "room.png", "--outpaint", "right=16,top=8", "-o", "wide.png", *QUICK[:2])
    assert pixels("wide.png").shape == (80, 112) and np.array_equal(pixels("wide.png")[8:, :96], pixels("room.png"))
    run("scene", "a castle", "--edit", "room.png", "--variations", "2", "--strength", "0.5", "-o", "v.png", *QUICK[:2])
    assert (pixels("v-1.png") != pixels("v-2.png")).any()
    run("scene", "a castle", "--tile", "x", "-o", "tile.png", *QUICK)
    assert pixels("tile.png").shape == (64, 80)
    run("scene", "a castle", "--edit", "room.png", "--tile", "x", "-o", "tiled.png", *QUICK[:2])
    assert np.array_equal(pixels("tiled.png")[:, 16:-16], pixels("room.png")[:, 16:-16])


def test_an_edit_is_made_in_several_ways() -> None:
    edit = ["--edit", "room.png", "--mask", "8,16,40,24", *QUICK[:2]]
    run("scene", "a castle", *edit, "-o", "e.png", "-n", "3", "--seed", "5")
    run("scene", "a castle", *edit, "-o", "last.png", "--seed", "7")
    assert np.array_equal(pixels("e-3.png"), pixels("last.png")) and (pixels("e-1.png") != pixels("e-2.png")).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mask", "0,0,8,8"], "--mask wants --edit"),
        (["--outpaint", "left=8"], "--outpaint wants --edit"),
        (["--edit", "room.png"], "--edit wants one of"),
        (["--edit", "room.png", "--mask", "0,0,8,8", "--tile", "x"], "choose one"),
        (["--edit", "room.png", "--mask", "0,0,8,8", "--palette", "ega"], "keeps its palette"),
        (["--edit", "room.png", "--mask", "90,0,80,8"], "not inside of the picture of 96 x 72"),
        (["--edit", "room.png", "--mask", "here"], "a mask is"),
        (["--edit", "room.png", "--outpaint", "up=8"], "--outpaint looks like"),
        (["--edit", "room.png", "--outpaint", "left=9"], "multiples of 8"),
        (["--edit", "nothing.png", "--mask", "0,0,8,8"], "nothing.png is not there"),
        (["--edit", "text.png", "--mask", "0,0,8,8"], "text.png cannot be read as a picture"),
        (["--size", "big"], "--size looks like"),
        (["--size", "81x64"], "multiples of 8"),
        (["--palette", "sepia"], "is no palette"),
        (["--palette", "many.gpl"], "many.gpl"),
        (["--palette", "none.gpl"], "none.gpl"),
        (["-t", "-1"], "temperature"),
        (["-t", "nan"], "temperature"),
        (["--guidance", "inf"], "guidance"),
        (["-o", "nowhere/out.png"], "no folder nowhere"),
        (["--edit", "room.png", "--variations", "2", "-n", "2"], "leave out --n"),
        (["--palette", "torn.png"], "torn.png cannot be read"),
        (["--palette", "huge.png"], "at most 16777216"),
        (["-n", "0"], "--n goes from 1"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["-o", "out.jpg"], "must end in .png"),
        (["--vqgan", "PRIOR"], "is not that of a PixelVQGANConfig"),
    ],
)
def test_what_cannot_be_done_is_one_line(options: list[str], words: str, weights: Any) -> None:
    Path("text.png").write_text("no picture")
    Path("many.gpl").write_text("GIMP Palette\n" + "1 2 3\n" * 300)
    Path("none.gpl").write_text("GIMP Palette\n")
    Path("torn.png").write_bytes(Path("room.png").read_bytes()[:400])
    Image.new("1", (9_000, 9_000)).save("huge.png")
    before = set(Path().iterdir())
    options = [str(weights[1]) if option == "PRIOR" else option for option in options]
    assert words in refusal("scene", "a castle", *options)
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize("caption", ["", "🌲🌲", "castle " * 5000])
def test_any_words_draw_something(caption: str) -> None:
    run("scene", caption, "-o", "out.png", "--seed", "1", *QUICK)
    assert pixels("out.png").shape == (64, 80)
