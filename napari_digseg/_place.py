"""Where a layer lies: from grids to napari's world and back. Pure: no napari, no Qt.

napari draws its first displayed axis downward. So that north is up and a patient lies as a
radiologist expects (front at the top, right side at the left), the world of a map layer is
``(southward, eastward)`` = ``(-y, x)`` and that of a volume ``(to the head, to the back, to the
left)``. Numbers and units stay those of the file; only the sign of an axis changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.grid import Grid
from digseg.orientation import Turn, canonical

#: Key of a layer's ``metadata`` under which everything of ours stands, as plain values.
KEY = "digseg"

# Sign of each world axis, array order, from the grid's world to napari's.
_SIGNS = {("map", 2): (-1.0, 1.0), ("patient", 3): (1.0, -1.0, -1.0)}
_UNITS = {
    "meter": "metre",
    "us survey foot": "survey_foot",
    "foot_us": "survey_foot",
    "millimeter": "millimetre",
}
_PLAIN_UNITS = {"metre", "degree", "millimetre", "micrometre", "foot", "survey_foot", "pixel"}


@dataclass(frozen=True)
class Placement:
    """Where a layer lies, as the keyword arguments that every napari layer takes."""

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    affine: NDArray[np.float64] | None
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    def kwargs(self, lead: tuple[str, ...] = ()) -> dict[str, Any]:
        """Keyword arguments; ``lead`` names axes before the spatial ones (time, band)."""
        n = len(lead)
        kwargs: dict[str, Any] = {
            "scale": (1.0,) * n + self.scale,
            "translate": (0.0,) * n + self.translate,
            "units": ("pixel",) * n + self.units,
            "axis_labels": lead + self.axis_labels,
        }
        if self.affine is not None:
            side = len(self.scale) + n
            affine = np.eye(side + 1)
            affine[n:, n:] = self.affine
            kwargs["affine"] = affine
        return kwargs


def placement(grid: Grid) -> Placement:
    """Scale, offset and (where there is a rotation or shear) affine of a layer on ``grid``.

    The grid of a volume has to be canonical (`shown`). An oblique volume is shown in its own
    planes: napari can't cut along them otherwise; its exact affine stays in the metadata.
    """
    n = grid.ndim
    matrix = grid.index_matrix
    if grid.space == "map" or _measured(grid):
        # The affine gives corners there, napari speaks of centres.
        matrix[:n, n] += matrix[:n, :n] @ np.full(n, 0.5)
    signs = _SIGNS.get((grid.space, n), (1.0,) * n)
    matrix[:n] *= np.asarray(signs)[:, None]
    units = (unit_of(grid.unit),) * n
    linear = matrix[:n, :n]
    diagonal = np.diag(linear)
    straight = np.allclose(linear, np.diag(diagonal), rtol=0, atol=1e-6 * np.abs(linear).max())
    if straight and (diagonal > 0).all():
        scale = tuple(float(step) for step in diagonal)
        return Placement(scale, tuple(map(float, matrix[:n, n])), None, units, grid.axes)
    if n == 3:
        return Placement(grid.spacing, tuple(map(float, matrix[:n, n])), None, units, grid.axes)
    return Placement((1.0,) * n, (0.0,) * n, matrix, units, grid.axes)


def _measured(grid: Grid) -> bool:
    """Whether the pixels of a microscope's image have a size; those without one are at 0, 1, 2."""
    return grid.space == "pixel" and grid.unit != "pixel"


def unit_of(unit: str) -> str:
    """A unit that napari knows; ``"pixel"`` where it would not understand ours."""
    known = _UNITS.get(unit.lower(), unit.lower())
    return known if known in _PLAIN_UNITS else "pixel"


def shown(grid: Grid) -> tuple[Turn, Grid]:
    """How a file's array is turned for display, and the grid of what is displayed."""
    if grid.ndim == 2:
        return Turn(), grid
    turn = canonical(grid)
    return turn, turn.grid(grid)


def grid_to_dict(grid: Grid) -> dict[str, Any]:
    """Plain values that survive any writer."""
    return {
        "shape": list(grid.shape),
        "affine": [list(row) for row in grid.affine],
        "space": grid.space,
        "crs": grid.crs,
        "unit": grid.unit,
    }


def grid_from_dict(values: Mapping[str, Any]) -> Grid:
    """Inverse of `grid_to_dict`."""
    return Grid.of(
        tuple(values["shape"]),
        values["affine"],
        space=values["space"],
        crs=values["crs"],
        unit=values["unit"],
    )


def grid_of_layer(
    shape: tuple[int, ...],
    *,
    scale: Any = None,
    translate: Any = None,
    units: Any = None,
    metadata: Mapping[str, Any] | None = None,
) -> Grid:
    """The grid of any layer's spatial axes (the last two or three).

    Ours is in the metadata, exact to the bit; another program's layer has a scale and an offset
    in napari's own world, which has no CRS.
    """
    ours = (metadata or {}).get(KEY, {}).get("grid")
    if ours is not None:
        grid = grid_from_dict(ours)
        if shown(grid)[1].shape == tuple(shape):
            return grid
    n = len(shape)
    steps = [1.0] * n if scale is None else [float(value) or 1.0 for value in list(scale)[-n:]]
    start = [0.0] * n if translate is None else [float(value) for value in list(translate)[-n:]]
    affine = np.eye(n + 1)
    affine[:n, :n] = np.diag(steps[::-1])
    affine[:n, n] = start[::-1]
    names = {str(unit) for unit in list(units)[-n:]} if units is not None else set()
    unit = names.pop() if len(names) == 1 else "pixel"
    if unit != "pixel":
        affine[:n, n] -= affine[:n, :n] @ np.full(n, 0.5)
    return Grid.of(shape, affine, space="pixel", unit=unit)
