"""Labels and their overviews as compressed tiles, taken in any order. A file holds them.

Each tile is compressed once, when its labels come, and lies in a scratch file until the order of a
COG is known (`digseg.io._cog_layout`). An overview is the mode of 2 x 2 pixels of the level below,
nodata aside: a mean of labels is no label. Where two are as many, the first in reading order wins.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.types import AnyArray

_LEVEL = 5  # of zlib: 8 % more bytes than its default in half the time
_ROWS = 64
_SMALLEST = 512  # no overview of what is no larger


class Tiles:
    """Tiles of all levels of one label raster.

    Parameters
    ----------
    shape
        Rows and columns.
    dtype
        An unsigned integer.
    side
        Of a tile.
    nodata
        The label that gives way to any other in an overview; `None` for none.
    scratch
        File for the compressed tiles until they are laid out; replaced, and gone after `close`.
    """

    def __init__(
        self, shape: tuple[int, int], dtype: Any, side: int, nodata: int | None, scratch: Path
    ) -> None:
        self.shape, self.dtype, self.side, self.nodata = shape, np.dtype(dtype), side, nodata
        self.shapes = level_shapes(shape, side)
        # Offset and size in the scratch file, by level, row and column; size 0 until it is there.
        self._places = [
            np.zeros((-(-height // side), -(-width // side), 2), dtype=np.int64)
            for height, width in self.shapes
        ]
        values = int(np.iinfo(self.dtype).max) + 1 if self.dtype.itemsize <= 2 else 0
        #: How many pixels each value has; empty for labels of more than 16 bits.
        self.counts: NDArray[np.int64] = np.zeros(values, dtype=np.int64)
        self._plain: dict[int, bytes] = {}
        self._path = scratch
        self._file = scratch.open("w+b")
        self._end = 0

    def close(self) -> None:
        """Delete the scratch file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def put(self, top: int, left: int, labels: AnyArray) -> None:
        """Take in a window, once each: corners at multiples of `side`, or at the raster's border.

        Levels are made as far up as whole tiles of them lie in the window.
        """
        self._count(labels)
        for level in range(len(self.shapes)):
            if level:
                labels = mode_of_four(labels, self.nodata)
                top, left = top // 2, left // 2
            if not self._aligned(level, top, left, labels.shape):
                return
            for down in range(0, labels.shape[0], self.side):
                for right in range(0, labels.shape[1], self.side):
                    tile = labels[down : down + self.side, right : right + self.side]
                    self._add(level, (top + down) // self.side, (left + right) // self.side, tile)

    def complete(self) -> None:
        """Make the overview tiles that no window held wholly, from the level below."""
        for level in range(1, len(self.shapes)):
            for row, column in np.argwhere(self._places[level][..., 1] == 0).tolist():
                self._add(level, row, column, self._from_below(level, row, column))

    def grid(self, level: int) -> tuple[int, int]:
        """Rows and columns of tiles of a level."""
        rows, columns, _ = self._places[level].shape
        return rows, columns

    def sizes(self, level: int) -> NDArray[np.int64]:
        """Bytes of each tile of a level, row by row."""
        return self._places[level][..., 1].ravel()

    def content(self, level: int, row: int, column: int) -> bytes:
        """A tile as it is compressed."""
        offset, size = self._places[level][row, column].tolist()
        if not size:
            raise ValueError(f"tile {row}, {column} of level {level} was never written")
        self._file.seek(offset)
        return self._file.read(size)

    def _aligned(self, level: int, top: int, left: int, shape: tuple[int, ...]) -> bool:
        height, width = self.shapes[level]
        return not (
            top % self.side
            or left % self.side
            or (shape[0] % self.side and top + shape[0] != height)
            or (shape[1] % self.side and left + shape[1] != width)
        )

    def _count(self, labels: AnyArray) -> None:
        if not len(self.counts):
            return
        for start in range(0, len(labels), _ROWS):  # a few: counting takes 8 bytes a pixel
            strip = labels[start : start + _ROWS].ravel()
            self.counts += np.bincount(strip, minlength=len(self.counts))

    def _add(self, level: int, row: int, column: int, tile: AnyArray) -> None:
        content = self._compressed(tile)
        self._file.seek(self._end)
        self._file.write(content)
        self._places[level][row, column] = self._end, len(content)
        self._end += len(content)

    def _compressed(self, tile: AnyArray) -> bytes:
        first = tile[0, 0]
        if (tile == first).all():  # most tiles of a sparse scene
            value = int(first)
            if value not in self._plain and len(self._plain) < 1024:
                whole = np.full((self.side, self.side), first, dtype=self.dtype)
                self._plain[value] = zlib.compress(whole.data, _LEVEL)
            if value in self._plain:
                return self._plain[value]
        lacking = [(0, self.side - length) for length in tile.shape]
        whole = np.pad(tile, lacking, mode="edge") if lacking != [(0, 0), (0, 0)] else tile
        return zlib.compress(np.ascontiguousarray(whole).data, _LEVEL)

    def _from_below(self, level: int, row: int, column: int) -> AnyArray:
        """An overview tile, made of up to four tiles of the level below."""
        height, width = self.shapes[level - 1]
        rows, columns = self.grid(level - 1)
        side = self.side
        bottom, right = (
            min(height - 2 * row * side, 2 * side),
            min(width - 2 * column * side, 2 * side),
        )
        below = np.empty((bottom, right), dtype=self.dtype)
        for i in range(2 * row, min(2 * row + 2, rows)):
            for j in range(2 * column, min(2 * column + 2, columns)):
                found = np.frombuffer(zlib.decompress(self.content(level - 1, i, j)), self.dtype)
                place = below[
                    (i - 2 * row) * side : (i - 2 * row + 1) * side,
                    (j - 2 * column) * side : (j - 2 * column + 1) * side,
                ]
                place[...] = found.reshape(side, side)[: place.shape[0], : place.shape[1]]
        return mode_of_four(below, self.nodata)


def level_shapes(shape: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Full resolution and its halves, as far as they help."""
    shapes = [shape]
    while max(shapes[-1]) > max(side, _SMALLEST):
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def mode_of_four(labels: AnyArray, nodata: int | None) -> AnyArray:
    """The most frequent of 2 x 2 labels; an odd last row or column stands for itself."""
    height, width = labels.shape
    if height % 2 or width % 2:
        labels = np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge")
    found = np.empty((labels.shape[0] // 2, labels.shape[1] // 2), dtype=labels.dtype)
    for start in range(0, len(found), _ROWS):  # what a processor's cache holds
        strip = labels[2 * start : 2 * (start + _ROWS)]
        found[start : start + _ROWS] = _mode(
            [strip[0::2, 0::2], strip[0::2, 1::2], strip[1::2, 0::2], strip[1::2, 1::2]], nodata
        )
    return found


def _mode(four: list[AnyArray], nodata: int | None) -> AnyArray:
    a, b, c, d = (np.ascontiguousarray(values) for values in four)
    alike = (a == b) & (c == d) & (a == c)
    if alike.all():
        return a
    votes = [np.ones(a.shape, dtype=np.uint8) for _ in four]
    four = [a, b, c, d]
    for i in range(4):
        for j in range(i):
            same = four[i] == four[j]
            votes[i] += same
            votes[j] += same
    if nodata is not None:
        for values, count in zip(four, votes, strict=True):
            count *= values != nodata
    best, most = a.copy(), votes[0]
    for values, count in zip(four[1:], votes[1:], strict=True):
        more = count > most
        np.copyto(best, values, where=more)
        np.maximum(most, count, out=most)
    return best
