"""Pictures that people look at: the image and the mask side by side, with a legend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.io.files import replacing
from digseg.raster import Mask, Raster, Volume
from digseg.run.asked import source_of
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, LabelArray, UInt8Array

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 640
_GAP = 12
_ROW = 26
_INK = (32, 34, 38)
_MOST = 2048  # pixels of a side that are looked at
_BAND = 1 << 24  # pixels of a scene in memory at once


def save_picture(
    image: Raster | Volume, mask: Mask, path: Path, settings: SegmentSettings | None = None
) -> Path:
    """Write a PNG with the image at the left, the mask over it at the right, and a legend.

    A volume is shown as three planes that cross where they show most of all labels, with contours.

    Raises
    ------
    OutputError, DoesNotFitError
        The folder can't be written; the disk is full. Nothing half-written stays.
    """
    shown, labels = _pictures(image, mask, settings or SegmentSettings())
    picture = side_by_side(shown, labels, mask)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    return path


def side_by_side(shown: UInt8Array, labels: LabelArray, mask: Mask) -> Image.Image:
    """Compose ``shown [y, x, 3]`` and ``labels [y, x]``."""
    from PIL import Image, ImageDraw

    if mask.grid.ndim == 3:  # the tissue under a label is what a radiologist looks at
        over = contoured(overlay(shown, labels, mask, opacity=0.25), labels, mask)
    else:
        over = overlay(shown, labels, mask)
    scale = _SIDE / max(shown.shape[:2])
    size = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    left = Image.fromarray(shown).resize(size, smooth)
    right = Image.fromarray(over).resize(size, smooth if scale < 1 else Image.Resampling.NEAREST)
    present = [entry for entry in mask.classes.entries if (labels == entry.id).any()]
    width = 2 * size[0] + 3 * _GAP
    font, rows = _legend_rows([entry.name for entry in present], width)
    height = size[1] + 2 * _GAP + _ROW * max(1, len(rows))
    sheet = Image.new("RGB", (width, height), (250, 250, 250))
    sheet.paste(left, (_GAP, _GAP))
    sheet.paste(right, (2 * _GAP + size[0], _GAP))
    draw = ImageDraw.Draw(sheet)
    y = size[1] + _GAP + 6
    for row in rows:
        for index, x in row:
            draw.rectangle((x, y + 3, x + 14, y + 17), fill=present[index].color)
            draw.text((x + 20, y + 1), present[index].name, fill=_INK, font=font)
        y += _ROW
    return sheet


def overlay(shown: UInt8Array, labels: LabelArray, mask: Mask, opacity: float = 0.5) -> UInt8Array:
    """Blend the colours of the labels over a picture ``[y, x, 3]``."""
    table = np.zeros((int(np.iinfo(labels.dtype).max) + 1, 3), np.float32)
    for entry in mask.classes.entries:
        table[entry.id] = entry.color
    inside = (labels > 0)[..., None]
    if mask.nodata is not None:
        inside &= (labels != mask.nodata)[..., None]
    blended = np.where(inside, (1 - opacity) * shown + opacity * table[labels], shown)
    return blended.round().astype(np.uint8)


def contoured(shown: UInt8Array, labels: LabelArray, mask: Mask) -> UInt8Array:
    """Draw the inner border of each label in its full colour over a picture ``[y, x, 3]``."""
    wide = np.pad(labels, 1, mode="edge")
    beside = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
    border = np.logical_or.reduce([labels != other for other in beside])
    drawn = shown.copy()
    for entry in mask.classes.entries:
        drawn[border & (labels == entry.id)] = entry.color
    return drawn


def _pictures(
    image: Raster | Volume, mask: Mask, settings: SegmentSettings
) -> tuple[UInt8Array, LabelArray]:
    if isinstance(image, Volume):
        from digseg.run.three_planes import three_planes

        return three_planes(image, mask, settings)
    rows, columns = image.shape
    step = max(1, max(rows, columns) // _MOST)
    source = source_of(image, settings)
    shown, labels = [], []
    # Band by band, so that a picture of a gigapixel scene needs no gigapixels of memory.
    deep = step * max(1, _BAND // columns // step)
    for top in range(0, rows, deep):
        bottom = min(rows, top + deep)
        tile, _ = source.read(0, (top, bottom, 0, columns))
        shown.append(_bytes(tile[:, ::step, ::step]))
        labels.append(np.asarray(mask.labels[top:bottom, :])[::step, ::step])
    return np.concatenate(shown), np.concatenate(labels)


def _bytes(tile: AnyArray) -> UInt8Array:
    """``[3, y, x]`` in [0, 1] to a picture ``[y, x, 3]``."""
    picture: UInt8Array = np.moveaxis(np.rint(tile * 255).astype(np.uint8), 0, -1)
    return picture


def _legend_rows(names: list[str], width: int) -> tuple[Any, list[list[tuple[int, int]]]]:
    """Break legend entries into rows; each entry is (index, left edge)."""
    from PIL import ImageFont

    font = ImageFont.load_default(size=15)
    rows: list[list[tuple[int, int]]] = [[]]
    x = _GAP
    for index, name in enumerate(names):
        length = round(font.getlength(name)) + 44
        if x + length > width and rows[-1]:
            rows.append([])
            x = _GAP
        rows[-1].append((index, x))
        x += length
    return font, rows
