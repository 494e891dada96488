"""The small parts of `lens`, each trained for a moment at full size, gathered, and loaded as anyone would."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_runs import SCRIPTS, log, module

from hubmodels.images import from_uint8
from hubmodels.lens import base as bases
from hubmodels.lens.camo import CLASSES, scenes
from hubmodels.lens.classifier import loaded
from hubmodels.lens.model import DiffusionLens, DiffusionLensConfig
from hubmodels.training import Stop

STEPS = 2


@pytest.fixture(scope="module")
def script() -> Any:
    return module(SCRIPTS / "lens_pretrain.py")


def brief(script: Any, parts: Path, part: str) -> Any:
    """The settings of a part, with next to no steps."""
    preset = script.presets()[part]
    run = replace(preset.run, steps=STEPS, batch_size=8, threads=1, log_every=1, save_every=1, trackers=())
    few = {"pool": 16, "evaluate_every": STEPS, "evaluate_on": 16, "curriculum": 0.0}
    return replace(preset, parts=str(parts), weights=str(parts / "weights"), run=run, **few)


@pytest.fixture(scope="module")
def made(script: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All parts, one after another, by the command without --part."""
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        few = {part: brief(script, folder, part) for part in (*script.PARTS, "all")}
        patch.setattr(script, "presets", lambda: few)
        script.main(few["all"])
    return folder


def test_all_parts_are_trained_and_gathered(made: Path, script: Any) -> None:
    for part in script.PARTS:
        rows = log(made / part)
        assert rows[-1]["step"] == STEPS
        assert {"vae": "psnr", "unet": "validation"}.get(part, "camouflage") in rows[-1]
    weights = made / "weights"
    files = [*weights.rglob("*.safetensors")]
    assert len(files) == 5 and sum(file.stat().st_size for file in files) < 8e6
    tensors = [tensor for file in files for tensor in load_file(file).values()]
    assert all(tensor.dtype == torch.float16 for tensor in tensors if tensor.is_floating_point())
    assert not [*weights.rglob("*.bin"), *weights.rglob("*.pt")]
    assert not [file for file in weights.rglob("*.json") if str(made) in file.read_text()]
    psnr, right = log(made / "vae")[-1]["psnr"], log(made / "judge")[-1]["camouflage"]
    assert f"{psnr:.1f} dB" in (weights / "lens-base" / "README.md").read_text()
    assert f"{right:.1%} camouflage" in (weights / "lens-judge" / "README.md").read_text()


def test_what_is_gathered_edits_and_reads(made: Path) -> None:
    pictures = from_uint8(scenes("test", 0, range(3), "clear", 64).pictures)
    base = bases.loaded(str(made / "weights" / "lens-base"))
    assert base.conditioned and base.vae.config.scaling_factor > 0
    lens = DiffusionLens.fresh(DiffusionLensConfig(rank=2), base)
    lens.attach(base)
    edits = lens.edit(pictures)
    assert edits.shape == pictures.shape and edits.isfinite().all()
    for name in ("lens-classifier", "lens-judge"):
        assert loaded(str(made / "weights" / name), CLASSES)(edits).shape == (3, len(CLASSES))


def test_latents_are_of_deviation_1(made: Path, script: Any) -> None:
    base = bases.loaded(str(made / "weights" / "lens-base"))
    pictures = script.mixed(brief(script, made, "vae"), torch.arange(64))
    assert float(bases.encode(base, pictures).std()) == pytest.approx(1, rel=0.2)


def test_what_is_done_is_not_done_again(made: Path, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the same command only what is missing is trained: here the judge, which goes on from its last step."""
    few = {part: brief(script, made, part) for part in (*script.PARTS, "all")}
    monkeypatch.setattr(script, "presets", lambda: few)
    before = {part: (made / part / "log.jsonl").read_bytes() for part in script.PARTS}
    file = made / "judge" / "export" / "model.safetensors"
    wanted = load_file(file)
    for one in sorted((made / "judge" / "export").iterdir()):
        one.unlink()
    (made / "judge" / "export").rmdir()
    script.main(few["all"])
    assert {part: (made / part / "log.jsonl").read_bytes() for part in script.PARTS} == before
    assert all(torch.equal(one, wanted[name]) for name, one in load_file(file).items())
    assert len((made / "vae" / "command.txt").read_text().splitlines()) == 1


def test_the_other_script_starts_it(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lens.py --mode pretrain`, where all is trained and nothing is gathered yet."""
    shutil.copytree(made, tmp_path / "runs" / "lens-parts", ignore=shutil.ignore_patterns("weights"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPTS)
    script = module(SCRIPTS / "lens.py")
    script.main(script.Config(mode="pretrain"))
    here = tmp_path / "runs" / "lens-parts" / "weights"
    files = sorted(file.relative_to(here) for file in here.rglob("*.safetensors"))
    assert len(files) == 5
    assert all((here / file).read_bytes() == (made / "weights" / file).read_bytes() for file in files)


def test_a_part_that_is_missing_is_named(script: Any, tmp_path: Path) -> None:
    for part in ("unet", "classifier", "judge"):
        with pytest.raises(Stop, match="vae.export is not there: train it first, with --part vae"):
            script.main(brief(script, tmp_path, part))
    with pytest.raises(Stop, match="--part vae"):
        script.main(replace(script.presets()["weights"], parts=str(tmp_path), weights=str(tmp_path / "weights")))


def test_settings_that_make_no_sense_are_refused(script: Any) -> None:
    for wrong in ({"heard": 1.5}, {"warmup": -0.1}, {"crop": 30}, {"pool": 2}, {"evaluate_on": 4}):
        with pytest.raises(ValueError, match="share|crop"):
            script.Config(**wrong)
