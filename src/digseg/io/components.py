"""Connected regions of equal labels, found block by block and joined across the borders.

Neighbours share a side (4 of them in a raster, 6 in a volume), as in GDAL's polygons, so that
instances in a table and polygons in a file are the same things.

Everything is done on *runs*: stretches of equal pixels along a row (`digseg.io.runs`). Labels have
a hundred times fewer runs than pixels, so a block costs little more than being looked at once,
however many labels there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digseg.io.area import PixelAreas
from digseg.io.outlines import Corners
from digseg.io.runs import Runs, runs_of
from digseg.lazy import Bounds, box
from digseg.raster import Mask
from digseg.types import AnyArray, LazyArray

_BLOCK = 2048  # pixels of a raster's block side
_SLAB_VOXELS = 2**24  # voxels of a volume's slab of whole planes

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Regions:
    """What is known of each region; arrays of equal length, in the order of their first pixels.

    Parameters
    ----------
    label
        Label id.
    pixels
        Number of pixels or voxels.
    area
        m2 of ground; NaN where the grid has no CRS, and for volumes.
    probability
        Mean probability of the region's own prompt, 0 to 1; NaN where none were given.
    first
        Flat index of the first pixel in row-major order: it tells regions apart for good.
    valid_pixels
        Pixels that are not nodata, in the whole mask.
    """

    label: Int64Array
    pixels: Int64Array
    area: NDArray[np.float64]
    probability: NDArray[np.float64]
    first: Int64Array
    valid_pixels: int


def regions_of(mask: Mask, probabilities: LazyArray | None = None) -> Regions:
    """Find all regions.

    Parameters
    ----------
    mask
        Labels ``[y, x]`` or ``[z, y, x]``, read block by block, each once.
    probabilities
        ``uint8 [prompt, (z,) y, x]``, probability x 255, in the order of the label ids.
    """
    work = _Work(mask, probabilities)
    for bounds in blocks(mask.grid.shape):
        work.add(bounds)
    return work.joined()[0]


def outlined(
    mask: Mask, probabilities: LazyArray | None = None, *, nodes: bool = False
) -> tuple[Regions, AnyArray]:
    """The regions of a raster, and their polygons in pixel coordinates (column, row).

    In one pass over the blocks, as `regions_of`; polygons are valid and keep their holes. With
    ``nodes`` neighbours have the same points along the border that they share.
    """
    corners = Corners(mask.grid.shape)
    work = _Work(mask, probabilities, corners)
    for bounds in blocks(mask.grid.shape):
        work.add(bounds)
    regions, index = work.joined()
    return regions, corners.polygons(index, len(regions.label), nodes=nodes)


def blocks(shape: tuple[int, ...]) -> Iterator[Bounds]:
    """Blocks of a raster row by row; slabs of whole planes of a volume."""
    if len(shape) == 3:
        deep = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
        for z in range(0, shape[0], deep):
            yield (z, min(z + deep, shape[0])), (0, shape[1]), (0, shape[2])
        return
    for top in range(0, shape[0], _BLOCK):
        for left in range(0, shape[1], _BLOCK):
            yield (
                (top, min(top + _BLOCK, shape[0])),
                (left, min(left + _BLOCK, shape[1])),
            )


class _Work:
    """Regions of the blocks seen so far, and which of them touch."""

    def __init__(
        self, mask: Mask, probabilities: LazyArray | None, corners: Corners | None = None
    ) -> None:
        self.mask = mask
        self.corners = corners
        self.probabilities = probabilities
        areas = PixelAreas(mask.grid)
        self.areas = areas if mask.grid.ndim == 2 and areas.known else None
        self.count = 0
        self.valid = 0
        self.parts: list[tuple[AnyArray, ...]] = []
        self.edges: list[AnyArray] = []
        # Last rows of the blocks above (the whole width), the last column of the block before and
        # the pixel above it; for volumes, the last plane of the slab before. Labels and region
        # numbers side by side.
        shape = mask.grid.shape
        self.above: AnyArray | None = None
        self.row: AnyArray = np.zeros((2, shape[-1]), dtype=np.int64)
        self.before: AnyArray = np.zeros((2, 0), dtype=np.int64)
        self.corner: AnyArray = np.zeros(2, dtype=np.int64)

    def add(self, bounds: Bounds) -> None:
        """Find the regions of one block and join them to those of its neighbours."""
        labels = box(self.mask.labels, bounds)
        runs = runs_of(labels, self.mask.nodata)
        self.valid += int(runs.lengths[runs.valid].sum())
        if runs.regions:
            self._measure(bounds, runs)
        self._join(bounds, runs)
        self.count += runs.regions

    def _measure(self, bounds: Bounds, runs: Runs) -> None:
        own = runs.number > 0
        number, start, stop = runs.number[own], runs.start[own], runs.stop[own]
        size = runs.regions + 1
        # Assigned backwards, the earliest run of each region is written last and stays.
        first, label = np.zeros(size, np.int64), np.zeros(size, np.int64)
        first[number[::-1]] = start[::-1]
        label[number] = runs.label[own]
        where = np.unravel_index(first[1:], runs.shape)
        moved = tuple(index + begin for index, (begin, _) in zip(where, bounds, strict=True))
        place = np.ravel_multi_index(moved, self.mask.grid.shape)

        def summed(values: AnyArray) -> AnyArray:
            return np.bincount(number, weights=values, minlength=size)[1:]

        area = np.full(runs.regions, np.nan)
        if self.areas is not None:
            (top, bottom), (left, right) = bounds
            row, column = np.divmod(start, right - left)
            ground = self.areas.window_sums((top, bottom, left, right))
            area = summed(ground(row, column, column + (stop - start)))
        total = np.full(runs.regions, np.nan)
        if self.probabilities is not None:
            total = summed(self._probability(bounds, runs.label[own], start, stop)) / 255.0
        self.parts.append((label[1:], summed(stop - start), area, total, place))

    def _probability(
        self, bounds: Bounds, label: AnyArray, start: AnyArray, stop: AnyArray
    ) -> AnyArray:
        """Sum of the own prompt's stored probabilities over each run; whole numbers."""
        assert self.probabilities is not None  # narrows the type; the caller has looked
        total = np.zeros(len(label), np.int64)
        for value in np.unique(label):
            if value > self.probabilities.shape[0]:
                continue
            plane = box(self.probabilities, ((int(value) - 1, int(value)), *bounds))[0]
            own = label == value
            between = np.stack([start[own], stop[own]], axis=1).ravel()
            # The last run may end where the block does, so that takes one pixel more. Within a row
            # 32 bits hold 16 million times 255.
            padded = np.append(plane.ravel(), plane.dtype.type(0))
            total[own] = np.add.reduceat(padded, between, dtype=np.uint32)[::2]
        return total

    def _join(self, bounds: Bounds, runs: Runs) -> None:
        if len(bounds) == 3:
            if self.above is not None:
                self._touch(self.above, self._face(runs, 0, 0))
            self.above = self._face(runs, 0, -1)
            return
        (top, bottom), (left, right) = bounds
        if not left:
            self.before, self.corner = np.zeros((2, bottom - top), np.int64), np.zeros(2, np.int64)
        self._touch(self.row[:, left:right], self._face(runs, 0, 0))
        self._touch(self.before, self._face(runs, 1, 0))
        if self.corners is not None:
            labels, numbers = (self._framed(bounds, runs, part) for part in (0, 1))
            self.corners.add(top, left, labels, numbers)
        self.corner = self.row[:, right - 1].copy()
        self.row[:, left:right] = self._face(runs, 0, -1)
        self.before = self._face(runs, 1, -1)

    def _framed(self, bounds: Bounds, runs: Runs, part: int) -> AnyArray:
        """Labels (0) or region numbers (1) of a block with the pixels above and before it."""
        (top, bottom), (left, right) = bounds
        own = runs.number > 0
        values = (np.where(own, runs.label, 0), np.where(own, runs.number + self.count, 0))[part]
        ends = [
            int(stop == side) for (_, stop), side in zip(bounds, self.mask.grid.shape, strict=True)
        ]
        rows, columns = bottom - top, right - left
        framed = np.zeros((1 + rows + ends[0], 1 + columns + ends[1]), np.int32)
        framed[0, 0] = self.corner[part]
        framed[0, 1 : 1 + columns] = self.row[part, left:right]
        framed[1 : 1 + rows, 0] = self.before[part]
        block = np.repeat(values.astype(np.int32), runs.lengths).reshape(runs.shape)
        framed[1 : 1 + rows, 1 : 1 + columns] = block
        return framed

    def _face(self, runs: Runs, axis: int, index: int) -> AnyArray:
        """Labels and region numbers (counted over all blocks) of one side of a block."""
        found = runs.face(axis, index)
        label, number = runs.label[found], runs.number[found]
        return np.stack([np.where(number > 0, label, 0), number + self.count * (number > 0)])

    def _touch(self, a: AnyArray, b: AnyArray) -> None:
        same = (a[0] == b[0]) & (a[0] > 0)
        if same.any():
            self.edges.append(np.unique(np.stack([a[1][same], b[1][same]]), axis=1) - 1)

    def joined(self) -> tuple[Regions, Int64Array]:
        """Sum the parts of each region; also the index of the region of each number."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        if not self.count:
            none = np.zeros(0)
            whole = none.astype(np.int64)
            return Regions(whole, whole, none, none, whole, self.valid), np.zeros(1, np.int64)
        label, pixels, area, total, place = (
            np.concatenate(column) for column in zip(*self.parts, strict=True)
        )
        edges = np.concatenate(self.edges, axis=1) if self.edges else np.zeros((2, 0), np.int64)
        ones = np.ones(edges.shape[1], dtype=np.uint8)
        graph = coo_matrix((ones, (edges[0], edges[1])), shape=(self.count, self.count))
        number, root = connected_components(graph, directed=False)
        first = np.full(number, np.iinfo(np.int64).max)
        np.minimum.at(first, root, place)
        own = np.zeros(number, dtype=np.int64)
        own[root] = label
        size = np.bincount(root, weights=pixels, minlength=number).astype(np.int64)
        order = np.argsort(first)
        rank = np.empty(number, dtype=np.int64)
        rank[order] = np.arange(number)
        regions = Regions(
            own[order],
            size[order],
            np.bincount(root, weights=area, minlength=number)[order].astype(np.float64),
            (np.bincount(root, weights=total, minlength=number) / size)[order],
            first[order],
            self.valid,
        )
        return regions, np.append(-1, rank[root])
