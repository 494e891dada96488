"""The processes and the precision that a run gets."""

import ctypes
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from .config import RunConfig
from .stop import Stop


def launched(config: RunConfig) -> Accelerator:
    """Accelerate, holding as many processes as were asked for.

    Raises:
        Stop: it has fewer. `accelerate launch --cpu --num_processes 2` starts one, and the processes of
            torchrun each train alone if accelerate does not know that they are on CPUs; neither says so.
    """
    cuda = torch.cuda.is_available()
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if cuda and torch.cuda.is_bf16_supported() else "no"
    if precision == "fp16" and not cuda:
        raise Stop("--run.precision fp16 needs a CUDA device: choose auto, bf16 or no")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # accelerate launch sets OMP_NUM_THREADS=1 without a word, which leaves all cores but one idle
    torch.set_num_threads(config.threads or max(1, _cores() // local))
    keep_freed_memory()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=precision,
        gradient_accumulation_steps=config.accumulate,
        log_with=list(config.trackers) or None,
        project_dir=str(Path(config.out) / "tensorboard"),
    )
    wanted = config.processes or int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != wanted:
        raise Stop(
            f"asked for {wanted} processes, accelerate has {accelerator.num_processes}. Launch CPUs with "
            f"ACCELERATE_USE_CPU=1 torchrun --nproc_per_node {wanted} SCRIPT and GPUs with "
            f"accelerate launch --multi_gpu --num_processes {wanted} SCRIPT"
        )
    return accelerator


def keep_freed_memory() -> None:
    """From now on tensors that are freed on the CPU leave their memory to the next ones, where the C library is glibc.

    It hands large blocks back at once, and the system clears each page anew: a quarter of the time of a step that makes
    tensors of some 30 MB.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    trim_threshold, mmap_max = -1, -4  # M_* of malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


def _cores() -> int:
    """Cores that this process may use: fewer than the machine has in many containers. Not all systems tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
