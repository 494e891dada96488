"""Losses of maps against closed forms."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from hubmodels.images import linear_to_srgb
from hubmodels.neuropbr.data import MAPS
from hubmodels.neuropbr.lights import directional, rendering_configurations
from hubmodels.neuropbr.losses import Weights, absolute, angular, balanced, dissimilar, misplaced, rerendered, terms
from hubmodels.neuropbr.procedural import make
from hubmodels.neuropbr.shading import shade


def test_absolute_and_angular() -> None:
    a, b = torch.full((1, 3, 2, 2), 0.25), torch.full((1, 3, 2, 2), 0.75)
    assert absolute(a, b) == 0.5
    up = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    lean = torch.tensor([math.sin(0.5), 0, math.cos(0.5)]).view(1, 3, 1, 1)
    assert float(angular(lean, up)) == pytest.approx(1 - math.cos(0.5), abs=1e-6)
    assert float(angular(2 * lean, lean)) == pytest.approx(0, abs=1e-6)


def test_misplaced_counts_photos_whose_light_is_known() -> None:
    true = torch.tensor([[[0.0, 0, 1], [0, 0, 0]], [[0.6, 0, 0.8], [0, 0.6, 0.8]]])
    assert float(misplaced(torch.zeros_like(true), true)) == pytest.approx(1)
    assert float(misplaced(true + torch.tensor([0.3, 0, 0.4]), true)) == pytest.approx(0.25)
    unknown = true.clone()
    unknown[0, 1] = 7
    assert float(misplaced(unknown, true)) == 0 == float(misplaced(unknown, 0 * true))


def test_balanced_counts_a_little_metal_as_much_as_all_the_rest() -> None:
    true = torch.zeros(1, 1, 10, 10)
    true[..., 0, :3] = 1
    assert float(balanced(torch.zeros_like(true), true)) == pytest.approx(0.5, abs=1e-5)
    assert float(balanced(torch.ones_like(true), true)) == pytest.approx(0.5, abs=1e-5)
    assert float(balanced(torch.full_like(true, 0.2), torch.zeros_like(true))) == pytest.approx(0.2, abs=1e-5)
    assert float(balanced(true, true)) == 0


def test_dissimilar_is_one_minus_ssim_of_scikit_image() -> None:
    a = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    b = (a + 0.1 * torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    _, full = structural_similarity(
        a[0].numpy(),
        b[0].numpy(),
        data_range=1,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    # scikit-image mirrors the edge pixel too: the inside is what must agree
    ours = 1 - float(dissimilar(a, b))
    assert ours == pytest.approx(float(full.mean()), abs=5e-3)
    assert float(dissimilar(a, a)) == pytest.approx(0, abs=1e-5)


def test_rerendered_sees_what_shows_and_has_gradients_for_every_map() -> None:
    true = {name: make(4, 24).maps[name][None] for name in MAPS}
    seen = rendering_configurations(torch.Generator().manual_seed(0), 1)
    assert [float(one) for one in rerendered(true, true, seen)] == [0, 0]
    for name in MAPS:
        moved = F.normalize(true[name] + 0.3, dim=1) if name == "normal" else (true[name] * 0.5 + 0.3)
        for number, least in ((0, 1e-3), (1, 1e-5)):
            made = {**true, name: moved.clone().requires_grad_()}
            loss = rerendered(made, true, seen)[number]
            loss.backward()
            assert loss > least and made[name].grad.abs().max() > 0, name


def test_the_picture_of_a_matt_plane_in_closed_form() -> None:
    """Under a lamp straight above, far away, a rough dark plane shows its albedo and what it reflects of the lamp."""
    plane = {name: torch.full((1, channels, 4, 4), 0.5) for name, channels in zip(MAPS, (3, 1, 1, 3), strict=True)}
    plane |= {"normal": torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)}
    other = plane | {"albedo": torch.full((1, 3, 4, 4), 0.6)}
    up = torch.tensor([[[0.0, 0, 1]]])
    seen = [(directional(up, torch.full((1, 1, 3), strength)), up.view(1, 3, 1, 1)) for strength in (1.0, 2.0)]
    squared = [
        (linear_to_srgb(shade(plane, *one).clamp(0, 1)) - linear_to_srgb(shade(other, *one).clamp(0, 1))).square()
        for one in seen
    ]
    expected = torch.stack(squared).mean()
    torch.testing.assert_close(rerendered(plane, other, seen)[1], expected)


def test_terms_are_weighted_one_by_one() -> None:
    batch = {name: make(4, 24).maps[name][None] for name in MAPS} | {"light": torch.tensor([[[0.6, 0, 0.8]]])}
    made = {name: one.flip(-1) for name, one in batch.items()}
    lit = rendering_configurations(torch.Generator().manual_seed(0), 1, 1, 1)
    plain = terms(Weights(), made, batch, lit)
    names = {"albedo": "albedo", "roughness": "roughness", "metallic": "metallic", "normal_map": "normal_map"}
    names |= {name: name for name in ("ssim", "normal", "render", "picture", "light")}
    assert set(plain) == set(names) and all(value > 0 for value in plain.values())
    for weight, term in names.items():
        changed = terms(replace(Weights(), **{weight: 3 * getattr(Weights(), weight)}), made, batch, lit)
        for name, value in changed.items():
            torch.testing.assert_close(value, plain[name] * (3 if name == term else 1), msg=f"{weight}: {name}")
    halved = terms(Weights(l1=0.5), made, batch, lit)
    ratios = {name: float(halved[name] / plain[name]) for name in plain}
    expected = {name: 0.5 if name in ("albedo", "roughness", "metallic", "normal_map") else 1.0 for name in plain}
    assert ratios == pytest.approx(expected)
    assert all(float(value) == pytest.approx(0, abs=1e-5) for value in terms(Weights(), batch, batch, lit).values())
