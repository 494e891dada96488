"""The languages of circular: the automaton is the language, words are tokens, and mistakes are named."""

import itertools
import random
import re

import numpy as np
import pytest

from hubmodels.circular import sentences
from hubmodels.circular.data import Sentences, held_out
from hubmodels.circular.sentences import LANGUAGES, Language, SentenceError
from hubmodels.scenes import grammar, templates

SAID = "The red ball is left of the blue cube."


def counted(language: Language) -> int:
    """How many sentences the automaton accepts, by dynamic programming."""
    allowed, follow = sentences.automaton(language)
    end = len(allowed) - 1
    ways, total = {0: 1}, 0
    for _ in range(sentences.longest(language) - 1):
        after: dict[int, int] = {}
        for state, count in ways.items():
            for word in np.flatnonzero(allowed[state]):
                to = int(follow[state, word])
                after[to] = after.get(to, 0) + count
        total += after.pop(end, 0)
        ways = after
    assert not ways, "no sentence is longer than the longest"
    return total


def test_the_automaton_has_as_many_sentences_as_the_language() -> None:
    assert counted("templates") == templates.count_sentences() == 916_381
    assert counted("scenes") == grammar.count_sentences()
    assert counted("both") == counted("templates") + counted("scenes")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_automaton_accepts_sentences_and_only_those(language: Language) -> None:
    rng, (allowed, follow) = random.Random(0), sentences.automaton(language)
    known = sentences.vocabulary(language)
    for _ in range(200):
        said = sentences.sample(language, rng)
        tokens, state = sentences.encode(said, language), 0
        assert tokens[0] == 1 and tokens[-1] == 2 and len(tokens) <= sentences.longest(language)
        for token in tokens[1:]:
            assert allowed[state, token]
            state = follow[state, token]
        assert state == len(allowed) - 1 and list(np.flatnonzero(allowed[state])) == [0]
        assert sentences.decode([*tokens, 0, 0], language) == said == sentences.joined(sentences.words(said, language))
    for _ in range(200):  # any walk through the automaton is a sentence
        walked, state = [], 0
        while state < len(allowed) - 1:
            token = rng.choice(list(np.flatnonzero(allowed[state])))
            walked.append(known[token])
            state = follow[state, token]
        said = sentences.joined(walked[:-1])
        assert sentences.words(said, language) == walked[:-1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_has_one_token(language: Language) -> None:
    known = sentences.vocabulary(language)
    assert known[:3] == ("<pad>", "<bos>", "<eos>") and len(set(known)) == len(known)
    assert not any(" " in word for word in known)
    for sample in ("at", "12"):
        assert sample not in known, "places are not said"


def test_the_first_word_tells_the_language() -> None:
    first = {
        language: {sentences.vocabulary(language)[t] for t in np.flatnonzero(sentences.automaton(language)[0][0])}
        for language in LANGUAGES
    }
    assert not first["scenes"] & first["templates"] and first["both"] == first["scenes"] | first["templates"]
    assert all(sentences.is_scene([word]) for word in first["scenes"])
    assert not any(sentences.is_scene([word]) for word in first["templates"])


@pytest.mark.parametrize(
    ("said", "language", "words"),
    [
        ("", "both", "the sentence is empty; try “The red ball"),
        (" . , ", "templates", "none of the words of “ . , ” is known; try “a large red ball"),
        ("hello world", "both", "none of the words of “hello world” is known"),
        ("The rad ball is left of the blue cube.", "both", "“rad” is not a word of this language; did you mean red"),
        ("The red ball is qqqqqq.", "both", "it knows 100 words"),
        ("The red ball at 3 4 is left of the blue cube.", "both", "“at” is not a word"),
        ("red " * 200, "both", "has 800 characters; at most 400"),
        ("There is one red", "both", "breaks off"),
        ("a large red", "both", "has another form"),
        (SAID, "templates", "is not a word"),
        ("a large red ball in the center", "scenes", "“a” is not a word"),
        ("The red\x00 ball", "both", "red\\x00"),
    ],
)
def test_mistakes_are_named(said: str, language: Language, words: str) -> None:
    with pytest.raises(SentenceError, match=re.escape(words)):
        sentences.encode(said, language)


def test_places_are_never_offered() -> None:
    with pytest.raises(SentenceError) as caught:
        sentences.words("The red ball", "both")
    assert "the sentence breaks off" in str(caught.value) and "expected is" in str(caught.value)


def test_case_and_full_stops_are_free() -> None:
    assert sentences.encode("THE RED BALL IS LEFT OF THE BLUE CUBE", "both") == sentences.encode(SAID, "both")
    assert sentences.encode(" A  large red ball in the left. ", "both") == sentences.encode(
        "a large red ball in the left", "both"
    )


@pytest.mark.parametrize("said", [SAID, "There are three small green stars.", "a tiny gray cube in the center"])
def test_swaps_are_all_words_of_the_kind_that_fit(said: str) -> None:
    own = sentences.words(said, "both")
    known = sentences.SCENE_KINDS if sentences.is_scene(own) else sentences.TEMPLATE_KINDS
    wanted = set()
    for at, word in itertools.product(range(len(own)), sentences.vocabulary("both")[3:]):
        kind = sentences.kinds(own)[at]
        changed = sentences.joined([*own[:at], word, *own[at + 1 :]])
        if kind and word in known[kind] and word != own[at]:
            try:
                if sentences.words(changed, "both") == [*own[:at], word, *own[at + 1 :]]:
                    wanted.add((at, word))
            except SentenceError:
                continue
    found = sentences.swaps(said, "both")
    assert set(found) == wanted and len(found) == len(wanted) > 5


def test_kinds_say_what_a_word_is_about() -> None:
    assert sentences.kinds(sentences.words(SAID, "both")) == [
        *("", "color", "shape", "", "relation", "", "", "color", "shape", "")
    ]
    assert sentences.kinds(["a", "tiny", "gray", "cube", "in", "the", "center"])[1:] == [
        *("size", "color", "shape", "", "", "position")
    ]


def test_two_wordings_of_a_meaning_share_a_text_and_a_split() -> None:
    other = "The blue cube is right of the red ball."
    assert sentences.meaning(SAID) == sentences.meaning(other) != sentences.meaning(SAID.replace("left", "right"))
    assert sentences.split(SAID) == sentences.split(other)
    rng = random.Random(1)
    for _ in range(100):
        said = sentences.sample("both", rng)
        assert sentences.meaning(sentences.meaning(said)) == sentences.meaning(said)
        assert sentences.split(sentences.meaning(said)) == sentences.split(said)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_held_out_was_said_in_no_wording(language: Language) -> None:
    train = {sentences.meaning(Sentences(language, 500, 0)[row].sentence) for row in range(500)}
    test, validation = (held_out(language, 100, 0, name) for name in ("test", "validation"))
    assert len(set(test)) == len(set(validation)) == 100
    assert not train & {sentences.meaning(said) for said in [*test, *validation]}
    assert not {sentences.meaning(said) for said in test} & {sentences.meaning(said) for said in validation}
