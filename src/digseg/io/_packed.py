"""Streams of packed voxels, read from end to end in bounded memory.

A stream is always read to its end and its checksum proved, whatever is kept of it: all voxels of a
time point (`keep`) or those at a few places (`look`).
"""

from __future__ import annotations

import bz2
import errno
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from digseg.errors import CorruptInputError
from digseg.types import AnyArray
from digseg.wording import format_size

#: How the voxels of a file are packed; ``"zlib"`` takes gzip's wrapping as well, as MetaIO does.
Packing = Literal["raw", "gzip", "zlib", "bzip2"]

#: Bytes behind the voxels that are passed over (some writers pad).
_PADDING = 1 << 20

_CHUNK = 1 << 20


def chunks(path: Path, packing: Packing, start: int = 0) -> Iterator[bytes]:
    """Unpacked bytes of the stream that begins at byte ``start`` of a file, a megabyte at once.

    Raises
    ------
    EOFError, OSError, zlib.error
        The stream is cut short or damaged.
    """
    with path.open("rb") as file:
        file.seek(start)
        if packing == "zlib":
            yield from _zlib(file)
            return
        opened: Any = bz2.BZ2File(file) if packing == "bzip2" else gzip.GzipFile(fileobj=file)
        with opened as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk


def _zlib(file: BinaryIO) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=47)
    while not decoder.eof:
        data = decoder.unconsumed_tail or file.read(_CHUNK)
        chunk = decoder.decompress(data, _CHUNK)
        if chunk:
            yield chunk
        elif not data:
            raise EOFError("it ends before its end mark")


def unpack(
    path: Path,
    packing: Packing,
    start: int,
    part: tuple[int, int],
    end: int,
    write: Callable[[bytes], object],
) -> None:
    """Read a stream to its end and hand on the bytes from ``part[0]`` to ``part[1]``.

    Parameters
    ----------
    end
        Bytes that the header promises.

    Raises
    ------
    CorruptInputError
        The stream is damaged, shorter than promised or much longer.
    OSError
        What ``write`` raises.
    """
    position = 0
    try:
        for chunk in chunks(path, packing, start):
            first, last = max(part[0] - position, 0), min(part[1] - position, len(chunk))
            if first < last:
                write(chunk[first:last] if last - first < len(chunk) else chunk)
            position += len(chunk)
            if position > end + _PADDING:
                raise CorruptInputError(
                    f"{path.name} goes on long after the voxels that its header promises: "
                    f"it is damaged or a {packing} bomb, so it was not read."
                )
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, CorruptInputError) or getattr(error, "errno", None) is not None:
            raise
        raise damaged(path, packing, error) from error
    if position < end:
        raise CorruptInputError(
            f"{path.name} is cut short: its header promises {format_size(end)}, "
            f"the stream holds {format_size(position)}; copy it again."
        )


def damaged(path: Path, packing: Packing, error: Exception) -> CorruptInputError:
    """The sentence for a stream that can't be unpacked."""
    reason = str(error).rstrip(".")
    return CorruptInputError(
        f"The {packing} stream of {path.name} is damaged ({reason}): copy the file again."
    )


def is_full(error: OSError) -> bool:
    """Whether the disk has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Look:
    """Takes the bytes of an array in order and keeps the values at a few places.

    Parameters
    ----------
    places
        Indices into the flat array, ascending.
    """

    def __init__(self, dtype: np.dtype[Any], places: AnyArray) -> None:
        self.values: AnyArray = np.zeros(len(places), dtype)
        self._places, self._seen, self._rest = places, 0, b""

    def write(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        count = len(data) // self.values.dtype.itemsize
        found = np.frombuffer(data, self.values.dtype, count)
        first, last = np.searchsorted(self._places, (self._seen, self._seen + count))
        self.values[first:last] = found[self._places[first:last] - self._seen]
        self._seen += count
        self._rest = data[count * self.values.dtype.itemsize :]
