"""`hubmodels eval neuropbr`: a report of made-up and real materials, or one line that says why not."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from command import refusal, run
from PIL import Image

from datasets_builders import neuropbr as builder
from hubmodels import cli
from hubmodels.neuropbr import report
from hubmodels.neuropbr.model import NeuroPBR, NeuroPBRConfig
from hubmodels.neuropbr.procedural import make

TINY = NeuroPBRConfig(channels=8, growth=1.0, levels=2, summary=16, heads=2, depth=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "neuropbr"
    NeuroPBR(TINY).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What --real builds, of three materials and a light that need no download."""
    real = builder.real_materials
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real, "MATERIALS", (real.MATERIALS[0], real.MATERIALS[2], real.MATERIALS[-1]))
        patch.setattr(builder.packages, "fetch", lambda package: Path())
        patch.setattr(real, "read", lambda material, size: make(len(material.name), size).maps)
        patch.setattr(real, "environment", lambda name: torch.ones(3, 8, 16))
        patch.setattr(builder, "TILE_PX", 16)
        options = {"size": 48, "photo": 64, "dirty": 0.5, "workers": 1}
        return builder.build(builder.Config(tmp_path_factory.mktemp("data") / "real", real=True, **options))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL", str(weights))
    monkeypatch.setattr(report, "TYPICAL", 4)


def test_made_up_and_real_materials_are_reported_apart(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(weights, "mine")
    Path("run").mkdir()
    Path("run/config.json").write_text(json.dumps({"run": {"batch_size": 6}}))
    Path("run/command.txt").write_text("train_scripts/neuropbr.py --run.out runs/neuropbr\n")
    Path("run/log.jsonl").write_text(json.dumps({"step": 6000, "seconds": 7200.0, "threads": 1}) + "\n")
    small = ["--rows", "2", "--size", "32", "--data", str(data)]
    run(
        "eval",
        "neuropbr",
        "--weights",
        "mine",
        "--report",
        "new/report.json",
        "--data",
        str(data),
        "--run",
        "run",
        *small,
        "--card",
    )

    result = json.loads(Path("new/report.json").read_text())
    made, real = result["groups"]["procedural"], result["groups"]["real"]
    assert (made["materials"], real["materials"], result["size"], result["seed"]) == (2, 3, 32, 1)
    assert [*made["views"]] == ["1", "2", "3", "5"] and [*real["views"]] == ["1", "2", "3"]
    assert real["licenses"] == {"MIT": 1, "": 1, "Apache-2.0": 1} and sum(real["authors"].values()) == 3
    for part in (made, real):
        # untrained, its albedo is about the mean photo and its normal about flat
        assert abs(part["network"]["albedo"]["psnr"] - part["rectified"]["albedo"]["psnr"]) < 1
        assert part["network"]["normal_of_flat_on_relief"] == pytest.approx(1, abs=0.1)
    assert {path.name for path in Path("new").iterdir()} == {"report.json", "procedural.png", "real.png"}
    for name in ("procedural.png", "real.png"):
        assert Path("mine", name).read_bytes() == Path("new", name).read_bytes()
        with Image.open(Path("new", name)) as picture:
            picture.load()

    card, said = Path("mine/README.md").read_text(), capsys.readouterr().out
    assert card.startswith("---\n") and said[said.index("| | materials") :].strip() in card
    assert "| network, real | 3 |" in said and "were not measured" not in said
    assert "Apache-2.0 (1), MIT (1)" in card and "none stated (1)" in card and "](real.png)" in card
    assert "neuropbr.py --run.out runs/neuropbr    # 6000 steps, 120 minutes" in card and "Steps of 6 crops" in card
    assert NeuroPBR.from_pretrained("mine").config == TINY  # the weights are as they were


def test_without_real_materials_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run("eval", "neuropbr", "--rows", "2", "--size", "32")
    assert [*json.loads(Path("report.json").read_text())["groups"]] == ["procedural"]
    assert "Real materials were not measured" in capsys.readouterr().out
    first = Path("report.json").read_bytes()
    run("eval", "neuropbr", "--rows", "2", "--size", "32")
    assert Path("report.json").read_bytes() == first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rows", "0"], "--rows must be at least 1"),
        (["--rows", "1"], "procedural materials must be at least 2"),
        (["--size", "16"], "--size must be from 32 to 1024, got 16"),
        (["--data", "no/such/folder"], "no/such/folder has no test materials to read"),
        (["--weights", "empty"], "empty"),
        (["--run", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_evaluation_is_explained(options: list[str], words: str) -> None:
    assert words in refusal("eval", "neuropbr", *options)


def test_a_size_is_no_option_of_distill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hubmodels", "eval", "distill", "--size", "64"])
    with pytest.raises(SystemExit, match="--size is for neuropbr"):
        cli.main()
