"""`PixelTransformer` on MLX: the same names, so that one safetensors file serves both; the same numbers to 1e-4.

See `transformer` for what everything is and where it comes from.
"""

import hubmodels.pixelscene.openblas  # noqa: F401

# isort: split

import math
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from hubmodels.pixelscene.details_mlx import Details, shaded
from hubmodels.pixelscene.shape import COLOURS, WAVES, PixelTransformerConfig

Seen = tuple[mx.array, mx.array]
"""Keys and values (B, heads, n, D / heads) of a layer."""
Asked = tuple[int, mx.array, mx.array | None, mx.array | None]
"""A stage, palette, the thumbnail above it and what is known of it: `transformer.Asked`."""


class PixelTransformer(nn.Module):
    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        if config.text == "words":
            self.words = nn.Embedding(max(2, len(config.words)), config.text_width)
        self.enter_text = nn.Linear(config.text_width, width)
        self.nothing = mx.zeros((width,))
        self.colour = nn.Embedding(COLOURS + 1, width)
        each = width // config.group**2
        self.enter_place = nn.Linear(4 * WAVES, width, bias=False)
        if config.thumbnails:
            self.shade = nn.Embedding(COLOURS + 1, each)
            self.enter_shade, self.enter_above = nn.Linear(width, width), nn.Linear(width, width)
            self.part_shade, self.key_shade = nn.Linear(width, width), nn.Linear(width, each)
            self.details = Details(config)
        else:
            self.token = nn.Embedding(config.codebook_size + 1, each)
            self.enter_token, self.part = nn.Linear(width, width), nn.Linear(width, width)
            self.leave_token = nn.Linear(each, config.codebook_size)
        if config.order == "masked":
            self.stage = mx.zeros((1 + max(1, config.thumbnails), width))
        self.slot = mx.zeros((config.colours, width))
        self.blocks = [Block(config) for _ in range(config.layers)]
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.leave_colour = nn.Linear(width, COLOURS)

    def __call__(self, asked: Sequence[Asked], words: mx.array, told: mx.array) -> list[mx.array]:
        """Logits of several stages, each of as many rows, the first ones, as it has palettes."""
        context, there = self.read(words, told)
        return [one for some in asked for one in self.say(some, context[: len(some[1])], there[: len(some[1])])]

    def say(self, asked: Asked, context: mx.array, told: mx.array) -> tuple[mx.array, ...]:
        """Logits of a stage; of `ar` of the palette and of the tokens."""
        stage, palette, above, plane = asked
        if above is not None and plane is not None and stage > self.config.thumbnails:
            return (self.details(palette, above, plane),)
        colours, (height, width) = palette.shape[1], (0, 0) if plane is None else plane.shape[1:]
        x = self.colour(palette) + self.slot
        if plane is not None:
            x = mx.concatenate([x, self._entered(asked, plane)], 1)
        turns = rotations(*places(height, width, self.config), self.config)
        ar = self.config.order == "ar"
        if ar:
            start = mx.broadcast_to(self.colour.weight[COLOURS], (len(x), 1, x.shape[2]))
            x, turns = mx.concatenate([start, x[:, :-1]], 1), shifted(turns)
        else:
            x = x + self.stage[stage]
        for block in self.blocks:
            x, _ = block(x, turns, context, told, causal=ar)
        x = self.norm(x)
        of_colours, x = x[:, :colours], x[:, colours:]
        if plane is None:
            return (self.leave_colour(of_colours),)
        if self.config.thumbnails:
            keys = self.key_shade(self.colour(palette)) / self.key_shade.weight.shape[0] ** 0.5
            logits = self._parted(self.part_shade(x), height, width) @ keys.transpose(0, 2, 1)
            again = mx.pad(palette[:, 1:] == palette[:, :-1], [(0, 0), (1, 0)])
            return (mx.where(again[:, None], -mx.inf, logits),)
        tokens = self.leave_token(self._parted(self.part(x), height, width))
        return (self.leave_colour(of_colours), tokens) if ar else (tokens,)

    def read(self, words: mx.array, told: mx.array) -> tuple[mx.array, mx.array]:
        """Context (B, 1 + T, D) of words, and which of it is there."""
        states = self.words(words) if "words" in self else words
        nothing = mx.broadcast_to(self.nothing, (len(states), 1, self.config.width))
        there = mx.concatenate([mx.ones((len(told), 1), mx.bool_), told], 1)
        return mx.concatenate([nothing, self.enter_text(states)], 1), there

    def step(
        self,
        last: mx.array | None,
        place: int,
        size: tuple[int, int],
        context: mx.array,
        told: mx.array,
        cache: list[Seen],
    ) -> tuple[mx.array, list[Seen]]:
        """Logits of the token at a place, of `ar`, and the cache with the one before it in it."""
        colours = self.config.colours
        if last is None:
            x = mx.broadcast_to(self.colour.weight[COLOURS], (len(context), 1, self.config.width))
        elif place <= colours:
            x = (self.colour(last) + self.slot[place - 1])[:, None]
        else:
            where = whereabouts(*size)[place - 1 - colours]
            x = (self.enter_token(self.token(last)) + self.enter_place(where))[:, None]
        turns = shifted(rotations(*size, self.config))[:, place : place + 1]
        grown = []
        for number, block in enumerate(self.blocks):
            x, one = block(x, turns, context, told, cache=cache[number] if cache else None)
            grown.append(one)
        x = self.norm(x)[:, 0]
        return self.leave_colour(x) if place < colours else self.leave_token(self.part(x)), grown

    def _entered(self, asked: Asked, plane: mx.array) -> mx.array:
        """(B, n, D) of (B, h, w): a place for each square of a plane; beyond the picture it is not known."""
        _, palette, above, _ = asked
        if self.config.thumbnails:
            x = self.enter_shade(self._squares(self.shade, shaded(palette, plane)))
        else:
            x = self.enter_token(self._squares(self.token, plane))
        if above is not None:
            x = x + self.enter_above(self._squares(self.shade, shaded(palette, above)))
        return x + self.enter_place(whereabouts(*places(plane.shape[1], plane.shape[2], self.config)))

    def _squares(self, embedding: nn.Embedding, plane: mx.array) -> mx.array:
        """(B, n, D) of (B, h, w): embeddings of the squares of a plane; the last one beyond its edges."""
        side, (count, height, width) = self.config.group, plane.shape
        rows, columns = places(height, width, self.config)
        room = [(0, 0), (0, rows * side - height), (0, columns * side - width)]
        x = embedding(mx.pad(plane, room, constant_values=embedding.weight.shape[0] - 1))
        x = x.reshape(count, rows, side, columns, side, -1).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(count, rows * columns, -1)

    def _parted(self, x: mx.array, height: int, width: int) -> mx.array:
        """(B, h w, D / group^2) of places (B, n, D): squares fall apart into what they are of."""
        side, count = self.config.group, len(x)
        rows, columns = places(height, width, self.config)
        x = x.reshape(count, rows, columns, side, side, -1).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(count, rows * side, columns * side, -1)[:, :height, :width]
        return x.reshape(count, height * width, -1)


class Block(nn.Module):
    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2, self.norm3 = (nn.RMSNorm(width, eps=1e-6) for _ in range(3))
        self.itself = Attention(config)
        self.words = Attention(config)
        self.gate = nn.Linear(width, 2 * config.feedforward, bias=False)
        self.leave = nn.Linear(config.feedforward, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def __call__(
        self,
        x: mx.array,
        turns: mx.array,
        context: mx.array,
        told: mx.array,
        causal: bool = False,
        cache: Seen | None = None,
    ) -> tuple[mx.array, Seen]:
        h = self.norm1(x)
        h, seen = self.itself(h, h, turns, causal=causal, cache=cache)
        x = x + self.dropout(h)
        h, _ = self.words(self.norm2(x), context, told=told)
        x = x + self.dropout(h)
        gate, value = mx.split(self.gate(self.norm3(x)), 2, -1)
        return x + self.dropout(self.leave(nn.silu(gate) * value)), seen


class Attention(nn.Module):
    def __init__(self, config: PixelTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.query, self.leave = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.norm_query, self.norm_key = (nn.RMSNorm(width // config.heads, eps=1e-6) for _ in range(2))

    def __call__(
        self,
        x: mx.array,
        source: mx.array,
        turns: mx.array | None = None,
        told: mx.array | None = None,
        causal: bool = False,
        cache: Seen | None = None,
    ) -> tuple[mx.array, Seen]:
        query = self.norm_query(self._split(self.query(x)))
        key, value = self.norm_key(self._split(self.key(source))), self._split(self.value(source))
        if turns is not None:
            query, key = rotated(query, turns), rotated(key, turns)
        if cache is not None:
            key, value = mx.concatenate([cache[0], key], 2), mx.concatenate([cache[1], value], 2)
        mask = "causal" if causal else None if told is None else told[:, None, None]
        scale = query.shape[-1] ** -0.5
        out = mx.fast.scaled_dot_product_attention(query, key, value, scale=scale, mask=mask)
        return self.leave(out.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)), (key, value)

    def _split(self, x: mx.array) -> mx.array:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)


def places(height: int, width: int, config: PixelTransformerConfig) -> tuple[int, int]:
    """Rows and columns of the sequence for h and w of the tokens."""
    return -(-height // config.group), -(-width // config.group)


def whereabouts(height: int, width: int) -> mx.array:
    """(h w, 4 WAVES) cosines and sines."""
    waves = math.pi * 2 ** mx.arange(WAVES)
    down, across = ((mx.arange(side)[:, None] + 0.5) / side * waves for side in (height, width))
    rows = mx.broadcast_to(down[:, None], (height, width, WAVES))
    columns = mx.broadcast_to(across[None], (height, width, WAVES))
    angles = mx.concatenate([rows, columns], -1).reshape(height * width, 2 * WAVES)
    return mx.concatenate([mx.cos(angles), mx.sin(angles)], -1)


def rotations(height: int, width: int, config: PixelTransformerConfig) -> mx.array:
    """(2, N, D / heads / 2) cosines and sines."""
    half = config.width // config.heads // 4
    speed = 100.0 ** -(mx.arange(half) / half)
    down, across = (mx.arange(side)[:, None] * speed for side in (height, width))
    rows = mx.broadcast_to(down[:, None], (height, width, half))
    columns = mx.broadcast_to(across[None], (height, width, half))
    angles = mx.concatenate([rows, columns], -1).reshape(height * width, 2 * half)
    angles = mx.concatenate([mx.zeros((config.colours, 2 * half)), angles], 0)
    return mx.stack([mx.cos(angles), mx.sin(angles)])


def shifted(turns: mx.array) -> mx.array:
    start = mx.stack([mx.ones_like(turns[0, :1]), mx.zeros_like(turns[1, :1])])
    return mx.concatenate([start, turns[:, :-1]], 1)


def rotated(x: mx.array, turns: mx.array) -> mx.array:
    first, second = mx.split(x, 2, -1)
    return mx.concatenate([first * turns[0] - second * turns[1], first * turns[1] + second * turns[0]], -1)
