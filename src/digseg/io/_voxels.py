"""Voxels of one file with a fixed-size header: mapped where plain, inflated once where gzipped."""

from __future__ import annotations

import errno
import gzip
import io
import mmap
import tempfile
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, DoesNotFitError
from digseg.settings import format_size
from digseg.types import AnyArray

#: Inflated voxels up to this many bytes stay in memory; more go to an unnamed temporary file.
IN_MEMORY = 256 << 20

#: Deflate can't pack tighter than this.
_DEFLATE_LIMIT = 1032

#: Sizes and ratios from which a gzip file is taken for a bomb. Scans pack 2 to 10 to one, label
#: maps of a gigabyte some hundred to one.
_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 250

#: Bytes behind the voxels that are passed over (some writers pad).
_PADDING = 1 << 20

_CHUNK = 1 << 20

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
        Bytes before the first voxel of the first time point.
    points
        Time points in the file.
    gzipped
        Whether the whole file is a gzip stream.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    offset: int
    points: int = 1
    gzipped: bool = False

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
            Too few bytes, or a gzip stream that would expand without measure.
        """
        size = self.path.stat().st_size
        claimed = " x ".join(str(side) for side in reversed(self.shape))
        if self.points > 1:
            claimed += f" x {self.points}"
        if not self.gzipped and self.end > size:
            raise CorruptInputError(
                f"{self.path.name} is cut short: its header promises {claimed} voxels "
                f"({format_size(self.end)}), the file has {format_size(size)}; copy it again."
            )
        if self.gzipped and self.end > _DEFLATE_LIMIT * size + _CHUNK:
            raise CorruptInputError(
                f"{self.path.name} can't hold the {claimed} voxels that its header promises: "
                f"it has only {format_size(size)}."
            )
        if self.gzipped and self.end > _BOMB_BYTES and self.end > _BOMB_RATIO * size:
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
        part = np.asarray(self.stored()[key])
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

    def _open(self) -> AnyArray:
        layout = self.layout
        if layout.gzipped:
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
    start = layout.offset + point * layout.bytes_per_point
    stop = start + layout.bytes_per_point
    try:
        with gzip.open(layout.path, "rb") as stream, _store(layout.bytes_per_point) as kept:
            position = 0
            while chunk := stream.read(_CHUNK):
                begin, end = max(start - position, 0), min(stop - position, len(chunk))
                if begin < end:
                    kept.write(chunk[begin:end])
                position += len(chunk)
                if position > layout.end + _PADDING:
                    raise CorruptInputError(
                        f"{layout.path.name} goes on long after the voxels that its header "
                        "promises: it is damaged or a gzip bomb, so it was not read."
                    )
            if position < layout.end:
                raise CorruptInputError(
                    f"{layout.path.name} is cut short: its header promises "
                    f"{format_size(layout.end)}, the stream holds {format_size(position)}; "
                    "copy it again."
                )
            kept.flush()
            return _as_array(kept, layout)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptInputError(
            f"The gzip stream of {layout.path.name} is damaged ({error}): copy the file again."
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DoesNotFitError(
            f"{layout.path.name} unpacks to {format_size(layout.bytes_per_point)}, more than the "
            "temporary folder has room for: unpack it yourself, or set TMPDIR to a larger disk."
        ) from error


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
        raise CorruptInputError(
            f"The gzip stream of {path.name} is damaged ({error}): copy the file again."
        ) from error
