"""Oracle: a painter that computes each thing's coverage from signed distances, one thing and one picture at a time."""

import hashlib
import math
import random

import numpy as np
import pytest
import torch

from hubmodels.scenes import masks, parse, place, render, sample
from hubmodels.scenes.renderer import OUTLINE_SHADE, RESOLUTIONS, draw, drawing_order, pack, paper
from hubmodels.scenes.shapes import OUTLINE, extent, signed_distance
from hubmodels.scenes.world import BACKGROUNDS, CANVAS, COLORS, SHAPES, SIZES, Group, Scene


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random("test renderer")
    return [place(sample(rng), seed) for seed in range(200)]


def heap(rng):
    """Up to six things anywhere in the canvas, overlapping as they like."""
    groups = []
    for _ in range(rng.randint(1, 6)):
        shape, size = rng.choice(SHAPES), rng.choice(list(SIZES))
        left, up, right, down = extent(shape, size)
        x = rng.randint(math.ceil(left - 0.5), math.floor(CANVAS - right - 0.5))
        y = rng.randint(math.ceil(up - 0.5), math.floor(CANVAS - down - 0.5))
        groups.append(Group(rng.choice(list(COLORS)), shape, size, 1, ((x, y),)))
    return Scene(tuple(groups), (), rng.choice(BACKGROUNDS))


# --- the painter ---


def backdrop(name, resolution):
    """Grey of each pixel's middle, from the words of the language."""
    grey = np.empty((resolution, resolution))
    for row in range(resolution):
        for column in range(resolution):
            x, y = ((i + 0.5) * CANVAS / resolution for i in (column, row))
            grey[row, column] = {
                "white": 255,
                "gray": 150,
                "black": 20,
                "striped": 255 if x % 8 < 4 else 215,
                "checkered": 215 if (x % 8 < 4) == (y % 8 < 4) else 255,
                "dotted": 190 if math.dist((x % 8, y % 8), (4, 4)) < 1.5 else 255,
                "shaded": 255 - 115 * y / CANVAS,
            }[name]
    return grey


def coverage(group, where, resolution, fine):
    """Shares of each pixel that a thing covers, and covers within its outline, both (R, R); its centre on the grid.

    A sprite is moved by whole pixels, so the centre is taken to the nearest corner of pixels where a unit has an
    even number of them (rounded), else to the nearest middle of one. `fine`**2 points a pixel are asked.
    """
    scale = resolution / CANVAS
    shift = 0.5 if round(scale) % 2 else 0.0
    x, y = (round((c + 0.5) * scale - shift) + shift for c in where)
    reach = math.ceil(max(extent(group.shape, group.size)) * scale) + 1
    points = (np.arange(2 * reach * fine) + 0.5) / fine  # from the window's corner
    left, top = math.floor(x) - reach, math.floor(y) - reach
    px, py = np.meshgrid((points + left - x) / scale, (points + top - y) / scale)
    distance = signed_distance(group.shape, group.size, px, py)
    shares = []
    for edge in (0, -OUTLINE):
        window = (distance < edge).reshape(2 * reach, fine, 2 * reach, fine).mean((1, 3))
        sheet = np.zeros((resolution + 4 * reach,) * 2)
        sheet[top + 2 * reach : top + 4 * reach, left + 2 * reach : left + 4 * reach] = window
        shares.append(sheet[2 * reach : -2 * reach, 2 * reach : -2 * reach])
    return shares


def painted(scene, resolution, fine):
    """Picture (R, R, 3) in [0, 255], not rounded; per instance its coverage and its ids' order, back to front."""
    picture = np.repeat(backdrop(scene.background, resolution)[..., None], 3, 2)
    order = list(range(len(scene.groups)))
    over = [r.primary() for r in scene.relations if r.primary().kind in ("in front of", "inside")]
    order.sort(key=lambda index: any(r.source == index for r in over))  # stable: the rest as mentioned
    layers = []
    for index in order:
        group, before = scene.groups[index], sum(g.count for g in scene.groups[:index])
        fill = np.array(COLORS[group.color], float)
        for number, where in enumerate(group.places, start=before + 1):
            whole, inner = coverage(group, where, resolution, fine)
            ink = inner[..., None] * fill + (whole - inner)[..., None] * np.round(fill * OUTLINE_SHADE)
            picture = picture * (1 - whole[..., None]) + ink
            layers.append((number, whole))
    return picture, layers


@pytest.mark.parametrize(
    ("resolution", "fine", "number"), [(64, 12, 12), (32, 12, 8), (100, 9, 5), (128, 6, 4), (200, 5, 2)]
)
def test_a_brute_force_painter_agrees_but_for_anti_aliasing(scenes, resolution, fine, number):
    """The renderer asks 8 x 8 points a pixel. An edge misses half a row of each grid at most; two may share a pixel."""
    rng = random.Random(resolution)
    chosen = [*rng.sample(scenes, number), heap(rng), heap(rng)]
    pictures, ids = draw(pack(chosen), resolution)
    for scene, picture, shown in zip(chosen, pictures.numpy(), ids.numpy(), strict=True):
        expected, layers = painted(scene, resolution, fine)
        off = np.abs(picture.transpose(1, 2, 0) - expected)
        assert off.max() <= 255 * 0.75 * (1 / 8 + 1 / fine), scene
        assert off.mean() < 1, scene
        top, doubtful = np.zeros_like(shown), np.zeros(shown.shape, bool)
        for name, whole in layers:
            top[whole >= 0.5] = name
            doubtful |= np.abs(whole - 0.5) < (1 / 8 + 1 / fine) / 2
        assert (top == shown)[~doubtful].all(), scene
        assert doubtful.mean() < 0.1


def test_asked_at_the_same_points_the_painter_agrees_to_the_rounding(scenes):
    """Each layer rounds once, which moves a grey by half at most."""
    rng = random.Random("rounding")
    chosen = [*scenes[:15], *(heap(rng) for _ in range(5))]
    for scene, picture in zip(chosen, render(chosen).numpy(), strict=True):
        expected, layers = painted(scene, 64, fine=8)
        assert np.abs(picture.transpose(1, 2, 0) - expected).max() <= 0.5 * (1 + len(layers))


# --- bytes ---

GOLDEN = (
    "The small red ball at 30 32 is inside the large blue cube at 30 32. The background is striped.",
    "The large cyan ring at 20 20 is left of the orange star at 44 21. The background is checkered.",
    "There are five pink crosses at 12 12 and 40 10 and 20 50 and 52 52 and 32 32. The background is dotted.",
    "The green block at 32 40 is under the small purple diamond at 32 31. The background is shaded.",
    "There is one yellow triangle at 50 30. The background is black.",
)


def test_bytes_are_those_of_every_other_process_and_of_the_released_weights():
    chosen = [place(parse(said)) for said in GOLDEN]
    digests = {
        resolution: hashlib.sha256(b"".join(t.numpy().tobytes() for t in draw(pack(chosen), resolution))).hexdigest()
        for resolution in (64, 100)
    }
    assert digests == {
        64: "ba64865274a343aea90d86d7491c03afba784ab5e1df2d71d8751e622cccb2b1",
        100: "6071353df11c043c124dd92d1589090e14b2592bacb94f0a6db02e8cbfd4f6b3",
    }


@pytest.mark.parametrize(("resolution", "number"), [(64, 200), (32, 60), (128, 30)])
def test_a_batch_is_its_pictures_one_by_one(scenes, resolution, number):
    pictures, ids = draw(pack(scenes[:number]), resolution)
    assert pictures.shape == (number, 3, resolution, resolution) and pictures.dtype == torch.uint8
    assert ids.shape == (number, resolution, resolution) and ids.dtype == torch.uint8
    for i in range(number):
        assert torch.equal(render([scenes[i]], resolution)[0], pictures[i])
        assert torch.equal(masks([scenes[i]], resolution)[0], ids[i])


def test_an_empty_batch():
    assert render([], 40).shape == (0, 3, 40, 40) and masks([], 40).shape == (0, 40, 40)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("resolution", [32, 64, 100, 512])
def test_cuda_draws_the_bytes_of_the_cpu(scenes, resolution):
    rng = random.Random("cuda")
    chosen = [*scenes[: 200 if resolution < 512 else 8], *(heap(rng) for _ in range(8))]
    packed = pack(chosen)
    for here, there in zip(draw(packed, resolution), draw(packed.to("cuda"), resolution), strict=True):
        assert there.is_cuda and torch.equal(here, there.cpu())


# --- geometry ---


def test_any_resolution_shows_the_same_geometry():
    scene = place(parse("The large red ball at 16 20 is left of the blue block at 45 40."))
    middles = {1: (16.5, 20.5), 2: (45.5, 40.5)}
    areas = {1: math.pi * SIZES["large"] ** 2, 2: 2.4 * 1.4 * SIZES["medium"] ** 2}
    for resolution in (32, 33, 47, 65, 96, 512):
        ids = masks([scene], resolution)[0].numpy()
        for number in (1, 2):
            y, x = np.nonzero(ids == number)
            unit = resolution / CANVAS
            assert len(y) == pytest.approx(areas[number] * unit**2, rel=0.25 / unit**0.5), resolution
            assert (x.mean() + 0.5, y.mean() + 0.5) == pytest.approx([c * unit for c in middles[number]], abs=0.75), (
                resolution
            )


@pytest.mark.parametrize("resolution", [31, 513, 0, -64])
def test_other_resolutions_are_refused(scenes, resolution):
    assert resolution not in RESOLUTIONS
    for function in (render, masks):
        with pytest.raises(ValueError, match=f"resolution must be from 32 to 512, got {resolution}"):
            function(scenes[:1], resolution)


def test_a_scene_without_places_is_refused():
    with pytest.raises(ValueError, match="pass it through layout.place first"):
        render([parse("The red ball is left of the blue cube.")])


# --- order ---


@pytest.mark.parametrize(
    "said",
    [
        "The small red ball at 30 32 is inside the large blue cube at 30 32.",
        "The large blue cube at 30 32 is around the small red ball at 30 32.",
        "The red ball at 30 36 is in front of the blue cube at 26 30.",
        "The blue cube at 26 30 is behind the red ball at 30 36.",
    ],
)
def test_what_is_in_front_or_inside_is_painted_last(said):
    scene = place(parse(said))
    red = next(i for i, group in enumerate(scene.groups) if group.color == "red")
    assert drawing_order(scene) == [1 - red, red]
    ((x, y),) = scene.groups[red].places
    assert tuple(render([scene])[0, :, y, x].tolist()) == COLORS["red"]
    shown = masks([scene])[0]
    assert shown[y, x] == red + 1
    alone = masks([Scene((scene.groups[red],))])[0] > 0
    assert torch.equal(shown == red + 1, alone)
    assert (shown == 2 - red).any()


def test_without_a_relation_the_last_mentioned_is_on_top():
    ball, cube = Group("red", "ball", "medium", 1, ((30, 30),)), Group("blue", "cube", "medium", 1, ((33, 30),))
    for groups in ((ball, cube), (cube, ball)):
        color = tuple(render([Scene(groups)])[0, :, 30, 31].tolist())
        assert color == COLORS[groups[1].color] and masks([Scene(groups)])[0, 30, 31] == 2


def test_ids_number_the_things_in_the_order_of_mention(scenes):
    for scene, ids in zip(scenes, masks(scenes), strict=True):
        places = [where for group in scene.groups for where in group.places]
        assert set(ids.unique().tolist()) == set(range(len(places) + 1))
        for number, (x, y) in enumerate(places, start=1):
            rows, columns = (ids == number).nonzero(as_tuple=True)
            reach = 1.25 * SIZES["large"]
            assert (columns - x).abs().max() <= reach and (rows - y).abs().max() <= reach


# --- backgrounds ---


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_are_as_described_at_any_resolution(name):
    for resolution in (32, 64, 100):
        expected = backdrop(name, resolution)
        assert np.abs(paper(name, resolution).numpy() - expected).max() < 1e-4
        corner = Scene((Group("red", "ball", "small", 1, ((5, 5),)),), (), name)
        picture, ids = (t[0].numpy() for t in draw(pack([corner]), resolution))
        bare = ids == 0
        bare[: resolution // 4, : resolution // 4] = False
        assert np.abs(picture[:, bare] - expected[bare]).max() <= 0.5


def test_backgrounds_differ():
    assert len({paper(name, 64).numpy().tobytes() for name in BACKGROUNDS}) == len(BACKGROUNDS) == 7
