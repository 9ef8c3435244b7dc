"""An image layer that has no file of its own (an array, another plugin's file) as one. No Qt."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.lazy import WindowArray, box
from digseg.orientation import Turn
from digseg.raster import Raster, Volume
from digseg.types import AnyArray
from napari_digseg._inputs import Target, own_target
from napari_digseg._place import grid_of_layer

_BAND_NAMES = {"band", "bands", "c", "channel"}
_TIME_NAMES = {"t", "time", "frame"}
_DEPTH_NAMES = {"z", "slice", "depth", "plane"}
#: A first axis without a name is bands up to this length, slices above.
_MOST_BANDS = 12
#: Data and number of every layer that was written.
_WRITTEN: WeakKeyDictionary[Any, tuple[Any, int]] = WeakKeyDictionary()
_NUMBERS = itertools.count(1)


def roles_of(layer: Any) -> tuple[str, ...]:
    """What each axis of a layer is: ``"t"``, ``"z"``, ``"c"``, ``"y"`` or ``"x"``.

    Raises
    ------
    UsageError
        There are more axes than that.
    """
    shape = _finest(layer).shape[: layer.ndim]
    labels = [str(label).lower() for label in layer.axis_labels]
    roles = [""] * layer.ndim
    roles[-2:] = ["y", "x"]
    for axis, label in enumerate(labels[:-2]):
        for role, names in (("c", _BAND_NAMES), ("t", _TIME_NAMES), ("z", _DEPTH_NAMES)):
            if label in names:
                roles[axis] = role
    unknown = [axis for axis, role in enumerate(roles) if not role]
    free = [role for role in ("z", "t") if role not in roles]
    for axis in reversed(unknown):
        if len(unknown) == 1 and layer.ndim == 3 and shape[axis] <= _MOST_BANDS and not layer.rgb:
            roles[axis] = "c"
        elif free:
            roles[axis] = free.pop(0)
    if any(not role for role in roles) or len(set(roles)) != len(roles):
        raise UsageError(
            f"The layer {layer.name!r} has {layer.ndim} axes: name them t, z, y, x or band, y, x "
            "in its axis labels, or give a layer with fewer."
        )
    return tuple(roles)


def target_of(layer: Any, point: Sequence[float], folder: Path) -> Target:
    """The file behind an image layer; a layer without one is written to ``folder`` first.

    Raises
    ------
    UsageError
        The layer has axes that are neither bands, time nor space.
    """
    target = own_target(layer, point) or export_layer(layer, point, folder)
    assert target is not None
    return target


def export_layer(
    layer: Any, point: Sequence[float], folder: Path, *, write: bool = True
) -> Target | None:
    """Write what of a layer is to be segmented, once; the same layer gives the same file.

    `None` where it has to be written but shall not.
    """
    from digseg.io.images import write_image

    roles = roles_of(layer)
    lead = sum(role in ("t", "c") for role in roles)
    if any(role in ("t", "c") for role in roles[lead:]):
        raise UsageError("Bands and time have to be the first axes of a layer: transpose it.")
    finest = _finest(layer)
    time = 0
    if "t" in roles:
        time = int(np.clip(round(point[roles.index("t")]), 0, finest.shape[0] - 1))
    data = _arranged(finest, roles, time, rgb=layer.rgb)
    spatial = tuple(int(side) for side in finest.shape[lead : layer.ndim])
    grid = grid_of_layer(spatial, scale=layer.scale, translate=layer.translate, units=layer.units)
    image = _image(data, grid, volume="z" in roles)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"layer-{_number_of(layer, finest)}-{time}.zarr"
    if not path.exists():
        if not write:
            return None
        # Whole or not at all: a run that begins meanwhile must not read half of it.
        unfinished = path.with_name(f"unfinished-{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_image(image, unfinished)
        unfinished.rename(path)
    return Target(str(path), image.grid, Turn(), 0, lead, time if "t" in roles else None)


def slices_of(layer: Any, point: Sequence[float]) -> tuple[int, int]:
    """Number of slices of an image layer, and which is on screen; 0 where it has none.

    Raises
    ------
    UsageError
        The layer has axes that are neither bands, time nor space.
    """
    own = own_target(layer, point)
    if own is not None and own.ndim == 2:
        return 0, 0
    roles = roles_of(layer)
    axis = own.lead if own is not None else roles.index("z") if "z" in roles else None
    if axis is None:
        return 0, 0
    count = int(_finest(layer).shape[axis])
    return count, int(np.clip(round(point[axis]), 0, count - 1))


def _number_of(layer: Any, finest: Any) -> int:
    """A number for a layer with these data; no later layer or data get it again, as ids would."""
    if layer not in _WRITTEN or _WRITTEN[layer][0] is not finest:
        _WRITTEN[layer] = finest, next(_NUMBERS)
    return _WRITTEN[layer][1]


def _image(data: Any, grid: Grid, *, volume: bool) -> Raster | Volume:
    if volume:
        return Volume(data, grid)
    return Raster(data, grid)


def _arranged(data: Any, roles: tuple[str, ...], time: int, *, rgb: bool) -> Any:
    """``[band, y, x]`` or ``[z, y, x]`` of one time point, lazily."""
    shape = tuple(int(side) for side in data.shape)
    if "z" in roles and rgb:
        raise UsageError("A coloured stack can't be segmented: split its channels first.")
    if rgb:
        return WindowArray(
            (3, *shape[:2]),
            data.dtype,
            lambda b: np.moveaxis(box(data, (b[1], b[2], (0, 3))), -1, 0)[b[0][0] : b[0][1]],
        )
    if "t" in roles:
        inner = WindowArray(shape[1:], data.dtype, lambda b: box(data, ((time, time + 1), *b))[0])
        return _arranged(inner, roles[1:], 0, rgb=False)
    if "c" in roles or "z" in roles:
        if "c" in roles and "z" in roles:
            raise UsageError("A stack with channels can't be segmented: split its channels first.")
        return WindowArray(shape, data.dtype, lambda b: _plain(box(data, b)))
    return WindowArray((1, *shape), data.dtype, lambda b: _plain(box(data, b[1:]))[None])


def _plain(pixels: AnyArray) -> AnyArray:
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def _finest(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data
