"""Ten sentence templates with slots: a language without pictures, for learning from text alone.

    sentence <--fill / parse_template--> (template number, slots)       sentence <--encode / decode--> tokens

Templates and words are those of the original design, but the plural "boxs" is spelled "boxes". What a
sentence means is what its slots hold. Case and spacing are free on the way in.
"""

import random
import re
from functools import lru_cache
from math import prod

import numpy as np

from hubmodels.scenes.grammar import BOS, EOS, PAD
from hubmodels.scenes.splits import chance

SLOTS = {
    "size": ("tiny", "small", "medium", "large", "huge"),
    "color": (
        *("red", "blue", "green", "yellow", "orange", "purple"),
        *("pink", "brown", "black", "white", "gray"),
    ),
    "object": (
        *("ball", "cube", "sphere", "box", "cylinder"),
        *("pyramid", "star", "triangle", "circle", "square"),
    ),
    "objects": (
        *("balls", "cubes", "spheres", "boxes", "cylinders"),
        *("pyramids", "stars", "triangles", "circles", "squares"),
    ),
    "position": ("left", "right", "center", "top", "bottom", "corner", "middle"),
    "background": ("plain", "gradient", "textured", "striped", "dotted"),
    "action": ("sitting", "floating", "rotating", "glowing", "pulsing"),
}
"""What each kind of slot can hold. A slot of a template is a kind, or a kind and 2 for its second use."""

TEMPLATES = (
    "a {size} {color} {object} in the {position}",
    "a {color} {object} {action} on a {background} background",
    "{size} {color} {object} and {size2} {color2} {object2}",
    "a scene with a {color} {object} {action}",
    "a {background} background with a {color} {object}",
    "{color} {object} on the {position} and {color2} {object2} on the {position2}",
    "multiple {color} {objects} arranged in a pattern",
    "a {size} {object} {action} near a {size2} {object2}",
    "abstract scene with {color} and {color2} shapes",
    "geometric {object} in {color} against {background} surface",
)

_FIXED = {word for template in TEMPLATES for word in template.split() if "{" not in word}
VOCABULARY = (PAD, BOS, EOS, *sorted(_FIXED.union(*SLOTS.values())))
TOKEN = {word: token for token, word in enumerate(VOCABULARY)}
MAX_TOKENS = 2 + max(len(template.split()) for template in TEMPLATES)

SPLITS = ("train", "validation", "test")
TEST = 0.1
VALIDATION = 0.05


class TemplateError(ValueError):
    """A sentence that no template makes."""


def slots(template: int) -> dict[str, tuple[str, ...]]:
    """The names of a template's slots in order, and what each can hold."""
    return {name: SLOTS[name.rstrip("2")] for name in re.findall(r"{(\w+)}", TEMPLATES[template])}


def fill(template: int, words: dict[str, str]) -> str:
    """The sentence of a template with its slots filled. The inverse of `parse_template`."""
    return TEMPLATES[template].format(**words)


def count_sentences() -> int:
    """How many different sentences there are. No two templates share one, so the products add up."""
    return sum(prod(map(len, slots(number).values())) for number in range(len(TEMPLATES)))


@lru_cache(maxsize=1)
def _patterns() -> list[re.Pattern[str]]:
    def pattern(number: int) -> str:
        choices = {name: f"(?P<{name}>{'|'.join(words)})" for name, words in slots(number).items()}
        return TEMPLATES[number].format(**choices)

    return [re.compile(pattern(number)) for number in range(len(TEMPLATES))]


def parse_template(sentence: str) -> tuple[int, dict[str, str]]:
    """Which template made a sentence, and with what in its slots.

    Raises:
        TemplateError: none did.
    """
    tidy = " ".join(sentence.lower().split())
    for number, pattern in enumerate(_patterns()):
        found = pattern.fullmatch(tidy)
        if found:
            return number, found.groupdict()
    unknown = [word for word in tidy.split() if word not in TOKEN]
    why = f"“{unknown[0]}” is not one of their words" if unknown else f"“{tidy}” has another form"
    raise TemplateError(f"no template makes this sentence: {why}; try “{TEMPLATES[3]}”")


def sample_template(random_source: random.Random) -> str:
    """A random sentence: each template as likely as another, then each word of a slot."""
    number = random_source.randrange(len(TEMPLATES))
    return fill(number, {name: random_source.choice(words) for name, words in slots(number).items()})


def encode(sentence: str) -> list[int]:
    """Token ids of a sentence that a template makes: <bos>, one for each word, <eos>.

    Raises:
        TemplateError: no template makes it.
    """
    words = fill(*parse_template(sentence)).split()
    return [TOKEN[BOS], *(TOKEN[word] for word in words), TOKEN[EOS]]


def decode(tokens: list[int]) -> str:
    """The words of token ids; <pad>, <bos> and what follows <eos> are dropped."""
    words = [VOCABULARY[token] for token in tokens]
    if EOS in words:
        words = words[: words.index(EOS)]
    return " ".join(word for word in words if word not in (PAD, BOS))


@lru_cache(maxsize=1)
def mask_table() -> tuple[np.ndarray, np.ndarray]:
    """The sentences as an automaton, in the form of `grammar.mask_table`: `allowed` and `follow`, both (states,
    vocabulary). A state is the set of places, (template, words said), where a sentence can be."""
    forms = [
        [SLOTS[word.strip("{}").rstrip("2")] if "{" in word else (word,) for word in template.split()]
        for template in TEMPLATES
    ]
    order = {frozenset((number, 0) for number in range(len(forms))): 0}
    steps: list[tuple[int, str, frozenset[tuple[int, int]]]] = []
    queue = list(order)
    for state in queue:
        for word in VOCABULARY[3:]:
            after = frozenset((n, at + 1) for n, at in state if at < len(forms[n]) and word in forms[n][at])
            if after:
                steps.append((order[state], word, after))
                if after not in order:
                    order[after] = len(order)
                    queue.append(after)
    follow = np.full((len(order) + 1, len(VOCABULARY)), -1, np.int32)
    for row, word, after in steps:
        follow[row, TOKEN[word]] = order[after]
    for state, row in order.items():
        if any(at == len(forms[n]) for n, at in state):
            follow[row, TOKEN[EOS]] = len(order)
    follow[len(order), TOKEN[PAD]] = len(order)
    return follow >= 0, follow


def split_template(sentence: str) -> str:
    """The one of `SPLITS` that a sentence belongs to, by its hash.

    Raises:
        TemplateError: no template makes it.
    """
    drawn = chance(fill(*parse_template(sentence)))
    return "test" if drawn < TEST else "validation" if drawn < TEST + VALIDATION else "train"
