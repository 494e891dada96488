"""What happens between painter and reader, beside torchvision, SciPy and brute force."""

import numpy as np
import torch
from scipy.fft import dctn, idctn
from torchvision.transforms import functional as tv

from hubmodels.circular import channel


def pictures(count: int = 4, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_blur_is_a_gaussian_of_each_pictures_own() -> None:
    given, sigmas = pictures(3), (0.4, 0.7, 1.0)
    blurred = channel.blur(given, column(*sigmas))
    for picture, found, sigma in zip(given, blurred, sigmas, strict=True):
        wanted = tv.gaussian_blur(picture[None], [5, 5], [sigma, sigma])[0]
        torch.testing.assert_close(found[:, 2:-2, 2:-2], wanted[:, 2:-2, 2:-2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(channel.blur(given, column(0.0, 0.0, 0.0)), given)
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(channel.blur(flat, column(1.0)), flat)


def test_shift_repeats_the_edges() -> None:
    given = pictures(3)
    by = torch.tensor([[2, -1], [0, 0], [-2, 2]])
    moved = channel.shift(given, by.view(3, 2, 1, 1))
    for picture, found, (right, down) in zip(given, moved, by.tolist(), strict=True):
        y, x = (np.clip(np.arange(32) - shift, 0, 31) for shift in (down, right))
        np.testing.assert_array_equal(found.numpy(), picture.numpy()[:, y][:, :, x])


def test_coding_rounds_cosines_of_blocks() -> None:
    given = pictures(2, 16)
    step = 0.1
    coded = channel.coded(given, column(step, 0.0))
    torch.testing.assert_close(coded[1], given[1], atol=1e-5, rtol=0)
    grows = step * (1 + np.add.outer(np.arange(8), np.arange(8)))
    wanted = np.empty((3, 16, 16), np.float32)
    for layer in range(3):
        for top in (0, 8):
            for left in (0, 8):
                block = given[0, layer, top : top + 8, left : left + 8].numpy()
                rounded = np.round(dctn(block, norm="ortho") / grows) * grows
                wanted[layer, top : top + 8, left : left + 8] = idctn(rounded, norm="ortho")
    # a coefficient that lies at a tie may be rounded the other way
    assert (np.abs(coded[0].numpy() - wanted) < 1e-4).mean() > 0.9
    cosines = channel._cosines()
    torch.testing.assert_close(cosines @ cosines.T, torch.eye(8), atol=1e-6, rtol=0)


def test_quantised_values_pass_gradients_straight_through() -> None:
    values = torch.tensor([0.1, 0.24, 0.26, -0.9], requires_grad=True)
    found = channel.quantised(values, torch.tensor(0.5))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.5, -1.0]))
    found.sum().backward()
    assert values.grad is not None and (values.grad == 1).all()
    assert torch.equal(channel.quantised(values, torch.tensor(0.0)), values)


def test_a_square_is_erased_and_no_more() -> None:
    torch.manual_seed(0)
    given = torch.ones(200, 3, 64, 64)
    erased = (channel.erased(given, torch.full((200, 1, 1, 1), 0.125)) == 0)[:, 0]
    rows, columns = erased.any(2).sum(1), erased.any(1).sum(1)
    assert (erased.flatten(1).sum(1) == rows * columns).all(), "a rectangle"
    assert rows.max() == columns.max() == 8
    inside = (rows == 8) & (columns == 8)
    whole = erased[~inside]  # cut off at the right or at the bottom alone
    assert (whole[:, -1].any(1) | whole[:, :, -1].any(1) | ~whole.flatten(1).any(1)).all()
    assert torch.equal(channel.erased(given, torch.zeros(200, 1, 1, 1)), given)
    assert erased.any(0).float().mean() > 0.8, "nearly anywhere"


def test_a_channel_of_no_strength_is_none() -> None:
    given = pictures()
    assert channel.disturb(given, 0.0) is given


def test_disturbed_pictures_stay_pictures() -> None:
    given = pictures(64).requires_grad_()
    torch.manual_seed(3)
    found = channel.disturb(given, 1.0)
    torch.manual_seed(3)
    assert torch.equal(found, channel.disturb(given, 1.0))
    assert found.shape == given.shape and found.abs().max() <= 1
    (gradient,) = torch.autograd.grad(found.square().sum(), given)
    assert gradient.isfinite().all() and (gradient.flatten(1).abs().amax(1) > 0).all()
    change = (found - given).abs().flatten(1).mean(1)
    assert change.unique().numel() > 50, "each picture has disturbances of its own"
    # with a chance of 1/2 each, six disturbances leave one picture in 64 as it is, or nearly so
    assert (change < 0.01).sum() < 16
    weak = channel.disturb(given, 0.1)
    assert (weak - given).abs().mean() < change.mean() / 3
