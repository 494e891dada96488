"""Training scripts, run for real: as programs, as a user launches them, and as modules."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "train_scripts"


def launch(*arguments: str | Path) -> subprocess.Popen[str]:
    """`accelerate launch ...`, as a user types it, on the CPU."""
    accelerate = Path(sys.executable).parent / "accelerate"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [accelerate, "launch", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """What it wrote to stderr, once it has ended well."""
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return errors


def module(script: Path) -> Any:
    """The script as a module: its `Config`, `main` and functions."""
    spec = importlib.util.spec_from_file_location(f"{script.stem}_script", script)
    assert spec and spec.loader
    made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def refusal(script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the script, run as a program, gives up."""
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code not in (0, None)
    line = stop.value.code if isinstance(stop.value.code, str) else capsys.readouterr().err.strip()
    assert "\n" not in line, line
    return line


def log(out: Path) -> list[dict[str, float]]:
    """Lines of the log, without what the clock decides."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())
