"""Train the transformer of `pixelscene`: words become a palette and the tokens of a picture.

    accelerate launch train_scripts/pixelscene_transformer.py --vqgan runs/vqgan --data data/vga --run.out runs/prior
    accelerate launch train_scripts/pixelscene_transformer.py --vqgan runs/vqgan --model.order ar --model.group 1 \\
        --model.thumbnails 0
    accelerate launch train_scripts/pixelscene_transformer.py --resume runs/prior    # goes on, bit for bit on CPU
    accelerate launch train_scripts/pixelscene_transformer.py --vqgan runs/vqgan --start runs/prior/export \\
        --data data/mine --run.steps 500 --run.out runs/mine

The last one adapts a trained network to new pictures. LOG.md has the runs.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from torch.utils.data import DataLoader

from hubmodels.images import from_pil, to_unit
from hubmodels.pixelscene.data import Batch, Told, held_back, opened, together, tokenized
from hubmodels.pixelscene.files import contact_sheet
from hubmodels.pixelscene.palettes import oklab
from hubmodels.pixelscene.sampling import Sampling, sample
from hubmodels.pixelscene.shape import PixelTransformerConfig
from hubmodels.pixelscene.text import encoded, vocabulary, width_of
from hubmodels.pixelscene.transformer import Asked, PixelTransformer, Said, finer, stages_of, token_colours
from hubmodels.pixelscene.vqgan import PixelVQGAN
from hubmodels.training import Run, RunConfig, resumed, schedules
from hubmodels.training.decay import decay_groups


@dataclass(frozen=True)
class Config:
    """Learn to say pictures when words are given."""

    vqgan: str = "runs/vqgan"
    """The tokenizer: a run's folder, a folder of weights or a Hub repository."""
    data: tuple[str, ...] = ("data/vga",)
    """Folders made by datasets_builders.pixelscene, or data sets on the Hub; one or several."""
    tokens: str = ""
    """Folder for the tokens of all pictures, which are made if they are not there; empty is the run's own."""
    workers: int = 0
    backend: Literal["torch", "mlx"] = "torch"
    """What runs the network, forward and backward. Weights, losses and optimizer are torch's in either case."""
    start: str = ""
    """Weights to begin with, a folder or a Hub repository, instead of random ones; they bring their settings and
    vocabulary along."""
    lr: float = 1e-3
    """Peak of the schedule, which falls by a cosine."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.05
    wordless: float = 0.1
    """Share of captions that are left out, for guidance."""
    fine: float = 0.4
    """Of masked: share of the rows of a batch that are asked for the largest thumbnail and for tokens, which cost the
    most; of all rows the stages before them are asked for."""
    evaluate_every: int = 500
    evaluate_on: int = 64
    """Validation pictures whose tokens are asked for each time; their likelihood decides which weights are best."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    model: PixelTransformerConfig = field(default_factory=PixelTransformerConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/prior", steps=4000, batch_size=16, save_every=250)
    )

    def __post_init__(self) -> None:
        if self.backend == "mlx" and self.run.processes > 1:
            raise ValueError("mlx trains in one process: leave out --run.processes")
        if not all(0 <= share < 1 for share in (self.warmup, self.wordless)) or not 0 < self.fine <= 1:
            raise ValueError("warmup and wordless must be at least 0 and below 1, and fine in (0, 1]")
        if self.evaluate_on < 1:
            raise ValueError(f"evaluate_on must be at least 1, got {self.evaluate_on}")


def main(config: Config) -> None:
    unseen, split = held_back(config.data, config.evaluate_on)
    tables = {"train": opened(config.data, "train"), "validation": unseen}
    tokenizer = PixelVQGAN.from_pretrained(weights_of(config.vqgan)).eval().to(memory_format=torch.channels_last)
    beginning = PixelTransformer.from_pretrained(config.start) if config.start and not config.run.resume else None
    config = replace(config, model=shape(config, tokenizer, tables["train"]["caption"][:], beginning))
    run = Run(config.run, config)
    bare = PixelTransformer(config.model)  # after the run has seeded what is random about it
    if beginning:
        bare.load_state_dict(beginning.state_dict())
    elif config.model.thumbnails:
        every = torch.arange(config.model.codebook_size).view(1, 1, -1)
        bare.details.begin(tokenizer.quantizer.codes_of(every)[0, :, 0].T)
    tokenizer.to(run.device)
    folder, rows = Path(config.tokens or config.run.out), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        parts = tokenized(table, tokenizer, config.model.colours, folder / f"tokens-{name}.safetensors")
        rows[name] = Told(table["caption"][:], *parts)
    if split == "train" and run.is_main:
        print("no validation pictures: the best weights are chosen on some that are trained on", file=sys.stderr)
    collate = partial(together, config=config.model)
    batches = DataLoader(
        rows["train"], config.run.batch_size, shuffle=True, num_workers=config.workers, collate_fn=collate
    )
    kept = collate([rows["validation"][row] for row in range(len(unseen))])
    optimizer = torch.optim.AdamW(decay_groups(bare, config.weight_decay), config.lr, betas=(0.9, 0.98))
    schedule = schedules.cosine(optimizer, config.run.steps, int(config.warmup * config.run.steps), 0.01)
    model, optimizer, _, batches = run.prepare(bare.train(), optimizer, schedule, batches)
    forward = model if config.backend == "torch" else on_mlx(bare)

    for batch in run.batches(batches):
        with run.accumulate(model):
            asked, targets, there = told(config, batch)
            terms = losses(config, forward(asked, batch["words"], there), targets)
            run.descend(terms, optimizer)
        run.log(**terms)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                scores = quick(config, network, kept, run.device)
                run.log_images("samples", sheet(network, tokenizer, unseen["caption"][:8], kept))
            run.log(**scores)
            run.score(-scores["validation"])
    run.export(model)


def on_mlx(model: PixelTransformer) -> Callable[..., Said]:
    from hubmodels.pixelscene.twins import trained_transformer  # asks for MLX, which not every machine has

    return trained_transformer(model)


def weights_of(vqgan: str) -> str:
    """Of a run its export, else what was named."""
    export = Path(vqgan) / "export"
    return str(export) if export.is_dir() else vqgan


def shape(
    config: Config, tokenizer: PixelVQGAN, captions: list[str], beginning: PixelTransformer | None
) -> PixelTransformerConfig:
    """Of the network: what is set, or that of weights to start with, and what the tokenizer and the captions ask for.

    Raises:
        ValueError: these weights are for tokens of another kind.
    """
    meaning = tokenizer.meaning()
    sizes = {"codebook_size": tokenizer.config.codebook_size, "stride": tokenizer.config.stride}
    if beginning is not None:
        own = {name: getattr(beginning.config, name) for name in sizes}
        if own != sizes:
            raise ValueError(f"{config.start} was trained with another tokenizer: {own}; {config.vqgan} has {sizes}")
        return replace(beginning.config, meaning=meaning)
    words = config.model.vocabulary or (vocabulary(captions) if config.model.text == "words" else "")
    return replace(config.model, vocabulary=words, text_width=width_of(config.model), meaning=meaning, **sizes)


def told(config: Config, batch: Batch) -> tuple[list[Asked], list[Tensor], Tensor]:
    """What the network is shown of each stage, what it should say of it (-1 where nothing), and which words it is told.

    `ar` says all at once. Of `masked` some of each stage is hidden, and all that comes before it is shown: of palettes
    and tokens as much as Chang et al. 2022 hide (arXiv 2202.04200, section 3.3), the cosine of what is even; of
    thumbnails more, for it is with the first few of their cells that a picture succeeds or fails.
    """
    palette, tokens, there = batch["palette"], batch["tokens"], batch["told"]
    there = there & (torch.rand(len(there), 1) >= config.wordless).to(there.device)
    unknown, thumbnails = config.model.unknown, config.model.thumbnails
    if config.model.order == "ar":
        shown = torch.where(tokens[:, 0] < 0, unknown[-1], tokens[:, 0])
        return [Asked(1, palette, None, shown)], [palette, tokens[:, 0].flatten(1)], there
    hidden = hide(palette, cosine)
    asked, targets = [Asked(0, palette.masked_fill(hidden, unknown[0]))], [palette.masked_fill(~hidden, -1)]
    planes = stages_of(palette, tokens, thumbnails)
    for stage, plane in enumerate(planes, 1):
        rows = math.ceil(len(plane) * config.fine) if thumbnails and stage >= thumbnails else len(plane)
        plane, above = plane[:rows], None if stage == 1 else finer(planes[stage - 2][:rows], *plane.shape[1:])
        hidden = hide(plane, cosine if stage > thumbnails else nearly_all)
        shown = plane.masked_fill(hidden | (plane < 0), unknown[stage])
        known = None if above is None else torch.where(above < 0, unknown[stage - 1], above)
        asked.append(Asked(stage, palette[:rows], known, shown))
        targets.append(plane.masked_fill(~hidden, -1).flatten(1))
    return asked, targets, there


def hide(plane: Tensor, share: Callable[[Tensor], Tensor]) -> Tensor:
    """(B, ...) bool: of each row a share that is drawn from what is even."""
    shares = share(torch.rand(len(plane), *(1,) * (plane.ndim - 1)))
    return (torch.rand(plane.shape) < shares).to(plane.device)


def cosine(even: Tensor) -> Tensor:
    return (even * torch.pi / 2).cos()


def nearly_all(even: Tensor) -> Tensor:
    return 1 - even**3


def losses(config: Config, logits: Said, targets: list[Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of what is asked for."""
    names = ["colours", *(f"thumbnail_{number}" for number in range(1, config.model.thumbnails + 1)), "picture"]
    return {name: entropy(said, target) for name, said, target in zip(names, logits, targets, strict=True)}


def entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over targets (B, n) that are not -1, from logits (B, n, V); 0 where there are none."""
    sums = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="sum")
    return sums / (target >= 0).sum().clamp(min=1)


@torch.no_grad()
def quick(config: Config, network: PixelTransformer, kept: Batch, device: torch.device) -> dict[str, float]:
    """Mean cross-entropy of held-back tokens, the same ones each time, in nats; and without words."""
    batch = {name: one.to(device) for name, one in kept.items()}
    plain = replace(config, wordless=0.0, fine=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        asked, targets, there = told(plain, batch)
    with_words, without = (
        losses(plain, network(asked, batch["words"], one), targets) for one in (there, torch.zeros_like(there))
    )
    scores = {f"validation_{name}": float(loss) for name, loss in with_words.items()}
    scores |= {f"wordless_{name}": float(loss) for name, loss in without.items()}
    return scores | {"validation": sum(map(float, with_words.values()))}


def sheet(network: PixelTransformer, tokenizer: PixelVQGAN, captions: list[str], kept: Batch) -> Tensor:
    """(3, H, W) in [0, 1]: what is drawn for captions, with their palettes drawn too."""
    device = next(tokenizer.parameters()).device
    words, there = (one.to(device) for one in encoded(captions, network.config))
    palette = torch.full_like(kept["palette"][: len(captions)], -1).to(device)
    tokens = torch.full_like(kept["tokens"][: len(captions)], -1).to(device)
    palette, tokens = sample(network, words, there, palette, tokens, Sampling(rounds=12))
    colours = token_colours(palette).cpu().numpy()
    pictures = tokenizer.decode(tokens[:, -1], torch.from_numpy(oklab(colours)).float().to(device)).cpu().numpy()
    return to_unit(from_pil(contact_sheet(list(zip(pictures, colours, strict=True)), captions, 4)))


if __name__ == "__main__":
    try:
        main(resumed(tyro.cli(Config, description=__doc__)))
    except (OSError, ValueError) as error:  # no such data or tokenizer, no network, a full disk
        sys.exit(f"pixelscene_transformer: {' '.join(str(error).split())}")
