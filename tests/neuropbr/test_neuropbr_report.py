"""The report, on networks whose worth is known, and its scores against numbers worked out by hand."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hubmodels.images import srgb_to_linear
from hubmodels.neuropbr import report as reports
from hubmodels.neuropbr.data import MAPS, split
from hubmodels.neuropbr.procedural import make
from hubmodels.neuropbr.report import Group, Sample

SIZE = 32
GREY = reports.constant([{name: one[0] for name, one in reports.flat(torch.full((1, 3, 4, 4), 0.5)).items()}])


class Oracle(torch.nn.Module):
    """Knows materials by their photos. Its maps are true, `mixed` with those of a flat grey plane by photo count."""

    def __init__(self, groups: list[Group], mixed: dict[int, float] | None = None) -> None:
        super().__init__()
        self.true = {key(s.photos): s.maps for g in groups for s in map(g.sample, range(g.count))}
        self.mixed = mixed or {}
        self.calls: list[tuple[bytes, int, bool]] = []

    def predict(self, photos: list[Tensor], matrices: Tensor, size: tuple[int, int], wrap: bool) -> dict[str, Tensor]:
        assert len(matrices) == len(photos)
        self.calls.append((key(photos), len(photos), wrap))
        true = self.true[key(photos)]
        assert size == (*true["albedo"].shape[-2:],)
        share, plane = self.mixed.get(len(photos), 0.0), reports.flat(torch.full_like(true["albedo"], 0.5))
        maps = {name: true[name] * (1 - share) + plane[name] * share for name in MAPS}
        return maps | {"normal": F.normalize(maps["normal"], dim=1)}


def key(photos: list[Tensor]) -> bytes:
    return photos[0].numpy().tobytes()


def plain(steps: Any, what: str) -> Any:
    return steps


def material(size: int = 12, **values: Tensor) -> dict[str, Tensor]:
    """(1, C, S, S) maps: a flat grey plane but for what is given."""
    return reports.flat(torch.full((1, 3, size, size), 0.5)) | values


def tilted(degrees: Tensor) -> Tensor:
    """(1, 3, H, W) normals that lean to the right by (H, W) degrees."""
    rad = torch.deg2rad(degrees)
    return torch.stack([rad.sin(), torch.zeros_like(rad), rad.cos()])[None]


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    return [replace(one, sample=lru_cache(one.sample)) for one in reports.groups("", 5, 3, SIZE)]


@pytest.fixture(scope="module")
def perfect(groups: list[Group]) -> dict:
    model: Any = Oracle(groups)
    return reports.report(model, groups, 3, plain)


# --- networks whose worth is known


def test_the_truth_scores_as_perfect(perfect: dict) -> None:
    part = perfect["groups"]["procedural"]
    network = part["network"]
    assert network["rerender_psnr"] == reports.PERFECT
    for name in MAPS:
        assert network[name] == {"psnr": reports.PERFECT, "ssim": pytest.approx(1), "mae": 0, "rmse": 0}
    assert network["normal_degrees"] == {"mean": pytest.approx(0, abs=1e-5), "median": 0, "p95": 0}
    assert network["metallic_balanced_accuracy"] == 1 and network["normal_of_flat_on_relief"] == 0
    assert part["materials"] == 5 and part["with_relief"] >= 1 and 0 < part["metal"] < 1
    seam = part["seam"]
    assert seam["materials"] >= 1 and seam["wrapped"] == seam["plain"] == seam["true"]
    got = {one["target"]: one["met"] for one in perfect["targets"]}
    # what is perfect from one photo on does not get better with more
    assert got == {name: "fall" not in name for name in got} and len(got) == 4


def test_references_score_as_what_they_are(perfect: dict) -> None:
    part = perfect["groups"]["procedural"]
    for who in ("raw", "rectified", "dimmed"):
        assert part[who]["normal_of_flat_on_relief"] == 1
        assert part[who]["normal_degrees"]["mean"] == pytest.approx(part["flat_degrees"], abs=1e-4)
        assert part[who]["metallic_balanced_accuracy"] == 0.5
    for who in reports.REFERENCES:
        assert part[who]["rerender_psnr"] < 35 and part[who]["albedo"]["mae"] > 0.01
    assert part["rectified"]["albedo"]["mae"] < part["shuffled"]["albedo"]["mae"]


def test_the_curve_is_of_the_same_materials_and_photos(groups: list[Group]) -> None:
    model: Any = Oracle(groups, {1: 0.8, 2: 0.6, 3: 0.4, 5: 0.2})
    part = reports.on_group(model, groups[0], GREY, plain)
    assert [*part["views"]] == ["1", "2", "3", "5"]
    assert reports.unimproved(part["views"], ["1", "3", "5"]) == []
    errors = [one["roughness_mae"] for one in part["views"].values()]
    assert np.allclose(np.array(errors) / errors[0], [1, 0.75, 0.5, 0.25], atol=1e-3)
    seen = {count: {who for who, n, wrap in model.calls if n == count and not wrap} for count in (1, 2, 3, 5)}
    assert len(seen[1]) == 5 and seen[1] == seen[2] == seen[3] == seen[5]
    assert {n for _, n, wrap in model.calls if wrap} == {3}
    # the network of the headline is that of three photos
    assert part["network"]["roughness"]["mae"] == pytest.approx(part["views"]["3"]["roughness_mae"], abs=1e-5)

    assert reports.unimproved(part["views"], ["5", "3", "1"]) == [
        "rerender_psnr",
        "albedo_mae",
        "roughness_mae",
        "normal_degrees",
    ]


def test_fewer_photos_make_a_shorter_curve(groups: list[Group]) -> None:
    def sample(row: int) -> Sample:
        whole = groups[0].sample(row)
        count = 2 + row  # two of the one, three of the other
        assert whole.matrices is not None
        return replace(whole, photos=whole.photos[:count], matrices=whole.matrices[:count])

    few = replace(groups[0], count=2, sample=sample)
    model: Any = Oracle(groups)
    assert [*reports.on_group(model, few, GREY, plain)["views"]] == ["1", "2"]


# --- scores by hand


def test_distances_are_those_of_numpy() -> None:
    true = np.array([[0.0, 0.5], [0.25, 1.0]])
    made = np.array([[0.1, 0.5], [0.05, 0.7]])
    mae, rmse = np.abs(made - true).mean(), np.sqrt(((made - true) ** 2).mean())
    assert (mae, rmse) == pytest.approx((0.15, 0.035**0.5))  # 0.1, 0, 0.2, 0.3
    a, b = (material(roughness=torch.tensor(one, dtype=torch.float32).repeat(6, 6)[None, None]) for one in (made, true))
    one = reports.compared(a, b, [*reports.lit(b)])
    exact = reports.compared(b, b, [*reports.lit(b)])
    got = reports.summed_up([one])["roughness"]
    assert got["mae"] == pytest.approx(mae, abs=1e-6) and got["rmse"] == pytest.approx(rmse, abs=1e-6)
    assert got["psnr"] == pytest.approx(-20 * np.log10(rmse), abs=1e-4)
    both = reports.summed_up([one, exact])["roughness"]
    assert both["mae"] == pytest.approx(mae / 2, abs=1e-6)
    assert both["rmse"] == pytest.approx(rmse / 2**0.5, abs=1e-6)  # over the texels of both
    assert both["psnr"] == pytest.approx((got["psnr"] + reports.PERFECT) / 2, abs=1e-4)


def test_normals_are_compared_as_files_hold_them() -> None:
    true, made = material(), material(normal=tilted(torch.full((12, 12), 90.0)))
    got = reports.summed_up([reports.compared(made, true, [*reports.lit(true)])])["normal"]
    assert got["mae"] == pytest.approx((0.5 + 0 + 0.5) / 3, abs=1e-6)


def test_angles_are_exact_and_their_quantiles_to_a_tenth() -> None:
    degrees = torch.full((10, 12), 10.0)
    degrees[:, 7:] = 40.0  # 50 texels of 120
    true, made = material(), material(normal=F.pad(tilted(degrees), (0, 0, 0, 2), "replicate"))
    got = reports.summed_up([reports.compared(made, true, [*reports.lit(true)])])["normal_degrees"]
    assert got["median"] == 10.0 and got["p95"] == 40.0
    assert got["mean"] == pytest.approx((10 * 7 + 40 * 5) / 12, abs=1e-3)
    for angle in (0.0, 0.001, 1.0, 90.0, 179.0):
        apart = reports.angles(tilted(torch.full((1, 1), angle)), tilted(torch.zeros(1, 1)))
        assert float(apart) == pytest.approx(angle, rel=1e-3)


def test_only_relief_counts_for_the_share_of_the_flat_normal() -> None:
    def part(true: float, made: float) -> reports.Comparison:
        first, second = (material(normal=tilted(torch.full((12, 12), angle))) for angle in (made, true))
        return reports.compared(first, second, [*reports.lit(second)])

    smooth, rough, steep = part(4.0, 0.0), part(10.0, 6.0), part(30.0, 20.0)
    got = reports.summed_up([smooth, rough, steep])["normal_of_flat_on_relief"]
    assert got == pytest.approx((4 + 10) / (10 + 30), abs=1e-3)
    assert reports.summed_up([smooth])["normal_of_flat_on_relief"] is None


def test_metal_and_the_rest_count_alike_over_the_whole_group() -> None:
    half = (torch.arange(12) < 6).float().expand(1, 1, 12, 12)
    plate, wood = material(metallic=half), material()
    missed = reports.compared(wood, plate, [*reports.lit(plate)])
    right = reports.compared(plate, plate, [*reports.lit(plate)])
    dull = reports.compared(wood, wood, [*reports.lit(wood)])
    # a quarter of the texels is metal, half of that is seen
    got = reports.summed_up([missed, right, dull, dull])["metallic_balanced_accuracy"]
    assert got == pytest.approx((0.5 + 1) / 2)
    # half of it called metal that is none
    false = reports.compared(plate, wood, [*reports.lit(wood)])
    got = reports.summed_up([right, false])["metallic_balanced_accuracy"]
    assert got == pytest.approx((1 + (0.5 + 0.5) / 1.5) / 2)
    assert reports.summed_up([dull])["metallic_balanced_accuracy"] is None  # nothing to be mistaken for


def test_a_material_that_does_not_tile_is_not_judged_by_seams() -> None:
    ramp = torch.linspace(0, 1, 12).expand(1, 1, 12, 12)
    assert reports.worst_seam(material(roughness=ramp))[1] and not reports.worst_seam(material())[1]
    assert reports.worst_seam(material())[0] == pytest.approx(1)


# --- what is compared with what


def test_the_constant_is_the_mean_of_training_materials(monkeypatch: pytest.MonkeyPatch) -> None:
    dark, bright = (
        {
            "albedo": torch.full((3, 4, 4), level),
            "roughness": torch.full((1, 4, 4), level / 2),
            "metallic": torch.full((1, 4, 4), float(level > 0.5)),
            "normal": tilted(torch.full((4, 4), angle))[0],
        }
        for level, angle in ((0.2, -30.0), (0.6, 30.0))
    )
    mean = reports.constant([dark, bright])
    assert {name: tuple(one.shape) for name, one in mean.items()} == {
        name: (1, 3 if name in ("albedo", "normal") else 1, 1, 1) for name in MAPS
    }
    values = {name: one.flatten().tolist() for name, one in mean.items()}
    assert values["albedo"] == pytest.approx([0.4] * 3) and values["roughness"] == pytest.approx([0.2])
    assert values["metallic"] == [0.5] and values["normal"] == pytest.approx([0, 0, 1])

    used = []
    monkeypatch.setattr(reports, "make", lambda number, size: used.append(number) or make(number, 16))
    reports.typical(3)
    assert len(set(used)) == reports.TYPICAL and {split(number) for number in used} == {"train"}


def test_procedural_materials_are_those_of_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(reports, "make", lambda number, size: used.append(number) or make(number, size))
    first, again, other = (reports.procedural(seed, 16, row) for seed, row in ((0, 1), (0, 1), (1, 1)))
    assert {split(number) for number in used} == {"test"} and used[0] == used[1] != used[2]
    assert all(torch.equal(a, b) for a, b in zip(first.photos, again.photos, strict=True))
    assert not torch.equal(first.photos[0], other.photos[0])
    assert len(first.photos) == 5 and first.matrices is not None and first.matrices.shape == (5, 3, 3)
    dirty = [reports.procedural(0, 16, row).dirty for row in range(9)]
    assert 0 < sum(dirty) < 6


def test_the_mean_rectified_photo_is_nearer_than_the_mean_photo(groups: list[Group]) -> None:
    sample = groups[0].sample(0)
    mean = {name: one.mean((2, 3), keepdim=True) for name, one in sample.maps.items()}
    made = reports.references(sample, mean, 3)
    assert {tuple(one["albedo"].shape) for one in made.values()} == {(1, 3, SIZE, SIZE)}
    stacked = torch.stack([F.interpolate(photo[None], (SIZE, SIZE), mode="area") for photo in sample.photos[:3]])
    assert torch.allclose(made["raw"]["albedo"], stacked.mean(0), atol=1e-6)
    assert torch.equal(made["constant"]["roughness"][..., 0, 0], mean["roughness"][..., 0, 0])
    light = [srgb_to_linear(made[who]["albedo"]) for who in ("dimmed", "rectified")]
    torch.testing.assert_close(light[0], reports.DIMMED * light[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("rows", "size", "words"), [(1, 32, "at least 2"), (4, 16, "--size"), (4, 4096, "--size")])
def test_groups_that_cannot_be_measured_are_refused(rows: int, size: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reports.groups("", rows, 0, size)


# --- for people


def test_what_is_published_can_be_read(perfect: dict, groups: list[Group], tmp_path: Path) -> None:
    model: Any = Oracle(groups)
    files = reports.publish(model, perfect, groups, tmp_path / "deep" / "report.json")
    assert json.loads(files[0].read_text()) == perfect
    assert [path.name for path in files] == ["report.json", "procedural.png"]
    with Image.open(files[1]) as picture:
        assert picture.width > 11 * reports.CELL and picture.height > 5 * reports.CELL
    card = reports.card(perfect, "\n## Training\n")
    assert reports.table(perfect) in card and "](procedural.png)" in card and card.endswith("## Training\n")
    assert "{" not in card and "| network, procedural | 5 | equal |" in card
    assert "Real materials were not measured" in card and "missed" in card and "| met |" in card


def test_each_number_of_the_tables_is_one_of_the_report(perfect: dict) -> None:
    part = perfect["groups"]["procedural"]
    rectified = part["rectified"]
    assert f"| rectified, procedural | 5 | {rectified['rerender_psnr']:.1f} dB |" in reports.table(perfect)
    said = f"{rectified['albedo']['psnr']:.1f}, {rectified['albedo']['ssim']:.3f}, {rectified['albedo']['mae']:.3f}"
    assert f"| rectified | {said}" in reports.map_table(part)
    assert reports.views_table(part).count("\n") == 5


def test_a_missed_target_says_by_how_much() -> None:
    scores = {"rerender_psnr": 20.0, "normal_of_flat_on_relief": 0.71, "metallic_balanced_accuracy": 0.5}
    part = {"network": scores, "rectified": {"rerender_psnr": 17.0}, "views": {}}
    got = reports.targets("procedural", part)
    assert [(one["got"], one["met"]) for one in got] == [("3.0 dB", False), ("71 %", False), ("0.500", False)]
    part["rectified"] = {"rerender_psnr": 15.9}
    assert [(one["got"], one["met"]) for one in reports.targets("real", part)] == [("4.1 dB", True), ("71 %", False)]
