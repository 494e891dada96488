"""Palettes: those that machines had, the files that artists keep them in, and pictures brought into them.

A palette is (K, 3) uint8 sRGB, K from 1 to 256; an index picture (H, W) uint8 points into one. Which colours are alike
is measured in OKLab (Ottosson 2020, "A perceptual color space for image processing").

Files: .gpl (GIMP), .hex (Lospec), .pal (JASC, as of Paint Shop Pro, or RIFF, as of Windows), .act (Photoshop), .png.
"""

import re
import struct
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy import ndarray as Array

from hubmodels.images import from_uint8, from_unit, linear_to_srgb, opened, save, srgb_to_linear, to_uint8, to_unit

MOST = 256
MOST_PIXELS = 4096 * 4096
"""Of a picture that is read."""
KMEANS_ROUNDS = 20
SHADES = 32
"""Steps from black to white of `shades`."""
GREYISH, HUE, LEAST = 0.02, np.pi / 3, 4
"""Of ramps: chroma below which a colour has no hue, how far hues of one may be apart, and of how many colours it is."""
SUFFIXES = (".gpl", ".hex", ".pal", ".act", ".png")
Dither = Literal["none", "bayer", "floyd-steinberg"]


def _hex(text: str) -> Array:
    return np.array([[int(one[i : i + 2], 16) for i in (0, 2, 4)] for one in text.split()], np.uint8)


def _vga() -> Array:
    """What a VGA card starts mode 13h with: EGA, greys, then hues of three values and three saturations, in 6 bits."""
    grey = np.repeat(np.array([0, 5, 8, 11, 14, 17, 20, 24, 28, 32, 36, 40, 45, 50, 56, 63])[:, None], 3, 1)
    hues = []
    for levels in (
        *((0, 16, 31, 47, 63), (31, 39, 47, 55, 63), (45, 49, 54, 58, 63)),
        *((0, 7, 14, 21, 28), (14, 17, 21, 24, 28), (20, 22, 24, 26, 28)),
        *((0, 4, 8, 12, 16), (8, 10, 12, 14, 16), (11, 12, 13, 15, 16)),
    ):
        low, high = levels[0], levels[-1]
        rising, falling = levels[:4], levels[:0:-1]
        hues += [(x, low, high) for x in rising] + [(high, low, x) for x in falling]  # blue to magenta to red
        hues += [(high, x, low) for x in rising] + [(x, high, low) for x in falling]  # to yellow to green
        hues += [(low, high, x) for x in rising] + [(low, x, high) for x in falling]  # to cyan to blue
    six = np.concatenate([grey, np.array(hues), np.zeros((8, 3), int)]).astype(np.uint8)
    return np.concatenate([EGA, (six << 2) | (six >> 4)])


EGA = _hex(
    "000000 0000AA 00AA00 00AAAA AA0000 AA00AA AA5500 AAAAAA 555555 5555FF 55FF55 55FFFF FF5555 FF55FF FFFF55 FFFFFF"
)
BUILT_IN: dict[str, Array] = {
    "ega": EGA,
    "cga": _hex("000000 55FFFF FF55FF FFFFFF"),
    "pico8": _hex(
        "000000 1D2B53 7E2553 008751 AB5236 5F574F C2C3C7 FFF1E8 "
        "FF004D FFA300 FFEC27 00E436 29ADFF 83769C FF77A8 FFCCAA"
    ),
    "c64": _hex(
        "000000 FFFFFF 68372B 70A4B2 6F3D86 588D43 352879 B8C76F "
        "6F4F25 433900 9A6759 444444 6C6C6C 9AD284 6C5EB5 959595"
    ),
    "vga": _vga(),
}
"""By the name that `--palette` takes. Sources: IBM's EGA and CGA (mode 4, high intensity) and VGA's defaults; the
PICO-8 manual; for the C64, which made its colours as analogue video, Timmermann's ("Pepto's") computation of 2001."""


def named(name: str) -> Array:
    """A palette by its built-in name or its file.

    Raises:
        ValueError: it is neither, or the file is damaged; what is wrong is said in one line.
    """
    if name.lower() in BUILT_IN:
        return BUILT_IN[name.lower()].copy()
    if Path(name).suffix.lower() in SUFFIXES:
        return read(name)
    raise ValueError(f"{name!r} is no palette: take {', '.join(BUILT_IN)} or a file of {', '.join(SUFFIXES)}")


# --- files ------------------------------------------------------------------------------------------------------


def read(path: str | Path) -> Array:
    """The palette in a file, by its suffix.

    Raises:
        ValueError: it is missing, damaged, or holds no colour or more than 256; the file is named.
    """
    path = Path(path)
    readers = {".gpl": _gpl, ".hex": _hex_lines, ".pal": _pal, ".act": _act}
    try:
        if path.suffix.lower() == ".png":
            return checked(_of_picture(path), path)
        if path.suffix.lower() not in readers:
            raise ValueError(f"{path} is no palette: its name must end in {', '.join(SUFFIXES)}")
        with path.open("rb") as file:
            data = file.read(2**20)
        return checked(readers[path.suffix.lower()](data), path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except _Damaged as error:
        raise ValueError(f"{path}: {error}") from None


def write(path: str | Path, palette: Array, name: str = "hubmodels") -> None:
    """A palette as a file of the kind that its suffix says (.pal is JASC), whole or not at all.

    Raises:
        ValueError: the suffix is none of those that are written.
        OSError: it cannot be written.
    """
    path, colours = Path(path), checked(palette, path)
    lines = ["{} {} {}".format(*colour) for colour in colours.tolist()]
    kinds = {
        ".gpl": lambda: "\n".join(
            ["GIMP Palette", f"Name: {_one_line(name)}", "Columns: 16", "#", *lines, ""]
        ).encode(),
        ".hex": lambda: "".join(f"{r:02x}{g:02x}{b:02x}\n" for r, g, b in colours.tolist()).encode(),
        ".pal": lambda: "\r\n".join(["JASC-PAL", "0100", str(len(colours)), *lines, ""]).encode(),
        ".act": lambda: colours.tobytes().ljust(768, b"\0") + struct.pack(">HH", len(colours), 0xFFFF),
    }
    if path.suffix.lower() not in kinds:
        raise ValueError(f"palettes are written as {', '.join(kinds)}, got {path.name!r}")
    save(path, kinds[path.suffix.lower()]())


def checked(palette: Array, source: str | Path = "the palette") -> Array:
    """(K, 3) uint8.

    Raises:
        ValueError: no colour, or more than 256.
    """
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or colours.dtype != np.uint8:
        raise ValueError(f"{source}: a palette is (K, 3) uint8, got {colours.shape} {colours.dtype}")
    if not 1 <= len(colours) <= MOST:
        raise ValueError(f"{source} has {len(colours)} colours: a palette has 1 to {MOST}")
    return colours


class _Damaged(Exception):
    """What is wrong with a file."""


def _one_line(name: str) -> str:
    return " ".join(name.split())


def _colours(rows: list[list[int]]) -> Array:
    return np.array(rows, np.uint8).reshape(-1, 3)


def _triple(words: list[str], number: int) -> list[int]:
    """Three numbers from 0 to 255 of a line."""
    if len(words) < 3 or not all(re.fullmatch(r"\d{1,3}", word) and int(word) < 256 for word in words[:3]):
        raise _Damaged(f"line {number} has no three numbers from 0 to 255: {' '.join(words)[:40]!r}")
    return [int(word) for word in words[:3]]


def _text(data: bytes) -> list[str]:
    return data.decode("utf-8-sig", "replace").splitlines()


def _gpl(data: bytes) -> Array:
    lines = _text(data)
    if not lines or lines[0].strip() != "GIMP Palette":
        raise _Damaged('it does not begin with "GIMP Palette"')
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip() and not line.lstrip().startswith("#") and not re.match(r"\s*(Name|Columns|Channels):", line):
            rows.append(_triple(line.split(), number))
    return _colours(rows)


def _hex_lines(data: bytes) -> Array:
    rows = []
    for number, line in enumerate(_text(data), 1):
        word = line.strip().lstrip("#")
        if not word or word.startswith(";"):
            continue
        if not re.fullmatch(r"[0-9a-fA-F]{6}", word):
            raise _Damaged(f"line {number} is no colour as RRGGBB: {word[:40]!r}")
        rows.append([int(word[i : i + 2], 16) for i in (0, 2, 4)])
    return _colours(rows)


def _pal(data: bytes) -> Array:
    if data[:4] == b"RIFF":
        return _riff(data)
    lines = _text(data)
    if [line.strip() for line in lines[:2]] != ["JASC-PAL", "0100"] or len(lines) < 3 or not lines[2].strip().isdigit():
        raise _Damaged("it is neither a JASC nor a RIFF palette")
    count = int(lines[2])
    if len(lines) < 3 + count:
        raise _Damaged(f"it breaks off: {count} colours are announced, {len(lines) - 3} lines follow")
    return _colours([_triple(line.split(), number) for number, line in enumerate(lines[3 : 3 + count], 4)])


def _riff(data: bytes) -> Array:
    """Microsoft's multimedia file formats: RIFF('PAL ' data(u16 version, u16 count, count * (r, g, b, flags)))."""
    if data[8:16] != b"PAL data" or len(data) < 24:
        raise _Damaged("it is a RIFF file, but no palette")
    count = struct.unpack("<H", data[22:24])[0]
    if len(data) < 24 + 4 * count:
        raise _Damaged(f"it breaks off: {count} colours are announced, {(len(data) - 24) // 4} are there")
    return np.frombuffer(data[24 : 24 + 4 * count], np.uint8).reshape(-1, 4)[:, :3].copy()


def _act(data: bytes) -> Array:
    if len(data) not in (768, 772):
        raise _Damaged(f"it has {len(data)} bytes, an .act has 768 or 772")
    count = struct.unpack(">H", data[768:770])[0] if len(data) == 772 else 256
    return np.frombuffer(data[:768], np.uint8).reshape(-1, 3)[: count or 256].copy()


def _of_picture(path: Path) -> Array:
    """The palette of an index picture, or all colours of another one, in the order in which they are met."""
    image = opened(path, MOST_PIXELS)
    if image.mode == "P":
        return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours, which = distinct(np.asarray(image.convert("RGB")))
    return colours[np.unique(which, return_index=True)[1].argsort()]


# --- colours ----------------------------------------------------------------------------------------------------

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colours: Array) -> Array:
    """(..., 3) uint8 sRGB to OKLab: lightness in [0, 1], and how red and how yellow, each within about 0.35 of 0."""
    levels = torch.from_numpy(np.ascontiguousarray(colours))
    linear = srgb_to_linear(to_unit(from_uint8(levels))).clamp(min=0).double().numpy()
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


def from_oklab(colours: Array) -> Array:
    """(..., 3) uint8 sRGB, the nearest that a screen can show in linear light, of OKLab."""
    return _to_levels(_to_linear(colours))


def _to_linear(lab: Array) -> Array:
    return (lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T


def _to_levels(linear: Array) -> Array:
    return to_uint8(from_unit(linear_to_srgb(torch.from_numpy(linear.clip(0, 1))))).numpy()


def shades() -> Array:
    """(COLOURS, 3) uint8 sRGB: colours of a VGA card, about evenly spaced in OKLab, 1/32 apart, from dark to light."""
    steps = np.arange(-SHADES // 2, SHADES // 2 + 1)
    lab = np.stack(np.meshgrid(np.arange(SHADES + 1), steps, steps, indexing="ij"), -1).reshape(-1, 3) / SHADES
    linear = _to_linear(lab)
    shown = (np.maximum(-linear, linear - 1) <= 1e-3).all(1)
    found = np.unique(six_bits(_to_levels(linear[shown])), axis=0)  # several of the darkest are one and the same
    return found[oklab(found)[:, 0].argsort()]


def six_bits(colours: Array) -> Array:
    """The nearest of the 262,144 colours that a VGA card can show."""
    six = ((np.asarray(colours, int) * 63 + 127) // 255).astype(np.uint8)
    return (six << 2) | (six >> 4)


def distinct(pixels: Array) -> tuple[Array, Array]:
    """The colours (K, 3) that are among (..., 3) uint8, and which of them is where (...)."""
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), -1, 0)
    packed, which = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    return (packed[:, None] >> np.array([16, 8, 0])).astype(np.uint8), which.reshape(pixels.shape[:-1])


def nearest(colours: Array, palette: Array) -> Array:
    """(...) uint8: which colour of a palette is most like each of (..., 3) uint8."""
    flat, which = distinct(colours)
    return _nearest_lab(oklab(flat), oklab(palette))[which]


def _nearest_lab(lab: Array, targets: Array) -> Array:
    parts = [
        ((lab[start : start + 4096, None] - targets) ** 2).sum(2).argmin(1)
        for start in range(0, max(1, len(lab)), 4096)
    ]
    return np.concatenate(parts).astype(np.uint8)


def reduced(indices: Array, palette: Array, most: int) -> tuple[Array, Array]:
    """A picture (H, W) uint8 in at most so many of its colours or of their means, from dark to light, and its palette.

    Colours are clustered in OKLab by how often they occur (k-means; each cluster begins as far from the others as can
    be, Gonzalez 1985).
    """
    used, which, counts = np.unique(indices, return_inverse=True, return_counts=True)
    lab = oklab(palette[used])
    centres = lab[[counts.argmax()]]
    while len(centres) < min(most, len(used)):
        far = ((lab[:, None] - centres) ** 2).sum(2).min(1)
        centres = np.vstack([centres, lab[far.argmax()]])
    for _ in range(KMEANS_ROUNDS if len(used) > most else 0):
        own = _nearest_lab(lab, centres)
        weights = np.bincount(own, counts, len(centres))
        sums = np.stack([np.bincount(own, counts * one, len(centres)) for one in lab.T], 1)
        centres = np.where(weights[:, None] > 0, sums / np.maximum(weights, 1)[:, None], centres)
    centres = centres[centres[:, 0].argsort(kind="stable")]
    own = _nearest_lab(lab, centres)
    return own[which].reshape(indices.shape), from_oklab(centres)


def in_ramps(palette: Array) -> Array:
    """The colours of a palette, each once, in ramps from dark to light: the greys, then hue after hue. Who turns
    colours, as VGA games did for water and fire, needs those of a ramp side by side."""
    colours, _ = distinct(palette)
    lab = oklab(colours)
    colours, lab = (one[lab[:, 0].argsort(kind="stable")] for one in (colours, lab))
    hue, grey = np.arctan2(lab[:, 2], lab[:, 1]) % (2 * np.pi), np.hypot(lab[:, 1], lab[:, 2]) < GREYISH
    turned = np.flatnonzero(~grey)[hue[~grey].argsort(kind="stable")]
    if len(turned):  # round the circle, from behind its widest gap
        first = np.diff(hue[turned], prepend=hue[turned[-1]] - 2 * np.pi).argmax()
        hue[turned[:first]] += 2 * np.pi
        turned = np.roll(turned, -first)
    order = [np.flatnonzero(grey), *(np.sort(one) for one in _alike(turned, hue))]
    return colours[np.concatenate(order)]


def _alike(turned: Array, hue: Array) -> list[Array]:
    """Numbers that are sorted by hue, cut at the widest gaps until the hues of each part are alike."""
    if not len(turned) or hue[turned[-1]] - hue[turned[0]] <= HUE:
        return [turned]
    cut = np.diff(hue[turned]).argmax() + 1
    return _alike(turned[:cut], hue) + _alike(turned[cut:], hue)


def ramps(palette: Array) -> list[tuple[int, int]]:
    """First and last index of each run of colours that only get lighter, or only darker, and are of one hue."""
    lab = oklab(palette)
    hue, grey = np.arctan2(lab[:, 2], lab[:, 1]), np.hypot(lab[:, 1], lab[:, 2]) < GREYISH
    apart = np.abs((np.diff(hue) + np.pi) % (2 * np.pi) - np.pi)
    steps = np.sign(np.diff(lab[:, 0]).round(6)) * ((apart <= HUE) | grey[1:] | grey[:-1])
    found, start = [], 0
    while start < len(steps):
        end = start
        while end < len(steps) and steps[end] == steps[start] != 0:
            end += 1
        long = end - start + 1 >= LEAST
        found += [(start, end)] if long else []
        start = end + 1 if long else max(end, start + 1)
    return found


def remapped(pixels: Array, palette: Array, dither: Dither = "none", strength: float = 1.0) -> Array:
    """(H, W) uint8: a picture (H, W, 3) uint8 in another palette.

    Args:
        dither: "bayer" mixes, in a pattern of 8 x 8, the two colours that a pixel lies between; "floyd-steinberg" hands
            on what each pixel misses (1976).
        strength: of the dither, from 0 to 1.

    Raises:
        ValueError: the strength is out of range.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of a dither is from 0 to 1, got {strength}")
    if dither == "none" or strength == 0 or len(palette) == 1:
        return nearest(pixels, palette)
    return _bayer(pixels, palette, strength) if dither == "bayer" else _diffused(pixels, palette, strength)


def _bayer(pixels: Array, palette: Array, strength: float) -> Array:
    """The nearest colour, or its best partner where the threshold is below the share that the partner should have."""
    from hubmodels.pixelscene.drawing import THRESHOLDS

    height, width, _ = pixels.shape
    flat, which = distinct(pixels)
    lab, targets = oklab(flat), oklab(palette)
    first = _nearest_lab(lab, targets)
    second, share = np.empty_like(first), np.empty(len(flat))
    for start in range(0, len(flat), 1024):
        part = slice(start, start + 1024)
        at = targets[first[part]][:, None]
        toward, off = targets[None] - at, lab[part][:, None] - at
        lengths = (toward**2).sum(2)
        along = np.where(lengths > 1e-9, (toward * off).sum(2) / np.maximum(lengths, 1e-9), 0).clip(0, 0.5)
        # far partners mix badly: a checker of black and white is no grey to the eye
        misses = ((along[..., None] * toward - off) ** 2).sum(2) + 0.03 * along * (1 - along) * lengths
        second[part] = misses.argmin(1)
        share[part] = np.take_along_axis(along, second[part][:, None].astype(int), 1)[:, 0]
    down, across = -(-height // 8), -(-width // 8)
    thresholds = np.tile(THRESHOLDS, (down, across))[:height, :width]
    return np.where(share[which] * strength > thresholds, second[which], first[which])


def _diffused(pixels: Array, palette: Array, strength: float) -> Array:
    height, width, _ = pixels.shape
    left, targets = oklab(pixels), oklab(palette)
    made = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            made[y, x] = ((targets - left[y, x]) ** 2).sum(1).argmin()
            missed = (left[y, x] - targets[made[y, x]]) * strength / 16
            if x + 1 < width:
                left[y, x + 1] += 7 * missed
            if y + 1 < height:
                left[y + 1, max(0, x - 1) : x + 2] += (
                    missed * np.array([[3], [5], [1]])[1 - min(1, x) : 3 - (x + 1 == width)]
                )
    return made
