"""`hubmodels roundtrip` and `hubmodels eval circular`: pictures, readings, a report, or one line that says why not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refusal, run
from PIL import Image

from hubmodels import CircularScene, CircularSceneConfig
from hubmodels.circular import report
from hubmodels.images import from_pil

SMALL = {"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "painter": 16, "reader": 16, "reader_layers": 1}
SENTENCE = "The red ball is left of the blue cube."


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder, with small models as the released ones."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    CircularScene(CircularSceneConfig(**SMALL)).save_pretrained("weights")
    CircularScene(CircularSceneConfig(**SMALL, language="scenes", layout=True, slots=8)).save_pretrained("grounded")
    monkeypatch.setenv("MODEL", str(tmp_path / "weights"))


@pytest.mark.parametrize(("weights", "sentence"), [("weights", "a large red ball in the left"), ("grounded", SENTENCE)])
def test_what_is_printed_is_read_from_the_file(weights: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("roundtrip", sentence, "-o", "scene.png", "--seed", "3", "--weights", weights, "--words")
    said = capsys.readouterr().out.splitlines()
    model = CircularScene.from_pretrained(weights).eval()
    picture = Image.open("scene.png")
    (reading,) = model.read(from_pil(picture)[None])
    assert picture.size == (64, 64) and f"read: {reading.sentence}" in said
    assert said[-1].split("  ")[0] == f"{reading.confidence[0][0]} {reading.confidence[0][1]:.0%}"
    words, cells = Image.open("scene-words.png"), len(model.tokenized([sentence])[0][0]) - 1
    assert words.width == 2 + min(cells, 8) * (3 * 64 + 2)  # enlarged, eight in a row, with lines between them
    assert np.array_equal(np.asarray(words)[2:194:3, 2:194:3], np.asarray(picture))


def test_a_seed_means_a_picture_and_noise_is_seen() -> None:
    files = {"a": ["--seed", "1"], "b": ["--seed", "1"], "c": ["--seed", "2"], "d": ["--seed", "1", "--noise", "0.3"]}
    for name, options in files.items():
        run("roundtrip", SENTENCE, "-o", f"{name}.png", *options)
    a, b, c, d = (np.asarray(Image.open(f"{name}.png"), dtype=float) for name in files)
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert 0.5 * 0.3 < (d - a).std() / 127.5 < 0.3  # clipped in places, so a little less
    run("roundtrip", SENTENCE, "-o", "large.png", "--seed", "1", "--scale", "3")
    assert np.array_equal(np.asarray(Image.open("large.png"))[::3, ::3], a)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["the rad ball is left of the blue cube"], "did you mean red"),
        ([""], "the sentence is empty"),
        (["a " * 300], "at most 400 are read"),
        (["the red ball is left the blue cube"], "expected of"),
        ([SENTENCE, "--noise", "3"], "--noise goes from 0 to 2"),
        ([SENTENCE, "--scale", "0"], "--scale from 1 to 16"),
        ([SENTENCE, "-o", "scene.jpg"], "must end in .png"),
        ([SENTENCE, "--weights", "no/such"], "no/such"),
        (["a large red ball in the left", "--weights", "grounded"], "is not a word of this language"),
    ],
)
def test_what_cannot_be_read_back_is_one_line(options: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert words in refusal("roundtrip", *options)
    assert not list(Path().glob("*.png")) and not list(Path().glob("*.jpg"))


@pytest.mark.parametrize("weights", ["weights", "grounded"])
def test_it_leaves_a_report_pictures_and_a_card(weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--weights", weights, "--rows", "12", "--afresh", "2", "--card"]
    run("eval", "circular", *options, "--report", "new/report.json")
    result = json.loads(Path("new/report.json").read_text())
    assert {path.name for path in Path("new").iterdir()} == {"report.json", "roundtrips.png", "words.png"}
    assert result["splits"]["test"]["sentences"] == 12 and "test_longer" in result["splits"]
    assert {"shuffled", "blank", "noise", "untrained"} <= result["references"].keys()
    assert ("teacher" in result["references"]) == (weights == "grounded")
    assert result["afresh"]["steps"] == 2 and result["retrieval"]["pictures"] == 1000
    card = Path(weights, "README.md").read_text()
    assert report.table(result) in card and report.table(result) in capsys.readouterr().out
    assert all(f"]({name}.png)" in card and Path(weights, f"{name}.png").exists() for name in ("roundtrips", "words"))
    CircularScene.from_pretrained(weights)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["circular", "--data", "data"], "leave out --data"),
        (["circular", "--afresh", "-1"], "--afresh is 0 or more"),
        (["distill", "--afresh", "3"], "--afresh is for circular"),
        (["circular", "--size", "64"], "--size is for neuropbr"),
    ],
)
def test_what_cannot_be_measured_is_one_line(options: list[str], words: str) -> None:
    assert words in refusal("eval", *options)
