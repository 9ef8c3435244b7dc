"""Labels as OME-Zarr 0.5: a pyramid by mode, with ``image-label`` colours and properties."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from digseg.grid import Grid
from digseg.io._lengths import length_name
from digseg.io.files import replacing
from digseg.lazy import Bounds, box
from digseg.raster import Mask, Raster, Volume
from digseg.types import AnyArray, LazyArray

#: Attribute with the exact grid, class table and nodata: OME-Zarr has no place for a CRS, a
#: rotation or the name of a label.
GRID_KEY = "digseg"

_CHUNK = 512  # rows and columns of a chunk
_DEPTH = 16  # planes of a chunk
_SMALLEST = 256  # no further level once both sides are this small


def refuse(mask: Mask, source: Raster | Volume | None) -> str | None:
    """Any labels fit."""
    return None


def write(mask: Mask, path: Path, *, source: Raster | Volume | None) -> list[Path]:
    """Write ``mask`` as OME-Zarr 0.5 labels, chunk by chunk, then a pyramid in y and x."""
    import zarr

    with replacing(path) as temporary:
        group = zarr.create_group(str(temporary), zarr_format=3)
        shapes = list(_levels(mask.grid.shape))
        finer: LazyArray = mask.labels
        for level, shape in enumerate(shapes):
            array = _create(group, level, shape, mask)
            _fill(array, finer if level == 0 else _Half(finer, shape))
            finer = array
        group.attrs.update(_attributes(mask, shapes))
    return [path]


def _levels(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    yield shape
    while max(shape[-2:]) > _SMALLEST:
        shape = (*shape[:-2], *(math.ceil(side / 2) for side in shape[-2:]))
        yield shape


def _create(group: Any, level: int, shape: tuple[int, ...], mask: Mask) -> Any:
    chunks = tuple(
        min(side, limit)
        for side, limit in zip(shape, (_DEPTH, _CHUNK, _CHUNK)[-len(shape) :], strict=True)
    )
    return group.create_array(
        str(level),
        shape=shape,
        chunks=chunks,
        dtype=np.dtype(mask.labels.dtype),
        fill_value=0,
        dimension_names=list(mask.grid.axes),
    )


def _fill(array: Any, source: LazyArray) -> None:
    for bounds in _blocks(array.shape, array.chunks):
        key = tuple(slice(start, stop) for start, stop in bounds)
        array[key] = box(source, bounds)


def _blocks(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[Bounds]:
    """Whole chunks, one after the other: no chunk is written twice."""
    counts = [math.ceil(side / chunk) for side, chunk in zip(shape, chunks, strict=True)]
    for index in np.ndindex(*counts):
        yield tuple(
            (i * chunk, min((i + 1) * chunk, side))
            for i, chunk, side in zip(index, chunks, shape, strict=True)
        )


class _Half:
    """Half the resolution in y and x, by the most frequent of four labels (the first of a tie)."""

    def __init__(self, finer: LazyArray, shape: tuple[int, ...]) -> None:
        self.finer, self.shape, self.dtype = finer, shape, np.dtype(finer.dtype)

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        *planes, rows, columns = key
        height, width = self.finer.shape[-2:]
        fine = np.asarray(
            self.finer[
                (
                    *planes,
                    slice(2 * rows.start, min(2 * rows.stop, height)),
                    slice(2 * columns.start, min(2 * columns.stop, width)),
                )
            ]
        )
        odd = [(0, 0)] * (fine.ndim - 2) + [(0, side % 2) for side in fine.shape[-2:]]
        return mode_of_four(np.pad(fine, odd, mode="edge"))


def mode_of_four(labels: AnyArray) -> AnyArray:
    """Most frequent label of each 2 x 2 square of the last two axes (even lengths)."""
    a, b = labels[..., ::2, ::2], labels[..., ::2, 1::2]
    c, d = labels[..., 1::2, ::2], labels[..., 1::2, 1::2]
    first = (a == b) | (a == c) | (a == d)
    second = (b == c) | (b == d)
    mode: AnyArray = np.where(first, a, np.where(second, b, np.where(c == d, c, a)))
    return mode


def _attributes(mask: Mask, shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    grid = mask.grid
    axes: list[dict[str, str]] = [{"name": name, "type": "space"} for name in grid.axes]
    unit = length_name(grid.unit)
    if unit is not None:
        axes = [{**axis, "unit": unit} for axis in axes]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": scale},
                {"type": "translation", "translation": translation},
            ],
        }
        for level, (scale, translation) in enumerate(_places(grid, shapes))
    ]
    entries = mask.classes.entries
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [{"name": "labels", "axes": axes, "datasets": datasets, "type": "mode"}],
            "image-label": {
                "colors": [{"label-value": e.id, "rgba": [*e.color, 255]} for e in entries],
                "properties": [
                    {"label-value": e.id, "name": e.name, "synonyms": list(e.synonyms)}
                    for e in entries
                ],
            },
        },
        GRID_KEY: {
            "affine": [list(row) for row in grid.affine],
            "space": grid.space,
            "crs": grid.crs,
            "unit": grid.unit,
            "nodata": mask.nodata,
            "classes": mask.classes.to_list(),
        },
    }


def _places(grid: Grid, shapes: list[tuple[int, ...]]) -> Iterator[tuple[list[float], list[float]]]:
    """Steps of each level, and where the centre of its first pixel lies."""
    # Steps without their direction: viewers expect positive ones. The exact affine is ours.
    steps, first = grid.spacing, _first_centre(grid)
    factors = [1] * grid.ndim
    finer = shapes[0]
    for shape in shapes:
        # Two pixels become one, the last of an odd number included, so this is no ratio of shapes.
        factors = [
            factor * (1 if side == before else 2)
            for factor, side, before in zip(factors, shape, finer, strict=True)
        ]
        finer = shape
        scale = [factor * step for factor, step in zip(factors, steps, strict=True)]
        middle = [(factor - 1) / 2 * step for factor, step in zip(factors, steps, strict=True)]
        yield scale, [start + shift for start, shift in zip(first, middle, strict=True)]


def _first_centre(grid: Grid) -> tuple[float, ...]:
    """Where the first pixel's centre lies, for places that OME-Zarr can hold; otherwise 0."""
    n = grid.ndim
    steps = np.diag(grid.matrix)[:n]
    straight = np.array_equal(grid.matrix[:n, :n], np.diag(steps)) and (steps > 0).all()
    if grid.space != "pixel" or not straight:
        return (0.0,) * n
    corner = grid.matrix[:n, n][::-1]
    if grid.unit == "pixel" and (steps == 1).all() and (corner % 1 == 0).all():
        # An image without a place, or a part of one: the first of its pixels is at 0.
        return tuple(map(float, corner))
    return tuple(map(float, grid.world((0,) * n)[::-1]))
