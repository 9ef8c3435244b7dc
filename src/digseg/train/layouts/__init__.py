"""Public data sets in the layouts that their makers publish, read as they lie on disk.

They yield what the pack's format yields: a `SetInfo` and `Picture`s, read when they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from digseg.errors import DatasetError, InputNotFoundError, UsageError
from digseg.train.layouts.base import LayoutSet, Pair, Pictures
from digseg.train.layouts.decathlon import decathlon
from digseg.train.layouts.fields import kvasir, loveda
from digseg.train.layouts.scenes import ade20k, cityscapes, coco_stuff, pascal_context, voc

__all__ = ["LAYOUTS", "LayoutSet", "Pair", "Pictures", "detect", "open_layout"]

#: Layouts by the name that people give on the command line.
LAYOUTS: Mapping[str, Callable[[Path], LayoutSet]] = {
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "coco-stuff": coco_stuff,
    "voc": voc,
    "pascal-context": pascal_context,
    "loveda": loveda,
    "kvasir": kvasir,
    "msd": decathlon,
}


def open_layout(folder: str | Path, layout: str | None = None) -> LayoutSet:
    """Open a public data set.

    Parameters
    ----------
    layout
        Name in `LAYOUTS`; `None` tells it from the folders.

    Raises
    ------
    InputNotFoundError
        There is no such folder.
    UsageError
        There is no layout of that name.
    DatasetError
        The folder is of none of the layouts, or a pair of it is broken.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputNotFoundError(f"There is no folder {str(folder)!r}.")
    name = layout or detect(path)
    if name is None:
        raise DatasetError(
            f"{path} is of no known layout: it holds no dataset.json, and none of the folders of "
            f"{', '.join(LAYOUTS)}."
        )
    if name not in LAYOUTS:
        raise UsageError(f"There is no layout {name!r}: use one of {', '.join(LAYOUTS)}.")
    opened = LAYOUTS[name](path)
    if not any(opened.pairs.values()):
        raise DatasetError(f"{path} holds no pair of image and mask in the layout {name}.")
    return opened


def detect(folder: Path) -> str | None:
    """The layout of a folder, by the folders it holds; `None` where none fits."""

    def has(*parts: str) -> bool:
        return all(any(folder.glob(part)) for part in parts)

    signs: Mapping[str, tuple[tuple[str, ...], ...]] = {
        "msd": (("dataset.json", "imagesTr", "labelsTr"),),
        "cityscapes": (("leftImg8bit", "gtFine"),),
        "loveda": (("Train/*/masks_png",), ("Val/*/masks_png",)),
        "coco-stuff": (("stuffthingmaps/*2017",), ("annotations/*2017", "images/*2017")),
        "ade20k": (("images/*ing", "annotations/*ing"), ("annotations/validation",)),
        "pascal-context": (
            ("SegmentationClassContext",),
            ("VOC2*/SegmentationClassContext",),
            ("VOCdevkit/VOC2*/SegmentationClassContext",),
        ),
        "voc": (
            ("JPEGImages", "SegmentationClass"),
            ("VOC2*/SegmentationClass",),
            ("VOCdevkit/VOC2*/SegmentationClass",),
        ),
        "kvasir": (("images/*.jpg", "masks/*.jpg"),),
    }
    return next((name for name, ways in signs.items() if any(has(*way) for way in ways)), None)
