import errno
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hubmodels import images
from hubmodels.images import (
    from_pil,
    from_uint8,
    from_unit,
    grid,
    linear_to_srgb,
    save_png,
    sheet,
    srgb_to_linear,
    to_pil,
    to_uint8,
    to_unit,
)

CONSTANTS = (0.1, 0.3, 0.5, 0.7, 0.9)
HALF_A_LEVEL = 0.5 / 255


def picture(*levels: tuple[int, int, int]) -> Tensor:
    """One row of pixels, (3, 1, W) uint8."""
    return torch.tensor(levels, dtype=torch.uint8).T[:, None]


def pixels(image: Image.Image) -> list[tuple[int, int, int]]:
    """Of the first row, as a network would see them."""
    return [tuple(pixel) for pixel in to_uint8(from_pil(image))[:, 0].T.tolist()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_all_levels_survive(dtype: torch.dtype) -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    network = from_uint8(levels)
    assert network[0] == -1 and network[-1] == 1
    assert torch.equal(to_uint8(network.to(dtype)), levels)


def test_levels_are_the_nearest_and_clamped() -> None:
    for level in range(256):
        middle = level / 127.5 - 1
        assert to_uint8(torch.tensor([middle - 0.0038, middle + 0.0038])).tolist() == [level, level]
    assert to_uint8(torch.tensor([-9.0, -torch.inf, 9.0, torch.inf])).tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("value", CONSTANTS)
def test_a_constant_survives_the_loop(value: float, tmp_path: Path) -> None:
    network = from_unit(torch.full((3, 4, 5), value))
    save_png(to_pil(network), tmp_path / "constant.png")
    with Image.open(tmp_path / "constant.png") as image:
        assert image.size == (5, 4) and image.mode == "RGB"
        back = to_unit(from_uint8(to_uint8(from_pil(image))))
    assert (back - value).abs().max() <= HALF_A_LEVEL + 1e-6
    linear = srgb_to_linear(back)
    assert (linear_to_srgb(linear) - back).abs().max() < 1e-6


def test_ranges_are_refused_when_unknown() -> None:
    with pytest.raises(ValueError, match="uint8, got torch.int64"):
        from_uint8(torch.tensor([3]))
    with pytest.raises(ValueError, match="floats, got torch.uint8"):
        to_uint8(torch.zeros(3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="NaN"):
        to_pil(torch.full((3, 2, 2), torch.nan))
    with pytest.raises(ValueError, match=r"got \(1, 3, 2, 2\)"):
        to_pil(torch.zeros(1, 3, 2, 2))


def test_colours_and_orientation_keep_their_places() -> None:
    levels = torch.arange(24, dtype=torch.uint8).view(3, 2, 4) * 10
    image = to_pil(levels)
    assert image.size == (4, 2) and image.getpixel((3, 0)) == tuple(levels[:, 0, 3].tolist())
    assert torch.equal(to_uint8(from_pil(image)), levels)
    turned = Image.new("RGB", (4, 2))
    turned.putdata([tuple(p) for p in levels.flatten(1).T.tolist()])
    exif = turned.getexif()
    exif[274] = 6  # "rotate 90 degrees clockwise to view"
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    assert torch.equal(to_uint8(from_pil(Image.open(file))), levels.rot90(-1, (1, 2)))


def test_every_mode_becomes_rgb() -> None:
    assert pixels(Image.new("L", (1, 1), 77)) == [(77, 77, 77)]
    assert pixels(Image.new("1", (1, 1), 1)) == [(255, 255, 255)]
    assert pixels(Image.new("CMYK", (1, 1), (255, 0, 0, 0))) == [(0, 255, 255)]
    assert pixels(Image.new("RGBA", (1, 1), (200, 100, 0, 0))) == [(255, 255, 255)]
    assert pixels(Image.new("RGBA", (1, 1), (200, 100, 0, 255))) == [(200, 100, 0)]
    half = pixels(Image.new("LA", (1, 1), (0, 128)))[0]
    assert half == (127, 127, 127)
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    assert pixels(palette) == [(10, 20, 30), (40, 50, 60)]
    palette.info["transparency"] = 1
    assert pixels(palette) == [(10, 20, 30), (255, 255, 255)]


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_grey_of_16_bits_keeps_its_precision(mode: str) -> None:
    image = Image.new(mode, (3, 1))
    for x, level in enumerate((0, 1000, 65535)):
        image.putpixel((x, 0), level)
    expected = torch.tensor([-1, 2 * 1000 / 65535 - 1, 1])
    assert torch.allclose(from_pil(image), expected.expand(3, 1, 3), atol=1e-6, rtol=0)


def test_pictures_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="convert it to 8 or 16 bits"):
        from_pil(Image.new("F", (1, 1)))
    with pytest.raises(ValueError, match="from 0 to 65535, got 70000"):
        from_pil(Image.new("I", (1, 1), 70000))
    with pytest.raises(ValueError, match="got 0 x 3"):
        from_pil(Image.new("RGB", (0, 3)))
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    with pytest.raises(ValueError, match="damaged"):
        from_pil(Image.open(io.BytesIO(file.getvalue()[:2000])))
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(ValueError, match="1 to 100 pixels, got 11 x 10"):
        from_pil(Image.new("RGB", (11, 10)))


def test_no_program_is_run_to_read_a_picture(tmp_path: Path) -> None:
    """Pillow would hand an EPS, whatever its name, to Ghostscript."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    assert Image.open(path).format == "EPS"
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        images.opened(path, 10_000)


def test_a_picture_file_is_opened_upright_and_no_deeper_than_it_is_read(tmp_path: Path) -> None:
    for image in (Image.new("I;16", (3, 2), 4096), Image.new("F", (3, 2), 0.5)):
        path = tmp_path / f"deep.{'png' if image.mode == 'I;16' else 'tiff'}"
        image.save(path)
        with pytest.raises(ValueError, match="more than 8 bits"):
            images.opened(path, 100)
    lying = Image.new("RGB", (3, 2))
    about = lying.getexif()
    about[0x0112] = 6
    lying.save(tmp_path / "photo.jpg", exif=about)
    assert images.opened(tmp_path / "photo.jpg", 100).size == (2, 3)


def test_linear_light_is_that_of_the_standard() -> None:
    from skimage.color import rgb2xyz
    from skimage.color.colorconv import rgb_from_xyz

    srgb = torch.linspace(0, 1, 3 * 1001, dtype=torch.float64).view(-1, 3)
    theirs = rgb2xyz(srgb.numpy()) @ rgb_from_xyz.T
    assert np.abs(srgb_to_linear(srgb).numpy() - theirs).max() < 1e-12
    known = torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64)
    closed = [0, 0.04045 / 12.92, (0.555 / 1.055) ** 2.4, 1]
    assert srgb_to_linear(known).tolist() == pytest.approx(closed, abs=1e-15)


def test_linear_light_goes_back_with_finite_gradients() -> None:
    srgb = torch.linspace(-0.2, 1.2, 1401, dtype=torch.float64, requires_grad=True)
    back = linear_to_srgb(srgb_to_linear(srgb))
    assert (back - srgb).abs().max() < 1e-6  # the two thresholds of the standard differ in the eighth digit
    back.sum().backward()
    assert srgb.grad is not None and (srgb.grad - 1).abs().max() < 1e-3


@pytest.mark.parametrize(("count", "columns"), [(2, 2), (5, 3), (5, 1), (3, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_grid_is_that_of_torchvision(count: int, columns: int, dtype: torch.dtype) -> None:
    from torchvision.utils import make_grid

    grey = images.GREY if dtype == torch.uint8 else images.GREY / 255
    batch = torch.randint(0, 2, (count, 3, 4, 6)).to(dtype)
    ours, theirs = grid(batch, columns), make_grid(batch, columns, padding=images.GAP, pad_value=grey)
    assert ours.dtype == dtype and torch.equal(ours, theirs)


def test_sheet_writes_each_caption_under_its_picture() -> None:
    red = picture((255, 0, 0))[None].expand(3, 3, 64, 64)
    image = np.asarray(sheet(red, ["", "a word " * 12, "b"], columns=2))
    drawn = (image != 255).any(-1) & (image != images.GREY).any(-1) & (image != (255, 0, 0)).any(-1)
    width = 3 * 64
    below, right = slice(images.GAP + width, None), slice(images.GAP + width, None)
    assert not drawn[: images.GAP + width].any()
    cell = (image.shape[0] - images.GAP) // 2
    assert drawn[below, right][: cell - width].any() and not drawn[:cell, : images.GAP + width].any()
    assert drawn[cell + width :, : images.GAP + width].any()
    assert (image == (255, 0, 0)).all(-1).sum() == 3 * width * width
    with pytest.raises(ValueError, match="3 pictures, 1 captions"):
        sheet(red, ["a"], 2)


def test_a_png_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, image = tmp_path / "out.png", Image.new("RGB", (8, 8), "red")
    save_png(image, path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"cannot save .*out.png: No space left on device; nothing was written"):
        save_png(Image.new("RGB", (8, 8)), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="No such file"):
        save_png(image, tmp_path / "missing" / "out.png")
    with pytest.raises(ValueError, match=r"must end in .png, got 'out.jpg'"):
        save_png(image, tmp_path / "out.jpg")
