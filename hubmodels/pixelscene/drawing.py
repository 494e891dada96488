"""Drawing as painters of VGA backgrounds did: in ramps of colours, shaded in between by an ordered dither.

A canvas holds, for each pixel, which ramp it is painted with and how light, from 0 to 1. Only at the end does it become
an index picture: ramp and tone, dithered by an 8 x 8 Bayer matrix, are an index into the palette of all ramps. Dusk or
night are other colours in the same ramps, so they change the palette and not the drawing.

Coordinates are pixels, x right, y down. Masks are (H, W) bool.
"""

import colorsys
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

LEVELS = 16
"""Colours of a ramp, dark to light: sixteen ramps are a palette of 256."""
RAMPS = (
    "sky",
    "cloud",
    "glow",
    "far",
    "middle",
    "near",
    "ground",
    "path",
    "leaves",
    "bark",
    "stone",
    "wall",
    "roof",
    "wood",
    "water",
    "special",
)
BAYER = np.array([[0]])
for _ in range(3):  # M -> [[4 M, 4 M + 2], [4 M + 3, 4 M + 1]]; Bayer 1973
    BAYER = np.block([[4 * BAYER, 4 * BAYER + 2], [4 * BAYER + 3, 4 * BAYER + 1]])
THRESHOLDS = ((BAYER + 0.5) / BAYER.size).astype(np.float32)


@dataclass(eq=False)
class Canvas:
    """A picture in the making, or a part of it."""

    ramp: Array
    """(H, W) uint8, index of `RAMPS`."""
    tone: Array
    """(H, W) float32."""
    rng: Generator
    top: int = 0
    """y of the first row."""
    left: int = 0
    textures: dict[tuple[int, int, int], Array] = field(default_factory=dict)
    """Noise of the whole picture that many things share."""

    @staticmethod
    def blank(height: int, width: int, rng: Generator) -> "Canvas":
        canvas = Canvas(np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32), rng)
        canvas.textures[0, 0, 0] = canvas.tone
        return canvas

    def part(self, left: float, top: float, right: float, bottom: float) -> "Canvas":
        """A window onto this canvas, with the same coordinates, of at least a pixel: small things are drawn fast."""
        x0 = int(min(max(left - self.left, 0), self.width - 1))
        y0 = int(min(max(top - self.top, 0), self.height - 1))
        x1 = int(min(max(right - self.left + 2, x0 + 1), self.width))
        y1 = int(min(max(bottom - self.top + 2, y0 + 1), self.height))
        window = slice(y0, y1), slice(x0, x1)
        return Canvas(self.ramp[window], self.tone[window], self.rng, self.top + y0, self.left + x0, self.textures)

    def texture(self, down: int, across: int, octaves: int = 1) -> Array:
        """(H, W) noise of the whole picture, about [-1, 1], as much of it as this part shows."""
        key = down, across, octaves
        if key not in self.textures:
            height, width = self.textures[0, 0, 0].shape
            self.textures[key] = fbm(self.rng, height, width, down, across, octaves)
        return self.textures[key][self.top : self.top + self.height, self.left : self.left + self.width]

    @property
    def height(self) -> int:
        return self.tone.shape[0]

    @property
    def width(self) -> int:
        return self.tone.shape[1]

    @property
    def grid(self) -> tuple[Array, Array]:
        """y and x of pixels, (H, 1) and (1, W)."""
        down, across = (np.arange(side, dtype=np.float32) for side in self.tone.shape)
        return down[:, None] + self.top, across[None] + self.left

    def paint(self, mask: Array, ramp: str, tone: Array | float) -> None:
        """Ramp and tone, which broadcasts to (H, W), where the mask is true."""
        mask = np.broadcast_to(mask, self.tone.shape)
        self.ramp[mask] = RAMPS.index(ramp)
        self.tone[mask] = np.broadcast_to(tone, self.tone.shape)[mask]

    def light(self, x: float, y: float, radius: float, strength: float) -> None:
        """A lamp: what is near becomes lighter, whatever it is painted with."""
        down, across = self.grid
        away = np.hypot(across - x, (down - y) * 1.2) / radius
        self.tone += strength * np.exp(-away * away).astype(np.float32)

    def shade(self, mask: Array, by: Array | float) -> None:
        """Add to the tone where the mask is true."""
        self.tone += np.where(mask, by, 0).astype(np.float32)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def choose(self, *things):
        return things[int(self.rng.integers(len(things)))]

    @property
    def thresholds(self) -> Array:
        """(H, W) of the dither, each in (0, 1): what is above is set."""
        down, across = (-(-side // 8) for side in self.tone.shape)
        return np.tile(THRESHOLDS, (down, across))[: self.height, : self.width]

    def indices(self) -> Array:
        """(H, W) uint8 into a palette of ramps one after the other."""
        level = np.floor(self.tone.clip(0, 1) * (LEVELS - 1) + self.thresholds).clip(0, LEVELS - 1)
        return (self.ramp * LEVELS + level).astype(np.uint8)


# --- noise ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _taps(count: int, cells: int) -> tuple[Array, Array, Array]:
    """Where each of `count` pixels lies between the points of `cells` cells: point before, after, smooth share."""
    at = (np.arange(count) + 0.5) * cells / count
    first = at.astype(int)
    share = (at - first).astype(np.float32)
    return first, first + 1, share * share * (3 - 2 * share)


def noise(rng: Generator, height: int, width: int, down: int, across: int) -> Array:
    """(H, W) smooth value noise in [-1, 1], of `down` by `across` cells."""
    points = rng.uniform(-1, 1, (down + 1, across + 1)).astype(np.float32)
    above, below, share = _taps(height, down)
    rows = points[above] + (points[below] - points[above]) * share[:, None]
    left, right, share = _taps(width, across)
    return rows[:, left] + (rows[:, right] - rows[:, left]) * share


def fbm(rng: Generator, height: int, width: int, down: int, across: int, octaves: int = 4, fall: float = 0.5) -> Array:
    """(H, W) octaves of noise, each twice as fine and `fall` as strong; about [-1, 1]."""
    total, strength, sum_of = np.zeros((height, width), np.float32), 1.0, 0.0
    for octave in range(octaves):
        cells = min(down << octave, height), min(across << octave, width)
        total += strength * noise(rng, height, width, *cells)
        sum_of, strength = sum_of + strength, strength * fall
    return total / sum_of * 1.5


def line(rng: Generator, width: int, cells: int, octaves: int = 4, fall: float = 0.5) -> Array:
    """(W,) the same along a line."""
    return fbm(rng, 1, width, 1, cells, octaves, fall)[0]


def blocks(rng: Generator, index: Array, low: float = -1, high: float = 1) -> Array:
    """A random number for each of the whole numbers in `index`."""
    _, which = np.unique(index, return_inverse=True)
    return rng.uniform(low, high, which.max() + 1).astype(np.float32)[which].reshape(index.shape)


# --- colours ----------------------------------------------------------------------------------------------------

Colour = tuple[float, float, float]
"""Hue in turns, saturation, value."""


def ramp(middle: Colour, contrast: float = 1.0, shift: float = 0.06) -> Array:
    """(LEVELS, 3) sRGB in [0, 1], dark to light around a colour at two thirds. Shadows turn towards blue and highlights
    towards yellow by `shift` turns, as painters do."""
    hue, saturation, value = middle
    rows = []
    for step in np.linspace(0, 1, LEVELS):
        off = (step - 0.66) * contrast
        toward = 0.62 if off < 0 else 0.14
        turn = (toward - hue + 0.5) % 1 - 0.5
        moved = hue + np.clip(turn, -shift, shift) * min(1.0, abs(off) * 1.6)
        light = value * (1 + 1.35 * off) if off < 0 else value + (1 - value) * 1.6 * off
        dull = saturation * (1 + 0.25 * -off if off < 0 else 1 - 1.1 * off)
        rows.append(colorsys.hsv_to_rgb(moved % 1, min(1, max(0, dull)), min(1, max(0, light))))
    return np.array(rows, np.float32)


def tinted(colours: Array, by: Array, share: float) -> Array:
    """Colours (..., 3) mixed with one (3,)."""
    return colours + (by - colours) * share


def dac(colours: Array) -> Array:
    """(..., 3) in [0, 1] to uint8 that a VGA card can show: 6 bits, repeated to fill 8."""
    six = np.rint(colours.clip(0, 1) * 63).astype(np.uint8)
    return (six << 2) | (six >> 4)
