"""Lungs found in slices of the chest whose set doesn't label them: air that the body encloses.

In a CT lungs need no network to be found where they are healthy and whole: they are the large dark
areas inside of the body (as in Hu et al., IEEE TMI 20, 2001). A set of tumours or hearts can so
teach what a lung is, too. Where a slice leaves a doubt nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import convex_hull_image

from digseg.train.pack import IGNORE, Category, Picture, SetInfo
from digseg.train.parts import other_words
from digseg.types import BoolArray, UInt8Array

#: Smallest and largest share of the body that its lungs have, together, in a slice.
_SHARES = (0.08, 0.65)
#: From this share of the body on a dark area has to be told: a lung or not.
_TOLD = 0.012
#: Share of the body that air of the outside may seem to reach.
_DOUBT = 0.02
#: How far under the skin a lung reaches at least, as a share of the root of the body's area.
_DEEP = 0.07
#: Grey below which a slice shows air.
_BLACK = 6


def with_lungs(info: SetInfo, pictures: Sequence[Picture]) -> tuple[SetInfo, Sequence[Picture]]:
    """A set of single slices with the class ``lung`` added, unless it names lungs itself.

    Pixels that have a class keep it. Slices whose lungs are in doubt, and volumes, get the class
    among those that their labels can't tell.
    """
    name = "lung"
    if any(category.name == name for category in (*info.classes, *info.groups)):
        return info, pictures
    used = {i for c in (*info.classes, *info.groups) for i in c.ids} | {0, IGNORE}
    new = min(set(range(1, IGNORE)) - used)
    category = Category(name, (new,), other_words(name))
    return (
        replace(info, classes=(*info.classes, category)),
        [_marked(picture, new) for picture in pictures],
    )


def _marked(picture: Picture, new: int) -> Picture:
    lungs = lungs_of(picture.pixels[0, ..., 0]) if picture.planes == 1 else None
    if lungs is None:
        return replace(picture, unlabelled=(*picture.unlabelled, new))
    free = lungs & (picture.labels[0] == 0)
    return replace(picture, labels=np.where(free, np.uint8(new), picture.labels[0])[None])


def lungs_of(grey: UInt8Array, sure: bool = True) -> BoolArray | None:
    """The lungs in a slice of a chest, vessels within them included.

    Parameters
    ----------
    grey
        ``uint8 [H, W]``, a CT in a window that tells soft tissue from air.
    sure
        Whether all of them have to be told; else one of two may do.

    Returns
    -------
    ``bool [H, W]``, or None where there are none, or where one can't be told for sure.
    """
    if grey.min() == grey.max():
        return None
    smooth = ndimage.gaussian_filter(grey.astype(np.float32), 1.2)
    narrow = np.percentile(grey, 25) < _BLACK  # lungs as black as the air around, fat perhaps, too
    dark = smooth < (_BLACK if narrow else _level(smooth))
    parts, _ = ndimage.label(ndimage.binary_opening(dark, iterations=4 if narrow else 2))
    around = np.unique([parts[0], parts[-1]])  # a lung may be cut at the left or right, not there
    body = _hull(ndimage.binary_opening(~dark, iterations=2))
    whole = int(body.sum())
    depth = ndimage.distance_transform_edt(body)
    lungs = np.zeros(grey.shape, bool)
    for index, piece in enumerate(ndimage.find_objects(parts), 1):
        part = (parts[piece] == index) & body[piece]
        if index in around or part.sum() < _TOLD * whole:
            continue
        if depth[piece][part].max() > _DEEP * np.sqrt(whole):  # else fat between skin and muscle
            lungs[piece] |= part
    if not lungs.any():
        return None
    leaks = np.isin(parts, around[around > 0]) & (depth > 2 * _DEEP * np.sqrt(whole))
    fits = _SHARES[0] * whole < lungs.sum() < _SHARES[1] * whole
    if sure and (leaks.sum() > _DOUBT * whole or not fits):
        return None
    if narrow:  # blurred tissue hid the rim: as far as half of its grey
        half = smooth < 0.5 * np.median(grey[body & ~dark])
        lungs |= ndimage.binary_dilation(lungs, iterations=3) & half
    closed = ndimage.binary_closing(np.pad(lungs, 8, mode="edge"), iterations=5)[8:-8, 8:-8]
    found: BoolArray = ndimage.binary_fill_holes(closed)
    return found


def _hull(tissue: BoolArray) -> BoolArray:
    """The convex hull of the largest connected piece, as an image."""
    parts, count = ndimage.label(tissue)
    if not count:
        return tissue
    largest = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax())
    hull: BoolArray = convex_hull_image(largest)  # type: ignore[no-untyped-call]
    return hull


def _level(values: np.ndarray) -> float:
    """The level between air and soft tissue, nearer to the latter; fluid in a lung stays lung."""
    split = threshold_otsu(values)  # type: ignore[no-untyped-call]
    air, tissue = values[values < split].mean(), values[values >= split].mean()
    return float(air + 0.65 * (tissue - air))
