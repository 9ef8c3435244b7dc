"""Long bright halls drawn into aerial pictures: their roofs are as light and as plain as bare land.

What tells them from it is their outline, their shadow and that they stand in rows; small houses
teach none of that.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from digseg.train.looks import within
from digseg.types import BoolArray, Float32Array, UInt8Array

#: Narrowest and widest hall, pixels; their length as a multiple of that, and the longest.
_WIDTHS, _LENGTHS, _LONGEST = (6.0, 45.0), (1.2, 6.0), 170.0
#: Most halls side by side, and most such rows.
_ABREAST, _ROWS = 8, 3
#: What is as dark as this on average is taken for water.
_DARK = 0.12


def with_halls(
    image: Float32Array, labels: UInt8Array, building: int, rng: np.random.Generator
) -> tuple[Float32Array, UInt8Array]:
    """A picture with rows of halls in it, unless that is dark, as water is.

    Parameters
    ----------
    image, labels
        ``float32 [3, H, W]`` in [0, 1] and ``uint8 [H, W]``.
    building
        Class id of the halls.

    Returns
    -------
    Both, changed; those given stay as they are.
    """
    number, across, along = _places(labels.shape, rng)
    inside = within(image, labels)
    halls = (number > 0) & inside
    if not halls.any() or image[:, halls].mean() < _DARK:
        return image, labels
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 6.0)
    shifted = ndimage.shift(
        halls.astype(np.float32), reach * np.array([np.sin(angle), np.cos(angle)]), order=1
    )
    shadow = np.clip(shifted, 0, 1) * inside
    roofs = _paint(int(number.max()) + 1, rng)[:, number]  # [3,H,W]
    slope = 1 + rng.uniform(-0.1, 0.1) * np.sign(across - 0.5)
    ribs = 1 + rng.uniform(0, 0.05) * np.sin(along * rng.uniform(0.5, 2.5))
    grain = rng.normal(0, rng.uniform(0.005, 0.03), image.shape)
    drawn = roofs * slope * ribs + ndimage.gaussian_filter(grain, (0, 0.7, 0.7))
    if (image == image[:1]).all():  # a grey picture stays grey
        drawn = np.broadcast_to(drawn.mean(0, keepdims=True), image.shape)
    ground = image * (1 - shadow * rng.uniform(0.3, 0.7))
    cover = ndimage.gaussian_filter(halls.astype(np.float32), 0.6)
    shown = np.clip(ground + cover * (drawn - ground), 0, 1).astype(np.float32)
    return shown, np.where(halls, np.uint8(building), labels)


def _places(
    shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[np.ndarray, Float32Array, Float32Array]:
    """Where halls stand.

    Returns
    -------
    ``int [H, W]``: 0, or the hall's number; how far across it a pixel lies, 0 to 1; how far along,
    pixels.
    """
    low, high = (float(np.log(width)) for width in _WIDTHS)
    width = float(np.exp(rng.uniform(low, high)))
    length = min(_LONGEST, width * rng.uniform(*_LENGTHS))
    steps = width * (1 + rng.uniform(0.12, 0.8)), length + rng.uniform(3, 0.4 * length + 4)
    counts = int(rng.integers(1, _ABREAST + 1)), int(rng.integers(1, _ROWS + 1))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    centre = rng.uniform(0.15, 0.85, 2) * shape
    angle = rng.uniform(0, np.pi)
    y, x = y - centre[0], x - centre[1]
    u = x * np.cos(angle) + y * np.sin(angle) + steps[0] * counts[0] / 2
    v = y * np.cos(angle) - x * np.sin(angle) + steps[1] * counts[1] / 2
    column, row = np.floor(u / steps[0]).astype(int), np.floor(v / steps[1]).astype(int)
    across, along = u - column * steps[0], v - row * steps[1]
    block: BoolArray = (column >= 0) & (column < counts[0]) & (row >= 0) & (row < counts[1])
    hall = block & (across < width) & (along < length)
    number = np.where(hall, 1 + column + counts[0] * row, 0)
    return number, (across / width).astype(np.float32), along.astype(np.float32)


def _paint(count: int, rng: np.random.Generator) -> Float32Array:
    """``float32 [3, count]``: white and pale roofs, a little of one colour; a few dark ones."""
    level = rng.uniform(0.55, 1.0) if rng.random() < 0.8 else rng.uniform(0.15, 0.55)
    tint = level * rng.uniform(0, 0.07) * rng.normal(0, 1, (3, 1))
    own = rng.normal(0, rng.uniform(0.0, 0.08), (1, count)) + rng.normal(0, 0.02, (3, count))
    return np.clip(level + tint + own, 0.05, 1).astype(np.float32)
