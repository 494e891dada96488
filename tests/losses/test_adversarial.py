"""Losses of a GAN in closed form, and the discriminator's view, wits and penalty."""

import pytest
import torch
import torch.nn.functional as F

from hubmodels.losses import PatchGAN, discriminator_loss, feature_matching, generator_loss, gradient_penalty


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
    """One pixel changes the scores of the patches within the field, and no others (no norm in the way)."""
    torch.manual_seed(0)
    judge = PatchGAN(5, layers, 8)
    judge.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in judge.norms)
    size = 2 * field + 32
    condition = torch.rand(1, 2, size, size).requires_grad_()
    scores, _ = judge(torch.rand(1, 3, size, size), condition)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert condition.grad is not None
    rows = condition.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field


def test_a_discriminator_learns_to_tell_and_its_penalty_is_the_gradient() -> None:
    torch.manual_seed(0)
    judge = PatchGAN(6, 3, 8)
    real, made, photo = torch.full((2, 3, 64, 64), 0.8), torch.full((2, 3, 64, 64), 0.2), torch.rand(2, 3, 64, 64)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
    for _ in range(30):
        loss = discriminator_loss(judge(real, photo)[0], judge(made, photo)[0])
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
    """Scores w . x: the gradient is w in each pixel, whatever the picture is; a condition has no part in it."""

    class Linear(torch.nn.Module):
        def forward(self, pictures, condition):
            total = 2 * pictures[:, :3].sum((1, 2, 3)) - 3 * pictures[:, 3].sum((1, 2))
            return total + 5 * condition.sum((1, 2, 3)), []

    pictures = torch.rand(2, 4, 5, 7)
    assert float(gradient_penalty(Linear(), pictures, torch.rand(2, 1, 5, 7))) == pytest.approx(35 * (3 * 4 + 9))
    assert pictures.grad is None and not pictures.requires_grad


@pytest.mark.parametrize("layers", [2, 7])
def test_layers_that_make_no_sense(layers: int) -> None:
    with pytest.raises(ValueError, match="from 3 to 6 layers"):
        PatchGAN(3, layers)


@pytest.mark.parametrize("layers", [3, 4, 5])
def test_a_patch_needs_three_pixels_after_the_strides(layers: int) -> None:
    judge = PatchGAN(3, layers, 8)
    side = 3 * 2**layers
    assert judge(torch.rand(1, 3, side, side))[0].shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        judge(torch.rand(1, 3, side - 2**layers, side))
