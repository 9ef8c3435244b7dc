"""Stores and sources that break on purpose."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar

from digseg.engine.durable import DurableStore
from digseg.types import AnyArray, BoolArray, Float32Array, Window

from .conftest import ArraySource


class PowerCut(BaseException):
    """The machine stops: nothing after this line runs."""


class TornStore(DurableStore):
    """After ``writes`` files, half of the next one lands under its final name, then darkness."""

    writes: ClassVar[int] = 0

    def put(self, path: Path, content: bytes | bytearray | memoryview) -> None:
        type(self).writes -= 1
        if type(self).writes < 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(content)[: len(content) // 2])
            raise PowerCut
        super().put(path, content)


class FullStore(DurableStore):
    """A disk that is full after ``writes`` files."""

    writes: ClassVar[int] = 0

    def put(self, path: Path, content: bytes | bytearray | memoryview) -> None:
        type(self).writes -= 1
        if type(self).writes < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().put(path, content)


class FaultySource(ArraySource):
    """Raises on windows that reach a bad pixel, ``times`` times (for ever by default)."""

    def __init__(self, pixels: AnyArray, bad: tuple[int, int], times: int = 1 << 30) -> None:
        super().__init__(pixels)
        self.bad, self.times = bad, times

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        top, bottom, left, right = window
        y, x = self.bad
        if top <= y < bottom and left <= x < right and self.times > 0:
            self.times -= 1
            raise OSError("bad sector")
        return super().read(plane, window)
