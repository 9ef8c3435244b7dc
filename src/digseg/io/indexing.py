"""NumPy's basic indexing, worked out for arrays that are read by window."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """One axis of an index: start, stop and (positive or negative) step as `range` has them."""

    indices: range
    single: bool = False

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def low(self) -> int:
        """First pixel of the window that holds all of them."""
        return min(self.indices[0], self.indices[-1]) if self.indices else 0

    @property
    def extent(self) -> int:
        """Pixels of that window."""
        return abs(self.indices[-1] - self.indices[0]) + 1 if self.indices else 0

    @property
    def within(self) -> slice:
        """The slice that picks them out of that window."""
        step = self.indices.step
        return slice(None, None, step)


def spans_of(key: Any, shape: tuple[int, ...]) -> tuple[Span, ...]:
    """Work out integers, slices and one ellipsis for an array of ``shape``.

    Raises
    ------
    IndexError
        Too many indices, an index outside the array, or an index that is neither.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    if sum(item is Ellipsis for item in keys) > 1:
        raise IndexError("an index holds at most one ellipsis")
    missing = len(shape) - sum(item is not Ellipsis for item in keys)
    if missing < 0:
        raise IndexError(f"{len(keys)} indices for an array with {len(shape)} axes")
    if Ellipsis in [item for item in keys if item is Ellipsis]:
        at = next(i for i, item in enumerate(keys) if item is Ellipsis)
        keys[at : at + 1] = [slice(None)] * missing
    else:
        keys += [slice(None)] * missing
    return tuple(_span(item, side) for item, side in zip(keys, shape, strict=True))


def _span(item: Any, side: int) -> Span:
    if isinstance(item, slice):
        return Span(range(*item.indices(side)))
    try:
        index = operator.index(item)
    except TypeError:
        raise IndexError(f"arrays read by window take integers and slices, not {item!r}") from None
    if not -side <= index < side:
        raise IndexError(f"index {index} is outside an axis of {side}")
    index %= side
    return Span(range(index, index + 1), single=True)


def dropped(*spans: Span) -> tuple[int | slice, ...]:
    """The index that drops the axes which were given as integers."""
    return tuple(0 if span.single else slice(None) for span in spans)
