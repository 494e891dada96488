"""How fast pictures are drawn and networks trained, in CPU seconds of one process, beside others that do the same.

    python -m benchmarks.pixelscene               # some ten minutes on two cores
    python -m benchmarks.pixelscene --only draw
    python -m benchmarks.pixelscene --only memory # the peak of a training step by batch and width, torch and MLX

draw: a picture of 320 x 192 in rounds; token by token with keys and values in memory; token by token with all that
comes before computed again for each, as sampling loops without a cache do; and token by token by GPT-2 of
`transformers` of the same width and layers, with its own cache. Rounds have guidance, for which the network runs twice;
the others have none. Colours of the palette, cells of thumbnails and tokens all count as tokens. train: steps of the
tokenizer beside those of `diffusers`' VQModel of the same widths, where diffusers is installed; that has more blocks at
full size, and attention, so designs are compared. Networks are random ones of the default shapes: speed does not depend
on weights.
"""

import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from hubmodels.pixelscene.sampling import Sampling, Transformer, pick, sample
from hubmodels.pixelscene.sampling import generators as chance
from hubmodels.pixelscene.shape import PixelTransformerConfig, PixelVQGANConfig
from hubmodels.pixelscene.text import numbered
from hubmodels.pixelscene.transformer import Asked, PixelTransformer
from hubmodels.pixelscene.vqgan import PixelVQGAN, coloured

CAPTION = "a castle on a hill at night under a clear sky with trees and the moon"
SIZE = 192, 320
CROP, BATCH, COLOURS = 96, 8, 128
ENDS = 9
"""Rows at whose ends the loop without a cache is measured: all of its tokens would take an hour."""


@dataclass(frozen=True)
class Options:
    """Measure speed and memory."""

    only: Literal["", "draw", "train", "memory"] = ""
    threads: int = 2


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    for name, part in (("draw", drawing), ("train", training), ("memory", memory)):
        if options.only in ("", name):
            print(part(), flush=True)


# --- drawing ------------------------------------------------------------------------------------------------------


def drawing() -> str:
    """Seconds a picture, and how many times those of 12 rounds."""
    masked = PixelTransformer(shape("masked", 8, 2)).eval()
    coarse, fine = (PixelTransformer(shape("ar", stride, 1)).eval() for stride in (16, 8))
    tokenizer = PixelVQGAN(PixelVQGANConfig()).eval()
    tokens = torch.randint(1000, (1, SIZE[0] // 8, SIZE[1] // 8))
    palette = torch.rand(1, 64, 3)
    lines = [("tokens to pixels, f8", 1, seconds(lambda: tokenizer.decode(tokens, palette)))]
    for rounds in (8, 12, 16, 32):
        lines.append(
            (f"f8, {rounds} rounds", said_of(masked), seconds(partial(drawn, masked, Sampling(rounds=rounds))))
        )
    plain = Sampling(guidance=1.0)
    unguided = Sampling(rounds=12, guidance=1.0)
    lines.append(("f8, 12 rounds, no guidance", said_of(masked), seconds(partial(drawn, masked, unguided))))
    if find_spec("mlx"):
        from hubmodels.pixelscene import twins

        own, twin = twins.Tokenizer(tokenizer), twins.Transformer(masked)
        lines.append(("tokens to pixels, f8, MLX", 1, seconds(lambda: own.decode(tokens, palette))))
        lines.append(("f8, 12 rounds, MLX", said_of(masked), seconds(partial(drawn, twin, Sampling(rounds=12)))))
    for stride, model in ((16, coarse), (8, fine)):
        count = said_of(model)
        lines.append((f"f{stride}, one by one", count, seconds(partial(drawn, model, plain), once=True)))
        lines.append((f"f{stride}, one by one, GPT-2", count, seconds(gpt2(count), once=True)))
        lines.append((f"f{stride}, one by one, no cache", count, without_cache(model)))
    first = lines[2][2][0]
    rows = ["| a picture of 320 x 192 | tokens | CPU s | s | tokens/CPU s | by 12 rounds |", "|---" * 6 + "|"]
    for name, count, (cpu, clock) in lines:
        rows.append(f"| {name} | {count} | {cpu:.2f} | {clock:.2f} | {count / cpu:.0f} | {cpu / first:.1f} |")
    return "\n".join(rows) + "\n"


def shape(order: Literal["masked", "ar"], stride: int, group: Literal[1, 2]) -> PixelTransformerConfig:
    return PixelTransformerConfig(
        order=order,
        stride=stride,
        group=group,
        thumbnails=3 if order == "masked" else 0,
        text="words",
        vocabulary=" ".join(CAPTION.split()[:3]),
    )


def said_of(model: Transformer) -> int:
    """Colours, cells of thumbnails and tokens of a picture."""
    shape = model.config
    sides = [side // shape.stride for side in SIZE]
    thumbnails = (math.prod(math.ceil(side / 2**n) for side in sides) for n in range(shape.thumbnails))
    return shape.colours + math.prod(sides) + sum(thumbnails)


def drawn(model: Transformer, how: Sampling) -> Tensor:
    """Palette and tokens of one picture."""
    words, told = numbered([CAPTION], model.config)
    cells = (side // model.config.stride for side in SIZE)
    tokens = torch.full((1, model.config.planes, *cells), -1)
    return sample(model, words, told, torch.full((1, model.config.colours), -1), tokens, how)[1]


@torch.inference_mode()
def without_cache(model: PixelTransformer) -> tuple[float, float]:
    """Seconds of a picture when all that comes before is computed again for each token.

    Between the ends of rows at which it is measured the price of a token is interpolated; those of the palette and of
    the first row, the cheapest ones, are left out.
    """
    words, told = numbered([CAPTION], model.config)
    context, there = model.read(words, told)
    height, width = SIZE[0] // model.config.stride, SIZE[1] // model.config.stride
    palette = torch.randint(1000, (1, model.config.colours))
    rows = torch.linspace(1, height, ENDS).round().unique()
    rngs, spent = chance(0, 1), []
    for row in rows.int().tolist():
        tokens = torch.randint(1000, (1, row, width))
        spent.append(seconds(partial(next_token, model, palette, tokens, context, there, rngs)))
    cpu, clock = (width * torch.trapezoid(torch.tensor(one), rows) for one in zip(*spent, strict=True))
    return float(cpu), float(clock)


def next_token(model: PixelTransformer, palette: Tensor, tokens: Tensor, context: Tensor, told: Tensor, rngs: list):
    """The one after a sequence, all of which is computed."""
    return pick(model.say(Asked(1, palette, None, tokens), context, told)[-1][:, -1], Sampling(), rngs)


def gpt2(tokens: int) -> Callable[[], Any]:
    """Sampling so many tokens by transformers' own loop."""
    from transformers import GPT2Config, GPT2LMHeadModel

    own = PixelTransformerConfig()
    config = GPT2Config(
        vocab_size=own.codebook_size,
        n_positions=tokens + 1,
        n_embd=own.width,
        n_layer=own.layers,
        n_head=own.heads,
        n_inner=own.feedforward * 3 // 2,  # as many weights as a SwiGLU
        bos_token_id=0,
        eos_token_id=None,
    )
    model: Any = GPT2LMHeadModel(config).eval()
    start = torch.zeros(1, 1, dtype=torch.long)
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": True, "top_k": 100, "pad_token_id": 0}
    return lambda: model.generate(start, attention_mask=torch.ones_like(start), **options)


# --- training -----------------------------------------------------------------------------------------------------


def training() -> str:
    """Crops that the tokenizer goes through, forward and backward, in a CPU second."""
    indices = torch.randint(COLOURS, (BATCH, CROP, CROP)).to(torch.uint8)
    palette = torch.rand(BATCH, COLOURS, 3)
    true = coloured(indices, palette)
    ours = PixelVQGAN(PixelVQGANConfig()).to(memory_format=torch.channels_last).train()
    lines = [("ours, with the palette", weights(ours), step(lambda: ours(true, palette).logits.logsumexp(1).mean()))]
    bare = PixelVQGAN(replace(PixelVQGANConfig(), head="nearest")).to(memory_format=torch.channels_last).train()
    lines.append(("ours, colours alone", weights(bare), step(lambda: bare(true, palette).colours.mean())))
    if find_spec("diffusers"):
        from diffusers import VQModel  # pyright: ignore[reportMissingImports]

        widths = tuple(PixelVQGANConfig().widths)
        kinds = ("DownEncoderBlock2D",) * len(widths), ("UpDecoderBlock2D",) * len(widths)
        peer = VQModel(3, 3, *kinds, widths, 2, "silu", 4, 32, 1000, 8).train()
        lines.append(("diffusers' VQModel", weights(peer), step(lambda: peer(true).sample.mean())))
    if find_spec("mlx"):
        from hubmodels.pixelscene.twins import trained_vqgan

        forward = trained_vqgan(ours)
        lines.append(("ours on MLX", weights(ours), step(lambda: forward(true, palette).logits.logsumexp(1).mean())))
    first = BATCH / lines[0][2]
    said = f"crops of {CROP} pixels, batch of {BATCH}"
    rows = [f"| {said} | million weights | crops/CPU s | by ours |", "|---|---|---|---|"]
    rows += [f"| {name} | {count / 1e6:.2f} | {BATCH / s:.2f} | {BATCH / s / first:.2f} |" for name, count, s in lines]
    return "\n".join(rows) + "\n"


def weights(model: torch.nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


def step(loss: Callable[[], Tensor]) -> float:
    return seconds(lambda: loss().backward())[0]


# --- memory -------------------------------------------------------------------------------------------------------


def memory() -> str:
    """Peak memory of a process that trains the tokenizer, in GB."""
    rows = [f"| crops of {CROP} pixels | " + " | ".join(f"width {w}, {b}" for w in (32, 64) for b in ("torch", "mlx"))]
    rows = [rows[0] + " |", "|---" * 5 + "|"]
    for batch in (1, 4, 8, 16):
        cells = []
        for channels in (32, 64):
            for backend in ("torch", "mlx"):
                code = f"from benchmarks.pixelscene import peak; print(peak({batch}, {channels}, {backend!r}))"
                done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
                cells.append(f"{float(done.stdout):.2f}")
        rows.append(f"| batch of {batch} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def peak(batch: int, channels: int, backend: str) -> float:
    """GB of this process after two steps with AdamW."""
    torch.set_num_threads(2)
    model = PixelVQGAN(replace(PixelVQGANConfig(), channels=channels)).to(memory_format=torch.channels_last)
    forward: Callable[..., Any] = model
    if backend == "mlx":
        from hubmodels.pixelscene.twins import trained_vqgan

        forward = trained_vqgan(model)
    optimizer = torch.optim.AdamW(model.parameters())
    palette = torch.rand(batch, COLOURS, 3)
    true = coloured(torch.randint(COLOURS, (batch, CROP, CROP)), palette)
    for _ in range(2):
        forward(true, palette).logits.logsumexp(1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, elsewhere kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def seconds(work: Callable[[], Any], once: bool = False) -> tuple[float, float]:
    """CPU seconds of all threads and of the clock, the least of three after a first time; of slow work, of one."""
    spent = []
    for _ in range(1 if once else 4):
        cpu, clock = time.process_time(), time.perf_counter()
        work()
        spent.append((time.process_time() - cpu, time.perf_counter() - clock))
    return min(spent if once else spent[1:])


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
