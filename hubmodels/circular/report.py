"""What a circular model is worth, from pixels alone, on sentences it was not trained on.

    report(model, ...) -> plain JSON      card(report) -> Markdown      publish(...) -> files to look at

Everything that is read is read from pictures of 8 bits a channel. Shares are in [0, 1].
"""

import torch
from torch import Tensor

from hubmodels.circular.model import CircularScene, likeliest
from hubmodels.circular.sentences import encode
from hubmodels.images import from_uint8, to_uint8
from hubmodels.scenes import parse
from hubmodels.scenes.reader import agrees, read


def painted(model: CircularScene, sentences: list[str], seed: int) -> Tensor:
    """Pictures (B, 3, 64, 64) in [-1, 1] as a file has them, of 8 bits a channel."""
    return from_uint8(to_uint8(model.paint(sentences, seed))).cpu()


def roundtrips(model: CircularScene, sentences: list[str], seed: int) -> tuple[list[str], float]:
    """What is read from the pictures of sentences, and what the pictures carry: nats a word that their own sentences
    are likelier than those of their neighbours. 0 is a picture that says nothing."""
    chances = model.log_probabilities(painted(model, sentences, seed))
    tokens, _ = model.tokenized(sentences)
    words = tokens[:, 1:].cpu()
    real = words != 0

    def likelihood(seen: Tensor) -> Tensor:
        return (seen[:, : words.shape[1]].gather(2, words[..., None])[..., 0] * real).sum() / real.sum()

    carried = float(likelihood(chances) - likelihood(chances.roll(1, 0)))
    return [reading.sentence for reading in likeliest(chances, model.config.language)], carried


def oracle_exact(model: CircularScene, sentences: list[str], seed: int) -> float:
    """Share of the pictures that the reader of `hubmodels.scenes`, which learned nothing, sees as exactly the scene."""
    seen = read(to_uint8(model.paint(sentences, seed)).cpu())
    return sum(agrees(one, parse(said)).exact for one, said in zip(seen, sentences, strict=True)) / len(sentences)


def territories(model: CircularScene, sentence: str) -> Tensor:
    """(3, 64, 64 N) in [-1, 1]: the picture of a sentence, then for each of its words where in the picture it lives."""
    picture = model.paint([sentence], 0)[0].cpu()
    maps = model.where(sentence, 0)[1 : len(encode(sentence, model.config.language)) - 1].cpu()
    return torch.cat([picture, *((picture + 1) * m - 1 for m in maps)], 2)
