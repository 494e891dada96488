"""An index picture to a few hundred tokens and back, always in exactly the palette that it is given.

    colours (B, 3, H, W) --Encoder--> (B, D, h, w) --quantizer--> codes, tokens (B, h, w)
    codes --Decoder--> for each pixel a colour, how sure it is, and features
    both, and the palette (B, K, 3) --Pointer--> logits (B, K, H, W): which colour of the palette

B batch, K colours of a palette, D numbers of a code; h, w are H, W by the stride. Colours are OKLab (see `palettes`),
whose distances are about what the eye sees. Tokens are whole numbers below `codebook_size`.

Sources: VQGAN, Esser et al. 2021 (arXiv 2012.09841); no attention, as in MaskBit, Weber et al. 2024 (arXiv 2409.16211).
The pointer asks how near each colour is and how well it goes with what stands around, so its beginning is a snap to the
nearest colour and what it learns is where to dither. How near is near differs: flat paint is known to a hundredth, the
edge of a leaf is not.
"""

import math
from dataclasses import dataclass
from hashlib import blake2b

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hubmodels.hub import HubModel
from hubmodels.pixelscene.shape import GREY, SAME, PixelVQGANConfig, whole_numbers


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What training compares with the truth."""

    logits: Tensor
    """(B, K, H, W)."""
    colours: Tensor
    """(B, 3, H, W) OKLab, before the palette is asked."""
    tokens: Tensor
    """(B, h, w)."""
    commitment: Tensor
    """Mean squared distance of what was encoded from its code; 0 for fsq, which has none to keep."""


class PixelVQGAN(
    HubModel,
    pipeline_tag="image-to-image",
    tags=["pixel-art", "vqgan", "vector-quantization", "fsq"],
    paper_url="https://arxiv.org/abs/2012.09841",
):
    """Pixel-art backgrounds of the VGA era as a few hundred tokens, and back in exactly their palette."""

    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = FSQ(config) if config.quantizer == "fsq" else VQ(config)
        self.encoder = Encoder(config, self.quantizer.width)
        self.decoder = Decoder(config, self.quantizer.width)
        self.pointer = Pointer(config)

    def forward(self, colours: Tensor, palette: Tensor) -> Reconstruction:
        """
        Args:
            colours: (B, 3, H, W) OKLab; the stride divides H and W.
            palette: (B, K, 3) OKLab.
        """
        self._check(colours.shape[-2:])
        codes, tokens, commitment = self.quantizer(self.encoder(colours))
        logits, made = self.pointer(self.decoder(codes), palette)
        return Reconstruction(logits, made, tokens, commitment)

    def keep_tokens(self) -> None:
        """From now on training changes neither the encoder nor the codes: what tokens mean to a transformer stays."""
        self.encoder.requires_grad_(False)
        if isinstance(self.quantizer, VQ):
            self.quantizer.follows = False

    def meaning(self) -> str:
        """What tokens mean, in 16 letters: a digest of the encoder and the codes, as half precision stores them."""
        shape = self.config.stride, self.config.quantizer, self.config.levels
        digest = blake2b(repr(shape).encode(), digest_size=8)
        for part in (self.encoder, self.quantizer):
            for weight in part.state_dict().values():
                digest.update(weight.half().cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def encode(self, indices: Tensor, palette: Tensor) -> Tensor:
        """Tokens (B, h, w) of index pictures (B, H, W), whole numbers into palettes (B, K, 3) in OKLab.

        Raises:
            ValueError: the stride does not divide the picture, or an index is beyond the palette.
        """
        self._check(indices.shape[-2:])
        if indices.numel() and int(indices.max()) >= palette.shape[1]:
            raise ValueError(f"index {int(indices.max())} is beyond a palette of {palette.shape[1]} colours")
        return self.quantizer(self.encoder(coloured(indices, palette)))[1]

    @torch.inference_mode()
    def decode(self, tokens: Tensor, palette: Tensor) -> Tensor:
        """Index pictures (B, H, W) uint8 of tokens (B, h, w), in palettes (B, K, 3) in OKLab; of colours that a palette
        holds twice they have the first.

        Raises:
            ValueError: a token is out of range.
        """
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.config.codebook_size:
            raise ValueError(f"tokens must be from 0 to {self.config.codebook_size - 1}")
        logits, colours = self.pointer(self.decoder(self.quantizer.codes_of(tokens)), palette)
        if self.config.head == "pointer":
            colours = wanted(log_shares(logits, palette), colours, palette)
        return snapped(colours, palette).to(torch.uint8)

    def _check(self, size: torch.Size) -> None:
        if any(side % self.config.stride or not side for side in size):
            raise ValueError(
                f"pictures need sides that {self.config.stride} divides, got {size[1]} x {size[0]}: crop or pad them"
            )


def coloured(indices: Tensor, palette: Tensor) -> Tensor:
    """(B, 3, H, W) colours of index pictures (B, H, W) in palettes (B, K, 3)."""
    flat = indices.long().flatten(1)[..., None].expand(-1, -1, 3)
    return palette.gather(1, flat).unflatten(1, indices.shape[-2:]).permute(0, 3, 1, 2)


def firsts(palette: Tensor) -> Tensor:
    """(B, K): for each colour of palettes (B, K, 3), which is the first that is the same."""
    return ((palette[:, :, None] - palette[:, None]).abs() < SAME).all(-1).int().argmax(2)


def log_shares(logits: Tensor, palette: Tensor) -> Tensor:
    """(B, K, H, W): logarithm of how likely each colour of a palette is. Where it holds one twice the first counts, and
    the other is impossible.

    Args:
        logits: (B, K, H, W).
        palette: (B, K, 3).
    """
    first = firsts(palette)
    again = first != torch.arange(first.shape[1], device=first.device)
    return logits.masked_fill(again[..., None, None], -torch.inf).log_softmax(1)


def expected_colour(shares: Tensor, palette: Tensor) -> Tensor:
    """(B, 3, H, W): the mean of the palette's colours by how likely they are, of `log_shares`."""
    return torch.einsum("bkc,bkhw->bchw", palette, shares.exp())


def wanted(shares: Tensor, colours: Tensor, palette: Tensor) -> Tensor:
    """(B, 3, H, W): halfway between the palette's mean colour by how likely each is, and the colour that was said
    before the palette was asked. The nearest to it is taken.

    The likeliest is a worse choice: where a palette has many browns, each is unlikely, and a lone orange wins. The mean
    knows what the palette has; what was said does not mind how many colours that are.

    Args:
        shares: (B, K, H, W) of `log_shares`.
        colours: (B, 3, H, W).
        palette: (B, K, 3).
    """
    return (expected_colour(shares, palette) + colours) / 2


def snapped(colours: Tensor, palette: Tensor) -> Tensor:
    """(B, H, W): which of palettes (B, K, 3) is nearest to colours (B, 3, H, W); of equal ones the first."""
    # squared, less what is the same for all
    distance = palette.square().sum(2, keepdim=True) - 2 * palette @ colours.flatten(2)
    return firsts(palette).gather(1, distance.argmin(1)).unflatten(1, colours.shape[2:])


# --- codes --------------------------------------------------------------------------------------------------------


def straight_through(rounded: Tensor, value: Tensor) -> Tensor:
    """`rounded` on the way forward; the gradient passes as if nothing had been rounded."""
    return value + (rounded - value).detach()


class FSQ(nn.Module):
    """Each number of a code is rounded to one of a few levels; all combinations are the codebook, none can die.

    Source: Mentzer et al. 2023 (arXiv 2309.15505), section 3 and appendix A.1.
    """

    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self.levels = whole_numbers(config.levels)
        self.width = len(self.levels)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, D, h, w) -> codes in [-1, 1], tokens (B, h, w), 0."""
        levels = self._of_levels(z)
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        bounded = (z + (offset / half).atanh()).tanh() * half - offset
        steps = straight_through(bounded.round(), bounded)
        reach = (levels / 2).floor()
        digits = (steps.detach() + reach).long()
        return steps / reach, (digits * self._of_basis(digits)).sum(1), z.new_zeros(())

    def codes_of(self, tokens: Tensor) -> Tensor:
        """(B, h, w) -> (B, D, h, w)."""
        levels = self._of_levels(tokens)
        digits = torch.div(tokens[:, None], self._of_basis(tokens), rounding_mode="floor") % levels
        reach = (levels / 2).floor()
        return (digits - reach) / reach

    def _of_levels(self, like: Tensor) -> Tensor:
        return torch.tensor(self.levels, device=like.device).view(1, -1, 1, 1)

    def _of_basis(self, like: Tensor) -> Tensor:
        """By how much a step of each number moves the token: 1, L0, L0 L1, ..."""
        steps = [math.prod(self.levels[:place]) for place in range(self.width)]
        return torch.tensor(steps, device=like.device).view(1, -1, 1, 1)


class VQ(nn.Module):
    """The nearest of some learned codes on the unit sphere, which follow what is encoded as a moving average.

    The first batch of training places them (k-means); codes that nothing has come near to for a while move to where
    something is. Both need `training`: evaluation changes nothing.

    Source: van den Oord et al. 2017 (arXiv 1711.00937), appendix A.1; codes of unit length and few numbers, Yu et al.
    2021 (arXiv 2110.04627), section 3.2.
    """

    DECAY, DEAD, ROUNDS = 0.99, 0.03, 10
    placed: Tensor
    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self.width = config.code_width
        self.follows = True
        self.register_buffer("codebook", F.normalize(torch.randn(config.codes, config.code_width), dim=1))
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("sums", torch.zeros(config.codes, config.code_width))
        self.register_buffer("placed", torch.tensor(0))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, D, h, w) -> codes of unit length, tokens (B, h, w), how far z is off."""
        if self.training and self.follows:
            self.follow(z)
        z = F.normalize(z, dim=1)
        flat = z.permute(0, 2, 3, 1).flatten(0, 2)
        tokens = self._nearest(flat.detach()).view(z.shape[0], *z.shape[2:])
        codes = self.codes_of(tokens).to(z.dtype)
        return straight_through(codes, z), tokens, F.mse_loss(z, codes)

    def codes_of(self, tokens: Tensor) -> Tensor:
        """(B, h, w) -> (B, D, h, w)."""
        return self._codes()[tokens].permute(0, 3, 1, 2)

    def _codes(self) -> Tensor:
        """(V, D) of unit length, which a run's average of codebooks is not."""
        return F.normalize(self.codebook, dim=1)

    def _nearest(self, flat: Tensor) -> Tensor:
        with torch.autocast(flat.device.type, enabled=False):
            return (flat.float() @ self._codes().T).argmax(1)  # of unit length: the nearest is the most alike

    @torch.no_grad()
    def follow(self, z: Tensor) -> None:
        """Moves the codes towards what is encoded (B, D, h, w)."""
        with torch.autocast(z.device.type, enabled=False):
            self._follow(F.normalize(z.float(), dim=1).permute(0, 2, 3, 1).flatten(0, 2))

    def _follow(self, flat: Tensor) -> None:
        if not self.placed:
            self._place(flat)
        hits = F.one_hot(self._nearest(flat), len(self.codebook)).float()
        self.counts.lerp_(hits.sum(0), 1 - self.DECAY)
        self.sums.lerp_(hits.T @ flat, 1 - self.DECAY)
        dead = self.counts < self.DEAD
        self.sums[dead] = self._some(flat, int(dead.sum())) * self.counts.mean()
        self.counts[dead] = self.counts.mean()
        self.codebook.copy_(F.normalize(self.sums, dim=1))

    def _place(self, flat: Tensor) -> None:
        self.codebook.copy_(self._some(flat, len(self.codebook)))
        for _ in range(self.ROUNDS):
            hits = F.one_hot(self._nearest(flat), len(self.codebook)).float()
            means = hits.T @ flat
            self.codebook.copy_(torch.where(hits.sum(0)[:, None] > 0, F.normalize(means, dim=1), self.codebook))
        self.counts.fill_(len(flat) / len(self.codebook))
        self.sums.copy_(self.codebook * self.counts[:, None])
        self.placed.fill_(1)

    def _some(self, flat: Tensor, count: int) -> Tensor:
        """`count` of what was encoded, each as rarely twice as can be; a little apart where it must be."""
        order = torch.randperm(len(flat), device=flat.device).repeat(-(-count // len(flat)))[:count]
        apart = 1e-3 * torch.randn(count, flat.shape[1], device=flat.device)
        return F.normalize(flat[order] + apart, dim=1)


# --- convolutions -------------------------------------------------------------------------------------------------


SILU_POWER = 0.36
"""Mean square of silu(x) for x of unit variance."""
COLOUR_SCALE = 4.0, 16.0, 16.0
"""Of OKLab, to make its numbers, of which a and b are the smaller, about as large as those inside of the network."""
SURENESS = 7.0
"""A pixel's at first, a logarithm: a colour that is 0.03 from its own is a third as likely."""


class Convolution(nn.Conv2d):
    """Its first weights keep the size of a signal that comes from a silu, through any number of layers; its bias is 0.

    With torch's own, biases drown the signal on the way down, and for a thousand steps only brightness is learned.
    Source: He et al. 2015 (arXiv 1502.01852), section 2.2.
    """

    bias: nn.Parameter

    def __init__(
        self, before: int, after: int, size: int, stride: int = 1, gain: float = 1.0, dilation: int = 1
    ) -> None:
        super().__init__(before, after, size, stride, dilation * (size // 2) if stride == 1 else 0, dilation)
        nn.init.normal_(self.weight, std=gain * (SILU_POWER * before * size**2) ** -0.5)
        nn.init.zeros_(self.bias)


class Norm(nn.Module):
    """RMSNorm over the channels of each pixel alone: a part of a picture is drawn alike, whatever else is there.

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, 1e-6).permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + what two convolutions make of it, the first of which looks at every `dilation`-th pixel."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(channels), Norm(channels)
        self.conv1 = Convolution(channels, channels, 3, dilation=dilation)
        self.conv2 = Convolution(channels, channels, 3, gain=0)  # a block starts out as nothing

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Encoder(nn.Module):
    def __init__(self, config: PixelVQGANConfig, width: int) -> None:
        super().__init__()
        widths = config.widths
        self.enter = Convolution(3, widths[0], 3)
        self.down = nn.ModuleList(
            Convolution(before, after, 2, 2) for before, after in zip(widths, widths[1:], strict=False)
        )
        # at full size no blocks: there they cost most, and two colours of a dither are told apart by the first
        self.blocks = nn.ModuleList(Block(channels) for channels in widths[1:] for _ in range(config.blocks))
        self.norm = Norm(widths[-1])
        self.leave = Convolution(widths[-1], width, 1)
        with torch.no_grad():
            self.enter.weight *= SILU_POWER**0.5 * torch.tensor(COLOUR_SCALE).view(3, 1, 1)
            self.enter.bias.copy_(-GREY * self.enter.weight[:, 0].sum((1, 2)))

    def forward(self, colours: Tensor) -> Tensor:
        x = self.enter(colours)
        each = len(self.blocks) // len(self.down)
        for number, down in enumerate(self.down):
            x = down(F.silu(x))
            for block in self.blocks[number * each : (number + 1) * each]:
                x = block(x)
        return self.leave(F.silu(self.norm(x)))


class Decoder(nn.Module):
    """Codes (B, D, h, w) to (B, 4 + F, H, W): a colour, how sure it is, and features for the pointer."""

    def __init__(self, config: PixelVQGANConfig, width: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.enter = Convolution(width, widths[0], 3)
        self.blocks = nn.ModuleList(Block(channels) for channels in widths[:-1] for _ in range(config.blocks))
        # one pixel becomes 2 x 2 that differ by where they lie: a dither is drawn where all tokens are alike
        self.up = nn.ModuleList(
            Convolution(before, 4 * after, 3) for before, after in zip(widths, widths[1:], strict=False)
        )
        self.finish = Block(widths[-1])
        self.norm = Norm(widths[-1])
        self.leave = Convolution(widths[-1], 4 + config.features, 3, gain=0.1)
        with torch.no_grad():
            self.leave.bias[0], self.leave.bias[3] = GREY, SURENESS

    def forward(self, codes: Tensor) -> Tensor:
        x = self.enter(codes)
        each = len(self.blocks) // len(self.up)
        for number, up in enumerate(self.up):
            for block in self.blocks[number * each : (number + 1) * each]:
                x = block(x)
            x = F.pixel_shuffle(up(x), 2)
        return self.leave(F.silu(self.norm(self.finish(x))))


class Pointer(nn.Module):
    """How well each colour of a palette suits each pixel: by its distance, and by how its key fits the features.

    As in Student's t distribution a colour that is far off is unlikely, but not ever more so: with a normal one, the
    pixels that are beyond guessing decide how sure of its colours the network may be. A palette is a set: its order
    changes nothing but the order of the logits.
    """

    def __init__(self, config: PixelVQGANConfig) -> None:
        super().__init__()
        self.learned = config.head == "pointer"
        self.power = nn.Parameter(torch.tensor(0.4))
        if self.learned:
            self.key1, self.key2 = nn.Linear(3, 4 * config.features), nn.Linear(4 * config.features, config.features)
            nn.init.zeros_(self.key2.weight)
            nn.init.zeros_(self.key2.bias)  # a snap to the nearest colour, at first

    def forward(self, pixels: Tensor, palette: Tensor) -> tuple[Tensor, Tensor]:
        """pixels (B, 4 + F, H, W), palette (B, K, 3) -> logits (B, K, H, W), colours (B, 3, H, W)."""
        with torch.autocast(pixels.device.type, enabled=False):  # distances of like colours are too fine for half
            flat = pixels.float().flatten(2)
            middle = torch.tensor([GREY, 0, 0], device=flat.device)  # small numbers, small errors
            near, far = flat[:, :3] - middle[:, None], palette - middle
            squares = near.square().sum(1, keepdim=True) + far.square().sum(2, keepdim=True)
            distance = torch.baddbmm(squares, far, near, alpha=-2).relu()
            logits = -self.power.exp() * (flat[:, 3:4].exp() * distance).log1p()
            if self.learned:
                logits = torch.baddbmm(logits, self.key2(F.gelu(self.key1(palette))), flat[:, 4:])
        return logits.unflatten(2, pixels.shape[2:]), pixels[:, :3].float()
