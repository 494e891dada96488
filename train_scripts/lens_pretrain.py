"""Train the small parts that `lens` works with: a VAE, a classifier, a judge and an image-conditioned UNet.

    accelerate launch train_scripts/lens_pretrain.py                                 # all, one after another; hours
    accelerate launch train_scripts/lens_pretrain.py --part vae                      # one; classifier, judge and unet
    accelerate launch train_scripts/lens_pretrain.py --part judge                    #   want the VAE of before
    accelerate launch train_scripts/lens_pretrain.py --part weights --weights weights        # only gather what is there
    accelerate launch train_scripts/lens_pretrain.py --resume runs/lens-parts/unet   # goes on, bit for bit on CPU

Without --part it goes on where it was stopped, and gathers the parts at the end. LOG.md has the runs.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import tyro
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.functional import gaussian_blur
from transformers import AutoModelForImageClassification, CLIPTextModel

from hubmodels import hub
from hubmodels.images import from_uint8, grid, to_unit
from hubmodels.lens import tiny
from hubmodels.lens.base import Base, encode, predictor
from hubmodels.lens.camo import CLASSES, TASKS, scenes
from hubmodels.lens.model import drawn
from hubmodels.lens.sampler import run as sampled
from hubmodels.lens.sampler import schedule
from hubmodels.training import Run, RunConfig, Stop, resumed, schedules
from hubmodels.training.decay import decay_groups

PARTS = ("vae", "classifier", "judge", "unet")
ROWS = 1_000_000
"""Different scenes to learn from."""
NOISE = 0.3
"""Of noisy scenes; less than in the task, so that there is more to learn beneath it."""
LATEST = 600
"""Times up to which the UNet learns: an editor never starts from more noise."""


@dataclass(frozen=True)
class Config:
    """Train one part, or all of them and gather them."""

    part: Literal["all", "vae", "classifier", "judge", "unet", "weights"] = "all"
    """weights only gathers, in half precision, what the others have made. Options after it change it."""
    parts: str = "runs/lens-parts"
    """Folder in which each part has its run, and finds those of the others."""
    weights: str = "runs/lens-parts/weights"
    """Where the parts are gathered: lens-base, lens-classifier and lens-judge."""
    lr: float = 1e-3
    """Peak of the one-cycle schedule."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.02
    crop: int = 32
    """Of the VAE: pixels a side of what it sees at a time."""
    curriculum: float = 0.3
    """Of the classifier and judge: share of the steps until animals are as faint as they ever are."""
    rebuilt: float = 0.25
    """Share of the pictures that went through the VAE before the classifier or judge sees them."""
    pool: int = 8000
    """Of the UNet: scenes whose latents are kept, in each way of hiding."""
    heard: float = 0.5
    """Of the UNet: share of the pictures that come with a caption."""
    evaluate_every: int = 500
    evaluate_on: int = 500
    """Validation scenes."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    run: RunConfig = field(default_factory=lambda: RunConfig(out=""))
    """Of one part; an empty `out` is a folder of its name in `parts`."""

    def __post_init__(self) -> None:
        for name in ("warmup", "curriculum", "rebuilt", "heard"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1, got {getattr(self, name)}")
        if self.crop % 4 or not 8 <= self.crop <= tiny.SIZE or self.evaluate_on < 16 or self.pool < 16:
            raise ValueError("crop is a multiple of 4 from 8 to 64; pool and evaluate_on are at least 16")


def main(config: Config) -> None:
    if config.part == "all":
        for part in PARTS:
            own = replace(presets()[part], parts=config.parts, weights=config.weights)
            own = placed(replace(own, run=replace(own.run, seed=config.run.seed, threads=config.run.threads)))
            if not (Path(own.run.out) / "export").is_dir():
                begun = any((Path(own.run.out) / "checkpoints").glob("step_*"))
                TRAIN[part](replace(own, run=replace(own.run, resume=begun)))
    elif config.part != "weights":
        TRAIN[config.part](placed(config))
    if config.part in ("all", "weights"):
        gather(Path(config.parts), Path(config.weights))


def placed(config: Config) -> Config:
    """With a folder for the run."""
    return replace(config, run=replace(config.run, out=config.run.out or f"{config.parts}/{config.part}"))


def export(config: Config, part: str, name: str = "export") -> Path:
    """What another part's run has made.

    Raises:
        Stop: nothing yet.
    """
    folder = Path(config.parts) / part / name
    if not folder.is_dir():
        raise Stop(f"{folder} is not there: train it first, with --part {part} --parts {config.parts}")
    return folder


def rows(config: Config) -> DataLoader:
    """Numbers of scenes, which are drawn where they are needed."""
    return DataLoader(torch.arange(ROWS), config.run.batch_size, shuffle=True)  # pyright: ignore[reportArgumentType]


def shown(
    split: str, seed: int, numbers: Tensor, task: str = "clear", alpha: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, 64, 64) in [-1, 1] and labels (B,) of scenes, on the CPU."""
    made = scenes(split, seed, numbers.tolist(), task, tiny.SIZE, alpha, NOISE)
    return from_uint8(made.pictures), made.labels


def batches(config: Config, run: Run, loader: DataLoader) -> Iterator[tuple[Tensor, float]]:
    """Numbers of scenes, and how far the run is, from 0 to 1."""
    for numbers in run.batches(loader):
        yield numbers, run.step / config.run.steps


# --- VAE --------------------------------------------------------------------------------------------------------


def vae(config: Config) -> None:
    """Pictures of every kind there and back. At the end latents are scaled to a deviation of 1."""
    run = Run(config.run, config)
    bare: Any = tiny.vae()
    bare.to(memory_format=torch.channels_last)  # a third faster on CPU
    optimizer = torch.optim.AdamW(decay_groups(bare, config.weight_decay), config.lr, betas=(0.9, 0.98))
    schedule = schedules.one_cycle(optimizer, config.run.steps, int(config.warmup * config.run.steps))
    model, optimizer, _, loader = run.prepare(bare, optimizer, schedule, rows(config))
    unseen = torch.cat([shown("validation", 1, torch.arange(16), task)[0] for task in TASKS]).to(run.device)
    for numbers, done in batches(config, run, loader):
        pictures = coloured(cropped(mixed(config, numbers), config.crop)).to(run.device)
        with run.accumulate(model):
            said = model.encode(pictures).latent_dist
            rebuilt = model.decode(said.sample()).sample
            terms = {**differences(rebuilt, pictures, done), "kl": 1e-5 * said.kl().mean()}
            run.descend(terms, optimizer)
        run.log(**terms)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                back = through(network, unseen)
            run.log(psnr=float(-10 * ((back - unseen) / 2).square().mean().log10()))
            run.log_images("rebuilt", beside(unseen, back))
    folder = run.export(model)
    if run.is_main:
        whole: Any = AutoencoderKL.from_pretrained(folder)
        seen = mixed(config, torch.arange(512))
        with torch.no_grad():
            spread = torch.cat([whole.encode(part).latent_dist.mode() for part in seen.split(64)]).std()
        whole.register_to_config(scaling_factor=round(1 / float(spread), 4))
        whole.save_pretrained(folder)


def mixed(config: Config, numbers: Tensor) -> Tensor:
    """(B, 3, 64, 64): few noisy scenes, which no code could hold, and as many of each other way of hiding."""
    count = len(numbers)
    ends = [(3 * count // 10) * (n + 1) for n in range(3)]
    parts = zip(numbers.tensor_split(ends), ("camouflage", "haze", "clear", "noise"), strict=True)
    return torch.cat([shown("train", config.run.seed, part, task)[0] for part, task in parts])


def cropped(pictures: Tensor, side: int) -> Tensor:
    """A square of each, somewhere."""
    corners = torch.randint(tiny.SIZE - side + 1, (len(pictures), 2)).tolist()
    return torch.stack(
        [one[:, y : y + side, x : x + side] for one, (y, x) in zip(pictures, corners, strict=True)]
    ).contiguous(memory_format=torch.channels_last)


def coloured(pictures: Tensor) -> Tensor:
    """More colourful than scenes are, and an eighth of them nothing but colours: visitors bring pictures of their
    own."""
    grey = pictures.mean(1, keepdim=True)
    vivid = (grey + (1 + 2 * torch.rand(len(pictures), 1, 1, 1)) * (pictures - grey)).clamp(-1, 1)
    count, side = len(pictures) // 8, pictures.shape[-1]
    cards = F.interpolate(torch.rand(count, 3, 4, 4) * 2 - 1, side, mode="bilinear") if count else vivid[:0]
    return torch.cat([cards, vivid[count:]]).contiguous(memory_format=torch.channels_last)


def differences(rebuilt: Tensor, pictures: Tensor, done: float) -> dict[str, Tensor]:
    """Of pixels, of steps between neighbours, and of the means of 4 x 4 pixels and their hues. The last two count most
    at first, or all would turn grey for good: grain is a hundred times what hues are."""
    apart = rebuilt - pictures
    steps = apart.diff(dim=2).abs().mean() + apart.diff(dim=3).abs().mean()
    coarse = F.avg_pool2d(apart, 4)
    hue = coarse - coarse.mean(1, keepdim=True)
    fallen = 1 - 0.9 * min(1.0, done / 0.3)
    return {
        "l1": apart.abs().mean(),
        "l2": apart.square().mean(),
        "coarse": 2 * fallen * coarse.abs().mean(),
        "hue": 5 * fallen * hue.abs().mean(),
        "steps": 0.5 * steps,
    }


@torch.no_grad()
def through(network: Any, pictures: Tensor) -> Tensor:
    """Pictures there and back through a VAE."""
    parts = [network.decode(network.encode(part).latent_dist.mode()).sample for part in pictures.split(64)]
    return torch.cat(parts).clamp(-1, 1)


def beside(above: Tensor, below: Tensor, every: int = 4) -> Tensor:
    """(3, H, W) in [0, 1]: some pictures of two batches side by side, twice as large."""
    pairs = torch.stack([above[::every], below[::every]], 1).flatten(0, 1)
    return to_unit(grid(pairs.repeat_interleave(2, 2).repeat_interleave(2, 3), 8))


# --- classifier and judge ---------------------------------------------------------------------------------------


def classifier(config: Config) -> None:
    """The one that gives rewards."""
    recognise(config, tiny.classifier(CLASSES))


def judge(config: Config) -> None:
    """Another kind of network, that no reward ever comes from."""
    recognise(config, tiny.judge(CLASSES))


def recognise(config: Config, bare: Any) -> None:
    """Name the animals of clear scenes, as they are and after the VAE. First they stand out, then less and less."""
    frozen: Any = rebuilder(config)
    run = Run(config.run, config)
    optimizer = torch.optim.AdamW(decay_groups(bare, config.weight_decay), config.lr, betas=(0.9, 0.98))
    schedule = schedules.one_cycle(optimizer, config.run.steps, int(config.warmup * config.run.steps))
    model, optimizer, _, loader = run.prepare(bare.train(), optimizer, schedule, rows(config))
    frozen.to(run.device)
    numbers = torch.arange(config.evaluate_on)
    unseen = {task: shown("validation", 1, numbers, task) for task in TASKS}
    for numbers, done in batches(config, run, loader):
        risen = min(1.0, done / max(config.curriculum, 1e-9))
        pictures, labels = shown("train", config.run.seed, numbers, "clear", (0.9 - 0.65 * risen, 1.0))
        pictures = blurred(pictures.to(run.device))
        again = int(config.rebuilt * len(pictures)) if risen == 1 else 0
        pictures = torch.cat([through(frozen, pictures[:again]), pictures[again:]]) if again else pictures
        with run.accumulate(model):
            loss = F.cross_entropy(model(pictures).logits, labels.to(run.device), label_smoothing=0.05)
            run.descend(loss, optimizer)
        run.log(loss=loss)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                found = {name: right(network, *seen, run.device) for name, seen in unseen.items()}
                clear, label = unseen["clear"]
                found["vae"] = right(network, through(frozen, clear.to(run.device)), label, run.device)
            run.log(**found)
            run.score(found["clear"] + found["vae"])
    run.export(model)


def rebuilder(config: Config) -> AutoencoderKL:
    """The VAE that was trained before."""
    network: Any = AutoencoderKL.from_pretrained(export(config, "vae"))
    return network.requires_grad_(False)


def right(network: Any, pictures: Tensor, labels: Tensor, device: torch.device) -> float:
    """Share of the pictures whose label a network gets right."""
    said = torch.cat([network(part.to(device)).logits.argmax(1).cpu() for part in pictures.split(100)])
    return float((said == labels).float().mean())


def blurred(pictures: Tensor) -> Tensor:
    """Half of a batch loses some of its sharpness."""
    half = len(pictures) // 2
    soft = gaussian_blur(pictures[:half], [5, 5], [0.3 + 0.9 * float(torch.rand(()))])
    return torch.cat([soft, pictures[half:]])


# --- UNet -------------------------------------------------------------------------------------------------------


def unet(config: Config) -> None:
    """Takes noise off a scene, looking at the same scene hidden in the same or in another way.

    So it neither has to add contrast nor to remove it: which way to go is left for the reward to say.
    """
    frozen: Any = rebuilder(config)
    run = Run(config.run, config)
    words = tiny.tokenizer(CLASSES)
    painter: Any = tiny.unet()
    listener: Any = tiny.listener(words)
    painter.to(memory_format=torch.channels_last)
    parameters = decay_groups(torch.nn.ModuleList([painter, listener]), config.weight_decay)
    optimizer = torch.optim.AdamW(parameters, config.lr, betas=(0.9, 0.98))
    rate = schedules.one_cycle(optimizer, config.run.steps, int(config.warmup * config.run.steps))
    painter, listener, optimizer, _, loader = run.prepare(
        painter.train(), listener.train(), optimizer, rate, rows(config)
    )
    parts = Base(frozen.to(run.device), None, None, words, tiny.scheduler())
    scaling = frozen.config.scaling_factor
    learned, labels = latents(parts, "train", config.run.seed, config.pool, run.device)
    unseen, unseen_labels = latents(parts, "validation", 1, config.evaluate_on, run.device)
    sentences = ["", *(tiny.PROMPTS[task].format(label=label) for task in TASKS for label in CLASSES)]
    tokens = words(sentences, padding="max_length", max_length=tiny.WORDS, return_tensors="pt").input_ids

    def loss_of(pool: Tensor, names: Tensor, numbers: Tensor) -> Tensor:
        count = len(numbers)
        seen, wanted = torch.randint(len(TASKS), (2, count))
        source, target = (pool[task, numbers].to(run.device) for task in (seen, wanted))
        said = 1 + wanted * len(CLASSES) + names[numbers]
        said = torch.where(torch.rand(count) < config.heard, said, 0)
        noise = torch.randn(target.shape).to(run.device)
        time = (LATEST * torch.rand(count) ** 1.5).long().to(run.device)  # most of them are small
        noisy = parts.scheduler.add_noise(target, noise, time)
        heard = listener(tokens[said].to(run.device))[0]
        return F.mse_loss(painter(torch.cat([noisy, source / scaling], 1), time, heard).sample, noise)

    for numbers, _ in batches(config, run, loader):
        with run.accumulate(painter, listener):
            loss = loss_of(learned, labels, numbers % config.pool)
            run.descend(loss, optimizer)
        run.log(loss=loss)
        if run.every(config.evaluate_every):
            with run.averaged(painter) as network, run.averaged(listener) as ear:
                run.log(validation=loss_of(unseen, unseen_labels, torch.arange(config.evaluate_on)))
                made = replace(parts, unet=network, text_encoder=ear)
                silent = ear(tokens[:1].to(run.device))[0]
                run.log_images("edits", edits(made, silent, run.device))
    run.export(painter)
    run.export(listener, "text_encoder")


@torch.no_grad()
def latents(parts: Base, split: str, seed: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(4, count, C, h, w) of scenes in each way of hiding, and labels (count,), on the CPU."""
    kept = []
    for task in TASKS:
        chunks = (shown(split, seed, part, task)[0] for part in torch.arange(count).split(64))
        kept.append(torch.cat([encode(parts, chunk.to(device)).cpu() for chunk in chunks]))
    return torch.stack(kept), torch.arange(count) % len(CLASSES)


def edits(parts: Base, silent: Tensor, device: torch.device) -> Tensor:
    """(3, H, W) in [0, 1]: validation scenes of each kind beside their edits with half of the noise."""
    pictures = torch.cat([shown("validation", 1, torch.arange(16), task)[0] for task in TASKS]).to(device)
    times = schedule(parts.scheduler, 20, 0.3)
    source = encode(parts, pictures)
    start = parts.scheduler.add_noise(source, drawn(source, 0), times[:1].expand(len(source)).to(device))
    ends = sampled(parts.scheduler, predictor(parts, source, silent), start, times).latents[-1]
    return beside(pictures, parts.vae.decode(ends / parts.vae.config.scaling_factor).sample.clamp(-1, 1))


# --- gathering --------------------------------------------------------------------------------------------------


CARD = """---
license: mit
library_name: {library}
pipeline_tag: {does}
---

# {title}

{words} Made for the pictures of `hubmodels.lens.camo`, 64 pixels a side, whose animals are silhouettes of Animal-MNIST
(MIT) on CC0 textures: they know nothing else.

```python
{usage}
```

On {rows} validation scenes, whose silhouettes and textures training did not have: {found}.
{training}"""
BASE = """An AutoencoderKL of 32 x 32 x 4 latents, a UNet that sees the picture that it edits beside the noisy one, and
what hears its prompts: the small Stable Diffusion that `lens` is tuned on. Before tuning it edits next to nothing."""
READER = """Names ten animals, with {millions:.2f} M parameters, as they are and after the VAE of `lens-base`. {role}"""
USAGE = {
    "base": """from diffusers import StableDiffusionImg2ImgPipeline

pipe = StableDiffusionImg2ImgPipeline.from_pretrained("org/lens-base")  # DiffusionLens knows how to use it""",
    "reader": """from transformers import AutoModelForImageClassification

reader = AutoModelForImageClassification.from_pretrained("org/lens-{name}")""",
}


def last(parts: Path, part: str) -> dict[str, float]:
    """What a part's run logged at its end."""
    return json.loads((parts / part / "log.jsonl").read_text().splitlines()[-1])


def histories(parts: Path, *names: str) -> str:
    """How runs went, for a card."""
    return "".join(
        hub.history(parts / name, "scenes", "was the last or, where there is a score, best") for name in names
    )


def base_card(parts: Path) -> str:
    psnr, loss = last(parts, "vae")["psnr"], last(parts, "unet")["validation"]
    return CARD.format(
        library="diffusers",
        does="image-to-image",
        title="lens-base",
        words=BASE,
        usage=USAGE["base"],
        rows=Config().evaluate_on,
        found=f"mean squared error of the noise {loss:.3f}; of 64, {psnr:.1f} dB through the VAE, noisy ones too",
        training=histories(parts, "vae", "unet"),
    )


def reader_card(parts: Path, name: str, millions: float) -> str:
    role = {"classifier": "`lens` is rewarded by it.", "judge": "No reward ever comes from it: it judges `lens`."}[name]
    found = last(parts, name)
    shares = ", ".join(f"{found[kind]:.1%} {kind}" for kind in ("clear", "vae", "camouflage", "haze", "noise"))
    return CARD.format(
        library="transformers",
        does="image-classification",
        title=f"lens-{name}",
        words=READER.format(millions=millions, role=role),
        usage=USAGE["reader"].format(name=name),
        rows=Config().evaluate_on,
        found=f"right in {shares} (vae: clear ones there and back; noise: of a deviation of {NOISE})",
        training=histories(parts, name),
    )


def gather(parts: Path, weights: Path) -> None:
    """A pipeline of diffusers, a classifier and a judge, in half precision, each a folder that their libraries load.

    Raises:
        Stop: a part is missing.
    """
    config = Config(parts=str(parts))
    words = tiny.tokenizer(CLASSES)
    half = torch.float16
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=AutoencoderKL.from_pretrained(export(config, "vae"), torch_dtype=half),
        text_encoder=CLIPTextModel.from_pretrained(export(config, "unet", "text_encoder"), dtype=half),
        tokenizer=words,
        unet=UNet2DConditionModel.from_pretrained(export(config, "unet"), torch_dtype=half),
        scheduler=tiny.scheduler(),  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(weights / "lens-base")
    (weights / "lens-base" / "README.md").write_text(base_card(parts))
    for file in (weights / "lens-base").glob("*/config.json"):  # they say where they were loaded from
        said = json.loads(file.read_text())
        said.pop("_name_or_path", None)
        file.write_text(json.dumps(said, indent=2) + "\n")
    said = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": tiny.SIZE, "width": tiny.SIZE}}
    for name in ("classifier", "judge"):
        reader: Any = AutoModelForImageClassification.from_pretrained(export(config, name), dtype=half)
        reader.save_pretrained(weights / f"lens-{name}")
        (weights / f"lens-{name}" / "preprocessor_config.json").write_text(json.dumps(said, indent=2) + "\n")
        millions = sum(weight.numel() for weight in reader.parameters()) / 1e6
        (weights / f"lens-{name}" / "README.md").write_text(reader_card(parts, name, millions))


TRAIN = {"vae": vae, "classifier": classifier, "judge": judge, "unet": unet}


def presets() -> dict[str, Config]:
    """The settings that --part names."""

    def brief(steps: int, batch: int) -> RunConfig:
        return RunConfig(out="", steps=steps, batch_size=batch, save_every=250)

    return {
        "all": Config(),
        "weights": Config(part="weights"),
        "vae": Config(part="vae", lr=1e-3, weight_decay=0.0, run=brief(6000, 32)),
        "classifier": Config(part="classifier", lr=2e-3, weight_decay=0.05, run=brief(8000, 64)),
        "judge": Config(part="judge", lr=2e-3, weight_decay=0.05, run=brief(6000, 64)),
        "unet": Config(part="unet", lr=1e-3, run=brief(4000, 32)),
    }


if __name__ == "__main__":
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--part", default="all")
    part = first.parse_known_args()[0].part
    try:
        # what tyro says of a part that there is not lists those that there are
        main(resumed(tyro.cli(Config, default=presets().get(part, Config()), description=__doc__)))
    except (OSError, ValueError) as error:  # a full disk, a VAE that cannot be read
        sys.exit(f"lens_pretrain: {' '.join(str(error).split())}")
