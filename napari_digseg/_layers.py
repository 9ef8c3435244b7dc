"""Rasters and volumes as napari image layers. Pure conversions: no napari, no Qt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.lazy import Bounds, WindowArray, box
from digseg.normalize import is_display_ready, three_channels
from digseg.orientation import Turn
from digseg.raster import Raster, Volume
from digseg.settings import CT_WINDOWS
from digseg.types import AnyArray, LazyArray
from napari_digseg._place import KEY, grid_to_dict, placement, shown

if TYPE_CHECKING:
    from digseg.run.sources import RasterSource

LayerData = tuple[Any, dict[str, Any], str]


def raster_layers(
    raster: Raster, *, name: str | None = None, composite: bool = True
) -> list[LayerData]:
    """A raster as one image layer, lazy and multiscale.

    Parameters
    ----------
    raster
        Lazy raster; its overviews become the levels.
    name
        Of the layer; the file's stem otherwise.
    composite
        Show red, green and blue, stretched as the model sees them; else every band on a slider.
    """
    from digseg.run.sources import raster_source
    from digseg.settings import SegmentSettings

    source = raster_source(raster, SegmentSettings())
    levels = pyramid(raster)
    meta: dict[str, Any] = {
        "name": name or (raster.source.stem if raster.source else "raster"),
        "metadata": {KEY: _metadata(raster) | {"bands": list(raster.band_names)}},
        "multiscale": len(levels) > 1,
    }
    if composite and (source.palette is not None or len(source.bands) == 3):
        has_holes = raster.nodata is not None or raster.valid is not None
        data = [_composite(replace(source, raster=level), alpha=has_holes) for level in levels]
        meta |= {"rgb": True, **placement(raster.grid).kwargs()}
    elif composite or raster.bands == 1:
        band = source.bands[0]
        data = [_band(level, band) for level in levels]
        limits = (source.stretch.low[0], source.stretch.high[0])
        meta |= {"rgb": False, "colormap": "gray", "contrast_limits": _increasing(limits)}
        meta |= placement(raster.grid).kwargs()
    else:
        data = [as_layer_array(level.data) for level in levels]
        limits = (min(source.stretch.low), max(source.stretch.high))
        meta |= {"rgb": False, "colormap": "gray", "contrast_limits": _increasing(limits)}
        meta |= placement(raster.grid).kwargs(lead=("band",))
    return [(data if len(data) > 1 else data[0], meta, "image")]


def pyramid(raster: Raster) -> list[Raster]:
    """The raster and its overviews, each as a raster on its own scaled grid."""
    levels = [replace(raster, levels=())]
    for index, data in enumerate(raster.levels):
        shape = (int(data.shape[-2]), int(data.shape[-1]))
        valid: Any = raster.valid
        if valid is not None:
            # Masks of files know their own overviews; others have none.
            valid = replace(valid, shape=shape, level=index) if hasattr(valid, "level") else None
        levels.append(
            replace(raster, data=data, grid=raster.grid.scaled(shape), valid=valid, levels=())
        )
    return levels


def volume_layers(volume: Volume, *, name: str | None = None, times: Any = None) -> list[LayerData]:
    """A volume as one image layer, in canonical planes.

    Parameters
    ----------
    volume
        Lazy volume.
    name
        Of the layer; the file's stem otherwise.
    times
        Function from a time point to its `Volume`, for a 4-D file: gives a time slider.
    """
    turn, grid = shown(volume.grid)
    low, high = contrast_of(volume)
    meta: dict[str, Any] = {
        "name": name or (volume.source.stem if volume.source else "volume"),
        "metadata": {KEY: _metadata(volume) | {"modality": volume.modality}},
        "contrast_limits": (low, high),
        "colormap": "gray",
        "interpolation2d": "linear",
        "rgb": False,
        "multiscale": False,
    }
    if times is None or volume.time_points == 1:
        data = turn.lazy(volume.data)
        meta |= placement(grid).kwargs()
    else:
        data = _stack(volume, times, turn)
        meta |= placement(grid).kwargs(lead=("t",))
    return [(as_layer_array(data), meta, "image")]


def contrast_of(volume: Volume) -> tuple[float, float]:
    """Display limits: the soft-tissue window of a CT, else percentiles of three slices."""
    if volume.modality == "CT":
        return CT_WINDOWS["soft-tissue"]
    count = volume.shape[0]
    picks = sorted({count // 4, count // 2, (3 * count) // 4})
    sample = np.stack([np.asarray(volume.data[index]) for index in picks])
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (1, 99.5))
    return _increasing((float(low), float(high)))


def _increasing(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if high > low else (low, low + 1.0)


def _metadata(image: Raster | Volume) -> dict[str, Any]:
    source = image.source
    return {
        "path": source.path if source is not None else None,
        "format": source.format if source is not None else None,
        "kind": "raster" if isinstance(image, Raster) else "volume",
        "crs": image.grid.crs,
        "grid": grid_to_dict(image.grid),
    }


def _composite(source: RasterSource, *, alpha: bool) -> WindowArray:
    """``uint8 [y, x, 3 or 4]``: what the model sees; transparent where there is no data."""
    _, rows, columns = source.shape
    # Pictures are shown as they are: the event loop reads them while a person pans.
    ready = source.palette is None and is_display_ready(source.raster.data.dtype)

    def read(bounds: Bounds) -> AnyArray:
        (top, bottom), (left, right), (first, last) = bounds
        window = (top, bottom, left, right)
        picture = np.empty((bottom - top, right - left, 4 if alpha else 3), np.uint8)
        if ready:
            pixels = source.raster.read(window, source.bands)
            valid = source.raster.validity(window, pixels)
            picture[..., :3] = np.stack(list(three_channels(pixels)), axis=-1)
            if not valid.all():
                picture[~valid] = 0
        else:
            stretched, valid = source.read(0, window)
            picture[..., :3] = np.moveaxis(np.rint(stretched * 255), 0, -1)
        if alpha:
            picture[..., 3] = np.where(valid, 255, 0)
        return picture[..., first:last]

    return WindowArray((rows, columns, 4 if alpha else 3), np.uint8, read)


def _band(raster: Raster, band: int) -> WindowArray:
    def read(bounds: Bounds) -> AnyArray:
        (top, bottom), (left, right) = bounds
        picture: AnyArray = raster.read((top, bottom, left, right), (band,))[0]
        return picture

    return WindowArray(raster.shape, raster.data.dtype, read)


def as_layer_array(data: LazyArray) -> Any:
    """Arrays as napari takes them: with ``ndim`` and ``size``; others are wrapped."""
    if hasattr(data, "ndim") and hasattr(data, "size"):
        return data
    return WindowArray(tuple(data.shape), data.dtype, lambda bounds: box(data, bounds))


def _stack(volume: Volume, times: Any, turn: Turn) -> WindowArray:
    """``[t, z, y, x]``: each time point is opened when it is looked at."""
    points: dict[int, LazyArray] = {}

    def read(bounds: Bounds) -> AnyArray:
        (first, last), *rest = bounds
        for time in range(first, last):
            if time not in points:
                points[time] = turn.lazy(times(time).data)
        return np.stack([box(points[time], tuple(rest)) for time in range(first, last)])

    shape = (volume.time_points, *turn.shape(volume.shape))
    return WindowArray(shape, volume.data.dtype, read)
