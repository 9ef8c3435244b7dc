"""Farmland drawn into satellite scenes: a patchwork of parcels, dark, bright or green.

A few labelled scenes show the crops of a few weeks. A model then takes what lies fallow for
built-up area, and wet dark soil for water.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from digseg.train.looks import within
from digseg.train.pack import IGNORE
from digseg.types import BoolArray, Float32Array, UInt8Array

#: Narrowest and widest parcel, and their length as a multiple of that.
_WIDTHS, _LENGTHS = (5.0, 60.0), (1.0, 6.0)


def with_fields(
    image: Float32Array, labels: UInt8Array, crops: int, rng: np.random.Generator
) -> tuple[Float32Array, UInt8Array]:
    """A picture with farmland over a part of it that no other class is known of.

    Parameters
    ----------
    image, labels
        ``float32 [3, H, W]`` in [0, 1] (red or near infrared first) and ``uint8 [H, W]``.
    crops
        Class id of the parcels, whatever grows on them.

    Returns
    -------
    Both, changed; those given stay as they are.
    """
    inside = within(image, labels)
    free = inside & np.isin(labels, (0, IGNORE, crops))
    coarse = rng.normal(0, 1, (4, 4))
    zoom = [side / 4 for side in labels.shape]
    relief = ndimage.zoom(coarse, zoom, order=3)[: labels.shape[0], : labels.shape[1]]
    land = free & (relief > rng.normal(0, 0.4))
    if land.sum() < 100:
        return image, labels
    parcels = _parcels(labels.shape, rng)
    colors = _colors(image, inside, int(parcels.max()) + 1, rng)  # [3,n]
    ground = colors[:, parcels]
    grain = rng.normal(0, rng.uniform(0.005, 0.03), image.shape)
    swath = ndimage.gaussian_filter(rng.normal(0, 1, labels.shape), 6) * rng.uniform(0, 0.25)
    drawn = ndimage.gaussian_filter(ground, (0, 0.6, 0.6)) * (1 + swath) + grain
    cover = ndimage.gaussian_filter(land.astype(np.float32), 0.7)
    painted = image * (1 - cover) + np.clip(drawn, 0, 1) * cover
    tilled = labels.copy()
    tilled[land] = crops
    return painted.astype(np.float32), tilled


def _parcels(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """``int [H, W]``: which parcel each pixel lies in, rows of them at one angle."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = rng.uniform(0, np.pi)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    low, high = (float(np.log(width)) for width in _WIDTHS)
    usual = float(np.exp(rng.uniform(low, high)))
    reach = float(np.hypot(shape[0], shape[1]))
    widths = usual * np.exp(rng.normal(0, 0.4, int(2 * reach / usual) + 8))
    edges = np.cumsum(widths) - reach
    row = np.searchsorted(edges, across)
    count = len(edges) + 1
    short, long = (float(np.log(length)) for length in _LENGTHS)
    lengths = usual * np.exp(rng.uniform(short, long, count))
    start = rng.uniform(0, 1, count) * lengths
    place = np.floor((along + reach + start[row]) / lengths[row]).astype(int)
    _, parcels = np.unique(row * (int(place.max()) + 1) + place, return_inverse=True)
    return np.asarray(parcels).reshape(shape)


def _colors(
    image: Float32Array, inside: BoolArray, count: int, rng: np.random.Generator
) -> Float32Array:
    """``float32 [3, count]``: colours of the picture, lighter and darker, and bare soil.

    Soil reflects more the longer the wave, so its channels fall; those of water rise.
    """
    seen = image[:, inside]
    kinds = seen[:, rng.integers(seen.shape[1], size=int(rng.integers(3, 8)))]  # [3,k]
    colors = kinds[:, rng.integers(kinds.shape[1], size=count)]
    rising = (colors[0] < colors[1]) & (colors.mean(axis=0) < 0.25)  # that would be water
    bare = rising | (rng.random(count) < rng.uniform(0.1, 0.6))
    falls = np.concatenate([np.ones((1, count)), rng.uniform(0.75, 1.0, (2, count))])
    fall = np.cumprod(falls, axis=0)
    soil = rng.uniform(0.12, 0.85, count) * fall
    colors = np.where(bare, soil, colors) * np.exp(rng.normal(0, 0.12, count))
    return np.clip(colors, 0.02, 1).astype(np.float32)
