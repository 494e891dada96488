"""`hubmodels eval pixelscene`: a report and two cards, or one line that says why not."""

import json
from pathlib import Path

import pytest
from command import refusal, run

from datasets_builders.pixelscene import Config, build
from hubmodels import PixelTransformer, PixelVQGAN
from hubmodels.pixelscene import judge, report
from tests.pixelscene.test_scene import models


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(Config(tmp_path_factory.mktemp("data") / "vga", rows=40, workers=1))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, model in zip(("vqgan", "prior"), models(), strict=True):
        model.save_pretrained(tmp_path / name)
    for module, name, value in ((judge, "EPOCHS", 1), (report, "TILED", 1), (report, "TWINS", 1)):
        monkeypatch.setattr(module, name, value)


def test_it_leaves_a_report_pictures_and_both_cards(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--vqgan", "vqgan", "--weights", "prior", "--data", str(data), "--rows", "2", "--card"]
    run("eval", "pixelscene", *options, "--report", "new/report.json")
    result = json.loads(Path("new/report.json").read_text())
    assert {path.name for path in Path("new").iterdir()} == {"report.json", "drawn.png", "nearest.png", "rebuilt.png"}
    assert result["exact_palette"] == 1 and "real" not in result["tokenizer"]
    said = capsys.readouterr().out
    assert "| pixels exactly of the palette | 100 % | 100.00% | met |" in said
    for folder, picture in (("vqgan", "rebuilt.png"), ("prior", "drawn.png")):
        card = Path(folder, "README.md").read_text()
        assert report.table(result) in card and f"]({picture})" in card and Path(folder, picture).exists()
    PixelVQGAN.from_pretrained("vqgan")
    PixelTransformer.from_pretrained("prior")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["distill", "--real", "data"], "are for pixelscene"),
        (["pixelscene", "--size", "64"], "--size is for neuropbr"),
        (["pixelscene", "--rows", "0"], "--rows must be at least 1"),
        (["pixelscene", "--vqgan", "vqgan", "--weights", "prior", "--data", "nothing"], "--out nothing"),
        (
            ["pixelscene", "--vqgan", "prior", "--weights", "prior", "--data", "DATA"],
            "is not that of a PixelVQGANConfig",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line(options: list[str], words: str, data: Path) -> None:
    assert words in refusal("eval", *[str(data) if one == "DATA" else one for one in options])
