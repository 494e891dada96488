"""Palettes against the formats' own descriptions, Pillow, scikit-image and brute force."""

import struct
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.cluster.vq import kmeans2
from skimage.color import rgb2lab

from hubmodels.pixelscene import palettes
from hubmodels.pixelscene.palettes import (
    BUILT_IN,
    from_oklab,
    nearest,
    oklab,
    read,
    reduced,
    remapped,
    shades,
    six_bits,
    write,
)

SOME = np.array([[0, 0, 0], [255, 128, 1], [17, 34, 51], [255, 255, 255]], np.uint8)


@pytest.mark.parametrize("suffix", [".gpl", ".hex", ".pal", ".act"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    for palette in (SOME, BUILT_IN["vga"], SOME[:1]):
        write(tmp_path / f"mine{suffix}", palette, "two\nlines")
        assert np.array_equal(read(tmp_path / f"mine{suffix}"), palette)
    assert [file.name for file in tmp_path.iterdir()] == [f"mine{suffix}"]


def test_pillow_reads_the_same_gimp_palette(tmp_path: Path) -> None:
    from PIL.GimpPaletteFile import GimpPaletteFile

    write(tmp_path / "vga.gpl", BUILT_IN["vga"])
    with (tmp_path / "vga.gpl").open("rb") as file:
        colours, _ = GimpPaletteFile(file).getpalette()
    assert np.array_equal(np.frombuffer(colours, np.uint8)[:768].reshape(-1, 3), BUILT_IN["vga"])


def test_files_as_others_write_them(tmp_path: Path) -> None:
    """With names, comments, a byte order mark, flags, carriage returns, a count of 0 for 256."""
    files = {
        "a.gpl": b"GIMP Palette\r\nName: x\r\nColumns: 4\r\n# none\r\n  0   0   0\tblack\r\n255 128   1\tUntitled\r\n",
        "b.hex": b"\xef\xbb\xbf000000\r\n#FF8001\r\n",
        "c.pal": b"JASC-PAL\r\n0100\r\n2\r\n0 0 0\r\n255 128 1\r\n",
        "d.pal": b"RIFF" + struct.pack("<I", 24) + b"PAL data" + struct.pack("<IHH", 12, 0x300, 2)
        + bytes([0, 0, 0, 0, 255, 128, 1, 4]),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(read(tmp_path / name), SOME[:2]), name
    (tmp_path / "e.act").write_bytes(bytes(range(256)) * 3)
    assert len(read(tmp_path / "e.act")) == 256


def test_the_palette_of_a_picture(tmp_path: Path) -> None:
    index = Image.fromarray(np.array([[3, 1], [0, 1]], np.uint8), "P")
    index.putpalette(SOME.tobytes())
    index.save(tmp_path / "index.png")
    assert np.array_equal(read(tmp_path / "index.png"), SOME)
    Image.fromarray(SOME[[[2, 2], [0, 1]]]).save(tmp_path / "true.png")
    assert np.array_equal(read(tmp_path / "true.png"), SOME[[2, 0, 1]])


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.gpl", b"", "does not begin with"),
        ("a.gpl", b"GIMP Palette\n1 2\n", "line 2 has no three numbers from 0 to 255: '1 2'"),
        ("a.gpl", b"GIMP Palette\n1 2 256\n", "line 2"),
        ("a.gpl", b"GIMP Palette\n", "has 0 colours"),
        ("a.hex", b"00ff0\n", "line 1 is no colour as RRGGBB"),
        ("a.hex", b"001122\n" * 300, "has 300 colours: a palette has 1 to 256"),
        ("a.pal", b"JASC-PAL\n0100\n3\n1 2 3\n", "breaks off: 3 colours are announced, 1 lines follow"),
        ("a.pal", b"nonsense", "neither a JASC nor a RIFF"),
        ("a.pal", b"RIFF\0\0\0\0WAVEfmt " + bytes(20), "no palette"),
        ("a.pal", b"RIFF\0\0\0\0PAL data" + struct.pack("<IHH", 8, 0x300, 9), "breaks off: 9 colours"),
        ("a.act", b"123", "it has 3 bytes"),
        ("a.png", b"\x89PNG\r\n\x1a\nnothing", "cannot be read as a picture"),
        ("a.txt", b"000000", "its name must end in .gpl, .hex"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=words) as refusal:
        read(tmp_path / name)
    assert name in str(refusal.value) and "\n" not in str(refusal.value)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(palettes.named("EGA"), BUILT_IN["ega"])
    with pytest.raises(ValueError, match="'nes' is no palette: take ega, cga, pico8, c64, vga or a file"):
        palettes.named("nes")
    with pytest.raises(ValueError, match="missing.gpl cannot be read: No such file"):
        palettes.named("missing.gpl")
    with pytest.raises(ValueError, match="palettes are written as"):
        write("a.png", SOME)
    assert list(tmp_path.iterdir()) == []


def test_built_in_palettes_are_what_the_machines_had() -> None:
    assert {name: len(one) for name, one in BUILT_IN.items()} == {
        "ega": 16, "cga": 4, "pico8": 16, "c64": 16, "vga": 256,
    }  # fmt: skip
    ega = BUILT_IN["ega"].astype(int)
    for number in range(16):  # bit 2 red, 1 green, 0 blue, 3 bright; dark yellow is brown
        bright = 85 * (number >> 3)
        expected = [170 * (number >> bit & 1) + bright for bit in (2, 1, 0)]
        assert ega[number].tolist() == ([170, 85, 0] if number == 6 else expected)
    vga = BUILT_IN["vga"].astype(int)
    assert np.array_equal(vga[:16], ega) and not vga[248:].any()
    assert (np.diff(vga[16:32, 0]) > 0).all() and (vga[16:32] == vga[16:32, :1]).all()
    assert np.array_equal(six_bits(vga), vga)
    # nine rings of 24 hues, each of one value, opposite hues twelve apart
    for ring in vga[32:248].reshape(9, 24, 3):
        assert len(np.unique(ring, axis=0)) == 24 and (ring.max(1) == ring.max()).all()
        assert (abs(ring + np.roll(ring, 12, 0) - ring.max() - ring.min()) <= 8).all()


def test_oklab_is_the_published_one() -> None:
    """The author's table of XYZ pairs has white and the primaries of sRGB at these places (to three digits)."""
    primaries = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
    expected = [[1, 0, 0], [0.628, 0.225, 0.126], [0.866, -0.234, 0.179], [0.452, -0.032, -0.312], [0, 0, 0]]
    np.testing.assert_allclose(oklab(primaries), expected, atol=6e-4)


def test_nearest_is_brute_force_and_mostly_what_cielab_says() -> None:
    rng = np.random.default_rng(0)
    colours, palette = rng.integers(0, 256, (500, 3), np.uint8), rng.integers(0, 256, (40, 3), np.uint8)
    found = nearest(colours, palette)
    for colour, index in zip(colours, found, strict=True):
        away = [float(((oklab(colour) - oklab(one)) ** 2).sum()) for one in palette]
        assert away[index] == pytest.approx(min(away))
    other = ((rgb2lab(colours[:, None] / 255) - rgb2lab(palette[None] / 255)) ** 2).sum(2).argmin(1)
    assert (other == found).mean() > 0.5  # chance is 1 in 40
    assert np.array_equal(nearest(palette[found][None], palette)[0], found)


def test_six_bits_are_what_the_card_shows() -> None:
    every = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    shown = six_bits(every)[:, 0]
    assert len(np.unique(shown)) == 64 and shown[0] == 0 and shown[-1] == 255
    assert (abs(shown.astype(int) - np.arange(256)) <= 3).all() and np.array_equal(six_bits(shown), shown)


@pytest.mark.parametrize("dither", ["bayer", "floyd-steinberg"])
def test_a_dither_keeps_the_mean_colour_and_only_uses_the_palette(dither: palettes.Dither) -> None:
    grey = np.full((32, 32, 3), 90, np.uint8)
    palette = np.array([[0, 0, 0], [60, 60, 60], [130, 130, 130], [255, 255, 255]], np.uint8)
    plain, mixed = remapped(grey, palette), remapped(grey, palette, dither)
    assert len(np.unique(plain)) == 1 and len(np.unique(mixed)) == 2
    wanted = oklab(grey[0, 0])[0]
    means = [oklab(palette)[index, 0].mean() for index in (plain, mixed)]
    assert abs(means[1] - wanted) < 0.015 < abs(means[0] - wanted)
    assert np.array_equal(remapped(grey, palette, dither, 0.0), plain)
    exact = palette[np.arange(64).reshape(8, 8) % 4]
    assert np.array_equal(palette[remapped(exact, palette, dither)], exact)
    assert not remapped(grey, palette[:1], dither).any()
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        remapped(grey, palette, dither, 2.0)


def test_shades_fill_what_a_screen_can_show_evenly() -> None:
    """Any colour has one within about half the diagonal of a cell of 1/32; none lies so near to the edge of being shown
    that another machine could see it otherwise."""
    table = oklab(shades())
    assert np.array_equal(six_bits(shades()), shades()), "of a VGA card"
    assert (np.diff(table[:, 0]) >= 0).all()
    rng = np.random.default_rng(0)
    colours = oklab(rng.integers(0, 256, (500, 3), dtype=np.uint8))
    far = np.sqrt(((colours[:, None] - table) ** 2).sum(2)).min(1)
    assert far.mean() < 0.02 and far.max() < 0.06
    assert blake2b(shades().tobytes(), digest_size=8).hexdigest() == "2caf20e417747765"


def test_oklab_comes_back() -> None:
    every = np.random.default_rng(1).integers(0, 256, (1000, 3), dtype=np.uint8)
    assert (from_oklab(oklab(every)) == every).all()


def test_a_picture_in_fewer_colours() -> None:
    """Few enough stay as they are; else k-means is as good as SciPy's, or nearly, from the best of ten starts."""
    rng = np.random.default_rng(2)
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    indices = (rng.random((40, 50)) ** 2 * 200).astype(np.uint8)
    kept, own = reduced(indices, palette, 256)
    assert (own[kept] == palette[indices]).all() and len(own) == len(np.unique(palette[indices].reshape(-1, 3), axis=0))
    made, few = reduced(indices, palette, 24)
    assert len(few) == 24 and (np.diff(oklab(few)[:, 0]) >= -1e-3).all()
    pixels = oklab(palette[indices]).reshape(-1, 3)
    missed = ((pixels - oklab(few[made]).reshape(-1, 3)) ** 2).sum()
    starts = [kmeans2(pixels, 24, minit="++", rng=seed) for seed in range(10)]
    assert missed < 1.25 * min(((pixels - centres[own]) ** 2).sum() for centres, own in starts)


def test_a_drawn_palette_lies_in_ramps() -> None:
    """Colours of four hues and greys, well mixed and some of them twice, come back as five ramps."""
    levels = np.linspace(0.25, 0.8, 6)
    hues = [palettes.from_oklab(np.stack([levels, 0.08 * np.cos(levels * 0 + hue), 0.08 * np.sin(levels * 0 + hue)], 1))
            for hue in (0.4, 2.0, 3.6, 5.2)]  # fmt: skip
    greys = palettes.from_oklab(np.pad(levels[:, None], ((0, 0), (0, 2))))
    mixed = np.random.default_rng(0).permutation(np.concatenate([*hues, greys, greys]))
    found = palettes.in_ramps(mixed)
    assert {tuple(one) for one in found.tolist()} == {tuple(one) for one in mixed.tolist()} and len(found) == 30
    assert palettes.ramps(found) == [(0, 5), (6, 11), (12, 17), (18, 23), (24, 29)]
    assert np.array_equal(found[:6], greys) and any(np.array_equal(found[6:12], one) for one in hues)
    assert np.array_equal(palettes.in_ramps(found[::-1]), found)
    wheel = palettes.in_ramps(
        palettes.from_oklab(np.array([[0.6, 0.1 * np.cos(x), 0.1 * np.sin(x)] for x in range(6)]))
    )
    assert len(wheel) == 6 and palettes.in_ramps(wheel[:1]).tolist() == wheel[:1].tolist()


def test_ramps_of_palettes_that_are_given() -> None:
    found = palettes.ramps(BUILT_IN["vga"])
    assert found[0] == (16, 31), "the greys of a VGA card"
    assert all(last < first for (_, last), (first, _) in zip(found, found[1:], strict=False)), "none shares a colour"
    assert palettes.ramps(BUILT_IN["cga"]) == palettes.ramps(BUILT_IN["cga"][:1]) == []
