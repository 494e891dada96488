"""Maps of any size from photos of any sizes, in memory that the size of a tile bounds.

    photos --rectified, small--> views of the whole --model.summarise--> summary
    photos --rectified into a window--> views of a tile --model, summary--> maps of the tile --blended--> maps
    the same for the whole, small--> coarse maps; their levels and the detail of the fine ones--> maps

A window reaches beyond the borders of the texture, which goes on there as in a mirror or, if it tiles, from the
start. Where tiles overlap they fade into each other: their weights are smooth, sum to 1 everywhere, and are 0 for
the outer quarter of the overlap, where a network sees the end of its tile.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hubmodels.images import FORMATS, from_pil, from_uint8, from_unit, to_uint8, to_unit
from hubmodels.neuropbr.cameras import centres, from_corners, project, rectify_at, toward
from hubmodels.neuropbr.model import Maps, NeuroPBR

MOST_PHOTOS = 100
SIDES = (16, 4096)
"""Least and greatest of a texture, in texels."""
SUMMARY_SIDE = 512
"""Texels a side from which the whole is summarised."""
VIEWS_AT_ONCE = 4
"""From more photos than these, tiles are smaller: memory grows with photos times texels."""
LEAST_TILE, LEAST_SUMMARY = 128, 192
STEP = 16
"""Tiles begin at multiples of this: pooling then meets the same texels in a tile as in the whole."""
FRAME = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
COARSE = (64, 96, 128)
"""Texels along the longer side of the coarse maps, whose mean has the middle size. A network sees so many texels
around: what is metal and how bright a colour is it can tell from the whole better than from a part (on 20 validation
materials of 256 texels: metal 0.76 -> 0.93, error of albedo 0.111 -> 0.088, of roughness 0.227 -> 0.182)."""
LEVELS = ("albedo", "roughness", "metallic")
"""Maps that are so corrected; normals are of small things, and no better from afar."""
Progress = Callable[[Sequence, str], Iterable]
"""Steps and what is done in them, to the same steps: tqdm, for instance."""


def silent(steps: Sequence, what: str) -> Iterable:
    return steps


def read_photo(path: str | Path) -> Tensor:
    """(3, h, w) uint8 sRGB, upright as its EXIF orientation says; grey is repeated, transparency laid on white.

    Raises:
        ValueError: it cannot be read, is damaged, far too large or in the inks of a printer; the file is named.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode == "CMYK":
                raise ValueError("the photo is in CMYK, the inks of a printer: save it as RGB")
            return to_uint8(from_pil(image))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that can be read: save it as JPEG, PNG or TIFF") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has far too many pixels: resize it first") from None
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: check its name") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}): save or download it again") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def outlined(photo: Tensor, corners: Sequence[Sequence[float]], name: str | Path = "photo") -> Tensor:
    """(3, 3) from texture to photo, by where the corners of the texture are in it.

    Args:
        photo: (3, h, w).
        corners: x and y of the top-left, top-right, bottom-right and bottom-left, in pixels from the photo's top-left.
        name: of the photo, for errors.

    Raises:
        ValueError: the corners are no convex outline, or not numbers.
    """
    sides = torch.tensor([photo.shape[2], photo.shape[1]])
    try:
        return from_corners(torch.tensor(corners) * 2 / sides - 1)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def predict(
    model: NeuroPBR,
    photos: Sequence[Tensor],
    homographies: Tensor | None = None,
    size: int | tuple[int, int] = 512,
    tile: int = 512,
    overlap: int = 64,
    wrap: bool = False,
    progress: Progress = silent,
    coarse: Sequence[int] = COARSE,
) -> Maps:
    """Maps (1, C, H, W) of the material in one to a hundred photos.

    Args:
        photos: (3, h, w) each, of any sizes: uint8, or floats in [0, 1], which are rounded to as many levels.
        homographies: (N, 3, 3) from texture to photo; None if each photo shows the texture from edge to edge, as if
            from far above.
        size: of the texture in texels, 16 to 4096: of a square, or height and width.
        tile: texels a side that the network takes at once, about; a multiple of 16.
        overlap: of neighbouring tiles, a multiple of 32.
        wrap: opposite edges of the texture meet, and those of the maps shall.
        progress: called with the tiles.
        coarse: texels along the longer side of coarse maps, in rising order, from which fine ones at least twice as
            large take their levels; none leaves them as the tiles have made them.

    Raises:
        ValueError: an argument makes no sense, or no photo shows the texture.
    """
    size = height, width = checked_size(size)
    if tile < 64 or tile % STEP or not 0 < overlap <= tile // 2 or overlap % (2 * STEP):
        raise ValueError(
            f"tile must be a multiple of {STEP} from 64 up and overlap one of {2 * STEP} up to half of it, "
            f"got {tile}, {overlap}"
        )
    posed = homographies is not None
    photos, matrices = checked_photos(photos, homographies)
    was_training = model.training
    model.eval()
    try:
        maps = _at(model, photos, matrices, posed, size, tile, overlap, wrap, progress)
        if coarse and max(size) >= 2 * coarse[len(coarse) // 2]:
            sizes = [_scaled(height, width, side) for side in coarse]
            small = [_at(model, photos, matrices, posed, one, tile, overlap, wrap, silent) for one in sizes]
            middle = sizes[len(sizes) // 2]
            for name in maps.keys() & LEVELS:
                levels = torch.stack([_resampled(one[name], middle, wrap) for one in small]).mean(0)
                levels -= F.interpolate(maps[name], middle, mode="area")
                maps[name] = maps[name].add_(_resampled(levels, (height, width), wrap)).clamp_(0, 1)
    finally:
        model.train(was_training)
    return maps


def _at(
    model: NeuroPBR,
    photos: Sequence[Tensor],
    matrices: Tensor,
    posed: bool,
    size: tuple[int, int],
    tile: int,
    overlap: int,
    wrap: bool,
    progress: Progress,
) -> Maps:
    """Maps of one size, tile by tile."""
    height, width = size
    photos = shrunk(photos, matrices, height, width)
    crowd = math.sqrt(min(1, VIEWS_AT_ONCE / len(photos)))
    tile = min(tile, max(LEAST_TILE, int(tile * crowd) // STEP * STEP))
    overlap = min(overlap, tile // 4 // (2 * STEP) * 2 * STEP or 2 * STEP)
    down, across = (_spans(side, tile, overlap, wrap) for side in size)
    side = max(LEAST_SUMMARY, int(SUMMARY_SIDE * crowd))
    summary = _summary(model, photos, matrices, posed, height, width, side)
    canvases: Maps = {}
    for rows, columns in progress([(rows, columns) for rows in down for columns in across], "tiles"):
        with torch.inference_mode():
            x, y = _coordinates(columns, width), _coordinates(rows, height)
            views, seen = aligned(photos, matrices, x, y)
            eyes = directions(photos, matrices, x, y, height / width) if posed else None
            made = model(views, valid=seen, summary=summary, toward=eyes)
        if not canvases:
            shape = down[-1].stop, across[-1].stop
            canvases = {name: torch.zeros(1, one.shape[1], *shape) for name, one in made.items()}
        weight = rows.weight[:, None] * columns.weight
        for name, one in made.items():
            canvases[name][..., rows.start : rows.stop, columns.start : columns.stop].addcmul_(one, weight)
    margin = overlap // 2
    maps = {name: _folded(canvases.pop(name), size, margin, wrap) for name in list(canvases)}
    if "normal" in maps:
        maps["normal"] /= maps["normal"].norm(dim=1, keepdim=True).clamp_(min=1e-8)
    return maps


def _scaled(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width of the same shape."""
    by = longer / max(height, width)
    return max(SIDES[0], round(height * by)), max(SIDES[0], round(width * by))


def _resampled(one: Tensor, size: tuple[int, int], wrap: bool) -> Tensor:
    """(1, C, H, W), smooth; beyond its borders it goes on as they are or from the other side."""
    room, mode = 2, "circular" if wrap else "replicate"
    y, x = (
        (torch.arange(side) + 0.5) / side * own * 2 / (own + 2 * room) - own / (own + 2 * room)
        for side, own in zip(size, one.shape[2:], strict=True)
    )
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    padded = F.pad(one, (room,) * 4, mode=mode)
    return F.grid_sample(padded, places, mode="bicubic", padding_mode="border", align_corners=False)


def aligned(photos: Sequence[Tensor], matrices: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """What the photos show of some columns and rows of the texture.

    Args:
        photos: (3, h, w) uint8 each.
        matrices: (N, 3, 3) from texture to photo.
        x: (W,) normalised texture coordinates of the columns.
        y: (H,) of the rows.

    Returns:
        Views (1, N, 3, H, W) in [0, 1], and (1, N, 1, H, W), 1 where a photo shows the texture and else 0.
    """
    views = torch.empty(1, len(photos), 3, len(y), len(x))
    seen = torch.empty(1, len(photos), 1, len(y), len(x))
    for number, (photo, matrix) in enumerate(zip(photos, matrices, strict=True)):
        part, matrix = _cut(photo, matrix, x, y)
        views[:, number], seen[:, number] = rectify_at(to_unit(from_uint8(part))[None], matrix[None], x, y)
    return views, seen


def directions(photos: Sequence[Tensor], matrices: Tensor, x: Tensor, y: Tensor, aspect: float) -> Tensor:
    """(1, N, 3, H, W) unit vectors from the columns and rows of a texture of some aspect to where photos were taken."""
    found = [
        toward(matrix, x, y, aspect, photo.shape[1] / photo.shape[2])
        for photo, matrix in zip(photos, matrices, strict=True)
    ]
    return torch.stack(found)[None]


def shrunk(photos: Sequence[Tensor], matrices: Tensor, height: int, width: int) -> list[Tensor]:
    """Photos that are much finer than the texture, averaged down: else only some of their pixels would count."""
    smaller = []
    for photo, matrix in zip(photos, matrices, strict=True):
        corners = project(matrix, FRAME) * torch.tensor([photo.shape[2] / 2, photo.shape[1] / 2])
        after = corners.roll(-1, 0)
        area = (corners[:, 0] * after[:, 1] - corners[:, 1] * after[:, 0]).sum() / 2
        by = int(math.sqrt(float(area) / (height * width)))
        sides = [max(1, side // max(1, by)) for side in photo.shape[1:]]
        smaller.append(photo if by < 2 else to_uint8(F.interpolate(from_uint8(photo)[None], sides, mode="area")[0]))
    return smaller


# --- what is asked for --------------------------------------------------------------------------------------------


def checked_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    height, width = (size, size) if isinstance(size, int) else size
    if not all(SIDES[0] <= side <= SIDES[1] for side in (height, width)):
        raise ValueError(f"textures have {SIDES[0]} to {SIDES[1]} texels a side, got {width} x {height}")
    return height, width


def checked_photos(photos: Sequence[Tensor], homographies: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """All as uint8, and (N, 3, 3) float32; or an error that counts to the photo, from 1."""
    if not 1 <= len(photos) <= MOST_PHOTOS:
        raise ValueError(f"give 1 to {MOST_PHOTOS} photos, got {len(photos)}")
    levels = [_checked_photo(photo, f"photo {number}") for number, photo in enumerate(photos, 1)]
    if homographies is None:
        return levels, torch.eye(3).expand(len(photos), 3, 3)
    needed = len(photos), 3, 3
    if homographies.shape != needed:
        raise ValueError(f"homographies must be {needed}, one for each photo, got {tuple(homographies.shape)}")
    matrices = homographies.detach().cpu().float()
    for number, matrix in enumerate(matrices, 1):
        try:
            from_corners(project(matrix, FRAME))
        except ValueError as error:
            raise ValueError(f"photo {number}: {error}") from None
    return levels, matrices


def _checked_photo(photo: Tensor, name: str) -> Tensor:
    if photo.ndim != 3 or photo.shape[0] != 3 or not photo.numel():
        raise ValueError(f"{name} must be (3, height, width), got {tuple(photo.shape)}")
    if photo.dtype == torch.uint8:
        return photo.cpu()
    if not photo.is_floating_point():
        raise ValueError(f"{name} must be uint8 or floats in [0, 1], got {photo.dtype}")
    if not photo.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity: read it again")
    low, high = photo.min().item(), photo.max().item()
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"{name} must be in [0, 1], got {low:.3g} to {high:.3g}")
    return to_uint8(from_unit(photo.detach().cpu()))


# --- tiles --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Span:
    """Rows or columns of tiles. On the canvas, the texture begins after a margin."""

    start: int
    index: Tensor
    """Which texels: mirrored or wrapped where the tile reaches beyond the texture."""
    weight: Tensor
    """Of the tile in the maps; 0 where it mirrors. All that fall on a texel sum to 1."""

    @property
    def stop(self) -> int:
        return self.start + len(self.index)


def _spans(size: int, tile: int, overlap: int, wrap: bool) -> list[_Span]:
    """As few tiles as may be, all of one length: about `tile`, less where they need not be as long."""
    margin = overlap // 2
    length = size + 2 * margin
    count = 1 if size <= tile else math.ceil((length - overlap) / (tile - overlap))
    side = math.ceil((length + (count - 1) * overlap) / count / STEP) * STEP
    from_end = torch.arange(side).minimum(torch.arange(side).flip(0)) + 0.5
    ramp = (2 * from_end / overlap - 0.5).clamp(0, 1)
    ramp = ramp.square() * (3 - 2 * ramp)
    places = [torch.arange(side) + number * (side - overlap) - margin for number in range(count)]
    indices = [place % size if wrap else _mirrored(place, size) for place in places]
    weights = [ramp if wrap else ramp * ((place >= 0) & (place < size)) for place in places]
    total = torch.zeros(size).index_add_(0, torch.cat(indices), torch.cat(weights))
    return [
        _Span(number * (side - overlap), index, weight / total[index])
        for number, (index, weight) in enumerate(zip(indices, weights, strict=True))
    ]


def _mirrored(place: Tensor, size: int) -> Tensor:
    """0 1 2 3 goes on as 2 1 0 1 ..."""
    period = 2 * (size - 1)
    place = place % period
    return place.minimum(period - place)


def _coordinates(span: _Span, size: int) -> Tensor:
    return centres(size, torch.empty(0))[span.index]


def _folded(canvas: Tensor, size: tuple[int, int], margin: int, wrap: bool) -> Tensor:
    """The texture out of the canvas; if it wraps, what lies beyond it is added at the other end."""
    for dim, side in zip((2, 3), size, strict=True):
        if wrap:
            index = (torch.arange(canvas.shape[dim]) - margin) % side
            shape = [*canvas.shape]
            shape[dim] = side
            canvas = canvas.new_zeros(shape).index_add_(dim, index, canvas)
        else:
            canvas = canvas.narrow(dim, margin, side)
    return canvas.contiguous()


def _summary(
    model: NeuroPBR, photos: Sequence[Tensor], matrices: Tensor, posed: bool, height: int, width: int, side: int
) -> Tensor:
    shrink, aspect = min(1.0, side / max(height, width)), height / width
    height, width = (max(SIDES[0], round(length * shrink)) for length in (height, width))
    with torch.inference_mode():
        x, y = (centres(length, torch.empty(0)) for length in (width, height))
        views, seen = aligned(shrunk(photos, matrices, height, width), matrices, x, y)
        if not seen.any():
            raise ValueError("no photo shows any of the texture: check the corners")
        eyes = directions(photos, matrices, x, y, aspect) if posed else None
        return model.summarise(views, valid=seen, toward=eyes)


def _cut(photo: Tensor, matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """As much of a photo as a window of the texture shows, and the homography into that."""
    (west, east), (north, south) = ([float(side.min()), float(side.max())] for side in (x, y))
    inside = project(matrix, torch.tensor([[west, north], [east, north], [east, south], [west, south]]))
    if inside.isnan().any():  # the horizon is in the window
        return photo, matrix
    bounds = []
    for axis, side in ((0, photo.shape[2]), (1, photo.shape[1])):
        pixels = (inside[:, axis] + 1) * (side / 2)
        first = int((pixels.min() - 2).clamp(0, max(0, side - 2)))
        bounds.append((first, int((pixels.max() + 3).clamp(min(side, first + 2), side))))
    (left, right), (top, bottom) = bounds
    matrix = _zoom(photo.shape[2], left, right, photo.shape[1], top, bottom) @ matrix
    return photo[:, top:bottom, left:right], matrix


def _zoom(width: int, left: int, right: int, height: int, top: int, bottom: int) -> Tensor:
    """(3, 3) from coordinates of a picture to those of a part of it."""
    across, down = right - left, bottom - top
    return torch.tensor(
        [
            [width / across, 0, (width - 2 * left) / across - 1],
            [0, height / down, (height - 2 * top) / down - 1],
            [0, 0, 1],
        ]
    )
