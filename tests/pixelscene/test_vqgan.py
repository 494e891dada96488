"""The tokenizer: codes that count, exact palettes, and a quantizer that evaluation leaves alone."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from tiny import awake
from torch import Tensor

from hubmodels.pixelscene.palettes import BUILT_IN, nearest, oklab
from hubmodels.pixelscene.vqgan import (
    FSQ,
    VQ,
    PixelVQGAN,
    PixelVQGANConfig,
    Pointer,
    coloured,
    log_shares,
    snapped,
    straight_through,
    wanted,
)

TINY = PixelVQGANConfig(channels=8, blocks=1, features=4, codes=16, code_width=4, levels="4,3")


def palettes(*names: str) -> Tensor:
    return torch.stack([torch.tensor(oklab(BUILT_IN[name]), dtype=torch.float32) for name in names])


def pictures(count: int = 2, height: int = 16, width: int = 32, colours: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(colours, (count, height, width), generator=generator, dtype=torch.uint8)


# --- codes --------------------------------------------------------------------------------------------------------


def test_every_token_of_fsq_is_a_code_and_every_code_its_token() -> None:
    fsq = FSQ(TINY)
    tokens = torch.arange(12).view(1, 3, 4)
    codes = fsq.codes_of(tokens)
    assert codes.shape == (1, 2, 3, 4)
    # 4 levels are -1, -1/2, 0, 1/2 and 3 levels -1, 0, 1 (the paper's, divided by half of them)
    expected = {(a, b) for a, b in product((-1, -0.5, 0, 0.5), (-1, 0, 1))}
    assert {tuple(code) for code in codes[0].flatten(1).T.tolist()} == expected
    # what is rounded to a code has its token: the inverse of the bound, by bisection on the way through
    wide = torch.linspace(-4, 4, 4001)
    grid = torch.stack([wide.repeat_interleave(7), wide[::643].repeat(4001)]).view(1, 2, -1, 7)
    made, found, commitment = fsq(grid)
    assert torch.equal(fsq.codes_of(found), made) and set(found.flatten().tolist()) == set(range(12))
    assert commitment == 0


def test_fsq_is_even_about_zero_and_lets_gradients_through() -> None:
    fsq = FSQ(replace(TINY, levels="5"))
    z = torch.linspace(-3, 3, 101).view(1, 1, 1, -1).requires_grad_()
    codes, tokens, _ = fsq(z)
    assert torch.equal(codes, -codes.flip(-1)) and (tokens.flatten().diff() >= 0).all()
    codes.sum().backward()
    assert z.grad is not None and (z.grad > 0).all()
    # the gradient is that of tanh, scaled: straight through the rounding
    torch.testing.assert_close(z.grad, (2 * 1.001 / 2) * (1 - z.detach().tanh() ** 2), atol=1e-5, rtol=1e-4)


def test_straight_through() -> None:
    x = torch.tensor([0.2, 0.7], requires_grad=True)
    rounded = straight_through(x.round(), x)
    (rounded * torch.tensor([2.0, 3.0])).sum().backward()
    assert rounded.tolist() == [0, 1] and x.grad is not None and x.grad.tolist() == [2, 3]


def spread(count: int = 600, seed: int = 0) -> Tensor:
    """(1, 4, 1, count): clouds around sixteen directions."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.nn.functional.normalize(torch.randn(16, 4, generator=torch.Generator().manual_seed(9)), dim=1)
    points = middles[torch.randint(16, (count,), generator=generator)] + 0.05 * torch.randn(
        count, 4, generator=generator
    )
    return points.T.view(1, 4, 1, count)


def test_vq_places_its_codes_where_things_are_and_all_are_used() -> None:
    torch.manual_seed(0)
    vq = VQ(TINY).train()
    errors = []
    for step in range(40):
        codes, tokens, commitment = vq(spread(seed=step))
        errors.append(float(commitment))
    assert len(tokens.unique()) >= 14 and errors[-1] < 0.01 and errors[0] < 0.05
    assert torch.allclose(codes.norm(dim=1), torch.ones(1, 1, 600), atol=1e-5)
    assert vq.codebook.isfinite().all() and vq.codebook.norm(dim=1).max() < 1.001
    # the nearest code by brute force
    flat = torch.nn.functional.normalize(spread(seed=3), dim=1)[0, :, 0].T
    assert torch.equal(vq.eval()(spread(seed=3))[1].flatten(), torch.cdist(flat, vq.codebook).argmin(1))


def test_codes_that_died_come_back() -> None:
    torch.manual_seed(0)
    vq = VQ(TINY).train()
    vq(spread())
    vq.codebook[3:] = torch.tensor([0.0, 0, 0, 1])
    vq.sums[3:], vq.counts[3:] = 0, 0
    for step in range(300):
        _, tokens, _ = vq(spread(seed=step))
    assert len(tokens.unique()) >= 13


def test_evaluation_changes_nothing_of_vq() -> None:
    torch.manual_seed(0)
    vq = VQ(TINY).train()
    vq(spread())
    before = {name: one.clone() for name, one in vq.state_dict().items()}
    first = vq.eval()(spread(seed=5))[1]
    assert torch.equal(first, vq(spread(seed=5))[1])
    assert all(torch.equal(one, before[name]) for name, one in vq.state_dict().items())
    again = VQ(TINY)
    again.load_state_dict(before)
    a, b = vq.train()(spread(seed=6))[1], again.train()(spread(seed=6))[1]
    assert torch.equal(a, b) and torch.equal(vq.codebook, again.codebook), "all of its state is saved"


def test_a_codebook_that_is_a_mean_of_others_is_read_by_direction() -> None:
    """A run exports averaged weights: of a code that has turned the mean is shorter."""
    torch.manual_seed(0)
    vq = VQ(TINY).train()
    vq(spread())
    codes, tokens, _ = vq.eval()(spread(seed=5))
    vq.codebook[::2] *= 0.3
    shorter, same, _ = vq(spread(seed=5))
    assert torch.equal(tokens, same) and torch.allclose(codes, shorter, atol=1e-6)


def test_vq_learns_under_autocast_what_it_learns_without() -> None:
    states = []
    for enabled in (False, True):
        torch.manual_seed(0)
        vq = VQ(TINY).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            vq(spread())
            tokens = vq(spread(seed=1))[1]
        states.append((vq.codebook, tokens))
    assert torch.equal(states[0][0], states[1][0]) and torch.equal(states[0][1], states[1][1])


# --- the palette --------------------------------------------------------------------------------------------------


def test_an_untrained_pointer_snaps_to_the_nearest_colour() -> None:
    pointer = Pointer(TINY)
    generator = torch.Generator().manual_seed(1)
    rgb = torch.randint(256, (1, 12, 20, 3), generator=generator, dtype=torch.uint8)
    colours = torch.tensor(oklab(rgb.numpy()), dtype=torch.float32).permute(0, 3, 1, 2)
    pixels = torch.cat([colours, torch.randn(1, 5, 12, 20, generator=generator)], 1)
    logits, _ = pointer(pixels, palettes("pico8"))
    assert torch.equal(logits.argmax(1)[0], torch.tensor(nearest(rgb[0].numpy(), BUILT_IN["pico8"])).long())


def test_a_palette_is_a_set() -> None:
    torch.manual_seed(0)
    pointer = Pointer(TINY)
    torch.nn.init.normal_(pointer.key2.weight)
    pixels, palette = torch.randn(1, 8, 4, 4), palettes("ega")
    order = torch.randperm(16)
    torch.testing.assert_close(pointer(pixels, palette[:, order])[0], pointer(pixels, palette)[0][:, order])


@pytest.mark.parametrize("change", [{}, {"quantizer": "vq"}, {"stride": 16}, {"head": "nearest"}])
@pytest.mark.parametrize("size", [(16, 32), (48, 16)])
def test_pictures_become_tokens_and_come_back_in_any_palette(change: dict[str, Any], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = PixelVQGAN(replace(TINY, **change)).eval()
    indices = pictures(2, *size)
    tokens = model.encode(indices, palettes("ega", "c64"))
    stride = model.config.stride
    assert tokens.shape == (2, size[0] // stride, size[1] // stride)
    assert tokens.min() >= 0 and tokens.max() < model.config.codebook_size
    for name in ("ega", "cga"):
        made = model.decode(tokens, palettes(name, name))
        assert made.shape == (2, *size) and made.dtype == torch.uint8 and made.max() < len(BUILT_IN[name])
    through = model(coloured(indices, palettes("ega", "c64")), palettes("ega", "c64"))
    assert torch.equal(through.tokens, tokens)
    shares = log_shares(through.logits, palettes("ega", "c64"))
    best = snapped(wanted(shares, through.colours, palettes("ega", "c64")), palettes("ega", "c64"))
    taken = shares.argmax(1) if model.config.head == "nearest" else best
    assert torch.equal(taken.to(torch.uint8), model.decode(tokens, palettes("ega", "c64")))


def test_the_colour_that_is_taken_is_nearest_to_the_mean_and_to_what_was_said() -> None:
    palette, generator = palettes("ega"), torch.Generator().manual_seed(0)
    shares = torch.randn(1, 16, 3, 5, generator=generator).log_softmax(1)
    said = torch.rand(1, 3, 3, 5, generator=generator)
    found = snapped(wanted(shares, said, palette), palette)
    for row, column in product(range(3), range(5)):
        mean = sum(shares[0, one, row, column].exp() * palette[0, one] for one in range(16))
        apart = [float((palette[0, one] - (mean + said[0, :, row, column]) / 2).norm()) for one in range(16)]
        assert int(found[0, row, column]) == min(range(16), key=apart.__getitem__)
    assert (found != shares.argmax(1)).any()
    # three browns, none of which is likeliest, and an orange
    browns = torch.tensor([[[0.40, 0.05, 0.05], [0.41, 0.05, 0.05], [0.42, 0.05, 0.05], [0.70, 0.10, 0.14]]])
    likely = torch.tensor([0.22, 0.22, 0.22, 0.34]).log().view(1, 4, 1, 1)
    assert int(snapped(wanted(likely, browns[:, :1].mT[..., None], browns), browns)) == 2


def test_of_colours_that_a_palette_holds_twice_the_first_is_taken() -> None:
    torch.manual_seed(0)
    model, ega = awake(PixelVQGAN(TINY)).eval(), palettes("ega")
    tokens = torch.randint(model.config.codebook_size, (1, 3, 4))
    twice = torch.cat([ega, ega.flip(1) + 1e-7], 1)  # numbers of one colour may differ by rounding
    assert torch.equal(model.decode(tokens, twice), model.decode(tokens, ega))


def test_coloured_looks_indices_up() -> None:
    indices, palette = pictures(2, 3, 5), palettes("ega", "c64")
    found = coloured(indices, palette)
    assert found.shape == (2, 3, 3, 5)
    assert torch.equal(found[1, :, 2, 4], palette[1, int(indices[1, 2, 4])])


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    for quantizer in ("fsq", "vq"):
        model = awake(PixelVQGAN(replace(TINY, quantizer=quantizer))).train()  # type: ignore[arg-type]
        made = model(coloured(pictures(), palettes("ega", "c64")), palettes("ega", "c64"))
        (made.logits.logsumexp(1).mean() + made.colours.square().mean() + made.commitment).backward()
        lost = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
        assert not lost, lost


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stride": 4}, "stride must be 8 or 16"),
        ({"channels": 0}, "at least 1"),
        ({"growth": "1,2"}, "growth needs 4 numbers"),
        ({"growth": "1,x,2,2"}, "looks like 8,5,5, got '1,x,2,2'"),
        ({"levels": "8,1"}, "at least 2"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)


def test_what_does_not_fit_is_refused() -> None:
    model = PixelVQGAN(TINY)
    with pytest.raises(ValueError, match="pictures need sides that 8 divides, got 30 x 16: crop or pad them"):
        model.encode(pictures(1, 16, 30), palettes("ega"))
    with pytest.raises(ValueError, match="index 15 is beyond a palette of 4 colours"):
        model.encode(pictures(1), palettes("cga"))
    with pytest.raises(ValueError, match="tokens must be from 0 to 11"):
        model.decode(torch.tensor([[[12]]]), palettes("ega"))
