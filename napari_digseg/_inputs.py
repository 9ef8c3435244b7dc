"""From an image layer to what the engine reads, and from its answer back to a layer. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.lazy import Bounds
from digseg.orientation import Turn, canonical
from digseg.types import AnyArray
from napari_digseg._export import export_layer
from napari_digseg._place import KEY, grid_from_dict
from napari_digseg._state import State


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
    """

    path: str
    grid: Grid
    turn: Turn
    time: int = 0
    lead: int = 0

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


def target_of(layer: Any, point: Sequence[float], folder: Path) -> Target:
    """The file behind an image layer; a layer without one is written to ``folder`` first.

    Parameters
    ----------
    layer
        A napari Image layer.
    point
        Position of the sliders, as indices of the layer's data.

    Raises
    ------
    UsageError
        The layer has axes that are neither bands, time nor space.
    """
    ours = layer.metadata.get(KEY, {})
    path, grid = ours.get("path"), ours.get("grid")
    if path and grid is not None:
        found = grid_from_dict(grid)
        lead = spatial_ndim(layer) - found.ndim
        time = 0
        if lead and found.ndim == 3:
            time = int(np.clip(round(point[0]), 0, layer.data.shape[0] - 1))
        turn = canonical(found) if found.ndim == 3 else Turn()
        return Target(path, found, turn, time, lead)
    return export_layer(layer, point, folder)


def spatial_ndim(layer: Any) -> int:
    """Number of axes of a layer that can be looked along (the colour axis is none)."""
    return int(layer.ndim)


def bounds_of(
    state: State, layer: Any, target: Target, point: Sequence[float], shapes: Sequence[Any] = ()
) -> Bounds | None:
    """The chosen region in the layer's spatial axes; `None` for the whole layer.

    Parameters
    ----------
    point
        Position of the sliders, as indices of the layer's data.
    shapes
        Shapes layers, the one to look at first.

    Raises
    ------
    UsageError
        Nothing was drawn, or the region lies outside the image.
    """
    whole: list[tuple[int, int]] = [(0, side) for side in target.shape]
    kind = state.region
    if kind == "whole layer":
        return None
    if kind == "view":
        return _clipped(visible_bounds(layer, target), target.shape)
    if kind == "drawn shape":
        return _clipped(_drawn(layer, target, shapes), target.shape)
    if target.ndim != 3:
        raise UsageError("A raster has no slices: choose the whole layer, the view or a shape.")
    if kind == "slice":
        index = int(np.clip(round(point[target.lead]), 0, target.shape[0] - 1))
        whole[0] = (index, index + 1)
    else:
        first, last = sorted(state.slab)
        whole[0] = (max(0, first), min(target.shape[0], last + 1))
    return _clipped(tuple(whole), target.shape)


def visible_bounds(layer: Any, target: Target) -> Bounds:
    """What of a layer is on screen, in pixels of the full resolution."""
    corners = np.asarray(layer.corner_pixels, dtype=float)
    if layer.multiscale:
        factors = np.asarray(layer.downsample_factors[layer.data_level])[: corners.shape[1]]
        corners = corners * factors
    bounds = []
    for axis, side in enumerate(target.shape):
        low, high = corners[0, axis + target.lead], corners[1, axis + target.lead]
        if high <= low:  # an axis that is not displayed
            low, high = 0, side
        bounds.append((int(np.floor(low)), int(np.ceil(high)) + 1))
    return tuple(
        (max(0, low), min(side, high))
        for (low, high), side in zip(bounds, target.shape, strict=True)
    )


def _drawn(layer: Any, target: Target, shapes: Sequence[Any]) -> Bounds:
    for drawing in shapes:
        chosen = sorted(drawing.selected_data) or range(len(drawing.data))
        corners = [
            layer.world_to_data(_padded(drawing.data_to_world(vertex), layer.ndim))
            for index in chosen
            for vertex in drawing.data[index]
        ]
        if corners:
            points = np.asarray(corners)[:, target.lead :]
            low, high = points.min(axis=0), points.max(axis=0)
            flat = [
                (0, side) if drawing.ndim < layer.ndim and axis < target.ndim - 2 else (a, b)
                for axis, (a, b, side) in enumerate(
                    zip(np.floor(low + 0.5), np.ceil(high + 0.5), target.shape, strict=True)
                )
            ]
            return tuple((int(a), max(int(a) + 1, int(b))) for a, b in flat)
    raise UsageError("Nothing is drawn: add a Shapes layer and draw a rectangle or a polygon.")


def _padded(world: AnyArray, ndim: int) -> AnyArray:
    point = np.zeros(ndim)
    count = min(ndim, len(world))
    point[ndim - count :] = np.asarray(world)[-count:]
    return point


def _clipped(bounds: Bounds, shape: tuple[int, ...]) -> Bounds:
    clipped = tuple(
        (max(0, low), min(side, high)) for (low, high), side in zip(bounds, shape, strict=True)
    )
    if any(high <= low for low, high in clipped):
        raise UsageError("The region lies outside the image: move the view or the shape over it.")
    return clipped


def placed_like(layer: Any, target: Target, starts: Sequence[int]) -> dict[str, Any]:
    """Keyword arguments that put a result where the part of ``layer`` at ``starts`` lies."""
    n, lead = target.ndim, target.lead
    scale = np.asarray(layer.scale, dtype=float)[lead:]
    translate = np.asarray(layer.translate, dtype=float)[lead:]
    linear = np.asarray(layer._transforms["data2physical"].linear_matrix)[lead:, lead:]
    kwargs: dict[str, Any] = {
        "scale": tuple(scale),
        "translate": tuple(translate + linear @ np.asarray(starts, dtype=float)),
        "units": tuple(layer.units)[lead:],
        "axis_labels": tuple(layer.axis_labels)[lead:],
        "affine": np.asarray(layer.affine.affine_matrix)[lead:, lead:],
    }
    if not np.allclose(linear, np.diag(scale)):
        kwargs["rotate"] = np.asarray(layer.rotate)[lead:, lead:]
        if not lead:
            kwargs["shear"] = np.asarray(layer.shear)
    assert len(kwargs["scale"]) == n
    return kwargs
