"""Hearts drawn into MR slices as cine scans show them: a ring of muscle cut across its axis.

The labelled hearts of training lie in slices along the body; cardiologists look across the left
ventricle, where it is a bright disc in a dark ring beside the crescent of the right one. What is
drawn takes its greys anew each time, as in SynthSeg (Billot et al., arXiv 2107.09559).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from digseg.train.drawn.rims import within_rim
from digseg.train.pack import IGNORE, Category, Picture, SetInfo
from digseg.types import BoolArray, Float32Array, UInt8Array

#: What is drawn, and other words for it.
PARTS: Mapping[str, tuple[str, ...]] = {
    "left ventricle": ("LV", "left ventricular cavity", "LV cavity"),
    "right ventricle": ("RV", "right ventricular cavity", "RV cavity"),
    "myocardium": ("heart muscle", "left ventricular wall", "LV myocardium"),
}
#: Radius of the ring, as a share of the slice's shorter side.
_RADII = (0.06, 0.17)


def with_heart_classes(
    info: SetInfo, pictures: Sequence[Picture]
) -> tuple[SetInfo, Sequence[Picture]]:
    """A set that knows the parts of a heart, of which its pictures as they are say nothing.

    A set that names one of them stays as it is: its own slices may show what isn't labelled.
    """
    if {category.name for category in (*info.classes, *info.groups)} & set(PARTS):
        return info, pictures
    used = {i for c in (*info.classes, *info.groups) for i in c.ids} | {0, IGNORE}
    free = sorted(set(range(1, IGNORE)) - used)
    named = [
        Category(name, (free[place],), words) for place, (name, words) in enumerate(PARTS.items())
    ]
    ids = tuple(category.ids[0] for category in named)
    return (
        replace(info, classes=(*info.classes, *named)),
        [replace(picture, unlabelled=(*picture.unlabelled, *ids)) for picture in pictures],
    )


def with_heart(
    picture: Picture, info: SetInfo, aim: int | None, rng: np.random.Generator
) -> tuple[Picture, int | None]:
    """A slice with a heart, cut across, laid over it, and its labels.

    Parameters
    ----------
    picture
        One plane of an MR scan that shows no heart. A volume stays as it is.
    info
        Its set, with the classes of `with_heart_classes`.
    aim
        Class id that a crop of the picture is to be centred on.

    Returns
    -------
    The slice, and the class id of one of the parts drawn to aim at; the picture and the aim as
    they were, if it is a volume or the set lacks the classes.
    """
    ids = {c.name: c.ids[0] for c in info.classes if c.name in PARTS}
    if picture.planes > 1 or len(ids) < len(PARTS):
        return picture, aim
    shape = picture.labels.shape[1:]
    radius = float(np.exp(rng.uniform(*np.log(_RADII)))) * min(shape)
    centre = np.array(shape) * rng.uniform(0.3, 0.7, 2)
    parts = _anatomy(shape, centre, radius, rng)
    grey = _painted(picture.pixels[0, ..., 0].astype(np.float32), parts, radius, rng)
    labels = picture.labels[0].copy()
    labels[parts["around"] | parts["lung"]] = 0
    for name, index in ids.items():
        labels[parts[name]] = index
    shown = np.broadcast_to(grey[None, ..., None], picture.pixels.shape)
    left = tuple(i for i in picture.unlabelled if i not in ids.values())
    drawn = replace(
        picture, pixels=np.ascontiguousarray(shown), labels=labels[None], unlabelled=left
    )
    return drawn, int(rng.choice(sorted(ids.values())))


def _anatomy(
    shape: tuple[int, ...], centre: np.ndarray, radius: float, rng: np.random.Generator
) -> dict[str, BoolArray]:
    """The parts of `PARTS`, papillary muscles, the lung beside and what surrounds all of them."""
    ring = _disc(shape, centre, radius, 0.03, rng)
    inner = rng.uniform(0.3, 0.82)  # at the end of systole the walls are thick
    cavity = _disc(shape, centre + rng.normal(0, 0.04, 2) * radius, inner * radius, 0.05, rng)
    cavity &= ndimage.binary_erosion(ring, iterations=2)  # a wall all around
    # The right ventricle lies where the viewer's left is, mostly; up to a right angle off.
    angle = np.pi + rng.normal(0, 0.5)
    aside = np.array([np.sin(angle), np.cos(angle)])
    # From a thin crescent to a ventricle that is wider than the ring.
    reach = rng.uniform(0.4, 1.25)
    wide = _disc(shape, centre + aside * reach * radius, radius * rng.uniform(0.8, 1.2), 0.07, rng)
    right = wide & ~ndimage.binary_dilation(ring, iterations=1)
    muscles = np.zeros(shape, bool)
    for _ in range(int(rng.integers(0, 3))):
        turn = rng.uniform(0, 2 * np.pi)
        spot = centre + np.array([np.sin(turn), np.cos(turn)]) * inner * radius * 0.6
        muscles |= _disc(shape, spot, inner * radius * rng.uniform(0.12, 0.24), 0.1, rng)
    heart = ring | right
    around = ndimage.binary_dilation(heart, iterations=max(2, int(radius * rng.uniform(0.1, 0.35))))
    lung = _disc(
        shape, centre - aside * radius * rng.uniform(1.2, 2.2), radius * rng.uniform(1, 2), 0.1, rng
    )
    return {
        "left ventricle": cavity,
        "right ventricle": right,
        "myocardium": ring & ~cavity,
        "muscles": muscles & cavity,
        "lung": lung & ~around if rng.random() < 0.8 else np.zeros(shape, bool),
        "around": around,
    }


def _disc(
    shape: tuple[int, ...],
    centre: np.ndarray,
    radius: float,
    waves: float,
    rng: np.random.Generator,
) -> BoolArray:
    """A disc, a little long in one direction and with a wavy rim."""
    spreads = [waves * 2 / count for count in range(2, 6)]
    disc: BoolArray = within_rim(shape, centre, radius, spreads, 0.12, rng) > 0
    return disc


def _painted(
    grey: Float32Array, parts: Mapping[str, BoolArray], radius: float, rng: np.random.Generator
) -> UInt8Array:
    """The slice with the parts in greys of their own, ``uint8 [H, W]``."""
    blood = rng.uniform(80, 255)
    muscle = rng.uniform(0.1, 0.75) * blood
    fat = rng.uniform(0.5, 1.1) * blood if rng.random() < 0.6 else rng.uniform(0.1, 0.9) * muscle
    layers = (
        ("lung", rng.uniform(0, 0.5) * muscle),
        ("around", fat),
        ("myocardium", muscle),
        ("right ventricle", blood * rng.uniform(0.75, 1.1)),
        ("left ventricle", blood),
        ("muscles", muscle * rng.uniform(0.9, 1.5)),
    )
    drawn, cover = grey.copy(), np.zeros(grey.shape, np.float32)
    for name, level in layers:
        drawn[parts[name]] = level
        cover[parts[name]] = 1.0
    soft = rng.uniform(0.4, 1.4)
    drawn = ndimage.gaussian_filter(drawn, soft)
    flow = ndimage.gaussian_filter(rng.normal(0, 1, grey.shape), 0.25 * radius)
    flow *= rng.uniform(0.02, 0.15) / max(float(flow.std()), 1e-6)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, grey.shape), rng.uniform(0.3, 1.0))
    grain *= rng.uniform(1, 10) / max(float(grain.std()), 1e-6)
    drawn = drawn * (1 + flow) + grain * (0.3 + drawn / blood)
    cover = ndimage.gaussian_filter(cover, soft)
    mixed = grey + cover * (drawn - grey)
    painted: UInt8Array = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    return painted
