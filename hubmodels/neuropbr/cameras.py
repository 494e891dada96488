"""Pinhole cameras that look at a flat texture, and the homographies between texture and photo.

    texture (x right, y down) --homography--> photo (x right, y down)

Coordinates in a texture or photo are normalised: [-1, 1] from edge to edge on both axes, whatever its size or shape;
a homography H takes one to the other as [px, py, 1] ~ H [tx, ty, 1], the third number positive in front of the camera.
World: the texture lies in the plane z = 0, x right, y UP, z towards the viewer, and spans x from -1 to 1.
Cameras see x right, y down, z forward. An aspect is height / width. `...` is any batch, also none.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from hubmodels.neuropbr.lights import between

LEAST_DEPTH = 1e-6
"""Nearer to the horizon than this, a photo does not see the plane."""
LEAST_CORNER_SINE = 0.05
"""Corners flatter or sharper than 3 degrees are refused: a click beside them would move the texture a long way."""
LEAST_SIDE = 0.02
"""Sides shorter than 1 % of the photo are refused."""
USUAL_VIEW = math.radians(50)
"""Across the longer side of a photo, where the photo does not say."""
LEAST_TILT_SINE = 0.1
"""Cameras tilted by less than 6 degrees do not say how wide their view is."""
LEAST_HEIGHT = 0.1
"""Of an eye above the texture: one that is found lower is a mistake of the clicks."""
STRAIGHT = torch.tensor([0.0, 0, 1]).view(3, 1, 1)
"""Towards an eye that is far above the texture."""
CORNERS = "top-left, top-right, bottom-right, bottom-left"


@dataclass(frozen=True, eq=False)
class Camera:
    """[px, py, 1] ~ intrinsics (rotation world + translation), px, py normalised photo coordinates."""

    intrinsics: Tensor
    """K (..., 3, 3): focal lengths in halves of the photo's width and height."""
    rotation: Tensor
    """R (..., 3, 3): from the world to the camera."""
    translation: Tensor
    """t (..., 3)."""

    @property
    def eye(self) -> Tensor:
        """(..., 3) position in the world."""
        return -(self.rotation.mT @ self.translation.unsqueeze(-1)).squeeze(-1)


def random_camera(
    generator: Generator, aspect: float = 1.0, photo_aspect: float = 1.0, max_tilt: float = 40.0, crop: float = 0.0
) -> Camera:
    """A hand-held camera near the texture, at any roll, as close as it can be with the whole texture in the photo.

    Args:
        aspect: of the texture.
        photo_aspect: of the photo.
        max_tilt: degrees between the optical axis and the normal of the plane, even from 0.
        crop: how much closer: corners stay within 1 + crop of the photo's centre. 0 shows all of the texture.
    """
    tilt, toward, roll, view = (between(generator, 0, 1).item() for _ in range(4))
    rotation = look_down(math.radians(tilt * max_tilt), 2 * math.pi * toward, 2 * math.pi * roll)
    focal = 1 / math.tan(math.radians(30 + 40 * view) / 2)  # 30 to 70 degrees across the longer side
    longer = max(1.0, photo_aspect)
    intrinsics = torch.diag(torch.tensor([focal * longer, focal * longer / photo_aspect, 1.0]))
    corners = torch.tensor([[-1, aspect, 0], [1, aspect, 0], [1, -aspect, 0], [-1, -aspect, 0]])
    target = torch.cat([between(generator, -0.05, 0.05, 2), torch.zeros(1)])
    # a corner at (x, y, z) from the target is within the reach when focal |x| / (z + distance) is
    x, y, z = ((corners - target) @ rotation.mT).unbind(-1)
    reach = between(generator, 0.85, 0.98).item() + crop * between(generator, 0, 1).item()
    distance = torch.maximum(intrinsics[0, 0] * x.abs(), intrinsics[1, 1] * y.abs()) / reach - z
    translation = torch.tensor([0.0, 0, 1]) * distance.max().clamp(min=0.2) - rotation @ target
    return Camera(intrinsics, rotation, translation)


def look_down(tilt: float, toward: float, roll: float) -> Tensor:
    """(3, 3) rotation of a camera that looks at the plane; all 0 is straight down with +y upwards in the photo.

    Args:
        tilt: radians between the optical axis and the plane's normal.
        toward: radians, counterclockwise from +x, where the tilted camera stands.
        roll: radians, about the optical axis, counterclockwise in the world.
    """
    straight = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    lean = _about_z(toward) @ _about_y(tilt) @ _about_z(-toward)  # moves +z towards where the camera stands
    return _about_z(roll) @ straight @ lean.mT


def homography(camera: Camera, aspect: float | Tensor) -> Tensor:
    """(..., 3, 3) from texture to photo, of a texture of this aspect: K [r1, -aspect r2, t].

    The second column is turned over because y points down in a texture and up in the world.
    """
    first, second = camera.rotation[..., 0], camera.rotation[..., 1]
    aspect = torch.as_tensor(aspect, dtype=second.dtype, device=second.device)
    return camera.intrinsics @ torch.stack([first, -aspect.unsqueeze(-1) * second, camera.translation], -1)


def from_corners(corners: Tensor) -> Tensor:
    """(..., 3, 3) homography that puts the corners of the texture at four points of a photo, in closed form.

    Scaled so that H[2, 2] is 1: a homography from a camera is a multiple of it.

    Args:
        corners: (..., 4, 2) normalised photo coordinates of the texture's top-left, top-right, bottom-right and
            bottom-left; they may lie outside of the photo.

    Raises:
        ValueError: the points are not a convex quadrilateral, go round the wrong way, or are not numbers.

    Source: Heckbert 1989, Fundamentals of Texture Mapping and Image Warping, section 2.2.3.
    """
    if corners.shape[-2:] != (4, 2):
        raise ValueError(f"corners must be four points (..., 4, 2): {CORNERS}; got {tuple(corners.shape)}")
    if not corners.isfinite().all():
        raise ValueError("corners must be numbers, got NaN or infinity: click all four again")
    sides = corners.roll(-1, -2) - corners
    lengths = sides.norm(dim=-1)
    if (lengths < LEAST_SIDE).any():
        raise ValueError("two corners fall on the same spot: click four different ones")
    # turning right all the way round, in coordinates with y down, is a convex quadrilateral in the right order
    sines = _cross(sides.roll(1, -2), sides) / (lengths.roll(1, -1) * lengths)
    if (sines < -LEAST_CORNER_SINE).all(-1).any():
        raise ValueError(f"the corners go round anticlockwise, as in a mirror: give them as {CORNERS}")
    if (sines < LEAST_CORNER_SINE).any():
        raise ValueError(f"the corners lie on a line, cross or bend inwards: give a convex outline as {CORNERS}")
    p0, p1, p2, p3 = corners.unbind(-2)
    excess = p0 - p1 + p2 - p3
    scale = _cross(p1 - p2, p3 - p2)
    g = (_cross(excess, p3 - p2) / scale).unsqueeze(-1)
    h = (_cross(p1 - p2, excess) / scale).unsqueeze(-1)
    across = torch.cat([p1 - p0 + g * p1, g], -1)
    down = torch.cat([p3 - p0 + h * p3, h], -1)
    start = torch.cat([p0, torch.ones_like(g)], -1)
    # Heckbert's square goes from 0 to 1, ours from -1 to 1
    matrix = torch.stack([across / 2, down / 2, start + across / 2 + down / 2], -1)
    return matrix / matrix[..., 2:, 2:]


def pose(matrix: Tensor, aspect: float = 1.0, photo_aspect: float = 1.0) -> tuple[Tensor, Tensor]:
    """Where the camera of a homography stands, if its pixels are square and its axis goes through the photo's centre.

    With K = diag(f, f / photo_aspect, 1) the first two columns give the axes r1 and r2 of the texture up to one
    scale. That they are orthogonal and of one length is, as the two parts of a complex number, linear in 1 / f^2:
    sum (r1 + i r2)^2 = 0. Straight from above any f will do, so a usual one is taken; likewise where the homography
    is of no such camera, as of a photo that was cropped.

    Args:
        matrix: (..., 3, 3) from texture to photo.
        aspect: of the texture.
        photo_aspect: of the photo.

    Returns:
        The eye (..., 3) in the world, and the focal length f (...) in halves of the photo's width.

    Source: Zhang 2000, "A Flexible New Technique for Camera Calibration", section 2.3, for one picture.
    """
    flip = matrix.new_tensor([1, -1 / aspect, 1])
    square = matrix.new_tensor([1, photo_aspect, 1])[:, None]
    columns = matrix * flip * square * matrix[..., 2:, 2:].sign()
    r1, r2 = columns[..., 0], columns[..., 1]
    parts = torch.stack([r1.square() - r2.square(), 2 * r1 * r2], -1)  # of (r1 + i r2)^2, for each axis of the camera
    across, ahead = parts[..., :2, :].sum(-2), parts[..., 2, :]
    usual = max(1.0, photo_aspect) / math.tan(USUAL_VIEW / 2)
    inverse_square = -(across * ahead).sum(-1) / across.square().sum(-1).clamp(min=1e-20)
    scale2 = columns[..., :2, :2].square().sum((-2, -1)) / (2 * usual**2)
    tilted = ahead.norm(dim=-1) > LEAST_TILT_SINE**2 * scale2
    likely = (inverse_square > 1 / (8 * usual) ** 2) & (inverse_square < (4 / usual) ** 2)
    focal = torch.where(tilted & likely, inverse_square.clamp(min=1e-9).rsqrt(), usual)
    bare = torch.stack([1 / focal, 1 / focal, torch.ones_like(focal)], -1).unsqueeze(-1) * columns
    # the nearest pair of orthonormal axes, where those found are not quite
    left, lengths, right = torch.linalg.svd(bare[..., :2], full_matrices=False)
    axes = left @ right
    rotation = torch.cat([axes, torch.linalg.cross(axes[..., 0], axes[..., 1], dim=-1).unsqueeze(-1)], -1)
    translation = bare[..., 2] / lengths.mean(-1, keepdim=True)
    return -(rotation.mT @ translation.unsqueeze(-1)).squeeze(-1), focal


def toward(matrix: Tensor, x: Tensor, y: Tensor, aspect: float = 1.0, photo_aspect: float = 1.0) -> Tensor:
    """Unit vectors (..., 3, H, W) in the world from texels to the eye that `pose` finds.

    Args:
        matrix: (..., 3, 3) from texture to photo.
        x: (W,) normalised texture coordinates of the texels' columns.
        y: (H,) of the rows.
        aspect: of the texture.
        photo_aspect: of the photo.
    """
    eye, _ = pose(matrix, aspect, photo_aspect)
    away = eye[..., None, None, :].repeat_interleave(len(y), -3).repeat_interleave(len(x), -2)
    away[..., 0] -= x
    away[..., 1] += aspect * y[:, None]
    away[..., 2].clamp_(min=LEAST_HEIGHT)
    return F.normalize(away, dim=-1).movedim(-1, -3)


def project(matrix: Tensor, points: Tensor) -> Tensor:
    """Points (..., N, 2) through homographies (..., 3, 3); NaN where a point is not in front of the camera."""
    x, y, w = (F.pad(points, (0, 1), value=1.0) @ matrix.mT).unbind(-1)
    return torch.stack([x, y], -1) / torch.where(w > LEAST_DEPTH, w, torch.nan).unsqueeze(-1)


def photograph(
    radiance: Tensor, matrix: Tensor, height: int, width: int, surround: Tensor | None = None, supersample: int = 2
) -> Tensor:
    """What a camera sees of a texture that shines by itself: `shade`d radiance, seen through a homography.

    Args:
        radiance: (B, 3, H, W) linear, in texture space.
        matrix: (B, 3, 3) from texture to photo.
        height: of the photo, in pixels.
        width: likewise.
        surround: linear radiance beside the texture, broadcasts to (B, 3, height, width); None is black.
        supersample: samples a side of each pixel, averaged; as many as texels fall on a pixel, or more.

    Returns:
        (B, 3, height, width) linear radiance.

    Raises:
        ValueError: shapes do not fit, or the homography cannot be inverted.
    """
    _check(radiance, matrix, height, width, supersample)
    inverse = _inverse(matrix)
    photo = radiance.new_zeros(len(radiance), 3, height, width)
    for across, down in _shifts(supersample):
        x, y = centres(width, inverse, across), centres(height, inverse, down)
        sample, inside = _sample(radiance, inverse, x, y)
        photo = photo + sample * inside
        if surround is not None:
            photo = photo + surround * ~inside
    return photo / supersample**2


def blurred_surround(radiance: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, height, width) of vague patches in the colours of a texture: the table that it lies on, out of focus."""
    return F.interpolate(F.adaptive_avg_pool2d(radiance, 4), (height, width), mode="bicubic").clamp(min=0)


def rectify(photo: Tensor, matrix: Tensor, height: int, width: int, supersample: int = 1) -> tuple[Tensor, Tensor]:
    """The texture's own view of a photo: undoes the perspective, so that several photos lie on each other.

    Args:
        photo: (B, C, h, w), any range.
        matrix: (B, 3, 3) from texture to photo.
        height: of the texture, in texels.
        width: likewise.
        supersample: samples a side of each texel, averaged; raise it for photos much larger than the texture.

    Returns:
        The rectified photo (B, C, height, width), 0 where the photo does not show the texture, and a mask
        (B, 1, height, width) bool of where it does.

    Raises:
        ValueError: shapes do not fit.
    """
    _check(photo, matrix, height, width, supersample)
    rectified = photo.new_zeros(*photo.shape[:2], height, width)
    valid = torch.ones(len(photo), 1, height, width, dtype=torch.bool, device=photo.device)
    for across, down in _shifts(supersample):
        x, y = centres(width, matrix, across), centres(height, matrix, down)
        sample, inside = _sample(photo, matrix, x, y)
        rectified = rectified + sample
        valid &= inside
    return rectified / supersample**2 * valid, valid


def rectify_at(photo: Tensor, matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`rectify` for some columns and rows of the texture, such as a window of it.

    Args:
        photo: (B, C, h, w), any range.
        matrix: (B, 3, 3) from texture to photo.
        x: (W,) normalised texture coordinates of the columns, in any order.
        y: (H,) of the rows.

    Returns:
        As `rectify`: (B, C, H, W), and a mask (B, 1, H, W) bool.
    """
    sample, inside = _sample(photo, matrix, x, y)
    return sample * inside, inside


def centres(count: int, like: Tensor, shift: float = 0.0) -> Tensor:
    """(count,) normalised coordinates of the middles of pixels, moved by a part of a pixel."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5 + shift) * (2 / count) - 1


def _sample(picture: Tensor, matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Values of the picture at `matrix` times the grid of x and y, and whether it is there at all."""
    # H [x, y, 1] as outer sums: the grid of homogeneous coordinates is never laid out
    across, down, origin = matrix[:, :, None, None, :].unbind(-1)
    px, py, w = (across * x + (down * y[:, None] + origin)).unbind(1)
    in_front = w > LEAST_DEPTH
    w = torch.where(in_front, w, 1.0)
    grid = torch.stack([px / w, py / w], -1)
    inside = in_front & (grid.abs() <= 1).all(-1)
    # far outside, where a float counts in steps of more than a pixel, the sampler would not know where it is
    grid = grid.clamp(-2, 2).to(picture.dtype)
    sample = F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sample, inside.unsqueeze(1)


def _shifts(supersample: int) -> list[tuple[float, float]]:
    """Centres of the parts of a pixel, from its own centre."""
    steps = [(step + 0.5) / supersample - 0.5 for step in range(supersample)]
    return [(across, down) for down in steps for across in steps]


def _inverse(matrix: Tensor) -> Tensor:
    inverse, failed = torch.linalg.inv_ex(matrix)
    if failed.any() or not inverse.isfinite().all():
        raise ValueError("a homography has no inverse: its camera sees the plane from the edge, or holds NaN")
    return inverse


def _check(picture: Tensor, matrix: Tensor, height: int, width: int, supersample: int) -> None:
    if picture.ndim != 4 or matrix.shape != (len(picture), 3, 3):
        raise ValueError(
            f"pictures (B, C, H, W) need homographies (B, 3, 3), got {tuple(picture.shape)}, {tuple(matrix.shape)}"
        )
    if min(height, width, supersample) < 1:
        raise ValueError(f"height, width and supersample must be 1 or more, got {height}, {width}, {supersample}")


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _about_z(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _about_y(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
