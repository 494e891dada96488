"""The network: what it reads comes from pixels alone, what it paints hangs on nothing but the sentence and the seed."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hubmodels.circular import model as circular
from hubmodels.circular.model import CircularScene, CircularSceneConfig, drawn, laid_out, likeliest
from hubmodels.circular.sentences import SentenceError, decode, encode, vocabulary
from hubmodels.images import from_pil

SMALL: dict[str, Any] = {
    **{"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "painter": 16, "reader": 16, "reader_layers": 1}
}
SAID = ["The red ball is left of the blue cube.", "There are two green stars.", "a large red ball in the left"]
SCENES = [*SAID[:2], "The large yellow ball is around the small purple cube."]


def small(**settings: Any) -> CircularScene:
    torch.manual_seed(0)
    return CircularScene(CircularSceneConfig(**SMALL, **settings)).eval()


@pytest.fixture(scope="module")
def page() -> CircularScene:
    return small()


@pytest.fixture(scope="module")
def placed() -> CircularScene:
    return small(language="scenes", layout=True, slots=8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vocabulary": "a b c"}, "is not that of the language 'both'; they differ in"),
        ({"vocabulary": " ".join(vocabulary("both")[::-1])}, "they differ in their order"),
        ({"vocabulary": " ".join(vocabulary("scenes"))}, "they differ in"),
        ({"width": 30}, "multiple of twice the 2 heads"),
        ({"z_dim": 100}, "multiple of the 64 slots"),
        ({"layout": True}, "a layout needs the language of scenes and 8 slots"),
        ({"slots": 8, "z_dim": 64}, "cells of a square grid"),
        ({"painter": 20}, "multiples of 16"),
        ({"layers": 0}, "at least 1"),
        ({"codes": 1}, "codes 2"),
        ({"dropout": 1.0}, "below 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        CircularSceneConfig(**(SMALL | settings))


# --- reading ----------------------------------------------------------------------------------------------------


def test_the_likeliest_sentence_is_found_among_all() -> None:
    """Of all 916,381 sentences of the templates, beside brute force over those of each template's slots."""
    known = {word: token for token, word in enumerate(vocabulary("templates"))}
    generator = torch.Generator().manual_seed(0)
    chances = (2 * torch.randn(5, circular.longest("templates") - 1, len(known), generator=generator)).log_softmax(2)
    found = likeliest(chances, "templates")
    for own, reading in zip(chances.double().numpy(), found, strict=True):
        best, said = -np.inf, ""
        for template in circular_templates():
            # slots are independent, so the best filling is the best word for each
            chosen = [max(words, key=lambda word, at=at: own[at, known[word]]) for at, words in enumerate(template)]
            score = sum(own[at, known[word]] for at, word in enumerate(chosen)) + own[len(chosen), known["<eos>"]]
            if score > best:
                best, said = score, " ".join(chosen)
        assert reading.sentence == said and reading.log_likelihood == pytest.approx(best, rel=1e-6)
        assert [word for word, _ in reading.confidence] == said.split()
        for at, (word, sure) in enumerate(reading.confidence):
            assert sure == pytest.approx(float(np.exp(own[at, known[word]])), rel=1e-6)


def circular_templates() -> list[list[tuple[str, ...]]]:
    from hubmodels.scenes.templates import SLOTS, TEMPLATES

    return [
        [SLOTS[word.strip("{}").rstrip("2")] if "{" in word else (word,) for word in template.split()]
        for template in TEMPLATES
    ]


@pytest.mark.parametrize("language", ["scenes", "both"])
def test_a_sentence_that_is_certain_is_read(language: Any) -> None:
    said = SCENES if language == "scenes" else SAID
    chances = torch.full((len(said), circular.longest(language) - 1, len(vocabulary(language))), -20.0)
    for row, sentence in enumerate(said):
        for at, token in enumerate(encode(sentence, language)[1:]):
            chances[row, at, token] = 0
    assert [reading.sentence for reading in likeliest(chances, language)] == said


def test_the_reader_sees_nothing_but_pixels(page: CircularScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Painters of different sentences that make one picture: the reader says one thing."""
    tokens, _ = page.tokenized(SAID)
    free = page(tokens)
    assert not torch.allclose(free.read[0], free.read[1])
    picture = torch.rand(1, 3, 64, 64).expand(3, -1, -1, -1) * 2 - 1
    monkeypatch.setattr(page.painter.draw, "forward", lambda code, layout=None: (picture, torch.zeros(3, 64, 64, 64)))
    blind = page(tokens)
    assert torch.allclose(blind.read[0], blind.read[1], atol=1e-5)
    assert torch.allclose(blind.seen[0], blind.seen[1], atol=1e-5) and not torch.allclose(*blind.said[:2])


def test_the_words_reach_the_painter_through_the_picture(page: CircularScene) -> None:
    trip = page(page.tokenized(SAID)[0])
    (gradient,) = torch.autograd.grad(trip.read[..., 5].sum(), trip.picture, retain_graph=True)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    (gradient,) = torch.autograd.grad(trip.read[..., 5].sum(), page.language.embedding.weight)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(1, 3, 32, 32),
        torch.zeros(1, 1, 64, 64),
        torch.zeros(3, 64, 64),
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_a_picture_of_another_kind_is_refused(page: CircularScene, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match=re.escape("the reader reads colour pictures of 64 x 64 as floats")):
        page.read(pictures)


# --- painting ---------------------------------------------------------------------------------------------------


def test_a_picture_hangs_on_its_sentence_alone(page: CircularScene, placed: CircularScene) -> None:
    for model, said in ((page, SAID), (placed, SCENES)):
        for seed in (None, 5):
            together = model.paint(said, seed)
            for number, sentence in enumerate(said):
                torch.testing.assert_close(model.paint([sentence], seed)[0], together[number], atol=1e-4, rtol=0)
        many = model.paint(list(itertools.islice(itertools.cycle(said), 130)), 5)
        torch.testing.assert_close(many[129], many[129 % len(said)], atol=1e-4, rtol=0)


def test_a_seed_is_a_picture(page: CircularScene) -> None:
    assert torch.equal(page.paint(SAID, 3), page.paint(SAID, 3))
    assert not torch.equal(page.paint(SAID, 3), page.paint(SAID, 4))
    before = torch.random.get_rng_state()
    page.roundtrip(SAID, 3, 0.1)
    assert torch.equal(before, torch.random.get_rng_state())
    mean = page.painter.code(page.language(page.tokenized(SAID)[0])[0], page.tokenized(SAID)[0], None)[0]
    torch.testing.assert_close(page.paint(SAID), page.painter.draw(mean)[0].clamp(-1, 1))


def test_between_begins_and_ends_at_the_two_sentences(page: CircularScene, placed: CircularScene) -> None:
    for model in (page, placed):
        way = model.between(SCENES[0], SCENES[1], 5, 7)
        torch.testing.assert_close(way[[0, -1]], model.paint(SCENES[:2], 7), atol=1e-4, rtol=0)
        assert len(way) == 5 and not torch.allclose(way[1], way[0])


def test_words_live_somewhere(page: CircularScene, placed: CircularScene) -> None:
    for model in (page, placed):
        maps = model.where(SCENES[0], 2)
        assert maps.shape == (len(encode(SCENES[0], model.config.language)), 64, 64)
        assert maps.min() >= 0 and torch.allclose(maps.amax((1, 2)), torch.ones(len(maps)))


def test_a_thing_moves_with_its_place(placed: CircularScene) -> None:
    tokens, layout = placed.tokenized(SCENES[1:2], 0)
    assert layout is not None and (layout[0, :2] >= 0).all() and (layout[0, 2:] == -1).all()
    layout[0, 0, 1:], layout[0, 1, 1:] = torch.tensor([20, 20]), torch.tensor([44, 44])
    moved = layout.clone()
    moved[0, 0, 1:] += torch.tensor([3, -2])  # right and up
    codes = placed.codes(tokens, layout)
    with torch.inference_mode():
        territories = [placed.painter.draw(codes, places)[1][0] for places in (layout, moved)]
    torch.testing.assert_close(territories[1][1], territories[0][1].roll((-2, 3), (0, 1)))
    torch.testing.assert_close(territories[1][2], territories[0][2])
    with pytest.raises(ValueError, match="needs to know where things are"):
        placed.painter.draw(codes)


def test_a_layout_names_the_words_of_things() -> None:
    sentence = "The two red balls are left of the blue cube."
    rows, said = laid_out(sentence, 3), [vocabulary("scenes")[token] for token in encode(sentence, "scenes")]
    assert [said[at] for at in rows[:3, 0]] == ["balls", "balls", "cube"]
    assert rows[:2, 1].max() < rows[2, 1] and torch.equal(rows, laid_out(sentence, 3))


def test_codes_of_a_visual_vocabulary_are_its_words() -> None:
    model = small(bottleneck="vq", codes=16)
    codes = model.codes(model.tokenized(SAID)[0])
    with torch.inference_mode():
        numbers = model.painter.words(codes)
    book = torch.nn.functional.normalize(model.painter.book.weight.detach(), dim=1)  # pyright: ignore
    torch.testing.assert_close(codes, book[numbers], atol=1e-5, rtol=0)
    mean = torch.randn(2, 64, 2, requires_grad=True)
    passed, commitment = model.painter.bottleneck(mean, torch.zeros_like(mean), True)
    (gradient,) = torch.autograd.grad(passed[..., 0].sum(), mean, retain_graph=True)
    own = torch.autograd.grad(torch.nn.functional.normalize(mean, dim=2)[..., 0].sum(), mean)[0]
    torch.testing.assert_close(gradient, own)
    assert commitment > 0 and torch.autograd.grad(commitment, mean)[0].abs().sum() > 0
    with pytest.raises(ValueError, match="has no visual vocabulary"):
        small().painter.words(codes)


def test_no_bottleneck_changes_nothing() -> None:
    mean = torch.randn(2, 64, 2)
    for noisy in (True, False):
        passed, price = small(bottleneck="none").painter.bottleneck(mean, torch.zeros_like(mean), noisy)
        assert passed is mean and price == 0
    noisy, _ = small().painter.bottleneck(torch.zeros(200, 64, 2), torch.full((200, 64, 2), 0.5).log(), True)
    assert float(noisy.var()) == pytest.approx(0.5, rel=0.03)


# --- language ---------------------------------------------------------------------------------------------------


def test_language_is_scored_word_by_word_and_never_looks_ahead(page: CircularScene) -> None:
    tokens, _ = page.tokenized(SAID)
    states, logits = page.language(tokens)
    wanted = []
    for row, sentence in enumerate(SAID):
        own = encode(sentence, "both")
        chances = logits[row].log_softmax(1)
        wanted.append(sum(float(chances[at, after]) for at, after in enumerate(own[1:])))
    assert page.language.score(tokens).tolist() == pytest.approx(wanted, rel=1e-4)
    other = tokens.clone()
    other[:, 4] = 7
    torch.testing.assert_close(page.language(other)[0][:, :4], states[:, :4])
    assert not torch.allclose(page.language(other)[0][:, 4], states[:, 4])


@pytest.mark.parametrize("language", ["both", "scenes", "templates"])
def test_samples_are_sentences(language: Any) -> None:
    model = small(language=language).language
    said = model.sample(40, seed=1)
    for sentence in said:
        assert decode(encode(sentence, language), language) == sentence
    assert said == model.sample(40, seed=1) != model.sample(40, seed=2) and len(set(said)) > 20
    assert set(model.sample(5, 1, temperature=0)) == set(model.sample(5, 2, top_k=1))
    wild = model.sample(40, seed=1, constrained=False)
    with pytest.raises(SentenceError):
        for sentence in wild:  # a network that learned nothing says nothing right
            encode(sentence, language)


@pytest.mark.parametrize("settings", [{"n": 0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_settings_of_samples_out_of_range(page: CircularScene, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="n is at least 1"):
        page.language.sample(**settings)


def test_draws_keep_to_the_likeliest_words() -> None:
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log().expand(4000, 4)
    for settings, kept in (
        ((1.0, 0, 1.0), [0.5, 0.25, 0.15, 0.1]),
        ((1.0, 2, 1.0), [2 / 3, 1 / 3, 0, 0]),
        ((1.0, 0, 0.5), [1, 0, 0, 0]),
        ((1.0, 0, 0.6), [2 / 3, 1 / 3, 0, 0]),
        ((0.5, 0, 1.0), [p**2 / 0.345 for p in (0.5, 0.25, 0.15, 0.1)]),
        ((0.0, 0, 1.0), [1, 0, 0, 0]),
    ):
        found = drawn(logits, torch.Generator().manual_seed(0), *settings)
        shares = torch.bincount(found, minlength=4) / 4000
        np.testing.assert_allclose(shares, kept, atol=0.03)
        assert (shares[torch.tensor(kept) == 0] == 0).all()


# --- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_is_read_is_in_the_file(page: CircularScene, noise: float) -> None:
    image, read = page.roundtrip(SAID[0], 4, noise)
    assert image.size == (64, 64) and image.mode == "RGB"
    assert page.read(from_pil(image)[None])[0].sentence == read
    pairs = page.roundtrip(SAID, 4, noise)
    assert len(pairs) == 3 and np.abs(np.asarray(pairs[0][0], int) - np.asarray(image, int)).max() <= 1


def test_a_folder_brings_the_same_pictures_back(page: CircularScene, tmp_path: Path) -> None:
    page.save_pretrained(tmp_path)
    again = CircularScene.from_pretrained(tmp_path)
    assert torch.equal(again.paint(SAID, 1), page.paint(SAID, 1)) and again.config == page.config
    with pytest.raises(ValueError, match="not that of the language 'scenes'"):
        replace(page.config, language="scenes")


def test_half_precision_learns() -> None:
    for settings in ({}, {"bottleneck": "vq"}, {"language": "scenes", "layout": True, "slots": 8}):
        model = small(**settings).train()
        tokens, layout = model.tokenized(SCENES)
        with torch.autocast("cpu", torch.bfloat16):
            trip = model(tokens, layout, torch.rand(2, 3, 64, 64) * 2 - 1)
            loss = trip.read.float().square().mean() + trip.picture.mean() + trip.read_teacher.float().mean()
        loss.backward()
        assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
