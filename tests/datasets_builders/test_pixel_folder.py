"""Folders of pictures that people have: good ones come through to the pixel, bad ones are named, none is touched."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets_builders.folder import BuildError
from datasets_builders.pixel_folder import found, framed, read_picture, unscaled
from hubmodels.pixelscene import files

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (40, 3), dtype=np.uint8)


def pixels(height: int = 200, width: int = 320, colours: int = 40) -> np.ndarray:
    return COLOURS[RNG.integers(0, colours, (height, width))]


def filled(folder: Path, **pictures: Image.Image | bytes | None) -> tuple[Path, Path]:
    """A folder of pictures, each with a caption."""
    images = folder / "images"
    images.mkdir()
    for name, picture in pictures.items():
        if isinstance(picture, bytes):
            (images / f"{name}.png").write_bytes(picture)
        elif picture is not None:
            picture.save(images / f"{name}.png")
    lines = [json.dumps({"image": f"{name}.png", "caption": f"A forest, {name}"}) for name in pictures]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return images, folder / "captions.jsonl"


def of(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture)


# --- pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif"])
def test_up_to_256_colours_nothing_is_lost(tmp_path: Path, suffix: str) -> None:
    picture = pixels()
    of(picture).save(tmp_path / f"a.{suffix}")
    indices, palette = read_picture(tmp_path / f"a.{suffix}", unscale=True)
    assert (palette[indices] == picture).all()


def test_an_index_picture_keeps_its_palette_in_its_order(tmp_path: Path) -> None:
    image = Image.fromarray(RNG.integers(0, 30, (200, 320), dtype=np.uint8), "P")
    image.putpalette(COLOURS.tobytes())
    image.save(tmp_path / "a.png")
    indices, palette = read_picture(tmp_path / "a.png", unscale=False)
    assert (palette[:40] == COLOURS).all() and (indices == np.asarray(image)).all()


def test_more_colours_come_as_near_as_pillow_can(tmp_path: Path) -> None:
    smooth = np.stack(np.meshgrid(np.arange(200), np.arange(320), indexing="ij"), -1)
    picture = np.concatenate([smooth * 0.7, smooth[..., :1]], 2).astype(np.uint8)
    of(picture).save(tmp_path / "a.png")
    indices, palette = read_picture(tmp_path / "a.png", unscale=False)
    assert len(palette) <= 256 and np.abs(palette[indices].astype(int) - picture).mean() < 8


@pytest.mark.parametrize("times", [1, 2, 3, 8])
def test_enlarged_pixel_art_comes_back(times: int) -> None:
    small = RNG.integers(0, 40, (24, 40), dtype=np.uint8)
    assert np.array_equal(unscaled(small.repeat(times, 0).repeat(times, 1)), small)
    flawed = small.repeat(3, 0).repeat(3, 1)
    flawed[0, 1] ^= 1
    assert unscaled(flawed).shape == flawed.shape


@pytest.mark.parametrize(("height", "width"), [(200, 320), (240, 400), (150, 320), (203, 300), (7, 321)])
def test_a_frame_is_cut_or_filled_never_resampled(height: int, width: int) -> None:
    picture = RNG.integers(1, 40, (height, width), dtype=np.uint8)
    dark = COLOURS.copy()
    dark[5] = 0
    out = framed(picture, dark, 200)
    assert out.shape == (200, 320)
    top, left = (height - 200) // 2, (width - 320) // 2
    for y in range(200):
        row = picture[y + top] if 0 <= y + top < height else np.full(width, 5)
        expected = [row[x + left] if 0 <= x + left < width else 5 for x in range(320)]
        assert out[y].tolist() == expected


# --- what is left out, and why --------------------------------------------------------------------------------------


def test_what_should_not_be_learned_is_left_out_and_listed(tmp_path: Path) -> None:
    good, dot = pixels(), np.zeros((200, 320, 3), np.uint8)
    dot[:4] = 200
    images, captions = filled(
        tmp_path,
        good=of(good),
        again=of(good),
        black=of(pixels() // 64),
        empty=of(dot),
        tiny=of(pixels(40, 40)),
        refused=of(pixels()),
        silent=of(pixels()),
        wordy=of(pixels()),
        plain=of(np.full((200, 320, 3), 90, np.uint8)),
        menu=of(pixels()),
    )
    of(pixels()).save(images / "stray.png")
    lines = [json.loads(line) for line in captions.read_text().splitlines()]
    said = {"refused": "I’m sorry, but I can't describe this.", "silent": "🌲🌲 …", "wordy": "tree " * 5000}
    said["menu"] = "The main menu of the game with a logo"
    lines = [line | {"caption": said.get(line["image"][:-4], line["caption"])} for line in lines]
    captions.write_text("\n\n".join(json.dumps(line) for line in lines))
    before = {path: path.read_bytes() for path in images.iterdir()}
    kept, left_out, _ = found(images, captions, 200, True)
    assert kept == [("good.png", "A forest, good")]
    why = {one["image"].removesuffix(".png"): one["why"] for one in left_out}
    assert why.keys() == {"again", "black", "empty", "tiny", "refused", "silent", "wordy", "stray", "plain", "menu"}
    assert why["again"] == "the same picture as good.png" and why["stray"] == "it has no caption"
    assert "one colour" in why["plain"] and "a main menu, which is no background" in why["menu"]
    assert "almost black" in why["black"] and "one colour" in why["empty"] and "too few" in why["tiny"]
    assert "no description" in why["refused"] and "no words" in why["silent"] and "5000 words" in why["wordy"]
    assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_a_caption_with_emoji_and_line_breaks_is_fine(tmp_path: Path) -> None:
    images, captions = filled(tmp_path, a=of(pixels()))
    captions.write_text(json.dumps({"image": "a.png", "caption": " A dark \n forest 🌲 "}))
    assert found(images, captions, 200, True)[0] == [("a.png", "A dark forest 🌲")]


def test_the_digest_is_of_pixels_and_words(tmp_path: Path) -> None:
    picture = pixels()
    digests = set()
    for number, (shown, caption) in enumerate([(picture, "a"), (picture, "a"), (picture, "b"), (picture[::-1], "a")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        images, captions = filled(folder, x=of(shown))
        captions.write_text(json.dumps({"image": "x.png", "caption": caption}))
        digests.add(found(images, captions, 200, True)[2])
    assert len(digests) == 3


# --- what stops a build ----------------------------------------------------------------------------------------------


def animation() -> bytes:
    import io

    data = io.BytesIO()
    of(pixels()).save(data, "GIF", save_all=True, append_images=[of(pixels())])
    return data.getvalue()


def holed() -> Image.Image:
    image = of(pixels()).convert("RGBA")
    image.putpixel((5, 5), (0, 0, 0, 0))
    return image


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (None, "bad.png is not there"),
        (b"no picture at all", "bad.png cannot be read as a picture"),
        (b"", "bad.png cannot be read as a picture"),
        (animation(), "bad.png is an animation"),
        (holed(), "bad.png is partly transparent"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, picture: Image.Image | bytes | None, words: str) -> None:
    images, captions = filled(tmp_path, good=of(pixels()), bad=picture)
    with pytest.raises(BuildError, match=words):
        found(images, captions, 200, True)


def test_a_broken_png_and_a_bomb_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, captions = filled(tmp_path, a=of(pixels()))
    whole = (images / "a.png").read_bytes()
    (images / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BuildError, match="a.png cannot be read"):
        found(images, captions, 200, True)
    (images / "a.png").write_bytes(whole)
    monkeypatch.setattr(files, "MOST_PIXELS", 1000)
    with pytest.raises(BuildError, match="320 x 200 pixels"):
        found(images, captions, 200, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no captions"),
        ("{not json", "line 1: it should be like"),
        ('["a"]', "line 1: it should be like"),
        ('{"image": "a.png"}', "line 1: it should be like"),
        ('{"image": "a.png", "caption": null}', "line 1: it should be like"),
        ('{"image": "a.png", "caption": "x"}\n{"image": "a.png", "caption": "y"}', "line 2: a.png has a caption"),
        ('{"image": "../a.png", "caption": "x"}', "is not a file of"),
        ('{"image": "a.png", "caption": "I cannot see it"}', "has no picture to learn from: a.png: its caption"),
    ],
)
def test_captions_that_are_none(tmp_path: Path, content: str, words: str) -> None:
    images, captions = filled(tmp_path, a=of(pixels()))
    captions.write_text(content)
    with pytest.raises(BuildError, match=words):
        found(images, captions, 200, True)


def test_jpeg_and_pictures_that_could_have_holes_but_have_none_are_read(tmp_path: Path) -> None:
    picture = pixels(colours=4)
    of(np.dstack([picture, np.full((200, 320), 255, np.uint8)])).save(tmp_path / "a.png")
    indices, palette = read_picture(tmp_path / "a.png", unscale=False)
    assert (palette[indices] == picture).all()
    smooth = np.broadcast_to(np.arange(320, dtype=np.float32)[None, :, None] / 2, (200, 320, 3)).astype(np.uint8)
    of(smooth).save(tmp_path / "b.jpg", quality=95)
    indices, palette = read_picture(tmp_path / "b.jpg", unscale=False)
    assert indices.shape == (200, 320) and np.abs(palette[indices].astype(int) - smooth).mean() < 3


def test_captions_that_are_not_there_are_named(tmp_path: Path) -> None:
    images, captions = filled(tmp_path, a=of(pixels()))
    captions.unlink()
    with pytest.raises(BuildError, match="captions.jsonl cannot be read"):
        found(images, captions, 200, True)
