"""Each loss of circular: a closed form, its least value, and a gradient that reaches what it is about."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.circular import losses


def gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(x), x)
    assert found.isfinite().all()
    return found


def test_consistency_is_the_likelihood_of_the_words() -> None:
    logits, words = torch.randn(2, 3, 5), torch.tensor([[4, 2, 0], [3, 1, 2]])
    chances = logits.softmax(2)
    own = [chances[0, 0, 4], chances[0, 1, 2], chances[1, 0, 3], chances[1, 1, 1], chances[1, 2, 2]]
    assert float(losses.consistency(logits, words)) == pytest.approx(-sum(math.log(p) for p in own) / 5, rel=1e-5)
    found = gradient(lambda x: losses.consistency(x, words), logits)
    assert (found[0, 2] == 0).all() and (found[words > 0].abs().sum(-1) > 0).all(), "padding says nothing"
    sure = F.one_hot(words, 5) * 100.0
    assert losses.consistency(sure, words) == 0


def test_language_predicts_the_next_word() -> None:
    logits, tokens = torch.randn(2, 4, 6), torch.tensor([[1, 4, 2, 0], [1, 3, 5, 2]])
    assert torch.equal(losses.language(logits, tokens), losses.consistency(logits[:, :3], tokens[:, 1:]))
    found = gradient(lambda x: losses.language(x, tokens), logits)
    assert (found[:, 3] == 0).all() and found[:, 0].abs().sum() > 0


def test_alignment_is_a_choice_among_all_both_ways() -> None:
    said, seen = torch.tensor([[1.0, 0], [0, 2]]), torch.tensor([[3.0, 0], [1, 1]])
    alike = torch.tensor([[1, 0.5**0.5], [0, 0.5**0.5]]) / 0.1  # cosines of said (rows) and seen (columns)
    ways = [alike[0].log_softmax(0)[0], alike[1].log_softmax(0)[1]]
    back = [alike[:, 0].log_softmax(0)[0], alike[:, 1].log_softmax(0)[1]]
    assert float(losses.alignment(said, seen)) == pytest.approx(-float(sum(ways) + sum(back)) / 4, rel=1e-5)
    assert losses.alignment(torch.eye(8), torch.eye(8)) < 1e-3
    assert float(losses.alignment(torch.ones(8, 4), torch.ones(8, 4))) == pytest.approx(math.log(8), rel=1e-5)
    for of_said in (True, False):
        other = torch.randn(4, 6)
        assert (
            gradient(
                lambda x, s=of_said, o=other: losses.alignment(x, o) if s else losses.alignment(o, x), torch.randn(4, 6)
            )
            .abs()
            .sum()
            > 0
        )


def test_kl_is_that_of_normal_distributions_and_a_little_is_free() -> None:
    mean, log_variance = torch.randn(2, 6, 3, 2)
    own = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    nats = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(losses.kl_free_bits(mean, log_variance, 0.0), nats.mean())
    torch.testing.assert_close(losses.kl_free_bits(mean, log_variance, 0.8), nats.clamp(min=0.8).mean())
    assert losses.kl_free_bits(torch.zeros(4, 2), torch.zeros(4, 2), 0.25) == 0.25
    assert (gradient(lambda x: losses.kl_free_bits(x, torch.zeros(4, 2), 0.25), torch.full((4, 2), 0.1)) == 0).all()
    assert (gradient(lambda x: losses.kl_free_bits(x, torch.zeros(4, 2), 0.25), torch.full((4, 2), 2.0)) > 0).all()


def test_an_edge_costs_one_and_no_more() -> None:
    picture = torch.zeros(1, 1, 8, 8)
    assert losses.mumford_shah(picture) == 0
    for height in (1.0, 2.0):
        picture[..., 4:] = height
        # of 7 x 8 differences to the right and as many downwards, 8 are an edge
        wanted = 8 * height**2 / (height**2 + 0.3**2) / 112
        assert float(losses.mumford_shah(picture)) == pytest.approx(wanted, rel=1e-5)
    assert gradient(losses.mumford_shah, torch.randn(2, 3, 8, 8)).abs().sum() > 0
    slope = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    assert losses.mumford_shah((slope > 0.5).float()) < losses.mumford_shah(slope), "rather an edge than a blur"


def test_pictures_of_different_sentences_differ() -> None:
    pictures = torch.zeros(3, 1, 4, 4)
    assert float(losses.diversity(pictures)) == pytest.approx(0.15)
    pictures[1], pictures[2] = 0.1, 0.4  # apart by 0.1, 0.4 and 0.3, and only the first is too little
    assert float(losses.diversity(pictures)) == pytest.approx(0.05 / 3)
    assert losses.diversity(torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 4, 4)) == 0
    found = gradient(losses.diversity, pictures)
    assert (found[0] > 0).all() and (found[1] < 0).all() and (found[2] == 0).all(), "those too near move apart"
    alone = torch.zeros(1, 3, 4, 4, requires_grad=True)
    losses.diversity(alone).backward()
    assert alone.grad is not None and losses.diversity(alone) == 0
    many = torch.rand(40, 3, 4, 4) * 0.2
    apart = torch.cdist(many.flatten(1), many.flatten(1), p=1) / 48
    others = [(i, (i - roll) % 40) for i in range(40) for roll in range(1, 9)]
    wanted = sum(max(0.0, 0.15 - float(apart[i, j])) for i, j in others) / len(others)
    assert float(losses.diversity(many)) == pytest.approx(wanted, rel=1e-4)


def test_a_flat_picture_has_no_edges_and_a_gradient_that_is_a_number() -> None:
    flat = torch.full((2, 3, 8, 8), 0.3)
    assert float(losses.edges(flat)) == pytest.approx(0.15**2)
    assert gradient(losses.edges, flat).abs().max() < 1e-6
    slope = torch.linspace(-1, 1, 9).expand(1, 3, 9, 9)  # a Sobel gradient of 1/4 everywhere
    strength = math.sqrt(0.25**2 + 0.01**2) - 0.01
    assert float(losses.edges(slope)) == pytest.approx((strength - 0.15) ** 2, rel=1e-4)
    assert losses.edges(slope, wanted=strength) < 1e-9
    assert gradient(losses.edges, torch.randn(1, 3, 8, 8)).abs().sum() > 0


def test_a_colour_word_looks_alike_wherever_it_is_said() -> None:
    named = torch.tensor([5, 6])
    tokens = torch.tensor([[1, 5, 2], [1, 5, 2], [1, 6, 2]])
    attention = torch.eye(3).expand(3, 3, 3)  # each slot shows one word
    colors = torch.zeros(3, 3, 3)
    colors[:, 1] = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    assert losses.color_consistency(colors, attention, tokens, named) == 0
    colors[1, 1, 0] = 0.0  # red 1 and 0: a variance of 1/4, of the one word that is said twice
    assert float(losses.color_consistency(colors, attention, tokens, named)) == pytest.approx(0.25)
    found = gradient(lambda x: losses.color_consistency(x, attention, tokens, named), colors)
    assert found[0, 1, 0] > 0 > found[1, 1, 0] and (found[2] == 0).all()
    assert losses.color_consistency(colors, attention, torch.ones_like(tokens), named) == 0, "no colour was said"
