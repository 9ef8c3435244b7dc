"""What a volume's labels measure in the patient: extents in mm, mean value (HU in a CT)."""

from __future__ import annotations

from typing import Any

import numpy as np

from digseg.lazy import box
from digseg.orientation import canonical
from digseg.raster import Mask, Raster, Volume
from digseg.types import LazyArray

_SLAB = 16
#: Canonical axes in array order, as rows name them.
_EXTENTS = ("extent_head_foot_mm", "extent_front_back_mm", "extent_left_right_mm")


def rows_of(
    mask: Mask, image: Raster | Volume | None, probabilities: LazyArray | None = None
) -> list[dict[str, Any]]:
    """The table of `digseg.io.statistics`, with the measures of a volume's labels."""
    from digseg.io import statistics

    rows: list[dict[str, Any]] = statistics.table(mask, probabilities=probabilities, image=image)
    if isinstance(image, Volume):
        for row, more in zip(rows, measure(image, mask), strict=True):
            row.update(more)
    return rows


def measure(volume: Volume, mask: Mask) -> list[dict[str, Any]]:
    """Measures of each label, in the order of the class table; one pass, slab by slab.

    Returns
    -------
    ``mean_value`` and ``std_value`` (in the image's unit: HU for a CT) and ``value_unit``, then
    the sides of the smallest upright box in mm, `None` where the label is absent or the volume is
    in no patient space.
    """
    turn = canonical(volume.grid)
    voxels, labels = turn.lazy(volume.data), turn.lazy(mask.labels)
    planes, rows, columns = (int(side) for side in labels.shape)
    ids = [entry.id for entry in mask.classes.entries]
    most = max(ids, default=0) + 1
    sums = np.zeros((3, most))  # voxels, sum, sum of squares
    low, high = np.full((3, most), np.iinfo(np.int64).max), np.full((3, most), -1)
    for start in range(0, planes, _SLAB):
        bounds = ((start, min(planes, start + _SLAB)), (0, rows), (0, columns))
        found = box(labels, bounds)
        inside = (found > 0) & (found < most)
        if not inside.any():
            continue
        own = found[inside].astype(np.int64)
        values = box(voxels, bounds)[inside].astype(np.float64)
        known = np.isfinite(values)
        for index, weights in enumerate((None, values[known], values[known] ** 2)):
            sums[index] += np.bincount(own[known], weights, minlength=most)
        for axis, where in enumerate(np.nonzero(inside)):
            where = where + (start if axis == 0 else 0)
            np.minimum.at(low[axis], own, where)
            np.maximum.at(high[axis], own, where)
    spacing = turn.grid(volume.grid).spacing
    known_place = volume.grid.space == "patient"
    return [_row(volume, sums[:, i], low[:, i], high[:, i], spacing, known_place) for i in ids]


def _row(
    volume: Volume, sums: Any, low: Any, high: Any, spacing: tuple[float, ...], known: bool
) -> dict[str, Any]:
    count = sums[0]
    mean = float(sums[1] / count) if count else None
    spread = float(np.sqrt(max(0.0, sums[2] / count - mean**2))) if mean is not None else None
    row: dict[str, Any] = {
        "mean_value": mean,
        "std_value": spread,
        "value_unit": "HU" if volume.modality == "CT" else None,
    }
    for axis, name in enumerate(_EXTENTS):
        there = known and high[axis] >= 0
        row[name] = float((high[axis] - low[axis] + 1) * spacing[axis]) if there else None
    return row
