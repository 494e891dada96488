"""Pixel art of one's own: a folder of pictures and a file of captions, checked, and never resampled.

    found(images, captions, height, unscale) -> pictures to learn from, and what is wrong with the others
    framed(read_picture(path)) -> one of them, 320 wide

What cannot be read stops a build and is named. What should not be learned (refusals of a captioning model, menus and
logos, black or almost empty frames, the same picture twice) is left out and listed.
"""

import json
import re
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from datasets_builders.folder import BuildError
from hubmodels.pixelscene import files
from hubmodels.pixelscene.palettes import oklab

WIDTH = 320
SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".gif")
MOST_WORDS = 100
LARGEST_UNSCALE = 8
EMPTY = 0.95
"""Share of one colour from which a picture is empty."""
DARK = 0.08
"""Mean OKLab lightness below which it is black."""
LEAST_COVER = 0.5
"""Share of the frame that a smaller picture must fill."""
REFUSAL = re.compile(
    r"\b(i can'?t|i cannot|i('m| am) (unable|sorry|not able)|as an ai|unable to (provide|describe)"
    r"|no (image|picture) (was )?(provided|attached)|completely (black|blank))\b",
    re.IGNORECASE,
)

NO_SCENE = re.compile(
    r"\b(logos?|credits|inventory|hud|user interface|health bars?|dialog(ue)? box(es)?|screen of text"
    r"|(main|start|title|splash|game|options?|pause|save|load|loading|game over) (menu|screen))\b",
    re.IGNORECASE,
)
"""Captions of what games show besides their scenes."""


def found(
    images: Path, captions: Path, height: int, unscale: bool
) -> tuple[list[tuple[str, str]], list[dict[str, str]], str]:
    """Names and captions of pictures to learn from, in the order of the captions; of each one left out its name and
    why; and a digest of all pixels and captions.

    Args:
        images: folder of PNG, BMP, JPEG or still GIF files.
        captions: lines of JSON: {"image": "forest.png", "caption": "A dark forest"}.
        height: of the frame, 320 wide.
        unscale: whether a picture of whole blocks is brought back to one pixel a block.

    Raises:
        BuildError: a file is missing or cannot be read, or nothing is left.
    """
    kept, left_out, seen, digest = [], [], {}, blake2b(digest_size=16)
    for line, (name, caption) in enumerate(read_captions(captions), 1):
        path = images / name
        if path.resolve().parent != images.resolve():
            raise BuildError(f"{captions}, caption {line}: {name!r} is not a file of {images}")
        indices, palette = read_picture(path, unscale)
        pixels = palette[indices].tobytes()
        own = blake2b(repr(indices.shape).encode() + pixels, digest_size=16).digest()
        wrong = wrong_caption(caption) or wrong_picture(indices, palette, height)
        if not wrong and own in seen:
            wrong = f"the same picture as {seen[own]}"
        if wrong:
            left_out.append({"image": name, "why": wrong})
            continue
        seen[own] = name
        kept.append((name, " ".join(caption.split())))
        digest.update(repr(kept[-1]).encode() + own + indices.tobytes())
    named = {name for name, _ in kept} | {one["image"] for one in left_out}
    for path in sorted(images.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.name not in named:
            left_out.append({"image": path.name, "why": "it has no caption"})
    if not kept:
        raise BuildError(f"{images} has no picture to learn from: {left_out[0]['image']}: {left_out[0]['why']}")
    return kept, left_out, digest.hexdigest()


def read_captions(path: Path) -> list[tuple[str, str]]:
    """Name and caption of each line.

    Raises:
        BuildError: the file is missing, or a line is not what it should be; it is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} cannot be read: {error}") from None
    rows, names = [], set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, caption = row["image"], row["caption"]
        except (ValueError, KeyError, TypeError):
            name = caption = None
        if not isinstance(name, str) or not isinstance(caption, str):
            raise BuildError(f'{path}, line {number}: it should be like {{"image": "a.png", "caption": "A forest"}}')
        if name in names:
            raise BuildError(f"{path}, line {number}: {name} has a caption already")
        names.add(name)
        rows.append((name, caption))
    if not rows:
        raise BuildError(f"{path} holds no captions")
    return rows


def read_picture(path: Path, unscale: bool) -> tuple[Array, Array]:
    """Indices (H, W) uint8 and palette (K, 3) uint8 of a picture file; of more than 256 colours, as near as can be.

    Args:
        unscale: whether a picture of whole blocks is brought back to one pixel a block.

    Raises:
        BuildError: it cannot be read, moves, is partly transparent or far too large.
    """
    try:
        indices, palette = files.read(path, exact=False)
    except ValueError as error:
        raise BuildError(str(error)) from None
    return unscaled(indices) if unscale else indices, palette


def unscaled(indices: Array) -> Array:
    """One pixel for each block of k x k that are the same, for the largest such k up to 8."""
    for k in range(LARGEST_UNSCALE, 1, -1):
        if all(side % k == 0 for side in indices.shape):
            small = indices[::k, ::k]
            if np.array_equal(small.repeat(k, 0).repeat(k, 1), indices):
                return small
    return indices


def framed(indices: Array, palette: Array, height: int) -> Array:
    """(height, 320): the middle of a larger picture, or a smaller one framed in its darkest colour."""
    used = np.unique(indices)
    out = np.full((height, WIDTH), used[oklab(palette)[used, 0].argmin()], np.uint8)
    rows, columns = ((side - room) // 2 for side, room in zip(indices.shape, out.shape, strict=True))
    source = indices[max(0, rows) :, max(0, columns) :][:height, :WIDTH]
    down, across = max(0, -rows), max(0, -columns)
    out[down : down + source.shape[0], across : across + source.shape[1]] = source
    return out


def wrong_caption(caption: str) -> str:
    """Why it should not be learned, or nothing."""
    words = re.findall(r"[^\W_]+", caption)
    if not words:
        return "its caption has no words"
    if REFUSAL.search(caption.replace("’", "'")):
        return f"its caption is no description: {caption[:60]!r}"
    shown = NO_SCENE.search(caption)
    if shown:
        return f"its caption speaks of a {shown[0].lower()}, which is no background"
    if len(words) > MOST_WORDS:
        return f"its caption has {len(words)} words, more than {MOST_WORDS}"
    return ""


def wrong_picture(indices: Array, palette: Array, height: int) -> str:
    """Why it should not be learned, or nothing."""
    colours = palette[indices].reshape(-1, 3)
    (_, most), *_ = Counter(indices.ravel().tolist()).most_common(1)
    if most >= EMPTY * indices.size:
        return "almost all of it is one colour"
    if oklab(colours)[:, 0].mean() < DARK:
        return "it is almost black"
    cover = min(indices.shape[0], height) * min(indices.shape[1], WIDTH) / (height * WIDTH)
    if cover < LEAST_COVER:
        return f"{indices.shape[1]} x {indices.shape[0]} pixels are too few for a background of {WIDTH} x {height}"
    return ""
