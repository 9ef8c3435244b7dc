"""A part of an image as an image of its own, still lazy, still in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from digseg.errors import UsageError
from digseg.lazy import Bounds, WindowArray, box
from digseg.raster import Raster, Volume
from digseg.run.outline import OUTLINE
from digseg.types import AnyArray, LazyArray

if TYPE_CHECKING:
    from digseg.run.job import Job

#: Key of ``meta`` under which a cropped image keeps the whole one: pixel values are stretched by
#: what the whole data set holds, so that a part looks the same as it does in the whole.
WHOLE = "whole"


def part_of(image: Raster | Volume, job: Job) -> Raster | Volume:
    """The part of an opened image that a job asks for; the image itself where it asks for all.

    Raises
    ------
    UsageError
        The region or the outline reaches (or lies) outside the image.
    """
    region, outline = job.region, job.outline
    if outline is not None:
        around = outline.bounds(image.shape)
        region = around if region is None else region
    if region is None:
        return image
    part = crop(image, region)
    if outline is None:
        return part
    starts = tuple(start for start, _ in region)
    return replace(part, meta={**part.meta, OUTLINE: (outline, starts)})


def crop(image: Raster | Volume, region: Bounds) -> Raster | Volume:
    """The part of ``image`` inside ``region`` (half-open bounds of each axis, array order).

    Raises
    ------
    UsageError
        The region has another number of axes than the image, or reaches outside.
    """
    shape = image.shape
    if len(region) != len(shape):
        raise UsageError(f"The region has {len(region)} axes, the image has {len(shape)}.")
    for (start, stop), side in zip(region, shape, strict=True):
        if not 0 <= start < stop <= side:
            raise UsageError(f"The region {start}:{stop} reaches outside an axis of {side} pixels.")
    starts = tuple(start for start, _ in region)
    sides = tuple(stop - start for start, stop in region)
    grid = image.grid.crop(starts, sides)
    meta = {**image.meta, WHOLE: image}
    if isinstance(image, Volume):
        return replace(image, data=_part(image.data, starts, sides), grid=grid, meta=meta)
    meta = _tie_points_moved(meta, starts)
    data = _part(image.data, (0, *starts), (image.bands, *sides))
    valid = None if image.valid is None else _part(image.valid, starts, sides)
    return replace(image, data=data, grid=grid, valid=valid, levels=(), meta=meta)


def _tie_points_moved(meta: Mapping[str, Any], starts: tuple[int, ...]) -> dict[str, Any]:
    """Ground control points and RPCs that speak of a part's own rows and columns."""
    top, left = starts
    moved = dict(meta)
    if meta.get("gcps"):
        moved["gcps"] = tuple((row - top, column - left, *at) for row, column, *at in meta["gcps"])
    if meta.get("rpcs"):
        offsets = {"LINE_OFF": top, "SAMP_OFF": left}
        new = {name: repr(float(meta["rpcs"][name]) - start) for name, start in offsets.items()}
        moved["rpcs"] = {**meta["rpcs"], **new}
    return moved


def _part(data: LazyArray, starts: tuple[int, ...], sides: tuple[int, ...]) -> WindowArray:
    def read(bounds: Bounds) -> AnyArray:
        return box(
            data,
            tuple(
                (start + low, start + high)
                for start, (low, high) in zip(starts, bounds, strict=True)
            ),
        )

    return WindowArray(sides, data.dtype, read)
