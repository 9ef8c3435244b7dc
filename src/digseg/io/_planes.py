"""Planes of arrays with more axes than an image has: choose a time, keep channels or slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError
from digseg.io._zarr_axes import Axes
from digseg.io._zarr_store import failures
from digseg.io.gdal import said
from digseg.lazy import Bounds
from digseg.types import AnyArray


@dataclass(frozen=True)
class Planes:
    """Reads a box of ``cyx`` (or of ``zyx``, where a channel is chosen) of an n-D array.

    Parameters
    ----------
    opener
        Gives the array, which is sliced lazily; picklable, and its text names the file.
    axes
        Its axes.
    time, channel
        What is chosen of those that are not kept.
    """

    opener: Callable[[], Any]
    axes: Axes
    time: int
    channel: int | None

    def __call__(self, bounds: Bounds) -> AnyArray:
        array = self.opener()
        wanted = "cyx" if self.channel is None else "zyx"
        chosen = dict(zip(wanted, bounds, strict=True))
        key: list[Any] = []
        kept = []
        for name in self.axes.names:
            if name in chosen:
                key.append(slice(*chosen[name]))
                kept.append(name)
            else:
                key.append({"t": self.time, "c": self.channel or 0}.get(name, 0))
        try:
            found = np.asarray(array[tuple(key)])
        except failures() as error:
            raise CorruptInputError(
                f"{self.opener} is damaged: a chunk of it can't be decoded ({said(error)})."
            ) from error
        found = np.transpose(found, [kept.index(name) for name in wanted if name in kept])
        if "c" in wanted and "c" not in kept:
            found = found[None]
        return found.astype(native(array.dtype), copy=False)


def native(dtype: Any) -> np.dtype[Any]:
    """NumPy's own byte order, and bytes for booleans."""
    dtype = np.dtype(dtype)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def check_dtype(path: str, dtype: Any) -> None:
    kind = np.dtype(dtype).kind
    if kind == "c":
        raise UnsupportedInputError(f"{path} holds complex numbers: convert it to magnitudes.")
    if kind not in "buif":
        raise UnsupportedInputError(f"{path} holds {dtype} and no numbers: it is no image.")
