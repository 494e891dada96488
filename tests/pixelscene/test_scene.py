"""Drawing and going on with pictures, on torch and on MLX: what was not asked for stays, to the pixel."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import awake

from hubmodels.pixelscene import scene, twins
from hubmodels.pixelscene.palettes import BUILT_IN, in_ramps, oklab
from hubmodels.pixelscene.sampling import Sampling, sample
from hubmodels.pixelscene.scene import Pair, draw, edit, loaded, outpaint, tile, vary
from hubmodels.pixelscene.shape import PixelTransformerConfig, PixelVQGANConfig
from hubmodels.pixelscene.text import encoded, vocabulary
from hubmodels.pixelscene.transformer import PixelTransformer, token_colours
from hubmodels.pixelscene.vqgan import PixelVQGAN

TOKENIZER = PixelVQGANConfig(channels=8, growth="1,1,1,1,1", blocks=1, levels="4,3,2", features=4)
TRANSFORMER = PixelTransformerConfig(
    *("masked", 24, 8, 2, 8),
    text="words",
    width=32,
    layers=1,
    heads=2,
    feedforward=32,
    text_width=16,
    vocabulary=vocabulary(["a castle at night"]),
)
QUICK = Sampling(rounds=3, seed=2)
PALETTE = np.random.default_rng(0).integers(0, 256, (40, 3), dtype=np.uint8)


def models(stride: int = 8) -> tuple[PixelVQGAN, PixelTransformer]:
    torch.manual_seed(0)
    made = PixelVQGAN(replace(TOKENIZER, stride=stride)), PixelTransformer(replace(TRANSFORMER, stride=stride))
    return awake(made[0], 0.2).eval(), awake(made[1], 0.2).eval()


def pair(stride: int = 8) -> Pair:
    return Pair(*models(stride))


def picture(height: int = 72, width: int = 96) -> scene.Picture:
    return np.random.default_rng(1).integers(0, 40, (height, width), dtype=np.uint8), PALETTE


@pytest.mark.parametrize(
    ("system", "machine", "installed", "expected"),
    [
        ("darwin", "arm64", True, "mlx"),
        ("darwin", "arm64", False, "torch"),
        ("darwin", "x86_64", True, "torch"),
        ("linux", "x86_64", True, "torch"),
    ],
)
def test_apple_silicon_draws_with_mlx_if_nothing_is_said(
    system: str, machine: str, installed: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.sys, "platform", system)
    monkeypatch.setattr(scene.platform, "machine", lambda: machine)
    monkeypatch.setattr(scene, "find_spec", lambda name: installed or None)
    assert scene.chosen("auto") == expected and scene.chosen("torch") == "torch"
    if not installed:
        with pytest.raises(ValueError, match="mlx is not installed"):
            scene.chosen("mlx")


def test_pictures_are_in_their_palette_and_size() -> None:
    both, captions = pair(), ["a castle", "at night"]
    made = draw(both, captions, (80, 64), None, QUICK)
    unknown = torch.full((2, 8), -1), torch.full((2, 2, 8, 10), -1)
    drawn, _ = sample(both.transformer, *encoded(captions, both.transformer.config), *unknown, QUICK)
    for (_, palette), tokens in zip(made, drawn, strict=True):
        assert np.array_equal(palette, in_ramps(token_colours(tokens).numpy())) and len(palette) > 1
    assert [indices.shape for indices, _ in made] == [(64, 80)] * 2
    for indices, palette in made:
        assert indices.dtype == np.uint8 and indices.max() < len(palette) <= 8
    ((indices, palette),) = draw(pair(), ["a castle"], (80, 64), BUILT_IN["vga"], QUICK)
    assert (palette == BUILT_IN["vga"]).all() and len(np.unique(indices)) > 1
    ((one, of_one),) = draw(pair(), ["a castle"], (80, 64), PALETTE[:1], QUICK)
    assert not one.any() and len(of_one) == 1


def test_words_and_seed_decide() -> None:
    both, how = pair(), replace(QUICK, guidance=20.0)  # weights that were not trained hardly listen
    ((first, _),) = draw(both, ["a castle"], (80, 64), PALETTE, how)
    ((again, _),) = draw(both, ["a castle"], (80, 64), PALETTE, how)
    ((other, _),) = draw(both, ["a castle"], (80, 64), PALETTE, replace(how, seed=9))
    ((night, _),) = draw(both, ["night"], (80, 64), PALETTE, how)
    assert (first == again).all() and (first != other).any() and (first != night).any()


@pytest.mark.parametrize("size", [(72, 96), (75, 90)])
def test_an_edit_changes_what_is_under_the_mask_alone(size: tuple[int, int]) -> None:
    indices, palette = picture(*size)
    mask = np.zeros(size, bool)
    mask[10:37, 20:61] = True
    made, same = edit(pair(), (indices, palette), "a castle", mask, QUICK)
    assert (same == palette).all() and (made[~mask] == indices[~mask]).all() and (made[mask] != indices[mask]).any()


def test_outpainting_keeps_the_picture() -> None:
    indices, palette = picture()
    made, _ = outpaint(pair(), (indices, palette), "a castle", left=16, right=24, top=8, how=QUICK)
    assert made.shape == (80, 136) and (made[8:, 16:112] == indices).all()
    assert len(np.unique(made[:8])) > 1


def test_variations_differ_and_little_strength_changes_little() -> None:
    few, many = (vary(pair(), picture(), "a castle", 3, strength, QUICK) for strength in (0.1, 1.0))
    assert len(few) == 3 and all((one[0] != few[0][0]).any() for one in few[1:])
    plain = pair().tokenizer
    lab = torch.from_numpy(oklab(PALETTE)).float()[None]
    back = plain.decode(plain.encode(torch.from_numpy(picture()[0])[None], lab), lab)[0].numpy()
    changed = [np.mean([(one != back).mean() for one, _ in made]) for made in (few, many)]
    assert 0 < changed[0] < changed[1]


@pytest.mark.parametrize("size", [(64, 128), (75, 90)])
def test_a_tile_is_drawn_anew_around_its_seam_alone(size: tuple[int, int]) -> None:
    """And as one piece: where its edges meet is in the middle of what the decoder draws."""
    both, (indices, palette), half = pair(), picture(*size), size[1] // 16 * 8
    drawn = []

    class Seen:
        config = both.tokenizer.config
        encode = both.tokenizer.encode

        def decode(self, tokens: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
            drawn.append(both.tokenizer.decode(tokens, palette)[0].numpy())
            return both.tokenizer.decode(tokens, palette)

    made, same = tile(Pair(Seen(), both.transformer), (indices, palette), "a castle", QUICK)
    assert made.shape == size and (same == palette).all()
    away, seam = np.ones(size[1], bool), slice(half - 16, half + 16)
    away[seam] = False
    moved, before = np.roll(made, half, 1), np.roll(indices, half, 1)
    assert (moved[:, away] == before[:, away]).all()
    assert (moved[:, seam] == drawn[0][: size[0], seam]).all() and (moved[:, seam] != before[:, seam]).any()


def test_of_several_each_is_that_of_its_own_seed() -> None:
    both, third = pair(), replace(QUICK, seed=QUICK.seed + 2)
    many = vary(both, picture(), "a castle", 3, 0.3, QUICK)
    ((alone, _),) = vary(both, picture(), "a castle", 1, 0.3, third)
    assert (many[2][0] == alone).all() and (many[1][0] != alone).any()


@pytest.mark.parametrize("what", ["draw", "edit"])
def test_mlx_draws_the_same(what: str) -> None:
    tokenizer, transformer = models()
    ours, theirs = Pair(tokenizer, transformer), Pair(twins.Tokenizer(tokenizer), twins.Transformer(transformer))
    mask = np.zeros((72, 96), bool)
    mask[:40, :50] = True
    for both in (ours, theirs):
        made = (
            draw(both, ["a castle", "night"], (80, 64), None, QUICK)
            if what == "draw"
            else [edit(both, picture(), "a castle", mask, QUICK)]
        )
        if both is ours:
            expected = made
    for (a, of_a), (b, of_b) in zip(expected, made, strict=True):
        assert (of_a == of_b).all() and (a == b).mean() > 0.999


def test_mlx_says_tokens_one_by_one_as_well() -> None:
    tokenizer, _ = models()
    torch.manual_seed(1)
    transformer = PixelTransformer(replace(TRANSFORMER, order="ar", group=1, thumbnails=0)).eval()
    both = Pair(tokenizer, transformer), Pair(twins.Tokenizer(tokenizer), twins.Transformer(transformer))
    unknown = torch.full((1, 8), -1), torch.full((1, 1, 8, 8), -1)
    words = encoded(["a castle"], transformer.config)
    (palette, tokens), (same_palette, same_tokens) = (sample(one.transformer, *words, *unknown, QUICK) for one in both)
    assert (palette == same_palette).all() and (tokens == same_tokens).all()
    (ours, colours), (theirs, same_colours) = (draw(one, ["a castle"], (64, 64), None, QUICK)[0] for one in both)
    assert (colours == same_colours).all() and (ours == theirs).mean() > 0.999


def test_both_are_loaded_and_must_belong_together(tmp_path: Path) -> None:
    tokenizer, transformer = models()
    tokenizer.save_pretrained(tmp_path / "vqgan")
    transformer.save_pretrained(tmp_path / "prior")
    digests = {loaded(str(tmp_path / "vqgan"), str(tmp_path / "prior"), backend).digest for backend in ("torch", "mlx")}
    assert len(digests) == 1 and len(digests.pop()) == 16
    models(16)[1].save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="trained with a tokenizer of 24 codes and stride 16"):
        loaded(str(tmp_path / "vqgan"), str(tmp_path / "other"), "torch")


def test_tokens_must_mean_what_they_meant_in_training(tmp_path: Path) -> None:
    tokenizer, _ = models()
    PixelTransformer(replace(TRANSFORMER, meaning=tokenizer.meaning())).save_pretrained(tmp_path / "prior")

    def fits() -> Pair:
        tokenizer.save_pretrained(tmp_path / "vqgan", dtype=torch.float16)
        return loaded(str(tmp_path / "vqgan"), str(tmp_path / "prior"), "torch")

    assert fits().transformer.config.meaning == PixelVQGAN.from_pretrained(tmp_path / "vqgan").meaning()
    torch.nn.init.normal_(tokenizer.decoder.leave.weight)
    fits()
    torch.nn.init.normal_(tokenizer.encoder.leave.weight)
    with pytest.raises(ValueError, match="whose tokens mean something else"):
        fits()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda both: draw(both, ["a"], (81, 64)), "multiples of 8 from 64"),
        (lambda both: draw(both, ["a"], (8, 64)), "multiples of 8 from 64"),
        (lambda both: draw(both, ["a"], (1280, 1280)), "are too many"),
        (lambda both: edit(both, picture(), "a", np.zeros((72, 96), bool)), "the mask is empty"),
        (lambda both: edit(both, picture(), "a", np.ones((72, 95), bool)), "of 96 x 72 pixels and its mask of 95 x 72"),
        (lambda both: outpaint(both, picture(), "a"), "multiples of 8 pixels, got none"),
        (lambda both: outpaint(both, picture(), "a", left=7), "got left=7"),
        (lambda both: outpaint(both, picture(), "a", left=8000), "multiples of 8 from 64"),
        (lambda both: outpaint(both, picture(75, 96), "a", left=8), "multiples of 8 from 64"),
        (lambda both: tile(both, picture(8, 90), "a"), "multiples of 8 from 64"),
        (lambda both: vary(both, picture(), "a", 2, 0.0), "strength"),
    ],
)
def test_what_cannot_be_done_is_said(ask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask(pair())
