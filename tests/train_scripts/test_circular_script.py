"""The training script of `circular`, run for real with networks so small that a step takes milliseconds."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from training_runs import ROOT, SCRIPTS, checkpoints, finished, launch, log, module, refusal

from datasets_builders import scenes
from hubmodels import CircularScene
from hubmodels.circular.data import Sentences, Stored, collate, held_out
from hubmodels.circular.sentences import meaning, split
from hubmodels.images import from_uint8
from hubmodels.training import load_config

SCRIPT = SCRIPTS / "circular.py"
NETWORK = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16, "painter": 16, "reader": 16, "reader_layers": 1}
STEPS = 6
OPTIONS = [f"--model.{name.replace('_', '-')}={value}" for name, value in NETWORK.items()]
OPTIONS += [f"--run.steps={STEPS}", "--run.batch-size=4", "--run.threads=1"]
OPTIONS += ["--run.save-every=2", "--run.log-every=1", "--evaluate-every=3", "--evaluate-on=16"]
# A checkpoint syncs six times: the ninth is in the middle of the second one, that of the reading at step 3.
KILLER = f"""
import os, runpy, signal, sys
fsync, left = os.fsync, iter(range(8, -1, -1))
def fatal(handle):
    if not next(left):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
os.fsync = fatal
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def config(out: Path, preset: str = "default", steps: int = STEPS, batch: int = 4, **settings: Any) -> Any:
    """A small run of a preset, without TensorBoard."""
    default = replace(module(SCRIPT).presets()[preset], evaluate_every=3, evaluate_on=16, **settings)
    run = replace(default.run, out=str(out), steps=steps, batch_size=batch, threads=1, log_every=1, trackers=())
    return replace(default, run=run, model=replace(default.model, **NETWORK))


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_bits_of_a_straight_run(tmp_path: Path) -> None:
    """With teachers, a layout and every disturbance of the channel."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    (tmp_path / "killer.py").write_text(KILLER)
    options = ["--preset=grounded", *OPTIONS, "--ramp=0"]
    uninterrupted = launch(SCRIPT, *options, "--run.out", straight)
    doomed = launch(tmp_path / "killer.py", *options, "--run.out", killed)
    finished(uninterrupted)
    _, errors = doomed.communicate(timeout=600)
    assert doomed.returncode != 0 and "SIGKILL" in errors, errors
    assert checkpoints(killed)[-1].endswith(".tmp")
    finished(launch(SCRIPT, "--resume", killed))

    assert checkpoints(straight) == checkpoints(killed) and checkpoints(straight)[-1] == "step_00000006"
    files = sorted((straight / "checkpoints").rglob("*.safetensors")) + [straight / "export" / "model.safetensors"]
    assert len(files) >= 4
    for file in files:
        one, other = load_file(file), load_file(killed / file.relative_to(straight))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), file
    assert log(straight) == log(killed)
    left_in_order(straight)


def left_in_order(out: Path) -> None:
    """A finished run has a log, samples, curves, a summary, its settings, and an export that paints and reads."""
    lines = log(out)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert all(line[term] > 0 for line in lines[1:] for term in ("consistency", "alignment", "kl", "language"))
    assert all({"exact", "carried", "oracle"} <= line.keys() for line in lines if line["step"] in (3, 6))
    assert list(out.glob("tensorboard/**/events.*"))
    for name in ("roundtrips", "words"):
        sheet = np.asarray(Image.open(out / "samples" / f"{name}_{STEPS:08d}.png"))
        assert sheet.shape[0] >= 64 and sheet.shape[1] >= 4 * 64
    summary = (out / "summary.txt").read_text().splitlines()
    assert summary[0] == f"{STEPS} steps" and len(summary) == 4 + 16
    assert load_config(module(SCRIPT).Config, out).model.width == NETWORK["width"]
    image, caption = CircularScene.from_pretrained(out / "export").roundtrip("There is one red ball.", seed=1)
    assert image.size == (64, 64) and caption


@pytest.mark.parametrize("language", ["scenes", "templates", "both"])
def test_sentences_of_a_data_set(tmp_path: Path, language: Any) -> None:
    data = scenes.build(scenes.Config(tmp_path / "data", rows=60, workers=1))
    stored = Stored(str(data), language, 0)
    assert len(stored) > 20 and all(split(stored[row].sentence) == "train" for row in range(len(stored)))
    module(SCRIPT).main(config(tmp_path / "run", steps=2, data=str(data), config=language))
    model = CircularScene.from_pretrained(tmp_path / "run" / "export")
    assert model.config.language == language and len(log(tmp_path / "run")) == 2


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """On CPUs, as the README says; a term of weight 0 leaves no parameter for one process alone."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT)]
    options = [
        "--preset=grounded",
        *OPTIONS,
        "--run.processes=2",
        "--loss.alignment=0",
        "--run.out",
        str(tmp_path / "run"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
    # its exit code means nothing on CPUs: now and then an interpreter aborts after all work is done
    done = subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (tmp_path / "run" / "export").exists(), done.stderr
    assert log(tmp_path / "run")[-1]["step"] == STEPS
    CircularScene.from_pretrained(tmp_path / "run" / "export")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "batch", "precision", "steps"),
    [
        ("default", 8, "no", 200),
        ("default", 256, "bf16", 8),  # 200 take minutes; LOG.md has them
        ("grounded", 8, "bf16", 200),
        ("vq", 8, "bf16", 200),
        ("vq", 64, "no", 24),
    ],
)
def test_no_nan_at_any_size_or_precision(tmp_path: Path, preset: str, batch: int, precision: Any, steps: int) -> None:
    """At the rate of the preset; `Run` stops at the first loss or gradient that is not finite."""
    settings = config(tmp_path / "run", preset, steps, batch, num_samples=2000, channel=1.0, ramp=0.0)
    run = replace(settings.run, precision=precision, log_every=steps // 4)
    AcceleratorState._reset_state()  # a process has one precision
    module(SCRIPT).main(replace(settings, evaluate_every=0, run=run))
    AcceleratorState._reset_state()
    lines = log(tmp_path / "run")
    assert lines[-1]["step"] == steps and all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["language"] < lines[0]["language"] - 0.001 * steps  # it has learned, not only lasted


def test_it_overfits_a_few_sentences() -> None:
    """Pictures come to carry their sentences: they are read exactly, and those of others are not."""
    this = module(SCRIPT)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = this.Config(model=replace(this.presets()["quick"].model, **NETWORK | {"width": 64, "feedforward": 64}))
    model = CircularScene(settings.model).train()
    said = held_out("templates", 8, 0, "train")
    tokens, _ = model.tokenized(said)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(250):
        trip = model(tokens, strength=0.0)
        batch = {"tokens": tokens, "heard": tokens}
        terms = this.losses_of(settings, trip, batch, None, torch.tensor([3]), 1.0)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    pictures = model.paint(said)
    assert [reading.sentence for reading in model.read(pictures)] == said
    assert not any(reading.sentence == own for reading, own in zip(model.read(pictures.roll(1, 0)), said, strict=True))


def test_rows_are_a_function_of_seed_and_number() -> None:
    one, other = Sentences("both", 100, 7), Sentences("both", 50, 7)
    assert [one[row] for row in range(20)] == [other[row] for row in range(20)]
    assert one[0] != Sentences("both", 100, 8)[0]
    for name in ("train", "validation", "test"):
        assert all(split(said) == name for said in held_out("both", 20, 0, name))
    train = {meaning(one[row].sentence) for row in range(100)}
    assert not train & {meaning(said) for said in held_out("both", 100, 7, "test")}


def test_a_share_of_sentences_has_teachers() -> None:
    rows = Sentences("scenes", 1000, 0, grounding=0.01, lessons=0.5)
    torch.manual_seed(0)
    asked = [rows[row] for row in range(300, 500)]
    taught = {row.sentence for row in asked if row.taught}
    assert 1 <= len(taught) <= 10  # one in a hundred of a thousand, asked for over and over
    assert 60 < sum(row.taught for row in asked) < 140
    assert not any(Sentences("scenes", 1000, 0)[row].taught for row in range(50))
    assert all(Sentences("scenes", 1000, 0, grounding=1.0)[row].taught for row in range(50))


def test_the_teacher_is_the_renderer_and_costs_nothing_when_met() -> None:
    this = module(SCRIPT)
    settings = this.presets()["grounded"]
    settings = replace(settings, model=replace(settings.model, **NETWORK))
    batch = collate([Sentences("scenes", 9, 0, grounding=1.0)[row] for row in range(3)], "scenes", True)
    model = CircularScene(settings.model)
    teacher = from_uint8(batch["teacher"])
    trip = model(batch["tokens"], batch["layout"], teacher)
    worse = this.losses_of(settings, trip, batch, teacher, torch.tensor([3]), 1.0)
    met = this.losses_of(settings, replace(trip, picture=teacher), batch, teacher, torch.tensor([3]), 1.0)
    assert met["teacher"] == 0 < worse["teacher"] and met["taught"] == worse["taught"] > 0
    shifted = this.losses_of(settings, replace(trip, picture=teacher + 0.5), batch, teacher, torch.tensor([3]), 1.0)
    assert shifted["teacher"].item() == pytest.approx(10 * (0.25 + 0.2 * 0.5), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resume", "no/such/run"], "no/such/run"),
        (["--data", "no/such/folder"], "python -m datasets_builders.scenes --out no/such/folder"),
        (["--start", "no/such/weights"], "no/such/weights"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "run"
    where = [] if "--resume" in options else ["--run.out", str(out)]
    assert words in refusal(SCRIPT, monkeypatch, capsys, *options, *where)
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"grounding": 1.5}, "grounding is a share"),
        ({"ramp": -1.0}, "ramp is a share"),
        ({"evaluate_on": 3}, "evaluate_on must be at least 16"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        module(SCRIPT).Config(**settings)
