"""What every format that GDAL reads shares: handles, lazy windows, grids.

A GDAL dataset must not be shared by threads: two threads on one handle get wrong pixels with no
error. So a lazy array holds a path, and each thread of each process keeps handles of its own.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, DigsegError
from digseg.grid import Grid
from digseg.lazy import Bounds, WindowArray
from digseg.types import AnyArray

#: Drivers that a file must not be able to reach: they fetch what a file's text tells them to.
_NETWORK_DRIVERS = frozenset(
    {"DAAS", "EEDA", "EEDAI", "HTTP", "PLMOSAIC", "STACIT", "STACTA", "WCS", "WMS", "WMTS", "GTI"}
)
#: Vector and service drivers, and those that have a room of their own here.
_OTHER_DRIVERS = frozenset({"MEM", "Memory", "COG", "Zarr", "PDF", "DERIVED", "GNMFile"})

_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",  # a .msk, .ovr or .RPB beside the file counts
    # In bytes: the blocks that neighbouring tiles share are decoded once, in a few megabytes.
    "GDAL_CACHEMAX": 16 << 20,
    "GDAL_PAM_ENABLED": "YES",
    "CPL_LOG_ERRORS": "OFF",
    "GDAL_NUM_THREADS": "1",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # else a JPEG cut short is grey below the cut
}
# Over the network a directory listing costs a request for each sibling that might be there.
_REMOTE_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_TIMEOUT": "30",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "VSI_CACHE": "TRUE",
}

_HANDLES = 6  # open files a thread keeps; each may hold sockets and caches
_local = threading.local()


@contextlib.contextmanager
def environment(path: str = "", **options: Any) -> Iterator[None]:
    """GDAL's options for reading ``path``; quiet about missing georeferences."""
    import rasterio

    from digseg.io.files import is_remote

    chosen = {**_OPTIONS, **(_REMOTE_OPTIONS if is_remote(path) else {}), **options}
    with rasterio.Env(**chosen), _QUIET:
        yield


class _Quiet:
    """`warnings.catch_warnings` for many threads: the first in filters, the last out restores.

    Python's own restores what it found when *it* began, so that of one thread takes away the
    filter under which another is still reading.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        from rasterio.errors import NotGeoreferencedWarning

        with self._lock:
            if self._inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


_QUIET = _Quiet()


def failures() -> tuple[type[BaseException], ...]:
    """What rasterio raises when a file is at fault."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    return (RasterioError, CPLE_BaseError, OSError, ValueError)


def said(error: BaseException, path: str = "") -> str:
    """The library's reason on one line, without the path (our sentence names it)."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    text = lines[0]
    for name in (path, os.path.basename(path)):
        if name:
            # As a whole word: a folder named "in" must not be found inside "being".
            text = re.sub(rf"(?<!\w){re.escape(name)}:\s?", "", text)
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the file", text)
    return text.strip().rstrip(".,:;")[:200]


def open_dataset(path: str, level: int | None = None) -> Any:
    """Open with rasterio; the caller closes, and is inside `environment`.

    Raises what `failures` lists when no driver takes it, or the driver gives up.
    """
    from rasterio.io import DatasetReader

    options: dict[str, Any] = {} if level is None else {"overview_level": level}
    # `rasterio.open` takes one driver, the class behind it a list of those that may try.
    return DatasetReader(path, driver=list(drivers()), sharing=False, **options)


@functools.cache
def drivers() -> tuple[str, ...]:
    """Raster drivers that may open a file a person gives us."""
    import rasterio

    with rasterio.Env() as env:
        known = env.drivers()
    return tuple(sorted(set(known) - _NETWORK_DRIVERS - _OTHER_DRIVERS))


def handle(path: str, level: int | None = None) -> Any:
    """This thread's own open dataset of ``path`` (or of one of its overviews).

    Handles are kept, least recently used closed first; a file that was replaced, or a process
    that was forked, gets a new one.
    """
    cache: OrderedDict[Any, Any]
    if getattr(_local, "process", None) != os.getpid():
        # After a fork the parent's handles share file positions with it: forget, don't close.
        _local.forgotten = getattr(_local, "cache", None)
        _local.cache = OrderedDict()
        _local.process = os.getpid()
    cache = _local.cache
    key = (path, level, _stamp(path))
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    for stale in [other for other in cache if other[:2] == key[:2]]:
        cache.pop(stale).close()
    dataset = open_dataset(path, level)
    cache[key] = dataset
    while len(cache) > _HANDLES:
        cache.popitem(last=False)[1].close()
    return dataset


def close_handles() -> None:
    """Close what this thread keeps open (before a file is replaced on Windows, and in tests)."""
    cache = getattr(_local, "cache", None)
    while cache:
        cache.popitem()[1].close()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_mtime_ns, stat.st_size


@dataclass(frozen=True)
class _Pixels:
    """Reads a box ``[band, y, x]``; picklable, for it holds the path and never a handle."""

    path: str
    dtype: np.dtype[Any]
    level: int | None

    def __call__(self, bounds: Bounds) -> AnyArray:
        (first, last), rows, columns = bounds
        with environment(self.path), reading(self.path, rows, columns):
            dataset = handle(self.path, self.level)
            found = dataset.read(list(range(first + 1, last + 1)), window=(rows, columns))
        return np.asarray(found, dtype=self.dtype)


@dataclass(frozen=True)
class _Validity:
    """Reads a box ``uint8 [y, x]``, non-zero where there is data: alpha, .msk or internal mask."""

    path: str

    def __call__(self, bounds: Bounds) -> AnyArray:
        rows, columns = bounds
        with environment(self.path), reading(self.path, rows, columns):
            found = handle(self.path).dataset_mask(window=(rows, columns))
        return np.asarray(found)


def pixels(
    path: str, shape: tuple[int, int, int], dtype: np.dtype[Any], level: int | None = None
) -> WindowArray:
    """Lazy pixels ``[band, y, x]`` of a file or of one of its overviews."""
    return WindowArray(shape, dtype, _Pixels(path, dtype, level))


def validity(path: str, shape: tuple[int, int]) -> WindowArray:
    """Lazy validity ``uint8 [y, x]`` of a file: 0 where there is no data."""
    return WindowArray(shape, np.uint8, _Validity(path))


@contextlib.contextmanager
def reading(path: str, rows: tuple[int, int], columns: tuple[int, int]) -> Iterator[None]:
    """Turn what the library raises for damaged pixels into one sentence."""
    try:
        yield
    except failures() as error:
        if isinstance(error, DigsegError):
            raise
        raise CorruptInputError(
            f"{path} is damaged: rows {rows[0]} to {rows[1]}, columns {columns[0]} to "
            f"{columns[1]} can't be read ({said(error, path)}); copy the file again."
        ) from error


def grid_of(dataset: Any) -> Grid:
    """The grid of an open dataset, transform to the bit; GCPs alone give no transform.

    Raises
    ------
    CorruptInputError
        The transform is not finite, or flat.
    """
    crs = dataset.crs
    shape = (int(dataset.height), int(dataset.width))
    transform = tuple(float(value) for value in dataset.transform[:6])
    a, b, _, d, e, _ = transform
    if not all(map(math.isfinite, transform)) or a * e == b * d:
        raise CorruptInputError(
            f"{dataset.name} has no usable transform {transform}: repair its georeference."
        )
    if not crs and not is_georeferenced(dataset):
        return Grid.of(shape)
    return Grid.from_transform(shape, transform, crs=wkt_of(crs), unit=unit_of(crs))


def is_georeferenced(dataset: Any) -> bool:
    """Whether the file gives a transform: GDAL says the identity where it has none."""
    return not dataset.transform.is_identity


def wkt_of(crs: Any) -> str | None:
    """WKT2 of a rasterio CRS; WKT1 where WKT2 can't say it."""
    from rasterio.errors import CRSError

    if not crs:
        return None
    try:
        return str(crs.to_wkt(version="WKT2_2019"))
    except CRSError:
        return str(crs.to_wkt())


def unit_of(crs: Any) -> str:
    """World unit: ``"degree"``, ``"metre"``, or what the CRS calls it; pixels without a CRS."""
    from rasterio.errors import CRSError

    if not crs:
        return "pixel"
    if crs.is_geographic:
        return "degree"
    try:
        name = str(crs.linear_units)
    except CRSError:
        return "metre"
    return "metre" if name.lower() in {"metre", "meter", "m", "unknown"} else name
