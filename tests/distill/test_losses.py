"""The terms of the distillation loss against closed forms and an independent computation."""

import pytest
import torch
import torch.nn.functional as F

from hubmodels.distill.losses import perceptual, random_features, total_variation, weighted_mean


def test_a_constant_shift_costs_its_size_whatever_is_foreground() -> None:
    teacher = torch.rand(2, 3, 8, 8) * 2 - 1
    foreground = torch.rand(2, 8, 8) > 0.5
    for weight in (1.0, 5.0):
        difference = teacher + 0.3 - teacher
        assert weighted_mean(difference.abs(), foreground, weight).item() == pytest.approx(0.3, rel=1e-5)
        assert weighted_mean(difference.square(), foreground, weight).item() == pytest.approx(0.09, rel=1e-5)


def test_a_foreground_pixel_is_worth_several_by_hand() -> None:
    error = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 3, 2, 2)
    foreground = torch.tensor([[[True, False], [False, False]]])
    assert weighted_mean(error, foreground, 5.0).item() == pytest.approx((5 * 1 + 2 + 3 + 4) / 8)
    assert weighted_mean(error, foreground, 1.0).item() == pytest.approx(2.5)
    channels = torch.tensor([1.0, 2.0, 6.0])[:, None, None].expand(1, 3, 2, 2)
    assert weighted_mean(channels, foreground, 5.0).item() == pytest.approx(3.0)


def test_the_mean_is_over_the_whole_batch() -> None:
    """A picture with much foreground weighs more; a mean of the pictures' means would be 1/2."""
    error = torch.stack([torch.ones(3, 2, 2), torch.zeros(3, 2, 2)])
    foreground = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)]).bool()
    assert weighted_mean(error, foreground, 3.0).item() == pytest.approx(12 / 16)


def test_total_variation_of_one_edge() -> None:
    picture = torch.zeros(2, 3, 4, 6)
    assert total_variation(picture) == 0
    picture[..., 2:] = 0.5  # one of the five differences across
    assert total_variation(picture).item() == pytest.approx(0.5 / 5)
    assert total_variation(-picture.transpose(2, 3)).item() == pytest.approx(0.5 / 5)
    picture[:, :, 3:] -= 1.5  # and one of the three down
    assert total_variation(picture).item() == pytest.approx(0.5 / 5 + 1.5 / 3)


def test_features_follow_from_the_seed_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = random_features(7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = random_features(7), random_features(8)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
    assert not any(weight.requires_grad for weight in first.parameters())


def test_perceptual_against_unfolded_patches() -> None:
    """Convolutions as products of matrices, in double precision."""
    features = random_features(3)
    student, teacher = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    weights = list(features.parameters())
    assert [tuple(w.shape) for w in weights] == [(16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]
    both = torch.cat([student, teacher]).double() * 0.5 + 0.5
    expected = 0.0
    for weight, stride, side in zip(weights, (1, 2, 2), (16, 8, 4), strict=True):
        patches = F.unfold(both, 3, padding=1, stride=stride)
        both = (weight.double().flatten(1) @ patches).clamp_min(0).unflatten(-1, (side, side))
        a, b = both.chunk(2)
        expected += (a - b).pow(2).mean().item()
    assert perceptual(features, student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert perceptual(features, teacher, teacher) == 0


def test_gradients_reach_every_pixel_and_no_feature() -> None:
    features = random_features(0)
    student = (torch.rand(1, 3, 16, 16) * 2 - 1).requires_grad_()
    teacher = torch.rand(1, 3, 16, 16) * 2 - 1
    for loss in (
        weighted_mean((student - teacher).abs(), torch.ones(1, 16, 16) > 0, 5.0),
        perceptual(features, student, teacher),
    ):
        (gradient,) = torch.autograd.grad(loss, student)
        assert (gradient != 0).float().mean() > 0.95
    perceptual(features, student, teacher).backward()
    assert all(weight.grad is None for weight in features.parameters())


def test_total_variation_pulls_a_peak_down_and_its_neighbours_up() -> None:
    picture = torch.zeros(1, 1, 3, 3)
    picture[..., 1, 1] = 1
    (gradient,) = torch.autograd.grad(total_variation(picture.requires_grad_()), picture)
    assert torch.allclose(gradient[0, 0] * 6, torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]))
