"""Train `circular`: sentences are painted and read back from the picture alone; no pictures are given.

    accelerate launch train_scripts/circular.py --run.out runs/circular                 # sentences made up as it goes
    accelerate launch train_scripts/circular.py --data data/scenes --config templates   # those of a built data set
    accelerate launch train_scripts/circular.py --preset grounded                       # 1 in 100 has a picture
    accelerate launch train_scripts/circular.py --resume runs/circular                  # goes on, bit for bit on CPU

LOG.md has the runs, and the cards in weights/circular and weights/circular-grounded those that made these weights.
"""

import sys
from argparse import ArgumentParser
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import tyro
from torch import Tensor

from hubmodels.circular import losses
from hubmodels.circular.data import Batch, Sentences, Stored, Wording, held_out, loader
from hubmodels.circular.model import CircularScene, CircularSceneConfig, Trip
from hubmodels.circular.report import oracle_exact, roundtrips, territories
from hubmodels.circular.sentences import Language, meaning
from hubmodels.images import from_pil, from_uint8, save, sheet, to_unit
from hubmodels.losses import foreground_weights, total_variation, weighted_l1, weighted_l2
from hubmodels.scenes.world import COLORS
from hubmodels.training import Run, RunConfig, resumed, schedules
from hubmodels.training.decay import decay_groups


@dataclass(frozen=True)
class Weights:
    """How much each loss counts; see `hubmodels.circular.losses`."""

    consistency: float = 1.0
    """The reader's likelihood of the sentence, from the picture alone."""
    alignment: float = 0.3
    """A sentence is nearer to its own picture than to the others of the batch."""
    kl: float = 0.03
    """Of vae: price of what a code says beyond `free` nats a number."""
    free: float = 0.25
    commitment: float = 1.0
    """Of vq: codes and their nearest visual words."""
    spatial: float = 0.5
    """Mumford-Shah: smooth between edges."""
    tv: float = 0.0
    """Total variation."""
    diversity: float = 0.1
    """Pictures of different sentences differ."""
    perceptual: float = 0.1
    """Edges, neither none nor noise."""
    color: float = 0.05
    """What a colour word looks like stays the same."""
    language: float = 1.0
    """Of the language model."""
    teacher: float = 10.0
    """The teacher's picture, where it is known: squared difference and a fifth of the absolute one."""
    foreground: float = 5.0
    """How many pixels of paper a pixel of a thing is worth in it."""
    taught: float = 1.0
    """The reader reads the teacher's pictures too."""


@dataclass(frozen=True)
class Config:
    """Learn to paint sentences so that they can be read back."""

    preset: Literal["default", "grounded", "vq", "scene", "quick"] = "default"
    """default; grounded, with a teacher's picture of one sentence in a hundred and a layout; vq, a visual vocabulary;
    scene, a layout but no teacher; quick, minutes on templates. Options after it change it."""
    data: str = ""
    """A folder made by datasets_builders.scenes, or a data set on the Hub; empty makes sentences up."""
    config: Literal["", "both", "scenes", "templates"] = ""
    """Which language, of the data or made up; empty is --model.language."""
    num_samples: int = 1_000_000
    """Different sentences to make up; has no effect with --data."""
    workers: int = 0
    grounding: float = 0.0
    """Share of all sentences, 0 to 1, of which the teacher's picture is known; 0.01 is one in a hundred."""
    lessons: float = 0.5
    """Share of a batch that is drawn from the sentences with a teacher, if there are any."""
    wording: Wording = "said"
    """What should be read of a picture: the sentence as it was said, or in canonical words for all of its meaning."""
    channel: float = 1.0
    """Strength of what disturbs a picture before it is read; it rises from 0 within the first `ramp` of the steps."""
    ramp: float = 0.3
    """The price of information rises with it."""
    lr: float = 3e-3
    """Peak of the one-cycle schedule."""
    warmup: float = 0.04
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.01
    evaluate_every: int = 500
    evaluate_on: int = 256
    """Validation sentences that are painted and read each time. The share that is read exactly decides which weights
    are best; with teachers also the share of which the reader of scenes sees exactly the scene."""
    start: str = ""
    """Weights to begin with, a folder or a Hub repository; they bring their settings along."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    loss: Weights = field(default_factory=Weights)
    model: CircularSceneConfig = field(default_factory=CircularSceneConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/circular", steps=3000, batch_size=32, save_every=250)
    )

    def __post_init__(self) -> None:
        for name in ("grounding", "lessons", "ramp", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1, got {getattr(self, name)}")
        if self.evaluate_on < 16:
            raise ValueError(f"evaluate_on must be at least 16, got {self.evaluate_on}")


def main(config: Config) -> None:
    beginning = CircularScene.from_pretrained(config.start) if config.start and not config.run.resume else None
    language: Language = config.config or config.model.language
    shape = beginning.config if beginning else replace(config.model, language=language, vocabulary="")
    config = replace(config, model=shape, config=shape.language)
    seed, share = config.run.seed, (config.grounding, config.lessons)
    if config.data:
        rows: Sentences = Stored(config.data, shape.language, seed, "train", *share)
    else:
        rows = Sentences(shape.language, config.num_samples, seed, "train", *share)
    batches = loader(rows, config.run.batch_size, shape.layout, config.workers, config.wording)
    run = Run(config.run, config)
    unseen = held_out(shape.language, config.evaluate_on, seed, "validation")
    model = CircularScene(shape)
    if beginning:
        model.load_state_dict(beginning.state_dict())
    words = shape.vocabulary.split()
    named = torch.tensor([number for number, word in enumerate(words) if word in COLORS]).to(run.device)
    optimizer = torch.optim.AdamW(decay_groups(model, config.weight_decay), config.lr, betas=(0.9, 0.98))
    schedule = schedules.one_cycle(optimizer, config.run.steps, int(config.warmup * config.run.steps))
    model, optimizer, schedule, batches = run.prepare(model.train(), optimizer, schedule, batches)

    for batch in run.batches(batches):
        grown = min(1.0, run.step / max(1.0, config.ramp * config.run.steps))
        teacher = None if batch["teacher"] is None else from_uint8(batch["teacher"])
        with run.accumulate(model):
            trip = model(batch["tokens"], batch["layout"], teacher, config.channel * grown)
            terms = losses_of(config, trip, batch, teacher, named, grown)
            run.descend(terms, optimizer)
        run.log(**terms)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                scores, lines = quick(network, unseen, config)
                run.log_images("roundtrips", to_unit(from_pil(sheet(network.paint(unseen[:16], 0), lines[:16], 4))))
                run.log_images("words", to_unit(from_pil(sheet(*territories(network, unseen[0]), 8))))
            run.log(**scores)
            run.score(sum(scores[name] for name in ("exact", "oracle") if name in scores))
            summary = [f"{run.step} steps", *(f"{name} {value:.4f}" for name, value in scores.items()), *lines]
            if run.is_main:
                save(run.out / "summary.txt", "\n".join(summary).encode())
    run.export(model)


def losses_of(
    config: Config, trip: Trip, batch: Batch, teacher: Tensor | None, named: Tensor, grown: float
) -> dict[str, Tensor]:
    """The weighted terms of the loss. One of weight 0 stays, so that all processes agree on what is trained."""
    weight, tokens, heard = config.loss, batch["tokens"], batch["heard"]
    assert tokens is not None and heard is not None
    picture = trip.picture
    inked = trip.territory.sum((2, 3)).clamp(min=1e-6)
    colors = torch.einsum("bshw,bchw->bsc", trip.territory, picture) / inked[..., None]
    terms = {
        "consistency": weight.consistency * losses.consistency(trip.read, heard[:, 1:]),
        "alignment": weight.alignment * losses.alignment(trip.said, trip.seen),
        "kl": weight.kl * grown * losses.kl_free_bits(trip.mean, trip.log_variance, weight.free),
        "commitment": weight.commitment * trip.commitment,
        "spatial": weight.spatial * losses.mumford_shah(picture),
        "tv": weight.tv * total_variation(picture),
        "diversity": weight.diversity * losses.diversity(picture),
        "perceptual": weight.perceptual * losses.edges(picture),
        "color": weight.color * losses.color_consistency(colors, trip.attention, tokens, named),
        "language": weight.language * losses.language(trip.next_words, tokens),
    }
    del terms["kl" if config.model.bottleneck != "vae" else "commitment"]
    if teacher is not None and batch["things"] is not None:
        taught = batch["taught"]
        things = foreground_weights(batch["things"], weight.foreground)
        near = weighted_l2(picture[taught], teacher, things) + 0.2 * weighted_l1(picture[taught], teacher, things)
        terms["teacher"] = weight.teacher * near
        terms["taught"] = weight.taught * losses.consistency(trip.read_teacher, heard[taught, 1:])
    return terms


def quick(network: CircularScene, sentences: list[str], config: Config) -> tuple[dict[str, float], list[str]]:
    """Scores of the round trip on held-back sentences, and a line for each: what was said and what was read."""
    wanted = sentences if config.wording == "said" else [meaning(sentence) for sentence in sentences]
    read, carried = roundtrips(network, sentences, seed=0)
    scores = {"exact": sum(a == b for a, b in zip(wanted, read, strict=True)) / len(read), "carried": carried}
    if config.grounding:
        scores["oracle"] = oracle_exact(network, sentences, seed=0)
    lines = [a if b == c else f"{a} / {c}" for a, b, c in zip(sentences, wanted, read, strict=True)]
    return scores, lines


def presets() -> dict[str, Config]:
    """The settings that --preset names."""
    scene = CircularSceneConfig(language="scenes", layout=True, slots=8)
    page = CircularSceneConfig(bottleneck="vq", z_dim=512)
    brief = RunConfig(out="runs/circular-quick", steps=600, batch_size=32, save_every=200)
    return {
        "default": Config(),
        "grounded": Config(
            preset="grounded",
            grounding=0.01,
            wording="canonical",
            lr=2e-3,
            ramp=0.2,
            loss=Weights(kl=0.02, spatial=0.1),
            model=scene,
            run=RunConfig(out="runs/circular-grounded", steps=5000, batch_size=32, save_every=250),
        ),
        "vq": Config(preset="vq", model=page),
        "scene": Config(preset="scene", model=scene),
        "quick": Config(
            preset="quick",
            model=CircularSceneConfig(language="templates"),
            evaluate_every=200,
            evaluate_on=64,
            run=brief,
        ),
    }


if __name__ == "__main__":
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="default")
    preset = first.parse_known_args()[0].preset
    try:
        # what tyro says of a preset that there is not lists those that there are
        main(resumed(tyro.cli(Config, default=presets().get(preset, Config()), description=__doc__)))
    except (OSError, ValueError) as error:  # no such data, no network, a full disk
        sys.exit(f"circular: {' '.join(str(error).split())}")
