"""Labels layers as files: in place, with names and colours. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from digseg.grid import Grid
from digseg.raster import Raster, Volume


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one Labels layer; the format follows from the file's name.

    napari has asked the person already whether an existing file may be replaced.

    Raises
    ------
    DigsegError
        The format can't hold these labels, or nothing can be written there.
    """
    from digseg import io
    from napari_digseg._labels import mask_of

    mask = mask_of(data, meta)
    files = io.write_mask(mask, path, source=source_of(meta, mask.grid), overwrite=True)
    return [str(file) for file in files]


def source_of(meta: dict[str, Any], grid: Grid) -> Raster | Volume | None:
    """The image that a layer was made from, where it still is and lies on the same grid.

    Writers carry its GCPs, RPCs, header or DICOM series over to the mask.
    """
    from digseg import io
    from digseg.errors import InputError
    from napari_digseg._place import KEY

    path = (meta.get("metadata") or {}).get(KEY, {}).get("source")
    if not path or not Path(path).exists():
        return None
    try:
        image = io.read(path)
    except InputError:
        return None
    return image if image.grid.same_place(grid) else None
