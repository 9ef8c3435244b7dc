"""Clean-up of volumes, only when it is asked for: holes, specks, all but the largest piece."""

from __future__ import annotations

import tempfile

import numpy as np

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.lazy import Bounds, box
from digseg.raster import ClassTable
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, BoolArray, LabelArray, LazyArray

#: Labels of more bytes than this are kept in an unnamed temporary file while they are cleaned.
IN_MEMORY = 256 << 20
_SLAB = 16

_MM3_PER_ML = 1000.0


def wanted(settings: SegmentSettings) -> bool:
    """Whether any clean-up was asked for."""
    return settings.largest or settings.fill_holes or settings.minimum_ml > 0


def cleaned(
    labels: LazyArray, grid: Grid, classes: ClassTable, settings: SegmentSettings
) -> LabelArray:
    """A cleaned copy of labels ``[z, y, x]``.

    Each label by itself, in this order: cavities that are closed in three dimensions and hold
    nothing else are filled; pieces smaller than ``minimum_ml`` go; then all but the largest piece.
    Pieces are connected over voxel faces. Memory: one copy of the labels (in a temporary file
    above `IN_MEMORY` bytes) and about 6 bytes for each voxel of the box around the label at hand.

    Raises
    ------
    UsageError
        A minimum volume is asked for where the size of a voxel is unknown.
    """
    if settings.minimum_ml > 0 and grid.space != "patient":
        raise UsageError(
            "A minimum volume needs voxels of known size: this volume has none, "
            "so leave out --minimum-ml."
        )
    least = settings.minimum_ml * _MM3_PER_ML / grid.cell_size
    copy = _copied(labels)
    for entry in classes.entries:
        around = _bounds_of(copy, entry.id)
        if around is None:
            continue
        part = copy[tuple(slice(start, stop) for start, stop in around)]
        own = part == entry.id
        if settings.fill_holes:
            own = own | (_holes(own) & (part == 0))
        part[own] = entry.id
        if settings.largest or least > 0:
            part[own & ~_kept(own, least, largest=settings.largest)] = 0
    return copy


def _copied(labels: LazyArray) -> LabelArray:
    shape = tuple(int(side) for side in labels.shape)
    dtype = np.dtype(labels.dtype)
    copy: AnyArray
    if int(np.prod(shape)) * dtype.itemsize > IN_MEMORY:
        # The mapping keeps the unnamed file until the array is gone.
        with tempfile.TemporaryFile() as file:
            copy = np.memmap(file, dtype, "w+", shape=shape)
    else:
        copy = np.empty(shape, dtype)
    for start in range(0, shape[0], _SLAB):
        stop = min(shape[0], start + _SLAB)
        copy[start:stop] = box(labels, ((start, stop), (0, shape[1]), (0, shape[2])))
    return copy


def _bounds_of(labels: LabelArray, label: int) -> Bounds | None:
    """The smallest box around a label; `None` where it is absent."""
    low = list(labels.shape)
    high = [0] * labels.ndim
    for start in range(0, labels.shape[0], _SLAB):
        own = labels[start : start + _SLAB] == label
        if not own.any():
            continue
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            where = np.flatnonzero(own.any(axis=others)) + (start if axis == 0 else 0)
            low[axis] = min(low[axis], int(where[0]))
            high[axis] = max(high[axis], int(where[-1]) + 1)
    return None if high[0] == 0 else tuple(zip(low, high, strict=True))


def _holes(own: BoolArray) -> BoolArray:
    """Voxels outside that no way over faces leads to from the border of the box."""
    from scipy import ndimage

    pieces, count = ndimage.label(~own)
    outer = np.zeros(count + 1, dtype=np.bool_)
    for axis in range(3):
        for face in (0, -1):
            outer[np.unique(np.take(pieces, face, axis=axis))] = True
    outer[0] = True
    holes: BoolArray = ~outer[pieces]
    return holes


def _kept(own: BoolArray, least: float, *, largest: bool) -> BoolArray:
    """Pieces of at least ``least`` voxels, or the largest of them alone."""
    from scipy import ndimage

    pieces, count = ndimage.label(own)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    # A grain of tolerance: 1 ml of 0.1 mm3 voxels are 10,000 of them, not 10,000.000000001.
    keep = sizes >= least - 1e-6
    keep[0] = False
    if largest and keep.any():
        keep &= np.arange(count + 1) == np.argmax(np.where(keep, sizes, 0))
    kept: BoolArray = keep[pieces]
    return kept
