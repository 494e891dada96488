"""`PixelVQGAN` on MLX: the same names, so that one safetensors file serves both; the same numbers to 1e-4.

Pictures lie as MLX has them, channels last: colours (B, H, W, 3), codes (B, h, w, D), logits (B, H, W, K). On disk
convolutions are stored as torch stores them, and turned when they are read and written (`weights_mlx`).

See `vqgan` for what everything is and where it comes from.
"""

import hubmodels.pixelscene.openblas  # noqa: F401

# isort: split

import math

import mlx.core as mx
import mlx.nn as nn

from hubmodels.pixelscene.shape import GREY, SAME, PixelVQGANConfig, whole_numbers


class PixelVQGAN(nn.Module):
    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = FSQ(config) if config.quantizer == "fsq" else VQ(config)
        self.encoder = Encoder(config, self.quantizer.width)
        self.decoder = Decoder(config, self.quantizer.width)
        self.pointer = Pointer(config)

    def __call__(self, colours: mx.array, palette: mx.array) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """Logits (B, H, W, K), colours (B, H, W, 3), tokens (B, h, w) and commitment; see `vqgan.Reconstruction`."""
        codes, tokens, commitment = self.quantizer(self.encoder(colours))
        logits, made = self.pointer(self.decoder(codes), palette)
        return logits, made, tokens, commitment

    def encode(self, indices: mx.array, palette: mx.array) -> mx.array:
        """Tokens (B, h, w) of index pictures (B, H, W) in palettes (B, K, 3) in OKLab."""
        return self.quantizer(self.encoder(coloured(indices, palette)))[1]

    def decode(self, tokens: mx.array, palette: mx.array) -> mx.array:
        """Index pictures (B, H, W) uint8."""
        logits, colours = self.pointer(self.decoder(self.quantizer.codes_of(tokens)), palette)
        return chosen(logits, colours, palette, self.config.head == "nearest").astype(mx.uint8)


def coloured(indices: mx.array, palette: mx.array) -> mx.array:
    """(B, H, W, 3) colours of index pictures (B, H, W) in palettes (B, K, 3)."""
    flat = indices.reshape(len(indices), -1, 1).astype(mx.int32)
    return mx.take_along_axis(palette, mx.broadcast_to(flat, (*flat.shape[:2], 3)), 1).reshape(*indices.shape, 3)


def chosen(logits: mx.array, colours: mx.array, palette: mx.array, likeliest: bool) -> mx.array:
    """(B, H, W): what `PixelVQGAN.decode` takes, or the likeliest."""
    firsts = (mx.abs(palette[:, :, None] - palette[:, None]) < SAME).all(-1).argmax(2)
    again = firsts != mx.arange(palette.shape[1])
    logits = mx.where(again[:, None, None], -mx.inf, logits)
    if likeliest:
        return logits.argmax(-1)
    flat = mx.softmax(logits, -1).flatten(1, 2)
    wanted = (flat @ palette + colours.flatten(1, 2)) / 2
    distance = palette.square().sum(2)[:, None] - 2 * wanted @ palette.transpose(0, 2, 1)
    return mx.take_along_axis(firsts, distance.argmin(-1), 1).reshape(logits.shape[:3])


def straight_through(rounded: mx.array, value: mx.array) -> mx.array:
    return value + mx.stop_gradient(rounded - value)


class FSQ(nn.Module):
    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self._levels = whole_numbers(config.levels)
        self.width = len(self._levels)

    def __call__(self, z: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        levels = mx.array(self._levels)
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = mx.where(levels % 2 == 0, 0.5, 0.0)
        bounded = mx.tanh(z + mx.arctanh(offset / half)) * half - offset
        steps = straight_through(mx.round(bounded), bounded)
        reach = mx.floor(levels / 2)
        digits = (mx.stop_gradient(steps) + reach).astype(mx.int32)
        return steps / reach, (digits * self._basis()).sum(-1), mx.zeros(())

    def codes_of(self, tokens: mx.array) -> mx.array:
        levels = mx.array(self._levels)
        digits = tokens[..., None] // self._basis() % levels
        reach = mx.floor(levels / 2)
        return (digits - reach) / reach

    def _basis(self) -> mx.array:
        return mx.array([math.prod(self._levels[:place]) for place in range(self.width)])


class VQ(nn.Module):
    """Codes are read here; they are placed and moved by torch's `VQ`, in training too."""

    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self.width = config.code_width
        self.codebook = mx.zeros((config.codes, config.code_width))
        self.counts = mx.zeros((config.codes,))
        self.sums = mx.zeros((config.codes, config.code_width))
        self.placed = mx.array(0)
        self.freeze(recurse=False)

    def __call__(self, z: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        z = normalized(z)
        tokens = (mx.stop_gradient(z) @ normalized(self.codebook).T).argmax(-1)
        codes = self.codes_of(tokens)
        return straight_through(codes, z), tokens, ((z - codes) ** 2).mean()

    def codes_of(self, tokens: mx.array) -> mx.array:
        return normalized(self.codebook)[tokens]


def normalized(vectors: mx.array) -> mx.array:
    """(..., D) of length 1."""
    return vectors / mx.maximum(mx.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


class Block(nn.Module):
    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(channels, eps=1e-6), nn.RMSNorm(channels, eps=1e-6)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        h = self.conv1(nn.silu(self.norm1(x)))
        return x + self.conv2(nn.silu(self.norm2(h)))


class Encoder(nn.Module):
    def __init__(self, config: PixelVQGANConfig, width: int) -> None:
        super().__init__()
        widths = config.widths
        self.enter = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = [nn.Conv2d(before, after, 2, 2) for before, after in zip(widths, widths[1:], strict=False)]
        self.blocks = [Block(channels) for channels in widths[1:] for _ in range(config.blocks)]
        self.norm = nn.RMSNorm(widths[-1], eps=1e-6)
        self.leave = nn.Conv2d(widths[-1], width, 1)

    def __call__(self, colours: mx.array) -> mx.array:
        x = self.enter(colours)
        each = len(self.blocks) // len(self.down)
        for number, down in enumerate(self.down):
            x = down(nn.silu(x))
            for block in self.blocks[number * each : (number + 1) * each]:
                x = block(x)
        return self.leave(nn.silu(self.norm(x)))


class Decoder(nn.Module):
    def __init__(self, config: PixelVQGANConfig, width: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.enter = nn.Conv2d(width, widths[0], 3, padding=1)
        self.blocks = [Block(channels) for channels in widths[:-1] for _ in range(config.blocks)]
        self.up = [
            nn.Conv2d(before, 4 * after, 3, padding=1) for before, after in zip(widths, widths[1:], strict=False)
        ]
        self.finish = Block(widths[-1])
        self.norm = nn.RMSNorm(widths[-1], eps=1e-6)
        self.leave = nn.Conv2d(widths[-1], 4 + config.features, 3, padding=1)

    def __call__(self, codes: mx.array) -> mx.array:
        x = self.enter(codes)
        each = len(self.blocks) // len(self.up)
        for number, up in enumerate(self.up):
            for block in self.blocks[number * each : (number + 1) * each]:
                x = block(x)
            x = shuffled(up(x))
        return self.leave(nn.silu(self.norm(self.finish(x))))


def shuffled(x: mx.array) -> mx.array:
    """(B, H, W, 4 C) -> (B, 2 H, 2 W, C), as torch's `pixel_shuffle` has its channels."""
    batch, height, width, channels = x.shape
    apart = x.reshape(batch, height, width, channels // 4, 2, 2)
    return apart.transpose(0, 1, 4, 2, 5, 3).reshape(batch, 2 * height, 2 * width, channels // 4)


class Pointer(nn.Module):
    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self.power = mx.array(0.4)
        if config.head == "pointer":
            self.key1 = nn.Linear(3, 4 * config.features)
            self.key2 = nn.Linear(4 * config.features, config.features)
            self.key2.weight, self.key2.bias = mx.zeros_like(self.key2.weight), mx.zeros_like(self.key2.bias)

    def __call__(self, pixels: mx.array, palette: mx.array) -> tuple[mx.array, mx.array]:
        middle = mx.array([GREY, 0, 0])
        near, far = pixels[..., :3] - middle, palette - middle
        squares = (near**2).sum(-1, keepdims=True) + (far**2).sum(2)[:, None, None]
        distance = mx.maximum(squares - 2 * mx.einsum("bkc,bhwc->bhwk", far, near), 0)
        logits = -mx.exp(self.power) * mx.log1p(mx.exp(pixels[..., 3:4]) * distance)
        if "key1" in self:
            keys = self.key2(nn.gelu(self.key1(palette)))
            logits = logits + mx.einsum("bkf,bhwf->bhwk", keys, pixels[..., 4:])
        return logits, pixels[..., :3]
