"""Files as layers: lazy, multiscale, in their place. No Qt."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_digseg._layers import LayerData

Paths = str | Sequence[str]

#: Names that may stand inside a folder of ours; any other folder has to hold DICOM files.
_ZARR_MARKS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """npe2's question "can you read this?"; looks at names and a few bytes only."""
    paths = _listed(path)
    return read_layers if paths and all(_is_ours(item) for item in paths) else None


def read_layers(path: Paths) -> list[LayerData]:
    """One layer for each path: an image, or Labels where the file carries label names.

    Raises
    ------
    DigsegError
        One sentence that napari shows: what is wrong with the file and what to do.
    """
    return [layer for item in _listed(path) for layer in _layers_of(os.fspath(item))]


def _layers_of(path: str) -> list[LayerData]:
    from digseg import io
    from digseg.raster import Raster
    from napari_digseg._labels import mask_layer
    from napari_digseg._layers import raster_layers, volume_layers
    from napari_digseg._preferences import preferences

    image = io.read(path)
    mask = named_mask(path, image)
    if mask is not None:
        return [mask_layer(mask, name=_stem(path))]
    if isinstance(image, Raster):
        return raster_layers(image, composite=preferences().composite)
    return volume_layers(image, times=lambda time: io.read(path, time=time))


def named_mask(path: str, image: Any) -> Any:
    """The mask in a file that carries label names; `None` for an image."""
    from digseg.errors import DigsegError
    from digseg.io import registry

    bands = image.data.shape[0] if image.grid.ndim == 2 else 1
    # Labels are small whole numbers; asking every scan for names would read all of it.
    if bands != 1 or np.dtype(image.data.dtype) not in (np.uint8, np.uint16):
        return None
    item, probe = registry.find_reader(path)
    read_mask = getattr(item.code, "read_mask", None)
    if read_mask is None:
        return None
    try:
        mask = read_mask(probe.path)
    except DigsegError:
        return None
    return mask if mask.meta.get("named") else None


def _stem(path: str) -> str:
    from digseg.raster import Source

    return Source(path, "", "").stem


def _listed(path: Paths) -> list[str]:
    return [path] if isinstance(path, (str, os.PathLike)) else list(path)


def _is_ours(path: str) -> bool:
    from digseg.errors import DigsegError
    from digseg.io import registry

    place = Path(path)
    if place.is_dir() and not any((place / mark).exists() for mark in _ZARR_MARKS):
        # Any folder is offered to every folder reader: take it when a format of ours is inside.
        try:
            registry.find_reader(path)
        except DigsegError:
            return False
    return True
