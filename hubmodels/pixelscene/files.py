"""What artists open: index pictures with their exact palette as PNG, .aseprite and .lbm, enlarged, on contact sheets.

Pixels are never resampled: enlarging repeats them.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from hubmodels.images import opened
from hubmodels.pixelscene.palettes import MOST, MOST_PIXELS, checked, distinct, ramps

SCALES = range(1, 7)
GAP, LINE = 6, 14
TURN, MOST_RANGES = 2730, 16
"""Of .lbm: how fast a ramp turns, in 1 / 16,384 of 60 steps a second (10), and how many ramps Deluxe Paint knows."""


def index_image(indices: Array, palette: Array) -> Image.Image:
    """A P-mode picture of (H, W) uint8 and (K, 3) uint8.

    Raises:
        ValueError: an index is beyond the palette.
    """
    colours = checked(palette)
    if indices.ndim != 2 or indices.dtype != np.uint8:
        raise ValueError(f"indices are (H, W) uint8, got {indices.shape} {indices.dtype}")
    if indices.size and indices.max() >= len(colours):
        raise ValueError(f"index {indices.max()} is beyond a palette of {len(colours)} colours")
    image = Image.fromarray(np.ascontiguousarray(indices), "P")
    image.putpalette(colours.tobytes())
    return image


def read(path: str | Path, exact: bool = True) -> tuple[Array, Array]:
    """Indices (H, W) uint8 and palette (K, 3) uint8 of a picture file: those of an index picture as they are, else the
    colours that are there.

    Args:
        exact: whether more than 256 colours are an error; else they come as near as can be.

    Raises:
        ValueError: it is missing or broken, moves, is partly transparent, far too large or of too many colours; the
            file is named.
    """
    image = opened(path, MOST_PIXELS)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise ValueError(f"{path} is partly transparent: a background has no holes, so fill them")
    if image.mode != "P":
        return _indexed(image.convert("RGB"), path, exact)
    palette, indices = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3), np.asarray(image, np.uint8)
    if indices.max() >= len(palette):
        raise ValueError(f"{path} points beyond the {len(palette)} colours of its palette")
    return indices, palette


def _indexed(image: Image.Image, path: str | Path, exact: bool) -> tuple[Array, Array]:
    palette, which = distinct(np.asarray(image))
    if len(palette) <= MOST:
        return which.astype(np.uint8), palette
    if exact:
        raise ValueError(f"{path} has {len(palette)} colours, more than {MOST}: save it with a palette first")
    few = image.quantize(MOST, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(few, np.uint8), np.array(few.getpalette("RGB"), np.uint8).reshape(-1, 3)


def png(indices: Array, palette: Array, about: Mapping[str, str] | None = None) -> bytes:
    """An index picture as PNG, PLTE in the order of the palette; `about` becomes text, which Pillow has as `.text`."""
    said = PngImagePlugin.PngInfo()
    for key, value in (about or {}).items():
        said.add_itxt(key, value)
    file = BytesIO()
    index_image(indices, palette).save(file, "PNG", pnginfo=said, optimize=False)
    return file.getvalue()


def mask(said: str, size: tuple[int, ...]) -> Array:
    """(H, W) bool of "left,top,width,height" in pixels, or of a picture file of that size that is white where it is
    true; where it is transparent nothing is.

    Raises:
        ValueError: it is neither, or lies outside of the picture.
    """
    height, width = size
    numbers = said.split(",")
    if len(numbers) != 4 or not all(re.fullmatch(r"\s*-?\d{1,9}\s*", number) for number in numbers):
        if not Path(said).is_file():
            raise ValueError(f'a mask is "left,top,width,height" or a picture file, got "{said}"')
        painted = opened(said, MOST_PIXELS).convert("RGBA")
        marked = np.asarray(Image.alpha_composite(Image.new("RGBA", painted.size, "black"), painted).convert("L")) > 127
        if marked.shape != (height, width):
            raise ValueError(f"{said} is {marked.shape[1]} x {marked.shape[0]}, and the picture {width} x {height}")
        return marked
    left, top, across, down = (int(number) for number in numbers)
    if not (0 <= left < left + across <= width and 0 <= top < top + down <= height):
        raise ValueError(f"the mask {said} is not inside of the picture of {width} x {height}")
    marked = np.zeros((height, width), bool)
    marked[top : top + down, left : left + across] = True
    return marked


def enlarged(indices: Array, scale: int) -> Array:
    """Each pixel a square of `scale` by `scale`.

    Raises:
        ValueError: the scale is not a whole number from 1 to 6.
    """
    if scale not in SCALES:
        raise ValueError(f"pictures are enlarged {SCALES[0]} to {SCALES[-1]} times, got {scale}")
    return indices.repeat(scale, 0).repeat(scale, 1)


def contact_sheet(
    pictures: list[tuple[Array, Array]], captions: list[str], columns: int, scale: int = 1
) -> Image.Image:
    """An RGB overview of (indices, palette) with a line of text below each."""
    if len(pictures) != len(captions) or not pictures:
        raise ValueError(f"each picture needs a caption, got {len(pictures)} pictures, {len(captions)} captions")
    height = max(indices.shape[0] for indices, _ in pictures) * scale
    width = max(indices.shape[1] for indices, _ in pictures) * scale
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + LINE + GAP)), (32, 32, 32))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, ((indices, palette), caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * (width + GAP), GAP + row * (height + LINE + GAP)
        sheet.paste(index_image(enlarged(indices, scale), palette).convert("RGB"), (left, top))
        words = caption
        while words and font.getlength(words) > width:
            words = words[:-2].rstrip() + "…" if len(words) > 2 else ""
        pen.text((left, top + height), words, fill=(220, 220, 220), font=font)
    return sheet


def aseprite(indices: Array, palette: Array, name: str) -> bytes:
    """An Aseprite sprite in indexed colour: one frame, one layer of that name, which is its background.

    Source: Aseprite's "File Format Specifications" (ase-file-specs.md): layer 0x2004, cel 0x2005, palette 0x2019.
    """
    colours = checked(palette)
    index_image(indices, colours)
    height, width = indices.shape
    entries = b"".join(struct.pack("<HBBBB", 0, *colour, 255) for colour in colours.tolist())
    flags = 1 | 2 | 8  # visible, editable, background: no index of it is transparent
    cel = struct.pack("<HhhBHh5xHH", 0, 0, 0, 255, 2, 0, width, height)
    chunks = [
        _chunk(0x2019, struct.pack("<III8x", len(colours), 0, len(colours) - 1) + entries),
        _chunk(0x2004, struct.pack("<HHHHHHB3x", flags, 0, 0, 0, 0, 0, 255) + _string(name)),
        _chunk(0x2005, cel + zlib.compress(np.ascontiguousarray(indices).tobytes(), 9)),
    ]
    body = b"".join(chunks)
    frame = struct.pack("<IHHH2xI", 16 + len(body), 0xF1FA, len(chunks), 100, len(chunks)) + body
    header = struct.pack(
        *("<IHHHHHIHIIB3xHBBhhHH84x", 128 + len(frame), 0xA5E0, 1, width, height, 8, 1, 100, 0, 0, 0),
        *(len(colours), 1, 1, 0, 0, 16, 16),
    )
    return header + frame


def lbm(indices: Array, palette: Array, name: str) -> bytes:
    """A picture as Deluxe Paint kept it on the PC, with the ramps of its palette ready to be turned: programs that do
    (Deluxe Paint, GrafX2, Pro Motion) list them, at rest until someone starts them.

    Source: Electronic Arts 1985, "EA IFF 85" (chunks) and "ILBM" (BMHD, CMAP); Deluxe Paint's CRNG, and "PBM ", whose
    BODY has a byte for each pixel.
    """
    colours = checked(palette)
    index_image(indices, colours)
    height, width = indices.shape
    ranges = [struct.pack(">HHHBB", 0, TURN, 0, first, last) for first, last in ramps(colours)[:MOST_RANGES]]
    chunks = [
        (b"BMHD", struct.pack(">HHhhBBBBHBBhh", width, height, 0, 0, 8, 0, 0, 0, 0, 5, 6, width, height)),
        (b"CMAP", colours.tobytes().ljust(3 * MOST, b"\0")),
        *((b"CRNG", one) for one in ranges),
        (b"ANNO", name.encode("ascii", "replace")),
        (b"BODY", np.pad(indices, ((0, 0), (0, width % 2))).tobytes()),
    ]
    body = b"PBM " + b"".join(
        kind + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"FORM" + struct.pack(">I", len(body)) + body


def _chunk(kind: int, data: bytes) -> bytes:
    return struct.pack("<IH", 6 + len(data), kind) + data


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<H", len(data)) + data
