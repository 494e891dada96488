import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.neuropbr.cameras import (
    Camera,
    blurred_surround,
    from_corners,
    homography,
    look_down,
    photograph,
    pose,
    project,
    random_camera,
    rectify,
    toward,
)

FRAME = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cameras(count: int, **options: float) -> list[Camera]:
    return [random_camera(seeded(seed), **options) for seed in range(count)]


def smooth(height: int, width: int) -> Tensor:
    """(1, 3, H, W) in [0, 1], of waves no shorter than a third of the texture."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    waves = [(3 * x + 2 * y).sin(), (4 * y - x).cos(), (5 * x).sin() * (3 * y).cos()]
    return torch.stack(waves)[None] * 0.4 + 0.5


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10((a - b).square().mean().item())


def test_a_homography_puts_texels_where_the_pinhole_does() -> None:
    aspect = 0.7
    for camera in cameras(6, aspect=aspect, photo_aspect=0.75):
        matrix = homography(camera, aspect)
        for tx, ty in [(-1.0, -1.0), (1.0, -1.0), (0.3, 0.8), (0.0, 0.0)]:
            world = torch.tensor([tx, -aspect * ty, 0.0])  # the top of a texture is up
            x, y, z = (camera.rotation @ world + camera.translation).tolist()
            expected = [camera.intrinsics[0, 0].item() * x / z, camera.intrinsics[1, 1].item() * y / z]
            assert z > 0
            assert project(matrix, torch.tensor([[tx, ty]]))[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_batch_of_cameras_is_one_camera_after_the_other() -> None:
    several = cameras(3)
    together = Camera(
        torch.stack([c.intrinsics for c in several]),
        torch.stack([c.rotation for c in several]),
        torch.stack([c.translation for c in several]),
    )
    for row, camera in enumerate(several):
        assert torch.allclose(homography(together, 0.5)[row], homography(camera, 0.5), atol=1e-6)
        assert torch.allclose(together.eye[row], camera.eye, atol=1e-6)
    aspects = torch.tensor([0.5, 1.0, 2.0])
    assert torch.allclose(homography(together, aspects)[2], homography(several[2], 2.0), atol=1e-6)


def test_straight_down_the_photo_is_the_texture() -> None:
    camera = Camera(torch.diag(torch.tensor([3.0, 3, 1])), look_down(0, 0, 0), torch.tensor([0.0, 0, 3]))
    assert torch.allclose(camera.eye, torch.tensor([0.0, 0, 3]))
    matrix = homography(camera, 1.0)
    assert torch.allclose(project(matrix, FRAME), FRAME, atol=1e-6)
    picture = smooth(20, 20)
    assert torch.allclose(photograph(picture, matrix[None], 20, 20, supersample=1), picture, atol=1e-5)


def test_where_a_tilted_camera_stands_and_how_it_rolls() -> None:
    for azimuth in (0.0, 1.0, 4.0):
        rotation = look_down(math.radians(30), azimuth, 0.3)
        assert torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-6) and rotation.det() > 0
        eye = Camera(torch.eye(3), rotation, torch.tensor([0.0, 0, 2])).eye
        expected = [math.sin(math.pi / 6) * math.cos(azimuth), math.sin(math.pi / 6) * math.sin(azimuth)]
        assert eye.tolist() == pytest.approx([2 * expected[0], 2 * expected[1], 2 * math.cos(math.pi / 6)], abs=1e-5)
    # turn a camera a quarter counterclockwise, and +x goes to the bottom of its photo
    rolled = Camera(torch.eye(3), look_down(0, 0, math.pi / 2), torch.tensor([0.0, 0, 2]))
    assert project(homography(rolled, 1.0), torch.tensor([[1.0, 0]]))[0].tolist() == pytest.approx([0, 0.5], abs=1e-6)


@pytest.mark.parametrize(("aspect", "photo_aspect"), [(1.0, 1.0), (0.6, 1.33), (1.0, 0.75)])
def test_random_cameras_show_all_of_the_texture_large(aspect: float, photo_aspect: float) -> None:
    tilts, directions, sizes = [], [], []
    for camera in cameras(60, aspect=aspect, photo_aspect=photo_aspect):
        corners = project(homography(camera, aspect), FRAME)
        assert 0.84 < corners.abs().max() < 0.99
        sides = corners.roll(-1, 0) - corners
        sizes.append((corners[:, 0] * corners.roll(-1, 0)[:, 1] - corners[:, 1] * corners.roll(-1, 0)[:, 0]).sum() / 8)
        assert sides.isfinite().all()
        axis = -camera.rotation[2]  # from the texture back along the optical axis
        tilts.append(math.degrees(math.acos(min(1.0, axis[2].item()))))
        directions.append(math.atan2(camera.rotation[0, 1], camera.rotation[0, 0]))
        assert camera.eye[2] > 0
    assert max(tilts) < 40.01 and max(tilts) > 35 and min(tilts) < 5
    assert min(directions) < -2.5 and max(directions) > 2.5
    assert sum(sizes) / len(sizes) > 0.3


def test_cropping_moves_closer_and_seeds_repeat() -> None:
    reach = torch.tensor([project(homography(c, 1.0), FRAME).abs().max() for c in cameras(40, crop=0.5)])
    assert (reach > 1).float().mean() > 0.5 and reach.max() < 1.49
    first, again = random_camera(seeded(7)), random_camera(seeded(7))
    assert torch.equal(first.rotation, again.rotation) and torch.equal(first.translation, again.translation)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_rectified_photograph_is_the_texture(seed: int) -> None:
    picture = smooth(96, 96)
    matrix = homography(random_camera(seeded(seed)), 1.0)[None]
    photo = photograph(picture, matrix, 192, 256)
    rectified, valid = rectify(photo, matrix, 96, 96)
    assert valid.float().mean() > 0.99
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))  # at its edge a photo mixes in the surround
    assert psnr(rectified[inner], picture[inner]) > 42
    wrong, _ = rectify(photo, homography(random_camera(seeded(seed + 10)), 1.0)[None], 96, 96)
    assert psnr(wrong[inner], picture[inner]) < 25


def test_rectifying_says_what_the_photo_does_not_show() -> None:
    camera = random_camera(seeded(5), crop=0.8)
    matrix = homography(camera, 1.0)[None]
    photo = torch.ones(1, 1, 50, 60)
    rectified, valid = rectify(photo, matrix, 40, 40)
    texels = (torch.arange(40) + 0.5) / 20 - 1
    for i in range(0, 40, 3):
        for j in range(0, 40, 3):
            place = project(matrix[0], torch.stack([texels[j], texels[i]])[None])[0]
            assert valid[0, 0, i, j].item() == bool((place.abs() <= 1).all())
    assert 0.2 < valid.float().mean() < 1
    assert torch.allclose(rectified, valid.float(), atol=1e-5)


def test_photographs_are_averages_of_their_parts() -> None:
    """Supersampled is a larger photo, box-filtered; its edge is the share of a pixel that the texture covers."""
    matrix = homography(random_camera(seeded(1)), 1.0)[None]
    picture = torch.rand(1, 3, 64, 64, generator=seeded(0))
    large = photograph(picture, matrix, 96, 120, supersample=1)
    assert torch.allclose(photograph(picture, matrix, 32, 40, supersample=3), F.avg_pool2d(large, 3), atol=1e-5)
    white = photograph(torch.ones_like(picture), matrix, 32, 40, supersample=4)
    corners = project(matrix[0], FRAME)
    after = corners.roll(-1, 0)
    area = (corners[:, 0] * after[:, 1] - corners[:, 1] * after[:, 0]).sum() / 2
    assert white.mean().item() * 4 == pytest.approx(area.item(), rel=0.01)


def test_the_surround_fills_exactly_what_the_texture_leaves() -> None:
    matrix = homography(random_camera(seeded(2)), 1.0)[None]
    picture = smooth(32, 32)
    black = photograph(picture, matrix, 24, 24)
    assert torch.allclose(photograph(picture * 0 + 0.3, matrix, 24, 24, torch.tensor(0.3)), torch.tensor(0.3))
    around = blurred_surround(picture, 24, 24)
    assert around.shape == (1, 3, 24, 24) and (around >= 0).all()
    assert torch.allclose(around.mean((2, 3)), picture.mean((2, 3)), atol=0.05)
    full = photograph(picture, matrix, 24, 24, around)
    cover = photograph(torch.ones_like(picture), matrix, 24, 24)
    assert torch.allclose(full[cover == 1], black[cover == 1])
    assert torch.allclose(full[cover == 0], around[cover == 0], atol=1e-6)


def test_a_photo_across_the_horizon_is_finite() -> None:
    """The camera looks along the plane: the upper half of its photo is sky, what lies behind it does not show."""
    camera = Camera(
        torch.diag(torch.tensor([1.0, 1, 1])), look_down(math.radians(89), 1.0, 0.4), torch.tensor([0.0, 0, 0.4])
    )
    matrix = homography(camera, 1.0)[None]
    photo = photograph(torch.ones(1, 3, 16, 16), matrix, 64, 64)
    assert photo.isfinite().all() and 0 < photo.mean() < 0.6
    _, valid = rectify(photo, matrix, 32, 32)
    texels = torch.cartesian_prod((torch.arange(32) + 0.5) / 16 - 1, (torch.arange(32) + 0.5) / 16 - 1).flip(1)
    behind = project(matrix[0], texels).isnan().any(-1).reshape(32, 32)
    assert behind.any() and not (valid[0, 0] & behind).any()


def test_gradients_pass_through_photograph_and_rectify() -> None:
    """Both are linear in the picture: the gradient times a step is the difference, however large the step."""
    matrix = homography(random_camera(seeded(3)), 1.0)[None].double()
    picture, step, weight = torch.rand(3, 1, 3, 6, 6, generator=seeded(0), dtype=torch.float64)

    def there_and_back(texture: Tensor) -> Tensor:
        return (rectify(photograph(texture, matrix, 8, 8), matrix, 6, 6)[0] * weight).sum()

    picture.requires_grad_()
    (gradient,) = torch.autograd.grad(there_and_back(picture), picture)
    assert (gradient != 0).all()
    difference = there_and_back(picture + step) - there_and_back(picture)
    assert (gradient * step).sum().item() == pytest.approx(difference.item())


# --- four corners -------------------------------------------------------------------------------------------------


def test_corners_of_the_frame_give_the_identity() -> None:
    assert torch.allclose(from_corners(FRAME), torch.eye(3))


def test_four_corners_give_back_the_homography_of_the_camera() -> None:
    matrices = torch.stack([homography(camera, 0.8) for camera in cameras(8, aspect=0.8, crop=0.4)])
    found = from_corners(project(matrices, FRAME))
    assert torch.allclose(found, matrices / matrices[:, 2:, 2:], atol=1e-4)
    points = torch.rand(8, 20, 2, generator=seeded(0)) * 2 - 1
    assert torch.allclose(project(found, points), project(matrices, points), atol=1e-4)


def test_corners_against_linear_equations() -> None:
    """The direct linear transformation: two equations for each corner, H[2, 2] = 1, by a solver."""
    corners = torch.tensor([[-0.7, -0.9], [0.8, -0.6], [0.9, 0.7], [-0.4, 0.5]], dtype=torch.float64)
    rows, right = [], []
    for (tx, ty), (px, py) in zip(FRAME.tolist(), corners.tolist(), strict=True):
        rows += [[tx, ty, 1, 0, 0, 0, -px * tx, -px * ty], [0, 0, 0, tx, ty, 1, -py * tx, -py * ty]]
        right += [px, py]
    options = {"dtype": torch.float64}
    solved = torch.linalg.solve(torch.tensor(rows, **options), torch.tensor(right, **options))
    found = from_corners(corners)
    assert torch.allclose((found / found[2, 2]).flatten()[:8], solved)


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ([[-1, -1], [1, -1], [1, 1], [math.nan, 1]], "must be numbers"),
        ([[-1, -1], [1, -1], [1, math.inf], [-1, 1]], "must be numbers"),
        ([[-1, -1], [1, -1], [1, -1], [-1, 1]], "same spot"),
        ([[-1, -1], [0, 0], [1, 1], [-1, 1]], "on a line, cross or bend"),  # three on a line
        ([[-1, 0], [-0.5, 0], [0.5, 0], [1, 0]], "on a line, cross or bend"),  # all four
        ([[-1, -1], [1, 1], [1, -1], [-1, 1]], "on a line, cross or bend"),  # crossing
        ([[-1, -1], [1, -1], [-0.5, -0.5], [-1, 1]], "on a line, cross or bend"),  # an arrow head
        ([[1, -1], [-1, -1], [-1, 1], [1, 1]], "anticlockwise"),
    ],
)
def test_corners_that_are_no_picture_are_refused_in_one_line(corners: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        from_corners(torch.tensor(corners, dtype=torch.float32))
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=message):  # also when only one of a batch is wrong
        from_corners(torch.stack([FRAME, torch.tensor(corners, dtype=torch.float32)]))


def test_what_does_not_fit_is_refused() -> None:
    picture, matrix = torch.ones(1, 3, 4, 4), torch.eye(3)[None]
    with pytest.raises(ValueError, match="four points"):
        from_corners(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="no inverse"):
        photograph(picture, torch.ones(1, 3, 3), 4, 4)
    with pytest.raises(ValueError, match="no inverse"):
        photograph(picture, matrix * math.nan, 4, 4)
    with pytest.raises(ValueError, match=r"homographies \(B, 3, 3\)"):
        rectify(picture, torch.eye(3), 4, 4)
    with pytest.raises(ValueError, match="1 or more, got 0, 4, 1"):
        rectify(picture, matrix, 0, 4)


@pytest.mark.parametrize(("aspect", "photo_aspect"), [(1.0, 1.0), (0.6, 1.33), (1.0, 0.75)])
def test_a_homography_tells_where_its_camera_stands(aspect: float, photo_aspect: float) -> None:
    tilted = 0
    for camera in cameras(40, aspect=aspect, photo_aspect=photo_aspect):
        eye, focal = pose(-2 * homography(camera, aspect), aspect, photo_aspect)  # known up to a factor only
        assert eye.shape == (3,) and focal.shape == () and eye[2] > 0
        if math.acos(min(1.0, -camera.rotation[2, 2].item())) > math.radians(12):
            tilted += 1
            assert focal.item() == pytest.approx(camera.intrinsics[0, 0].item(), rel=0.01)
            assert (eye - camera.eye).norm() < 0.01 * camera.eye.norm()
        else:  # the view may be taken for a usual one; the direction is known all the same
            assert F.cosine_similarity(eye, camera.eye, dim=0) > 0.98
    assert tilted > 10


@pytest.mark.parametrize(("aspect", "photo_aspect"), [(1.0, 1.0), (0.5, 0.75)])
def test_directions_lead_from_each_texel_to_the_camera(aspect: float, photo_aspect: float) -> None:
    x, y = torch.linspace(-0.9, 0.9, 5), torch.linspace(-0.8, 0.8, 3)
    for camera in cameras(20, aspect=aspect, photo_aspect=photo_aspect):
        found = toward(homography(camera, aspect)[None], x, y, aspect, photo_aspect)[0]
        assert found.shape == (3, 3, 5)
        tilt = math.degrees(math.acos(min(1.0, -camera.rotation[2, 2].item())))
        for row, column in ((0, 0), (1, 2), (2, 4)):
            texel = torch.stack([x[column], -aspect * y[row], torch.tensor(0.0)])
            expected = F.normalize(camera.eye - texel, dim=0)
            apart = torch.rad2deg((found[:, row, column] * expected).sum().clamp(max=1).acos())
            # a camera that is hardly tilted may have any view, and be as far away as that says
            assert apart < (0.5 if tilt > 12 else 15), (tilt, float(apart))


def test_straight_from_above_the_view_is_a_usual_one() -> None:
    eye, focal = pose(torch.eye(3).expand(2, 3, 3))
    assert focal.tolist() == pytest.approx([1 / math.tan(math.radians(25))] * 2)
    assert torch.allclose(eye, torch.tensor([0.0, 0, 1 / math.tan(math.radians(25))]).expand(2, 3), atol=1e-5)
