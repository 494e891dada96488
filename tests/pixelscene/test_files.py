"""Files for artists, opened again by Pillow and by readers of the published .aseprite and IFF formats."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hubmodels import images
from hubmodels.pixelscene import files
from hubmodels.pixelscene.palettes import BUILT_IN, ramps


def picture(height: int = 6, width: int = 10, colours: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, colours, (height, width)).astype(np.uint8)


def test_png_has_the_indices_the_palette_in_its_order_and_the_words(tmp_path: Path) -> None:
    indices, palette = picture(), BUILT_IN["vga"][::-1].copy()
    images.save(tmp_path / "a.png", files.png(indices, palette, {"prompt": "Höhle 🕯", "seed": "3"}))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), indices)
        assert image.getpalette() == palette.flatten().tolist()
        assert image.text == {"prompt": "Höhle 🕯", "seed": "3"}  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(image.convert("RGB")), palette[indices])
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_few_colours_are_not_filled_up_to_others() -> None:
    image = files.index_image(picture(colours=4), BUILT_IN["cga"])
    assert np.array_equal(np.asarray(image.convert("RGB")), BUILT_IN["cga"][picture(colours=4)])
    with pytest.raises(ValueError, match="beyond a palette of 4 colours"):
        files.index_image(picture(), BUILT_IN["cga"])
    with pytest.raises(ValueError, match="uint8"):
        files.index_image(picture().astype(int), BUILT_IN["vga"])


def test_enlarging_repeats_pixels() -> None:
    indices = picture()
    for scale in (1, 2, 6):
        large = files.enlarged(indices, scale)
        assert np.array_equal(large[::scale, ::scale], indices)
        assert np.array_equal(large[scale - 1 :: scale, scale - 1 :: scale], indices)
    with pytest.raises(ValueError, match="1 to 6 times, got 7"):
        files.enlarged(indices, 7)


def test_a_mask_is_what_is_white_and_not_transparent(tmp_path: Path) -> None:
    painted = np.zeros((6, 10, 4), np.uint8)
    painted[1:3, 2:5] = 255
    painted[4, :, :3] = 255  # white, but nothing of it is to be seen
    Image.fromarray(painted, "RGBA").save(tmp_path / "mask.png")
    marked = files.mask(str(tmp_path / "mask.png"), (6, 10))
    assert marked.sum() == 6 and marked[1:3, 2:5].all()
    for wrong in ("--5,1,2,3", "1,2,3,4e1", f"1,1,1,{10**12}"):
        with pytest.raises(ValueError, match="a mask is"):
            files.mask(wrong, (6, 10))


def test_a_contact_sheet_shows_each_picture_unchanged() -> None:
    pairs = [(picture(40, 60, 16), BUILT_IN["ega"]), (picture(30, 60, 4), BUILT_IN["cga"])]
    sheet = np.asarray(files.contact_sheet(pairs, ["one", "a caption that is far too long for its picture"], 2, 2))
    gap = files.GAP
    for number, (indices, palette) in enumerate(pairs):
        left = gap + number * (120 + gap)
        height = indices.shape[0] * 2
        assert np.array_equal(sheet[gap : gap + height : 2, left : left + 120 : 2], palette[indices])
    assert (sheet[gap + 80 : gap + 80 + files.LINE, gap : gap + 120] > 150).any(), "the caption"
    with pytest.raises(ValueError, match="each picture needs a caption"):
        files.contact_sheet(pairs, ["one"], 2)


def sprite(data: bytes) -> dict[str, Any]:
    """What a reader of the published format finds."""
    size, magic, frames, width, height, depth = struct.unpack_from("<IHHHHH", data)
    assert (size, magic, frames, depth) == (len(data), 0xA5E0, 1, 8)
    found: dict[str, Any] = {"size": (width, height), "transparent": data[28], "layers": [], "cels": []}
    assert struct.unpack_from("<H", data, 32)[0] <= 256
    length, magic, _, duration, count = struct.unpack_from("<IHHHxxI", data, 128)
    assert magic == 0xF1FA and 128 + length == len(data) and duration > 0
    at = 144
    for _ in range(count):
        length, kind = struct.unpack_from("<IH", data, at)
        chunk = data[at + 6 : at + length]
        if kind == 0x2019:
            entries, first, last = struct.unpack_from("<III", chunk)
            assert (first, last) == (0, entries - 1)
            rows = [struct.unpack_from("<HBBBB", chunk, 20 + 6 * n) for n in range(entries)]
            assert all(row[0] == 0 and row[4] == 255 for row in rows)
            found["palette"] = [list(row[1:4]) for row in rows]
        elif kind == 0x2004:
            flags, type_ = struct.unpack_from("<HH", chunk)
            letters = struct.unpack_from("<H", chunk, 16)[0]
            found["layers"].append((chunk[18 : 18 + letters].decode(), bool(flags & 8), bool(flags & 1), type_))
        elif kind == 0x2005:
            layer, x, y, opacity, type_ = struct.unpack_from("<HhhBH", chunk)
            w, h = struct.unpack_from("<HH", chunk, 16)
            assert (x, y, opacity, type_) == (0, 0, 255, 2)
            found["cels"].append((layer, np.frombuffer(zlib.decompress(chunk[20:]), np.uint8).reshape(h, w)))
        at += length
    assert at == len(data)
    return found


def test_aseprite_has_the_picture_and_its_palette() -> None:
    found = sprite(files.aseprite(picture(), BUILT_IN["vga"], "Höhle"))
    assert found["size"] == (10, 6) and found["layers"] == [("Höhle", True, True, 0)]
    assert found["palette"] == BUILT_IN["vga"].tolist()
    ((layer, indices),) = found["cels"]
    assert layer == 0 and np.array_equal(indices, picture())
    with pytest.raises(ValueError, match="beyond a palette of 4 colours"):
        files.aseprite(picture(), BUILT_IN["cga"], "Höhle")


def iff(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Kind and chunks of a file, by Electronic Arts' "EA IFF 85"."""
    assert data[:4] == b"FORM" and struct.unpack(">I", data[4:8])[0] == len(data) - 8
    chunks, at = [], 12
    while at < len(data):
        size = struct.unpack_from(">I", data, at + 4)[0]
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    assert at == len(data)
    return data[8:12], chunks


def test_lbm_has_the_picture_its_palette_and_the_ramps(tmp_path: Path) -> None:
    indices, palette = picture(6, 9), BUILT_IN["vga"]
    kind, chunks = iff(files.lbm(indices, palette, "Höhle"))
    found = dict(chunks)
    assert kind == b"PBM " and [name for name, _ in chunks][:2] == [b"BMHD", b"CMAP"] and found[b"ANNO"] == b"H?hle"
    width, height, _, _, planes, masked, packed = struct.unpack(">HHhhBBB", found[b"BMHD"][:11])
    assert (width, height, planes, masked, packed) == (9, 6, 8, 0, 0) and len(found[b"BMHD"]) == 20
    assert np.array_equal(np.frombuffer(found[b"CMAP"], np.uint8).reshape(-1, 3), palette)
    body = np.frombuffer(found[b"BODY"], np.uint8).reshape(6, 10)
    assert np.array_equal(body[:, :9], indices) and not body[:, 9].any(), "rows are of an even length"
    ranges = [struct.unpack(">HHHBB", data) for name, data in chunks if name == b"CRNG"]
    assert [one[3:] for one in ranges] == ramps(palette)[:16]
    assert {one[2] for one in ranges} == {0}, "none turns before someone asks for it"
    _, few = iff(files.lbm(picture(colours=4), BUILT_IN["cga"], ""))
    assert dict(few)[b"CMAP"] == BUILT_IN["cga"].tobytes().ljust(768, b"\0") and b"CRNG" not in dict(few)


@pytest.mark.parametrize("end", ["png", "gif"])
def test_an_index_that_is_transparent_and_not_used_changes_nothing(tmp_path: Path, end: str) -> None:
    """Many programs keep one."""
    indices, palette = picture(colours=15), BUILT_IN["ega"][::-1].copy()
    file = tmp_path / f"a.{end}"
    files.index_image(indices, palette).save(file, transparency=15, optimize=False)
    found, same = files.read(file)
    assert np.array_equal(found, indices) and np.array_equal(same[:16], palette)
    files.index_image(indices, palette).save(file, transparency=3, optimize=False)
    with pytest.raises(ValueError, match="partly transparent"):
        files.read(file)


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images.save(tmp_path / "a.png", b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device; nothing was written"):
        images.save(tmp_path / "a.png", b"after")
    assert (tmp_path / "a.png").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1
