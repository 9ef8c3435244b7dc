"""Files that are whole or absent when a process dies, and flushed to the disk at checkpoints.

A rename makes a file whole for every process that looks. Only a power cut can still leave a name
whose bytes were never written. A flush of every file would cost more than the rest of the writing,
so files are flushed together, every few seconds, and the journal then says so; what it speaks of
after its last checkpoint is verified by checksum when a run is resumed.
"""

from __future__ import annotations

import asyncio
import os
import uuid
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from digseg.errors import InputNotFoundError
from digseg.journal import sync_folder

#: Size and CRC-32 of a file.
Seal = tuple[int, int]


class DurableStore(LocalStore):
    """`LocalStore` that remembers size and checksum of what it wrote."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._written: dict[str, Seal] = {}

    def take_written(self) -> dict[str, Seal]:
        """Seal of each file written since the last call, by key."""
        written, self._written = self._written, {}
        return written

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """As in `LocalStore`; but pixels of a store that was deleted are not pending ones.

        Raises
        ------
        InputNotFoundError
            The whole store is gone.
        """
        found = await super().get(key, prototype, byte_range)
        if found is None and "/c/" in key and not self.root.exists():
            raise gone(self.root)
        return found

    async def set(self, key: str, value: Buffer) -> None:
        if not self._is_open:
            await self._open()
        self._check_writable()
        content = value.as_buffer_like()
        await asyncio.to_thread(self.put, self.root / key, content)
        self._written[key] = (len(value), zlib.crc32(content))

    def put(self, path: Path, content: bytes | bytearray | memoryview) -> None:
        """Write one file whole or not at all; tests inject their faults here."""
        write_whole(path, content)


def gone(store: Path) -> InputNotFoundError:
    """What is said of a store that was deleted while somebody still reads it."""
    return InputNotFoundError(
        f"The probabilities in {store} are gone: those of a run without 'probabilities' are "
        "deleted with its result. Keep the result open while it is read, or name a folder for them."
    )


def write_whole(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Write a file under a temporary name and rename it."""
    stream_whole(path, lambda file: file.write(content))


def stream_whole(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """`write_whole` for what need not be in memory at once; returns the bytes of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with temporary.open("wb") as file:
            write(file)
            size = file.tell()
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return size


def sync_files(paths: Iterable[Path]) -> None:
    """Flush files and their folders to the disk; several at once, which a disk does together."""
    chosen = [path for path in paths if path.exists()]
    with ThreadPoolExecutor(8, thread_name_prefix="digseg sync") as pool:
        list(pool.map(_sync, chosen))
        list(pool.map(sync_folder, {path.parent for path in chosen}))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sound(path: str, size: int, crc: int | None) -> bool:
    """Whether a file has its size, and (where ``crc`` is given) its content."""
    try:
        if os.stat(path).st_size != size:
            return False
        return crc is None or zlib.crc32(Path(path).read_bytes()) == crc
    except FileNotFoundError:
        return False
