"""How much ground a pixel covers: m2 on the ellipsoid, whatever the map does to it.

A pixel of a web map at 60 degrees north covers a quarter of the area that its coordinates
suggest. So pixels are measured on the ellipsoid of the CRS: nine points of each (corners, middles
of the sides, centre) are carried there as geocentric coordinates, which know neither poles nor
an antimeridian, a surface of second degree is laid through them, and its area is taken at
the four nodes of Gauss and Legendre. Against geodesic polygons this is off by less than one part
in a million for pixels below half a degree.
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
# Where neighbours among the measured differ by more (the limb of a satellite's disc, a pole), all
# pixels between them are measured.
_SMOOTH = 1.05
_AT_ONCE = 2**15  # pixels measured together: 40 MB

# Weights of the values and of the slopes at the nodes of Gauss and Legendre, of a parabola
# through a pixel's near side, its middle and its far side.
_SIDES = np.array([0.0, 0.5, 1.0])
_NODES = np.array([[-0.5], [0.5]]) / math.sqrt(3)
_VALUES = np.hstack([2 * _NODES**2 - _NODES, 1 - 4 * _NODES**2, 2 * _NODES**2 + _NODES])
_SLOPES = np.hstack([4 * _NODES - 1, -8 * _NODES, 4 * _NODES + 1])
_ALONG, _DOWN = np.kron(_VALUES, _SLOPES), np.kron(_SLOPES, _VALUES)

# Pixels on the edge of what a projection shows are measured at so many places along each axis.
_PARTS = 4
_STEP = 1e-3  # of such a part: as far as one looks for its slope


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
        """The CRS of true longitude and latitude below this one; `None` for local systems."""
        below = self._crs.geodetic_crs
        # Those of a grid with a turned pole are no longitude and latitude of its ellipsoid.
        while below is not None and below.source_crs is not None:
            below = below.source_crs
        return below

    @cached_property
    def geod(self) -> Any:
        """The ellipsoid as `pyproj.Geod`; `None` for local systems."""
        return None if self._geodetic is None else self._geodetic.get_geod()

    @property
    def metres_per_unit(self) -> float:
        """Metres of one unit of a local or projected system."""
        axes = self._crs.axis_info
        return float(axes[0].unit_conversion_factor) if axes else 1.0

    @cached_property
    def _to_geodetic(self) -> Any:
        from pyproj import Transformer

        return Transformer.from_crs(self._crs, self._geodetic, always_xy=True)

    def lonlat(self, x: Any, y: Any) -> tuple[Float64Array, Float64Array]:
        """World coordinates to longitude and latitude in degrees; NaN where there are none.

        Longitudes count from the CRS's own meridian, which is not everywhere that of Greenwich.
        """
        place = np.asarray(self._to_geodetic.transform(x, y), dtype=np.float64)
        # Some count in grads. Degrees are kept as they are, to the bit.
        unit = math.degrees(self._geodetic.axis_info[0].unit_conversion_factor)
        if not math.isclose(unit, 1.0, rel_tol=1e-12):
            place *= unit
        lon, lat = np.where(np.isfinite(place).all(axis=0), place, np.nan)
        return lon, lat

    def window(self, window: Window) -> Float64Array:
        """Area of each pixel of a window: ``float64 [h, w]`` in m2.

        NaN where the projection shows nothing; a pixel on its edge has the area of the part
        that lies inside, to some percent.
        """
        found = self._measured(window)
        if not isinstance(found, tuple):
            return found
        down, across = found
        area: Float64Array = down @ across.T
        return area

    def window_sums(self, window: Window) -> Callable[[AnyArray, AnyArray, AnyArray], Float64Array]:
        """Areas of stretches of pixels within rows of a window, without a visit to each pixel.

        Returns
        -------
        A function of rows, first columns and columns behind the last (counted from the window's
        corner; arrays of one length) that gives m2. Pixels where the projection shows nothing
        add nothing.
        """
        found = self._measured(window)
        if not isinstance(found, tuple):
            running = np.zeros((found.shape[0], found.shape[1] + 1))
            np.nancumsum(found, axis=1, out=running[:, 1:])
            return lambda rows, starts, stops: running[rows, stops] - running[rows, starts]
        down, across = found
        until = np.concatenate([np.zeros((1, across.shape[1])), np.cumsum(across, axis=0)])

        def sums(rows: AnyArray, starts: AnyArray, stops: AnyArray) -> Float64Array:
            total = np.zeros(len(rows))
            for knot in range(across.shape[1]):
                total += down[rows, knot] * (until[stops, knot] - until[starts, knot])
            return total

        return sums

    def _measured(self, window: Window) -> tuple[Float64Array, Float64Array] | Float64Array:
        """``[h, n]`` and ``[w, n]`` whose product is the area of each pixel, or the areas."""
        top, bottom, left, right = window
        rows, columns = np.arange(top, bottom), np.arange(left, right)
        if self.geod is None:
            square = self.grid.cell_size * self.metres_per_unit**2
            return np.full((len(rows), 1), square), np.ones((len(columns), 1))
        upright = self.grid.affine[0][1] == 0 and self.grid.affine[1][0] == 0
        if self._crs.is_geographic and not self._crs.is_derived and upright:
            # The area changes with latitude alone.
            return self._areas(rows, columns[:1])[:, None], np.ones((len(columns), 1))
        at_rows, at_columns = self._knots(top, bottom), self._knots(left, right)
        knots = self._areas(at_rows[:, None], at_columns)
        if knots.shape == (len(rows), len(columns)):
            return knots
        above, before = _weights(rows, at_rows), _weights(columns, at_columns)
        inside, single = _sorted(knots)
        if inside.all() and not single.any():
            return above.matrix @ knots, before.matrix
        area: Float64Array = above.matrix @ np.nan_to_num(knots) @ before.matrix.T
        cells = np.ix_(above.lower, before.lower)
        area[~inside[cells]] = np.nan
        r, c = np.nonzero(single[cells])
        area[r, c] = self._areas(rows[r], columns[c])
        return area

    def _knots(self, start: int, stop: int) -> Float64Array:
        """Pixel indices at which areas are computed, both ends among them."""
        pixels, step = stop - start, self._spacing
        few = math.ceil((pixels - 1) / step) + 1
        return np.linspace(start, stop - 1, pixels if step < 2 else min(pixels, few))

    @cached_property
    def _spacing(self) -> float:
        """Knots in pixels: 0.1 degree of arc at most."""
        side = max(self.grid.spacing) * self.metres_per_unit
        degrees = math.degrees(side if self._crs.is_geographic else side / self.geod.a)
        return min(_SPACING_PIXELS, max(1.0, _SPACING_DEGREES / degrees))

    def _areas(self, rows: AnyArray, columns: AnyArray) -> Float64Array:
        """Area of single pixels on the ellipsoid; arrays of shapes that fit together."""
        rows, columns = np.broadcast_arrays(rows, columns)
        area = np.empty(rows.shape)
        flat = area.reshape(-1)
        for start in range(0, rows.size, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            flat[part] = self._patches(rows.flat[part], columns.flat[part])
        return area

    def _patches(self, rows: Float64Array, columns: Float64Array) -> Float64Array:
        points = self._points(
            columns[:, None] + np.tile(_SIDES, 3), rows[:, None] + np.repeat(_SIDES, 3)
        )
        partly = np.isfinite(points[..., 0])
        points -= points[:, 4:5]  # the centre: small numbers are exact ones
        area: Float64Array = _norm(np.cross(_ALONG @ points, _DOWN @ points)).mean(axis=1)
        edge = partly.any(axis=1) & ~partly.all(axis=1)
        if edge.any():
            area[edge] = self._inside(rows[edge], columns[edge])
        return area

    def _inside(self, rows: Float64Array, columns: Float64Array) -> Float64Array:
        """Area of what a projection shows of pixels on its edge: the mean of some places."""
        places = (np.arange(_PARTS) + 0.5) / _PARTS
        u = columns[:, None] + np.tile(places, _PARTS)
        v = rows[:, None] + np.repeat(places, _PARTS)
        step = _STEP / _PARTS
        along = self._points(u + step, v) - self._points(u - step, v)
        down = self._points(u, v + step) - self._points(u, v - step)
        area: Float64Array = np.nan_to_num(_norm(np.cross(along, down))).mean(axis=1)
        return area / (2 * step) ** 2

    def _points(self, u: Float64Array, v: Float64Array) -> Float64Array:
        """Geocentric coordinates ``[..., 3]`` in metres of columns ``u`` and rows ``v``."""
        (a, b, c), (d, e, f), _ = self.grid.affine
        lon, lat = self.lonlat(a * u + b * v + c, d * u + e * v + f)
        # Some grids of the globe have pixels half of which lie beyond the pole.
        lam, phi = np.radians(lon), np.radians(np.clip(lat, -90, 90))
        normal = self.geod.a / np.sqrt(1 - self.geod.es * np.sin(phi) ** 2)
        out = normal * np.cos(phi)
        up = normal * (1 - self.geod.es) * np.sin(phi)
        return np.stack([out * np.cos(lam), out * np.sin(lam), up], axis=-1)


def _norm(vectors: Float64Array) -> Float64Array:
    length: Float64Array = np.sqrt(np.einsum("...k,...k->...", vectors, vectors))
    return length


def _sorted(knots: Float64Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which cells between knots have ground, and of which each pixel has to be measured."""
    from scipy.ndimage import maximum_filter

    wide = np.pad(knots, [(0, int(side == 1)) for side in knots.shape], mode="edge")
    corners = np.stack([wide[:-1, :-1], wide[:-1, 1:], wide[1:, :-1], wide[1:, 1:]])
    # The edge of a disc may bulge into a cell whose corners are all outside.
    inside = maximum_filter(np.isfinite(corners).any(axis=0), size=3)
    even = corners.max(axis=0) <= _SMOOTH * corners.min(axis=0)  # never with NaN
    return inside, inside & ~even


@dataclass(frozen=True)
class _Weights:
    """Linear interpolation: weights ``[pixel, knot]`` and the knot before each pixel."""

    matrix: Float64Array
    lower: NDArray[np.int64]


def _weights(at: NDArray[np.int64], knots: Float64Array) -> _Weights:
    matrix = np.zeros((len(at), len(knots)))
    lower = np.zeros(len(at), dtype=np.int64)
    if len(knots) == 1:
        matrix[:, 0] = 1.0
        return _Weights(matrix, lower)
    place = np.interp(at, knots, np.arange(len(knots)))
    lower = np.minimum(place.astype(np.int64), len(knots) - 2)
    index = np.arange(len(at))
    matrix[index, lower] = 1 - (place - lower)
    matrix[index, lower + 1] = place - lower
    return _Weights(matrix, lower)
