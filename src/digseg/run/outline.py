"""A drawn shape in pixels of an image: pixels outside it are not asked for.

The model still sees what lies around the shape, so that an answer at its border is the one that
the whole image would give; only labels stop there. Written as WKT, which fits on a command line.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.lazy import Bounds, WindowArray, box
from digseg.orientation import Turn
from digseg.types import AnyArray, BoolArray, Float32Array, LazyArray, TileSource, Window

if TYPE_CHECKING:
    from digseg.raster import Raster, Volume

#: Key of ``meta`` under which an image keeps the outline that limits it.
OUTLINE = "outline"

Point = tuple[float, float]
Polygon = tuple[tuple[Point, ...], ...]

_WKT = re.compile(r"^\s*(?:(zy|zx|yx)\s*:)?\s*(MULTIPOLYGON|POLYGON)\s*(\(.*\))\s*$", re.I | re.S)
_PAIR = re.compile(r"[^\s(),]+(?:\s+[^\s(),]+)+")
_DECIMALS = 3  # thousandths of a pixel: what a hand can draw, and short to write


@dataclass(frozen=True)
class Outline:
    """Polygons over two axes of an image.

    A pixel is inside when its centre is; pixel ``i`` reaches from ``i`` to ``i + 1``, as in
    ``--region``, and its centre is ``i + 0.5``.

    Parameters
    ----------
    polygons
        Each a tuple of rings: the outer one and its holes; a ring is a tuple of points, along the
        two ``axes``. A pixel inside any of the polygons is inside.
    axes
        The two axes that are drawn on, in array order. A volume's third one is not limited.

    Raises
    ------
    UsageError
        A ring has fewer than three points, or a number is not finite.
    """

    polygons: tuple[Polygon, ...]
    axes: str = "yx"

    def __post_init__(self) -> None:
        rings = [ring for polygon in self.polygons for ring in polygon]
        if not rings or not all(self.polygons):
            raise UsageError("An outline needs at least one polygon.")
        if not all(math.isfinite(value) for ring in rings for point in ring for value in point):
            raise UsageError("An outline holds a number that is not finite.")
        rounded = tuple(
            tuple(_open(tuple((_rounded(a), _rounded(b)) for a, b in ring)) for ring in polygon)
            for polygon in self.polygons
        )
        if any(len(set(ring)) < 3 for polygon in rounded for ring in polygon):
            raise UsageError("A polygon of an outline needs at least three corners.")
        object.__setattr__(self, "polygons", rounded)

    @classmethod
    def parse(cls, text: str) -> Outline:
        """The outline of ``POLYGON ((x y, x y, ...))`` or ``MULTIPOLYGON``, in pixels.

        In WKT the faster axis comes first: column, then row. Before a polygon on other axes of a
        volume than its rows and columns these stand, in array order: ``zx: POLYGON (...)``.

        Raises
        ------
        UsageError
            The text is no such polygon.
        """
        match = _WKT.match(text)
        wrong = UsageError(
            f"{_short(text)!r} is no outline: write POLYGON ((column row, column row, ...)) in "
            "pixels, or the name of a GeoJSON file."
        )
        if match is None:
            raise wrong
        axes, kind, body = match.groups()
        as_json = _PAIR.sub(lambda pair: f"[{','.join(pair[0].split()[:2])}]", body)
        try:
            nested = json.loads(as_json.replace("(", "[").replace(")", "]"))
            found = nested if kind.upper() == "MULTIPOLYGON" else [nested]
            polygons = tuple(
                tuple(tuple((float(y), float(x)) for x, y in ring) for ring in polygon)
                for polygon in found
            )
        except (ValueError, TypeError) as error:
            raise wrong from error
        return cls(polygons, (axes or "yx").lower())

    def __str__(self) -> str:
        """The text that `parse` reads."""
        bodies = [
            "("
            + ", ".join(
                "(" + ", ".join(f"{x:.10g} {y:.10g}" for y, x in (*ring, ring[0])) + ")"
                for ring in polygon
            )
            + ")"
            for polygon in self.polygons
        ]
        prefix = "" if self.axes == "yx" else f"{self.axes}: "
        if len(bodies) == 1:
            return f"{prefix}POLYGON {bodies[0]}"
        return f"{prefix}MULTIPOLYGON ({', '.join(bodies)})"

    def bounds(self, shape: tuple[int, ...]) -> Bounds:
        """The smallest part of an image of ``shape`` that holds the outline.

        Raises
        ------
        UsageError
            It lies outside the image, or on an axis that the image does not have.
        """
        first, second = self._places(len(shape))
        points = np.array([p for polygon in self.polygons for ring in polygon for p in ring])
        bounds = [(0, side) for side in shape]
        for place, low, high in zip((first, second), points.min(0), points.max(0), strict=True):
            bounds[place] = (max(0, math.floor(low)), min(shape[place], math.ceil(high)))
        if any(stop <= start for start, stop in bounds):
            raise UsageError("The outline lies outside the image.")
        return tuple(bounds)

    def inside(self, bounds: Bounds) -> BoolArray:
        """Which pixels of a part of the image are inside: ``bool`` of the part's shape."""
        first, second = self._places(len(bounds))
        flat = np.zeros([bounds[axis][1] - bounds[axis][0] for axis in (first, second)], np.bool_)
        for polygon in self.polygons:
            odd = np.zeros_like(flat)
            for ring in polygon:
                odd ^= _odd(ring, bounds[first], bounds[second])
            flat |= odd
        shape = [1] * len(bounds)
        shape[first], shape[second] = flat.shape
        whole = tuple(stop - start for start, stop in bounds)
        return np.broadcast_to(flat.reshape(shape), whole).copy()

    def _places(self, ndim: int) -> tuple[int, int]:
        names = "zyx"[-ndim:]
        if any(axis not in names for axis in self.axes):
            raise UsageError(f"An image with the axes {names} has no outline on {self.axes}.")
        return names.index(self.axes[0]), names.index(self.axes[1])


def read_outline(text: str, grid: Grid) -> Outline:
    """The outline that a person named: WKT in pixels, or a GeoJSON file.

    Raises
    ------
    DigsegError
        It is neither, the file can't be read, or the image has no place on the earth.
    """
    if _WKT.match(text):
        return Outline.parse(text)
    if not text.lower().endswith((".geojson", ".json")):
        return Outline.parse(text)  # says what would do
    from digseg.io.polygons import read_polygons

    return Outline(read_polygons(Path(text), grid))


def outlined(
    source: TileSource, image: Raster | Volume, turn: Turn | None = None
) -> TileSource | OutlinedSource:
    """A source limited to the outline of its image; the source itself where there is none.

    Parameters
    ----------
    turn
        From a volume's voxel order to the planes of the source.
    """
    limit = image.meta.get(OUTLINE)
    if limit is None:
        return source
    outline, starts = limit
    return OutlinedSource(source, outline, starts, image.shape, turn)


@dataclass(frozen=True)
class OutlinedSource:
    """A `TileSource` in which what lies outside an outline is seen but not asked for.

    Parameters
    ----------
    starts, shape
        Where the image begins in the whole one, whose pixels the outline counts; its shape.
    """

    source: TileSource
    outline: Outline
    starts: tuple[int, ...]
    image_shape: tuple[int, ...]
    turn: Turn | None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.source.shape

    @property
    def identity(self) -> str:
        told = f"{self.source.identity}|{self.outline}|{self.starts}"
        return hashlib.sha256(told.encode()).hexdigest()

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """Pixels as the source gives them; valid only inside the outline."""
        pixels, valid = self.source.read(plane, window)
        top, bottom, left, right = window
        asked = box(self._planes(), ((plane, plane + 1), (top, bottom), (left, right)))[0]
        return pixels, valid & asked

    def _planes(self) -> LazyArray:
        """``bool [plane, y, x]`` of the source."""
        inside = WindowArray(self.image_shape, np.bool_, self._inside)
        if self.turn is not None:
            return self.turn.lazy(inside)
        return WindowArray(self.shape, np.bool_, lambda bounds: inside[_slices(bounds[1:])][None])

    def _inside(self, bounds: Bounds) -> AnyArray:
        return self.outline.inside(
            tuple(
                (start + low, start + high)
                for start, (low, high) in zip(self.starts, bounds, strict=True)
            )
        )


def _slices(bounds: Bounds) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in bounds)


def _odd(ring: tuple[Point, ...], rows: tuple[int, int], columns: tuple[int, int]) -> BoolArray:
    """Pixels whose centre has an odd number of the ring's edges to its left."""
    begin = np.array(ring)
    end = np.roll(begin, -1, axis=0)
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    changes = np.zeros((height, width + 1), np.int32)
    for (y0, x0), (y1, x1) in zip(begin, end, strict=True):
        if y0 == y1:
            continue
        low, high = sorted((y0, y1))
        # Rows with low <= centre < high: half-open, so that a corner is crossed once.
        first = max(rows[0], math.ceil(low - 0.5))
        last = min(rows[1], math.ceil(high - 0.5))
        if last <= first:
            continue
        line = np.arange(first, last)
        crossing = x0 + (line + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        column = np.clip(np.ceil(crossing - 0.5), columns[0], columns[1]).astype(np.int64)
        np.add.at(changes, (line - rows[0], column - columns[0]), 1)
    odd: BoolArray = (np.cumsum(changes[:, :width], axis=1) % 2).astype(np.bool_)
    return odd


def _open(ring: tuple[Point, ...]) -> tuple[Point, ...]:
    """A ring without its first point once more at the end."""
    return ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS) + 0.0  # no minus zero


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
