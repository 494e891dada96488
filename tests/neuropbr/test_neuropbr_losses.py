"""Losses of maps against closed forms, and the discriminator's."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from hubmodels.images import linear_to_srgb
from hubmodels.neuropbr.data import MAPS
from hubmodels.neuropbr.discriminator import (
    Discriminator,
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
)
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


def test_gan_losses_in_closed_form() -> None:
    real, made = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert float(discriminator_loss(real, made, "hinge")) == pytest.approx(0.25 + 0.75)
    expected = (F.softplus(-real) + F.softplus(made)).mean()
    assert float(discriminator_loss(real, made, "bce")) == pytest.approx(float(expected))
    assert float(generator_loss(made, "hinge")) == 0.75
    assert float(generator_loss(made, "bce")) == pytest.approx(float(F.softplus(-made).mean()))
    assert float(feature_matching([torch.zeros(2), torch.ones(3)], [torch.ones(2), torch.ones(3)])) == 0.5


@pytest.mark.parametrize(("layers", "field"), [(3, 70), (4, 142)])
def test_a_patch_sees_as_far_as_it_says(layers: int, field: int) -> None:
    """One pixel of the maps changes the scores of the patches within the field, and no others (no norm in the way)."""
    torch.manual_seed(0)
    judge = Discriminator(layers, 8)
    judge.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in judge.norms)
    size = 2 * field + 32
    maps = {name: torch.rand(1, 3 if name in ("albedo", "normal") else 1, size, size) for name in MAPS}
    photo = torch.rand(1, 3, size, size).requires_grad_()
    scores, _ = judge(maps, photo)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    rows = photo.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field


def test_a_discriminator_learns_to_tell_and_its_penalty_is_the_gradient() -> None:
    torch.manual_seed(0)
    judge = Discriminator(3, 8)
    sizes = {"albedo": 3, "roughness": 1, "metallic": 1, "normal": 3}
    real = {name: torch.full((2, c, 64, 64), 0.8) for name, c in sizes.items()}
    made = {name: torch.full((2, c, 64, 64), 0.2) for name, c in sizes.items()}
    photo = torch.rand(2, 3, 64, 64)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
    for _ in range(30):
        loss = discriminator_loss(judge(real, photo)[0], judge(made, photo)[0], "hinge")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    gentle = gradient_penalty(judge, real, photo)
    for weight in (judge.convs[-1].weight, judge.convs[-1].bias):
        weight.data *= 2
    assert gradient_penalty(judge, real, photo).item() == pytest.approx(4 * gentle.item(), rel=1e-3)
    gradient_penalty(judge, real, photo).backward()


def test_the_penalty_of_a_linear_discriminator_is_its_weights() -> None:
    """Scores w . x: the gradient is w in each pixel of each map, whatever the maps are."""

    class Linear(torch.nn.Module):
        def forward(self, maps, photo):
            total = 2 * maps["albedo"].sum((1, 2, 3)) - 3 * maps["metallic"].sum((1, 2, 3))
            return total + 0 * maps["roughness"].sum((1, 2, 3)) + 0 * maps["normal"].sum((1, 2, 3)), []

    sizes = {"albedo": 3, "roughness": 1, "metallic": 1, "normal": 3}
    maps = {name: torch.rand(2, channels, 5, 7) for name, channels in sizes.items()}
    penalty = gradient_penalty(Linear(), maps | {"seen": torch.ones(2)}, torch.rand(2, 3, 5, 7))  # type: ignore
    assert float(penalty) == pytest.approx(35 * (3 * 4 + 9))
    assert all(one.grad is None and not one.requires_grad for one in maps.values())


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


def test_layers_are_from_three_to_six() -> None:
    with pytest.raises(ValueError, match="from 3 to 6 layers, got 2"):
        Discriminator(2)


@pytest.mark.parametrize("layers", [3, 4, 5])
def test_a_patch_needs_three_pixels_after_the_strides(layers: int) -> None:
    judge = Discriminator(layers, 8)
    side = 3 * 2**layers
    maps = {name: torch.rand(1, 3 if name in ("albedo", "normal") else 1, side, side) for name in MAPS}
    assert judge(maps, torch.rand(1, 3, side, side))[0].shape == (1, 1, 1, 1)
