"""Which axis of a Zarr array is which, and how long its steps are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from digseg.errors import UnsupportedInputError
from digseg.io._lengths import length_name, metres

_DEFAULT = "tczyx"  # OME-Zarr up to 0.3: always these five
_CHANNELS = 4  # a short last axis of a plain array holds colours
_SHORT = {
    "time": "t", "channel": "c", "band": "c", "bands": "c", "wavelength": "c", "prompt": "c",
    "depth": "z",
    "plane": "z", "lat": "y", "latitude": "y", "row": "y", "rows": "y", "height": "y",
    "lon": "x", "longitude": "x", "col": "x", "column": "x", "columns": "x", "width": "x",
}  # fmt: skip


@dataclass(frozen=True)
class Axes:
    """Names (of ``tczyx``) in array order, with unit, step and start of each."""

    names: tuple[str, ...]
    units: tuple[str | None, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]

    def size(self, shape: Sequence[int], name: str) -> int:
        """Length of an axis; 1 where the array has none of that name."""
        return int(shape[self.names.index(name)]) if name in self.names else 1

    def along(self, name: str) -> tuple[float, float]:
        """Step and start of an axis."""
        if name not in self.names:
            return 1.0, 0.0
        index = self.names.index(name)
        return self.scale[index], self.translation[index]

    @property
    def placed(self) -> bool:
        """Whether the metadata give any axis a step, a start or a unit."""
        return any(self.units) or set(self.scale) != {1.0} or set(self.translation) != {0.0}

    @property
    def unit(self) -> str:
        """Unit of the plane's axes; ``"pixel"`` where none is stated."""
        return self.units[self.names.index("x")] or "pixel"


def axes_of(array: Any, metadata: Mapping[str, Any]) -> Axes:
    """Axes of an array from OME-Zarr's multiscales metadata, dimension names or its shape.

    Raises
    ------
    UnsupportedInputError
        There is no plane in it, or an axis that is none of time, channel, z, y, x.
    """
    shape = tuple(array.shape)
    stated = metadata.get("axes")
    names = _stated(stated) if isinstance(stated, list) else _guessed(array, metadata, shape)
    known = len(set(names)) == len(names) == len(shape) and set(names) <= set(_DEFAULT)
    if not known or not {"y", "x"} <= set(names):
        raise UnsupportedInputError(
            f"An array with axes {', '.join(names) or 'none'} and shape {shape} is no image: "
            "it needs y and x, and may have t, c and z."
        )
    units = tuple(_unit(item) for item in stated) if isinstance(stated, list) else ()
    scale, translation = _transformations(metadata, len(names))
    axes = Axes(names, units or (None,) * len(names), scale, translation)
    return in_one_unit(axes, shape)


def in_one_unit(axes: Axes, shape: Sequence[int]) -> Axes:
    """Steps and starts of y and z in the unit of x, which the whole grid has.

    An axis without a unit is taken to have that of x; where x has none, nothing is changed.

    Raises
    ------
    UnsupportedInputError
        One of them, longer than one pixel, has a unit that can't be converted.
    """
    across = axes.units[axes.names.index("x")]
    if across is None:
        return axes
    units, scale, start = list(axes.units), list(axes.scale), list(axes.translation)
    for index, name in enumerate(axes.names):
        unit = axes.units[index]
        if name not in "zyx" or unit is None:
            continue
        units[index] = length_name(across) or across
        if unit == across:
            continue
        own, other = metres(unit), metres(across)
        if own is not None and other is not None:
            factor = float(own / other)
            scale[index], start[index] = scale[index] * factor, start[index] * factor
        elif shape[index] > 1:
            raise UnsupportedInputError(
                f"The steps of this image are in {across} along x and in {unit} along {name}, "
                "which are not both lengths: correct the units in its metadata."
            )
    return replace(axes, units=tuple(units), scale=tuple(scale), translation=tuple(start))


def _stated(axes: list[Any]) -> tuple[str, ...]:
    names = []
    for item in axes:
        name = str(item.get("name", "") if isinstance(item, dict) else item).lower()
        names.append(_SHORT.get(name, name))
    return tuple(names)


def _unit(item: Any) -> str | None:
    unit = item.get("unit") if isinstance(item, dict) else None
    return str(unit) if unit else None


def _guessed(array: Any, metadata: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[str, ...]:
    names = getattr(array.metadata, "dimension_names", None) or metadata.get("_ARRAY_DIMENSIONS")
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return tuple(_SHORT.get(name.lower(), name.lower()) for name in names)
    if "datasets" in metadata or len(shape) > 3:
        return tuple(_DEFAULT[-len(shape) :]) if len(shape) <= len(_DEFAULT) else ()
    if len(shape) == 3 and shape[-1] in (3, _CHANNELS) and shape[0] > _CHANNELS:
        return ("y", "x", "c")
    if len(shape) == 3 and shape[0] <= _CHANNELS:
        return ("c", "y", "x")
    return tuple("zyx"[-len(shape) :]) if len(shape) in (2, 3) else ()


def _transformations(
    metadata: Mapping[str, Any], count: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and translation of the finest level: its own, then those of all levels."""
    scale, translation = [1.0] * count, [0.0] * count
    datasets = metadata.get("datasets")
    own = datasets[0].get("coordinateTransformations") if isinstance(datasets, list) else None
    for steps in (own, metadata.get("coordinateTransformations")):
        for step in steps if isinstance(steps, list) else ():
            kind = step.get("type") if isinstance(step, dict) else None
            values = step.get(kind) if kind in ("scale", "translation") else None
            if not isinstance(values, list) or len(values) != count:
                continue
            numbers = [float(value) for value in values]
            if not all(math.isfinite(number) for number in numbers):
                continue
            if kind == "scale":
                # A later scale stretches what came before it.
                scale = [a * b for a, b in zip(scale, numbers, strict=True)]
                translation = [a * b for a, b in zip(translation, numbers, strict=True)]
            else:
                translation = [a + b for a, b in zip(translation, numbers, strict=True)]
    return tuple(scale), tuple(translation)
