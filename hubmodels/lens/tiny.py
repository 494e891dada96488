"""The small parts of the embedded default, as real classes of `diffusers` and `transformers`, for pictures of 64 x 64.

Nothing else in `lens` knows that they are small: any Stable Diffusion and any CLIP can stand in their place.
"""

from collections.abc import Sequence

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

SIZE = 64
WORDS = 16
"""Tokens of the longest sentence, with those of its beginning and its end."""
WIDTH = 64
"""Of the text tower, which the UNet listens to."""
PROMPTS = {
    "camouflage": "a camouflaged {label}",
    "haze": "a hazy photo of a {label}",
    "noise": "a noisy photo of a {label}",
    "clear": "a clear photo of a {label}",
}
"""What the UNet hears of a scene of a task, where it hears anything."""


# Types that diffusers and transformers declare are narrower than what they take.
# pyright: reportArgumentType=false


def tokenizer(labels: Sequence[str]) -> CLIPTokenizer:
    """Every word that is ever said of `labels` is put together from its first letter to its last; other words are
    spelt. (Byte pairs that `tokenizers` finds by itself are not the same in every process.)"""
    words = sorted({word for said in PROMPTS.values() for label in labels for word in said.format(label=label).split()})
    letters = [chr(code) for code in range(33, 127)]
    known = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in words:
        parts = [*word[:-1].lower(), f"{word[-1].lower()}</w>"]
        whole = parts[0]
        for part in parts[1:]:
            merges.append((whole, part))
            whole += part
    merges = list(dict.fromkeys(merges))
    known += [left + right for left, right in merges]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(dict.fromkeys(known))},
        merges=merges,
        model_max_length=WORDS,
    )


def text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    """Of a tower that hears `words`."""
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WORDS,
        projection_dim=64,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def classifier(labels: Sequence[str]) -> ResNetForImageClassification:
    """A residual network: 0.45 M parameters. Vision transformers learn these names far more slowly; LOG.md has them."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=24,
            hidden_sizes=[24, 48, 96, 128],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
    )


def judge(labels: Sequence[str]) -> ConvNextForImageClassification:
    """Of another kind than the classifier in stem, kernels, norm and activation: 0.41 M parameters."""
    return ConvNextForImageClassification(
        ConvNextConfig(
            image_size=SIZE,
            num_stages=3,
            hidden_sizes=[32, 64, 128],
            depths=[2, 2, 2],
            layer_scale_init_value=1.0,
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
    )


def vae() -> AutoencoderKL:
    """Latents of 32 x 32 cells of 4 numbers. With cells of 4 x 4 pixels thin legs were lost, or colours."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def unet() -> UNet2DConditionModel:
    """Sees noisy latents and those of the picture that is edited."""
    return UNet2DConditionModel(
        sample_size=SIZE // 2,
        in_channels=8,
        out_channels=4,
        block_out_channels=(24, 48, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )


def scheduler() -> DDIMScheduler:
    """That of Stable Diffusion."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def listener(words: CLIPTokenizer) -> CLIPTextModel:
    """What the UNet listens to: a small transformer that is trained along with it, as in Rombach et al. 2022,
    section 3.3."""
    return CLIPTextModel(text_config(words))
