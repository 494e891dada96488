"""The page of `neuropbr`: what its parts do with photos good and bad, and what a visitor meets in a real browser."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import gradio as gr
import pytest
import torch
import trimesh
from PIL import Image
from playwright.sync_api import Page, expect
from served import ROOT, visited

from hubmodels import NeuroPBR, NeuroPBRConfig
from hubmodels.images import to_pil
from hubmodels.neuropbr.export import load_material
from hubmodels.neuropbr.predict import outlined, predict, read_photo
from spaces.neuropbr import app

SETTINGS = {
    "size": 256,
    "aspect": None,
    "tile": False,
    "normal": "gl",
    "steps": 0,
    "physical_size": None,
    "credit": "",
    "exports": list(app.EXPORTS),
    "progress": gr.Progress(),
}


def tiny() -> NeuroPBR:
    torch.manual_seed(0)
    shape = NeuroPBRConfig(channels=8, growth=1.0, levels=2, summary=16, heads=2, depth=1)
    return NeuroPBR(shape).eval()


@pytest.fixture(scope="module")
def example() -> app.Photos:
    """Two photos of 640 x 640 pixels and their corners."""
    return app.example("brick wall")[1][:2]


@pytest.fixture
def files(example: app.Photos, tmp_path: Path) -> list[str]:
    paths = [tmp_path / photo.name for photo in example]
    for path, photo in zip(paths, example, strict=True):
        to_pil(photo.pixels).save(path)
    return [str(path) for path in paths]


# --- photos


def test_examples_are_outlined_and_the_same_every_time(example: app.Photos) -> None:
    again = app.example("brick wall")[1]
    assert [photo.key for photo in again[:2]] == [photo.key for photo in example] and len(again) == 3
    for name in app.EXAMPLES:
        for photo in app.example(name)[1]:
            assert app.outline(photo).isfinite().all()
            assert all(0 < x < 640 and 0 < y < 640 for x, y in photo.corners)


def test_photos_are_held_upright_and_keep_their_corners(files: list[str], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "red").save(tmp_path / "turned.jpg", exif=exif)
    turned = app.added([str(tmp_path / "turned.jpg")], ())
    assert turned[0].pixels.shape == (3, 60, 40) and turned[0].name == "turned.jpg"
    clicked = app.clicked(turned[0], 3, 4)
    shutil.copy(tmp_path / "turned.jpg", tmp_path / "sent_again.jpg")
    photos = app.added([files[0], str(tmp_path / "sent_again.jpg"), files[1]], (clicked,))
    assert [len(photo.corners) for photo in photos] == [0, 1, 0] and photos[1] is clicked
    assert app.added(None, photos) == ()
    Image.new("RGB", (app.KEPT + 1000, 50)).save(tmp_path / "wide.png")
    assert app.opened(str(tmp_path / "wide.png"), "").pixels.shape[2] == app.KEPT


def test_files_that_are_no_photos_are_named(tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(Path(files[0]).read_bytes()[:2000])
    Image.new("CMYK", (9, 9)).save(tmp_path / "inks.jpg")
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    for name, words in {
        "text.jpg": "not a picture",
        "cut.png": "damaged",
        "inks.jpg": "CMYK",
        "huge.png": "9000 x 9000: resize it first",
    }.items():
        with pytest.raises(gr.Error) as caught:
            app.added([files[0], str(tmp_path / name)], ())
        message = caught.value.message
        assert name in message and words in message and str(tmp_path) not in message and "\n" not in message
    with pytest.raises(gr.Error, match="At most 20 photos, got 21"):
        app.added(files[:1] * 21, ())


# --- corners


def test_clicks_are_places_in_the_photo() -> None:
    """Also where it is shown smaller than it is; the fifth click moves the nearest corner."""
    photo = app.Photo("a.jpg", "", torch.zeros(3, 1024, 2048, dtype=torch.uint8))
    shown = app.drawn(photo)
    assert shown.size == (1024, 512)
    for x, y in [(10, 20), (1000, 30), (990, 500), (5, 480)]:
        photo = app.clicked(photo, x, y)
    assert photo.corners == ((21, 41), (2001, 61), (1981, 1001), (11, 961))
    moved = app.clicked(photo, 950, 450)
    assert moved.corners == (*photo.corners[:2], (1901, 901), photo.corners[3])
    picture = app.drawn(photo)
    for x, y in photo.corners:  # numbered discs; beside the digit
        red, green, blue = picture.getpixel((round(x / 2) + 8, round(y / 2)))
        assert green > 150 > blue and red > 120
    assert sum(picture.getpixel((500, 250))) > 0 == sum(shown.getpixel((500, 250))), "what is enclosed is tinted"


def test_a_wrong_outline_is_explained(example: app.Photos) -> None:
    photo = app.replace(example[0], corners=((10, 10), (300, 10), (300, 300)))
    with pytest.raises(gr.Error, match="brick_wall_1.png has 3 of 4 corners"):
        app.outline(photo)
    assert "**bottom-left** corner (4 of 4)" in app.hint((photo,), 0)
    for last, words in [((300, 301), "same spot"), ((290, 20), "bend inwards"), ((10, 300), "")]:
        whole = app.replace(photo, corners=(*photo.corners, last))
        assert words in app.hint((whole,), 0) and ("✓" in app.hint((whole,), 0)) == (not words)
        if words:
            with pytest.raises(gr.Error, match=f"brick_wall_1.png: .*{words}"):
                app.outline(whole)
    assert torch.equal(app.outline(example[0]), outlined(example[0].pixels, example[0].corners))
    assert torch.equal(app.outline(app.replace(photo, corners=())), torch.eye(3)), "edge to edge"


# --- the material


def test_photos_become_an_archive_that_opens(example: app.Photos, tmp_path: Path) -> None:
    model = tiny()
    said = {**SETTINGS, "credit": " A. Nyone, CC0 ", "exports": ["glTF", "report"], "physical_size": 0.5}
    result = app.made(model, example, **said)
    with zipfile.ZipFile(result.archive) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    folder = tmp_path / "material"
    names = {path.name for path in folder.iterdir()}
    assert {"material.glb", "report.html", "sweep.gif", "height.png", "orm.png", "material.json"} <= names
    assert not {"material.mtlx", "material.usda"} & names
    assert json.loads((folder / "material.json").read_text())["credit"] == "A. Nyone, CC0"
    matrices = torch.stack([app.outline(photo) for photo in example])
    expected = predict(model, [photo.pixels for photo in example], matrices, 256)
    for name, one in load_material(folder).items():
        if name in expected:
            assert (one - expected[name]).abs().max() < 0.02, name
    assert all(plane.size == ball.size == (256, 256) for plane, ball in result.lit.values()) and len(result.lit) == 5
    assert [name for name, *_ in result.verdicts] == ["brick_wall_1.png", "brick_wall_2.png"]
    assert all(photo.size == made.size for photo, made in result.pairs) and len(result.pairs) == 2
    app.removed(result)
    assert not result.folder.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 4096}, "The size must be one of 256, 512"),
        ({"normal": "up"}, "reload it"),
        ({"steps": 1000}, "reload it"),
        ({"exports": ["../"]}, "reload it"),
        ({"aspect": 99.0}, "height by its width"),
        ({"aspect": -1.0}, "height by its width"),
        ({"physical_size": -1.0}, "physical_size must be"),
        ({"credit": "two\nlines"}, "credit must be one line"),
    ],
)
def test_settings_that_make_no_sense(example: app.Photos, change: dict, words: str) -> None:
    with pytest.raises(gr.Error, match=words):
        app.made(tiny(), example[:1], **(SETTINGS | change))


def test_no_photo_no_material(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(gr.Error, match="Upload a photo first"):
        app.made(tiny(), (), **SETTINGS)
    monkeypatch.setenv("SPACE_ID", "org/neuropbr")
    assert max(app.offered()) == 1024
    monkeypatch.delenv("SPACE_ID")
    assert max(app.offered()) == 2048


def test_names_of_files_are_escaped(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    hostile = '<img src=x onerror="alert(1)">'
    result = app.Made(tmp_path, tmp_path, {}, [(picture, picture)], [(hostile, 20.0, hostile)], [("warn", hostile)])
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

    Reader().feed(app.likeness(result) + app.judged(result))
    assert "img" not in tags and "td" in tags


# --- the folder


def test_errors_at_the_start_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for missing in (str(tmp_path), "org/nothing"):
        monkeypatch.setenv("MODEL", missing)
        with pytest.raises(SystemExit) as caught:
            app.main()
        assert missing in str(caught.value) and "\n" not in str(caught.value)


# --- in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Of a server that was started from a copy of its folder, with small weights from $MODEL."""
    folder = tmp_path_factory.mktemp("space")
    tiny().save_pretrained(folder / "weights")
    env = {"MODEL": str(folder / "weights")}
    with visited("neuropbr", folder, env) as page:
        yield page


def click_corner(page: Page, photo: app.Photo, number: int) -> None:
    """Where the corner is on the screen: the photo is fitted into its frame."""
    image = page.locator("#photo img")
    box = image.bounding_box()
    assert box
    height, width = photo.pixels.shape[1:]
    scale = min(box["width"] / width, box["height"] / height)
    x, y = photo.corners[number]
    left, top = (box["width"] - scale * width) / 2, (box["height"] - scale * height) / 2
    image.click(position={"x": left + x * scale, "y": top + y * scale})


@pytest.mark.browser
def test_two_photos_become_a_download(page: Page, example: app.Photos, files: list[str], tmp_path: Path) -> None:
    page.locator("#files input[type=file]").set_input_files(files)
    expect(page.locator("#which label")).to_have_count(2)
    for name in files:
        label = page.locator("#which label", has_text=Path(name).name)
        label.click()
        photo = next(photo for photo in example if photo.name == Path(name).name)
        expect(page.locator("#hint")).to_contain_text(f"{photo.name} shows just the surface")
        for number, said in enumerate(("top-right", "bottom-right", "bottom-left", "is outlined")):
            click_corner(page, photo, number)
            expect(page.locator("#hint")).to_contain_text(said)
    page.locator("#undo").click()
    expect(page.locator("#hint")).to_contain_text("bottom-left corner (4 of 4)")
    page.locator("#make").click()
    expect(page.get_by_text("has 3 of 4 corners").last).to_be_visible()
    click_corner(page, photo, 3)
    expect(page.locator("#hint")).to_contain_text("is outlined")
    page.locator("#size label", has_text="256").click()
    page.locator("#make").click()
    expect(page.locator("#maps img")).to_have_count(6, timeout=60_000)
    expect(page.locator("#alike tr")).to_have_count(2)
    expect(page.locator("#pair img")).to_have_count(2)
    expect(page.locator("#solid canvas")).to_be_visible()
    before = page.locator("#ball img").get_attribute("src")
    page.locator("#light label", has_text="flash").click()
    expect(page.locator("#ball img")).not_to_have_attribute("src", before or "")
    with page.expect_download() as waiting:
        page.locator("#download").click()
    archive = tmp_path / "material.zip"
    waiting.value.save_as(archive)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    matrices = torch.stack([app.outline(photo) for photo in example])
    expected = predict(tiny(), [read_photo(file) for file in files], matrices, 256)
    material = load_material(tmp_path / "material")
    assert (material["albedo"] - expected["albedo"]).abs().mean() < 0.03, "the corners are where they were clicked"
    assert (material["albedo"] - expected["albedo"].flip(-1)).abs().mean() > 0.05
    scene = trimesh.load(io.BytesIO((tmp_path / "material/material.glb").read_bytes()), file_type="glb")
    assert scene.geometry
    artifacts = ROOT / "test-artifacts"
    artifacts.mkdir(exist_ok=True)
    page.screenshot(path=artifacts / "neuropbr.png", full_page=True)


@pytest.mark.browser
def test_a_file_that_is_no_photo_is_refused(page: Page, tmp_path: Path) -> None:
    page.reload()
    (tmp_path / "text.jpg").write_text("not a picture")
    page.locator("#files input[type=file]").set_input_files(tmp_path / "text.jpg")
    expect(page.get_by_text("text.jpg is not a picture that can be read").last).to_be_visible()


@pytest.mark.browser
def test_the_page_fits_a_phone(page: Page) -> None:
    page.reload()
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_role("button", name="leather").click()
    expect(page.locator("#hint")).to_contain_text("is outlined")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
