"""The shapes as geometry: signed distances, extents, and sprites (coverage of fill and outline in a small window).

Everything is in canvas units around the thing's centre, y down. A sprite is supersampled once for a resolution
and kept; drawing is then a matter of placing it.
"""

import math
from functools import cache

import numpy as np

from hubmodels.scenes.world import CANVAS, SHAPES, SIZES

OUTLINE = 1.1
"""Width of the dark outline, inside the shape's edge, in units."""
SUPERSAMPLES = 8

KINDS = tuple((shape, size) for shape in SHAPES for size in SIZES)
"""Every shape in every size; a kind's number is shape number * 3 + size number."""
KIND = {kind: number for number, kind in enumerate(KINDS)}


def _polygon(shape: str, radius: float) -> list[tuple[float, float]]:
    r = radius
    if shape == "cube":
        return [(-0.9 * r, -0.9 * r), (0.9 * r, -0.9 * r), (0.9 * r, 0.9 * r), (-0.9 * r, 0.9 * r)]
    if shape == "block":
        return [(-1.2 * r, -0.7 * r), (1.2 * r, -0.7 * r), (1.2 * r, 0.7 * r), (-1.2 * r, 0.7 * r)]
    if shape == "triangle":
        return [(0, -1.05 * r), (1.1 * r, 0.95 * r), (-1.1 * r, 0.95 * r)]
    if shape == "diamond":
        return [(0, -1.15 * r), (1.15 * r, 0), (0, 1.15 * r), (-1.15 * r, 0)]
    if shape == "star":
        turns = [(1.2 * r if i % 2 == 0 else 0.55 * r, math.pi * (i / 5 - 0.5)) for i in range(10)]
        return [(length * math.cos(angle), length * math.sin(angle)) for length, angle in turns]
    a, b = 0.42 * r, 1.1 * r  # cross
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]


def _polygon_distance(x: np.ndarray, y: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    """Exact signed distance to a polygon, negative inside (even-odd rule)."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        crosses = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (px < ex * (py / ey))
    return np.where(inside, -1, 1) * np.sqrt(nearest)


def signed_distance(shape: str, size: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance in units from points (x, y) to the shape's edge, negative inside."""
    radius = SIZES[size]
    if shape == "ball":
        return np.hypot(x, y) - radius
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.75 * radius) - 0.32 * radius
    return _polygon_distance(x, y, _polygon(shape, radius))


@cache
def extent(shape: str, size: str) -> tuple[float, float, float, float]:
    """How far the shape reaches left, up, right and down of its centre, in units."""
    radius = SIZES[size]
    if shape in ("ball", "ring"):
        reach = radius if shape == "ball" else 1.07 * radius
        return reach, reach, reach, reach
    xs, ys = zip(*_polygon(shape, radius), strict=True)
    return -min(xs), -min(ys), max(xs), max(ys)


@cache
def sprites(size: str, resolution: int = CANVAS) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of each shape of one size in a window of W x W pixels centred on it.

    Returns:
        `whole` and `fill`, both (len(SHAPES), W, W) float32 in [0, 1]: what the shape covers, and what it covers
        inside its outline. W is odd at 64 pixels and even at 128, so that a placed centre falls on the window's.
    """
    scale = resolution / CANVAS
    reach = max(max(extent(shape, size)) for shape in SHAPES) * scale
    width = 2 * math.ceil(reach - 0.5) + 1 if round(scale) % 2 else 2 * math.ceil(reach)
    grid = ((np.arange(width * SUPERSAMPLES) + 0.5) / SUPERSAMPLES - width / 2) / scale
    x, y = np.meshgrid(grid, grid)
    whole = np.empty((len(SHAPES), width, width), np.float32)
    fill = np.empty_like(whole)
    for number, shape in enumerate(SHAPES):
        distance = signed_distance(shape, size, x, y).reshape(width, SUPERSAMPLES, width, SUPERSAMPLES)
        whole[number] = (distance < 0).mean((1, 3))
        fill[number] = (distance < -OUTLINE).mean((1, 3))
    return whole, fill
