"""What the tokenizer is trained on: functions, each a scalar. Colours are OKLab."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.pixelscene.vqgan import firsts


def palette_cross_entropy(shares: Tensor, indices: Tensor, palette: Tensor) -> Tensor:
    """Of the right colour among those of the palette.

    Args:
        shares: of `log_shares`.
        indices: (B, H, W) whole numbers.
        palette: (B, K, 3).
    """
    return F.nll_loss(shares, firsts(palette).gather(1, indices.long().flatten(1)).view(indices.shape))


def local_contrast(colours: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of steps between neighbours to the right and below, of (B, 3, H, W).

    A mean over a dither has the right colour and no steps at all.
    """
    return torch.stack([(colours.diff(dim=axis) - true.diff(dim=axis)).abs().mean() for axis in (-1, -2)]).mean()


def lecam(real: Tensor, made: Tensor, mean_real: float, mean_made: float) -> Tensor:
    """How far scores of real pictures are from the running mean of made ones, and the other way round.

    It holds a discriminator back that knows its few real pictures by heart. Source: Tseng et al. 2021
    (arXiv 2104.03310), equation 5.
    """
    return (real - mean_made).square().mean() + (made - mean_real).square().mean()


class RunningScores:
    """Means of a discriminator's scores of real and of made pictures, for `lecam`."""

    DECAY = 0.999

    def __init__(self) -> None:
        self.real = self.made = 0.0

    def follow(self, real: Tensor, made: Tensor) -> None:
        """After each of its steps."""
        self.real = self.DECAY * self.real + (1 - self.DECAY) * float(real.detach().mean())
        self.made = self.DECAY * self.made + (1 - self.DECAY) * float(made.detach().mean())

    def state_dict(self) -> dict[str, float]:
        return {"real": self.real, "made": self.made}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.real, self.made = state["real"], state["made"]


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor, most: float = 10.0) -> Tensor:
    """By how much the adversarial loss must count to move the last layer as much as the reconstruction does.

    Source: Esser et al. 2021 (arXiv 2012.09841), equation 7.

    Args:
        reconstruction: scalar with a graph.
        adversarial: likewise.
        last: the weight of the last layer.
        most: cap.
    """
    (of_reconstruction,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    return (of_reconstruction.norm() / (of_adversarial.norm() + 1e-4)).clamp(max=most).detach()


def differentiably_augmented(pictures: Tensor) -> Tensor:
    """Each of (B, C, H, W) mirrored at random and moved by up to an eighth, black at the edge.

    The discriminator sees real and made pictures so; colours stay as they are, since a palette is what is judged.
    Chance is torch's, which a run seeds.
    Source: Zhao et al. 2020 (DiffAugment, arXiv 2006.10738).
    """
    height, width = pictures.shape[-2:]
    reach = max(1, height // 8), max(1, width // 8)
    rows = []
    for picture in pictures:
        if torch.rand(()) < 0.5:
            picture = picture.flip(-1)
        down, across = (int(torch.randint(2 * most + 1, ())) for most in reach)
        padded = F.pad(picture, (reach[1], reach[1], reach[0], reach[0]))
        rows.append(padded[:, down : down + height, across : across + width])
    return torch.stack(rows)
