"""Two processes for real: gloo on CPUs, FSDP2 on GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hubmodels.training import RunConfig
from hubmodels.training.config import write_config

from . import toy
from .test_run import assert_same_run, log

HERE = Path(__file__).parent


def torchrun(script: str, *arguments: str, processes: int, **environment: str) -> str:
    """Standard error; the exit code is not to be trusted (see two_processes.py)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [*command, str(HERE / script), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=500).stderr


def config(out: Path, batch_size: int, noisy: bool) -> toy.Config:
    run = RunConfig(out=str(out), steps=4, batch_size=batch_size, save_every=100, log_every=1, trackers=())
    if noisy:
        return toy.Config(run=run)
    return toy.Config(noise=0.0, network=toy.NetworkConfig(dropout=0.0, norm=False), run=run)


def test_two_processes_learn_what_one_learns_and_stop_and_resume_together(tmp_path: Path) -> None:
    for name in ("parity", "straight", "stopped"):
        (tmp_path / name).mkdir()
        write_config(config(tmp_path / name, batch_size=4, noisy=name != "parity"), tmp_path / name)
    errors = torchrun("two_processes.py", str(tmp_path), processes=2)
    assert (tmp_path / "done").exists(), errors
    sharded = json.loads((tmp_path / "done").read_text())
    assert all(sharded.values()), sharded

    toy.main(config(tmp_path / "one", batch_size=8, noisy=False))
    for one, two in zip(log(tmp_path / "one"), log(tmp_path / "parity"), strict=True):
        for name in ("loss", "l1", "gradient_norm", "lr"):
            assert two[name] == pytest.approx(one[name], rel=1e-4), (name, one["step"])
    exported = [load_file(tmp_path / name / "export" / "model.safetensors") for name in ("one", "parity")]
    assert all(torch.allclose(value, exported[1][name], atol=1e-5) for name, value in exported[0].items())
    assert_same_run(tmp_path / "straight", tmp_path / "stopped", step=4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fsdp2_saves_whole_tensors_resumes_and_exports(tmp_path: Path) -> None:
    settings = ["--run.steps", "4", "--run.save-every", "2", "--run.precision", "no", "--run.trackers"]
    devices = min(2, torch.cuda.device_count())
    fsdp = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    settings += ["--run.out", str(tmp_path)]
    stop = torchrun("toy.py", *settings, processes=devices, TOY_SIGNAL="SIGTERM", TOY_SIGNAL_AT="2", **fsdp)
    assert (tmp_path / "checkpoints" / "step_00000002").exists(), stop
    errors = torchrun("toy.py", "--resume", str(tmp_path), processes=devices, **fsdp)
    assert (tmp_path / "export" / "model.safetensors").exists(), errors
    exported = load_file(tmp_path / "export" / "model.safetensors")
    average = load_file(tmp_path / "checkpoints" / "step_00000004" / "average_0.safetensors")
    assert exported["hidden.weight"].shape == (8, 4)
    assert all(torch.equal(value, average[name]) for name, value in exported.items())
