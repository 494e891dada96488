"""Shapes of the networks, which those on torch and those on MLX share; neither library is needed to read them."""

import math
from dataclasses import dataclass
from typing import Literal

GREY = 0.5
"""Lightness in OKLab that is 0 to the tokenizer."""
SAME = 1e-5
"""Numbers of one colour may differ so much in OKLab, by rounding; those of different ones of 8 bits differ more."""
COLOURS = 1824
"""Palette tokens: numbers of `palettes.shades`."""
CODE = 16
"""Numbers in which a token is told to convolutions: its code, some to learn, and that it is known."""
WAVES = 5
"""By which a place is told where in the picture it is: half a wave over all of it, one, two, four and eight."""


@dataclass(frozen=True)
class PixelVQGANConfig:
    """Shape of the network."""

    stride: Literal[8, 16] = 8
    """Pixels a side of a token: 8 makes 1,000 of 320 x 200, 16 makes 240 of 320 x 192."""
    channels: int = 32
    """At full size; as many times as `growth` says with each halving."""
    growth: str = "1,2,3,6,6"
    """Channels at full size, half, quarter ... by `channels`."""
    blocks: int = 2
    """Residual blocks at each size."""
    quantizer: Literal["fsq", "vq"] = "fsq"
    levels: str = "8,8,6,5"
    """Of fsq: steps of each number of a code."""
    codes: int = 1024
    """Of vq."""
    code_width: int = 8
    """Of vq: numbers of a code."""
    head: Literal["pointer", "nearest"] = "pointer"
    """`nearest` only snaps a colour to the palette; for comparison."""
    features: int = 16
    """Of a pixel and of a colour, which the pointer compares."""

    def __post_init__(self) -> None:
        if self.stride not in (8, 16):
            raise ValueError(f"stride must be 8 or 16, got {self.stride}")
        if min(self.channels, self.blocks, self.features) < 1:
            raise ValueError("channels, blocks and features must be at least 1")
        if min(whole_numbers(self.growth)) < 1 or len(whole_numbers(self.growth)) <= self.halvings:
            raise ValueError(f"growth needs {self.halvings + 1} numbers of at least 1, got {self.growth!r}")
        if min(whole_numbers(self.levels)) < 2 or min(self.codes, self.code_width) < 2:
            raise ValueError("levels, codes and code_width must be at least 2")

    @property
    def halvings(self) -> int:
        return int(math.log2(self.stride))

    @property
    def widths(self) -> list[int]:
        """Channels at each size, fine to coarse."""
        return [self.channels * times for times in whole_numbers(self.growth)[: self.halvings + 1]]

    @property
    def codebook_size(self) -> int:
        return math.prod(whole_numbers(self.levels)) if self.quantizer == "fsq" else self.codes


def whole_numbers(said: str) -> list[int]:
    """Of "8,5,5".

    Raises:
        ValueError: it is no such list.
    """
    try:
        return [int(word) for word in said.split(",")]
    except ValueError:
        raise ValueError(f"a list of whole numbers looks like 8,5,5, got {said!r}") from None


@dataclass(frozen=True)
class PixelTransformerConfig:
    """Shape of the network."""

    order: Literal["masked", "ar"] = "masked"
    codebook_size: int = 1920
    """Picture tokens of the tokenizer that it is trained with."""
    stride: int = 8
    """Of that tokenizer."""
    group: Literal[1, 2] = 2
    """Tokens on a side of the square that shares one place of the sequence: 2 makes a quarter of the places. `ar` says
    tokens one by one, so it needs 1."""
    colours: int = 64
    """Of a palette."""
    thumbnails: int = 3
    """Of masked: so many small pictures are drawn before the tokens, each of half the sides of the next; the last has
    a pixel for each token. What goes where is decided where there is little to decide. 0 draws tokens at once."""
    channels: int = 128
    """Of the convolutions that say tokens once there are thumbnails."""
    convolutions: int = 4
    """Blocks of two of them each; every block looks twice as far as the one before."""
    width: int = 256
    layers: int = 5
    heads: int = 4
    feedforward: int = 640
    """Of a SwiGLU: half of what goes in gates the other half."""
    dropout: float = 0.0
    text: Literal["minilm", "words"] = "minilm"
    """`minilm` are the states of a frozen MiniLM, which knows English; `words` are looked up in `vocabulary` and
    learned."""
    text_width: int = 384
    """E, of a word; that of MiniLM is 384."""
    vocabulary: str = ""
    """Of `words`: all of them, separated by spaces; the first two are for padding and for words that are not in it."""
    text_repo: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Of `minilm`: which one."""
    text_revision: str = ""
    max_words: int = 64
    meaning: str = ""
    """That of the tokenizer that it is trained with (`PixelVQGAN.meaning`); empty fits any."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 times the {self.heads} heads")
        if min(self.layers, self.heads, self.feedforward, self.colours, self.max_words, self.codebook_size) < 1:
            raise ValueError("layers, heads, feedforward, colours, max_words and codebook_size must be at least 1")
        if self.group not in (1, 2) or (self.order == "ar" and self.group > 1):
            raise ValueError(f"group must be 1 or 2, and 1 for ar, got {self.group} for {self.order}")
        if min(self.channels, self.convolutions) < 1 or self.width < 4 * self.group**2:
            raise ValueError("channels and convolutions must be at least 1, and width at least 4 times group squared")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.thumbnails < 0 or (self.thumbnails and self.order == "ar"):
            raise ValueError(f"thumbnails must be at least 0, and 0 for ar, got {self.thumbnails} for {self.order}")
        if self.text == "words" and len(set(self.words)) < len(self.words):
            raise ValueError("the vocabulary has a word twice")

    @property
    def unknown(self) -> tuple[int, ...]:
        """What stands for what is not known, at each stage: of the palette, of each thumbnail, of the tokens."""
        return (COLOURS, *(self.colours,) * self.thumbnails, self.codebook_size)

    @property
    def planes(self) -> int:
        """Of what is said of a picture: its largest thumbnail, if there is one, and its tokens."""
        return 2 if self.thumbnails else 1

    @property
    def words(self) -> list[str]:
        return self.vocabulary.split(" ") if self.vocabulary else []
