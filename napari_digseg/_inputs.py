"""From an image layer to what the engine reads, and from its answer back to a layer. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digseg.grid import Grid
from digseg.lazy import Bounds
from digseg.orientation import Turn, canonical
from digseg.run.outline import Outline, Polygon
from napari_digseg._place import KEY, grid_from_dict


@dataclass(frozen=True)
class Drawn:
    """Polygons over two axes of a layer, in its pixels; pixel 0 reaches from 0 to 1."""

    polygons: tuple[Polygon, ...]
    axes: tuple[int, int]


@dataclass(frozen=True)
class Target:
    """The file behind a layer.

    Parameters
    ----------
    path
        What the engine opens.
    grid
        The file's own grid.
    turn
        From the file's order to the layer's.
    time
        Time point on screen, for a 4-D file.
    lead
        Axes of the layer before the spatial ones.
    moment
        Time point on screen, whether the file or the layer holds several; `None` without any.
    """

    path: str
    grid: Grid
    turn: Turn
    time: int = 0
    lead: int = 0
    moment: int | None = None

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the layer."""
        return self.turn.shape(self.grid.shape) if self.ndim == 3 else self.grid.shape

    def file_bounds(self, bounds: Bounds) -> Bounds:
        """Bounds of the layer's spatial axes in the file's order."""
        return self.turn.bounds(bounds, self.grid.shape) if self.ndim == 3 else bounds

    def file_outline(self, drawn: Drawn) -> Outline:
        """A shape on the layer's spatial axes in the file's order."""
        if self.ndim == 2:
            return Outline(drawn.polygons)
        order = [self.turn.order[axis] for axis in drawn.axes]
        ends = [
            self.grid.shape[self.turn.order[axis]] if self.turn.flips[axis] else None
            for axis in drawn.axes
        ]

        def moved(point: tuple[float, ...]) -> tuple[float, float]:
            at = [v if end is None else end - v for v, end in zip(point, ends, strict=True)]
            return (at[0], at[1]) if order[0] < order[1] else (at[1], at[0])

        polygons = tuple(
            tuple(tuple(moved(point) for point in ring) for ring in polygon)
            for polygon in drawn.polygons
        )
        return Outline(polygons, "".join("zyx"[axis] for axis in sorted(order)))


def own_target(layer: Any, point: Sequence[float]) -> Target | None:
    """The file that an image layer was read from, by this plugin; `None` where there is none.

    Parameters
    ----------
    layer
        A napari Image layer.
    point
        Position of the sliders, as indices of the layer's data.
    """
    ours = layer.metadata.get(KEY, {})
    path, grid = ours.get("path"), ours.get("grid")
    if not path or grid is None:
        return None
    found = grid_from_dict(grid)
    lead = int(layer.ndim) - found.ndim
    time = 0
    if lead and found.ndim == 3:
        time = int(np.clip(round(point[0]), 0, layer.data.shape[0] - 1))
    turn = canonical(found) if found.ndim == 3 else Turn()
    return Target(path, found, turn, time, lead, time if lead and found.ndim == 3 else None)


def placed_like(
    layer: Any, target: Target, starts: Sequence[int], steps: Sequence[float] | None = None
) -> dict[str, Any]:
    """Keyword arguments that put a result where the part of ``layer`` at ``starts`` lies.

    A pixel of a coarse result stands for ``steps`` pixels of the layer and is centred between them.
    """
    n, lead = target.ndim, target.lead
    scale = np.asarray(layer.scale, dtype=float)[lead:]
    translate = np.asarray(layer.translate, dtype=float)[lead:]
    linear = np.asarray(layer._transforms["data2physical"].linear_matrix)[lead:, lead:]
    sizes = np.ones(n) if steps is None else np.asarray(steps, dtype=float)
    first = np.asarray(starts, dtype=float) + (sizes - 1) / 2
    kwargs: dict[str, Any] = {
        "translate": tuple(translate + linear @ first),
        "units": tuple(layer.units)[lead:],
        "axis_labels": tuple(layer.axis_labels)[lead:],
        "affine": np.asarray(layer.affine.affine_matrix)[lead:, lead:],
    }
    if not np.allclose(linear, np.diag(scale)):
        from napari.utils.transforms.transform_utils import decompose_linear_matrix

        kwargs["rotate"], scale, kwargs["shear"] = decompose_linear_matrix(linear)
    kwargs["scale"] = tuple(scale * sizes)
    assert len(kwargs["scale"]) == n
    return kwargs
