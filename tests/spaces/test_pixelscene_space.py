"""The page of `pixelscene`: what its parts do with good and bad input, and what a visitor meets in a real browser."""

import base64
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect
from served import visited

from hubmodels.pixelscene.files import png
from hubmodels.pixelscene.palettes import BUILT_IN
from hubmodels.pixelscene.palettes import read as read_palette
from hubmodels.pixelscene.sampling import Sampling
from hubmodels.pixelscene.scene import Pair
from spaces.pixelscene import app
from tests.pixelscene.test_scene import PALETTE, models, pair, picture

QUICK = Sampling(rounds=2, seed=1)


class Small(Pair):
    """Draws small pictures, quickly."""

    @property
    def size(self) -> tuple[int, int]:
        return 80, 64


def small() -> Small:
    both = pair()
    return Small(both.tokenizer, both.transformer, "0123456789abcdef", 1000)


def straight(steps: Any) -> Any:
    return steps


def shown() -> app.Shown:
    return app.Shown(picture(), "a castle", 7)


# --- its parts ------------------------------------------------------------------------------------------------------


def test_words_become_pictures_in_the_palette_that_is_chosen(tmp_path: Path) -> None:
    made = app.drawn(small(), " a castle\n at night ", 2, app.chosen_palette("EGA", None), QUICK, straight)
    assert [one.seed for one in made] == [1, 2] and made[0].caption == "a castle at night"
    assert all((one.picture[1] == BUILT_IN["ega"]).all() for one in made)
    assert (made[0].picture[0] != made[1].picture[0]).any()
    (tmp_path / "mine.hex").write_text("000000\nff8000\n")
    own = app.chosen_palette(app.FILE, str(tmp_path / "mine.hex"))
    assert own is not None and own.tolist() == [[0, 0, 0], [255, 128, 0]]
    assert app.chosen_palette(app.FITTING, None) is None


def test_what_is_painted_over_is_drawn_anew_and_nothing_else() -> None:
    layer = np.zeros((144, 192, 4), np.uint8)  # the canvas shows pixels twice as large
    layer[20:61, 40:101] = (255, 0, 255, 160)
    mask = app.brushed({"layers": [layer]}, (72, 96))
    assert mask[10:30, 20:50].all() and mask.sum() == mask[10:31, 20:51].sum()
    made = app.repainted(small(), shown(), "night", {"layers": [layer]}, QUICK, straight)
    assert (made.picture[0][~mask] == picture()[0][~mask]).all()
    assert (made.picture[0] != picture()[0]).any() and made.caption == "a castle", "it shows a castle as before"


def test_all_that_can_be_taken_away_opens_again(tmp_path: Path) -> None:
    packed = app.archive(shown(), small(), tmp_path)
    with zipfile.ZipFile(packed) as file:
        file.extractall(tmp_path)
    packed.unlink()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("scene.png", "scene-x2.png", "scene-x4.png", "scene.aseprite", "scene.lbm"),
        *(f"palette.{kind}" for kind in ("gpl", "hex", "pal", "act")),
    }
    with Image.open(tmp_path / "scene.png") as image:
        assert image.mode == "P" and image.text["seed"] == "7" and (np.asarray(image) == picture()[0]).all()  # type: ignore
    assert (read_palette(tmp_path / "palette.gpl") == PALETTE).all()


def test_a_picture_of_ones_own_is_cut_to_size(tmp_path: Path) -> None:
    Image.fromarray(PALETTE[picture(75, 90)[0]]).save(tmp_path / "mine.png")
    mine = app.opened(str(tmp_path / "mine.png"), small())
    indices, palette = mine.picture
    assert indices.shape == (72, 88) and (palette[indices] == PALETTE[picture(75, 90)[0]][:72, :88]).all()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: app.said("  "), "Say what is to be seen"),
        (lambda: app.said("castle " * 5000), "At most 400 letters"),
        (lambda: app.chosen_palette("sepia", None), "none that the page offers"),
        (lambda: app.chosen_palette(app.FILE, None), "Upload a palette"),
        (lambda: app.settings(-1, 0.9, 100, 2, 12), "out of its range"),
        (lambda: app.settings(1, -1, 100, 2, 12), "temperature"),
        (lambda: app.settings(1, 0.9, 100, 2, 1e9), "out of its range"),
        (lambda: app.settings(float("nan"), 0.9, 100, 2, 12), "out of its range"),
        (lambda: app.drawn(small(), "a", 99, None, QUICK, straight), "From 1 to 8 pictures"),
        (lambda: app.only((), 0), "Draw a picture first"),
        (lambda: app.brushed(None, (72, 96)), "Paint over"),
        (lambda: app.brushed({"layers": [np.zeros((72, 96, 4), np.uint8)]}, (72, 96)), "Paint over"),
        (lambda: app.opened("nowhere.png", small()), "nowhere.png is not there"),
    ],
)
def test_what_cannot_be_done_is_a_message(ask: Callable, words: str) -> None:
    with pytest.raises(gr.Error, match=words):
        ask()


@pytest.mark.parametrize(
    ("content", "words"), [("GIMP Palette\n" + "1 2 3\n" * 300, "300"), ("GIMP Palette\n", "no colour"), ("x", "gpl")]
)
def test_a_palette_that_is_none_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "mine.gpl").write_text(content)
    with pytest.raises(gr.Error) as error:
        app.chosen_palette(app.FILE, str(tmp_path / "mine.gpl"))
    assert "mine.gpl" in error.value.message and str(tmp_path) not in error.value.message


def test_captions_are_escaped() -> None:
    evil = app.Shown(picture(), "<script>alert(1)</script>", 1)
    assert "<script>" not in app.thumbs((evil,), 0) + app.large(evil, 2)


def test_errors_at_the_start_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VQGAN", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setenv("BACKEND", "cuda")
    with pytest.raises(SystemExit, match="BACKEND must be auto, torch or mlx"):
        app.main()


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Of a server that was started from a copy of its folder, with small weights."""
    folder = tmp_path_factory.mktemp("space")
    for name, model in zip(("vqgan", "prior"), models(), strict=True):
        model.save_pretrained(folder / name)
    env = {"VQGAN": str(folder / "vqgan"), "PRIOR": str(folder / "prior")}
    with visited("pixelscene", folder, env) as page:
        yield page


def shown_in(page: Page) -> np.ndarray:
    """The chosen picture as the page has it, indices."""
    source = page.locator("#scene-large .large img").get_attribute("src") or ""
    with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as image:
        assert image.mode == "P"
        return np.asarray(image)


@pytest.mark.browser
def test_a_visitor_draws_repaints_goes_on_and_takes_it_away(page: Page, tmp_path: Path) -> None:
    page.locator("#scene-examples button").nth(2).click()
    expect(page.locator("#scene-caption textarea")).to_have_value(app.EXAMPLES[2])
    page.locator("#scene-draw").click()
    expect(page.locator("#scene-thumbs img")).to_have_count(2, timeout=60_000)
    first = shown_in(page)
    assert first.shape == (200, 320)
    page.locator("#scene-thumbs button").nth(1).click()
    expect(page.locator("#scene-thumbs button").nth(1)).to_have_class("on")
    second = shown_in(page)
    assert (first != second).any()

    canvas = page.locator("#scene-canvas canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)  # it is laid out anew when it comes into view
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=8)
    page.mouse.up()
    page.locator("#scene-repaint").click()
    expect(page.locator("#scene-thumbs img")).to_have_count(3, timeout=60_000)
    third = shown_in(page)
    changed = (third != second).mean()
    assert 0 < changed < 0.5

    page.get_by_role("tab", name="Go on").click()
    page.locator("#scene-outpaint").click()
    expect(page.locator("#scene-thumbs img")).to_have_count(4, timeout=60_000)
    assert shown_in(page).shape == (200, 480) and (shown_in(page)[:, :320] == third).all()
    page.get_by_role("tab", name="Tile").click()
    page.locator("#scene-tile").click()
    expect(page.locator("#scene-tiles .wall")).to_be_visible(timeout=60_000)
    page.get_by_role("tab", name="Colours").click()
    page.locator("#scene-swap").click()
    expect(page.locator("#scene-thumbs img")).to_have_count(6, timeout=60_000)
    expect(page.locator("#scene-large")).to_contain_text("of 16 colours")

    page.get_by_role("tab", name="Take away").click()
    page.locator("#scene-pack").click()
    expect(page.locator("#scene-zip")).to_be_enabled()
    with page.expect_download() as waiting:
        page.locator("#scene-zip").click()
    waiting.value.save_as(tmp_path / "scene.zip")
    with zipfile.ZipFile(tmp_path / "scene.zip") as file, Image.open(io.BytesIO(file.read("scene.png"))) as image:
        assert (np.asarray(image) == shown_in(page)).all()


def choose(page: Page, dropdown: str, name: str) -> None:
    page.locator(f"{dropdown} input").click()
    page.get_by_role("option", name=name, exact=True).click()


@pytest.mark.browser
def test_a_visitor_has_colours_and_pictures_of_her_own(page: Page, tmp_path: Path) -> None:
    page.reload()
    choose(page, "#scene-palette", "C64")
    page.locator("#scene-draw").click()
    expect(page.locator("#scene-large")).to_contain_text("of 16 colours", timeout=60_000)
    expect(page.locator("#scene-thumbs img")).to_have_count(2)
    colours = tmp_path / "two.hex"
    colours.write_text("000000\nffcc00\n")
    choose(page, "#scene-palette", app.FILE)
    page.locator("#scene-palette-file input[type=file]").set_input_files(colours)
    expect(page.locator("#scene-palette-file")).to_contain_text("two")
    page.locator("#scene-lucky").click()
    expect(page.locator("#scene-large")).to_contain_text("2 of 2 colours", timeout=60_000)

    page.locator("#scene-zoom input[type=number]").fill("2")
    page.locator("#scene-zoom input[type=number]").press("Enter")
    expect(page.locator("#scene-large img")).to_have_css("width", "640px")
    page.get_by_role("tab", name="Vary").click()
    page.locator("#scene-vary").click()
    expect(page.locator("#scene-thumbs img")).to_have_count(6, timeout=60_000)

    (tmp_path / "mine.png").write_bytes(png(*picture()))
    page.get_by_text("A picture of your own").click()
    page.locator("#scene-mine input[type=file]").set_input_files(tmp_path / "mine.png")
    expect(page.locator("#scene-large")).to_contain_text("96 × 72 pixels", timeout=60_000)
    assert (shown_in(page) == picture()[0]).all()
    page.get_by_role("tab", name="Tile").click()
    page.locator("#scene-tile").click()
    expect(page.locator("#scene-tiles .wall")).to_have_css("width", "288px", timeout=60_000)
    expect(page.locator("#scene-tiles .wall")).to_have_css("height", "216px")


@pytest.mark.browser
def test_the_page_says_how_far_a_drawing_is(page: Page) -> None:
    page.reload()
    page.get_by_text("How it is drawn").click()
    page.get_by_label("number input for Rounds").fill("32")
    page.get_by_label("number input for Pictures").fill("8")
    page.locator("#scene-draw").click()
    expect(page.get_by_text(re.compile(r"\d+/\d+ rounds")).first).to_be_visible(timeout=60_000)
    expect(page.locator("#scene-thumbs img")).to_have_count(8, timeout=120_000)


@pytest.mark.browser
def test_programs_draw_as_visitors_do(page: Page) -> None:
    client = Client(page.url, verbose=False)
    (made,) = client.predict("a castle", 7, 1, "EGA", 0.9, 3, api_name="/scene")
    with Image.open(io.BytesIO(base64.b64decode(made["picture"].split(",")[1]))) as image:
        assert image.mode == "P" and image.size == (320, 200)
    assert made["seed"] == 7 and made["colours"] == 16
    (same,) = client.predict("a castle", 7, 1, "EGA", 0.9, 3, api_name="/scene")
    assert same == made
    with pytest.raises(AppError, match="From 1 to 8 pictures"):
        client.predict("a castle", 7, 99, api_name="/scene")


@pytest.mark.browser
def test_an_empty_caption_is_answered(page: Page) -> None:
    page.locator("#scene-caption textarea").fill("")
    page.locator("#scene-draw").click()
    expect(page.get_by_text("Say what is to be seen").last).to_be_visible()


@pytest.mark.browser
def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
