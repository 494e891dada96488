"""The training script of `distill`, run for real with a network so small that a step takes milliseconds."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loopback_hub import LoopbackHub
from PIL import Image
from safetensors.torch import load_file
from training_runs import SCRIPTS, checkpoints, finished, launch, log, module, refusal

from datasets_builders import scenes
from hubmodels import DistilledRenderer
from hubmodels.distill.data import collate, scene_of
from hubmodels.losses import random_features
from hubmodels.training import load_config

SCRIPT = SCRIPTS / "distill.py"
NETWORK = {"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "sentence": 16, "hidden": 4}
NETWORK |= {"channels_8": 8, "channels_16": 8, "channels_32": 4, "channels_64": 4}
STEPS = 6
OPTIONS = [f"--model.{name.replace('_', '-')}={value}" for name, value in NETWORK.items()]
OPTIONS += [f"--run.steps={STEPS}", "--run.batch-size=4", "--run.threads=1"]
OPTIONS += ["--run.save-every=2", "--run.log-every=1", "--evaluate-every=3", "--evaluate-on=4"]
# A checkpoint syncs six times: the ninth is in the middle of the second one, that of the reading at step 3.
KILLER = f"""
import os, runpy, signal
fsync, left = os.fsync, iter(range(8, -1, -1))
def fatal(handle):
    if not next(left):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
os.fsync = fatal
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def config(out: Path, **settings: Any) -> Any:
    """The same run as `OPTIONS` ask for, without TensorBoard."""
    default = module(SCRIPT).Config(evaluate_every=3, evaluate_on=4, **settings)
    sizes = {"steps": STEPS, "batch_size": 4, "threads": 1}
    run = replace(default.run, out=str(out), save_every=2, log_every=1, trackers=(), **sizes)
    return replace(default, run=run, model=replace(default.model, **NETWORK))


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_bits_of_a_straight_run(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    (tmp_path / "killer.py").write_text(KILLER)
    uninterrupted = launch(SCRIPT, *OPTIONS, "--run.out", straight)
    doomed = launch(tmp_path / "killer.py", *OPTIONS, "--run.out", killed)
    finished(uninterrupted)
    _, errors = doomed.communicate(timeout=600)
    assert doomed.returncode != 0 and "SIGKILL" in errors, errors
    assert checkpoints(killed) == ["step_00000002", "step_00000003.tmp"]
    finished(launch(SCRIPT, "--resume", killed))

    assert checkpoints(straight) == checkpoints(killed) and checkpoints(straight)[-1] == "step_00000006"
    files = sorted((straight / "checkpoints").rglob("*.safetensors"))
    files += [straight / "export" / "model.safetensors"]
    assert len(files) >= 4
    for file in files:
        one, other = load_file(file), load_file(killed / file.relative_to(straight))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), file
    assert log(straight) == log(killed)
    left_in_order(straight)


def left_in_order(out: Path) -> None:
    """A finished run has a log, samples, curves, its settings, and an export that loads and draws."""
    lines = log(out)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert all(line[term] > 0 for line in lines for term in ("l1", "l2", "tv", "perceptual"))
    assert [line["step"] for line in lines if "exact" in line] == [3, 6]
    assert list(out.glob("tensorboard/**/events.*"))
    sheet = np.asarray(Image.open(out / "samples" / f"samples_{STEPS:08d}.png"))
    assert sheet.shape[0] >= 3 * 64 and sheet.shape[1] >= 4 * 64
    assert load_config(module(SCRIPT).Config, out).model.width == NETWORK["width"]
    model = DistilledRenderer.from_pretrained(out / "export")
    assert model.generate("There is one red ball.")[0].size == (64, 64)


def test_it_learns_from_a_data_set_as_from_the_same_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of `--data` are those of a script whose scenes are parsed from the captions in memory."""
    from datasets import load_dataset

    import hubmodels.distill.data as source
    from hubmodels.scenes import parse

    data = scenes.build(scenes.Config(tmp_path / "scenes", rows=40, config="scenes", workers=1))
    module(SCRIPT).main(config(tmp_path / "stored", data=str(data)))
    captions = load_dataset(str(data), "scenes", split="train")["placed_caption"]
    monkeypatch.setattr(source, "scene_of", lambda row, seed, name="train": parse(captions[row]))
    module(SCRIPT).main(config(tmp_path / "memory", rows=len(captions)))
    losses = [
        [(line["l1"], line["l2"], line["perceptual"]) for line in log(tmp_path / n)] for n in ("stored", "memory")
    ]
    assert losses[0] == losses[1] and len(set(losses[0])) == STEPS


def test_the_terms_of_a_constant_shift() -> None:
    """A picture that is a fifth of a range too bright everywhere, one foreground pixel or many."""
    this = module(SCRIPT)
    settings = this.Config(l1=2.0, l2=3.0, tv=5.0, perceptual=7.0)
    batch = collate([scene_of(row, 0) for row in range(2)], 64)
    teacher, features = batch["picture"] / 127.5 - 1, random_features(0)
    terms = this.losses(settings, teacher + 0.4, batch, features)
    edges = [teacher.diff(dim=d).abs().double().mean().item() for d in (2, 3)]
    assert terms["l1"].item() == pytest.approx(2 * 0.4, rel=1e-4)
    assert terms["l2"].item() == pytest.approx(3 * 0.16, rel=1e-4)
    assert terms["tv"].item() == pytest.approx(5 * sum(edges), rel=1e-4)
    assert terms["perceptual"] > 0 == this.losses(settings, teacher, batch, features)["perceptual"]
    assert set(terms) - set(this.losses(replace(settings, no_perc=True), teacher, batch, features)) == {"perceptual"}
    # an error in the foreground costs `foreground` times one of the same size in the background
    there = batch["foreground"][:, None]
    inside = this.losses(settings, teacher + 0.4 * there, batch, features)["l1"] / there.sum()
    outside = this.losses(settings, teacher + 0.4 * ~there, batch, features)["l1"] / (~there).sum()
    assert (inside / outside).item() == pytest.approx(settings.foreground, rel=1e-4)


def test_it_overfits_one_batch() -> None:
    """More than fivefold, and past what the best picture without a caption would cost."""
    this = module(SCRIPT)
    torch.set_num_threads(1)
    settings = this.Config(model=replace(this.Config().model, **NETWORK | {"width": 64, "hidden": 16}))
    torch.manual_seed(0)
    model = DistilledRenderer(settings.model)
    batch = collate([scene_of(row, 0) for row in range(4)], 64)
    features = random_features(0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)

    def loss(pictures: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(this.losses(settings, pictures, batch, features).values())).sum()

    first = loss(model(batch["tokens"])).item()
    for _ in range(160):
        optimizer.zero_grad()
        loss(model(batch["tokens"])).backward()
        optimizer.step()
    last = loss(model(batch["tokens"])).item()
    teacher = batch["picture"] / 127.5 - 1
    blind = loss(teacher.mean(0, keepdim=True).expand_as(teacher)).item()
    assert last < first / 5 and last < blind / 2, (first, last, blind)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resume", "no/such/run"], "no/such/run"),
        (["--data", "no/such/folder"], "python -m datasets_builders.scenes --out no/such/folder"),
        (["--data", "org/missing"], "org/missing has no train scenes to read"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hub: LoopbackHub,
    options: list[str],
    words: str,
) -> None:
    out = tmp_path / "run"
    where = [] if "--resume" in options else ["--run.out", str(out)]
    assert words in refusal(SCRIPT, monkeypatch, capsys, *options, *where)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.resolution", "65"], "resolution must be 64 or 128, got 65"),
        (["--run.steps", "0"], "steps must be at least 1, got 0"),
        (["--run.stepz", "3"], "--run.stepz"),
    ],
)
def test_what_cannot_be_set_is_said_by_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options, "--run.out", str(out)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capsys.readouterr()
    assert stop.value.code == 2 and words in said.err + said.out and "Traceback" not in said.err
    assert not out.exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "run" / "checkpoints" / "step_00000002"
    whole.mkdir(parents=True)
    line = refusal(SCRIPT, monkeypatch, capsys, "--run.out", str(tmp_path / "run"))
    assert "already holds a run" in line and f"--resume {tmp_path / 'run'}" in line
    assert not (tmp_path / "run" / "config.json").exists()
