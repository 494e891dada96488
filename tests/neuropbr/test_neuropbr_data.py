"""Captures and crops: pure functions of a seed, whose photos lie where their homographies say."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import default_collate

from hubmodels.images import linear_to_srgb, srgb_to_linear
from hubmodels.metrics import psnr
from hubmodels.neuropbr import data
from hubmodels.neuropbr.cameras import STRAIGHT, rectify
from hubmodels.neuropbr.capture import capture
from hubmodels.neuropbr.data import LAG, MAPS, Batch, Photographed, cropped, numbers, shrunk, split, turned, varied
from hubmodels.neuropbr.lights import directional
from hubmodels.neuropbr.photos import Dirt
from hubmodels.neuropbr.procedural import make
from hubmodels.neuropbr.report import balanced_accuracy, rerender_psnr, scores, without_a_network
from hubmodels.neuropbr.shading import shade


def test_a_capture_follows_from_its_seed_and_more_views_begin_with_the_same() -> None:
    maps = make(3, 48).maps
    few, many = capture(maps, 7, 1, 40, supersample=1), capture(maps, 7, 2, 40, supersample=1)
    assert torch.equal(few[0].photo, many[0].photo) and torch.equal(few[0].homography, many[0].homography)
    assert not torch.equal(many[0].homography, many[1].homography)
    assert not torch.equal(capture(maps, 8, 1, 40, supersample=1)[0].photo, few[0].photo)
    assert few[0].photo.shape == (3, 40, 40) and 0 <= few[0].photo.min() < few[0].photo.max() <= 1


def test_rectified_photos_lie_on_each_other() -> None:
    """On a matt surface details of two photos agree where the homographies are undone, and not elsewhere; how bright
    they are depends on where the lamp is."""
    maps = {name: one.clone() for name, one in make(2, 64).maps.items()}  # parquet
    maps["roughness"].fill_(1)
    maps["normal"] = STRAIGHT.expand(3, 64, 64)  # a lamp turns the shading of relief around
    shots = capture(maps, 5, 3, 128, supersample=1)
    flat, seen = rectify(torch.stack([s.photo for s in shots]), torch.stack([s.homography for s in shots]), 64, 64)

    def likeness(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> float:
        detail = [(one.mean(0) - F.avg_pool2d(one.mean(0)[None], 9, 1, 4)[0])[where] for one in (a, b)]
        return float(torch.corrcoef(torch.stack(detail))[0, 1])

    both = seen[1, 0] & seen[2, 0]
    assert both.float().mean() > 0.6
    assert likeness(flat[1], flat[2], both) > 0.9 > 0.8 > likeness(flat[1], flat[2].rot90(1, (1, 2)), both)


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
    used = batch["seen"].amax((2, 3, 4)) > 0
    torch.testing.assert_close(batch["toward"].norm(dim=2)[used], torch.ones(int(used.sum()), 32, 32))
    assert (batch["light"].norm(dim=2)[used] > 0.3).all() and not batch["light"][~used].any()


def test_a_crop_is_a_part_of_the_tiling() -> None:
    maps = make(1, 64).maps
    part = cropped(maps, 32, torch.Generator().manual_seed(2))["albedo"]
    tiled = maps["albedo"].repeat(1, 2, 2)
    places = [(y, x) for y in range(64) for x in range(64) if torch.equal(tiled[:, y : y + 32, x : x + 32], part)]
    assert len(places) >= 1


def test_a_crop_may_be_larger_than_what_it_is_cut_from() -> None:
    maps = {name: one for name, one in make(1, 24).maps.items() if name in MAPS}
    part = cropped(maps, 60, torch.Generator().manual_seed(5))
    for name, one in part.items():
        assert one.shape[-2:] == (60, 60)
        assert torch.equal(one[..., 24:48], one[..., :24]) and torch.equal(one[:, 24:48], one[:, :24])
        there = one[:, :24, :24].flatten(1).sort().values
        assert torch.equal(there, maps[name].flatten(1).sort().values)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_material_looks_as_the_material_does_turned_with_its_light(quarters: int, mirrored: bool) -> None:
    """The eye is far above, and the lamp is carried along."""
    maps = {name: make(4, 32).maps[name] for name in MAPS}
    toward = torch.tensor([0.6, 0.3, 0.7])
    x, y, z = toward.tolist()
    for _ in range(quarters):
        x, y = -y, x
    carried = torch.tensor([-x if mirrored else x, y, z])

    def lit(maps: Batch, light: Tensor) -> Tensor:
        lamp = directional(light.view(1, 1, 3), torch.tensor([[[3.0, 2.0, 1.0]]]))
        return shade({name: maps[name][None] for name in MAPS}, lamp, torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1))[0]

    expected = lit(maps, toward).rot90(quarters, (-2, -1))
    expected = expected.flip(-1) if mirrored else expected
    whole = turned(maps | {"toward": maps["normal"].clone(), "light": toward[None]}, quarters, mirrored)
    made = lit(whole, carried)
    torch.testing.assert_close(whole["light"], carried[None])
    assert torch.equal(whole["toward"], whole["normal"])
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)
    if quarters or mirrored:
        assert not torch.allclose(lit(whole, toward), expected, atol=1e-2)


def test_variations_keep_maps_and_photos_aligned() -> None:
    """Photos that are the albedo, each dimmed by a number of its own, still are after whatever was done to both."""
    generator = torch.Generator().manual_seed(0)
    whole = {name: torch.rand(c, 48, 48, generator=generator) for name, c in zip(MAPS, (3, 1, 1, 3), strict=True)}
    seen = (torch.rand(3, 1, 48, 48, generator=generator) > 0.3).float()
    dimmed = torch.tensor([1.0, 0.5, 0.25]).view(3, 1, 1, 1)
    light = dimmed.view(3, 1) * torch.tensor([0.0, 0, 1])  # a quarter turn leaves it as it is
    whole |= {"views": whole["albedo"] * dimmed * seen, "seen": seen, "light": light}
    whole["toward"] = dimmed * STRAIGHT.expand(3, 3, 48, 48)
    counts, orders, places = set(), set(), set()
    for number in range(24):
        part = varied(whole, 32, 1 + number % 3, torch.Generator().manual_seed(number))
        assert all(one.shape[-2:] == (32, 32) for name, one in part.items() if name != "light")
        taken = part["seen"].amax((1, 2, 3))
        count = int(taken.sum())
        assert count >= 1 and taken.tolist() == [1.0] * count + [0.0] * (3 - count)
        gains = (part["views"] / part["albedo"]).amax((1, 2, 3))
        expected = part["albedo"] * gains.view(3, 1, 1, 1) * part["seen"]
        torch.testing.assert_close(part["views"], expected, atol=1e-6, rtol=1e-5)
        kept = [round(value, 2) for value in gains[:count].tolist()]
        assert len(set(kept)) == count and set(kept) <= {1.0, 0.5, 0.25}
        assert part["light"][:, 2].tolist() == kept + [0.0] * (3 - count)
        assert part["toward"][:count, 2, 0, 0].tolist() == kept
        counts.add(count)
        orders.add(tuple(kept))
        places.add(float(part["roughness"][0, 0, 0]))
    assert counts == {1, 2, 3} and len(orders) > 6 and len(places) > 12


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Captures that cost nothing, and how often each was made; maps hold the number of the capture."""
    made: Counter[int] = Counter()

    def capture(self: Photographed, number: int) -> Batch:
        made[number] += 1
        size = self.size * 3 // 2
        draw = torch.Generator().manual_seed(number)
        maps = {name: torch.rand(c, size, size, generator=draw) for name, c in zip(MAPS, (3, 1, 1, 3), strict=True)}
        views = torch.ones(self.views, 3, size, size)
        seen, light = views[:, :1], torch.ones(self.views, 3)
        return maps | {
            "metallic": torch.full((1, size, size), number),
            "views": views,
            "seen": seen,
            "toward": views,
            "light": light,
        }

    monkeypatch.setattr(Photographed, "_capture", capture)
    return made


def test_each_capture_serves_as_many_rows_as_asked_for(cheap: Counter[int]) -> None:
    rows = Photographed(4000, 0, 4, 2, 0.0, echo=3)
    served = [int(rows[row]["metallic"][0, 0, 0]) for row in range(3 * 200)]
    assert max(cheap.values()) == 1, "photographed twice"
    counted = Counter(served)
    assert all(counted[number] == 3 for number in range(2 * LAG, 200 - 2 * LAG))
    assert all(counted[number] >= 3 for number in range(2 * LAG)), "there is nothing older for these yet"
    apart = [row for row, number in enumerate(served) if number == 100]
    assert min(b - a for a, b in zip(apart, apart[1:], strict=False)) >= 3 * (LAG - 1), "alike in one batch"


def test_a_row_is_the_same_alone_in_order_and_again_from_the_beginning(cheap: Counter[int]) -> None:
    """Whatever else has been read: validation, workers and a second round through the rows all come to this."""
    rows = Photographed(600, 0, 4, 2, 0.0, echo=3)
    in_order = [rows[row] for row in range(600)]
    for row in (0, 1, 99, 100, 101, 599, 7):
        for again in (rows[row], Photographed(600, 0, 4, 2, 0.0, echo=3)[row]):
            assert all(torch.equal(one, in_order[row][name]) for name, one in again.items()), row
    other = Photographed(600, 1, 4, 2, 0.0, echo=3)[100]
    assert not torch.equal(other["albedo"], in_order[100]["albedo"])


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_split_is_made_of_its_own_materials_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def spied(number: int, size: int):
        used.append(number)
        raise KeyboardInterrupt  # the rest of a capture takes long and tells nothing here

    monkeypatch.setattr(data, "make", spied)
    for seed in range(2):
        rows = Photographed(200, seed, 8, 1, 0.0, name)
        for row in range(60):
            with pytest.raises(KeyboardInterrupt):
                rows[row]
    assert len(set(used)) > 100 and {split(number) for number in used} == {name}


def test_shrunk_albedo_is_a_mean_of_light_and_normals_stay_unit() -> None:
    albedo = torch.zeros(3, 4, 4)
    albedo[:, ::2] = 1
    normal = torch.nn.functional.normalize(torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)), dim=0)
    maps = {"albedo": albedo, "roughness": albedo[:1], "metallic": albedo[:1], "normal": normal}
    small = shrunk(maps, 2)
    torch.testing.assert_close(srgb_to_linear(small["albedo"]), torch.full((3, 2, 2), 0.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(small["albedo"], linear_to_srgb(torch.full((3, 2, 2), 0.5)), atol=1e-4, rtol=0)
    assert torch.equal(small["roughness"], torch.full((1, 2, 2), 0.5))
    torch.testing.assert_close(small["normal"].norm(dim=0), torch.ones(2, 2))


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
