import itertools
import random
import re
from collections import Counter

import pytest

from hubmodels.scenes import templates
from hubmodels.scenes.templates import SLOTS, TEMPLATES, VOCABULARY, TemplateError

RARE = (0, 1, 3, 4, 6, 7, 8, 9)
"""Templates few enough to enumerate; the other two have 302,500 and 592,900 sentences."""


def every(number):
    """All sentences of a template, slots filled by plain substitution."""
    names = re.findall(r"{(\w+)}", TEMPLATES[number])
    for choice in itertools.product(*(SLOTS[name.strip("2")] for name in names)):
        sentence = TEMPLATES[number]
        for name, word in zip(names, choice, strict=True):
            sentence = sentence.replace("{" + name + "}", word)
        yield sentence, dict(zip(names, choice, strict=True))


def test_each_sentence_has_one_reading_and_the_count_is_exact():
    seen = set()
    for number in RARE:
        for sentence, slots in every(number):
            assert templates.parse_template(sentence) == (number, slots)
            seen.add(sentence)
    large = {sentence for number in (2, 5) for sentence, _ in every(number)}
    assert templates.count_sentences() == len(seen | large) == 916_381


def test_samples_come_back_from_slots_and_from_tokens():
    rng = random.Random(0)
    numbers = Counter()
    for _ in range(1000):
        sentence = templates.sample_template(rng)
        number, slots = templates.parse_template(sentence)
        numbers[number] += 1
        assert templates.fill(number, slots) == sentence
        tokens = templates.encode(sentence)
        assert len(tokens) <= templates.MAX_TOKENS
        assert templates.decode([*tokens, 0, 0]) == sentence
    assert min(numbers[n] for n in range(10)) > 60


def test_the_vocabulary_is_fixed():
    assert VOCABULARY[:3] == ("<pad>", "<bos>", "<eos>")
    assert list(VOCABULARY[3:]) == sorted(set(VOCABULARY[3:]))
    assert len(VOCABULARY) == 73
    assert not any(" " in word for word in VOCABULARY)  # so joining words by a space loses nothing


def test_splits_follow_the_sentence_and_nothing_else():
    sentences = [sentence for number in RARE for sentence, _ in every(number)]
    shares = Counter(templates.split_template(sentence) for sentence in sentences)
    assert set(shares) == set(templates.SPLITS)
    for name, share in {"train": 0.85, "validation": 0.05, "test": 0.1}.items():
        assert abs(shares[name] / len(sentences) - share) < 0.01
    assert templates.split_template("A  Scene with a RED ball glowing") == templates.split_template(
        "a scene with a red ball glowing"
    )


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("a scene with a red blob glowing", "“blob” is not one of their words"),
        ("a red", "“a red” has another form"),
        ("", "another form"),
    ],
)
def test_other_sentences_are_refused(sentence, why):
    for use in (templates.parse_template, templates.encode, templates.split_template):
        with pytest.raises(TemplateError, match=why):
            use(sentence)
