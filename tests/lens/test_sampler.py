"""DDIM: beside diffusers, beside trl, and in closed form."""

import pytest
import torch
import trl.models.modeling_sd_base as trl_sd
from diffusers import DDIMScheduler
from lens_parts import base, pictures, pipeline

from hubmodels.lens import sampler, tiny
from hubmodels.lens.base import embedded, encode, predictor


def test_as_many_steps_are_run_as_diffusers_runs() -> None:
    parts = base()
    pipe = pipeline(parts)
    for steps in (1, 4, 5, 7, 20, 50):
        for percent in range(1, 101, 3):
            strength = percent / 100
            parts.scheduler.set_timesteps(steps)
            theirs = pipe.get_timesteps(steps, strength, "cpu")[0]
            if len(theirs) == 0:
                with pytest.raises(ValueError, match="leave none to run"):
                    sampler.schedule(parts.scheduler, steps, strength)
            else:
                assert torch.equal(sampler.schedule(parts.scheduler, steps, strength), theirs)


@pytest.mark.parametrize("strength", [0.0, 1.5, -0.1, float("nan")])
def test_strength_is_a_share(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be above 0 and at most 1"):
        sampler.schedule(tiny.scheduler(), 20, strength)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize(("steps", "strength"), [(20, 0.15), (10, 0.55), (3, 1.0)])
def test_edits_are_those_of_diffusers_bit_for_bit(guidance: float, steps: int, strength: float) -> None:
    parts = base()
    given = pictures(3)
    theirs = pipeline(parts)(
        prompt=["a clear photo of a cat"] * 3,
        image=(given + 1) / 2,
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=guidance,
        eta=0.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        times = sampler.schedule(parts.scheduler, steps, strength)
        source = encode(parts, (given + 1) / 2 * 2 - 1, generator)
        noise = torch.randn(source.shape, generator=generator)
        start = parts.scheduler.add_noise(source, noise, times[:1].expand(3))
        text = embedded(parts, ["a clear photo of a cat", ""])
        predict = predictor(parts, source, text[:1], guidance, text[1:])
        ours = sampler.run(parts.scheduler, predict, start, times).latents[-1]
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_step_is_that_of_trl(kind: str) -> None:
    scheduler = DDIMScheduler.from_config(tiny.scheduler().config, prediction_type=kind)
    scheduler.set_timesteps(20)
    generator = torch.Generator().manual_seed(0)
    x, said, after = (torch.randn(5, 4, 8, 8, generator=generator) for _ in range(3))
    time = torch.tensor([999, 649, 399, 149, 99])
    theirs = trl_sd.scheduler_step(scheduler, said, time, x, eta=1.0, prev_sample=after)
    gaussian = sampler.moments(scheduler, said, time, x, 1.0)
    torch.testing.assert_close(sampler.log_probability(after, gaussian), theirs.log_probs, rtol=1e-5, atol=1e-5)
    drawn = trl_sd.scheduler_step(scheduler, said, time, x, eta=1.0, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(gaussian.mean + gaussian.sigma * noise, drawn.latents)


def test_moments_are_those_of_the_posterior() -> None:
    """q(x_s | x_t, x_0) of the diffusion, by Bayes: Ho et al. 2020, equations 6 and 7, over a stride of steps."""
    scheduler = tiny.scheduler()
    scheduler.set_timesteps(20)
    clean, noise = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    time = torch.tensor([499])
    now, then = (scheduler.alphas_cumprod[t].double() for t in (499, 449))
    x = now.sqrt() * clean + (1 - now).sqrt() * noise
    gaussian = sampler.moments(scheduler, noise, time, x, 1.0)
    ratio = now / then
    # precision of x_s: of what x_t says of it, and of what x_0 says of it
    precision = ratio / (1 - ratio) + 1 / (1 - then)
    mean = (ratio.sqrt() / (1 - ratio) * x + then.sqrt() / (1 - then) * clean) / precision
    torch.testing.assert_close(gaussian.mean.double(), mean, rtol=1e-5, atol=1e-6)
    assert float(gaussian.sigma) == pytest.approx(float(precision**-0.5), rel=1e-5)


def test_densities_are_those_of_a_normal_distribution() -> None:
    mean, after = torch.randn(2, 3, 4, 8, 8)
    sigma = torch.tensor([0.1, 0.5, 2.0]).view(3, 1, 1, 1)
    gaussian = sampler.Moments(mean, sigma)
    wanted = torch.distributions.Normal(mean, sigma).log_prob(after).mean((1, 2, 3))
    torch.testing.assert_close(sampler.log_probability(after, gaussian), wanted)
    several = torch.stack([after, after + 0.1], 1)
    both = sampler.log_probability(several, gaussian)
    assert both.shape == (3, 2)
    torch.testing.assert_close(both[:, 0], wanted)
    assert (sampler.log_probability(after, sampler.Moments(mean, torch.zeros(3, 1, 1, 1))) == 0).all()


def test_coarse_noise_is_constant_in_cells_and_judged_by_their_means() -> None:
    noise = sampler.explored((2, 4, 4, 8, 8), 2, torch.Generator().manual_seed(0), torch.device("cpu"))
    cells = noise.unfold(-2, 4, 4).unfold(-2, 4, 4)
    assert (cells.flatten(-2).diff(dim=-1) == 0).all() and 0.7 < noise.std() < 1.3
    mean, sigma = torch.randn(2, 4, 8, 8), torch.full((2, 1, 1, 1), 0.3)
    after = mean.unsqueeze(1) + sigma.unsqueeze(1) * noise
    wanted = (
        torch.distributions.Normal(0.0, 1.0).log_prob(noise[..., ::4, ::4]).mean((2, 3, 4)) - sigma.flatten()[0].log()
    )
    torch.testing.assert_close(sampler.log_probability(after, sampler.Moments(mean, sigma), 2), wanted)
    with pytest.raises(ValueError, match="does not divide"):
        sampler.explored((1, 4, 8, 8), 3, None, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_ratio_is_one_before_anything_is_learned(dtype: torch.dtype) -> None:
    """Densities are of the latents as they were stored, so the policy that drew them finds them again: exactly."""
    scheduler = tiny.scheduler()
    times = sampler.schedule(scheduler, 20, 0.4)
    weight = torch.randn(4, 4)

    def predict(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,bchw->bohw", weight, x.float()) * (time.view(-1, 1, 1, 1) / 1000)

    start = torch.randn(3, 4, 8, 8).to(dtype)
    trip = sampler.run(scheduler, predict, start, times, 1.0, torch.Generator().manual_seed(0))
    assert trip.latents.dtype == dtype
    for number, time in enumerate(times[:-1]):
        x = trip.latents[number]
        again = sampler.moments(scheduler, predict(x, time.expand(3)), time.expand(3), x, 1.0)
        density = sampler.log_probability(trip.latents[number + 1], again)
        apart = (density - trip.log_probabilities[number]).exp() - 1
        assert apart.abs().max() < 1e-4 / 4
        if dtype == torch.float32:
            assert (apart == 0).all()
    assert (trip.log_probabilities[-1] == 0).all(), "the last step has no noise"


def test_branches_share_all_but_one_noise() -> None:
    scheduler = tiny.scheduler()
    times = sampler.schedule(scheduler, 20, 0.25)

    def predict(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return 0.3 * x.flip(-1) + time.view(-1, 1, 1, 1) / 1000

    start = torch.randn(3, 4, 8, 8)
    seed = torch.Generator().manual_seed(0)
    found = sampler.branch(scheduler, predict, start, times, 2, 4, generator=seed)
    prefix = sampler.run(scheduler, predict, start, times[:2]).latents[-1]
    assert torch.equal(found.latents, prefix) and found.time == times[2]
    gaussian = sampler.moments(scheduler, predict(prefix, times[2].expand(3)), times[2].expand(3), prefix, 1.0)
    noise = (found.after - gaussian.mean.unsqueeze(1)) / gaussian.sigma.unsqueeze(1)
    torch.testing.assert_close(noise[:, :2], -noise[:, 2:], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.log_probabilities, sampler.log_probability(found.after, gaussian))
    ends = sampler.run(scheduler, predict, found.after[:, 1], times[3:]).latents[-1]
    torch.testing.assert_close(found.ends[:, 1], ends)
    for at, ways, words in (
        (4, 4, "first 4 of 5"),
        (-1, 4, "first 4 of 5"),
        (0, 3, "come in pairs"),
        (0, 0, "in pairs"),
    ):
        with pytest.raises(ValueError, match=words):
            sampler.branch(scheduler, predict, start, times, at, ways)


def test_a_conditioned_network_sees_the_picture() -> None:
    parts = base(conditioned=True)
    source, other = encode(parts, pictures(2)), encode(parts, pictures(2, seed=1))
    x, time, text = torch.randn(4, 4, 8, 8), torch.full((4,), 99), embedded(parts, ["", "a camouflaged dog"])
    with torch.no_grad():
        one = predictor(parts, source, text[:1])(x, time)
        assert not torch.allclose(one, predictor(parts, other, text[:1])(x, time))
        assert not torch.allclose(one, predictor(parts, source, text[1:])(x, time))
        # two samples of each picture, in turn: each is as if it were alone
        alone = predictor(parts, source[1:], text[:1])(x[2:3], time[:1])
        torch.testing.assert_close(one[2:3], alone, rtol=1e-4, atol=1e-5)
        guided = predictor(parts, source, text[1:], 3.0, text[:1])(x, time)
        torch.testing.assert_close(guided, one + 3 * (predictor(parts, source, text[1:])(x, time) - one))
    with pytest.raises(ValueError, match="empty prompt"):
        predictor(parts, source, text[1:], 3.0)
