"""Everyday pictures: ADE20K, Cityscapes, COCO-Stuff, Pascal VOC and Context."""

from __future__ import annotations

from pathlib import Path

from digseg.errors import DatasetError
from digseg.train.layouts.base import (
    LayoutSet,
    Pair,
    class_names,
    files,
    listed,
    make_info,
    match,
    read_list,
    read_pair,
    same,
)


def ade20k(folder: Path) -> LayoutSet:
    """ADE20K as of the Scene Parsing Challenge 2016.

    ``images/training``, ``images/validation`` (JPEG) and ``annotations/`` likewise (PNG, 0 other
    things: no label, 1 to 150). ``objectInfo150.txt`` gives the names where it is there.
    """
    pairs = {
        split: match(
            files(folder / "images" / where), files(folder / "annotations" / where), folder
        )
        for split, where in (("train", "training"), ("val", "validation"))
        if (folder / "images" / where).is_dir()
    }
    names = dict(class_names("ade20k"))
    table = folder / "objectInfo150.txt"
    if table.is_file():
        names = _object_info(table)
    info = make_info(folder, "ade20k", "scene", names, pairs)
    return LayoutSet(info, pairs, same(list(names), 0, background=None), read_pair)


def _object_info(file: Path) -> dict[int, tuple[str, ...]]:
    """Rows ``Idx Ratio Train Val Stuff Name`` separated by tabs, names by commas."""
    names = {}
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        cells = line.split("\t")
        if len(cells) < 2:
            continue
        try:
            label = int(cells[0])
        except ValueError as error:
            raise DatasetError(f"{file}: {cells[0]!r} is no class number.") from error
        names[label] = tuple(dict.fromkeys(word.strip() for word in cells[-1].split(",")))
    if not names:
        raise DatasetError(f"{file} names no class.")
    return names


def cityscapes(folder: Path) -> LayoutSet:
    """Cityscapes, fine labels.

    ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``;
    the 19 classes of the benchmark, all other label ids are no label.
    """
    pairs: dict[str, tuple[Pair, ...]] = {}
    for split in ("train", "val"):
        root = folder / "leftImg8bit" / split
        if not root.is_dir():
            continue
        found: list[Pair] = []
        for city in sorted(path for path in root.iterdir() if path.is_dir()):
            images = files(city, (".png",), "_leftImg8bit")
            masks = files(folder / "gtFine" / split / city.name, (".png",), "_gtFine_labelIds")
            found += match(images, masks, folder)
        pairs[split] = tuple(found)
    names = class_names("cityscapes")
    others = [value for value in (*range(34), 255) if value not in names]
    info = make_info(folder, "cityscapes", "street", names, pairs)
    return LayoutSet(info, pairs, same(list(names), *others, background=None), read_pair)


def coco_stuff(folder: Path) -> LayoutSet:
    """COCO-Stuff 164k, pixel maps.

    ``images/SPLIT2017/*.jpg`` (or ``SPLIT2017/`` at the top) and ``stuffthingmaps/SPLIT2017/*.png``
    (or ``annotations/``); a value is the category's number less one, 255 is no label.
    """
    maps = next(
        (folder / n for n in ("stuffthingmaps", "annotations") if (folder / n).is_dir()), None
    )
    if maps is None:
        raise DatasetError(f"{folder} has no folder stuffthingmaps (or annotations).")
    pairs = {}
    for split in ("train", "val"):
        places = (folder / "images" / f"{split}2017", folder / f"{split}2017")
        images = next((place for place in places if place.is_dir()), None)
        if images is not None:
            pairs[split] = match(files(images), files(maps / f"{split}2017", (".png",)), folder)
    names = class_names("coco-stuff")
    info = make_info(folder, "coco-stuff", "scene", names, pairs)
    return LayoutSet(info, pairs, {i - 1: i for i in names} | {255: 255}, read_pair)


def voc(folder: Path) -> LayoutSet:
    """Pascal VOC 2012: ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation``.

    Masks carry a palette; 0 is background, 255 the seam between things: no label.
    """
    return _voc(folder, "voc", "SegmentationClass", "Segmentation")


def pascal_context(folder: Path) -> LayoutSet:
    """Pascal Context, 59 classes: as VOC with ``SegmentationClassContext`` and
    ``ImageSets/SegmentationContext``; 0 is background.
    """
    return _voc(folder, "pascal-context", "SegmentationClassContext", "SegmentationContext")


def _voc(folder: Path, name: str, masks: str, lists: str) -> LayoutSet:
    inside = [folder, *sorted(folder.glob("VOC2*")), *sorted(folder.glob("VOCdevkit/VOC2*"))]
    root = next((path for path in inside if (path / masks).is_dir()), None)
    if root is None:
        raise DatasetError(f"{folder} has no folder {masks}.")
    pairs = {}
    for split in ("train", "val"):
        file = root / "ImageSets" / lists / f"{split}.txt"
        if file.is_file():
            names = read_list(file)
            pairs[split] = listed(names, root / "JPEGImages", root / masks, (".jpg", ".png"))
    classes = class_names(name)
    info = make_info(folder, name, "scene", classes, pairs)
    return LayoutSet(info, pairs, same(list(classes), 255), read_pair)
