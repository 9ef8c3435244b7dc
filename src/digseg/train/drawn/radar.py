"""Scenes as a radar might see them: smooth water dark, all else rough, speckle over everything.

Floods come under clouds, so that they are looked for in radar, of which training has no scene. What
is light in a photo tells little of what scatters a radar's wave back; but smooth water, which
throws it away, is dark, and buildings, whose corners send it back, are bright. A set whose labels
say where water is can teach that.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from digseg.train.looks import within
from digseg.types import BoolArray, Float32Array, UInt8Array


def as_radar(
    image: Float32Array,
    labels: UInt8Array,
    water: int,
    rng: np.random.Generator,
    built: int | None = None,
) -> Float32Array:
    """A picture in one grey, as backscatter in dB between its percentiles.

    Parameters
    ----------
    image, labels
        ``float32 [3, H, W]`` in [0, 1] and ``uint8 [H, W]``.
    water, built
        Class ids of water, and of buildings where they are labelled.

    Returns
    -------
    ``float32 [3, H, W]`` in [0, 1], three times the same; the given one stays as it is.
    """
    shape = labels.shape
    grey = ndimage.gaussian_filter(image.mean(axis=0), rng.uniform(0.5, 1.5))
    relief = (grey - grey.mean()) / max(float(grey.std()), 1e-3)
    kinds = rng.normal(0, 1.0, 256).astype(np.float32)  # dB, for each label its own
    land = relief.clip(-3, 3) * rng.uniform(-1.0, 1.5) + kinds[labels]
    land += _clouded(shape, rng.uniform(8, 40), rng) * rng.uniform(0, 1.5)
    if built is not None:
        land += np.where(labels == built, rng.uniform(1, 5), 0)
    corners = rng.random(shape) < rng.uniform(0, 0.004)
    land += ndimage.maximum_filter(corners, 2) * rng.uniform(4, 12)
    wind = _clouded(shape, rng.uniform(4, 60), rng) * rng.uniform(0, 1.2)
    level = float(np.quantile(land, 0.3)) - rng.uniform(2, 11)
    scene = np.where(labels == water, level + wind, land)
    scene = ndimage.gaussian_filter(scene, rng.uniform(0.3, 0.8))
    speckle = ndimage.gaussian_filter(rng.normal(0, 1, shape), rng.uniform(0.4, 1.1))
    scene = scene + speckle * rng.uniform(0.8, 4.5) / max(float(speckle.std()), 1e-6)
    return _stretched(scene, within(image, labels), rng)


def _clouded(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> Float32Array:
    """Smooth noise of spread 1."""
    noise = ndimage.gaussian_filter(rng.normal(0, 1, shape).astype(np.float32), size)
    clouds: Float32Array = noise / max(float(noise.std()), 1e-6)
    return clouds


def _stretched(scene: np.ndarray, inside: BoolArray, rng: np.random.Generator) -> Float32Array:
    """Between percentiles, as in use; beyond the picture, where it is black, it stays black."""
    known = scene[inside] if inside.any() else scene.ravel()
    low, high = np.quantile(known, [rng.uniform(0, 0.03), rng.uniform(0.97, 1)])
    unit = ((scene - low) / max(float(high - low), 1e-6)).clip(0, 1) * inside
    return np.repeat(unit[None].astype(np.float32), 3, axis=0)
