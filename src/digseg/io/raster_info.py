"""What `info` says of a raster, and the look at its pixels that finds damage."""

from __future__ import annotations

import math
import time as clock
from typing import Any

import numpy as np

from digseg.io.files import is_remote
from digseg.io.gdal import is_georeferenced
from digseg.raster import Raster

_PROBE_BYTES = 64 * 2**20  # decoded by `info` to find damage
_PROBE_SECONDS = 2.0
_PROBE_BLOCKS = 32
_SEQUENTIAL = ("PNG", "JPEG", "GIF")


def pages_of(dataset: Any) -> int:
    """How many images of their own a TIFF holds, overviews and masks left out; 1 for the others."""
    pages = [name for name in dataset.subdatasets if name.startswith("GTIFF_DIR:")]
    return max(1, len(pages))


def raster_facts(dataset: Any, raster: Raster) -> dict[str, Any]:
    """Facts of an open dataset, JSON-ready; see ``docs/formats.md``."""
    points, points_crs = dataset.gcps
    crs = dataset.crs
    tags = dataset.tags()
    return {
        "kind": "raster",
        "format": str(dataset.driver),
        "shape": [raster.bands, *raster.shape],
        "dtype": str(raster.data.dtype),
        "crs_epsg": crs.to_epsg() if crs else None,
        "crs": crs.to_wkt() if crs else None,
        "transform": list(raster.grid.transform) if is_georeferenced(dataset) else None,
        "nodata": json_number(dataset.nodatavals[0]),
        "overviews": [int(factor) for factor in dataset.overviews(1)],
        "gcps": len(points),
        "rpcs": dataset.rpcs is not None,
        "gcps_crs_epsg": points_crs.to_epsg() if points and points_crs else None,
        "dtypes": list(dataset.dtypes),
        "nodata_per_band": [json_number(value) for value in dataset.nodatavals],
        "bands": list(raster.band_names),
        "colors": list(raster.meta["colors"]),
        "palette": "palette" in raster.meta,
        "mask": raster.valid is not None,
        "compression": _compression(dataset),
        "block": list(dataset.block_shapes[0]),
        "unit": raster.grid.unit,
        "pixel_is": tags.get("AREA_OR_POINT"),
        "pages": pages_of(dataset),
        "subdatasets": list(dataset.subdatasets),
    }


def _compression(dataset: Any) -> str | None:
    found = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION")
    return "JPEG" if found == "YCbCr JPEG" else found


def json_number(value: float | None) -> float | int | str | None:
    """A number for JSON, which has no NaN and no infinities: those become strings."""
    if value is None:
        return None
    if not math.isfinite(value):
        return str(float(value))
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)


def probe_pixels(path: str, dataset: Any) -> None:
    """Decode all pixels of a small raster, a spread sample of a large one, within two seconds.

    Raises
    ------
    CorruptInputError
        Some of them can't be decoded.
    """
    if is_remote(path):
        return
    from rasterio.windows import Window

    rows, columns = dataset.block_shapes[0]
    rows, columns = min(rows, dataset.height), min(columns, dataset.width)
    item = max(np.dtype(name).itemsize for name in dataset.dtypes) * dataset.count
    # Strips of one row are read many at a time.
    rows = min(dataset.height, max(rows, rows * (2**20 // max(1, rows * columns * item))))
    if rows * columns * item > _PROBE_BYTES:
        return
    if dataset.driver in _SEQUENTIAL and dataset.width * dataset.height * item > _PROBE_BYTES:
        return  # a late row costs all rows before it; those are checked as they are read
    down, across = -(-dataset.height // rows), -(-dataset.width // columns)
    total = down * across
    if total * rows * columns * item > _PROBE_BYTES:
        chosen = sorted(
            {round(i * (total - 1) / (_PROBE_BLOCKS - 1)) for i in range(_PROBE_BLOCKS)}
        )
    else:
        chosen = list(range(total))
    end = clock.monotonic() + _PROBE_SECONDS
    masked = _has_mask(dataset)
    for number in chosen:
        top, left = number // across * rows, number % across * columns
        height, width = min(rows, dataset.height - top), min(columns, dataset.width - left)
        dataset.read(window=Window(left, top, width, height))
        if masked:
            dataset.dataset_mask(window=Window(left, top, width, height))
        if clock.monotonic() > end:
            return


def _has_mask(dataset: Any) -> bool:
    from rasterio.enums import MaskFlags

    return any(MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums)
