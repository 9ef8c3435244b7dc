"""OME-TIFF: pyramids and n-D images of microscopes, read by tifffile."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, DigsegError, UnsupportedInputError, UsageError
from digseg.grid import Grid
from digseg.io import geotiff, modality, tiff_guard
from digseg.io._planes import Planes, check_dtype, native
from digseg.io._zarr_axes import Axes, in_one_unit
from digseg.io.files import identity
from digseg.io.gdal import said
from digseg.io.registry import Probe
from digseg.lazy import WindowArray
from digseg.raster import Raster, Source, Volume

_SCHEMA = b"www.openmicroscopy.org/Schemas/OME"
_AXES = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
_XML_BYTES = 64 * 2**20

#: Claims that need no proof: planes, and pixels of all planes.
_PLANES, _PIXELS = 10**5, 10**9


def sniff(probe: Probe) -> bool:
    """A TIFF whose first 64 KiB name the OME schema, or that is named ``.ome.tif``."""
    if probe.kind != "file" or not tiff_guard.is_tiff(probe.head):
        return False
    return _SCHEMA in probe.head or probe.suffix in (".ome.tif", ".ome.tiff")


def read(path: str, *, time: int = 0, series: str | None = None) -> Raster | Volume:
    """Open lazily: `Raster` (channels are bands) or, with several slices, `Volume`.

    ``series`` is the number of the image in the file, from 0.
    """
    tiff_guard.check_tiff(path)
    with _guarded(path):
        return _read(path, time, series)


def _read(path: str, time: int, series: str | None) -> Raster | Volume:
    number = _number(series)
    file = _opened(path, _stamp(path), os.getpid())
    if not file.is_ome:
        return geotiff.read(path, time=time, series=series)
    image = _image(path, file, number)
    axes = _axes(path, file, image, number)
    check_dtype(path, image.dtype)
    times = axes.size(image.shape, "t")
    if not 0 <= time < times:
        raise UsageError(f"There is no time point {time}: {path} has {times}, counted from 0.")
    source = Source(path, "OME-TIFF", identity(Path(path)))
    deep = axes.size(image.shape, "z") > 1
    names = "zyx" if deep else "cyx"
    dtype = native(image.dtype)
    levels = [
        WindowArray(
            tuple(axes.size(level.shape, name) for name in names),
            dtype,
            Planes(_Level(path, number, index), axes, time, 0 if deep else None),
        )
        for index, level in enumerate(image.levels)
    ]
    grid = _grid(levels[0].shape if deep else levels[0].shape[1:], axes)
    if deep:
        kind, note = modality.of_array(levels[-1], Path(path))
        return Volume(levels[0], grid, kind, times, source, {"notes": (note,)})
    colors = ("red", "green", "blue", "alpha")[: levels[0].shape[0]] if "S" in image.axes else ()
    meta = {"colors": colors} if colors else {}
    return Raster(levels[0], grid, levels=tuple(levels[1:]), source=source, meta=meta)


def info(path: str) -> dict[str, Any]:
    """Facts as `docs/formats.md` lists them; decodes the first and the last plane's corners."""
    tiff_guard.check_tiff(path)
    with _guarded(path):
        return _info(path)


def _info(path: str) -> dict[str, Any]:
    file = _opened(path, _stamp(path), os.getpid())
    if not file.is_ome:
        return geotiff.info(path)
    found = read(path)
    image = _image(path, file, 0)
    axes = _axes(path, file, image, 0)
    shape = found.data.shape
    for corner in ((0, 0, 0), tuple(side - 1 for side in shape)):
        np.asarray(found.data[tuple(slice(at, at + 1) for at in corner)])
    return {
        "kind": "array",
        "format": "OME-TIFF",
        "shape": list(image.shape),
        "dtype": native(image.dtype).name,
        "axes": list(axes.names),
        "units": list(axes.units),
        "scale": list(axes.scale),
        "levels": [list(level.shape) for level in image.levels],
        "images": [str(index) for index in range(len(file.series))],
        "time_points": axes.size(image.shape, "t"),
        "crs": None,
        "transform": None,
        "affine": [list(row) for row in found.grid.affine],
        "nodata": None,
    }


@contextlib.contextmanager
def _guarded(path: str) -> Iterator[None]:
    """Work on tags: tifffile believes their types and counts, and fails on lies in many ways.

    Raises
    ------
    CorruptInputError
        In place of whatever tifffile raises.
    """
    import tifffile

    broken = (
        *(tifffile.TiffFileError, OSError, ValueError, TypeError, LookupError, AttributeError),
        *(ArithmeticError, MemoryError, RuntimeError, struct.error),
    )
    try:
        yield
    except broken as error:
        if isinstance(error, DigsegError):
            raise
        raise CorruptInputError(f"{path} is damaged ({said(error, path)}).") from error


def _number(series: str | None) -> int:
    if series is None:
        return 0
    if not series.isdigit():
        raise UsageError(f"{series!r} is no image of an OME-TIFF: give its number, from 0.")
    return int(series)


def _stamp(path: str) -> int:
    return os.stat(path).st_mtime_ns


@functools.lru_cache(maxsize=16)
def _opened(path: str, stamp: int, process: int) -> Any:
    import logging

    import tifffile

    del stamp, process  # part of the key: a replaced file, or a forked process, opens anew
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    file = tifffile.TiffFile(path)
    # The cache may drop it at any time: close the file then, and not whenever memory is swept.
    weakref.finalize(file, file.filehandle.close)
    text = file.ome_metadata or ""
    if len(text) > _XML_BYTES or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CorruptInputError(f"{path} has metadata that expands without end.")
    _check_claims(path, text, file.filehandle.size)
    return file


def _check_claims(path: str, text: str, size: int) -> None:
    """Refuse claims out of all proportion, before tifffile makes lists of as many planes.

    Raises
    ------
    CorruptInputError
        More planes than bytes, or more pixels than any compression holds.
    """
    import xml.etree.ElementTree as ET

    try:
        images = ET.fromstring(text).findall(".//{*}Image/{*}Pixels") if text else []
    except ET.ParseError:
        return  # tifffile says what is wrong with it
    for image in images:
        sides = {name: image.get(f"Size{name}", "1") for name in "XYZCT"}
        if not all(side.isdecimal() for side in sides.values()):
            continue
        planes = math.prod(int(sides[name]) for name in "ZCT")
        pixels = planes * int(sides["X"]) * int(sides["Y"])
        if planes > max(size, _PLANES) or pixels > max(size * tiff_guard.BEST_RATIO, _PIXELS):
            raise CorruptInputError(
                f"{path} claims {' x '.join(sides.values())} pixels in {size} bytes: "
                "its metadata is damaged."
            )


def _image(path: str, file: Any, number: int) -> Any:
    series = file.series
    if not 0 <= number < len(series):
        raise UsageError(f"There is no image {number}: {path} has {len(series)}, from 0.")
    image = series[number]
    claimed = math.prod(image.shape) * np.dtype(image.dtype).itemsize
    if claimed > tiff_guard.SUSPICIOUS_BYTES and claimed > file.filehandle.size * 2000:
        raise CorruptInputError(f"{path} claims {claimed} bytes of pixels: it is damaged.")
    return image


def _axes(path: str, file: Any, image: Any, number: int) -> Axes:
    names = tuple(_AXES.get(letter, letter) for letter in image.axes)
    if len(set(names)) != len(names) or not set(names) <= set("tczyx"):
        raise UnsupportedInputError(f"{path} has axes {image.axes}: only T, C, Z, Y, X are read.")
    sizes = _physical(file, number)
    units = tuple(sizes.get(name, (1.0, None))[1] for name in names)
    scale = tuple(sizes.get(name, (1.0, None))[0] for name in names)
    return in_one_unit(Axes(names, units, scale, (0.0,) * len(names)), image.shape)


def _physical(file: Any, number: int) -> dict[str, tuple[float, str | None]]:
    """Step and unit of x, y and z from the OME metadata, whose unit is µm if it names none."""
    import xml.etree.ElementTree as ET

    try:
        root = ET.fromstring(file.ome_metadata)
    except ET.ParseError:
        return {}
    pixels = root.findall(".//{*}Image/{*}Pixels")
    found: dict[str, tuple[float, str | None]] = {}
    if number >= len(pixels):
        return found
    for name in "xyz":
        text = pixels[number].get(f"PhysicalSize{name.upper()}")
        unit = pixels[number].get(f"PhysicalSize{name.upper()}Unit", "µm")
        try:
            step = float(text) if text else 0.0
        except ValueError:
            continue
        if step > 0 and math.isfinite(step):
            found[name] = (step, unit)
    return found


def _grid(shape: tuple[int, ...], axes: Axes) -> Grid:
    if not axes.placed:
        return Grid.of(shape)
    steps = [axes.along(name)[0] for name in "xyz"[: len(shape)]]
    matrix = np.diag([*steps, 1.0])
    # The centre of the first pixel lies at 0, as in OME-Zarr; an affine speaks of corners.
    matrix[:-1, -1] = [-step / 2 for step in steps]
    return Grid.of(shape, matrix, unit=axes.unit)


@dataclass(frozen=True)
class _Level:
    """Opens one level of one image; picklable."""

    path: str
    series: int
    level: int

    def __call__(self) -> Any:
        return _array(self, _stamp(self.path), os.getpid())

    def __str__(self) -> str:
        return self.path


@functools.lru_cache(maxsize=64)
def _array(level: _Level, stamp: int, process: int) -> Any:
    import zarr

    file = _opened(level.path, stamp, process)
    return zarr.open_array(file.aszarr(series=level.series, level=level.level), mode="r")
