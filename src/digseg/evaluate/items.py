"""Images of a labelled set as the model sees them, with their truth: one item at a time.

What is judged is what `segment` does: pixels come through the sources of `digseg.run` (8-bit
pictures keep their scale, other rasters are stretched between percentiles of the whole picture,
CT between the bounds of the set's window, MR between percentiles of the whole volume), volumes
are read by axial planes and magnified as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg import io
from digseg.errors import DatasetError
from digseg.evaluate.dataset import ALMOST_NONE, LabelledSet
from digseg.normalize import default_bands
from digseg.raster import Raster, Volume
from digseg.run.asked import source_of
from digseg.run.magnify import magnification
from digseg.run.settled import recommended_bands, recommended_scales
from digseg.run.volumes import plane_turn
from digseg.settings import CT_WINDOWS, SegmentSettings
from digseg.types import AnyArray, BoolArray, Float32Array


@dataclass(frozen=True, eq=False)
class Item:
    """One image with its truth.

    Parameters
    ----------
    name
        Name in the split.
    planes
        ``float32 [plane, 3, y, x]`` in [0, 1]; a picture has one plane.
    truth
        ``[plane, y, x]``: 0 background, ``i + 1`` the set's class at index ``i``.
    valid
        ``bool [plane, y, x]``: False where the mask says "ignore".
    known
        Indices of the classes that the mask of this image knows.
    factors
        How many times taller and wider the model sees the pixels (of volumes).
    scales
        On top of them, those that the model recommends (for pictures).
    """

    name: str
    planes: Float32Array
    truth: NDArray[np.uint16]
    valid: BoolArray
    known: tuple[int, ...]
    factors: tuple[float, float] = (1.0, 1.0)
    scales: tuple[float, ...] = ()


def items(
    labelled: LabelledSet,
    split: str,
    limit: int | None = None,
    recommended: Mapping[str, Any] | None = None,
) -> Iterator[Item]:
    """Items of a split in its order; ``limit`` takes that many, evenly spread.

    Parameters
    ----------
    recommended
        What the model recommends: bands and scales, and the size at which it sees a volume's
        planes.

    Raises
    ------
    DatasetError
        A file is missing, sizes differ, or a mask holds an unknown value; the message names it.
    """
    pairs = labelled.pairs(split)
    names = labelled.split(split)
    for index in spread(len(pairs), limit):
        yield read_item(labelled, names[index], *pairs[index], recommended)


def spread(count: int, limit: int | None) -> list[int]:
    """At most ``limit`` evenly spaced indices out of ``count``."""
    if limit is None or limit >= count:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * limit) for i in range(limit)]


def read_item(
    labelled: LabelledSet,
    name: str,
    image: Path,
    mask: Path,
    recommended: Mapping[str, Any] | None = None,
) -> Item:
    """One image and its mask."""
    picture = io.read(image)
    ids = _file_ids(labelled, name, image, mask, isinstance(picture, Volume))
    shape = picture.shape if isinstance(picture, Volume) else (1, *picture.shape)
    if ids.shape != shape:
        flat = slice(None) if isinstance(picture, Volume) else slice(1, None)
        sizes = ["x".join(map(str, sides[flat])) for sides in (ids.shape, shape)]
        raise DatasetError(f"The mask {mask.name} is {sizes[0]} but its image is {sizes[1]}.")
    settings = _settings(labelled, picture, recommended or {})
    source = source_of(picture, settings)
    count, rows, columns = source.shape
    planes = np.stack([source.read(plane, (0, rows, 0, columns))[0] for plane in range(count)])
    factors, scales = (1.0, 1.0), recommended_scales(picture, recommended or {})
    if isinstance(picture, Volume):
        ids = np.ascontiguousarray(plane_turn(picture.grid, settings).apply(ids))
        factors = magnification(picture, settings, recommended=recommended)
    table = _index_table(labelled)
    truth = _to_indices(ids, table, mask, labelled)
    hidden = labelled.unlabelled.get(name, frozenset())
    known = tuple(i for i, item in enumerate(labelled.classes) if item.id not in hidden)
    return Item(name, planes, truth, ids != labelled.ignore, known, factors, scales)


def _file_ids(
    labelled: LabelledSet, name: str, image: Path, mask: Path, is_volume: bool
) -> AnyArray:
    """Class ids ``[plane, y, x]`` in the file's order."""
    if labelled.labels is not None and not is_volume:
        return labelled.labels(name, image, mask)
    labels = io.read(mask)
    if isinstance(labels, Volume) != is_volume:
        raise DatasetError(f"{image.name} and {mask.name} are not of one kind (picture, volume).")
    if isinstance(labels, Raster) and labels.bands != 1:
        raise DatasetError(f"The mask {mask.name} has {labels.bands} bands in place of one.")
    return np.asarray(labels.data[:, :, :])


def _index_table(labelled: LabelledSet) -> NDArray[np.int32]:
    table = np.full(2**16, -1, dtype=np.int32)
    table[0] = 0
    table[labelled.ignore] = 0
    for index, item in enumerate(labelled.classes, start=1):
        table[item.id] = index
    return table


def _to_indices(
    ids: AnyArray, table: NDArray[np.int32], mask: Path, labelled: LabelledSet
) -> NDArray[np.uint16]:
    if ids.dtype.kind == "f" and not np.array_equal(ids, np.rint(ids)):
        raise DatasetError(f"The mask {mask.name} holds values that are no whole numbers.")
    whole = ids.astype(np.int64)
    outside = (whole < 0) | (whole >= len(table))
    indices = table[np.where(outside, 0, whole)]
    wrong = outside | (indices < 0)
    if wrong.any():
        value = int(whole[wrong][0])
        raise DatasetError(
            f"The mask {mask.name} holds the value {value}, which is no class of "
            f"{labelled.folder.name}: name it in dataset.json or mark it as {labelled.ignore}."
        )
    return indices.astype(np.uint16)


def _settings(
    labelled: LabelledSet, picture: Raster | Volume, recommended: Mapping[str, Any]
) -> SegmentSettings:
    """What a run would choose for a person who knows the set: its window, its bands."""
    settings = SegmentSettings()
    if isinstance(picture, Raster):
        known = len(labelled.bands) == picture.bands
        names = labelled.bands if known else picture.band_names
        bands = recommended_bands(picture, names, recommended)
        if known and not bands:
            shown = default_bands(labelled.bands, picture.meta.get("colors", ()))
            bands = tuple(band + 1 for band in shown)
        return settings.with_(bands=bands)
    if labelled.window is not None:
        return settings.with_(window=labelled.window)
    if labelled.domain == "ct":
        return settings.with_(window=CT_WINDOWS["soft-tissue"])
    return settings


def is_exhaustive(labelled: LabelledSet, judged: str, sample: int = 48) -> tuple[bool, str | None]:
    """Whether the masks hold (almost) no background, so that every pixel has a class.

    Read from at most ``sample`` evenly spread masks of the ``train`` split. Where its files are
    not there, another split tells, and the judged one only if it stands alone: that a set labels
    every pixel is a convention of the set and says nothing of any pixel.

    Returns
    -------
    The answer, and the split that gave it.
    """
    others = [split for split in labelled.splits if split not in ("train", judged)]
    for split in ("train", *others, judged):
        there = [pair for pair in labelled.listed(split) if all(file.exists() for file in pair[1:])]
        background = pixels = 0
        for index in spread(len(there), sample):
            name, image, mask = there[index]
            is_volume = isinstance(io.read(image), Volume)
            ids = _file_ids(labelled, name, image, mask, is_volume)
            background += int(np.count_nonzero(ids == 0))
            pixels += int(np.count_nonzero(ids != labelled.ignore))
        if pixels:
            return background / pixels < ALMOST_NONE, split
    return False, None


def crop_planes(item: Item, planes: list[int]) -> Item:
    """The item with only some of its planes."""
    return replace(
        item, planes=item.planes[planes], truth=item.truth[planes], valid=item.valid[planes]
    )
