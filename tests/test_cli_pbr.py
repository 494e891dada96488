"""`hubmodels pbr`: photos become a folder that other programs open, or one line says why not."""

import json
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refusal, run
from PIL import Image

from hubmodels.neuropbr.export import load_material
from hubmodels.neuropbr.model import NeuroPBR, NeuroPBRConfig
from hubmodels.neuropbr.predict import predict, read_photo

TINY = NeuroPBRConfig(channels=8, growth=1.0, levels=2, summary=8, heads=1, depth=1, tokens=1)
SQUARE = "2,2 60,3 61,45 3,44"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = NeuroPBR(TINY)
    torch.nn.init.normal_(model.decoder.head.weight, std=0.1)
    torch.nn.init.zeros_(model.decoder.head.bias)
    folder = tmp_path_factory.mktemp("weights") / "neuropbr"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """Three photos of 64 x 48 pixels in a folder of their own, with the small model as the released one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL", str(weights))
    draw = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        coarse = Image.fromarray(draw.integers(60, 200, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(f"{name}.png")


# --- what it makes


def test_photos_become_a_material(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        "pbr",
        "a.png",
        "b.png",
        "c.png",
        "-o",
        "material",
        "--size",
        "64",
        "--credit",
        "A. Nyone, CC0",
        "--physical-size",
        "0.5",
    )
    said = capsys.readouterr()
    description = json.loads(Path("material/material.json").read_text())
    for name in description["files"]:
        assert Path("material", name).stat().st_size and f"wrote material/{name}\n" in said.out
    assert "tiles: 100%" in said.err
    assert (description["width"], description["height"]) == (64, 48), "no corners: the surface is as the photo"
    assert (description["credit"], description["physical_size_m"]) == ("A. Nyone, CC0", 0.5)
    assert not description["tileable"]
    page = Path("material/report.html").read_text()
    assert all(words in page for words in ("a.png", "b.png", "c.png", "A. Nyone, CC0", "64 × 48 texels, 0.5 × 0.375 m"))
    assert page.count(" dB, explained") == 3 == len(re.findall(r"^[abc]\.png: \S+ dB, ", said.out, re.M))
    photos = [read_photo(f"{name}.png") for name in "abc"]
    expected = predict(NeuroPBR.from_pretrained(weights), photos, size=(48, 64))
    for name, one in load_material("material").items():
        if name in expected:
            assert (one - expected[name]).abs().max() < 0.02, name


def test_corners_options_and_a_second_run_into_the_same_folder(capsys: pytest.CaptureFixture[str]) -> None:
    run("pbr", "a.png", "-o", "m", "--size", "32")
    Path("m/note.txt").write_text("mine")
    assert Path("m/sweep.gif").exists()
    capsys.readouterr()
    run(
        "pbr",
        "a.png",
        "b.png",
        "--corners",
        SQUARE,
        SQUARE,
        "-o",
        "m",
        "--size",
        "32",
        "--normal",
        "dx",
        "--tile",
        "--refine",
        "2",
        "--no-report",
    )
    said = capsys.readouterr().out
    description = json.loads(Path("m/material.json").read_text())
    assert (description["width"], description["height"], description["tileable"]) == (32, 32, True)
    assert Path("m/normal_dx.png").exists() and not Path("m/normal_gl.png").exists()
    assert Path("m/note.txt").read_text() == "mine"
    assert not Path("m/report.html").exists() and not Path("m/sweep.gif").exists(), "of the maps before"
    assert "dB before refining" in said and said.index("dB before") < said.index("wrote")
    run("pbr", "a.png", "--corners=-5,-5 70,0 70,50 -5,50", "-o", "outside", "--size", "32", "--aspect", "0.5")
    assert Image.open("outside/albedo.png").size == (32, 16)


def test_the_validator_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    run("pbr", "a.png", "-o", "m", "--size", "32")  # the metallic of these weights is a half
    assert "fail: 100% of the surface is neither metal nor dielectric" in capsys.readouterr().out


def test_photos_of_all_kinds_are_taken() -> None:
    grey = Image.open("a.png").convert("L")
    grey.save("grey.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save("deep.png")
    Image.open("a.png").convert("RGBA").save("alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open("a.png").save("turned.jpg", exif=exif)
    run("pbr", "grey.png", "deep.png", "alpha.png", "-o", "m", "--size", "32")
    run("pbr", "turned.jpg", "-o", "turned", "--size", "32")
    assert Image.open("turned/albedo.png").size == (24, 32), "held upright as its EXIF says"


def test_weights_may_be_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "nowhere/at/all")
    run("pbr", "a.png", "-o", "m", "--size", "32", "--weights", str(weights))
    assert Path("m/material.glb").exists()
    assert "neither a folder here nor" in refusal("pbr", "a.png", "-o", "n", "--size", "32")


# --- what it answers


def bomb(path: str, side: int) -> None:
    """A PNG whose header says that it is that large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100))
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def test_photos_that_cannot_be_taken_are_named() -> None:
    Path("text.jpg").write_text("not a picture")
    Path("empty.jpg").write_bytes(b"")
    Path("folder.jpg").mkdir()
    shutil.copy("a.png", "cut.png")
    content = Path("cut.png").read_bytes()
    Path("cut.png").write_bytes(content[: len(content) // 2])
    Image.open("a.png").save("cut.jpg")
    content = Path("cut.jpg").read_bytes()
    Path("cut.jpg").write_bytes(content[: len(content) // 2])
    Image.open("a.png").convert("CMYK").save("inks.jpg")
    bomb("bomb.png", 30_000)
    bomb("large.png", 9_000)
    for name, words in [
        ("missing.jpg", "does not exist"),
        ("text.jpg", "not a picture"),
        ("empty.jpg", "not a picture"),
        ("folder.jpg", "cannot be read"),
        ("cut.png", "damaged"),
        ("cut.jpg", "save or download it again"),
        ("inks.jpg", "CMYK"),
        ("bomb.png", "too many pixels"),
        ("large.png", "9000 x 9000"),
    ]:
        line = refusal("pbr", "a.png", name, "-o", "m")
        assert name in line and words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give 1 to 100 photos, got 0"),
        (["a.png"] * 101, "give 1 to 100 photos, got 101"),
        (["a.png", "--size", "8"], "--size from 16 to 4096"),
        (["a.png", "--size", "5000"], "--size from 16 to 4096"),
        (["a.png", "--refine", "-1"], "--refine goes from 0 to 1000"),
        (["a.png", "--aspect", "0"], "--aspect is height by width"),
        (["a.png", "b.png", "--corners", SQUARE], "four points for each of 2 photos, got 1"),
        (["b.png", "--corners", "1,1 2,2 3,3"], "b.png: corners are four points"),
        (["b.png", "--corners", "1,1 2,x 3,3 4,4"], "b.png: corners are four points"),
        (["b.png", "--corners", "1,1 nan,1 40,40 1,40"], "b.png: corners must be numbers"),
        (["b.png", "--corners", "1,1 20,20 40,40 60,60"], "b.png: the corners lie on a line"),
        (["b.png", "--corners", "5,5 5,5 40,40 5,40"], "b.png: two corners fall on the same spot"),
        (["b.png", "--corners", "5,40 40,40 40,5 5,5"], "b.png: the corners go round anticlockwise"),
        (["a.png", "--credit", "two\nlines", "--size", "32"], "credit must be one line"),
        (["a.png", "--physical-size", "-1", "--size", "32"], "physical_size must be"),
    ],
)
def test_a_wrong_option_is_explained(arguments: list[str], words: str) -> None:
    assert words in refusal("pbr", *arguments, "-o", "m")


def test_a_folder_of_something_else_stays_as_it_is() -> None:
    Path("photos").mkdir()
    Path("photos/holiday.jpg").write_text("dear")
    assert "photos is not a material that was saved here" in refusal("pbr", "a.png", "-o", "photos")
    assert "a.png is not a material" in refusal("pbr", "a.png", "-o", "a.png")
