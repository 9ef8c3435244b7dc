"""The person's picture and Labels layer as a small labelled set to train on. No Qt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import DatasetError
from digseg.lazy import box
from digseg.raster import ClassTable
from digseg.settings import SegmentSettings
from digseg.types import AnyArray
from napari_digseg._export import target_of
from napari_digseg._inputs import Target
from napari_digseg._labels import classes_of
from napari_digseg._place import KEY

#: Side of the pictures that are cut out, in pixels.
SIDE = 512
#: What a mask holds where nothing is known.
UNKNOWN = 255
_MOST = 200  # pictures of one set
_MOST_CLASSES = UNKNOWN - 1


@dataclass(frozen=True)
class Example:
    """What one set was made of."""

    folder: Path
    classes: ClassTable
    pictures: int
    target: Target


def write_set(
    image_layer: Any,
    labels_layer: Any,
    point: Sequence[float],
    folder: Path,
    names: dict[int, str] | None = None,
) -> Example:
    """Cut a layer into pictures and masks; only parts in which something is labelled are kept.

    Parameters
    ----------
    point
        Position of the sliders, as indices of the image layer's data.
    folder
        Is replaced.
    names
        Names by label id, in place of the layer's.

    Raises
    ------
    DatasetError
        The layers differ in size, nothing is labelled, or there are too many classes.
    """
    from PIL import Image

    from digseg import io
    from digseg.run.asked import source_of

    target = target_of(image_layer, point, folder.parent / "layers")
    data = labels_layer.data[0] if labels_layer.multiscale else labels_layer.data
    if tuple(data.shape) != tuple(target.shape):
        raise DatasetError(
            f"The labels are {tuple(data.shape)} and the image is {tuple(target.shape)}: "
            "choose labels that were painted on this image."
        )
    classes = _few_classes(data, labels_layer)
    ids = np.array([entry.id for entry in classes.entries], np.int64)
    nodata = labels_layer.metadata.get(KEY, {}).get("nodata")
    source = source_of(io.read(target.path, time=target.time), SegmentSettings())
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    written: list[str] = []
    for plane, window in _windows(source.shape):
        labels = _numbered(_plane(data, plane, window), ids, nodata)
        if not ((labels > 0) & (labels < UNKNOWN)).any() or len(written) == _MOST:
            continue
        top, left = window[0], window[2]
        pixels, valid = source.read(plane, window)
        mask = np.where(valid, labels, np.uint8(UNKNOWN))
        name = f"part-{plane:04d}-{top:06d}-{left:06d}"
        picture = np.moveaxis(np.rint(pixels * 255).astype(np.uint8), 0, -1)
        Image.fromarray(picture).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
        written.append(name)
    if not written:
        raise DatasetError("Nothing is labelled: paint at least one class on the image.")
    _describe(folder, image_layer.name, classes, names or {}, written)
    return Example(folder, classes, len(written), target)


def _few_classes(data: Any, layer: Any) -> ClassTable:
    classes = classes_of(data, layer.as_layer_data_tuple()[1])
    if (count := len(classes.entries)) > _MOST_CLASSES:
        raise DatasetError(
            f"The labels have {count} classes, and a training takes {_MOST_CLASSES} at most: "
            "choose a Labels layer with fewer."
        )
    return classes


def _windows(shape: tuple[int, int, int]) -> Any:
    planes, rows, columns = shape
    for plane in range(planes):
        for top in range(0, rows, SIDE):
            for left in range(0, columns, SIDE):
                yield plane, (top, min(rows, top + SIDE), left, min(columns, left + SIDE))


def _plane(data: Any, plane: int, window: tuple[int, int, int, int]) -> AnyArray:
    top, bottom, left, right = window
    inside = ((top, bottom), (left, right))
    if len(data.shape) == 2:
        return box(data, inside)
    found: AnyArray = box(data, ((plane, plane + 1), *inside))[0]
    return found


def _numbered(labels: AnyArray, ids: AnyArray, nodata: int | None) -> AnyArray:
    """Labels as places in ``ids``, from 1: any id may be painted, and a mask holds 8 bits.

    0 where a label is not among them, `UNKNOWN` where it marks missing data.
    """
    places = np.searchsorted(ids, labels)
    found = (labels > 0) & (np.append(ids, -1)[places] == labels)
    numbers = np.where(found, places + 1, 0)
    if nodata is not None:
        numbers[labels == nodata] = UNKNOWN
    return numbers.astype(np.uint8)


def _describe(
    folder: Path, title: str, classes: ClassTable, names: dict[int, str], written: list[str]
) -> None:
    table = [
        {
            "id": number,
            "name": names.get(entry.id, entry.name),
            "synonyms": list(entry.synonyms),
        }
        for number, entry in enumerate(classes.entries, start=1)
    ]
    described = {
        "name": "own-labels",
        "title": title,
        "domain": "own",
        "modality": "own",
        "licence": "the person's own",
        "source": "labels painted in napari",
        "use": "train-and-ship",
        "ignore_index": UNKNOWN,
        "image_ext": ".png",
        "mask_ext": ".png",
        "classes": table,
        "splits": {"train": written, "val": written[:1]},
        "notes": "0 is background.",
    }
    (folder / "dataset.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
