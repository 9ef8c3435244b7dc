"""Tumours drawn into lungs: round, lobed or ragged shadows where a CT slice shows air.

A few patients show a tumour at a few places, which are soon learned by heart (as for the liver in
Hu et al., arXiv 2303.14869, where drawn tumours taught as much as real ones).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from digseg.train.drawn.rims import within_rim
from digseg.train.lungs import lungs_of
from digseg.train.pack import IGNORE, Picture
from digseg.types import Float32Array

#: Darkest and brightest of a tumour, as shares of what the slice shows around its lungs.
_GREYS = (0.35, 1.15)
#: Radius, as a share of the root of the lungs' area.
_RADII = (0.03, 0.22)


def with_nodule(picture: Picture, tumour: int, rng: np.random.Generator) -> Picture:
    """A slice with one more tumour in its lungs; the picture itself where no lung is found.

    Parameters
    ----------
    picture
        One plane of a CT whose lungs are black. A volume stays as it is.
    tumour
        Class id of the tumour.
    """
    if picture.planes > 1:  # a tumour in one slice alone would be none
        return picture
    grey, labels = picture.pixels[0, ..., 0], picture.labels[0]
    found = lungs_of(grey, sure=False)
    if found is None:
        return picture
    lungs = found & (labels != tumour) & (labels != IGNORE)
    spots = np.argwhere(lungs)
    if not spots.size:
        return picture
    centre = spots[int(rng.integers(len(spots)))]
    low, high = np.log(_RADII)
    radius = max(2.5, float(np.exp(rng.uniform(low, high))) * float(np.sqrt(len(spots))))
    cover = _shape(labels.shape, centre, radius, rng) * ndimage.gaussian_filter(
        ndimage.binary_dilation(lungs, iterations=2).astype(np.float32), 0.7
    )
    rim = ndimage.binary_dilation(lungs, iterations=8) & ~lungs & (grey > 0)
    tissue = float(np.median(grey[rim])) if rim.any() else 60.0
    noise = 1.0 + rng.normal(0, rng.uniform(0.05, 0.6), labels.shape)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, labels.shape), 2.0) * rng.uniform(0, 1.2)
    drawn = tissue * rng.uniform(*_GREYS) * (noise + texture) * cover
    pixels = np.clip(np.maximum(grey, drawn), 0, 255).astype(np.uint8)
    marked = np.where((cover >= 0.5) & (labels != IGNORE), np.uint8(tumour), labels)
    shown = np.broadcast_to(pixels[None, ..., None], picture.pixels.shape)
    return replace(picture, pixels=np.ascontiguousarray(shown), labels=marked[None])


def _shape(
    shape: tuple[int, ...], centre: np.ndarray, radius: float, rng: np.random.Generator
) -> Float32Array:
    """How much of each pixel a tumour covers, 0 to 1: an ellipse with a wavy or ragged rim."""
    spreads = [0.22 / np.sqrt(count) for count in range(2, 9)]  # lobes, then spikes
    edge = within_rim(shape, centre, radius, spreads, 0.5, rng)
    cover: Float32Array = np.clip(edge / rng.uniform(1.0, 3.0) + 0.5, 0, 1).astype(np.float32)
    return cover
