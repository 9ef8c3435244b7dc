"""The spread over an ensemble as a file beside the mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from digseg.lazy import Bounds, WindowArray
from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.run.stored import StoredPass
from digseg.run.volumes import to_file_order
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, Float32Array, LazyArray


def spread_view(
    image: Raster | Volume,
    passes: tuple[StoredPass, ...],
    settings: SegmentSettings,
    shape: tuple[int, int, int],
) -> LazyArray:
    """Largest spread of any prompt, ``uint8 [(z,) y, x]``, in the image's own order, lazily.

    A value of 255 is a standard deviation of one half, the largest that probabilities can have;
    three fused planes give their mean spread.
    """

    def read(bounds: Bounds) -> AnyArray:
        (first, last), (top, bottom), (left, right) = bounds
        planes = []
        for plane in range(first, last):
            total: Float32Array | None = None
            for stored in passes:
                maps, _ = stored.read(plane, (top, bottom, left, right))
                total = maps if total is None else total + maps
            assert total is not None
            planes.append(total.max(axis=0) / len(passes))
        spread: AnyArray = np.rint(np.stack(planes) * 255).astype(np.uint8)
        return spread

    planes = WindowArray(shape, np.uint8, read)
    if isinstance(image, Volume):
        return to_file_order(planes, image, settings)
    return WindowArray(shape[1:], np.uint8, lambda bounds: read(((0, 1), *bounds))[0])


def write_spread(
    image: Raster | Volume, spread: LazyArray, path: Path, *, overwrite: bool
) -> list[Path]:
    """Write what `spread_view` gives; any format that holds a mask will do."""
    from digseg import io

    mask = Mask(spread, image.grid, ClassTable(()))
    return io.write_mask(mask, path, source=image, overwrite=overwrite)
