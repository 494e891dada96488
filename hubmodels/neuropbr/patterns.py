"""What surfaces are drawn with: noise, cells, threads, scratches, and the maps that follow from a height.

    seed --Canvas--> patterns (S, S) --> height --derivative--> normal, --horizon--> ambient occlusion

S is the side in pixels; a pattern is a float32 array, row 0 on top. Lengths are in widths of the texture, u to the
right and v down, both in [0, 1) over it, and everything wraps around. A pattern is defined in these units, and
random numbers are drawn in an order that does not depend on S: other sizes show the same surface.
"""

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

T = TypeVar("T")

SPLINE_SPREAD = 151 / 315
"""Variance that a cubic B-spline leaves of white noise, along one axis: B-spline of order 8 at 0."""
NEIGHBOURS = 16
"""How many of the points around one may bound its piece; the mean is six."""
AO_DIRECTIONS = 8
AO_STEPS = (1 / 256, 1 / 128, 1 / 64, 1 / 32, 1 / 16)
"""How far away, in widths, the horizon is looked for; nothing further off throws shade."""


@dataclass(frozen=True)
class Canvas:
    """Where a surface is drawn, and the chance that decides what it looks like."""

    size: int
    rng: Generator
    u: Array
    """(1, S) or (S, S), where the pattern is looked up for each pixel."""
    v: Array
    """(S, 1) or (S, S)."""

    @classmethod
    def plain(cls, size: int, rng: Generator) -> "Canvas":
        at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        return cls(size, rng, at[None, :], at[:, None])

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def integer(self, low: int, high: int) -> int:
        """low <= n <= high."""
        return int(self.rng.integers(low, high + 1))

    def choose(self, *options: T) -> T:
        return options[self.integer(0, len(options) - 1)]

    def chance(self, probability: float) -> bool:
        return float(self.rng.random()) < probability

    def moved(self, right: Array, down: Array) -> "Canvas":
        """A canvas on which patterns come out displaced, pixel by pixel."""
        return replace(self, u=self.u - right, v=self.v - down)

    def bent(self, amount: float, cells: int, octaves: int = 2) -> "Canvas":
        """A canvas on which straight lines waver by about `amount`, in about `cells` waves."""
        return self.moved(amount * fbm(self, cells, octaves), amount * fbm(self, cells, octaves))

    def turned(self, across: int, down: int) -> "Canvas":
        """A canvas turned by atan2(down, across) and shrunk to fit: patterns are hypot(across, down) times finer."""
        return replace(self, u=across * self.u + down * self.v, v=across * self.v - down * self.u)


# --- ramps --------------------------------------------------------------------------------------------------


def smoothstep(low: float | Array, high: float | Array, x: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between; `low` may be the greater one."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def rounded(edge: Array, gap: float, bevel: float) -> Array:
    """0 within `gap` of the edge, then a quarter round `bevel` wide up to 1."""
    t = np.clip((edge - gap) / bevel, 0, 1)
    return t * (2 - t)


def mix(low: Array | float, high: Array | float, t: Array | float) -> Array:
    """`low` where t is 0, `high` where it is 1."""
    return np.asarray(low + (high - low) * t)


# --- noise --------------------------------------------------------------------------------------------------


def noise(c: Canvas, cells: int | tuple[int, int]) -> Array:
    """Smooth noise of mean 0 and deviation 1: white noise on `cells` (across, down) points, cubic B-splines between.

    All 0 where the canvas has less than two pixels for a point, as it would be after filtering.
    """
    across, down = cells if isinstance(cells, tuple) else (cells, cells)
    lattice = c.rng.standard_normal((down, across), np.float32)
    if 2 * max(across, down) > c.size:
        return np.zeros((1, 1), np.float32)
    lattice = (lattice - lattice.mean()) / (lattice.std() + 1e-6)
    wide = np.ascontiguousarray(_spline(lattice.T / np.float32(SPLINE_SPREAD), c.size).T)
    return sample(c, _spline(wide, c.size))


def fbm(c: Canvas, cells: int | tuple[int, int], octaves: int = 5, gain: float = 0.5) -> Array:
    """Octaves of `noise` from coarse to fine, each `gain` times as strong as the one before; mean 0, deviation 1."""
    across, down = cells if isinstance(cells, tuple) else (cells, cells)
    straight = Canvas.plain(c.size, c.rng)
    strength = math.sqrt(sum(gain ** (2 * i) for i in range(octaves)))
    layers = [gain**i / strength * noise(straight, (across << i, down << i)) for i in range(octaves)]
    return sample(c, sum(layers[1:], layers[0]))


def ridges(c: Canvas, cells: int | tuple[int, int], octaves: int = 4) -> Array:
    """Sharp lines, 1 on the line and falling to 0 about a third of a cell away: where `fbm` changes its sign."""
    return np.clip(1 - np.abs(fbm(c, cells, octaves)), 0, 1)


def sample(c: Canvas, image: Array) -> Array:
    """(S, S) looked up where the canvas says, bilinear."""
    if c.u.shape[0] == 1 and c.v.shape[1] == 1 or image.size == 1:
        return image
    x, y = np.broadcast_arrays(c.u * c.size - np.float32(0.5), c.v * c.size - np.float32(0.5))
    left, top = np.floor(x), np.floor(y)
    right, below = x - left, y - top
    columns, rows = left.astype(np.intp) % c.size, top.astype(np.intp) % c.size
    beside, under = (columns + 1) % c.size, (rows + 1) % c.size * c.size
    rows *= c.size
    upper = mix(image.take(rows + columns), image.take(rows + beside), right)
    lower = mix(image.take(under + columns), image.take(under + beside), right)
    return mix(upper, lower, below)


def _spline(lattice: Array, size: int) -> Array:
    """(n, m) -> (S, m), cubic B-splines around the circle of rows."""
    n = len(lattice)
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(n / size)
    first = np.floor(at)
    t = (at - first)[:, None]
    weights = (1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3
    total = np.zeros((size, lattice.shape[1]), np.float32)
    for k, weight in enumerate(weights):
        row = lattice.take((first.astype(np.intp) + k - 1) % n, axis=0)
        total += np.multiply(row, weight / 6, out=row)
    return total


# --- cells --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cells:
    """The plane cut into pieces; all (S, S)."""

    count: int
    index: Array
    """Which piece, 0 <= i < count."""
    edge: Array
    """Distance to the border of the piece, in widths."""
    x: Array
    """Place in the piece, in widths from its middle, to the right."""
    y: Array
    """Likewise, down."""

    def each(self, c: Canvas) -> Array:
        """A random number in [0, 1) for each piece."""
        return c.rng.random(self.count, np.float32).take(self.index)


def bricks(c: Canvas, columns: int, rows: int, shift: float | Array = 0.0) -> Cells:
    """Rectangles in rows; each row starts `shift` of a rectangle further on, or (rows,) says where each starts.

    `shift` times `rows` must be whole, or the last row does not meet the first.
    """
    starts = np.broadcast_to(np.asarray(shift, np.float32), rows) * (np.arange(rows) if np.ndim(shift) == 0 else 1)
    down, row = _split(c.v * rows)
    row %= rows
    across, column = _split(c.u * columns - starts.astype(np.float32).take(row))
    x, y = (across - 0.5) / columns, (down - 0.5) / rows
    edge = np.minimum(0.5 / columns - np.abs(x), 0.5 / rows - np.abs(y))
    x, y = np.broadcast_arrays(x, y)
    return Cells(rows * columns, row * columns + column % columns, edge, x, y)


def voronoi(c: Canvas, columns: int, rows: int, jitter: float = 0.8, stagger: bool = False) -> Cells:
    """Each place belongs to the nearest of columns * rows points, which lie `jitter` of a cell off a grid.

    With `stagger` (an even number of rows) and no jitter the cells are hexagons. `edge` is exact: the distance to the
    nearest bisector, https://iquilezles.org/articles/voronoilines.
    """
    px = (0.5 + jitter * (c.rng.random((rows, columns), np.float32) - 0.5)) / columns
    py = (0.5 + jitter * (c.rng.random((rows, columns), np.float32) - 0.5)) / rows
    px += np.where(np.arange(rows) % 2, 0.25, -0.25).astype(np.float32)[:, None] / columns * stagger
    px, py = px.astype(np.float32), py.astype(np.float32)

    def seen(right: int, down: int) -> tuple[Array, Array, Array]:
        """For each cell of the grid, the point that many cells away: its number, and where it is from the corner."""
        numbers = np.arange(rows * columns).reshape(rows, columns)
        number, x, y = (np.roll(table, (-down, -right), (0, 1)).ravel() for table in (numbers, px, py))
        return number, x + np.float32(right / columns), y + np.float32(down / rows)

    (u, column), (v, row) = _split(c.u * columns), _split(c.v * rows)
    u, v = np.broadcast_arrays(u / np.float32(columns), v / np.float32(rows))
    cell = row % rows * columns + column % columns
    near, index = np.full(cell.shape, np.inf, np.float32), np.zeros_like(cell)
    x, y = near.copy(), near.copy()
    for right, down in product((-1, 0, 1), repeat=2):
        number, site_x, site_y = seen(right, down)
        dx, dy = u - site_x.take(cell), v - site_y.take(cell)
        square = dx * dx + dy * dy
        closer = square < near
        for kept, new in ((near, square), (x, dx), (y, dy), (index, number.take(cell))):
            np.copyto(kept, new, where=closer)
    others = [seen(right, down)[1:] for right, down in product((-2, -1, 0, 1, 2), repeat=2) if (right, down) != (0, 0)]
    apart = np.array(others, np.float32) - np.stack([px.ravel(), py.ravel()])
    far = np.hypot(apart[:, 0], apart[:, 1])
    edge = np.full(cell.shape, np.inf, np.float32)
    for rank in np.argsort(far, axis=0)[:NEIGHBOURS]:
        (to_x, to_y), reach = (
            np.take_along_axis(apart, rank[None, None], 0)[0],
            np.take_along_axis(far, rank[None], 0)[0],
        )
        ahead = (to_x / reach).take(index) * x + (to_y / reach).take(index) * y
        np.minimum(edge, (reach / 2).take(index) - ahead, out=edge)
    return Cells(rows * columns, index, edge, x, y)


def stones(c: Canvas, cells: int, cover: float) -> tuple[Array, Cells]:
    """Loose stones, 0 on the ground to 1 on their tops; `cover` of the cells have one."""
    pieces = voronoi(c, cells, cells)
    half = 0.3 / cells
    body = rounded(pieces.edge, 0.1 / cells, half) * (pieces.each(c) < cover)
    return body * mix(0.5, 1, pieces.each(c)), pieces


def pits(c: Canvas, cells: int, share: float, radius: float) -> Array:
    """Round holes, 1 at the bottom; `share` of the cells have one, up to `radius` cells wide."""
    pieces = voronoi(c, cells, cells, 0.6)
    reach = radius / cells * mix(0.4, 1, pieces.each(c))
    return np.clip(1 - (pieces.x**2 + pieces.y**2) / reach**2, 0, 1) * (pieces.each(c) < share)


def cracks(c: Canvas, cells: int, width: float) -> Array:
    """1 in the middle of a crack, 0 `width` away; cracks meet in threes."""
    return 1 - smoothstep(0.2 * width, width, voronoi(c.bent(0.15 / cells, 3 * cells, 3), cells, cells, 0.9).edge)


def _split(x: Array) -> tuple[Array, Array]:
    """Fraction in [0, 1) and whole part."""
    whole = np.floor(x)
    return x - whole, whole.astype(np.intp)


# --- threads, grain, lines ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threads:
    """Cloth, seen from above; all (S, S)."""

    height: Array
    """0 between the threads, 1 on top."""
    warp: Array
    """Whether the thread on top runs down, not across."""
    index: Array
    """Which of its threads it is."""
    across: Array
    """Place across the thread on top, -1 to 1 from edge to edge."""
    along: Array
    """Place along it, in threads."""


PLAIN = np.array([[1, 0], [0, 1]])
BASKET = np.kron(PLAIN, np.ones((2, 2), int))
TWILL = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]])
SATIN = np.array([[int((column - 2 * row) % 5 != 0) for column in range(5)] for row in range(5)])
"""Weaves: 1 where the warp thread (column) lies over the weft thread (row)."""


def weave(c: Canvas, repeats: int, pattern: Array, width: float = 0.95) -> Threads:
    """Threads over and under each other as `pattern` says, `repeats` times; they are `width` of their spacing thick."""
    count = repeats * len(pattern)
    (fx, i), (fy, j) = _split(c.u * count), _split(c.v * count)
    x, y = (2 * fx - 1) / width, (2 * fy - 1) / width
    warp = _lift(pattern, i, j, fy) + np.sqrt(np.clip(1 - x * x, 0, 1))
    weft = _lift(1 - pattern.T, j, i, fx) + np.sqrt(np.clip(1 - y * y, 0, 1))
    warp, weft = np.where(np.abs(x) < 1, warp, 0), np.where(np.abs(y) < 1, weft, 0)
    top = warp > weft
    height = np.maximum(warp, weft) / 2
    return Threads(
        height, top, np.where(top, i, j) % count, np.where(top, x, y), np.where(top, c.v * count, c.u * count)
    )


def _lift(pattern: Array, thread: Array, crossing: Array, at: Array) -> Array:
    """1 where a thread is over the one that it crosses, 0 where under, smooth between crossings."""
    n = len(pattern)
    before = (at < 0.5).astype(np.int32)
    first = pattern[(crossing - before) % n, thread % n]
    second = pattern[(crossing + 1 - before) % n, thread % n]
    t = at - 0.5 + before
    return mix(first, second, t * t * (3 - 2 * t)).astype(np.float32)


def stitches(c: Canvas, columns: int, rows: int) -> tuple[Array, Array]:
    """Stocking stitch, 0 between the yarns to 1 on top; and the place along the yarn, in stitches."""
    x, _ = _split(c.u * columns)
    leg = np.abs(2 * x - 1)
    y, _ = _split(c.v * rows + 0.9 * leg)
    across, up = 2 * leg - 1, 2 * y - 1
    return np.sqrt(np.clip(1 - across**2, 0, 1)) * np.sqrt(np.clip(1 - up**2, 0, 1)), leg + y


def rings(g: Array) -> Array:
    """Growth rings, one for each unit of g: pale early wood darkens slowly, then the year ends at once. In [0, 1]."""
    f, _ = _split(g)
    return smoothstep(0, 0.85, f) * (1 - smoothstep(0.88, 1, f))


def scratches(c: Canvas, count: int, length: float, width: float) -> Array:
    """Arcs at any angle, 1 in the middle of a scratch; each fades in and out and has its own strength."""
    out = np.zeros((c.size, c.size), np.float32)
    width = max(width, 0.7 / c.size)
    for x, y, turn, reach, bow, depth in c.rng.random((count, 6)).tolist():
        reach, angle, bow = length * (0.2 + 0.8 * reach), math.pi * turn, (bow - 0.5) / 2
        cos, sin = math.cos(angle), math.sin(angle)
        wide, high = (reach * abs(cos) + 0.2 * reach, reach * abs(sin) + 0.2 * reach)
        columns = np.arange(int((x - wide) * c.size), int((x + wide) * c.size) + 1)
        rows = np.arange(int((y - high) * c.size), int((y + high) * c.size) + 1)
        dx = ((columns + 0.5) / c.size - x).astype(np.float32)
        dy = ((rows + 0.5) / c.size - y).astype(np.float32)[:, None]
        along = (cos * dx + sin * dy) / reach
        off = (cos * dy - sin * dx) - bow * reach * (along**2 - 0.3)
        line = np.clip(1 - (off / width) ** 2, 0, 1) * np.clip(1 - along**2, 0, 1) * (0.3 + 0.7 * depth)
        where = np.ix_(rows % c.size, columns % c.size)
        out[where] = np.maximum(out[where], line)
    return out


# --- what follows from a height -----------------------------------------------------------------------------


def blur(image: Array, radius: float) -> Array:
    """(S, S) under a Gaussian whose deviation is `radius` widths."""
    waves = np.fft.fftfreq(len(image), 1 / len(image))[:, None] ** 2 + np.arange(len(image) // 2 + 1) ** 2
    spectrum = np.fft.rfft2(image) * np.exp(-2 * (np.pi * radius) ** 2 * waves).astype(np.float32)
    return np.fft.irfft2(spectrum, image.shape).astype(np.float32)


def convexity(height: Array, radius: float) -> Array:
    """How far each place stands out of its surroundings, in radii; negative in hollows."""
    return (height - blur(height, radius)) / radius


def normal(height: Array) -> Array:
    """(S, S) in widths -> (3, S, S) unit vectors, x right, y up, z out: central differences of the height.

    normalize(-dh/dx, -dh/dy, 1); y up is against the rows.
    """
    half = np.float32(len(height) / 2)
    x = (np.roll(height, 1, 1) - np.roll(height, -1, 1)) * half
    y = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) * half
    z = 1 / np.sqrt(x * x + y * y + 1)
    return np.stack([x * z, y * z, z])


def occlusion(height: Array) -> Array:
    """(S, S) in widths -> share of the light of an even sky that arrives, (S, S) in (0, 1].

    Under a horizon of slope t, a sky weighted by the cosine loses 1 - 1 / (1 + t^2) in that direction. Steps of
    `AO_STEPS` in `AO_DIRECTIONS` look for it: exact on a plane, a little too bright in narrow grooves.
    """
    size = len(height)
    border = size // 16 + 1
    padded = np.pad(height, border, mode="wrap")
    light = np.zeros_like(height)
    for angle in np.arange(AO_DIRECTIONS) * (2 * np.pi / AO_DIRECTIONS):
        slope = np.zeros_like(height)
        for step in AO_STEPS:
            right, down = round(step * size * np.cos(angle)), round(step * size * np.sin(angle))
            if right or down:
                there = padded[border + down : border + down + size, border + right : border + right + size]
                np.maximum(slope, (there - height) * np.float32(size / np.hypot(right, down)), out=slope)
        light += 1 / (1 + slope * slope)
    return light / AO_DIRECTIONS
