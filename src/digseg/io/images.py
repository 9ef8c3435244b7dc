"""Arrays that came from no file, written as an OME-Zarr image that `digseg.io.read` opens."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from digseg.io._zarr_write import GRID_KEY
from digseg.io.files import replacing
from digseg.lazy import box
from digseg.raster import Raster, Volume

_CHUNK = 512


def write_image(image: Raster | Volume, path: str | Path) -> Path:
    """Write an image chunk by chunk, with its exact grid.

    Parameters
    ----------
    image
        Lazy or in memory; a raster's bands, or a volume's slices.
    path
        Folder to make; its name ends in ``.zarr``.
    """
    import zarr

    target = Path(path)
    shape = tuple(int(side) for side in image.data.shape)
    axes = "zyx" if isinstance(image, Volume) else "cyx"
    chunks = tuple(min(side, limit) for side, limit in zip(shape, (1, _CHUNK, _CHUNK), strict=True))
    with replacing(target) as temporary:
        group = zarr.create_group(str(temporary), zarr_format=3)
        array = group.create_array(
            "0",
            shape=shape,
            chunks=chunks,
            dtype=np.dtype(image.data.dtype),
            dimension_names=list(axes),
        )
        steps = [range(0, side, chunk) for side, chunk in zip(shape, chunks, strict=True)]
        for starts in product(*steps):
            bounds = tuple(
                (start, min(start + chunk, side))
                for start, chunk, side in zip(starts, chunks, shape, strict=True)
            )
            array[tuple(slice(*pair) for pair in bounds)] = box(image.data, bounds)
        group.attrs.update(_attributes(image, axes))
    return target


def _attributes(image: Raster | Volume, axes: str) -> dict[str, Any]:
    kinds = {"c": "channel"}
    grid = image.grid
    remembered: dict[str, Any] = {
        "affine": [list(row) for row in grid.affine],
        "space": grid.space,
        "crs": grid.crs,
        "unit": grid.unit,
    }
    if isinstance(image, Raster) and image.nodata is not None:
        remembered["nodata"] = image.nodata
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [
                {
                    "name": "image",
                    "axes": [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes],
                    "datasets": [
                        {
                            "path": "0",
                            "coordinateTransformations": [{"type": "scale", "scale": [1.0] * 3}],
                        }
                    ],
                }
            ],
        },
        GRID_KEY: remembered,
    }
