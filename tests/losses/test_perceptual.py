import numpy as np
import pytest
import torch
from scipy.signal import correlate

from hubmodels.losses import perceptual, random_features


def test_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = random_features(7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, other = random_features(7).state_dict(), random_features(8).state_dict()
    assert [tuple(w.shape) for w in first.values()] == [(16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_kaiming_keeps_the_power_of_activations() -> None:
    for weight in random_features(0).parameters():
        assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.12)
        assert not weight.requires_grad


def test_equal_pictures_cost_nothing_and_order_does_not_matter() -> None:
    features = random_features(0)
    a, b = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    assert perceptual(features, a, a) == 0
    assert perceptual(features, a, b) > 0
    assert torch.allclose(perceptual(features, a, b), perceptual(features, b, a))


def test_against_scipy() -> None:
    """Correlations one by one, in double precision, strides by slicing."""
    features = random_features(3)
    a, b = torch.rand(2, 1, 3, 8, 8) * 2 - 1
    ours, theirs = ((x[0].double().numpy() + 1) / 2 for x in (a, b))
    expected = 0.0
    for weight, stride in zip(features.parameters(), (1, 2, 2), strict=True):
        kernels = weight.double().numpy()
        ours, theirs = (
            np.stack([np.maximum(correlate(np.pad(x, ((0, 0), (1, 1), (1, 1))), k, "valid")[0], 0) for k in kernels])[
                :, ::stride, ::stride
            ]
            for x in (ours, theirs)
        )
        expected += np.square(ours - theirs).mean()
    assert perceptual(features, a, b).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_reach_the_prediction_only() -> None:
    features = random_features(0)
    prediction = torch.zeros(1, 3, 16, 16, requires_grad=True)
    perceptual(features, prediction, torch.rand(1, 3, 16, 16)).backward()
    assert prediction.grad is not None and (prediction.grad != 0).float().mean() > 0.95
    assert all(weight.grad is None for weight in features.parameters())
