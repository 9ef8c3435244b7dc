"""Masks as napari Labels layers, and Labels layers as masks. Pure conversions: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from digseg.grid import Grid
from digseg.lazy import Bounds, WindowArray, box
from digseg.prompts import color_of
from digseg.raster import ClassEntry, ClassTable, Mask
from digseg.types import AnyArray
from napari_digseg._layers import LayerData, as_layer_array
from napari_digseg._place import KEY, grid_of_layer, grid_to_dict, placement, shown


def class_kwargs(classes: ClassTable) -> dict[str, Any]:
    """Names (shown on hover) and colours of a Labels layer."""
    colors: dict[int | None, tuple[float, ...]] = {None: (0.0,) * 4, 0: (0.0,) * 4}
    colors |= {
        entry.id: (*(value / 255 for value in entry.color), 1.0) for entry in classes.entries
    }
    names = classes.names
    return {
        "colormap": colors,
        "features": {"index": list(names), "name": list(names.values())},
    }


def mask_layer(
    mask: Mask, *, name: str = "labels", extra: Mapping[str, Any] | None = None
) -> LayerData:
    """Labels in canonical planes, with names, colours and place."""
    turn, grid = shown(mask.grid)
    remembered = labels_metadata(mask.grid, mask.classes, mask.nodata)
    data = mask.labels if mask.grid.ndim == 2 else turn.lazy(mask.labels)
    meta = {
        "name": name,
        "metadata": {KEY: remembered | dict(extra or {})},
        **class_kwargs(mask.classes),
        **placement(grid).kwargs(),
    }
    return as_layer_array(data), meta, "labels"


def labels_metadata(grid: Grid, classes: ClassTable, nodata: int | None = None) -> dict[str, Any]:
    """What a Labels layer remembers, as plain values."""
    return {
        "grid": grid_to_dict(grid),
        "crs": grid.crs,
        "classes": classes.to_list(),
        "nodata": nodata,
    }


def mask_of(data: Any, meta: Mapping[str, Any]) -> Mask:
    """A Labels layer, ours or any other, as a mask in the file's own order.

    Parameters
    ----------
    data
        Labels ``[y, x]`` or ``[z, y, x]``; of a multiscale layer all levels, the finest first.
    meta
        The layer's keyword arguments (``as_layer_data_tuple()[1]``).
    """
    if isinstance(data, (list, tuple)) or type(data).__name__ == "MultiScaleData":
        data = data[0]
    shape = tuple(int(side) for side in data.shape)
    metadata = meta.get("metadata") or {}
    grid = grid_of_layer(
        shape,
        scale=meta.get("scale"),
        translate=meta.get("translate"),
        units=meta.get("units"),
        metadata=metadata,
    )
    classes = classes_of(data, meta)
    nodata = metadata.get(KEY, {}).get("nodata")
    turn, _ = shown(grid)
    labels: Any = _unsigned(data, classes)
    if grid.ndim == 3:
        labels = turn.inverse.lazy(labels)
    return Mask(labels, grid, classes, nodata=nodata)


def classes_of(data: Any, meta: Mapping[str, Any]) -> ClassTable:
    """Ids, names and colours of a Labels layer; ids without a name are called "class N"."""
    ours = (meta.get("metadata") or {}).get(KEY, {}).get("classes")
    if ours:
        return ClassTable(
            tuple(
                ClassEntry(
                    int(item["id"]),
                    str(item["name"]),
                    tuple(item["color"]),
                    tuple(item.get("synonyms", ())),
                )
                for item in ours
            )
        )
    names = _feature_names(meta.get("features"))
    colors = _direct_colors(meta.get("colormap"))
    present = {int(value) for value in np.unique(np.asarray(data)) if value > 0}
    ids = sorted(present | {key for key in names if key > 0})
    return ClassTable(
        tuple(
            ClassEntry(
                label,
                names.get(label, f"class {label}"),
                colors.get(label, color_of(names.get(label, ""), index)),
            )
            for index, label in enumerate(ids)
        )
    )


def _unsigned(data: Any, classes: ClassTable) -> Any:
    """Labels in the smallest unsigned type that holds them (napari paints in signed ones)."""
    dtype = classes.dtype
    if np.dtype(data.dtype) == dtype:
        return as_layer_array(data)

    def read(bounds: Bounds) -> AnyArray:
        return box(data, bounds).astype(dtype)

    return WindowArray(tuple(data.shape), dtype, read)


def _feature_names(features: Any) -> dict[int, str]:
    if features is None:
        return {}
    columns = {str(key).lower(): list(features[key]) for key in features}
    for key in ("name", "label", "class"):
        if key in columns:
            index = columns.get("index", list(range(len(columns[key]))))
            return {int(i): str(text) for i, text in zip(index, columns[key], strict=False)}
    return {}


def _direct_colors(colormap: Any) -> dict[int, tuple[int, int, int]]:
    table = colormap if isinstance(colormap, Mapping) else getattr(colormap, "color_dict", None)
    if table is None:
        return {}
    return {
        int(key): tuple(round(float(value) * 255) for value in list(color)[:3])  # type: ignore[misc]
        for key, color in table.items()
        if key is not None
    }
