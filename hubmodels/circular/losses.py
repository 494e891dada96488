"""What training wants of sentences, scenes and read-back words. Each loss is a pure function and gives a scalar.

B sentences, T words, V words of the vocabulary, S slots, E width of an embedding. Pictures (B, 3, R, R) in [-1, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PAD = 0


def consistency(logits: Tensor, words: Tensor) -> Tensor:
    """Mean negative log-likelihood, in nats a word, of the words (B, T) that a picture should be read as.

    Args:
        logits: (B, T, V), what the reader says of the picture, word by word.
        words: (B, T) with <eos>, padded with 0; padding does not count.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), words.flatten(), ignore_index=PAD)


def alignment(said: Tensor, seen: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE both ways between embeddings of sentences and of pictures, each (B, E): of all pictures of the batch a
    sentence is nearest to its own by cosine. Source: van den Oord et al. 2018, equation 4."""
    alike = F.normalize(said.float(), dim=1) @ F.normalize(seen.float(), dim=1).T / temperature
    own = torch.arange(len(alike), device=alike.device)
    return (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2


def kl_free_bits(mean: Tensor, log_variance: Tensor, free: float = 0.25) -> Tensor:
    """KL of the code from a standard normal, in nats a dimension, but never below `free`: what a dimension needs in
    order to say something costs nothing. Mean over the batch comes first. Source: Kingma et al. 2016, equation 15.

    Args:
        mean: (B, ...), with `log_variance` of the same shape.
    """
    mean, log_variance = mean.float(), log_variance.float()
    nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return nats.mean(0).clamp(min=free).mean()


def mumford_shah(pictures: Tensor, edge: float = 0.3) -> Tensor:
    """Spatial coherence: small differences of neighbours cost their square, an edge costs 1 and no more.

    d^2 / (d^2 + edge^2), for the differences d to the right and below: a smooth weak membrane. Source: Mumford & Shah
    1989 in the form of Geman & McClure 1987.
    """
    squares = torch.cat([pictures.diff(dim=-1).flatten(), pictures.diff(dim=-2).flatten()]).square()
    return (squares / (squares + edge**2)).mean()


def diversity(pictures: Tensor, margin: float = 0.15, others: int = 8) -> Tensor:
    """How much pictures of different sentences lack of being `margin` apart, mean absolute difference; each is compared
    with the next `others` of the batch, so that time and memory do not grow with its square."""
    rolls = range(1, min(len(pictures), others + 1))
    if not rolls:
        return pictures.sum() * 0
    apart = torch.stack([(pictures - pictures.roll(roll, 0)).abs().flatten(1).mean(1) for roll in rolls])
    return F.relu(margin - apart).mean()


def edges(pictures: Tensor, wanted: float = 0.15, softness: float = 1e-2) -> Tensor:
    """Perceptual structure: squared difference between the mean edge strength of a picture and `wanted`.

    Strength is the length of the Sobel gradient of luma, sqrt(x^2 + y^2 + softness^2) - softness: zero on a flat
    picture, where its gradient is zero too; without `softness` it would be the square root's, which is infinite.
    """
    luma = (pictures * pictures.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    sobel = pictures.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    gradient = F.conv2d(luma, torch.stack([sobel, sobel.T])[:, None])
    strength = (gradient.square().sum(1) + softness**2).sqrt() - softness
    return (strength.mean((1, 2)) - wanted).square().mean()


def color_consistency(colors: Tensor, attention: Tensor, tokens: Tensor, named: Tensor) -> Tensor:
    """Variance of what a colour word looks like from sentence to sentence, mean over the colour words of the batch.

    Args:
        colors: (B, S, 3), mean colour of the part of the picture that each slot draws.
        attention: (B, S, T), how much each slot looks at each word; sums to 1 over T.
        tokens: (B, T).
        named: (C,), tokens of the colour words.
    """
    share = attention.float() / attention.float().sum(1, keepdim=True).clamp(min=1e-6)
    shown = share.transpose(1, 2) @ colors.float()  # (B, T, 3), the colour where a word lives
    said = (tokens[..., None] == named).flatten(0, 1).to(shown)  # (B * T, C)
    count = said.sum(0)
    mean = said.T @ shown.flatten(0, 1) / count.clamp(min=1)[:, None]
    apart = (shown.flatten(0, 1)[:, None] - mean).square().sum(2)  # (B * T, C)
    spread = (said * apart).sum(0) / count.clamp(min=1)
    return spread.sum() / (count > 1).sum().clamp(min=1)


def language(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood, in nats, of each word (B, T) after those before it; logits (B, T, V)."""
    return consistency(logits[:, :-1], tokens[:, 1:])
