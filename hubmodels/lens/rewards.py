"""What an edit is worth. Each reward is a plain function of what was `Seen` and gives (B,), higher is better.

total = sum of weight * reward, each of them normalised over the batch if asked for
"""

import base64
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from hubmodels.images import to_pil
from hubmodels.lens.classifier import Classifier


class RewardError(Exception):
    """A reward cannot be had, in one line that says why. Nothing has been learned from it."""


@dataclass(frozen=True)
class Seen:
    """Edits and what a classifier says of them."""

    pictures: Tensor
    """(B, 3, H, W) sRGB in [-1, 1], as edited; `originals` before."""
    originals: Tensor
    labels: Tensor
    """(B,) int64, the true ones."""
    logits: Tensor
    """(B, K) of the edits; `before` of the originals."""
    before: Tensor
    features: Tensor
    """(B, D) of unit length; `features_before` of the originals."""
    features_before: Tensor

    @classmethod
    def of(
        cls,
        pictures: Tensor,
        reader: Classifier,
        originals: Tensor,
        labels: Tensor,
        before: Tensor,
        features_before: Tensor,
    ) -> "Seen":
        """Edits, read by a classifier that has read the originals."""
        logits, features = reader.read(pictures)
        return cls(pictures, originals, labels, logits, before, features, features_before)


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def log_probability(seen: Seen) -> Tensor:
    """Of the true label, in nats, at most 0."""
    return _own(seen.logits.log_softmax(1), seen.labels)


def ensemble(seen: Seen) -> Tensor:
    """Log-probability of the true label by the mean of the logits before and after, in nats: of an edit that is read
    together with its original."""
    return _own(((seen.logits + seen.before) / 2).log_softmax(1), seen.labels)


def logit_change(seen: Seen) -> Tensor:
    """By how much the logit of the true label rose."""
    return _own(seen.logits, seen.labels) - _own(seen.before, seen.labels)


def margin(seen: Seen) -> Tensor:
    """Logit of the true label above the largest of the others."""
    others = seen.logits.scatter(1, seen.labels[:, None], -torch.inf)
    return _own(seen.logits, seen.labels) - others.amax(1)


def accuracy(seen: Seen) -> Tensor:
    """1 where the label is right, 0 else: no gradient."""
    return (seen.logits.argmax(1) == seen.labels).float()


def l1(seen: Seen) -> Tensor:
    """Minus the mean absolute change of pixels, in [-2, 0]."""
    return -(seen.pictures - seen.originals).abs().flatten(1).mean(1)


def ssim(seen: Seen) -> Tensor:
    """Structural similarity with the original, minus 1: 0 is no change. Source: Wang et al. 2004."""
    value = structural_similarity_index_measure(
        seen.pictures.clamp(-1, 1), seen.originals, data_range=2.0, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value.reshape(-1) - 1


def perceptual(seen: Seen) -> Tensor:
    """Minus the squared distance of the classifier's features, in [-4, 0]."""
    return -(seen.features - seen.features_before).square().sum(1)


def jpeg(seen: Seen) -> Tensor:
    """Minus the kilobytes of the picture as a JPEG of quality 95: a toy that no classifier is needed for, and no
    gradient. Source: Black et al. 2023, compressibility."""
    sizes = []
    for picture in seen.pictures.detach():
        file = io.BytesIO()
        to_pil(picture).save(file, "JPEG", quality=95)
        sizes.append(file.tell() / 1000)
    return -torch.tensor(sizes, device=seen.pictures.device)


REWARDS: dict[str, Callable[[Seen], Tensor]] = {
    "log_probability": log_probability,
    "ensemble": ensemble,
    "logit_change": logit_change,
    "margin": margin,
    "accuracy": accuracy,
    "l1": l1,
    "ssim": ssim,
    "perceptual": perceptual,
    "jpeg": jpeg,
}
DIFFERENTIABLE = frozenset(REWARDS) - {"accuracy", "jpeg"}


@dataclass(frozen=True)
class Server:
    """A reward that another program computes, over HTTP.

    POST {"pictures": [PNG as base64...], "originals": [...], "labels": [int...]} -> {"rewards": [number...]}
    """

    address: str
    patience_s: float = 30.0
    tries: int = 4

    def __call__(self, seen: Seen) -> Tensor:
        """(B,).

        Raises:
            RewardError: it is down after all tries, each after twice as long a wait, or answers something else.
        """
        said = {"pictures": _png(seen.pictures), "originals": _png(seen.originals), "labels": seen.labels.tolist()}
        request = urllib.request.Request(
            self.address, json.dumps(said).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        for number in range(self.tries):
            try:
                with urllib.request.urlopen(request, timeout=self.patience_s) as answer:
                    values = json.loads(answer.read(2**24))["rewards"]
                break
            except (OSError, ValueError, KeyError, TypeError) as error:
                if number + 1 == self.tries:
                    raise RewardError(f"the reward server {self.address} failed {self.tries} times: {error}") from error
                time.sleep(0.5 * 2**number)
        if not isinstance(values, list) or len(values) != len(seen.labels):
            raise RewardError(f"the reward server {self.address} gave no list of {len(seen.labels)} rewards")
        try:
            return torch.tensor(values, dtype=torch.float32, device=seen.pictures.device)
        except (TypeError, ValueError):
            raise RewardError(f"the reward server {self.address} gave rewards that are no numbers") from None


def _png(pictures: Tensor) -> list[str]:
    files = []
    for picture in pictures.detach():
        file = io.BytesIO()
        to_pil(picture).save(file, "PNG")
        files.append(base64.b64encode(file.getvalue()).decode())
    return files


def scored(seen: Seen, weights: Mapping[str, float], server: Server | None = None) -> dict[str, Tensor]:
    """Each of the rewards that have a weight, (B,), by its name; "server" names that of `server`.

    Raises:
        ValueError: an unknown reward.
        RewardError: one of them is not finite, or cannot be had.
    """
    parts: dict[str, Tensor] = {}
    for name in weights:
        if name != "server" and name not in REWARDS:
            raise ValueError(f"there is no reward {name!r}; there are {', '.join(REWARDS)}, and server with an address")
        if name == "server" and server is None:
            raise ValueError("the reward of a server needs its address")
        parts[name] = server(seen) if name == "server" and server else REWARDS[name](seen)
        if not parts[name].isfinite().all():
            rows = (~parts[name].isfinite()).nonzero()[:, 0].tolist()
            raise RewardError(
                f"the reward {name} is not a number for picture {rows[0]} of the batch ({len(rows)} in all)"
            )
    return parts


def weighed(parts: Mapping[str, Tensor], weights: Mapping[str, float], normalised: bool = False) -> Tensor:
    """(B,): the weighted sum of `scored` rewards.

    Args:
        normalised: each reward loses its mean over the batch and is divided by its deviation before it is weighted, so
            that rewards of other scales have the same say.
    """
    shown = {name: _standard(part) if normalised else part for name, part in parts.items()}
    return torch.stack([weights[name] * part for name, part in shown.items()]).sum(0)


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean()) / (values.std(correction=0) + 1e-6)
