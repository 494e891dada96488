"""The network: any number of views in any order, maps in their ranges, tiles as parts of a whole."""

from dataclasses import replace

import pytest
import torch
from loud import TINY, network
from torch import Tensor

from hubmodels.neuropbr.cameras import from_corners
from hubmodels.neuropbr.model import Fusion, NeuroPBR, NeuroPBRConfig, average, fuse


def photos(batch: int = 2, views: int = 3, height: int = 24, width: int = 32) -> Tensor:
    return torch.rand(batch, views, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("views", [1, 2, 5])
@pytest.mark.parametrize("size", [(24, 32), (17, 23)])
@torch.no_grad()
def test_maps_are_as_large_as_the_photos_and_in_range(views: int, size: tuple[int, int]) -> None:
    maps = network()(photos(2, views, *size))
    assert {name: tuple(one.shape) for name, one in maps.items()} == {
        "albedo": (2, 3, *size),
        "roughness": (2, 1, *size),
        "metallic": (2, 1, *size),
        "normal": (2, 3, *size),
    }
    for name in ("albedo", "roughness", "metallic"):
        assert maps[name].min() >= 0 and maps[name].max() <= 1
    torch.testing.assert_close(maps["normal"].norm(dim=1), torch.ones(2, *size))
    assert maps["normal"][:, 2].min() > 0 and maps["normal"][:, :2].abs().max() > 0.05


@torch.no_grad()
def test_the_order_of_views_changes_nothing_and_each_of_them_something() -> None:
    model, views = network(), photos()
    before = model(views)
    for name, one in model(views[:, [2, 0, 1]]).items():
        torch.testing.assert_close(one, before[name], atol=1e-5, rtol=1e-4)
    for number in range(3):
        other = views.clone()
        other[:, number] = other[:, number].flip(-1)
        assert all((one - before[name]).abs().max() > 1e-3 for name, one in model(other).items())


@torch.no_grad()
def test_views_that_are_not_valid_are_as_if_they_were_not_there() -> None:
    model, views = network(), photos()
    valid = torch.tensor([[True, True, False], [True, True, True]])
    there, expected = model(views, valid=valid), model(views[:1, :2])
    for name, one in there.items():
        torch.testing.assert_close(one[:1], expected[name], atol=1e-5, rtol=1e-4)
        assert torch.equal(one[1:], model(views[1:])[name]) or (one[1:] - model(views[1:])[name]).abs().max() < 1e-5


@torch.no_grad()
def test_a_homography_is_undone_inside() -> None:
    """Photos turned by a quarter, with the homography that says so, give the maps of the upright ones."""
    model, views = network(), photos(1, 2, 24, 24)
    turned = views.rot90(1, (-2, -1))  # the texture's top-left corner comes to the bottom-left
    corners = torch.tensor([[-1.0, 1], [-1, -1], [1, -1], [1, 1]])
    matrix = from_corners(corners).expand(1, 2, 3, 3)
    upright = model(views, torch.eye(3).expand(1, 2, 3, 3))
    for name, one in model(turned, matrix).items():
        torch.testing.assert_close(one, upright[name], atol=1e-4, rtol=1e-3)


def test_fusion_is_mean_maximum_and_spread_of_what_was_seen() -> None:
    x, seen = torch.randn(1, 4, 2, 3, 3), torch.ones(1, 4, 1, 3, 3)
    seen[:, 3] = 0
    mean, most, spread = fuse(x, seen).chunk(3, 1)
    there = x[:, :3].relu()
    torch.testing.assert_close(mean, there.mean(1), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(most, there.amax(1))
    torch.testing.assert_close(spread, (there.var(1, correction=0) + 1e-4).sqrt(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(average(x, seen), x[:, :3].mean(1), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(average(x, seen * 0), torch.full((1, 2, 3, 3), 0.5))


@torch.no_grad()
def test_fusion_weighs_each_view_as_its_summary_says() -> None:
    """The sums of it against a loop; a pixel's sum is over the views that have seen it."""
    torch.manual_seed(0)
    fusion = Fusion(2, 5, 3)
    features, each = torch.randn(2, 4, 2, 3, 3), torch.randn(2, 4, 3)
    seen = torch.ones(2, 4, 1, 3, 3)
    seen[:, 3], seen[0, 1, 0, 1, 1] = 0, 0
    fusion.leave.weight[:, :6], fusion.leave.bias[:] = 0, 0  # what `fuse` makes is of another test
    expected = torch.zeros(2, 5, 3, 3)
    for row in range(2):
        for view in range(4):
            weight = fusion.turn(each[row, view])  # (5,)
            entered = torch.einsum("fc,chw->fhw", fusion.enter.weight, features[row, view])
            expected[row] += weight[:, None, None] * entered * seen[row, view] / seen[row].sum(0)
    expected = torch.einsum("gf,bfhw->bghw", fusion.leave.weight[:, 6:, 0, 0], expected)
    torch.testing.assert_close(fusion(features, seen, each), expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_each_photo_has_its_own_light_whatever_the_order() -> None:
    model, views = network(), photos()
    valid = torch.tensor([[True, False, True], [True, False, True]])
    light = model(views, light=True)["light"]
    assert light.shape == (2, 3, 3) and (light[:, 0] - light[:, 1]).abs().max() > 1e-3
    torch.testing.assert_close(model(views[:, [2, 0, 1]], light=True)["light"], light[:, [2, 0, 1]])
    some = model(views, valid=valid, light=True)["light"]
    assert not some[:, 1].any()
    torch.testing.assert_close(some[:, [0, 2]], model(views[:, [0, 2]], light=True)["light"])


@torch.no_grad()
def test_a_tile_that_some_photos_do_not_show_needs_nothing_of_them() -> None:
    model, views = network(), photos(1, 3, 32, 32)
    summary = model.summarise(views)
    seen = torch.ones(1, 3, 1, 32, 32)
    seen[:, 1] = 0
    expected = model(views[:, [0, 2]], summary=summary[:, [0, 1, 3]])
    for name, one in model(views, valid=seen, summary=summary).items():
        torch.testing.assert_close(one, expected[name])
    unused = model.summarise(views, valid=seen)
    assert unused.shape == summary.shape and not unused[:, 2].any()


@torch.no_grad()
def test_a_tile_with_the_summary_of_the_whole_has_the_maps_of_the_whole() -> None:
    model, views = network(), photos(1, 2, 128, 128)
    whole, summary = model(views), model.summarise(views)
    tile = model(views[..., 16:112, 8:104], summary=summary)
    inner = (..., slice(44, 52), slice(44, 52))  # further from the tile's edge than the network sees
    for name, one in tile.items():
        torch.testing.assert_close(one[inner], whole[name][..., 16:112, 8:104][inner], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_tileable_wraps_around() -> None:
    """Photos moved around the edge give maps moved around the edge."""
    model, views = network(), photos(1, 2, 32, 32)
    summary = model.summarise(views)
    model.tileable(True)
    moved = model(views.roll((8, -12), (-2, -1)), summary=summary)
    wrapped = model(views, summary=summary)
    for name, one in wrapped.items():
        torch.testing.assert_close(moved[name], one.roll((8, -12), (-2, -1)), atol=1e-5, rtol=1e-4)
    model.tileable(False)
    assert (model(views, summary=summary)["albedo"] - wrapped["albedo"]).abs().max() > 1e-4


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_resnets_give_maps_of_the_full_size_too(encoder: str, stride: int) -> None:
    model = NeuroPBR(replace(TINY, encoder=encoder, stride=stride)).eval()  # type: ignore[arg-type]
    assert model(photos(1, 2, 32, 32))["normal"].shape == (1, 3, 32, 32)


def test_gradients_reach_everything_that_is_not_frozen() -> None:
    model = network(replace(TINY, freeze_backbone=True)).train()
    sum(one.square().mean() for one in model(photos(), light=True).values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder."), name
    frozen = network(replace(TINY, freeze_norm=True)).encoder
    assert {p.requires_grad for n, p in frozen.named_parameters() if ".norm." in n} == {False}
    assert frozen.stages[0][0].weight.requires_grad


def test_the_default_preset_keeps_its_budget() -> None:
    assert sum(p.numel() for p in NeuroPBR(NeuroPBRConfig()).parameters()) < 8_000_000


@pytest.mark.parametrize(
    ("change", "words"),
    [({"stride": 3}, "stride must be 1 or 2"), ({"heads": 3}, "multiple of the 3 heads"), ({"levels": 1}, "levels")],
)
def test_a_configuration_checks_itself(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)


def test_it_says_which_shape_views_have() -> None:
    with pytest.raises(ValueError, match=r"views must be \(B, N, 3, H, W\), got \(1, 3, 8, 8\)"):
        network()(torch.rand(1, 3, 8, 8))


@pytest.mark.slow
def test_constant_materials_come_back() -> None:
    """Fitted to plain materials, the network gives their values: no range is lost on the way."""
    torch.manual_seed(0)
    values = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    true = values.view(5, 1, 1, 1).expand(-1, 1, 16, 16)
    views = true[:, None].expand(-1, 2, 3, -1, -1)
    model = NeuroPBR(TINY).train()
    model.tileable(True)  # a plain surface has no edge
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / 400)
        maps = model(views)
        loss = sum((maps[name] - true).abs().mean() for name in ("albedo", "roughness", "metallic"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    maps = model.eval()(views)
    for name in ("albedo", "roughness", "metallic"):
        assert (maps[name] - true).abs().max() < 0.02, name


def test_recomputing_changes_no_gradient_and_keeps_less() -> None:
    kept = []

    def gradients(recompute: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = network()
        model.recompute(recompute)
        stored = 0

        def count(x: torch.Tensor) -> torch.Tensor:
            nonlocal stored
            stored += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            maps = model(photos(1, 2, 32, 32))
        kept.append(stored)
        sum(one.square().sum() for one in maps.values()).backward()
        return [one.grad for one in model.parameters() if one.grad is not None]

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(again, plain, atol=1e-6, rtol=1e-5)
    assert kept[1] < kept[0] * 0.6
