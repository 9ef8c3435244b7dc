"""Voxels that lie in one piece in a file: mapped where plain, unpacked once where packed."""

from __future__ import annotations

import gzip
import io
import mmap
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, DoesNotFitError
from digseg.io._packed import Look, Packing, damaged, is_full, unpack
from digseg.types import AnyArray
from digseg.wording import format_size

#: Inflated voxels up to this many bytes stay in memory; more go to an unnamed temporary file.
IN_MEMORY = 256 << 20

#: Deflate can't pack tighter than this.
_DEFLATE_LIMIT = 1032

#: Sizes and ratios from which a gzip file is taken for a bomb. Scans pack 2 to 10 to one, label
#: maps of a gigabyte some hundred to one.
_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 250

#: A gzip file of a few bytes may hold this much.
_SLACK = 1 << 20

#: Pages of a mapped file that may stay with this process.
_RESIDENT = 32 << 20


@dataclass(frozen=True)
class Layout:
    """Where the voxels of a file lie.

    Parameters
    ----------
    path
        The file that holds them.
    dtype
        As stored, byte order included.
    shape
        ``(z, y, x)`` of one time point; x runs fastest.
    offset
        Bytes before the first voxel of the first time point, counted in the unpacked stream.
    points
        Time points in the file.
    packing
        How the voxels (and what ``offset`` counts) are packed.
    start
        Bytes of the file before the packed stream.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    offset: int
    points: int = 1
    packing: Packing = "raw"
    start: int = 0

    @property
    def packed(self) -> bool:
        return self.packing != "raw"

    @property
    def bytes_per_point(self) -> int:
        z, y, x = self.shape
        return z * y * x * self.dtype.itemsize

    @property
    def end(self) -> int:
        return self.offset + self.points * self.bytes_per_point

    def check(self) -> None:
        """Refuse a header that promises more voxels than the file can hold.

        Raises
        ------
        CorruptInputError
            Too few bytes, or a packed stream that would expand without measure.
        """
        size = self.path.stat().st_size
        claimed = " x ".join(str(side) for side in reversed(self.shape))
        if self.points > 1:
            claimed += f" x {self.points}"
        if not self.packed and self.end > size:
            raise CorruptInputError(
                f"{self.path.name} is cut short: its header promises {claimed} voxels "
                f"({format_size(self.end)}), the file has {format_size(size)}; copy it again."
            )
        if self.packing == "gzip" and self.end > _DEFLATE_LIMIT * size + _SLACK:
            raise CorruptInputError(
                f"{self.path.name} can't hold the {claimed} voxels that its header promises: "
                f"it has only {format_size(size)}."
            )
        if self.packing == "gzip" and self.end > _BOMB_BYTES and self.end > _BOMB_RATIO * size:
            raise CorruptInputError(
                f"{self.path.name} would expand {self.end // max(size, 1)}-fold to "
                f"{format_size(self.end)}, like a gzip bomb: unpack it yourself if you trust it."
            )


@dataclass
class Voxels:
    """One time point ``[z, y, x]`` of a file, lazy, in the machine's byte order, scaled.

    Safe to slice from several threads. Pickles as a path, so that workers open it themselves.

    Parameters
    ----------
    layout
        Where the voxels lie.
    point
        Time point, from 0.
    slope, inter
        Scaling; ``(1, 0)`` gives the stored values and type.
    """

    layout: Layout
    point: int = 0
    slope: float = 1.0
    inter: float = 0.0
    _raw: AnyArray | None = field(default=None, repr=False)
    _touched: int = field(default=0, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape

    @property
    def ndim(self) -> int:
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        if self.scaled:
            return np.dtype(np.float64)
        return self.layout.dtype.newbyteorder("=")

    def __getitem__(self, key: Any) -> AnyArray:
        stored = self.stored()
        found = stored[key]
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        step = max(1, _RESIDENT * len(stored) // max(1, stored.nbytes))
        if not isinstance(first, slice) or _mapping_of(stored) is None:
            return self._values(found)
        # A part across the fast axes is thin in every slice, yet touches pages all over the file:
        # some slices at a time, so that few pages are here at once.
        planes = range(*first.indices(stored.shape[0]))
        if len(planes) <= step:
            return self._values(found)
        values = np.empty(found.shape, self.dtype)
        for start in range(0, len(planes), step):
            some = planes[start : start + step]
            stop = some.stop if some.stop >= 0 else None  # down to the first slice
            values[start : start + step] = self._values(
                stored[(slice(some.start, stop, some.step), *rest)]
            )
        return values

    def _values(self, part: AnyArray) -> AnyArray:
        """Stored values in memory of our own, in the machine's byte order, scaled."""
        if self.scaled:
            values = np.asarray(part.astype(np.float64) * self.slope + self.inter)
        else:
            values = part.astype(self.dtype)
        self._release(part)
        return values

    def _release(self, part: AnyArray) -> None:
        """Now and then give the pages of a mapped file back to the system.

        They count as memory of this process until then: a scan read slice by slice would seem to
        grow to its own size, and a run under ``--memory`` be stopped for it.
        """
        with self._lock:
            # A part across the fast axes has touched pages all over the file.
            self._touched += part.nbytes if part.flags.c_contiguous else _RESIDENT
            if self._touched < _RESIDENT:
                return
            self._touched = 0
            mapping = _mapping_of(self._raw)
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[:], dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("layout", "point", "slope", "inter")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def stored(self) -> AnyArray:
        """Stored values ``[z, y, x]``, in the file's byte order, before scaling."""
        with self._lock:
            if self._raw is None:
                self._raw = self._open()
            return self._raw

    def prove(self, places: AnyArray, *, keep: bool = True) -> AnyArray | None:
        """Read a packed file to its end, to prove it whole before anybody works with it.

        Parameters
        ----------
        places
            Ascending indices into the flat array.
        keep
            Unpack it for good; otherwise nothing is kept but the values at ``places``, which are
            given back (`None` where the voxels themselves can be asked).
        """
        if not self.layout.packed:
            return None
        if keep:
            self.stored()
            return None
        looking = Look(self.layout.dtype, places)
        _unpack(self.layout, self.point, looking.write)
        return self._values(looking.values)

    def _open(self) -> AnyArray:
        layout = self.layout
        if layout.packed:
            return _inflate(layout, self.point)
        offset = layout.offset + self.point * layout.bytes_per_point
        return np.memmap(layout.path, layout.dtype, "r", offset, layout.shape)


def _mapping_of(array: Any) -> mmap.mmap | None:
    """The mapped file under an array; `None` for one in memory."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return array


def _inflate(layout: Layout, point: int) -> AnyArray:
    """Stored values of one time point; the stream is read, and its checksum proved, to the end."""
    try:
        with _store(layout.bytes_per_point) as kept:
            _unpack(layout, point, kept.write)
            kept.flush()
            return _as_array(kept, layout)
    except OSError as error:
        if not is_full(error):
            raise
        raise DoesNotFitError(
            f"{layout.path.name} unpacks to {format_size(layout.bytes_per_point)}, more than the "
            "temporary folder has room for: unpack it yourself, or set TMPDIR to a larger disk."
        ) from error


def _unpack(layout: Layout, point: int, write: Callable[[bytes], object]) -> None:
    begin = layout.offset + point * layout.bytes_per_point
    part = begin, begin + layout.bytes_per_point
    unpack(layout.path, layout.packing, layout.start, part, layout.end, write)


def _store(size: int) -> Any:
    return tempfile.TemporaryFile() if size > IN_MEMORY else io.BytesIO()


def _as_array(kept: Any, layout: Layout) -> AnyArray:
    if layout.bytes_per_point > IN_MEMORY:
        # The mapping holds the unnamed file open; it is gone when the array is.
        buffer: Any = mmap.mmap(kept.fileno(), layout.bytes_per_point, access=mmap.ACCESS_READ)
    else:
        buffer = kept.getvalue()
    return np.frombuffer(buffer, layout.dtype).reshape(layout.shape)


def gzip_head(path: Path, size: int) -> bytes:
    """First bytes of a gzip stream.

    Raises
    ------
    CorruptInputError
        The stream is damaged in there.
    """
    try:
        with gzip.open(path, "rb") as stream:
            return stream.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, "gzip", error) from error
