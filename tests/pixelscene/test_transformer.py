"""The transformer: what it may look at, where it knows things to be, and words that are the same in every process."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import awake
from torch import Tensor

from hubmodels.pixelscene.palettes import BUILT_IN, shades
from hubmodels.pixelscene.text import numbered, vocabulary
from hubmodels.pixelscene.transformer import (
    COLOURS,
    Cache,
    PixelTransformer,
    PixelTransformerConfig,
    colour_tokens,
    nearest_shades,
    rotated,
    rotations,
    thumbnail,
    token_colours,
    whereabouts,
)

CAPTIONS = ["A castle on a hill at night", "A forest at night, in the rain"]
TINY = PixelTransformerConfig(
    text="words",
    group=1,
    codebook_size=20,
    colours=4,
    width=32,
    layers=2,
    heads=2,
    feedforward=48,
    dropout=0.0,
    text_width=16,
    vocabulary=vocabulary(CAPTIONS),
)
SIZE = (3, 5)


def network(order: str) -> PixelTransformer:
    """`ar`, `masked`, or `grouped`: masked with four tokens a place."""
    torch.manual_seed(0)
    group = 2 if order == "grouped" else 1
    plain = {"order": "ar", "thumbnail": False} if order == "ar" else {}
    return awake(PixelTransformer(replace(TINY, group=group, **plain))).eval()


def sequence(count: int = 2, order: str = "masked") -> tuple[Tensor, Tensor]:
    """A palette (B, 4), and what is said of a picture: its thumbnail, but of `ar`, and its tokens."""
    generator = torch.Generator().manual_seed(1)
    planes = [torch.randint(most, (count, *SIZE), generator=generator) for most in (4, 20)]
    return torch.randint(COLOURS, (count, 4), generator=generator), torch.stack(planes[order == "ar" :], 1)


def logits(model: PixelTransformer, palette: Tensor, tokens: Tensor, captions: list[str]) -> list[Tensor]:
    """Of each place, (B, classes)."""
    context, told = model.read(*numbered(captions, model.config))
    return [place for part in model.say(palette, tokens, context, told) for place in part.unbind(1)]


@torch.no_grad()
def test_ar_looks_at_what_came_before_only() -> None:
    model = network("ar")
    palette, tokens = sequence(order="ar")
    before = logits(model, palette, tokens, CAPTIONS)
    for place in (0, 2, 3, 4, 9, 18):
        other_palette, other = palette.clone(), tokens.clone()
        if place < 4:
            other_palette[:, place] = (other_palette[:, place] + 1) % COLOURS
        else:
            other.flatten(1)[:, place - 4] = (other.flatten(1)[:, place - 4] + 1) % 20
        after = logits(model, other_palette, other, CAPTIONS)
        changed = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)]
        assert changed == [number > place for number in range(19)]


@torch.no_grad()
@pytest.mark.parametrize("order", ["masked", "grouped"])
def test_masked_looks_at_everything(order: str) -> None:
    model = network(order)
    palette, tokens = sequence()
    before = logits(model, palette, tokens, CAPTIONS)
    for plane, place in ((0, 0), (0, 14), (1, 0), (1, 14)):
        other = tokens.clone()
        other[:, plane].flatten(1)[:, place] = (4, 20)[plane]  # not known
        after = logits(model, palette, other, CAPTIONS)
        assert all((a - b).abs().max() > 1e-6 for a, b in zip(before, after, strict=True))


@torch.no_grad()
def test_step_by_step_with_a_cache_says_what_the_whole_does() -> None:
    model = network("ar")
    palette, tokens = sequence(order="ar")
    whole = logits(model, palette, tokens, CAPTIONS)
    context, told = model.read(*numbered(CAPTIONS, model.config))
    known = torch.cat([palette, tokens.flatten(1)], 1)
    cache: Cache = []
    for place in range(19):
        said, cache = model.step(known[:, place - 1] if place else None, place, SIZE, context, told, cache)
        torch.testing.assert_close(said, whole[place], atol=1e-5, rtol=1e-4)
        assert all(one[0].shape[2] == place + 1 for one in cache)


@torch.no_grad()
@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
def test_words_count_and_padding_does_not(order: str) -> None:
    model = network(order)
    palette, tokens = sequence(order=order)
    alone = logits(model, palette[:1], tokens[:1], CAPTIONS[:1])
    longer = logits(model, palette, tokens, [CAPTIONS[0], " ".join(CAPTIONS)])
    other = logits(model, palette[:1], tokens[:1], ["A forest at night"])
    for a, b, c in zip(alone, longer, other, strict=True):
        torch.testing.assert_close(a, b[:1], atol=1e-5, rtol=1e-4)
        assert (a - c).abs().max() > 1e-5
    # no words at all is an answer of its own, whatever is not told
    words, told = numbered(CAPTIONS[:1], model.config)
    nothing = [model.read(some, torch.zeros_like(told)) for some in (words, words * 0)]
    made = [model.say(palette[:1], tokens[:1], *one)[-1] for one in nothing]
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], torch.stack(alone[-15:], 1), atol=1e-5)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    turns = rotations(6, 7, TINY, torch.zeros(1))[:, TINY.colours :].unflatten(1, (6, 7))
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 1, 1, 16, generator=generator), torch.randn(1, 1, 1, 16, generator=generator)

    def product(a: tuple[int, int], b: tuple[int, int]) -> float:
        first = rotated(query, turns[:, a[0], a[1]][:, None])
        return float((first * rotated(key, turns[:, b[0], b[1]][:, None])).sum())

    assert product((0, 1), (2, 4)) == pytest.approx(product((3, 2), (5, 5)), abs=1e-5)
    assert abs(product((0, 1), (2, 4)) - product((0, 1), (4, 2))) > 1e-4, "rows are not columns"
    assert not rotations(2, 2, TINY, torch.zeros(1))[1, : TINY.colours].any(), "colours do not turn"
    assert float(rotated(query, turns[:, 5, 6][:, None]).norm()) == pytest.approx(float(query.norm()), rel=1e-6)


def test_a_place_is_told_where_it_is_whatever_the_size() -> None:
    small, large = whereabouts(5, 8, torch.zeros(1)).double(), whereabouts(15, 24, torch.zeros(1)).double()
    assert len(small.unique(dim=0)) == 40, "all places differ"
    middles = large.view(15, 24, -1)[1::3, 1::3].flatten(0, 1)
    assert torch.allclose(small, middles, atol=1e-5), "of a picture three times as large, those in the same part of it"
    down, across = (2 + 0.5) / 5, (3 + 0.5) / 8
    waves = [math.pi * 2**n * at for at in (down, across) for n in range(5)]
    wanted = torch.tensor([math.cos(one) for one in waves] + [math.sin(one) for one in waves], dtype=torch.float64)
    assert torch.allclose(small[2 * 8 + 3], wanted, atol=1e-5)


@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
def test_gradients_reach_every_weight(order: str) -> None:
    model = network(order).train()
    palette, tokens = sequence(order=order)
    torch.stack([one.logsumexp(1).square().mean() for one in logits(model, palette, tokens, CAPTIONS)]).sum().backward()
    lost = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    assert not lost, lost


@torch.no_grad()
def test_tokens_of_a_group_come_out_where_they_went_in() -> None:
    """With blocks that do nothing, logits of a token depend on the four of its own square and on no other."""
    model = network("grouped")
    for name, weight in model.named_parameters():
        if name.startswith("blocks") and "leave" in name:
            weight.zero_()
    palette, tokens = sequence(1)
    before = model(palette, tokens, *numbered(CAPTIONS[:1], TINY))
    for plane, most in enumerate((4, 20)):
        other = tokens.clone()
        other[0, plane, 2, 3] = (other[0, plane, 2, 3] + 1) % most
        after = model(palette, other, *numbered(CAPTIONS[:1], TINY))
        for a, b in zip(before[1:], after[1:], strict=True):
            changed = (a != b).any(2).view(SIZE)
            assert changed.nonzero().tolist() == [[2, 2], [2, 3]], "the row below the last is not part of the picture"


@pytest.mark.parametrize("order", ["masked", "grouped"])
def test_any_size_will_do(order: str) -> None:
    model = network(order)
    palette, _ = sequence(1)
    context, told = model.read(*numbered(CAPTIONS[:1], TINY))
    for size in ((1, 1), (12, 20), (25, 40)):
        tokens = torch.zeros(1, 2, *size, dtype=torch.long)
        made = model.say(palette, tokens, context, told)
        assert [part.shape[1:] for part in made] == [(4, COLOURS), (size[0] * size[1], 4), (size[0] * size[1], 20)]


# --- words and colours --------------------------------------------------------------------------------------------


def test_colour_tokens_are_the_nearest_shades_from_dark_to_light() -> None:
    table = shades()
    assert len(table) == COLOURS and len(np.unique(table, axis=0)) == COLOURS
    some = torch.randperm(COLOURS)[:64].sort().values
    assert torch.equal(colour_tokens(token_colours(some), 64), some)
    few = colour_tokens(torch.tensor([[255, 255, 255], [0, 0, 0]], dtype=torch.uint8), 5)
    assert few.tolist() == [0, 0, 0, COLOURS - 1, COLOURS - 1]
    with pytest.raises(ValueError, match="more than 64"):
        colour_tokens(torch.tensor(BUILT_IN["vga"]), 64)


def test_a_thumbnail_has_the_nearest_colours_of_squares_and_each_colour_once() -> None:
    palette = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 255]], np.uint8)
    indices = np.zeros((16, 24), np.uint8)
    indices[:8, 8:16], indices[8:, 16:] = 1, 2
    indices[0, 0] = 2  # one pixel does not count
    tokens = colour_tokens(torch.from_numpy(palette), 8)
    small = thumbnail(indices, palette, tokens, 8)
    assert small.shape == (2, 3)
    assert torch.equal(tokens[small], nearest_shades(torch.from_numpy(palette))[torch.tensor([[0, 1, 0], [0, 0, 2]])])
    assert all((tokens[:number] != tokens[number]).all() for number in small.unique().tolist()), "the first of equals"


@torch.no_grad()
def test_colours_that_come_twice_are_drawn_once() -> None:
    model = network("masked")
    palette = torch.tensor([[3, 3, 9, 9]])
    said = model(palette, sequence(1)[1], *numbered(CAPTIONS[:1], TINY))[1]
    assert said[..., [1, 3]].eq(-torch.inf).all() and said[..., [0, 2]].isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 3}, "multiple of 4 times the 3 heads"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"vocabulary": "a b a"}, "a word twice"),
        ({"layers": 0}, "at least 1"),
        ({"order": "ar", "group": 2, "thumbnail": False}, "1 for ar"),
        ({"order": "ar"}, "set thumbnail to false"),
        ({"group": 3}, "must be 1 or 2"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)
