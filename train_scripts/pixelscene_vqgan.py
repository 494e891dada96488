"""Train the tokenizer of `pixelscene`: an index picture becomes tokens, and the tokens the picture in its palette.

    accelerate launch train_scripts/pixelscene_vqgan.py --data data/vga --run.out runs/vqgan
    accelerate launch train_scripts/pixelscene_vqgan.py --data data/vga data/vga-games --model.stride 16
    accelerate launch train_scripts/pixelscene_vqgan.py --resume runs/vqgan          # goes on, bit for bit on CPU
    accelerate launch train_scripts/pixelscene_vqgan.py --start runs/vqgan/export --data data/mine --run.steps 500

The last one adapts a trained network to new pictures; with --keep-tokens a transformer that is there still fits.
LOG.md has the runs.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader

from hubmodels.images import from_pil, to_unit
from hubmodels.losses import PatchGAN, discriminator_loss, generator_loss
from hubmodels.pixelscene.data import Batch, Crops, held_back, opened, read
from hubmodels.pixelscene.files import contact_sheet
from hubmodels.pixelscene.losses import (
    RunningScores,
    adaptive_weight,
    differentiably_augmented,
    lecam,
    local_contrast,
    palette_cross_entropy,
)
from hubmodels.pixelscene.report import pair_of, quick
from hubmodels.pixelscene.scene import Picture
from hubmodels.pixelscene.shape import PixelVQGANConfig
from hubmodels.pixelscene.vqgan import (
    PixelVQGAN,
    Reconstruction,
    coloured,
    expected_colour,
    log_shares,
    snapped,
    wanted,
)
from hubmodels.training import Run, RunConfig, resumed, schedules
from hubmodels.training.decay import decay_groups


@dataclass(frozen=True)
class Weights:
    """Of the terms of the loss. Colours are OKLab, whose lightness goes from 0 to 1."""

    palette: float = 0.3
    """Cross-entropy of the right colour of the palette; it comes in slowly, since a colour that is far off costs very
    much of it."""
    expected: float = 2.0
    """Absolute difference of the mean colour by the logits."""
    colour: float = 4.0
    """Absolute difference of the colour before the palette is asked."""
    contrast: float = 1.0
    """Difference of steps between neighbours."""
    commitment: float = 0.25
    """Of vq: distance of what is encoded from its code."""


@dataclass(frozen=True)
class Gan:
    """A discriminator that looks at patches of 70 pixels."""

    weight: float = 0.0
    """Of its opinion, beside the reconstruction's pull on the last layer; 0 trains none."""
    start: int = 2000
    """Step from which it takes part."""
    lecam: float = 0.01
    """Weight of what holds it back when pictures are few."""
    channels: int = 32
    lr: float = 2e-4


@dataclass(frozen=True)
class Config:
    """Learn to say index pictures in a few hundred tokens."""

    preset: Literal["f8", "f16"] = "f8"
    """1,000 tokens of a picture of 320 x 200, or 240 of one of 320 x 192. Options after it change it."""
    data: tuple[str, ...] = ("data/vga",)
    """Folders made by datasets_builders.pixelscene, or data sets on the Hub; one or several."""
    size: int = 96
    """Side of a crop in pixels; the stride divides it."""
    workers: int = 1
    """Processes that cut crops."""
    backend: Literal["torch", "mlx"] = "torch"
    """What runs the network, forward and backward. Weights, losses and optimizer are torch's in either case."""
    start: str = ""
    """Weights to begin with, a folder or a Hub repository, instead of random ones; they bring their settings along."""
    keep_tokens: bool = False
    """With --start: train only what makes pictures of tokens, so that a transformer for these weights still fits."""
    lr: float = 6e-4
    """Peak of the schedule, which falls by a cosine."""
    warmup: float = 0.03
    """Share of the steps in which the rate rises."""
    ramp: float = 0.15
    """Share of the steps in which the weight of the palette's cross-entropy rises; not with --start."""
    weight_decay: float = 0.01
    evaluate_every: int = 500
    evaluate_on: int = 24
    """Validation pictures that are rebuilt each time; the PSNR decides which weights are best."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    loss: Weights = field(default_factory=Weights)
    gan: Gan = field(default_factory=Gan)
    model: PixelVQGANConfig = field(default_factory=PixelVQGANConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/vqgan", steps=6000, batch_size=8, ema=0.998, save_every=250)
    )

    def __post_init__(self) -> None:
        if self.size % self.model.stride or self.size < 32:
            raise ValueError(f"size must be a multiple of {self.model.stride} and at least 32, got {self.size}")
        if self.gan.weight and self.size < 64:
            raise ValueError(f"the discriminator needs a size of 64, got {self.size}")
        if self.backend == "mlx" and self.run.processes > 1:
            raise ValueError("mlx trains in one process: leave out --run.processes")
        if self.keep_tokens and not self.start:
            raise ValueError("keep_tokens needs weights whose tokens are to be kept: say which with --start")
        if not (0 <= self.warmup < 1 and 0 <= self.ramp < 1) or self.evaluate_on < 1:
            raise ValueError("warmup and ramp must be at least 0 and below 1, evaluate_on at least 1")


def main(config: Config) -> None:
    beginning = PixelVQGAN.from_pretrained(config.start) if config.start and not config.run.resume else None
    config = replace(config, model=beginning.config) if beginning else config
    crops = Crops(opened(config.data, "train"), config.size, config.model.stride)
    unseen, split = held_back(config.data, config.evaluate_on)
    pictures = [read(unseen[row]) for row in range(len(unseen))]
    run = Run(config.run, config)
    batches = DataLoader(crops, config.run.batch_size, shuffle=True, num_workers=config.workers)
    bare = PixelVQGAN(config.model).to(memory_format=torch.channels_last)  # a third faster on CPU
    if beginning:
        bare.load_state_dict(beginning.state_dict())
    if config.keep_tokens:
        bare.keep_tokens()
    optimizer = torch.optim.AdamW(decay_groups(bare, config.weight_decay), config.lr, betas=(0.9, 0.98))
    warmup = int(config.warmup * config.run.steps)
    schedule = schedules.cosine(optimizer, config.run.steps, warmup, 0.01)
    prepared: list = [bare, optimizer, schedule, batches]
    judge, scores = PatchGAN(3, 3, config.gan.channels), RunningScores()
    if config.gan.weight:
        opponent = torch.optim.Adam(judge.parameters(), config.gan.lr, betas=(0.5, 0.99))
        prepared += [judge, opponent, scores]
    model, optimizer, _, batches, *rest = run.prepare(*prepared)
    if split == "train" and run.is_main:
        print("no validation pictures: the best weights are chosen on some that are trained on", file=sys.stderr)
    forward = model if config.backend == "torch" else on_mlx(bare)
    ramp = 0 if config.start else int(config.ramp * config.run.steps)

    for batch in run.batches(batches):
        true = coloured(batch["indices"], batch["palette"])
        with run.accumulate(model, *rest[:1]):
            made = forward(true, batch["palette"])
            shares = log_shares(made.logits, batch["palette"])
            parts = terms(config.loss, made, shares, batch, true, min(1.0, run.step / max(1, ramp)))
            if rest and run.step >= config.gan.start:
                seen = as_seen(made, shares, batch["palette"])
                judge.requires_grad_(False)
                opinion = generator_loss(judge(differentiably_augmented(seen))[0])
                judge.requires_grad_(True)
                pull = adaptive_weight(torch.stack([*parts.values()]).sum(), opinion, bare.decoder.leave.weight)
                parts["gan"] = config.gan.weight * pull * opinion
            run.descend(parts, optimizer)
            if rest and run.step >= config.gan.start:
                both = differentiably_augmented(torch.cat([true, seen.detach()]))
                real, fake = rest[0](both)[0].chunk(2)
                doubts = {"discriminator": discriminator_loss(real, fake)}
                doubts["lecam"] = config.gan.lecam * lecam(real, fake, scores.real, scores.made)
                scores.follow(real, fake)
                run.descend(doubts, rest[1])
                run.log(**doubts)
        run.log(**parts)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                found = quick(network, pictures)
                run.log_images("samples", sheet(network, pictures[:8]))
            run.log(**found)
            run.score(found["psnr"])
    run.export(model)


def on_mlx(model: PixelVQGAN) -> Callable[[Tensor, Tensor], Reconstruction]:
    from hubmodels.pixelscene.twins import trained_vqgan  # asks for MLX, which not every machine has

    return trained_vqgan(model)


def terms(
    weights: Weights, made: Reconstruction, shares: Tensor, batch: Batch, true: Tensor, risen: float
) -> dict[str, Tensor]:
    """The weighted terms of the reconstruction; `risen` of the palette's, from 0 to 1. `shares` are `log_shares`."""
    expected = expected_colour(shares, batch["palette"])
    return {
        "palette": risen * weights.palette * palette_cross_entropy(shares, batch["indices"], batch["palette"]),
        "expected": weights.expected * (expected - true).abs().mean(),
        "colour": weights.colour * (made.colours - true).abs().mean(),
        "contrast": weights.contrast * local_contrast(expected, true),
        "commitment": weights.commitment * made.commitment,
    }


def as_seen(made: Reconstruction, shares: Tensor, palette: Tensor) -> Tensor:
    """(B, 3, H, W): the very colours that are chosen; the gradient is that of what they are chosen to be near to."""
    near = wanted(shares, made.colours, palette)
    return near + (coloured(snapped(near, palette), palette) - near).detach()


def sheet(network: PixelVQGAN, pictures: list[Picture]) -> Tensor:
    """(3, H, W) in [0, 1]: each picture beside what came back of it."""
    cells = [cell for picture in pictures for cell in pair_of(network, picture)]
    return to_unit(from_pil(contact_sheet(cells, ["true", "made"] * len(pictures), 4)))


def presets() -> dict[str, Config]:
    """The settings that --preset names."""
    return {"f8": Config(), "f16": Config(preset="f16", model=PixelVQGANConfig(stride=16))}


if __name__ == "__main__":
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="f8")
    preset = first.parse_known_args()[0].preset
    try:
        # what tyro says of a preset that there is not lists those that there are
        main(resumed(tyro.cli(Config, default=presets().get(preset, Config()), description=__doc__)))
    except (OSError, ValueError) as error:  # no such data or weights, no network, a full disk
        sys.exit(f"pixelscene_vqgan: {' '.join(str(error).split())}")
