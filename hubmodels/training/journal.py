"""What a run tells the world: a progress bar, log.jsonl, samples/*.png, and trackers such as TensorBoard."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from .checkpoint import on_disk


class Journal:
    """Means over an interval of steps and over all processes, read from the device once an interval."""

    def __init__(self, accelerator: Accelerator, out: Path, settings: Mapping[str, Any], start: int) -> None:
        self._accelerator, self._out, self._path = accelerator, out, out / "log.jsonl"
        self._sums: dict[str, tuple[Tensor | float, int]] = {}
        self.seconds = 0.0
        self._since, self._samples = time.monotonic(), 0
        self._bar = tqdm(disable=True)
        if accelerator.is_main_process:
            self._forget_after(start)
        accelerator.init_trackers(out.resolve().name, dict(_flat(settings)))

    def open_bar(self, step: int, steps: int) -> None:
        """The clock of images/s starts here too, so that loading is not counted."""
        interval = 0.5 if os.isatty(2) else 30.0
        main = self._accelerator.is_main_process
        self._bar = tqdm(total=steps, initial=step, unit="step", mininterval=interval, disable=not main)
        self._since, self._samples = time.monotonic(), 0

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (
                total + (value if isinstance(value, (int, float)) else value.detach().float()),
                count + 1,
            )

    def advance(self, steps: int, samples: int) -> None:
        self._bar.update(steps)
        self._samples += samples

    def write(self, step: int) -> None:
        """One line for the interval that ends at `step`; every process must call it."""
        own = {name: (float(total), count) for name, (total, count) in self._sums.items()}
        everyone: list[dict[str, tuple[float, int]]] = gather_object([own])
        now = time.monotonic()
        elapsed, self._since = now - self._since, now
        self.seconds += elapsed
        line: dict[str, float] = {"step": step}
        for name in dict.fromkeys(name for sums in everyone for name in sums):
            parts = [sums[name] for sums in everyone if name in sums]
            line[name] = sum(total for total, _ in parts) / sum(count for _, count in parts)
        line |= {"images_per_second": round(self._samples / elapsed, 2), "seconds": round(self.seconds, 2)}
        line["threads"] = torch.get_num_threads()
        self._sums, self._samples = {}, 0
        if self._accelerator.is_main_process:
            with on_disk(self._path), self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            shown = {name: f"{value:.4g}" for name, value in line.items() if name not in ("step", "seconds", "threads")}
            self._bar.set_postfix(shown)
        self._accelerator.log({name: value for name, value in line.items() if name != "step"}, step=step)

    def write_image(self, name: str, image: Tensor, step: int) -> None:
        """`samples/{name}_{step}.png` and the trackers. image: (3, H, W) sRGB in [0, 1], clamped."""
        if not self._accelerator.is_main_process:
            return
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"{name} must be one image (3, H, W), got {tuple(image.shape)}: make a grid of a batch")
        pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        path = self._out / "samples" / f"{name}_{step:08d}.png"
        with on_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        for tracker in self._accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({name: pixels[np.newaxis]}, step=step, dataformats="NHWC")
            else:
                tracker.log_images({name: [Image.fromarray(pixels)]}, step=step)

    def close(self) -> None:
        """Only the bar: the trackers stay open for what the script reports after its loop."""
        self._bar.close()

    def _forget_after(self, step: int) -> None:
        """A killed run logged steps that its last checkpoint does not have; they will be run again."""
        if self._path.exists():
            lines = [line for line in self._path.read_text().splitlines() if _step(line) <= step]
            with on_disk(self._path):
                self._path.write_text("".join(line + "\n" for line in lines))


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return float("inf")  # the line that the kill cut short


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Trackers take numbers and strings only."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, (int, float, str)) else str(value)
