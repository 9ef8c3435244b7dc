"""The bytes of a COG: a header that GDAL wrote, and tiles in the order that readers expect.

GDAL writes a file of the same raster without a single tile; its tags (place, colours, nodata,
metadata, RPCs ...) are taken over as they are. Only the tags of the overviews and the places of the
tiles are ours: headers first, then tiles from the coarsest level to the finest, row by row, each
between its size and a copy of its last four bytes, as GDAL's own COGs have it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from digseg.io._cog_tiles import Tiles

_STRUCTURE = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_WIDTH, _HEIGHT, _OFFSETS, _SIZES, _SUBFILE = 256, 257, 324, 325, 254
#: Tags that an overview shares with its raster: depth, compression, colours, tile, kind, nodata.
_SHARED = {258, 259, 262, 277, 284, 317, 320, 322, 323, 339, 42113}
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BYTES |= {16: 8, 17: 8, 18: 8}
_SHORT, _LONG, _LONG8 = 3, 4, 16
#: A classic TIFF counts bytes with 32 bits.
_CLASSIC = 2**32 - 2**20


@dataclass(frozen=True)
class Tag:
    """One entry of a TIFF directory."""

    code: int
    kind: int
    count: int
    content: bytes


def needs_big(tiles: Tiles) -> bool:
    """Whether the tiles, with all that lies around them, take more than a classic TIFF holds."""
    total = 0
    for level in range(len(tiles.shapes)):
        sizes = tiles.sizes(level)
        total += int(sizes.sum()) + 24 * len(sizes)
    return total > _CLASSIC


def lay_out(header: Path, tiles: Tiles, target: Path) -> None:
    """Write the COG.

    Parameters
    ----------
    header
        A tiled GeoTIFF of the same raster as GDAL wrote it, little-endian, with no tiles; a BigTIFF
        where `needs_big` says so.
    tiles
        All tiles of all levels.
    """
    first, big = read_tags(header)
    directories = [first] + [_overview(first, shape) for shape in tiles.shapes[1:]]
    start = (16 if big else 8) + len(_head(big, 0)[1])
    start += start % 2
    # Places depend on the length of the directories, which does not depend on the places.
    length = sum(len(_directory(tags, tiles, n, 0, 0, big)) for n, tags in enumerate(directories))
    begins = _begins(tiles, start + length)
    with target.open("wb") as file:
        opening, ghost = _head(big, start)
        file.write(opening + ghost)
        file.write(bytes(start - len(opening) - len(ghost)))
        at = start
        for level, tags in enumerate(directories):
            last = level + 1 == len(directories)
            block = _directory(tags, tiles, level, begins[level], at, big, last=last)
            file.write(block)
            at += len(block)
        for level in reversed(range(len(directories))):
            _write_tiles(file, tiles, level)
        file.flush()
        os.fsync(file.fileno())


def _head(big: bool, first: int) -> tuple[bytes, bytes]:
    """The first bytes of the file, and what tells readers how tiles lie."""
    ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_STRUCTURE) + _STRUCTURE
    if big:
        return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first), ghost
    return struct.pack("<2sHI", b"II", 42, first), ghost


def _begins(tiles: Tiles, at: int) -> list[int]:
    """Where the first tile of each level begins, its leading size included."""
    begins = [0] * len(tiles.shapes)
    for level in reversed(range(len(begins))):
        begins[level] = at
        sizes = tiles.sizes(level)
        at += int(sizes.sum()) + 8 * len(sizes)
    return begins


def _write_tiles(file: BinaryIO, tiles: Tiles, level: int) -> None:
    rows, columns = tiles.grid(level)
    for row in range(rows):
        for column in range(columns):
            content = tiles.content(level, row, column)
            file.write(struct.pack("<I", len(content)) + content + content[-4:])


def _directory(
    tags: list[Tag], tiles: Tiles, level: int, begin: int, at: int, big: bool, *, last: bool = False
) -> bytes:
    """A directory that lies at ``at``, its values behind it, a pointer to the next behind those."""
    sizes = tiles.sizes(level)
    offsets = begin + 4 + np.concatenate(([0], np.cumsum(sizes[:-1] + 8)))
    kind, number = (_LONG8, "<u8") if big else (_LONG, "<u4")
    own = {tag.code: tag for tag in tags}
    own[_OFFSETS] = Tag(_OFFSETS, kind, len(offsets), offsets.astype(number).tobytes())
    own[_SIZES] = Tag(_SIZES, _LONG, len(sizes), sizes.astype("<u4").tobytes())
    entries = [own[code] for code in sorted(own)]
    room = 8 if big else 4
    length = (8 + 20 * len(entries) + 8) if big else (2 + 12 * len(entries) + 4)
    values, table = b"", b""
    for tag in entries:
        table += struct.pack("<HHQ" if big else "<HHI", tag.code, tag.kind, tag.count)
        if len(tag.content) <= room:
            table += tag.content.ljust(room, b"\0")
        else:
            table += struct.pack("<Q" if big else "<I", at + length + len(values))
            values += tag.content + bytes(len(tag.content) % 2)
    following = 0 if last else at + length + len(values)
    count = struct.pack("<Q" if big else "<H", len(entries))
    return count + table + struct.pack("<Q" if big else "<I", following) + values


def _overview(tags: list[Tag], shape: tuple[int, int]) -> list[Tag]:
    sides = zip((_HEIGHT, _WIDTH), shape, strict=True)
    return [
        Tag(_SUBFILE, _LONG, 1, struct.pack("<I", 1)),
        *(Tag(code, _LONG, 1, struct.pack("<I", side)) for code, side in sides),
        *(tag for tag in tags if tag.code in _SHARED),
    ]


def read_tags(path: Path) -> tuple[list[Tag], bool]:
    """Entries of the first directory of a little-endian TIFF, and whether it is a BigTIFF."""
    with path.open("rb") as file:
        start = file.read(16)
        magic = struct.unpack_from("<2sH", start)[1]
        big = magic == 43
        (at,) = struct.unpack_from("<Q", start, 8) if big else struct.unpack_from("<I", start, 4)
        file.seek(at)
        (count,) = struct.unpack("<Q" if big else "<H", file.read(8 if big else 2))
        step, room = (20, 8) if big else (12, 4)
        table = file.read(step * count)
        tags = []
        for n in range(count):
            code, kind, values = struct.unpack_from("<HHQ" if big else "<HHI", table, n * step)
            inline = table[n * step + step - room : (n + 1) * step]
            size = _BYTES[kind] * values
            if size > room:
                file.seek(int.from_bytes(inline, "little"))
                inline = file.read(size)
            tags.append(Tag(code, kind, values, inline[:size]))
    return tags, big
