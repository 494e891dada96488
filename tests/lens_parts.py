"""Random networks as small as they get, with the classes that Stable Diffusion and CLIP have."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer, ResNetConfig, ResNetForImageClassification

from hubmodels.lens import tiny
from hubmodels.lens.base import Base

LABELS = ("bear", "bird", "cat", "dog")


def words() -> CLIPTokenizer:
    return tiny.tokenizer(LABELS)


def base(conditioned: bool = False, seed: int = 0, latent: int = 4) -> Base:
    """Latents of 8 x 8 for pictures of 16 x 16; the UNet sees the picture that is edited if it is conditioned."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=latent,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=2 * latent if conditioned else latent,
        out_channels=latent,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=tiny.WIDTH,
        norm_num_groups=4,
    )
    said = words()
    result = Base(vae, unet, tiny.listener(said), said, tiny.scheduler())
    for part in (result.vae, result.unet, result.text_encoder):
        part.requires_grad_(False).eval()
    return result


def pipeline(parts: Base) -> StableDiffusionImg2ImgPipeline:
    return StableDiffusionImg2ImgPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=parts.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def pictures(count: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    """(B, 3, size, size) in [-1, 1]."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reader(labels: Sequence[str], size: int = 16, seed: int = 0) -> ResNetForImageClassification:
    """A classifier that has learned nothing."""
    torch.manual_seed(seed)
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8],
            depths=[1, 1],
            layer_type="basic",
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
    )


def saved(folder: Path, labels: Sequence[str], latent: int = 4) -> tuple[Path, Path]:
    """A base and a classifier as folders, for pictures of 16 x 16."""
    pipeline(base(conditioned=True, latent=latent)).save_pretrained(folder / "base")
    reader(labels).save_pretrained(folder / "reader")
    said = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 16, "width": 16}}
    (folder / "reader" / "preprocessor_config.json").write_text(json.dumps(said))
    return folder / "base", folder / "reader"
