"""Benchmarks that train: their options are the scripts', their tables are the runs'."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro
from training_runs import ROOT, module

from benchmarks import pixelscene
from benchmarks import pixelscene_ablations as ablations
from hubmodels.pixelscene.shape import PixelTransformerConfig, PixelVQGANConfig


def test_variants_are_settings_of_the_script_and_differ() -> None:
    script = module(ROOT / "train_scripts/pixelscene_vqgan.py")
    settings = [tyro.cli(script.Config, args=options) for options in ablations.VARIANTS.values()]
    assert settings[0] == script.Config() and len({repr(one) for one in settings}) == len(ablations.VARIANTS)


def test_a_table_has_the_last_scores_of_each_run(tmp_path: Path) -> None:
    config = ablations.Config(out=tmp_path)
    score = dict.fromkeys(ablations.SCORES, 0.5)
    for seed, psnr in enumerate((21.0, 24.0)):
        out = ablations.folder(config, "stride 16", seed)
        (out / "export").mkdir(parents=True)  # so it is finished
        lines = [{"step": 300} | score, {"step": 600} | score | {"psnr": psnr}, {"step": 600, "lr": 0.1}]
        (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [ablations.trained(config, "stride 16", seed) for seed in (0, 1)]
    *_, line = ablations.tabulated({"stride 16": rows}).splitlines()
    assert ablations.folder(ablations.Config(out=tmp_path, steps=700), "stride 16", 0) != out, "of other runs"
    assert line == "| stride 16 | 22.50 ± 2.12 | 50.0 | 0.50 | 0.50 | 0.50 | 50 |"


def test_drawing_is_timed_beside_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On small networks and pictures: every line is there, and its numbers are seconds."""
    shape = pixelscene.shape

    def small(*asked: Any) -> PixelTransformerConfig:
        return replace(shape(*asked), width=32, layers=1, heads=2, feedforward=32)

    monkeypatch.setattr(pixelscene, "shape", small)
    monkeypatch.setattr(pixelscene, "SIZE", (32, 64))
    tokenizer = PixelVQGANConfig(channels=8, growth="1,1,1,1", blocks=1)
    monkeypatch.setattr(pixelscene, "PixelVQGANConfig", lambda: tokenizer)
    rows = [line.strip("| ").split(" | ") for line in pixelscene.drawing().splitlines()[2:]]
    names = {row[0] for row in rows}
    assert {"f8, 12 rounds", "f8, 12 rounds, MLX", "f16, one by one", "f8, one by one, GPT-2"} <= names
    assert {"f16, one by one, no cache", "f8, one by one, no cache"} <= names
    assert all(float(number) >= 0 for row in rows for number in row[2:])
    assert {row[0]: int(row[1]) for row in rows}["f8, one by one"] == 4 * 8 + 64, "tokens of the palette and picture"


def test_a_run_that_fails_is_named(tmp_path: Path) -> None:
    config = ablations.Config(data=(str(tmp_path / "none"),), out=tmp_path)
    killed = ablations.folder(config, "VQ instead of FSQ", 0) / "checkpoints/step_00000250.tmp"
    killed.mkdir(parents=True)  # a checkpoint that was not finished: there is nothing to go on from
    with pytest.raises(OSError, match="VQ instead of FSQ: pixelscene_vqgan: .*none has no pictures to read"):
        ablations.trained(config, "VQ instead of FSQ", 0)
