"""Small folders in the layouts of public data sets, as their makers publish them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from digseg.types import AnyArray


def photo(path: Path, size: tuple[int, int] = (12, 16), seed: int = 0) -> Path:
    """A colour picture ``size`` = rows, columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def index(path: Path, values: AnyArray, palette: bool = False) -> Path:
    """An 8-bit index mask, grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        picture.putpalette(list(range(255, -1, -1)) * 3)
    picture.save(path)
    return path


def stripes(values: list[int], size: tuple[int, int] = (12, 16)) -> AnyArray:
    """A mask whose columns run through ``values``."""
    columns = np.arange(size[1]) * len(values) // size[1]
    return np.broadcast_to(np.asarray(values, np.uint8)[columns], size)


def ade20k(folder: Path, values: list[int]) -> Path:
    for split in ("training", "validation"):
        name = f"ADE_{split[:3]}_00000001"
        photo(folder / "images" / split / f"{name}.jpg")
        index(folder / "annotations" / split / f"{name}.png", stripes(values))
    return folder


def cityscapes(folder: Path, values: list[int]) -> Path:
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau")):
        name = f"{city}_000000_000019"
        photo(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        labels = folder / "gtFine" / split / city
        index(labels / f"{name}_gtFine_labelIds.png", stripes(values))
        index(labels / f"{name}_gtFine_instanceIds.png", stripes([1]))
    return folder


def coco_stuff(folder: Path, values: list[int]) -> Path:
    for split in ("train2017", "val2017"):
        photo(folder / "images" / split / "000000000139.jpg")
        index(folder / "stuffthingmaps" / split / "000000000139.png", stripes(values))
    return folder


def voc(folder: Path, values: list[int]) -> Path:
    return _voc(folder, "SegmentationClass", "Segmentation", values)


def pascal_context(folder: Path, values: list[int]) -> Path:
    return _voc(folder, "SegmentationClassContext", "SegmentationContext", values)


def _voc(folder: Path, masks: str, lists: str, values: list[int]) -> Path:
    root = folder / "VOCdevkit" / "VOC2012"
    for split, name in (("train", "2007_000032"), ("val", "2007_000033")):
        photo(root / "JPEGImages" / f"{name}.jpg")
        index(root / masks / f"{name}.png", stripes(values), palette=True)
        file = root / "ImageSets" / lists / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n", encoding="utf-8")
    photo(root / "JPEGImages" / "2008_000001.jpg")  # not labelled, as most of them
    return folder


def loveda(folder: Path, values: list[int]) -> Path:
    for split in ("Train", "Val"):
        for area in ("Rural", "Urban"):
            photo(folder / split / area / "images_png" / "7.png")
            index(folder / split / area / "masks_png" / "7.png", stripes(values))
    return folder


def kvasir(folder: Path, values: list[int]) -> Path:
    for number in range(12):
        photo(folder / "images" / f"polyp{number}.jpg", (32, 32), number)
        mask = stripes(values, (32, 32))
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(mask)).save(folder / "masks" / f"polyp{number}.jpg")
    (folder / "kavsir_bboxes.json").write_text("{}", encoding="utf-8")
    return folder


def decathlon(folder: Path, values: list[int], shape: tuple[int, ...] = (8, 10, 6)) -> Path:
    """Task04-like: MR, voxel axes to the right, front and head (RAS)."""
    entries = []
    rng = np.random.default_rng(4)
    for number in range(4):
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        name = f"hippocampus_{number:03d}.nii.gz"
        image = rng.normal(100, 20, shape).astype(np.float32)
        labels = np.zeros(shape[:3], np.uint8)
        for place, value in enumerate(values):
            labels[place, 0, 1] = value
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / name)
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labelsTr" / name)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    told = {
        "name": "Hippocampus",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": entries,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


WRITERS = {
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "coco-stuff": coco_stuff,
    "voc": voc,
    "pascal-context": pascal_context,
    "loveda": loveda,
    "kvasir": kvasir,
    "msd": decathlon,
}
