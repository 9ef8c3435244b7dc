"""Connected regions of equal labels, found block by block and joined across the borders.

Neighbours share a side (4 of them in a raster, 6 in a volume), as in GDAL's polygons, so that
instances in a table and polygons in a file are the same things.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.io.area import PixelAreas
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
    return work.joined()


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

    def __init__(self, mask: Mask, probabilities: LazyArray | None) -> None:
        self.mask = mask
        self.probabilities = probabilities
        areas = PixelAreas(mask.grid)
        self.areas = areas if mask.grid.ndim == 2 and areas.known else None
        self.count = 0
        self.valid = 0
        self.parts: list[tuple[AnyArray, ...]] = []
        self.edges: list[AnyArray] = []
        # Last rows of the blocks above (the whole width) and the last column of the block before;
        # for volumes, the last plane of the slab before. Labels and region numbers side by side.
        shape = mask.grid.shape
        self.above: AnyArray | None = None
        self.row: AnyArray = np.zeros((2, shape[-1]), dtype=np.int64)
        self.before: AnyArray | None = None

    def add(self, bounds: Bounds) -> None:
        """Find the regions of one block and join them to those of its neighbours."""
        labels = box(self.mask.labels, bounds)
        if self.mask.nodata is not None:
            missing = labels == self.mask.nodata
            self.valid += int(labels.size - np.count_nonzero(missing))
            labels = np.where(missing, 0, labels)
        else:
            self.valid += labels.size
        numbers, label = _number(labels)
        if len(label):
            self._measure(bounds, numbers, label)
        numbers = np.where(numbers > 0, numbers + self.count, 0)
        self._join(bounds, labels, numbers)
        self.count += len(label)

    def _measure(self, bounds: Bounds, numbers: AnyArray, label: AnyArray) -> None:
        flat, size = numbers.ravel(), len(label) + 1
        pixels = np.bincount(flat, minlength=size)[1:]
        # Assigned backwards, the earliest pixel of each region is written last and stays.
        first = np.zeros(size, dtype=np.int64)
        first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
        where = np.unravel_index(first[1:], numbers.shape)
        moved = tuple(index + start for index, (start, _) in zip(where, bounds, strict=True))
        place = np.ravel_multi_index(moved, self.mask.grid.shape)
        area = np.full(len(label), np.nan)
        if self.areas is not None:
            (top, bottom), (left, right) = bounds
            ground = self.areas.window((top, bottom, left, right))
            area = np.bincount(flat, weights=ground.ravel(), minlength=size)[1:]
        total = np.full(len(label), np.nan)
        if self.probabilities is not None:
            total = self._probability(bounds, numbers, label)
        self.parts.append((label, pixels, area, total, place))

    def _probability(self, bounds: Bounds, numbers: AnyArray, label: AnyArray) -> AnyArray:
        """Sum of each region's own probabilities."""
        assert self.probabilities is not None  # narrows the type; the caller has looked
        total = np.zeros(len(label) + 1)
        for value in np.unique(label):
            if value > self.probabilities.shape[0]:
                continue
            plane = box(self.probabilities, ((int(value) - 1, int(value)), *bounds))[0]
            own = np.concatenate([[False], label == value])
            sums = np.bincount(numbers.ravel(), weights=plane.ravel(), minlength=len(own))
            total[own] = sums[own]
        return total[1:] / 255.0

    def _join(self, bounds: Bounds, labels: AnyArray, numbers: AnyArray) -> None:
        both = np.stack([labels.astype(np.int64), numbers.astype(np.int64)])
        if len(bounds) == 3:
            if self.above is not None:
                self._touch(self.above, both[:, 0])
            self.above = both[:, -1]
            return
        (top, _), (left, right) = bounds
        if top:
            self._touch(self.row[:, left:right], both[:, 0])
        if left and self.before is not None:
            self._touch(self.before, both[:, :, 0])
        self.row[:, left:right] = both[:, -1]
        self.before = both[:, :, -1]

    def _touch(self, a: AnyArray, b: AnyArray) -> None:
        same = (a[0] == b[0]) & (a[0] > 0)
        if same.any():
            self.edges.append(np.unique(np.stack([a[1][same], b[1][same]]), axis=1) - 1)

    def joined(self) -> Regions:
        """Sum the parts of each region."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        if not self.count:
            none = np.zeros(0)
            whole = none.astype(np.int64)
            return Regions(whole, whole, none, none, whole, self.valid)
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
        return Regions(
            own[order],
            size[order],
            np.bincount(root, weights=area, minlength=number)[order].astype(np.float64),
            (np.bincount(root, weights=total, minlength=number) / size)[order],
            first[order],
            self.valid,
        )


def _number(labels: AnyArray) -> tuple[AnyArray, Int64Array]:
    """Number the regions of one block from 1; the label of each."""
    from scipy import ndimage

    numbers = np.zeros(labels.shape, dtype=np.int32)
    owners: list[Any] = []
    for value in np.unique(labels):
        if value == 0:
            continue
        found, count = ndimage.label(labels == value)
        numbers[found > 0] = found[found > 0] + sum(len(part) for part in owners)
        owners.append(np.full(count, value, dtype=np.int64))
    return numbers, np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64)
