import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import linear_to_srgb, srgb_to_linear
from hubmodels.neuropbr.validate import Finding, _quantile, baked_light, validate

SIZE = 64


def sound() -> dict[str, Tensor]:
    """A material without faults that tiles: bumps, half of them metal, in quarters of the texture."""
    y, x = torch.meshgrid(*[(torch.arange(SIZE) + 0.5) / SIZE * 2 * math.pi] * 2, indexing="ij")
    noise = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    metallic = ((x < math.pi) ^ (y < math.pi)).float()[None, None].roll((5, 5), (2, 3))  # no joint at the edge
    slope = torch.stack([0.4 * torch.cos(2 * x), 0.4 * torch.sin(3 * y)])
    return {
        "albedo": torch.where(metallic > 0.5, 200 / 255, 0.3 + 0.3 * noise).expand(1, 3, -1, -1).clone(),
        "roughness": 0.3 + 0.4 * noise,
        "metallic": metallic,
        "normal": F.normalize(torch.cat([slope, torch.ones(1, SIZE, SIZE)])[None], dim=1),
        "height": 0.02 * torch.sin(2 * x)[None, None],
        "ao": torch.ones(1, 1, SIZE, SIZE),
    }


def found(maps: dict[str, Tensor], check: str) -> Finding:
    (finding,) = [finding for finding in validate(maps) if finding.check == check]
    return finding


def changed(name: str, value: float | Tensor, share: float = 1.0) -> dict[str, Tensor]:
    """The sound material with the first rows of one map set to a value."""
    maps = sound()
    maps[name][..., : round(share * SIZE), :] = value
    return maps


def dielectric(maps: dict[str, Tensor], level: float, share: float = 1.0) -> dict[str, Tensor]:
    """All of it no metal, and the first rows of the albedo of that level."""
    maps["metallic"][:] = 0
    maps["albedo"][:] = 0.5
    maps["albedo"][..., : round(share * SIZE), :] = level / 255
    return maps


def metal(level: float, share: float = 1.0) -> dict[str, Tensor]:
    maps = changed("metallic", 1.0)
    maps["albedo"][:] = 220 / 255
    maps["albedo"][..., : round(share * SIZE), :] = level / 255
    return maps


def lit(strength: float) -> dict[str, Tensor]:
    """Light from the left left in the albedo."""
    maps = sound()
    shading = 1 + strength * maps["normal"][:, :1]
    maps["albedo"] = linear_to_srgb(srgb_to_linear(maps["albedo"]) * shading).clamp(0, 1)
    return maps


def test_a_sound_material_passes_all_checks():
    findings = validate(sound())
    assert [finding.check for finding in findings] == [
        "numbers",
        "dielectric_dark",
        "dielectric_bright",
        "metal_albedo",
        "unit_normals",
        "outward_normals",
        "bimodal_metallic",
        "saturated_roughness",
        "baked_light",
        *(f"seam_{name}" for name in sound()),
    ]
    assert not [finding for finding in findings if finding.level != "ok"]
    for finding in findings:
        assert "\n" not in finding.sentence and "nan" not in finding.sentence


CASES = [
    ("numbers", changed("ao", math.nan, 0.5), "fail", SIZE * SIZE / 2),
    ("numbers", changed("height", math.inf, 1 / SIZE), "fail", SIZE),
    ("dielectric_dark", dielectric(sound(), 30), "ok", 30),
    ("dielectric_dark", dielectric(sound(), 28, 0.1), "warn", 28),
    ("dielectric_dark", dielectric(sound(), 28), "fail", 28),
    ("dielectric_bright", dielectric(sound(), 240), "ok", 240),
    ("dielectric_bright", dielectric(sound(), 243, 0.1), "warn", 243),
    ("dielectric_bright", dielectric(sound(), 243), "fail", 243),
    ("metal_albedo", metal(180), "ok", 180),
    ("metal_albedo", metal(170, 0.1), "warn", 170),
    ("metal_albedo", metal(155), "warn", 155),
    ("metal_albedo", metal(120, 0.1), "fail", 120),
    ("metal_albedo", metal(120, 0.03), "ok", 220),
    ("unit_normals", sound() | {"normal": sound()["normal"] * 1.03}, "warn", 0.03),
    ("unit_normals", sound() | {"normal": sound()["normal"] * 0.8}, "fail", 0.2),
    (
        "outward_normals",
        sound() | {"normal": sound()["normal"] * torch.tensor([1, 1, -1]).view(1, 3, 1, 1)},
        "fail",
        -1,
    ),
    ("bimodal_metallic", changed("metallic", 0.5, 0.0625), "ok", 0.0625),
    ("bimodal_metallic", changed("metallic", 0.5, 0.25), "warn", 0.25),
    ("bimodal_metallic", changed("metallic", 0.5), "fail", 1),
    ("bimodal_metallic", changed("metallic", 0.15), "ok", 0),
    ("saturated_roughness", changed("roughness", 0.0, 0.25), "ok", 0.25),
    ("saturated_roughness", changed("roughness", 1.0, 0.75), "warn", 0.75),
    ("saturated_roughness", changed("roughness", 1.0), "fail", 1),
    ("saturated_roughness", changed("roughness", 0.0), "fail", 1),
]


@pytest.mark.parametrize(("check", "maps", "level", "value"), CASES, ids=[f"{c[0]}-{c[2]}-{c[3]}" for c in CASES])
def test_each_check_at_its_limits(check, maps, level, value):
    finding = found(maps, check)
    assert (finding.level, finding.value) == (
        level,
        pytest.approx(value, abs=0.02 if check != "unit_normals" else 1e-3),
    )
    low, high = finding.range
    assert (low - 0.5 <= finding.value <= high + 0.5) or level != "ok"


def test_eight_bits_are_within_the_tolerance_of_normals():
    steep = F.normalize(torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    steep[:, 2].abs_()
    quantised = (steep * 127.5 + 127.5).round() / 127.5 - 1
    assert found({"normal": quantised}, "unit_normals").level == "ok"
    assert found({"normal": quantised}, "outward_normals").level == "ok"


def test_maps_that_are_not_numbers_are_not_judged_further():
    checks = {finding.check for finding in validate(changed("normal", math.nan, 0.1))}
    assert not checks & {"unit_normals", "outward_normals", "baked_light", "seam_normal"}
    assert {"seam_albedo", "bimodal_metallic"} <= checks


def test_what_is_not_there_is_not_judged():
    assert {finding.check for finding in validate({"roughness": sound()["roughness"]})} == {
        "numbers",
        "saturated_roughness",
        "seam_roughness",
    }
    all_dielectric = {finding.check for finding in validate(dielectric(sound(), 100))}
    assert "metal_albedo" not in all_dielectric and "dielectric_dark" in all_dielectric


# --- light in the albedo ---


@pytest.mark.parametrize(("strength", "level"), [(0.0, "ok"), (1.2, "warn"), (3.0, "fail")])
def test_light_in_the_albedo_is_found(strength, level):
    assert found(lit(strength), "baked_light").level == level


@pytest.mark.parametrize("angle", [0.0, 1.0, 2.5])
def test_the_index_is_one_for_a_picture_of_light_from_any_side(angle):
    normal = sound()["normal"]
    light = math.cos(angle) * normal[:, :1] + math.sin(angle) * normal[:, 1:2]
    albedo = linear_to_srgb((light * 0.2).exp() * 0.3 - 0.01).expand(-1, 3, -1, -1)
    assert float(baked_light(albedo, normal).value) == pytest.approx(1, abs=1e-3)


def test_dark_hollows_are_no_light():
    """The albedo follows the height, as dirt does: both slopes of a hollow are alike."""
    maps = sound()
    maps["albedo"] = (0.4 + 8 * maps["height"]).expand(1, 3, -1, -1)
    assert found(maps, "baked_light").value < 0.01


def test_flat_surfaces_and_constants_have_no_light_in_them():
    flat = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE)
    assert found(sound() | {"normal": flat}, "baked_light").value == 0
    rounded = flat + torch.randint(0, 2, (1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(2)) / 127.5
    assert found(lit(3.0) | {"normal": rounded}, "baked_light").level == "ok"
    assert found(sound() | {"albedo": torch.full((1, 3, SIZE, SIZE), 0.5)}, "baked_light").value == 0


# --- seams ---


def smooth(seed: int) -> Tensor:
    """Noise that tiles, without steps: (1, 1, S, S) in [0, 1]."""
    noise = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    wide = F.interpolate(noise.tile(1, 1, 3, 3), scale_factor=SIZE // 8, mode="bicubic")
    return wide[..., SIZE : 2 * SIZE, SIZE : 2 * SIZE].clamp(0, 1)


@pytest.mark.parametrize("name", ["albedo", "roughness", "metallic", "normal", "height", "ao"])
def test_maps_that_tile_have_no_seam_and_those_that_do_not_have_one(name):
    tiling = smooth(3).expand(1, 3 if name in ("albedo", "normal") else 1, -1, -1)
    ramp = torch.linspace(0, 0.5, SIZE).view(1, 1, 1, SIZE)
    assert found({name: tiling}, f"seam_{name}").level == "ok"
    assert found({name: tiling.roll((20, 9), (2, 3))}, f"seam_{name}").level == "ok"
    for broken in (tiling + ramp, tiling + ramp.mT):
        finding = found({name: broken}, f"seam_{name}")
        assert finding.level == "fail" and finding.value > 3 and "a seam will show" in finding.sentence


def test_a_joint_at_the_edge_is_no_failure_where_there_is_one_inside():
    half = (torch.arange(SIZE) < SIZE // 2).float().expand(1, 1, SIZE, SIZE)
    assert found({"metallic": half}, "seam_metallic").level == "warn"
    assert found({"metallic": half.roll(5, 3)}, "seam_metallic").level == "ok"


def test_the_ratio_is_that_of_its_definition():
    """A ramp of steps 1 / 255: the edge steps back all of it at once."""
    ramp = (torch.arange(SIZE) / 255).expand(1, 1, SIZE, SIZE)
    assert found({"ao": ramp}, "seam_ao").value == pytest.approx((SIZE - 1 + 1) / 2)
    assert found({"ao": torch.full((1, 1, SIZE, SIZE), 0.3)}, "seam_ao").value == pytest.approx(1)


def test_heights_are_measured_by_their_own_spread():
    broken = smooth(3) + torch.linspace(0, 0.5, SIZE)
    small, large = (found({"height": broken * scale}, "seam_height").value for scale in (1e-3, 1.0))
    assert small == pytest.approx(large, rel=1e-3)


def test_seams_are_not_looked_for_where_edges_need_not_meet():
    assert not [finding for finding in validate(sound(), tile=False) if finding.check.startswith("seam_")]


def test_quantiles_are_those_of_torch_and_of_more_values_than_it_takes():
    values = torch.rand(1001, generator=torch.Generator().manual_seed(4))
    for q in (0.0, 0.01, 0.5, 0.98, 1.0):
        assert _quantile(values, q) == pytest.approx(float(torch.quantile(values, q)), abs=1e-6)
    assert _quantile(torch.zeros(2**24 + 2), 0.5) == 0
