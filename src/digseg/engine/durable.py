"""A zarr store on the local disk whose writes survive a power cut once they return."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from digseg.journal import sync_folder


class DurableStore(LocalStore):
    """`LocalStore` with a flush to the disk before each rename.

    zarr's own store renames a temporary file, so that a killed process leaves no torn chunk; but
    after a power cut the name may be there and the bytes not.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._sizes: dict[str, int] = {}

    def take_sizes(self) -> dict[str, int]:
        """Bytes of each file written since the last call, by key."""
        sizes, self._sizes = self._sizes, {}
        return sizes

    async def set(self, key: str, value: Buffer) -> None:
        if not self._is_open:
            await self._open()
        self._check_writable()
        await asyncio.to_thread(self.put, self.root / key, value.as_buffer_like())
        self._sizes[key] = len(value)

    def put(self, path: Path, content: bytes | bytearray | memoryview) -> None:
        """Write one file whole or not at all; tests inject their faults here."""
        write_durably(path, content)


def write_durably(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Write a file under a temporary name, flush it to the disk, rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
