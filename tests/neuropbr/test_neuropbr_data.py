"""Captures and crops: pure functions of a seed, whose photos lie where their homographies say."""

import pytest
import torch
from torch.utils.data import default_collate

from hubmodels.metrics import psnr
from hubmodels.neuropbr.cameras import rectify
from hubmodels.neuropbr.capture import capture
from hubmodels.neuropbr.data import MAPS, Photographed, cropped, numbers, split
from hubmodels.neuropbr.photos import Dirt
from hubmodels.neuropbr.procedural import make
from hubmodels.neuropbr.report import balanced_accuracy, rerender_psnr, scores, without_a_network


def test_a_capture_follows_from_its_seed_and_more_views_begin_with_the_same() -> None:
    maps = make(3, 48).maps
    few, many = capture(maps, 7, 1, 40, supersample=1), capture(maps, 7, 2, 40, supersample=1)
    assert torch.equal(few[0].photo, many[0].photo) and torch.equal(few[0].homography, many[0].homography)
    assert not torch.equal(many[0].homography, many[1].homography)
    assert not torch.equal(capture(maps, 8, 1, 40, supersample=1)[0].photo, few[0].photo)
    assert few[0].photo.shape == (3, 40, 40) and 0 <= few[0].photo.min() < few[0].photo.max() <= 1


def test_rectified_photos_lie_on_each_other() -> None:
    """On a matt surface two photos agree where the homographies are undone, up to exposure, and not elsewhere."""
    maps = {name: one.clone() for name, one in make(2, 64).maps.items()}  # parquet
    maps["roughness"].fill_(1)
    shots = capture(maps, 5, 3, 128, supersample=1)
    flat, seen = rectify(torch.stack([s.photo for s in shots]), torch.stack([s.homography for s in shots]), 64, 64)

    def likeness(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> float:
        a, b = a.mean(0)[where], b.mean(0)[where]
        return float(torch.corrcoef(torch.stack([a, b]))[0, 1])

    both = seen[0, 0] & seen[1, 0]
    assert both.float().mean() > 0.6
    assert likeness(flat[0], flat[1], both) > 0.9 > 0.5 > likeness(flat[0], flat[1].rot90(1, (1, 2)), both)


def test_dirt_darkens_and_is_stored() -> None:
    maps = make(2, 48).maps
    clean, dirty = capture(maps, 5, 1, 48, supersample=1)[0], capture(maps, 5, 1, 48, Dirt(1, 1, 1), supersample=1)[0]
    assert dirty.dirt == Dirt(1, 1, 1) and clean.dirt.severity == 0
    assert psnr(clean.photo[None], dirty.photo[None]) < 35


def test_numbers_are_split_for_ever() -> None:
    counted = {name: sum(split(n) == name for n in range(4000)) / 4000 for name in ("train", "validation", "test")}
    assert counted["test"] == pytest.approx(0.1, abs=0.02) and counted["validation"] == pytest.approx(0.05, abs=0.015)
    assert [split(n) for n in (0, 1, 2, 13, 14)] == [split(n) for n in (0, 1, 2, 13, 14)]
    first = [n for n, _ in zip(numbers("test"), range(5), strict=False)]
    assert all(split(n) == "test" for n in first) and first == sorted(set(first))


def test_rows_are_pure_and_batch() -> None:
    rows = Photographed(100, 0, 32, 3, 0.5)
    a, b = rows[4], rows[4]
    assert all(torch.equal(a[name], b[name]) for name in a)
    batch = default_collate([rows[i] for i in range(4)])
    assert batch["views"].shape == (4, 3, 3, 32, 32) and batch["seen"].shape == (4, 3, 1, 32, 32)
    assert {batch[name].shape[1] for name in ("albedo", "normal")} == {3}
    taken = {int(one["seen"].amax((1, 2, 3)).sum()) for one in (rows[i] for i in range(8))}
    assert taken == {1, 2, 3}
    assert not (batch["views"] * (1 - batch["seen"])).any()


def test_a_crop_is_a_part_of_the_tiling() -> None:
    maps = make(1, 64).maps
    part = cropped(maps, 32, torch.Generator().manual_seed(2))["albedo"]
    tiled = maps["albedo"].repeat(1, 2, 2)
    places = [(y, x) for y in range(64) for x in range(64) if torch.equal(tiled[:, y : y + 32, x : x + 32], part)]
    assert len(places) >= 1


def test_scores_tell_truth_from_what_photos_alone_give() -> None:
    rows = Photographed(24, 1, 32, 2, 0.0, "validation")
    batch = default_collate([rows[i] for i in range(24)])
    true = {name: batch[name] for name in MAPS}
    perfect, none = scores(true, true), scores(without_a_network(batch), true)
    assert perfect["rerender_psnr"] > 90 and perfect["normal_degrees"] < 0.1
    assert perfect["metallic_balanced_accuracy"] == 1 and none["metallic_balanced_accuracy"] == 0.5
    assert 5 < none["rerender_psnr"] < 35 and none["normal_degrees"] > 2


def test_rerendering_notices_a_flipped_normal() -> None:
    maps = {name: one[None] for name, one in make(0, 64).maps.items()}
    flipped = maps | {"normal": maps["normal"] * torch.tensor([1.0, -1, 1])[:, None, None]}
    assert rerender_psnr(flipped, maps) < 35 < 90 < rerender_psnr(maps, maps)


def test_balanced_accuracy_is_a_mean_over_both_sides() -> None:
    true = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2)
    assert balanced_accuracy(torch.zeros(1, 1, 2, 2), true) == 0.5
    assert balanced_accuracy(torch.tensor([1.0, 1, 0, 0]).view(1, 1, 2, 2), true) == pytest.approx((1 + 2 / 3) / 2)
