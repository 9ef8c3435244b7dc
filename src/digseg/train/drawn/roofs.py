"""Roofs in other colours: a building is known by its outline and its place, not by its paint.

A small set of aerial photos holds a few quarters, and the roofs of each look alike.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from digseg.types import Float32Array, UInt8Array

#: Smaller ones are hardly more than a mixed pixel, pixels.
_SMALLEST = 12
#: White, pale grey, sand, slate, brick, red, blue, green, brown and dark roofs.
_PAINTS = np.array(
    [
        (0.95, 0.95, 0.95), (0.75, 0.75, 0.75), (0.82, 0.75, 0.64), (0.45, 0.46, 0.50),
        (0.72, 0.47, 0.36), (0.65, 0.28, 0.22), (0.40, 0.58, 0.75), (0.50, 0.66, 0.52),
        (0.45, 0.36, 0.30), (0.22, 0.22, 0.24),
    ],
    np.float32,
)  # fmt: skip


def with_other_roofs(
    image: Float32Array, labels: UInt8Array, building: int, rng: np.random.Generator
) -> Float32Array:
    """A picture whose buildings have roofs of other colours, all of one kind or each its own.

    Parameters
    ----------
    image, labels
        ``float32 [3, H, W]`` in [0, 1] and ``uint8 [H, W]``.
    building
        Class id of the buildings.

    Returns
    -------
    ``float32 [3, H, W]``; the given one stays as it is.
    """
    parts, count = ndimage.label(labels == building)
    if not count:
        return image
    kinds = _PAINTS[rng.integers(len(_PAINTS), size=int(rng.integers(1, 4)))]
    if (image == image[:1]).all():  # a grey picture stays grey
        kinds = np.repeat(kinds.mean(axis=1, keepdims=True), 3, 1)
    touched = rng.uniform(0.3, 1.0)
    painted = image.copy()
    for index, window in enumerate(ndimage.find_objects(parts), 1):
        roof = parts[window] == index
        if roof.sum() < _SMALLEST or rng.random() > touched:
            continue
        under = image[:, window[0], window[1]]
        mean = under[:, roof].mean(axis=1)[:, None, None]
        paint = kinds[int(rng.integers(len(kinds)))] * rng.uniform(0.8, 1.1)
        relief = (under - mean) * rng.uniform(0.4, 1.1)
        share = rng.uniform(0.6, 1.0) * ndimage.gaussian_filter(roof.astype(np.float32), 0.6)
        over = paint.astype(np.float32)[:, None, None] + relief
        piece = painted[:, window[0], window[1]]
        painted[:, window[0], window[1]] = piece + share * (over - piece)
    return np.clip(painted, 0, 1).astype(np.float32)
