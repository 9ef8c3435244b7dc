"""The global lattice of tiles. Level 2: pure integers, no pixels.

Along each axis the tiles stand at places that depend on the length of the axis alone, never on
blocks, batches or workers. Neighbours ``i`` and ``i + 1`` share an overlap; in its middle lies a
*ramp* in which one hands over to the other, and beside the ramp the *halo*, which is computed and
thrown away. So an axis is cut into intervals ``core 0, ramp 0, core 1, ramp 1 ... core n-1``: a
pixel of a core belongs to one tile, a pixel of a ramp to two (to four where the ramps of both
axes cross).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from digseg.types import Window

#: Smallest tile: a plane that is smaller still is padded up to it.
SMALLEST_TILE = 64


def tile_count(length: int, tile: int, overlap: int) -> int:
    """Fewest tiles for an axis: ``ceil((length - overlap) / (tile - overlap))``.

    The overlap may shrink by a sixteenth (4 of 64 pixels) where that saves a tile: 8192 pixels
    in tiles of 512 take 18 and not 19.
    """
    if length <= tile:
        return 1
    least = overlap - overlap // 16
    return -(-(length - least) // (tile - least))


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis.

    Parameters
    ----------
    length
        Pixels of the plane along this axis.
    tile
        Side of a tile. May be longer than the axis: the rest is padding.
    overlap
        Nominal overlap, at most half of the tile.
    """

    length: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.tile < 1:
            raise ValueError(f"an axis of {self.length} pixels has no tiles of {self.tile}")
        if not 0 <= self.overlap <= self.tile // 2:
            raise ValueError(f"the overlap {self.overlap} is not within 0 .. tile / 2")

    @cached_property
    def count(self) -> int:
        """Number of tiles."""
        return tile_count(self.length, self.tile, self.overlap)

    @property
    def halo(self) -> int:
        """Pixels that every tile sees beyond what it answers for, inside the plane."""
        return self.overlap // 4

    @property
    def ramp(self) -> int:
        """Width of the hand-over between neighbours."""
        return max(0, self.overlap - self.overlap // 16 - 2 * self.halo)

    def start(self, index: int) -> int:
        """First pixel of a tile; tiles are spread evenly."""
        return 0 if self.count == 1 else (self.length - self.tile) * index // (self.count - 1)

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """Borders of the intervals ``core 0, ramp 0, core 1 ...``, from 0 to the length."""
        edges = [0]
        for index in range(self.count - 1):
            middle = (self.start(index + 1) + self.start(index) + self.tile) // 2
            begin = middle - self.ramp // 2
            edges += [begin, begin + self.ramp]
        return (*edges, self.length)

    def interval(self, index: int) -> tuple[int, int]:
        """Pixels of an interval: even ones are cores, odd ones ramps."""
        return self.edges[index], self.edges[index + 1]

    def intervals_of(self, tile: int) -> range:
        """Intervals that a tile answers for: its core and the ramps on both sides."""
        return range(max(0, 2 * tile - 1), min(2 * tile + 2, 2 * self.count - 1))

    def owned(self, tile: int) -> tuple[int, int]:
        """Pixels that a tile answers for, ramps included."""
        intervals = self.intervals_of(tile)
        return self.edges[intervals.start], self.edges[intervals.stop]

    @cached_property
    def _owned_starts(self) -> list[int]:
        return [self.owned(tile)[0] for tile in range(self.count)]

    def touching(self, start: int, stop: int) -> range:
        """Tiles that answer for at least one pixel of ``start .. stop``."""
        last = bisect_right(self._owned_starts, stop - 1)
        first = bisect_right(self._owned_starts, start) - 1
        # The tile before may still hold the ramp at `start`.
        while first > 0 and self.owned(first - 1)[1] > start:
            first -= 1
        return range(max(0, first), last)

    def starting(self, start: int, stop: int) -> range:
        """Tiles whose owned pixels begin within ``start .. stop``."""
        first = bisect_right(self._owned_starts, start - 1)
        return range(first, bisect_right(self._owned_starts, stop - 1))


@dataclass(frozen=True, order=True)
class Tile:
    """A tile: its plane and its place in the lattice."""

    plane: int
    row: int
    column: int


@dataclass(frozen=True)
class Lattice:
    """All tiles of a stack of planes."""

    planes: int
    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, shape: tuple[int, int, int], tile: int, overlap: int, multiple: int = 1) -> Lattice:
        """Lattice for ``(planes, rows, columns)``.

        The tile is rounded up to a multiple that the model takes, and made smaller where the
        plane is smaller.
        """
        planes, rows, columns = shape
        axes = []
        for length in (rows, columns):
            side = min(tile, max(length, SMALLEST_TILE))
            side = -(-side // multiple) * multiple
            axes.append(Axis(length, side, min(overlap, side // 2)))
        return cls(planes, axes[0], axes[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(planes, rows, columns)`` in pixels."""
        return self.planes, self.rows.length, self.columns.length

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.planes * self.rows.count * self.columns.count

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of every tile."""
        return self.rows.tile, self.columns.tile

    @property
    def computed_pixels(self) -> int:
        """Pixels that the model sees in all."""
        return self.count * self.rows.tile * self.columns.tile

    @property
    def redundancy(self) -> float:
        """Computed pixels over image pixels."""
        return self.computed_pixels / (self.planes * self.rows.length * self.columns.length)

    def __iter__(self) -> Iterator[Tile]:
        for plane in range(self.planes):
            for row in range(self.rows.count):
                for column in range(self.columns.count):
                    yield Tile(plane, row, column)

    def window(self, tile: Tile) -> Window:
        """Pixels that the model sees, cut at the border of the plane."""
        top, left = self.rows.start(tile.row), self.columns.start(tile.column)
        bottom = min(top + self.rows.tile, self.rows.length)
        right = min(left + self.columns.tile, self.columns.length)
        return top, bottom, left, right

    def owned(self, tile: Tile) -> Window:
        """Pixels that the tile answers for, ramps included."""
        return (*self.rows.owned(tile.row), *self.columns.owned(tile.column))


def intersection(first: Window, second: Window) -> Window | None:
    """Common pixels of two windows; `None` where there are none."""
    top, bottom = max(first[0], second[0]), min(first[1], second[1])
    left, right = max(first[2], second[2]), min(first[3], second[3])
    if top >= bottom or left >= right:
        return None
    return top, bottom, left, right


def within(window: Window, origin: Window) -> tuple[slice, slice]:
    """Slices of ``window`` in an array that holds ``origin``."""
    return (
        slice(window[0] - origin[0], window[1] - origin[0]),
        slice(window[2] - origin[2], window[3] - origin[2]),
    )
