"""Random networks as small as they get, with the classes that Stable Diffusion and CLIP have."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    ResNetConfig,
    ResNetForImageClassification,
)

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


def clip(folder: Path) -> None:
    """Save a CLIP that has learned nothing, for pictures of 32 x 32, as those of the Hub lie there."""
    torch.manual_seed(0)
    said = words()
    vision = CLIPVisionConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=24,
    )
    text = tiny.text_config(said).to_dict() | {"projection_dim": 24}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=24)).save_pretrained(folder)
    said.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def saved(folder: Path, labels: Sequence[str], latent: int = 4) -> tuple[Path, Path]:
    """A base and a classifier as folders, for pictures of 16 x 16."""
    pipeline(base(conditioned=True, latent=latent)).save_pretrained(folder / "base")
    reader(labels).save_pretrained(folder / "reader")
    said = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 16, "width": 16}}
    (folder / "reader" / "preprocessor_config.json").write_text(json.dumps(said))
    return folder / "base", folder / "reader"
