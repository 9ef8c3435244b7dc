"""How much ground a pixel covers: m2 on the ellipsoid, whatever the map does to it.

A pixel of a web map at 60 degrees north covers a quarter of the area that its coordinates
suggest. So areas are taken on the ellipsoid of the CRS: the pixel's side vectors are carried to
longitude and latitude, and ``dA = M N cos(lat) dlon dlat`` (M, N: the meridional and the normal
radius of curvature; Snyder 1987, eq. 4-18 to 4-21) gives square metres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.grid import Grid
from digseg.types import AnyArray, Window

Float64Array = NDArray[np.float64]

# Pixels are measured one by one at most this far apart (in degrees of arc) and interpolated
# between: the error of linear interpolation over 0.1 degree is below one part in a million.
_SPACING_DEGREES = 0.1
_SPACING_PIXELS = 128


@dataclass(frozen=True)
class PixelAreas:
    """Areas in m2 of the pixels of a map grid."""

    grid: Grid

    @property
    def known(self) -> bool:
        """Whether the grid says where on which body it lies."""
        return self.grid.ndim == 2 and self._crs is not None and self.grid.space == "map"

    @cached_property
    def _crs(self) -> Any:
        from pyproj import CRS
        from pyproj.exceptions import CRSError

        if self.grid.crs is None:
            return None
        try:
            return CRS.from_user_input(self.grid.crs)
        except CRSError:
            return None

    @cached_property
    def _geodetic(self) -> Any:
        """The CRS of longitude and latitude below this one; `None` for local systems."""
        return self._crs.geodetic_crs

    @cached_property
    def geod(self) -> Any:
        """The ellipsoid as `pyproj.Geod`; `None` for local systems."""
        return None if self._geodetic is None else self._geodetic.get_geod()

    @property
    def metres_per_unit(self) -> float:
        """Metres of one unit of a local or projected system."""
        axes = self._crs.axis_info
        return float(axes[0].unit_conversion_factor) if axes else 1.0

    def lonlat(self, x: Any, y: Any) -> tuple[Float64Array, Float64Array]:
        """World coordinates to longitude and latitude in degrees."""
        from pyproj import Transformer

        transformer = Transformer.from_crs(self._crs, self._geodetic, always_xy=True)
        lon, lat = transformer.transform(x, y)
        return np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)

    def window(self, window: Window) -> Float64Array:
        """Area of each pixel of a window: ``float64 [h, w]`` in m2 (NaN where undefined)."""
        down, across = self._factors(window)
        area: Float64Array = down @ across.T
        return area

    def window_sums(self, window: Window) -> Callable[[AnyArray, AnyArray, AnyArray], Float64Array]:
        """Areas of stretches of pixels within rows of a window, without a visit to each pixel.

        Returns
        -------
        A function of rows, first columns and columns behind the last (counted from the window's
        corner; arrays of one length) that gives m2.
        """
        down, across = self._factors(window)
        until = np.concatenate([np.zeros((1, across.shape[1])), np.cumsum(across, axis=0)])

        def sums(rows: AnyArray, starts: AnyArray, stops: AnyArray) -> Float64Array:
            total = np.zeros(len(rows))
            for knot in range(across.shape[1]):
                total += down[rows, knot] * (until[stops, knot] - until[starts, knot])
            return total

        return sums

    def _factors(self, window: Window) -> tuple[Float64Array, Float64Array]:
        """``[h, n]`` and ``[w, n]`` whose product is the area of each pixel."""
        top, bottom, left, right = window
        if self.geod is None:
            square = self.grid.cell_size * self.metres_per_unit**2
            return np.full((bottom - top, 1), square), np.ones((right - left, 1))
        rows = self._knots(top, bottom, along_rows=True)
        columns = self._knots(left, right, along_rows=False)
        knots = self._areas(*np.meshgrid(rows, columns, indexing="ij"))
        return _weights(np.arange(top, bottom), rows) @ knots, _weights(
            np.arange(left, right), columns
        )

    def _knots(self, start: int, stop: int, *, along_rows: bool) -> Float64Array:
        """Pixel indices at which areas are computed, both ends among them."""
        upright = self.grid.affine[0][1] == 0 and self.grid.affine[1][0] == 0
        if self._crs.is_geographic and upright and not along_rows:
            return np.array([float(start)])  # the area changes with latitude alone
        step = self._spacing
        count = max(2, math.ceil((stop - 1 - start) / step) + 1) if stop - start > 1 else 1
        return np.linspace(start, stop - 1, count)

    @cached_property
    def _spacing(self) -> float:
        """Knots in pixels: 0.1 degree of arc at most."""
        sides = self.grid.spacing
        if self._crs.is_geographic:
            degrees = max(sides)
        else:
            metres = max(sides) * self.metres_per_unit
            degrees = math.degrees(metres / self.geod.a)
        return min(_SPACING_PIXELS, max(1.0, _SPACING_DEGREES / degrees))

    def _areas(self, rows: Float64Array, columns: Float64Array) -> Float64Array:
        """Area of single pixels on the ellipsoid, by their side vectors through the centre."""
        (a, b, c), (d, e, f), _ = self.grid.affine
        middle_row, middle_column = rows + 0.5, columns + 0.5
        lon, lat = [], []
        # Middles of the left, right, upper and lower side.
        for shift_x, shift_y in ((-0.5, 0.0), (0.5, 0.0), (0.0, -0.5), (0.0, 0.5)):
            u, v = middle_column + shift_x, middle_row + shift_y
            east, north = self.lonlat(a * u + b * v + c, d * u + e * v + f)
            lon.append(east)
            lat.append(north)
        dlon_x, dlon_y = _turn(lon[1] - lon[0]), _turn(lon[3] - lon[2])
        dlat_x, dlat_y = lat[1] - lat[0], lat[3] - lat[2]
        square_degrees = np.abs(dlon_x * dlat_y - dlon_y * dlat_x)
        phi = np.radians((lat[0] + lat[1] + lat[2] + lat[3]) / 4)
        squashed = 1 - self.geod.es * np.sin(phi) ** 2
        radii = self.geod.a**2 * (1 - self.geod.es) / squashed**2  # M N
        area: Float64Array = radii * np.abs(np.cos(phi)) * square_degrees * math.radians(1) ** 2
        return area


def _turn(degrees: Float64Array) -> Float64Array:
    """Differences of longitude across the antimeridian are small ones, not nearly 360."""
    turned: Float64Array = (degrees + 180.0) % 360.0 - 180.0
    return turned


def _weights(at: NDArray[np.int64], knots: Float64Array) -> Float64Array:
    """Weights ``[len(at), len(knots)]`` of linear interpolation."""
    weights = np.zeros((len(at), len(knots)))
    if len(knots) == 1:
        weights[:, 0] = 1.0
        return weights
    place = np.interp(at, knots, np.arange(len(knots)))
    lower = np.minimum(place.astype(np.int64), len(knots) - 2)
    index = np.arange(len(at))
    weights[index, lower] = 1 - (place - lower)
    weights[index, lower + 1] = place - lower
    return weights
