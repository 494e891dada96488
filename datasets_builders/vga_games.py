"""Backgrounds of adventures of the VGA era that anyone may distribute, read from their Debian packages.

    backgrounds(game) -> (Picture, caption), ...       those of `vga_captions`, each with its own palette

The formats are written down here from facts about them, and each is checked against what it says of itself. Colours are
brought to the 6 bits that a VGA card shows. Nothing of the games is part of this project.
"""

import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray as Array
from PIL import Image

from datasets_builders import vga_captions
from datasets_builders.folder import BuildError
from datasets_builders.packages import Package, every, member

WIDTH = 320


@dataclass(frozen=True, eq=False)
class Picture:
    """As a game has it."""

    name: str
    indices: Array
    """(H, W) uint8."""
    palette: Array
    """(256, 3) uint8, six bits repeated to fill eight."""
    things: tuple[str, ...] = ()
    """What its game calls what is in it, as far as it says."""


class FormatError(Exception):
    """A file is not what it should be."""


def six_to_eight(palette: Array) -> Array:
    """(256, 3) of 0 to 63 to uint8."""
    return ((palette << 2) | (palette >> 4)).astype(np.uint8)


# --- Flight of the Amazon Queen -----------------------------------------------------------------------------------


def queen(archive: bytes) -> dict[str, bytes]:
    """Members of queen.1c, by name."""
    if archive[:4] != b"QTBL":
        raise FormatError("queen.1c does not begin with QTBL")
    (count,) = struct.unpack_from(">H", archive, 13)
    members = {}
    for number in range(count):
        name, _, offset, size = struct.unpack_from(">12sBII", archive, 15 + 21 * number)
        members[name.split(b"\0")[0].decode("latin-1").strip()] = archive[offset : offset + size]
    return members


def queen_pictures(archive: bytes) -> Iterator[Picture]:
    """All its PCX pictures; rooms of 150 rows have the game's verbs below them."""
    members = queen(archive)
    things = queen_things(members["QUEEN.JAS"], members["QUEEN2.JAS"].decode("latin-1").split("\r\n"))
    for file, data in members.items():
        if file.endswith(".PCX"):
            name = file.removesuffix(".PCX")
            with Image.open(io.BytesIO(data)) as image:
                indices = np.asarray(image, np.uint8)
                palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            yield Picture(name, indices, six_to_eight(palette >> 2), things.get(name, ()))


def queen_things(table: bytes, lines: list[str]) -> dict[str, tuple[str, ...]]:
    """Names of the objects of each room.

    QUEEN.JAS has, after 20 bytes, u16 numbers of rooms, names, objects and descriptions, and objects of eight i16, of
    which the first is the name (negative while it is hidden) and the sixth the room. The lines of QUEEN2.JAS are the
    descriptions, the names and the rooms. Both count from 1.
    """
    rooms, names, objects, descriptions = struct.unpack_from(">4H", table, 20)
    name_of, room_of = lines[descriptions:], lines[descriptions + names :]
    found: dict[str, dict[str, None]] = {}
    for number in range(objects):
        name, *_, room, _, _ = struct.unpack_from(">8h", table, 28 + 16 * number)
        if 1 <= abs(name) <= names and 1 <= room <= rooms:
            found.setdefault(room_of[room - 1], {})[name_of[abs(name) - 1].lower()] = None
    return {room: tuple(things) for room, things in found.items()}


# --- Drascula -----------------------------------------------------------------------------------------------------


def drascula_picture(name: str, data: bytes, room: bytes = b"") -> Picture:
    """An .ALG: 128 bytes of header as of a PCX, runs, and a palette at the end; and the room's .ALD, if it has one.

    Lines of an .ALD have all bits turned over; those that are words are names of objects, some in Spanish.
    """
    indices = unpacked(data[128:-768], WIDTH * 200).reshape(200, WIDTH)
    lines = bytes(byte ^ 0xFF for byte in room).decode("latin-1").split("\n")
    words = (re.sub(r"[^a-z ]", "", line.lower()).strip() for line in lines if ".ALG" not in line)
    return Picture(name, indices, six_to_eight(last_palette(data) >> 2), tuple(dict.fromkeys(filter(None, words))))


def unpacked(data: bytes, size: int) -> Array:
    """Runs as in a PCX: a byte from 0xC0 up says how often the next one comes, all others stand for themselves."""
    out, at = bytearray(), 0
    while len(out) < size:
        if at >= len(data):
            raise FormatError(f"the picture breaks off after {len(out)} of {size} pixels")
        if data[at] >= 0xC0:
            out += data[at + 1 : at + 2] * (data[at] & 0x3F)
            at += 2
        else:
            out.append(data[at])
            at += 1
    return np.frombuffer(bytes(out[:size]), np.uint8)


def last_palette(data: bytes) -> Array:
    return np.frombuffer(data[-768:], np.uint8).reshape(256, 3)


# --- Beneath a Steel Sky ------------------------------------------------------------------------------------------


ROOM_TILES = (16, 8)
"""Pictures of rooms are stored tile by tile, width and height in pixels."""
ROOM, FRAME = 320 * 192, 320 * 200


def sky_entries(directory: bytes, disk: bytes) -> dict[int, tuple[bytes, bool]]:
    """Files of sky.dsk as they are stored, by number, and whether the header of 22 bytes belongs to them.

    Entries of sky.dnr are u16 number, u24 offset (in 16 bytes where bit 23 is set), u24 size; bit 23 of the size says
    that the file has no header, bit 22 that its header is for the disk only.
    """
    (count,) = struct.unpack_from("<I", directory)
    found = {}
    for number in range(count):
        entry = directory[4 + 8 * number : 12 + 8 * number]
        offset, size = int.from_bytes(entry[2:5], "little"), int.from_bytes(entry[5:8], "little")
        start = (offset & 0x7FFFFF) << (4 if offset & 0x800000 else 0)
        data = disk[start : start + (size & 0x3FFFFF)]
        found[struct.unpack_from("<H", entry)[0]] = data, not size & 0xC00000
    return found


def sky_size(stored: tuple[bytes, bool]) -> int:
    """Of a file when it is unpacked, which takes time."""
    data, headed = stored
    packed = data[22:26] == b"RNC\1" and struct.unpack_from("<H", data)[0] & 0x80
    return struct.unpack_from(">I", data, 26)[0] + 22 * headed if packed else len(data)


def sky_file(stored: tuple[bytes, bool]) -> bytes:
    data, headed = stored
    if data[22:26] != b"RNC\1" or not struct.unpack_from("<H", data)[0] & 0x80:
        return data
    return (data[:22] if headed else b"") + rnc1(data[22:])


def sky_compacts(table: bytes) -> dict[str, tuple[int, ...]]:
    """Lists of words in sky.cpt, by name: u16 version, lists of slots of u16 size, u16 type, words; then the names."""
    _, lists = struct.unpack_from("<HH", table)
    slots, at = sum(struct.unpack_from(f"<{lists}H", table, 4)), 12 + 2 * lists
    found = []
    for _ in range(slots):
        (size,) = struct.unpack_from("<H", table, at)
        if size:
            found.append(struct.unpack_from(f"<{size}H", table, at + 4))
            at += 2 + 2 * size
        at += 2
    (length,) = struct.unpack_from("<I", table, at)
    names = table[at + 4 : at + 4 + length].split(b"\0")
    return {name.decode("latin-1"): words for name, words in zip(names, found, strict=False)}


def sky_pictures(directory: bytes, disk: bytes, table: bytes) -> Iterator[Picture]:
    """Rooms and frames of the opening comic, named after the number of their file."""
    entries, compacts = sky_entries(directory, disk), sky_compacts(table)
    palettes = {
        re.sub(r"\D", "", name): np.array(words, "<u2").view(np.uint8).reshape(256, 3)
        for name, words in compacts.items()
        if re.fullmatch(r"s\d+_pal|sc\d+_palette|pal\d+", name) and len(words) == 384
    }
    rooms = {
        word & 0x7FFF: room
        for name, words in compacts.items()
        if (room := re.sub(r"\D", "", name)) in palettes and re.search("fast_list|chip_list", name)
        for word in words
    }
    for number, stored in sorted(entries.items()):
        size = sky_size(stored)
        if size == ROOM and number in rooms:
            across, down = ROOM_TILES
            tiles = np.frombuffer(sky_file(stored), np.uint8).reshape(192 // down, WIDTH // across, down, across)
            indices = tiles.swapaxes(1, 2).reshape(192, WIDTH)
            yield Picture(f"{number}", indices, six_to_eight(palettes[rooms[number]]))
        elif size == FRAME and number - 1 in entries and sky_size(entries[number - 1]) == 768:
            palette = np.frombuffer(sky_file(entries[number - 1]), np.uint8).reshape(256, 3)
            indices = np.frombuffer(sky_file(stored), np.uint8).reshape(200, WIDTH)
            yield Picture(f"{number}", indices, six_to_eight(palette))


GAMES_AT = "./usr/share/scummvm/"
NOT_THINGS = re.compile(r"dummy|.* obj$|.*\^_$")
"""Names in the games that are of nothing to be seen."""


@dataclass(frozen=True)
class Game:
    """One that anyone may distribute, as Debian packages it."""

    name: str
    title: str
    package: Package
    license: str
    """What Debian's copyright file calls it; it goes along with the pictures."""
    captions: str
    read: Callable[[Package], Iterator[Picture]]

    def notice(self) -> bytes:
        """The text of its licence."""
        return member(self.package, f"./usr/share/doc/{self.package.name}/copyright")


def _read_queen(package: Package) -> Iterator[Picture]:
    yield from queen_pictures(member(package, f"{GAMES_AT}{package.name}/queen.1c"))


def _read_drascula(package: Package) -> Iterator[Picture]:
    folder = f"{GAMES_AT}{package.name}/en/"
    files = every(package, folder)
    for name, data in sorted(files.items()):
        stem = name.removeprefix(folder).removesuffix(".ALG")
        if name.endswith(".ALG") and stem in vga_captions.captions(vga_captions.DRASCULA):
            yield drascula_picture(stem, data, files.get(f"{folder}{stem}.ALD", b""))


def _read_sky(package: Package) -> Iterator[Picture]:
    files = every(package, f"{GAMES_AT}{package.name}/sky.")
    yield from sky_pictures(*(files[f"{GAMES_AT}{package.name}/sky.{end}"] for end in ("dnr", "dsk", "cpt")))


def _debian(name: str, version: str, sha256: str) -> Package:
    return Package(name, version, "apt", f"{name}_{version}_all.deb", sha256)


GAMES = (
    Game(
        "queen",
        "Flight of the Amazon Queen, (C) John Passfield and Steven Stamatiadis",
        _debian(
            "flight-of-the-amazon-queen", "1.0.0-9", "40c08fd258d6fe95c46c1eaf5e9137f84ba330657995a281bd887c94a560a0f1"
        ),
        "Flight-of-the-Amazon-Queen-License",
        vga_captions.QUEEN,
        _read_queen,
    ),
    Game(
        "drascula",
        "Drascula: The Vampire Strikes Back, (C) Alcachofa Soft S.L.",
        _debian("drascula", "1.0+ds4-2", "ed4af8e2d41ad446e2f3b73533daa1804e2f13f62f596c0b02b8dc39544f22b4"),
        "Drascula-License",
        vga_captions.DRASCULA,
        _read_drascula,
    ),
    Game(
        "sky",
        "Beneath a Steel Sky, (C) Revolution Software Ltd.",
        _debian("beneath-a-steel-sky", "0.0372-8", "e2a25c880220c26a4dfd42904b878cc655afa1c72895f9c932befbd078622934"),
        "Beneath-a-Steel-Sky-License",
        vga_captions.SKY,
        _read_sky,
    ),
)


def backgrounds(game: Game) -> Iterator[tuple[Picture, str]]:
    """Its backgrounds in the order of `vga_captions`, 320 wide, and what can be seen on them.

    Raises:
        BuildError: one of them is not there.
    """
    wanted, found = vga_captions.captions(game.captions), {}
    for picture in game.read(game.package):
        things = tuple(thing for thing in picture.things if not NOT_THINGS.fullmatch(thing))
        for name, indices in halves(picture):
            if name in wanted:
                found[name] = replace(picture, name=name, indices=indices, things=things)
    if missing := wanted.keys() - found.keys():
        raise BuildError(f"{game.package.file} holds no picture {sorted(missing)[0]}, where there was one")
    yield from ((found[name], caption) for name, caption in wanted.items())


def halves(picture: Picture) -> list[tuple[str, Array]]:
    """A picture as wide as the screen as it is, a wider one as its left and its right end."""
    if picture.indices.shape[1] <= WIDTH:
        return [(picture.name, picture.indices)]
    left, right = picture.indices[:, :WIDTH], picture.indices[:, -WIDTH:]
    return [(f"{picture.name}-l", left), (f"{picture.name}-r", right)]


def rnc1(data: bytes) -> bytes:
    """RNC ProPack, method 1: Huffman codes for how many literals, how far back and how long, in 16-bit words.

    Header, big-endian: "RNC\\1", u32 unpacked size, u32 packed size, u16 checksums of both, u8 leeway, u8 blocks.
    """
    size, packed = struct.unpack_from(">II", data, 4)
    source = data[18 : 18 + packed]
    out = bytearray()
    at, held, bits = 0, 0, 0

    def fill(count: int) -> None:
        nonlocal at, held, bits
        while bits < count:
            held |= int.from_bytes(source[at : at + 2], "little") << bits
            at, bits = at + 2, bits + 16

    def take(count: int) -> int:
        nonlocal held, bits
        fill(count)
        value = held & ((1 << count) - 1)
        held, bits = held >> count, bits - count
        return value

    def table() -> list[tuple[int, int]]:
        """Canonical codes, which come with their lowest bit first: length and value by the bits that come next."""
        lengths = [take(4) for _ in range(take(5))]
        longest = max(lengths, default=0)
        codes, code = [(0, 0)] * (1 << longest), 0
        for length in range(1, longest + 1):
            for value, own in enumerate(lengths):
                if own == length:
                    first = int(f"{code:0{length}b}"[::-1], 2)
                    codes[first :: 1 << length] = [(length, value)] * (1 << (longest - length))
                    code += 1
            code <<= 1
        return codes

    def symbol(codes: list[tuple[int, int]]) -> int:
        nonlocal held, bits
        fill(len(codes).bit_length() - 1)
        length, value = codes[held & (len(codes) - 1)]
        if not length:
            raise FormatError("an RNC file has a code that its table does not know")
        held, bits = held >> length, bits - length
        return value if value < 2 else take(value - 1) | (1 << (value - 1))

    take(2)
    while len(out) < size:
        literals, back, length = table(), table(), table()
        for left in range(take(16), 0, -1):
            count = symbol(literals)
            if count:
                # literals lie between the words of bits: those that are read ahead go behind them
                whole = bits // 16
                at -= 2 * whole
                bits -= 16 * whole
                held &= (1 << bits) - 1
                out += source[at : at + count]
                at += count
            if left > 1:
                far, long = symbol(back) + 1, symbol(length) + 2
                for _ in range(long):
                    out.append(out[-far])
    return bytes(out[:size])
