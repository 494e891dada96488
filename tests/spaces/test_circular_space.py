"""The page of `circular`: what its parts do, and what a visitor meets in a real browser.

The models are tiny and untrained, so what is read is seldom right; what the page shows must be what they compute.
"""

import base64
import io
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from served import visited

from hubmodels import CircularScene, CircularSceneConfig
from hubmodels.circular import sentences
from hubmodels.images import from_uint8, to_pil
from spaces.circular import app

SAID = "The red ball is left of the blue cube."
TEMPLATE = "a large red ball in the left"
SCENES = "There are three small green stars. The background is black."


def tiny(grounded: bool = False) -> CircularScene:
    torch.manual_seed(int(grounded))
    shape: dict[str, Any] = {"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "painter": 32, "reader": 16}
    if grounded:
        shape |= {"language": "scenes", "layout": True, "slots": 8}
    return CircularScene(CircularSceneConfig(**shape, reader_layers=1)).eval()


@pytest.fixture(scope="module")
def models() -> tuple[CircularScene, CircularScene]:
    return tiny(), tiny(grounded=True)


def alike(one: Any, other: Any) -> bool:
    """Whether two pictures are the same but for what float sums of another order round to."""
    return bool(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max() <= 1)


# --- its parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_trip_is_that_of_the_model(models: tuple[CircularScene, CircularScene], noise: float) -> None:
    for model in models:
        made = app.trip(model, SAID, 7, noise)
        picture, read = model.roundtrip(SAID, 7, noise)
        assert alike(to_pil(made.seen), picture)
        assert made.reading.sentence == read and made.said == sentences.words(SAID, "both")
        assert alike(to_pil(made.picture), to_pil(model.paint([SAID], 7)[0]))
        assert (made.picture != made.seen).any() == bool(noise)
        assert made.where.shape == (len(made.said), 64, 64)
        steps = app.walk(model, SAID, SCENES, 3, 7, 0)
        assert alike(to_pil(steps[0][0]), to_pil(made.picture))
        assert alike(to_pil(steps[-1][0]), to_pil(app.trip(model, SCENES, 7, 0).picture))
        read = model.read(from_uint8(torch.stack([seen for seen, _ in steps])))
        assert [reading.sentence for _, reading in steps] == [reading.sentence for reading in read]


@pytest.mark.parametrize("said", [*app.EXAMPLES, app.OTHER])
def test_examples_are_sentences(models: tuple[CircularScene, CircularScene], said: str) -> None:
    assert app.understood(models[0], said) == said


def test_words_that_were_read_stand_for_words_that_were_said() -> None:
    said = sentences.words("The green ball is left of the blue cube.", "both")
    for read, found in (
        (said, [(at, True) for at in range(10)]),
        (["the", "yellow", "star", *said[3:]], [(at, at not in (1, 2)) for at in range(10)]),
        (["the", "small", *said[1:]], [(0, True), (None, False), *((at, True) for at in range(1, 10))]),
        ([*said[:3], "."], [(0, True), (1, True), (2, True), (9, True)]),
        # of two words only "the green" is the same at another place; all others stay where they are
        (["the", "pink", "star", *said[3:7], "green", "cube", "."], [(at, at not in (1, 2, 7)) for at in range(10)]),
        ([], []),
    ):
        assert app.matched(said, read) == found
    rng = random.Random(0)
    for _ in range(50):
        one, other = (sentences.words(sentences.sample("both", rng), "both") for _ in range(2))
        places = [at for at, _ in app.matched(one, other) if at is not None]
        assert places == sorted(set(places)), "words keep their order, and none stands for two"
        assert all(same == (one[at] == other[j]) for j, (at, same) in enumerate(app.matched(one, other)) if at)


def read_as(sentence: str, said: str = SAID) -> app.Trip:
    confidence = tuple((word, 0.5) for word in sentences.words(sentence, "both"))
    reading = app.Reading(sentence, confidence, (len(confidence) + 1) * float(np.log(0.25)))
    words, black = sentences.words(said, "both"), torch.zeros(3, 64, 64, dtype=torch.uint8)
    return app.Trip(words, black, black, reading, torch.zeros(len(words), 64, 64))


def test_the_verdict_knows_words_and_meaning() -> None:
    assert app.verdict(read_as(SAID)) == "✓ Every word arrived."
    assert app.verdict(read_as("The blue cube is right of the red ball.")) == "✓ Other words, the same meaning."
    assert app.verdict(read_as("The pink ball is left of the blue cube.")) == "✗ 9 of 10 words arrived."
    assert app.sureness(read_as(SAID).reading) == pytest.approx(0.25)
    shown = app.journey(read_as("The pink ball is left of the blue cube."))
    assert shown.count("✗ pink") == 1 and "pink, not red; 50 % sure" in shown and shown.count("word right") == 9


def test_a_difference_is_black_where_nothing_changed() -> None:
    before = torch.zeros(3, 64, 64, dtype=torch.uint8)
    after = before.clone()
    after[:, :32] = 51  # a fifth of the range, in half of the picture
    glow, mean = app.difference(before, after)
    assert mean == pytest.approx(0.1) and (glow[:, :32] == 255).all() and not glow[:, 32:].any()
    assert app.difference(before, before)[1] == 0


def test_a_walk_marks_what_is_new() -> None:
    readings = [read_as(said).reading for said in (SAID, "The red ball is right of the blue cube.")]
    shown = app.strip([(torch.zeros(3, 64, 64, dtype=torch.uint8), reading) for reading in readings])
    assert shown.count("<mark>") == 1 and "<mark>right</mark> of the blue cube.<" in shown and "25 % sure" in shown


def test_sides_know_their_language(models: tuple[CircularScene, CircularScene]) -> None:
    alone, shown = app.sides(*models)
    assert alone.knows(SAID, TEMPLATE) and shown.knows(SAID) and not shown.knows(SAID, TEMPLATE)
    assert [side.name for side in app.sides(models[0], None)] == ["Ungrounded"]
    assert "known to the ungrounded model and the grounded model" in app.status([alone, shown], SAID)
    assert "known to the ungrounded model." in app.status([alone, shown], TEMPLATE)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda model: app.understood(model, ""), "The sentence is empty; try"),
        (lambda model: app.understood(model, "The rde ball."), "not a word of this language; did you mean red"),
        (lambda model: app.understood(model, "The <b>ball"), "&lt;b&gt;ball”"),
        (lambda model: app.understood(model, "red " * 200), "at most 400"),
        (lambda model: app.understood(model, ["x"]), "must be text"),
        (lambda model: app.number(float("nan"), 0, 1, "The noise"), "The noise must be a number from 0 to 1."),
        (lambda model: app.number(1.5, 0, 1, "The noise"), "from 0 to 1"),
        (lambda model: app.number("many", 0, 1, "The noise"), "from 0 to 1"),
        (lambda model: app.whole(True, 0, 9, "The seed"), "from 0 to 9"),
        (lambda model: app.whole(0.5, 0, 9, "The seed"), "a whole number"),
        (lambda model: app.swapped(model, SAID, 1, "cube"), "Choose a word"),
        (lambda model: app.swapped(model, SAID, 99, "red"), "Choose a word"),
        (lambda model: app.swapped(model, SAID, None, None), "Choose a word"),
        (lambda model: app.swapped(model, "Hello.", 0, "red"), "none of the words"),
    ],
)
def test_what_cannot_be_done_is_a_message(
    models: tuple[CircularScene, CircularScene], ask: Callable[[CircularScene], Any], words: str
) -> None:
    with pytest.raises(gr.Error, match=re.compile(re.escape(words), re.I)):
        ask(models[0])


def test_every_swap_that_is_offered_can_be_made(models: tuple[CircularScene, CircularScene]) -> None:
    rng = random.Random(0)
    for _ in range(20):
        said = sentences.sample("both", rng)
        at, word = rng.choice(sentences.swaps(said, "both"))
        after = app.swapped(models[0], said, at, word)
        assert sentences.words(after, "both")[at] == word
    assert app.swapped(models[0], SAID, 1, "pink") == "The pink ball is left of the blue cube."


def test_what_a_person_writes_is_escaped(models: tuple[CircularScene, CircularScene]) -> None:
    shown = app.status(app.sides(*models), "The <script>alert(1)</script> ball")
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_errors_at_the_start_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "alone")
    (tmp_path / "nothing").mkdir()
    for model, grounded in (("nothing", "alone"), ("alone", "nothing")):
        monkeypatch.setenv("MODEL", str(tmp_path / model))
        monkeypatch.setenv("GROUNDED", str(tmp_path / grounded))
        with pytest.raises(SystemExit) as caught:
            app.main()
        assert str(tmp_path / "nothing") in str(caught.value) and "\n" not in str(caught.value)


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(models: tuple[CircularScene, CircularScene], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("circular")
    for model, name in zip(models, ("alone", "shown"), strict=True):
        model.save_pretrained(folder / name)
    weights = {"MODEL": str(folder / "alone"), "GROUNDED": str(folder / "shown")}
    with visited("circular", folder, weights) as page:
        expect(page.locator("#circular-back .card")).to_have_count(2)
        yield page


@pytest.fixture
def fresh(page: Page) -> Page:
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.reload()
    expect(page.locator("#circular-back .card")).to_have_count(2)
    return page


def card(page: Page, result: str, name: str) -> Locator:
    return page.locator(f"#circular-{result} [data-side={name}]")


def pixels(image: Locator) -> np.ndarray:
    """(64, 64, 3 or 4) of an image on the page."""
    head, _, data = (image.get_attribute("src") or "").partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def on_screen(trip: Locator) -> np.ndarray:
    """What a visitor sees of the first picture, (H, W, 3), in light from 0 to 255."""
    shot = trip.locator(".frame").first.screenshot(animations="disabled")
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def shows(trip: Locator, made: app.Trip) -> None:
    """Whether a section of the page shows what a model computed."""
    assert alike(pixels(trip.locator("img.shown").first), to_pil(made.picture))
    assert alike(pixels(trip.locator("img.shown").last), to_pil(made.seen))
    assert trip.locator(".said .word").all_inner_texts() == made.said
    read = [word for word, _ in made.reading.confidence]
    found = app.matched(made.said, read)
    texts = [f"{'✓' if right else '✗'} {word}" for word, (_, right) in zip(read, found, strict=True)]
    assert trip.locator(".read b").all_inner_texts() == texts
    sure = [f"{100 * share:.0f} %" for _, share in made.reading.confidence]
    assert trip.locator(".read small").all_inner_texts() == sure
    expect(trip.locator(".verdict")).to_have_text(app.verdict(made))


@pytest.mark.browser
def test_a_sentence_goes_there_and_back(page: Page, models: tuple[CircularScene, CircularScene]) -> None:
    names = tuple(zip(models, ("ungrounded", "grounded"), strict=True))
    for model, name in names:
        shows(card(page, "back", name).locator(".trip"), app.trip(model, SAID, 0, 0))
    page.locator("#circular-caption textarea").fill(SCENES.lower())
    expect(page.locator("#circular-status")).to_contain_text("✓ A scene, known to the ungrounded model and")
    page.locator("#circular-go").click()
    for model, name in names:
        trip = card(page, "back", name).locator(".trip")
        expect(trip.locator(".said .word")).to_have_count(len(sentences.words(SCENES, "both")))
        shows(trip, app.trip(model, SCENES, 0, 0))


@pytest.mark.browser
def test_noise_and_seed_act_at_once(fresh: Page, models: tuple[CircularScene, CircularScene]) -> None:
    slider = fresh.locator("#circular-noise input[type=range]")
    slider.focus()
    for _ in range(8):
        slider.press("ArrowRight")
    fresh.locator("#circular-seed input[type=number]").fill("42")
    for model, name in zip(models, ("ungrounded", "grounded"), strict=True):
        trip, made = card(fresh, "back", name).locator(".trip"), app.trip(model, SAID, 42, 0.4)
        for _ in range(100):
            if alike(pixels(trip.locator("img.shown").last), to_pil(made.seen)):
                break
            fresh.wait_for_timeout(100)
        expect(trip.locator("figcaption").last).to_have_text("what the reader sees")
        shows(trip, made)


@pytest.mark.browser
@pytest.mark.parametrize("name", ["ungrounded", "grounded"])
def test_a_word_shows_where_it_lives(fresh: Page, models: tuple[CircularScene, CircularScene], name: str) -> None:
    trip = card(fresh, "back", name).locator(".trip")
    where = models[name == "grounded"].where(SAID, 0)[1:-1].numpy()
    bare = on_screen(trip)
    for act in (Locator.hover, Locator.focus):
        for at in (1, 8):
            act(trip.locator(f'.said [data-at="{at}"]'))
            layer = trip.locator(f'[data-live="{at}"]')
            expect(layer).to_have_css("opacity", "1")
            assert sum(one.evaluate("e => +getComputedStyle(e).opacity") for one in trip.locator(".live").all()) == 1
            np.testing.assert_allclose(pixels(layer)[..., 3], 255 * 0.88 * (1 - where[at]), atol=1)
            veil = Image.fromarray((0.88 * (1 - where[at])).astype(np.float32)).resize(bare.shape[1::-1], 0)
            strength = np.asarray(veil)[..., None]
            expected = bare * (1 - strength) + np.array(app.VEIL) * strength
            inside = slice(4, -4)  # of the frame, which has a border and round corners
            assert np.abs(on_screen(trip) - expected)[inside, inside].mean() < 3
            assert np.abs(expected - bare).mean() > 0.5, "and that is to be seen"
        fresh.mouse.move(0, 0)
        fresh.locator("#circular-caption textarea").focus()
        np.testing.assert_allclose(on_screen(trip), bare, atol=2)


@pytest.mark.browser
def test_the_language_model_proposes(fresh: Page, models: tuple[CircularScene, CircularScene]) -> None:
    for _ in range(3):
        fresh.locator("#circular-propose").click()
        expect(fresh.locator("#circular-caption textarea")).not_to_have_value(SAID)
        said = fresh.locator("#circular-caption textarea").input_value()
        trip = card(fresh, "back", "ungrounded").locator(".trip")
        expect(trip.locator("img.shown").first).to_have_attribute("alt", f"painting of: {said}")
        shows(trip, app.trip(models[0], said, 0, 0))
        fresh.locator("#circular-caption textarea").fill(SAID)
        expect(fresh.locator("#circular-status .ok")).to_be_visible()


@pytest.mark.browser
def test_a_word_is_swapped(fresh: Page, models: tuple[CircularScene, CircularScene]) -> None:
    fresh.get_by_role("tab", name="Swap").click()
    swaps = sentences.swaps(SAID, "both")
    said = sentences.words(SAID, "both")
    offered = fresh.locator("#circular-at label").all_inner_texts()
    assert [one.strip() for one in offered] == [f"{at + 1}. {said[at]}" for at in sorted({at for at, _ in swaps})]
    fresh.locator("#circular-at label", has_text="3. ball").click()
    other = fresh.locator("#circular-other label")
    expect(other).to_have_count(sum(at == 2 for at, _ in swaps))
    other.filter(has_text="star").click()
    fresh.locator("#circular-swap").click()
    expect(fresh.locator("#circular-compared .card")).to_have_count(2)
    after = app.swapped(models[0], SAID, 2, "star")
    for model, name in zip(models, ("ungrounded", "grounded"), strict=True):
        both = app.trip(model, SAID, 0, 0), app.trip(model, after, 0, 0)
        trips = card(fresh, "compared", name).locator(".trip")
        for number, made in enumerate(both):
            shows(trips.nth(number), made)
        assert trips.locator(".said .marked").all_inner_texts() == ["ball", "star"]
        glow, mean = app.difference(both[0].picture, both[1].picture)
        figure = card(fresh, "compared", name).locator(".glow")
        shown = pixels(figure.locator("img")).astype(int)
        assert np.abs(shown - np.asarray(to_pil(glow))).mean() < 2, "a level more or less is much where little changed"
        expect(figure).to_have_text(f"what changed ({100 * mean:.1f} %)")

    fresh.locator("#circular-caption textarea").fill("There are two pink")
    expect(fresh.locator("#circular-at label")).to_have_count(0)
    fresh.locator("#circular-swap").click()
    expect(fresh.get_by_test_id("toast-text").last).to_contain_text("The sentence breaks off")


@pytest.mark.browser
def test_a_walk_from_one_to_another(fresh: Page, models: tuple[CircularScene, CircularScene]) -> None:
    fresh.get_by_role("tab", name="Between").click()
    second, steps = fresh.locator("#circular-second textarea"), fresh.locator("#circular-steps input[type=number]")
    for _ in range(20):  # a tab that has just been opened may still set its first values
        second.fill(SCENES)
        steps.fill("5")
        fresh.wait_for_timeout(500)
        if (second.input_value(), steps.input_value()) == (SCENES, "5"):
            break
    fresh.locator("#circular-between").click()
    for model, name in zip(models, ("ungrounded", "grounded"), strict=True):
        figures = card(fresh, "walked", name).locator("figure")
        expect(figures).to_have_count(5)
        for number, (seen, reading) in enumerate(app.walk(model, SAID, SCENES, 5, 0, 0)):
            one = figures.nth(number)
            assert alike(pixels(one.locator("img")), to_pil(seen))
            expect(one.locator(".text")).to_have_text(re.compile(re.escape(reading.sentence), re.I))
            expect(one).to_contain_text(f"{25 * number} % of the way")
            expect(one).to_contain_text(f"{100 * app.sureness(reading):.0f} % sure")
    fresh.locator("#circular-second textarea").fill(TEMPLATE)
    fresh.locator("#circular-between").click()
    expect(card(fresh, "walked", "grounded")).to_contain_text("knows sentences about scenes only")
    expect(card(fresh, "walked", "ungrounded").locator("figure")).to_have_count(5)


@pytest.mark.browser
def test_a_sentence_of_the_templates_is_for_one_of_them(
    fresh: Page, models: tuple[CircularScene, CircularScene]
) -> None:
    fresh.get_by_role("button", name=TEMPLATE).click()
    expect(fresh.locator("#circular-status")).to_contain_text("known to the ungrounded model.")
    expect(card(fresh, "back", "grounded")).to_contain_text("knows sentences about scenes only")
    shows(card(fresh, "back", "ungrounded").locator(".trip"), app.trip(models[0], TEMPLATE, 0, 0))


@pytest.mark.browser
def test_an_unknown_word_is_answered(fresh: Page) -> None:
    fresh.locator("#circular-caption textarea").fill("The rde ball is <b>left</b> of the blue cube.")
    expect(fresh.locator("#circular-status")).to_contain_text(
        "✗ “rde” is not a word of this language; did you mean red"
    )
    fresh.locator("#circular-go").click()
    expect(fresh.get_by_test_id("toast-text").last).to_contain_text("“rde” is not a word of this language")
    fresh.locator("#circular-caption textarea").fill("The <b>left</b>")
    fresh.locator("#circular-go").click()
    expect(fresh.get_by_test_id("toast-text").last).to_contain_text("“<b>left</b>” is not a word")
    expect(card(fresh, "back", "ungrounded").locator(".trip")).to_have_count(1)


@pytest.mark.browser
def test_the_page_fits_a_phone(fresh: Page) -> None:
    fresh.set_viewport_size({"width": 375, "height": 800})
    for tab, button in (("Round trip", "go"), ("Swap", "swap"), ("Between", "between")):
        fresh.get_by_role("tab", name=tab).click()
        fresh.locator(f"#circular-{button}").click()
        result = {"go": "back", "swap": "compared", "between": "walked"}[button]
        expect(fresh.locator(f"#circular-{result} .card")).to_have_count(2)
        assert fresh.evaluate("document.documentElement.scrollWidth") <= 375
        for one in fresh.locator(f"#circular-{result} .frame").all():
            box = one.bounding_box()
            assert box and box["width"] >= 90 and box["x"] >= 0 and box["x"] + box["width"] <= 375
    fresh.get_by_role("tab", name="Round trip").click()
    word = card(fresh, "back", "grounded").locator('.said [data-at="2"]')
    word.click()  # as a finger does, which leaves the focus there
    fresh.mouse.move(0, 0)
    expect(card(fresh, "back", "grounded").locator('[data-live="2"]')).to_have_css("opacity", "1")


@pytest.mark.browser
def test_programs_do_as_visitors_do(page: Page, models: tuple[CircularScene, CircularScene]) -> None:
    client = Client(page.url, verbose=False)
    answer = client.predict(SAID, seed=3, noise=0.2, api_name="/roundtrip")
    assert [one["model"] for one in answer] == ["ungrounded", "grounded"]
    for model, one in zip(models, answer, strict=True):
        picture, read = model.roundtrip(SAID, 3, 0.2)
        shown = Image.open(io.BytesIO(base64.b64decode(one["picture"].partition(",")[2])))
        assert alike(shown, picture) and one["read"] == read
        assert [word for word, _ in one["words"]] == sentences.words(read, model.config.language)
    assert len(client.predict(TEMPLATE, api_name="/roundtrip")) == 1
    for bad in ({"seed": -1}, {"seed": 0.5}, {"noise": 2}, {"noise": "much"}):
        with pytest.raises(AppError, match="must be a"):
            client.predict(SAID, api_name="/roundtrip", **bad)
