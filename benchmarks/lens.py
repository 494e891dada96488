"""How fast a lens learns from rewards, and how much of each: `ddpo-branch`, `ddpo`, and the DDPO trainer of trl.

    python -m benchmarks.lens                      # less than half an hour on two cores
    python -m benchmarks.lens --samples 4096 --seeds 1
    python -m benchmarks.lens --only ddpo-branch

All tune the same LoRA beside the same small UNet on pictures in haze at the same rate, are given as many rewards by the
same classifier, and are looked at with the same validation pictures. So few rewards teach one run much more than the
next: rises are means over seeds, and both ends are shown. trl 0.23 is the last that has a DDPO trainer: it draws whole
trajectories with its own DDIM step, and learns from each of their steps. Each has a process of its own, whose peak
memory is that of all it loads. Seconds are those of the training loop alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from accelerate import PartialState
from torch import Tensor

from hubmodels.lens import base as bases
from hubmodels.lens.base import Base, decode, encode
from hubmodels.lens.camo import CLASSES
from hubmodels.lens.classifier import loaded
from hubmodels.lens.data import opened
from hubmodels.lens.model import DiffusionLens, DiffusionLensConfig
from hubmodels.lens.report import quick, stacked
from hubmodels.lens.rewards import Seen, log_probability
from hubmodels.lens.sampler import schedule

SCRIPT = Path(__file__).parents[1] / "train_scripts" / "lens.py"
BATCH, CHUNK, RANK, LR = 64, 16, 8, 1e-3
UNSEEN = 512
"""Validation pictures."""
TARGETS = "to_q to_k to_v to_out.0 conv1 conv2 conv_in proj_in proj_out ff.net.0.proj ff.net.2"
METHODS = "ddpo-branch", "ddpo", "trl"


@dataclass(frozen=True)
class Options:
    """Measure how a lens learns."""

    only: Literal["", "ddpo-branch", "ddpo", "trl"] = ""
    samples: int = 1024
    """Rewards that each is given; a multiple of 128."""
    seeds: int = 3
    threads: int = 2
    seed: int = 0
    """Of one method, as a process of its own is told."""
    out: str = ""
    """Of one method: the folder for what it learned, as a process of its own is told."""

    def __post_init__(self) -> None:
        if self.samples % (2 * BATCH) or self.samples < 4 * BATCH or self.threads < 1 or self.seeds < 1:
            raise ValueError(
                f"samples must be a multiple of {2 * BATCH}, two of them at least, threads and seeds at least 1"
            )


@dataclass(frozen=True)
class Found:
    """Of one method."""

    per_second: float
    """Rewards."""
    memory: float
    """GB, the peak of its process."""
    rises: tuple[float, ...]
    """Of the reward, nats, on validation pictures, for each seed."""
    top1: float
    """On the same."""

    @property
    def rise(self) -> float:
        """Their mean."""
        return sum(self.rises) / len(self.rises)


def main(options: Options) -> None:
    if options.out:
        return trl(options)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        names = [options.only] if options.only else METHODS
        runs = {
            name: [measured(name, options, seed, Path(folder) / f"{name}-{seed}") for seed in range(options.seeds)]
            for name in names
        }
    print(table({name: together(found) for name, found in runs.items()}, options))


def together(runs: list[Found]) -> Found:
    """Of all seeds."""
    count = len(runs)
    return Found(
        sum(run.per_second for run in runs) / count,
        max(run.memory for run in runs),
        tuple(run.rise for run in runs),
        sum(run.top1 for run in runs) / count,
    )


def measured(method: str, options: Options, seed: int, out: Path) -> Found:
    """One method in a process of its own, then what it learned."""
    if method == "trl":
        command = ["-m", "benchmarks.lens", "--only", "trl", "--out", str(out), "--samples", str(options.samples)]
        command += ["--threads", str(options.threads), "--seed", str(seed)]
    else:
        batch, chunk, ways, explore = (BATCH // 4, CHUNK, 8, 4) if method == "ddpo-branch" else (BATCH, CHUNK, 1, 0)
        command = [str(SCRIPT), "--method", method, "--corruption", "haze", "--evaluate-every", "0"]
        command += ["--explore", str(explore), "--rank", str(RANK), "--targets", TARGETS]
        command += ["--lr", str(LR), "--decay", "1", "--chunk", str(chunk), "--run.batch-size", str(batch)]
        command += ["--run.steps", str(options.samples // (batch * ways)), "--run.threads", str(options.threads)]
        command += ["--run.out", str(out), "--run.seed", str(seed), "--run.ema", "0", "--run.save-every", "1000000"]
        command += ["--run.trackers"]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{method} failed:\n{said}")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    seconds = rows[-1]["seconds"] - rows[0]["seconds"]
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, elsewhere kilobytes
    lens = DiffusionLens.from_pretrained(out / "export")
    pictures, labels = validation()
    reader = loaded("org/lens-classifier", CLASSES)
    after = quick(lens, reader, pictures, labels)[0]
    with lens.as_base():
        before = quick(lens, reader, pictures, labels)[0]
    per_second = options.samples * (1 - 1 / len(rows)) / seconds
    return Found(per_second, usage.ru_maxrss / unit, (before["nll"] - after["nll"],), after["top1"])


def validation() -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, 64, 64) in [-1, 1] and labels."""
    pictures = opened("camo", "", "validation", "haze", 1, 64, 1)
    return stacked(replace(pictures, rows=pictures.rows[:UNSEEN]))


def table(found: dict[str, Found], options: Options) -> str:
    """As Markdown, each beside the last."""
    last = [*found.values()][-1]
    lines = [
        f"| {options.samples:,} rewards | rewards/s | times | peak GB | reward rises by, nats | top-1 |",
        "|---" * 6 + "|",
    ]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one.per_second:.1f} | {one.per_second / last.per_second:.1f} | {one.memory:.2f} "
            f"| {one.rise:.2f} ({min(one.rises):.2f} to {max(one.rises):.2f}) | {one.top1:.1%} |"
        )
    return "\n".join(lines)


# --- trl ------------------------------------------------------------------------------------------------------------


def trl(options: Options) -> None:
    """Train with trl's own trainer, and leave in the folder what our script would."""
    from trl import DDPOConfig
    from trl.trainer import ddpo_trainer

    trainer_of_trl: Any = ddpo_trainer.DDPOTrainer  # Any, here and below: its types are not those that it takes
    torch.set_num_threads(options.threads)
    out = Path(options.out)
    pictures, parts = opened("camo", "", "train", "haze", 1, 64, 0), bases.loaded("org/lens-base")
    reader = loaded("org/lens-classifier", pictures.classes)
    config = DiffusionLensConfig(corruption="haze", rank=RANK, targets=TARGETS, labels="; ".join(pictures.classes))
    torch.manual_seed(options.seed)
    lens = DiffusionLens.fresh(config, parts)
    lens.attach(parts)
    pipeline: Any = ForTrl(lens)
    order = iter(torch.randperm(len(pictures), generator=torch.Generator().manual_seed(options.seed)).tolist() * 100)

    def prompt() -> tuple[str, tuple[Tensor, int]]:
        """A picture to edit: the trainer passes on what comes with a prompt, but not to the pipeline."""
        picture, label = pictures[next(order)]
        pipeline.waiting.append(picture)
        return "", (picture, label)

    def reward(images: Tensor, _: Any, about: Any) -> tuple[Tensor, dict]:
        originals, labels = torch.stack([one for one, _ in about]), torch.tensor([label for _, label in about])
        with torch.no_grad():
            return log_probability(Seen.of(images, reader, originals, labels, *reader.read(originals))), {}

    said = DDPOConfig(
        seed=options.seed,
        num_epochs=options.samples // BATCH,
        save_freq=10**9,
        mixed_precision="no",
        allow_tf32=False,
        sample_num_steps=len(pipeline.times),
        sample_batch_size=CHUNK,
        sample_num_batches_per_epoch=BATCH // CHUNK,
        train_batch_size=CHUNK,
        train_gradient_accumulation_steps=BATCH // CHUNK,
        train_learning_rate=LR,
        train_cfg=False,
    )
    PartialState()  # the trainer logs before it makes one
    trainer = trainer_of_trl(said, reward, prompt, pipeline)
    out.mkdir(parents=True)
    done = 0
    started = time.perf_counter()
    with (out / "log.jsonl").open("w") as log:
        for epoch in range(said.num_epochs):
            done = trainer.step(epoch, done)
            print(json.dumps({"step": done, "seconds": time.perf_counter() - started}), file=log)
    lens.save_pretrained(out / "export")


class ForTrl:
    """The pipeline as the trainer wants it. Its latents, (B, 2 C, h, w), hold those of the picture that is edited as
    well, for it knows of no others."""

    use_lora = False
    autocast = None

    def __init__(self, lens: DiffusionLens) -> None:
        self.lens, self.parts = lens, lens.base
        self.times = schedule(self.parts.scheduler, lens.config.steps, lens.config.strength)
        self.waiting: list[Tensor] = []
        self.vae, self.text_encoder = self.parts.vae, self.parts.text_encoder
        self.unet, self.tokenizer = self.parts.unet, self.parts.tokenizer
        self.scheduler = Times(self.parts, self.times)

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def get_trainable_layers(self) -> Any:
        return self.lens

    @torch.no_grad()
    def __call__(self, prompt_embeds: Tensor, eta: float, **_: Any) -> Any:
        from trl.models import modeling_sd_base

        output: Any = modeling_sd_base.DDPOPipelineOutput
        count = len(prompt_embeds)
        pictures = torch.stack(self.waiting[:count])
        del self.waiting[:count]
        source = encode(self.parts, pictures)
        shown = source / self.parts.vae.config.scaling_factor
        first = self.times[:1].expand(count)
        latents = [torch.cat([self.parts.scheduler.add_noise(source, torch.randn_like(source), first), shown], 1)]
        likely = []
        for moment in self.times:
            said = self.unet(latents[-1], moment, prompt_embeds).sample
            step = self.scheduler_step(said, moment, latents[-1], eta)
            latents.append(step.latents)
            likely.append(step.log_probs)
        return output(decode(self.parts, latents[-1][:, : source.shape[1]]), latents, likely)

    def scheduler_step(
        self, said: Tensor, moment: Tensor, latents: Tensor, eta: float, prev_sample: Tensor | None = None
    ) -> Any:
        """trl's own step of the latents that change."""
        from trl.models import modeling_sd_base

        one_step: Any = modeling_sd_base.scheduler_step
        some = said.shape[1]
        after = None if prev_sample is None else prev_sample[:, :some]
        step = one_step(self.parts.scheduler, said, moment, latents[:, :some], eta, prev_sample=after)
        step.latents = torch.cat([step.latents, latents[:, some:]], 1)
        return step


@dataclass(frozen=True)
class Times:
    """Of a scheduler what the trainer reads: the times that are executed."""

    parts: Base
    timesteps: Tensor


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except ValueError as error:
        sys.exit(f"lens: {error}")
