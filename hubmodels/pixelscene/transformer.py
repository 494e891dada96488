"""Words to tokens: the palette first, then ever larger thumbnails, then the picture.

    words (B, T, E) --Linear--> context
    palette (B, P), a stage of the picture (B, h, w), the stage above it --embeddings--> P + h w / group^2 places
    places, context --Blocks--> logits of the palette or of a thumbnail
    palette, the last thumbnail, tokens --Details--> logits of tokens

A picture is drawn in stages, coarse to fine, as in Tian et al. 2024 (arXiv 2404.02905): thumbnails of twice as many
rows and columns each, whose cells are colours of the palette, then the tokens, of which there is one for each cell of
the last thumbnail. Each stage sees the one above it, which is all that words say of the layout once it is drawn; so
tokens follow from the last thumbnail alone (`details`).

`masked` sees all of a stage that is known and says all that is not at once; a stage takes some rounds, and any part of
a picture can be asked for (Chang et al. 2022, arXiv 2202.04200). `ar` has no thumbnails and says token after token, row
by row.

Positions of the picture are rotary in two dimensions, so that any height and width will do. Where in the picture a
place is, is said too: while nothing is known all places look alike, and rotations tell only how far they are apart. A
palette token is one of the `shades`, which are numbered from dark to light, as palettes are sorted.

B batch, T words, E width of their embeddings, D of the transformer, P colours, h and w of a stage, N places.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray as Array
from torch import Tensor, nn

from hubmodels.hub import HubModel
from hubmodels.pixelscene.details import Details, shaded, waves
from hubmodels.pixelscene.palettes import oklab, shades
from hubmodels.pixelscene.shape import COLOURS, WAVES, PixelTransformerConfig

FIRST = 0.5
"""Size of what is first said of a token; with little, it drowns in what the blocks add."""
SCALES = 0.025, 0.2
"""Distances in OKLab at which colours begin as somewhat alike: those of neighbours among the shades, and of kin."""
Cache = list[tuple[Tensor, Tensor]]
"""Keys and values (B, heads, n, D / heads) of each layer, of the tokens so far."""
Said = tuple[Tensor, ...]
"""Logits of each stage that is asked for."""


class Asked(NamedTuple):
    """A stage, with what is known of it."""

    stage: int
    """0 of the palette, then of thumbnails from the smallest on, the last of tokens."""
    palette: Tensor
    """(B, P) whole numbers; COLOURS where it is not known."""
    above: Tensor | None = None
    """(B, h, w) the thumbnail before this one, or that of the tokens, at this stage's size: colours of the palette, P
    where it is not known; None of the smallest."""
    plane: Tensor | None = None
    """(B, h, w) colours of the palette, or tokens; `config.unknown[stage]` where not known; None of stage 0."""


class PixelTransformer(
    HubModel,
    pipeline_tag="text-to-image",
    tags=["pixel-art", "masked-image-modeling", "transformer"],
    paper_url="https://arxiv.org/abs/2202.04200",
):
    """Words to the palette and the tokens of a pixel-art background."""

    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.words = nn.Embedding(max(2, len(config.words)), config.text_width) if config.text == "words" else None
        self.enter_text = nn.Linear(config.text_width, width)
        self.nothing = nn.Parameter(FIRST * torch.randn(width))
        """Context of no words at all, beside all others."""
        self.colour = nn.Embedding(COLOURS + 1, width)
        """The last stands for what is not known, and for the beginning."""
        each = width // config.group**2
        self.enter_place = nn.Linear(4 * WAVES, width, bias=False)
        if config.thumbnails:
            self.shade = nn.Embedding(COLOURS + 1, each)
            self.enter_shade, self.enter_above = nn.Linear(width, width), nn.Linear(width, width)
            self.part_shade, self.key_shade = nn.Linear(width, width), nn.Linear(width, each)
            self.details = Details(config)
            linears = (self.enter_shade, self.enter_above)
            nn.init.normal_(self.shade.weight, std=FIRST)
            self.shade.weight.data[:-1] = FIRST * embedded_shades(each)
        else:
            self.token = nn.Embedding(config.codebook_size + 1, each)
            self.enter_token, self.part = nn.Linear(width, width), nn.Linear(width, width)
            self.leave_token = nn.Linear(each, config.codebook_size)
            linears = (self.enter_token,)
            nn.init.normal_(self.token.weight, std=FIRST)
        if config.order == "masked":
            self.stage = nn.Parameter(FIRST * torch.randn(1 + max(1, config.thumbnails), width))
        self.slot = nn.Parameter(FIRST * torch.randn(config.colours, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.leave_colour = nn.Linear(width, COLOURS)
        nn.init.normal_(self.colour.weight, std=FIRST)
        self.colour.weight.data[:-1] = FIRST * embedded_shades(width)
        self.leave_colour.weight.data = width**-0.5 * embedded_shades(width)
        for linear in linears:
            nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.zeros_(linear.bias)

    def forward(self, asked: Sequence[Asked], words: Tensor, told: Tensor) -> Said:
        """Logits of several stages, each of as many rows, the first ones, as it has palettes; see `say` and `read`."""
        context, there = self.read(words, told)
        return tuple(
            one for some in asked for one in self.say(some, context[: len(some.palette)], there[: len(some.palette)])
        )

    def say(self, asked: Asked, context: Tensor, told: Tensor) -> Said:
        """Logits of a stage: of the palette (B, P, COLOURS), of a thumbnail (B, h w, P) or of tokens (B, h w,
        codebook_size), which no word changes if there are thumbnails; of `ar` both the palette's and the tokens'.

        Args:
            context: (B, 1 + T, D) of `read`.
            told: (B, 1 + T) bool, which of them are there.
        """
        stage, palette, above, plane = asked
        if above is not None and plane is not None and stage > self.config.thumbnails:
            return (self.details(palette, above, plane),)
        height, width = (0, 0) if plane is None else plane.shape[1:]
        x = self.colour(palette) + self.slot
        if plane is not None:
            x = torch.cat([x, self._entered(asked, plane)], 1)
        turns = rotations(*places(height, width, self.config), self.config, x)
        ar = self.config.order == "ar"
        if ar:  # each is said by the one before it, the first by the beginning
            start = self.colour.weight[COLOURS].expand(len(x), 1, -1)
            x, turns = torch.cat([start, x[:, :-1]], 1), shifted(turns)
        else:
            x = x + self.stage[stage]
        for block in self.blocks:
            x, _ = block(x, turns, context, told, causal=ar)
        x = self.norm(x)
        of_colours, x = x[:, : palette.shape[1]], x[:, palette.shape[1] :]
        if plane is None:
            return (self.leave_colour(of_colours),)
        if self.config.thumbnails:
            keys = self.key_shade(self.colour(palette)) / self.key_shade.out_features**0.5
            logits = self._parted(self.part_shade(x), height, width) @ keys.transpose(1, 2)
            again = F.pad(palette[:, 1:] == palette[:, :-1], (1, 0))  # of few colours some come twice; the first counts
            return (logits.masked_fill(again[:, None], -torch.inf),)
        tokens = self.leave_token(self._parted(self.part(x), height, width))
        return (self.leave_colour(of_colours), tokens) if ar else (tokens,)

    def read(self, words: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Context (B, 1 + T, D) of words, and which of it is there; what no caption says stands first.

        Args:
            words: (B, T) whole numbers of a vocabulary, or (B, T, E) states of a MiniLM.
            told: (B, T) bool, false for padding; false everywhere asks for any picture at all.
        """
        states = self.words(words) if self.words is not None else words
        context = torch.cat([self.nothing.expand(len(states), 1, -1), self.enter_text(states)], 1)
        return context, F.pad(told, (1, 0), value=True)

    def step(
        self, last: Tensor | None, place: int, size: tuple[int, int], context: Tensor, told: Tensor, cache: Cache
    ) -> tuple[Tensor, Cache]:
        """Logits of the token at a place, of `ar`, and the cache with the one before it in it.

        Args:
            last: (B,) the token before, None at the beginning.
            place: of the token that is asked for, 0 to N - 1.
            size: h and w of the picture.
            cache: of the steps before, empty at first.
        """
        colours = self.config.colours
        if last is None:
            x = self.colour.weight[COLOURS].expand(len(context), 1, -1)
        elif place <= colours:
            x = (self.colour(last) + self.slot[place - 1])[:, None]
        else:
            where = whereabouts(*size, self.enter_place.weight)[place - 1 - colours]
            x = (self.enter_token(self.token(last)) + self.enter_place(where))[:, None]
        turns = shifted(rotations(*size, self.config, x))[:, place : place + 1]
        grown = []
        for number, block in enumerate(self.blocks):
            x, one = block(x, turns, context, told, cache=cache[number] if cache else None)
            grown.append(one)
        x = self.norm(x)[:, 0]
        return self.leave_colour(x) if place < colours else self.leave_token(self.part(x)), grown

    def _entered(self, asked: Asked, plane: Tensor) -> Tensor:
        """(B, n, D) of (B, h, w): a place for each square of a plane; beyond the picture it is not known."""
        rows, columns = places(plane.shape[1], plane.shape[2], self.config)
        if self.config.thumbnails:
            x = self.enter_shade(self._squares(self.shade, shaded(asked.palette, plane)))
        else:
            x = self.enter_token(self._squares(self.token, plane))
        if asked.above is not None:
            x = x + self.enter_above(self._squares(self.shade, shaded(asked.palette, asked.above)))
        return x + self.enter_place(whereabouts(rows, columns, x))

    def _squares(self, embedding: nn.Embedding, plane: Tensor) -> Tensor:
        """(B, n, D) of (B, h, w): embeddings of the squares of a plane; the last one beyond its edges."""
        side = self.config.group
        height, width = plane.shape[1:]
        rows, columns = places(height, width, self.config)
        room = 0, columns * side - width, 0, rows * side - height
        x = embedding(F.pad(plane, room, value=embedding.num_embeddings - 1))
        x = x.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
        return x.reshape(len(x), rows * columns, -1)

    def _parted(self, x: Tensor, height: int, width: int) -> Tensor:
        """(B, h w, D / group^2) of places (B, n, D): squares fall apart into what they are of."""
        side = self.config.group
        rows, columns = places(height, width, self.config)
        x = x.view(len(x), rows, columns, side, side, -1).transpose(2, 3)
        return x.reshape(len(x), rows * side, columns * side, -1)[:, :height, :width].flatten(1, 2)


class Block(nn.Module):
    """Looks at the sequence, then at the words, then thinks."""

    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2, self.norm3 = (nn.RMSNorm(width, eps=1e-6) for _ in range(3))
        self.itself = Attention(config)
        self.words = Attention(config)
        self.gate = nn.Linear(width, 2 * config.feedforward, bias=False)
        self.leave = nn.Linear(config.feedforward, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        for last in (self.itself.leave, self.words.leave, self.leave):
            nn.init.zeros_(last.weight)  # a block starts out as nothing, so that what goes in is seen at the end

    def forward(
        self,
        x: Tensor,
        turns: Tensor,
        context: Tensor,
        told: Tensor,
        causal: bool = False,
        cache: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, n, D) -> the same, and its keys and values with those of the cache before them."""
        h = self.norm1(x)
        h, seen = self.itself(h, h, turns, causal=causal, cache=cache)
        x = x + self.dropout(h)
        h, _ = self.words(self.norm2(x), context, told=told)
        x = x + self.dropout(h)
        gate, value = self.gate(self.norm3(x)).chunk(2, -1)
        return x + self.dropout(self.leave(F.silu(gate) * value)), seen


class Attention(nn.Module):
    """Queries and keys have unit mean square (Henry et al. 2020, arXiv 2010.04245), so that none grows out of hand."""

    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.query, self.leave = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.norm_query, self.norm_key = (nn.RMSNorm(width // config.heads, eps=1e-6) for _ in range(2))

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        turns: Tensor | None = None,
        told: Tensor | None = None,
        causal: bool = False,
        cache: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        query = self.norm_query(self._split(self.query(x)))
        key, value = self.norm_key(self._split(self.key(source))), self._split(self.value(source))
        if turns is not None:
            query, key = rotated(query, turns), rotated(key, turns)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        mask = None if told is None else told[:, None, None]
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.leave(out.transpose(1, 2).flatten(2)), (key, value)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


# --- places -------------------------------------------------------------------------------------------------------


def places(height: int, width: int, config: PixelTransformerConfig) -> tuple[int, int]:
    """Rows and columns of the sequence for h and w of the tokens."""
    return -(-height // config.group), -(-width // config.group)


def whereabouts(height: int, width: int, like: Tensor) -> Tensor:
    """(h w, 4 WAVES) cosines and sines of where each place is, from the top left of a picture to its bottom right.

    Args:
        height: rows of places.
        width: columns of places.
    """
    waves = torch.pi * 2 ** torch.arange(WAVES, device=like.device)
    down, across = ((torch.arange(side, device=like.device)[:, None] + 0.5) / side * waves for side in (height, width))
    angles = torch.cat([down[:, None].expand(-1, width, -1), across.expand(height, -1, -1)], -1).flatten(0, 1)
    return torch.cat([angles.cos(), angles.sin()], -1).to(like.dtype)


def rotations(height: int, width: int, config: PixelTransformerConfig, like: Tensor) -> Tensor:
    """(2, N, D / heads / 2) cosines and sines: half of the pairs of a head turn with the row of a place, half with its
    column. Colours of the palette have no place and do not turn.

    Source: Su et al. 2021 (arXiv 2104.09864), equation 34, on both axes.

    Args:
        height: rows of places.
        width: columns of places.
    """
    half = config.width // config.heads // 4
    speed = 100.0 ** -(torch.arange(half, device=like.device) / half)
    down, across = (torch.arange(side, device=like.device)[:, None] * speed for side in (height, width))
    angles = torch.cat([down[:, None].expand(-1, width, -1), across.expand(height, -1, -1)], -1).flatten(0, 1)
    angles = F.pad(angles, (0, 0, config.colours, 0))
    return torch.stack([angles.cos(), angles.sin()]).to(like.dtype)


def shifted(turns: Tensor) -> Tensor:
    """Of a sequence that begins with the beginning, which does not turn, and lacks the last token."""
    start = torch.stack([torch.ones_like(turns[0, :1]), torch.zeros_like(turns[1, :1])])
    return torch.cat([start, turns[:, :-1]], 1)


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """(B, heads, n, d), each pair of numbers (the first of the first half, the first of the second ...) turned."""
    cos, sin = turns
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


# --- thumbnails ---------------------------------------------------------------------------------------------------


def stages_of(palette: Tensor, tokens: Tensor, thumbnails: int) -> list[Tensor]:
    """Planes (B, h, w) of a picture, coarse to fine, -1 where they are not known: thumbnails, then tokens.

    Args:
        palette: (B, P), all of it known.
        tokens: (B, planes, h, w): the largest thumbnail, if there are any, and the tokens.
    """
    planes = [one.clone(memory_format=torch.contiguous_format) for one in tokens.unbind(1)]
    for _ in range(thumbnails - 1):
        planes.insert(0, coarser(palette, planes[0]))
    return planes


def coarser(palette: Tensor, plane: Tensor) -> Tensor:
    """(B, h / 2, w / 2) of a thumbnail (B, h, w): the colour (B, P) that is nearest to the mean of what is known of
    each square of four cells; -1 where less than half of it is known."""
    room = 0, plane.shape[2] % 2, 0, plane.shape[1] % 2
    there = F.pad(torch.ones_like(plane), room)
    known = F.pad((plane >= 0).long(), room)
    lab = torch.from_numpy(oklab_of_shades()).to(plane.device)[palette]
    cells = F.pad(plane.clamp(min=0), room).flatten(1)
    colours = lab.gather(1, cells[..., None].expand(-1, -1, 3)) * known.flatten(1)[..., None]

    def summed(cells: Tensor) -> Tensor:
        """(B, h / 2, w / 2, C) of (B, h, w, C)."""
        return cells.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((2, 4))

    count, of = (summed(one[..., None]) for one in (known, there))
    means = summed(colours.view(*known.shape, 3)) / count.clamp(min=1)
    first = (palette[:, :, None] == palette[:, None]).int().argmax(2)  # of few colours some come twice
    nearest = first.gather(1, torch.cdist(means.flatten(1, 2), lab).argmin(2)).view(means.shape[:3])
    return nearest.masked_fill(2 * count[..., 0] < of[..., 0], -1)


def finer(plane: Tensor, height: int, width: int) -> Tensor:
    """(B, height, width) of (B, h, w): each cell as the four that it was made of."""
    if plane.shape[1:] == (height, width):
        return plane
    return plane.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]


# --- palettes -----------------------------------------------------------------------------------------------------


def colour_tokens(palette: Tensor, most: int) -> Tensor:
    """(most,) tokens of (K, 3) uint8 sRGB, the nearest of `shades`, from dark to light; of few colours, some twice.

    Raises:
        ValueError: there are more than `most` colours; see `palettes.reduced`.
    """
    if len(palette) > most:
        raise ValueError(f"a palette of {len(palette)} colours has more than {most}: reduce it first")
    tokens = nearest_shades(palette).sort().values
    return tokens[torch.arange(most) * len(tokens) // most]


def nearest_shades(palette: Tensor) -> Tensor:
    """(K,) tokens of (K, 3) uint8 sRGB, in the same order."""
    lab, targets = (torch.from_numpy(oklab(one)) for one in (palette.cpu().numpy(), shades()))
    return torch.cdist(lab, targets).argmin(1)


def thumbnail(indices: Array, palette: Array, tokens: Tensor, stride: int) -> Tensor:
    """(h, w) whole numbers: which of the colours (P,) tokens is nearest to the mean of each square of a picture.

    Args:
        indices: (H, W) uint8, which the stride divides.
        palette: (K, 3) uint8 sRGB, what the indices mean.
        tokens: (P,) of `colour_tokens`.
    """
    height, width = (side // stride for side in indices.shape)
    lab = torch.from_numpy(oklab(palette))[torch.from_numpy(indices.astype(np.int64))]
    means = lab.view(height, stride, width, stride, 3).mean((1, 3))
    colours = torch.from_numpy(oklab(token_colours(tokens).numpy()))
    first = (tokens[:, None] == tokens).int().argmax(1)  # of few colours some come twice
    return first[torch.cdist(means.flatten(0, 1), colours).argmin(1)].view(height, width)


@functools.cache
def oklab_of_shades() -> Array:
    """(COLOURS, 3) float32."""
    return oklab(shades()).astype(np.float32)


def embedded_shades(width: int) -> Tensor:
    """(COLOURS, width) of unit variance, in which colours that look alike are alike: OKLab, then `waves` of it."""
    lab = torch.from_numpy(oklab_of_shades())
    return torch.cat([(lab - lab.mean(0)) / lab.std(0), waves(lab, width - 3, SCALES)], 1)


def token_colours(tokens: Tensor) -> Tensor:
    """(..., K, 3) uint8 sRGB of (..., K) tokens."""
    return torch.from_numpy(shades()).to(tokens.device)[tokens]
