"""Arrays that are computed window by window when somebody slices them. Level 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from digseg.types import AnyArray, LazyArray

#: Half-open bounds along every axis: ``((start, stop), ...)``.
Bounds = tuple[tuple[int, int], ...]


class WindowArray:
    """A `LazyArray` over a function that reads a box.

    Parameters
    ----------
    shape, dtype
        Of the whole array.
    read
        Gives the box of ``bounds`` as an array of exactly that shape; boxes are never empty and
        never reach outside.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, read: Callable[[Bounds], AnyArray]
    ) -> None:
        self.shape = tuple(int(side) for side in shape)
        self.dtype = np.dtype(dtype)
        self._read = read

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements; viewers ask for it."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        whole = self[...]
        return whole if dtype is None else whole.astype(dtype)

    def __getitem__(self, key: Any, /) -> AnyArray:
        """Integers, slices (with any step) and an ellipsis, as NumPy does; no fancy indexing."""
        parts = _expand(key, self.ndim)
        bounds, after = [], []
        for part, side in zip(parts, self.shape, strict=True):
            start, stop, rest = _bounds(part, side)
            bounds.append((start, stop))
            after.append(rest)
        if any(stop <= start for start, stop in bounds):
            shape = tuple(max(0, stop - start) for start, stop in bounds)
            found: AnyArray = np.empty(shape, self.dtype)
        else:
            found = self._read(tuple(bounds))
        result: AnyArray = found[tuple(after)]
        return result


def box(data: LazyArray, bounds: Bounds) -> AnyArray:
    """Read a box of any lazy array."""
    return np.asarray(data[tuple(slice(start, stop) for start, stop in bounds)])


def _expand(key: Any, ndim: int) -> tuple[Any, ...]:
    parts = key if isinstance(key, tuple) else (key,)
    if any(part is Ellipsis for part in parts):
        where = next(index for index, part in enumerate(parts) if part is Ellipsis)
        missing = ndim - len(parts) + 1
        parts = (*parts[:where], *[slice(None)] * missing, *parts[where + 1 :])
    if len(parts) > ndim:
        raise IndexError(f"{len(parts)} indices for an array with {ndim} axes")
    return (*parts, *[slice(None)] * (ndim - len(parts)))


def _bounds(part: Any, side: int) -> tuple[int, int, Any]:
    """Bounds to read, and what to do with the axis afterwards (a step, or drop it)."""
    if isinstance(part, slice):
        start, stop, step = part.indices(side)
        if step > 0:
            return start, max(start, stop), slice(None, None, step)
        count = len(range(start, stop, step))
        if not count:
            return 0, 0, slice(None)
        last = start + (count - 1) * step
        return last, start + 1, slice(None, None, step)
    index = int(part)
    if not -side <= index < side:
        raise IndexError(f"index {index} is outside an axis of {side}")
    index %= side
    return index, index + 1, 0
