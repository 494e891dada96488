"""Maps of any size: what tiles make of a picture is what the whole would be."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from loud import network
from PIL import Image
from torch import Tensor, nn

from hubmodels.images import from_unit, to_pil, to_uint8
from hubmodels.neuropbr.cameras import homography, photograph, random_camera, rectify
from hubmodels.neuropbr.model import Maps, NeuroPBRConfig, average
from hubmodels.neuropbr.predict import COARSE, _resampled, aligned, predict, read_photo, shrunk


class Through(nn.Module):
    """Hands pixels on as maps, and remembers how large what it was given was."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.calls, self.summarised = 0, 0, (0, 0)

    def summarise(self, views: Tensor, valid: Tensor, toward: Tensor | None) -> Tensor:
        self.summarised = views.shape[-2:]
        return views.mean((1, 2, 3, 4))[:, None]

    def forward(self, views: Tensor, valid: Tensor, summary: Tensor, toward: Tensor | None) -> Maps:
        self.largest, self.calls = max(self.largest, views.numel()), self.calls + 1
        photo = average(views, valid)
        slope = torch.cat([photo[:, :2] - 0.5, torch.ones_like(photo[:, :1])], 1)
        return {"albedo": photo, "roughness": photo[:, :1], "normal": F.normalize(slope, dim=1)}


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """(3, H, W) uint8."""
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def waves(height: int, width: int, repeats: int = 1) -> Tensor:
    """(3, H, W) in [0, 1] that tiles."""
    y, x = torch.meshgrid(
        *(torch.arange(side) * (2 * math.pi * repeats / side) for side in (height, width)), indexing="ij"
    )
    return torch.stack([x.sin(), y.cos(), (x + y).sin()]) * 0.4 + 0.5


def ramp(height: int, width: int) -> Tensor:
    return (torch.linspace(26, 230, width).round() / 255).expand(3, height, width)


def cameras(count: int) -> Tensor:
    draws = (torch.Generator().manual_seed(seed) for seed in range(count))
    return torch.stack([homography(random_camera(draw, max_tilt=25), 1.0) for draw in draws])


# --- tiles and the whole


@pytest.mark.parametrize("size", [(16, 16), (64, 96), (100, 333), (257, 129)])
@pytest.mark.parametrize("wrap", [False, True])
def test_pixels_come_through_tiles_as_they_were(size: tuple[int, int], wrap: bool) -> None:
    photo = noise(*size)
    maps = predict(Through(), [photo], size=size, tile=96, overlap=32, wrap=wrap, coarse=())  # pyright: ignore
    whole = photo[None, None] / 255, torch.ones(1, 1, 1, *size)
    expected = Through()(*whole, torch.zeros(1, 1), None)
    for name, one in maps.items():
        assert one.shape == expected[name].shape and one.dtype == torch.float32 and one.is_contiguous()
        # the sampler interpolates, and where a place is off by a millionth of a texture so is a step between pixels
        torch.testing.assert_close(one, expected[name], atol=2e-4, rtol=0)


def test_a_tile_of_the_network_is_a_part_of_the_whole() -> None:
    """Where no border is in sight, a network in tiles, each of which sees enough, equals the network at once."""
    model, photos = network(scale=0.1), [noise(240, 336, seed) for seed in range(2)]
    views = torch.stack(photos)[None] / 255
    with torch.no_grad():
        whole = model(views, summary=model.summarise(views))
    tiles = predict(model, photos, size=(240, 336), tile=256, overlap=128, coarse=())
    inside = (..., slice(40, -40), slice(40, -40))
    for name, one in tiles.items():
        assert whole[name][inside].std() > 0.003
        torch.testing.assert_close(one[inside], whole[name][inside], atol=2e-3, rtol=0)


@pytest.mark.parametrize("picture", [torch.full((3, 384, 384), 0.2), ramp(384, 384)], ids=["constant", "ramp"])
def test_a_constant_and_a_ramp_stay_so_across_tiles(picture: Tensor) -> None:
    """No step between neighbours is much larger where tiles meet than in their middles, with pixels that go straight
    through and with a network: that of the released shape, none of whose tiles sees as far as it could."""
    straight = predict(Through(), [picture], size=384, tile=256)  # pyright: ignore
    # coarse maps come of photos that were averaged down to whole levels of 8 bits
    assert (straight["albedo"][0] - picture).abs().max() < 0.5 / 255
    for model in (network(scale=0.1), network(NeuroPBRConfig(), 0.1)):
        maps = predict(model, [picture], size=384, tile=256)
        at_once = predict(model, [picture], size=384, tile=512)
        for name in maps:
            for dim in (2, 3):
                # of whole lines, so that the pattern of what is upsampled does not hide a seam
                steps, expected = (m[name].mean(5 - dim).diff(dim=-1).abs().amax((0, 1)) for m in (maps, at_once))
                # less than a level of 8 bits is no step
                assert steps[8:-8].max() < expected[8:-8].max() * 2 + 1 / 255, (name, dim)


def test_the_border_is_no_darker_and_no_rougher_than_the_rest() -> None:
    """What lies beyond the border is a mirror image: a network meets no edge there."""
    maps = predict(network(scale=0.1), [torch.full((3, 96, 96), 0.6)], size=96, overlap=64)
    for one in maps.values():
        assert (one - one[..., 40:56, 40:56].mean((2, 3), keepdim=True)).abs().max() < 0.02


class Nearsighted(Through):
    """All that it sees is as bright as it is small: right in coarse maps of 96 texels, wrong in all others."""

    def forward(self, views: Tensor, valid: Tensor, summary: Tensor, toward: Tensor | None) -> Maps:
        maps = super().forward(views, valid, summary, toward)
        wrong = 0.0 if self.summarised == (96, 96) else 0.3
        return {name: one - wrong * (name != "normal") for name, one in maps.items()}


@pytest.mark.parametrize("wrap", [False, True])
def test_levels_come_from_coarse_maps_and_detail_from_fine_ones(wrap: bool) -> None:
    broad, detail = waves(256, 256), 0.2 * (waves(256, 256, 32) - 0.5)
    photo = (broad * 0.4 + 0.4 + detail).clamp(0, 1)
    options = {"size": 256, "wrap": wrap}
    blind = predict(Nearsighted(), [photo], **options, coarse=())  # pyright: ignore
    maps = predict(Nearsighted(), [photo], **options, coarse=(96,))  # pyright: ignore
    assert (blind["albedo"][0] - photo + 0.3).abs().max() < 0.01
    for name in ("albedo", "roughness"):
        missed = maps[name][0] - photo[: len(maps[name][0])]
        assert missed.abs().max() < 0.05 and missed.abs().mean() < 0.01, name
    assert torch.equal(maps["normal"], blind["normal"])


@pytest.mark.parametrize("size", [(12, 16), (30, 40), (7, 9)])
def test_resampling_is_torchs_where_borders_are_far_and_wraps_where_it_should(size: tuple[int, int]) -> None:
    one = torch.rand(1, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    inside = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(
        _resampled(one, size, False)[inside], F.interpolate(one, size, mode="bicubic")[inside], atol=1e-5, rtol=0
    )
    thrice = one.repeat(1, 1, 3, 3)
    middle = _resampled(thrice, (3 * size[0], 3 * size[1]), False)
    middle = middle[..., size[0] : 2 * size[0], size[1] : 2 * size[1]]
    torch.testing.assert_close(_resampled(one, size, True), middle, atol=1e-5, rtol=0)


# --- textures that tile


@pytest.mark.parametrize("tile", [128, 512])
def test_wrapping_moves_with_the_picture(tile: int) -> None:
    """Maps of a picture that was moved around are the maps, moved around: there is no first pixel."""
    model, photo = network(scale=0.1), to_uint8(from_unit(waves(256, 256, 3)))
    still = predict(model, [photo], size=256, tile=tile, wrap=True)
    moved = predict(model, [photo.roll((96, 32), (1, 2))], size=256, tile=tile, wrap=True)
    for name, one in moved.items():
        torch.testing.assert_close(one.roll((-96, -32), (2, 3)), still[name], atol=0.05, rtol=0)
        assert (one.roll((-96, -32), (2, 3)) - still[name]).abs().mean() < 0.002


def test_opposite_edges_meet_only_where_they_shall() -> None:
    model, photo = network(scale=0.1), to_uint8(from_unit(waves(256, 256, 3)))

    def step(wrap: bool, left: int, moved: int) -> float:
        """Mean difference of normals to the right of a column of the photo, which was moved around."""
        normal = predict(model, [photo.roll(moved, 2)], size=256, tile=128, wrap=wrap)["normal"]
        return float((normal[..., (left + 1) % 256] - normal[..., left]).abs().mean())

    inside = step(False, 127, 128)  # the same two columns of texels, far from any edge
    assert step(True, 255, 0) < 1.2 * inside < step(False, 255, 0)


# --- photos


def test_photos_of_any_size_and_place_lie_on_each_other() -> None:
    """A texture photographed by cameras of three sorts comes back, by the closed form of their homographies."""
    texture, matrices = waves(200, 200, 2)[None], cameras(3)
    shots = zip(matrices, [(300, 300), (400, 400), (500, 500)], strict=True)
    photos = [photograph(texture, matrix[None], *size)[0] for matrix, size in shots]
    maps = predict(Through(), photos, matrices, 200, tile=96, overlap=32)  # pyright: ignore
    assert (maps["albedo"] - texture).abs().mean() < 0.01
    with_one_of_them = predict(Through(), photos[1:2], matrices[1:2], 200)  # pyright: ignore
    assert (with_one_of_them["albedo"] - texture).abs().mean() < 0.01


def test_a_window_shows_what_the_whole_rectified_photo_does() -> None:
    photo, matrix = noise(150, 210), cameras(1)
    whole, inside = rectify(photo[None] / 255, matrix, 64, 64)
    x = (torch.arange(64) + 0.5) / 32 - 1
    for columns, rows in [(slice(0, 20), slice(30, 64)), (slice(40, 64), slice(0, 10)), (slice(5, 6), slice(63, 64))]:
        views, seen = aligned([photo], matrix, x[columns], x[rows])
        torch.testing.assert_close(views[0, 0], whole[0][:, rows, columns], atol=2e-3, rtol=0)
        assert torch.equal(seen[0, 0] > 0, inside[0][:, rows, columns])


def test_where_a_photo_ends_it_is_not_seen() -> None:
    matrix = torch.tensor([[[1.0, 0, 1], [0, 1, 0], [0, 0, 1]]])  # the photo's middle is at the texture's left edge
    x = (torch.arange(32) + 0.5) / 16 - 1
    _, seen = aligned([noise(40, 40)], matrix, x, x)
    assert seen[..., :16].all() and not seen[..., 16:].any()
    far = torch.tensor([[[1.0, 0, 9], [0, 1, 0], [0, 0, 1]]])
    with pytest.raises(ValueError, match="no photo shows any of the texture"):
        predict(network(scale=0.1), [noise(40, 40)], far, 64)


def test_photos_much_finer_than_the_texture_are_averaged() -> None:
    """A checkerboard of single pixels is grey from afar, and noise is less noisy."""
    board = ((torch.arange(512)[:, None] + torch.arange(512)) % 2 * 255).to(torch.uint8).expand(3, -1, -1)
    maps = predict(Through(), [board], size=64)  # pyright: ignore
    assert (maps["albedo"] - 0.5).abs().max() < 0.01
    (smaller,) = shrunk([noise(512, 512)], torch.eye(3)[None], 64, 64)
    assert smaller.shape == (3, 64, 64) and smaller.float().std() < 12 < 70 < noise(512, 512).float().std()
    assert shrunk([board], torch.eye(3)[None], 300, 300)[0] is board


def test_levels_and_floats_are_the_same_photo() -> None:
    model, levels = network(scale=0.1), noise(64, 64)
    floats = predict(model, [levels.float() / 255], size=64)
    for name, one in predict(model, [levels], size=64).items():
        assert torch.equal(one, floats[name])


def test_the_method_of_the_model_is_this_and_leaves_it_as_it_was() -> None:
    model, photos = network(scale=0.1).train(), [noise(48, 64), noise(90, 70, 1)]
    maps = model.predict(photos)
    assert model.training and maps["albedo"].shape == (1, 3, 48, 64) and not maps["albedo"].is_inference()
    for name, one in predict(model.eval(), photos, size=(48, 64)).items():
        assert torch.equal(one, maps[name])
    assert model.predict(photos, cameras(2), 32)["normal"].shape == (1, 3, 32, 32)


# --- memory


def test_tiles_do_not_grow_with_the_picture() -> None:
    largest = []
    for size in (256, 640):
        model = Through()
        predict(model, [noise(64, 64)] * 3, size=size, tile=128)  # pyright: ignore
        largest.append(model.largest)
        assert model.calls >= (size / 128) ** 2 and max(model.summarised) <= 512
    assert max(largest) <= 3 * 3 * 192**2


def test_many_photos_make_tiles_smaller() -> None:
    model = Through()
    predict(model, [noise(32, 32)] * 100, size=140)  # pyright: ignore
    assert model.largest <= 100 * 3 * 128**2 and max(model.summarised) <= 192


def test_a_small_picture_is_taken_at_once_and_progress_is_told() -> None:
    model, told = Through(), []

    def progress(steps, what):
        told.append((len(steps), what))
        return steps

    predict(model, [noise(64, 64)], size=512, progress=progress, coarse=())  # pyright: ignore
    assert model.calls == 1 and told == [(1, "tiles")]
    predict(model, [noise(64, 64)], size=512, progress=progress)  # pyright: ignore
    assert model.calls == 1 + 1 + len(COARSE) and told == [(1, "tiles")] * 2
    predict(model, [noise(64, 64)], size=2 * COARSE[1] - 1)  # pyright: ignore
    assert model.calls == 1 + 1 + len(COARSE) + 1, "nearly as small as the coarse ones"


# --- refusals

FLAT = torch.eye(3)[None]
NAN_PIXEL = torch.full((3, 20, 20), 0.5)
NAN_PIXEL[1, 3, 4] = torch.nan


@pytest.mark.parametrize(
    ("photos", "matrices", "size", "words"),
    [
        ([], None, 64, "give 1 to 100 photos, got 0"),
        ([noise(16, 16)] * 101, None, 64, "give 1 to 100 photos, got 101"),
        ([noise(16, 16), NAN_PIXEL], None, 64, "photo 2 holds NaN"),
        ([noise(16, 16).float()], None, 64, "photo 1 must be in"),
        ([noise(16, 16).long()], None, 64, "photo 1 must be uint8 or floats"),
        ([noise(16, 16)[:1]], None, 64, r"photo 1 must be \(3, height, width\)"),
        ([noise(16, 16)], None, 15, "16 to 4096 texels a side, got 15 x 15"),
        ([noise(16, 16)], None, (64, 4097), "16 to 4096 texels a side, got 4097 x 64"),
        ([noise(16, 16)], FLAT.expand(2, 3, 3), 64, "one for each photo"),
        ([noise(16, 16)], FLAT * torch.nan, 64, "photo 1: corners must be numbers"),
        ([noise(16, 16)], FLAT * torch.tensor([1.0, 0, 1]), 64, "photo 1: two corners fall on the same spot"),
        ([noise(16, 16)], FLAT * torch.tensor([-1.0, 1, 1]), 64, "anticlockwise"),
    ],
)
def test_what_cannot_be_is_one_line(
    photos: list[Tensor], matrices: Tensor | None, size: int | tuple[int, int], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        predict(network(scale=0.1), photos, matrices, size)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("tile", "overlap"), [(100, 32), (48, 32), (128, 0), (128, 96), (128, 40)])
def test_tiles_that_do_not_fit_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"got {tile}, {overlap}"):
        predict(network(scale=0.1), [noise(16, 16)], size=64, tile=tile, overlap=overlap)


# --- files


def test_photos_of_all_kinds_are_read(tmp_path: Path) -> None:
    picture = to_pil(noise(4, 6))
    picture.save(tmp_path / "colour.png")
    assert torch.equal(read_photo(tmp_path / "colour.png"), noise(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be seen rotated by 90 degrees clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read_photo(tmp_path / "turned.png"), noise(4, 6).rot90(-1, (1, 2)))
    picture.convert("L").save(tmp_path / "grey.png")
    grey = read_photo(tmp_path / "grey.png")
    assert grey.shape == (3, 4, 6) and torch.equal(grey[0], grey[2])
    Image.new("I;16", (6, 4), 32768).save(tmp_path / "deep.png")
    assert (read_photo(tmp_path / "deep.png") == 128).all()
    Image.new("RGBA", (6, 4), (255, 0, 0, 0)).save(tmp_path / "alpha.png")
    assert (read_photo(tmp_path / "alpha.png") == 255).all()
