"""Photos of a flat surface to the maps of its material.

    views (B, N, 3, H, W) --rectify--> views in the texture's frame, and where each has seen it
    each view --Encoder--> features at 1/1, 1/2, 1/4 ... of the size
    coarsest features of all views, pooled --Summary, a transformer--> what the material is as a whole, and each photo
    features of all views, and what each photo is as a whole --Fusion--> one set of features
    features and summary --Decoder--> maps

B batch, N views, C channels, S width of the summary. Photos are sRGB in [0, 1]. Maps: albedo (B, 3, H, W) sRGB-coded
in [0, 1]; roughness and metallic (B, 1, H, W) linear in [0, 1]; normal (B, 3, H, W) unit vectors, x right, y up,
z out of the surface and positive (OpenGL). A summary (B, 1 + N, S) is the material's, then those of its photos.

Nothing but the summary looks further than its receptive field, and norms are over the channels of a pixel: a tile
of a large picture, given the summary of the whole, gets the maps that the whole picture would have there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hubmodels.hub import HubModel
from hubmodels.neuropbr.cameras import STRAIGHT, centres, rectify
from hubmodels.neuropbr.cameras import toward as directions

Maps = dict[str, Tensor]
WIDEST = 512
"""Channels of fused features, at most: a ResNet ends in 2,048, which views share and maps do not need."""
INPUTS = 8
"""Of an encoder: a photo's colours, whether it shows the texel, how far the camera leans to the right and up, and that
times the brightness."""
LEAK = 0.1
"""Slope of activations below 0, so that none of them is cut off for good."""
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class NeuroPBRConfig:
    """Shape of the network. The defaults are the released one."""

    encoder: Literal["unet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "unet"
    channels: int = 12
    """Channels at full size, to the nearest 8; they grow with each halving (`growth`)."""
    growth: float = 2.0
    levels: int = 5
    """Sizes at which there are features: 1/1, 1/2, ... of a unet; a ResNet always has five."""
    blocks: int = 1
    """Residual blocks at each size below the first."""
    stride: int = 1
    """Of a ResNet's first convolution: 1 keeps full-size features, 2 is four times cheaper."""
    summary: int = 192
    """Width of the transformer over pooled tokens and of its summary."""
    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    tokens: int = 6
    """Tokens a side into which each view is pooled for the transformer."""
    freeze_backbone: bool = False
    """The encoder is not trained."""
    freeze_norm: bool = False
    """The scales and shifts of the encoder's norms are not trained."""

    def __post_init__(self) -> None:
        if self.stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {self.stride}")
        if self.summary % self.heads:
            raise ValueError(f"summary {self.summary} must be a multiple of the {self.heads} heads")
        if min(self.channels, self.blocks, self.depth, self.heads, self.tokens) < 1 or not 2 <= self.levels <= 7:
            raise ValueError("channels, blocks, depth, heads and tokens must be at least 1, levels from 2 to 7")
        if not (1 <= self.growth <= 4 and 0 <= self.dropout < 1 and self.mlp_ratio > 0):
            raise ValueError("growth must be from 1 to 4, dropout in [0, 1) and mlp_ratio positive")


class NeuroPBR(
    HubModel,
    pipeline_tag="image-to-image",
    tags=["pbr", "material", "svbrdf", "texture"],
    paper_url="https://arxiv.org/abs/1906.11557",
):
    """Albedo, roughness, metallic and normal maps from photos of a flat surface, any number of them."""

    def __init__(self, config: NeuroPBRConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = unet_encoder(config) if config.encoder == "unet" else resnet_encoder(config)
        channels = self.encoder.channels
        fused = [min(max(c, rounded(config.channels)), WIDEST) for c in channels]
        self.summary = Summary(channels[-1], config)
        self.light = nn.Linear(config.summary, 3)
        self.fusions = nn.ModuleList(Fusion(c, f, config.summary) for c, f in zip(channels, fused, strict=True))
        self.decoder = Decoder(fused, config)
        if config.freeze_backbone:
            self.encoder.requires_grad_(False)
        if config.freeze_norm:
            for module in self.encoder.modules():
                if isinstance(module, (PixelNorm, nn.GroupNorm)):
                    module.requires_grad_(False)

    def forward(
        self,
        views: Tensor,
        homography: Tensor | None = None,
        valid: Tensor | None = None,
        summary: Tensor | None = None,
        toward: Tensor | None = None,
        light: bool = False,
    ) -> Maps:
        """Maps in the texture's frame, as large as the views.

        Args:
            views: (B, N, 3, H, W) sRGB photos in [0, 1], N from 1 up, in any order.
            homography: (B, N, 3, 3) from texture to photo coordinates, both normalised to [-1, 1], y down. None
                if the views lie in the texture's frame already.
            valid: (B, N) bool, false for photos that only fill up the batch; or (B, N, 1, H, W), 0 to 1, where a
                view in the texture's frame has seen it.
            summary: (B, 1 + N, S) of `summarise`, for a tile of a larger picture; None takes that of these views.
            toward: (B, N, 3, H, W) unit vectors from texels to the camera of each view in the texture's frame; None
                takes those of the homographies, or a camera far above where there are none.
            light: also say `light` (B, N, 3), from where the light of each photo comes (`lights.mean_direction`).
        """
        views, seen, toward = _aligned(views, homography, valid, toward)
        used = _used(seen)
        (views, seen, toward), size = _padded([one[:, used] for one in (views, seen, toward)], self.encoder.strides[-1])
        features = self._encoded(views, seen, toward)
        if summary is None:
            whole = self._summary(features, seen, toward)
        else:
            whole = summary[:, F.pad(used, (1, 0), value=True)]
        weights = [
            F.interpolate(seen.flatten(0, 1), f.shape[-2:], mode="area").view(*seen.shape[:2], 1, *f.shape[-2:])
            for f in features
        ]
        fused = [
            fusion(f.unflatten(0, seen.shape[:2]), w, whole[:, 1:])
            for fusion, f, w in zip(self.fusions, features, weights, strict=True)
        ]
        maps = self.decoder(fused, average(views, seen), whole[:, 0])
        maps = {name: one[..., : size[0], : size[1]] for name, one in maps.items()}
        return maps | {"light": _spread(self.light(whole[:, 1:]), used)} if light else maps

    def summarise(
        self,
        views: Tensor,
        homography: Tensor | None = None,
        valid: Tensor | None = None,
        toward: Tensor | None = None,
    ) -> Tensor:
        """What the material and each photo are as a whole, (B, 1 + N, S): for tiles of pictures that are too large to
        take at once."""
        views, seen, toward = _aligned(views, homography, valid, toward)
        used = _used(seen)
        (views, seen, toward), _ = _padded([one[:, used] for one in (views, seen, toward)], self.encoder.strides[-1])
        summary = self._summary(self._encoded(views, seen, toward), seen, toward)
        return _spread(summary, F.pad(used, (1, 0), value=True))

    def predict(
        self,
        views: Sequence[Tensor],
        homography: Tensor | None = None,
        size: int | tuple[int, int] | None = None,
        wrap: bool = False,
    ) -> Maps:
        """Maps (1, C, H, W) of one material, of any size; see `hubmodels.neuropbr.predict`.

        Args:
            views: (3, h, w) each, uint8 or floats in [0, 1].
            homography: (N, 3, 3) from texture to photo; None if the views lie in the texture's frame.
            size: of a square, or height and width; None is that of the first view.
            wrap: the maps shall tile, as the texture does.
        """
        from hubmodels.neuropbr.predict import predict

        first = views[0].shape[-2:] if len(views) else (512, 512)
        return predict(self, list(views), homography, size or (first[0], first[1]), wrap=wrap)

    def tileable(self, wrap: bool) -> None:
        """Whether opposite edges of the views meet: convolutions then wrap around, so that maps tile as well."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
                module.padding_mode = "circular" if wrap else "zeros"

    def recompute(self, wanted: bool) -> None:
        """Whether training keeps only what passes between stages, the first included, and computes the rest again:
        gradient checkpointing, a third slower and several times smaller."""
        self.encoder.recompute = self.decoder.recompute = wanted

    def _encoded(self, views: Tensor, seen: Tensor, toward: Tensor) -> list[Tensor]:
        """Features of each view, (B * N, C, h, w), fine to coarse."""
        lean = toward[:, :, :2] * seen
        # under a flash the light comes from the camera, and slopes show in the product
        pixels = torch.cat([views, seen, lean, lean * views.mean(2, keepdim=True)], 2).flatten(0, 1)
        return self.encoder(pixels.contiguous(memory_format=torch.channels_last))

    def _summary(self, features: list[Tensor], seen: Tensor, toward: Tensor) -> Tensor:
        stand = (toward * seen).sum((3, 4)) / seen.sum((3, 4)).clamp(min=1)
        return self.summary(features[-1].unflatten(0, seen.shape[:2]), seen, stand)


def _aligned(
    views: Tensor, homography: Tensor | None, valid: Tensor | None, toward: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Views in the texture's frame, (B, N, 1, H, W), how far each has seen it, and directions to the cameras."""
    if views.ndim != 5 or views.shape[2] != 3:
        raise ValueError(f"views must be (B, N, 3, H, W), got {tuple(views.shape)}")
    batch, count, _, height, width = views.shape
    seen = views.new_ones(batch, count, 1, height, width)
    if toward is None:
        x, y = (centres(side, views) for side in (width, height))
        aspect = height / width
        straight = STRAIGHT.to(views).expand_as(views)
        toward = straight if homography is None else directions(homography, x, y, aspect, aspect)
    if homography is not None:
        flat, inside = rectify(views.flatten(0, 1), homography.flatten(0, 1), height, width)
        views, seen = flat.unflatten(0, (batch, count)), inside.unflatten(0, (batch, count)).to(views.dtype)
    if valid is not None:
        seen = seen * (valid.view(batch, count, 1, 1, 1) if valid.ndim == 2 else valid)
    return views * seen, seen, toward


def _used(seen: Tensor) -> Tensor:
    """(N,) bool: the views of which anything is seen. What only fills up the batch is not worth the time."""
    used = seen.amax((0, 2, 3, 4)) > 0
    return used if used.any() else torch.ones_like(used)


def _spread(some: Tensor, used: Tensor) -> Tensor:
    """(B, used, C) -> (B, N, C), with zeros for what was not used."""
    every = some.new_zeros(len(some), len(used), some.shape[2])
    every[:, used] = some
    return every


def _padded(parts: list[Tensor], multiple: int) -> tuple[list[Tensor], tuple[int, int]]:
    """Of (B, N, C, H, W): sides that the coarsest features divide, by repeating the edge; and the size before."""
    height, width = parts[0].shape[-2:]
    missing = (0, -width % multiple, 0, -height % multiple)
    if any(missing):
        parts = [F.pad(x.flatten(0, 1), missing, "replicate").unflatten(0, x.shape[:2]) for x in parts]
    return parts, (height, width)


def average(views: Tensor, seen: Tensor) -> Tensor:
    """(B, N, C, H, W) -> (B, C, H, W): mean over the views that have seen a pixel, grey where none has."""
    return ((views * seen).sum(1) + 0.5e-4) / (seen.sum(1) + 1e-4)


def fuse(features: Tensor, seen: Tensor) -> Tensor:
    """Mean, maximum and standard deviation over views, the same in any order of them (Deschaintre et al. 2019,
    arXiv 1906.11557, take the maximum alone; the spread is what highlights move by).

    Args:
        features: (B, N, C, H, W); what is negative counts as 0, and so does what has not been seen.
        seen: (B, N, 1, H, W) in [0, 1].

    Returns:
        (B, 3 C, H, W).
    """
    total = seen.sum(1) + 1e-4
    # few passes over memory: at full size they cost more than the convolutions
    present = F.relu(features) * seen
    mean = present.sum(1) / total
    spread = ((present * present).sum(1) / total - mean * mean).clamp(min=0)
    return torch.cat([mean, present.amax(1), (spread + 1e-4).sqrt()], 1)


def rounded(channels: float) -> int:
    """A multiple of 8, which is what processors add at a time."""
    return round(channels / 8) * 8 or 8


def through(module: nn.Module, recompute: bool, *inputs: Tensor) -> Tensor:
    """What the module makes of its inputs; what it holds meanwhile is computed again on the way back, or kept."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(module, *inputs, use_reentrant=False)
    return module(*inputs)


def conv(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps or divides the size, started so that a ReLU after it keeps the variance."""
    layer = nn.Conv2d(before, after, size, stride, (size - stride + 1) // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType] - there is one
    return layer


class PixelNorm(nn.Module):
    """Norm over the channels of each pixel: no pixel depends on others by it, so batches of one and tiles are safe."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-2)  # where nothing was seen all channels are about equal

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block; a summary scales and shifts it (FiLM, as 1 + gamma, starting out near the identity)."""

    def __init__(self, channels: int, summary: int = 0) -> None:
        super().__init__()
        self.norm = PixelNorm(channels)
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)
        with torch.no_grad():
            self.conv2.weight *= 0.2  # a trunk of many blocks starts out near the identity
        self.film = nn.Linear(summary, 2 * channels) if summary else None
        if self.film is not None:
            nn.init.normal_(self.film.weight, std=0.02)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, summary: Tensor | None = None) -> Tensor:
        h = self.conv1(self.norm(x))
        if self.film is not None and summary is not None:
            gamma, beta = self.film(summary)[..., None, None].chunk(2, 1)
            h = h * (1 + gamma) + beta
        return x + self.conv2(F.leaky_relu(h, LEAK))


# --- encoders: `channels` and `strides` of their features, fine to coarse; the finest are the pixels ---------------


class Encoder(nn.Module):
    """Stages, each of which takes the features of the one before."""

    channels: list[int]
    strides: list[int]

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.recompute = False

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x]
        for stage in self.stages:
            features.append(through(stage, self.recompute, features[-1]))
        return features


def unet_encoder(config: NeuroPBRConfig) -> Encoder:
    """Residual blocks after convolutions of stride 2; the fine detail of single views is seen by the first alone."""
    channels = [INPUTS, *(rounded(config.channels * config.growth**i) for i in range(1, config.levels))]
    stages = []
    for before, after in zip(channels, channels[1:], strict=False):
        blocks = (Block(after) for _ in range(config.blocks))
        stages.append(nn.Sequential(conv(before, after, 2 if stages else 4, 2), PixelNorm(after), *blocks))
    encoder = Encoder(stages)
    encoder.channels, encoder.strides = channels, [2**i for i in range(config.levels)]
    return encoder


def resnet_encoder(config: NeuroPBRConfig) -> Encoder:
    """A ResNet of torchvision, untrained, with group norms in place of batch norms: batches here are often of one."""
    import torchvision  # seconds that the default network does not need

    net = getattr(torchvision.models, config.encoder)(norm_layer=lambda channels: nn.GroupNorm(32, channels))
    stem = nn.Sequential(nn.Conv2d(INPUTS, 64, 7, config.stride, padding=3, bias=False), net.bn1, nn.ReLU())
    encoder = Encoder([stem, nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4])
    wide = 4 if config.encoder in RESNETS[2:] else 1
    encoder.channels = [INPUTS, 64, 64 * wide, 128 * wide, 256 * wide, 512 * wide]
    encoder.strides = [1, *(config.stride * 2**i for i in range(5))]
    return encoder


# --- across views ------------------------------------------------------------------------------------------------


class Summary(nn.Module):
    """A transformer over the pooled tokens of all views, read off at a learned token and at one for each view.

    Tokens know where they lie but not which view they are of, so the order of views changes nothing; pooling bounds
    their number, so its cost does not grow with the picture.
    """

    def __init__(self, channels: int, config: NeuroPBRConfig) -> None:
        super().__init__()
        self.side = config.tokens
        self.enter = nn.Linear(channels, config.summary)
        self.place = nn.Parameter(torch.randn(config.tokens**2, config.summary) * 0.02)
        self.query = nn.Parameter(torch.randn(config.summary) * 0.02)
        self.stand = nn.Linear(3, config.summary)
        layer = nn.TransformerEncoderLayer(
            config.summary,
            config.heads,
            round(config.mlp_ratio * config.summary),
            config.dropout,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)

    def forward(self, features: Tensor, seen: Tensor, stand: Tensor) -> Tensor:
        """features (B, N, C, h, w), seen (B, N, 1, H, W), mean directions to the cameras (B, N, 3) -> (B, 1 + N, S)."""
        batch, count = features.shape[:2]
        pooled = F.adaptive_avg_pool2d(features.flatten(0, 1), self.side).flatten(2).transpose(1, 2)
        tokens = (self.enter(pooled) + self.place).unflatten(0, (batch, count))
        unseen = F.adaptive_avg_pool2d(seen.flatten(0, 1), self.side).view(batch, count, -1) < 0.25
        sight = (~unseen)[..., None].to(tokens)
        each = (tokens * sight).sum(2) / sight.sum(2).clamp(min=1) + self.stand(stand)
        there = (~unseen.all(2))[..., None].to(tokens)
        whole = (each * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1) + self.query
        tokens = torch.cat([whole, each, tokens.flatten(1, 2)], 1)
        unseen = torch.cat([unseen.all(2), unseen.flatten(1)], 1)
        unseen = F.pad(unseen, (1, 0), value=False)
        return self.layers(tokens, src_key_padding_mask=unseen)[:, : 1 + count]


class Fusion(nn.Module):
    """Features of all views made one, the same in any order of views.

    Beside what `fuse` takes from them there are sums over the views in which each counts as its summary says, more,
    less or negatively. Where that knows the light, such sums are what photometric stereo computes: under known lights
    the normal of a matt texel is a linear map of its brightnesses (Woodham 1980, Photometric Method for Determining
    Surface Orientation from Multiple Images).
    """

    def __init__(self, channels: int, fused: int, summary: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels, fused, bias=False)
        self.turn = nn.Linear(summary, fused)
        nn.init.normal_(self.turn.weight, std=0.05)
        self.leave = conv(3 * channels + fused, fused, 1)

    def forward(self, features: Tensor, seen: Tensor, each: Tensor) -> Tensor:
        """features (B, N, C, H, W), seen (B, N, 1, H, W), summaries (B, N, S) -> (B, F, H, W)."""
        share = seen / (seen.sum(1, keepdim=True) + 1e-4)
        weights = self.turn(each)[..., None] * self.enter.weight
        weighed = torch.einsum("bnfc,bnchw->bfhw", weights, features * share)
        return self.leave(torch.cat([fuse(features, seen), weighed], 1))


# --- the maps ----------------------------------------------------------------------------------------------------


class Finer(nn.Module):
    """One step up in size: nearest upsampling and a convolution (no checkerboard), what was fused there, a block."""

    def __init__(self, coarse: int, fine: int, summary: int) -> None:
        super().__init__()
        self.enter = conv(coarse + fine, fine)
        self.block = Block(fine, summary)

    def forward(self, x: Tensor, fused: Tensor, summary: Tensor) -> Tensor:
        x = F.interpolate(x, fused.shape[-2:], mode="nearest")
        return self.block(F.leaky_relu(self.enter(torch.cat([x, fused], 1)), LEAK), summary)


class Decoder(nn.Module):
    """From coarse to fine; how long photos were exposed, how rough a material is and whether it is metal are mostly
    the same all over it, so the summary has a say of its own.

    Albedo starts out as the average photo, the normal as flat, roughness and metallic as what the biases say.
    """

    def __init__(self, channels: Sequence[int], config: NeuroPBRConfig) -> None:
        super().__init__()
        self.recompute = False
        self.coarse = Block(channels[-1], config.summary)
        self.steps = nn.ModuleList(
            Finer(before, after, config.summary)
            for before, after in zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True)
        )
        self.head = nn.Conv2d(channels[0], 3 + 1 + 1 + 2, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        self.head.bias = nn.Parameter(torch.tensor([0.0, 0, 0, 0.4, -1.5, 0, 0]))
        self.whole = nn.Linear(config.summary, 3 + 1 + 1)
        nn.init.zeros_(self.whole.weight)
        nn.init.zeros_(self.whole.bias)

    def forward(self, features: list[Tensor], photo: Tensor, summary: Tensor) -> Maps:
        x = self.coarse(features[-1], summary)
        for step, fused in zip(self.steps, reversed(features[:-1]), strict=True):
            x = through(step, self.recompute, x, fused, summary)
        albedo, roughness, metallic, slope = self.head(x).split([3, 1, 1, 2], 1)
        brighter, rougher, metal = self.whole(summary)[..., None, None].split([3, 1, 1], 1)
        return {
            "albedo": torch.sigmoid(torch.logit(photo.clamp(0.01, 0.99)) + albedo + brighter),
            "roughness": torch.sigmoid(roughness + rougher),
            "metallic": torch.sigmoid(metallic + metal),
            "normal": F.normalize(F.pad(slope, (0, 0, 0, 0, 0, 1), value=1.0), dim=1),
        }
