"""Materials out of a seed: tileable, with exact height, normal and occlusion, as wide a world as a library's.

    seed --family--> Surface (height, albedo, roughness, metallic) --make--> maps (C, S, S), category, name, metres

Each family is a recipe for one kind of surface, drawn with `patterns`; chance decides its scale, colours, relief and
wear. The height comes first, and the other maps follow its cells, edges and hollows as those of real things do. S is
the side in pixels, c the canvas; colours are sRGB in [0, 1], (3, 1, 1) or (3, S, S).
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from hubmodels.images import linear_to_srgb
from hubmodels.neuropbr.patterns import (
    BASKET,
    PLAIN,
    SATIN,
    TWILL,
    Canvas,
    Cells,
    blur,
    bricks,
    convexity,
    cracks,
    fbm,
    mix,
    noise,
    normal,
    occlusion,
    pits,
    ridges,
    rings,
    rounded,
    scratches,
    smoothstep,
    stitches,
    stones,
    voronoi,
    weave,
)

SIZES = range(16, 4097)
ROUGHNESS = (0.08, 1.0)
"""Nothing is smoother: a mirror would have to be shaded with far more lights."""
DIELECTRIC = (0.1176, 0.9412)
"""Darkest coal and fresh snow, sRGB: levels 30 and 240."""
REFLECTANCE = {
    "aluminium": (0.916, 0.923, 0.924),
    "brass": (0.910, 0.778, 0.423),
    "chromium": (0.654, 0.685, 0.701),
    "copper": (0.932, 0.623, 0.522),
    "gold": (1.0, 0.773, 0.307),
    "iron": (0.530, 0.513, 0.494),
    "nickel": (0.660, 0.609, 0.526),
    "silver": (0.972, 0.960, 0.915),
    "titanium": (0.542, 0.497, 0.449),
    "zinc": (0.664, 0.824, 0.850),
}
"""Measured at normal incidence, linear RGB; physicallybased.info and refractiveindex.info."""


@dataclass(frozen=True)
class Made:
    """One material."""

    maps: dict[str, Tensor]
    """albedo (3), roughness, metallic, normal (3), height, ao: (C, S, S) float32, conventions of the package."""
    category: str
    """ceramic, concrete, fabric, ground, leather, marble, metal, plaster, plastic, stone, terracotta or wood."""
    name: str
    physical_size: float
    """Width in metres."""


@dataclass(frozen=True)
class Surface:
    """The maps that a family decides; each is anything that broadcasts to (S, S), or (3, S, S) for the albedo."""

    height: Array | float
    """In widths of the texture, from anywhere."""
    albedo: Array
    roughness: Array | float
    metallic: Array | float = 0.0


def make(seed: int, size: int) -> Made:
    """The material of this number. Other sizes show the same one: it is designed at no resolution.

    Raises:
        ValueError: the seed is negative, or the size not in `SIZES`.
    """
    if seed < 0 or size not in SIZES:
        raise ValueError(
            f"seeds are whole numbers from 0 up and sizes from {SIZES[0]} to {SIZES[-1]}, got {seed} and {size}"
        )
    rng = np.random.default_rng([seed, 0x9B4])
    shares = np.array([share for *_, share in FAMILIES])
    family, category, _ = FAMILIES[rng.choice(len(FAMILIES), p=shares / shares.sum())]
    return finish(family, category, seed, Canvas.plain(size, rng))


def finish(family: Callable[[Canvas], tuple[Surface, float]], category: str, seed: int, c: Canvas) -> Made:
    """Draw a family and derive what follows from its height; the whole is shifted, and turned by some quarters."""
    quarters = c.integer(0, 3)
    surface, metres = family(replace(c, u=c.u + np.float32(c.uniform(0, 1)), v=c.v + np.float32(c.uniform(0, 1))))

    def plane(values: Array | float, channels: int) -> Array:
        whole = np.broadcast_to(np.asarray(values, np.float32), (channels, c.size, c.size))
        return np.rot90(whole, quarters, (1, 2))

    metallic = np.clip(plane(surface.metallic, 1), 0, 1)
    albedo = np.clip(plane(surface.albedo, 3), DIELECTRIC[0], mix(DIELECTRIC[1], 1, metallic))
    height = plane(surface.height, 1)[0]
    height = height - height.mean(dtype=np.float64).astype(np.float32)
    maps = {
        "albedo": albedo,
        "roughness": np.clip(plane(surface.roughness, 1), *ROUGHNESS),
        "metallic": metallic,
        "normal": normal(height),
        "height": height[None],
        "ao": occlusion(height)[None],
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a, np.float32)) for name, a in maps.items()}
    return Made(tensors, category, f"{family.__name__}_{seed:06d}", metres)


# --- colours and layers -------------------------------------------------------------------------------------


def hsv(hue: float, saturation: float, value: float) -> Array:
    """(3, 1, 1) sRGB."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)[:, None, None]


def dye(c: Canvas) -> Array:
    """Any colour that paint, glaze or cloth can have; greys too."""
    return hsv(c.uniform(0, 1), c.choose(0.05, 0.3, 0.6, 0.8) * c.uniform(0.6, 1.1), c.uniform(0.2, 0.92))


def earth(c: Canvas) -> Array:
    """Clay, sand, loam, rust-red to yellow-grey."""
    return hsv(c.uniform(0.03, 0.13), c.uniform(0.12, 0.55), c.uniform(0.28, 0.78))


def grey(c: Canvas, low: float = 0.3, high: float = 0.8) -> Array:
    """Stone and cement, slightly warm or cold."""
    return hsv(c.choose(c.uniform(0.05, 0.15), c.uniform(0.5, 0.65)), c.uniform(0, 0.14), c.uniform(low, high))


def timber(c: Canvas) -> Array:
    """From maple to wenge, sometimes weathered grey."""
    saturation = c.uniform(0.05, 0.15) if c.chance(0.2) else c.uniform(0.35, 0.65)
    return hsv(c.uniform(0.045, 0.105), saturation, c.uniform(0.3, 0.82))


def metal(name: str) -> Array:
    """What a bare metal reflects, as sRGB."""
    return linear_to_srgb(torch.tensor(REFLECTANCE[name])).numpy()[:, None, None]


def coated(below: Surface, above: Surface, mask: Array) -> Surface:
    """`above` where the mask is 1."""
    pairs = zip(vars(below).values(), vars(above).values(), strict=True)
    return Surface(*(mix(low, high, mask) for low, high in pairs))


def weathered(c: Canvas, surface: Surface, radius: float, strength: float) -> Surface:
    """Dirt in the hollows: dark and dull. It is thin, so that the height stays."""
    hollow = (
        smoothstep(
            0.02, -0.12, convexity(np.broadcast_to(surface.height, (c.size, c.size)), radius) + 0.02 * fbm(c, 16, 3)
        )
        * strength
    )
    dirt = replace(surface, albedo=earth(c) * 0.5, roughness=0.9, metallic=0.0)
    return coated(surface, dirt, hollow)


def flooded(c: Canvas, surface: Surface, share: float) -> Surface:
    """Rain: the lowest `share` under still water, the ground beside it soaked dark."""
    rough, spread = np.broadcast_to(surface.height, (c.size, c.size)), 0.006
    ground = rough + spread * fbm(c, 2, 3)
    level = np.quantile(ground, share)
    water = smoothstep(level + 0.0004, level - 0.0004, ground)
    soaked = smoothstep(level + 0.8 * spread, level, ground)
    height = np.where(ground < level, level + 0.03 * (ground - level), ground)
    albedo = surface.albedo * (1 - 0.38 * soaked)
    return Surface(height, albedo, mix(surface.roughness * (1 - 0.35 * soaked), 0.08, water), surface.metallic)


def varied(c: Canvas, cells: Cells, first: Array, second: Array, spread: float) -> Array:
    """A colour for each piece, between two, lighter or darker by `spread`."""
    return mix(first, second, cells.each(c)) * (1 + spread * (2 * cells.each(c) - 1))


# --- masonry, ceramic, stone --------------------------------------------------------------------------------


def brick_wall(c: Canvas) -> tuple[Surface, float]:
    rows = 2 * c.integer(2, 7)
    columns = max(1, round(rows / c.uniform(2, 3.4)))
    wall = bricks(c.bent(0.02 / rows, rows, 3), columns, rows, c.choose(0.5, 0.5, 0.0))
    gap, relief = c.uniform(0.04, 0.08) / rows, c.uniform(0.06, 0.16) / rows
    worn = wall.edge + c.uniform(0.01, 0.05) / rows * fbm(c, 3 * rows, 4)
    body = rounded(worn, gap, c.uniform(0.05, 0.14) / rows)
    sand, grain = fbm(c, 40, 3), fbm(c, 24, 4)
    height = relief * (body * (1 + 0.3 * wall.each(c)) + (0.4 * wall.each(c) - 0.2) * wall.y * rows * body)
    height += mix(0.0012 * sand, c.uniform(0.0003, 0.001) * grain, body)
    clay = varied(c, wall, c.choose(earth(c), earth(c), dye(c)), earth(c), c.uniform(0.05, 0.25))
    clay = clay * (1 + 0.07 * grain) * (1 - 0.35 * smoothstep(1.2, 2.2, fbm(c, 6, 5)))
    mortar = grey(c) * (1 + 0.05 * sand)
    face = smoothstep(0.15, 0.6, body)
    rough = mix(0.93, c.uniform(0.6, 0.9) + 0.05 * grain, face)
    return Surface(height, mix(mortar, clay, face), rough), rows * c.uniform(0.065, 0.09)


def ceramic_tiles(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(1, 5) * 2
    kind = c.choose("square", "metro", "hexagon", "diagonal")
    if kind == "hexagon":
        laid = voronoi(c, n, n, 0, stagger=True)
    else:
        turned = c.turned(1, 1) if kind == "diagonal" else c
        laid = bricks(turned, max(1, n // 2) if kind == "metro" else n, n, 0.5 * (kind == "metro"))
    gap, bevel = c.uniform(0.015, 0.035) / n, c.uniform(0.03, 0.12) / n
    body = rounded(laid.edge, gap, bevel)
    tilt = (laid.each(c) - 0.5) * laid.x + (laid.each(c) - 0.5) * laid.y
    swell = c.uniform(0, 0.04) / n * noise(c, 4 * n)
    height = c.uniform(0.02, 0.08) / n * body + body * (0.03 * tilt + 0.25 * swell)
    first, second = dye(c), dye(c)
    glaze = varied(c, laid, first, mix(first, second, c.choose(0.0, 0.15, 1.0)), c.uniform(0, 0.15))
    if c.chance(0.4):
        glaze = mix(glaze, second, motif(c, laid, n))
    glaze = glaze * (1 + 0.05 * fbm(c, 5, 4) - 0.12 * (1 - smoothstep(0.7, 1, body)))
    crackle = cracks(c, 8 * n, 0.02 / n) * c.choose(0.0, 0.0, 0.5)
    grout = grey(c) * (1 + 0.06 * fbm(c, 48, 3))
    face = smoothstep(0.1, 0.4, body)
    shine = c.uniform(0.08, 0.4) * (1 + 0.15 * fbm(c, 6, 4)) + 0.2 * crackle
    return Surface(height, mix(grout, glaze * (1 - 0.4 * crackle), face), mix(0.9, shine, face)), n * 0.15


def motif(c: Canvas, laid: Cells, n: int) -> Array:
    """A painted rosette on each tile, 0 or 1."""
    radius, angle = np.hypot(laid.x, laid.y) * n, np.arctan2(laid.y, laid.x)
    petals = c.choose(4, 6, 8)
    wave = radius * (1 + c.uniform(0.1, 0.4) * np.cos(petals * angle))
    return smoothstep(-0.15, 0.15, np.cos(2 * np.pi * wave * c.uniform(2, 4) + c.uniform(0, 6)))


def cobblestones(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(3, 11)
    laid = voronoi(c.bent(0.06 / n, 2 * n, 3), n, n + c.integer(0, n // 2), c.uniform(0.4, 0.85))
    gap = c.uniform(0.03, 0.07) / n
    body = rounded(laid.edge, gap, c.uniform(0.15, 0.4) / n)
    grain, sand = fbm(c, 20, 5), fbm(c, 48, 3)
    height = c.uniform(0.1, 0.28) / n * body * mix(0.75, 1, laid.each(c)) + mix(0.0012 * sand, 0.0008 * grain, body)
    rock = varied(c, laid, grey(c), c.choose(earth(c), grey(c)), 0.22) * (1 + 0.09 * grain)
    soil = earth(c) * 0.7 * (1 + 0.1 * sand)
    face = smoothstep(0.05, 0.35, body)
    surface = Surface(height, mix(soil, rock, face), mix(0.95, c.uniform(0.45, 0.85) + 0.06 * grain, face))
    if c.chance(0.35):
        moss = smoothstep(0.2, 0.9, fbm(c, 4, 5) + 1.5 * (1 - body))
        green = hsv(c.uniform(0.18, 0.33), 0.6, 0.35) * (1 + 0.15 * sand)
        surface = coated(surface, Surface(height + 0.002 + 0.0015 * sand, green, 0.95), moss)
    return flooded(c, surface, c.uniform(0.15, 0.5)) if c.chance(0.25) else surface, n * c.uniform(0.08, 0.15)


def flagstones(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(2, 5)
    laid = voronoi(c.bent(0.03, 5, 4), n, n, 0.95)
    gap = c.uniform(0.015, 0.04) / n
    body = rounded(laid.edge + 0.01 / n * fbm(c, 20, 3), gap, 0.06 / n)
    split = np.round(3 * fbm(c, (5, 3), 3)) / 3
    layers = mix(split, fbm(c, 6, 5), 0.6)
    lean = (laid.each(c) - 0.5) * laid.x + (laid.each(c) - 0.5) * laid.y
    height = body * (0.035 / n + 0.0012 * layers + 0.06 * lean) + 0.0007 * fbm(c, 40, 3)
    slate = varied(c, laid, grey(c, 0.25, 0.7), c.choose(earth(c), grey(c)), 0.15)
    slate = slate * (1 + 0.06 * layers + 0.05 * fbm(c, 30, 4))
    face = smoothstep(0.05, 0.3, body)
    joint = earth(c) * 0.7
    surface = Surface(height, mix(joint, slate, face), mix(0.95, c.uniform(0.35, 0.75) + 0.05 * layers, face))
    return flooded(c, surface, c.uniform(0.2, 0.5)) if c.chance(0.3) else surface, n * 0.35


def cliff(c: Canvas) -> tuple[Surface, float]:
    bent = c.bent(c.uniform(0.03, 0.08), 3, 4)
    strata, crags = fbm(bent, (2, c.integer(4, 9)), 4), ridges(bent, c.integer(2, 5), 6)
    broken = voronoi(bent, 6, 9, 0.9)
    height = 0.008 * strata + 0.012 * crags + 0.008 * broken.each(c) * rounded(broken.edge, 0, 0.02)
    height += 0.0012 * fbm(c, 24, 4)
    rock = mix(grey(c), earth(c), smoothstep(-1, 1, strata)) * (0.85 + 0.25 * crags + 0.07 * fbm(c, 30, 4))
    return weathered(c, Surface(height, rock, 0.8 + 0.05 * strata), 0.02, 0.6), c.uniform(1, 4)


def marble(c: Canvas) -> tuple[Surface, float]:
    bent = c.bent(c.uniform(0.06, 0.14), 2, 5)
    veins = ridges(bent, c.integer(1, 3), 6) ** c.uniform(4, 12) * smoothstep(-0.8, 0.8, fbm(c, 3, 3))
    hair = ridges(c.bent(0.05, 3, 4), c.integer(3, 6), 5) ** 16 * smoothstep(-0.3, 0.8, fbm(c, 3, 3))
    cloud = smoothstep(-1.2, 1.2, fbm(bent, 3, 6, 0.6))
    body = grey(c, 0.55, 0.92) if c.chance(0.6) else dye(c)
    dark = body * c.uniform(0.25, 0.6) if c.chance(0.7) else earth(c)
    body = mix(body, body * c.uniform(0.65, 0.9), cloud)
    albedo = mix(mix(body, dark, 0.8 * veins), dark * 0.9, 0.5 * hair)
    height = -0.0002 * veins + 0.0001 * fbm(c, 12, 3)
    slab = bricks(c, 2, 2)
    joint = 1 - smoothstep(0.001, 0.003, slab.edge) if c.chance(0.3) else np.zeros((1, 1), np.float32)
    polish = c.uniform(0.08, 0.35) + 0.08 * veins + 0.02 * fbm(c, 4, 4)
    return Surface(height - 0.003 * joint, albedo * (1 - 0.5 * joint), mix(polish, 0.8, joint)), c.uniform(0.5, 2)


def granite(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(24, 60)
    bent = c.bent(0.2 / n, 2 * n, 2)
    coarse, fine = voronoi(bent, n, n), voronoi(bent, 2 * n, 2 * n)
    pale, dark = c.choose(grey(c, 0.55, 0.85), earth(c) * 1.2), grey(c, 0.12, 0.3)
    kind = coarse.each(c)
    albedo = mix(pale, dye(c) * 0.4 + pale * 0.6, smoothstep(0.55, 0.6, kind)) * (0.88 + 0.2 * fine.each(c))
    mica = smoothstep(0.78, 0.8, fine.each(c) + 0.06 * fbm(c, 3, 3))
    height = 0.0006 * coarse.each(c) * c.choose(0, 1) + 0.0001 * fbm(c, 10, 3)
    polish = c.uniform(0.1, 0.5)
    return Surface(blur(height, 0.002), mix(albedo, dark, mica), polish + 0.1 * mica), c.uniform(0.1, 0.4)


def terrazzo(c: Canvas) -> tuple[Surface, float]:
    binder, polish = c.choose(grey(c), dye(c)), c.uniform(0.1, 0.4)
    albedo, chips = binder * (1 + 0.03 * fbm(c, 40, 3)), np.zeros((1, 1), np.float32)
    colours = [dye(c), grey(c), grey(c, 0.1, 0.9)]
    for n, share in ((c.integer(6, 10), 0.3), (c.integer(12, 18), 0.45), (c.integer(26, 40), 0.5)):
        laid = voronoi(c.bent(0.1 / n, 3 * n, 2), n, n, 0.9)
        kind, chip = laid.each(c), smoothstep(0.09 / n, 0.11 / n, laid.edge) * (laid.each(c) < share)
        colour = mix(colours[0], mix(colours[1], colours[2], kind > 0.66), kind > 0.33)
        shade = (0.85 + 0.3 * laid.each(c)) * (1 + 0.05 * fbm(c, 30, 3))
        free = chip * (1 - chips)
        albedo, chips = mix(albedo, colour * shade, free), np.maximum(chips, chip)
    strips = (1 - smoothstep(0.004, 0.0055, bricks(c, c.integer(1, 2), 1).edge)) * c.chance(0.6)
    floor = Surface(0.0001 * fbm(c, 8, 3), albedo, polish + 0.06 * (1 - chips))
    inlay = Surface(0.0, metal(c.choose("brass", "zinc", "copper")), c.uniform(0.15, 0.35), 1.0)
    return coated(floor, inlay, strips), c.uniform(0.4, 1.2)


def roof_tiles(c: Canvas) -> tuple[Surface, float]:
    rows = 2 * c.integer(2, 5)
    columns = rows + c.integer(-1, 2)
    laid = bricks(c.bent(0.004, 6, 2), columns, rows, 0.5)
    across, down = 2 * laid.x * columns, laid.y * rows + 0.5
    lip = 1 - c.uniform(0.1, 0.4) * across**2 + 0.02 * fbm(c, 16, 3)
    below = smoothstep(lip, lip - 0.08, down)
    slope = mix(down - 0.3, down, below) * below + (1 - below) * 0.1
    curve = c.choose(0.0, 0.5, 1.0) * np.sqrt(np.clip(1 - across**2, 0, 1)) * below
    side = rounded(laid.edge, 0.01 / rows, 0.04 / rows)
    relief = c.uniform(0.08, 0.14) / rows
    height = relief * (slope + 0.6 * curve) * mix(0.7, 1, side) + 0.0007 * fbm(c, 30, 4)
    clay = varied(c, laid, c.choose(earth(c), hsv(0.03, 0.6, 0.65), grey(c, 0.25, 0.5)), earth(c), 0.15)
    clay = clay * (1 + 0.08 * fbm(c, 16, 5)) * mix(0.6, 1, below)
    lichen = smoothstep(1.2, 1.5, fbm(c, 8, 5)) * c.choose(0.0, 0.8)
    return Surface(height, mix(clay, hsv(0.16, 0.25, 0.65), lichen), 0.75 + 0.06 * fbm(c, 8, 4)), rows * 0.2


# --- wood ---------------------------------------------------------------------------------------------------


def grain(c: Canvas, g: Array, wood: Array) -> tuple[Array, Array]:
    """Colour and relief of sawn wood, -1 to 1, from its growth rings, along u: rings, fibres, pores."""
    fibres = fbm(c, (2, 40), 3)
    late = rings(g + 0.06 * fibres)
    pores = smoothstep(1.0, 1.8, noise(c, (8, 120))) * (0.3 + 0.7 * late)
    dark = wood * np.array([0.62, 0.55, 0.5], np.float32)[:, None, None]
    colour = mix(wood, dark, 0.75 * late) * (1 + 0.06 * fibres + 0.05 * fbm(c, (1, 6), 4))
    return mix(colour, dark * 0.6, 0.6 * pores), 0.4 * late + 0.2 * fibres - pores


def planks(c: Canvas) -> tuple[Surface, float]:
    rows = c.integer(2, 8)
    columns = c.choose(1, 1, 2)
    boards = bricks(c, columns, rows, c.rng.random(rows))
    own = c.moved(boards.each(c), boards.each(c))
    pith, deep = (boards.each(c) - 0.5) / rows, 0.15 + 0.5 * np.abs(fbm(own, (1, 2), 2))
    far = np.hypot(rows * (boards.y - pith + 0.04 / rows * fbm(own, (2, 6), 3)), deep)
    colour, relief = grain(own, c.uniform(6, 14) * far, timber(c))
    gap = c.uniform(0.004, 0.02) / rows
    body = rounded(boards.edge, gap, c.uniform(0.02, 0.08) / rows)
    height = c.uniform(0.03, 0.08) / rows * body * mix(0.8, 1, boards.each(c)) + c.uniform(0.0003, 0.0012) * relief
    colour = colour * (0.8 + 0.4 * boards.each(c))
    face = smoothstep(0.05, 0.4, body)
    dull = c.uniform(0.25, 0.85)
    wood = Surface(height, mix(colour * 0.3, colour, face), mix(0.95, dull - 0.08 * relief, face))
    if c.chance(0.35):
        paint = smoothstep(-0.5, -0.2, fbm(own, (4, 20), 4) + relief + c.uniform(-0.3, 1.2))
        wood = coated(wood, Surface(height + 0.0006, dye(c), c.uniform(0.35, 0.7)), paint * face)
    return wood, rows * c.uniform(0.08, 0.2)


def veneer(c: Canvas) -> tuple[Surface, float]:
    field = fbm(c, (1, c.integer(2, 4)), 2) + 0.1 * fbm(c, (3, 12), 3)
    colour, relief = grain(c, c.uniform(3, 8) * field, timber(c))
    lacquer = c.uniform(0.1, 0.6)
    return Surface(0.00015 * relief, colour, lacquer + 0.05 * relief), c.uniform(0.4, 1.2)


def parquet(c: Canvas) -> tuple[Surface, float]:
    n = 2 * c.integer(1, 3)
    blocks, strips = bricks(c, n, n), c.integer(3, 6)
    lying = (blocks.index // n + blocks.index % n) % 2 == 0
    along, over = np.where(lying, blocks.x, blocks.y), np.where(lying, blocks.y, blocks.x)
    strip = np.clip(np.floor((over * n + 0.5) * strips), 0, strips - 1)
    inside = over * n + 0.5 - (strip + 0.5) / strips
    edge = np.minimum(blocks.edge, (0.5 / strips - np.abs(inside)) / n)
    number = blocks.index * strips + strip.astype(np.int32)
    pieces = Cells(n * n * strips, number, edge, along, inside / n)
    shifts = pieces.each(c), pieces.each(c)
    own = replace(c, u=along + shifts[0], v=over + shifts[1])
    field = fbm(own, (1, 6), 3) + pieces.each(c)
    colour, relief = grain(own, c.uniform(3, 6) * field, timber(c))
    body = rounded(edge, 0.004 / n, 0.02 / n)
    colour = colour * (0.72 + 0.5 * pieces.each(c)) * mix(0.35, 1, smoothstep(0, 0.4, body))
    height = c.uniform(0.01, 0.025) / n * body + 0.0002 * relief
    return Surface(height, colour, mix(0.8, c.uniform(0.15, 0.5) + 0.05 * relief, body)), n * 0.3


# --- cloth, leather, plastic --------------------------------------------------------------------------------


def woven(c: Canvas) -> tuple[Surface, float]:
    pattern = c.choose(PLAIN, BASKET, TWILL, SATIN)
    repeats = max(1, c.integer(8, 34) // len(pattern))
    n = repeats * len(pattern)
    cloth = weave(c.bent(0.05 / n, n // 2 + 2, 2), repeats, pattern, c.uniform(0.85, 1.0))
    twist = np.sin(2 * np.pi * (c.uniform(1, 2) * cloth.across + c.choose(2, 3) * cloth.along))
    fuzz = fbm(c, 64, 3)
    height = c.uniform(0.15, 0.35) / n * cloth.height + 0.03 / n * twist + 0.02 / n * fuzz
    first = dye(c)
    second = c.choose(first * 0.8, dye(c), grey(c))
    thread = c.rng.random((2, n), np.float32)
    stripe = c.chance(0.3) * (np.arange(n) * c.choose(2, 4) // n % 2)
    kind = np.where(cloth.warp, 1.0, 0.0) * (1 - stripe.take(cloth.index))
    shade = thread[0].take(cloth.index) * cloth.warp + thread[1].take(cloth.index) * ~cloth.warp
    colour = mix(first, second, kind) * (0.88 + 0.2 * shade) * (0.6 + 0.4 * cloth.height) * (1 + 0.05 * twist)
    rough = c.uniform(0.6, 0.9) + 0.04 * fuzz + 0.1 * (shade - 0.5)
    return Surface(height, colour, mix(0.95, rough, smoothstep(0, 0.4, cloth.height))), n * c.uniform(0.001, 0.004)


def brocade(c: Canvas) -> tuple[Surface, float]:
    repeats = c.integer(10, 22)
    n = 2 * repeats
    cloth = weave(c, repeats, PLAIN, 0.95)
    laid = bricks(c, c.choose(2, 4), c.choose(2, 4), c.choose(0.0, 0.5))
    figure = motif(c, laid, c.integer(2, 4))
    gold = figure * smoothstep(0.35, 0.5, cloth.height)
    height = c.uniform(0.25, 0.4) / n * cloth.height + 0.25 / n * blur(figure, 0.2 / n) + 0.02 / n * fbm(c, 60, 2)
    silk = Surface(height, dye(c) * (0.6 + 0.4 * cloth.height), 0.55 + 0.03 * fbm(c, 30, 3))
    thread = metal(c.choose("gold", "silver", "copper", "brass"))
    return coated(silk, Surface(height, thread, c.uniform(0.25, 0.45), 1.0), gold), n * 0.003


def knitted(c: Canvas) -> tuple[Surface, float]:
    columns = c.integer(6, 20)
    rows = round(columns * c.uniform(1.0, 1.5))
    wool, along = stitches(c.bent(0.08 / columns, 4, 2), columns, rows)
    ply, fuzz = np.sin(2 * np.pi * 3 * along), fbm(c, 64, 3)
    height = (c.uniform(0.12, 0.28) * wool + 0.02 * ply * wool + 0.02 * fuzz) / columns
    first, second = dye(c), dye(c)
    bands = smoothstep(-0.05, 0.05, np.sin(2 * np.pi * (c.v * c.integer(1, 3)))) * c.choose(0, 0, 1)
    colour = mix(first, second, bands) * (0.5 + 0.5 * wool) * (1 + 0.06 * ply + 0.06 * fuzz)
    return Surface(height, colour, 0.9 + 0.03 * fuzz), columns * c.uniform(0.004, 0.012)


def carpet(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(30, 64)
    tufts = voronoi(c.bent(0.01, 3, 2), n, n, 0.75)
    radial = 1 - np.hypot(tufts.x, tufts.y) * n
    fibres = np.sin(np.arctan2(tufts.y, tufts.x) * 9 + 6.28 * tufts.each(c)) * (1 - radial) + fbm(c, 100, 2)
    trodden = fbm(c, 3, 4)
    height = (c.uniform(0.4, 0.7) * np.clip(radial, 0, 1) * mix(0.7, 1, tufts.each(c)) + 0.04 * fibres) / n
    first, second = dye(c), dye(c)
    figure = motif(c, bricks(c.bent(0.01, 12, 2), 2, 2), 2) if c.chance(0.5) else np.zeros((1, 1), np.float32)
    colour = mix(first, second, figure) * (0.85 + 0.3 * tufts.each(c)) * (0.55 + 0.5 * np.clip(radial, 0, 1))
    return Surface(height + 0.001 * trodden, colour * (1 + 0.06 * trodden), 0.93 + 0.02 * trodden), n * 0.006


def leather(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(16, 36)
    bent = c.bent(0.3 / n, n // 2, 3)
    coarse, fine = voronoi(bent, n, n, 0.95), voronoi(bent, 2 * n, 2 * n, 0.95)
    domes = 0.7 * rounded(coarse.edge, 0.01 / n, 0.3 / n) + 0.3 * rounded(fine.edge, 0, 0.12 / n)
    folds = ridges(c.bent(0.06, 3, 4), 2, 3) ** 8 * c.choose(0, 1)
    height = c.uniform(0.05, 0.12) / n * domes * mix(0.8, 1, coarse.each(c)) - 0.002 * folds + 0.0008 * fbm(c, 4, 3)
    hide = c.choose(dye(c), hsv(c.uniform(0.02, 0.09), c.uniform(0.4, 0.75), c.uniform(0.2, 0.6)))
    patina = fbm(c, 3, 5)
    colour = hide * mix(0.55, 1, domes) * (1 + 0.1 * patina) * (1 - 0.25 * folds)
    skin = Surface(height, colour, mix(0.75, c.uniform(0.3, 0.55) + 0.04 * patina, domes))
    if c.chance(0.4):
        spots = bricks(c, c.integer(2, 5), 2 * c.integer(1, 2), 0.5)
        skin = studded(c, skin, spots, c.uniform(0.02, 0.035))
    return skin, c.uniform(0.1, 0.4)


def studded(c: Canvas, surface: Surface, spots: Cells, radius: float) -> Surface:
    """Metal domes in the middle of the cells, sunk a little into what they hold."""
    away = np.hypot(spots.x, spots.y) / radius
    dome = np.clip(1 - away**2, 0, 1)
    mask = smoothstep(1.0, 0.94, away)
    press = 0.1 * radius * smoothstep(1.8, 0.9, away)
    stud = Surface(0.1 * radius + 0.45 * radius * dome, metal(c.choose(*REFLECTANCE)), c.uniform(0.12, 0.4), 1.0)
    return coated(replace(surface, height=surface.height - press), stud, mask)


def moulded_plastic(c: Canvas) -> tuple[Surface, float]:
    n = 2 * c.integer(3, 12)
    kind = c.choose("dots", "pyramids", "ribs", "hexagons", "grid", "diamonds")
    spots = voronoi(c, n, n, 0, True) if kind == "hexagons" else bricks(c.turned(1, kind == "diamonds"), n, n)
    away = np.hypot(spots.x, spots.y) * n
    shape = {
        "dots": np.clip(1 - (away / 0.38) ** 2, 0, 1),
        "pyramids": 2 * n * np.minimum(spots.edge, 0.46 / n),
        "ribs": smoothstep(0.1, 0.3, np.abs(spots.x) * n),
        "hexagons": rounded(spots.edge, 0.03 / n, 0.12 / n),
        "grid": 1 - rounded(spots.edge, 0.05 / n, 0.15 / n),
        "diamonds": rounded(spots.edge, 0.04 / n, 0.3 / n),
    }[kind]
    texture = fbm(c, 80, 2)
    height = c.uniform(0.1, 0.25) / n * shape + c.uniform(0, 0.0004) * texture
    scuffs = scratches(c, 40, 0.25, 0.001) * c.choose(0, 1)
    colour, shine = dye(c), c.uniform(0.1, 0.6)
    rough = shine + 0.03 * texture + 0.25 * scuffs * shape + 0.05 * fbm(c, 4, 4)
    return Surface(height - 0.0002 * scuffs, colour * (1 + 0.08 * scuffs * shape), rough), n * c.uniform(0.002, 0.02)


# --- plaster, concrete, ground ------------------------------------------------------------------------------


def plaster(c: Canvas) -> tuple[Surface, float]:
    kind = c.choose("trowelled", "knocked", "sprayed")
    bent = c.bent(0.06, 3, 4)
    relief = {
        "trowelled": lambda: 0.004 * np.abs(fbm(bent, (3, 8), 4)) + 0.0012 * fbm(bent, (6, 48), 2),
        "knocked": lambda: 0.006 * smoothstep(-0.1, 0.35, fbm(c, 10, 4)) + 0.0004 * fbm(c, 40, 3),
        "sprayed": lambda: 0.004 * stones(bent, 20, 0.7)[0] + 0.003 * stones(bent, 37, 0.7)[0] + 0.0006 * fbm(c, 40, 3),
    }[kind]()
    lines = cracks(c, 3, 0.003) * smoothstep(0, 1, fbm(c, 2, 3)) * c.choose(0, 0, 1)
    wash = c.choose(grey(c, 0.6, 0.92), dye(c), earth(c))
    stain = smoothstep(0.3, 1.8, fbm(c, (5, 2), 5)) * c.uniform(0, 0.25)
    high = smoothstep(0, 0.006, relief)
    colour = wash * (0.92 + 0.08 * high) * (1 + 0.03 * fbm(c, 6, 4)) * (1 - stain) * (1 - 0.5 * lines)
    return Surface(relief - 0.003 * lines, colour, 0.88 - 0.1 * high + 0.05 * lines), c.uniform(0.5, 2)


def concrete(c: Canvas) -> tuple[Surface, float]:
    cloud, sand = fbm(c, 2, 6, 0.65), fbm(c, 40, 3)
    holes = np.maximum(pits(c, 12, 0.35, 0.12), pits(c, 36, 0.3, 0.25))
    panels = bricks(c, c.integer(1, 2), c.integer(1, 3))
    joint = smoothstep(0.006, 0.003, panels.edge) * c.choose(0, 1)
    boards = c.choose(0, 0, 1) * fbm(c, (3, 64), 2)
    lines = cracks(c, 2, 0.0025) * smoothstep(0, 0.8, fbm(c, 3, 4)) * c.choose(0, 1)
    height = 0.0006 * sand * c.uniform(0.3, 1.5) + 0.0006 * cloud - 0.005 * holes - 0.006 * joint - 0.003 * lines
    colour = grey(c, 0.4, 0.75) * (1 + 0.09 * cloud + 0.03 * sand + 0.03 * boards)
    colour = colour * (1 - 0.45 * np.maximum(np.sqrt(holes), lines)) * (1 - 0.4 * joint)
    streak = smoothstep(0.6, 1.8, fbm(c, (14, 1), 3)) * c.uniform(0, 0.3)
    surface = Surface(height + 0.0005 * boards, colour * (1 - streak), c.uniform(0.55, 0.85) + 0.05 * cloud)
    return flooded(c, surface, c.uniform(0.2, 0.5)) if c.chance(0.3) else surface, c.uniform(0.5, 3)


def gravel(c: Canvas) -> tuple[Surface, float]:
    height = 0.001 * fbm(c, 30, 4)
    colour = earth(c) * 0.6 * (1 + 0.12 * fbm(c, 40, 3))
    rough, first, second = np.full((1, 1), np.float32(0.95)), c.choose(grey(c), earth(c)), grey(c)
    finest = c.integer(20, 44)
    for n in (finest, int(finest / 1.6), int(finest / 2.4)):
        layer, laid = stones(c.bent(0.08 / n, 2 * n, 2), n, 0.75)
        pebble = 0.32 / n * layer + 0.0004 * fbm(c, 50, 2)
        top = smoothstep(-0.0003, 0.0003, pebble - height) * (layer > 0)
        rock = varied(c, laid, first, second, 0.3) * (1 + 0.06 * fbm(c, 60, 2))
        colour, rough = mix(colour, rock, top), mix(rough, 0.55 + 0.3 * laid.each(c), top)
        height = np.maximum(height, pebble)
    surface = Surface(height, colour, rough)
    return flooded(c, surface, c.uniform(0.2, 0.5)) if c.chance(0.25) else surface, c.uniform(0.3, 1)


def sand(c: Canvas) -> tuple[Surface, float]:
    bent = c.bent(0.02, 3, 3)
    waves = c.integer(4, 14)
    phase = bent.v * waves - np.floor(bent.v * waves)
    ripple = np.where(phase < 0.7, smoothstep(0, 0.7, phase), smoothstep(1, 0.7, phase)) * c.uniform(0.3, 1)
    grains, dunes = fbm(c, 64, 3), fbm(c, 3, 4)
    shells, laid = stones(c.bent(0.01, 20, 2), 14, c.choose(0.0, 0.06, 0.2))
    height = c.uniform(0.06, 0.12) / waves * ripple + 0.003 * dunes + 0.0007 * grains + 0.012 * shells
    colour = earth(c) * (1.05 + 0.08 * ripple) * (1 + 0.07 * grains + 0.04 * dunes)
    shell = smoothstep(0, 0.15, shells)
    colour = mix(colour, varied(c, laid, grey(c), earth(c), 0.2), shell)
    surface = Surface(height, colour, mix(0.9 - 0.05 * ripple, 0.5, shell))
    return flooded(c, surface, c.uniform(0.2, 0.45)) if c.chance(0.3) else surface, c.uniform(0.4, 1.5)


def cracked_mud(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(3, 8)
    plates = voronoi(c.bent(0.12 / n, 3 * n, 4), n, n, 0.9)
    gap = c.uniform(0.02, 0.05) / n
    body = rounded(plates.edge, gap, 0.06 / n)
    curl = smoothstep(0.35 / n, gap, plates.edge) * body
    dust = fbm(c, 24, 5)
    height = (c.uniform(0.05, 0.1) * body + 0.04 * curl * mix(0.2, 1, plates.each(c))) / n + 0.0008 * dust
    clay = earth(c)
    soil = varied(c, plates, clay, clay * 0.85, 0.06) * (1 + 0.06 * dust + 0.12 * curl)
    return Surface(height, soil * mix(0.4, 1, smoothstep(0, 0.5, body)), 0.88 + 0.04 * dust), n * c.uniform(0.05, 0.2)


def asphalt(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(32, 60)
    chips, laid = stones(c.bent(0.3 / n, n // 2, 3), n, 0.8)
    bitumen = fbm(c, 30, 4)
    lines = cracks(c, 3, 0.006) * smoothstep(0, 0.5, fbm(c, 2, 3)) * c.choose(0, 1)
    height = 0.0045 * chips + 0.0006 * bitumen - 0.008 * lines + 0.002 * fbm(c, 2, 3)
    bare = smoothstep(0.55, 0.8, chips + 0.1 * bitumen) * c.uniform(0.2, 0.9)
    colour = mix(grey(c, 0.16, 0.32) * (1 + 0.08 * bitumen), varied(c, laid, grey(c), earth(c), 0.2), bare)
    surface = Surface(height, colour * (1 - 0.4 * lines), mix(0.85, 0.65, bare))
    if c.chance(0.4):
        stripe = smoothstep(0.11, 0.105, np.abs(bricks(c, 1, 1).y)) * smoothstep(-0.6, -0.3, fbm(c, 40, 4) + 2 * chips)
        paint = c.choose(hsv(0.12, 0.05, 0.88), hsv(0.13, 0.7, 0.85))
        surface = coated(surface, Surface(height, paint * (1 + 0.04 * bitumen), 0.6), stripe)
    return flooded(c, surface, c.uniform(0.2, 0.6)) if c.chance(0.55) else surface, c.uniform(0.3, 1)


# --- metal --------------------------------------------------------------------------------------------------


def brushed(c: Canvas) -> tuple[Surface, float]:
    hairs = fbm(c, (c.choose(2, 4), 120), 2) + 0.6 * noise(c, (8, 250))
    marks, smear = scratches(c, c.integer(0, 90), 0.35, 0.0012), fbm(c, 3, 5)
    height = 0.00008 * hairs - 0.0003 * marks
    colour = metal(c.choose(*REFLECTANCE)) * (0.97 + 0.015 * hairs + 0.02 * smear)
    return Surface(height, colour, c.uniform(0.18, 0.42) + 0.03 * hairs + 0.04 * smear + 0.1 * marks, 1.0), 0.3


def hammered(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(4, 14)
    dents = voronoi(c.bent(0.03 / n, n, 2), n, n, 0.7)
    bowl = (dents.x**2 + dents.y**2) * n * n
    height = blur(c.uniform(0.1, 0.25) / n * bowl, 0.03 / n)
    smear, marks = fbm(c, 4, 5), scratches(c, 30, 0.2, 0.001)
    colour = metal(c.choose(*REFLECTANCE)) * (0.95 + 0.04 * smear)
    return Surface(height - 0.0002 * marks, colour, c.uniform(0.12, 0.35) + 0.03 * smear + 0.1 * marks, 1.0), n * 0.02


def riveted(c: Canvas) -> tuple[Surface, float]:
    columns, rows = c.integer(1, 3), c.choose(1, 2, 2, 4)
    sheets = bricks(c, columns, rows, 0.5 * (rows > 1) * c.choose(0, 1))
    seam, dents = rounded(sheets.edge, 0.002, 0.006), fbm(c, 4, 3)
    height = 0.006 * sheets.each(c) * seam + 0.004 * seam + 0.0015 * dents
    pitch = 12 * c.integer(1, 2)
    heads = bricks(c, pitch, pitch)
    side = 0.5 / columns - np.abs(sheets.x - heads.x), 0.5 / rows - np.abs(sheets.y - heads.y)
    outermost = np.minimum(*side) < 0.75 / pitch
    away = np.hypot(heads.x, heads.y) * pitch / c.uniform(0.18, 0.28)
    height = height + 0.12 / pitch * np.clip(1 - away**2, 0, 1) * outermost
    marks, smear = scratches(c, 60, 0.25, 0.001), fbm(c, 4, 5)
    colour = metal(c.choose("iron", "aluminium", "titanium", "copper", "zinc")) * (0.93 + 0.1 * sheets.each(c))
    rough = c.uniform(0.25, 0.5) + 0.06 * smear + 0.1 * marks
    return Surface(height - 0.0003 * marks, colour * (1 + 0.02 * smear), rough, 1.0), columns * c.uniform(0.3, 0.8)


def checker_plate(c: Canvas) -> tuple[Surface, float]:
    n = 2 * c.integer(3, 9)
    studs = bricks(c, n, n)
    flip = np.where((studs.index // n + studs.index % n) % 2, 1, -1)
    along, over = (studs.x + flip * studs.y) * n, (studs.x - flip * studs.y) * n
    lozenge = np.clip(1 - (along / c.uniform(0.75, 0.9)) ** 2 - (over / c.uniform(0.22, 0.32)) ** 2, 0, 1)
    top = smoothstep(0, 0.55, lozenge)
    cast, smear = fbm(c, 40, 3), fbm(c, 3, 5)
    height = c.uniform(0.06, 0.11) / n * top + 0.0002 * cast
    colour = metal(c.choose("iron", "aluminium", "zinc", "nickel")) * (0.92 + 0.05 * top + 0.03 * smear)
    marks = scratches(c, 60, 0.2, 0.001) * top
    rough = mix(c.uniform(0.4, 0.6), c.uniform(0.2, 0.35), top) + 0.05 * smear + 0.1 * marks
    return Surface(height, colour, rough, 1.0), n * 0.035


def corrugated(c: Canvas) -> tuple[Surface, float]:
    waves = c.integer(3, 12)
    shape = np.sin(2 * np.pi * (c.u * waves)) + np.float32(0) * c.v
    if c.chance(0.4):
        shape = 2 * smoothstep(-0.5, 0.5, shape) - 1
    spangle = voronoi(c.bent(0.01, 20, 2), 24, 24, 0.95)
    overlap = smoothstep(0.4, 0.39, np.abs(bricks(c, 1, 1).y))
    height = c.uniform(0.05, 0.09) / waves * shape + 0.001 * fbm(c, 5, 3) + 0.002 * overlap
    colour = metal(c.choose("zinc", "aluminium", "iron")) * (0.86 + 0.12 * spangle.each(c))
    return Surface(height, colour, c.uniform(0.28, 0.45) + 0.12 * spangle.each(c), 1.0), waves * 0.076


def cast_iron(c: Canvas) -> tuple[Surface, float]:
    lumps, skin = fbm(c, 5, 4), fbm(c, 28, 4)
    height = 0.002 * lumps + c.uniform(0.0008, 0.002) * skin - 0.003 * pits(c, 24, 0.4, 0.3)
    colour = metal(c.choose("iron", "aluminium", "titanium", "brass")) * (0.93 + 0.03 * skin)
    return Surface(height, colour, c.uniform(0.4, 0.65) + 0.04 * skin, 1.0), c.uniform(0.1, 0.5)


def relief_metal(c: Canvas) -> tuple[Surface, float]:
    """Pressed ceiling tins: a frame and a rosette in each panel."""
    n = c.choose(1, 2, 2, 3, 4)
    panels = bricks(c, n, n)
    figure = blur(motif(c, panels, n) * smoothstep(0.06 / n, 0.1 / n, panels.edge), 0.012 / n)
    frame = rounded(panels.edge, 0.008 / n, 0.03 / n) - 0.6 * rounded(panels.edge, 0.06 / n, 0.03 / n)
    height = c.uniform(0.02, 0.04) / n * (figure + frame) + 0.0006 * fbm(c, 8, 3)
    smear = fbm(c, 4, 5)
    colour = metal(c.choose("copper", "brass", "gold", "silver", "zinc", "nickel")) * (0.95 + 0.03 * smear)
    return Surface(height, colour, c.uniform(0.2, 0.4) + 0.05 * smear, 1.0), n * 0.3


def bare_metal(c: Canvas) -> tuple[Surface, float]:
    """One of the metals above, to be spoiled."""
    return c.choose(brushed, hammered, riveted, riveted, checker_plate, corrugated, cast_iron, relief_metal)(c)


# --- metal under something else -----------------------------------------------------------------------------


def rusted(c: Canvas) -> tuple[Surface, float]:
    sound, metres = bare_metal(c)
    shade = sound.albedo.mean(0) / sound.albedo.mean(0).max()
    sound = replace(sound, albedo=metal("iron") * shade)
    spots, fine = fbm(c, c.integer(2, 6), 6, 0.6), fbm(c, 30, 4)
    drips = fbm(c, (16, 2), 4) * c.choose(0.0, 0.7)
    hollow = np.clip(-8 * convexity(np.broadcast_to(sound.height, spots.shape), 0.02), -0.5, 1)
    field = spots + drips + hollow + 0.15 * fine - c.uniform(-0.5, 0.7)
    mask, age = smoothstep(-0.06, 0.1, field), smoothstep(0, 1.3, field + 0.25 * fine)
    fresh, old = hsv(c.uniform(0.05, 0.08), 0.78, c.uniform(0.5, 0.68)), hsv(0.035, 0.55, 0.25)
    colour = mix(fresh, old, age) * (1 + 0.12 * fine)
    scale = sound.height + mask * (0.0008 + 0.0012 * fine + 0.0012 * age)
    halo = smoothstep(-0.5, 0, field)
    dull = replace(sound, albedo=sound.albedo * (1 - 0.12 * halo), roughness=sound.roughness + 0.15 * halo)
    return coated(dull, Surface(scale, colour, 0.86 + 0.05 * fine), mask), metres


def painted(c: Canvas) -> tuple[Surface, float]:
    base, metres = bare_metal(c)
    height = np.broadcast_to(base.height, (c.size, c.size))
    wear = 7 * convexity(height, 0.012) + 0.75 * fbm(c, c.integer(3, 7), 6, 0.6)
    bare = smoothstep(0.0, 0.05, wear - c.uniform(0.3, 1.2))
    gouges = smoothstep(0.35, 0.6, scratches(c, c.integer(0, 60), 0.3, 0.002))
    bare = np.maximum(bare, gouges)
    chalk, drops = fbm(c, 4, 5), fbm(c, 60, 2)
    colour = dye(c)
    if c.chance(0.3):
        band = smoothstep(-0.03, 0.03, np.sin(2 * np.pi * (c.integer(1, 4) * (c.u + c.v))))
        colour = mix(colour, c.choose(dye(c), hsv(0.13, 0.85, 0.9)), band)
    coat = Surface(height + 0.0012 + 0.0001 * drops, colour * (1 + 0.05 * chalk), c.uniform(0.15, 0.6) + 0.05 * chalk)
    return weathered(c, coated(base, coat, 1 - bare), 0.015, c.uniform(0, 0.7)), metres


def patinated(c: Canvas) -> tuple[Surface, float]:
    base, metres = c.choose(hammered, relief_metal, riveted, brushed)(c)
    height = np.broadcast_to(base.height, (c.size, c.size))
    fine, runs = fbm(c, 24, 5), fbm(c, (9, 2), 5)
    field = 0.7 * fbm(c, 3, 5) + 0.4 * runs - np.clip(9 * convexity(height, 0.015), -1.2, 1.2) - c.uniform(-0.3, 0.5)
    mask = smoothstep(-0.15, 0.25, field + 0.2 * fine)
    bronze = metal(c.choose("copper", "copper", "brass", "gold")) * (0.94 + 0.03 * fine)
    tarnish = smoothstep(-0.9, 0.1, field)
    base = replace(base, albedo=bronze * (1 - 0.22 * tarnish), roughness=base.roughness + 0.15 * tarnish)
    green = hsv(c.uniform(0.38, 0.52), c.uniform(0.25, 0.5), c.uniform(0.5, 0.75)) * (1 + 0.1 * fine)
    green = mix(green, hsv(0.07, 0.45, 0.28), smoothstep(0.2, 1.4, runs))
    return coated(base, Surface(height + 0.0004 + 0.0003 * fine, green, 0.85 + 0.04 * fine), mask), metres


def muddy_plate(c: Canvas) -> tuple[Surface, float]:
    base, metres = c.choose(checker_plate, corrugated, riveted)(c)
    height = np.broadcast_to(base.height, (c.size, c.size))
    lumps = fbm(c, 12, 5)
    level = np.quantile(height, c.uniform(0.3, 0.6)) + 0.003 * fbm(c, 3, 4) + 0.001 * lumps
    mask = smoothstep(-0.0006, 0.0006, level - height)
    mud = Surface(mix(height, level, 0.8), earth(c) * 0.8 * (1 + 0.1 * lumps), c.uniform(0.45, 0.95) + 0.05 * lumps)
    return coated(base, mud, mask), metres


def gilded_stone(c: Canvas) -> tuple[Surface, float]:
    """Broken and mended with metal, or veined with it."""
    stone, metres = c.choose(marble, marble, ceramic_glaze)(c)
    n = c.integer(2, 5)
    seams = voronoi(c.bent(0.25 / n, 2 * n, 4), n, n, 0.95)
    width = c.uniform(0.006, 0.016) * np.clip(1 + 0.35 * fbm(c, 6, 3), 0.4, 2)
    mask = smoothstep(width, width - 0.002, seams.edge)
    bead = np.sqrt(np.clip(1 - (seams.edge / width) ** 2, 0, 1))
    vein = Surface(stone.height + 0.004 * bead, metal(c.choose("gold", "gold", "silver", "brass", "copper")), 0.2, 1.0)
    vein = replace(vein, roughness=c.uniform(0.12, 0.35) + 0.03 * fbm(c, 12, 4))
    return coated(stone, vein, mask), metres


def ceramic_glaze(c: Canvas) -> tuple[Surface, float]:
    """Poured glaze: pools, drops and crackle."""
    bent, first, second = c.bent(0.05, 3, 4), dye(c), dye(c)
    pools = smoothstep(-0.6, 0.6, fbm(bent, 3, 4))
    crackle = cracks(c, c.integer(8, 20), 0.0015)
    colour = mix(first, second, pools * c.uniform(0.2, 0.8)) * (1 - 0.35 * crackle) * (1 + 0.04 * fbm(c, 30, 4))
    return Surface(0.0015 * pools, colour, c.uniform(0.08, 0.25) + 0.15 * crackle), c.uniform(0.1, 0.3)


def mosaic(c: Canvas) -> tuple[Surface, float]:
    n = c.integer(8, 20)
    laid = voronoi(c, n, n, c.uniform(0.1, 0.5))
    gap = c.uniform(0.06, 0.1) / n
    body = rounded(laid.edge, gap, 0.08 / n)
    tilt = (laid.each(c) - 0.5) * laid.x + (laid.each(c) - 0.5) * laid.y
    height = 0.14 / n * body + 0.35 * tilt * body + 0.0006 * fbm(c, 40, 3)
    middle = c.moved(laid.x, laid.y)
    gold = motif(c, bricks(middle, 2, 2), 2) > 0.5
    face = smoothstep(0.1, 0.4, body)
    glass = Surface(height, varied(c, laid, dye(c), dye(c), 0.2), c.uniform(0.1, 0.3))
    leaf = metal(c.choose("gold", "gold", "silver", "copper")) * (0.9 + 0.1 * laid.each(c))
    tesserae = coated(glass, Surface(height, leaf, c.uniform(0.15, 0.35), 1.0), gold)
    return coated(Surface(height, grey(c) * (1 + 0.05 * fbm(c, 50, 2)), 0.92), tesserae, face), n * 0.02


def wire_mesh(c: Canvas) -> tuple[Surface, float]:
    n = 2 * c.integer(3, 9)
    wires = weave(c, n // 2, PLAIN, c.uniform(0.3, 0.6))
    mask = smoothstep(0.02, 0.12, wires.height)
    smear = fbm(c, 4, 5)
    steel = metal(c.choose("iron", "chromium", "brass", "copper")) * (0.95 + 0.03 * smear)
    wire = Surface(0.22 / n * wires.height, steel, c.uniform(0.2, 0.45) + 0.05 * smear, 1.0)
    back = Surface(0.0006 * fbm(c, 30, 4) - 0.1 / n, dye(c) * 0.6 * (1 + 0.06 * fbm(c, 30, 3)), 0.85)
    return coated(back, wire, mask), n * c.uniform(0.003, 0.02)


FAMILIES: tuple[tuple[Callable[[Canvas], tuple[Surface, float]], str, float], ...] = (
    (brick_wall, "stone", 6),
    (ceramic_tiles, "ceramic", 5),
    (cobblestones, "stone", 5),
    (flagstones, "stone", 3),
    (cliff, "stone", 2.5),
    (marble, "marble", 2.5),
    (granite, "stone", 1.5),
    (terrazzo, "stone", 2.5),
    (roof_tiles, "terracotta", 3.5),
    (planks, "wood", 5),
    (veneer, "wood", 1.5),
    (parquet, "wood", 2.5),
    (woven, "fabric", 5),
    (knitted, "fabric", 3),
    (carpet, "fabric", 3),
    (leather, "leather", 4),
    (moulded_plastic, "plastic", 4),
    (plaster, "plaster", 2.5),
    (concrete, "concrete", 3),
    (gravel, "ground", 3.5),
    (sand, "ground", 3),
    (cracked_mud, "ground", 2.5),
    (asphalt, "ground", 3.5),
    (ceramic_glaze, "ceramic", 0.5),
    (brushed, "metal", 1.5),
    (hammered, "metal", 3),
    (riveted, "metal", 3),
    (checker_plate, "metal", 2.5),
    (corrugated, "metal", 3),
    (cast_iron, "metal", 2.5),
    (relief_metal, "metal", 3.5),
    (rusted, "metal", 4),
    (painted, "metal", 4),
    (patinated, "metal", 2.5),
    (muddy_plate, "metal", 2),
    (gilded_stone, "marble", 1.5),
    (mosaic, "ceramic", 1.5),
    (wire_mesh, "metal", 2),
    (brocade, "fabric", 1.5),
)
"""Recipe, category, share. About a third hold metal: half of those bare, half together with something else."""
