"""The training script of `neuropbr`, run for real with networks so small that a step takes milliseconds."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback_hub import LoopbackHub
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from training_runs import ROOT, SCRIPTS, checkpoints, finished, launch, log, module, refusal

from datasets_builders import neuropbr as builder
from hubmodels import NeuroPBR
from hubmodels.losses import PatchGAN
from hubmodels.neuropbr import data
from hubmodels.neuropbr.lights import rendering_configurations
from hubmodels.neuropbr.losses import Weights, terms
from hubmodels.neuropbr.model import NeuroPBRConfig, average
from hubmodels.neuropbr.procedural import make
from hubmodels.training import load_config, schedules

SCRIPT = SCRIPTS / "neuropbr.py"
NETWORK = {"channels": 8, "growth": 1.0, "levels": 3, "summary": 16, "depth": 1, "heads": 2, "tokens": 2}
GAN = {"weight": 0.05, "start": 1, "layers": 3, "channels": 8, "r1_every": 2}
STEPS = 6
OPTIONS = [f"--model.{name}={value}" for name, value in NETWORK.items()]
OPTIONS += [f"--gan.{name.replace('_', '-')}={value}" for name, value in GAN.items()]
OPTIONS += ["--size=32", "--views=2", "--workers=0", f"--run.steps={STEPS}", "--run.batch-size=2", "--run.threads=1"]
OPTIONS += ["--run.save-every=2", "--run.log-every=1", "--evaluate-every=1", "--evaluate-on=2", "--run.trackers"]
PLATEAU = ["--schedule=plateau", "--patience=0", "--lr=0.05"]
# In the middle of writing the checkpoint of step 4: some of its files are there, others are not.
KILLER = f"""
import os, runpy, signal
from pathlib import Path
fsync = os.fsync
def fatal(handle):
    if list(Path(os.environ["OUT"], "checkpoints").glob("step_00000004.tmp/optimizer_0*")):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
os.fsync = fatal
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def this() -> Any:
    return module(SCRIPT)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of sixty materials, clean and dirty ones in each split."""
    out = tmp_path_factory.mktemp("data") / "pbr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "TILES", 1)
        patch.setattr(builder, "TILE_PX", 16)
        return builder.build(builder.Config(out, materials=60, size=32, views=2, dirty=0.4, workers=1))


def config(this: Any, out: Path, gan: dict[str, Any] | None = None, run: Any = None, **settings: Any) -> Any:
    """The same run as `OPTIONS` ask for; without a GAN if none is given."""
    given = {"steps": STEPS, "batch_size": 2, "threads": 1, "ema": 0.0} | (run or {})
    plain = this.Config()
    settings = {"size": 32, "views": 2, "workers": 0, "evaluate_every": 3, "evaluate_on": 2} | settings
    return replace(
        plain,
        gan=replace(plain.gan, **(GAN | gan)) if gan is not None else plain.gan,
        model=NeuroPBRConfig(**NETWORK),
        run=replace(plain.run, out=str(out), save_every=100, log_every=1, trackers=(), **given),
        **settings,
    )


def last(out: Path) -> dict[str, dict[str, Tensor]]:
    """Tensors of the last checkpoint, by file."""
    return {file.stem: load_file(file) for file in sorted((out / "checkpoints").glob("*/*.safetensors"))}


# --- presets ----------------------------------------------------------------------------------------------------

PARAMETERS = {"default": (1e6, 30e6), "student": (0.5e6, 6e6), "seed": (200e6, 320e6)}


def test_presets_have_the_sizes_that_they_promise(this: Any) -> None:
    assert tuple(this.presets()) == this.Preset.__args__
    for name, (least, most) in PARAMETERS.items():
        with torch.device("meta"):
            count = sum(one.numel() for one in NeuroPBR(this.presets()[name].model).parameters())
        assert least < count < most, (name, count)
    assert all(one.preset == name for name, one in this.presets().items())
    assert this.presets()["default"] == this.Config()
    seed = this.presets()["seed"].model
    assert (seed.encoder, seed.stride, seed.summary, seed.heads, seed.depth) == ("resnet50", 1, 2048, 32, 4)


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "student",
        pytest.param("quick_test", marks=pytest.mark.slow),
        pytest.param("fast_iteration", marks=pytest.mark.slow),
    ],
)
def test_a_preset_trains_and_exports(this: Any, tmp_path: Path, name: str) -> None:
    """A step of the very network, losses and discriminator; only the crop is small, and the patches with it."""
    preset = this.presets()[name]
    gan = replace(preset.gan, start=0, layers=3)
    run = replace(preset.run, out=str(tmp_path), steps=1, batch_size=1, threads=1, ema=0.0, trackers=())
    settings = replace(preset, size=32, views=2, evaluate_on=1, workers=0, echo=1, gan=gan, run=run)
    this.main(settings)
    line = log(tmp_path)[-1]
    assert {"albedo", "render", "rerender_psnr", "gradient_norm"} <= line.keys()
    assert ("discriminator" in line) == ("gan" in line) == (preset.gan.weight > 0)
    exported = load_file(tmp_path / "export" / "model.safetensors")
    tensors = last(tmp_path)
    assert all(torch.equal(value, tensors["model_0"][key]) for key, value in exported.items())
    assert len(tensors["optimizer_0"]) == 3 * len(exported)
    assert load_config(this.Config, tmp_path) == settings


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lightweight", "normal_focused", "high_quality", "seed"])
def test_a_large_preset_takes_a_step(this: Any, name: str) -> None:
    """In memory: checkpoints of 1 to 4 GB are no matter for a test."""
    torch.set_num_threads(1)
    preset = this.presets()[name]
    model = NeuroPBR(preset.model)
    judge = PatchGAN(this.JUDGED, preset.gan.layers, preset.gan.channels)
    model.recompute(True)
    batch = torch.utils.data.default_collate([data.Photographed(1, 0, 32, 1, 0.0)[0]])
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    before = model.decoder.head.weight.clone()
    lit = rendering_configurations(torch.Generator().manual_seed(0), 1, 1, 0)
    made = model(batch["views"], valid=batch["seen"], light=True)
    loss = torch.stack([*terms(preset.loss, made, batch, lit).values()]).sum()
    loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())
    optimizer.step()
    assert not torch.equal(before, model.decoder.head.weight)
    side = preset.size
    maps = {name: torch.zeros(1, 3 if name in ("albedo", "normal") else 1, side, side) for name in data.MAPS}
    assert judge(this.judged(maps), torch.zeros(1, 3, side, side))[0].numel() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "huge"], ["invalid choice", "quick_test", "normal_focused", "seed"]),
        (["--preset", "seed", "--size", "128"], ["a discriminator of 6 layers needs a size of 192, got 128"]),
        (["--warmup", "1"], ["warmup must be at least 0 and below 1, got 1"]),
        (["--evaluate-on", "0"], ["evaluate_on must be at least 1, got 0"]),
        (["--curriculum", "3"], ["curriculum"]),
    ],
)
def test_what_cannot_be_set_is_said_by_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: list[str],
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options, "--run.out", str(out)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = "".join(capsys.readouterr())
    said = " ".join(said.replace("│", " ").split())
    assert stop.value.code == 2 and "Traceback" not in said
    assert all(word in said for word in words), said
    assert not out.exists()


def test_help_names_the_presets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--preset", "student", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(name in said for name in ("default", "quick_test", "high_quality", "student", "seed"))
    assert "default: student" in said and "--gan.weight" in said


def test_an_option_after_a_preset_changes_that_setting_only(
    this: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Any] = []
    monkeypatch.setattr("hubmodels.training.resumed", lambda config: got.append(config) or sys.exit(0))
    arguments = ["--preset", "normal_focused", "--lr", "1", "--run.out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    wanted = this.presets()["normal_focused"]
    wanted = asdict(replace(wanted, lr=1.0, run=replace(wanted.run, out=str(tmp_path))))
    assert asdict(got[0]) == wanted and wanted["loss"]["normal"] == 1.5


# --- a run ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_bits_of_a_straight_run(
    this: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a GAN, and rates that fall because scores do not rise: the schedules' states go through the checkpoint."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    (tmp_path / "killer.py").write_text(KILLER)
    finished(launch(SCRIPT, *OPTIONS, *PLATEAU, "--run.out", straight))
    monkeypatch.setenv("OUT", str(killed))
    doomed = launch(tmp_path / "killer.py", *OPTIONS, *PLATEAU, "--run.out", killed)
    _, errors = doomed.communicate(timeout=600)
    assert doomed.returncode != 0 and "SIGKILL" in errors, errors
    assert checkpoints(killed)[-1] == "step_00000004.tmp"
    assert "leave the other options out" in refusal(
        SCRIPT, monkeypatch, capsys, "--resume", str(killed), "--preset", "quick_test"
    )
    finished(launch(SCRIPT, "--resume", killed))

    assert checkpoints(straight) == checkpoints(killed) and checkpoints(straight)[-1] == "step_00000006"
    files = sorted((straight / "checkpoints").rglob("*.safetensors")) + [straight / "export" / "model.safetensors"]
    assert len(files) >= 7
    for file in files:
        one, other = load_file(file), load_file(killed / file.relative_to(straight))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one), file
    assert log(straight) == log(killed)
    states = [json.loads((out / "checkpoints/step_00000006/state.json").read_text()) for out in (straight, killed)]
    assert states[0]["others"] == states[1]["others"]
    assert min(other["scale"] for other in states[0]["others"]) < 1
    lines = log(straight)
    assert len({line["lr"] for line in lines}) > 1
    assert ["discriminator" in line for line in lines] == [False] + [True] * (STEPS - 1)
    assert {"r1", "gan", "features", "gradient_norm_1", "lr_1"} <= lines[2].keys()
    picture = Image.open(straight / "samples" / f"samples_{STEPS:08d}.png")
    assert picture.width >= 13 * 32 and picture.height >= 2 * 32
    assert load_config(this.Config, straight).schedule == "plateau"
    maps = NeuroPBR.from_pretrained(straight / "export").predict([torch.rand(3, 32, 32)])
    assert set(maps) == set(data.MAPS)


def test_two_micro_batches_of_one_make_the_step_of_a_batch_of_two(this: Any, tmp_path: Path) -> None:
    """Gradients of both networks; without the terms that are no means over the rows (balanced, lights drawn anew)."""
    loss = Weights(metallic=0.0, render=0.0, picture=0.0)
    moments = []
    for name, batch_size, accumulate in (("whole", 2, 1), ("halves", 1, 2)):
        run = {"steps": 1, "batch_size": batch_size, "accumulate": accumulate, "clip": 0.0}
        out = tmp_path / name
        this.main(config(this, out, {"start": 0, "r1_every": 1}, run, loss=loss, evaluate_on=1, echo=1))
        tensors = last(out)
        moments.append({f"{part}.{key}": one for part in tensors for key, one in tensors[part].items()})
    whole, halves = moments
    names = [name for name in whole if name.startswith("optimizer") and name.endswith("exp_avg")]
    assert len(names) > 40 and any(name.startswith("optimizer_1") for name in names)
    for name in names:
        scale = float(whole[name].abs().max())
        assert torch.allclose(whole[name], halves[name], rtol=1e-3, atol=1e-4 * scale + 1e-9), name
    lines = [log(tmp_path / name)[0] for name in ("whole", "halves")]
    for term in ("albedo", "ssim", "gan", "features", "discriminator", "r1", "gradient_norm", "gradient_norm_1"):
        assert lines[1][term] == pytest.approx(lines[0][term], rel=1e-3), term


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(this: Any, tmp_path: Path) -> None:
    """A GAN over two processes of one row against one of two rows; accelerate's launcher starts but one on CPUs."""
    options = [
        *OPTIONS,
        "--loss.metallic=0",
        "--loss.render=0",
        "--loss.picture=0",
        "--run.steps=2",
        "--echo=1",
        "--gan.start=0",
    ]
    options += ["--run.batch-size=1", "--run.processes=2", "--run.out", str(tmp_path / "two")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
    # its exit code means nothing on CPUs: now and then an interpreter aborts after all work is done
    done = subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert (tmp_path / "two" / "export" / "model.safetensors").exists(), done.stderr
    loss = Weights(metallic=0.0, render=0.0, picture=0.0)
    one = config(this, tmp_path / "one", {"start": 0}, {"steps": 2, "ema": 0.999}, loss=loss, echo=1)
    this.main(replace(one, evaluate_every=1))
    for first, second in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for term in ("albedo", "normal", "gan", "features", "discriminator", "gradient_norm", "gradient_norm_1"):
            assert second[term] == pytest.approx(first[term], rel=2e-3), (term, first["step"])
    weights = [last(tmp_path / name)["model_1"]["convs.0.weight"] for name in ("one", "two")]
    assert torch.allclose(*weights, atol=1e-4)


@pytest.mark.parametrize("curriculum", [0, 1, 2])
def test_it_learns_from_a_data_set(this: Any, tmp_path: Path, built: Path, curriculum: int) -> None:
    """Each step takes the rows that the curriculum asks for, of the train split alone."""
    run = {"steps": 2}
    settings = config(this, tmp_path / "run", None, run, data=str(built), curriculum=curriculum, evaluate_on=1)
    table = data.opened(str(built), "train")
    wanted = data.CONDITIONS[curriculum]
    crops = this.dataset(settings, 0, "train")
    assert len(crops) == sum(one in wanted for one in table["condition"]) > 0
    assert set(table["condition"]) == {"clean", "dirty"}
    this.main(settings)
    lines = log(tmp_path / "run")
    assert len(lines) == 2 and lines[0]["albedo"] > 0 and "rerender_psnr" in lines[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resume", "no/such/run"], "no/such/run"),
        (["--data", "no/such/folder"], "python -m datasets_builders.neuropbr --out no/such/folder"),
        (["--data", "org/missing"], "org/missing has no train materials to read"),
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


# --- the GAN's steps --------------------------------------------------------------------------------------------


def crops(count: int, size: int = 32, views: int = 2) -> data.Batch:
    rows = data.Photographed(count, 3, size, views, 0.0)
    return torch.utils.data.default_collate([rows[row] for row in range(count)])


def test_neither_network_moves_in_the_others_step(this: Any) -> None:
    torch.manual_seed(0)
    gan, batch = this.Gan(**GAN), crops(1)
    model, judge = NeuroPBR(NeuroPBRConfig(**NETWORK)), PatchGAN(this.JUDGED, 3, 8)
    photo = average(batch["views"], batch["seen"])
    made = model(batch["views"], valid=batch["seen"])
    opinion = this.persuasion(gan, judge, made, batch, photo)
    torch.stack([*opinion.values()]).sum().backward()
    assert all(one.grad is None and one.requires_grad for one in judge.parameters())
    assert all(one.grad is not None for one in model.decoder.head.parameters())
    assert opinion["gan"] != 0 and opinion["features"] > 0
    moved = {name: one for name, one in model.named_parameters() if not name.startswith("light.")}  # no map is of it
    before = {name: one.grad.clone() for name, one in moved.items()}
    doubts = this.judgement(gan, judge, judge, made, batch, photo, 0)
    torch.stack([*doubts.values()]).sum().backward()
    assert all(one.grad is not None for one in judge.parameters())
    assert all(torch.equal(one.grad, before[name]) for name, one in moved.items())
    assert set(doubts) == {"discriminator", "r1"}
    assert set(this.judgement(gan, judge, judge, made, batch, photo, 1)) == {"discriminator"}
    true = {name: batch[name] for name in data.MAPS}
    assert this.persuasion(gan, judge, true, batch, photo)["features"] == 0


def test_a_discriminator_at_work_gets_better(this: Any) -> None:
    """Against a network that stays as it is, through the terms of the script."""
    torch.manual_seed(0)
    gan, batch = this.Gan(**(GAN | {"r1": 0.0})), crops(2)
    model, judge = NeuroPBR(NeuroPBRConfig(**NETWORK)), PatchGAN(this.JUDGED, 3, 8)
    photo = average(batch["views"], batch["seen"])
    with torch.no_grad():
        made = model(batch["views"], valid=batch["seen"])
    opponent = torch.optim.Adam(judge.parameters(), 2e-3, betas=(0.5, 0.999))
    losses = []
    for step in range(20):
        loss = this.judgement(gan, judge, judge, made, batch, photo, step)["discriminator"]
        opponent.zero_grad()
        loss.backward()
        opponent.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3, losses


# --- what it can learn ------------------------------------------------------------------------------------------


def overfitted(batch: data.Batch, steps: int, lr: float, growth: float) -> dict[str, Tensor]:
    """Maps of a batch by a tiny network that has seen nothing else."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = NeuroPBR(NeuroPBRConfig(**(NETWORK | {"growth": growth})))
    optimizer = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.98))
    schedule = schedules.cosine(optimizer, steps, 5)
    for step in range(steps):
        lit = rendering_configurations(torch.Generator().manual_seed(step), len(batch["albedo"]), 1, 1)
        parts = terms(Weights(), model(batch["views"], valid=batch["seen"], light=True), batch, lit)
        optimizer.zero_grad()
        torch.stack([*parts.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model.eval()(batch["views"], valid=batch["seen"])


@pytest.mark.parametrize("value", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_constant_material_comes_back(value: float) -> None:
    """Ranges and codings agree from the true maps through photos and network to the predicted ones."""
    size = 16
    maps = {name: torch.full((channels, size, size), value) for name, channels in (("albedo", 3), ("roughness", 1))}
    up = torch.tensor([0.0, 0, 1]).view(3, 1, 1).expand(3, size, size)
    maps |= {"metallic": maps["roughness"].clone(), "normal": up}
    row = data.photographed(maps, 3, 0.0, torch.Generator().manual_seed(7), at_least=3)
    made = overfitted({name: one[None] for name, one in row.items()}, 150, 1e-2, 2.0)
    for name in ("albedo", "roughness", "metallic"):
        error = (made[name] - value).abs()
        # over all texels, also those few that no photo has seen
        assert error.mean() < 0.02 and abs(made[name].median() - value) < 0.02, (name, float(error.mean()))
    assert made["normal"][:, 2].min() > 0.995


def test_it_overfits_one_batch_and_tells_metal() -> None:
    """Half of one material is metal and half is not, under photos of the same light."""
    size = 24
    whole = make(4, size).maps
    halves = torch.zeros(1, size, size)
    halves[..., size // 2 :] = 1
    maps = {name: whole[name] for name in data.MAPS} | {"metallic": halves}
    row = data.photographed(maps, 2, 0.0, torch.Generator().manual_seed(1), at_least=2)
    batch = {name: one[None] for name, one in row.items()}
    made = overfitted(batch, 120, 2e-2, 1.0)
    none = {"albedo": average(batch["views"], batch["seen"]), "roughness": torch.tensor(0.5)}
    for name, reference in none.items():
        error, blind = (made[name] - batch[name]).abs().mean(), (reference - batch[name]).abs().mean()
        assert error < 0.6 * blind or error < 0.02, (name, float(error), float(blind))
    metal = made["metallic"] > 0.5
    assert (metal == (batch["metallic"] > 0.5)).float().mean() > 0.9
