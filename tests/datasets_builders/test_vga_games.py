"""Pictures of games, written here in the formats of games and read back; and the games, where they are at hand."""

import io
import struct
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest
from PIL import Image

from datasets_builders import packages, vga_captions, vga_games
from datasets_builders.folder import BuildError
from datasets_builders.vga_games import (
    FormatError,
    Picture,
    backgrounds,
    drascula_picture,
    halves,
    queen_pictures,
    rnc1,
    sky_pictures,
    unpacked,
)

RNG = np.random.default_rng(0)
PALETTE = RNG.integers(0, 64, (256, 3), dtype=np.uint8)
EIGHT = (PALETTE << 2) | (PALETTE >> 4)
LOOKED_AT = {"queen": "9d02f189cb3d5f7e", "drascula": "a015e24d4c8038d1", "sky": "8db9f0f8eb58fc4a"}
"""Digests of all backgrounds of a game as somebody saw them."""


# --- Flight of the Amazon Queen -----------------------------------------------------------------------------------


def pcx(indices: np.ndarray) -> bytes:
    image, data = Image.fromarray(indices), io.BytesIO()
    image.putpalette((PALETTE << 2).tobytes())
    image.save(data, "PCX")
    return data.getvalue()


def test_pictures_of_queen_come_with_their_things() -> None:
    indices = RNG.integers(0, 256, (20, 320), dtype=np.uint8)
    lines = ["looks wet", "looks hard", "Waterfall", "Rock", "J1", "J2"]
    objects = [(1, 0, 0, 0, 0, 1, 0, 0), (-2, 0, 0, 0, 0, 1, 0, 0), (2, 0, 0, 0, 0, 2, 0, 0)]
    table = bytes(20) + struct.pack(">4H", 2, 2, 3, 2) + b"".join(struct.pack(">8h", *one) for one in objects)
    members = {"J1.PCX": pcx(indices), "QUEEN.JAS": table, "QUEEN2.JAS": "\r\n".join(lines).encode(), "X.BBK": b"-"}
    entries, blob, start = b"", b"", 15 + 21 * len(members)
    for name, data in members.items():
        entries += struct.pack(">12sBII", name.encode(), 0, start + len(blob), len(data))
        blob += data
    archive = b"QTBL" + b"CEM10\0\0\0" + b"\1" + struct.pack(">H", len(members)) + entries + blob
    (picture,) = queen_pictures(archive)
    assert picture.name == "J1" and picture.things == ("waterfall", "rock")
    assert (picture.indices == indices).all() and (picture.palette == EIGHT).all()
    with pytest.raises(FormatError, match="QTBL"):
        list(queen_pictures(b"ZIP" + archive))


# --- Drascula -----------------------------------------------------------------------------------------------------


def test_a_picture_of_drascula_and_its_room() -> None:
    indices = np.sort(RNG.integers(0, 256, (200, 320), dtype=np.uint8))  # long runs, also of what must be escaped
    packed = bytearray()
    for value in np.split(indices.ravel(), np.flatnonzero(np.diff(indices.ravel())) + 1):
        for start in range(0, len(value), 63):
            packed += bytes([0xC0 | len(value[start : start + 63]), value[0]])
    data = bytes(128) + bytes(packed) + (PALETTE << 2).tobytes()
    room = bytes(byte ^ 0xFF for byte in b"12\nAUX1.ALG\nDOOR\n0\nOLD TREE \nDOOR\n")
    picture = drascula_picture("7", data, room)
    assert (picture.indices == indices).all() and (picture.palette == EIGHT).all()
    assert picture.things == ("door", "old tree")
    with pytest.raises(FormatError, match="breaks off after"):
        unpacked(b"\xc5\x01", 100)


# --- Beneath a Steel Sky ------------------------------------------------------------------------------------------


class Bits:
    """Words of 16 bits, lowest bit first, with bytes between them: as an RNC file has them."""

    def __init__(self) -> None:
        self.held, self.bits, self.out, self.later = 0, 0, bytearray(), bytearray()
        self.word = None

    def put(self, value: int, count: int) -> None:
        for bit in range(count):
            if self.word is None:
                self.word = len(self.out)
                self.out += b"\0\0"
            self.held |= (value >> bit & 1) << self.bits
            self.bits += 1
            self.out[self.word : self.word + 2] = self.held.to_bytes(2, "little")
            if self.bits == 16:
                self.held = self.bits = 0
                self.word = None

    def raw(self, data: bytes) -> None:
        self.out += data


def rnc(parts: list[tuple[bytes, int, int]]) -> bytes:
    """An RNC file of (literals, how far back, how long), the last without a copy: codes of four bits for all values."""
    stream, size = Bits(), 0
    stream.put(0, 2)

    def number(value: int) -> None:
        symbol = value if value < 2 else value.bit_length()
        stream.put(int(f"{symbol:04b}"[::-1], 2), 4)
        if value > 1:
            stream.put(value - (1 << (symbol - 1)), symbol - 1)

    for _ in range(3):
        stream.put(16, 5)
        for _ in range(16):
            stream.put(4, 4)
    stream.put(len(parts), 16)
    for place, (literals, far, long) in enumerate(parts):
        number(len(literals))
        stream.raw(literals)
        size += len(literals)
        if place < len(parts) - 1:
            number(far - 1)
            number(long - 2)
            size += long
    packed = bytes(stream.out)
    return b"RNC\1" + struct.pack(">II", size, len(packed)) + bytes(6) + packed


def test_rnc_copies_and_literals() -> None:
    parts = [(b"abc", 3, 9), (b"", 1, 2), (b"xy" * 50, 100, 300), (b"end", 0, 0)]
    expected = bytearray()
    for number, (literals, far, long) in enumerate(parts):
        expected += literals
        for _ in range(long if number < len(parts) - 1 else 0):
            expected.append(expected[-far])
    assert rnc1(rnc(parts)) == bytes(expected)


def sky(rooms: dict[int, tuple[np.ndarray, bool]], frames: dict[int, np.ndarray]) -> tuple[bytes, bytes, bytes]:
    """sky.dnr, sky.dsk and sky.cpt of rooms (packed or not) in room 7's palette, and of frames with their own."""
    disk, entries = bytearray(), []

    def store(number: int, data: bytes, flag: int) -> None:
        while len(disk) % 16:
            disk.append(0)
        place = len(disk) >> 4 | 0x800000
        entries.append(
            struct.pack("<H", number) + place.to_bytes(3, "little") + (len(data) | flag).to_bytes(3, "little")
        )
        disk.extend(data)

    for number, (indices, packed) in rooms.items():
        tiles = indices.reshape(24, 8, 20, 16).swapaxes(1, 2).tobytes()
        if packed:
            # rows of a tile are of one colour: two more of the byte before are right
            chunk = rnc([(tiles[:20001], 1, 2), (tiles[20003:30721], 1, 2), (tiles[30723:], 0, 0)])
            store(number, struct.pack("<11H", 0x80, *[0] * 10) + chunk, 0x400000)
        else:
            store(number, tiles, 0x800000)
    for number, indices in frames.items():
        store(number - 1, PALETTE.tobytes(), 0x800000)
        store(number, indices.tobytes(), 0x800000)
    words = np.frombuffer(PALETTE.tobytes(), "<u2").tolist()
    lists = [("s7_pal", words), ("fast_list_sc7", [*(number | 0x8000 for number in rooms), 0])]
    table = struct.pack("<HHH", 1, 1, len(lists)) + bytes(8)
    for _, one in lists:
        table += struct.pack("<HH", len(one), 0) + struct.pack(f"<{len(one)}H", *one)
    names = b"".join(name.encode() + b"\0" for name, _ in lists)
    return (
        struct.pack("<I", len(entries)) + b"".join(entries),
        bytes(disk),
        table + struct.pack("<I", len(names)) + names,
    )


def test_rooms_and_frames_of_the_sky() -> None:
    flat = np.repeat(RNG.integers(0, 256, (192, 20), dtype=np.uint8), 16, 1)
    rooms = {40: (RNG.integers(0, 256, (192, 320), dtype=np.uint8), False), 41: (flat, True)}
    frame = RNG.integers(0, 256, (200, 320), dtype=np.uint8)
    found = {picture.name: picture for picture in sky_pictures(*sky(rooms, {60: frame}))}
    assert set(found) == {"40", "41", "60"}
    assert (found["40"].indices == rooms[40][0]).all() and (found["60"].indices == frame).all()
    assert (found["41"].indices == flat).all()
    assert all((one.palette == EIGHT).all() for one in found.values())


# --- which of them ------------------------------------------------------------------------------------------------


def test_wide_rooms_are_cut_in_two() -> None:
    wide = RNG.integers(0, 256, (8, 480), dtype=np.uint8)
    left, right = halves(Picture("X6", wide, EIGHT))
    assert left[0] == "X6-l" and right[0] == "X6-r"
    assert (left[1] == wide[:, :320]).all() and (right[1] == wide[:, 160:]).all()
    assert [name for name, _ in halves(Picture("J1", wide[:, :320], EIGHT))] == ["J1"]


def test_captions_say_where_and_are_all_different() -> None:
    every = [caption for game in vga_games.GAMES for caption in vga_captions.captions(game.captions).values()]
    assert len(every) >= 220 and len(set(every)) == len(every)
    assert all(4 <= len(caption.split()) <= 20 and caption == caption.strip() for caption in every)


@pytest.mark.parametrize("game", vga_games.GAMES, ids=lambda game: game.name)
def test_the_games_themselves(game: vga_games.Game) -> None:
    """All backgrounds of a real package, where it was fetched before: tests have no network."""
    archive = packages.cache() / game.package.file
    if not archive.is_file():
        pytest.skip(f"{archive.name} was not fetched on this machine")
    found = list(backgrounds(game))
    assert len(found) == len(vga_captions.captions(game.captions))
    for picture, _ in found:
        assert picture.indices.shape[1] == 320 and picture.indices.shape[0] in (150, 192, 200)
        assert len(np.unique(picture.indices)) > 8 and not (picture.palette & 3 ^ picture.palette >> 6).any()
    if game.name != "sky":
        assert sum(bool(picture.things) for picture, _ in found) > len(found) / 2
    digest = blake2b(digest_size=8)
    for picture, _ in found:
        digest.update(picture.indices.tobytes() + picture.palette.tobytes() + repr(picture.things).encode())
    assert digest.hexdigest() == LOOKED_AT[game.name], "other pixels, colours or things than those that were looked at"
    assert b"may not charge" in game.notice().replace(b"\n", b" ")


def test_a_picture_that_is_no_longer_there_is_named() -> None:
    few = [Picture("B1", np.zeros((200, 640), np.uint8), EIGHT)]
    game = replace(vga_games.GAMES[0], read=lambda package: iter(few))
    with pytest.raises(BuildError, match="holds no picture B2, where there was one"):
        next(backgrounds(game))
