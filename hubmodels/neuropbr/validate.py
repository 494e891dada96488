"""Whether a material is plausible: what a look director would send back, as findings with a number each.

Maps are (1, C, H, W), as `export` takes them. A finding says what was measured, where it should lie, and one
sentence that a person can act on. "warn" is unusual; "fail" is wrong for nearly every material.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hubmodels.images import linear_to_srgb, srgb_to_linear

Maps = dict[str, Tensor]
Level = Literal["ok", "warn", "fail"]

WHITE = 255
"""The guides state colours in levels of 8 bits, and so do the findings."""
ONE_LEVEL = 1 / WHITE
DIELECTRIC = (30, 240)
"""Levels of 255 between which the albedo of anything but metal lies: from charcoal to fresh snow."""
METAL_STRICT, METAL_RELAXED = 180, 155
"""Least levels of 255 of clean metals, and of those that are tarnished or worn."""
LEVEL_TOLERANCE = 0.5
UNIT_TOLERANCE = (0.01, 0.05)
"""By how much lengths of normals may miss 1: 8 bits alone make it 0.007."""
BETWEEN = (0.10, 0.50)
"""Shares of the surface that may be neither metal nor dielectric, above which to warn and to fail."""
SEAM = 1.5
"""Of steps across the edge to steps inside; that of a material which tiles exceeds them by chance."""
BAKED = (0.3, 0.6)
SMOOTH = 0.005
"""Spread of normals below which a surface has no relief that light could show: about one level of 255."""


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    value: float
    range: tuple[float, float]
    """Where the value should lie, ends included."""
    sentence: str


def validate(maps: Maps, tile: bool = True) -> list[Finding]:
    """All checks that the maps allow, in a fixed order. Maps that are not numbers throughout are not judged further.

    Args:
        maps: any of albedo, roughness, metallic, normal, height, ao.
        tile: opposite edges should meet, so look for seams.
    """
    maps = {name: one.detach().float() for name, one in maps.items()}
    findings = [numbers(maps)]
    maps = {name: one for name, one in maps.items() if one.isfinite().all()}
    if {"albedo", "metallic"} <= set(maps):
        findings += dielectric_albedo(maps["albedo"], maps["metallic"])
        findings += metal_albedo(maps["albedo"], maps["metallic"])
    if "normal" in maps:
        findings += [unit_normals(maps["normal"]), outward_normals(maps["normal"])]
    if "metallic" in maps:
        findings.append(bimodal_metallic(maps["metallic"]))
    if "roughness" in maps:
        findings.append(saturated_roughness(maps["roughness"]))
    if {"albedo", "normal"} <= set(maps):
        findings.append(baked_light(maps["albedo"], maps["normal"]))
    if tile:
        findings += [seam(name, one) for name, one in maps.items()]
    return findings


def numbers(maps: Maps) -> Finding:
    """Values that are NaN or infinite, counted over all maps."""
    bad = {name: int((~one.isfinite()).sum()) for name, one in maps.items()}
    hit = [name for name, count in bad.items() if count]
    said = f"{', '.join(hit)}: not numbers in places" if hit else "all values are numbers"
    return Finding("numbers", "fail" if hit else "ok", float(sum(bad.values())), (0, 0), said)


def dielectric_albedo(albedo: Tensor, metallic: Tensor) -> list[Finding]:
    """Darkest and brightest hundredth of the albedo where metallic < 0.1, in sRGB levels of 255.

    Fails if more than half of it lies outside. Source: Substance 3D, The PBR Guide, part 2: 30 to 240.
    """
    levels = _levels(albedo)[metallic < 0.1]
    if not len(levels):
        return []
    dark, middle, bright = (_quantile(levels, q) for q in (0.01, 0.5, 0.99))
    low, high = DIELECTRIC[0] - LEVEL_TOLERANCE, DIELECTRIC[1] + LEVEL_TOLERANCE
    dark_level: Level = "fail" if middle < low else "warn" if dark < low else "ok"
    dark_said = f"the darkest albedo is {dark:.0f} of 255"
    if dark_level != "ok":
        dark_said += f", below {DIELECTRIC[0]} and darker than charcoal: shadows may be in it"
    bright_level: Level = "fail" if middle > high else "warn" if bright > high else "ok"
    bright_said = f"the brightest albedo is {bright:.0f} of 255"
    if bright_level != "ok":
        bright_said += f", above {DIELECTRIC[1]} and brighter than snow: highlights may be in it"
    return [
        Finding("dielectric_dark", dark_level, dark, (DIELECTRIC[0], 255), dark_said),
        Finding("dielectric_bright", bright_level, bright, (0, DIELECTRIC[1]), bright_said),
    ]


def metal_albedo(albedo: Tensor, metallic: Tensor) -> list[Finding]:
    """Twentieth part of the base colour that is darkest where metallic > 0.9, in sRGB levels of 255.

    Source: Substance 3D, The PBR Guide, part 2: metals reflect 70 to 100 %, levels 180 to 255; its validator
    lets 155 pass for worn ones.
    """
    levels = _levels(albedo)[metallic > 0.9]
    if not len(levels):
        return []
    dark = _quantile(levels, 0.05)
    level = "ok" if dark >= METAL_STRICT - LEVEL_TOLERANCE else "warn"
    level = "fail" if dark < METAL_RELAXED - LEVEL_TOLERANCE else level
    said = f"metal is as dark as {dark:.0f} of 255; clean metals have {METAL_STRICT} or more, worn ones {METAL_RELAXED}"
    return [Finding("metal_albedo", level, dark, (METAL_STRICT, 255), said)]


def unit_normals(normal: Tensor) -> Finding:
    """Largest distance of a normal's length from 1."""
    off = float((normal.norm(dim=1) - 1).abs().max())
    said = f"lengths of normals miss 1 by up to {off:.3f}" + ("" if off <= UNIT_TOLERANCE[0] else ": normalise the map")
    return Finding("unit_normals", _above(off, UNIT_TOLERANCE), off, (0, UNIT_TOLERANCE[0]), said)


def outward_normals(normal: Tensor) -> Finding:
    """Least z of the normals: one that looks into the surface is never seen. One level of 255 is let pass."""
    least = float(normal[:, 2].min())
    inward = least < -ONE_LEVEL
    said = f"normals have z of {least:.3f} or more" + (": some look into the surface" if inward else "")
    return Finding("outward_normals", "fail" if inward else "ok", least, (0, 1), said)


def bimodal_metallic(metallic: Tensor) -> Finding:
    """Share of the surface with 0.2 < metallic < 0.8: matter is metal or it is not, only edges and dust lie between."""
    share = float(((metallic > 0.2) & (metallic < 0.8)).float().mean())
    said = f"{share:.0%} of the surface is neither metal nor dielectric"
    return Finding("bimodal_metallic", _above(share, BETWEEN), share, (0, BETWEEN[0]), said)


def saturated_roughness(roughness: Tensor) -> Finding:
    """Share of the surface at the very ends, 0 or 1: a perfect mirror or chalk, and mostly a map that was clipped."""
    share = float(((roughness < ONE_LEVEL) | (roughness > 1 - ONE_LEVEL)).float().mean())
    said = f"{share:.0%} of the roughness is exactly 0 or 1"
    return Finding("saturated_roughness", _above(share, (0.5, 0.99)), share, (0, 0.5), said)


def baked_light(albedo: Tensor, normal: Tensor) -> Finding:
    """How far the albedo is brighter on slopes that face one way: the multiple correlation of its log luminance
    with x and y of the normals, 0 for none and 1 for a picture of one directional light.

    It takes the best direction, in closed form. Hollows may well be darker in themselves, from dirt or mortar, so
    height is not asked; that slopes facing left differ from slopes facing right is light.
    """
    light = (_luminance(albedo).clamp(min=0) + 0.01).log().double().flatten()
    slopes = normal[:, :2].double().transpose(0, 1).flatten(1)
    light, slopes = light - light.mean(), slopes - slopes.mean(1, keepdim=True)
    index = 0.0
    if slopes.std(1, correction=0).max() > SMOOTH and light.std(correction=0) > SMOOTH:
        floor = torch.eye(2, dtype=torch.float64) * SMOOTH**2  # a direction without relief explains nothing
        covariance = slopes @ slopes.T / light.numel() + floor.to(slopes.device)
        with_light = slopes @ light / light.numel()
        index = float(
            (with_light @ torch.linalg.solve(covariance, with_light) / light.square().mean()).clamp(0, 1).sqrt()
        )
    said = f"brightness of the albedo follows the slopes by {index:.2f}" + (
        "" if index <= BAKED[0] else ": light of the photos seems to be in it"
    )
    return Finding("baked_light", _above(index, BAKED), index, (0, BAKED[0]), said)


def seam(name: str, one: Tensor) -> Finding:
    """Step across the edges where tiles meet, by the steps inside: by the 98th of 100 rows or columns of pixels.

    Fails if it is also larger than the largest, which a joint between planks, say, may equal. One level of 255 is
    added to all steps, so that a constant has 1; heights are measured by their own spread.
    """
    if name == "height":
        one = one / one.std(correction=0).clamp(min=1e-6)
    most, largest = 0.0, 0.0
    for dim in (-2, -1):
        if one.shape[dim] < 3:
            continue
        others = [d for d in range(one.ndim) if d != one.ndim + dim]
        inside = one.diff(dim=dim).abs().mean(others) + ONE_LEVEL
        across = float((one.select(dim, 0) - one.select(dim, -1)).abs().mean()) + ONE_LEVEL
        most = max(most, across / _quantile(inside, 0.98))
        largest = max(largest, across / float(inside.max()))
    level = "ok" if most <= SEAM else "warn" if largest <= SEAM else "fail"
    said = f"the step of {name} across the edge is {most:.1f} times those inside"
    if level != "ok":
        said += ": a seam will show where it tiles"
    return Finding(f"seam_{name}", level, most, (0, SEAM), said)


def _above(value: float, limits: tuple[float, float]) -> Level:
    return "fail" if value > limits[1] else "warn" if value > limits[0] else "ok"


def _luminance(albedo: Tensor) -> Tensor:
    """(B, 1, H, W) linear, of sRGB. Source: Rec. ITU-R BT.709."""
    weights = albedo.new_tensor([0.2126, 0.7152, 0.0722]).view(1, 3, 1, 1)
    return (srgb_to_linear(albedo) * weights).sum(1, keepdim=True)


def _levels(albedo: Tensor) -> Tensor:
    """(B, 1, H, W): the grey of the same luminance, in sRGB levels of 255."""
    return linear_to_srgb(_luminance(albedo)) * WHITE


def _quantile(values: Tensor, q: float) -> float:
    """Of any number of values; torch.quantile takes 16 million at most."""
    return float(values.flatten().kthvalue(1 + math.floor(q * (values.numel() - 1) + 0.5)).values)
