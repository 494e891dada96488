"""The gallery as a visitor meets it: the folder alone, the released weights, a real browser, the oracle reader."""

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from served import ROOT, chromium, served

from hubmodels.images import from_pil, to_uint8
from hubmodels.scenes import agrees, parse, read

pytestmark = pytest.mark.browser

SAID = "The large green star is above the two orange blocks. The background is gray."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a gallery started from a copy of its folder, as on the Hub, on a port of our choice."""
    assert (ROOT / "weights/distill/model.safetensors").is_file(), (
        "weights/distill ships with the repository: restore it"
    )
    with served("gallery", tmp_path_factory.mktemp("space"), {}) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.set_default_timeout(30_000)
    page.goto(url)
    expect(page.locator("#pictures .card")).to_have_count(2, timeout=30_000)
    yield page
    page.close()


def write(page: Page, said: str) -> None:
    box = page.locator("#caption textarea")
    box.fill("")
    box.press_sequentially(said)


def image_of(page: Page, selector: str, number: int) -> Image.Image:
    source = page.locator(selector).nth(number).get_attribute("src") or ""
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def picture(page: Page, number: int, selector: str) -> torch.Tensor:
    """(3, 64, 64) uint8 of an image on the page, taken back to its own size."""
    image = image_of(page, selector, number)
    return to_uint8(from_pil(image.resize((64, 64), Image.Resampling.NEAREST)))


def test_a_caption_becomes_a_picture_that_reads_back(page: Page) -> None:
    write(page, SAID)
    expect(page.locator("#status .ok")).to_contain_text("3 things on a gray background")
    page.locator("#draw").click()
    card = page.locator('#pictures .card:has-text("orange")')
    expect(card).to_have_count(2, timeout=30_000)
    for number in range(2):
        drawn = picture(page, number, '#pictures figure img[title="network"]')
        scene = parse(card.nth(number).locator(".placed").inner_text())
        verdict = agrees(read(drawn[None])[0], scene)
        assert verdict.exact and agrees(read(drawn[None])[0], parse(SAID)).exact, verdict
        expect(card.nth(number).locator(".verdict.yes")).to_be_visible()
    artifacts = ROOT / "test-artifacts"
    artifacts.mkdir(exist_ok=True)
    page.screenshot(path=artifacts / "distill.png", full_page=True)


def test_a_wrong_word_is_shown_and_mended_with_a_chip(page: Page) -> None:
    write(page, "The red ball is left of the bleu cube.")
    expect(page.locator("#status .wrong mark")).to_have_text("bleu")
    page.locator("#draw").click()
    expect(page.get_by_text("is not a word of this world").last).to_be_visible()
    page.locator('#status button[data-word="blue"]').click()
    expect(page.locator("#caption textarea")).to_have_value("The red ball is left of the blue cube.")
    expect(page.locator("#status .ok")).to_be_visible()


def test_one_thing_changes_and_the_rest_stays(page: Page) -> None:
    page.locator("#change").click()
    expect(page.locator("#changed img")).to_have_count(3, timeout=30_000)
    expect(page.locator("#changed mark")).to_have_count(2)
    share = page.locator("#changed .share b").inner_text()
    assert float(share.removesuffix("%")) >= 95
    after = picture(page, 1, "#changed img")
    assert agrees(read(after[None])[0], parse(page.locator("#changed .placed").inner_text())).exact
    page.screenshot(path=ROOT / "test-artifacts" / "distill_edit.png", full_page=True)


def test_a_background_is_drawn_on_its_own_tab(page: Page) -> None:
    page.get_by_role("tab", name="pixelscene").click()
    box, said = page.locator("#scene-caption textarea"), "a castle on a hill at night, with the moon and trees"
    while box.input_value() != said:  # a moment after a tab is first shown, gradio puts its own caption back
        box.fill(said)
        page.wait_for_timeout(1000)
    page.locator("#scene-draw").click()
    expect(page.locator("#scene-thumbs img")).to_have_count(2, timeout=90_000)
    expect(box).to_have_value(said)
    drawn = image_of(page, "#scene-large img", 0)
    assert drawn.size == (320, 200) and len(np.unique(np.asarray(drawn))) > 8
    page.screenshot(path=ROOT / "test-artifacts" / "pixelscene_gallery.png", full_page=True)


def test_a_sentence_goes_there_and_back_on_its_own_tab(page: Page) -> None:
    page.get_by_role("tab", name="circular").click()
    box, said = page.locator("#circular-caption textarea"), "The green star is above the large yellow cube."
    while box.input_value() != said:  # a moment after a tab is first shown, gradio puts its own sentence back
        box.fill(said)
        page.wait_for_timeout(1000)
    page.locator("#circular-go").click()
    written = page.locator('#circular-back .card[data-side="ungrounded"]')
    expect(written.locator('.words.read [data-at="1"]')).to_contain_text("green")
    expect(written.locator(".verdict.yes")).to_be_visible()
    shown = from_pil(image_of(page, '#circular-back .card[data-side="grounded"] img.shown', 0))
    assert agrees(read(to_uint8(shown)[None])[0], parse(said)).exact
    page.screenshot(path=ROOT / "test-artifacts" / "circular_gallery.png", full_page=True)


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.locator("#surprise").click()
    expect(page.locator("#status .ok")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
