"""Round things with rims as bodies have them: a little long, wavy, lobed or ragged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from digseg.types import Float32Array

#: How near to the middle a wave may bring the rim, as a share of the radius.
_NEAREST = 0.35


def within_rim(
    shape: tuple[int, ...],
    centre: np.ndarray,
    radius: float,
    waves: Sequence[float],
    longest: float,
    rng: np.random.Generator,
) -> Float32Array:
    """How far within a wavy ellipse each pixel lies, pixels; negative outside.

    Parameters
    ----------
    shape, centre, radius
        ``(H, W)``, the middle ``(y, x)`` and the radius, pixels.
    waves
        Spread of the waves that go twice, three times ... around, as shares of the radius.
    longest
        Largest logarithm of the stretch along one axis, which narrows the other.
    """
    y, x = (np.mgrid[: shape[0], : shape[1]] - centre[:, None, None]).astype(np.float32)
    turn, long = rng.uniform(0, np.pi), np.exp(rng.uniform(0, longest))
    along = (x * np.cos(turn) + y * np.sin(turn)) / long
    across = (y * np.cos(turn) - x * np.sin(turn)) * long
    angle = np.arctan2(across, along)
    rim = np.ones_like(angle)
    for count, spread in enumerate(waves, 2):
        rim += rng.normal(0, spread) * np.cos(count * angle + rng.uniform(0, 2 * np.pi))
    depth: Float32Array = rim.clip(_NEAREST) * radius - np.hypot(along, across)
    return depth
