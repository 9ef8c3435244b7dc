"""Volumes turned to any of the 48 orientations and labels turned back, by nibabel's rules.

A volume keeps the voxel order of its file; `digseg.orientation` finds the one turn that the model
needs, LPS. Here are whole `Volume` and `Mask` values, for any orientation that a person names:
nothing is resampled, and what was turned comes back exactly. See ``docs/orientation.md``.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.orientation import Turn
from digseg.raster import Mask, Volume

#: All orientations: where the file's axes point, fastest first.
ORIENTATIONS: tuple[str, ...] = tuple(
    "".join(letters) for pairs in permutations(("LR", "PA", "IS")) for letters in product(*pairs)
)

#: Radiological display: rows run to the left, columns to posterior, planes to superior.
CANONICAL = "LPS"


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
    order, flips = [0, 0, 0], [False, False, False]
    for old, (new, direction) in enumerate(steps):
        order[2 - int(new)] = 2 - old
        flips[2 - int(new)] = bool(direction < 0)
    return Turn(tuple(order), tuple(flips))  # type: ignore[arg-type]


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
    if turn == Turn():
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
