"""Runs: stretches of equal pixels along the last axis, and the regions that they form.

A block of labels is told completely by where its runs begin. Two runs belong to one region where
they have the same label and some pixel of one lies beside a pixel of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.types import AnyArray, BoolArray

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a block, in row-major order; together they cover it.

    Parameters
    ----------
    shape
        Of the block, ``[y, x]`` or ``[z, y, x]``.
    start, stop
        Flat indices of the first pixel of each run and of the one behind its last; a run lies in
        one row.
    label
        Its label.
    valid
        Whether it is data.
    number
        Its region, from 1; 0 for background and nodata.
    regions
        How many regions there are.
    """

    shape: tuple[int, ...]
    start: Int64Array
    stop: Int64Array
    label: Int64Array
    valid: BoolArray
    number: Int64Array
    regions: int

    @property
    def lengths(self) -> Int64Array:
        lengths: Int64Array = self.stop - self.start
        return lengths

    def at(self, flat: AnyArray) -> Int64Array:
        """The run that holds each pixel (flat index)."""
        found: Int64Array = np.searchsorted(self.start, flat, side="right") - 1
        return found

    def face(self, axis: int, index: int) -> Int64Array:
        """The run at each pixel of the first (0) or last (-1) slice across an axis."""
        strides = _strides(self.shape)
        offset = (self.shape[axis] - 1) * strides[axis] if index else 0
        places: Any = offset
        for other, side in enumerate(self.shape):
            if other != axis:
                places = np.add.outer(places, np.arange(side) * strides[other])
        return self.at(places)


def runs_of(labels: AnyArray, nodata: int | None = None) -> Runs:
    """Runs and regions of a block of labels ``[y, x]`` or ``[z, y, x]``; label 0 is background."""
    flat = np.ascontiguousarray(labels).ravel()
    starts = np.empty(flat.size, dtype=np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=starts[1:])
    starts[:: labels.shape[-1]] = True
    start = np.flatnonzero(starts)
    label = flat[start].astype(np.int64)
    valid = np.ones(len(start), np.bool_) if nodata is None else label != nodata
    number, regions = _numbered(labels.shape, start, label, valid & (label != 0))
    return Runs(labels.shape, start, np.append(start[1:], flat.size), label, valid, number, regions)


def _numbered(
    shape: tuple[int, ...], start: Int64Array, label: Int64Array, own: BoolArray
) -> tuple[Int64Array, int]:
    """Region of each run, 0 for those that are not ``own``, and the number of regions."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = [_beside(shape, start, axis) for axis in range(len(shape) - 1)]
    above, below = np.concatenate(pairs, axis=1)
    same = (label[above] == label[below]) & own[below]
    above, below = above[same], below[same]
    ones = np.ones(len(above), np.uint8)
    graph = coo_matrix((ones, (above, below)), shape=(len(start), len(start)))
    count, root = connected_components(graph, directed=False)
    known = np.zeros(count, np.int64)
    known[root[own]] = 1
    number = np.where(own, np.cumsum(known)[root], 0)
    return number, int(known.sum())


def _beside(shape: tuple[int, ...], start: Int64Array, axis: int) -> AnyArray:
    """Pairs of runs ``[2, n]`` with pixels beside one another across an axis (not the last).

    Along a pair of rows the pair of runs changes only where one of the two begins, so those
    pixels alone are looked at.
    """
    step = _strides(shape)[axis]
    within = start // step % shape[axis]
    index = np.arange(len(start))
    lower, upper = within > 0, within < shape[axis] - 1
    over = np.searchsorted(start, start[lower] - step, side="right") - 1
    under = np.searchsorted(start, start[upper] + step, side="right") - 1
    return np.concatenate([np.stack([over, index[lower]]), np.stack([index[upper], under])], axis=1)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Pixels from one slice across each axis to the next."""
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
