"""Tokens of a picture out of a `PixelTransformer`, all at once in rounds or one after the other.

    what is known, words, seed --rounds of (logits, guidance, draw)--> palette (B, P), tokens (B, planes, h, w)

Chance comes from NumPy's Philox, so a seed means the same picture whichever library computes the logits.
Unknown tokens are -1.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from hubmodels.pixelscene.shape import PixelTransformerConfig
from hubmodels.pixelscene.transformer import Asked, Cache, Said, finer, stages_of

Progress = Callable[[Sequence], Iterable]
"""Rounds to the same rounds: tqdm, for instance."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 0.9
    """0 takes the likeliest."""
    top_k: int = 100
    """Only so many of the likeliest; 0 is all."""
    top_p: float = 1.0
    """Only the likeliest that together have so much."""
    guidance: float = 2.0
    """How far logits go beyond those without words; 1 is not at all (Ho & Salimans 2022, arXiv 2207.12598)."""
    rounds: int = 12
    """Of `masked`, for the tokens."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"temperature and top_k must be at least 0 and top_p in (0, 1], "
                f"got {self.temperature}, {self.top_k}, {self.top_p}"
            )
        if self.rounds < 1 or not 0 <= self.guidance < math.inf or self.seed < 0:
            raise ValueError("rounds must be at least 1, guidance and seed at least 0")


PLAIN = Sampling()


@dataclass(frozen=True)
class Stage:
    """How `masked` draws a palette, a thumbnail or tokens. The largest thumbnail and tokens go without guidance, for
    words change little or nothing of what follows from a thumbnail."""

    rounds: int | None
    """None is as many as are asked for."""
    cooled: float
    """By what the temperature is multiplied."""
    guided: float
    """Share of what guidance is beyond 1."""

    def of(self, how: Sampling) -> Sampling:
        return replace(how, temperature=self.cooled * how.temperature, guidance=1 + self.guided * (how.guidance - 1))


PALETTE, SMALLEST, LARGER = Stage(5, 0.9, 0.5), Stage(8, 0.9, 1.0), Stage(6, 0.9, 1.0)
LARGEST, TOKENS = Stage(10, 0.6, 0.0), Stage(None, 0.6, 0.0)  # what goes where is decided: shapes that hold together
ALONE = Stage(None, 1.0, 1.0)
"""Tokens without thumbnails, which else have all that words say of them."""


def drawn_in(thumbnails: int) -> list[Stage]:
    """How each stage is drawn: the palette, so many thumbnails from the smallest on, the tokens."""
    if not thumbnails:
        return [PALETTE, ALONE]
    return [*[PALETTE, SMALLEST, *[LARGER] * (thumbnails - 2), LARGEST][: 1 + thumbnails], TOKENS]


def silent(rounds: Sequence) -> Iterable:
    return rounds


class Transformer(Protocol):
    """`PixelTransformer` in eval mode, or its twin on MLX behind the same tensors."""

    @property
    def config(self) -> PixelTransformerConfig: ...

    def read(self, words: Tensor, told: Tensor) -> tuple[Tensor, Tensor]: ...

    def say(self, asked: Asked, context: Tensor, told: Tensor) -> Said: ...

    def step(
        self, last: Tensor | None, place: int, size: tuple[int, int], context: Tensor, told: Tensor, cache: Cache
    ) -> tuple[Tensor, Cache]: ...


@torch.inference_mode()
def sample(
    model: Transformer,
    words: Tensor,
    told: Tensor,
    palette: Tensor,
    tokens: Tensor,
    how: Sampling,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """Palette (B, P) and tokens (B, planes, h, w), with all that was unknown drawn; by `masked` with the palette sorted
    from dark to light.

    Args:
        words: as `PixelTransformer.read` takes them.
        told: likewise.
        palette: (B, P), all known or all -1.
        tokens: (B, planes, h, w), -1 where it is not known.

    Raises:
        ValueError: of `masked`, some of a palette is known and some not.
    """
    context, there = model.read(words, told)
    if how.guidance != 1:
        nothing, nobody = model.read(words, torch.zeros_like(told))
        context, there = torch.cat([context, nothing]), torch.cat([there, nobody])
    draw = in_rounds if model.config.order == "masked" else one_by_one
    return draw(model, context, there, palette, tokens, how, progress)


def in_rounds(
    model: Transformer,
    context: Tensor,
    told: Tensor,
    palette: Tensor,
    tokens: Tensor,
    how: Sampling,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Stage after stage in rounds, each of which draws what is spread over what is missing (Halton: Besnier et al.
    2025, arXiv 2503.17076); ever more at a time, as ever more is known."""
    rngs, count, thumbnails = generators(how.seed, len(tokens)), len(tokens), model.config.thumbnails
    palette, unknown, stages = palette.clone(), model.config.unknown, drawn_in(thumbnails)
    missing = (palette < 0).all(1)
    if ((palette < 0).any(1) != missing).any() or missing.any() != missing.all():
        raise ValueError("of a palette, all colours must be known or none, and so for all pictures of a batch")
    planes = stages_of(palette.clamp(min=0), tokens, thumbnails)  # what is missing does not depend on the colours
    orders = [van_der_corput(palette.shape[1]) if missing.any() else []]
    orders += [[at for at in halton(*one.shape[1:]) if (one.flatten(1)[:, at] < 0).any()] for one in planes]
    rounds = [
        (number, part)
        for number, (order, stage) in enumerate(zip(orders, stages, strict=True))
        for part in _parts(order, stage.rounds or how.rounds)
    ]
    for number, part in progress(rounds):
        if number and missing.any():  # all colours are drawn: from dark to light, as they were in training
            palette, missing = palette.sort(1).values, torch.zeros_like(missing)
            planes = stages_of(palette, tokens, thumbnails)
        own = stages[number].of(how)
        target = planes[number - 1] if number else palette
        shown = torch.where(target < 0, unknown[number], target)
        above = finer(planes[number - 2], *shown.shape[1:]) if number > 1 else None
        asked = Asked(number, palette, above, shown) if number else Asked(0, shown)
        both = count * (1 if own.guidance == 1 else 2)
        said = model.say(_repeated(asked, own), context[:both], told[:both])[0][:, part]
        drawn = pick(guided(said, own.guidance), own, rngs)
        flat = target.view(count, -1)
        flat[:, part] = torch.where(flat[:, part] < 0, drawn, flat[:, part])
    if missing.any():
        palette = palette.sort(1).values
    return palette, torch.stack(planes[-model.config.planes :], 1)


def one_by_one(
    model: Transformer,
    context: Tensor,
    told: Tensor,
    palette: Tensor,
    tokens: Tensor,
    how: Sampling,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """One after the other, with the keys and values of those before in memory. What is known is taken as it is; what
    comes later in the picture is not seen, so only an end of it should be missing."""
    rngs = generators(how.seed, len(tokens))
    known = torch.cat([palette, tokens.flatten(1)], 1).clone()
    colours, size = palette.shape[1], (tokens.shape[2], tokens.shape[3])
    cache: Cache = []
    last: Tensor | None = None
    for place in progress(range(known.shape[1])):
        before = torch.cat([last, last]) if last is not None and how.guidance != 1 else last
        said, cache = model.step(before, place, size, context, told, cache)
        drawn = pick(guided(said, how.guidance), how, rngs)
        last = torch.where(known[:, place] < 0, drawn, known[:, place])
        known[:, place] = last
    return known[:, :colours], known[:, colours:].view(tokens.shape)


def guided(logits: Tensor, guidance: float) -> Tensor:
    """With and without words, one half of the batch each, to logits beyond those without."""
    if guidance == 1:
        return logits
    with_words, without = logits.chunk(2)
    beyond = without + guidance * (with_words - without)
    return beyond.masked_fill(without.isneginf(), -torch.inf)  # what cannot be is the same with words and without


def generators(seed: int, count: int) -> list[np.random.Generator]:
    """One for each picture of a batch: picture i is that of seed + i alone."""
    return [np.random.Generator(np.random.Philox(seed + number)) for number in range(count)]


def pick(logits: Tensor, how: Sampling, rngs: list[np.random.Generator]) -> Tensor:
    """(B, ...) whole numbers, each drawn by its logits (B, ..., V): the largest after Gumbel noise is added."""
    if how.temperature == 0:
        return logits.argmax(-1)
    scaled = narrowed(logits.float() / how.temperature, how.top_k, how.top_p)
    noise = np.stack([rng.gumbel(size=tuple(logits.shape[1:])) for rng in rngs]).astype(np.float32)
    return (scaled + torch.from_numpy(noise).to(logits.device)).argmax(-1)


def narrowed(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits (..., V) with all but the likeliest at minus infinity; at least one stays (Holtzman et al. 2019)."""
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k, -1).values[..., -1:], -torch.inf)
    if top_p < 1:
        ordered, places = logits.sort(-1, descending=True)
        shares = ordered.softmax(-1)
        beyond = shares.cumsum(-1) - shares >= top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, places, beyond), -torch.inf)
    return logits


# --- orders -------------------------------------------------------------------------------------------------------


def radical_inverse(number: int, base: int) -> float:
    """The digits of a number, mirrored at the point."""
    result, share = 0.0, 1.0
    while number:
        share /= base
        result += share * (number % base)
        number //= base
    return result


def van_der_corput(count: int) -> list[int]:
    """All of 0 to count - 1, each far from those just before it."""
    return list(
        dict.fromkeys(int(radical_inverse(n, 2) * count) for n in range(2 * count * max(1, count.bit_length())))
    )


def halton(height: int, width: int) -> list[int]:
    """All places of a grid, row by row, in the order in which a Halton sequence of bases 2 and 3 meets them."""
    met: dict[int, None] = {}
    number = 1
    while len(met) < height * width:
        row, column = int(radical_inverse(number, 3) * height), int(radical_inverse(number, 2) * width)
        met.setdefault(row * width + column)
        number += 1
        if number > 200 * height * width:  # what chance has not met by now follows row by row
            met |= dict.fromkeys(range(height * width))
    return list(met)


def _parts(places: list[int], rounds: int) -> list[list[int]]:
    """Few at first and ever more: after a share r of the rounds, 1 - arccos(r) / (pi / 2) of the places are drawn."""
    rounds = min(rounds, len(places))
    ends = [round(len(places) * (1 - math.acos((n + 1) / rounds) / (math.pi / 2))) for n in range(rounds)]
    parts, start = [], 0
    for number, end in enumerate(ends):
        end = max(start + 1, min(end, len(places) - (rounds - 1 - number)))
        parts.append(places[start:end])
        start = end
    return parts


def _repeated(asked: Asked, how: Sampling) -> Asked:
    """Once with and once without words."""
    if how.guidance == 1:
        return asked
    both = (None if one is None else torch.cat([one, one]) for one in asked[1:])
    return Asked(asked.stage, *both)  # pyright: ignore[reportArgumentType]


# --- what is asked for --------------------------------------------------------------------------------------------


def unknown_in(tokens: Tensor, stride: int, mask: Array) -> Tensor:
    """Tokens (..., h, w), -1 where a mask (H, W) bool of pixels touches them; it may lack rows and columns at the
    end."""
    height, width = tokens.shape[-2:]
    room = [(0, side * stride - own) for side, own in zip((height, width), mask.shape, strict=True)]
    squares = np.pad(mask, room).reshape(height, stride, width, stride)
    return tokens.masked_fill(torch.from_numpy(squares.any((1, 3))).to(tokens.device), -1)


def extended(tokens: Tensor, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> Tensor:
    """Tokens (..., h, w) with unknown ones around them, so many on each side."""
    if min(left, right, top, bottom) < 0:
        raise ValueError("a picture can be extended, not cut")
    return torch.nn.functional.pad(tokens, (left, right, top, bottom), value=-1)


def forgotten(tokens: Tensor, strength: float, seed: int) -> Tensor:
    """Tokens (B, planes, h, w), a share of whose places is unknown, others for each picture of a batch: for variations.

    Raises:
        ValueError: the strength is not in (0, 1].
    """
    if not 0 < strength <= 1:
        raise ValueError(f"the strength of a variation is above 0 and at most 1, got {strength}")
    rng = np.random.Generator(np.random.Philox(seed))
    scores: Array = rng.random((len(tokens), 1, *tokens.shape[2:]))
    count = max(1, round(strength * tokens[0, 0].numel()))
    bounds = np.sort(scores.reshape(len(tokens), -1), 1)[:, count - 1]
    return torch.where(torch.from_numpy(scores <= bounds[:, None, None, None]), -1, tokens)
