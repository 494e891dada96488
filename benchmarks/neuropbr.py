"""How long photos take to become maps and in how much memory: ours and, where a checkout of it is, the original.

    python -m benchmarks.neuropbr                            # ours alone, about two minutes
    python -m benchmarks.neuropbr --peer NeuroPBR            # beside a checkout of the original; it needs timm, einops

Three photos as large as the maps, one thread, CPU time of one run after the network is there; the peak of a process
of its own, with everything in it. The original is github.com/josephHelfenbein/NeuroPBR; nothing of it is here. Its
weights are not published, so its network is a random one of the same shape.
"""

# pyright: reportMissingImports=false
# (the modules of the original are there only when a checkout of it is)

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from hubmodels.images import from_uint8

PHOTOS = 3


@dataclass(frozen=True)
class Options:
    """Measure speed and memory."""

    peer: Path | None = None
    """Checkout of the original, github.com/josephHelfenbein/NeuroPBR."""
    sizes: tuple[int, ...] = (256, 512, 1024, 2048)
    peer_sizes: tuple[int, ...] = (256, 512)
    """For the original; 1024 takes minutes, 2048 half an hour and 17 GB."""
    measure: Literal["", "ours", "original"] = ""
    """Only the first of the sizes, of one of them, in this process."""


def main(options: Options) -> None:
    if options.measure:
        print(json.dumps(measured(options)))
        return
    print(f"| {PHOTOS} photos, one thread | ours | | original | | ratio | |")
    print("|---|---|---|---|---|---|---|\n| side | s | GB | s | GB | s | GB |", flush=True)
    for size in options.sizes:
        ours = alone("ours", size, None)
        cells = [f"{ours[0]:.1f}", f"{ours[1]:.2f}"]
        if options.peer and size in options.peer_sizes:
            theirs = alone("original", size, options.peer)
            cells += [f"{theirs[0]:.1f}", f"{theirs[1]:.2f}"]
            cells += [f"{other / one:.1f}" for one, other in zip(ours, theirs, strict=True)]
        else:
            cells += [""] * 4
        print(f"| {size} | {' | '.join(cells)} |", flush=True)


def alone(what: str, size: int, peer: Path | None) -> tuple[float, float]:
    """CPU seconds and peak memory in GB, of a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.neuropbr", "--measure", what, "--sizes", str(size)]
    command += ["--peer", str(peer)] if peer else []
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    seconds, gigabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, gigabytes


def measured(options: Options) -> tuple[float, float]:
    torch.set_num_threads(1)
    size = options.sizes[0]
    draw = torch.Generator().manual_seed(0)
    photos = torch.randint(256, (PHOTOS, 3, size, size), dtype=torch.uint8, generator=draw)
    work = ours(photos) if options.measure == "ours" else original(photos, options.peer)
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def ours(photos: Tensor) -> Callable[[], object]:
    """The released shape, on photos of hand-held cameras that are to be rectified."""
    from hubmodels.neuropbr.cameras import homography, random_camera
    from hubmodels.neuropbr.model import NeuroPBR, NeuroPBRConfig
    from hubmodels.neuropbr.predict import predict

    model = NeuroPBR(NeuroPBRConfig())
    cameras = [random_camera(torch.Generator().manual_seed(seed)) for seed in range(PHOTOS)]
    matrices = torch.stack([homography(camera, 1.0) for camera in cameras])
    return lambda: predict(model, [*photos], matrices, photos.shape[-1])


def original(photos: Tensor, peer: Path | None) -> Callable[[], object]:
    """Its default network, whose encoder would begin by downloading weights, on photos in its range."""
    import torchvision

    if peer is None:
        raise ValueError("--peer must name a checkout of the original")
    resnet50: Any = torchvision.models.resnet50
    torchvision.models.resnet50 = lambda *arguments, **options: resnet50(weights=None)  # pyright: ignore
    sys.path.insert(0, str(peer / "training"))
    from train import MultiViewPBRGenerator
    from train_config import get_default_config

    model = MultiViewPBRGenerator(get_default_config()).eval()
    views = from_uint8(photos)[None]

    @torch.inference_mode()
    def work() -> object:
        return model(views)

    return work


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
