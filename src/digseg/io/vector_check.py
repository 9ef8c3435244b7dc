"""Proof that polygons lie on their image and say what its labels say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, InputNotFoundError, UnsupportedInputError
from digseg.grid import Grid
from digseg.io.area import PixelAreas
from digseg.io.difference import Difference, blocks_of, same_crs, short_crs
from digseg.io.files import suffix_of
from digseg.raster import Mask
from digseg.types import AnyArray

_JSON = (".geojson", ".json")
_PARQUET = (".parquet", ".geoparquet")
#: How far a corner may lie outside the image, in pixels: GeoJSON keeps nine decimals of degrees.
_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class _Layer:
    """Geometries, their CRS and the columns that matter."""

    crs: str | None
    shapes: AnyArray
    label: AnyArray
    prompt: AnyArray
    pixels: AnyArray


def compare_polygons(grid: Grid, path: str, labels: Mask | None = None) -> list[Difference]:
    """What differs between polygons and the image (and, where given, the labels) they were made of.

    Compared are the CRS (WGS 84 for GeoJSON, as RFC 7946 has it), whether all polygons lie on the
    image and are valid, and the names and the number of pixels of each label.

    Raises
    ------
    InputError
        The file can't be read, or holds something else.
    """
    import shapely

    layer, found = _read(path), []
    moved = suffix_of(path) in _JSON and grid.crs is not None and PixelAreas(grid).geod is not None
    expected = "EPSG:4326" if moved else grid.crs
    # GeoJSON can't say that it has no CRS.
    if not (suffix_of(path) in _JSON and grid.crs is None) and not same_crs(expected, layer.crs):
        found.append(Difference("the CRS", short_crs(expected), short_crs(layer.crs)))
        return found
    broken = int((~shapely.is_valid(layer.shapes)).sum())
    if broken:
        found.append(Difference("a polygon", "valid", f"broken ({broken} of them)"))
    away = _outside(layer.shapes, grid, from_wgs84=moved)
    if away > _TOLERANCE:
        text = f"{away:.3g} pixels outside of it"
        found.append(Difference("a polygon", "an image around it", text))
    return found + (_compare_labels(layer, labels) if labels is not None else [])


def _compare_labels(layer: _Layer, labels: Mask) -> list[Difference]:
    names = {int(i): str(name) for i, name in zip(layer.label, layer.prompt, strict=True)}
    known = labels.classes.names
    found = [
        Difference(f"the name of label {label}", known.get(label, "none"), name)
        for label, name in sorted(names.items())
        if known.get(label) != name
    ]
    counts, drawn = Counter[int](), Counter[int]()
    for block in blocks_of(labels.labels):
        if block.dtype.itemsize <= 2:  # counted without a sort
            pixels = np.bincount(block.ravel())
            ids = np.flatnonzero(pixels)
            pixels = pixels[ids]
        else:
            ids, pixels = np.unique(block, return_counts=True)
        counts.update(dict(zip(ids.tolist(), pixels.tolist(), strict=True)))
    for label, covered in zip(layer.label, layer.pixels, strict=True):
        drawn[int(label)] += int(covered)
    for label in sorted((counts.keys() | drawn.keys()) - {0, labels.nodata}):
        if counts[label] != drawn[label]:
            what = f"the number of pixels of label {label}"
            found.append(Difference(what, str(counts[label]), str(drawn[label])))
    return found


def _outside(shapes: AnyArray, grid: Grid, *, from_wgs84: bool) -> float:
    """How many pixels the farthest corner lies outside the image."""
    import shapely

    points = shapely.get_coordinates(shapes)
    if not len(points):
        return 0.0
    x, y = points[:, 0], points[:, 1]
    if from_wgs84:
        from pyproj import CRS, Transformer

        target = CRS.from_user_input(grid.crs)
        x, y = Transformer.from_crs("EPSG:4326", target, always_xy=True).transform(x, y)
        if target.is_geographic:  # beyond the antimeridian GeoJSON goes on at -180
            row, column = grid.shape
            middle = grid.world([row / 2, column / 2])[0]
            x = middle + (x - middle + 180.0) % 360.0 - 180.0
    rows, columns = grid.index(np.column_stack([x, y])).T
    apart = [-0.5 - rows, rows + 0.5 - grid.shape[0], -0.5 - columns, columns + 0.5 - grid.shape[1]]
    return float(max(values.max() for values in apart))


def _read(path: str) -> _Layer:
    if not Path(path).is_file():
        raise InputNotFoundError(f"There is no file {path}: check the path.")
    crs, shapes, columns = (_parquet if suffix_of(path) in _PARQUET else _ogr)(path)
    missing = [name for name in ("label", "prompt", "pixels") if name not in columns]
    if missing:
        raise UnsupportedInputError(
            f"{path} has no column {missing[0]!r}: these are no polygons of labels."
        )
    label, prompt, pixels = (columns[name] for name in ("label", "prompt", "pixels"))
    return _Layer(crs, shapes, np.asarray(label, np.int64), prompt, np.asarray(pixels, np.int64))


def _ogr(path: str) -> tuple[str | None, AnyArray, dict[str, AnyArray]]:
    import shapely
    from pyogrio import raw
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        meta, _, geometry, data = raw.read(path)
        shapes = shapely.from_wkb(geometry)
    except (DataSourceError, DataLayerError, shapely.errors.GEOSException) as error:
        raise CorruptInputError(f"{path} holds no readable polygons.") from error
    return meta["crs"], shapes, dict(zip(meta["fields"], data, strict=True))


def _parquet(path: str) -> tuple[str | None, AnyArray, dict[str, AnyArray]]:
    import shapely

    from digseg.io.vector import parquet_module

    pa, pq = parquet_module()
    try:
        table: Any = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"geo"])
        name = about["primary_column"]
        told = about["columns"][name].get("crs", "OGC:CRS84")
        shapes = shapely.from_wkb(table[name].to_numpy())
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise CorruptInputError(f"{path} holds no readable polygons.") from error
    columns = {key: table[key].to_numpy() for key in table.column_names if key != name}
    return None if told is None else json.dumps(told), shapes, columns
