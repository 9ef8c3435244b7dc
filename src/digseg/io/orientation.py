"""Turning volumes to and from one orientation, by permuting and flipping axes only.

Inside the project a volume keeps the voxel order of its file, and its affine says where it lies.
Whatever needs to know up from down (axial planes, the model) asks for the canonical orientation:
``LPS``, so that ``data[z, y, x]`` has x towards the patient's left, y towards posterior and z
towards superior. Planes ``data[z]`` then look as radiologists show them: the patient's right at
the left edge, anterior on top. No voxel is resampled; what was turned is turned back exactly.

See ``docs/orientation.md`` for the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

import numpy as np

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.raster import Mask, Volume
from digseg.types import AnyArray, LazyArray

#: All orientations: where the file's axes point, fastest first.
ORIENTATIONS: tuple[str, ...] = tuple(
    "".join(letters) for pairs in permutations(("LR", "PA", "IS")) for letters in product(*pairs)
)

#: Radiological display: rows run to the left, columns to posterior, planes to superior.
CANONICAL = "LPS"


@dataclass(frozen=True)
class Turn:
    """A permutation and flips of the three axes of an array ``[z, y, x]``.

    Parameters
    ----------
    axes
        For each axis of the turned array, the axis of the original.
    flips
        For each axis of the turned array, whether it runs backwards.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def inverse(self) -> Turn:
        """The turn that leads back."""
        back = tuple(self.axes.index(axis) for axis in range(3))
        flips = tuple(self.flips[axis] for axis in back)
        return Turn(back, flips)  # type: ignore[arg-type]

    @property
    def is_identity(self) -> bool:
        return self.axes == (0, 1, 2) and not any(self.flips)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Shape of the turned array."""
        z, y, x = (int(shape[axis]) for axis in self.axes)
        return z, y, x

    def apply(self, array: AnyArray) -> AnyArray:
        """A turned view of an array ``[..., z, y, x]``; axes before the last three stay."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        flips = tuple(slice(None, None, -1 if flip else None) for flip in self.flips)
        view: AnyArray = turned[(..., *flips)]
        return view

    def lazy(self, data: LazyArray) -> LazyArray:
        """As `apply` for an array that is read by slices."""
        return data if self.is_identity else Turned(data, self)

    def grid(self, grid: Grid) -> Grid:
        """Grid of the turned array."""
        if self.is_identity:
            return grid
        step = np.zeros((4, 4))
        step[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            # Array axis a is column 2 - a of the affine, which counts the fastest axis first.
            step[2 - old, 2 - new] = -1.0 if flip else 1.0
            step[2 - old, 3] = grid.shape[old] - 1 if flip else 0.0
        rows = tuple(tuple(float(value) for value in row) for row in grid.matrix @ step)
        return replace(grid, shape=self.shape(grid.shape), affine=rows)


@dataclass(frozen=True)
class Turned:
    """A lazy volume seen through a `Turn`; slicing reads only what the slices need."""

    data: LazyArray
    turn: Turn

    @property
    def shape(self) -> tuple[int, ...]:
        return self.turn.shape(tuple(self.data.shape))

    @property
    def ndim(self) -> int:
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.data.dtype)

    def __getitem__(self, key: Any) -> AnyArray:
        keys = _three(key)
        source: list[Any] = [slice(None)] * 3
        backwards = [False] * 3
        for axis, (entry, length) in enumerate(zip(keys, self.shape, strict=True)):
            old = self.turn.axes[axis]
            chosen, backwards[axis] = _mapped(entry, length, self.turn.flips[axis])
            source[old] = chosen
        part = np.asarray(self.data[tuple(source)])
        # Axes taken by a number are gone; the others stand in the original's order.
        left = [old for old in range(3) if isinstance(source[old], slice)]
        wanted = [axis for axis in range(3) if isinstance(keys[axis], slice)]
        part = part.transpose([left.index(self.turn.axes[axis]) for axis in wanted])
        return part[tuple(slice(None, None, -1 if backwards[axis] else None) for axis in wanted)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[:], dtype=dtype)


def turn_to(grid: Grid, codes: str = CANONICAL) -> Turn:
    """The turn that brings arrays on ``grid`` nearest to an orientation.

    Parameters
    ----------
    grid
        Three axes, in patient space; may be oblique or sheared.
    codes
        Where the axes shall point, fastest (x) first: one of `ORIENTATIONS`.

    Raises
    ------
    UsageError
        There is no such orientation.
    """
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    wanted = codes.upper()
    if wanted not in ORIENTATIONS:
        raise UsageError(
            f"{codes!r} is no orientation: write one of L/R, A/P and S/I each, such as LPS or RAS."
        )
    steps = ornt_transform(io_orientation(grid.matrix), axcodes2ornt(tuple(wanted)))
    axes, flips = [0, 0, 0], [False, False, False]
    for old, (new, direction) in enumerate(steps):
        axes[2 - int(new)] = 2 - old
        flips[2 - int(new)] = bool(direction < 0)
    return Turn(tuple(axes), tuple(flips))  # type: ignore[arg-type]


def to_canonical(volume: Volume, codes: str = CANONICAL) -> Volume:
    """A volume turned to an orientation, lazily.

    Parameters
    ----------
    volume
        Any orientation.
    codes
        ``"LPS"`` (radiological), ``"RAS"``, or any other of `ORIENTATIONS`.

    Returns
    -------
    A volume whose grid lies in the same place; ``data`` reads through the turn.
    """
    turn = turn_to(volume.grid, codes)
    if turn.is_identity:
        return volume
    return replace(volume, data=turn.lazy(volume.data), grid=turn.grid(volume.grid))


def from_canonical(mask: Mask, original: Grid, codes: str = CANONICAL) -> Mask:
    """Labels on a turned grid, brought back to the grid that was turned.

    The result has ``original`` itself as its grid, equal to the bit.

    Raises
    ------
    UsageError
        The labels don't fit the turned grid.
    """
    turn = turn_to(original, codes)
    if tuple(mask.labels.shape) != turn.shape(original.shape):
        raise UsageError(
            f"Labels of shape {tuple(mask.labels.shape)} did not come from a volume of shape "
            f"{original.shape} turned to {codes}."
        )
    return replace(mask, labels=turn.inverse.lazy(mask.labels), grid=original)


def _three(key: Any) -> tuple[Any, Any, Any]:
    entries = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        entries[at : at + 1] = [slice(None)] * (4 - len(entries))
    entries += [slice(None)] * (3 - len(entries))
    if len(entries) != 3 or not all(isinstance(e, (slice, int, np.integer)) for e in entries):
        raise IndexError("a turned volume takes numbers and slices for its three axes")
    return entries[0], entries[1], entries[2]


def _mapped(entry: Any, length: int, flip: bool) -> tuple[Any, bool]:
    """Index of the original for one of the turned axis, and whether the result runs backwards."""
    if not isinstance(entry, slice):
        index = range(length)[entry]
        return (length - 1 - index if flip else index), False
    chosen = range(length)[entry]
    if not chosen:
        return slice(0, 0), False
    first, last, step = chosen[0], chosen[-1], chosen.step
    if flip:
        first, last, step = length - 1 - first, length - 1 - last, -step
    if step > 0:
        return slice(first, last + 1, step), False
    return slice(last, first + 1, -step), True
