"""Pictures in and out of tensors: the one place that knows their ranges.

    PIL --from_pil--> float --to_uint8--> uint8 --from_uint8--> float --to_pil--> PIL

The type of a tensor says its range. Floats are sRGB in [-1, 1], what networks read and write; uint8 is sRGB
in [0, 255], what lies in memory, files and data sets. Metrics and colour formulas want [0, 1], and say so.

Pictures are (3, H, W); a leading (...) means any number of dimensions before that.
"""

import io
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused before they are decoded: they would take a gigabyte as floats."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "PCX", "TGA")
"""What is read. Pillow would know more, and one of them, EPS, by running a program."""
GAP = 2
"""Pixels around each picture of a grid."""
GREY = 208
"""Their level of 255: white would not tell pictures apart that are white at the edge."""
CAPTION_PX = 12
CELL_PX = 192
"""Small pictures are enlarged to about this width, to leave room for their captions."""


def opened(path: str | Path, most: int) -> Image.Image:
    """A picture file of at most 8 bits a channel, decoded, upright as its EXIF orientation says.

    Args:
        most: pixels; of more nothing is decoded.

    Raises:
        ValueError: it is missing, damaged, too large, too deep or an animation; the file is named.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > most:
                raise ValueError(f"{path} has {image.width} x {image.height} pixels: at most {most} are read")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path} has more than 8 bits a channel: save it with 8")
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError(f"{path} is an animation: save the frame that is meant")
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise ValueError(f"{path} is not there") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has far too many pixels") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None


def from_pil(image: Image.Image) -> Tensor:
    """(3, H, W) float32 in [-1, 1] of any picture that PIL can open, upright as its EXIF orientation says.

    Transparency is laid on white. 16-bit grey keeps its precision.

    Raises:
        ValueError: the picture is empty, larger than `MAX_PIXELS`, damaged, or of floats of unknown range.
    """
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"pictures must have 1 to {MAX_PIXELS} pixels, got {width} x {height}: resize it first")
    try:
        image = ImageOps.exif_transpose(image)
        image.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the picture is damaged ({error}): save or download it again") from None
    if image.mode == "F":
        raise ValueError("a picture of floats says nothing of its range: convert it to 8 or 16 bits first")
    if image.mode.startswith("I"):
        return _from_grey16(np.asarray(image, dtype=np.int64))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return from_uint8(pixels.permute(2, 0, 1)).contiguous()


def _from_grey16(levels: np.ndarray) -> Tensor:
    """(H, W) in [0, 65535] -> (3, H, W). PIL's mode I has 32 bits, but PNG and TIFF put 16 in it."""
    if levels.min() < 0 or levels.max() > 65535:
        raise ValueError(f"grey levels must be from 0 to 65535, got {levels.min()} to {levels.max()}")
    return torch.from_numpy(levels / 32767.5 - 1).float().expand(3, -1, -1).contiguous()


def to_pil(picture: Tensor) -> Image.Image:
    """A picture to look at or save, of one tensor (3, H, W): floats in [-1, 1], clamped, or uint8.

    Raises:
        ValueError: not one picture of three channels, or not a number somewhere.
    """
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"a picture must be (3, H, W), got {tuple(picture.shape)}: pass them one by one, or a grid")
    levels = picture if picture.dtype == torch.uint8 else to_uint8(picture)
    return Image.fromarray(levels.detach().permute(1, 2, 0).cpu().numpy())


def from_uint8(levels: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 -> float32 in [-1, 1].

    Raises:
        ValueError: the levels are not uint8, so their range is not known.
    """
    if levels.dtype != torch.uint8:
        raise ValueError(f"levels must be uint8, got {levels.dtype}")
    return levels.float() / 127.5 - 1


def to_uint8(picture: Tensor) -> Tensor:
    """(..., 3, H, W) in [-1, 1] -> uint8: clamped, and rounded to the nearest level.

    All 256 levels survive `from_uint8`, a cast to float16 or bfloat16, and this.

    Raises:
        ValueError: the picture is not of floats, or not a number somewhere.
    """
    if not picture.is_floating_point():
        raise ValueError(f"a picture in [-1, 1] must be of floats, got {picture.dtype}")
    if picture.isnan().any():
        raise ValueError("the picture holds NaN: the network that made it has diverged")
    return ((picture.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_unit(picture: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], not clamped. Any shape."""
    return (picture + 1) / 2


def from_unit(picture: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], not clamped. Any shape."""
    return picture * 2 - 1


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Light from what a screen is told, both in [0, 1], any shape. Source: IEC 61966-2-1, section 5.2.

    Below 0 it goes on as a straight line, so that gradients stay finite.
    """
    # `where` hands both branches a gradient, and that of a power at a negative number is NaN
    curve = ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, srgb / 12.92, curve)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """What to tell a screen so that it gives this light: the inverse of `srgb_to_linear`."""
    curve = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curve)


def grid(pictures: Tensor, columns: int) -> Tensor:
    """One sheet (3, H', W') of a batch (B, 3, H, W), row by row, grey between them; type and range stay.

    Raises:
        ValueError: there are no pictures, or no columns.
    """
    if pictures.ndim != 4 or len(pictures) == 0 or columns < 1:
        raise ValueError(f"a grid needs pictures (B, 3, H, W) and columns, got {tuple(pictures.shape)}, {columns}")
    grey = GREY if pictures.dtype == torch.uint8 else GREY / 255
    columns = min(columns, len(pictures))
    cells = F.pad(pictures, (0, GAP, 0, GAP), value=grey)
    missing = -len(cells) % columns
    cells = torch.cat([cells, torch.full_like(cells[:1], grey).expand(missing, -1, -1, -1)])
    rows = cells.unflatten(0, (-1, columns))
    return F.pad(rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2), (GAP, 0, GAP, 0), value=grey)


def sheet(pictures: Tensor, captions: list[str], columns: int) -> Image.Image:
    """A `grid` to look at, with a caption under each picture; small ones are enlarged, pixels stay square.

    Raises:
        ValueError: not one caption for each picture.
    """
    if len(pictures) != len(captions):
        raise ValueError(f"each picture needs a caption, got {len(pictures)} pictures, {len(captions)} captions")
    scale = max(1, CELL_PX // pictures.shape[-1])
    pictures = pictures.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    white = 255 if pictures.dtype == torch.uint8 else 1
    height, width = pictures.shape[-2:]
    font = ImageFont.load_default(CAPTION_PX)
    texts = [_wrapped(caption, font, width) for caption in captions]
    line = CAPTION_PX + 4
    strip = line * max(text.count("\n") + 1 for text in texts)
    image = to_pil(grid(F.pad(pictures, (0, 0, 0, strip), value=white), columns))
    pen = ImageDraw.Draw(image)
    for number, text in enumerate(texts):
        row, column = divmod(number, columns)
        corner = (GAP + column * (width + GAP), GAP + row * (height + strip + GAP) + height)
        pen.multiline_text(corner, text, fill="black", font=font, spacing=2)
    return image


def save_png(image: Image.Image, path: str | Path) -> None:
    """Write a PNG whole or not at all: a full disk or a kill leaves what was there before.

    Raises:
        ValueError: the name does not end in .png.
        OSError: it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"pictures are saved as PNG, so the name must end in .png, got {path.name!r}")
    data = io.BytesIO()
    image.save(data, "PNG")
    save(path, data.getvalue())


def save(path: str | Path, data: bytes) -> None:
    """A file whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise OSError(f"cannot save {path}: {error.strerror or error}; nothing was written") from None
    finally:
        scratch.unlink(missing_ok=True)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Lines that fit, broken at spaces; a word that is too long stays whole."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
