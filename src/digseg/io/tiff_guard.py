"""What a TIFF's directory claims, checked against the file before a C library believes it.

GDAL opens a file cut in half without a word and fails when the pixels are read; and a header of
200 bytes can ask it for a terabyte. Both are seen here by arithmetic, in milliseconds.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from digseg.errors import CorruptInputError
from digseg.wording import format_size

#: Decoded bytes from which a claim has to be backed by a file of at least 1/2000 of them.
#: (Deflate reaches 1032:1 at most, LZW about 1400:1; sparse files are the exception below it.)
SUSPICIOUS_BYTES = 500 * 10**9
_SUSPICIOUS_BLOCK = 512 * 2**20
BEST_RATIO = 2000
_UNCOMPRESSED = 1
_DIRECTORIES = 64
_SIZES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # bytes of the integer types that matter here
_OTHER_SIZES = {2: 1, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 17: 8}

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS = 256, 257, 258, 259, 277, 278
_PLANAR, _TILE_WIDTH, _TILE_HEIGHT = 284, 322, 323
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_WANTED = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT,
    _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES,
}  # fmt: skip

Values = NDArray[np.uint64]


@dataclass(frozen=True)
class _Layout:
    """Byte order and the widths of classic TIFF or BigTIFF."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return "Q" if self.big else "I"

    @property
    def count(self) -> str:
        return "Q" if self.big else "H"

    @property
    def entry_bytes(self) -> int:
        return 20 if self.big else 12


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes are those of a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_tiff(path: str | Path) -> None:
    """Refuse a TIFF whose directories claim pixels that the file can't hold.

    Raises
    ------
    CorruptInputError
        Cut short, a directory outside the file, or sizes out of all proportion.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        head = stream.read(16)
        if not is_tiff(head) or len(head) < 8:
            raise CorruptInputError(f"{path} is cut short within its first bytes: copy it again.")
        order = "<" if head[:2] == b"II" else ">"
        layout = _Layout(order, head[2:4] in (b"+\0", b"\0+"))
        if layout.big and len(head) < 16:
            raise CorruptInputError(f"{path} is cut short within its first bytes: copy it again.")
        at = _number(head[8:16] if layout.big else head[4:8], layout)
        seen: set[int] = set()
        for index in range(_DIRECTORIES):
            if at == 0 or at in seen:
                break
            seen.add(at)
            tags, at = _directory(path, stream, at, size, layout, first=index == 0)
            if tags is not None:
                _check_claims(path, tags, size)
                _check_blocks(path, tags, size)
        if not seen:
            raise CorruptInputError(f"{path} holds no image directory: it is damaged.")


def _number(data: bytes, layout: _Layout) -> int:
    return int(struct.unpack(layout.order + layout.offset, data)[0])


def _directory(
    path: str | Path, stream: BinaryIO, at: int, size: int, layout: _Layout, *, first: bool
) -> tuple[dict[int, Values] | None, int]:
    """Integer tags of a directory and the place of the next; a broken later one ends the chain."""
    width = struct.calcsize(layout.order + layout.count)
    stream.seek(min(at, size))
    raw = stream.read(width)
    count = struct.unpack(layout.order + layout.count, raw)[0] if len(raw) == width else 0
    entries = stream.read(min(count * layout.entry_bytes, size))
    whole = count > 0 and len(entries) == count * layout.entry_bytes
    if not whole:
        if first:
            raise CorruptInputError(
                f"{path} is cut short: its directory lies outside the file; copy it again."
            )
        return None, 0
    after = stream.read(struct.calcsize(layout.order + layout.offset))
    following = (
        _number(after, layout) if len(after) == struct.calcsize(layout.order + layout.offset) else 0
    )
    tags: dict[int, Values] = {}
    for index in range(count):
        entry = entries[index * layout.entry_bytes : (index + 1) * layout.entry_bytes]
        tag, kind = struct.unpack(layout.order + "HH", entry[:4])
        if first and _outside(entry[4:], kind, size, layout):
            raise CorruptInputError(
                f"{path} is cut short: its tag {tag} lies outside the file; copy it again."
            )
        if tag in _WANTED and kind in _SIZES:
            values = _values(stream, entry[4:], kind, size, layout)
            if values is None:
                return None, 0
            tags[tag] = values
    return tags, following


def _outside(rest: bytes, kind: int, size: int, layout: _Layout) -> bool:
    """Whether the values of a tag, of whatever type, reach past the end of the file."""
    width = struct.calcsize(layout.order + layout.offset)
    needed = _number(rest[:width], layout) * (_SIZES | _OTHER_SIZES).get(kind, 0)
    return needed > width and _number(rest[width:], layout) + needed > size


def _values(stream: BinaryIO, rest: bytes, kind: int, size: int, layout: _Layout) -> Values | None:
    width = struct.calcsize(layout.order + layout.offset)
    count = _number(rest[:width], layout)
    needed = count * _SIZES[kind]
    if needed <= width:
        data = rest[width : width + needed]
    else:
        at = _number(rest[width:], layout)
        if at + needed > size:
            return None
        stream.seek(at)
        data = stream.read(needed)
    dtype = np.dtype(f"{layout.order}u{_SIZES[kind]}")
    return np.frombuffer(data, dtype=dtype).astype(np.uint64)


def _first(tags: dict[int, Values], tag: int, default: int) -> int:
    values = tags.get(tag)
    return int(values[0]) if values is not None and len(values) else default


def _check_claims(path: str | Path, tags: dict[int, Values], size: int) -> None:
    width, height = _first(tags, _WIDTH, 0), _first(tags, _HEIGHT, 0)
    samples = _first(tags, _SAMPLES, 1)
    claimed = width * height * samples * _first(tags, _BITS, 8) // 8
    if claimed > SUSPICIOUS_BYTES and claimed > size * BEST_RATIO:
        raise CorruptInputError(
            f"{path} claims {width} x {height} pixels ({format_size(claimed)}) in a file of "
            f"{format_size(size)}: its header is damaged."
        )
    block = block_bytes(tags)
    if block > _SUSPICIOUS_BLOCK and block > size * BEST_RATIO:
        raise CorruptInputError(
            f"{path} claims blocks of {format_size(block)} in a file of {format_size(size)}: "
            "its header is damaged."
        )


def block_bytes(tags: dict[int, Values]) -> int:
    """Decoded bytes of one strip or tile."""
    height = _first(tags, _HEIGHT, 0)
    rows = _first(tags, _TILE_HEIGHT, min(_first(tags, _ROWS, height), height))
    columns = _first(tags, _TILE_WIDTH, _first(tags, _WIDTH, 0))
    samples = 1 if _first(tags, _PLANAR, 1) == 2 else _first(tags, _SAMPLES, 1)
    return rows * ((columns * samples * _first(tags, _BITS, 8) + 7) // 8)


def _check_blocks(path: str | Path, tags: dict[int, Values], size: int) -> None:
    tiled = _TILES in tags
    offsets = tags.get(_TILES if tiled else _STRIPS)
    counts = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES)
    if offsets is None or counts is None or len(offsets) != len(counts):
        return  # GDAL works out what is missing, or refuses
    needed = counts.astype(np.float64)
    if _first(tags, _COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:
        needed = np.minimum(needed, block_bytes(tags))
    outside = (offsets.astype(np.float64) + needed > size) & (counts > 0)
    if outside.any():
        raise CorruptInputError(
            f"{path} is cut short: {int(outside.sum())} of {len(offsets)} blocks of pixels lie "
            "outside the file; copy it again."
        )
