"""Tiles to blocks, exactly. Level 3: pure functions on arrays.

A pixel of a core takes its one tile's answer. In a ramp the answers are summed with separable
weights in fixed point: probabilities as multiples of 2**-24, weights as multiples of 1/256 that
add up to 256. Sums of integers don't depend on their order, so neither does the block; and a
model that answers 1.0 gives exactly 1.0 everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digseg.tiles import Axis, Lattice, Tile, intersection, within
from digseg.types import AnyArray, BoolArray, Float32Array, UInt8Array, Window

#: A cell of the lattice: interval of the rows, interval of the columns (even: core, odd: ramp).
Cell = tuple[int, int]

PENDING, DONE, FAILED, NODATA = 0, 1, 2, 3
#: Names of the values of a coverage array.
COVERAGE = {PENDING: "pending", DONE: "done", FAILED: "failed", NODATA: "nodata"}

_FIXED = 1 << 24  # float32 resolves 2**-24 just below 1
_UNIT = 256  # weights of one axis add up to this


def ramp_weights(axis: Axis, interval: int, tile: int) -> AnyArray:
    """Weights of ``tile`` in an interval, ``int64``, in units of 1/256."""
    start, stop = axis.interval(interval)
    if interval % 2 == 0:
        return np.full(stop - start, _UNIT, dtype=np.int64)
    steps = np.arange(stop - start, dtype=np.int64)
    rising = ((2 * steps + 1) * _UNIT) // (2 * max(1, stop - start))
    return rising if interval // 2 + 1 == tile else _UNIT - rising


def quantise(probabilities: Float32Array, found: UInt8Array | None = None) -> UInt8Array:
    """Probabilities ``[K, h, w]`` in [0, 1] to 0 .. 255, rounding half up (into ``found``)."""
    if found is None:
        found = np.empty(probabilities.shape, dtype=np.uint8)
    for values, target in zip(probabilities, found, strict=True):
        # Map by map: for a hundred prompts the floats in between would be the largest of all.
        scaled = values * np.float32(255)
        scaled += np.float32(0.5)
        target[...] = scaled
    return found


@dataclass(frozen=True)
class Contribution:
    """What one tile adds to one block.

    Parameters
    ----------
    tile
        The tile.
    window
        The part of the tile's owned pixels that lies in the block.
    cells
        By cell, ``[K, h, w]`` clipped to the window: ``uint8`` final values in cores (``float32``
        raw answers where they are views), ``float32`` raw answers in ramps. Empty where the tile is
        empty or failed.
    valid
        ``bool [h, w]`` of the window.
    failed
        The tile could not be read or computed.
    """

    tile: Tile
    window: Window
    cells: Mapping[Cell, AnyArray]
    valid: BoolArray
    failed: bool = False


def contribute(
    lattice: Lattice,
    tile: Tile,
    block: Window,
    answer: Float32Array | None,
    valid: BoolArray | None,
    *,
    views: bool = False,
) -> Contribution | None:
    """Cut a tile's answer to what a block needs of it.

    Parameters
    ----------
    answer
        ``float32 [K, H, W]`` of the whole tile; `None` for an empty or failed tile.
    valid
        ``bool`` of the tile inside the plane; `None` for a tile that could not be read.
    views
        Copy nothing: for a block that takes the part in while the answer is still there.
    """
    window = intersection(lattice.owned(tile), block)
    if window is None:
        return None
    seen = lattice.window(tile)
    shape = (window[1] - window[0], window[3] - window[2])
    cells: dict[Cell, AnyArray] = {}
    if answer is not None:
        for cell, part in _cells(lattice, tile, window):
            rows, columns = within(part, seen)
            values = answer[:, rows, columns]
            core = cell[0] % 2 == 0 and cell[1] % 2 == 0
            if views:
                cells[cell] = values
            else:  # a copy in any case: a view would keep the whole answer
                cells[cell] = quantise(values) if core else np.array(values, order="C")
    mask = np.zeros(shape, dtype=np.bool_) if valid is None else valid[within(window, seen)].copy()
    return Contribution(tile, window, cells, mask, failed=answer is None and valid is None)


def _cells(lattice: Lattice, tile: Tile, window: Window) -> Iterable[tuple[Cell, Window]]:
    for row in lattice.rows.intervals_of(tile.row):
        for column in lattice.columns.intervals_of(tile.column):
            whole = (*lattice.rows.interval(row), *lattice.columns.interval(column))
            part = intersection(whole, window)
            if part is not None:
                yield (row, column), part


@dataclass
class _Sum:
    """A cell that still waits for some of its tiles."""

    window: Window
    total: AnyArray  # int64 [K, h, w], in units of 2**-24 / 256**2
    waiting: int


@dataclass
class BlockBuffer:
    """Probabilities and coverage of one plane of a block while its tiles come in.

    Memory: ``K + 1`` bytes a pixel, and 8 K bytes for each pixel of an unfinished ramp.
    """

    lattice: Lattice
    window: Window
    probabilities: UInt8Array  # [K, h, w]
    coverage: UInt8Array  # [h, w]
    _sums: dict[Cell, _Sum] = field(default_factory=dict)
    _failed: dict[Tile, Window] = field(default_factory=dict)

    def add(self, part: Contribution) -> None:
        """Take in a tile's part, in any order, each tile once."""
        if part.failed:
            self._failed[part.tile] = part.window
            return
        self._failed.pop(part.tile, None)
        place = within(part.window, self.window)
        self.coverage[place] = np.where(part.valid, DONE, NODATA)
        for cell, window in _cells(self.lattice, part.tile, part.window):
            values = part.cells.get(cell)
            if cell[0] % 2 == 0 and cell[1] % 2 == 0:
                if values is not None:
                    rows, columns = within(window, self.window)
                    place_ = self.probabilities[:, rows, columns]
                    if values.dtype == np.uint8:
                        place_[...] = values
                    else:
                        quantise(values, place_)
            else:
                self._accumulate(cell, window, part.tile, values)

    def _accumulate(self, cell: Cell, window: Window, tile: Tile, values: AnyArray | None) -> None:
        state = self._sums.get(cell)
        if state is None:
            prompts = self.probabilities.shape[0]
            shape = (prompts, window[1] - window[0], window[3] - window[2])
            tiles = (1 + cell[0] % 2) * (1 + cell[1] % 2)
            state = self._sums[cell] = _Sum(window, np.zeros(shape, dtype=np.int64), tiles)
        if values is not None:
            rows, columns = self.lattice.rows, self.lattice.columns
            down = ramp_weights(rows, cell[0], tile.row)[_inside(rows, cell[0], window[:2])]
            across = ramp_weights(columns, cell[1], tile.column)
            across = across[_inside(columns, cell[1], window[2:])]
            weights = down[:, None] * across[None, :]
            for total, answer in zip(state.total, values, strict=True):
                fixed = np.rint(answer.astype(np.float64) * _FIXED).astype(np.int64)
                fixed *= weights
                total += fixed
        state.waiting -= 1
        if state.waiting == 0:
            del self._sums[cell]
            rows_, columns_ = within(window, self.window)
            one = _FIXED * _UNIT * _UNIT
            # Round half up in integers: 255 * total stays below 2**48.
            state.total *= 255
            state.total += one // 2
            state.total //= one
            self.probabilities[:, rows_, columns_] = state.total

    def finish(self) -> tuple[UInt8Array, UInt8Array]:
        """Probabilities and coverage: zero without data, failed where a tile is missing."""
        for window in self._failed.values():
            place = within(window, self.window)
            known_empty = self.coverage[place] == NODATA
            self.coverage[place] = np.where(known_empty, NODATA, FAILED)
        # Cells whose failed tile is empty here need no more answers; the others are FAILED above.
        answered = self.coverage == DONE
        if not answered.all():
            self.probabilities *= answered
        return self.probabilities, self.coverage

    @property
    def failed(self) -> tuple[Tile, ...]:
        return tuple(sorted(self._failed))

    def leftovers(self) -> dict[str, Any]:
        """What a retry of the failed tiles needs: unfinished sums, by cell."""
        return {
            f"{row},{column},{state.waiting}": state.total
            for (row, column), state in self._sums.items()
        }

    def restore(self, leftovers: Mapping[str, AnyArray]) -> None:
        """Inverse of `leftovers`."""
        for key, total in leftovers.items():
            row, column, waiting = (int(part) for part in key.split(","))
            whole = (*self.lattice.rows.interval(row), *self.lattice.columns.interval(column))
            window = intersection(whole, self.window)
            if window is None:
                raise ValueError(f"cell {row},{column} lies outside the block")
            self._sums[row, column] = _Sum(window, np.array(total, dtype=np.int64), waiting)


def _inside(axis: Axis, interval: int, span: tuple[int, int]) -> slice:
    start, _ = axis.interval(interval)
    return slice(span[0] - start, span[1] - start)
