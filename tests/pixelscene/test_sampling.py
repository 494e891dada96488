"""Drawing tokens: the right chances, the same picture for a seed, and nothing known is touched."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from test_transformer import CAPTIONS, SIZE, TINY, network
from tiny import awake

from hubmodels.pixelscene import sampling
from hubmodels.pixelscene.files import mask
from hubmodels.pixelscene.palettes import oklab
from hubmodels.pixelscene.sampling import (
    ALONE,
    Sampling,
    _parts,
    extended,
    forgotten,
    generators,
    guided,
    halton,
    narrowed,
    pick,
    sample,
    unknown_in,
    van_der_corput,
)
from hubmodels.pixelscene.text import numbered
from hubmodels.pixelscene.transformer import COLOURS, Asked, PixelTransformer, Said, stages_of, token_colours


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_tokens_are_drawn_as_often_as_their_logits_say(temperature: float) -> None:
    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    drawn = pick(chances.log().expand(1, 20_000, 4), Sampling(temperature, 0), generators(0, 1))[0]
    expected = chances ** (1 / temperature)
    expected = 20_000 * expected / expected.sum()
    assert chisquare(drawn.bincount(minlength=4).numpy(), expected.numpy()).pvalue > 1e-3


def test_a_sure_token_is_drawn_and_temperature_0_takes_the_likeliest() -> None:
    sure = torch.tensor([0.9999, 0.0001 / 3, 0.0001 / 3, 0.0001 / 3]).log().expand(2000, 4)
    assert (pick(sure[None], Sampling(1.0, 0), generators(0, 1)) == 0).float().mean() > 0.997
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pick(logits, Sampling(0.0), generators(0, len(logits))), logits.argmax(-1))


def test_narrowing_against_brute_force() -> None:
    logits = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    for top_k, top_p in ((3, 1.0), (0, 0.6), (5, 0.5), (1, 1.0), (0, 1e-6), (50, 1.0)):
        made = narrowed(logits, top_k, top_p)
        for row, result in zip(logits.tolist(), made.tolist(), strict=True):
            order = sorted(range(12), key=lambda i: -row[i])[: top_k or 12]
            total = sum(math.exp(row[i]) for i in order)
            kept, mass = set(), 0.0
            for i in order:
                if mass < top_p:
                    kept.add(i)
                mass += math.exp(row[i]) / total
            assert {i for i, value in enumerate(result) if value > -math.inf} == kept
            assert all(result[i] == pytest.approx(row[i]) for i in kept)


def test_guidance_goes_beyond() -> None:
    both = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert guided(both, 3.0).tolist() == [[2.0, -1.0]]
    assert torch.equal(guided(both, 1.0), both)


def test_guidance_leaves_out_what_cannot_be() -> None:
    """A palette of few colours has some twice, whose second ones no thumbnail may have; with guidance neither."""
    both = torch.tensor([[-torch.inf, 0.5], [-torch.inf, 0.5]])
    assert guided(both, 3.0).tolist() == [[-torch.inf, 0.5]]
    words, told = numbered(CAPTIONS[:1], TINY)
    palette = torch.arange(TINY.colours)[None] // 2 * 300
    tokens = torch.full((1, TINY.planes, *SIZE), -1)
    _, drawn = sample(network("masked"), words, told, palette, tokens, Sampling(guidance=2.0, rounds=2))
    found = set(drawn[0, 0].flatten().tolist())
    assert len(found) > 1 and all(index % 2 == 0 for index in found)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (12, 20), (25, 40)])
def test_halton_meets_every_place_once_and_is_spread_out(size: tuple[int, int]) -> None:
    order = halton(*size)
    assert sorted(order) == list(range(size[0] * size[1]))
    if size == (12, 20):
        first = Counter((place // 20 // 6, place % 20 // 10) for place in order[:48])
        assert all(9 <= first[quarter] <= 15 for quarter in ((0, 0), (0, 1), (1, 0), (1, 1)))


def test_van_der_corput_and_parts() -> None:
    for count in (1, 3, 64):
        assert sorted(van_der_corput(count)) == list(range(count))
    assert van_der_corput(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    for count, rounds in ((240, 16), (1000, 32), (5, 16), (1, 1), (17, 16)):
        parts = _parts(list(range(count)), rounds)
        assert [place for part in parts for place in part] == list(range(count))
        assert len(parts) == min(rounds, count) and all(parts)
    sizes = [len(part) for part in _parts(list(range(1000)), 16)]
    assert sizes[0] < sizes[7] < sizes[15]


# --- with a network -----------------------------------------------------------------------------------------------


def asked(order: str, how: Sampling, tokens: torch.Tensor | None = None, palette: torch.Tensor | None = None) -> Any:
    model = network(order)
    unknown = torch.full((2, model.config.planes, *SIZE), -1)
    return sample(
        model,
        *numbered(CAPTIONS, TINY),
        torch.full((2, 4), -1) if palette is None else palette,
        unknown if tokens is None else tokens,
        how,
    )


@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_all_that_was_unknown_is_drawn_and_a_seed_is_a_picture(order: str, guidance: float) -> None:
    how = Sampling(guidance=guidance, rounds=4, seed=3)
    palette, tokens = asked(order, how)
    assert palette.shape == (2, 4) and palette.min() >= 0 and palette.max() < COLOURS
    assert tokens.shape == (2, 1 + (order != "ar"), *SIZE) and tokens.min() >= 0 and tokens[:, -1].max() < 20
    assert order == "ar" or tokens[:, 0].max() < 4
    again = asked(order, how)
    assert torch.equal(again[0], palette) and torch.equal(again[1], tokens)
    other = asked(order, Sampling(guidance=guidance, rounds=4, seed=4))
    assert not torch.equal(other[1], tokens)
    if order == "masked":
        lightness = oklab(token_colours(palette).numpy())[..., 0]
        assert (np.diff(lightness) >= 0).all(), "from dark to light"


@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
def test_a_picture_of_a_batch_is_what_its_seed_draws_alone(order: str) -> None:
    model = network(order)
    words = numbered(CAPTIONS[:1] * 3, TINY)
    unknown = torch.full((3, 4), -1), torch.full((3, model.config.planes, *SIZE), -1)
    together = sample(model, *words, *unknown, Sampling(rounds=4, seed=5))
    for number in range(3):
        one = [part[:1] for part in (*words, *unknown)]
        alone = sample(model, *one, Sampling(rounds=4, seed=5 + number))
        assert all(torch.equal(a[0], b[number]) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
def test_what_is_known_stays(order: str) -> None:
    palette = torch.arange(8).view(2, 4)
    tokens = torch.arange(15).view(1, 1, *SIZE).expand(2, 1 + (order != "ar"), -1, -1).clone()
    tokens[:, :-1] %= 4
    tokens[..., 1:, 2:] = -1
    made_palette, made = asked(order, Sampling(rounds=3, seed=1), tokens, palette)
    assert torch.equal(made_palette, palette)
    assert torch.equal(made[tokens >= 0], tokens[tokens >= 0]) and made.min() >= 0
    whole = torch.where(tokens < 0, 3, tokens)
    assert torch.equal(asked(order, Sampling(), whole, palette)[1], whole), "nothing is missing"


@pytest.mark.parametrize("thumbnails", [0, 1, 2, 3])
def test_each_stage_is_drawn_in_its_own_way(thumbnails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So often, so cool and so far beyond what no words say; what is not guided is computed with words alone."""
    torch.manual_seed(0)
    model = awake(PixelTransformer(replace(TINY, thumbnails=thumbnails))).eval()
    three = [sampling.SMALLEST, sampling.LARGER, sampling.LARGEST]
    small = [[], three[:1], three[::2], three][thumbnails]
    stages = [sampling.PALETTE, *small, sampling.TOKENS if thumbnails else ALONE]
    batches, temperatures, say = [], [], model.say

    def spied_say(asked: Asked, *rest: torch.Tensor) -> Said:
        batches.append((asked.stage, len(asked.palette)))
        return say(asked, *rest)

    def spied_pick(logits: torch.Tensor, how: Sampling, rngs: list) -> torch.Tensor:
        temperatures.append(how.temperature)
        return pick(logits, how, rngs)

    monkeypatch.setattr(model, "say", spied_say)
    monkeypatch.setattr(sampling, "pick", spied_pick)
    how, planes = Sampling(0.8, guidance=3.0, rounds=7), model.config.planes
    sample(model, *numbered(CAPTIONS, TINY), torch.full((2, 4), -1), torch.full((2, planes, *SIZE), -1), how)
    cells = [4, *(2, 6, 15)[3 - thumbnails :], 15]
    rounds = [min(most, stage.rounds or 7) for most, stage in zip(cells, stages, strict=True)]
    expected = [at for at, count in enumerate(rounds) for _ in range(count)]
    assert batches == [(at, 2 if stages[at].guided == 0 else 4) for at in expected]
    assert temperatures == [pytest.approx(0.8 * stages[at].cooled) for at in expected]


def test_small_thumbnails_keep_what_is_known_of_the_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a picture is known, what it is drawn by is known too; and each stage is shown the one above it."""
    model = network("masked")
    palette = torch.tensor([[0, 600, 1200, 1800]])
    tokens = torch.zeros(1, 2, *SIZE, dtype=torch.long)
    tokens[:, 0, :, 2:] = 3
    tokens[..., :2] = -1
    seen, say = [], model.say

    def spied(asked: Asked, *rest: torch.Tensor) -> Said:
        seen.append(asked)
        return say(asked, *rest)

    monkeypatch.setattr(model, "say", spied)
    _, drawn = sample(model, *numbered(CAPTIONS[:1], TINY), palette, tokens, Sampling(guidance=1.0, rounds=2))
    planes = stages_of(palette, drawn, 2)
    for asked in seen:
        assert asked.plane is not None and asked.stage > 0
        if asked.stage == 1:
            assert asked.plane.shape == (1, 2, 3) and (asked.plane[..., 1:] == 3).all(), "half of a square is enough"
        else:
            assert asked.above is not None and (asked.above[..., 2:] == 3).all()
    last = [asked for asked in seen if asked.stage == 3][-1]
    assert torch.equal(last.above, planes[1]), "tokens are shown the whole thumbnail"  # pyright: ignore


def test_half_a_palette_is_refused() -> None:
    with pytest.raises(ValueError, match="all colours must be known or none"):
        asked("masked", Sampling(), palette=torch.tensor([[1, 2, -1, -1]] * 2))


# --- what is asked for --------------------------------------------------------------------------------------------


def test_a_mask_forgets_the_tokens_that_it_touches() -> None:
    tokens = torch.zeros(1, 3, 5, dtype=torch.long)
    found = unknown_in(tokens, 8, mask("7,8,2,9", (24, 40)))
    assert (found[0] < 0).nonzero().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]] and not tokens.any()
    assert (unknown_in(tokens, 8, mask("0,0,40,24", (24, 40))) < 0).all()
    short = unknown_in(tokens, 8, mask("35,20,1,1", (21, 37)))
    assert (short[0] < 0).nonzero().tolist() == [[2, 4]]
    for box in ("0,0,41,1", "-1,0,5,5", "0,0,0,5", "0,20,8,8"):
        with pytest.raises(ValueError, match="not inside of the picture of 40 x 24"):
            mask(box, (24, 40))


def test_extending_and_forgetting() -> None:
    tokens = torch.ones(2, 2, 3, 5, dtype=torch.long)
    wide = extended(tokens, right=4, top=1)
    assert wide.shape == (2, 2, 4, 9) and torch.equal(wide[..., 1:, :5], tokens) and (wide[..., 0, :] < 0).all()
    with pytest.raises(ValueError, match="not cut"):
        extended(tokens, left=-1)
    some = forgotten(tokens, 0.4, 0)
    assert (some < 0).flatten(2).sum(2).tolist() == [[6, 6], [6, 6]] and not torch.equal(some[0], some[1])
    assert torch.equal(some[:, 0], some[:, 1]), "of a place both are forgotten"
    assert (forgotten(tokens, 1.0, 0) < 0).all() and torch.equal(forgotten(tokens, 0.4, 0), some)
    with pytest.raises(ValueError, match="strength"):
        forgotten(tokens, 0.0, 0)


@pytest.mark.parametrize("change", [{"temperature": -1}, {"top_p": 0.0}, {"rounds": 0}, {"top_k": -1}, {"seed": -1}])
def test_settings_check_themselves(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least|at least 1"):
        Sampling(**change)
