"""Where pixels lie in the world. Level 1.

One convention for rasters and volumes: arrays are indexed slowest axis first, ``(y, x)`` or
``(z, y, x)``; the affine takes indices **fastest axis first**, ``(column, row)`` or
``(column, row, slice)``, to world ``(x, y)`` or ``(x, y, z)``. So the numbers of a GeoTIFF's
transform and of a NIfTI's affine are kept as they stand in the file, to the bit.

Pixel indices follow the format: for rasters the affine gives the *corner* of a pixel (GDAL), for
volumes the *centre* of a voxel (NIfTI). `Grid.world` always answers for centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Space = Literal["map", "patient", "pixel"]
Matrix = tuple[tuple[float, ...], ...]

_AXES = {2: ("y", "x"), 3: ("z", "y", "x")}


@dataclass(frozen=True)
class Grid:
    """Shape, affine and space of an array of pixels.

    Parameters
    ----------
    shape
        Spatial shape, ``(y, x)`` or ``(z, y, x)``.
    affine
        ``(n + 1) x (n + 1)`` rows of floats, index (fastest axis first) to world.
    space
        ``"map"`` (a CRS or at least a transform), ``"patient"`` (RAS+ millimetres) or
        ``"pixel"`` (nothing known: the identity).
    crs
        Coordinate reference system as WKT2 or ``AUTHORITY:CODE``; `None` where none is known.
    unit
        World unit of all axes: ``"metre"``, ``"degree"``, ``"millimetre"``, ``"pixel"`` ...

    Raises
    ------
    ValueError
        When shape and affine do not fit together or the affine is not finite.
    """

    shape: tuple[int, ...]
    affine: Matrix
    space: Space = "pixel"
    crs: str | None = None
    unit: str = "pixel"

    def __post_init__(self) -> None:
        n = len(self.shape)
        if n not in _AXES:
            raise ValueError(f"a grid has 2 or 3 axes, not {n}")
        if any(side < 1 for side in self.shape):
            raise ValueError(f"every axis of a grid has at least one pixel, not {self.shape}")
        if len(self.affine) != n + 1 or any(len(row) != n + 1 for row in self.affine):
            raise ValueError(f"the affine of a grid with {n} axes is {n + 1} x {n + 1}")
        if not all(math.isfinite(value) for row in self.affine for value in row):
            raise ValueError("the affine holds values that are not finite")

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        affine: ArrayLike | None = None,
        *,
        space: Space = "pixel",
        crs: str | None = None,
        unit: str = "pixel",
    ) -> Grid:
        """Build a grid from anything array-like; no affine means the identity."""
        n = len(shape)
        matrix = np.eye(n + 1) if affine is None else np.asarray(affine, dtype=np.float64)
        rows = tuple(tuple(float(value) for value in row) for row in matrix)
        return cls(tuple(int(side) for side in shape), rows, space, crs, unit)

    @classmethod
    def from_transform(
        cls,
        shape: tuple[int, int],
        transform: tuple[float, ...],
        *,
        crs: str | None = None,
        unit: str = "metre",
    ) -> Grid:
        """Build a map grid from the six numbers ``a, b, c, d, e, f`` of a raster's transform."""
        a, b, c, d, e, f = (float(value) for value in transform[:6])
        return cls(shape, ((a, b, c), (d, e, f), (0.0, 0.0, 1.0)), "map", crs, unit)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """Axis names in array order."""
        return _AXES[self.ndim]

    @property
    def matrix(self) -> NDArray[np.float64]:
        return np.array(self.affine, dtype=np.float64)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The six numbers of a raster's transform (2-D grids only)."""
        if self.ndim != 2:
            raise ValueError("only a grid with two axes has a raster transform")
        (a, b, c), (d, e, f), _ = self.affine
        return a, b, c, d, e, f

    @property
    def spacing(self) -> tuple[float, ...]:
        """World length of one step along each axis, in array order (slowest axis first)."""
        columns = self.matrix[: self.ndim, : self.ndim]
        return tuple(float(length) for length in np.linalg.norm(columns, axis=0)[::-1])

    @property
    def index_matrix(self) -> NDArray[np.float64]:
        """The affine for indices *and* world coordinates in array order (napari's order)."""
        n = self.ndim
        order = [*range(n - 1, -1, -1), n]
        matrix: NDArray[np.float64] = self.matrix[np.ix_(order, order)]
        return matrix

    @property
    def cell_size(self) -> float:
        """Area (2-D) or volume (3-D) of one pixel in world units."""
        return float(abs(np.linalg.det(self.matrix[: self.ndim, : self.ndim])))

    def crop(self, start: tuple[int, ...], shape: tuple[int, ...]) -> Grid:
        """Grid of the part that begins at index ``start`` (array order)."""
        return self._moved(shape, np.asarray(start, dtype=np.float64), np.ones(self.ndim))

    def scaled(self, shape: tuple[int, ...]) -> Grid:
        """Grid of the same ground with another number of pixels (an overview, say)."""
        factor = np.asarray(self.shape, dtype=np.float64) / np.asarray(shape, dtype=np.float64)
        # Corners stay where they are; voxel affines speak of centres, so those move by half a step.
        shift = (factor - 1) / 2 if self.space == "patient" else np.zeros(self.ndim)
        return self._moved(shape, shift, factor)

    def _moved(
        self, shape: tuple[int, ...], start: NDArray[np.float64], factor: NDArray[np.float64]
    ) -> Grid:
        n = self.ndim
        step = np.eye(n + 1)
        step[:n, :n] = np.diag(factor[::-1])
        step[:n, n] = start[::-1]
        moved = self.matrix @ step
        rows = tuple(tuple(float(value) for value in row) for row in moved)
        return replace(self, shape=tuple(int(side) for side in shape), affine=rows)

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World coordinates ``[..., n]`` (x first) of pixel centres ``[..., n]`` (array order)."""
        n = self.ndim
        half = 0.0 if self.space == "patient" else 0.5
        points = np.asarray(index, dtype=np.float64)[..., ::-1] + half
        matrix = self.matrix
        world: NDArray[np.float64] = points @ matrix[:n, :n].T + matrix[:n, n]
        return world

    def index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Fractional pixel index ``[..., n]`` (array order) of world points; whole at centres."""
        n = self.ndim
        half = 0.0 if self.space == "patient" else 0.5
        matrix = self.matrix
        offset = np.asarray(world, dtype=np.float64) - matrix[:n, n]
        points = np.linalg.solve(matrix[:n, :n], offset[..., None])[..., 0] - half
        index: NDArray[np.float64] = points[..., ::-1].astype(np.float64)
        return index

    def same_place(self, other: Grid) -> bool:
        """Whether shape and affine are equal to the bit and the space is the same."""
        return (
            self.shape == other.shape and self.affine == other.affine and self.space == other.space
        )
