"""What reinforcement learns: beside trl, in closed form, by finite differences."""

import numpy as np
import pytest
import torch
from trl.models.modeling_sd_base import DDPOSchedulerOutput  # noqa: F401
from trl.trainer import DDPOConfig
from trl.trainer.ddpo_trainer import DDPOTrainer

from hubmodels.lens import policy


def test_a_group_is_compared_with_itself() -> None:
    rewards = torch.randn(6, 8)
    above = policy.advantages(rewards, "group")
    torch.testing.assert_close(above.sum(1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(above, policy.advantages(rewards + torch.arange(6.0)[:, None], "group"))
    assert float(above.std(correction=0)) == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match="two samples"):
        policy.advantages(rewards[:, :1], "group")
    assert (policy.advantages(torch.ones(3, 4), "group") == 0).all(), "no reward, no reason to change"


def test_all_are_compared_with_all_as_in_trl() -> None:
    rewards = torch.randn(16, 1)
    values = rewards.numpy()
    wanted = (values - values.mean()) / (values.std() + 1e-8)
    np.testing.assert_allclose(policy.advantages(rewards, "global").numpy(), wanted, rtol=1e-5)


def test_prompts_have_statistics_of_their_own_as_in_trl() -> None:
    from trl.trainer.utils import PerPromptStatTracker

    theirs, ours = PerPromptStatTracker(16, 8), policy.PromptTracker(16, 8)
    rng = np.random.default_rng(0)
    for _ in range(6):
        prompts = [("a cat", "a dog")[int(rng.integers(2))] for _ in range(7)]
        rewards = rng.normal(size=7).astype(np.float32)
        wanted = theirs.update(np.array(prompts), rewards)
        np.testing.assert_allclose(
            ours.update(prompts, torch.from_numpy(rewards)).numpy(), wanted, rtol=1e-4, atol=1e-5
        )
    again = policy.PromptTracker(16, 8)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.update(["a cat"], torch.ones(1)), ours.update(["a cat"], torch.ones(1)))


def test_the_loss_is_that_of_trl() -> None:
    generator = torch.Generator().manual_seed(0)
    before, advantage = torch.randn(2, 64, generator=generator)
    now = before + 1e-3 * torch.randn(64, generator=generator)
    theirs = DDPOTrainer.loss(None, advantage.clamp(-5, 5), 1e-4, (now - before).exp())
    ours = policy.clipped_loss(now, before, advantage, 1e-4)
    torch.testing.assert_close(ours.loss, theirs)
    assert float(ours.clipped) == pytest.approx(float((((now - before).exp() - 1).abs() > 1e-4).float().mean()))
    assert float(ours.kl) == pytest.approx(float(0.5 * (now - before).square().mean()))
    bounded = policy.clipped_loss(before, before, torch.tensor([100.0] * 64), 1e-4)
    assert float(bounded.loss) == -5 and float(bounded.ratio) == 0


def test_a_clipped_ratio_has_no_gradient() -> None:
    for change, advantage, moves in ((0.0, 1.0, True), (0.1, 1.0, False), (0.1, -1.0, True), (-0.1, -1.0, False)):
        now = torch.tensor([change], requires_grad=True)
        loss = policy.clipped_loss(now, torch.zeros(1), torch.tensor([advantage]), 0.05).loss
        (gradient,) = torch.autograd.grad(loss, now)
        assert bool(gradient) == moves


def test_the_gradient_is_that_of_the_expected_reward() -> None:
    """A Gaussian policy in two dimensions, whose reward has a closed form: E |x - g|^2 = |m - g|^2 + 2 sigma^2."""
    generator = torch.Generator().manual_seed(0)
    goal, sigma = torch.tensor([1.0, -0.5]), 0.3
    mean = torch.tensor([0.2, 0.4], requires_grad=True)
    sample = mean.detach() + sigma * torch.randn(200_000, 2, generator=generator)
    density = torch.distributions.Normal(mean, sigma).log_prob(sample).sum(1)
    reward = -(sample - goal).square().sum(1)
    loss = policy.clipped_loss(density, density.detach(), reward - reward.mean(), 0.2, most=100).loss
    (gradient,) = torch.autograd.grad(loss, mean)

    def expected(m: torch.Tensor) -> torch.Tensor:
        return -((m - goal).square().sum() + 2 * sigma**2)

    step, found = 1e-2, []
    for axis in torch.eye(2) * step:
        found.append((expected(mean.detach() + axis) - expected(mean.detach() - axis)) / (2 * step))
    torch.testing.assert_close(-gradient, torch.stack(found), rtol=0.03, atol=0.02)


def test_kl_is_that_of_two_gaussians() -> None:
    one, other = torch.randn(2, 3, 4, 8, 8)
    sigma = torch.tensor([0.1, 0.5, 1.0]).view(3, 1, 1, 1)
    p, q = (torch.distributions.Normal(mean, sigma.expand_as(mean)) for mean in (one, other))
    wanted = torch.distributions.kl_divergence(p, q).mean()
    torch.testing.assert_close(policy.kl_to_base(one, other, sigma), wanted)
    assert policy.kl_to_base(one, one, sigma) == 0


def test_trl_agrees_on_its_defaults() -> None:
    """What "exactly as in TRL" means: an upgrade that changes them is to be seen."""
    config = DDPOConfig()
    assert (config.train_clip_range, config.train_adv_clip_max, config.sample_eta) == (1e-4, 5, 1.0)
