"""The grammar against what is written here without it: the original language, a recogniser, a sum, a matcher."""

import hashlib
import itertools
import random
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from math import prod

import numpy as np
import pytest

from hubmodels.scenes.grammar import (
    END,
    EOS,
    MAX_CHARACTERS,
    MAX_TOKENS,
    PAD,
    START,
    TOKEN,
    VOCABULARY,
    GrammarError,
    State,
    canonical,
    caption,
    choices,
    count_sentences,
    decode,
    encode,
    mask_table,
    parse,
    sample,
    sentences,
    suggestions,
    wordings,
    words,
)
from hubmodels.scenes.world import (
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    INVERSE,
    NUMBERS,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Relation,
    Scene,
)

# --- the original language, said again here -----------------------------------------------------------------------


def test_all_sentences_of_the_original_mean_the_same() -> None:
    things = list(itertools.product(("red", "green", "blue", "yellow"), ("ball", "cube", "block")))
    meant = {}
    for color, shape in things:
        meant[f"There is one {color} {shape}."] = Scene((Group(color, shape),))
        for count, number in enumerate(("two", "three", "four", "five"), start=2):
            meant[f"There are {number} {color} {shape}s."] = Scene((Group(color, shape, count=count),))
    for (c1, s1), kind, (c2, s2) in itertools.product(things, ("left of", "right of", "on", "in front of"), things):
        groups = Group(c1, s1), Group(c2, s2)
        meant[f"The {c1} {s1} is {kind} the {c2} {s2}."] = Scene(groups, (Relation(kind, 0, 1),))
    assert len(meant) == 636
    for said, scene in meant.items():
        assert parse(said) == scene and caption(scene) == said and decode(encode(said)) == said


def test_longer_sentences_mean_what_they_say() -> None:
    said = "There are two large pink crosses at 3 4 and 63 0. The background is checkered."
    assert parse(said) == Scene((Group("pink", "cross", "large", 2, ((3, 4), (63, 0))),), (), "checkered")
    said = "The red ball is above the two blue cubes, which are below the small red star at 7 6 and on the pink ring."
    ball, cubes, ring = Group("red", "ball"), Group("blue", "cube", count=2), Group("pink", "ring")
    relations = Relation("above", 0, 1), Relation("below", 1, 2), Relation("on", 0, 3)
    assert parse(said) == Scene((ball, cubes, Group("red", "star", "small", places=((7, 6),)), ring), relations)
    said = "The large red ball is around the small pink ball and right of the red ring, which is below the pink star."
    groups = Group("red", "ball", "large"), Group("pink", "ball", "small"), Group("red", "ring"), Group("pink", "star")
    relations = Relation("around", 0, 1), Relation("right of", 0, 2), Relation("below", 2, 3)
    assert parse(said) == Scene(groups, relations)


# --- the vocabulary is saved with models --------------------------------------------------------------------------


def test_the_vocabulary_is_fixed() -> None:
    assert " ".join(VOCABULARY) == (
        "<pad> <bos> <eos> . , there the is are and which at background "
        "left right of above below on under in front behind inside around "
        "one two three four five small large red green blue yellow purple orange cyan pink "
        "ball cube block triangle star diamond ring cross "
        "balls cubes blocks triangles stars diamonds rings crosses "
        "white gray black striped dotted checkered shaded " + " ".join(str(i) for i in range(64))
    )
    assert [TOKEN[word] for word in VOCABULARY] == list(range(127))


# --- an independent recogniser ------------------------------------------------------------------------------------

COLOR, ONE, MANY = "|".join(COLORS), "|".join(SHAPES), "|".join(PLURALS)
NUMBER = r"(?:[0-9]|[1-5][0-9]|6[0-3])\b"
THING = rf"(?:(?:small|large) )?(?:{COLOR}) (?:{ONE}|{MANY})\b(?: at {NUMBER} {NUMBER}(?: and {NUMBER} {NUMBER})*)?"
NOUN = rf"the (?:(?:two|three|four|five) )?{THING}"
KIND = "|".join(RELATIONS)
SENTENCE = re.compile(
    rf"(?:there (?P<verb>is|are) (?P<number>{'|'.join(NUMBERS)}) (?P<counted>{THING})"
    rf"|(?P<head>{NOUN}) (?P<headverb>is|are) (?P<kind>{KIND}) (?P<target>{NOUN})"
    rf"(?P<links>(?: , which (?:is|are) (?:{KIND}) {NOUN}| and (?:{KIND}) {NOUN})*)"
    rf") \.(?: the background is (?:{'|'.join(BACKGROUNDS)}) \.)?"
)
LINK = re.compile(rf" (?:, which (?P<verb>is|are)|and) (?P<kind>{KIND}) (?P<noun>{NOUN})")


@cache
def described(noun: str) -> tuple[int, str, str, bool]:
    """Count, size and shape of a noun phrase, and whether number, plural and places agree."""
    said = noun.removeprefix("the ").split(" at ")
    listed = said[0].split()
    count = NUMBERS.index(listed[0]) + 1 if listed[0] in NUMBERS else 1
    size = next((w for w in listed if w in ("small", "large")), "medium")
    shape = listed[-1] if listed[-1] in SHAPES else SHAPES[PLURALS.index(listed[-1])]
    agree = (listed[-1] in PLURALS) == (count > 1)
    return count, size, shape, agree and (len(said) == 1 or said[1].count(" and ") == count - 1)


def sensible(things: list[tuple[int, str, str]], relations: list[tuple[str, int, int]]) -> bool:
    """The rules of this world, said over groups (count, size, shape) and relations (kind, source, target)."""
    touched = [index for kind, *pair in relations if kind not in DIRECTIONS for index in pair]
    insides = [(s, t) if kind == "inside" else (t, s) for kind, s, t in relations if kind in ("inside", "around")]
    return (
        len(things) <= 4
        and sum(count for count, *_ in things) <= 6
        and all(count <= 3 for count, *_ in things)
        and all(things[index][0] == 1 for index in touched)
        and len(touched) == len(set(touched))
        and all(things[a][1] == "small" and things[b][1] == "large" for a, b in insides)
        and all(things[b][2] in ("ball", "cube", "diamond") for _, b in insides)
    )


def recognised(sentence: list[str]) -> tuple[bool, bool]:
    """Whether a sentence is grammatical, by a regular expression and agreement, and whether it is sensible too."""
    found = SENTENCE.fullmatch(" ".join(sentence))
    if not found:
        return False, False
    if found["counted"]:
        number = found["number"]
        said = found["counted"] if number == "one" else f"{number} {found['counted']}"
        agree = described(said)[3] and (found["verb"] == "is") == (number == "one")
        return agree, agree
    nouns, verbs = [found["head"], found["target"]], [(found["headverb"], 0)]
    relations = [(found["kind"], 0, 1)]
    for link in LINK.finditer(found["links"]):
        source = len(nouns) - 1 if link["verb"] else 0
        verbs.append((link["verb"] or found["headverb"], source))
        relations.append((link["kind"], source, len(nouns)))
        nouns.append(link["noun"])
    things = [described(noun) for noun in nouns]
    agree = all(thing[3] for thing in things) and all((verb == "is") == (things[i][0] == 1) for verb, i in verbs)
    return agree, agree and sensible([thing[:3] for thing in things], relations)


def parses(sentence: list[str]) -> bool:
    try:
        parse(" ".join(sentence))
    except GrammarError:
        return False
    return True


def masked(sentence: list[str]) -> bool:
    """Whether a walk through the mask table lets the sentence pass to <eos>."""
    allowed, follow = mask_table()
    state = 0
    for word in [*sentence, EOS]:
        if word not in TOKEN or not allowed[state, TOKEN[word]]:
            return False
        state = follow[state, TOKEN[word]]
    return state == len(allowed) - 1


def verdict(sentence: list[str]) -> bool:
    """Whether the sentence is in the language, on which all must agree."""
    said = recognised(sentence)[1]
    assert (parses(sentence), masked(sentence)) == (said, said), sentence
    return said


PIECES = [
    *("the red ball", "the two red balls", "the small red ball", "the large red ball", "."),
    *(f"{verb} {kind}" for verb in ("is", "are", "and", ", which is", ", which are") for kind in ("above", "around")),
]


def test_brute_force_finds_exactly_the_sentences_of_a_small_language() -> None:
    """Every string of up to five of the pieces and a full stop, enough for three groups: 800,000, few are sentences."""
    pieces = [tuple(piece.split()) for piece in PIECES]
    strings = (sum(some, ()) + (".",) for n in range(6) for some in itertools.product(pieces, repeat=n))
    found = {s for s in strings if recognised(list(s))[1]}
    vocabulary = frozenset(word for piece in pieces for word in piece)
    listed = [tuple(s) for s in sentences(vocabulary)]
    assert len(listed) == len(set(listed))
    pieced = re.compile(rf"(?:(?:{'|'.join(map(re.escape, PIECES))})(?: |$))*")
    assert {s for s in listed if s.count("red") <= 3 and pieced.fullmatch(" ".join(s))} == found
    assert len(found) > 150 and all(verdict(list(s)) for s in found)


ALIKE = [NUMBERS, ("small", "large"), SHAPES, PLURALS, ("is", "are"), (",", "and"), ("on", "under", "inside", "above")]


def mutated(sentence: list[str], rng: random.Random) -> list[str]:
    """One word dropped, inserted, swapped with another, or replaced by one like it or by any."""
    changed, at = list(sentence), rng.randrange(len(sentence))
    how = rng.randrange(5)
    if how == 0:
        del changed[at]
    elif how == 1:
        changed.insert(at, rng.choice([*sentence, *VOCABULARY]))
    elif how == 2:
        other = rng.randrange(len(sentence))
        changed[at], changed[other] = changed[other], changed[at]
    else:
        near = [w for w in ALIKE if sentence[at] in w]
        changed[at] = rng.choice(near[0]) if near and how == 3 else rng.choice(VOCABULARY)
    return changed if changed[-1:] == ["."] else [*changed, "."]  # the parser supplies it


def scenes(n: int, seed: str) -> list[Scene]:
    """Sampled scenes, half of the groups at random places; the language does not ask whether they fit."""
    rng = random.Random(seed)

    def placed(group: Group) -> Group:
        places = tuple((rng.randrange(64), rng.randrange(64)) for _ in range(group.count))
        return replace(group, places=places if rng.random() < 0.5 else ())

    return [replace(scene, groups=tuple(map(placed, scene.groups))) for scene in (sample(rng) for _ in range(n))]


def test_all_agree_on_sampled_and_on_mutated_sentences() -> None:
    rng = random.Random("mutants")
    verdicts = []
    for scene in scenes(2000, "mutants"):
        sentence = words(caption(scene))
        assert verdict(sentence)
        verdicts += [verdict(mutated(sentence, rng)), verdict(mutated(mutated(sentence, rng), rng))]
    assert 300 < sum(verdicts) < len(verdicts) - 300  # both are really tried


def test_all_agree_on_sense_and_refusals_of_senseless_scenes_say_why() -> None:
    """Sentences that are right but for the rules of this world: any groups in any relations."""
    rng = random.Random("senseless")
    reasons = Counter()
    for _ in range(1500):
        n = rng.choice((2, 2, 3, 4, 5))
        drawn = [rng.choices(list(some), k=n) for some in (COLORS, SHAPES, SIZES, (1, 1, 1, 2, 3, 4))]
        groups = tuple(itertools.starmap(Group, zip(*drawn, strict=True)))
        relations = tuple(Relation(rng.choice(RELATIONS), rng.choice((0, i)), i + 1) for i in range(n - 1))
        sentence = words(caption(Scene(groups, relations)))
        assert recognised(sentence)[0]
        reasons["none" if verdict(sentence) else refusal(" ".join(sentence)).split("; ")[2]] += 1
    assert len(reasons) == 1 + 10 and min(reasons.values()) >= 5, reasons


def reachable(without: str = "") -> dict[State, int]:
    """All states, in order of discovery, each with its row of the mask table."""
    _, follow = mask_table()
    rows = {START: 0}
    queue = [START]
    for state in queue:
        for word, after in choices(state).items():
            if word != without and after not in rows:
                rows[after] = follow[rows[state], TOKEN[word]]
                queue.append(after)
    return rows


def test_the_mask_table_is_the_automaton() -> None:
    allowed, follow = mask_table()
    rows = reachable()
    assert sorted(rows.values()) == list(range(len(follow))) and allowed.shape == follow.shape == (len(rows), 127)
    expected = np.full(follow.shape, -1)
    for state, row in rows.items():
        for word, after in choices(state).items():
            expected[row, TOKEN[word]] = rows[after]
            assert word != "." or EOS in choices(after)  # a sentence may end at any full stop
    expected[-1, TOKEN[PAD]] = rows[END]
    np.testing.assert_array_equal(follow, expected)
    np.testing.assert_array_equal(allowed, follow >= 0)


def test_every_state_can_reach_the_end_and_no_sentence_outgrows_the_model() -> None:
    _, follow = mask_table()
    longest = np.full(len(follow), -1)
    longest[-1] = 0
    for _ in range(MAX_TOKENS):
        best = np.where(follow >= 0, longest[follow], -1).max(1)
        longest[:-1] = np.where(best >= 0, best + 1, -1)[:-1]
    assert (longest >= 0).all()
    assert 50 < longest[0] + 1 <= MAX_TOKENS  # <bos> is a token too


def test_the_sampler_can_say_everything_but_places() -> None:
    """Every word that the automaton allows anywhere is drawn there, but for the white that goes without saying."""
    possible = {(s.phase, s.kind, w) for s in reachable(without="at") for w in choices(s) if w != "at"}
    drawn, rng = set(), random.Random("everything")
    for _ in range(2500):
        state = START
        for word in [*words(caption(sample(rng))), EOS]:
            drawn.add((state.phase, state.kind, word))
            state = choices(state)[word]
    assert possible - drawn == {("background kind", "", "white")} and drawn < possible


def test_samples_are_fixed() -> None:
    """Data sets are made of them."""
    rng = random.Random(0)
    said = [caption(sample(rng)) for _ in range(300)]
    assert said[1] == "The red cross is right of the two small pink cubes and behind the large green diamond."
    assert hashlib.sha256("\n".join(said).encode()).hexdigest()[:16] == "58ea88a280ec6929"


# --- how many -----------------------------------------------------------------------------------------------------

BACKGROUND_CLAUSES = 8  # or none
WAYS = {"direction": 4, "plain contact": 4, "inside": 1, "around": 1}


def counted(placed: bool) -> int:
    """All sentences, as a sum over their shapes: counts, which group each relation is said of, and its kind."""

    def phrases(count: int, role: str = "any") -> int:
        """Of 8 colours, 8 shapes, 3 sizes; what is inside is small, what is around one of 3 shapes, large."""
        return {"any": 8 * 8 * 3, "inside": 8 * 8, "around": 8 * 3}[role] * (1 + placed * 64 ** (2 * count))

    total = sum(phrases(count) for count in range(1, 6))
    for n in (2, 3, 4):
        numbers = [counts for counts in itertools.product((1, 2, 3), repeat=n) if sum(counts) <= 6]
        sources = list(itertools.product((0,), *((0, last) for last in range(1, n - 1))))
        for counts, said_of, kinds in itertools.product(numbers, sources, itertools.product(WAYS, repeat=n - 1)):
            roles, touched = ["any"] * n, []
            for target, (source, kind) in enumerate(zip(said_of, kinds, strict=True), start=1):
                touched += [] if kind == "direction" else [source, target]
                if kind in INVERSE:
                    roles[source], roles[target] = kind, INVERSE[kind]
            if len(touched) == len(set(touched)) and all(counts[i] == 1 for i in touched):
                total += prod(WAYS[kind] for kind in kinds) * prod(map(phrases, counts, roles))
    return total * BACKGROUND_CLAUSES


def test_count_of_all_sentences_is_the_sum_over_their_shapes() -> None:
    assert count_sentences() == counted(placed=False) == 95_104_403_799_552
    assert count_sentences(placed=True) == counted(placed=True)


@pytest.mark.parametrize(
    "begun",
    [
        "there",
        "the three red balls are above the two blue cubes and below the",
        "the red ball is on the blue cube , which is left of the green ring , which is under the small",
        "there is one small red ball at 7",
        "the small red ball is inside the large blue cube , which is below the three red crosses and above the pink",
    ],
)
def test_count_equals_enumeration_and_what_is_enumerated_is_accepted(begun: str) -> None:
    state, places = START, begun.endswith("7")
    for word in begun.split():
        state = choices(state)[word]
    listed = list(sentences(frozenset(VOCABULARY) - ({"at"} if not places else set()), state))
    assert len({tuple(rest) for rest in listed}) == len(listed) == count_sentences(state, places) > 50
    assert all(verdict([*begun.split(), *rest]) for rest in random.Random(0).sample(listed, min(100, len(listed))))


def test_more_than_ten_million_scenes_mean_different_things() -> None:
    """A left of B, which is left of C: a directed path has no symmetry, so each such sentence is a scene of its own."""
    assert (len(COLORS) * len(SHAPES) * len(SIZES)) ** 3 * len(BACKGROUNDS) > 10**7
    things = [Group(c, s, z) for c in ("red", "blue") for s in ("ball", "cube") for z in ("small", "medium")]
    chain = Relation("left of", 0, 1), Relation("left of", 1, 2)
    some = [Scene(groups, chain) for groups in itertools.product(things, repeat=3)]
    assert len({canonical(scene) for scene in some}) == len(some)


# --- meaning ------------------------------------------------------------------------------------------------------


def test_parse_undoes_caption_and_decode_undoes_encode() -> None:
    for scene in scenes(1000, "round trip"):
        said = caption(scene)
        assert parse(said) == scene
        assert parse(f"  {said.upper().rstrip('.')} ") == scene  # case, spaces and the last full stop are free
        assert decode(encode(said)) == said


def facts(scene: Scene, order: tuple[int, ...]) -> tuple:
    """A scene with its groups renumbered, relations as a set of facts in one direction."""
    at = {group: place for place, group in enumerate(order)}
    told = set()
    for r in scene.relations:
        told |= {(r.kind, at[r.source], at[r.target]), (INVERSE[r.kind], at[r.target], at[r.source])}
    groups = [(g.color, g.shape, g.size, g.count, sorted(g.places)) for g in (scene.groups[i] for i in order)]
    return groups, told, scene.background


def same(a: Scene, b: Scene) -> bool:
    """Graph isomorphism by trying every renumbering."""
    if len(a.groups) != len(b.groups):
        return False
    identity = tuple(range(len(a.groups)))
    return any(facts(b, order) == facts(a, identity) for order in itertools.permutations(identity))


def test_every_wording_means_the_same_and_shares_the_canonical_caption() -> None:
    for scene in scenes(200, "wordings"):
        said = wordings(scene)
        assert scene in said
        for other in said:
            assert same(scene, other) and canonical(other) == canonical(scene)
            assert parse(caption(other)) == other
        assert same(parse(canonical(scene)), scene)
        assert canonical(parse(canonical(scene))) == canonical(scene)
        turned = tuple(replace(group, places=group.places[::-1]) for group in scene.groups)
        assert canonical(replace(scene, groups=turned)) == canonical(scene)  # places of things alike have no order


def test_every_sayable_order_is_a_wording() -> None:
    """Of any tree of relations, by trying all orders: each group after the first is tied to the first or the last."""
    things = [Group(color, "ball") for color in ("red", "green", "blue", "pink")]
    for n in (2, 3, 4):
        for sources in itertools.product(*(range(i) for i in range(1, n))):
            ties = {frozenset((s, t)) for t, s in enumerate(sources, start=1)}
            scene = Scene(tuple(things[:n]), tuple(Relation("above", s, t) for t, s in enumerate(sources, start=1)))
            orders = [
                tuple(things[i] for i in order)
                for order in itertools.permutations(range(n))
                if all(ties & {frozenset((order[0], b)), frozenset((a, b))} for a, b in itertools.pairwise(order))
            ]
            assert sorted(map(str, orders)) == sorted(str(said.groups) for said in wordings(scene)) != []


def test_inverses_mean_the_same() -> None:
    for kind in RELATIONS:
        a, b = ("large blue cube", "small red ball")[:: -1 if kind == "inside" else 1]
        turned = f"The {b} is {INVERSE[kind]} the {a}."
        assert canonical(parse(f"The {a} is {kind} the {b}.")) == canonical(parse(turned))


def test_canonical_captions_are_equal_exactly_when_the_graphs_are() -> None:
    """Scenes of few colours and shapes, so that many are alike; the matcher tries every renumbering."""
    rng = random.Random("alike")
    made = []
    while len(made) < 60:
        n = rng.choice((2, 3, 3, 4))
        groups = tuple(Group(rng.choice(("red", "blue")), "ball") for _ in range(n))
        kinds = [rng.choice(("left of", "right of", "above")) for _ in range(n - 1)]
        made.append(Scene(groups, tuple(Relation(k, rng.choice((0, i)), i + 1) for i, k in enumerate(kinds))))
    pairs = list(itertools.combinations(made, 2))
    alike = [same(a, b) for a, b in pairs]
    assert alike == [canonical(a) == canonical(b) for a, b in pairs]
    assert sum(alike) > 10


def test_a_scene_that_cannot_be_said_is_refused() -> None:
    ball = Group("red", "ball")
    with pytest.raises(ValueError, match="need 2 relations, got 1"):
        caption(Scene((ball,) * 3, (Relation("above", 0, 1),)))
    with pytest.raises(ValueError, match="related to the first one or to the one before"):
        caption(Scene((ball,) * 4, tuple(Relation("above", s, t) for s, t in ((0, 1), (0, 2), (1, 3)))))


# --- what a person is told ----------------------------------------------------------------------------------------

REFUSED = """
The red balls is on the blue cube. | word 3, “balls” | the red [balls] is on | expected ball, cube, block
There are six red balls. | word 3, “six” is not a word of this world | expected two, three, four, five
There is one red ball on | word 6, “on” | expected at, a full stop
There is one red ball.. | word 7, “.” | red ball . [.]; expected the, the end
There is one red ball at 3 64. | word 8, “64” is not a word | expected a number from 0 to 63
There is one red ball at -1 4. | word 7, “-1” is not a word | expected a number from 0 to 63
The red ball is left of | the caption breaks off: the red ball is left of [...]; expected the
The red ball is left of. | the caption breaks off: the red ball is left of [...]; expected the
The red ball | the caption breaks off: the red ball [...]; expected at, is
There is one red ball. The | the caption breaks off: there is one red ball . the [...]; expected background
There are two red balls at 3 4. | the caption breaks off | balls at 3 4 [...]; expected and
. | the caption breaks off: [...]; expected there, the
<pad> | word 1, “<pad>” | expected there, the
<eos> | word 1, “<eos>” | expected there, the
赤い ball | word 1, “赤い” is not a word | expected there, the
The red ball is inside the blue cube. | word 5, “inside” | ; only a single small thing that touches nothing else
The small red ball is inside the blue cube. | word 8, “blue” | expected large; only a large ball, cube or diamond
The small red ball is inside the large red star. | word 10, “star” | cube, diamond; only a large ball, cube or diamond
The red cube is around the small red ball. | word 5, “around” | ; only a single large ball, cube or diamond that touches
The large red cube is around the red ball. | word 8, “red” | expected small; | and only something small
The two red balls are on the blue cube. | word 6, “on” | ; only a single thing that touches nothing else can be on
The red ball is on the two blue cubes. | word 7, “two” | ; only two single things can touch
The red ball is on the blue cube and in front of the red cube. | word 10, “in” | can be in front of another
The four red balls are left of the blue cube. | word 2, “four” | ; a group in a relation has at most 3 things
The three red balls are above the two red stars and below the two red rings. | word 14, “two” | a scene 6
There are two red balls and two blue balls. | word 6, “and” | ; “there” names one group
The red ball is above the red ring and above the red star and on the red cube, which | word 19, “,” | at most 4 groups
"""
REFUSALS = {
    **{said: told for said, *told in (line.split(" | ") for line in REFUSED.strip().splitlines())},
    "Ther\x1be is\u202e one": [r"word 1, “ther\x1be” is not a word", "expected there, the"],
    "x" * MAX_CHARACTERS: ["word 1, “" + "x" * 24 + "…”", "expected there, the"],
    "": ["the caption is empty; try"],
    " \n\t": ["the caption is empty; try"],
    "red " * 2500: ["10000 characters; at most 1000"],
}


def refusal(said: str) -> str:
    """What a person is told of a sentence; tokens are refused in the same words."""
    with pytest.raises(GrammarError) as parsed:
        parse(said)
    with pytest.raises(GrammarError) as encoded:
        encode(said)
    assert str(parsed.value) == str(encoded.value) and str(parsed.value).isprintable()
    return str(parsed.value)


@pytest.mark.parametrize("said", REFUSALS, ids=lambda said: said[:40])
def test_a_refusal_points_at_the_word_and_says_what_could_stand_there(said: str) -> None:
    told = refusal(said)
    assert all(part in told for part in REFUSALS[said]), told


def test_a_word_that_grammar_refuses_gets_no_other_reason() -> None:
    for said in (
        "The small red ball is inside the large small ball.",
        "The small red ball is inside the large red blue ball.",
        "The small red ball is inside large red balls.",
        "The large red ball is around the one small cube.",
        "There is one red ball at 3, 4.",
        "The red ball and the blue cube are left of the green cube.",
    ):
        assert refusal(said).count("; ") == 1, said


def test_suggestions_and_refusals_say_what_the_automaton_allows() -> None:
    for scene in scenes(150, "expected"):
        sentence = words(caption(scene))
        state = START
        for at, word in enumerate(sentence):
            allowed = set(choices(state))
            begun = " ".join(sentence[:at])
            assert set(suggestions(begun)) == allowed - {EOS}
            if at % 4 == 0:
                told = refusal(f"{begun} nonsense")
                listed = told.split("; expected ")[1].replace("a full stop", ".").replace("a comma", ",")
                listed = listed.replace("the end", EOS).replace("a number from 0 to 63", " ".join(VOCABULARY[-64:]))
                assert f"word {at + 1}, “nonsense” is not a word of this world" in told
                assert set(re.findall(r"[^\s,]+|,(?=,|$)", listed)) == allowed
            state = choices(state)[word]
        assert set(suggestions(" ".join(sentence))) == set(choices(state)) - {EOS}


def test_suggestions_lead_from_nothing_to_a_sentence() -> None:
    assert suggestions("") == ["there", "the"]
    assert suggestions("There is") == ["one"]
    assert suggestions("The red ball is in") == ["front"]
    assert suggestions("The red ball is left of the blue cube. The background is gray.") == []
    assert suggestions("The red balls") == suggestions("<eos>") == suggestions("the " * 3000) == []
    assert suggestions("the".center(MAX_CHARACTERS)) and not suggestions("the".center(MAX_CHARACTERS + 1))
    rng = random.Random("suggestions")
    said = ""
    while more := suggestions(said):
        said += " " + rng.choice(more)
    assert parse(said)
