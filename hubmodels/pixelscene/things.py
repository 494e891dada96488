"""What stands in a procedural background: sky, land, plants, buildings, things. Each is drawn on a `Setting`'s canvas.

    thing(setting, place on the canvas, size) -> the canvas with it, its name among the setting's objects

Light comes from the sun or moon, so every thing has a lit side; windows and lamps are lit when it is dark.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Concatenate, ParamSpec

import numpy as np
from numpy import ndarray as Array

from hubmodels.pixelscene.drawing import RAMPS, Canvas, Colour, blocks, fbm, line

WIDTH = 320
SEEN = 0.4
"""Share of a thing that must be seen for it to be named,"""
PLAIN = 1200
"""or pixels of it: of hills and seas much may lie behind the rest."""
P = ParamSpec("P")


@dataclass(eq=False)
class Setting:
    """What is being drawn, and what has been."""

    c: Canvas
    time: str
    weather: str
    horizon: float
    """y where the ground ends."""
    sun: tuple[float, float] = (160.0, 40.0)
    colours: dict[str, Colour] = field(default_factory=dict)
    """Of ramps, by full daylight."""
    objects: list[str] = field(default_factory=list)
    """What has been drawn, by its name."""
    drawn: dict[str, list[tuple[Array, Array]]] = field(default_factory=dict)
    """Where each was drawn, and the ramps it was drawn with; of some there are several."""

    @property
    def night(self) -> bool:
        return self.time == "night"

    @property
    def side(self) -> float:
        """-1 where light comes from the left, 1 from the right."""
        return -1.0 if self.sun[0] < WIDTH / 2 else 1.0

    def rename(self, old: str, new: str) -> None:
        self.objects[self.objects.index(old)] = new
        self.drawn[new] = self.drawn.pop(old)

    @contextmanager
    def drawing(self, thing: str) -> Iterator[None]:
        """What is painted meanwhile is the thing."""
        ramp, tone = self.c.ramp.copy(), self.c.tone.copy()
        yield
        where = (self.c.ramp != ramp) | (abs(self.c.tone - tone) > 0.05)
        self.drawn.setdefault(thing, []).append((where, self.c.ramp[where]))
        if thing not in self.objects:
            self.objects.append(thing)

    def visible(self) -> tuple[str, ...]:
        """The things that are still to be seen, now that all has been drawn."""
        return tuple(thing for thing in self.objects if self.seen(thing))

    def seen(self, thing: str) -> int:
        """How many of those of this name are not hidden by what was drawn since."""
        left = [(self.c.ramp[where] == ramp) for where, ramp in self.drawn[thing]]
        return sum(bool(len(part)) and (part.mean() >= SEEN or part.sum() >= PLAIN) for part in left)


def named(thing: str) -> Callable[[Callable[Concatenate[Setting, P], None]], Callable[Concatenate[Setting, P], None]]:
    """A function that draws one thing, which has this name."""

    def wrapped(draw: Callable[Concatenate[Setting, P], None]) -> Callable[Concatenate[Setting, P], None]:
        @wraps(draw)
        def both(s: Setting, *arguments: P.args, **options: P.kwargs) -> None:
            with s.drawing(thing):
                draw(s, *arguments, **options)

        return both

    return wrapped


# --- shapes -----------------------------------------------------------------------------------------------------


def ellipse(c: Canvas, x: float, y: float, across: float, down: float) -> Array:
    rows, columns = c.grid
    return ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 <= 1


def box(c: Canvas, left: float, top: float, right: float, bottom: float) -> Array:
    """Pixels from left to right and top to bottom, right and bottom not included."""
    rows, columns = c.grid
    return (columns >= round(left)) & (columns < round(right)) & (rows >= round(top)) & (rows < round(bottom))


def polygon(c: Canvas, *points: tuple[float, float]) -> Array:
    """Of points one after the other; even-odd."""
    rows, columns = (side + 0.5 for side in c.grid)
    inside = np.zeros((c.height, c.width), bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if y0 != y1:
            crosses = (rows > min(y0, y1)) & (rows <= max(y0, y1))
            inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return inside


def stroke(c: Canvas, x0: float, y0: float, x1: float, y1: float, wide: float, thin: float | None = None) -> Array:
    """A line that becomes thinner."""
    rows, columns = c.grid
    thin = wide if thin is None else thin
    length = max(1e-6, (x1 - x0) ** 2 + (y1 - y0) ** 2)
    along = (((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / length).clip(0, 1)
    away = np.hypot(columns - x0 - along * (x1 - x0), rows - y0 - along * (y1 - y0))
    return away <= (wide + (thin - wide) * along) / 2


def round_tone(c: Canvas, x: float, y: float, across: float, down: float, side: float) -> Array:
    """Tone of a ball that is lit from above and a side: 0 in its shadow, 1 in its light."""
    rows, columns = c.grid
    u, v = (columns - x) / across, (rows - y) / down
    height = np.sqrt((1 - u * u - v * v).clip(0, 1))
    return (0.35 + 0.35 * height + 0.28 * side * u - 0.32 * v).clip(0, 1)


# --- sky --------------------------------------------------------------------------------------------------------

SKIES: dict[str, tuple[Colour, Colour]] = {
    "dawn": ((0.62, 0.45, 0.55), (0.04, 0.45, 0.98)),
    "day": ((0.60, 0.68, 0.80), (0.55, 0.22, 0.98)),
    "sunset": ((0.74, 0.55, 0.38), (0.06, 0.78, 1.0)),
    "night": ((0.66, 0.75, 0.13), (0.62, 0.55, 0.34)),
}
"""Colour overhead and at the horizon."""


def sky(s: Setting) -> None:
    c = s.c
    rows, columns = c.grid
    high = (rows / max(1.0, s.horizon)).clip(0, 1)
    bend = high ** c.uniform(0.8, 1.5)
    glow = np.exp(-(((columns - s.sun[0]) / 150) ** 2) - ((rows - s.sun[1]) / 70) ** 2)
    c.paint(np.ones((1, 1), bool), "sky", bend * 0.92 + 0.16 * glow * (s.time != "day"))
    if s.night and s.weather in ("clear", "cloudy"):
        with s.drawing("stars"):
            stars(c, s.horizon * 0.92)
    if s.weather in ("clear", "cloudy") and (s.night or s.time != "day" or c.chance(0.5)):
        disc(s)
    if s.weather != "clear":
        clouds(s, {"cloudy": 0.0, "foggy": 0.5, "rain": -0.45, "snow": -0.3}[s.weather])


def stars(c: Canvas, bottom: float) -> None:
    rows, _ = c.grid
    lights = (c.rng.random((c.height, c.width)) < 0.004) & (rows < bottom)
    c.paint(lights, "glow", c.rng.uniform(0.25, 1.0, (c.height, c.width)).astype(np.float32))
    bright = np.argwhere(lights)
    for y, x in bright[:: max(1, len(bright) // 6)]:
        c.paint(box(c, x - 1, y, x + 2, y + 1) | box(c, x, y - 1, x + 1, y + 2), "glow", 0.6)
        c.paint(box(c, x, y, x + 1, y + 1), "glow", 1.0)


def disc(s: Setting) -> None:
    """Sun or moon."""
    c, (x, y) = s.c, s.sun
    radius = c.uniform(7, 15) if s.night else c.uniform(8, 17)
    rows, columns = c.grid
    away = np.hypot(columns - x, rows - y)
    halo = np.exp(-((away / (radius * 3.2)) ** 2))
    c.shade(rows < s.horizon + 4, 0.22 * halo)
    body = away <= radius
    with s.drawing("moon" if s.night else "sun"):
        face(s, x, y, radius, body)


def face(s: Setting, x: float, y: float, radius: float, body: Array) -> None:
    c = s.c
    rows, columns = c.grid
    if s.night:
        craters = c.texture(25, 40)
        c.paint(body, "glow", 0.86 + 0.1 * s.side * (columns - x) / radius - 0.1 * (craters > 0.25))
        if c.chance(0.35):  # a crescent: the sky comes back over most of it
            cut = (np.hypot(columns - x + radius * 0.6 * s.side, rows - y + radius * 0.15) <= radius * 0.95) & body
            c.paint(cut, "sky", (rows / max(1.0, s.horizon)) * 0.9)
    else:
        c.paint(body, "glow", 1.0 - 0.35 * (s.time != "day") * ((rows - y + radius) / (2 * radius)).clip(0, 1))


def clouds(s: Setting, threshold: float) -> None:
    c = s.c
    rows, _ = c.grid
    field_ = fbm(c.rng, c.height, c.width, 5, 4, 5, 0.55)
    field_ += 0.25 * line(c.rng, c.height, 6)[:, None]
    cover = field_ - threshold - 0.9 * (rows / max(1.0, s.horizon)) ** 2 * (threshold > -0.2)
    thick = (cover / 0.5).clip(0, 1)
    lit = np.roll(cover, 3, 0) - cover  # denser below than above: the top edge catches light
    tone = 0.55 + 0.35 * lit / 0.3 - 0.2 * thick + 0.1 * (s.time == "day")
    c.paint((cover > 0) & (rows < s.horizon + 2), "cloud", tone.clip(0.08, 1))


def weather(s: Setting) -> None:
    """What falls, and the fog, over all that has been drawn."""
    c = s.c
    rows, columns = c.grid
    if s.weather == "rain":
        slope = c.uniform(0.2, 0.5)
        streaks = (np.floor(columns + rows * slope) * 7919 % 23 < 1) & (c.texture(50, 160) > 0.15)
        c.shade(streaks, 0.16)
    elif s.weather == "snow":
        flakes = c.rng.random((c.height, c.width)) < 0.007
        c.paint(flakes, "cloud", 0.98)
        c.paint(np.roll(flakes, 1, 1) & (c.rng.random(flakes.shape) < 0.35), "cloud", 0.9)
    elif s.weather == "foggy":
        banks = fbm(c.rng, c.height, c.width, 10, 3, 3)
        near = np.exp(-(((rows - s.horizon - 8) / 34) ** 2))
        c.paint(near * 0.75 + 0.4 * banks - 0.12 > c.thresholds, "cloud", 0.5 + 0.2 * near + 0.1 * banks)


# --- land -------------------------------------------------------------------------------------------------------


def hills(s: Setting, layer: str, base: float, rise: float, cells: int, rough: float = 0.45) -> Array:
    """Rolling land from its ridge down; the mask of it."""
    c = s.c
    rows, _ = c.grid
    top = base - rise * (0.5 + 0.5 * line(c.rng, c.width, cells, 5, rough))
    below = rows - top
    slope = np.gradient(top)
    grain = fbm(c.rng, c.height, c.width, 25, 20, 3)
    tone = 0.62 + 0.5 * s.side * -slope - 0.011 * below + 0.14 * grain
    c.paint(below >= 0, layer, tone.clip(0.08, 0.95))
    return below >= 0


def mountains(s: Setting, layer: str, base: float, rise: float, snow: bool) -> None:
    """Peaks of two faces, one lit, with ridges running down between them."""
    c = s.c
    rows, columns = c.grid
    for _ in range(c.integer(3, 6)):
        x, height, spread = c.uniform(-20, 340), rise * c.uniform(0.55, 1.0), c.uniform(0.7, 1.5)
        jag = line(c.rng, c.width, 24, 4) * 6
        top = base - height + (abs(columns - x) / spread) + jag
        mask = (rows >= top) & (rows <= base + 6)
        wander = x + 9 * line(c.rng, c.height, 7, 3)[:, None] + (rows - base + height) * c.uniform(-0.25, 0.25)
        lit = (columns > wander) == (s.side > 0)
        gullies = fbm(c.rng, c.height, c.width, 8, 32, 3)
        tone = np.where(lit, 0.68, 0.33) + 0.16 * gullies - 0.1 * (rows - base + height) / max(1.0, height)
        c.paint(mask, layer, tone.clip(0.05, 0.9))
        if snow:
            line_ = base - height * 0.55 + 7 * gullies
            c.paint(mask & (rows < line_), "cloud", np.where(lit, 0.95, 0.6) + 0.08 * gullies)


def ground(s: Setting, ramp_: str = "ground", bumps: float = 0.16) -> None:
    """From the horizon to the viewer: tufts that grow as they come nearer."""
    c = s.c
    rows, columns = c.grid
    depth = ((rows - s.horizon) / (c.height - s.horizon)).clip(1e-3, 1)
    far = fbm(c.rng, c.height, c.width, 60, 40, 2)
    close = fbm(c.rng, c.height, c.width, 24, 20, 3)
    tufts = np.where(depth < 0.35, far, close)
    tone = 0.6 - 0.22 * depth + bumps * tufts + 0.05 * s.side * (columns - 160) / 160
    c.paint(rows >= s.horizon, ramp_, tone.clip(0.06, 0.95))
    blades = (c.rng.random((c.height, c.width)) < 0.02 * depth) & (rows > s.horizon)
    c.shade(blades, 0.2)
    c.shade(np.roll(blades, 1, 0), -0.15)


@named("path")
def path(s: Setting, ramp_: str = "path") -> None:
    """Winds from the viewer to the horizon."""
    c = s.c
    rows, columns = c.grid
    depth = ((rows - s.horizon) / (c.height - s.horizon)).clip(0, 1)
    start, end = c.uniform(100, 220), c.uniform(110, 210)
    bend = c.uniform(20, 60) * np.sin(depth * c.uniform(3, 6) + c.uniform(0, 6)) * depth * (1 - depth) * 2
    middle = end + (start - end) * depth + bend
    wide = 2 + 44 * depth**1.5
    ragged = wide * (1 + 0.15 * c.texture(50, 8))
    off = (columns - middle) / ragged
    stones = c.texture(60, 60)
    tone = 0.62 - 0.12 * off * off - 0.1 * depth + 0.14 * stones * (0.3 + depth)
    c.paint((abs(off) < 1) & (rows > s.horizon), ramp_, tone.clip(0.1, 0.95))


def water(s: Setting, top: float, bottom: float, ramp_: str = "water") -> None:
    """Mirrors what stands above, in ripples that widen towards the viewer."""
    c = s.c
    rows, columns = c.grid
    first, last = round(top), min(c.height, round(bottom))
    ripple = line(c.rng, c.height, 80, 2)
    for y in range(first, last):
        near = (y - first + 1) / max(1, last - first)
        source = int(np.clip(first - (y - first) * 1.1 - 1, 0, c.height - 1))
        moved = int(ripple[y] * (1 + 5 * near))
        mirrored = np.roll(c.tone[source], moved)
        sheen = 0.12 * (np.sin(columns[0] * (0.25 - 0.15 * near) + ripple[y] * 9 + y) > 0.9)
        bright = np.roll(c.ramp[source] == RAMPS.index("glow"), moved)
        c.ramp[y] = np.where(bright, RAMPS.index("glow"), RAMPS.index(ramp_))
        c.tone[y] = np.where(bright, mirrored * 0.9, 0.15 + 0.6 * mirrored + sheen - 0.1 * near)


def shore(s: Setting, y: float) -> None:
    """A dark wet edge where water ends."""
    c = s.c
    rows, columns = c.grid
    edge = y + 2 * line(c.rng, c.width, 20, 3)
    c.paint(abs(rows - edge) < 1.2, "path", 0.85)


# --- plants -----------------------------------------------------------------------------------------------------


def pine(s: Setting, x: float, foot: float, tall: float, layer: str = "leaves", dim: float = 0.0) -> None:
    c = s.c.part(x - tall * 0.4, foot - tall * 1.05, x + tall * 0.4, foot + 4)
    rows, columns = c.grid
    c.paint(box(c, x - tall * 0.03 - 0.5, foot - tall * 0.18, x + tall * 0.03 + 0.5, foot), "bark", 0.3 - dim)
    tiers = max(3, int(tall / 11))
    ragged = c.texture(90, 90)
    for tier in range(tiers, 0, -1):
        share = tier / tiers
        bottom, top = foot - tall * (0.95 - 0.82 * share), foot - tall * (1.0 - 0.70 * max(0, share - 0.3))
        down = ((rows - top) / max(1.0, bottom - top)).clip(0, 1)
        half = (0.05 + 0.22 * share) * tall * down * (1 + 0.3 * ragged)
        mask = (abs(columns - x) < half) & (rows >= top) & (rows < bottom + 2 * ragged)
        tone = 0.5 + 0.28 * s.side * (columns - x) / (0.25 * tall) - 0.3 * down + 0.16 * ragged + 0.06
        c.paint(mask, layer, (tone - dim).clip(0.04, 0.95))


def leafy(s: Setting, x: float, foot: float, tall: float, layer: str = "leaves", dim: float = 0.0) -> None:
    """A trunk that forks and a crown of clumps, each round."""
    c = s.c.part(x - tall * 0.6, foot - tall * 1.15, x + tall * 0.6, foot + 4)
    bark(s, x, foot, x + c.uniform(-3, 3), foot - tall * 0.6, tall * 0.1, tall * 0.05, dim)
    clumps = []
    for _ in range(c.integer(7, 11)):
        angle, away = c.uniform(0, 6.28), c.uniform(0, 1) ** 0.5
        clumps.append((x + np.cos(angle) * away * tall * 0.3, foot - tall * 0.68 + np.sin(angle) * away * tall * 0.22))
    speckle = c.texture(80, 120)
    for cx, cy in sorted(clumps, key=lambda one: one[1], reverse=True):
        across, down = tall * c.uniform(0.13, 0.2), tall * c.uniform(0.1, 0.15)
        c.paint(
            ellipse(c, cx, cy, across, down)
            & (speckle > -0.75 + 0.9 * ~ellipse(c, cx, cy, across * 0.85, down * 0.85)),
            layer,
            (round_tone(c, cx, cy, across, down, s.side) + 0.22 * speckle - dim).clip(0.04, 0.95),
        )


def bark(s: Setting, x0: float, y0: float, x1: float, y1: float, wide: float, thin: float, dim: float = 0.0) -> None:
    c = s.c.part(min(x0, x1) - wide, min(y0, y1) - wide, max(x0, x1) + wide, max(y0, y1) + wide)
    rows, columns = c.grid
    mask = stroke(c, x0, y0, x1, y1, wide, thin)
    along = ((rows - y0) / (y1 - y0 if y1 != y0 else 1)).clip(0, 1)
    off = (columns - x0 - along * (x1 - x0)) / max(1.0, wide / 2)
    grain = c.texture(12, 110, 2)
    c.paint(mask, "bark", (0.42 + 0.3 * s.side * off + 0.18 * grain - dim).clip(0.03, 0.9))


def bare(s: Setting, x: float, foot: float, tall: float, angle: float = 0.0, depth: int = 0) -> None:
    """A dead tree: every branch ends in two."""
    c = s.c
    length = tall * (0.4 if depth == 0 else 0.3)
    x1, y1 = x + np.sin(angle) * length, foot - np.cos(angle) * length
    wide = max(1.0, tall * 0.085)
    bark(s, x, foot, x1, y1, wide * (1.5 if depth == 0 else 1), wide * 0.7, 0.12)
    if depth < 5 and tall > 9:
        for turn in (-c.uniform(0.25, 0.75), c.uniform(0.25, 0.75)):
            bare(s, x1, y1, tall * c.uniform(0.62, 0.8), angle + turn, depth + 1)


def palm(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c
    lean = c.uniform(-0.3, 0.3)
    previous = (x, foot)
    for step in range(1, 9):
        share = step / 8
        point = (x + lean * tall * share**2, foot - tall * share)
        bark(s, *previous, *point, tall * (0.085 - 0.04 * share), tall * (0.08 - 0.04 * share))
        previous = point
    for frond in range(9):
        angle = -2.9 + frond * 0.36 + c.uniform(-0.1, 0.1)
        reach = tall * c.uniform(0.32, 0.45)
        last = previous
        for step in range(1, 7):
            share = step / 6
            point = (
                previous[0] + np.cos(angle) * reach * share,
                previous[1] + np.sin(angle) * reach * share * 0.6 + reach * 0.55 * share**2,
            )
            c.paint(
                stroke(c, *last, *point, tall * 0.075 * (1 - share) + 1.6),
                "leaves",
                float(0.3 + 0.4 * (frond % 3) / 2 + 0.15 * s.side * np.cos(angle)),
            )
            last = point


def cactus(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c.part(x - tall * 0.5, foot - tall * 1.2, x + tall * 0.5, foot + tall * 0.2)
    _, columns = c.grid
    wide = tall * 0.17
    arms = [(x, foot, x, foot - tall)]
    for side in (-1, 1):
        if c.chance(0.8):
            at, out, up = foot - tall * c.uniform(0.3, 0.55), x + side * tall * 0.25, tall * c.uniform(0.2, 0.4)
            arms += [(x, at, out, at), (out, at, out, at - up)]
    for x0, y0, x1, y1 in arms:
        ribs = 0.1 * (np.floor(columns) % 3 == 0)
        tone = 0.5 + 0.3 * s.side * (columns - (x0 + x1) / 2) / wide - ribs
        c.paint(stroke(c, x0, y0, x1, y1, wide if x0 == x1 else wide * 0.8), "leaves", tone.clip(0.05, 0.95))


def rock(s: Setting, x: float, foot: float, wide: float, ramp_: str = "stone") -> None:
    c = s.c.part(x - wide * 1.1, foot - wide * 1.2, x + wide * 1.1, foot)
    rows, columns = c.grid
    tall = wide * c.uniform(0.5, 0.8)
    lumps = line(c.rng, c.width, max(2, c.width // 8), 3)
    mask = ((columns - x) / wide) ** 2 + ((rows - foot) / tall) ** 2 * (1 + 0.4 * lumps) <= 1
    facets = c.texture(30, 40)
    tone = round_tone(c, x, foot - tall * 0.2, wide, tall, s.side) + 0.14 * np.sign(facets) + 0.08 * facets
    c.paint(mask & (rows <= foot), ramp_, tone.clip(0.05, 0.95))


# --- buildings --------------------------------------------------------------------------------------------------


def masonry(c: Canvas, wide: float = 9, tall: float = 5) -> Array:
    """Tone of a wall of blocks, around 0."""
    rows, columns = c.grid
    row = np.floor(rows / tall)
    column = np.floor((columns + (row % 2) * wide / 2) / wide)
    shades = blocks(c.rng, (row * 1009 + column).astype(int), -0.09, 0.09)
    joint = (rows % tall < 1) | ((columns + (row % 2) * wide / 2) % wide < 1)
    return shades - 0.16 * joint


def opening(s: Setting, x: float, y: float, wide: float, tall: float, arched: bool = True) -> None:
    """A window: dark by day, lit by night."""
    c = s.c.part(x - wide, y - tall - wide, x + wide, y + 2)
    mask = box(c, x - wide / 2, y - tall, x + wide / 2, y)
    if arched:
        mask = mask | ellipse(c, x, y - tall, wide / 2, wide / 2)
    frame = np.roll(mask, 1, 0) | np.roll(mask, -1, 0) | np.roll(mask, 1, 1) | np.roll(mask, -1, 1)
    c.paint(frame, "stone", 0.35)
    if s.night or s.time == "sunset":
        c.paint(mask, "special", 0.9)
        s.c.light(x, y - tall / 2, wide * 2.5, 0.12)
    else:
        c.paint(mask, "stone", 0.06)
    if wide >= 6:
        bars = box(c, x - 0.5, 0, x + 0.5, 999) | box(c, 0, y - tall / 2, 999, y - tall / 2 + 1)
        c.paint(mask & bars, "wood", 0.25)


def door(s: Setting, x: float, foot: float, wide: float, tall: float) -> None:
    c = s.c
    _, columns = c.grid
    mask = box(c, x - wide / 2, foot - tall, x + wide / 2, foot) | ellipse(c, x, foot - tall, wide / 2, wide / 2)
    c.paint(np.roll(mask, 1, 1) | np.roll(mask, -1, 1) | np.roll(mask, -1, 0), "stone", 0.45)
    boards = 0.14 * (np.floor(columns - x) % 3 == 0)
    c.paint(mask, "wood", 0.42 - boards + 0.08 * s.side * (columns - x) / wide)
    c.paint(box(c, x + wide * 0.25, foot - tall * 0.5, x + wide * 0.25 + 1.5, foot - tall * 0.5 + 1.5), "glow", 0.8)


def tower(s: Setting, x: float, foot: float, wide: float, tall: float, roof: bool) -> None:
    c = s.c.part(x - wide * 0.8, foot - tall - wide * 3, x + wide * 0.9, foot)
    rows, columns = c.grid
    around = ((columns - x) / (wide / 2)).clip(-1, 1)
    tone = 0.5 + 0.3 * s.side * around - 0.12 * around**2 + masonry(c)
    c.paint(box(c, x - wide / 2, foot - tall, x + wide / 2, foot), "stone", tone.clip(0.05, 0.95))
    head = foot - tall
    rim = box(c, x - wide * 0.6, head - wide * 0.35, x + wide * 0.6, head)
    gaps = (np.floor((columns - x + 400) / max(2.0, wide / 6)) % 2 == 0) & (rows < head - wide * 0.16)
    c.paint(rim & ~gaps, "stone", (tone + 0.06).clip(0.05, 0.95))
    if roof:
        peak = head - wide * c.uniform(1.2, 1.9)
        cone = polygon(c, (x - wide * 0.68, head - wide * 0.3), (x, peak), (x + wide * 0.68, head - wide * 0.3))
        tiles = 0.08 * (np.floor(rows / 3) % 2)
        share = (columns - x) / np.maximum(1.0, (rows - peak) * 0.5)
        c.paint(cone, "roof", (0.5 + 0.3 * s.side * share.clip(-1, 1) - tiles).clip(0.05, 0.95))
        c.paint(stroke(c, x, peak, x, peak - wide * 0.5, 1), "wood", 0.2)
        c.paint(
            polygon(c, (x, peak - wide * 0.5), (x + wide * 0.5, peak - wide * 0.36), (x, peak - wide * 0.2)),
            "roof",
            0.75,
        )
    for level in range(1, max(2, int(tall / 26))):
        opening(
            s,
            x + c.uniform(-0.1, 0.1) * wide,
            foot - tall * level / max(2, int(tall / 26)),
            max(2, wide * 0.16),
            wide * 0.3,
        )


@named("castle")
def castle(s: Setting, x: float, foot: float, size: float) -> None:
    c = s.c
    rows, columns = c.grid
    half, wall = size * 0.5, size * c.uniform(0.28, 0.4)
    roofs = c.chance(0.7)
    tower(s, x + c.uniform(-0.15, 0.15) * size, foot - wall * 0.6, size * 0.2, size * c.uniform(0.5, 0.75), roofs)
    tower(s, x - size * c.uniform(0.2, 0.3), foot - wall * 0.4, size * 0.13, size * c.uniform(0.35, 0.55), roofs)
    tower(s, x + size * c.uniform(0.2, 0.3), foot - wall * 0.4, size * 0.13, size * c.uniform(0.35, 0.55), roofs)
    gaps = (np.floor((columns - x + 400) / 4) % 2 == 0) & (rows < foot - wall + 4)
    front = box(c, x - half, foot - wall, x + half, foot + 3)
    c.paint(front & ~gaps, "stone", (0.48 + 0.12 * s.side * (columns - x) / half + masonry(c)).clip(0.05, 0.95))
    for side in (-1, 1):
        tower(s, x + side * half, foot + 3, size * 0.17, wall + size * c.uniform(0.08, 0.2), roofs)
    door(s, x, foot + 3, size * 0.13, size * 0.13)


@named("house")
def house(s: Setting, x: float, foot: float, wide: float, tall: float) -> None:
    front(s, x, foot, wide, tall)


def front(s: Setting, x: float, foot: float, wide: float, tall: float) -> None:
    """Walls, roof, chimney, door and windows."""
    c = s.c.part(x - wide * 0.7, foot - tall - wide * 1.2 - 44, x + wide * 0.9, foot)
    rows, columns = c.grid
    ramp_ = c.choose("wall", "wall", "stone", "wood")
    texture = masonry(c, 8, 4) if ramp_ == "stone" else 0.05 * c.texture(60, 60)
    if ramp_ == "wood":
        texture = texture - 0.14 * (np.floor(rows) % 4 == 0)
    tone = 0.62 + 0.14 * s.side * (columns - x) / wide + texture
    c.paint(box(c, x - wide / 2, foot - tall, x + wide / 2, foot), ramp_, tone.clip(0.05, 0.95))
    if ramp_ == "wall" and c.chance(0.6):  # timber frame
        beams = box(c, x - wide / 2, foot - tall, x + wide / 2, foot) & (
            (np.floor(columns - x + wide / 2) % round(max(6, wide / 4)) < 2) | (abs(rows - foot + tall * 0.5) < 1.2)
        )
        c.paint(beams, "wood", 0.3)
    peak = foot - tall - wide * c.uniform(0.35, 0.6)
    over = wide * 0.6
    if c.chance(0.6):
        cx = x + c.uniform(-0.25, 0.25) * wide
        c.paint(box(c, cx - 3, peak + 1, cx + 3, foot - tall), "stone", (0.5 + masonry(c, 5, 3)).clip(0.1, 0.9))
        if c.chance(0.5):
            for puff in range(5):
                radius = 2.5 + puff * 1.3
                px, py = cx + puff * c.uniform(1, 4), peak - 4 - puff * 6
                c.paint(
                    ellipse(c, px, py, radius * 1.3, radius) & (c.texture(70, 70) > -0.2), "cloud", 0.5 - 0.05 * puff
                )
    gable = polygon(
        c, (x - over, foot - tall + 3), (x - wide * 0.1, peak), (x + wide * 0.1, peak), (x + over, foot - tall + 3)
    )
    shingle = 0.1 * ((np.floor(columns + 3 * (np.floor(rows / 4) % 2)) % 6 == 0) | (rows % 4 < 1))
    c.paint(gable, "roof", (0.55 + 0.18 * s.side * (columns - x) / wide - shingle + 0.04).clip(0.05, 0.95))
    c.paint(gable & ~np.roll(gable, -2, 0), "roof", 0.15)
    door(s, x + c.uniform(-0.12, 0.12) * wide, foot, wide * 0.17, tall * 0.45)
    for side in (-1, 1):
        opening(s, x + side * wide * 0.31, foot - tall * 0.38, wide * 0.15, tall * 0.22, c.chance(0.3))


@named("church")
def church(s: Setting, x: float, foot: float, size: float) -> None:
    front(s, x + size * 0.3, foot, size * 0.6, size * 0.35)
    tower(s, x - size * 0.12, foot, size * 0.24, size * 0.62, True)


# --- things -----------------------------------------------------------------------------------------------------


@named("campfire")
def campfire(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c
    c.light(x, foot, tall * 4, 0.3)
    for turn in (-1, 1):
        bark(s, x - turn * tall * 0.7, foot, x + turn * tall * 0.5, foot - 2, 2.5, 2)
    flame(c, x, foot - 1, tall)


def flame(c: Canvas, x: float, foot: float, tall: float) -> None:
    c = c.part(x - tall, foot - tall, x + tall, foot)
    rows, columns = c.grid
    up = ((foot - rows) / tall).clip(0, 1)
    waver = 0.25 * tall * line(c.rng, c.height, max(2, c.height // 5), 2)[:, None] * up
    half = tall * 0.34 * np.sqrt(up.clip(0, 1) + 0.08) * (1 - up) * 1.9
    off = abs(columns - x - waver)
    c.paint(
        (off < half) & (rows <= foot) & (rows > foot - tall),
        "special",
        (1.05 - 0.55 * up - 0.5 * off / (half + 0.5)).clip(0.3, 1),
    )


@named("lamp post")
def lamp(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c
    c.paint(box(c, x - 1, foot - tall, x + 1, foot), "bark", 0.18)
    c.paint(box(c, x - 3, foot - tall - 7, x + 3, foot - tall), "bark", 0.12)
    lit = s.time != "day"
    c.paint(box(c, x - 2, foot - tall - 6, x + 2, foot - tall - 1), "special" if lit else "stone", 0.97 if lit else 0.6)
    if lit:
        c.light(x, foot - tall - 3, tall * 0.9, 0.28)


@named("gravestones")
def gravestones(s: Setting) -> None:
    bottom, draw = s.c.height, s.c
    for y in np.sort(draw.rng.uniform(s.horizon + 6, bottom - 8, draw.integer(7, 14))):
        near = (y - s.horizon) / (bottom - s.horizon)
        wide, tall, x = 5 + 13 * near, 6 + 19 * near, draw.uniform(8, 312)
        c = draw.part(x - wide, y - tall * 1.4, x + wide + 2, y)
        tone = 0.52 + 0.2 * s.side * (c.grid[1] - x) / wide + 0.1 * c.texture(60, 80)
        if c.chance(0.35):
            upright = box(c, x - wide * 0.12, y - tall * 1.2, x + wide * 0.12, y)
            shape = upright | box(c, x - wide * 0.42, y - tall * 0.92, x + wide * 0.42, y - tall * 0.68)
        else:
            head = ellipse(c, x, y - tall * 0.7, wide / 2, wide / 2)
            shape = box(c, x - wide / 2, y - tall * 0.7, x + wide / 2, y) | head
        c.paint(np.roll(shape, 2, 1), "stone", 0.1)
        c.paint(shape, "stone", tone.clip(0.05, 0.95))


@named("fence")
def fence(s: Setting, y: float, tall: float) -> None:
    c = s.c
    rows, columns = c.grid
    posts = (np.floor(columns) % 7 < 2) & (rows > y - tall - (np.floor(columns / 7) % 2)) & (rows <= y)
    rails = (abs(rows - y + tall * 0.75) < 1) | (abs(rows - y + tall * 0.3) < 1)
    c.paint(posts | rails, "bark", 0.2 + 0.1 * (np.floor(columns) % 7 < 1))


@named("signpost")
def signpost(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c.part(x - tall * 0.6, foot - tall * 1.1, x + tall * 0.6, foot)
    c.paint(box(c, x - 1.5, foot - tall, x + 1.5, foot), "wood", 0.35)
    for level, side in ((0.95, 1), (0.68, -1)):
        y = foot - tall * level
        board = polygon(
            c,
            (x - side * tall * 0.25, y),
            (x + side * tall * 0.35, y),
            (x + side * tall * 0.48, y + tall * 0.1),
            (x + side * tall * 0.35, y + tall * 0.2),
            (x - side * tall * 0.25, y + tall * 0.2),
        )
        c.paint(np.roll(board, 1, 0), "wood", 0.15)
        c.paint(board, "wood", 0.6 + 0.08 * c.texture(100, 30))


@named("well")
def well(s: Setting, x: float, foot: float, wide: float) -> None:
    c = s.c.part(x - wide, foot - wide * 2, x + wide, foot)
    _, columns = c.grid
    tone = 0.5 + 0.3 * s.side * (columns - x) / wide + masonry(c, 6, 4)
    for side in (-1, 1):
        c.paint(
            box(c, x + side * wide * 0.45 - 1.5, foot - wide * 1.3, x + side * wide * 0.45 + 1.5, foot - wide * 0.4),
            "wood",
            0.35,
        )
    c.paint(box(c, x - wide / 2, foot - wide * 0.5, x + wide / 2, foot), "stone", tone.clip(0.05, 0.95))
    c.paint(ellipse(c, x, foot - wide * 0.5, wide / 2, wide * 0.13), "stone", 0.08)
    c.paint(
        polygon(
            c, (x - wide * 0.75, foot - wide * 1.25), (x, foot - wide * 1.75), (x + wide * 0.75, foot - wide * 1.25)
        ),
        "roof",
        0.5 + 0.2 * s.side * (columns - x) / wide,
    )


@named("sailing boat")
def boat(s: Setting, x: float, y: float, wide: float) -> None:
    c = s.c.part(x - wide * 0.6, y - wide, x + wide * 0.6, y + wide * 0.1)
    rows, columns = c.grid
    hull = polygon(
        c,
        (x - wide / 2, y - wide * 0.13),
        (x + wide / 2, y - wide * 0.16),
        (x + wide * 0.36, y + wide * 0.06),
        (x - wide * 0.36, y + wide * 0.06),
    )
    c.paint(stroke(c, x, y - wide * 0.1, x, y - wide * 0.95, 1.6), "wood", 0.25)
    sail = polygon(c, (x + 2, y - wide * 0.92), (x + 2, y - wide * 0.22), (x + wide * 0.42, y - wide * 0.24))
    jib = polygon(c, (x - 2, y - wide * 0.8), (x - 2, y - wide * 0.24), (x - wide * 0.32, y - wide * 0.22))
    c.paint(sail | jib, "cloud", (0.78 + 0.2 * s.side * (columns - x) / wide).clip(0.2, 1))
    c.paint(hull, "wood", 0.4 - 0.12 * (np.floor(rows) % 3 == 0) + 0.1 * s.side * (columns - x) / wide)


@named("lighthouse")
def lighthouse(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c
    rows, columns = c.grid
    half = tall * 0.09 * (1 + 0.5 * ((rows - foot + tall) / tall).clip(0, 1))
    off = (columns - x) / half
    mask = (abs(off) <= 1) & (rows >= foot - tall * 0.85) & (rows <= foot)
    bands = np.floor((foot - rows) / (tall * 0.17)) % 2 == 0
    shade = 0.62 + 0.3 * s.side * off
    c.paint(mask & bands, "roof", shade.clip(0.05, 0.95))
    c.paint(mask & ~bands, "cloud", (shade + 0.15).clip(0.05, 1))
    top = foot - tall * 0.85
    c.paint(box(c, x - tall * 0.13, top - 2, x + tall * 0.13, top), "bark", 0.2)
    c.paint(
        box(c, x - tall * 0.06, top - tall * 0.1, x + tall * 0.06, top - 2),
        "special" if s.time != "day" else "stone",
        0.98 if s.time != "day" else 0.3,
    )
    c.paint(
        polygon(c, (x - tall * 0.09, top - tall * 0.1), (x, top - tall * 0.17), (x + tall * 0.09, top - tall * 0.1)),
        "roof",
        0.45,
    )
    if s.night:
        beam = polygon(c, (x, top - tall * 0.06), (x - s.side * 220, top - 42), (x - s.side * 220, top + 12))
        c.shade(beam, 0.2)


@named("pyramid")
def pyramid(s: Setting, x: float, foot: float, wide: float) -> None:
    c = s.c
    rows, columns = c.grid
    peak, corner = foot - wide * 0.55, x + s.side * wide * -0.18
    courses = 0.06 * (np.floor(rows) % 4 == 0) + 0.05 * c.texture(50, 60)
    left = polygon(c, (x - wide / 2, foot), (x, peak), (corner, foot + wide * 0.05))
    right = polygon(c, (corner, foot + wide * 0.05), (x, peak), (x + wide / 2, foot))
    c.paint(left, "path", (0.75 if s.side < 0 else 0.32) - courses)
    c.paint(right, "path", (0.75 if s.side > 0 else 0.32) - courses)


@named("stone bridge")
def bridge(s: Setting, y: float, deck: float) -> None:
    """A stone bridge of two arches, across the whole picture."""
    c = s.c
    rows, columns = c.grid
    arch = y - deck * 0.35 * np.cos((columns - 160) / 160 * 1.5)
    body = (rows > arch - deck * 0.5) & (rows < y + deck * 0.7)
    holes = ellipse(c, 95, y + deck * 0.75, 46, deck * 0.75) | ellipse(c, 225, y + deck * 0.75, 46, deck * 0.75)
    c.paint(body & ~holes, "stone", (0.52 + masonry(c, 10, 5)).clip(0.05, 0.95))
    c.paint((abs(rows - arch + deck * 0.5) < 2) & ~holes, "stone", 0.78)
    c.paint(np.roll(holes, 2, 0) & body & ~np.roll(holes, 6, 0) & ~holes, "stone", 0.15)
