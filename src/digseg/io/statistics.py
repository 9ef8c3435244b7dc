"""A row for each label: how much of it there is, in real units."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digseg.io._lengths import metres
from digseg.io.area import PixelAreas
from digseg.io.components import Regions, regions_of
from digseg.io.files import refuse_existing, replacing
from digseg.raster import ClassEntry, Mask, Raster, Volume
from digseg.types import LazyArray

_HECTARE = 10_000.0  # m2
_MILLILITRE = 1_000.0  # mm3
_MILLIMETRES = 1_000  # of a metre


def table(
    mask: Mask,
    *,
    probabilities: LazyArray | None = None,
    image: Raster | Volume | None = None,
) -> list[dict[str, Any]]:
    """Measure each label; labels are read block by block.

    Parameters
    ----------
    mask
        The labels.
    probabilities
        ``uint8 [prompt, (z,) y, x]`` (probability x 255) in the order of the label ids.
    image
        What was segmented; its grid is used where the mask's has no CRS.

    Returns
    -------
    A row for each entry of the class table, absent ones included: ``id``, ``name``, ``color``
    (``#rrggbb``), ``pixels``, ``share`` (of the pixels with data), then ``area_m2`` and
    ``area_ha`` (on the ellipsoid; `None` without a CRS) or ``volume_mm3`` and ``volume_ml``,
    then ``mean_probability`` (`None` where unknown) and ``instances`` (regions whose pixels
    share sides).
    """
    del image  # the mask's own grid is the image's
    regions = regions_of(mask, probabilities)
    return [_row(entry, mask, regions) for entry in mask.classes.entries]


def _row(entry: ClassEntry, mask: Mask, regions: Regions) -> dict[str, Any]:
    own = regions.label == entry.id
    pixels = int(regions.pixels[own].sum())
    row: dict[str, Any] = {
        "id": entry.id,
        "name": entry.name,
        "color": "#{:02x}{:02x}{:02x}".format(*entry.color),
        "pixels": pixels,
        "share": pixels / regions.valid_pixels if regions.valid_pixels else None,
    }
    if mask.grid.ndim == 3:
        unit = metres(mask.grid.unit)
        voxel = None if unit is None else mask.grid.cell_size * float(unit * _MILLIMETRES) ** 3
        millimetres = None if voxel is None else pixels * voxel
        row["volume_mm3"] = millimetres
        row["volume_ml"] = None if millimetres is None else millimetres / _MILLILITRE
    else:
        area = float(regions.area[own].sum()) if PixelAreas(mask.grid).known else None
        row["area_m2"] = area
        row["area_ha"] = None if area is None else area / _HECTARE
    weighted = float((regions.probability[own] * regions.pixels[own]).sum())
    row["mean_probability"] = None if not pixels or np.isnan(weighted) else weighted / pixels
    row["instances"] = int(own.sum())
    return row


def write_csv(
    rows: Sequence[Mapping[str, Any]], path: str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the rows of `table` as CSV (UTF-8, a header line, empty where unknown)."""
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    keys = list(rows[0]) if rows else ["id", "name", "color", "pixels", "share"]
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, keys)
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return [path]


def _cell(value: Any) -> Any:
    unknown = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if unknown else value
