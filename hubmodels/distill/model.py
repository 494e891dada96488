"""Caption to picture in one pass: a transformer reads the caption, a FiLM-conditioned CNN draws it.

    tokens (B, T) --TextEncoder--> words (B, T, D), sentence (B, E)
    words at placements        --> things (N, D) at places (N, 2)
    constant (C, 8, 8) --Stage--> 16 --Stage--> 32 --Stage--> 64 --head--> picture (B, 3, R, R)

Every block is told the sentence by FiLM; from 16 x 16 on, every pixel is told by Binding which thing covers it.

B batch, T tokens, S real words and N things in the whole batch, D width of the encoder, E of the sentence,
W pixels of a window, H hidden width of a binding, C channels, R pixels a side. Pictures are sRGB in [-1, 1].
Places are whole units of a 64 x 64 canvas, x right, y down; a place (x, y) means the point (x + 0.5, y + 0.5).

A caption reaches the network with a place for everything it names: "the red ball at 12 40 is left of the blue
cube at 50 31". The second number of a pair is the thing's placement token. Its coordinates are known exactly,
so the encoder is not shown their values; they go to the bindings, and drawing is the same wherever a thing is.
"""

import math
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from hubmodels.hub import HubModel
from hubmodels.images import to_pil
from hubmodels.scenes import caption, encode, parse, place
from hubmodels.scenes.grammar import MAX_TOKENS, VOCABULARY
from hubmodels.scenes.world import CANVAS


@dataclass(frozen=True)
class DistilledRendererConfig:
    """Shape of the network. Flat and JSON-native, because it becomes config.json. The defaults are the released one."""

    vocabulary: str = " ".join(VOCABULARY)
    """Every word, separated by spaces; word i is token i, word 0 is padding. Numbers are coordinates."""
    max_tokens: int = MAX_TOKENS
    resolution: int = 64
    """Pixels a side: 64 or 128."""
    width: int = 256
    """Width of the text encoder."""
    layers: int = 4
    heads: int = 4
    window: int = 16
    """Words on either side that a word attends to, besides [CLS]; 0 is all. It keeps long captions like short ones."""
    feedforward: int = 512
    sentence: int = 512
    """Width of the sentence vector that FiLM reads."""
    channels_8: int = 64
    """Channels of the picture at 8 x 8, and so on up; 128 x 128 has those of 64 x 64."""
    channels_16: int = 40
    channels_32: int = 24
    channels_64: int = 12
    blocks: int = 1
    """Residual blocks at each resolution."""
    hidden: int = 16
    """Width of the small network that each thing writes for itself in a binding."""
    reach: int = 12
    """Units around its place within which a thing can cover a pixel."""

    def __post_init__(self) -> None:
        words = self.vocabulary.split()
        if len(words) < 2 or len(set(words)) != len(words):
            raise ValueError("vocabulary must be distinct words separated by spaces")
        if self.resolution not in (64, 128):
            raise ValueError(f"resolution must be 64 or 128, got {self.resolution}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads")
        channels = (self.channels_8, self.channels_16, self.channels_32, self.channels_64)
        if any(c < 4 or c % 4 for c in channels):
            raise ValueError(f"channels must be multiples of 4, got {channels}")
        if self.window < 0:
            raise ValueError(f"window must not be negative, got {self.window}")
        if min(self.layers, self.blocks, self.hidden, self.reach, self.max_tokens, self.sentence) < 1:
            raise ValueError("layers, blocks, hidden, reach, max_tokens and sentence must be at least 1")


SEED = DistilledRendererConfig(channels_8=256, channels_16=128, channels_32=64, channels_64=64, blocks=2)
"""The widths of the original design, without its 8 M-parameter stem."""


class DistilledRenderer(
    HubModel,
    pipeline_tag="text-to-image",
    tags=["distillation", "procedural", "film"],
    paper_url="https://arxiv.org/abs/1709.07871",
):
    """Draws what a caption says: 64 x 64 pictures of coloured shapes, as the scene renderer would."""

    number: Tensor
    """(V,) the coordinate that a word is, or -1."""

    def __init__(self, config: DistilledRendererConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TextEncoder(config)
        self.decoder = Decoder(config)
        numbers = [int(word) if word.isdigit() else -1 for word in config.vocabulary.split()]
        self.register_buffer("number", torch.tensor(numbers), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Draw captions in which everything has a place.

        Args:
            tokens: (B, T) ids of `vocabulary`, padded with 0; `scenes.encode` of a placed caption.

        Returns:
            (B, 3, R, R) in [-1, 1], not clamped.

        Raises:
            ValueError: a caption is longer than `max_tokens`.
        """
        if tokens.shape[1] > self.config.max_tokens:
            raise ValueError(f"at most {self.config.max_tokens} tokens are read, got {tokens.shape[1]}")
        number = self.number[tokens]
        words, sentence = self.encoder(torch.where(number >= 0, self.number.argmax(), tokens))
        which, at = ((number[:, :-1] >= 0) & (number[:, 1:] >= 0)).nonzero(as_tuple=True)
        places = torch.stack([number[which, at], number[which, at + 1]], 1)
        return self.decoder(sentence, Things(which, words[which, at + 1], places))

    @torch.inference_mode()
    def draw(self, tokens: Tensor) -> Tensor:
        """`forward`, finished: (B, 3, R, R) in [-1, 1], clamped."""
        return self(tokens.to(self.number.device)).clamp(-1, 1)

    @torch.inference_mode()
    def generate(self, captions: str | list[str], seed: int | None = None, n: int = 1) -> list[Image.Image]:
        """Draw captions; those that do not say where things are get a layout.

        Args:
            captions: sentences of the scene language, with or without placement clauses.
            seed: of the first layout; picture i of a caption has layout seed + i. None draws one at random.
            n: pictures of each caption.

        Returns:
            n pictures of the first caption, then n of the second, and so on.

        Raises:
            GrammarError: a caption is outside the language.
            LayoutError: its placement clauses contradict it.
        """
        captions = [captions] if isinstance(captions, str) else captions
        seed = random.SystemRandom().randrange(2**31) if seed is None else seed
        placed = [place(parse(said), seed + i) for said in captions for i in range(n)]
        return [to_pil(picture) for picture in self.draw(tokenize([caption(scene) for scene in placed]))]


def tokenize(captions: list[str]) -> Tensor:
    """Captions as (B, T) token ids, padded with 0."""
    rows = [torch.tensor(encode(said)) for said in captions]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


# --- reading the caption ----------------------------------------------------------------------------------------


class TextEncoder(nn.Module):
    """A pre-norm transformer. The state of a leading [CLS] becomes the sentence vector."""

    near: Tensor
    """(1 + max_tokens, 1 + max_tokens) bool: which word may attend to which."""

    def __init__(self, config: DistilledRendererConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(config.vocabulary.split()), config.width)
        self.position = nn.Embedding(config.max_tokens, config.width)
        self.cls = nn.Parameter(torch.randn(config.width) * 0.7)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        order = torch.arange(config.max_tokens + 1)
        near = (order[:, None] - order).abs() <= (config.window or config.max_tokens)
        near[0] = near[:, 0] = True
        self.register_buffer("near", near, persistent=False)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.sentence)
        nn.init.normal_(self.embedding.weight, std=0.7)
        # learned, but from waves: words near each other start out alike in position
        at = torch.arange(config.max_tokens)[:, None]
        rate = 10_000 ** (-1.5 * torch.arange(config.width // 2) / config.width)
        self.position.weight.data = torch.cat([(at * rate).sin(), (at * rate).cos()], 1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> states of the words (B, T, D) and of the sentence (B, E)."""
        at = torch.arange(tokens.shape[1], device=tokens.device)
        if self.training:  # half of the captions begin later, so that longer ones than were seen find trained positions
            spare = len(self.position.weight) - tokens.shape[1]
            later = (torch.rand(len(tokens), 1, device=tokens.device) * 2 - 1) * (spare + 1)
            at = at + later.clamp(min=0).long()
        x = self.embedding(tokens) + self.position(at)
        x = torch.cat([self.cls.expand(len(x), 1, -1), x], 1)
        real = F.pad(tokens != 0, (1, 0), value=True)
        x = x[real]  # (S, D), the real words of the batch end to end: padding costs nothing but attention
        near = self.near[: real.shape[1], : real.shape[1]] & real[:, None, None]
        for layer in self.layers:
            x = layer(x, real, near)
        x = unpacked(self.norm(x), real)
        return x[:, 1:], F.silu(self.head(x[:, 0]))


def unpacked(x: Tensor, real: Tensor) -> Tensor:
    """(S, D) -> (B, T, D): rows back to where `real` (B, T) is true, zeros elsewhere."""
    (at,) = real.flatten().nonzero(as_tuple=True)
    return x.new_zeros(real.numel(), x.shape[1]).index_copy(0, at, x).view(*real.shape, -1)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each behind a norm. Queries and keys start out equal, so attention starts
    out between like and near words (mimetic initialisation, Trockman & Kolter 2023, arXiv 2305.09828)."""

    def __init__(self, config: DistilledRendererConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, config.feedforward), nn.Linear(config.feedforward, width)
        alike = torch.randn(width, width) * 0.75 * width**-0.5
        self.qkv.weight.data[: 2 * width] = alike.repeat(2, 1)

    def forward(self, x: Tensor, real: Tensor, near: Tensor) -> Tensor:
        """x (S, D): the words at which real (B, T) is true; near (B, 1, T, T): which word attends to which."""
        qkv = unpacked(self.qkv(self.norm1(x)), real)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=near)
        x = x + self.out(attended.transpose(1, 2).flatten(2)[real])
        return x + self.down(F.gelu(self.up(self.norm2(x))))


# --- drawing the picture ----------------------------------------------------------------------------------------


@dataclass
class Things:
    """What placement tokens say, over the whole batch."""

    which: Tensor
    """(N,) the picture that each belongs to."""
    state: Tensor
    """(N, D) what the encoder made of its placement token."""
    place: Tensor
    """(N, 2) x, y in units."""


class Decoder(nn.Module):
    """From a learned 8 x 8 constant up to the picture, doubling at each stage. The head is linear: an output that
    saturates loses its gradient on the white that most of a picture is."""

    def __init__(self, config: DistilledRendererConfig) -> None:
        super().__init__()
        channels = [config.channels_8, config.channels_16, config.channels_32, config.channels_64]
        channels += [config.channels_64] * (config.resolution == 128)
        self.constant = nn.Parameter(torch.randn(config.channels_8, 8, 8) * 0.5)
        self.stages = nn.ModuleList(
            Stage(before, after, 8 * 2**i, config)
            for i, (before, after) in enumerate(zip([channels[0], *channels], channels, strict=False))
        )
        self.head = nn.Conv2d(channels[-1], 3, 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.01)
        self.head.bias = nn.Parameter(torch.full((3,), 0.7))  # near the white that most pictures are
        self.to(memory_format=torch.channels_last)  # a fifth faster on CPUs: bindings return it so

    def forward(self, sentence: Tensor, things: Things) -> Tensor:
        x = self.constant.expand(len(sentence), -1, -1, -1)
        for stage in self.stages:
            x = stage(x, sentence, things)
        return self.head(x)


class Stage(nn.Module):
    """Upsample (nearest, then a convolution: no checkerboard), say where each pixel is and what covers it, refine."""

    def __init__(self, before: int, channels: int, size: int, config: DistilledRendererConfig) -> None:
        super().__init__()
        self.size = size
        self.enter = nn.Conv2d(before, channels, 3, padding=1)
        self.coordinates = nn.Conv2d(20, channels, 1)
        self.register_buffer("waves", coordinate_waves(size), persistent=False)
        self.binding = Binding(channels, size, config) if size >= 16 else None
        self.blocks = nn.ModuleList(Block(channels, config.sentence) for _ in range(config.blocks))
        self.attention = SelfAttention(channels) if size == 8 else None

    def forward(self, x: Tensor, sentence: Tensor, things: Things) -> Tensor:
        x = self.enter(F.interpolate(x, self.size, mode="nearest")) + self.coordinates(self.waves)
        if self.binding is not None:
            x = x + self.binding(things, len(x))
        for block in self.blocks:
            x = block(x, sentence)
        return x if self.attention is None else self.attention(x)


def coordinate_waves(size: int) -> Tensor:
    """(1, 20, size, size): sines and cosines of x and of y, wavelengths 128, 32, 16, 8 and 4 units."""
    at = (torch.arange(size) + 0.5) * (CANVAS / size)
    phase = 2 * math.pi * at / torch.tensor([128.0, 32.0, 16.0, 8.0, 4.0])[:, None]
    axis = torch.cat([phase.sin(), phase.cos()])
    return torch.cat([axis[:, None].expand(-1, size, -1), axis[..., None].expand(-1, -1, size)])[None]


class Block(nn.Module):
    """A residual block, modulated by the sentence: FiLM (Perez et al. 2018) as 1 + gamma, from gamma = beta = 0."""

    def __init__(self, channels: int, sentence: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(channels // 4, channels) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.film = nn.Linear(sentence, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        gamma, beta = self.film(sentence)[..., None, None].chunk(2, 1)
        h = self.conv1(F.relu(self.norm1(x)))
        h = self.norm2(h) * (1 + gamma) + beta
        return x + self.conv2(F.relu(h))


class SelfAttention(nn.Module):
    """Every pixel to every pixel, once, where they are few: global coherence."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).view(B, 3, self.heads, -1, H * W).transpose(-1, -2).unbind(1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(B, C, H, W))


class Binding(nn.Module):
    """Cross-attention from pixels to the things near them: attributes stay with the thing that has them.

    What a thing looks like at a pixel, and how sure it covers it, is a small network of the offset (pixel - place),
    whose first layer and gates the thing's own words write (hypernetworks, Ha et al. 2017). First-layer units are
    sums of a function of the x-offset and one of the y-offset, so half-planes and circles are one unit each.
    Where several things reach a pixel, their values are averaged with weights cover * exp(depth), and the average
    counts by 1 - prod(1 - cover): a painter's algorithm that lets gradients through. Depth is the thing's place in
    y, for what stands lower is nearer, times a learned slope, corrected by its words.
    Only pixels within `reach` units of a place are computed.
    """

    def __init__(self, channels: int, size: int, config: DistilledRendererConfig) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.window = 2 * math.ceil(config.reach * size / CANVAS) + 1
        self.norm = nn.LayerNorm(config.width)
        self.write = nn.Linear(config.width, 7 * config.hidden)
        self.gates = nn.Linear(config.width, 4 * config.hidden)
        self.mix1, self.mix2 = (nn.Linear(config.hidden, config.hidden) for _ in range(2))
        self.read = nn.Linear(config.hidden, channels + 1)
        self.depth = nn.Linear(config.width, 1)
        self.slope = nn.Parameter(torch.tensor(1.0))

    def forward(self, things: Things, batch: int) -> Tensor:
        """What covers each pixel, (B, C, size, size); zero where nothing does."""
        scale, state = self.size / CANVAS, self.norm(things.state)
        centre = (things.place + 0.5) * scale
        corner = (centre - self.window / 2).round().long()
        pixel = corner[:, None] + torch.arange(self.window, device=corner.device)[:, None]  # (N, W, 2) columns, rows
        offset = (pixel + 0.5 - centre[:, None]) / (8 * scale)  # about one at the edge of a thing
        terms = torch.stack([offset, offset.abs(), offset.square()], -1)
        layer = self.write(state).unflatten(1, (7, -1))  # (N, 7, H)
        along_x, along_y = terms[:, :, 0] @ layer[:, :3], terms[:, :, 1] @ layer[:, 3:6]
        h = F.relu(along_y[:, :, None] + along_x[:, None] + layer[:, 6, None, None])  # (N, W, W, H) rows, columns
        gamma1, beta1, gamma2, beta2 = self.gates(state)[:, None, None].chunk(4, -1)
        h = F.relu(self.mix1(h) * (1 + gamma1) + beta1)
        h = F.relu(self.mix2(h) * (1 + gamma2) + beta2)
        value, score = self.read(h).split([self.channels, 1], -1)
        score = score.float().clamp(-15, 15)
        depth = self.depth(state) + self.slope * (things.place[:, 1:] - CANVAS / 2)
        weight = (F.logsigmoid(score) + depth.float().clamp(-40, 40)[:, None, None]).exp()

        inside = (pixel >= 0) & (pixel < self.size)
        inside = inside[:, :, None, 1] & inside[:, None, :, 0]
        at = (things.which[:, None, None] * self.size + pixel[:, :, None, 1]) * self.size + pixel[:, None, :, 0]
        votes = torch.cat([value * weight, weight, F.logsigmoid(-score)], -1)
        summed = votes.new_zeros(batch * self.size**2, self.channels + 2).index_add(0, at[inside], votes[inside])
        mixed = summed[:, :-2] / (summed[:, -2:-1] + 1e-30)
        covered = mixed * -torch.expm1(summed[:, -1:])  # one minus the chance that nothing covers it
        return covered.view(batch, self.size, self.size, -1).permute(0, 3, 1, 2)
