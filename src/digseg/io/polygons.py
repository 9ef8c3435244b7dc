"""Polygons of a GeoJSON file in the pixels of an image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import InputNotFoundError, UnsupportedInputError, UsageError
from digseg.grid import Grid

_LONLAT = "OGC:CRS84"

Ring = tuple[tuple[float, float], ...]


def read_polygons(path: Path, grid: Grid) -> tuple[tuple[Ring, ...], ...]:
    """All polygons of a GeoJSON file: rings of ``(row, column)``, pixel 0 from 0 to 1.

    Parameters
    ----------
    path
        Longitude and latitude of WGS 84, as RFC 7946 has it, or the file's own older ``"crs"``.
    grid
        A map with a CRS. Corners are moved to it, edges between them stay straight.

    Raises
    ------
    InputNotFoundError, UnsupportedInputError, UsageError
        There is no such file; it is no GeoJSON; it holds no polygon, or the image has no CRS.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputNotFoundError(f"There is no outline at {path}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UnsupportedInputError(f"{path} is no GeoJSON: {error}.") from error
    if grid.space != "map" or grid.crs is None:
        raise UsageError(
            "An outline in longitude and latitude needs an image with a CRS: "
            "write the polygon in pixels."
        )
    try:
        rings = [list(polygon) for polygon in _polygons(found)]
        moved = tuple(tuple(_moved(ring, found, grid) for ring in polygon) for polygon in rings)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UnsupportedInputError(f"{path} is no GeoJSON of polygons: {error}.") from error
    if not moved:
        raise UsageError(f"{path} holds no polygon.")
    return moved


def _polygons(thing: Any) -> Iterator[Any]:
    kind = thing["type"]
    if kind == "FeatureCollection":
        for feature in thing["features"]:
            yield from _polygons(feature)
    elif kind == "Feature":
        if thing["geometry"] is not None:
            yield from _polygons(thing["geometry"])
    elif kind == "GeometryCollection":
        for geometry in thing["geometries"]:
            yield from _polygons(geometry)
    elif kind == "Polygon":
        yield thing["coordinates"]
    elif kind == "MultiPolygon":
        yield from thing["coordinates"]


def _moved(ring: Any, document: dict[str, Any], grid: Grid) -> Ring:
    from pyproj import Transformer

    points = np.array([[float(x), float(y)] for x, y, *_ in ring])
    named = document.get("crs")
    crs = named["properties"]["name"] if named else _LONLAT
    transformer = Transformer.from_crs(crs, grid.crs, always_xy=True)
    x, y = transformer.transform(points[:, 0], points[:, 1])
    # `Grid.index` is whole at centres, an outline at corners.
    pixels = grid.index(np.stack([x, y], axis=-1)) + 0.5
    if not np.isfinite(pixels).all():
        raise ValueError("a corner lies where the image's CRS has no coordinates")
    return tuple((float(row), float(column)) for row, column in pixels)
