"""Measures of pictures against closed forms: what is the same, what is flat, what is a dither."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from hubmodels.pixelscene.measures import delta_e, dither, edges, index_accuracy, perplexity, psnr, seam
from hubmodels.pixelscene.palettes import oklab

SOME = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
GREYS = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


def test_distances_of_what_is_the_same_and_of_black_and_white() -> None:
    assert psnr(SOME, SOME) == 99 and index_accuracy(SOME, SOME) == 1 and delta_e(SOME, SOME) == 0
    black, white = np.zeros_like(SOME), np.full_like(SOME, 255)
    assert psnr(black, white) == 0 and index_accuracy(black, white) == 0
    assert delta_e(black, white) == pytest.approx(100, abs=0.01)
    other = SOME.copy()
    other[:4] = SOME[:4] ^ 1
    assert index_accuracy(other, SOME) == 0.75
    assert psnr(other, SOME) == pytest.approx(peak_signal_noise_ratio(SOME, other))


def test_a_blank_picture_has_neither_edges_nor_dither() -> None:
    blank = np.full_like(SOME, 77)
    stripes = GREYS[np.arange(24) % 2][None].repeat(16, 0)
    checker = GREYS[np.add.outer(np.arange(16), np.arange(24)) % 2]
    assert edges(blank) == dither(blank) == 0
    step = np.abs(oklab(GREYS[1]) - oklab(GREYS[0])).mean()
    assert edges(stripes) == pytest.approx(step / 2) and dither(stripes) == pytest.approx(0, abs=1e-9)
    assert edges(checker) == pytest.approx(step) and dither(checker) == pytest.approx(1, abs=1e-4)


def test_perplexity_counts_codes_that_are_used_evenly() -> None:
    assert perplexity(np.arange(10).repeat(3), 20) == pytest.approx((10, 0.5))
    assert perplexity(np.zeros(9, int), 20) == pytest.approx((1, 0.05))
    even, used = perplexity(np.array([0] * 99 + [1]), 4)
    assert 1 < even < 1.1 and used == 0.5


def test_a_seam_shows_where_a_picture_does_not_tile() -> None:
    turn = 127 + 120 * np.sin(2 * np.pi * np.arange(64) / 64)
    wave = np.broadcast_to(turn[None, :, None], (8, 64, 3)).astype(np.uint8)
    ramp = np.broadcast_to(np.arange(64)[None, :, None] * 4, (8, 64, 3)).astype(np.uint8)
    assert seam(wave) < 2 and seam(ramp) > 20
    assert seam(np.full((8, 64, 3), 9, np.uint8)) == 0
