"""Turning voxel arrays: pure permutations and flips, never an interpolation. Level 2.

The model sees every volume the way a radiologist does: axial planes with the patient's right at
the left of the picture and the front at the top (LPS: ``z`` runs to the head, ``y`` to the back,
``x`` to the left). A file may hold its voxels in any of 48 orders; `canonical` finds the turn
from the file's order to that one, and its inverse brings the answer back to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from digseg.grid import Grid
from digseg.lazy import Bounds, WindowArray, box
from digseg.types import AnyArray, LazyArray

Axis = Literal["z", "y", "x"]
AXES: tuple[Axis, ...] = ("z", "y", "x")

#: RAS+ direction of the canonical axes in array order: up, to the back, to the left.
_CANONICAL = ((2, 1.0), (1, -1.0), (0, -1.0))

# Planes across each canonical axis as (order, flips) of the canonical array: [plane, row, column].
# Coronal and sagittal planes have the head at the top, as in every viewer.
_PLANES: dict[Axis, tuple[tuple[int, int, int], tuple[bool, bool, bool]]] = {
    "z": ((0, 1, 2), (False, False, False)),
    "y": ((1, 0, 2), (False, True, False)),
    "x": ((2, 0, 1), (False, True, False)),
}


@dataclass(frozen=True)
class Turn:
    """A permutation of the last three axes, then flips: ``new[..., a] = old[..., order[a]]``.

    Parameters
    ----------
    order
        For each new axis the old one it comes from.
    flips
        For each new axis whether it runs against the old one.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def then(self, other: Turn) -> Turn:
        """First this turn, then ``other``."""
        order = tuple(self.order[axis] for axis in other.order)
        flips = tuple(
            self.flips[axis] != flip for axis, flip in zip(other.order, other.flips, strict=True)
        )
        return Turn(order, flips)  # type: ignore[arg-type]

    @property
    def inverse(self) -> Turn:
        """The turn back."""
        order = tuple(self.order.index(axis) for axis in range(3))
        return Turn(order, tuple(self.flips[axis] for axis in order))  # type: ignore[arg-type]

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape after the turn; leading axes stay."""
        lead, last = tuple(shape[:-3]), tuple(shape[-3:])
        return (*lead, *(last[axis] for axis in self.order))

    def apply(self, array: AnyArray) -> AnyArray:
        """The turned array, a view; leading axes stay."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        steps: list[Any] = [..., *(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        turned: AnyArray = moved[tuple(steps)]
        return turned

    def bounds(self, bounds: Bounds, shape: tuple[int, ...]) -> Bounds:
        """The box of the old array (of ``shape``) that becomes ``bounds`` of the new one."""
        lead = len(shape) - 3
        old = list(bounds)
        for new_axis, (axis, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            start, stop = bounds[lead + new_axis]
            side = shape[lead + axis]
            old[lead + axis] = (side - stop, side - start) if flip else (start, stop)
        return tuple(old)

    def lazy(self, data: LazyArray) -> LazyArray:
        """The turned array, read window by window; the same object when there is nothing to do."""
        if self == Turn():
            return data
        shape = tuple(int(side) for side in data.shape)

        def read(bounds: Bounds) -> AnyArray:
            return self.apply(box(data, self.bounds(bounds, shape)))

        return WindowArray(self.shape(shape), data.dtype, read)

    def grid(self, grid: Grid) -> Grid:
        """The grid of the turned array: every voxel stays where it is in the world."""
        n = grid.ndim
        step = np.zeros((n + 1, n + 1))
        step[n, n] = 1.0
        for new_axis, (axis, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            # Affines take the fastest axis first.
            row, column = n - 1 - axis, n - 1 - new_axis
            step[row, column] = -1.0 if flip else 1.0
            if flip:
                step[row, n] = grid.shape[axis] - 1
        rows = tuple(tuple(float(value) for value in row) for row in grid.matrix @ step)
        return replace(grid, shape=self.shape(grid.shape), affine=rows)


def canonical(grid: Grid) -> Turn:
    """The turn from a volume's own voxel order to canonical LPS planes.

    A volume that is in no patient space (a microscope's stack) has no left or right: it stays.
    Oblique volumes go to the nearest axes, as `nibabel.io_orientation` does.
    """
    if grid.space != "patient":
        return Turn()
    columns = grid.matrix[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    unit = columns / np.where(lengths > 0, lengths, 1.0)
    # The nearest rotation (polar decomposition) keeps strong shear from misleading the choice.
    left, _, right = np.linalg.svd(unit)
    cosines = left @ right  # [world axis, fastest-first voxel axis]
    world_of = _assign(np.abs(cosines))
    order, flips = [], []
    for world, sign in _CANONICAL:
        fastest_first = world_of.index(world)
        order.append(2 - fastest_first)
        flips.append(bool(cosines[world, fastest_first] * sign < 0))
    return Turn(tuple(order), tuple(flips))  # type: ignore[arg-type]


def _assign(strength: AnyArray) -> tuple[int, ...]:
    """World axis of each voxel axis: the permutation with the largest sum of ``strength``."""
    from itertools import permutations

    return max(
        permutations(range(3)),
        key=lambda p: sum(float(strength[p[axis], axis]) for axis in range(3)),
    )


def planes_across(axis: Axis) -> Turn:
    """From a canonical volume to planes ``[plane, row, column]`` across ``axis``."""
    return Turn(*_PLANES[axis])
