"""Train the transformer of `pixelscene`: words become a palette and the tokens of a picture.

    accelerate launch train_scripts/pixelscene_transformer.py --vqgan runs/vqgan --data data/vga --run.out runs/prior
    accelerate launch train_scripts/pixelscene_transformer.py --vqgan runs/vqgan --model.order ar --model.group 1 \\
        --model.no-thumbnail
    accelerate launch train_scripts/pixelscene_transformer.py --resume runs/prior    # goes on, bit for bit on CPU
    accelerate launch train_scripts/pixelscene_transformer.py --vqgan runs/vqgan --start runs/prior/export \\
        --data data/mine --run.steps 500 --run.out runs/mine

The last one adapts a trained network to new pictures. LOG.md has the runs.
"""

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
from hubmodels.pixelscene.transformer import PixelTransformer, Said, token_colours
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
    palette: float = 0.15
    """Of masked: share of rows whose palette is asked for, with nothing of the picture known."""
    thumbnail: float = 0.35
    """Likewise whose thumbnail is asked for, with the palette known; all others are asked for tokens."""
    smoothing: float = 0.1
    """Of the targets: what is given to all other tokens."""
    evaluate_every: int = 500
    evaluate_on: int = 64
    """Validation pictures whose tokens are asked for each time; their likelihood decides which weights are best."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    model: PixelTransformerConfig = field(default_factory=PixelTransformerConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/prior", steps=4000, batch_size=16, ema=0.998, save_every=250)
    )

    def __post_init__(self) -> None:
        if self.backend == "mlx" and self.run.processes > 1:
            raise ValueError("mlx trains in one process: leave out --run.processes")
        shares = self.warmup, self.wordless, self.palette, self.thumbnail, self.smoothing, self.palette + self.thumbnail
        if not all(0 <= share < 1 for share in shares):
            names = "warmup, wordless, smoothing, palette and thumbnail, and the two together"
            raise ValueError(f"{names}, must be at least 0 and below 1")
        if self.evaluate_on < 1:
            raise ValueError(f"evaluate_on must be at least 1, got {self.evaluate_on}")


def main(config: Config) -> None:
    unseen, split = held_back(config.data, config.evaluate_on)
    tables = {"train": opened(config.data, "train"), "validation": unseen}
    tokenizer = PixelVQGAN.from_pretrained(weights_of(config.vqgan)).eval().to(memory_format=torch.channels_last)
    beginning = PixelTransformer.from_pretrained(config.start) if config.start and not config.run.resume else None
    config = replace(config, model=shape(config, tokenizer, tables["train"]["caption"][:], beginning))
    run = Run(config.run, config)
    tokenizer.to(run.device)
    bare = PixelTransformer(config.model)  # after the run has seeded what is random about it
    if beginning:
        bare.load_state_dict(beginning.state_dict())
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
    asked = collate([rows["validation"][row] for row in range(len(unseen))])
    optimizer = torch.optim.AdamW(decay_groups(bare, config.weight_decay), config.lr, betas=(0.9, 0.98))
    schedule = schedules.cosine(optimizer, config.run.steps, int(config.warmup * config.run.steps), 0.01)
    model, optimizer, _, batches = run.prepare(bare.train(), optimizer, schedule, batches)
    forward = model if config.backend == "torch" else on_mlx(bare)

    for batch in run.batches(batches):
        with run.accumulate(model):
            seen = told(config, batch)
            terms = losses(config, forward(**seen), seen, batch)
            run.descend(terms, optimizer)
        run.log(**terms)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                scores = quick(config, network, asked, run.device)
                run.log_images("samples", sheet(network, tokenizer, unseen["caption"][:8], asked))
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


def told(config: Config, batch: Batch) -> dict[str, Tensor]:
    """What the network is shown of a batch: of `masked` not what it is asked for, nor what comes after that.

    A row is asked for some of its palette, its thumbnail or its tokens. How much is as by Chang et al. 2022
    (arXiv 2202.04200), section 3.3: the cosine of what is even. Of a thumbnail more, for it is with the first few of
    its places that a picture succeeds or fails.
    """
    palette, tokens, there = batch["palette"], batch["tokens"], batch["told"]
    there = there & (torch.rand(len(there), 1) >= config.wordless).to(there.device)
    of_palette, *of_planes = config.model.unknown
    nothing = tokens < 0
    if config.model.order == "masked":
        even = torch.rand(len(tokens), 1)
        stage = torch.rand(len(tokens), 1)  # 0 of palettes, 1 of thumbnails, 2 of tokens
        thumbnails = config.thumbnail if config.model.thumbnail else 0.0
        stage = (stage >= config.palette).int() + (stage >= config.palette + thumbnails).int()
        share = torch.where(stage == 1, 1 - even**3, (even * torch.pi / 2).cos())
        some_colours = (torch.rand(palette.shape) < share) & (stage == 0)
        own = torch.arange(3 - tokens.shape[1], 3) - stage  # of each plane: 0 is asked for, above 0 comes after that
        some = torch.rand(tokens[:, 0].shape) < share[..., None]
        hidden = (own[..., None, None] > 0) | ((own[..., None, None] == 0) & some[:, None])
        palette = palette.masked_fill(some_colours.to(palette.device), of_palette)
        nothing = nothing | hidden.to(tokens.device)
    shown = torch.where(nothing, torch.tensor(of_planes, device=tokens.device)[:, None, None], tokens)
    return {"palette": palette, "tokens": shown, "words": batch["words"], "told": there}


def losses(config: Config, logits: Said, seen: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Cross-entropy of what is asked for: of `ar` all, of `masked` what is not seen while all before it is."""
    palette, tokens = batch["palette"], batch["tokens"].flatten(2)
    targets = [palette, *tokens.unbind(1)]
    if config.model.order == "masked":
        shown = [seen["palette"], *seen["tokens"].flatten(2).unbind(1)]
        hidden = [one == value for one, value in zip(shown, config.model.unknown, strict=True)]
        known = torch.ones(len(palette), dtype=torch.bool, device=palette.device)
        for number, (one, target) in enumerate(zip(hidden, targets, strict=True)):
            targets[number] = target.masked_fill(~one | ~known[:, None], -1)
            known = known & ~(one & (target >= 0)).any(1)
    names = ("colours", "thumbnail", "picture") if len(targets) == 3 else ("colours", "picture")
    # a palette of few colours has some twice, of which the second ones cannot be: they must not be given anything
    each = {name: 0.0 if name == "thumbnail" else config.smoothing for name in names}
    pairs = zip(names, logits, targets, strict=True)
    return {name: entropy(said, target, each[name]) for name, said, target in pairs}


def entropy(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy over targets (B, n) that are not -1, from logits (B, n, V); 0 where there are none."""
    sums = F.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=-1, label_smoothing=smoothing, reduction="sum"
    )
    return sums / (target >= 0).sum().clamp(min=1)


def quick(config: Config, network: PixelTransformer, asked: Batch, device: torch.device) -> dict[str, float]:
    """Mean cross-entropy of held-back tokens, the same ones each time, in nats; and of the picture's without words."""
    batch = {name: one.to(device) for name, one in asked.items()}
    plain = replace(config, wordless=0.0, smoothing=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        seen = told(plain, batch)
    nobody = seen | {"told": torch.zeros_like(seen["told"])}
    with_words, without = (losses(plain, network(**one), one, batch) for one in (seen, nobody))
    scores = {f"validation_{name}": float(loss) for name, loss in with_words.items()}
    scores |= {f"wordless_{name}": float(loss) for name, loss in without.items()}
    return scores | {"validation": sum(map(float, with_words.values()))}


def sheet(network: PixelTransformer, tokenizer: PixelVQGAN, captions: list[str], asked: Batch) -> Tensor:
    """(3, H, W) in [0, 1]: what is drawn for captions, with their palettes drawn too."""
    device = next(tokenizer.parameters()).device
    words, there = (one.to(device) for one in encoded(captions, network.config))
    palette = torch.full_like(asked["palette"][: len(captions)], -1).to(device)
    tokens = torch.full_like(asked["tokens"][: len(captions)], -1).to(device)
    palette, tokens = sample(network, words, there, palette, tokens, Sampling(rounds=12))
    colours = token_colours(palette).cpu().numpy()
    pictures = tokenizer.decode(tokens[:, -1], torch.from_numpy(oklab(colours)).float().to(device)).cpu().numpy()
    return to_unit(from_pil(contact_sheet(list(zip(pictures, colours, strict=True)), captions, 4)))


if __name__ == "__main__":
    try:
        main(resumed(tyro.cli(Config, description=__doc__)))
    except (OSError, ValueError) as error:  # no such data or tokenizer, no network, a full disk
        sys.exit(f"pixelscene_transformer: {' '.join(str(error).split())}")
