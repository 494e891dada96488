"""Text to scene to text: a sentence is painted, and read back from the picture alone.

    tokens (B, T) --LanguageModel--> states (B, T, D) --Painter--> codes (B, S, C) --> picture (B, 3, 64, 64)
    picture --Reader--> log-probabilities of all words at once (B, T - 1, V) --> the likeliest sentence

Nobody shows the reader the sentence, not even its first words: it says every word in parallel, out of the pixels, and
the automaton of the language finds the sentence that these words make likeliest. So what it reads, the picture says.

B sentences, T tokens with <bos> and <eos>, V words of the vocabulary, D width, S slots of a code, C numbers in each,
H heads. Pictures are sRGB in [-1, 1].
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from hubmodels.circular.channel import disturb
from hubmodels.circular.sentences import Language, automaton, decode, encode, longest, vocabulary
from hubmodels.hub import HubModel
from hubmodels.images import from_uint8, to_pil, to_uint8
from hubmodels.scenes import parse, place
from hubmodels.scenes.world import MAX_INSTANCES, PLURALS, SHAPES

RESOLUTION = 64
CELLS = 8
"""The reader sees the picture as 8 x 8 cells."""
SPRITE = 24
"""Pixels a side of what is drawn of one thing, when there is a layout."""


@dataclass(frozen=True)
class CircularSceneConfig:
    """Shape of the networks. Flat and JSON-native, because it becomes config.json."""

    language: Language = "both"
    """Sentences of the grammar of scenes, of the ten templates, or of both."""
    vocabulary: str = ""
    """Every word, separated by spaces; word i is token i. Empty is that of the language, and nothing else will do."""
    width: int = 128
    """Of the language model, and of what the painter and the reader look at."""
    layers: int = 3
    heads: int = 4
    feedforward: int = 256
    dropout: float = 0.0
    bottleneck: Literal["vae", "vq", "none"] = "vae"
    """What a code passes: noise and a price for information, a visual vocabulary of `codes`, or nothing."""
    z_dim: int = 128
    """Numbers in the code of a whole picture."""
    slots: int = 64
    """Parts of the code: the cells of a square grid; with a layout the paper and up to seven things."""
    codes: int = 512
    """Of vq: size of the visual vocabulary, a word of which each slot shows."""
    layout: bool = False
    """Paint in two stages: where things are, as the world of scenes lays them out, then each thing at its place.
    Needs the language of scenes and 8 slots."""
    painter: int = 64
    """Channels of the painter at 8 x 8; a quarter of them at full size."""
    reader: int = 96
    """Channels of the reader at 8 x 8; a quarter of them at half size."""
    reader_layers: int = 2

    def __post_init__(self) -> None:
        known = " ".join(vocabulary(self.language))
        object.__setattr__(self, "vocabulary", self.vocabulary or known)
        if self.vocabulary != known:
            own, other = set(known.split()), set(self.vocabulary.split())
            odd = ", ".join(sorted(own ^ other)[:8]) or "their order"
            raise ValueError(f"the vocabulary is not that of the language {self.language!r}; they differ in {odd}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads")
        if self.z_dim % self.slots:
            raise ValueError(f"z_dim {self.z_dim} must be a multiple of the {self.slots} slots")
        if self.layout and (self.slots != MAX_INSTANCES + 2 or self.language != "scenes"):
            raise ValueError(f"a layout needs the language of scenes and {MAX_INSTANCES + 2} slots")
        if not self.layout and self.slots not in (4, 16, 64):
            raise ValueError(f"slots are cells of a square grid, 4, 16 or 64, got {self.slots}")
        if any(channels % 16 or channels < 16 for channels in (self.painter, self.reader)):
            raise ValueError(f"channels must be multiples of 16, got {self.painter} and {self.reader}")
        if min(self.layers, self.feedforward, self.reader_layers) < 1 or self.codes < 2:
            raise ValueError("layers, feedforward and reader_layers must be at least 1, and codes 2")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    @property
    def tokens(self) -> int:
        """Of the longest sentence, <bos> and <eos> included."""
        return longest(self.language)


@dataclass
class Trip:
    """All that training looks at on the way from a sentence to a picture and back."""

    next_words: Tensor
    """(B, T, V) logits of the language model: which word follows each."""
    picture: Tensor
    """(B, 3, 64, 64), before the channel disturbs it."""
    read: Tensor
    """(B, T - 1, V) logits of the reader: the words after <bos>."""
    said: Tensor
    """(B, D) embedding of the sentence, to be compared with `seen`, that of the picture."""
    seen: Tensor
    mean: Tensor
    """(B, S, C) of the code, and the logarithm of its variance."""
    log_variance: Tensor
    commitment: Tensor
    """Of vq: what keeps codes and their nearest words of the visual vocabulary together; 0 else."""
    attention: Tensor
    """(B, S, T): how much each slot looks at each word."""
    territory: Tensor
    """(B, S, 64, 64): which pixels each slot draws, in [0, 1]."""
    read_teacher: Tensor
    """(L, T - 1, V): what the reader says of the teacher's pictures, L of them or none."""


@dataclass(frozen=True)
class Reading:
    """What the reader says of one picture."""

    sentence: str
    confidence: tuple[tuple[str, float], ...]
    """Each word, a full stop or comma too, and the probability in [0, 1] that the reader gives it there."""
    log_likelihood: float
    """Of the sentence with its end, in nats."""


class CircularScene(
    HubModel,
    pipeline_tag="text-to-image",
    tags=["self-supervised", "cycle-consistency", "emergent-communication"],
    paper_url="https://arxiv.org/abs/1312.6114",
):
    """Paints sentences and reads them back from the picture alone."""

    def __init__(self, config: CircularSceneConfig) -> None:
        super().__init__()
        self.config = config
        self.language = LanguageModel(config)
        self.painter = Painter(config)
        self.reader = Reader(config)

    def forward(
        self, tokens: Tensor, layout: Tensor | None = None, teacher: Tensor | None = None, strength: float = 1.0
    ) -> Trip:
        """Paint sentences, disturb the pictures, read them.

        Args:
            tokens: (B, T), padded with 0.
            layout: (B, 7, 3) from `laid_out`, where the model has a layout.
            teacher: (L, 3, 64, 64), pictures that are disturbed and read as well.
            strength: of the channel in training; 0 leaves it out. In evaluation there is none.
        """
        states, next_words = self.language(tokens)
        mean, log_variance, attention = self.painter.code(states, tokens, layout)
        code, commitment = self.painter.bottleneck(mean, log_variance, self.training)
        picture, territory = self.painter.draw(code, layout)
        shown = picture if teacher is None else torch.cat([picture, teacher.to(picture.dtype)])
        words, seen = self.reader(disturb(shown, strength if self.training else 0.0))
        return Trip(
            next_words,
            picture,
            words[: len(picture), : tokens.shape[1] - 1],
            self.language.embedded(states, tokens),
            seen[: len(picture)],
            mean,
            log_variance,
            commitment,
            attention,
            territory,
            words[len(picture) :, : tokens.shape[1] - 1],
        )

    # --- what people call ---------------------------------------------------------------------------------------

    @torch.inference_mode()
    def paint(self, sentences: Sequence[str], seed: int | None = None) -> Tensor:
        """Pictures (B, 3, 64, 64) of sentences. The same seed paints the same; without one the code has no noise.

        Raises:
            SentenceError: a sentence is outside the language.
        """
        return torch.cat([self._paint(list(sentences[i : i + 64]), seed) for i in range(0, len(sentences), 64)])

    def _paint(self, sentences: list[str], seed: int | None) -> Tensor:
        tokens, layout = self.tokenized(sentences, seed or 0)
        code = self.codes(tokens, layout, seed)
        return self.painter.draw(code, layout)[0].clamp(-1, 1)

    @torch.inference_mode()
    def codes(self, tokens: Tensor, layout: Tensor | None = None, seed: int | None = None) -> Tensor:
        """The codes (B, S, C) that pictures are painted from; arguments as of `tokenized` and `paint`.

        All sentences get the same noise under a seed, so what is painted of one does not hang on the others.
        """
        return self._coded(tokens, layout, seed)[0]

    def _coded(self, tokens: Tensor, layout: Tensor | None, seed: int | None) -> tuple[Tensor, Tensor]:
        """Codes (B, S, C), and what each slot looked at (B, S, T)."""
        mean, log_variance, attention = self.painter.code(self.language(tokens)[0], tokens, layout)
        if seed is not None and self.config.bottleneck == "vae":
            noise = torch.randn(mean.shape[1:], generator=torch.Generator().manual_seed(seed)).to(mean)
            mean = mean + noise * (0.5 * log_variance).exp()
        return self.painter.bottleneck(mean, log_variance, False)[0], attention

    @torch.inference_mode()
    def read(self, pictures: Tensor) -> list[Reading]:
        """What pictures (B, 3, 64, 64) in [-1, 1] say: for each the likeliest sentence of the language.

        Raises:
            ValueError: they have another size, or are not colour pictures of floats.
        """
        return [
            reading
            for part in checked(pictures).split(64)
            for reading in likeliest(self.log_probabilities(part), self.config.language)
        ]

    @torch.inference_mode()
    def log_probabilities(self, pictures: Tensor) -> Tensor:
        """(B, T - 1, V): of every word at every place after <bos>, from pixels alone."""
        words, _ = self.reader(checked(pictures).to(next(self.parameters()).device))
        return words.float().log_softmax(2).cpu()

    @overload
    def roundtrip(self, sentence: str, seed: int | None = None, noise: float = 0.0) -> tuple[Image.Image, str]: ...

    @overload
    def roundtrip(
        self, sentence: list[str], seed: int | None = None, noise: float = 0.0
    ) -> list[tuple[Image.Image, str]]: ...

    def roundtrip(
        self, sentence: str | list[str], seed: int | None = None, noise: float = 0.0
    ) -> tuple[Image.Image, str] | list[tuple[Image.Image, str]]:
        """Paint a sentence and read it back from the pixels, which are rounded to 8 bits as in a file.

        Args:
            sentence: one, or several.
            seed: see `paint`.
            noise: sigma of Gaussian noise on the picture before it is read, the same for all sentences.

        Returns:
            The picture and what was read; a list of pairs for several sentences.

        Raises:
            SentenceError: a sentence is outside the language.
        """
        pictures = self.paint([sentence] if isinstance(sentence, str) else sentence, seed)
        generator = torch.Generator().manual_seed(seed or 0)
        pictures = pictures + noise * torch.randn(pictures.shape[1:], generator=generator).to(pictures)
        pictures = from_uint8(to_uint8(pictures))
        pairs = [
            (to_pil(picture), reading.sentence) for picture, reading in zip(pictures, self.read(pictures), strict=True)
        ]
        return pairs[0] if isinstance(sentence, str) else pairs

    @torch.inference_mode()
    def where(self, sentence: str, seed: int | None = None) -> Tensor:
        """(T, 64, 64) in [0, 1]: where in its picture each token of a sentence lives, <bos> and <eos> too.

        That is how much the slot that draws a pixel looked at the word, by the most that any pixel's did.
        """
        tokens, layout = self.tokenized([sentence], seed or 0)
        code, attention = self._coded(tokens, layout, seed)
        _, territory = self.painter.draw(code, layout)
        maps = torch.einsum("st,shw->thw", attention[0], territory[0])
        return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-6)

    @torch.inference_mode()
    def between(self, first: str, second: str, steps: int, seed: int | None = None) -> Tensor:
        """(steps, 3, 64, 64): from the picture of one sentence to that of another, along a line between their codes.
        With a layout, things stay where the nearer sentence has them."""
        tokens, layout = self.tokenized([first, second], seed or 0)
        start, end = self.codes(tokens, layout, seed)
        share = torch.linspace(0, 1, steps, device=start.device)
        codes = start + (end - start) * share[:, None, None]
        nearer = (share > 0.5).long()
        return self.painter.draw(codes, None if layout is None else layout[nearer])[0].clamp(-1, 1)

    def tokenized(self, sentences: Sequence[str], seed: int = 0) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, T) and, where the model has one, the layout (B, 7, 3) of sentences, on the model's device."""
        device = next(self.parameters()).device
        rows = [torch.tensor(encode(sentence, self.config.language)) for sentence in sentences]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        layout = torch.stack([laid_out(s, seed) for s in sentences]).to(device) if self.config.layout else None
        return tokens, layout


def checked(pictures: Tensor) -> Tensor:
    """The same pictures. Raises `ValueError` unless they are what the reader reads."""
    if pictures.ndim != 4 or pictures.shape[1:] != (3, RESOLUTION, RESOLUTION) or not pictures.is_floating_point():
        raise ValueError(
            f"the reader reads colour pictures of {RESOLUTION} x {RESOLUTION} as floats in [-1, 1], "
            f"(B, 3, {RESOLUTION}, {RESOLUTION}); got {tuple(pictures.shape)} of {pictures.dtype}"
        )
    return pictures


def laid_out(sentence: str, seed: int) -> Tensor:
    """(7, 3) int64: for each thing that a sentence names the token that names it, x and y; -1 where there is none.

    Places are cells of the 64 x 64 canvas, as the world of scenes lays the sentence out under a seed.
    """
    names = [at for at, word in enumerate(encode(sentence, "scenes")) if vocabulary("scenes")[word] in _NOUNS]
    scene = place(parse(sentence), seed)
    rows = [(at, x, y) for at, group in zip(names, scene.groups, strict=True) for x, y in group.places]
    return torch.tensor(rows + [(-1, -1, -1)] * (MAX_INSTANCES + 1 - len(rows)))


_NOUNS = frozenset({*SHAPES, *PLURALS})


# --- language ---------------------------------------------------------------------------------------------------


def waves(count: int, width: int) -> Tensor:
    """(count, width) sines and cosines: places near each other look alike."""
    at = torch.arange(count)[:, None]
    rate = 10_000 ** (-1.5 * torch.arange(width // 2) / width)
    return torch.cat([(at * rate).sin(), (at * rate).cos()], 1)


class Attention(nn.Module):
    """Multi-head attention of x (B, N, D) on memory (B, M, D), with what is added to the logits (H or 1, N, M)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor | None = None, causal: bool = False) -> Tensor:
        split = [
            layer(part).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, part in ((self.query, x), (self.key, memory), (self.value, memory))
        ]
        bias = None if bias is None else bias.to(split[0].dtype)
        attended = F.scaled_dot_product_attention(*split, attn_mask=bias, is_causal=causal)
        return self.out(attended.transpose(1, 2).flatten(2))


class Feedforward(nn.Sequential):
    """Two layers behind a norm."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class LanguageModel(nn.Module):
    """An autoregressive transformer, pre-norm: embeds, scores and samples sentences."""

    def __init__(self, config: CircularSceneConfig) -> None:
        super().__init__()
        self.config = config
        width, words = config.width, len(config.vocabulary.split())
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Embedding(config.tokens, width)
        nn.init.normal_(self.embedding.weight, std=0.7)
        self.position.weight.data = waves(config.tokens, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.layers))
        self.attentions = nn.ModuleList(Attention(width, config.heads) for _ in range(config.layers))
        self.feedforwards = nn.ModuleList(Feedforward(width, config.feedforward) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)
        self.summary = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> states (B, T, D), each of a word and those before it, and logits (B, T, V) of the next word."""
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        for norm, attention, feedforward in zip(self.norms, self.attentions, self.feedforwards, strict=True):
            own = norm(x)
            x = x + self.dropout(attention(own, own, causal=True))
            x = x + self.dropout(feedforward(x))
        x = self.norm(x)
        return x, self.head(x)

    def embedded(self, states: Tensor, tokens: Tensor) -> Tensor:
        """(B, D): what a sentence says as a whole, the mean of its states, mapped."""
        real = (tokens != 0).unsqueeze(2).to(states)
        return self.summary((states * real).sum(1) / real.sum(1).clamp(min=1))

    @torch.inference_mode()
    def score(self, tokens: Tensor) -> Tensor:
        """(B,) log-likelihood in nats of sentences (B, T) that begin with <bos> and are padded with 0."""
        logits = self(tokens)[1][:, :-1].float().log_softmax(2)
        return (logits.gather(2, tokens[:, 1:, None])[..., 0] * (tokens[:, 1:] != 0)).sum(1)

    @torch.inference_mode()
    def sample(
        self,
        n: int = 1,
        seed: int | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        constrained: bool = True,
    ) -> list[str]:
        """Sentences that the model makes up.

        Args:
            seed: the same draws the same; None draws at random.
            temperature: 0 takes the likeliest word, above 1 is wilder.
            top_k: draw from so many of the likeliest words; 0 is all.
            top_p: draw from the likeliest words that together have so much.
            constrained: only words that the grammar allows.

        Raises:
            ValueError: an argument is out of its range.
        """
        if n < 1 or temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
            raise ValueError("n is at least 1, temperature and top_k at least 0, and top_p above 0 and at most 1")
        generator = torch.Generator().manual_seed(random.SystemRandom().randrange(2**31) if seed is None else seed)
        allowed, follow = (torch.from_numpy(table) for table in automaton(self.config.language))
        device = self.embedding.weight.device
        tokens = torch.ones(n, 1, dtype=torch.long)
        state = torch.zeros(n, dtype=torch.long)
        done = torch.zeros(n, dtype=torch.bool)
        for _ in range(self.config.tokens - 1):
            logits = self(tokens.to(device))[1][:, -1].float().cpu()
            logits[:, 1] = -torch.inf  # <bos> is only where a sentence begins, and <pad> is not a word
            logits[:, 0] = -torch.inf
            if constrained:
                logits = logits.masked_fill(~allowed[state] & ~done[:, None], -torch.inf)
            word = drawn(logits, generator, temperature, top_k, top_p).masked_fill(done, 0)
            tokens = torch.cat([tokens, word[:, None]], 1)
            if constrained:
                state = follow[state, word].long()
            done |= word == 2
            if done.all():
                break
        return [decode(row, self.config.language) for row in tokens.tolist()]


def drawn(logits: Tensor, generator: torch.Generator, temperature: float, top_k: int, top_p: float) -> Tensor:
    """(B,) tokens drawn from logits (B, V); see `LanguageModel.sample`."""
    if temperature == 0:
        return logits.argmax(1)
    logits = logits / temperature
    if top_k:
        least = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    chances, order = logits.softmax(1).sort(descending=True)
    before = chances.cumsum(1) - chances  # the likeliest word always stays
    chances = chances.masked_fill(before >= top_p, 0)
    return order.gather(1, chances.multinomial(1, generator=generator))[:, 0]


# --- painting ---------------------------------------------------------------------------------------------------


class Painter(nn.Module):
    """Words to slots of a code, by attention; codes through a bottleneck; slots to pixels."""

    def __init__(self, config: CircularSceneConfig) -> None:
        super().__init__()
        self.config = config
        width, heads, slots, tokens = config.width, config.heads, config.slots, config.tokens
        size = config.z_dim // slots
        self.slot = nn.Parameter(torch.randn(slots, width) * 0.1)
        self.key, self.query, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.feedforward = nn.Linear(width, width), Feedforward(width, 2 * width)
        self.head = nn.Linear(width, 2 * size)
        self.head.bias.data[size:] = -4  # little noise at first, or there is nothing to learn from
        self.near = nn.Parameter(self._nearness(heads, slots, tokens))
        self.book = nn.Embedding(config.codes, size) if config.bottleneck == "vq" else None
        self.draw = Sprites(config, size) if config.layout else Page(config, size)

    def _nearness(self, heads: int, slots: int, tokens: int) -> Tensor:
        """Which words a slot looks at before it has learned anything, added to the logits of its attention.

        As a page is written: slot after slot, each a stretch of the sentence, each head one part of the stretch. With a
        layout: around the word that names the thing; table (H, 2T) of distances. Where to look is learned from there.
        """
        if self.config.layout:
            apart = torch.arange(2 * tokens) - tokens + torch.arange(heads)[:, None]
            return -0.5 * (apart / 1.5).square().clamp(max=16)
        pens = torch.arange(slots * heads).view(slots, heads).T + 0.5
        centre = 1 + pens * (tokens - 1) / (slots * heads) - 0.5
        spread = max(0.5, tokens / slots / heads)
        return -0.5 * ((torch.arange(tokens) - centre[..., None]) / spread).square().clamp(max=16)  # (H, S, T)

    def code(self, states: Tensor, tokens: Tensor, layout: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and logarithm of the variance of the codes (B, S, C), and what each slot looked at (B, S, T)."""
        heads = self.config.heads
        query = self.query(self.slot).unflatten(1, (heads, -1)).transpose(0, 1)  # (H, S, D / H)
        key, value = (layer(states).unflatten(2, (heads, -1)).transpose(1, 2) for layer in (self.key, self.value))
        logits = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5  # (B, H, S, T)
        logits = logits.float() + self._bias(tokens, layout)
        attention = logits.masked_fill((tokens == 0)[:, None, None], -torch.inf).softmax(3)
        heard = (attention.to(value) @ value).transpose(1, 2).flatten(2)
        x = self.slot + self.out(heard)
        mean, log_variance = self.head(x + self.feedforward(x)).float().chunk(2, 2)
        return mean, log_variance.clamp(-10, 4), attention.mean(1)

    def _bias(self, tokens: Tensor, layout: Tensor | None) -> Tensor:
        """(B or 1, H, S, T), from `near`."""
        words = tokens.shape[1]
        if layout is None:
            return self.near[:, :, :words]
        end = (tokens != 0).sum(1, keepdim=True) - 3  # slot 0 is the paper: "... background is gray . <eos>"
        anchor = torch.cat([end, layout[:, :, 0]], 1)  # (B, S)
        apart = torch.arange(words, device=tokens.device) - anchor[..., None]
        return self.near[:, apart + self.config.tokens].transpose(0, 1)

    def bottleneck(self, mean: Tensor, log_variance: Tensor, noisy: bool) -> tuple[Tensor, Tensor]:
        """Codes (B, S, C) that have passed it, and the commitment loss; noise only where it is asked for.

        Source: Kingma & Welling 2014 (vae); van den Oord et al. 2017, equation 3, with cosines as Yu et al. 2022 (vq).
        """
        none = mean.new_zeros(())
        if self.config.bottleneck == "vae":
            return mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if noisy else mean, none
        if self.book is None:
            return mean, none
        book, own = F.normalize(self.book.weight.float(), dim=1), F.normalize(mean, dim=2)
        nearest = book[(own @ book.T).argmax(2)]
        commitment = F.mse_loss(nearest, own.detach()) + 0.25 * F.mse_loss(own, nearest.detach())
        return own + (nearest - own).detach(), commitment

    def words(self, codes: Tensor) -> Tensor:
        """Of vq: (B, S) numbers of the visual vocabulary that codes show."""
        if self.book is None:
            raise ValueError(f"a bottleneck of kind {self.config.bottleneck!r} has no visual vocabulary")
        return (codes @ F.normalize(self.book.weight.float(), dim=1).T).argmax(2)


class Block(nn.Sequential):
    """Norm, activation, convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.GroupNorm(min(8, inputs // 2), inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))


class Page(nn.Module):
    """Draws slots as cells of a grid, from the top left as a page is read: convolutions, each stage twice as large."""

    def __init__(self, config: CircularSceneConfig, size: int) -> None:
        super().__init__()
        self.side = int(config.slots**0.5)
        # channels at the grid, at 8 x 8 and below; then ever fewer
        widths = {side: config.painter * 8 // max(side, 8) for side in (2, 4, 8, 16, 32, 64) if side >= self.side}
        widths = {side: max(width, config.painter // 4) for side, width in widths.items()}
        self.first = nn.Conv2d(size, widths[self.side], 3, padding=1)
        pairs = list(widths.values())
        self.stages = nn.ModuleList(
            nn.Sequential(Block(before, after), Block(after, after))
            for before, after in zip(pairs, pairs[1:], strict=False)
        )
        self.last = Block(pairs[-1], 3)

    def forward(self, code: Tensor, layout: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes (B, S, C) -> pictures (B, 3, 64, 64) and the territory of each slot (B, S, 64, 64)."""
        del layout  # a page has none
        x = self.first(code.transpose(1, 2).unflatten(2, (self.side, self.side)))
        for stage in self.stages:
            x = stage(F.interpolate(x, scale_factor=2.0))
        cells = torch.eye(self.side**2, device=code.device).view(1, -1, self.side, self.side)
        territory = F.interpolate(cells, size=RESOLUTION).expand(len(code), -1, -1, -1)
        return self.last(x).float().tanh(), territory


class Sprites(nn.Module):
    """Draws slot 0 as the paper and every other as a small picture of one thing, put where the layout says."""

    def __init__(self, config: CircularSceneConfig, size: int) -> None:
        super().__init__()
        channels = config.painter
        self.paper = nn.Linear(size, 3 * RESOLUTION**2)
        self.first = nn.Linear(size, channels * (SPRITE // 4) ** 2)
        self.up1, self.up2 = Block(channels, channels // 2), Block(channels // 2, channels // 2)
        self.last = Block(channels // 2, 4)
        self.depth = nn.Linear(size, 1)

    def forward(self, code: Tensor, layout: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes (B, S, C), layout (B, S - 1, 3) -> pictures (B, 3, 64, 64) and territories (B, S, 64, 64)."""
        if layout is None:
            raise ValueError("this painter needs to know where things are: pass the layout")
        batch, slots, _ = code.shape
        paper = self.paper(code[:, 0]).view(batch, 3, RESOLUTION, RESOLUTION).float().tanh()
        there = layout[..., 0] >= 0
        own = code[:, 1:][there]
        x = self.first(own).view(len(own), -1, SPRITE // 4, SPRITE // 4)
        x = self.up2(F.interpolate(self.up1(F.interpolate(x, scale_factor=2.0)), scale_factor=2.0))
        x = self.last(x).float()
        color, opacity = x[:, :3].tanh(), (x[:, 3:] - 1).sigmoid()
        depth = self.depth(own).float().clamp(-20, 20).view(-1, 1, 1, 1).exp()

        # every thing on a sheet of its own, with a margin that sprites may hang over
        corner = layout[there][:, 1:]  # in a frame that begins half a sprite outside the picture
        pixel = torch.arange(SPRITE, device=code.device)
        frame = RESOLUTION + SPRITE
        at = (corner[:, 1, None, None] + pixel[:, None]) * frame + corner[:, 0, None, None] + pixel
        which = there.flatten().nonzero()[:, 0]
        sheets = color.new_zeros(batch * (slots - 1), 5, frame**2)
        drawing = torch.cat([color * opacity * depth, opacity * depth, opacity], 1).flatten(2)
        sheets = sheets.index_put(
            (which[:, None, None], torch.arange(5, device=at.device)[:, None], at.flatten(1)[:, None]), drawing
        )
        inside = slice(SPRITE // 2, SPRITE // 2 + RESOLUTION)
        sheets = sheets.view(batch, slots - 1, 5, frame, frame)[..., inside, inside]

        # what is in front weighs more; where nothing is the paper shows (Porter & Duff 1984, with a soft order)
        summed = sheets[:, :, :4].sum(1)
        bare = (1 - sheets[:, :, 4]).prod(1, keepdim=True)
        picture = summed[:, :3] / (summed[:, 3:] + 1e-6) * (1 - bare) + paper * bare
        return picture, torch.cat([bare, sheets[:, :, 4]], 1)


# --- reading ----------------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Pixels to words. Convolutions that keep positions, then a query for each place of a sentence, which looks at
    the cells of the picture and at the other queries; words are never put in."""

    def __init__(self, config: CircularSceneConfig) -> None:
        super().__init__()
        channels, width, heads, places = config.reader, config.width, config.heads, config.tokens - 1
        self.first = nn.Conv2d(3, channels // 4, 4, 2, 1)
        self.second = nn.Sequential(
            nn.GroupNorm(4, channels // 4), nn.SiLU(), nn.Conv2d(channels // 4, channels // 2, 4, 2, 1)
        )
        self.third = nn.Sequential(
            nn.GroupNorm(8, channels // 2), nn.SiLU(), nn.Conv2d(channels // 2, channels, 4, 2, 1)
        )
        self.block = nn.Sequential(Block(channels, channels), Block(channels, channels))
        self.to_memory = nn.Linear(channels, width)
        self.cell = nn.Embedding(CELLS**2, width)
        self.place = nn.Embedding(places, width)
        self.place.weight.data = waves(places, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * config.reader_layers))
        self.selves = nn.ModuleList(Attention(width, heads) for _ in range(config.reader_layers))
        self.looks = nn.ModuleList(Attention(width, heads) for _ in range(config.reader_layers))
        self.feedforwards = nn.ModuleList(Feedforward(width, config.feedforward) for _ in range(config.reader_layers))
        self.memory_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head = nn.Linear(width, len(config.vocabulary.split()))
        self.summary = nn.Linear(width, width)
        self.near = nn.Parameter(torch.zeros(places, CELLS**2) if config.layout else _along(config.slots, places))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 64, 64) in [-1, 1] -> logits of the words after <bos> (B, T - 1, V), embedding (B, D)."""
        x = self.third(self.second(self.first(pictures)))
        x = x + self.block(x)
        memory = self.memory_norm(self.to_memory(x.flatten(2).transpose(1, 2)) + self.cell.weight)
        x = self.place.weight.expand(len(pictures), -1, -1)
        for i, feedforward in enumerate(self.feedforwards):
            own = self.norms[2 * i](x)
            x = x + self.looks[i](own, memory, self.near)
            own = self.norms[2 * i + 1](x)
            x = x + self.selves[i](own, own)
            x = x + feedforward(x)
        return self.head(self.norm(x)), self.summary(memory.mean(1))


def _along(slots: int, places: int) -> Tensor:
    """(T - 1, 64) where each query looks before it has learned anything: at the cells of the slot that is written at
    that place of the sentence."""
    side = int(slots**0.5)
    cell = torch.arange(CELLS)
    slot = (cell * side // CELLS)[:, None] * side + cell * side // CELLS  # (8, 8) the slot that draws each cell
    wanted = (torch.arange(places) + 0.5) * slots / places - 0.5
    return -0.5 * ((slot.flatten() - wanted[:, None]) / 0.7).square().clamp(max=16)


def likeliest(log_probabilities: Tensor, language: Language) -> list[Reading]:
    """The sentence of the language with the largest probability, for each of (B, T - 1, V) independent words.

    Exactly, by dynamic programming over the automaton. Source: Viterbi 1967.
    """
    chances = log_probabilities.numpy().astype(np.float64)
    source, word, target, starts = _edges(language)
    states = len(automaton(language)[0])
    score = np.full((len(chances), states), -np.inf)
    score[:, 0] = 0
    passed = [score]
    for place_ in range(chances.shape[1]):
        reached = score[:, source] + chances[:, place_, word]
        score = np.full_like(score, -np.inf)
        score[:, target[starts]] = np.maximum.reduceat(reached, starts, axis=1)
        # a finished sentence stays as it is: padding is neither likely nor unlikely
        score[:, -1] = np.maximum(score[:, -1], passed[-1][:, -1])
        passed.append(score)
    readings = []
    for row, own in enumerate(chances):
        tokens, state, best = [], states - 1, passed[-1][row, -1]
        for place_ in reversed(range(len(own))):
            if state == states - 1 and passed[place_][row, -1] == best:
                continue  # it had ended before
            into = np.flatnonzero(target == state)
            edge = into[(passed[place_][row, source[into]] + own[place_, word[into]]).argmax()]
            tokens.append(int(word[edge]))
            state = source[edge]
        tokens.reverse()
        known = vocabulary(language)
        sure = tuple((known[t], float(np.exp(own[i, t]))) for i, t in enumerate(tokens[:-1]))
        readings.append(Reading(decode([1, *tokens], language), sure, float(best)))
    return readings


@lru_cache(maxsize=3)
def _edges(language: Language) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every move of the automaton but padding: state, word, next state, sorted by the last; and where each begins."""
    allowed, follow = automaton(language)
    source, word = allowed[:-1].nonzero()
    target = follow[source, word]
    order = np.argsort(target, kind="stable")
    source, word, target = source[order], word[order], target[order]
    return source, word, target, np.flatnonzero(np.diff(target, prepend=-1))
