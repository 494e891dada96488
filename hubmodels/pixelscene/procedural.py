"""Backgrounds of adventures that never were: a seed becomes an index picture, its palette and a caption.

    seed --place, time, weather--> layers from far to near on a `Canvas` --dither--> index picture
         --the same--> colours of the ramps --6 bits--> palette
         --the same--> facts --words--> caption

Nothing is traced from a game. What the caption says was drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from hubmodels.pixelscene import things
from hubmodels.pixelscene.drawing import RAMPS, Canvas, Colour, blocks, dac, fbm, line, ramp, tinted
from hubmodels.pixelscene.things import WIDTH, Setting, box, ellipse, masonry, named, polygon, stroke

HEIGHT = 200
HEIGHTS = (192, 200)
TIMES = ("dawn", "day", "sunset", "night")
WEATHERS = ("clear", "cloudy", "foggy", "rain", "snow")


@dataclass(frozen=True, eq=False)
class Scene:
    """One background."""

    indices: Array
    """(H, W) uint8."""
    palette: Array
    """(256, 3) uint8, colours of 6 bits."""
    place: str
    time: str
    """One of `TIMES`; "" inside."""
    weather: str
    """One of `WEATHERS`; "" inside."""
    objects: tuple[str, ...]
    """What can be named, in the order in which it was drawn."""
    caption: str
    said: tuple[str, ...]
    """Those of the objects that the caption names."""

    @property
    def facts(self) -> str:
        """What the caption says, whatever its words: two captions that are equal, or mean the same, agree in it."""
        return "; ".join([self.place, self.time, self.weather, ", ".join(sorted(self.said))])


def make(seed: int, height: int = HEIGHT) -> Scene:
    """The background of this number.

    Raises:
        ValueError: the seed is negative or the height neither 192 nor 200.
    """
    if seed < 0 or height not in HEIGHTS:
        raise ValueError(f"seeds are whole numbers from 0 up and heights {HEIGHTS}, got {seed} and {height}")
    rng = np.random.default_rng([seed, 0x5CE])
    shares = np.array([share for *_, share in PLACES.values()])
    place = str(rng.choice([*PLACES], p=shares / shares.sum()))
    draw, outside, _ = PLACES[place]
    c = Canvas.blank(height, WIDTH, rng)
    time = str(rng.choice(TIMES, p=(0.15, 0.35, 0.22, 0.28))) if outside else ""
    weather = str(rng.choice(WEATHERS, p=(0.42, 0.24, 0.14, 0.1, 0.1))) if outside else ""
    if weather == "snow" and place in ("desert", "beach"):
        weather = "clear"
    s = Setting(c, time, weather, horizon=height * c.uniform(0.5, 0.62))
    s.sun = (c.uniform(30, 290), c.uniform(18, 0.5 * s.horizon if time in ("day", "night") else 0.95 * s.horizon))
    s.colours = dict(daylight(c, weather))
    draw(s)
    if outside:
        things.weather(s)
    palette = lit(s, outside)
    objects = s.visible()
    return Scene(c.indices(), palette, place, time, weather, objects, *caption(s, place, objects))


# --- colours ----------------------------------------------------------------------------------------------------


def daylight(c: Canvas, weather: str) -> dict[str, Colour]:
    """Of the ramps, before any light falls on them."""
    hill = c.choose(0.24, 0.28, 0.33, 0.4)
    snow = weather == "snow"
    return {
        "glow": (0.13, 0.25, 0.95),
        "far": (0.6, 0.25, 0.66),
        "middle": (hill + 0.08, 0.3, 0.56),
        "near": (0.6, 0.1, 0.85) if snow else (hill, 0.5, 0.5),
        "ground": (0.6, 0.1, 0.88)
        if snow
        else (hill + c.uniform(-0.03, 0.02), c.uniform(0.45, 0.65), c.uniform(0.42, 0.6)),
        "path": (c.uniform(0.07, 0.12), c.uniform(0.3, 0.5), c.uniform(0.58, 0.75)),
        "leaves": (c.uniform(0.2, 0.42), c.uniform(0.45, 0.7), c.uniform(0.34, 0.52)),
        "bark": (c.uniform(0.04, 0.09), c.uniform(0.3, 0.5), c.uniform(0.36, 0.5)),
        "stone": (c.choose(0.08, 0.6, 0.65), c.uniform(0.05, 0.2), c.uniform(0.5, 0.66)),
        "wall": (c.choose(0.1, 0.12, 0.06, 0.55), c.uniform(0.15, 0.4), c.uniform(0.66, 0.85)),
        "roof": (c.choose(0.01, 0.03, 0.07, 0.6, 0.75), c.uniform(0.4, 0.65), c.uniform(0.45, 0.62)),
        "wood": (c.uniform(0.06, 0.1), c.uniform(0.45, 0.65), c.uniform(0.46, 0.62)),
        "water": (c.uniform(0.5, 0.6), c.uniform(0.4, 0.65), c.uniform(0.5, 0.65)),
        "special": (0.11, 0.75, 1.0),
    }


AMBIENT: dict[str, tuple[tuple[float, float, float], float]] = {
    "dawn": ((0.92, 0.74, 0.82), 0.22),
    "day": ((1.0, 1.0, 0.97), 0.04),
    "sunset": ((0.86, 0.52, 0.42), 0.3),
    "night": ((0.16, 0.20, 0.42), 0.52),
}
"""Light of the hour: what it multiplies colours by, and which share of it is laid over them."""
HAZE = {"far": 0.5, "middle": 0.28, "near": 0.1}
"""How much of the sky's colour lies over what is far away."""
SELF_LIT = ("glow", "special")


def lit(s: Setting, outside: bool) -> Array:
    """(256, 3) uint8: all ramps in the light of the hour."""
    rows = {name: ramp(colour) for name, colour in s.colours.items()}
    if outside:
        high, low = ramp(things.SKIES[s.time][0], 0.4), ramp(things.SKIES[s.time][1], 0.4)
        share = np.linspace(0, 1, len(high))[:, None]
        overcast = {"clear": 0.0, "cloudy": 0.25, "foggy": 0.55, "rain": 0.6, "snow": 0.45}[s.weather]
        sky = high[10] + (low[10] - high[10]) * share
        dull = np.full(3, 0.25 + 0.45 * (s.time != "night")) * np.array([0.92, 0.97, 1.05])
        rows["sky"] = tinted(sky, dull * (0.45 if s.night else 1), overcast).astype(np.float32)
        body = {"dawn": (0.95, 0.55), "day": (0.6, 0.06), "sunset": (0.03, 0.5), "night": (0.64, 0.4)}[s.time]
        cloud = ramp((body[0], body[1], 0.42 if s.night else 0.86), 0.8)
        rows["cloud"] = tinted(cloud, dull * (0.4 if s.night else 0.9), overcast * 0.7)
        multiply, share_of = (np.array(AMBIENT[s.time][0]), AMBIENT[s.time][1])
        for name in rows:
            if name in ("sky", "cloud", *SELF_LIT):
                continue
            coloured = rows[name] * (1 - share_of * (1 - multiply) * 1.35)
            coloured = tinted(coloured, multiply * coloured.mean(1, keepdims=True) * 1.2, share_of * 0.6)
            haze = HAZE.get(name, 0.0) * (1.0 + 0.7 * (s.weather in ("foggy", "rain", "snow")))
            coloured = tinted(coloured, rows["sky"][-3], min(0.85, haze))
            rows[name] = tinted(coloured, dull * (0.35 if s.night else 0.8), 0.16 * overcast)
        if s.night:
            rows["glow"] = ramp((0.15, 0.12, 0.95), 1.1)
    rows = {name: rows.get(name, ramp((0.0, 0.0, 0.5))) for name in RAMPS}
    return dac(np.concatenate([rows[name] for name in RAMPS]))


# --- places -----------------------------------------------------------------------------------------------------


def backdrop(s: Setting, high: bool = True) -> None:
    """Sky, and what bounds the view."""
    c = s.c
    things.sky(s)
    kind = c.choose("mountains", "hills", "hills", "both") if high else "hills"
    if kind != "hills":
        rise, snow = s.horizon * c.uniform(0.4, 0.75), c.chance(0.5) or s.weather == "snow"
        with s.drawing("mountains"):
            things.mountains(s, "far", s.horizon + 4, rise, snow)
    if kind != "mountains":
        with s.drawing("hills"):
            things.hills(s, "middle", s.horizon + 4, c.uniform(10, 34), c.integer(2, 5))


def treeline(s: Setting, base: float, tall: float, layer: str, dim: float, gap: float = 9.0) -> None:
    c = s.c
    kind = c.choose(things.pine, things.leafy)
    x = c.uniform(-10, 0)
    while x < WIDTH + 10:
        kind(s, x, base + c.uniform(-2, 3), tall * c.uniform(0.7, 1.25), layer, dim)
        x += gap * c.uniform(0.6, 1.5)


def framed(s: Setting) -> None:
    """Something dark and near at one side or both, as painters lead the eye."""
    c = s.c
    for x in c.choose((-6.0,), (326.0,), (-8.0, 328.0)):
        kind = c.choose("pine", "leafy", "rock")
        if kind == "rock":
            things.rock(s, x, c.height + 4, c.uniform(30, 60))
        else:
            getattr(things, kind)(s, x, c.height + 14, c.uniform(150, 210), "leaves", 0.26)


def forest(s: Setting) -> None:
    c = s.c
    things.sky(s)
    treeline(s, s.horizon + 2, c.uniform(42, 70), "middle", 0.05, 11)
    things.ground(s)
    if c.chance(0.6):
        things.path(s)
    if c.chance(0.25):
        with s.drawing("pond"):
            things.water(s, s.horizon + 8, s.horizon + c.uniform(20, 34))
        things.shore(s, s.horizon + 8)
    dead = c.chance(0.25)
    kind = things.bare if dead else c.choose(things.pine, things.leafy)
    with s.drawing("dead trees" if dead else "pine trees" if kind is things.pine else "trees"):
        for y in np.sort(c.rng.uniform(s.horizon + 6, c.height - 14, c.integer(6, 10))):
            near = (y - s.horizon) / (c.height - s.horizon)
            x = c.uniform(0, 130) if c.chance(0.5) else c.uniform(190, 320)
            kind(s, x, y, (48 + 100 * near) * (0.75 if dead else 1))
    if c.chance(0.2):
        things.campfire(s, c.uniform(130, 190), c.height - c.uniform(22, 45), c.uniform(10, 16))
    if c.chance(0.2):
        things.signpost(s, c.uniform(120, 210), c.height - c.uniform(18, 40), c.uniform(24, 34))
    if c.chance(0.5):
        framed(s)


def castle_hill(s: Setting) -> None:
    c = s.c
    backdrop(s)
    x, rise = c.uniform(90, 230), c.uniform(26, 52)
    rows, columns = c.grid
    top = s.horizon + 12 - rise * np.exp(-(((columns - x) / c.uniform(60, 95)) ** 2)) + 2 * line(c.rng, WIDTH, 24, 3)
    grain = fbm(c.rng, c.height, WIDTH, 30, 26, 3)
    crag = c.chance(0.35)
    c.paint(
        rows >= top,
        "stone" if crag else "near",
        (0.55 + 0.16 * grain - 0.004 * (rows - top) + 0.5 * s.side * -np.gradient(top[0])).clip(0.05, 0.95),
    )
    things.castle(s, x, s.horizon + 16 - rise, c.uniform(62, 100))
    things.ground(s)
    if c.chance(0.35):
        with s.drawing("lake"):
            things.water(s, s.horizon + 14, s.horizon + c.uniform(34, 60))
        things.shore(s, s.horizon + 14)
    elif c.chance(0.7):
        things.path(s)
    if c.chance(0.6):
        with s.drawing("trees"):
            treeline(s, s.horizon + 10, c.uniform(14, 24), "leaves", 0.1, 13)
    if c.chance(0.5):
        framed(s)


def village(s: Setting) -> None:
    c = s.c
    backdrop(s)
    if c.chance(0.4):
        treeline(s, s.horizon + 4, c.uniform(18, 30), "middle", 0.0, 8)
    things.ground(s)
    things.path(s)
    if c.chance(0.35):
        things.church(s, c.uniform(60, 240), s.horizon + 8, c.uniform(50, 80))
    count = c.integer(2, 4)
    spots = np.linspace(40, 280, count) + c.rng.uniform(-18, 18, count)
    for x in c.rng.permutation(spots):
        y = s.horizon + c.uniform(8, 44)
        near = (y - s.horizon) / (c.height - s.horizon)
        things.house(s, float(x), y, 38 + 46 * near, 24 + 26 * near)
    if s.seen("house") > 1:
        s.rename("house", "houses")
    if c.chance(0.35):
        things.well(s, c.uniform(110, 210), c.height - c.uniform(18, 36), c.uniform(22, 30))
    if c.chance(0.35):
        things.lamp(s, c.uniform(40, 280), c.height - c.uniform(16, 40), c.uniform(36, 52))
    if c.chance(0.35):
        things.fence(s, c.height - c.uniform(4, 14), c.uniform(10, 15))


def street(s: Setting) -> None:
    """Down an alley: house fronts in perspective on both sides."""
    c = s.c
    things.sky(s)
    rows, columns = c.grid
    x0, y0 = c.uniform(130, 190), s.horizon
    depth = ((rows - y0) / (c.height - y0)).clip(1e-3, None)
    u, v = (columns - x0) / (rows - y0).clip(1, None), 14 / depth
    row = np.floor(np.sqrt(v) * 9)
    stone = np.floor(u * 9 + (row % 2) / 2)
    tone = (
        0.5 + blocks(c.rng, (row * 977 + stone).astype(int), -0.12, 0.12) - 0.12 * ((u * 9 + (row % 2) / 2) % 1 < 0.12)
    )
    things.hills(s, "far", y0 + 1, 12, 4)
    c.paint(rows >= y0, "path", (tone - 0.1 * depth).clip(0.08, 0.9))
    with s.drawing("houses"):
        for side in (-1, 1):
            reaches = 10, *np.cumsum(c.rng.uniform(0.5, 0.9, 4)) * 68
            edges = sorted({round(x0 + side * reach) for reach in reaches}, key=lambda edge: abs(edge - x0))
            for near, far in zip(edges[:0:-1], edges[-2::-1], strict=True):
                front(s, x0, y0, near, far, c.uniform(0.8, 1.35))
    for _ in range(c.integer(0, 2)):
        things.lamp(s, x0 + c.choose(-1, 1) * c.uniform(40, 90), c.height - c.uniform(20, 45), c.uniform(38, 56))


def front(s: Setting, x0: float, y0: float, near: float, far: float, tall: float) -> None:
    """A house front between two columns, of which `far` is nearer to the vanishing point (x0, y0)."""
    c = s.c
    rows, columns = c.grid
    away = abs(columns - x0).clip(1, None)
    scale = away / 160
    up = (y0 - rows) / scale
    left, right = min(near, far), max(near, far)
    side = 1.0 if near > x0 else -1.0
    top, foot = 105 * tall, -88.0
    wall = (columns >= left) & (columns < right)
    along = 1 / away
    share = (along - 1 / abs(near - x0)) / (1 / max(1.0, abs(far - x0)) - 1 / abs(near - x0))
    ramp_ = c.choose("wall", "wall", "stone", "wood")
    brick = 0.1 * ((up % 9 < 1.5) if ramp_ == "stone" else 0) + 0.12 * ((up % 12 < 1.2) if ramp_ == "wood" else 0)
    light = 0.56 + 0.16 * (s.side * side < 0)
    tone = light - brick + 0.05 * c.texture(60, 60) - 0.0006 * (top - up)
    c.paint(wall & (up < top) & (up > foot), ramp_, tone.clip(0.05, 0.95))
    c.paint(wall & (abs(up - top) < 5), "roof", 0.6)
    slope = wall & (up >= top + 4) & (up < top + 40)
    c.paint(slope, "roof", (0.5 + 0.1 * (s.side * side < 0) - 0.1 * (up % 8 < 1.5)).clip(0, 1))
    if ramp_ == "wall":
        c.paint(
            wall & (up < top) & (up > foot) & ((abs(up - 20) < 3) | (abs(share - 0.5) < 0.03) | (share < 0.04)),
            "wood",
            0.3,
        )
    lit = s.night or s.time == "sunset"
    for level in (48, 82) if top > 95 else (48,):
        for at in (0.25, 0.75):
            pane = wall & (abs(share - at) < 0.09) & (abs(up - level) < 11)
            frame = wall & (abs(share - at) < 0.12) & (abs(up - level) < 14)
            c.paint(frame, "wood", 0.22)
            glowing = lit and c.chance(0.6)
            c.paint(pane, "special" if glowing else "stone", 0.9 if glowing else 0.1)
            c.paint(pane & ((abs(share - at) < 0.012) | (abs(up - level) < 1.2)), "wood", 0.22)
    at = c.uniform(0.3, 0.7)
    c.paint(wall & (abs(share - at) < 0.13) & (up < -12) & (up > foot), "stone", 0.35)
    c.paint(wall & (abs(share - at) < 0.1) & (up < -16) & (up > foot), "wood", 0.36)


def mountain_lake(s: Setting) -> None:
    c = s.c
    things.sky(s)
    with s.drawing("mountains"):
        things.mountains(s, "far", s.horizon + 2, s.horizon * c.uniform(0.6, 0.9), True)
    things.hills(s, "middle", s.horizon + 2, c.uniform(8, 22), c.integer(2, 4))
    if c.chance(0.6):
        with s.drawing("trees"):
            treeline(s, s.horizon + 2, c.uniform(12, 24), "middle", 0.05, 6)
    with s.drawing("lake"):
        things.water(s, s.horizon + 2, c.height)
    if c.chance(0.4):
        things.boat(s, c.uniform(70, 250), s.horizon + c.uniform(12, 40), c.uniform(26, 50))
    if c.chance(0.4):
        things.bridge(s, s.horizon + c.uniform(14, 24), 24)
    shore_ = c.height - c.uniform(16, 36)
    rows, _ = c.grid
    edge = shore_ + 7 * line(c.rng, WIDTH, 5, 4)
    grass = fbm(c.rng, c.height, WIDTH, 40, 50, 3)
    c.paint(rows > edge, "ground", (0.5 + 0.2 * grass).clip(0.05, 0.95))
    if c.chance(0.8):
        framed(s)


def coast(s: Setting) -> None:
    c = s.c
    things.sky(s)
    if c.chance(0.5):
        x = c.choose(-30.0, 350.0, c.uniform(60, 260))
        rows, columns = c.grid
        top = s.horizon - c.uniform(14, 40) * np.exp(-(((columns - x) / c.uniform(40, 90)) ** 2)) + 3
        grain = fbm(c.rng, c.height, WIDTH, 30, 30, 3)
        with s.drawing("island"):
            c.paint((rows >= top) & (rows < s.horizon + 1), "far", (0.5 + 0.2 * grain).clip(0, 1))
    if c.chance(0.45):
        x = c.uniform(40, 280)
        things.rock(s, x, s.horizon + 3, c.uniform(24, 44))
        things.lighthouse(s, x, s.horizon - 8, c.uniform(58, 84))
    with s.drawing("sea"):
        things.water(s, s.horizon, c.height)
    for _ in range(c.integer(0, 2)):
        things.boat(s, c.uniform(50, 270), s.horizon + c.uniform(5, 26), c.uniform(18, 46))
    rows, columns = c.grid
    edge = c.height - c.uniform(20, 50) + 10 * line(c.rng, WIDTH, 3, 3) + c.uniform(-0.12, 0.12) * (columns - 160)
    ripples = c.texture(60, 12)
    c.paint(rows > edge - 5, "cloud", 0.85)
    c.paint(rows > edge - 2, "path", (0.62 + 0.12 * ripples + 0.05 * c.texture(100, 160)).clip(0, 1))
    if c.chance(0.5):
        count = c.integer(1, 3)
        with s.drawing("rocks" if count > 1 else "rock"):
            for _ in range(count):
                things.rock(s, c.uniform(0, 320), c.height - c.uniform(0, 22), c.uniform(8, 26))


def beach(s: Setting) -> None:
    coast(s)
    c = s.c
    with s.drawing("palm trees"):
        for _ in range(c.integer(2, 3)):
            x = c.choose(c.uniform(10, 110), c.uniform(210, 310))
            things.palm(s, x, c.height - c.uniform(2, 24), c.uniform(80, 130))


def desert(s: Setting) -> None:
    c = s.c
    s.colours |= {"ground": (0.1, 0.5, 0.82), "middle": (0.07, 0.4, 0.72), "near": (0.09, 0.45, 0.78)}
    things.sky(s)
    if c.chance(0.5):
        things.hills(s, "far", s.horizon + 3, c.uniform(16, 40), c.integer(3, 6), 0.6)
    for _ in range(c.integer(1, 3) if c.chance(0.5) else 0):
        things.pyramid(s, c.uniform(50, 270), s.horizon + c.uniform(2, 8), c.uniform(60, 130))
    for step in range(4):
        base = s.horizon + 6 + step * (c.height - s.horizon) / 4.2
        things.hills(s, "ground", base + 8, 10 + 4 * step, c.integer(2, 4), 0.25)
    if c.chance(0.6):
        with s.drawing("cacti"):
            for y in np.sort(c.rng.uniform(s.horizon + 14, c.height - 6, c.integer(2, 5))):
                things.cactus(s, c.uniform(10, 310), y, 16 + 50 * (y - s.horizon) / (c.height - s.horizon))
    if c.chance(0.4):
        with s.drawing("rock"):
            things.rock(s, c.uniform(20, 300), c.height - c.uniform(2, 20), c.uniform(14, 34))


def graveyard(s: Setting) -> None:
    c = s.c
    backdrop(s, False)
    if c.chance(0.5):
        things.church(s, c.uniform(70, 250), s.horizon + 6, c.uniform(60, 95))
    things.ground(s)
    if c.chance(0.5):
        things.path(s)
    if c.chance(0.5):
        things.fence(s, s.horizon + 8, 9)
    things.gravestones(s)
    if c.chance(0.8):
        count = c.integer(1, 2)
        with s.drawing("dead trees" if count > 1 else "dead tree"):
            for _ in range(count):
                x = c.choose(c.uniform(5, 80), c.uniform(240, 315))
                things.bare(s, x, c.height - c.uniform(4, 30), c.uniform(100, 150))


def swamp(s: Setting) -> None:
    c = s.c
    s.colours |= {"water": (0.24, 0.5, 0.4), "ground": (0.22, 0.5, 0.36), "near": (0.25, 0.45, 0.4)}
    things.sky(s)
    treeline(s, s.horizon + 3, c.uniform(36, 60), "middle", 0.12, 12)
    with s.drawing("murky water"):
        things.water(s, s.horizon + 2, c.height)
    rows, columns = c.grid
    for y in np.sort(c.rng.uniform(s.horizon + 8, c.height, 7)):
        near = (y - s.horizon) / (c.height - s.horizon)
        things.rock(s, c.uniform(0, 320), y, 12 + 34 * near, "ground")
    with s.drawing("dead trees"):
        for y in np.sort(c.rng.uniform(s.horizon + 10, c.height, c.integer(2, 5))):
            near = (y - s.horizon) / (c.height - s.horizon)
            things.bare(s, c.uniform(10, 310), y, 50 + 90 * near)
    with s.drawing("reeds"):
        for _ in range(60):
            x, y = c.uniform(0, 320), c.uniform(s.horizon + 20, c.height + 8)
            near = (y - s.horizon) / (c.height - s.horizon)
            c.paint(stroke(c, x, y, x + c.uniform(-3, 3), y - 8 - 14 * near, 1.4), "leaves", c.uniform(0.2, 0.6))


def ruins(s: Setting) -> None:
    c = s.c
    backdrop(s)
    things.ground(s)
    if c.chance(0.5):
        things.path(s)
    with s.drawing("broken columns"):
        for y in np.sort(c.rng.uniform(s.horizon + 6, c.height - 20, c.integer(4, 7))):
            column(s, y)
    with s.drawing("rocks"):
        for _ in range(c.integer(2, 5)):
            things.rock(s, c.uniform(0, 320), c.height - c.uniform(2, 50), c.uniform(7, 18))
    if c.chance(0.5):
        framed(s)


def column(s: Setting, y: float) -> None:
    """What is left of one; y is where it stands."""
    c = s.c
    rows, columns = c.grid
    near = (y - s.horizon) / (c.height - s.horizon)
    x, wide, tall = c.uniform(10, 310), 9 + 12 * near, (40 + 80 * near) * c.uniform(0.4, 1.0)
    around = (columns - x) / (wide / 2)
    broken = y - tall + 4 * line(c.rng, WIDTH, 60, 2)
    flutes = 0.08 * (np.floor(columns - x) % 3 == 0)
    shaft = (abs(around) <= 1) & (rows > broken) & (rows <= y)
    c.paint(
        shaft,
        "stone",
        (0.55 + 0.3 * s.side * around.clip(-1, 1) - flutes + 0.08 * c.texture(60, 60)).clip(0.05, 0.95),
    )
    c.paint(box(c, x - wide * 0.7, y - 3, x + wide * 0.7, y + 2), "stone", 0.62)
    if tall > 55 and c.chance(0.6):
        c.paint(box(c, x - wide * 0.75, y - tall - 2, x + wide * 0.75, y - tall + 4), "stone", 0.68)


def cave(s: Setting) -> None:
    c = s.c
    tint = c.choose((0.6, 0.25, 0.5), (0.08, 0.35, 0.5), (0.75, 0.25, 0.48), (0.45, 0.25, 0.45))
    s.colours |= {"stone": tint, "ground": (tint[0], tint[1], 0.42), "far": (tint[0], tint[1] * 0.8, 0.6)}
    rows, columns = c.grid
    x, y = c.uniform(90, 230), c.height * c.uniform(0.4, 0.55)
    far = fbm(c.rng, c.height, WIDTH, 8, 12, 5)
    c.paint(rows >= 0, "far", (0.3 + 0.16 * far).clip(0, 1))
    way_out = c.chance(0.35)
    if way_out:
        hole = ((columns - x) / 30) ** 2 + ((rows - y) / 40) ** 2 + 0.5 * far < 1
        with s.drawing("way out"):
            c.paint(hole, "glow", (0.75 + 0.2 * (rows - y) / 40).clip(0.3, 1))
        c.light(x, y, 85, 0.35)
    for layer in range(3):
        grain = fbm(c.rng, c.height, WIDTH, 12, 20, 5)
        reach = 1.0 + 0.35 * layer
        away = np.sqrt(((columns - x) / (92 * reach)) ** 2 + ((rows - y) / (62 * reach)) ** 2)
        wall = away + 0.3 * fbm(c.rng, c.height, WIDTH, 5, 7, 5) > 1
        edge = np.roll(wall, 2, 0) & ~wall
        c.paint(wall, "stone", (0.42 - 0.11 * layer + 0.24 * grain + 0.12 * (1.3 - away)).clip(0.02, 0.9))
        c.shade(edge, 0.1)
    floor = c.height * c.uniform(0.72, 0.8)
    lumps = floor + 6 * line(c.rng, WIDTH, 6, 4)
    grain = fbm(c.rng, c.height, WIDTH, 40, 22, 4)
    c.paint(
        rows > lumps,
        "ground",
        (0.46 + 0.2 * grain - 0.003 * (rows - floor) - 0.0012 * abs(columns - x)).clip(0.03, 0.9),
    )
    if c.chance(0.45):
        with s.drawing("underground pool"):
            things.water(s, floor + 10, floor + c.uniform(22, 40))
        things.shore(s, floor + 10)
    if c.chance(0.75):
        with s.drawing("stalactites"):
            for _ in range(c.integer(6, 14)):
                at, long = c.uniform(0, 320), c.uniform(14, 58)
                tip = at + c.uniform(-2, 2), long + c.uniform(0, 14)
                spike = polygon(c, (at - long * 0.13, 0), (at + long * 0.13, 0), tip)
                c.paint(spike, "stone", (0.4 + 0.2 * (columns - at) / (long * 0.13) + 0.12 * grain).clip(0.04, 0.9))
    if c.chance(0.5):
        s.colours["special"] = c.choose((0.5, 0.6, 1.0), (0.83, 0.55, 1.0), (0.38, 0.6, 0.95), (0.58, 0.65, 1.0))
        for _ in range(c.integer(2, 4)):
            cx, cy = c.uniform(20, 300), c.uniform(floor - 4, c.height - 8)
            c.light(cx, cy - 10, 42, 0.25)
            with s.drawing("glowing crystals"):
                crystals(c, cx, cy)
    elif c.chance(0.6):
        with s.drawing("torches"):
            for side in (c.uniform(20, 90), c.uniform(230, 300)):
                torch(s, side, c.height * 0.45)


def crystals(c: Canvas, x: float, y: float) -> None:
    for _ in range(c.integer(3, 6)):
        angle, long = c.uniform(-0.7, 0.7), c.uniform(12, 34)
        tip, foot = (x + np.sin(angle) * long, y - np.cos(angle) * long), x + np.sin(angle) * 4
        c.paint(polygon(c, (foot - 4, y), tip, (foot + 1, y)), "special", 0.85)
        c.paint(polygon(c, (foot + 1, y), tip, (foot + 4, y)), "special", 0.5)


# --- inside -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """The back wall of a room that is seen from the front."""

    left: float
    top: float
    right: float
    bottom: float


def shell(s: Setting, floor: str, walls: str) -> Room:
    """Back wall, side walls, ceiling and floor in one-point perspective."""
    c = s.c
    rows, columns = c.grid
    room = Room(
        c.uniform(44, 84), c.height * c.uniform(0.12, 0.22), WIDTH - c.uniform(44, 84), c.height * c.uniform(0.6, 0.68)
    )
    x0, y0 = (room.left + room.right) / 2, (room.top + room.bottom) / 2 + c.uniform(-6, 10)
    # how far a pixel is from the vanishing point, by the frame of the back wall: 1 on it, more in front of it
    across = np.where(columns < x0, (x0 - columns) / (x0 - room.left), (columns - x0) / (room.right - x0))
    down = np.where(rows < y0, (y0 - rows) / (y0 - room.top), (rows - y0) / (room.bottom - y0))
    near = np.maximum(across, down).clip(1e-3, None)
    back, side = near <= 1, across >= down
    grain = 0.05 * fbm(c.rng, c.height, WIDTH, 30, 30, 3)
    plane_u = np.where(side, (rows - y0) / near, (columns - x0) / near)
    plane_v = 60 * np.log(near.clip(1, None))
    bricks = masonry(c, 14, 7) if walls == "stone" else grain
    c.paint(back, walls, (0.56 + bricks).clip(0.05, 0.95))
    panel = -0.12 * (plane_u % 12 < 1.2) if walls == "wood" else np.zeros_like(near)
    if walls == "stone":
        course = np.floor(plane_u / 7)
        joints = (plane_u % 7 < 0.9) | ((plane_v + 7 * (course % 2)) % 14 < 0.9)
        panel = (
            blocks(c.rng, (course * 991 + np.floor((plane_v + 7 * (course % 2)) / 14)).astype(int), -0.07, 0.07)
            - 0.14 * joints
        )
    light = np.where(columns < x0, 0.42, 0.5) if c.chance(0.5) else np.where(columns < x0, 0.5, 0.42)
    c.paint(~back & side, walls, (light + panel + grain - 0.08 * (near - 1)).clip(0.04, 0.95))
    beams = -0.16 * (plane_v % 16 < 4)
    c.paint(~back & ~side & (rows < y0), "wood", (0.3 + beams + grain).clip(0.03, 0.9))
    if floor == "tiles":
        checks = (np.floor(plane_u / 16) + np.floor(plane_v / 16)) % 2
        c.paint(~back & ~side & (rows > y0), "path", (0.36 + 0.3 * checks + grain - 0.04 * (near - 1)).clip(0.04, 0.95))
    else:
        board = np.floor(plane_u / 9)
        cut = (plane_v + 37 * (board % 3)) % 60 < 1.2
        tone = 0.5 + blocks(c.rng, board.astype(int), -0.1, 0.1) - 0.18 * ((plane_u % 9 < 0.8) | cut) + grain
        c.paint(~back & ~side & (rows > y0), "wood", (tone - 0.05 * (near - 1)).clip(0.04, 0.95))
    return room


@named("door")
def door(s: Setting, x: float, foot: float, wide: float, tall: float) -> None:
    things.door(s, x, foot, wide, tall)


def torch(s: Setting, x: float, y: float) -> None:
    c = s.c
    c.paint(stroke(c, x, y + 16, x, y, 3), "bark", 0.3)
    c.light(x, y - 4, 46, 0.3)
    things.flame(c, x, y + 1, 15)


@named("window")
def window(s: Setting, x: float, y: float, wide: float, tall: float) -> None:
    """With a view of the sky."""
    c = s.c
    rows, columns = c.grid
    pane = box(c, x - wide / 2, y - tall, x + wide / 2, y)
    if c.chance(0.5):
        pane = pane | ellipse(c, x, y - tall, wide / 2, wide / 2)
    frame = np.roll(pane, 2, 1) | np.roll(pane, -2, 1) | np.roll(pane, 2, 0) | np.roll(pane, -2, 0)
    c.paint(frame, "wood", 0.34)
    c.paint(pane, "sky", (0.45 + 0.5 * (rows - y + tall) / tall).clip(0, 1))
    c.paint(pane & ((abs(columns - x) < 1) | (abs(rows - y + tall / 2) < 1)), "wood", 0.3)


@named("fireplace")
def fireplace(s: Setting, x: float, foot: float, size: float) -> None:
    c = s.c
    _, columns = c.grid
    bricks = 0.55 + masonry(c, 7, 4)
    c.paint(box(c, x - size / 2, foot - size * 0.75, x + size / 2, foot), "stone", bricks.clip(0.05, 0.95))
    c.paint(box(c, x - size * 0.2, 0, x + size * 0.2, foot - size * 0.75), "stone", (bricks - 0.05).clip(0.05, 0.95))
    c.paint(box(c, x - size * 0.58, foot - size * 0.8, x + size * 0.58, foot - size * 0.73), "wood", 0.45)
    c.paint(box(c, x - size * 0.32, foot - size * 0.5, x + size * 0.32, foot), "stone", 0.05)
    for turn in (-1, 1):
        c.paint(stroke(c, x - turn * size * 0.2, foot - 2, x + turn * size * 0.18, foot - 5, 4), "bark", 0.3)
    things.flame(c, x, foot - 4, size * 0.38)
    c.light(x, foot - size * 0.2, size * 1.5, 0.3)


@named("bookshelves")
def bookshelves(s: Setting, left: float, top: float, right: float, foot: float) -> None:
    c = s.c
    rows, columns = c.grid
    inside = box(c, left, top, right, foot)
    c.paint(inside, "wood", 0.2)
    height = (foot - top) / max(2, round((foot - top) / 19))
    shelf = np.floor((rows - top) / height)
    edges = np.cumsum(c.rng.integers(2, 5, 400))
    book = np.searchsorted(edges, columns - left + shelf * 131)
    tone, tall = blocks(c.rng, book, 0.25, 0.85), blocks(c.rng, book + 7, 0.62, 0.92)
    standing = inside & ((rows - top) % height > height * (1 - tall)) & ((rows - top) % height < height - 2)
    which = (blocks(c.rng, book + 13, 0, 1) * 3.99).astype(int)
    for number, name in enumerate(("roof", "leaves", "water", "wall")):
        c.paint(standing & (which == number), name, tone)
    c.shade(standing & ((columns - left) % 3 == 0), -0.08)
    c.paint(inside & ((rows - top) % height >= height - 2), "wood", 0.55)


@named("table")
def table(s: Setting, x: float, y: float, wide: float, laid: bool = True) -> None:
    c = s.c
    rows, columns = c.grid
    deep = wide * 0.2
    for leg in (-0.42, 0.42):
        c.paint(box(c, x + leg * wide - 2, y, x + leg * wide + 2, y + wide * 0.34), "wood", 0.24)
    top = polygon(c, (x - wide * 0.42, y - deep), (x + wide * 0.42, y - deep), (x + wide / 2, y), (x - wide / 2, y))
    c.paint(top, "wood", 0.68 + 0.06 * c.texture(100, 12))
    c.paint(box(c, x - wide / 2, y, x + wide / 2, y + 3), "wood", 0.4)
    if laid and c.chance(0.6):
        candle(s, x + c.uniform(-0.2, 0.2) * wide, y - deep * 0.5)


@named("candle")
def candle(s: Setting, x: float, y: float) -> None:
    c = s.c
    c.paint(box(c, x - 1, y - 7, x + 1.5, y), "cloud", 0.9)
    things.flame(c, x, y - 6, 6)
    c.light(x, y - 9, 30, 0.22)


def barrel(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c
    rows, columns = c.grid
    middle = (rows - foot + tall / 2) / (tall / 2)
    half = tall * 0.36 * (1 - 0.2 * middle**2)
    off = (columns - x) / half.clip(1, None)
    mask = (abs(off) < 1) & (abs(middle) <= 1)
    c.paint(
        mask,
        "wood",
        (
            0.5 - 0.28 * off**2 - 0.12 * (np.floor((off + 1) * 4) % 1 < 0.1) - 0.07 * (np.floor(columns - x) % 4 == 0)
        ).clip(0.05, 0.9),
    )
    c.paint(mask & (abs(abs(middle) - 0.62) < 0.09), "stone", 0.4 - 0.2 * off**2)
    c.paint(ellipse(c, x, foot - tall, tall * 0.28, tall * 0.07), "wood", 0.66)


@named("barrels")
def barrels(s: Setting, x: float, foot: float, tall: float) -> None:
    for step in range(s.c.integer(2, 3)):
        barrel(s, x + step * tall * 0.78, foot + s.c.uniform(-2, 3), tall)


@named("treasure chest")
def chest(s: Setting, x: float, foot: float, wide: float) -> None:
    c = s.c
    rows, _ = c.grid
    c.paint(
        box(c, x - wide / 2, foot - wide * 0.42, x + wide / 2, foot), "wood", 0.46 - 0.1 * (np.floor(rows) % 4 == 0)
    )
    c.paint(box(c, x - wide / 2, foot - wide * 0.62, x + wide / 2, foot - wide * 0.4), "wood", 0.6)
    for at in (-0.38, 0.38):
        c.paint(box(c, x + at * wide - 1.5, foot - wide * 0.62, x + at * wide + 1.5, foot), "glow", 0.45)
    c.paint(box(c, x - 2, foot - wide * 0.46, x + 2, foot - wide * 0.32), "glow", 0.8)


@named("bed")
def bed(s: Setting, x: float, foot: float, wide: float) -> None:
    c = s.c
    c.paint(box(c, x - wide / 2, foot - wide * 0.62, x - wide * 0.43, foot), "wood", 0.4)
    c.paint(box(c, x + wide * 0.43, foot - wide * 0.4, x + wide / 2, foot), "wood", 0.4)
    c.paint(box(c, x - wide * 0.43, foot - wide * 0.2, x + wide * 0.43, foot - wide * 0.08), "wood", 0.32)
    folds = 0.1 * c.texture(60, 50)
    c.paint(box(c, x - wide * 0.43, foot - wide * 0.36, x + wide * 0.43, foot - wide * 0.16), "roof", 0.58 + folds)
    c.paint(ellipse(c, x - wide * 0.3, foot - wide * 0.38, wide * 0.13, wide * 0.07), "cloud", 0.9)


@named("painting")
def painting(s: Setting, x: float, y: float, wide: float, tall: float) -> None:
    c = s.c
    rows, _ = c.grid
    c.paint(box(c, x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2), "glow", 0.5)
    inside = box(c, x - wide / 2 + 2, y - tall / 2 + 2, x + wide / 2 - 2, y + tall / 2 - 2)
    c.paint(inside, "sky", (0.4 + 0.5 * (rows - y + tall / 2) / tall).clip(0, 1))
    c.paint(inside & (rows > y + tall * 0.1 + 3 * line(c.rng, WIDTH, 30, 2)), "leaves", 0.45)


@named("carpet")
def carpet(s: Setting, room: Room) -> None:
    c = s.c
    x = (room.left + room.right) / 2
    top, foot = room.bottom + 8, c.height - 8
    for shrink, tone in ((0, 0.35), (5, 0.6), (9, 0.45)):
        c.paint(
            polygon(
                c,
                (x - 52 + shrink, top + shrink / 2),
                (x + 52 - shrink, top + shrink / 2),
                (x + 92 - shrink, foot - shrink / 2),
                (x - 92 + shrink, foot - shrink / 2),
            ),
            "roof",
            tone,
        )


@named("cauldron")
def cauldron(s: Setting, x: float, foot: float, wide: float) -> None:
    c = s.c
    _, columns = c.grid
    things.flame(c, x - 4, foot, wide * 0.4)
    things.flame(c, x + 5, foot, wide * 0.35)
    c.light(x, foot, wide * 1.5, 0.25)
    c.paint(
        ellipse(c, x, foot - wide * 0.5, wide / 2, wide * 0.4),
        "bark",
        (0.2 + 0.14 * (columns - x) / wide).clip(0.03, 1),
    )
    c.paint(ellipse(c, x, foot - wide * 0.78, wide * 0.42, wide * 0.1), "leaves", 0.85)
    for bubble in range(5):
        c.paint(ellipse(c, x + c.uniform(-0.3, 0.3) * wide, foot - wide * (0.9 + 0.12 * bubble), 2, 2), "leaves", 0.95)


@named("throne")
def throne(s: Setting, x: float, foot: float, tall: float) -> None:
    c = s.c
    wide = tall * 0.5
    c.paint(box(c, x - wide * 1.1, foot - 4, x + wide * 1.1, foot + 4), "stone", 0.6)
    c.paint(
        polygon(
            c,
            (x - wide / 2, foot),
            (x - wide / 2, foot - tall),
            (x, foot - tall * 1.25),
            (x + wide / 2, foot - tall),
            (x + wide / 2, foot),
        ),
        "glow",
        0.5,
    )
    c.paint(box(c, x - wide * 0.34, foot - tall * 0.92, x + wide * 0.34, foot - tall * 0.42), "roof", 0.55)
    c.paint(box(c, x - wide * 0.42, foot - tall * 0.42, x + wide * 0.42, foot - tall * 0.3), "roof", 0.75)
    for arm in (-0.5, 0.5):
        c.paint(box(c, x + arm * wide - 2, foot - tall * 0.55, x + arm * wide + 2, foot), "glow", 0.62)


@named("machines")
def machines(s: Setting, left: float, top: float, right: float, foot: float) -> None:
    """Panels with lights and dials."""
    c = s.c
    rows, columns = c.grid
    inside = box(c, left, top, right, foot)
    cell = np.floor((columns - left) / 22) * 31 + np.floor((rows - top) / 18)
    c.paint(inside, "stone", 0.4 + blocks(c.rng, cell.astype(int), -0.08, 0.08))
    c.paint(inside & (((columns - left) % 22 < 1) | ((rows - top) % 18 < 1)), "stone", 0.15)
    lamps = (
        inside
        & ((columns - left) % 5 > 2)
        & ((rows - top) % 6 > 3)
        & (blocks(c.rng, (cell + 5).astype(int), 0, 1) > 0.55)
    )
    c.paint(lamps, "special", c.rng.choice([0.35, 0.65, 0.95], size=(c.height, c.width)).astype(np.float32))
    dial = (
        inside
        & (np.hypot((columns - left) % 22 - 11, (rows - top) % 18 - 9) < 6)
        & (blocks(c.rng, (cell + 9).astype(int), 0, 1) > 0.75)
    )
    c.paint(dial, "cloud", 0.85)


def in_a_room(s: Setting, floor: str, walls: str) -> Room:
    """A shell whose colours, light and view are drawn as well."""
    c = s.c
    sky = c.choose((0.6, 0.5, 0.85), (0.66, 0.6, 0.3), (0.05, 0.6, 0.9))
    s.colours |= {"sky": sky, "cloud": (0.12, 0.08, 0.9)}
    return shell(s, floor, walls)


def spots(c: Canvas, room: Room, count: int) -> list[float]:
    """Places along the back wall that do not touch, in any order."""
    step = (room.right - room.left) / count
    return [float(x) for x in c.rng.permutation([room.left + step * (n + 0.5) for n in range(count)])]


def library(s: Setting) -> None:
    c = s.c
    room = in_a_room(s, c.choose("boards", "tiles"), c.choose("wood", "wall"))
    first, second, third = spots(c, room, 3)
    third_wide = (room.right - room.left) / 3 - 6
    for x in (first, second):
        bookshelves(s, x - third_wide / 2, room.top + 6, x + third_wide / 2, room.bottom)
    if c.chance(0.5):
        window(s, third, room.bottom - 30, third_wide * 0.5, (room.bottom - room.top) * 0.35)
    else:
        fireplace(s, third, room.bottom, third_wide * 0.95)
    if c.chance(0.6):
        carpet(s, room)
    if c.chance(0.6):
        table(s, c.uniform(110, 210), c.height - c.uniform(30, 44), c.uniform(70, 100))


def tavern(s: Setting) -> None:
    c = s.c
    room = in_a_room(s, "boards", c.choose("wood", "stone", "wall"))
    first, second, third = spots(c, room, 3)
    fireplace(s, first, room.bottom, (room.right - room.left) / 3 * 0.95)
    window(s, second, room.bottom - 28, 26, 30)
    if c.chance(0.5):
        door(s, third, room.bottom, 30, 52)
    else:
        painting(s, third, (room.top + room.bottom) / 2 - 8, 40, 28)
    barrels(s, c.uniform(4, 30), c.height - c.uniform(6, 18), c.uniform(34, 46))
    table(s, c.uniform(150, 220), c.height - c.uniform(34, 46), c.uniform(74, 104))


def throne_hall(s: Setting) -> None:
    c = s.c
    room = in_a_room(s, "tiles", "stone")
    x = (room.left + room.right) / 2
    if c.chance(0.7):
        carpet(s, room)
    for side in (room.left + 24, room.right - 24):
        window(s, side, room.bottom - 34, 18, 40)
    throne(s, x, room.bottom + 4, c.uniform(48, 62))
    if c.chance(0.8):
        with s.drawing("torches"):
            for side in (room.left - 20, room.right + 20):
                torch(s, side, room.top + 34)
    if c.chance(0.35):
        chest(s, c.choose(70.0, 250.0), c.height - 24, 40)


def dungeon(s: Setting) -> None:
    c = s.c
    room = in_a_room(s, "tiles", "stone")
    s.colours |= {"stone": (c.choose(0.6, 0.3, 0.08), 0.15, 0.42), "path": (0.6, 0.1, 0.4)}
    c.tone *= 0.8
    first, second, third = spots(c, room, 3)
    door(s, first, room.bottom, 30, 50)
    if c.chance(0.6):
        _, columns = c.grid
        hole = box(c, second - 14, room.top + 24, second + 14, room.top + 46)
        with s.drawing("barred window"):
            c.paint(hole, "sky", 0.6)
            c.paint(hole & (np.floor(columns - second) % 6 < 2), "bark", 0.1)
    with s.drawing("torch"):
        torch(s, third, room.top + 40)
    if c.chance(0.5):
        chest(s, c.uniform(60, 260), c.height - c.uniform(10, 28), c.uniform(34, 46))
    if c.chance(0.5):
        barrels(s, c.uniform(10, 220), c.height - c.uniform(6, 16), c.uniform(32, 42))


def bedroom(s: Setting) -> None:
    c = s.c
    room = in_a_room(s, "boards", c.choose("wall", "wood"))
    first, second, third = spots(c, room, 3)
    window(s, first, room.bottom - 28, 28, 34)
    if c.chance(0.6):
        painting(s, second, (room.top + room.bottom) / 2 - 10, 36, 26)
    else:
        bookshelves(s, second - 22, room.top + 14, second + 22, room.bottom)
    door(s, third, room.bottom, 28, 52)
    if c.chance(0.5):
        carpet(s, room)
    bed(s, c.choose(96.0, 224.0), c.height - c.uniform(14, 28), c.uniform(96, 124))
    if c.chance(0.4):
        chest(s, c.choose(30.0, 290.0), c.height - 10, 36)


def witch_kitchen(s: Setting) -> None:
    c = s.c
    room = in_a_room(s, c.choose("boards", "tiles"), c.choose("stone", "wood"))
    first, second, third = spots(c, room, 3)
    bookshelves(s, first - 24, room.top + 10, first + 24, room.bottom - 4)
    window(s, second, room.bottom - 32, 24, 28)
    fireplace(s, third, room.bottom, 56) if c.chance(0.4) else door(s, third, room.bottom, 28, 50)
    cauldron(s, c.uniform(110, 210), c.height - c.uniform(14, 30), c.uniform(40, 56))
    if c.chance(0.5):
        barrels(s, c.uniform(6, 40), c.height - 8, 36)
    if c.chance(0.4):
        table(s, c.choose(70.0, 250.0), c.height - 34, 70)


def laboratory(s: Setting) -> None:
    c = s.c
    room = in_a_room(s, "tiles", "wall")
    s.colours |= {
        "wall": (c.choose(0.55, 0.6, 0.45), 0.15, 0.6),
        "special": c.choose((0.33, 0.7, 1.0), (0.0, 0.75, 1.0), (0.5, 0.7, 1.0)),
        "wood": (0.6, 0.12, 0.5),
        "path": (0.58, 0.1, 0.6),
    }
    first, second, third = spots(c, room, 3)
    wide = (room.right - room.left) / 3 - 4
    for x in (first, second):
        machines(s, x - wide / 2, room.top + 10, x + wide / 2, room.bottom)
    window(s, third, room.bottom - 30, 34, 36) if c.chance(0.5) else door(s, third, room.bottom, 30, 54)
    if c.chance(0.7):
        table(s, c.uniform(110, 210), c.height - c.uniform(30, 44), c.uniform(70, 100), laid=False)


PLACES: dict[str, tuple[Callable[[Setting], None], bool, float]] = {
    "forest": (forest, True, 3),
    "castle": (castle_hill, True, 3),
    "village": (village, True, 3),
    "street": (street, True, 2),
    "mountain lake": (mountain_lake, True, 2.5),
    "coast": (coast, True, 2),
    "beach": (beach, True, 1.5),
    "desert": (desert, True, 2),
    "graveyard": (graveyard, True, 2),
    "swamp": (swamp, True, 1.5),
    "ruins": (ruins, True, 1.5),
    "cave": (cave, False, 2.5),
    "library": (library, False, 1.5),
    "tavern": (tavern, False, 1.5),
    "throne hall": (throne_hall, False, 1.2),
    "dungeon": (dungeon, False, 1.2),
    "bedroom": (bedroom, False, 1.2),
    "witch's kitchen": (witch_kitchen, False, 1.2),
    "laboratory": (laboratory, False, 1.2),
}
"""How it is drawn, whether it is outside, and its share."""


# --- words ------------------------------------------------------------------------------------------------------

SAID: dict[str, tuple[str, ...]] = {
    "forest": ("a forest", "woods", "a deep forest", "a clearing in the woods"),
    "castle": ("a castle on a hill", "an old castle above the land", "a fortress on a hill"),
    "village": ("a village", "a small village", "a hamlet"),
    "street": ("a street of old houses", "a cobbled street", "an alley in an old town"),
    "mountain lake": ("a mountain lake", "a lake below mountains", "a lake in the mountains"),
    "coast": ("a coast", "a seashore", "the shore of the sea"),
    "beach": ("a beach with palm trees", "a tropical beach", "a palm beach"),
    "desert": ("a desert", "a sandy desert", "a wide desert"),
    "graveyard": ("a graveyard", "a cemetery", "an old graveyard"),
    "swamp": ("a swamp", "a bog", "a marsh"),
    "ruins": ("ancient ruins", "the ruins of a temple", "a ruined temple"),
    "cave": ("a cave", "a cavern", "an underground cave"),
    "library": ("a library", "an old library", "a room full of books"),
    "tavern": ("a tavern", "an inn", "the taproom of an inn"),
    "throne hall": ("a throne hall", "a throne room", "the hall of a king"),
    "dungeon": ("a dungeon", "a prison cell", "a castle dungeon"),
    "bedroom": ("a bedroom", "a sleeping room", "a small bedroom"),
    "witch's kitchen": ("a witch's kitchen", "the kitchen of a witch", "a witch's hut from inside"),
    "laboratory": ("a laboratory", "a lab", "a secret laboratory"),
}
"""Ways to name a place."""
HOURS = {
    "dawn": ("at dawn", "at sunrise", "in the first light"),
    "day": ("by day", "in daylight", "during the day"),
    "sunset": ("at sunset", "at dusk", "in the evening"),
    "night": ("at night", "after dark", "by night"),
}
SKIES_SAID = {
    "clear": ("under a clear sky", "in clear weather", ""),
    "cloudy": ("under a cloudy sky", "under clouds"),
    "foggy": ("in fog", "in thick mist"),
    "rain": ("in the rain", "in pouring rain"),
    "snow": ("in the snow", "while it snows"),
}
MOODS = {
    "dark": ("spooky", "eerie", "gloomy", "haunted", "lonely"),
    "bright": ("peaceful", "quiet", "pleasant", "cheerful", "lovely"),
    "soft": ("dreamy", "calm", "romantic", "glowing", "quiet"),
    "grey": ("gloomy", "bleak", "quiet", "cold", "lonely"),
    "inside": ("cosy", "dim", "quiet", "shadowy", "old-fashioned"),
}


def mood(s: Setting) -> str:
    """Which words for a mood fit."""
    if not s.time:
        return "inside"
    if s.night:
        return "dark"
    if s.weather in ("rain", "foggy", "snow"):
        return "grey"
    return "bright" if s.time == "day" else "soft"


def counted(thing: str) -> str:
    """With an article, where it takes one."""
    if thing in ("sun", "moon", "sea"):
        return f"the {thing}"
    uncounted = thing in ("murky water", "cacti", "reeds", "machines") or thing.endswith(
        (
            "trees",
            "stars",
            "hills",
            "mountains",
            "houses",
            "rocks",
            "torches",
            "barrels",
            "shelves",
            "stones",
            "columns",
        )
    )
    if uncounted or thing.endswith(("stalactites", "crystals")):
        return thing
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def caption(s: Setting, place: str, objects: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """A sentence of what was drawn: the place, the hour, the weather, and up to four of the things; and these."""
    c = s.c
    words = c.choose(*SAID[place])
    if c.chance(0.5):
        adjective = c.choose(*MOODS[mood(s)])
        article, _, rest = words.partition(" ")
        if article in ("a", "an"):
            words = f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {rest}"
        elif article == "the":
            words = f"the {adjective} {rest}"
        else:
            words = f"{adjective} {words}"
    parts = [words]
    if s.time:
        hour, weather = c.choose(*HOURS[s.time]), c.choose(*SKIES_SAID[s.weather])
        parts += [hour, weather] if c.chance(0.8) or not weather else [weather, hour]
    sentence = " ".join(part for part in parts if part)
    seen = [thing for thing in objects if thing not in (place, "sea" if place in ("coast", "beach") else place)]
    seen = [thing for thing in seen if not (place == "beach" and thing == "palm trees")]
    said = tuple(str(thing) for thing in c.rng.permutation(seen)[: c.integer(1, 4)]) if seen else ()
    if said:
        *first, last = (counted(thing) for thing in said)
        listed = f"{', '.join(first)} and {last}" if first else last
        sentence += f"{c.choose(', with', ', showing', ':', ' with')} {listed}"
    return sentence[0].upper() + sentence[1:], said
