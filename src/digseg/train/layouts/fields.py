"""Pictures of one field: LoveDA (land cover from the air) and Kvasir-SEG (polyps)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from digseg.errors import DatasetError
from digseg.train.layouts.base import (
    LayoutSet,
    Pair,
    class_names,
    files,
    held_out,
    listed,
    make_info,
    match,
    read_list,
    read_pair,
    same,
)
from digseg.types import AnyArray, UInt8Array


def loveda(folder: Path) -> LayoutSet:
    """LoveDA: ``Train/Rural/images_png``, ``.../masks_png`` and so on.

    In the masks 0 is no data, 1 background and 2 to 7 the classes.
    """
    pairs: dict[str, tuple[Pair, ...]] = {}
    for split in ("train", "val"):
        root = folder / split.capitalize()
        found: list[Pair] = []
        for area in ("Rural", "Urban"):
            if not (root / area).is_dir():
                continue
            images = files(root / area / "images_png", (".png",))
            masks = files(root / area / "masks_png", (".png",))
            found += [
                Pair(f"{area}/{pair.name}", pair.image, pair.mask)
                for pair in match(images, masks, folder)
            ]
        if found:
            pairs[split] = tuple(found)
    names = class_names("loveda")
    info = make_info(folder, "loveda", "aerial", names, pairs)
    return LayoutSet(info, pairs, same(list(names), 0, background=1), read_pair)


#: Share of a mask's pixels that JPEG may leave between black and white.
_BLURRED = 0.05


def kvasir(folder: Path) -> LayoutSet:
    """Kvasir-SEG: ``images/*.jpg`` and ``masks/*.jpg``, black and white.

    ``train.txt`` and ``val.txt`` split it where they are there; else one name in ten, by its
    hash, is held out.
    """
    images, masks = folder / "images", folder / "masks"
    if all((folder / f"{split}.txt").is_file() for split in ("train", "val")):
        pairs = {
            split: listed(read_list(folder / f"{split}.txt"), images, masks, (".jpg", ".jpg"))
            for split in ("train", "val")
        }
    else:
        pairs = held_out(match(files(images), files(masks), folder))
    names = class_names("kvasir")
    info = make_info(folder, "kvasir-seg", "endoscopy", names, pairs)
    return LayoutSet(info, pairs, same(list(names)), _read_black_and_white)


def _read_black_and_white(source: LayoutSet, pair: Pair) -> tuple[UInt8Array, AnyArray]:
    """JPEG masks: white is the class; values in between are compression, and few."""
    with Image.open(pair.image) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    with Image.open(pair.mask) as mask:
        grey = np.asarray(mask.convert("L"))
    between = (grey > 63) & (grey < 192)
    if between.mean() > _BLURRED:
        value = int(np.bincount(grey[between]).argmax())
        raise DatasetError(f"{pair.mask} holds the label value {value}: it is not black and white.")
    return pixels[None], (grey >= 128).astype(np.uint8)[None]
