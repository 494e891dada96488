"""The report, on students whose worth is known: the renderer itself, and a blank sheet."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hubmodels.distill import report as reports
from hubmodels.distill.model import DistilledRendererConfig
from hubmodels.images import from_uint8
from hubmodels.scenes import Scene, decode, parse, render


class Perfect(torch.nn.Module):
    """Draws as the teacher does."""

    config = DistilledRendererConfig()

    def draw(self, tokens: Tensor) -> Tensor:
        return from_uint8(render([parse(decode(row)) for row in tokens.tolist()]))


class Blank(Perfect):
    def draw(self, tokens: Tensor) -> Tensor:
        return torch.ones(len(tokens), 3, 64, 64)


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    return reports.rendered(12, seed=3)


@pytest.fixture(scope="module")
def perfect(scenes: dict[str, list[Scene]]) -> dict:
    student: Any = Perfect()
    return reports.report(student, scenes, 3, lambda steps, _: steps)


def test_the_teacher_as_student_scores_as_the_teacher(perfect: dict) -> None:
    for part in perfect["splits"].values():
        student = dict(part["student"])
        assert student.pop("checkerboard") == pytest.approx(1) and student == part["teacher"]
        assert part["teacher"]["psnr"] == part["teacher"]["foreground_psnr"] == 100
        assert part["teacher"]["ssim"] == part["teacher"]["foreground_iou"] == 1
        assert part["teacher"]["exact"] >= 0.9
    for edits in perfect["counterfactuals"].values():
        assert edits["student_success"] == edits["teacher_success"]
        assert edits["student_locality"] == edits["teacher_locality"] >= 0.99
    assert perfect["diversity"]["student_distance"] == perfect["diversity"]["teacher_distance"] > 0


def test_broken_models_score_as_broken(perfect: dict) -> None:
    for part in perfect["splits"].values():
        for reference in ("blank", "mean", "shuffled"):
            assert part[reference]["exact"] == 0 and part[reference]["psnr"] < 30
        assert part["blank"]["foreground_iou"] < 0.6


def test_a_blank_student_is_found_out(scenes: dict[str, list[Scene]]) -> None:
    student: Any = Blank()
    mean = torch.full((3, 64, 64), 200, dtype=torch.uint8)
    part = reports.on_split(student, scenes["test"], mean)
    assert {k: v for k, v in part["student"].items() if k != "checkerboard"} == part["blank"]
    edits = reports.counterfactuals(student, scenes["test"][:4])
    assert all(one["student_success"] == one["student_locality"] == 0 for one in edits.values() if one["pairs"])


def test_what_is_published_can_be_read(perfect: dict, scenes: dict[str, list[Scene]], tmp_path: Path) -> None:
    student: Any = Perfect()
    files = reports.publish(student, perfect, scenes["test"], tmp_path / "deep" / "report.json")
    assert json.loads(files[0].read_text()) == perfect
    assert [path.name for path in files] == ["report.json", "grid.png", "pairs.png"]
    card = reports.card(perfect)
    assert "{" not in card.replace("{exact", "") and "| teacher, test |" in card


def test_the_card_says_how_the_weights_were_made_from_the_first_run_on(tmp_path: Path) -> None:
    for name, start, step in (("first", "", 9000), ("second", str(tmp_path / "first" / "export"), 1000)):
        (tmp_path / name).mkdir()
        settings = {"start": start, "run": {"batch_size": 32}}
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
        (tmp_path / name / "command.txt").write_text(f"train_scripts/distill.py --run.out {name}\n")
        line = {"step": step, "seconds": step / 10, "threads": 2}
        (tmp_path / name / "log.jsonl").write_text(json.dumps(line) + "\n")
    text = reports.history(tmp_path / "second")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert commands == [
        "accelerate launch train_scripts/distill.py --run.out first    # 9000 steps, 15 minutes",
        "accelerate launch train_scripts/distill.py --run.out second    # 1000 steps, 2 minutes",
    ]
    assert "32 pictures" in text and "2 CPU core" in text
    assert reports.history(tmp_path / "first").count("accelerate") == 1


def test_splits_without_rows_are_an_error(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    row = {"canonical": ["a"], "placed_caption": ["There is one red ball at 20 20."]}
    folder = tmp_path / "scenes"
    folder.mkdir()
    DatasetDict(train=Dataset.from_dict(row))["train"].to_parquet(folder / "train-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: scenes\n  data_files:\n  - split: train\n    path: scenes/train-*.parquet\n---\n"
    )
    with pytest.raises(ValueError, match="no rows in validation"):
        reports.scenes_of(str(tmp_path))
