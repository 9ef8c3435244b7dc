"""Masks as napari Labels layers, and Labels layers as masks. Pure conversions: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Ids, names and colours of a Labels layer, as it shows them; others are "class N"."""
    remembered = (meta.get("metadata") or {}).get(KEY, {})
    ours = remembered.get("classes") or []
    known = {int(item["id"]): item for item in ours}
    names = {label: str(item["name"]) for label, item in known.items()}
    names = names or _feature_names(meta.get("features"))
    present: set[int] = set()
    # Ours are complete as long as nobody paints, which takes an array in memory.
    if not ours or isinstance(data, np.ndarray):
        present = {int(value) for value in np.unique(np.asarray(data)) if value > 0}
    ids = sorted((present | {key for key in names if key > 0}) - {remembered.get("nodata")})
    colors = _shown_colors(meta.get("colormap"), ids)
    entries = []
    for index, label in enumerate(ids):
        item = known.get(label, {})
        name = names.get(label, f"class {label}")
        unseen = tuple(item["color"]) if item else color_of(names.get(label, ""), index)
        synonyms = tuple(item.get("synonyms", ()))
        entries.append(ClassEntry(label, name, colors.get(label, unseen), synonyms))
    return ClassTable(tuple(entries))


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


def _shown_colors(colormap: Any, ids: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """Colours of labels on screen; labels that are transparent there are not among them."""
    if colormap is None:
        return {}
    colors: dict[int, Any] = {}
    for label in ids:
        if isinstance(colormap, Mapping):
            colors[label] = colormap.get(label)
        elif hasattr(colormap, "map"):
            colors[label] = colormap.map(label)
    return {
        label: tuple(round(255 * float(part)) for part in color[:3])  # type: ignore[misc]
        for label, color in colors.items()
        if color is not None and (len(color) < 4 or color[3] > 0)
    }
