import math
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import linear_to_srgb, srgb_to_linear
from hubmodels.neuropbr.lights import Lights, directional, environment, join, point
from hubmodels.neuropbr.shading import LEAST_ROUGHNESS, brdf, shade, shade_supersampled, texel_positions

UP = torch.tensor([0.0, 0, 1])


def surface(height: int = 6, width: int = 9, batch: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    albedo, roughness, metallic, slope = torch.rand(4, batch, 3, height, width, generator=generator, dtype=dtype)
    normal = F.normalize(torch.cat([slope[:, :2] - 0.5, torch.ones_like(slope[:, :1])], 1), dim=1)
    return {
        "albedo": albedo,
        "roughness": 0.2 + 0.8 * roughness[:, :1],
        "metallic": metallic[:, :1],
        "normal": normal,
    }


def flat(albedo: float, roughness: float, metallic: float, size: int = 4) -> dict[str, Tensor]:
    """A constant material; albedo is given as linear."""
    return {
        "albedo": linear_to_srgb(torch.full((1, 3, size, size), albedo)),
        "roughness": torch.full((1, 1, size, size), roughness),
        "metallic": torch.full((1, 1, size, size), metallic),
        "normal": UP[:, None, None].expand(1, 3, size, size),
    }


def mixed() -> Lights:
    """A point and a far light for two surfaces, in different order."""
    return Lights(
        torch.tensor([[[0.3, -0.4, 1.5], [0.6, 0.0, 0.8]], [[0.0, 0.6, 0.8], [-1.0, 0.7, 0.9]]]),
        torch.tensor([[True, False], [False, True]]),
        torch.tensor([[[3.0, 2, 1], [0.5, 1, 2]], [[1.0, 1, 1], [2, 2, 4]]]),
    )


# --- the same, written for one ray --------------------------------------------------------------------------------


def scalar_radiance(albedo, roughness, metallic, normal, place, light, is_point, color, eye) -> list[float]:
    """One texel under one light, with angles where the renderer uses dot products and none of its rearrangements."""

    def unit(v):
        return [c / math.hypot(*v) for c in v]

    def angle(a, b):
        return math.acos(max(-1.0, min(1.0, sum(x * y for x, y in zip(a, b, strict=True)))))

    distance = math.dist(light, place) if is_point else 1.0
    to_light = unit([p - q for p, q in zip(light, place, strict=True)] if is_point else light)
    to_eye = unit([p - q for p, q in zip(eye, place, strict=True)])
    theta_l, theta_v = angle(normal, to_light), angle(normal, to_eye)
    if theta_l >= math.pi / 2 or theta_v >= math.pi / 2:
        return [0.0] * 3
    half = unit([p + q for p, q in zip(to_light, to_eye, strict=True)])
    theta_h = angle(normal, half)
    alpha = roughness * roughness
    ndf = alpha**2 / (math.pi * math.cos(theta_h) ** 4 * (alpha**2 + math.tan(theta_h) ** 2) ** 2)
    g1 = [2 / (1 + math.sqrt(1 + (alpha * math.tan(theta)) ** 2)) for theta in (theta_l, theta_v)]
    result = []
    for a, c in zip(albedo, color, strict=True):
        linear = a / 12.92 if a <= 0.04045 else ((a + 0.055) / 1.055) ** 2.4
        f0 = (1 - metallic) * 0.04 + metallic * linear
        fresnel = f0 + (1 - f0) * (1 - math.cos(angle(to_eye, half))) ** 5
        glossy = ndf * g1[0] * g1[1] * fresnel / (4 * math.cos(theta_l) * math.cos(theta_v))
        matt = (1 - metallic) * linear / math.pi
        result.append((matt + glossy) * math.cos(theta_l) * c / distance**2)
    return result


def test_every_texel_agrees_with_a_scalar_ray_tracer() -> None:
    maps, lights = surface(), mixed()
    eyes = torch.tensor([[0.5, -0.3, 2.0], [-0.8, 0.2, 3.0]])
    shaded = shade(maps, lights, eyes)
    assert shaded.shape == (2, 3, 6, 9) and shaded.dtype == torch.float32
    for b in range(2):
        for i in range(6):
            for j in range(9):
                place = [(2 * j + 1) / 9 - 1, 6 / 9 - (2 * i + 1) / 9, 0.0]  # row 0 is the top, y up
                texel = {name: value[b, :, i, j].tolist() for name, value in maps.items()}
                total = torch.zeros(3)
                for number in range(2):
                    total += torch.tensor(
                        scalar_radiance(
                            texel["albedo"],
                            texel["roughness"][0],
                            texel["metallic"][0],
                            texel["normal"],
                            place,
                            lights.position[b, number].tolist(),
                            bool(lights.is_point[b, number]),
                            lights.color[b, number].tolist(),
                            eyes[b].tolist(),
                        )
                    )
                assert torch.allclose(shaded[b, :, i, j], total, rtol=1e-4, atol=1e-6), (b, i, j)


# --- closed forms -------------------------------------------------------------------------------------------------


def test_a_matt_plane_under_a_far_light_follows_lambert() -> None:
    """At roughness 1 seen from above the glossy part is small and known, so that the rest is albedo cos / pi."""
    lights = directional(torch.tensor([[[1.0, 0, 1]]]), torch.tensor([[[1.0, 2, 3]]]))
    eye = UP[None, :, None, None]
    cosine = math.cos(math.pi / 4)
    white, black = (shade(flat(level, 1.0, 0.0), lights, eye) for level in (0.5, 0.0))
    expected = 0.5 / math.pi * cosine * torch.tensor([1.0, 2, 3])[:, None, None]
    assert torch.allclose(white - black, expected.expand(1, -1, 4, 4), rtol=1e-5)
    # a = 1: D = 1 / pi, G(l) = 2 cos / (cos + 1), G(v) = 1
    schlick = 0.04 + 0.96 * (1 - math.cos(math.pi / 8)) ** 5
    glossy = schlick / math.pi * (2 * cosine / (cosine + 1)) / (4 * cosine) * cosine
    assert torch.allclose(black[:, 0], torch.tensor(glossy), rtol=1e-5)


@pytest.mark.parametrize("roughness", [0.05, 0.3, 1.0])
def test_straight_back_a_metal_sends_its_albedo_over_four_pi_alpha_squared(roughness: float) -> None:
    lights = directional(UP[None, None], torch.ones(1, 1, 3))
    radiance = shade(flat(0.7, roughness, 1.0), lights, UP[None, :, None, None])
    assert radiance.mean().item() == pytest.approx(0.7 / (4 * math.pi * roughness**4), rel=1e-4)


def test_a_point_light_falls_off_by_the_square_and_matches_a_far_one_from_afar() -> None:
    maps = flat(0.5, 0.6, 0.3)
    eye = torch.tensor([[0.0, 0, 2]])
    near, far = (shade(maps, point(UP[None, None] * r, torch.ones(1, 1, 3)), eye) for r in (500.0, 1000.0))
    assert torch.allclose(near, 4 * far, rtol=2e-3)
    directed = shade(maps, directional(UP[None, None], torch.ones(1, 1, 3)), eye)
    assert torch.allclose(far * 1e6, directed, rtol=2e-3)  # texels are 1/1000 of the distance apart


def directions(count: int) -> tuple[Tensor, Tensor]:
    """Midpoints (count^2, 3) over the hemisphere, denser towards its pole, and the solid angle of each."""
    step = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    u, azimuth = (each.flatten() for each in torch.meshgrid(step, 2 * math.pi * step, indexing="ij"))
    z = 1 - u**2
    flat_part = (1 - z**2).sqrt()
    return torch.stack([flat_part * azimuth.cos(), flat_part * azimuth.sin(), z], -1), 4 * math.pi * u / count**2


def reflected(albedo: float, roughness: float, metallic: float, light: Tensor, view: Tensor) -> Tensor:
    """`brdf` of a flat surface for N pairs of directions (N, 3)."""
    values = (torch.full((1, 1, 1), level, dtype=torch.float64) for level in (roughness, metallic))
    grey = torch.full((3, 1, 1), albedo, dtype=torch.float64)
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)[:, None, None]
    return brdf(grey, *values, up, light.T[:, None], view.T[:, None])[0, 0]


@pytest.mark.parametrize("roughness", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("tilt", [0.0, 45.0, 85.0])
def test_no_surface_sends_out_more_than_comes_in(roughness: float, tilt: float) -> None:
    light, solid = directions(400)
    angle = torch.deg2rad(torch.tensor(tilt, dtype=torch.float64))
    view = torch.stack([angle.sin(), angle.new_zeros(()), angle.cos()]).expand_as(light)
    metal = (reflected(1.0, roughness, 1.0, light, view) * solid).sum().item()
    assert metal <= 1.001
    if roughness == 0.2 and tilt < 80:
        assert metal > 0.98  # nearly a mirror: nothing is lost either
    black = (reflected(0.0, roughness, 0.0, light, view) * solid).sum().item()
    assert 0 < black < metal


@pytest.mark.parametrize("metallic", [0.0, 0.4, 1.0])
def test_light_and_eye_can_be_exchanged(metallic: float) -> None:
    generator = torch.Generator().manual_seed(1)
    light, view = (F.normalize(torch.rand(2, 50, 3, generator=generator, dtype=torch.float64) + 0.01, dim=-1)).unbind()
    there = reflected(0.6, 0.3, metallic, light, view) / light[:, 2]
    back = reflected(0.6, 0.3, metallic, view, light) / view[:, 2]
    assert torch.allclose(there, back, rtol=1e-9)


def test_light_from_below_gives_nothing() -> None:
    maps = flat(0.8, 0.3, 0.5)
    maps["normal"] = F.normalize(torch.tensor([1.0, 0, 0.2]), dim=0)[:, None, None].expand(1, 3, 4, 4)
    below = directional(
        torch.tensor([[[1.0, 0, -0.1]]]), torch.ones(1, 1, 3)
    )  # the facet would see it, the plane hides
    assert (shade(maps, below, torch.tensor([[0.0, 0, 2]])) == 0).all()


# --- conventions --------------------------------------------------------------------------------------------------


def bump(size: int = 32) -> Tensor:
    """(1, 3, H, W) normals of a round hill in the middle, y up, row 0 at the top."""
    x, y, _ = texel_positions(size, size, torch.zeros(1))[0]
    height = torch.exp(-8 * (x**2 + y**2))
    return F.normalize(torch.stack([16 * x * height, 16 * y * height, torch.ones_like(x)])[None] * 0.2, dim=1)


def test_light_from_the_top_brightens_the_upper_slope_and_flipped_green_the_lower() -> None:
    maps = flat(0.5, 0.7, 0.0, size=32) | {"normal": bump()}
    top = directional(torch.tensor([[[0.0, 1, 1]]]), torch.ones(1, 1, 3))
    right = directional(torch.tensor([[[1.0, 0, 1]]]), torch.ones(1, 1, 3))
    eye = UP[None, :, None, None]
    lit = shade(maps, top, eye)[0, 0]
    assert lit[8:16, 16].mean() > 1.5 * lit[16:24, 16].mean()
    green = maps["normal"] * torch.tensor([1.0, -1, 1])[:, None, None]
    assert torch.allclose(shade(maps | {"normal": green}, top, eye)[0, 0], lit.flip(0), rtol=1e-4)
    lit = shade(maps, right, eye)[0, 0]
    assert lit[16, 16:24].mean() > 1.5 * lit[16, 8:16].mean()


def test_texels_lie_where_the_world_says() -> None:
    positions = texel_positions(2, 4, torch.zeros(1, dtype=torch.float64))
    assert positions.dtype == torch.float64
    assert positions[0, :, 0, 0].tolist() == [-0.75, 0.25, 0]
    assert positions[0, :, 1, 3].tolist() == [0.75, -0.25, 0]


def test_light_adds_up_and_batches_broadcast() -> None:
    maps, lights = surface(), mixed()
    eye = torch.tensor([[0.5, -0.3, 2.0]])
    both = shade(maps, lights, eye)
    parts = [
        shade(
            maps, Lights(lights.position[:, n : n + 1], lights.is_point[:, n : n + 1], lights.color[:, n : n + 1]), eye
        )
        for n in range(2)
    ]
    assert torch.allclose(both, parts[0] + parts[1], rtol=1e-5, atol=1e-7)
    one = {name: value[1:] for name, value in maps.items()}
    assert torch.allclose(shade(one, lights, eye)[1], both[1], rtol=1e-6)
    assert torch.allclose(shade(maps, join(lights[1], lights[1]), eye)[1], 2 * both[1], rtol=1e-5)


def test_directions_to_an_eye_far_away_match_its_position() -> None:
    maps, lights = surface(), mixed()
    eye = torch.tensor([[600.0, 200, 1500]])
    near = shade(maps, lights, eye)
    assert torch.allclose(shade(maps, lights, eye[:, :, None, None]), near, rtol=1e-2, atol=1e-4)
    everywhere = (eye[:, :, None, None] - texel_positions(6, 9, eye)).expand(2, -1, -1, -1)
    assert torch.allclose(shade(maps, lights, everywhere), near, rtol=1e-4, atol=1e-6)


# --- supersampling ------------------------------------------------------------------------------------------------


def test_supersampling_a_constant_changes_nothing() -> None:
    maps, eye = flat(0.4, 0.5, 0.2), UP[None, :, None, None]
    lights = directional(torch.tensor([[[0.3, 0.2, 1]]]), torch.ones(1, 1, 3))
    assert torch.allclose(shade_supersampled(maps, lights, eye), shade(maps, lights, eye), rtol=1e-5)


def test_supersampling_is_shading_of_interpolated_maps_averaged() -> None:
    maps, lights, eye = surface(batch=2), mixed(), torch.tensor([[0.5, -0.3, 2.0]])
    assert torch.allclose(shade_supersampled(maps, lights, eye, factor=1), shade(maps, lights, eye), rtol=1e-4)
    fine = {name: F.interpolate(value, scale_factor=3, mode="bilinear") for name, value in maps.items()}
    fine["normal"] = F.normalize(fine["normal"], dim=1)
    light = F.interpolate(srgb_to_linear(maps["albedo"]), scale_factor=3, mode="bilinear")
    fine["albedo"] = linear_to_srgb(light)
    whole = shade(fine, lights, eye).unflatten(-1, (-1, 3)).unflatten(-3, (-1, 3)).mean((-1, -3))
    assert torch.allclose(shade_supersampled(maps, lights, eye, factor=3), whole, rtol=1e-4, atol=1e-6)


# --- gradients ----------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    maps, lights = surface(2, 3, dtype=torch.float64), mixed()
    maps["roughness"][0, 0, 0, 0] = 0.05
    maps["albedo"][0, :, 0, 1] = 1e-3
    eye = torch.tensor([[0.5, -0.3, 2.0]], dtype=torch.float64)

    def log_radiance(albedo, roughness, metallic, slope, position, color, eye) -> Tensor:
        normal = F.normalize(torch.cat([slope, torch.ones_like(slope[:, :1])], 1), dim=1)
        material = {"albedo": albedo, "roughness": roughness, "metallic": metallic, "normal": normal}
        return (shade(material, Lights(position, lights.is_point, color), eye) + 0.1).log().sum()

    slope = maps["normal"][:, :2] / maps["normal"][:, 2:]
    inputs = [maps["albedo"], maps["roughness"], maps["metallic"], slope]
    inputs += [lights.position.double(), lights.color.double(), eye]
    inputs = [value.clone().requires_grad_() for value in inputs]
    gradients = torch.autograd.grad(log_radiance(*inputs), inputs)
    generator = torch.Generator().manual_seed(2)
    for number, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        for _ in range(3):
            step = 1e-6 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
            ends = ([*inputs[:number], value + sign * step, *inputs[number + 1 :]] for sign in (1, -1))
            up, down = (log_radiance(*end).item() for end in ends)
            assert (gradient * step).sum().item() == pytest.approx((up - down) / 2, rel=1e-4), number


def test_gradients_stay_finite_where_the_formula_is_delicate() -> None:
    """Every pair of: mirror to matt, black to white, square to beyond the horizon, with the highlight in sight."""
    levels = torch.tensor([0.0, 1e-3, 0.5, 1.0])
    roughness = torch.tensor([0.0, LEAST_ROUGHNESS, 0.05, 1.0])
    slope = torch.tensor([0.0, 0.7, 3.0, 1e4])
    albedo, rough, metal, lean = (
        each.reshape(1, 1, 16, 16) for each in torch.meshgrid(levels, roughness, levels, slope, indexing="ij")
    )
    normal = F.normalize(torch.cat([lean, torch.zeros_like(lean), torch.ones_like(lean)], 1), dim=1)
    maps = {"albedo": albedo.expand(-1, 3, -1, -1).clone(), "roughness": rough, "metallic": metal, "normal": normal}
    maps = {name: value.clone().requires_grad_() for name, value in maps.items()}
    for eye in ([0.0, 0, 1.5], [-3.0, 0, 0.01], [3.0, 0, 0.01]):
        for light in ([0.0, 0, 1.5], [3.0, 0, 0.01], [-3.0, 0, 0.01]):
            lights = point(torch.tensor([[light]]), torch.ones(1, 1, 3))
            radiance = shade(maps, lights, torch.tensor([eye]))
            assert radiance.isfinite().all() and (radiance >= 0).all()
            gradients = torch.autograd.grad((radiance + 0.1).log().sum(), list(maps.values()))
            assert all(gradient.isfinite().all() for gradient in gradients), (eye, light)
    lit = shade(maps, point(torch.tensor([[[0.5, 0, 1.5]]]), torch.ones(1, 1, 3)), torch.tensor([[0.0, 0, 1.5]]))
    gradients = torch.autograd.grad(lit.sum(), list(maps.values()))
    assert all((gradient != 0).any() for gradient in gradients)


def test_gradients_do_not_depend_on_whether_lights_come_together() -> None:
    maps = {name: value.requires_grad_() for name, value in surface().items()}
    lights, eye = mixed(), torch.tensor([[0.5, -0.3, 2.0]])
    together = torch.autograd.grad(shade(maps, lights, eye).sum(), list(maps.values()))
    singles = [Lights(lights.position[:, [n]], lights.is_point[:, [n]], lights.color[:, [n]]) for n in range(2)]
    apart = torch.autograd.grad(sum(shade(maps, one, eye).sum() for one in singles), list(maps.values()))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(together, apart, strict=True))


@pytest.mark.parametrize("near", [True, False])
def test_what_is_kept_for_the_way_back_does_not_grow_with_the_lights(near: bool) -> None:
    maps = {name: value.requires_grad_() for name, value in surface(64, 64, 1).items()}

    def kept(count: int) -> int:
        """Bytes that the graph holds on to, each storage once."""
        position = torch.tensor([[[0.0, 0.6, 0.8]]]).expand(1, count, 3)
        lights = Lights(position, torch.full((1, count), near), torch.ones(1, count, 3))
        storages, pending = {}, [shade(maps, lights, torch.tensor([[0.0, 0, 2]])).grad_fn]
        while pending:
            node = pending.pop()
            saved = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
            for value in [*saved, *getattr(node, "saved_tensors", ())]:
                if isinstance(value, Tensor):
                    storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            pending += [parent for parent, _ in node.next_functions if parent is not None]
        return sum(storages.values())

    channel = 64 * 64 * 4
    assert kept(1) > 20 * channel  # one light alone is not computed twice
    assert kept(20) < kept(2) + channel


# --- what is refused ----------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named() -> None:
    maps, lights, eye = surface(), mixed(), torch.tensor([[0.0, 0, 2]])
    without = {name: value for name, value in maps.items() if name != "normal"}
    with pytest.raises(ValueError, match="missing: normal"):
        shade(without, lights, eye)
    with pytest.raises(ValueError, match=re.escape("roughness (2, 3, 6, 9)")):
        shade(maps | {"roughness": maps["albedo"]}, lights, eye)
    with pytest.raises(ValueError, match="eye must be"):
        shade(maps, lights, torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="maps 2, lights 2, eye 3"):
        shade(maps, lights, torch.ones(3, 3))
    with pytest.raises(ValueError, match="supersampling must be 1 or more, got 0"):
        shade_supersampled(maps, lights, eye, factor=0)


def test_a_glossy_surface_shows_a_sky_of_few_wide_lights_as_one_of_many():
    """Without their width the few would show as stars."""
    rows = torch.linspace(1, 0.2, 16)[None, :, None].expand(3, 16, 32)
    bump = torch.linspace(-0.3, 0.3, 24)
    normal = torch.stack([bump.expand(24, 24), bump[:, None].expand(24, 24), torch.ones(24, 24)])[None]
    maps = {
        "albedo": torch.full((1, 3, 24, 24), 0.8),
        "roughness": torch.full((1, 1, 24, 24), 0.15),
        "metallic": torch.ones(1, 1, 24, 24),
        "normal": F.normalize(normal, dim=1),
    }
    eye = torch.tensor([[0.2, 0.1, 3.0]])
    few, many = environment(rows, 36), environment(rows, 2048)
    stars = replace(few, radius=torch.zeros(()))
    truth = shade(maps, many, eye)
    soft, hard = ((shade(maps, light, eye) - truth).abs().mean() / truth.mean() for light in (few, stars))
    assert soft < 0.13 and soft < hard / 8, (soft, hard)
