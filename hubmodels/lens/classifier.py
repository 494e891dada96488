"""Who reads the pictures: a CLIP that is asked for labels in words, or any classifier of `transformers`, as a judge.

    pictures (B, 3, H, W) in [-1, 1] --resized, normalised--> logits (B, K), one for each label

Gradients pass through, so that reward can be followed back into a picture.
"""

import difflib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import functional as tv
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    CLIPModel,
    CLIPTokenizer,
)

from hubmodels.hub import HubError, snapshot
from hubmodels.images import to_unit

TEMPLATE = "An image of {label}"
FILES = ["*.json", "*.safetensors", "*.txt"]
FEW = 20
"""So many labels are listed where one is not among them."""


class Classifier(nn.Module):
    """Logits of labels. All of it is frozen."""

    revision = ""
    """Commit on the Hub, of one that `loaded` had from there."""

    def __init__(self, network: nn.Module, labels: Sequence[str], size: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network, self.labels, self.size = network, tuple(labels), size
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean.view(3, 1, 1))
        self.register_buffer("std", std.view(3, 1, 1))
        self.requires_grad_(False).eval()

    def prepared(self, pictures: Tensor) -> Tensor:
        """As the network wants them: clamped, (B, 3, size, size), normalised."""
        if pictures.ndim != 4 or pictures.shape[1] != 3 or min(pictures.shape[2:]) < 2:
            raise ValueError(
                f"a classifier reads pictures (B, 3, H, W) of 2 pixels or more, got {tuple(pictures.shape)}"
            )
        x = to_unit(pictures.clamp(-1, 1))
        if x.shape[2:] != (self.size, self.size):
            x = tv.resize(x, [self.size, self.size], tv.InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        return (x - self.mean) / self.std

    def read(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> logits (B, K), float32, and features (B, D) of unit length, which a perceptual
        distance compares."""
        raise NotImplementedError

    def asked(self, labels: Sequence[str]) -> "Classifier":
        """The same network, asked for other labels.

        Raises:
            ValueError: they are double or fewer than two, or the network does not know one.
        """
        raise NotImplementedError

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> logits (B, K), float32."""
        return self.read(pictures)[0]


class ZeroShot(Classifier):
    """CLIP: cosine of picture and label, times its temperature. Source: Radford et al. 2021."""

    def __init__(
        self,
        network: CLIPModel,
        tokenizer: CLIPTokenizer,
        labels: Sequence[str],
        template: str,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        vision: Any = network.config.vision_config
        super().__init__(network, labels, vision.image_size, mean, std)
        self.tokenizer, self.template = tokenizer, template
        self.text: Tensor
        self.register_buffer("text", said(network, tokenizer, [template.format(label=label) for label in labels]))

    def asked(self, labels: Sequence[str]) -> "ZeroShot":
        _different(labels)
        network: Any = self.network
        return ZeroShot(network, self.tokenizer, labels, self.template, self.mean, self.std)

    def read(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        network: Any = self.network
        seen = network.vision_model(self.prepared(pictures).to(network.dtype))
        features = nn.functional.normalize(network.visual_projection(seen.pooler_output), dim=1)
        return (network.logit_scale.exp() * features @ self.text.T).float(), features


@torch.no_grad()
def said(network: CLIPModel, tokenizer: CLIPTokenizer, sentences: Sequence[str]) -> Tensor:
    """(N, D), of unit length: what CLIP makes of sentences."""
    tokens = tokenizer(
        list(sentences),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    device = network.logit_scale.device
    heard = network.text_model(tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device))
    return nn.functional.normalize(network.text_projection(heard.pooler_output), dim=1)


class Trained(Classifier):
    """A network that was trained for labels of its own, some of which are asked for."""

    def __init__(
        self, network: nn.Module, labels: Sequence[str], rows: list[int], size: int, mean: Tensor, std: Tensor
    ):
        super().__init__(network, labels, size, mean, std)
        self.rows = rows

    def asked(self, labels: Sequence[str]) -> "Trained":
        _different(labels)
        network: Any = self.network
        rows = _rows(network.config.label2id, labels, "this classifier")
        return Trained(network, labels, rows, self.size, self.mean, self.std)

    def read(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network(self.prepared(pictures), output_hidden_states=True)
        last = out.hidden_states[-1]
        features = last.mean((2, 3)) if last.ndim == 4 else last.mean(1)
        return out.logits[:, self.rows].float(), nn.functional.normalize(features, dim=1)


def loaded(
    path_or_repo: str,
    labels: Sequence[str],
    template: str = TEMPLATE,
    revision: str = "",
    local_files_only: bool = False,
) -> Classifier:
    """A classifier from a folder or the Hub, or "org/NAME" of the released ones, asked for `labels`.

    Args:
        template: what CLIP hears of a label, with {label}; others know labels by name.

    Raises:
        HubError: it is not there, or not a classifier.
        ValueError: it has no such label, labels are double or fewer than two, or the template has no {label}.
    """
    _different(labels)
    if "{label}" not in template:
        raise ValueError(f"the template must have {{label}} in it, got {template!r}")
    folder, commit = snapshot(path_or_repo, FILES, revision, local_files_only)
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}
    try:
        clip = AutoConfig.from_pretrained(folder).model_type == "clip"
        about = json.loads((folder / "preprocessor_config.json").read_text())
        mean, std = torch.tensor(about["image_mean"]), torch.tensor(about["image_std"])
        network: Any = (CLIPModel if clip else AutoModelForImageClassification).from_pretrained(folder, **options)
        tokenizer = CLIPTokenizer.from_pretrained(folder) if clip else None
        size = about.get("crop_size") or about["size"]
    except (OSError, KeyError, ValueError) as error:
        raise HubError(f"{path_or_repo} is no classifier that can be loaded: {' '.join(str(error).split())}") from error
    if tokenizer:
        found: Classifier = ZeroShot(network, tokenizer, labels, template, mean, std)
    else:
        size = size if isinstance(size, int) else size.get("height") or size["shortest_edge"]
        found = Trained(network, labels, _rows(network.config.label2id, labels, path_or_repo), size, mean, std)
    found.revision = commit
    return found


def _different(labels: Sequence[str]) -> None:
    if len(set(labels)) != len(labels) or len(labels) < 2:
        double = sorted({label for label in labels if list(labels).count(label) > 1})
        raise ValueError(f"labels must be two or more, all different; twice: {', '.join(double) or 'none'}")


def _rows(known: dict[str, int], labels: Sequence[str], name: str) -> list[int]:
    numbers = {label.lower(): number for label, number in known.items()}
    unknown = [label for label in labels if label.lower() not in numbers]
    if unknown:
        near = difflib.get_close_matches(unknown[0].lower(), numbers, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        hint = hint or (f": {', '.join(known)}" if len(known) <= FEW else "")
        raise ValueError(f"{name} knows {len(numbers)} labels, and {unknown[0]!r} is not one of them{hint}")
    return [numbers[label.lower()] for label in labels]
