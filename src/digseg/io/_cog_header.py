"""What a label raster carries beside its labels, as GDAL writes it: place, colours, statistics."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.io._cog_layout import needs_big
from digseg.io._cog_tiles import Tiles
from digseg.io.gdal import environment
from digseg.raster import Mask, Raster, Volume

#: TIFF tag (in GDAL's metadata) that carries the class table, so that it survives without sidecar.
CLASSES_TAG = "DIGSEG_CLASSES"

_BLOCK = 512


def write_header(mask: Mask, path: Path, source: Raster | Volume | None, tiles: Tiles) -> None:
    """A file of GDAL's with all that a raster carries and not one tile."""
    import rasterio

    profile = profile_of(mask, source) | {
        "blockxsize": tiles.side,
        "blockysize": tiles.side,
        "sparse_ok": True,
        "endianness": "LITTLE",
        "bigtiff": "YES" if needs_big(tiles) else "NO",
    }
    with environment(), rasterio.open(path, "w", **profile) as target:
        if np.dtype(mask.labels.dtype).itemsize <= 2:
            target.write_colormap(1, colormap_of(mask))
        describe(mask, target, tiles.counts)


def profile_of(mask: Mask, source: Raster | Volume | None) -> dict[str, Any]:
    """How `rasterio.open` creates a tiled GeoTIFF for the labels."""
    from rasterio.rpc import RPC
    from rasterio.transform import Affine

    rows, columns = mask.grid.shape
    block = block_side(rows, columns)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "count": 1,
        "dtype": np.dtype(mask.labels.dtype).name,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "IF_SAFER",
        "nodata": mask.nodata,
    }
    if mask.grid.crs is not None:
        profile["crs"] = _crs(mask.grid.crs)
    rpcs = _extra(mask, source, "rpcs")
    if rpcs:
        profile["rpcs"] = RPC.from_gdal(rpcs)
    points = _extra(mask, source, "gcps")
    transform = Affine(*mask.grid.transform)
    # Tie points place a part of an image by its own rows and columns.
    placed = mask.grid.space != "pixel" or not (points or rpcs)
    if placed and not transform.is_identity:
        profile["transform"] = transform
    elif points:
        # A GeoTIFF holds a transform or ground control points, not both.
        profile["gcps"] = _points(points)
        crs = _extra(mask, source, "gcps_crs")
        profile["crs"] = _crs(crs) if crs else None
    return profile


def _crs(told: str) -> Any:
    """The CRS for a GeoTIFF: by its code where that says the same.

    From the WKT of a compound CRS, whose parts have no codes there, GDAL writes keys of another
    vertical datum, or none.
    """
    from rasterio.crs import CRS

    crs = CRS.from_user_input(told)
    code = crs.to_epsg()
    coded = None if code is None else CRS.from_epsg(code)
    return coded if coded is not None and coded == crs else crs


def block_side(rows: int, columns: int) -> int:
    """Side of a block: smaller for small masks, so that they are tiled, too."""
    block = _BLOCK
    while block > 16 and block >= min(rows, columns):
        block //= 2
    return block


def _extra(mask: Mask, source: Raster | Volume | None, key: str) -> Any:
    if key in mask.meta:
        return mask.meta[key]
    return source.meta.get(key) if source is not None else None


def _points(points: Any) -> list[Any]:
    from rasterio.control import GroundControlPoint

    return [GroundControlPoint(row, col, x, y, z) for row, col, x, y, z in points]


def describe(mask: Mask, target: Any, counts: NDArray[np.int64]) -> None:
    """Class table, statistics and a name for the band; ``counts`` are pixels by value."""
    target.update_tags(**{CLASSES_TAG: json.dumps(mask.classes.to_list())})
    target.update_tags(1, **_statistics(mask, counts))
    target.set_band_description(1, "labels")


def colormap_of(mask: Mask) -> dict[int, tuple[int, int, int, int]]:
    """Colour of each label; background lets through what lies below."""
    return {0: (0, 0, 0, 0)} | {entry.id: (*entry.color, 255) for entry in mask.classes.entries}


def _statistics(mask: Mask, counts: NDArray[np.int64]) -> dict[str, str]:
    """Statistics of the labels that are data, under the names that GDAL gives them."""
    counts = counts.copy()
    total = int(counts.sum())
    if mask.nodata is not None and mask.nodata < len(counts):
        counts[mask.nodata] = 0
    present = np.flatnonzero(counts)
    if not len(present):
        return {}
    valid = int(counts.sum())
    values = np.arange(len(counts), dtype=np.float64)
    mean = float((values * counts).sum() / valid)
    deviation = math.sqrt(max(0.0, float(((values - mean) ** 2 * counts).sum() / valid)))
    return {
        "STATISTICS_MINIMUM": str(int(present[0])),
        "STATISTICS_MAXIMUM": str(int(present[-1])),
        "STATISTICS_MEAN": repr(mean),
        "STATISTICS_STDDEV": repr(deviation),
        "STATISTICS_VALID_PERCENT": f"{100 * valid / total:.4g}",
    }
