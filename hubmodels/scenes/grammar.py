"""The language of scenes: one automaton gives tokens, parser, wording, enumeration, sampling and decoding masks.

    caption    = statement [ "The background is" BACKGROUND "." ]
    statement  = "There" ("is one" | "are" NUMBER) thing "."
               | "The" [NUMBER] thing ("is" | "are") RELATION target { link } "."
    target     = "the" [NUMBER] thing
    link       = ", which" ("is" | "are") RELATION target      of the thing named last
               | "and" RELATION target                         of the thing named first
    thing      = [SIZE] COLOR SHAPE [ "at" X Y { "and" X Y } ]  one X Y for each of its count

What a regular expression cannot say at a glance lives in `State`: agreement, at most four groups and six things,
counts up to three in relations, contacts (on, in front of, inside and their inverses) only between two single
things and once for each, and inside only for something small in something large that can hold it.

A sentence is a list of words; every word is one token. Case and spacing are free on the way in.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np

from hubmodels.scenes.world import (
    BACKGROUNDS,
    CANVAS,
    COLORS,
    CONTAINERS,
    DIRECTIONS,
    INVERSE,
    MAX_COUNT_IN_RELATION,
    MAX_GROUPS,
    MAX_INSTANCES,
    NUMBERS,
    PLURALS,
    RELATIONS,
    SHAPES,
    Group,
    Relation,
    Scene,
)

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
SAID_SIZES = ("small", "large")
COORDINATES = tuple(str(i) for i in range(CANVAS))
VOCABULARY = (
    *(PAD, BOS, EOS, ".", ",", "there", "the", "is", "are", "and", "which", "at", "background"),
    *("left", "right", "of", "above", "below", "on", "under", "in", "front", "behind", "inside", "around"),
    *NUMBERS,
    *SAID_SIZES,
    *COLORS,
    *SHAPES,
    *PLURALS,
    *BACKGROUNDS,
    *COORDINATES,
)
TOKEN = {word: token for token, word in enumerate(VOCABULARY)}
MAX_TOKENS = 80
MAX_CHARACTERS = 1000


class GrammarError(ValueError):
    """A sentence outside the language. The message points at the word and says what could stand there."""


@dataclass(frozen=True, order=True)
class State:
    """Where in a sentence we are: what is expected next, and of the rest only what can still matter."""

    phase: str
    places: int = 0
    """Things in the group being named; from its name on, those whose place is still to be given."""
    groups: int = 0
    total: int = 0
    size: str = ""
    kind: str = ""
    """What is being named: "inside", "around" or "contact" the target of such a relation, "there" a count."""
    by_first: bool = False
    """Whether a relation is being said of the first group."""
    first: str = ""
    """Contacts that the first group can still be in, a key of `_CONTACTS`."""
    last: str = ""
    """The same of the group named last, or of the one that a relation is being said of."""
    plural: bool = False
    """Whether the group named last is of several things."""


START = State("start")
END = State("end")

_RELATION_WORDS = {kind: tuple(kind.split()) for kind in RELATIONS}
_PLURAL: dict[str, str] = dict(zip(SHAPES, PLURALS, strict=True))
_PLAIN = ("on", "under", "in front of", "behind")
_CONTACTS = {"": (), "plain": _PLAIN, "small": (*_PLAIN, "inside"), "holder": (*_PLAIN, "around")}


def _after_thing(s: State) -> dict[str, State]:
    """What may follow a named group and its places."""
    again = State("relation", 0, s.groups, s.total, by_first=True, first=s.first, last=s.first)
    if s.groups == 1:
        return {"are" if s.plural else "is": again}
    follow: dict[str, State] = {".": State("closed")}
    if s.groups < MAX_GROUPS:
        follow[","] = replace(s, phase="which")
        follow["and"] = again
    return follow


def _named(s: State, shape: str) -> State:
    """The state after a shape word: the group is complete but for its places."""
    groups = s.groups + 1
    if s.kind == "there" or groups == MAX_GROUPS or s.total == MAX_INSTANCES:
        return State("named", s.places, MAX_GROUPS)  # no group can follow
    contacts = "small" if s.size == "small" else "holder" if s.size == "large" and shape in CONTAINERS else "plain"
    if s.places > 1 or s.kind:
        contacts = ""
    first = s.first if s.groups else contacts
    return State("named", s.places, groups, s.total, first=first, last=contacts, plural=s.places > 1)


def _thing(s: State) -> dict[str, State]:
    """Size or colour. Inside and around also decide the size and the shape of their target."""
    colors = dict.fromkeys(COLORS, replace(s, phase="shape"))
    sizes = {size: replace(s, phase="color", size=size) for size in SAID_SIZES}
    if s.kind == "inside":
        return {"large": sizes["large"]}
    if s.kind == "around":
        return {"small": sizes["small"]}
    return {**sizes, **colors}


@cache
def choices(s: State) -> dict[str, State]:
    """Every word that may come next, with the state it leads to. Treat the answer as read-only."""
    phase = s.phase
    if phase == "start":
        return {"there": State("there"), "the": State("number")}
    if phase == "there":
        return {"is": State("one"), "are": State("many")}
    if phase == "one":
        return {"one": State("thing", 1, kind="there")}
    if phase == "many":
        return {word: State("thing", n, kind="there") for n, word in enumerate(NUMBERS[1:], start=2)}
    if phase == "number":
        most = 1 if s.kind else min(MAX_COUNT_IN_RELATION, MAX_INSTANCES - s.total)
        counted = {n: replace(s, phase="thing", places=n, total=s.total + n) for n in range(1, most + 1)}
        return {**{NUMBERS[n - 1]: counted[n] for n in range(2, most + 1)}, **_thing(counted[1])}
    if phase == "thing":
        return _thing(s)
    if phase == "color":
        return dict.fromkeys(COLORS, replace(s, phase="shape"))
    if phase == "shape":
        shapes = CONTAINERS if s.kind == "inside" else SHAPES
        return {(shape if s.places == 1 else _PLURAL[shape]): _named(s, shape) for shape in shapes}
    if phase == "named":
        return {"at": replace(s, phase="x"), **_after_thing(s)}
    if phase == "x":
        return dict.fromkeys(COORDINATES, replace(s, phase="y"))
    if phase == "y":
        left = s.places - 1
        return dict.fromkeys(COORDINATES, replace(s, phase="next place" if left else "placed", places=left))
    if phase == "next place":
        return {"and": replace(s, phase="x")}
    if phase == "placed":
        return _after_thing(s)
    if phase == "which":
        return {"which": replace(s, phase="verb")}
    if phase == "verb":
        return {"are" if s.plural else "is": replace(s, phase="relation", plural=False)}
    if phase.startswith("relation"):
        return _relation_words(s)
    if phase == "target":
        return {"the": replace(s, phase="number")}
    if phase == "closed":
        return {"the": State("background"), EOS: END}
    if phase == "background":
        return {"background": State("background is")}
    if phase == "background is":
        return {"is": State("background kind")}
    if phase == "background kind":
        return dict.fromkeys(BACKGROUNDS, State("background ends"))
    if phase == "background ends":
        return {".": State("finished")}
    if phase == "finished":
        return {EOS: END}
    return {}


def _relation_words(s: State) -> dict[str, State]:
    """The next word of a relation; the phase carries the words said so far, as in "relation in front"."""
    said = tuple(s.phase.split()[1:])
    follow = {}
    for kind in RELATIONS:
        words = _RELATION_WORDS[kind]
        if (kind in DIRECTIONS or kind in _CONTACTS[s.last]) and words[:-1] == said:
            follow[words[-1]] = _target(s, kind)
        elif (kind in DIRECTIONS or kind in _CONTACTS[s.last]) and words[: len(said)] == said:
            follow[words[len(said)]] = replace(s, phase=" ".join(("relation", *words[: len(said) + 1])))
    return follow


def _target(s: State, kind: str) -> State:
    """The state after a whole relation: of those before, only the first group can be spoken of again."""
    contact = "" if kind in DIRECTIONS else kind if kind in ("inside", "around") else "contact"
    first = "" if contact and s.by_first else s.first
    return State("target", 0, s.groups, s.total, kind=contact, first=first)


# --- words and tokens -------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Split a caption into words, lower case, full stops and commas apart. A missing last full stop is supplied.

    Raises:
        GrammarError: the caption is empty or longer than `MAX_CHARACTERS`.
    """
    if len(text) > MAX_CHARACTERS:
        raise GrammarError(f"the caption has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    found = re.findall(r"[.,]|[^\s.,]+", text.lower())
    if not found:
        raise GrammarError('the caption is empty; try "The red ball is left of the blue cube."')
    return found if found[-1] == "." else [*found, "."]


def text(sentence: list[str]) -> str:
    """Words joined as people write them: "There are two red balls. The background is gray."."""
    joined = re.sub(r" ([.,])", r"\1", " ".join(sentence))
    return re.sub(r"(^|\. )([a-z])", lambda m: m[1] + m[2].upper(), joined)


def encode(caption: str) -> list[int]:
    """Token ids of a caption that the grammar accepts: <bos>, words, <eos>.

    Raises:
        GrammarError: the caption is outside the language.
    """
    sentence = words(caption)
    _walk(sentence)
    return [TOKEN[BOS], *(TOKEN[w] for w in sentence), TOKEN[EOS]]


def decode(tokens: list[int]) -> str:
    """The caption of token ids; <pad>, <bos> and what follows <eos> are dropped."""
    listed = [VOCABULARY[t] for t in tokens]
    if EOS in listed:
        listed = listed[: listed.index(EOS)]
    return text([w for w in listed if w not in (PAD, BOS)])


# --- parsing ----------------------------------------------------------------------------------------------------


def _complaint(sentence: list[str], at: int, state: State) -> GrammarError:
    """Point at the word, list what could stand there, and say why if it is about meaning.

    A full stop too early is not what is wrong, least of all where `words` supplied it: the caption breaks off there.
    """
    fitting = choices(state)
    could = [_SPOKEN.get(word, word) for word in fitting if word not in COORDINATES]
    if "0" in fitting:
        could.append(f"a number from 0 to {CANVAS - 1}")
    expected = f"expected {', '.join(could)}"
    said = [_readable(word) for word in sentence]
    if at == len(sentence) - 1 and sentence[at] == "." and EOS not in fitting:
        return GrammarError(f"the caption breaks off: {' '.join([*said[:at], '[...]'])}; {expected}")
    shown = " ".join([*said[:at], f"[{said[at]}]", *said[at + 1 :]])
    unknown = "" if sentence[at] in TOKEN else " is not a word of this world"
    why = _reason(sentence[at], state)
    return GrammarError(f"word {at + 1}, “{said[at]}”{unknown}: {shown}; {expected}{why and '; ' + why}")


_SPOKEN = {".": "a full stop", ",": "a comma", EOS: "the end"}


def _readable(word: str) -> str:
    """A word as it can be printed in one line."""
    plain = word if word.isprintable() else ascii(word)[1:-1]
    return plain if len(plain) <= 24 else plain[:24] + "…"


def _reason(word: str, state: State) -> str:
    """Why a word that fits by grammar alone makes no sense here; empty if it does not fit by grammar either."""
    holder = f"large {', '.join(CONTAINERS[:-1])} or {CONTAINERS[-1]}"
    free = "that touches nothing else can be"
    if state.phase == "relation" and word == "inside":
        return f"only a single small thing {free} inside another, a {holder}"
    if state.phase == "relation" and word == "around":
        return f"only a single {holder} {free} around another, a small thing"
    if state.phase == "relation" and word in ("on", "under", "in", "behind"):
        return f"only a single thing {free} {'in front of' if word == 'in' else word} another"
    if state.phase == "number" and word in NUMBERS[1:]:
        few = f"a group in a relation has at most {MAX_COUNT_IN_RELATION} things, a scene {MAX_INSTANCES}"
        return "only two single things can touch" if state.kind else few
    unfit = {
        ("number", "inside"): ("small", *COLORS),
        ("shape", "inside"): SHAPES,
        ("number", "around"): ("large", *COLORS),
    }
    if word in unfit.get((state.phase, state.kind), ()):
        return f"only a {holder} can hold something, and only something small"
    if state.phase in ("named", "placed") and state.groups == MAX_GROUPS and word in (",", "and"):
        return f"“there” names one group, and a scene has at most {MAX_GROUPS} groups and {MAX_INSTANCES} things"
    return ""


def _walk(sentence: list[str]) -> list[State]:
    """The state before each word. Raises `GrammarError` where the sentence leaves the language.

    Wherever a full stop is allowed a sentence may end, and `words` ends with one, so the last state needs no check.
    """
    state, passed = START, []
    for at, word in enumerate(sentence):
        passed.append(state)
        follow = choices(state).get(word) if word != EOS else None
        if follow is None:
            raise _complaint(sentence, at, state)
        state = follow
    return passed


def parse(caption: str) -> Scene:
    """What a caption means.

    Raises:
        GrammarError: the caption is outside the language; the message says which word and what could stand there.
    """
    sentence = words(caption)
    named: list[tuple[str, str, str, int]] = []
    cells: list[list[int]] = []
    relations: list[Relation] = []
    size, color, background = "medium", "", "white"
    kind, source = "", 0
    for word, state in zip(sentence, _walk(sentence), strict=True):
        if word in SAID_SIZES:
            size = word
        elif word in COLORS:
            color = word
        elif state.phase == "shape":
            shape = word if state.places == 1 else SHAPES[PLURALS.index(word)]
            if named:
                relations.append(Relation(kind, source, len(named)))
            named.append((color, shape, size, state.places))
            cells.append([])
            size = "medium"
        elif state.phase == "relation":
            kind, source = word, 0 if state.by_first else len(named) - 1
        elif state.phase.startswith("relation"):
            kind += " " + word
        elif state.phase in ("x", "y"):
            cells[-1].append(int(word))
        elif state.phase == "background kind":
            background = word
    places = [tuple(zip(c[::2], c[1::2], strict=True)) for c in cells]
    groups = tuple(Group(*about, where) for about, where in zip(named, places, strict=True))
    return Scene(groups, tuple(relations), background)


def suggestions(caption: str) -> list[str]:
    """Words that can follow what has been typed so far; none where it must end or has already left the language."""
    if len(caption) > MAX_CHARACTERS:
        return []
    state = START
    for word in re.findall(r"[.,]|[^\s.,]+", caption.lower()):
        if word not in choices(state) or word == EOS:
            return []
        state = choices(state)[word]
    return [w for w in choices(state) if w != EOS]


# --- wording ----------------------------------------------------------------------------------------------------


def _noun(group: Group) -> list[str]:
    """Size, colour, shape and places of a group."""
    size = [] if group.size == "medium" else [group.size]
    noun = group.shape if group.count == 1 else _PLURAL[group.shape]
    places = " and ".join(f"{x} {y}" for x, y in group.places)
    return [*size, group.color, noun, *(["at", *places.split()] if places else [])]


def _the(group: Group) -> list[str]:
    return ["the", *([NUMBERS[group.count - 1]] if group.count > 1 else []), *_noun(group)]


def caption(scene: Scene) -> str:
    """Say a scene in the order of its groups. The inverse of `parse`.

    Raises:
        ValueError: the relations do not tie each group to the first one or to the one before it.
    """
    head, *rest = scene.groups
    verb = ["is" if head.count == 1 else "are"]
    if not rest:
        said = ["there", *verb, NUMBERS[head.count - 1], *_noun(head)]
    else:
        if len(scene.relations) != len(rest):
            raise ValueError(f"{len(rest) + 1} groups need {len(rest)} relations, got {len(scene.relations)}")
        said = [*_the(head), *verb]
        for index, (relation, group) in enumerate(zip(scene.relations, rest, strict=True), start=1):
            if relation.target != index or relation.source not in (0, index - 1):
                raise ValueError("each group must be related to the first one or to the one before it")
            if index > 1:
                before = "is" if scene.groups[index - 1].count == 1 else "are"
                said += ["and"] if relation.source == 0 else [",", "which", before]
            said += [*_RELATION_WORDS[relation.kind], *_the(group)]
    if scene.background != "white":
        said += [".", "the", "background", "is", scene.background]
    return text([*said, "."])


def wordings(scene: Scene) -> list[Scene]:
    """Every scene that says the same with its groups in another order, sayable as it stands.

    Relations form a tree on at most four groups, so there is always at least one.
    """
    edges = [(r.source, r.target, r.kind) for r in scene.relations]
    edges += [(t, s, INVERSE[k]) for s, t, k in edges]

    def grow(order: list[int], relations: list[Relation]) -> Iterator[Scene]:
        if len(order) == len(scene.groups):
            yield Scene(tuple(scene.groups[i] for i in order), tuple(relations), scene.background)
            return
        for source, target, kind in edges:
            # the second group can only follow the first, so "first" and "last" name the same there
            if target not in order and source in (order[0], order[-1]):
                link = Relation(kind, order.index(source), len(order))
                yield from grow([*order, target], [*relations, link])

    return [said for root in range(len(scene.groups)) for said in grow([root], [])]


def canonical(scene: Scene) -> str:
    """One caption for each meaning: left-of(A, B) and right-of(B, A) share it. Places of a group are sorted."""
    tidy = replace(scene, groups=tuple(replace(g, places=tuple(sorted(g.places))) for g in scene.groups))
    return min(caption(said) for said in wordings(tidy))


# --- enumeration, sampling, masks -------------------------------------------------------------------------------


def sentences(vocabulary: frozenset[str], state: State = START) -> Iterator[list[str]]:
    """Every sentence whose words all lie in `vocabulary`, in a fixed order."""
    for word, follow in choices(state).items():
        if word == EOS:
            yield []
        elif word in vocabulary:
            for rest in sentences(vocabulary, follow):
                yield [word, *rest]


@cache
def count_sentences(state: State = START, placed: bool = False) -> int:
    """How many sentences the language has; without placement clauses unless `placed`."""
    follow = ((w, f) for w, f in choices(state).items() if placed or w != "at")
    return sum(1 if word == EOS else count_sentences(after, placed) for word, after in follow)


LINKS = 0.45
"""Chance that a sampled sentence goes on to another group, where it can."""


def sample(random_source: random.Random, relational: float = 0.85) -> Scene:
    """A random scene without places: `relational` of them with relations, sizes equally likely, backgrounds in half."""
    rng = random_source
    state, sentence = START, []
    while state != END:
        options = {w: f for w, f in choices(state).items() if w != "at"}
        if state.phase == "start":
            word = "the" if rng.random() < relational else "there"
        elif state.phase == "there":
            word = "is" if rng.random() < 1 / len(NUMBERS) else "are"
        elif state.phase == "number":
            word = _sample_number(rng, options)
        elif state.phase == "named" and "." in options:
            more = [w for w in options if w != "."]
            word = rng.choice(more) if more and rng.random() < LINKS else "."
        elif state.phase.startswith("relation"):
            word = rng.choices(list(options), [_kinds_behind(f) for f in options.values()])[0]
        elif state.phase == "closed":
            word = "the" if rng.random() < 0.5 else EOS
        else:
            word = _sample_thing(rng, options)
        state = options[word]
        if word != EOS:
            sentence.append(word)
    return parse(text(sentence))


def _kinds_behind(state: State) -> int:
    """How many relations a half-said relation can still become, so that each kind is equally likely."""
    return 1 if state.phase == "target" else sum(map(_kinds_behind, choices(state).values()))


def _sample_number(rng: random.Random, options: dict[str, State]) -> str:
    numbers = [w for w in options if w in NUMBERS]
    if numbers and rng.random() < 0.2:
        return rng.choice(numbers)
    return _sample_thing(rng, {w: f for w, f in options.items() if w not in NUMBERS})


def _sample_thing(rng: random.Random, options: dict[str, State]) -> str:
    """A word at random; where sizes and colours compete, each size (medium is silence) has a third."""
    sizes = [w for w in SAID_SIZES if w in options]
    others = [w for w in options if w not in SAID_SIZES]
    if sizes and (not others or rng.random() < 2 / 3):
        return rng.choice(sizes)
    return rng.choice(others)


@lru_cache(maxsize=1)
def mask_table() -> tuple[np.ndarray, np.ndarray]:
    """The automaton as arrays, for decoding in batches without Python in the loop.

    Returns:
        `allowed` (states, vocabulary) bool and `follow` (states, vocabulary) int32, the next state or -1. State 0
        expects the first word after <bos>; <eos> leads to the last state, in which only <pad> is allowed.
    """
    order: dict[State, int] = {START: 0}
    queue = [START]
    for state in queue:
        for follow in choices(state).values():
            if follow not in order and follow != END:
                order[follow] = len(order)
                queue.append(follow)
    order[END] = len(order)
    follow_table = np.full((len(order), len(VOCABULARY)), -1, np.int32)
    for state, row in order.items():
        for word, follow in choices(state).items():
            follow_table[row, TOKEN[word]] = order[follow]
    follow_table[order[END], TOKEN[PAD]] = order[END]
    return follow_table >= 0, follow_table
