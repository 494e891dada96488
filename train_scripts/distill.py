"""Train `distill`: a caption goes in, the picture that the renderer would draw comes out.

    accelerate launch train_scripts/distill.py --run.out runs/distill                      # renders on the fly
    accelerate launch train_scripts/distill.py --data data/scenes --run.out runs/distill   # reads a built data set
    accelerate launch train_scripts/distill.py --resume runs/distill                       # goes on, bit for bit on CPU

LOG.md has the runs, and the card in weights/distill the one that made the released weights.
"""

import sys
from dataclasses import dataclass, field

import torch
import tyro
from torch import Tensor

from hubmodels.distill.data import Batch, collate, loader, scene_of
from hubmodels.distill.model import DistilledRenderer, DistilledRendererConfig
from hubmodels.distill.report import quick, rows
from hubmodels.images import from_pil, from_uint8, to_uint8, to_unit
from hubmodels.losses import (
    foreground_weights,
    perceptual,
    random_features,
    total_variation,
    weighted_l1,
    weighted_l2,
)
from hubmodels.training import Run, RunConfig, resumed, schedules
from hubmodels.training.decay import decay_groups


@dataclass(frozen=True)
class Config:
    """Distil the scene renderer into a network."""

    data: str = ""
    """A folder made by datasets_builders.scenes, or a data set on the Hub; empty renders scenes on the fly."""
    rows: int = 1_000_000
    """Different pictures to render on the fly; has no effect with --data."""
    workers: int = 0
    """Processes that prepare batches; 0 prepares them between steps, which on two cores is quickest."""
    lr: float = 1.5e-3
    """Peak of the one-cycle schedule."""
    warmup: float = 0.04
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.01
    """On matrices only: not on embeddings, norms and biases."""
    l1: float = 0.5
    l2: float = 0.5
    tv: float = 1e-5
    """Weight of the total variation of the student's picture."""
    perceptual: float = 1e-3
    """Weight of the distance in the features of a frozen random network."""
    no_perc: bool = False
    """Leave the perceptual term out."""
    foreground: float = 5.0
    """How many background pixels a pixel of a thing is worth."""
    evaluate_every: int = 1000
    """Steps between readings of validation pictures; the reading decides which weights are best."""
    start: str = ""
    """Weights to begin with, a folder or a Hub repository, instead of random ones; they must fit the settings."""
    evaluate_on: int = 256
    """Validation scenes that are drawn and read each time."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    model: DistilledRendererConfig = field(default_factory=DistilledRendererConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/distill", steps=9000, batch_size=32, save_every=250)
    )


def main(config: Config) -> None:
    size, seed = config.model.resolution, config.run.seed
    batches = loader(config.data, config.rows, seed, config.run.batch_size, size, config.workers)
    run = Run(config.run, config)
    held_back = collate([scene_of(i, seed, "validation") for i in range(config.evaluate_on)], size)
    model = DistilledRenderer(config.model)
    if config.start and not config.run.resume:
        model.load_state_dict(DistilledRenderer.from_pretrained(config.start).state_dict())
    optimizer = torch.optim.AdamW(decay_groups(model, config.weight_decay), config.lr, betas=(0.9, 0.98))
    schedule = schedules.one_cycle(optimizer, config.run.steps, int(config.warmup * config.run.steps))
    model, optimizer, schedule, batches = run.prepare(model, optimizer, schedule, batches)
    features = random_features(seed=0).to(run.device)

    for batch in run.batches(batches):
        with run.accumulate(model):
            terms = losses(config, model(batch["tokens"]), batch, features)
            run.descend(terms, optimizer)
        run.log(**terms)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                scores = quick(network, held_back)
                run.log_images("samples", sheet(network, held_back))
            run.log(**scores)
            run.score(scores["exact"])
    run.export(model)


def losses(config: Config, student: Tensor, batch: Batch, features: torch.nn.ModuleList) -> dict[str, Tensor]:
    """The weighted terms of the loss."""
    teacher = from_uint8(batch["picture"])
    weights = foreground_weights(batch["foreground"], config.foreground)
    terms = {
        "l1": config.l1 * weighted_l1(student, teacher, weights),
        "l2": config.l2 * weighted_l2(student, teacher, weights),
        "tv": config.tv * total_variation(student),
    }
    if not config.no_perc:
        terms["perceptual"] = config.perceptual * perceptual(features, student, teacher)
    return terms


def sheet(network: DistilledRenderer, batch: Batch) -> Tensor:
    """Teacher, student and difference of sixteen scenes, (3, H, W) in [0, 1]."""
    teacher = batch["picture"][:16]
    student = to_uint8(network.draw(batch["tokens"][:16])).cpu()
    return to_unit(from_pil(rows(teacher, student)))


if __name__ == "__main__":
    try:
        main(resumed(tyro.cli(Config, description=__doc__)))
    except OSError as error:  # no such data, no network, a full disk
        sys.exit(f"distill: {' '.join(str(error).split())}")
