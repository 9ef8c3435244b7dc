"""A volume as three pictures through its most telling point, and where that point is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from digseg.orientation import AXES, Axis
from digseg.raster import ClassTable, Mask, Volume
from digseg.resample import Rescale, rescale
from digseg.run.volumes import plane_turn, volume_source
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, LabelArray, LazyArray, UInt8Array

_GAP = 4  # pixels between the pictures
_SLAB = 16  # planes looked through at once
_LETTER = (120, 200, 255)
_SMALLEST_LETTERED = 32
#: What lies at the left and right edge of the planes across each axis.
_SIDES: dict[Axis, tuple[str, str]] = {"z": ("R", "L"), "y": ("R", "L"), "x": ("A", "P")}


def three_planes(
    volume: Volume, mask: Mask, settings: SegmentSettings
) -> tuple[UInt8Array, LabelArray]:
    """Axial (top left), sagittal (top right) and coronal (bottom left) planes as one picture.

    They cross where they show most of all labels; all have the same number of pixels a millimetre.
    Where the volume is thin they stand below one another: axial, coronal, sagittal.

    Returns
    -------
    The picture ``uint8 [y, x, 3]`` and its labels ``[y, x]``.
    """
    axial = plane_turn(volume.grid, settings, "z")
    # Coronal and sagittal planes follow one another as rows and columns of the axial ones do.
    point = dict(zip("zyx", _point(axial.lazy(mask.labels), mask.classes), strict=True))
    finest = min(axial.grid(volume.grid).spacing)
    pieces = {axis: _plane(volume, mask, settings, axis, point[axis], finest) for axis in AXES}
    return _compose(pieces, lettered=volume.grid.space == "patient")


def _point(labels: LazyArray, table: ClassTable) -> tuple[int, int, int]:
    """Plane, row and column where sections through the labels show most of all of them.

    A section counts by the root of its pixels over those of the label's largest one: a kidney is
    worth as much as a liver, and a speck of something next to nothing.
    """
    planes, rows, columns = (int(side) for side in labels.shape)
    kinds = len(table.entries) + 1
    index = np.zeros(int(np.iinfo(labels.dtype).max) + 1, np.intp)  # nodata counts as nothing
    index[[entry.id for entry in table.entries]] = np.arange(1, kinds)
    along = [np.zeros((side, kinds), np.int64) for side in (planes, rows, columns)]
    row, column = np.arange(rows)[:, None] * kinds, np.arange(columns) * kinds
    for start in range(0, planes, _SLAB):
        for offset, plane in enumerate(np.asarray(labels[start : start + _SLAB])):
            kind = index[plane]
            if not kind.any():
                continue
            for sums, keys in zip(along[1:], (kind + row, kind + column), strict=True):
                sums += np.bincount(keys.ravel(), minlength=sums.size).reshape(sums.shape)
            along[0][start + offset] = np.bincount(kind.ravel(), minlength=kinds)
    deep, down, across = (_most_telling(sums[:, 1:]) for sums in along)
    return deep, down, across


def _most_telling(pixels: AnyArray) -> int:
    """Which section of ``pixels [section, label]``; the middle one of several that are alike."""
    largest = pixels.max(axis=0)
    score = np.sqrt(pixels[:, largest > 0] / largest[largest > 0]).sum(axis=1)
    best = np.flatnonzero(score > score.max() - 1e-9)
    return int(best[len(best) // 2])


def _plane(
    volume: Volume, mask: Mask, settings: SegmentSettings, axis: Axis, index: int, finest: float
) -> tuple[AnyArray, LabelArray]:
    """One plane ``[y, x]`` in [0, 1] and its labels, with square pixels of ``finest``."""
    source = volume_source(volume, replace(settings, context=False), axis)
    _, rows, columns = source.shape
    pixels, _ = source.read(index, (0, rows, 0, columns))
    labels = np.asarray(source.turn.lazy(mask.labels)[index])
    _, high, wide = source.grid.spacing
    tall, broad = max(1, round(rows * high / finest)), max(1, round(columns * wide / finest))
    whole = (0, tall, 0, broad)
    shown = rescale(pixels[1], Rescale(rows, tall), Rescale(columns, broad), whole)
    nearest = np.ix_(np.arange(tall) * rows // tall, np.arange(broad) * columns // broad)
    return shown, labels[nearest]


def _compose(
    pieces: dict[Axis, tuple[AnyArray, LabelArray]], *, lettered: bool
) -> tuple[UInt8Array, LabelArray]:
    places = _places(
        {axis: (shown.shape[0], shown.shape[1]) for axis, (shown, _) in pieces.items()}
    )
    height = max(y + pieces[axis][0].shape[0] for axis, (y, _) in places.items())
    width = max(x + pieces[axis][0].shape[1] for axis, (_, x) in places.items())
    shown = np.zeros((height, width), dtype=np.float32)
    labels = np.zeros((height, width), dtype=pieces["z"][1].dtype)
    for axis, (y, x) in places.items():
        pixels, found = pieces[axis]
        shown[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        labels[y : y + pixels.shape[0], x : x + pixels.shape[1]] = found
    grey = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=-1)
    if lettered:
        for axis, (y, x) in places.items():
            high, wide = pieces[axis][0].shape
            _letter(picture[y : y + high, x : x + wide], *_SIDES[axis])
    return picture, labels


def _places(sizes: dict[Axis, tuple[int, int]]) -> dict[Axis, tuple[int, int]]:
    """Upper left corner of each plane: in a square, or in a column where side views are flat."""
    axial, coronal, sagittal = (sizes[axis] for axis in ("z", "y", "x"))
    below = axial[0] + _GAP
    if 2 * coronal[0] < axial[0]:
        return {"z": (0, 0), "y": (below, 0), "x": (below + coronal[0] + _GAP, 0)}
    right = max(axial[1], coronal[1]) + _GAP
    return {"z": (0, 0), "y": (max(below, sagittal[0] + _GAP), 0), "x": (0, right)}


def _letter(picture: UInt8Array, left: str, right: str) -> None:
    """Name the sides of a plane in it: R and L, or A and P."""
    from PIL import Image, ImageDraw, ImageFont

    high, wide = picture.shape[:2]
    if min(high, wide) < _SMALLEST_LETTERED:
        return
    canvas = Image.fromarray(picture)
    size = min(max(12, min(high, wide) // 12), high // 2)
    font = ImageFont.load_default(size=size)
    draw = ImageDraw.Draw(canvas)
    margin = size // 4
    for text, x, anchor in ((left, margin, "lm"), (right, wide - margin, "rm")):
        draw.text((x, high / 2), text, fill=_LETTER, font=font, anchor=anchor)
    picture[:] = np.asarray(canvas)
