import pytest
import torch

from hubmodels.losses import foreground_weights, total_variation, weighted_l1, weighted_l2


def test_total_variation_of_a_step() -> None:
    picture = torch.zeros(2, 3, 5, 9)
    assert total_variation(picture + 0.7) == 0
    picture[..., 4:] = 0.5  # one of eight differences across, none down
    assert total_variation(picture).item() == pytest.approx(0.5 / 8)
    picture[..., 3:, :] += 0.25  # and one of four down
    assert total_variation(picture).item() == pytest.approx(0.5 / 8 + 0.25 / 4)


def test_a_constant_shift_costs_the_same_whatever_the_weights() -> None:
    target = torch.randn(2, 3, 4, 4)
    weights = torch.rand(2, 1, 4, 4) + 0.1
    assert weighted_l1(target + 0.3, target, weights).item() == pytest.approx(0.3, rel=1e-5)
    assert weighted_l2(target - 0.3, target, weights).item() == pytest.approx(0.09, rel=1e-5)


def test_weights_by_hand() -> None:
    foreground = torch.zeros(1, 2, 2, dtype=torch.bool)
    foreground[0, 0, 0] = True
    weights = foreground_weights(foreground, 5.0)
    assert weights.tolist() == [[[[5, 1], [1, 1]]]]
    target = torch.zeros(1, 3, 2, 2)
    prediction = target.clone()
    prediction[..., 0, 0] = 0.4  # in the foreground
    prediction[..., 1, 1] = 0.8
    assert weighted_l1(prediction, target, weights).item() == pytest.approx((5 * 0.4 + 0.8) / 8)
    assert weighted_l2(prediction, target, weights).item() == pytest.approx((5 * 0.16 + 0.64) / 8)


def test_even_weights_are_the_plain_mean() -> None:
    a, b = torch.randn(2, 2, 3, 5, 5)
    even = foreground_weights(torch.rand(2, 5, 5) < 0.5, 1.0)
    assert torch.allclose(weighted_l1(a, b, even), torch.nn.functional.l1_loss(a, b))
    assert torch.allclose(weighted_l2(a, b, even), torch.nn.functional.mse_loss(a, b))


@pytest.mark.parametrize("loss", [weighted_l1, weighted_l2])
def test_gradients_reach_the_prediction_by_weight(loss) -> None:
    prediction, target = torch.full((1, 3, 2, 2), 0.5, requires_grad=True), torch.zeros(1, 3, 2, 2)
    weights = torch.tensor([[[[4.0, 1.0], [1.0, 0.0]]]])
    loss(prediction, target, weights).backward()
    # both have slope 1 at an error of 1/2, times the weight, over 3 channels of weights that sum to 6
    assert prediction.grad is not None
    assert torch.allclose(prediction.grad, weights.expand(1, 3, -1, -1) / 18)


def test_gradient_of_total_variation_flattens_a_peak() -> None:
    picture = torch.zeros(1, 1, 3, 3)
    picture[..., 1, 1] = 1
    picture.requires_grad_()
    total_variation(picture).backward()
    cross = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 6
    assert picture.grad is not None and torch.allclose(picture.grad[0, 0], cross)
