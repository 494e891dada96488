"""A lens: what a diffusion model learned in order to show a classifier what a picture hides.

    picture --encode--> latents --a little noise, a few steps of the UNet with what was learned--> decode --> edit

Only what was learned is saved: matrices of low rank beside linear layers of the UNet (LoRA, Hu et al. 2021), or all its
weights. Base and classifier are named in the configuration and loaded when they are needed. Pictures are (B, 3, H, W)
sRGB in [-1, 1].
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from hubmodels.hub import HubError, HubModel
from hubmodels.lens import base as bases
from hubmodels.lens.base import Base, decode, embedded, encode, predictor
from hubmodels.lens.classifier import TEMPLATE, Classifier
from hubmodels.lens.classifier import loaded as reader_of
from hubmodels.lens.sampler import run, schedule

LORA_FILE = "pytorch_lora_weights.safetensors"
ADAPTER = "default"


@dataclass(frozen=True)
class DiffusionLensConfig:
    """What was learned, beside which base, and how pictures are edited with it."""

    base: str = "org/lens-base"
    """A pipeline of diffusers with a UNet: a repository of the Hub, or a folder."""
    base_revision: str = ""
    classifier: str = "org/lens-classifier"
    """Who gave the reward."""
    classifier_revision: str = ""
    labels: str = ""
    """That the reward was about, separated by semicolons."""
    template: str = TEMPLATE
    """What a CLIP hears of a label."""
    dataset: str = "camo"
    """What it learned from, with `corruption` and `severity`; see `hubmodels.lens.data`."""
    corruption: str = ""
    severity: int = 1
    rank: int = 8
    """Of LoRA, whose scale is 1; 0 is all weights of the UNet."""
    targets: str = "to_q to_k to_v to_out.0"
    """Layers of the UNet, linear or convolutions, by the end of their names, that LoRA is put beside."""
    shapes: str = ""
    """Every learned tensor, separated by spaces: its name in the UNet, a colon, its sides with an x between."""
    size: int = 64
    """Pixels a side of the pictures that it learned from."""
    steps: int = 20
    strength: float = 0.15
    """Share of the steps that are executed, the last ones: how much noise a picture gets before it is drawn again."""
    spacing: Literal["trailing", "leading", "linspace"] = "trailing"
    prompt: str = ""
    guidance: float = 1.0
    eta: float = 0.0
    """Noise of the sampler when it edits."""
    gate: float = 1.0
    """Pictures of which the classifier is at least so sure are left as they are; 1 edits all."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1 or self.steps < 1 or int(self.steps * self.strength) < 1:
            raise ValueError(
                f"strength must be above 0 and at most 1 and leave a step to run, "
                f"got strength {self.strength:g} of {self.steps} steps"
            )
        if self.rank < 0 or self.size < 8 or not 0 <= self.eta <= 1 or not 0 <= self.gate <= 1 or self.guidance < 0:
            raise ValueError("rank and guidance are at least 0, size at least 8, eta and gate from 0 to 1")
        tensors(self.shapes)


def tensors(shapes: str) -> dict[str, tuple[int, ...]]:
    """Shapes by name, as `DiffusionLensConfig.shapes` writes them."""
    try:
        pairs = (one.rsplit(":", 1) for one in shapes.split())
        return {name: tuple(int(side) for side in sides.split("x")) for name, sides in pairs}
    except ValueError:
        raise ValueError('shapes must be of the form "name:8x64 name:64x8"') from None


class DiffusionLens(
    HubModel,
    pipeline_tag="image-to-image",
    tags=["reinforcement-learning", "ddpo", "lora", "diffusers"],
    paper_url="https://arxiv.org/abs/2305.13301",
):
    """Edits pictures so that a classifier sees what they hide."""

    def __init__(self, config: DiffusionLensConfig) -> None:
        super().__init__()
        self.config = config
        self.learned = nn.ParameterDict(
            {_key(name): nn.Parameter(torch.zeros(shape)) for name, shape in tensors(config.shapes).items()}
        )
        self._base: list[Base] = []  # in lists, so that they are no part of what is trained, saved or averaged
        self._before: list[nn.Module] = []

    @classmethod
    def fresh(cls, config: DiffusionLensConfig, base: Base) -> "DiffusionLens":
        """One that has learned nothing and edits as the base does: LoRA with one matrix of zeros, or the weights that
        the UNet has."""
        if config.rank:
            found = {}
            for name, (outputs, *inputs) in _adaptable(base, config.targets.split()).items():
                found[f"{name}.lora_A"] = (config.rank, *inputs)
                found[f"{name}.lora_B"] = (outputs, config.rank, *[1] * (len(inputs) - 1))
        else:
            found = {name: tuple(weight.shape) for name, weight in base.unet.named_parameters()}
        shapes = " ".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in found.items())
        lens = cls(replace(config, shapes=shapes))
        with torch.no_grad():
            for name, weight in lens.learned.items():
                if config.rank and name.endswith("lora_A"):
                    weight.normal_(std=1 / config.rank)
                elif not config.rank:
                    weight.copy_(base.unet.get_parameter(_name(name)))
        return lens

    @classmethod
    def of_lora(cls, path: str | Path, config: DiffusionLensConfig, base: Base) -> "DiffusionLens":
        """What a LoRA file of diffusers or peft holds, as others publish them, for this base.

        Raises:
            HubError: it cannot be read, or is for another base.
        """
        try:
            found, alphas = StableDiffusionImg2ImgPipeline.lora_state_dict(str(path), use_safetensors=True)[:2]
        except (OSError, ValueError, SafetensorError) as error:
            raise HubError(f"{path} is no LoRA file that can be read: {' '.join(str(error).split())}") from error
        alphas = alphas or {}
        own: dict[str, Tensor] = {}
        for name, tensor in found.items():
            layer, dot, part = name.removeprefix("unet.").removesuffix(".weight").rpartition(".")
            layer = layer.removesuffix(".lora").replace(".processor.", ".")
            layer = layer.replace("to_out_lora", "to_out.0").removesuffix("_lora")
            part = {"down": "lora_A", "up": "lora_B"}.get(part, part)
            if not dot or part not in ("lora_A", "lora_B") or name.startswith("text_encoder"):
                raise HubError(f"{path} holds {name!r}, which is no LoRA of linear layers of a UNet")
            own[f"{layer}.{part}"] = tensor.float()
        ranks = {tensor.shape[0] for name, tensor in own.items() if name.endswith("lora_A")}
        if len(ranks) != 1:
            raise HubError(f"{path} has LoRA of ranks {sorted(ranks)}: only one rank can be loaded")
        rank = ranks.pop()
        for name, alpha in alphas.items():  # ours have the scale 1
            layer = name.removeprefix("unet.").removesuffix(".alpha")
            own[f"{layer}.lora_B"] = own[f"{layer}.lora_B"] * (float(alpha) / rank)
        shapes = " ".join(f"{name}:{'x'.join(map(str, tensor.shape))}" for name, tensor in own.items())
        lens = cls(replace(config, rank=rank, shapes=shapes))
        lens.learned.load_state_dict({_key(name): tensor for name, tensor in own.items()})
        lens.attach(base)  # which says so if it does not fit
        return lens.eval()

    # --- the base that it is for --------------------------------------------------------------------------------

    @property
    def base(self) -> Base:
        """The frozen parts, with what was learned in the UNet; loaded when it is first asked for."""
        if not self._base:
            self.attach(bases.loaded(self.config.base, self.config.base_revision, self.config.spacing))
        return self._base[0]

    def attach(self, base: Base) -> None:
        """Put what was learned into the UNet of a base, which shares these parameters from now on.

        Raises:
            HubError: it was learned for another base.
        """
        for name, weight in self.learned.items():
            self._check(_name(name), tuple(weight.shape), base)
        device = next(iter(self.learned.values())).device
        base.to(device)
        if self.config.rank:
            names = sorted({name.rpartition(".")[0] for name in map(_name, self.learned)})
            base.unet.add_adapter(
                LoraConfig(r=self.config.rank, lora_alpha=self.config.rank, target_modules=names), ADAPTER
            )
            modules = dict(base.unet.named_modules())
            for name in names:
                layer = modules[name]
                assert isinstance(layer, LoraLayer)
                layer.lora_A[ADAPTER].weight = self.learned[_key(f"{name}.lora_A")]
                layer.lora_B[ADAPTER].weight = self.learned[_key(f"{name}.lora_B")]
        else:
            for name in self.learned:
                owner, _, last = _name(name).rpartition(".")
                setattr(base.unet.get_submodule(owner), last, self.learned[name])
        self._base[:] = [base]

    def _check(self, name: str, shape: tuple[int, ...], base: Base) -> None:
        layer, _, part = name.rpartition(".")
        if self.config.rank:
            outputs, *inputs = _adaptable(base, [layer]).get(layer, (0,))
            wanted = {"lora_A": (self.config.rank, *inputs), "lora_B": (outputs, self.config.rank)}.get(part, ())
            fits = bool(inputs) and shape[: len(wanted)] == wanted
        else:
            found = dict(base.unet.named_parameters()).get(name)
            fits = found is not None and tuple(found.shape) == shape
        if not fits:
            raise HubError(
                f"{name} of {shape} has no place in the UNet of this base: the lens was made for "
                f"{self.config.base!r}, load that one"
            )

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Inside the `with` the UNet is that of the base, without what was learned; it is loaded once more where all
        weights were learned.

        Raises:
            HubError: it cannot be.
        """
        tuned, config = self.base, self.config
        if config.rank:
            tuned.unet.disable_adapters()
        else:
            if not self._before:
                device = next(self.parameters()).device
                self._before.append(bases.loaded(config.base, config.base_revision, config.spacing).to(device).unet)
            self._base[:] = [replace(tuned, unet=self._before[0])]
        try:
            yield
        finally:
            self._base[:] = [tuned]
            if config.rank:
                tuned.unet.enable_adapters()

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside the `with` LoRA is added to the weights that it stands beside: the same network, 1.4 times as fast,
        through which nothing is learned. Afterwards these weights are what they were, to the bit."""
        unet = self.base.unet
        layers: list[Any] = [one for one in unet.modules() if isinstance(one, LoraLayer)] if self.config.rank else []
        before = [layer.get_base_layer().weight for layer in layers]
        with torch.no_grad():
            for layer, weight in zip(layers, before, strict=True):
                both = weight + layer.get_delta_weight(ADAPTER).to(weight)
                layer.get_base_layer().weight = nn.Parameter(both, requires_grad=False)
        if layers:
            unet.disable_adapters()
        try:
            yield
        finally:
            for layer, weight in zip(layers, before, strict=True):
                layer.get_base_layer().weight = weight
            if layers:
                unet.enable_adapters()

    def reader(self, labels: Sequence[str] = ()) -> Classifier:
        """The classifier that gave the reward, asked for labels, or for those that the reward was about.

        Raises:
            HubError: it cannot be had.
            ValueError: it does not know a label.
        """
        config = self.config
        known = labels or config.labels.split("; ")
        return reader_of(config.classifier, known, config.template, config.classifier_revision)

    # --- editing ------------------------------------------------------------------------------------------------

    def forward(
        self, latents: Tensor, time: Tensor, source: Tensor, text: Tensor, silence: Tensor | None = None
    ) -> Tensor:
        """The UNet's prediction for latents (B G, C, h, w) at times (B G,) of pictures whose latents are `source`
        (B, C, h, w), G for each in turn; text (B, T, D) or (1, T, D), and with guidance that of the empty prompt
        (1, T, D). What training calls."""
        return predictor(self.base, source, text, self.config.guidance, silence)(latents, time)

    @torch.inference_mode()
    def edit(
        self,
        pictures: Tensor,
        seed: int = 0,
        strength: float | None = None,
        steps: int | None = None,
        prompt: str | None = None,
    ) -> Tensor:
        """Edits (B, 3, H, W) in [-1, 1]. Picture i depends on itself and on seed + i alone.

        Args:
            strength: share of the steps that are executed, and `steps`, `prompt`: those of the configuration if None.

        Raises:
            ValueError: a size that the base cannot have, or a strength without a step.
        """
        config = self.config
        base, device = self.base, next(self.parameters()).device
        times = schedule(base.scheduler, steps or config.steps, config.strength if strength is None else strength)
        text = embedded(base, [config.prompt if prompt is None else prompt, ""])
        edits = []
        for first in range(0, len(pictures), 32):
            source = encode(base, pictures[first : first + 32].to(device))
            noise = drawn(source, seed + first)
            start = base.scheduler.add_noise(source, noise, times[:1].expand(len(source)).to(device))
            predict = predictor(base, source, text[:1], config.guidance, text[1:])
            generator = torch.Generator().manual_seed(seed + first)
            ends = run(base.scheduler, predict, start, times, config.eta, generator).latents[-1]
            edits.append(decode(base, ends).clamp(-1, 1))
        return torch.cat(edits)

    @torch.inference_mode()
    def roundtrip(self, pictures: Tensor) -> Tensor:
        """Pictures through the VAE and back, without any editing: what that alone costs."""
        device = next(self.parameters()).device
        parts = [decode(self.base, encode(self.base, part.to(device))) for part in pictures.split(32)]
        return torch.cat(parts).clamp(-1, 1)

    # --- for others ---------------------------------------------------------------------------------------------

    def _files(self, repo: str, dtype: torch.dtype | None) -> dict[str, bytes]:
        files = super()._files(repo, dtype)
        if self.config.rank:  # the same once more, as `load_lora_weights` of diffusers wants it
            files[LORA_FILE] = save(
                {
                    f"unet.{_name(name)}.weight": weight.detach().cpu().contiguous()
                    for name, weight in self.learned.items()
                },
                metadata={"format": "pt"},
            )
        return files


def drawn(source: Tensor, seed: int) -> Tensor:
    """Noise for latents (B, C, h, w), that of row i decided by seed + i."""
    rows = [
        torch.randn(source.shape[1:], generator=torch.Generator().manual_seed(seed + i)) for i in range(len(source))
    ]
    return torch.stack(rows).to(source)


def _adaptable(base: Base, ends: list[str]) -> dict[str, tuple[int, ...]]:
    """Shapes (outputs, inputs, ...) of the weights of layers that LoRA can stand beside, by name."""
    found = {}
    for name, module in base.unet.named_modules():
        module = module.get_base_layer() if isinstance(module, LoraLayer) else module
        wanted = any(f".{name}".endswith(f".{end}") for end in ends)
        if wanted and isinstance(module, (nn.Linear, nn.Conv2d)):
            found[name] = tuple(module.weight.shape)
    return found


def _key(name: str) -> str:
    return name.replace(".", "/")  # names of parameters have no dots


def _name(key: str) -> str:
    return key.replace("/", ".")
