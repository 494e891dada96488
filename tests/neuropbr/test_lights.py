import math

import pytest
import torch
from torch import Tensor

from hubmodels.neuropbr.lights import (
    LUMINANCE,
    Lights,
    batch,
    directional,
    environment,
    flash,
    flashed,
    join,
    mean_direction,
    plane_irradiance,
    point,
    rendering_configurations,
    room_lights,
    side_lit,
    unseen,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def panorama(height: int = 24, width: int = 48) -> Tensor:
    """Smooth enough for cells of 11 degrees, different in every direction and channel."""
    polar = (torch.arange(height) + 0.5)[:, None] * (math.pi / height)
    azimuth = (torch.arange(width) + 0.5) * (2 * math.pi / width)
    return torch.stack(
        [
            2 + polar.cos() * torch.ones(width),
            2 + polar.sin() * azimuth.sin(),
            2 + polar.sin() * azimuth.cos(),
        ]
    )


def integrated_irradiance(picture: Tensor, normal: list[float], fine: int = 8) -> list[float]:
    """By brute force: every pixel of the upper half in `fine`^2 parts, its radiance times cosine times solid angle."""
    _, height, width = picture.shape
    total = [0.0] * 3
    for i in range(height * fine):
        polar = (i + 0.5) * math.pi / (height * fine)
        if polar > math.pi / 2:
            break
        for u in range(width * fine):
            # the centre column looks at +y, right of it lies +x
            azimuth = ((u + 0.5) / (width * fine) - 0.5) * 2 * math.pi
            direction = (math.sin(polar) * math.sin(azimuth), math.sin(polar) * math.cos(azimuth), math.cos(polar))
            cosine = max(0.0, sum(a * b for a, b in zip(normal, direction, strict=True)))
            solid = math.sin(polar) * math.pi / (height * fine) * 2 * math.pi / (width * fine)
            for c in range(3):
                total[c] += cosine * solid * float(picture[c, i // fine, u // fine])
    return total


def test_mean_direction_is_that_of_one_light_and_shorter_for_a_sky() -> None:
    toward = torch.tensor([0.6, 0, 0.8])
    colour = torch.tensor([[[5.0, 3.0, 1.0]]])
    torch.testing.assert_close(mean_direction(directional(toward.view(1, 1, 3), colour))[0], toward)
    torch.testing.assert_close(mean_direction(point(3 * toward.view(1, 1, 3), colour))[0], toward)
    # a far light and a point that gives the plane three times as much: irradiance is I cos / d^2
    white = torch.ones(1, 1, 3)
    other = torch.tensor([0.0, -0.6, 0.8])
    both = join(directional(toward.view(1, 1, 3), white), point(2 * other.view(1, 1, 3), 12 * white))
    torch.testing.assert_close(mean_direction(both)[0], (toward + 3 * other) / 4)
    # an even sky: the integral of cos^2 over that of cos, over the hemisphere, is 2/3
    sky = mean_direction(environment(torch.ones(3, 32, 64), 1024))[0]
    torch.testing.assert_close(sky, torch.tensor([0.0, 0.0, 2 / 3]), atol=5e-3, rtol=0)


@pytest.mark.parametrize("normal", [[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [0.0, 0.8, 0.6]])
def test_an_environment_lights_facets_like_its_integral(normal: list[float]) -> None:
    picture = panorama(12, 24)
    lights = environment(picture, 1024)
    cosine = (lights.position[0] @ torch.tensor(normal)).clamp(min=0)
    irradiance = (lights.color[0] * cosine[:, None]).sum(0)
    assert irradiance.tolist() == pytest.approx(integrated_irradiance(picture, normal, 4), rel=3e-3)


@pytest.mark.parametrize("size", [(2, 1), (7, 13), (64, 128)])
@pytest.mark.parametrize("count", [1, 256, 300])
def test_solid_angles_fill_the_half_sphere_exactly(size: tuple[int, int], count: int) -> None:
    lights = environment(torch.ones(3, *size), count)
    assert lights.is_point.shape[1] >= count and not lights.is_point.any()
    assert lights.color.sum(1)[0].tolist() == pytest.approx([2 * math.pi] * 3, rel=1e-6)
    assert torch.allclose(lights.position.norm(dim=-1), torch.tensor(1.0))
    assert (lights.position[..., 2] > 0).all()
    # the mean of all directions of a half sphere is half-way up, whatever the grid
    if count > 1:
        mean = (lights.position * lights.color).sum(1)[0] / (2 * math.pi)
        assert mean.tolist() == pytest.approx([0, 0, 0.5], abs=5e-3)


def test_a_small_sun_stays_in_its_place() -> None:
    picture = torch.full((3, 64, 128), 0.01)
    picture[:, 17, 101] = 5000
    lights = environment(picture, 64)
    sun = lights.color[0, :, 0].argmax()
    polar, azimuth = 17.5 * math.pi / 64, (101.5 / 128 - 0.5) * 2 * math.pi
    toward = [math.sin(polar) * math.sin(azimuth), math.sin(polar) * math.cos(azimuth), math.cos(polar)]
    assert lights.position[0, sun].tolist() == pytest.approx(toward, abs=2e-3)
    solid = (math.cos(17 * math.pi / 64) - math.cos(18 * math.pi / 64)) * 2 * math.pi / 128
    assert lights.color[0, sun, 0].item() == pytest.approx(5000 * solid, rel=0.01)


def test_a_panorama_is_the_right_way_round() -> None:
    picture = torch.zeros(3, 8, 16)
    picture[0, :4, 8] = 1  # just right of the centre: +y, a little to +x
    picture[1, :4, 11:13] = 1  # a quarter to the right: +x
    picture[2, 4:] = 1  # below the horizon
    lights = environment(picture, 256)
    red, green, blue = lights.color[0].unbind(-1)
    front, right = ((weight[:, None] * lights.position[0]).sum(0) / weight.sum() for weight in (red, green))
    assert front[1] > 0.5 and 0 < front[0] < 0.2
    assert right[0] > 0.5 and abs(right[1]) < 0.02
    assert blue.sum() == 0


def test_turning_the_environment_is_rolling_the_panorama() -> None:
    picture = panorama(16, 32)
    # the panorama moves to the left when what it shows moves counterclockwise, seen from above
    rolled = environment(picture.roll(-3, 2), 256)
    turned = environment(picture, 256, rotation=3 * 2 * math.pi / 32)
    find = torch.cdist(turned.position[0], rolled.position[0]).argmin(1)
    assert torch.allclose(rolled.position[0, find], turned.position[0], atol=1e-5)
    assert torch.allclose(rolled.color[0, find], turned.color[0], rtol=1e-4)


def test_negative_pixels_count_as_black() -> None:
    picture = panorama()
    broken = picture.clone()
    picture[:, 3, 5], broken[:, 3, 5] = 0, -4000
    assert torch.equal(environment(broken).color, environment(picture).color)
    black = environment(torch.zeros(3, 4, 8), 16)
    assert black.position.isfinite().all() and (black.color == 0).all()


def test_irradiance_by_hand() -> None:
    lights = join(
        point(torch.tensor([[[0.0, 0, 2]]]), torch.tensor([[[4.0, 8, 12]]])),
        directional(torch.tensor([[[3.0, 0, 3]]]), torch.ones(1, 1, 3)),
        directional(torch.tensor([[[1.0, 0, -1]]]), torch.ones(1, 1, 3)),
        flash(torch.tensor([[3.0, 0, 4]]), torch.full((1, 3), 25.0)),
    )
    slanted = math.sqrt(0.5) + 0.8
    assert plane_irradiance(lights)[0].tolist() == pytest.approx([1 + slanted, 2 + slanted, 3 + slanted])
    assert plane_irradiance(lights.scaled(2.0))[0, 0].item() == pytest.approx(2 + 2 * slanted)


def test_batches_of_lights_keep_each_set() -> None:
    short, long = room_lights(seeded(0)), environment(panorama(), 400)
    both = batch([short, long])
    assert len(both) == 2
    for row, lights in enumerate((short, long)):
        assert torch.allclose(plane_irradiance(both)[row], plane_irradiance(lights)[0], rtol=1e-5)
        assert torch.allclose(plane_irradiance(both[row])[0], plane_irradiance(lights)[0], rtol=1e-5)
    assert torch.equal(both[-1].position, both[1].position)


def test_room_lights_are_a_pure_function_of_the_generator_and_vary() -> None:
    counts = set()
    for seed in range(40):
        lights, again = room_lights(seeded(seed)), room_lights(seeded(seed))
        assert torch.equal(lights.position, again.position) and torch.equal(lights.color, again.color)
        assert luminance(lights) == pytest.approx(math.pi, rel=1e-4)
        assert (lights.color >= 0).all() and (lights.position[..., 2] > 0).all()
        counts.add(int(lights.is_point.sum()))
    assert counts == {0, 1, 2, 3}


def test_a_flash_is_at_the_camera_and_outshines_the_room_by_one_to_sixteen_times() -> None:
    eye, shares = torch.tensor([0.3, -0.2, 2.0]), []
    for seed in range(40):
        room = room_lights(seeded(seed)).scaled(seed + 1)
        both = flashed(room, eye, seeded(seed))
        assert torch.equal(both.position[:, :-1], room.position) and torch.equal(both.color[:, :-1], room.color)
        assert torch.equal(both.position[0, -1], eye) and both.is_point[0, -1]
        shares.append(luminance(both) / luminance(room) - 1)
    assert 1 <= min(shares) < 1.5 and 12 < max(shares) <= 16.01


def test_a_lamp_at_one_side_is_low_and_all_around() -> None:
    elevations, azimuths, shares = [], [], []
    for seed in range(40):
        room = room_lights(seeded(seed))
        both = side_lit(room, seeded(seed))
        assert torch.equal(both.position[:, :-1], room.position) and both.is_point[0, -1]
        x, y, z = both.position[0, -1].tolist()
        elevations.append(math.degrees(math.atan2(z, math.hypot(x, y))))
        azimuths.append(math.degrees(math.atan2(y, x)) % 360)
        shares.append(luminance(both) / luminance(room) - 1)
        assert 1.5 <= math.dist((x, y, z), (0, 0, 0)) <= 4
    assert 15 <= min(elevations) < 20 and 50 < max(elevations) <= 55
    assert all(any(low <= azimuth < low + 90 for azimuth in azimuths) for low in (0, 90, 180, 270))
    assert 1 <= min(shares) < 1.5 and 12 < max(shares) <= 16.01


def luminance(lights: Lights) -> float:
    return (plane_irradiance(lights)[0] * torch.tensor(LUMINANCE)).sum().item()


def test_unseen_lights_are_fixed_and_come_from_all_around() -> None:
    lights = unseen(8)
    assert lights.is_point.shape == (8, 1) and lights.is_point.sum() == 4
    assert torch.allclose(plane_irradiance(lights), torch.tensor(math.pi), rtol=1e-5)
    assert torch.equal(lights.position, unseen(8).position)
    unit = lights.position[:, 0] / lights.position[:, 0].norm(dim=-1, keepdim=True)
    apart = (unit @ unit.T - 2 * torch.eye(8)).max()
    assert apart < math.cos(math.radians(25))
    assert unit[:, :2].mean(0).norm() < 0.2


def test_mirrored_configurations_see_a_highlight_and_free_ones_need_not() -> None:
    configurations = rendering_configurations(seeded(3), surfaces=5)
    assert len(configurations) == 9
    for number, (lights, eye) in enumerate(configurations):
        light = lights.position[:, 0]
        assert lights.is_point.shape == (5, 1) and lights.is_point.all() and eye.shape == (5, 3)
        assert (light[:, 2] > 0).all() and (eye[:, 2] > 0).all()
        # where the line from the light's mirror image below the plane to the eye meets the plane
        mirrored = light * torch.tensor([1.0, 1, -1])
        share = light[:, 2] / (light[:, 2] + eye[:, 2])
        spot = mirrored + share[:, None] * (eye - mirrored)
        assert torch.allclose(spot[:, 2], torch.zeros(5), atol=1e-5)
        if number >= 3:
            assert (spot[:, :2].abs() <= 1 + 1e-4).all()
            distance2 = (light - spot).square().sum(-1)
            assert torch.allclose(lights.color[:, 0, 0] / distance2, torch.tensor(math.pi), rtol=1e-3)
    again = rendering_configurations(seeded(3), surfaces=5)
    assert torch.equal(configurations[7][1], again[7][1])
    assert not torch.equal(configurations[7][1], configurations[8][1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: environment(torch.ones(1, 4, 8)), "must be \\(3, H, W\\)"),
        (lambda: environment(torch.full((3, 4, 8), math.nan)), "NaN or infinity"),
        (lambda: environment(torch.ones(3, 4, 8), 0), "at least one light"),
        (lambda: Lights(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, 1, 3)), "color"),
        (lambda: Lights(torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool), torch.zeros(2, 3)), "\\(B, L, 3\\)"),
    ],
)
def test_what_is_no_light_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
