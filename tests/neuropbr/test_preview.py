"""Pictures of a material, against the renderer, closed forms and the programs that open them."""

import base64
import io
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hubmodels.images import linear_to_srgb, srgb_to_linear
from hubmodels.neuropbr.cameras import homography, photograph, random_camera
from hubmodels.neuropbr.export import Maps, load_material, save_material
from hubmodels.neuropbr.lights import LUMINANCE, directional, plane_irradiance, point
from hubmodels.neuropbr.preview import (
    BACKDROP,
    SIDE,
    Comparison,
    compare,
    exposed_on_a_sphere,
    plane,
    preview_files,
    previews,
    sphere,
    studio,
    sweep,
)
from hubmodels.neuropbr.shading import brdf, shade
from hubmodels.neuropbr.validate import Finding, validate

SIZE = 64
HOSTILE = """A. Nyone <script>alert("1")</script> & '"><img src=x onerror=alert(1)>"""


def waves(height: int = SIZE, width: int = SIZE) -> Maps:
    y, x = torch.meshgrid(torch.linspace(-3, 3, height), torch.linspace(-3, 3, width), indexing="ij")
    slope = torch.stack([0.2 * (4 * x).cos(), 0.2 * (4 * y).sin(), torch.ones_like(x)])[None]
    return {
        "albedo": torch.stack([(2 * x).sin(), (x + y).cos(), (3 * y).sin()])[None] * 0.2 + 0.5,
        "roughness": 0.4 + 0.2 * (x * y).sin()[None, None],
        "metallic": torch.zeros(1, 1, height, width),
        "normal": F.normalize(slope, dim=1),
    }


def constant(albedo: float, roughness: float, metallic: float, size: int = 16) -> Maps:
    normal = torch.zeros(1, 3, size, size)
    normal[:, 2] = 1
    return {
        "albedo": torch.full((1, 3, size, size), albedo),
        "roughness": torch.full((1, 1, size, size), roughness),
        "metallic": torch.full((1, 1, size, size), metallic),
        "normal": normal,
    }


def vector(*numbers: float) -> Tensor:
    return F.normalize(torch.tensor(numbers, dtype=torch.float), dim=0).view(1, 3, 1, 1)


# --- plane and sphere


def test_a_plane_is_what_the_renderer_shades() -> None:
    maps = waves(48, 64)
    shown = previews(maps)
    assert shown.keys() == studio().keys()
    for name, lights in studio().items():
        radiance = shade(maps, lights, torch.tensor([[0.0, 0, 3]]))
        torch.testing.assert_close(shown[name][0], linear_to_srgb(radiance.clamp(0, 1)))
        torch.testing.assert_close(shown[name][0], plane(maps, lights))
        torch.testing.assert_close((plane_irradiance(lights) @ torch.tensor(LUMINANCE)), torch.tensor([math.pi]))


@pytest.mark.parametrize("at", [(0.0, 0.0), (0.4, 0.3), (-0.5, 0.6), (0.6, -0.5)])
@pytest.mark.parametrize(("roughness", "metallic"), [(0.7, 0.0), (0.5, 1.0)])
def test_a_sphere_is_the_brdf_in_closed_form(at: tuple[float, float], roughness: float, metallic: float) -> None:
    """At its middle and elsewhere, under a lamp that counts as far."""
    size, position, strength = 65, torch.tensor([1.0, 0.5, 2.0]), torch.tensor([6.0, 5.0, 4.0])
    lights = point(position[None, None], strength[None, None])
    picture = sphere(constant(0.6, roughness, metallic), lights, size)
    row, column = round((1 - at[1]) * size / 2 - 0.5), round((1 + at[0]) * size / 2 - 0.5)
    x, y = (2 * column + 1) / size - 1, 1 - (2 * row + 1) / size
    normal = vector(x, y, math.sqrt(1 - x * x - y * y))
    albedo = srgb_to_linear(torch.full((1, 3, 1, 1), 0.6))
    one = torch.ones(1, 1, 1, 1)
    reflected = brdf(albedo, roughness * one, metallic * one, normal, vector(*position.tolist()), vector(0, 0, 1))
    expected = linear_to_srgb((reflected * (strength / position.square().sum()).view(1, 3, 1, 1)).clamp(0, 1))
    assert expected.min() > 0.04
    torch.testing.assert_close(picture[0, :, row, column], expected[0, :, 0, 0], atol=4e-3, rtol=0)


def test_a_sphere_wears_its_normal_map_and_its_texture() -> None:
    """Slopes to the right turn towards +x, those up towards +y; the top of the texture is above."""
    right, up = constant(0.5, 0.9, 0.0), constant(0.5, 0.9, 0.0)
    right["normal"] = vector(1, 0, 1).expand(1, 3, 16, 16)
    up["normal"] = vector(0, 1, 1).expand(1, 3, 16, 16)
    lamp_right, lamp_up = (
        directional(vector(*to).view(1, 1, 3), torch.full((1, 1, 3), 3.0)) for to in ((1, 0, 1), (0, 1, 1))
    )
    middle = SIZE // 2
    for one, lamp, other in ((right, lamp_right, lamp_up), (up, lamp_up, lamp_right)):
        flat = sphere(constant(0.5, 0.9, 0.0), lamp, SIZE)[..., middle, middle]
        assert (sphere(one, lamp, SIZE)[..., middle, middle] > flat + 0.05).all()
        assert (sphere(one, other, SIZE)[..., middle, middle] < flat - 0.05).all()
    halves = constant(0.2, 0.9, 0.0)
    halves["albedo"][..., :8, :] = 0.9
    ball = sphere(halves, directional(vector(0, 0, 1).view(1, 1, 3), torch.full((1, 1, 3), 3.0)), SIZE)
    assert ball[0, 0, middle - 6, middle] > ball[0, 0, middle + 6, middle] + 0.3


def test_a_sphere_ends_at_its_rim_and_in_its_own_shade() -> None:
    maps = constant(0.8, 0.6, 0.0)
    maps["normal"] = vector(1, 0, 1).expand(1, 3, 16, 16)  # leans to the lamp, behind the terminator too
    ball = sphere(maps, directional(vector(1, 0, 0.2).view(1, 1, 3), torch.ones(1, 1, 3)), SIZE)
    assert torch.allclose(ball[..., 0, 0], torch.tensor(BACKDROP)) and torch.allclose(ball[..., -1, 0], ball[..., 0, 0])
    assert ball[0, :, SIZE // 2, SIZE // 4].max() == 0 and ball[0, :, SIZE // 2, 3 * SIZE // 4].min() > 0.2
    for lights in studio().values():
        white = sphere(constant(1.0, 1.0, 0.0), exposed_on_a_sphere(lights), SIZE)
        assert white.max() > 0.9 and (white > 0.999).float().mean() < 0.4


# --- the lamp that goes round


@pytest.mark.parametrize(("frames", "shape"), [(24, (64, 64)), (36, (32, 64))])
def test_a_sweep_is_a_short_film_without_end(frames: int, shape: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(sweep(waves(*shape), frames))) as film:
        assert film.format == "GIF" and film.n_frames == frames and film.info["loop"] == 0
        assert film.size == shape[::-1] and film.info["duration"] >= 50
    for wrong in (1, 37):
        with pytest.raises(ValueError, match="2 to 36 frames"):
            sweep(waves(8, 8), wrong)


def test_a_sweep_goes_round_and_shows_relief_only() -> None:
    """A slope is brightest when the lamp faces it; in a quarter of the frames the lamp is a quarter round."""
    maps = constant(0.5, 0.9, 0.0, 32)
    maps["normal"] = vector(0, 1, 1).expand(1, 3, 32, 32)  # faces +y, a quarter round
    with Image.open(io.BytesIO(sweep(maps, 8))) as film:
        levels = []
        for number in range(8):
            film.seek(number)
            levels.append(sum(film.convert("RGB").getpixel((16, 16))))
    assert levels.index(max(levels)) == 2 and levels.index(min(levels)) in (5, 6, 7)


def test_the_worst_sweep_is_small_enough() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = {name: torch.rand(one.shape, generator=draw) for name, one in waves(SIDE, SIDE).items()}
    noise["normal"] = F.normalize(noise["normal"] - torch.tensor([0.5, 0.5, -0.2]).view(1, 3, 1, 1), dim=1)
    assert len(sweep(noise)) < 2e6


# --- photos


def shots(maps: Maps, count: int) -> tuple[list[Tensor], Tensor]:
    """Photos by one lamp and an even sky, that reflects as `refine` has it."""
    photos, matrices = [], []
    for seed in range(count):
        camera = random_camera(torch.Generator().manual_seed(seed), max_tilt=25)
        lamp = point(torch.tensor([[[0.8 - seed, 0.5 * seed, 2.0]]]), torch.full((1, 1, 3), 6.0))
        albedo = srgb_to_linear(maps["albedo"])
        radiance = shade(maps, lamp, camera.eye[None]) + 0.15 * (albedo + 0.04)
        matrix = homography(camera, 1.0)
        photo = photograph(radiance, matrix[None], 6 * SIZE, 6 * SIZE, supersample=1)[0]
        photos.append(linear_to_srgb(photo.clamp(0, 1)))
        matrices.append(matrix)
    return photos, torch.stack(matrices)


def test_photos_of_the_material_are_explained_and_others_are_not() -> None:
    y = torch.linspace(-1, 1, SIZE).view(1, 1, SIZE, 1).expand(1, 3, SIZE, SIZE)
    maps = constant(0.5, 0.6, 0.0, SIZE)
    maps["albedo"] = 0.5 + 0.2 * (2 * y).sin()
    slope = torch.cat([0.1 * (3 * y[:, :1].mT).cos(), 0.1 * (3 * y[:, :1]).sin(), torch.ones_like(y[:, :1])], 1)
    maps["normal"] = F.normalize(slope, dim=1)
    photos, matrices = shots(maps, 2)
    right = compare(maps, photos, matrices)
    wrong = compare(maps | {"albedo": maps["albedo"].flip(-2)}, photos, matrices)
    for one, other in zip(right, wrong, strict=True):
        assert one.psnr is not None and other.psnr is not None
        assert one.psnr > 35 and other.psnr < 22
        assert "explained well" in one.verdict and "explained well" not in other.verdict
        error = ((one.photo - one.made) * one.seen).square().sum() / (3 * one.seen.sum())
        assert one.psnr == pytest.approx(-10 * float(error.log10()), abs=0.01)
        torch.testing.assert_close(one.difference, (4 * (one.photo - one.made).abs() * one.seen).clamp(0, 1))


def test_a_photo_of_something_else_has_no_likeness() -> None:
    away = torch.tensor([[1.0, 0, 9], [0, 1, 0], [0, 0, 1]])
    photo = torch.full((3, 32, 32), 0.5)
    first, second = compare(waves(), [photo, photo], torch.stack([torch.eye(3), away]))
    assert first.psnr is not None and second.psnr is None and second.verdict == "does not show the surface"


# --- the page


class Reader(HTMLParser):
    """Balanced tags, sources of pictures, links, and the text."""

    VOID = {"meta", "img", "br", "link", "!doctype"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module", params=["gl", "dx"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    maps = waves(48, 64)
    folder = tmp_path_factory.mktemp("saved") / "material"
    views = [torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    comparison = Comparison(views[0], views[1], torch.ones(1, 1, 48, 64), 21.25)
    findings = [*validate(maps), Finding("numbers", "fail", 1, (0, 0), "a <b>bold</b> finding")]
    extra = preview_files(maps, findings, [comparison], request.param, 0.5, HOSTILE, ["<i>.jpg"])
    save_material(maps, folder, request.param, 0.5, HOSTILE, extra=extra)
    return folder


def test_the_page_needs_nothing_but_its_folder(saved: Path) -> None:
    page = (saved / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    pictures = [attributes["src"] or "" for tag, attributes in reader.tags if tag == "img"]
    assert len(pictures) == 6 + 10 + 1 + 3
    for source in pictures:
        head, _, data = source.partition(",")
        where = io.BytesIO(base64.b64decode(data)) if head == "data:image/jpeg;base64" else saved / source
        with Image.open(where) as image:
            image.load()
            assert min(image.size) >= 48
    links = [attributes["href"] or "" for tag, attributes in reader.tags if tag == "a"]
    assert set(links) == {path.name for path in saved.iterdir()}
    assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.tags}
    assert "http" not in page and "url(" not in page and "prefers-color-scheme: dark" in page
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in reader.tags


def test_the_page_says_what_is_so(saved: Path) -> None:
    reader = Reader()
    reader.feed((saved / "report.html").read_text())
    for words in (HOSTILE, "a <b>bold</b> finding", "<i>.jpg", "21.2 dB", "64 × 48 texels, 0.5 × 0.375 m", *studio()):
        assert words in reader.text
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    for finding in validate(waves(48, 64)):
        assert finding.sentence in reader.text


def test_files_are_saved_with_the_maps_and_go_with_them(saved: Path) -> None:
    with Image.open(saved / "preview.jpg") as sheet, Image.open(saved / "sweep.gif") as film:
        assert sheet.width > 5 * SIDE and sheet.height > 2 * SIDE and film.n_frames == 24
    assert load_material(saved).keys() >= {"albedo", "height"}
    save_material(waves(48, 64), saved)
    assert not {"preview.jpg", "sweep.gif", "report.html"} & {path.name for path in saved.iterdir()}
    with pytest.raises(ValueError, match="extra files are preview.jpg"):
        save_material(waves(8, 8), saved, extra={"../evil": b""})
