"""The transformer: what it may look at, where it knows things to be, and words that are the same in every process."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import awake
from torch import Tensor

from hubmodels.pixelscene.palettes import BUILT_IN, oklab, shades
from hubmodels.pixelscene.text import numbered, vocabulary
from hubmodels.pixelscene.transformer import (
    COLOURS,
    SCALES,
    Asked,
    Cache,
    PixelTransformer,
    PixelTransformerConfig,
    coarser,
    colour_tokens,
    embedded_shades,
    finer,
    nearest_shades,
    rotated,
    rotations,
    stages_of,
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
    thumbnails=2,
    text_width=16,
    channels=8,
    convolutions=2,
    vocabulary=vocabulary(CAPTIONS),
)
SIZE = (3, 5)


def network(order: str) -> PixelTransformer:
    """`ar`, `masked`, or `grouped`: masked with four tokens a place."""
    torch.manual_seed(0)
    group = 2 if order == "grouped" else 1
    plain = {"order": "ar", "thumbnails": 0} if order == "ar" else {}
    return awake(PixelTransformer(replace(TINY, group=group, **plain))).eval()


def sequence(count: int = 2, order: str = "masked") -> list[Asked]:
    """Every stage of pictures: of `ar` one, with a palette (B, 4) and tokens; else palettes, thumbnails of 2 x 3 and
    3 x 5 cells and tokens, in which all is known."""
    generator = torch.Generator().manual_seed(1)
    palette = torch.randint(COLOURS, (count, 4), generator=generator)
    tokens = torch.randint(20, (count, *SIZE), generator=generator)
    small, large = (torch.randint(4, (count, *size), generator=generator) for size in ((2, 3), SIZE))
    if order == "ar":
        return [Asked(1, palette, None, tokens)]
    above = finer(small, *SIZE)
    return [
        Asked(0, palette),
        Asked(1, palette, None, small),
        Asked(2, palette, above, large),
        Asked(3, palette, large, tokens),
    ]


def logits(model: PixelTransformer, asked: list[Asked], captions: list[str]) -> list[Tensor]:
    """Of each place, (B, classes)."""
    return [place for part in model(asked, *numbered(captions, model.config)) for place in part.unbind(1)]


def first(asked: list[Asked], count: int = 1) -> list[Asked]:
    """Of the first pictures."""
    return [Asked(one.stage, *(None if part is None else part[:count] for part in one[1:])) for one in asked]  # pyright: ignore


@torch.no_grad()
def test_ar_looks_at_what_came_before_only() -> None:
    model = network("ar")
    (asked,) = sequence(order="ar")
    before = logits(model, [asked], CAPTIONS)
    assert asked.plane is not None
    for place in (0, 2, 3, 4, 9, 18):
        palette, tokens = asked.palette.clone(), asked.plane.clone()
        if place < 4:
            palette[:, place] = (palette[:, place] + 1) % COLOURS
        else:
            tokens.flatten(1)[:, place - 4] = (tokens.flatten(1)[:, place - 4] + 1) % 20
        after = logits(model, [Asked(1, palette, None, tokens)], CAPTIONS)
        changed = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)]
        assert changed == [number > place for number in range(19)]


@torch.no_grad()
@pytest.mark.parametrize("order", ["masked", "grouped"])
def test_masked_looks_at_all_of_a_stage_and_of_what_is_above_it(order: str) -> None:
    model = network(order)
    for asked in sequence():
        before = logits(model, [asked], CAPTIONS)
        for name in ("palette", "above", "plane"):
            part = getattr(asked, name)
            for place in (0, -1) if part is not None else ():
                other = part.clone()
                other.flatten(1)[:, place] = (other.flatten(1)[:, place] + 1) % 4
                after = logits(model, [asked._replace(**{name: other})], CAPTIONS)
                assert all((a - b).abs().max() > 1e-6 for a, b in zip(before, after, strict=True)), (asked.stage, name)


@torch.no_grad()
def test_stages_are_told_apart_and_may_have_fewer_rows() -> None:
    model = network("masked")
    asked = sequence()
    context, told = model.read(*numbered(CAPTIONS, TINY))
    unknown = torch.full((2, *SIZE), 4)
    (one,), (other,) = (model.say(Asked(stage, asked[0].palette, unknown, unknown), context, told) for stage in (1, 2))
    assert (one - other).abs().max() > 1e-3
    whole = logits(model, asked, CAPTIONS)
    fewer = logits(model, [*asked[:2], *first(asked[2:])], CAPTIONS)
    for a, b in zip(whole, fewer, strict=True):
        torch.testing.assert_close(a[: len(b)], b, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_step_by_step_with_a_cache_says_what_the_whole_does() -> None:
    model = network("ar")
    (asked,) = sequence(order="ar")
    whole = logits(model, [asked], CAPTIONS)
    context, told = model.read(*numbered(CAPTIONS, model.config))
    assert asked.plane is not None
    known = torch.cat([asked.palette, asked.plane.flatten(1)], 1)
    cache: Cache = []
    for place in range(19):
        said, cache = model.step(known[:, place - 1] if place else None, place, SIZE, context, told, cache)
        torch.testing.assert_close(said, whole[place], atol=1e-5, rtol=1e-4)
        assert all(one[0].shape[2] == place + 1 for one in cache)


@torch.no_grad()
@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
def test_words_count_and_padding_does_not(order: str) -> None:
    model = network(order)
    asked = sequence(order=order)
    alone = logits(model, first(asked), CAPTIONS[:1])
    longer = logits(model, asked, [CAPTIONS[0], " ".join(CAPTIONS)])
    other = logits(model, first(asked), ["A forest at night"])
    tokens = len(alone) - 15
    for place, (a, b, c) in enumerate(zip(alone, longer, other, strict=True)):
        torch.testing.assert_close(a, b[:1], atol=1e-5, rtol=1e-4)
        follows = order != "ar" and place >= tokens  # from the last thumbnail, which words have said
        assert torch.equal(a, c) if follows else (a - c).abs().max() > 1e-5
    # no words at all is an answer of its own, whatever is not told
    words, told = numbered(CAPTIONS[:1], model.config)
    made = [model(first(asked), some, torch.zeros_like(told))[0] for some in (words, words * 0)]
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], torch.stack(alone[:4], 1), atol=1e-5)


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
    said = logits(model, sequence(order=order), CAPTIONS)
    torch.stack([one.logsumexp(1).square().mean() for one in said]).sum().backward()
    lost = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    assert not lost, lost


@torch.no_grad()
def test_what_is_in_a_group_comes_out_where_it_went_in() -> None:
    """With blocks that do nothing, logits of a cell depend on the four of its own square and on no other."""
    model = network("grouped")
    for name, weight in model.named_parameters():
        if name.startswith("blocks") and "leave" in name:
            weight.zero_()
    for asked in first(sequence())[2:3]:
        assert asked.plane is not None and asked.above is not None
        (before,) = model([asked], *numbered(CAPTIONS[:1], TINY))
        for name in ("above", "plane"):
            other = getattr(asked, name).clone()
            other[0, 2, 3] = (other[0, 2, 3] + 1) % 4
            (after,) = model([asked._replace(**{name: other})], *numbered(CAPTIONS[:1], TINY))
            changed = (before != after).any(2).view(SIZE)
            assert changed.nonzero().tolist() == [[2, 2], [2, 3]], "the row below the last is not part of the picture"


@torch.no_grad()
@pytest.mark.parametrize("order", ["masked", "grouped"])
def test_any_size_will_do(order: str) -> None:
    model = network(order)
    palette = sequence(1)[0].palette
    for size in ((1, 1), (12, 20), (25, 40)):
        plane = torch.zeros(1, *size, dtype=torch.long)
        asked = [Asked(1, palette, None, plane), Asked(2, palette, plane, plane), Asked(3, palette, plane, plane)]
        made = model(asked, *numbered(CAPTIONS[:1], TINY))
        assert [part.shape[1:] for part in made] == [(size[0] * size[1], most) for most in (4, 4, 20)]


# --- tokens -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_tokens_follow_from_what_is_around_them() -> None:
    """With one block, from what is at most three cells away: what enters, every cell; then two convolutions of it."""
    model = awake(PixelTransformer(replace(TINY, convolutions=1))).eval()
    palette, plane = sequence(1)[0].palette, torch.zeros(1, 12, 20, dtype=torch.long)
    asked = Asked(3, palette, plane, plane)
    (before,) = model([asked], *numbered(CAPTIONS[:1], TINY))
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(20), indexing="ij")
    near = torch.maximum((rows - 6).abs(), (columns - 9).abs()) <= 3
    for name, value in (("above", 1), ("above", 4), ("plane", 1), ("plane", 20)):
        other = plane.clone()
        other[0, 6, 9] = value
        (after,) = model([asked._replace(**{name: other})], *numbered(CAPTIONS[:1], TINY))
        assert torch.equal((before != after).any(2).view(12, 20), near), (name, value)


@torch.no_grad()
def test_tokens_begin_as_what_they_mean() -> None:
    model = PixelTransformer(TINY)
    codes = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    codes[1] = codes[0] + 0.001
    model.details.begin(codes)
    alike = model.details.leave.weight @ model.details.leave.weight.T
    assert alike.diagonal().mean() == pytest.approx(1, abs=0.5)
    assert alike[0, 1] == pytest.approx(alike[0, 0].item(), abs=0.05), "of neighbours"
    assert abs(float(alike[torch.cdist(codes, codes) > 3].mean())) < 0.3, "of strangers"
    told = model.details.token.weight
    assert torch.equal(told[:20, :5], codes) and not told[20].any() and (told[:20, -1] == 1).all()
    lab = oklab(shades()[7:8])[0]
    assert model.details.shade[7].tolist() == pytest.approx([3 * (lab[0] - 0.5), 3 * lab[1], 3 * lab[2], 1], abs=1e-5)
    assert not model.details.shade[COLOURS].any()


# --- thumbnails ---------------------------------------------------------------------------------------------------


def test_half_the_size_has_the_nearest_colour_of_what_is_known() -> None:
    """Against a loop over squares, with palettes in which colours come twice."""
    generator = torch.Generator().manual_seed(0)
    palette = torch.randint(COLOURS, (3, 9), generator=generator).sort().values
    palette[1, 4:] = palette[1, 4]
    plane = torch.randint(9, (3, 5, 8), generator=generator)
    plane[torch.rand(plane.shape, generator=generator) < 0.4] = -1
    found = coarser(palette, plane)
    assert found.shape == (3, 3, 4) and (found < 0).any() and (found >= 0).sum() > 20
    for picture, row, column in itertools.product(range(3), range(3), range(4)):
        square = plane[picture, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
        known, own = square[square >= 0], oklab(token_colours(palette[picture]).numpy())
        if 2 * len(known) < len(square):
            assert found[picture, row, column] == -1
            continue
        apart = np.linalg.norm(own - own[known.numpy()].mean(0), axis=1)
        nearest = int(found[picture, row, column])
        assert apart[nearest] == pytest.approx(apart.min(), abs=1e-5)
        assert (palette[picture, :nearest] != palette[picture, nearest]).all(), "the first of equals"
    wide = finer(found, 5, 8)
    assert wide.shape == plane.shape
    assert all(wide[0, y, x] == found[0, y // 2, x // 2] for y, x in itertools.product(range(5), range(8)))
    assert finer(wide, 5, 8) is wide


def test_stages_are_thumbnails_of_half_the_size_each_then_tokens() -> None:
    palette, tokens = torch.arange(8).view(1, 8) * 200, torch.randint(8, (1, 2, 25, 40))
    stages = stages_of(palette, tokens, 3)
    assert [one.shape[1:] for one in stages] == [(7, 10), (13, 20), (25, 40), (25, 40)]
    assert torch.equal(stages[2], tokens[:, 0]) and torch.equal(stages[3], tokens[:, 1])
    assert torch.equal(stages[0], coarser(palette, coarser(palette, tokens[:, 0])))
    before = tokens.clone()
    for one in stages_of(palette, tokens, 3):
        one[:] = -1
    assert torch.equal(tokens, before), "what is written to them is not written to the picture"
    (only,) = stages_of(palette, tokens[:, 1:], 0)
    assert torch.equal(only, tokens[:, 1]), "without thumbnails tokens alone"


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


def test_colours_begin_alike_as_they_look_alike() -> None:
    """Products of waves are Gaussians of the distance in OKLab, averaged over their scales."""
    torch.manual_seed(0)
    lab = torch.from_numpy(oklab(shades())).float()
    found = embedded_shades(20_000)
    assert torch.allclose(found[:, :3].T.corrcoef()[0, 1], lab[:, :2].T.corrcoef()[0, 1], atol=1e-4)
    assert torch.allclose(found.std(0)[:3], torch.ones(3), atol=1e-3)
    pairs = torch.randint(COLOURS, (2, 500))
    distances = (lab[pairs[0]] - lab[pairs[1]]).norm(dim=1).float()
    scales = torch.linspace(*(math.log(scale) for scale in SCALES), 1000).exp()
    wanted = (-((distances[:, None] / scales) ** 2) / 2).exp().mean(1)
    found = (found[pairs[0], 3:] * found[pairs[1], 3:]).mean(1)
    assert wanted.max() > 0.5 and torch.allclose(found, wanted, atol=0.04)


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
    (said,) = model([first(sequence())[2]._replace(palette=palette)], *numbered(CAPTIONS[:1], TINY))
    assert said[..., [1, 3]].eq(-torch.inf).all() and said[..., [0, 2]].isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 3}, "multiple of 4 times the 3 heads"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"vocabulary": "a b a"}, "a word twice"),
        ({"layers": 0}, "at least 1"),
        ({"convolutions": 0}, "at least 1"),
        ({"width": 8, "group": 2}, "4 times group squared"),
        ({"order": "ar", "group": 2, "thumbnails": 0}, "1 for ar"),
        ({"order": "ar"}, "0 for ar, got 2"),
        ({"thumbnails": -1}, "at least 0"),
        ({"group": 3}, "must be 1 or 2"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)
