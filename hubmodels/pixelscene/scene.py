"""What people ask of the two networks: draw a sentence, repaint a part, go on beyond the edge, vary, tile.

A picture is (H, W) uint8 indices and their palette (K, 3) uint8 sRGB. Pixels that were not asked for stay as they are,
and so does the palette of a picture that is given.

    words, palette --PixelTransformer, rounds--> tokens --PixelVQGAN.decode in the palette--> picture
"""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib.util import find_spec
from typing import Literal, Protocol

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from hubmodels.pixelscene.palettes import in_ramps, oklab, reduced
from hubmodels.pixelscene.sampling import (
    PLAIN,
    Progress,
    Sampling,
    Transformer,
    extended,
    forgotten,
    sample,
    silent,
    unknown_in,
)
from hubmodels.pixelscene.shape import PixelVQGANConfig
from hubmodels.pixelscene.text import encoded, unknown
from hubmodels.pixelscene.transformer import PixelTransformer, colour_tokens, thumbnail, token_colours
from hubmodels.pixelscene.vqgan import PixelVQGAN

Picture = tuple[Array, Array]
SIDES = 64, 1280
MOST_TOKENS = 4096
AT_ONCE = 8
"""Pictures that are best drawn together: more want more memory, and are hardly faster."""
NAMED = 5
"""Words that a warning names at most."""
Backend = Literal["torch", "mlx", "auto"]
SEAM = 32
"""Pixels that are drawn anew where the edges of a picture that tiles meet, half of them on either side."""


class Tokenizer(Protocol):
    """`PixelVQGAN`, or its twin on MLX behind the same tensors."""

    @property
    def config(self) -> PixelVQGANConfig: ...

    def encode(self, indices: Tensor, palette: Tensor) -> Tensor: ...

    def decode(self, tokens: Tensor, palette: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Pair:
    """A tokenizer and the transformer that was trained with it, both on torch or both on MLX."""

    tokenizer: Tokenizer
    transformer: Transformer
    digest: str = ""
    """Of the weights of both, so that a picture can say what drew it."""
    weights: int = 0
    """How many they have together."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what it was made for."""
        return 320, 200 - 200 % self.tokenizer.config.stride

    def __post_init__(self) -> None:
        ours, theirs = self.tokenizer.config, self.transformer.config
        if (ours.codebook_size, ours.stride) != (theirs.codebook_size, theirs.stride):
            raise ValueError(
                f"the transformer was trained with a tokenizer of {theirs.codebook_size} codes and stride "
                f"{theirs.stride}, not with this one of {ours.codebook_size} and {ours.stride}"
            )


def chosen(backend: Backend) -> Literal["torch", "mlx"]:
    """What `auto` means on this machine.

    Raises:
        ValueError: MLX is asked for and not installed.
    """
    there = find_spec("mlx") is not None
    if backend == "mlx" and not there:
        raise ValueError("mlx is not installed: pip install mlx (Apple silicon) or 'mlx[cpu]' (Linux), or use torch")
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return "mlx" if backend == "mlx" or (backend == "auto" and apple and there) else "torch"


def loaded(vqgan: str, prior: str, backend: Backend = "auto") -> Pair:
    """Both networks, from folders or Hub repositories.

    Args:
        backend: auto is MLX on Apple silicon and torch elsewhere.

    Raises:
        HubError: one of them cannot be had.
        ValueError: they were not trained together, or MLX is asked for and not there.
    """
    backend = chosen(backend)
    tokenizer, transformer = PixelVQGAN.from_pretrained(vqgan), PixelTransformer.from_pretrained(prior)
    if transformer.config.meaning not in ("", tokenizer.meaning()):
        raise ValueError(f"{prior} was trained with a tokenizer whose tokens mean something else than those of {vqgan}")
    digest = blake2b(digest_size=8)
    for weight in [*tokenizer.state_dict().values(), *transformer.state_dict().values()]:
        digest.update(weight.numpy().tobytes())
    about = digest.hexdigest(), sum(one.numel() for model in (tokenizer, transformer) for one in model.parameters())
    if backend == "mlx":
        from hubmodels.pixelscene import twins

        return Pair(twins.Tokenizer(tokenizer), twins.Transformer(transformer), *about)
    return Pair(tokenizer, transformer, *about)


def not_read(pair: Pair, caption: str) -> str:
    """A warning about words that the transformer does not know, or nothing."""
    words = unknown(caption, pair.transformer.config)
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return f"not known, so not drawn: {', '.join(word[:24] for word in words[:NAMED])}{more}" if words else ""


def draw(
    pair: Pair,
    captions: Sequence[str],
    size: tuple[int, int],
    palette: Array | None = None,
    how: Sampling = PLAIN,
    progress: Progress = silent,
) -> list[Picture]:
    """A picture for each caption.

    Args:
        size: width and height; the stride divides them.
        palette: (K, 3) uint8, which all of them have then; None draws one for each.

    Raises:
        ValueError: the size cannot be made.
    """
    width, height = checked_size(size, pair)
    cells = height // _stride(pair), width // _stride(pair)
    tokens = torch.full((len(captions), pair.transformer.config.planes, *cells), -1)
    said, made = _drawn(pair, captions, tokens, palette, how, progress)
    colours = [palette] * len(captions) if palette is not None else map(in_ramps, token_colours(said).numpy())
    return [(_decoded(pair, one, own), own) for one, own in zip(made, colours, strict=True)]


def edit(
    pair: Pair,
    picture: Picture,
    caption: str,
    mask: Array,
    how: Sampling = PLAIN,
    progress: Progress = silent,
) -> Picture:
    """A picture with the part under a mask (H, W) bool drawn anew; all other pixels are the same.

    Raises:
        ValueError: the mask is empty or of another size, or the picture cannot be encoded.
    """
    indices, palette = picture
    if mask.shape != indices.shape:
        sizes = (f"{one.shape[1]} x {one.shape[0]}" for one in (indices, mask))
        raise ValueError("a picture of {} pixels and its mask of {} do not fit".format(*sizes))
    if not mask.any():
        raise ValueError("the mask is empty: it marks what is to be drawn anew")
    tokens = unknown_in(_encoded(pair, picture), _stride(pair), mask)
    _, made = _drawn(pair, [caption], tokens, palette, how, progress)
    drawn = _decoded(pair, made[0], palette)[: indices.shape[0], : indices.shape[1]]
    return np.where(mask, drawn, indices), palette


def outpaint(
    pair: Pair,
    picture: Picture,
    caption: str,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    how: Sampling = PLAIN,
    progress: Progress = silent,
) -> Picture:
    """A picture with more of it on some sides, in pixels that the stride divides; its own pixels are the same.

    Raises:
        ValueError: the stride does not divide what is asked for or the picture, or it would get too large.
    """
    indices, palette = picture
    stride = _stride(pair)
    wanted = {"left": left, "right": right, "top": top, "bottom": bottom}
    odd = [f"{name}={pixels}" for name, pixels in wanted.items() if pixels % stride or pixels < 0]
    if odd or not any(wanted.values()):
        raise ValueError(f"a picture grows by multiples of {stride} pixels, got {', '.join(odd) or 'none'}")
    checked_size((indices.shape[1] + left + right, indices.shape[0] + top + bottom), pair)
    tokens = _encoded(pair, picture, whole=True)
    room = {name: pixels // stride for name, pixels in wanted.items()}
    _, made = _drawn(pair, [caption], extended(tokens, **room), palette, how, progress)
    drawn = _decoded(pair, made[0], palette)
    drawn[top : top + indices.shape[0], left : left + indices.shape[1]] = indices
    return drawn, palette


def vary(
    pair: Pair,
    picture: Picture,
    caption: str,
    count: int,
    strength: float,
    how: Sampling = PLAIN,
    progress: Progress = silent,
) -> list[Picture]:
    """Pictures that share a part of their tokens with one, other parts each; number i is that of seed + i alone.

    Raises:
        ValueError: the strength is not in (0, 1], or the picture cannot be encoded.
    """
    indices, palette = picture
    tokens, made = _encoded(pair, picture), []
    for number in range(count):
        own = replace(how, seed=how.seed + number)
        _, (drawn,) = _drawn(pair, [caption], forgotten(tokens, strength, own.seed), palette, own, progress)
        made.append((_decoded(pair, drawn, palette)[: indices.shape[0], : indices.shape[1]], palette))
    return made


def tile(pair: Pair, picture: Picture, caption: str, how: Sampling = PLAIN, progress: Progress = silent) -> Picture:
    """A picture whose left and right edges meet: SEAM columns around them are drawn anew; all others are the same.

    Raises:
        ValueError: the picture cannot be encoded.
    """
    indices, palette = picture
    half = indices.shape[1] // 2 // _stride(pair) * _stride(pair)
    mask = np.zeros(indices.shape, bool)
    mask[:, half - SEAM // 2 : half + SEAM // 2] = True
    made, _ = edit(pair, (np.roll(indices, half, 1), palette), caption, mask, how, progress)
    return np.roll(made, -half, 1), palette


def checked_size(size: tuple[int, int], pair: Pair) -> tuple[int, int]:
    """Width and height that can be drawn.

    Raises:
        ValueError: they cannot.
    """
    width, height = size
    stride = _stride(pair)
    if width % stride or height % stride or not SIDES[0] <= min(size) <= max(size) <= SIDES[1]:
        raise ValueError(
            f"sizes are multiples of {stride} from {SIDES[0]} to {SIDES[1]} pixels, got {width} x {height}"
        )
    if width * height > MOST_TOKENS * stride**2:
        raise ValueError(f"{width} x {height} pixels are too many: at most {MOST_TOKENS * stride**2}")
    return size


def _stride(pair: Pair) -> int:
    return pair.tokenizer.config.stride


def _drawn(
    pair: Pair, captions: Sequence[str], tokens: Tensor, palette: Array | None, how: Sampling, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Tokens of palettes (B, P) and of pictures (B, h, w), what is -1 of them (B, planes, h, w) drawn."""
    config = pair.transformer.config
    words, told = encoded(captions, config)
    if palette is None:
        colours = torch.full((len(captions), config.colours), -1)
    else:
        colours = _few(palette, config.colours).expand(len(captions), -1)
    said, made = sample(pair.transformer, words, told, colours, tokens, how, progress)
    return said, made[:, -1]


def _few(palette: Array, most: int) -> Tensor:
    """(1, P) tokens of a palette of any length."""
    if len(palette) > most:
        _, palette = reduced(np.arange(len(palette), dtype=np.uint8)[None], palette, most)
    return colour_tokens(torch.from_numpy(palette), most)[None]


def _encoded(pair: Pair, picture: Picture, whole: bool = False) -> Tensor:
    """What is said of a picture (1, planes, h, w). Its last rows and columns are repeated where the stride does not
    divide it.

    Args:
        whole: whether that is an error.
    """
    indices, palette = picture
    stride = _stride(pair)
    down, across = (-side % stride for side in indices.shape)
    if whole and (down or across):
        raise ValueError(
            f"the picture is {indices.shape[1]} x {indices.shape[0]}, which {stride} does not divide: crop it first"
        )
    checked_size((indices.shape[1] + across, indices.shape[0] + down), pair)
    padded = np.pad(indices, ((0, down), (0, across)), mode="edge")
    lab = torch.from_numpy(oklab(palette)).float()[None]
    tokens = pair.tokenizer.encode(torch.from_numpy(padded)[None], lab).cpu()
    if not pair.transformer.config.thumbnails:
        return tokens[:, None]
    small = thumbnail(padded, palette, _few(palette, pair.transformer.config.colours)[0], stride)
    return torch.stack([small[None], tokens], 1)


def _decoded(pair: Pair, tokens: Tensor, palette: Array) -> Array:
    """(H, W) uint8."""
    return pair.tokenizer.decode(tokens[None], torch.from_numpy(oklab(palette)).float()[None])[0].numpy().copy()
