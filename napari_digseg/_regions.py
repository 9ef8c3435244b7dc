"""Which part of a layer is asked for: all, the view, a drawn shape, slices. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digseg.errors import UsageError
from digseg.lazy import Bounds
from digseg.run.outline import Polygon
from digseg.types import AnyArray
from napari_digseg._inputs import Drawn, Target
from napari_digseg._state import State

_ROUND = 96  # corners of the polygon that stands for an ellipse


@dataclass(frozen=True)
class Region:
    """A part of a layer.

    Parameters
    ----------
    bounds
        Half-open, in the layer's spatial axes; `None` for the whole layer.
    drawn
        What of it lies inside a drawn shape; `None` for all.
    """

    bounds: Bounds | None = None
    drawn: Drawn | None = None


def region_of(
    state: State, layer: Any, target: Target, point: Sequence[float], shapes: Sequence[Any] = ()
) -> Region:
    """The chosen region.

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
        return Region()
    if kind == "view":
        return Region(_clipped(visible_bounds(layer, target), target.shape))
    if kind == "drawn shape":
        return _drawn(layer, target, shapes)
    if target.ndim != 3:
        raise UsageError("A raster has no slices: choose the whole layer, the view or a shape.")
    if kind == "slice":
        index = int(np.clip(round(point[target.lead]), 0, target.shape[0] - 1))
        whole[0] = (index, index + 1)
    else:
        first, last = sorted(state.slab)
        whole[0] = (max(0, first), min(target.shape[0], last + 1))
    return Region(_clipped(tuple(whole), target.shape))


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


def _drawn(layer: Any, target: Target, shapes: Sequence[Any]) -> Region:
    for drawing in shapes:
        rings = _rings(drawing, layer, target)
        if rings:
            return _inside(rings, target, flat=drawing.ndim < layer.ndim - target.lead)
    raise UsageError(
        "Nothing is drawn: add a Shapes layer and draw a rectangle, an ellipse or a polygon."
    )


def _rings(drawing: Any, layer: Any, target: Target) -> list[AnyArray]:
    """Corners ``[n, axis]`` of the chosen shapes, or of all, in pixels of the layer.

    Pixel 0 reaches from 0 to 1: napari's indices, which are whole at centres, moved by a half.
    """
    chosen = sorted(drawing.selected_data) or range(len(drawing.data))
    rings = []
    for index in chosen:
        kind, corners = drawing.shape_type[index], np.asarray(drawing.data[index], dtype=float)
        if kind == "line" or len(corners) < 3:
            continue  # no area
        if kind == "ellipse":
            turn = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)[:, None]
            middle = corners.mean(axis=0)
            along, across = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
            corners = middle + np.cos(turn) * along + np.sin(turn) * across
        moved = [
            layer.world_to_data(_padded(drawing.data_to_world(c), layer.ndim)) for c in corners
        ]
        rings.append(np.asarray(moved)[:, target.lead :] + 0.5)
    return rings


def _inside(rings: list[AnyArray], target: Target, *, flat: bool) -> Region:
    """The part around some rings, limited to them unless they are one upright rectangle."""
    points = np.concatenate(rings)
    low, high = points.min(axis=0), points.max(axis=0)
    bounds = [
        (int(np.floor(a)), max(int(np.floor(a)) + 1, int(np.ceil(b))))
        for a, b in zip(low, high, strict=True)
    ]
    axes = (0, 1)
    if target.ndim == 3:
        # The slices that were drawn on; a flat drawing lies on all of them.
        across = 0 if flat else int(np.argmin(high - low))
        if flat:
            bounds[across] = (0, target.shape[across])
        axes = tuple(axis for axis in range(3) if axis != across)  # type: ignore[assignment]
    polygons: tuple[Polygon, ...] = tuple(
        (tuple((float(p[axes[0]]), float(p[axes[1]])) for p in ring),) for ring in rings
    )
    if len(rings) == 1 and _is_upright(rings[0][:, list(axes)]):
        for axis in axes:  # pixels whose centres are inside
            first = int(np.ceil(low[axis] - 0.5))
            bounds[axis] = (first, max(first + 1, int(np.ceil(high[axis] - 0.5))))
        return Region(_clipped(tuple(bounds), target.shape))
    return Region(_clipped(tuple(bounds), target.shape), Drawn(polygons, axes))


def _is_upright(ring: AnyArray) -> bool:
    """Whether four corners make a rectangle along the axes."""
    if len(ring) != 4:
        return False
    low, high = ring.min(axis=0), ring.max(axis=0)
    at = np.isclose(ring, low, atol=1e-6) | np.isclose(ring, high, atol=1e-6)
    steps = np.roll(ring, -1, axis=0) - ring
    return bool(at.all() and (np.isclose(steps, 0, atol=1e-6).sum(axis=1) == 1).all())


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


def drawing_on(layer: Any) -> Any:
    """An empty Shapes layer that lies on a layer as it does."""
    from napari.layers import Shapes

    finest = layer.data[0] if layer.multiscale else layer.data
    return Shapes(
        ndim=layer.ndim,
        name="region",
        scale=layer.scale,
        translate=layer.translate,
        rotate=layer.rotate,
        shear=layer.shear,
        affine=layer.affine,
        # Layers in other units make napari drop the units of all.
        units=layer.units,
        axis_labels=layer.axis_labels,
        face_color="transparent",
        edge_color="white",
        edge_width=max(1.0, max(finest.shape[: layer.ndim][-2:]) / 300),
    )
