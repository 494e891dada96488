"""The frozen half of a lens: a diffusion pipeline of `diffusers`, as it is on the Hub or in a folder.

    pictures --encode--> latents --noised--> ... --decode--> pictures

Pictures are (B, 3, H, W) sRGB in [-1, 1]; latents (B, C, h, w), scaled as the UNet wants them. A UNet with as many
inputs as latents have numbers sees the noisy latents alone (Stable Diffusion); with twice as many it also sees those of
the picture that is edited (InstructPix2Pix, Brooks et al. 2023), so noise does not hide the evidence from it.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from hubmodels.hub import HubError, snapshot
from hubmodels.lens.sampler import Predict

PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
FILES = ["model_index.json", *(f"{part}/*.{kind}" for part in PARTS for kind in ("json", "safetensors", "txt"))]
"""What is downloaded of a repository: no pickles, and nothing of the parts that are not used."""
TOGETHER = 16
"""Pictures that are decoded at a time: more take more memory."""


@dataclass(frozen=True)
class Base:
    """Parts of a pipeline, all frozen, in eval mode. Types are Any because those that diffusers declares for their
    configurations and results are not those that they have."""

    vae: Any
    """AutoencoderKL."""
    unet: Any
    """UNet2DConditionModel."""
    text_encoder: Any
    """CLIPTextModel."""
    tokenizer: Any
    """CLIPTokenizer."""
    scheduler: Any
    """DDIMScheduler."""
    revision: str = ""
    """Commit on the Hub, if it came from there."""

    @property
    def conditioned(self) -> bool:
        """Whether the UNet sees the picture that is edited."""
        return self.unet.config.in_channels == 2 * self.vae.config.latent_channels

    @property
    def factor(self) -> int:
        """Pixels a side of a latent's cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def to(self, device: torch.device | str) -> "Base":
        for part in (self.vae, self.unet, self.text_encoder):
            part.to(device)
        return self


def loaded(
    path_or_repo: str,
    revision: str = "",
    spacing: str = "trailing",
    dtype: torch.dtype = torch.float32,
    local_files_only: bool = False,
) -> Base:
    """A base from a folder or the Hub, or "org/NAME" of the released ones, its scheduler made one of DDIM.

    Args:
        spacing: of the steps, "trailing", "leading" or "linspace".

    Raises:
        HubError: it is not there, a part is missing, or parts do not fit each other.
    """
    folder, commit = snapshot(path_or_repo, FILES, revision, local_files_only)
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise HubError(f"{path_or_repo} is not a pipeline of diffusers: it has no {', '.join(missing)}")
    logging.set_verbosity_error()
    disable_progress_bar()
    try:
        vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype, use_safetensors=True)
        unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype, use_safetensors=True)
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, use_safetensors=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        settings = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    except (OSError, ValueError) as error:
        raise HubError(f"{path_or_repo} cannot be loaded: {_line(error)}") from error
    scheduler = DDIMScheduler.from_config({**settings, "timestep_spacing": spacing, "clip_sample": False})
    latent, inputs = vae.config.latent_channels, unet.config.in_channels
    if inputs not in (latent, 2 * latent) or unet.config.out_channels != latent:
        raise HubError(
            f"the UNet of {path_or_repo} takes {inputs} channels and gives {unet.config.out_channels}, but latents "
            f"of its VAE have {latent}: parts of different models"
        )
    if unet.config.cross_attention_dim != text.config.hidden_size:
        raise HubError(
            f"the UNet of {path_or_repo} listens to {unet.config.cross_attention_dim} numbers a word, and its text "
            f"encoder says {text.config.hidden_size}: parts of different models"
        )
    for part in (vae, unet, text):
        part.requires_grad_(False).eval()
    for part in (vae, unet):  # which convolutions prefer, on processors and GPUs alike: 1.3 times as fast
        part.to(memory_format=torch.channels_last)
    return Base(vae, unet, text, tokenizer, scheduler, commit)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def encode(base: Base, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Latents of pictures; the mode of what the VAE says, or with a generator a draw from it.

    Raises:
        ValueError: pictures are not colour, or their size is no multiple of a latent's cell.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures are (B, 3, H, W), got {tuple(pictures.shape)}")
    if pictures.shape[2] % base.factor or pictures.shape[3] % base.factor or 0 in pictures.shape:
        raise ValueError(
            f"pictures of this base have sides that are multiples of {base.factor}, "
            f"got {pictures.shape[3]} x {pictures.shape[2]}"
        )
    said = base.vae.encode(pictures.to(base.vae.dtype)).latent_dist
    return (said.mode() if generator is None else said.sample(generator)) * base.vae.config.scaling_factor


def decode(base: Base, latents: Tensor) -> Tensor:
    """Pictures of latents, not clamped, float32."""
    parts = (latents / base.vae.config.scaling_factor).split(TOGETHER)
    return torch.cat([base.vae.decode(part).sample.float() for part in parts])


@torch.no_grad()
def embedded(base: Base, prompts: list[str]) -> Tensor:
    """(B, T, D): what the UNet hears of prompts."""
    tokens = base.tokenizer(
        prompts,
        padding="max_length",
        max_length=base.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return base.text_encoder(tokens.input_ids.to(base.text_encoder.device))[0]


def predictor(base: Base, source: Tensor, text: Tensor, guidance: float = 1.0, empty: Tensor | None = None) -> Predict:
    """The UNet as the sampler calls it, for pictures whose latents are `source` (B, C, h, w).

    Args:
        text: (B, T, D) or (1, T, D), of `embedded`.
        guidance: above 1 predictions go beyond those for the empty prompt, whose embedding is `empty` (1, T, D); at
            most 1 is without, in drawing and in training alike. Source: Ho & Salimans 2022.
    """
    if guidance > 1 and empty is None:
        raise ValueError("guidance needs the embedding of the empty prompt")
    clean = source / base.vae.config.scaling_factor if base.conditioned else None  # as InstructPix2Pix wants it

    def predict(latents: Tensor, time: Tensor) -> Tensor:
        ways = len(latents) // len(source)
        x, said = latents, text.expand(len(source), -1, -1).repeat_interleave(ways, 0)
        if clean is not None:
            x = torch.cat([latents, clean.repeat_interleave(ways, 0)], 1)
        if guidance <= 1 or empty is None:
            return base.unet(x, time, said).sample
        both = torch.cat([empty.expand_as(said), said])
        without, heard = base.unet(torch.cat([x, x]), torch.cat([time, time]), both).sample.chunk(2)
        return without + guidance * (heard - without)

    return predict
