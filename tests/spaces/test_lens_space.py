"""The page of `lens`: what its parts do, and what a visitor meets in a real browser.

The models are tiny and untrained, so nothing that is read is right; what the page shows must be what they compute.
"""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import lens_parts
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect
from served import ROOT, visited

from hubmodels import DiffusionLens, DiffusionLensConfig
from hubmodels.images import from_pil, from_uint8, to_pil, to_uint8
from hubmodels.lens import camo
from hubmodels.lens.classifier import loaded
from spaces.lens import app

LABELS = list(camo.CLASSES)


def saved(folder: Path) -> Path:
    """A lens as a folder, with its base and its classifier beside it, which is the judge as well."""
    base, reader = lens_parts.saved(folder, LABELS)
    config = DiffusionLensConfig(str(base), classifier=str(reader), labels="; ".join(LABELS), rank=2, size=16)
    lens = DiffusionLens.fresh(config, lens_parts.base(conditioned=True))
    with torch.no_grad():
        for weight in lens.learned.values():
            weight.normal_(std=0.5)
    lens.save_pretrained(folder / "lens")
    return folder


def opened(folder: Path) -> app.Studio:
    """What was `saved`."""
    reader = loaded(str(folder / "reader"), LABELS)
    return app.Studio(DiffusionLens.from_pretrained(folder / "lens"), reader, reader)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("lens"))


@pytest.fixture(scope="module")
def studio(folder: Path) -> app.Studio:
    return opened(folder)


def picture(row: int = 4) -> torch.Tensor:
    return camo.scene("test", 0, row, "clear", 16)[0][None]


# --- its parts ------------------------------------------------------------------------------------------------------


def test_what_is_shown_is_what_the_models_say(studio: app.Studio) -> None:
    found, held = app.looks(studio, picture(), LABELS, 0.3, 20, 7, 1.0)
    assert [look.name for look in found] == ["As it is", "Base, not tuned", "Tuned"] and not held
    assert torch.equal(found[0].picture, to_uint8(picture())[0])
    assert torch.equal(found[2].picture, to_uint8(studio.lens.edit(picture(), 7, 0.3))[0])
    with studio.lens.as_base():
        assert torch.equal(found[1].picture, to_uint8(studio.lens.edit(picture(), 7, 0.3))[0])
    assert not torch.equal(found[1].picture, found[2].picture)
    for look in found:
        with torch.no_grad():
            torch.testing.assert_close(look.read, studio.reader(from_uint8(look.picture)[None]).softmax(1)[0])
    assert app.looks(studio, picture(), LABELS, 0.3, 20, 7, 0.05)[1], "the gate holds what is at least so sure"


def test_labels_can_be_chosen(studio: app.Studio) -> None:
    found, _ = app.looks(studio, picture(), ["zebra", "cat"], 0.15, 20, 0, 1.0)
    assert found[0].read.shape == (2,) and float(found[0].read.sum()) == pytest.approx(1)


def test_cases_are_what_they_say(studio: app.Studio) -> None:
    found = app.cases(studio, 3)
    assert set(found) == {"Fixed", "Broken"} and sum(map(len, found.values())) > 0
    for kind, some in found.items():
        for _, _, truth, was, now in some:
            assert (now == truth, was == truth) == ((True, False) if kind == "Fixed" else (False, True))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat"], "Choose 2 to 50 different labels"),
        (["cat", "cat"], "different labels"),
        ([], "Choose 2 to 50"),
        (["cat", "x" * 61], "at most 60 characters"),
        (["cat", "<b>unicorn"], "&lt;b&gt;unicorn.* is not one of them"),
        (None, "Choose 2"),
    ],
)
def test_labels_that_make_no_sense_are_refused(studio: app.Studio, labels: list[str], message: str) -> None:
    with pytest.raises(gr.Error, match=message):
        app.asked(studio, labels)


def test_what_is_no_picture_or_too_few_steps_is_refused(studio: app.Studio) -> None:
    for image, message in ((None, "Upload a picture"), (Image.new("RGB", (1, 1)), "has 1 x 1 pixels: at least 8")):
        with pytest.raises(gr.Error, match=message):
            app.prepared(studio, image)
    for strength, steps in ((0.05, 4), (0.0, 20)):
        with pytest.raises(gr.Error, match="strength"):
            app.looks(studio, picture(), LABELS, strength, steps, 0, 1.0)
    for value in (float("nan"), True, "3", -1, 10**9):
        with pytest.raises(gr.Error, match="The seed must be a"):
            app.whole(value, 0, app.MAX_SEED, "The seed")  # pyright: ignore[reportArgumentType]


def test_the_largest_change_is_white() -> None:
    before = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    after = before.clone()
    after[:, 2, 2] = 150
    glow, mean = app.difference(before, after)
    assert (glow[:, 2, 2] == 255).all() and int(glow.sum()) == 3 * 255
    assert mean == pytest.approx(50 / 255 / 64)


def test_parts_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("LENS", "org/nothing")
    with pytest.raises(SystemExit, match="org/nothing"):
        app.main()
    monkeypatch.setenv("LENS", str(folder / "lens"))
    monkeypatch.setenv("JUDGE", "org/nobody")
    with pytest.raises(SystemExit, match="org/nobody"):
        app.main()


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = saved(tmp_path_factory.mktemp("space"))
    with visited("lens", folder, {"LENS": str(folder / "lens"), "JUDGE": str(folder / "reader")}) as page:
        yield page


def image_of(page: Page, selector: str) -> Image.Image:
    said = page.locator(selector).get_attribute("src") or ""
    return Image.open(io.BytesIO(base64.b64decode(said.partition(",")[2])))


def test_a_visitor_uploads_a_picture_and_moves_the_gate(visit: Page, studio: app.Studio, tmp_path: Path) -> None:
    to_pil(picture(7)[0]).resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / "mine.png")
    visit.locator("#lens-image input[type=file]").set_input_files(tmp_path / "mine.png")
    expect(visit.locator("#lens-image img")).to_be_visible()
    visit.locator("#lens-go").click()
    expect(visit.locator("#lens-result .look")).to_have_count(4)
    expect(visit.locator("#lens-result .verdict")).to_contain_text("The gate lets the edit through")
    given = app.prepared(studio, Image.open(tmp_path / "mine.png"))
    found, _ = app.looks(studio, given, LABELS, 0.15, 20, 0, 1.0)
    for n, look in enumerate(found):
        shown = to_uint8(from_pil(image_of(visit, f"#lens-result [data-look='{n}'] img")))
        assert (shown.int() - look.picture.int()).abs().max() <= 1
        rows = visit.locator(f"#lens-result [data-look='{n}'] [data-by=classifier] .row")
        expect(rows).to_have_count(app.SHOWN)
        expect(rows.first).to_contain_text(LABELS[int(look.read.argmax())])
    visit.locator("#lens-gate input[type=number]").fill("0.05")
    visit.locator("#lens-go").click()
    expect(visit.locator("#lens-result .verdict")).to_contain_text("The gate holds the edit back")


def test_a_visitor_has_one_drawn_and_sees_what_it_shows(visit: Page, tmp_path: Path) -> None:
    visit.get_by_label("In haze").check()
    visit.locator("#lens-draw").click()
    expect(visit.locator("#lens-result .verdict")).to_contain_text(
        re.compile(r"It shows (" + "|".join(LABELS) + r")\.")
    )
    expect(visit.locator("#lens-result .truth").first).to_be_visible()
    visit.screenshot(path=ROOT / "test-artifacts" / "lens.png", full_page=True)
    to_pil(picture(7)[0]).save(tmp_path / "mine.png")
    visit.locator("#lens-image input[type=file]").set_input_files(tmp_path / "mine.png")
    visit.locator("#lens-gate input[type=number]").fill("1")
    visit.locator("#lens-go").click()
    expect(visit.locator("#lens-result .verdict")).to_contain_text("lets the edit through")
    expect(visit.locator("#lens-result .verdict")).not_to_contain_text("It shows")


def test_a_visitor_sees_cases_of_both_kinds(visit: Page) -> None:
    visit.locator("#lens-accordion button").first.click()
    visit.locator("#lens-find").click()
    expect(visit.locator("#lens-cases [data-kind=fixed]")).to_be_visible()
    expect(visit.locator("#lens-cases [data-kind=broken]")).to_be_visible()
    assert visit.locator("#lens-cases .case").count() > 0


def test_programs_do_as_visitors_do(visit: Page, studio: app.Studio) -> None:
    client = Client(visit.url, verbose=False)
    file = io.BytesIO()
    to_pil(picture(7)[0]).save(file, "PNG")
    given = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    answer = client.predict(given, LABELS, 0.3, 20, 5, api_name="/look")
    found, _ = app.looks(studio, picture(7), LABELS, 0.3, 20, 5, 1.0)
    assert [one["name"] for one in answer] == [look.name for look in found]
    for one, look in zip(answer, found, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(one["picture"].partition(",")[2])))
        assert (to_uint8(from_pil(shown)).int() - look.picture.int()).abs().max() <= 1
        assert one["classifier"] == pytest.approx(dict(zip(LABELS, look.read.tolist(), strict=True)), abs=1e-3)
        assert one["judge"] == pytest.approx(dict(zip(LABELS, look.judged.tolist(), strict=True)), abs=1e-3)
    assert client.predict(given, api_name="/look")[0]["classifier"].keys() == set(LABELS)
    broken = given[: len(given) // 2 // 4 * 4]
    for wrong in ("", "data:image/png;base64,AAAA", "data:image/png;base64,?", broken, "x" * 10_000_001):
        with pytest.raises(AppError, match="Give a picture as a data URI"):
            client.predict(wrong, api_name="/look")
    with pytest.raises(AppError, match="strength must be a number"):
        client.predict(given, LABELS, 5.0, api_name="/look")
