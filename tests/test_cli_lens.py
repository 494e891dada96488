"""`hubmodels lens` and `hubmodels eval lens`: an edit, readings, a report, or one line that says why not."""

import json
import re
from dataclasses import replace
from pathlib import Path

import lens_parts
import pytest
import torch
from command import refusal, run
from PIL import Image

from hubmodels import DiffusionLens, DiffusionLensConfig
from hubmodels.images import from_pil, to_pil, to_uint8
from hubmodels.lens import camo
from hubmodels.lens.classifier import loaded


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder, with small models as the released ones."""
    monkeypatch.chdir(tmp_path)
    base, reader = lens_parts.saved(tmp_path, camo.CLASSES)
    config = DiffusionLensConfig(str(base), classifier=str(reader), labels="; ".join(camo.CLASSES), rank=2, size=16)
    lens = DiffusionLens.fresh(config, lens_parts.base(conditioned=True))
    with torch.no_grad():
        for weight in lens.learned.values():
            weight.normal_(std=0.3)
    lens.save_pretrained("weights")
    monkeypatch.setenv("MODEL", str(tmp_path / "weights"))
    to_pil(camo.scene("test", 0, 4, "clear", 48)[0]).save("photo.png")


def shares(line: str) -> list[tuple[str, float]]:
    return [(name, float(share)) for name, share in re.findall(r"([a-z]+) ([\d.]+)%", line)]


def test_what_is_printed_is_read_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    run("lens", "photo.png", "-o", "out.png", "--label", "dog", "--ensemble", "--seed", "5")
    before, after, both, wrote = capsys.readouterr().out.splitlines()
    assert wrote == "wrote out.png"
    picture = Image.open("out.png")
    assert picture.size == (16, 16)
    reader = loaded("reader", camo.CLASSES)
    with torch.no_grad():
        chances = reader(from_pil(picture)[None]).softmax(1)[0]
    found = dict(shares(after))
    assert found["dog"] == pytest.approx(100 * float(chances[4]), abs=0.3)  # the file has 8 bits
    assert shares(after)[0][1] == max(found.values()) and len(shares(before)) == 4
    assert before.startswith("before:") and both.startswith("both:")
    run("lens", "photo.png", "-o", "again.png", "--seed", "5")
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()


def test_a_label_that_nobody_knows_changes_no_edit(capsys: pytest.CaptureFixture[str]) -> None:
    run("lens", "photo.png", "-o", "out.png")
    before = capsys.readouterr().out
    run("lens", "photo.png", "-o", "again.png", "--label", "horze")
    note, *others = capsys.readouterr().out.splitlines(keepends=True)
    assert "'horze' is not one of them; did you mean horse?" in note
    assert "".join(others) == before.replace("out.png", "again.png")
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()


def test_a_gate_leaves_alone_what_is_clear(capsys: pytest.CaptureFixture[str]) -> None:
    run("lens", "photo.png", "-o", "out.png", "--gate", "0.05")
    assert "left as it is: the classifier is" in capsys.readouterr().out
    from hubmodels.lens.data import from_file

    square = from_file(16, Path("photo.png"))
    assert torch.equal(to_uint8(from_pil(Image.open("out.png"))), to_uint8(square))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "nothing.png is not there"),
        (["photo.png", "--gate", "2"], "--gate goes from 0 to 1, got 2"),
        (["photo.png", "--strength", "0"], "strength must be above 0 and at most 1, got 0"),
        (["photo.png", "--strength", "1.5"], "strength must be above 0 and at most 1, got 1.5"),
        (["photo.png", "-o", "out.jpg"], "the name must end in .png"),
        (["photo.png", "--labels", "cat", "unicorn"], "'unicorn' is not one of them"),
        (["photo.png", "--weights", "nowhere"], "nowhere"),
        (["dot.png"], "dot.png has 1 x 1 pixels: at least 8 a side are wanted"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], message: str) -> None:
    Image.new("RGB", (1, 1)).save("dot.png")
    assert message in refusal("lens", *arguments)
    assert not Path("edited.png").exists()


def test_a_report_and_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--judge", "reader", "--rows", "20", "--card", "--report", "deep/report.json")
    before = DiffusionLens.from_pretrained("weights")
    run("eval", "lens", "--weights", "weights", *options)
    said = capsys.readouterr().out
    result = json.loads(Path("deep/report.json").read_text())
    assert result["pictures"] == 20 and "| **tuned** |" in said and "wrote deep/report.html" in said
    card = Path("weights/README.md").read_text()
    assert "Whose silhouettes" in card or "whose silhouettes" in card
    assert all((Path("weights") / name).is_file() for name in ("edits.png", "fixed.png", "broken.png"))
    after = DiffusionLens.from_pretrained("weights")
    assert after.config == replace(before.config, gate=result["gate"])
    assert all(torch.equal(after.learned[name], weight) for name, weight in before.learned.items())


def test_options_of_another_system_are_refused() -> None:
    assert "--judge is for lens" in refusal("eval", "circular", "--judge", "reader")
