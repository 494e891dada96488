"""From light to photo against closed forms: coding, gains, noise, blur and dirt."""

import math
from dataclasses import replace

import pytest
import torch

from hubmodels.images import linear_to_srgb, srgb_to_linear
from hubmodels.neuropbr.photos import (
    USUAL,
    Development,
    Dirt,
    blurred,
    develop,
    dirt,
    metered,
    scratches,
    shadow,
    snapshot,
    soiled,
)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_a_photo_is_srgb_in_8_bits(value: float) -> None:
    photo = develop(torch.full((3, 4, 6), value), Development(), random())
    expected = linear_to_srgb(torch.tensor(value))
    assert (photo - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal((photo * 255).round() / 255, photo)


def test_exposure_white_balance_and_vignette_are_gains_of_light() -> None:
    photo = develop(torch.full((3, 5, 5), 0.2), Development(2.0, 1.1, 0.9, 0.5), random())
    light = srgb_to_linear(photo)
    for channel, gain in enumerate((1.1, 1, 0.9)):
        assert light[channel, 2, 2] == pytest.approx(0.4 * gain, abs=4e-3)
        assert light[channel, 0, 0] == pytest.approx(0.4 * gain * 0.5, abs=4e-3)
    assert develop(torch.full((3, 2, 2), 0.2), Development(100.0), random()).min() == 1


def test_noise_has_the_stated_size() -> None:
    how = Development(shot=0.05, read=0.02)
    light = srgb_to_linear(develop(torch.full((3, 200, 200), 0.25), how, random()))
    assert float(light.std()) == pytest.approx(math.sqrt(0.05**2 * 0.25 + 0.02**2), rel=0.03)
    assert float(light.mean()) == pytest.approx(0.25, abs=1e-3)


def test_blur_is_a_gaussian() -> None:
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    spot = blurred(point, 3.0)[0]
    at = torch.arange(41) - 20
    assert float(spot.sum()) == pytest.approx(1, abs=1e-5)
    assert float((spot.sum(0) * at**2).sum()) == pytest.approx(9, rel=0.04)
    torch.testing.assert_close(blurred(torch.full((2, 9, 9), 0.3), 2.0), torch.full((2, 9, 9), 0.3))


def test_jpeg_hurts_more_the_lower_its_quality() -> None:
    light = torch.rand(3, 64, 64, generator=random()) * 0.5
    clean = develop(light, Development(), random())
    errors = [(develop(light, Development(jpeg=quality), random()) - clean).abs().mean() for quality in (95, 60, 20)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_a_metered_photo_is_half_way_between_a_set_and_an_automatic_exposure() -> None:
    surface = torch.rand(3, 32, 32, generator=random())
    mean = float(surface[:, 8:24, 8:24].mean())
    for level in (0.001, 1.0, 50.0):  # the light: twice as much of it, half the exposure
        exposure = metered(level * surface, level * math.pi)
        assert exposure * level * mean == pytest.approx(0.35 * math.sqrt(mean / USUAL), rel=1e-4)
    black, white = (metered(surface / mean * level) * level for level in (USUAL / 4, USUAL * 4))
    assert white / black == pytest.approx(4, rel=1e-4)  # 16 with a set exposure, 1 with an automatic one
    assert metered(surface / mean * USUAL) * USUAL == pytest.approx(0.35, rel=1e-4)


def test_shots_stay_in_their_ranges() -> None:
    shots = [snapshot(random(seed), 2.0) for seed in range(200)]
    assert all(2 * 2**-0.7 <= s.exposure <= 2 * 2**0.7 and 70 <= s.jpeg <= 98 and s.vignette <= 0.3 for s in shots)
    assert len({s.exposure for s in shots}) == 200 and snapshot(random(3)) == snapshot(random(3))


def test_dirt_comes_as_often_as_it_says() -> None:
    many = [dirt(random(seed)) for seed in range(2000)]
    share = {name: sum(getattr(d, name) > 0 for d in many) / 2000 for name in ("shadow", "smudge", "scratch")}
    assert share["shadow"] == pytest.approx(0.75, abs=0.03)
    assert share["smudge"] == share["scratch"] == pytest.approx(0.6, abs=0.03)
    assert sum(d.severity == 0 for d in many) / 2000 == pytest.approx(0.1, abs=0.02)


def test_dirt_changes_a_photo_by_its_severity_and_clean_not_at_all() -> None:
    photo = torch.rand(3, 64, 96, generator=random())
    assert torch.equal(soiled(photo, Dirt(), random()), photo)
    assert torch.equal(shadow(64, 96, 0.0, random()), torch.ones(1, 64, 96))
    for name in ("smudge", "scratch"):
        mild, heavy = ((soiled(photo, replace(Dirt(), **{name: s}), random()) - photo).abs().mean() for s in (0.2, 1.0))
        assert 0 < mild < heavy
    shade = shadow(64, 96, 1.0, random())
    assert shade.shape == (1, 64, 96) and 0.149 <= shade.min() < 0.5 and shade.max() == 1


def test_scratches_are_thin() -> None:
    lines = scratches(256, 256, 12, random())
    assert 0.002 < (lines.abs() > 0.05).float().mean() < 0.1
