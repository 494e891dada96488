"""The languages that `circular` speaks: sentences of `scenes.grammar` that do not say where things are, those of
`scenes.templates`, or both. Every word is a token, and one automaton knows which word can follow.

    sentence --words--> list of words --encode--> tokens --decode--> sentence

The two languages never begin with the same word, so the first word says which of them a sentence is in.
"""

import difflib
import random
import re
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from hubmodels.scenes import grammar, splits, templates
from hubmodels.scenes.grammar import BOS, EOS, PAD, SAID_SIZES, GrammarError
from hubmodels.scenes.templates import SLOTS, TemplateError
from hubmodels.scenes.world import BACKGROUNDS, COLORS, NUMBERS, PLURALS, SHAPES

Language = Literal["both", "scenes", "templates"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
SPLITS = ("train", "validation", "test")
MAX_CHARACTERS = 400

_SCENE_WORDS = tuple(w for w in grammar.VOCABULARY[3:] if w != "at" and w not in grammar.COORDINATES)
_TEMPLATE_WORDS = templates.VOCABULARY[3:]

SCENE_KINDS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": (*SHAPES, *PLURALS),
    "size": SAID_SIZES,
    "number": NUMBERS,
    "relation": ("left", "right", "above", "below", "on", "under", "in", "front", "behind", "inside", "around"),
    "background": BACKGROUNDS,
}
TEMPLATE_KINDS: dict[str, tuple[str, ...]] = {
    "color": SLOTS["color"],
    "shape": (*SLOTS["object"], *SLOTS["objects"]),
    "size": SLOTS["size"],
    "position": SLOTS["position"],
    "background": SLOTS["background"],
    "action": SLOTS["action"],
}
"""The words that say something, by what they say it about; the others only hold a sentence together."""


class SentenceError(ValueError):
    """A sentence that the language does not have. The message names the word and what may be meant."""


def vocabulary(language: Language) -> tuple[str, ...]:
    """Every word; word i is token i. The first three are <pad>, <bos> and <eos>."""
    own = {"scenes": _SCENE_WORDS, "templates": _TEMPLATE_WORDS, "both": (*_SCENE_WORDS, *_TEMPLATE_WORDS)}[language]
    return (PAD, BOS, EOS, *dict.fromkeys(own))


def is_scene(words: list[str]) -> bool:
    """Whether a sentence is one of `scenes.grammar`: of all words only "there" and "the" begin those."""
    return words[:1] in (["there"], ["the"])


def words(sentence: str, language: Language) -> list[str]:
    """The words of a sentence of the language.

    Raises:
        SentenceError: it is empty, too long, holds a word that is unknown (the nearest known ones are named), or has
            no such form.
    """
    if len(sentence) > MAX_CHARACTERS:
        raise SentenceError(f"the sentence has {len(sentence)} characters; at most {MAX_CHARACTERS} are read")
    said = re.findall(r"[.,]|[^\s.,]+", sentence.lower())
    known = vocabulary(language)[3:]
    if not any(word in known for word in said if word not in ".,"):
        example = (
            "a large red ball in the left" if language == "templates" else "The red ball is left of the blue cube."
        )
        what = f"none of the words of “{_shown(sentence)}” is known" if said else "the sentence is empty"
        raise SentenceError(f"{what}; try “{example}”")
    for word in said:
        if word not in known:
            near = difflib.get_close_matches(word, known, 3, 0.5)
            hint = (
                f"; did you mean {' or '.join(near)}?"
                if near
                else f"; it knows {len(known)} words, such as {known[20]}"
            )
            raise SentenceError(f"“{_shown(word)}” is not a word of this language{hint}")
    try:
        if language == "scenes" or (language == "both" and is_scene(said)):
            grammar.parse(sentence)
            return grammar.words(sentence)
        return templates.fill(*templates.parse_template(sentence.strip().removesuffix("."))).split()
    except (GrammarError, TemplateError) as error:
        # places, which the grammar of scenes can say, are not in this language
        hint = str(error).replace("the caption", "the sentence").replace("expected at, ", "expected ")
        raise SentenceError(hint) from None


def _shown(text: str) -> str:
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= 40 else plain[:40] + "…"


def kinds(words: list[str]) -> list[str]:
    """What each word of a sentence is about, a key of `SCENE_KINDS` or `TEMPLATE_KINDS`; "" for one about nothing."""
    known = SCENE_KINDS if is_scene(words) else TEMPLATE_KINDS
    return [next((kind for kind, members in known.items() if word in members), "") for word in words]


def swaps(sentence: str, language: Language) -> list[tuple[int, str]]:
    """Every (place, word) that can stand in a sentence instead of the word at that place, all others staying as they
    are: another word about the same. Places count from 0. Raises `SentenceError` as `words` does."""
    said = words(sentence, language)
    known = SCENE_KINDS if is_scene(said) else TEMPLATE_KINDS
    options = [(at, other) for at, kind in enumerate(kinds(said)) if kind for other in known[kind] if other != said[at]]
    return [(at, other) for at, other in options if _stands([*said[:at], other, *said[at + 1 :]], language)]


def _stands(words: list[str], language: Language) -> bool:
    """Whether words make a sentence."""
    follow, state, token = automaton(language)[1], 0, _tokens(language)
    for word in (*words, EOS):
        state = follow[state, token[word]]
        if state < 0:
            return False
    return True


def joined(words: list[str]) -> str:
    """Words as people write them."""
    return grammar.text(words) if is_scene(words) else " ".join(words)


def encode(sentence: str, language: Language) -> list[int]:
    """Tokens of a sentence: <bos>, words, <eos>. Raises `SentenceError` as `words` does."""
    token = _tokens(language)
    return [token[BOS], *(token[word] for word in words(sentence, language)), token[EOS]]


def decode(tokens: list[int], language: Language) -> str:
    """The sentence of tokens; <pad>, <bos> and what follows <eos> are dropped."""
    known = vocabulary(language)
    said = [known[token] for token in tokens]
    said = [word for word in said[: said.index(EOS)] if word != BOS] if EOS in said else said
    said = [word for word in said if word not in (PAD, BOS)]
    return joined(said)


@lru_cache(maxsize=3)
def _tokens(language: Language) -> dict[str, int]:
    return {word: token for token, word in enumerate(vocabulary(language))}


@lru_cache(maxsize=3)
def automaton(language: Language) -> tuple[np.ndarray, np.ndarray]:
    """Which word can come next, in the form of `grammar.mask_table`: `allowed` and `follow`, both (states, vocabulary).

    State 0 expects the first word; <eos> leads to the last state, in which only <pad> is allowed.
    """
    parts = []
    if language != "templates":
        parts.append((grammar.mask_table()[1], grammar.VOCABULARY))
    if language != "scenes":
        parts.append((templates.mask_table()[1], templates.VOCABULARY))
    token = _tokens(language)
    end = sum(len(table) - 1 for table, _ in parts) - (len(parts) - 1)
    whole = np.full((end + 1, len(token)), -1, np.int32)
    first = 1
    for table, known in parts:
        # states of this part: its start is 0, its end the common end, those between follow the parts before
        number = np.arange(len(table)) + first - 1
        number[0], number[-1] = 0, end
        for column, word in enumerate(known):
            if word in token:
                moves = table[:, column] >= 0
                whole[number[moves], token[word]] = number[table[moves, column]]
        first += len(table) - 2
    return whole >= 0, whole


@lru_cache(maxsize=3)
def longest(language: Language) -> int:
    """Tokens of the longest sentence, <bos> and <eos> included."""
    _, follow = automaton(language)
    reached, tokens = {0}, 1
    while reached != {len(follow) - 1}:
        after = follow[sorted(reached)]
        reached, tokens = {int(state) for state in after[after >= 0]}, tokens + 1
    return tokens


def sample(language: Language, rng: random.Random) -> str:
    """A random sentence; of both languages, scenes twice as often as templates."""
    if language == "scenes" or (language == "both" and rng.random() < 2 / 3):
        return grammar.caption(grammar.sample(rng))
    return templates.sample_template(rng)


def split(sentence: str) -> str:
    """Where a sentence belongs: train, validation or test, by its meaning; or a compositional split of scenes."""
    if is_scene(sentence.lower().split()):
        return splits.split(grammar.parse(sentence))
    return templates.split_template(sentence)


def meaning(sentence: str) -> str:
    """One text for all sentences that mean the same: left of (A, B) and right of (B, A) share it."""
    return grammar.canonical(grammar.parse(sentence)) if is_scene(sentence.lower().split()) else sentence.lower()
