"""Labels as polygons with their areas: GeoPackage, GeoJSON, GeoParquet.

Regions, their outlines and their attributes come from one pass over the labels, block by block
(`digseg.io.components`); no polygon is cut at the border of a block.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.errors import MissingExtraError, UsageError
from digseg.grid import Grid
from digseg.io.area import PixelAreas
from digseg.io.components import Regions, outlined
from digseg.io.files import refuse_existing, replacing, suffix_of
from digseg.io.gdal import said
from digseg.raster import Mask
from digseg.settings import parse_tolerance
from digseg.types import AnyArray, LazyArray

_HECTARE = 10_000.0
_PRECISION = 9  # decimals of degrees in GeoJSON: a tenth of a millimetre

Columns = dict[str, AnyArray]


def is_vector(path: str | os.PathLike[str]) -> bool:
    """Whether a file of this name holds polygons."""
    return suffix_of(os.fspath(path)) in _WRITERS


def check_suffix(path: str | Path) -> None:
    """Refuse a name that says no vector format.

    Raises
    ------
    UsageError
        It ends in none of those that are written.
    """
    if not is_vector(path):
        names = ", ".join(sorted(_WRITERS))
        raise UsageError(f"Polygons can't be written as {path}: use one of {names}.")


def check_grid(grid: Grid, path: str | Path) -> None:
    """Raise `UsageError` where there can be no polygons, or none in the format of this name."""
    if grid.ndim != 2:
        raise UsageError("Polygons are drawn around regions of a raster; a volume has none.")
    if suffix_of(str(path)) in (".geojson", ".json") and not _leads_to_wgs84(grid):
        raise UsageError(
            "GeoJSON is in longitude and latitude of the Earth (WGS 84), and the place of this "
            "image can't be told so: write .gpkg or .parquet."
        )


def _leads_to_wgs84(grid: Grid) -> bool:
    """Whether the corners of an image have a longitude and latitude on Earth."""
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    if grid.crs is None or PixelAreas(grid).geod is None:
        return True  # written in its own coordinates
    rows, columns = grid.shape
    corners = grid.world([(r, c) for r in (-0.5, rows - 0.5) for c in (-0.5, columns - 0.5)])
    try:
        transformer = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
        lon, lat = transformer.transform(corners[:, 0], corners[:, 1], errcheck=True)
    except ProjError:  # another planet, or outside of what the projection can show
        return False
    # Images across the antimeridian go on beyond 180 degrees.
    return bool((np.abs(lat) <= 90).all() and (np.abs(lon) <= 360).all())


def pixels_of(tolerance: str, grid: Grid) -> float:
    """A tolerance such as ``"2px"`` or ``"5m"`` in pixels; 0 for an empty one.

    Metres are on the ground: the pixel in the middle of the raster says how many there are.

    Raises
    ------
    UsageError
        It is in metres, and the grid says not where on Earth it lies.
    """
    if not tolerance:
        return 0.0
    size, unit = parse_tolerance(tolerance)
    if unit == "px":
        return size
    areas = PixelAreas(grid)
    if not areas.known:
        raise UsageError(
            f"A tolerance of {tolerance} needs to know the size of a pixel, but the image has no "
            "CRS: give it in pixels, such as 2px."
        )
    row, column = (side // 2 for side in grid.shape)
    (area,) = areas.window((row, row + 1, column, column + 1)).ravel()
    return size / math.sqrt(area)


def write_polygons(
    mask: Mask,
    path: str | Path,
    *,
    probabilities: LazyArray | None = None,
    simplify: float = 0.0,
    overwrite: bool = False,
) -> list[Path]:
    """Write one polygon for each region of equal labels whose pixels share sides.

    Columns: ``label`` (its id), ``prompt``, ``color``, ``pixels``, ``area_m2`` and ``area_ha`` (of
    its pixels, on the ellipsoid), ``perimeter_m`` (geodesic, with holes), ``mean_probability``.
    Unknown ones are null. Coordinates are in the mask's CRS; GeoJSON is in longitude and latitude
    of WGS 84, as RFC 7946 demands.

    Parameters
    ----------
    mask
        Labels ``[y, x]``.
    path
        ``.gpkg``, ``.geojson`` (or ``.json``), ``.parquet`` (or ``.geoparquet``).
    probabilities
        ``uint8 [prompt, y, x]``, probability x 255.
    simplify
        Tolerance in pixels (see `pixels_of`): the root of the area of the corners that go, as
        Visvalingam and Whyatt measure it. Neighbours keep sharing their borders, and areas stay
        those of the pixels.
    overwrite
        Replace what is there.

    Raises
    ------
    UsageError
        The name says no format, or the mask is a volume.
    """
    path = Path(path)
    check_suffix(path)
    check_grid(mask.grid, path)
    if simplify < 0:
        raise UsageError(f"The tolerance of simplification can't be {simplify}.")
    refuse_existing(path, overwrite=overwrite)
    shapes, columns = polygons(mask, probabilities=probabilities, simplify=simplify)
    with replacing(path) as temporary:
        _WRITERS[suffix_of(str(path))](shapes, columns, mask, temporary)
    return [path]


def polygons(
    mask: Mask, *, probabilities: LazyArray | None = None, simplify: float = 0.0
) -> tuple[AnyArray, Columns]:
    """Valid shapely polygons in world coordinates and their columns, in row-major order."""
    import shapely

    regions, shapes = outlined(mask, probabilities, nodes=simplify > 0)
    if simplify and len(shapes):
        shapes = shapely.coverage_simplify(shapes, simplify)
    (a, b, c), (d, e, f), _ = mask.grid.affine
    world = shapely.transform(
        shapes, lambda xy: np.column_stack([
            a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f
        ])
    )  # fmt: skip
    return world, _columns(mask, regions, world)


def _columns(mask: Mask, regions: Regions, shapes: AnyArray) -> Columns:
    names = mask.classes.names
    colors = {
        entry.id: "#{:02x}{:02x}{:02x}".format(*entry.color) for entry in mask.classes.entries
    }
    return {
        "label": regions.label.astype(np.int32),
        "prompt": np.array([names.get(int(i), f"label {i}") for i in regions.label], dtype=object),
        "color": np.array([colors.get(int(i), "#808080") for i in regions.label], dtype=object),
        "pixels": regions.pixels,
        "area_m2": regions.area,
        "area_ha": regions.area / _HECTARE,
        "perimeter_m": _perimeters(mask, shapes),
        "mean_probability": regions.probability,
    }


def _perimeters(mask: Mask, shapes: AnyArray) -> NDArray[np.float64]:
    """Length of all rings of each polygon in metres on the ellipsoid; NaN without a CRS."""
    import shapely

    areas = PixelAreas(mask.grid)
    if not areas.known or not len(shapes):
        return np.full(len(shapes), np.nan)
    if areas.geod is None:
        factor = PixelAreas(mask.grid).metres_per_unit
        lengths: NDArray[np.float64] = shapely.length(shapes) * factor
        return lengths
    rings, owner = shapely.get_rings(shapes, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    lon, lat = areas.lonlat(points[:, 0], points[:, 1])
    inside = ring[1:] == ring[:-1]
    _, _, steps = areas.geod.inv(
        lon[:-1][inside], lat[:-1][inside], lon[1:][inside], lat[1:][inside]
    )
    summed = np.bincount(owner[ring[1:][inside]], weights=steps, minlength=len(shapes))
    return summed.astype(np.float64)


def _write_ogr(shapes: AnyArray, columns: Columns, mask: Mask, path: Path, **options: Any) -> None:
    import shapely
    from pyogrio import raw
    from pyogrio.errors import DataSourceError, FieldError

    names = list(columns)
    masks = [np.isnan(v) if v.dtype.kind == "f" else None for v in columns.values()]
    try:
        with warnings.catch_warnings():
            # Said of outputs without a CRS: ours have none only where the image has none.
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
            raw.write(
                path,
                geometry=shapely.to_wkb(shapes),
                field_data=[columns[name] for name in names],
                fields=names,
                field_mask=masks,
                geometry_type="Polygon",
                crs=mask.grid.crs,
                layer="segments",
                **options,
            )
    except (DataSourceError, FieldError, RuntimeError) as error:
        # For `replacing`, which finds out why.
        raise OSError(f"GDAL says: {said(error)}") from error


def _write_gpkg(shapes: AnyArray, columns: Columns, mask: Mask, path: Path) -> None:
    _write_ogr(shapes, columns, mask, path, driver="GPKG")


def _write_geojson(shapes: AnyArray, columns: Columns, mask: Mask, path: Path) -> None:
    options: dict[str, Any] = {"COORDINATE_PRECISION": str(_PRECISION)}
    if mask.grid.crs is not None and PixelAreas(mask.grid).geod is not None:
        options["RFC7946"] = "YES"
    _write_ogr(shapes, columns, mask, path, driver="GeoJSON", **options)


def parquet_module() -> tuple[Any, Any]:
    """pyarrow and its Parquet; raises `MissingExtraError`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            "GeoParquet needs pyarrow: install napari-digseg[parquet], or write .gpkg."
        ) from error
    return pa, pq


def _write_parquet(shapes: AnyArray, columns: Columns, mask: Mask, path: Path) -> None:
    """GeoParquet 1.1: WKB geometry and the CRS as PROJJSON in the file's metadata."""
    import shapely
    from pyproj import CRS

    pa, pq = parquet_module()
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon"]}
    # An absent CRS would mean longitude and latitude; null says that it is not known.
    column["crs"] = CRS.from_user_input(mask.grid.crs).to_json_dict() if mask.grid.crs else None
    if len(shapes):
        column["bbox"] = [float(value) for value in shapely.total_bounds(shapes)]
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    data = {
        name: pa.array(values, mask=np.isnan(values) if values.dtype.kind == "f" else None)
        for name, values in columns.items()
    }
    data["geometry"] = pa.array(list(shapely.to_wkb(shapes)), type=pa.binary())
    table = pa.table(data).replace_schema_metadata({"geo": json.dumps(geo)})
    pq.write_table(table, path)


_WRITERS: dict[str, Callable[[AnyArray, Columns, Mask, Path], None]] = {
    ".gpkg": _write_gpkg,
    ".geojson": _write_geojson,
    ".json": _write_geojson,
    ".parquet": _write_parquet,
    ".geoparquet": _write_parquet,
}
