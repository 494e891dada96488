"""Train `neuropbr`: photos of a surface go in, the maps of its material come out.

    accelerate launch train_scripts/neuropbr.py --run.out runs/neuropbr                  # makes materials up
    accelerate launch train_scripts/neuropbr.py --data data/pbr --run.out runs/neuropbr  # reads a built data set
    accelerate launch train_scripts/neuropbr.py --preset quick_test --run.out runs/try   # or another preset
    accelerate launch train_scripts/neuropbr.py --resume runs/neuropbr                   # goes on, bit for bit on CPU

Options after --preset change single settings of it. LOG.md has the runs, and the card in weights/neuropbr the one
that made the released weights.
"""

import sys
from argparse import ArgumentParser
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import tyro
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, default_collate

from hubmodels.images import from_unit, grid, to_unit
from hubmodels.losses import PatchGAN, discriminator_loss, feature_matching, generator_loss, gradient_penalty
from hubmodels.neuropbr.data import MAPS, Batch, Photographed, Stored
from hubmodels.neuropbr.lights import rendering_configurations
from hubmodels.neuropbr.losses import Weights, terms
from hubmodels.neuropbr.model import Maps, NeuroPBR, NeuroPBRConfig, average
from hubmodels.neuropbr.report import quick
from hubmodels.training import Run, RunConfig, resumed, schedules
from hubmodels.training.decay import decay_groups

Preset = Literal[
    "default", "quick_test", "lightweight", "high_quality", "fast_iteration", "normal_focused", "student", "seed"
]


JUDGED = 3 + 1 + 1 + 3 + 3
"""Channels that the discriminator sees: maps, and the average photo."""


@dataclass(frozen=True)
class Gan:
    """A discriminator that looks at patches of maps beside the average photo."""

    weight: float = 0.0
    """Of its opinion in the loss; 0 trains none."""
    start: int = 1000
    """Step from which it takes part."""
    loss: Literal["hinge", "bce"] = "hinge"
    feature_matching: float = 1.0
    """Weight of the distance of its features, relative to that of its opinion."""
    r1: float = 1.0
    """Weight of the gradient penalty on true maps."""
    r1_every: int = 16
    """Steps between gradient penalties, which then count as often."""
    layers: int = 4
    """3, 4, 5 or 6 see patches of 70, 142, 286 or 574 pixels."""
    channels: int = 64
    steps: int = 1
    """Of the discriminator for each one of the generator."""
    lr: float = 2e-4


@dataclass(frozen=True)
class Config:
    """Learn to read materials off photos."""

    preset: Preset = "default"
    """Where the settings begin that no option gives."""
    data: str = ""
    """A folder made by datasets_builders.neuropbr, or a data set on the Hub; empty makes materials up on the fly."""
    curriculum: Literal[0, 1, 2] = 1
    """Photos that are 0 clean, 1 clean and dirty as they come, 2 dirty only."""
    rows: int = 1_000_000
    """Different crops of materials to train on."""
    size: int = 64
    """Side of a crop in pixels."""
    views: int = 3
    """Photos of a crop, at most; each crop has from one up to these."""
    dirty: float = 0.25
    """Share of dirty photos in curriculum 1 where materials are made up."""
    echo: int = 6
    """Rows that a made-up capture serves, as other crops, turned, with other of its photos."""
    workers: int = 1
    """Processes that make crops and photograph them."""
    start: str = ""
    """Weights to begin with, a folder or a Hub repository, instead of random ones; they must fit the settings."""
    lr: float = 5e-4
    """Peak of the schedule. At 2e-3 the deep stages of the encoder die: see summary_spread."""
    schedule: Literal["cosine", "step", "plateau", "none"] = "cosine"
    """Of both learning rates, after the warm-up."""
    warmup: float = 0.02
    """Share of the steps in which the rates rise."""
    floor: float = 0.01
    """Of cosine: what is left of the peak at the end."""
    step_every: float = 0.3
    """Of step: share of the steps between falls."""
    patience: int = 10
    """Of plateau: evaluations in a row without a new best."""
    fall: float = 0.1
    """Of step and plateau: what is left of the rate after a fall."""
    weight_decay: float = 0.05
    """On matrices only."""
    checkpointing: bool = False
    """Compute inner values again on the way back: a third slower, several times less memory."""
    evaluate_every: int = 500
    evaluate_on: int = 48
    """Validation crops that are compared each time."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    loss: Weights = field(default_factory=Weights)
    gan: Gan = field(default_factory=Gan)
    model: NeuroPBRConfig = field(default_factory=NeuroPBRConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/neuropbr", steps=14_000, batch_size=12, ema=0.998, save_every=250)
    )

    def __post_init__(self) -> None:
        least = 3 * 2**self.gan.layers  # the two convolutions after those of stride 2 take a pixel each
        if self.gan.weight and self.size < least:
            raise ValueError(f"a discriminator of {self.gan.layers} layers needs a size of {least}, got {self.size}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be at least 0 and below 1, got {self.warmup}")
        if self.evaluate_on < 1:
            raise ValueError(f"evaluate_on must be at least 1, got {self.evaluate_on}")


def main(config: Config) -> None:
    crops, unseen = dataset(config, config.rows, "train"), dataset(config, config.evaluate_on, "validation")
    run = Run(config.run, config)
    batches = DataLoader(crops, config.run.batch_size, shuffle=bool(config.data), num_workers=config.workers)
    held_back = default_collate([unseen[row] for row in range(config.evaluate_on)])
    held_back = {name: one.to(run.device) for name, one in held_back.items()}
    bare = NeuroPBR(config.model)
    if config.start and not config.run.resume:
        bare.load_state_dict(NeuroPBR.from_pretrained(config.start).state_dict())
    bare.recompute(config.checkpointing)
    optimizer = torch.optim.AdamW(decay_groups(bare, config.weight_decay), config.lr, betas=(0.9, 0.98))
    prepared: list = [bare, optimizer, scheduled(config, optimizer, config.run.steps), batches]
    judge = PatchGAN(JUDGED, config.gan.layers, config.gan.channels) if config.gan.weight else None
    if judge:
        opponent = torch.optim.Adam(judge.parameters(), config.gan.lr, betas=(0.5, 0.999))
        rounds = config.gan.steps * max(1, config.run.steps - config.gan.start)
        prepared += [judge, opponent, scheduled(config, opponent, rounds)]
    model, optimizer, _, batches, *rest = run.prepare(*prepared)

    for batch in run.batches(batches):
        photo = average(batch["views"], batch["seen"])
        with run.accumulate(model, *rest[:1]):
            made = model(batch["views"], valid=batch["seen"], toward=batch["toward"], light=True)
            lit = rendering_configurations(torch.Generator().manual_seed(config.run.seed + run.step), len(photo), 1, 2)
            parts = terms(config.loss, made, batch, [(light.to(run.device), eye.to(run.device)) for light, eye in lit])
            if judge and run.step >= config.gan.start:
                parts |= persuasion(config.gan, judge, made, batch, photo)
            run.descend(parts, optimizer)
            if judge and run.step >= config.gan.start:
                for _ in range(config.gan.steps):
                    doubts = judgement(config.gan, rest[0], judge, made, batch, photo, run.step)
                    run.descend(doubts, rest[1])
                    run.log(**doubts)
        run.log(**parts)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                scores = quick(network, held_back)
                run.log_images("samples", sheet(network, held_back))
            run.log(**scores)
            run.score(scores["rerender_psnr"])
            for item in prepared:
                if isinstance(item, schedules.Plateau):
                    item.report(scores["rerender_psnr"])
    run.export(model)


def dataset(config: Config, rows: int, split: str) -> Dataset:
    """Crops of a split: out of a built data set, or made up."""
    seed, size, views = config.run.seed + (split != "train"), config.size, config.views
    if config.data:
        return Stored(config.data, rows, seed, size, views, config.curriculum, split)
    dirty = (0.0, config.dirty, 1.0)[config.curriculum]
    return Photographed(rows, seed, size, views, dirty, split, config.echo if split == "train" else 1)


def scheduled(config: Config, optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    warmup = int(config.warmup * steps)
    if config.schedule == "cosine":
        return schedules.cosine(optimizer, steps, warmup, config.floor)
    if config.schedule == "step":
        return schedules.step(optimizer, max(1, int(config.step_every * steps)), config.fall, warmup)
    if config.schedule == "plateau":
        return schedules.Plateau(optimizer, config.patience, config.fall, warmup)
    return schedules.constant(optimizer, warmup)


def judged(maps: Maps) -> Tensor:
    """(B, 8, H, W) in [-1, 1]: what the discriminator sees of maps."""
    return torch.cat([maps[name] if name == "normal" else maps[name] * 2 - 1 for name in MAPS], 1)


def persuasion(gan: Gan, judge: PatchGAN, made: Maps, batch: Batch, photo: Tensor) -> dict[str, Tensor]:
    """What the generator is told by the discriminator, whose own weights this leaves alone."""
    judge.requires_grad_(False)
    scores, features = judge(judged(made), photo * 2 - 1)
    with torch.no_grad():
        _, wanted = judge(judged(batch), photo * 2 - 1)
    judge.requires_grad_(True)
    return {
        "gan": gan.weight * generator_loss(scores, gan.loss),
        "features": gan.weight * gan.feature_matching * feature_matching(wanted, features),
    }


def judgement(
    gan: Gan, wrapped: torch.nn.Module, judge: PatchGAN, made: Maps, batch: Batch, photo: Tensor, step: int
) -> dict[str, Tensor]:
    """The discriminator's own terms. `wrapped` is `judge` as `prepare` returned it: its gradients are shared."""
    true, condition = judged(batch), photo * 2 - 1
    both = torch.cat([true, judged(made).detach()])
    real, fake = wrapped(both, torch.cat([condition, condition]))[0].chunk(2)
    terms = {"discriminator": discriminator_loss(real, fake, gan.loss)}
    if gan.r1 and step % gan.r1_every == 0:
        terms["r1"] = gan.r1 / 2 * gan.r1_every * gradient_penalty(judge, true, condition)
    return terms


def sheet(network: NeuroPBR, batch: Batch) -> Tensor:
    """(3, H, W): a row for each of eight crops: its average photo, then each map as true, made, and how far off."""
    few = {name: part[:8] for name, part in batch.items()}
    made = network(few["views"], valid=few["seen"], toward=few["toward"])
    cells = [from_unit(average(few["views"], few["seen"]))]
    for name in MAPS:
        for maps in (few, made):
            one = maps[name] if name == "normal" else from_unit(maps[name])
            cells.append(one.expand(-1, 3, -1, -1))
        heat = 3 * (made[name] - few[name]).abs().mean(1, keepdim=True)  # black, red, yellow, white at 1
        cells.append(from_unit(torch.cat([heat, heat - 1, heat - 2], 1).clamp(0, 1)))
    return to_unit(grid(torch.stack(cells, 1).flatten(0, 1), len(cells)))


def presets() -> dict[Preset, Config]:
    """The settings that --preset names; those of the original design have its networks and weights of losses."""
    plain = Config()
    resnet18 = NeuroPBRConfig("resnet18", summary=256, depth=2, heads=16)
    resnet50 = replace(resnet18, encoder="resnet50", depth=4, summary=512)
    hard, documented = Gan(weight=0.05), Weights(normal=0.5, normal_map=1.0)

    def preset(
        model: NeuroPBRConfig, steps: int, loss: Weights, gan: Gan = plain.gan, lr: float = 2e-4, size: int = 128
    ) -> Config:
        run = replace(plain.run, steps=steps, batch_size=2)
        return replace(plain, model=model, loss=loss, gan=gan, lr=lr, size=size, run=run)

    some: dict[Preset, Config] = {
        "default": plain,
        "quick_test": preset(resnet18, 200, documented),
        "lightweight": preset(resnet50, 100_000, Weights(ssim=0.5, normal=0.7, normal_map=1.0)),
        "high_quality": preset(
            replace(resnet50, encoder="resnet101", stride=2, depth=6),
            200_000,
            Weights(albedo=1.2, ssim=0.5, normal=0.8, normal_map=1.0),
            replace(hard, weight=0.1, start=10_000),
            1e-4,
        ),
        "fast_iteration": preset(replace(resnet18, stride=2), 50_000, documented, replace(hard, start=5000)),
        "normal_focused": preset(
            replace(resnet50, stride=2),
            150_000,
            Weights(albedo=0.8, roughness=0.8, metallic=0.8, normal_map=2.0, ssim=0.2, normal=1.5),
            replace(hard, weight=0.08, start=8000),
            1.5e-4,
        ),
        "student": replace(plain, model=NeuroPBRConfig(channels=8, depth=1)),
        "seed": preset(
            NeuroPBRConfig("resnet50", summary=2048, heads=32, depth=4, dropout=0.1),
            100_000,
            documented,
            replace(hard, start=5000, layers=6),
            size=256,  # its discriminator looks at patches of 574 pixels
        ),
    }
    return {name: replace(one, preset=name) for name, one in some.items()}


if __name__ == "__main__":
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="default")
    wanted = first.parse_known_args()[0].preset
    try:
        # what tyro says of a preset that there is not lists those that there are
        main(resumed(tyro.cli(Config, default=presets().get(wanted, Config()), description=__doc__)))
    except OSError as error:  # no such data, no network, a full disk
        sys.exit(f"neuropbr: {' '.join(str(error).split())}")
