"""Maps that are brought closer to their photos, whose light nobody has told."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import linear_to_srgb
from hubmodels.neuropbr.cameras import homography, photograph, random_camera
from hubmodels.neuropbr.lights import point
from hubmodels.neuropbr.model import Maps
from hubmodels.neuropbr.refine import changed, fitted, lamps, refine, rerendered
from hubmodels.neuropbr.shading import shade

SIZE = 48


def truth() -> Maps:
    """Waves, half of them glossy."""
    y, x = torch.meshgrid(*[torch.linspace(-3, 3, SIZE)] * 2, indexing="ij")
    albedo = torch.stack([(2 * x).sin(), (x + y).cos(), (3 * y).sin()])[None] * 0.2 + 0.5
    slope = torch.stack([0.2 * (4 * x).cos(), 0.2 * (4 * y).sin(), torch.ones_like(x)])[None]
    return {
        "albedo": albedo,
        "roughness": 0.4 + 0.2 * (x * y).sin()[None, None],
        "metallic": torch.zeros(1, 1, SIZE, SIZE),
        "normal": F.normalize(slope, dim=1),
    }


def shots(maps: Maps, count: int = 3) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Photos by lamps and a sky, their homographies and eyes."""
    photos, matrices, eyes = [], [], []
    for seed in range(count):
        camera = random_camera(torch.Generator().manual_seed(seed))
        lamp = point(torch.tensor([[[1.0 - seed, 0.5 * seed, 2.0]]]), torch.full((1, 1, 3), 6.0))
        radiance = shade(maps, lamp, camera.eye[None]) + 0.2 * maps["albedo"]
        matrix = homography(camera, 1.0)
        photo = photograph(radiance, matrix[None], 3 * SIZE, 3 * SIZE)[0]
        photos.append(linear_to_srgb(photo.clamp(0, 1)))
        matrices.append(matrix)
        eyes.append(camera.eye)
    return photos, torch.stack(matrices), eyes


def off(maps: Maps) -> Maps:
    """Wrong in all maps that photos say something of."""
    flat = F.normalize(maps["normal"] * torch.tensor([0.7, 0.7, 1])[None, :, None, None], dim=1)
    return maps | {"albedo": maps["albedo"] * 0.7 + 0.15, "roughness": maps["roughness"] * 0 + 0.5, "normal": flat}


def test_maps_come_closer_to_photos_and_to_the_truth() -> None:
    maps = truth()
    photos, matrices, _ = shots(maps)
    start = off(maps) | {"height": torch.zeros(1, 1, SIZE, SIZE)}
    better, before, after = refine(start, photos, matrices, 30)
    assert after > before + 3
    assert torch.equal(better["height"], start["height"])
    assert (better["albedo"] - maps["albedo"]).abs().mean() < 0.95 * (start["albedo"] - maps["albedo"]).abs().mean()
    torch.testing.assert_close(better["normal"].norm(dim=1), torch.ones(1, SIZE, SIZE))
    for name in ("albedo", "roughness", "metallic"):
        assert better[name].min() >= 0 and better[name].max() <= 1
        assert (better[name] - start[name]).abs().mean() < 0.2, "it stays near the prediction"


def test_it_never_ends_worse_than_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps so long that they only do harm, the maps are those that were given."""
    monkeypatch.setattr("hubmodels.neuropbr.refine.RATE", 30.0)
    maps = truth()
    photos, matrices, _ = shots(maps, 1)
    monkeypatch.setattr("hubmodels.neuropbr.refine.FIT_STEPS", 0)
    same, before, after = refine(maps, photos, matrices, 2)
    assert after == before and all(torch.equal(same[name], maps[name]) for name in maps)


def test_the_light_of_a_photo_is_found() -> None:
    """A lamp and a sky that nobody told explain a view within the error of 8 bits."""
    maps, eye = truth(), torch.tensor([0.2, 0.1, 3.0])
    lamp = point(torch.tensor([[[1.0, -0.5, 2.0]]]), torch.tensor([[[7.0, 6.0, 5.0]]]))
    view = linear_to_srgb((shade(maps, lamp, eye[None]) + 0.1 * maps["albedo"]).clamp(0, 1))
    light = fitted(maps, view, torch.ones(1, 1, SIZE, SIZE), eye)
    assert (rerendered(maps, light, eye) - view).square().mean().sqrt() < 0.02
    assert F.cosine_similarity(light.position, lamp.position[0, 0], dim=0) > 0.9
    red, green, blue = light.strength.tolist()
    assert red > green > blue
    assert lamps()[:, 2].min() > 0


def test_no_steps_change_nothing_at_all() -> None:
    maps = truth() | {"metallic": torch.ones(1, 1, SIZE, SIZE)}
    changes = {name: torch.zeros_like(one[:, :2] if name == "normal" else one) for name, one in maps.items()}
    for name, one in changed(maps, changes).items():
        torch.testing.assert_close(one, maps[name], atol=1e-6, rtol=0)


def test_large_maps_keep_their_details(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are sought at a smaller size, and added."""
    monkeypatch.setattr("hubmodels.neuropbr.refine.SIDE", 24)
    maps = truth()
    photos, matrices, _ = shots(maps)
    noise = 0.1 * torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    start = off(maps) | {"albedo": off(maps)["albedo"] + noise}
    better, before, after = refine(start, photos, matrices, 20)
    assert after > before + 1 and better["albedo"].shape == start["albedo"].shape
    change = better["albedo"] - start["albedo"]
    assert change.diff(dim=-1).abs().mean() < 0.3 * start["albedo"].diff(dim=-1).abs().mean()


def test_what_cannot_be_is_one_line() -> None:
    maps = truth()
    photo = torch.full((3, 16, 16), 0.5)
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="steps must be from 1 to 1000"):
            refine(maps, [photo], None, steps)
    with pytest.raises(ValueError, match="give 1 to 100 photos"):
        refine(maps, [], None, 5)
    two = {name: one.expand(2, -1, -1, -1) for name, one in maps.items()}
    with pytest.raises(ValueError, match="of one material"):
        refine(two, [photo], None, 5)
    far = torch.tensor([[[1.0, 0, 9], [0, 1, 0], [0, 0, 1]]])
    with pytest.raises(ValueError, match="no photo shows any of the texture"):
        refine(maps, [photo], far, 5)
