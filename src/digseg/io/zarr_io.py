"""Zarr v2 and v3: plain arrays, OME-Zarr images of all versions, and OME-Zarr labels of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError, UsageError
from digseg.grid import Grid
from digseg.io import modality
from digseg.io._planes import Planes, check_dtype, native
from digseg.io._zarr_axes import Axes, axes_of
from digseg.io._zarr_store import Tree, check_claims, failures, open_array, tree_of
from digseg.io._zarr_write import GRID_KEY, refuse, write
from digseg.io.cog import classes_from_json
from digseg.io.files import identity
from digseg.io.gdal import said
from digseg.io.registry import Probe
from digseg.lazy import WindowArray
from digseg.raster import ClassTable, Mask, Raster, Source, Volume

__all__ = ["info", "read", "read_mask", "refuse", "sniff", "write"]

_MARKS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_PROBE_CHUNKS = 8
_PROBE_BYTES = 64 * 2**20


def sniff(probe: Probe) -> bool:
    """A folder with Zarr's metadata, or a URL that ends in ``.zarr``."""
    if probe.kind == "remote":
        return probe.suffix in (".zarr", ".ome.zarr")
    return probe.kind == "folder" and any((Path(probe.path) / m).is_file() for m in _MARKS)


@dataclass(frozen=True)
class _Image:
    """One image of a store: its levels, finest first, axes and attributes."""

    tree: Tree
    paths: tuple[str, ...]
    axes: Axes
    attributes: Mapping[str, Any]
    version: str | None  # of OME-Zarr; None for plain Zarr

    @property
    def format(self) -> str:
        return "Zarr" if self.version is None else "OME-Zarr"


def read(path: str, *, time: int = 0, series: str | None = None) -> Raster | Volume:
    """Open lazily: `Raster` where there is one plane, `Volume` where there are several.

    Channels are the bands of a raster; a volume shows its first channel, or the one that
    ``series`` names as ``PATH#CHANNEL``. ``series`` is the path of an image or array inside.
    """
    series, channel = _channel(series)
    image = _find(path, series)
    first = open_array(image.tree, image.paths[0])
    check_dtype(path, first.dtype)
    axes = image.axes
    times = axes.size(first.shape, "t")
    if not 0 <= time < times:
        raise UsageError(f"There is no time point {time}: {path} has {times}, counted from 0.")
    grid = _grid(image, first.shape)
    source = Source(path, image.format, _identity(path))
    meta = _meta(image, first.shape)
    if axes.size(first.shape, "z") > 1:
        channels = axes.size(first.shape, "c")
        if not 0 <= channel < channels:
            raise UsageError(f"There is no channel {channel}: {path} has {channels}, from 0.")
        data = _stack(image, image.paths[0], axes, time, channel)
        coarse = _stack(image, image.paths[-1], axes, time, channel)
        kind, note = modality.of_array(coarse, Path(path))
        meta["notes"] = (note,)
        return Volume(data, grid, kind, times, source, meta)
    levels = []
    for level in image.paths:
        array = open_array(image.tree, level)
        shape = tuple(axes.size(array.shape, name) for name in "cyx")
        pick = Planes(_Level(image.tree, level), axes, time, None)
        levels.append(WindowArray(shape, native(array.dtype), pick))
    names = _channel_names(image, levels[0].shape[0])
    nodata = image.attributes.get(GRID_KEY, {}).get("nodata")
    return Raster(
        levels[0],
        grid,
        nodata=nodata,
        band_names=names,
        levels=tuple(levels[1:]),
        source=source,
        meta=meta,
    )


def _stack(image: _Image, level: str, axes: Axes, time: int, channel: int) -> WindowArray:
    """One channel of one time point, ``[z, y, x]``."""
    array = open_array(image.tree, level)
    shape = tuple(axes.size(array.shape, name) for name in "zyx")
    pick = Planes(_Level(image.tree, level), axes, time, channel)
    return WindowArray(shape, native(array.dtype), pick)


def read_mask(path: str) -> Mask:
    """Labels with the names and colours of ``image-label``, lazily."""
    found = read(path)
    data = found.data
    if isinstance(found, Raster):
        if found.bands != 1:
            raise UnsupportedInputError(f"{path} holds no labels: those are one channel.")
        from digseg.io.geotiff import plane

        data = plane(found.data)
    if np.dtype(data.dtype).kind != "u":
        raise UnsupportedInputError(f"{path} holds no labels: those are whole numbers.")
    classes = found.meta.get("classes")
    nodata: float | None = found.nodata if isinstance(found, Raster) else None
    meta = {"named": classes is not None}
    value = None if nodata is None else int(nodata)
    return Mask(data, found.grid, classes or ClassTable(()), value, meta)


def info(path: str) -> dict[str, Any]:
    """Facts as `docs/formats.md` lists them; decodes a few chunks."""
    image = _find(path, None)
    opened = [open_array(image.tree, level) for level in image.paths]
    first = opened[0]
    check_dtype(path, first.dtype)
    grid = _grid(image, first.shape)
    _probe(path, first)
    table = image.attributes.get(GRID_KEY, {})
    return {
        "kind": "array",
        "format": image.format,
        "shape": list(first.shape),
        "dtype": native(first.dtype).name,
        "chunks": list(first.chunks),
        "axes": list(image.axes.names),
        "units": list(image.axes.units),
        "scale": list(image.axes.scale),
        "translation": list(image.axes.translation),
        "levels": [list(array.shape) for array in opened],
        "paths": list(image.paths),
        "zarr_format": int(first.metadata.zarr_format),
        "ome_version": image.version,
        "channels": list(_channel_names(image, image.axes.size(first.shape, "c"))),
        "time_points": image.axes.size(first.shape, "t"),
        "crs": table.get("crs"),
        "transform": list(grid.transform) if grid.ndim == 2 and grid.space == "map" else None,
        "affine": [list(row) for row in grid.affine],
        "nodata": table.get("nodata"),
        "images": image.tree.images(),
        "labels": image.tree.labels(),
    }


def _channel(series: str | None) -> tuple[str | None, int]:
    text, mark, number = (series or "").partition("#")
    if mark and not number.isdigit():
        raise UsageError(f"{series!r} names no channel: write PATH#NUMBER, counted from 0.")
    return text or None, int(number) if mark else 0


def _find(path: str, series: str | None) -> _Image:
    """The image to read: the chosen one, or the only one."""
    tree = tree_of(path)
    here = series or tree.default(path)
    if here is None:
        names = tree.images()
        if not names:
            raise UnsupportedInputError(f"{path} is a Zarr group without arrays: it is no image.")
        listed = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        raise UnsupportedInputError(
            f"{path} holds {len(names)} images ({listed}): choose one with series."
        )
    attributes = tree.attributes(here)
    ome = attributes.get("ome") if isinstance(attributes.get("ome"), dict) else attributes
    if tree.is_array(here):
        array = open_array(tree, here)
        image = _Image(tree, (here,), axes_of(array, attributes), attributes, None)
    else:
        image = _multiscale(path, tree, here, dict(ome or {}), attributes)
    check_claims(path, tree, image.paths[0])
    return image


def _multiscale(
    path: str, tree: Tree, here: str, ome: dict[str, Any], attributes: Mapping[str, Any]
) -> _Image:
    try:
        scales = ome["multiscales"][0]
        names = [str(item["path"]) for item in scales["datasets"]]
    except (KeyError, IndexError, TypeError) as error:
        raise UnsupportedInputError(
            f"{path} has no image at {here or 'its top'!r}: name one of {tree.images()[:8]}."
        ) from error
    if not names or any(part in ("..", ".") for name in names for part in name.split("/")):
        raise CorruptInputError(f"{path} names levels outside itself: its metadata is damaged.")
    paths = tuple(f"{here}/{name}".strip("/") for name in names)
    array = open_array(tree, paths[0])
    version = str(ome.get("version") or scales.get("version") or "0.1")
    return _Image(tree, paths, axes_of(array, scales), attributes, version)


@dataclass(frozen=True)
class _Level:
    """Opens one level of a store; picklable."""

    tree: Tree
    path: str

    def __call__(self) -> Any:
        return open_array(self.tree, self.path)

    def __str__(self) -> str:
        return f"{self.tree.path}/{self.path}".rstrip("/")


def _grid(image: _Image, shape: tuple[int, ...]) -> Grid:
    """The exact grid of our own files; otherwise scale and translation of the level."""
    axes = image.axes
    names = "zyx" if axes.size(shape, "z") > 1 else "yx"
    sides = tuple(axes.size(shape, name) for name in names)
    own = image.attributes.get(GRID_KEY)
    if isinstance(own, dict) and "affine" in own:
        try:
            return Grid.of(
                sides,
                own["affine"],
                space=own.get("space", "pixel"),
                crs=own.get("crs"),
                unit=str(own.get("unit", "pixel")),
            )
        except (TypeError, ValueError) as error:
            raise CorruptInputError(f"{image.tree.path} has a damaged affine: {error}.") from error
    n = len(names)
    matrix = np.eye(n + 1)
    if not axes.placed:
        return Grid.of(sides)
    for row, name in enumerate(reversed(names)):
        step, start = axes.along(name)
        matrix[row, row] = step
        # OME-Zarr speaks of centres, an affine of corners.
        matrix[row, n] = start - step / 2
    try:
        return Grid.of(sides, matrix, unit=axes.unit)
    except ValueError as error:
        raise CorruptInputError(f"{image.tree.path} can't be placed: {error}.") from error


def _meta(image: _Image, shape: tuple[int, ...]) -> dict[str, Any]:
    meta: dict[str, Any] = {"axes": image.axes.names, "array_shape": tuple(shape)}
    own = image.attributes.get(GRID_KEY)
    if isinstance(own, dict) and isinstance(own.get("classes"), list):
        classes = classes_from_json(json.dumps(own["classes"]))
        if classes is not None:
            meta["classes"] = classes
    colors = _omero_colors(image, image.axes.size(shape, "c"))
    if colors:
        meta["colors"] = colors
    return meta


def _omero(image: _Image) -> list[Any]:
    ome = image.attributes.get("ome", image.attributes)
    found = ome.get("omero", {}).get("channels", []) if isinstance(ome, dict) else []
    return found if isinstance(found, list) else []


def _channel_names(image: _Image, count: int) -> tuple[str, ...]:
    labels = [str(c.get("label", "")) if isinstance(c, dict) else "" for c in _omero(image)]
    return tuple(
        labels[index] if index < len(labels) and labels[index] else f"band {index + 1}"
        for index in range(count)
    )


def _omero_colors(image: _Image, count: int) -> tuple[str, ...]:
    """``red``, ``green``, ``blue`` where the channels are pure ones."""
    pure = {"FF0000": "red", "00FF00": "green", "0000FF": "blue"}
    found = [
        pure.get(str(c.get("color", "")).upper(), "undefined") if isinstance(c, dict) else ""
        for c in _omero(image)
    ]
    return tuple(found) if len(found) == count and set(found) >= set(pure.values()) else ()


def _identity(path: str) -> str:
    import hashlib

    place = Path(path)
    return identity(place) if place.exists() else hashlib.sha256(path.encode()).hexdigest()


def _probe(path: str, array: Any) -> None:
    """Decode a few chunks spread over the array."""
    bytes_each = int(np.prod(array.chunks, dtype=np.float64)) * np.dtype(array.dtype).itemsize
    if bytes_each * _PROBE_CHUNKS > _PROBE_BYTES * 4:
        return
    counts = [-(-side // chunk) for side, chunk in zip(array.shape, array.chunks, strict=True)]
    total = int(np.prod(counts, dtype=np.int64))
    chosen = {round(i * (total - 1) / (_PROBE_CHUNKS - 1)) for i in range(_PROBE_CHUNKS)}
    for number in sorted(chosen):
        where = np.unravel_index(number, counts)
        key = tuple(
            slice(int(i) * chunk, (int(i) + 1) * chunk)
            for i, chunk in zip(where, array.chunks, strict=True)
        )
        try:
            array[key]
        except failures() as error:
            raise CorruptInputError(
                f"{path} is damaged: chunk {number} of {total} can't be decoded ({said(error)})."
            ) from error
