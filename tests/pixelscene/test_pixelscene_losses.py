"""Losses of the tokenizer against closed forms."""

import json
import math

import pytest
import torch

from hubmodels.pixelscene.losses import (
    RunningScores,
    adaptive_weight,
    differentiably_augmented,
    lecam,
    local_contrast,
    palette_cross_entropy,
)
from hubmodels.pixelscene.vqgan import expected_colour, log_shares


def test_cross_entropy_counts_equal_colours_once() -> None:
    palette = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0.5, 0, 0], [1.0, 0, 0]]])
    indices = torch.tensor([[[0, 1, 2, 3]]])
    even = palette_cross_entropy(log_shares(torch.zeros(1, 4, 1, 4), palette), indices, palette)
    assert float(even) == pytest.approx(math.log(3)), "three colours, however often they are written down"
    logits = torch.randn(1, 4, 1, 4, generator=torch.Generator().manual_seed(0))
    both = [
        palette_cross_entropy(log_shares(logits, palette), torch.full((1, 1, 4), index), palette) for index in (1, 2)
    ]
    assert both[0] == both[1]
    sure = torch.full((1, 4, 1, 4), -50.0)
    for pixel, index in enumerate((0, 1, 1, 3)):
        sure[0, index, 0, pixel] = 50
    assert float(palette_cross_entropy(log_shares(sure, palette), indices, palette)) == pytest.approx(0, abs=1e-6)


def test_expected_colour_is_the_mean() -> None:
    palette = torch.tensor([[[0.0, 0, 0], [1.0, 0.2, -0.4]]])
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)
    assert expected_colour(log_shares(logits, palette), palette).flatten().tolist() == pytest.approx([0.75, 0.15, -0.3])


def test_local_contrast_sees_a_dither_that_a_mean_does_not() -> None:
    checker = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).float().expand(1, 3, 8, 8)
    assert float(local_contrast(checker, checker)) == 0
    assert float(local_contrast(torch.full_like(checker, 0.5), checker)) == 1
    assert float(local_contrast(checker + 0.3, checker)) == pytest.approx(0, abs=1e-6)


def test_lecam_is_zero_where_both_sides_are_the_others_mean() -> None:
    real, made = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -3.0])
    assert float(lecam(real, made, 2.0, -2.0)) == pytest.approx(17 + 17)
    assert float(lecam(torch.full((2,), -2.0), torch.full((2,), 2.0), 2.0, -2.0)) == 0


def test_running_scores_follow_the_mean_and_come_back_from_a_checkpoint() -> None:
    scores = RunningScores()
    for _ in range(5000):
        scores.follow(torch.tensor([2.0, 4.0]), torch.tensor([-1.0]))
    assert (scores.real, scores.made) == pytest.approx((3, -1), abs=0.03)
    other = RunningScores()
    other.load_state_dict(json.loads(json.dumps(scores.state_dict())))
    assert (other.real, other.made) == (scores.real, scores.made)


def test_the_adaptive_weight_evens_out_gradients() -> None:
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    weight = adaptive_weight((3 * last).sum(), (0.5 * last).sum(), last)
    assert float(weight) == pytest.approx(6, rel=1e-3) and not weight.requires_grad
    assert float(adaptive_weight((3 * last).sum(), (1e-6 * last).sum(), last)) == 10


def test_augmented_pictures_are_moved_and_mirrored_and_differentiable() -> None:
    pictures = (torch.arange(1, 65.0).view(1, 1, 8, 8).expand(40, 1, 8, 8)).clone().requires_grad_()
    torch.manual_seed(0)
    moved = differentiably_augmented(pictures)
    assert moved.shape == pictures.shape
    seen = {tuple(one.flatten().tolist()) for one in moved}
    assert 10 < len(seen) <= 18, "nine places, mirrored or not"
    for one in moved.detach():
        values = one[one > 0]
        assert len(values) >= 49 and set(values.tolist()) <= set(range(1, 65))
    moved.sum().backward()
    assert pictures.grad is not None and set(pictures.grad.unique().tolist()) == {0.0, 1.0}
