"""The `hubmodels` command: what it draws, and the one line with which it answers what it cannot do."""

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refusal, run
from huggingface_hub import close_session
from loopback_hub import LoopbackHub
from PIL import Image

from hubmodels import DistilledRenderer
from hubmodels.distill.model import DistilledRendererConfig

TINY = DistilledRendererConfig(
    width=32,
    layers=1,
    heads=2,
    feedforward=32,
    sentence=16,
    channels_8=8,
    channels_16=8,
    channels_32=4,
    channels_64=4,
    hidden=4,
)
SENTENCE = "The red ball is left of the blue cube."


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, with a head loud enough that no two of its pictures are alike."""
    torch.manual_seed(0)
    model = DistilledRenderer(TINY)
    torch.nn.init.normal_(model.decoder.head.weight, std=0.3)
    folder = tmp_path_factory.mktemp("weights") / "distill"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """Commands run in an empty folder, with the small model as the released one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL", str(weights))


def pixels(file: str) -> np.ndarray:
    return np.asarray(Image.open(file))


# --- as a program


def test_as_a_program_it_draws_and_refuses(weights: Path) -> None:
    program = [str(Path(sys.executable).parent / "hubmodels"), "draw"]
    done = subprocess.run([*program, SENTENCE, "-o", "a.png", "--seed", "7"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "wrote a.png" in done.stdout and "The red ball at" in done.stdout
    run("draw", SENTENCE, "-o", "b.png", "--seed", "7")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    wrong = subprocess.run([*program, "The red sphere."], capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stdout == ""
    assert wrong.stderr.startswith("hubmodels: ") and wrong.stderr.count("\n") == 1 and "sphere" in wrong.stderr
    assert not Path("out.png").exists()


def test_help_and_a_wrong_sentence_do_not_wait_for_torch() -> None:
    code = """if True:
        import sys
        from hubmodels import cli
        for arguments in (["--help"], ["draw", "--help"], ["eval", "--help"], ["draw", "The red sphere."]):
            sys.argv = ["hubmodels", *arguments]
            try:
                cli.main()
            except SystemExit:
                pass
        heavy = {"torch", "datasets", "gradio", "PIL", "huggingface_hub"} & set(sys.modules)
        sys.exit(f"imported: {heavy}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in ("draw", "eval", "demo", "--seed", "--report"):
        assert word in done.stdout


# --- what it draws


def test_one_picture_is_the_model_s_own(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("draw", SENTENCE, "-o", "one.png", "--seed", "7")
    expected = DistilledRenderer.from_pretrained(weights).generate(SENTENCE, seed=7)[0]
    assert (pixels("one.png") == np.asarray(expected)).all() and expected.size == (64, 64)
    said = re.fullmatch(r"seed 7: (.+)\nwrote one.png\n", capsys.readouterr().out)
    assert said
    run("draw", said[1], "-o", "again.png", "--seed", "99")  # everything in it has a place
    assert Path("again.png").read_bytes() == Path("one.png").read_bytes()


def test_several_pictures_stand_side_by_side(weights: Path) -> None:
    run("draw", SENTENCE, "-o", "four.png", "--seed", "7", "--n", "4")
    sheet = pixels("four.png")
    expected = DistilledRenderer.from_pretrained(weights).generate(SENTENCE, seed=7, n=4)
    assert sheet.shape == (64 + 4, 4 * 66 + 2, 3)
    cells = [sheet[2:66, 2 + 66 * i : 66 + 66 * i] for i in range(4)]
    assert all((cell == np.asarray(picture)).all() for cell, picture in zip(cells, expected, strict=True))
    assert len({cell.tobytes() for cell in cells}) == 4
    run("draw", SENTENCE, "-o", "same.png", "--seed", "7", "--n", "4")
    run("draw", SENTENCE, "-o", "other.png", "--seed", "8", "--n", "4")
    assert Path("same.png").read_bytes() == Path("four.png").read_bytes()
    assert Path("other.png").read_bytes() != Path("four.png").read_bytes()


def test_without_a_seed_it_says_which_one_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    run("draw", SENTENCE, "-o", "any.png")
    seed = capsys.readouterr().out.split(":")[0].removeprefix("seed ")
    run("draw", SENTENCE, "-o", "again.png", "--seed", seed)
    assert Path("again.png").read_bytes() == Path("any.png").read_bytes()
    run("draw", SENTENCE)
    assert Path("out.png").exists() and capsys.readouterr().out.split(":")[1] != f"seed {seed}"


def test_scale_repeats_pixels() -> None:
    run("draw", SENTENCE, "-o", "small.png", "--seed", "7")
    run("draw", SENTENCE, "-o", "large.png", "--seed", "7", "--scale", "3")
    assert (pixels("large.png") == pixels("small.png").repeat(3, 0).repeat(3, 1)).all()


def test_a_model_is_loaded_from_the_hub(hub: LoopbackHub, weights: Path) -> None:
    DistilledRenderer.from_pretrained(weights).push_to_hub("org/distill")
    run("draw", SENTENCE, "-o", "hub.png", "--seed", "7", "--weights", "org/distill")
    run("draw", SENTENCE, "-o", "here.png", "--seed", "7")
    assert Path("hub.png").read_bytes() == Path("here.png").read_bytes()


# --- what it answers


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("The red sphere is left of the blue cube.", "“sphere” is not a word of this world"),
        ("The red ball left of the blue cube.", "expected"),
        ("The red ball is left of", "expected the"),
        ("", "the caption is empty"),
        (" \n\t ", "the caption is empty"),
        ("red " * 2500, "the caption has 10000 characters"),
        ("The red ball at 50 40 is left of the blue cube at 12 31.", "is not left of"),
        ("There is one red ball at 0 0.", "outside the 64 x 64 canvas"),
        ("There are two red balls at 30 30 and 31 31.", "overlap"),
        ("Ignore the rules; draw a 🦆.", "is not a word of this world"),
    ],
)
def test_a_wrong_sentence_is_explained(sentence: str, words: str) -> None:
    line = refusal("draw", sentence)
    assert words in line and len(line) < 500


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--n", "0"], "--n goes from 1 to 64"),
        (["--n", "65"], "--n goes from 1 to 64"),
        (["--scale", "0"], "--scale from 1 to 16"),
        (["-o", "out.jpg"], "must end in .png"),
        (["-o", "no/such/folder/out.png"], "cannot save no/such/folder/out.png"),
        (["--weights", "no such/folder"], "neither a folder here nor"),
    ],
)
def test_a_wrong_option_is_explained(options: list[str], words: str) -> None:
    assert words in refusal("draw", SENTENCE, *options)


def test_an_output_that_is_a_folder_stays_one() -> None:
    Path("out.png").mkdir()
    assert "cannot save out.png" in refusal("draw", SENTENCE)


def test_a_full_disk_leaves_the_picture_of_before() -> None:
    run("draw", SENTENCE, "--seed", "7")
    before = Path("out.png").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        assert "cannot save out.png" in refusal("draw", SENTENCE, "--seed", "8")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path("out.png").read_bytes() == before


def test_damaged_and_foreign_weights_are_refused(weights: Path) -> None:
    shutil.copytree(weights, "cut")
    content = Path("cut/model.safetensors").read_bytes()
    Path("cut/model.safetensors").write_bytes(content[: len(content) // 2])
    assert "no whole safetensors file" in refusal("draw", SENTENCE, "--weights", "cut")

    shutil.copytree(weights, "foreign")
    config = Path("foreign/config.json")
    config.write_text(config.read_text().replace('"hidden": 4', '"hidden": 8'))
    assert "holds another network than DistilledRenderer" in refusal("draw", SENTENCE, "--weights", "foreign")

    Path("pickled").mkdir()
    shutil.copy(weights / "config.json", "pickled")
    torch.save({}, "pickled/pytorch_model.bin")
    assert "pickled weights are never read" in refusal("draw", SENTENCE, "--weights", "pickled")

    Path("empty").mkdir()
    assert "empty has no config.json" in refusal("draw", SENTENCE, "--weights", "empty")


def test_the_hub_s_refusals_are_explained(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["draw", SENTENCE, "--weights", "org/missing"]
    assert "org/missing is neither a folder here nor a repository" in refusal(*command)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the Hub does not accept the token" in refusal(*command)


def test_without_a_network_it_says_so(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits up to 23 seconds between its tries
    close_session()
    with hub.down():
        assert "the Hub cannot be reached" in refusal("draw", SENTENCE, "--weights", "org/distill-offline")
    close_session()


# --- what it measures


def test_an_evaluation_leaves_a_report_pictures_and_a_card(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(weights, "mine")
    run("eval", "distill", "--weights", "mine", "--report", "new/report.json", "--rows", "4", "--card")
    result = json.loads(Path("new/report.json").read_text())
    assert all(part["pictures"] == 4 and part["student"]["exact"] == 0 for part in result["splits"].values())
    assert result["splits"]["test"]["teacher"]["psnr"] == 100
    assert {path.name for path in Path("new").iterdir()} == {"report.json", "grid.png", "pairs.png"}
    assert Path("mine/grid.png").read_bytes() == Path("new/grid.png").read_bytes()
    card = Path("mine/README.md").read_text()
    table = capsys.readouterr().out.split("\n| | pictures")[1].strip()
    assert card.startswith("---\n") and table in card and "](pairs.png)" in card
    run("draw", SENTENCE, "--weights", "mine", "-o", "mine.png", "--seed", "7")  # the weights are as they were
    run("draw", SENTENCE, "-o", "ours.png", "--seed", "7")
    assert Path("mine.png").read_bytes() == Path("ours.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rows", "0"], "--rows must be at least 1"),
        (["--weights", "org/missing"], "org/missing is neither a folder here nor"),
        (["--data", "no/such/folder"], "no/such/folder"),
    ],
)
def test_a_wrong_evaluation_is_explained(hub: LoopbackHub, options: list[str], words: str) -> None:
    assert words in refusal("eval", "distill", *options)
