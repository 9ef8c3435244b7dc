"""Labelled data sets in the pack's format, prepared once as bytes in memory.

A set is a folder with ``dataset.json``, ``images/`` and ``masks/`` (8-bit index: 0 background,
1.. class id, 255 no label). Every picture becomes planes of bytes: a 2-D picture is one plane, a
volume has one plane for each axial slice. The normalisation is that of use: 8-bit pictures keep
their scale, other rasters are stretched by channel between percentiles of the whole raster, a CT
between the bounds of its window, an MR between percentiles of the volume.

Volumes are brought to LPS with axes (z from inferior to superior, y to posterior, x to the
patient's left), so a plane is the usual radiological axial view: anatomical left on the right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import DatasetError
from digseg.normalize import default_bands, near_infrared_band, stretch_of
from digseg.train.parts import derived_groups, other_words
from digseg.types import AnyArray, UInt8Array

IGNORE = 255
#: Channels of the prepared pixels for multispectral rasters: natural colour, then false colour.
NATURAL, FALSE_COLOUR = (0, 1, 2), (3, 0, 1)


@dataclass(frozen=True)
class Category:
    """Something to ask for: a class of the set, or a group of classes."""

    name: str
    ids: tuple[int, ...]
    synonyms: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Name and synonyms, the name first."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class SetInfo:
    """What ``dataset.json`` says of a set."""

    folder: Path
    name: str
    domain: str
    modality: str
    use: str
    licence: str
    image_ext: str
    mask_ext: str
    classes: tuple[Category, ...]
    groups: tuple[Category, ...]
    splits: dict[str, tuple[str, ...]]
    bands: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    not_annotated: tuple[str, ...] = ()
    unlabelled: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def ids(self) -> frozenset[int]:
        """Label values that a mask may hold beside 0 and 255."""
        return frozenset(i for category in self.classes for i in category.ids)


@dataclass
class Picture:
    """One prepared picture or volume.

    Parameters
    ----------
    pixels
        ``uint8 [planes, H, W, channels]``: 1 channel (grey), 3, or 4 (natural colour and NIR).
    labels
        ``uint8 [planes, H, W]`` with class ids, 0 and 255.
    unlabelled
        Class ids of which this picture's 0 says nothing.
    """

    set_name: str
    name: str
    pixels: UInt8Array
    labels: UInt8Array
    unlabelled: tuple[int, ...] = ()

    @property
    def planes(self) -> int:
        """Number of planes."""
        return int(self.pixels.shape[0])


def read_info(folder: str | Path) -> SetInfo:
    """Read ``dataset.json``.

    Raises
    ------
    DatasetError
        The file is missing, is no JSON, or lacks what a set needs.
    """
    folder = Path(folder)
    file = folder / "dataset.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{folder} is no data set: it has no dataset.json.") from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{file} is no valid JSON ({error}).") from None
    for key in ("classes", "splits", "image_ext", "mask_ext"):
        if key not in info:
            raise DatasetError(f"{file} lacks the entry {key!r}.")
    classes = tuple(
        Category(str(c["name"]), (int(c["id"]),), tuple(c.get("synonyms", ())))
        for c in info["classes"]
    )
    names = {c.name for c in classes}
    # A group that repeats a class name replaces it: "spinal cord" is its grey and white matter too.
    wholes = info.get("groups") or derived_groups((c.ids[0], c.name) for c in classes)
    groups = tuple(
        Category(
            str(name),
            tuple(int(i) for i in ids),
            next((c.synonyms for c in classes if c.name == name), other_words(name)),
        )
        for name, ids in wholes.items()
    )
    group_names = {group.name for group in groups}
    kept = tuple(c for c in classes if c.name not in group_names)
    if not names:
        raise DatasetError(f"{file} names no classes.")
    absent = info.get("not_annotated", ())
    window = info.get("window")
    return SetInfo(
        folder=folder,
        name=str(info.get("name", folder.name)),
        domain=str(info.get("domain", "")),
        modality=str(info.get("modality", "")),
        use=str(info.get("use", "")),
        licence=str(info.get("licence", "")),
        image_ext=str(info["image_ext"]),
        mask_ext=str(info["mask_ext"]),
        classes=(*kept, *(g for g in groups if g.name in names)),
        groups=tuple(g for g in groups if g.name not in names),
        splits={split: tuple(names) for split, names in info["splits"].items()},
        bands=tuple(info.get("bands", ())),
        window=(float(window[0]), float(window[1])) if window else None,
        not_annotated=tuple(absent) if isinstance(absent, list) else (),
        unlabelled=(
            {name: tuple(ids) for name, ids in absent.items()} if isinstance(absent, dict) else {}
        ),
    )


def find_sets(
    data: str | Path | Iterable[str | Path], use: str | None = None
) -> tuple[SetInfo, ...]:
    """The sets under `data`: a set itself, a folder of sets, or several of either.

    Parameters
    ----------
    use
        Keep only sets of this use, such as ``"train-and-ship"``.

    Raises
    ------
    DatasetError
        There is no labelled set there.
    """
    roots = [Path(data)] if isinstance(data, (str, Path)) else [Path(root) for root in data]
    folders: list[Path] = []
    for root in roots:
        if (root / "dataset.json").exists():
            folders.append(root)
        elif root.is_dir():
            folders += sorted(file.parent for file in root.glob("*/dataset.json"))
        else:
            raise DatasetError(f"There is no folder {root}.")
    infos = tuple(read_info(folder) for folder in folders)
    chosen = tuple(info for info in infos if use is None or info.use == use)
    if not chosen:
        raise DatasetError(f"There is no data set in {', '.join(map(str, roots))}.")
    return chosen


def read_picture(info: SetInfo, name: str, longest: int | None = None) -> Picture:
    """Read and prepare one picture with its mask.

    Parameters
    ----------
    longest
        Reduce 2-D pictures to at most this many pixels on the long side.

    Raises
    ------
    DatasetError
        A file is missing or unreadable, the sizes differ, or the mask holds an unknown value.
    """
    image_file = info.folder / "images" / f"{name}{info.image_ext}"
    mask_file = info.folder / "masks" / f"{name}{info.mask_ext}"
    for file, other in ((image_file, mask_file), (mask_file, image_file)):
        if not file.exists():
            raise DatasetError(f"{file} is missing: the pair of {other} is broken.")
    try:
        pixels, valid = _read_pixels(info, image_file)
        labels = _read_labels(mask_file)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{image_file} or its mask can't be read ({error}).") from error
    if pixels.shape[:3] != labels.shape:
        raise DatasetError(
            f"{mask_file} has the size {_size(labels.shape)}, "
            f"its image {_size(pixels.shape[:3])}: they have to be equal."
        )
    known = np.zeros(256, dtype=bool)
    known[[0, IGNORE, *info.ids]] = True
    strange = np.flatnonzero((np.bincount(labels.ravel(), minlength=256) > 0) & ~known)
    if strange.size:
        raise DatasetError(
            f"{mask_file} holds the label value {int(strange[0])}, which dataset.json doesn't name."
        )
    labels = np.where(valid, labels, np.uint8(IGNORE))
    if longest is not None and pixels.shape[0] == 1 and max(labels.shape[1:]) > longest:
        pixels, labels = _reduced(pixels, labels, longest)
    return Picture(info.name, name, pixels, labels, info.unlabelled.get(name, ()))


def load_split(
    info: SetInfo, split: str, longest: int | None = None, limit: int | None = None
) -> list[Picture]:
    """All pictures of one split.

    Raises
    ------
    DatasetError
        The set has no such split, or a picture of it is broken.
    """
    if split not in info.splits:
        raise DatasetError(
            f"{info.name} has no split {split!r}: it has {', '.join(sorted(info.splits))}."
        )
    return [read_picture(info, name, longest) for name in info.splits[split][:limit]]


def _size(shape: Sequence[int]) -> str:
    planes, rows, columns = shape
    return f"{columns} x {rows}" + (f" x {planes}" if planes > 1 else "")


def _read_labels(file: Path) -> UInt8Array:
    if file.name.endswith((".nii", ".nii.gz")):
        labels = _volume(file)
    elif file.suffix in (".tif", ".tiff"):
        import rasterio

        with rasterio.open(file) as source:
            labels = source.read(1)[None]
    else:
        labels = _flat_picture(file)[None]
    if labels.ndim != 3:
        raise DatasetError(f"{file} is no index mask: it has several channels.")
    if labels.min() < 0 or labels.max() > 255 or np.any(labels != np.round(labels)):
        raise DatasetError(f"{file} holds values that are no 8-bit label indices.")
    return labels.astype(np.uint8)


def _read_pixels(info: SetInfo, file: Path) -> tuple[UInt8Array, Any]:
    """Pixels ``uint8 [planes, H, W, C]`` and validity, broadcastable to ``[planes, H, W]``."""
    if file.name.endswith((".nii", ".nii.gz")):
        return _windowed(info, _volume(file))[..., None], True
    if file.suffix in (".tif", ".tiff"):
        return _raster(info, file)
    picture = _flat_picture(file)
    if picture.dtype != np.uint8:
        stretch = stretch_of(picture.reshape(1, -1), np.ones(picture.size, bool), picture.dtype)
        picture = _bytes(stretch.apply(picture[None])[0])
    return (picture if picture.ndim == 3 else picture[..., None])[None], True


def _flat_picture(file: Path) -> AnyArray:
    """A PNG or JPEG: ``[H, W]`` grey or index, or ``[H, W, 3]`` bytes."""
    from PIL import Image

    with Image.open(file) as picture:
        if picture.mode in ("L", "P", "I", "I;16", "F"):
            return np.asarray(picture)
        if picture.mode == "1":
            return np.asarray(picture.convert("L"))
        return np.asarray(picture.convert("RGB"))


def _raster(info: SetInfo, file: Path) -> tuple[UInt8Array, Any]:
    """Natural colour (and near infrared, where the set names it) of a raster."""
    import rasterio

    with rasterio.open(file) as source:
        names = info.bands or tuple(d or "" for d in source.descriptions)
        colors = [c.name for c in source.colorinterp]
        chosen = list(default_bands(names, colors))
        near = near_infrared_band(names, colors)
        if near is not None and len(chosen) == 3:
            chosen.append(near)
        bands = source.read([band + 1 for band in chosen])  # [C,H,W]
        valid = source.dataset_mask() > 0
    stretch = stretch_of(bands.reshape(len(chosen), -1), valid.ravel(), bands.dtype)
    return np.moveaxis(_bytes(stretch.apply(bands)), 0, -1)[None], valid[None]


def _volume(file: Path) -> AnyArray:
    """A NIfTI volume as ``[z, y, x]`` in LPS (see the module's head)."""
    import nibabel as nib

    loaded: Any = nib.load(file)
    target = nib.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nib.orientations.ornt_transform(nib.io_orientation(loaded.affine), target)
    array = np.asarray(loaded.dataobj)
    if array.ndim != 3:
        raise DatasetError(f"{file} has {array.ndim} axes: a labelled volume has three.")
    return np.ascontiguousarray(nib.apply_orientation(array, turn).transpose(2, 1, 0))


def _windowed(info: SetInfo, volume: AnyArray) -> UInt8Array:
    if info.window is not None:
        low, high = info.window
    elif volume.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        stretch = stretch_of(volume.reshape(1, -1), np.ones(volume.size, bool), volume.dtype)
        low, high = stretch.low[0], stretch.high[0]
    return _bytes((volume.astype(np.float32) - low) / max(high - low, 1e-6))


def _bytes(unit: AnyArray) -> UInt8Array:
    return np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def _reduced(pixels: UInt8Array, labels: UInt8Array, longest: int) -> tuple[UInt8Array, UInt8Array]:
    from PIL import Image

    rows, columns = labels.shape[1:]
    factor = longest / max(rows, columns)
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    channels = [
        np.asarray(Image.fromarray(pixels[0, :, :, c]).resize(size, Image.Resampling.BOX))
        for c in range(pixels.shape[3])
    ]
    reduced = Image.fromarray(labels[0]).resize(size, Image.Resampling.NEAREST)
    return np.stack(channels, -1)[None], np.asarray(reduced)[None]
