"""Resampling of planes, without a shift. Level 3: pure functions.

Old and new pixels cover the same ground: pixel ``i`` of ``n`` covers ``[i / n, (i + 1) / n]`` of
the plane, so going to another number of pixels and back leaves every structure where it was.
Going down takes the mean over the ground of the new pixel, going up interpolates linearly; a
constant stays that constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from digseg.types import AnyArray, Float32Array


@dataclass(frozen=True)
class Rescale:
    """One axis from ``old`` to ``new`` pixels over the same length."""

    old: int
    new: int

    @property
    def inverse(self) -> Rescale:
        return Rescale(self.new, self.old)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Old pixels that the new pixels ``start`` to ``stop`` are made of."""
        factor = self.old / self.new
        if factor >= 1:
            # The ground of the new pixels, with a grain of tolerance for 3 x 0.333...
            first, last = math.floor(start * factor + 1e-9), math.ceil(stop * factor - 1e-9)
        else:
            first = math.floor((start + 0.5) * factor - 0.5)
            last = math.floor((stop - 0.5) * factor - 0.5) + 2
        return max(0, first), min(self.old, last)

    def weights(self, start: int, stop: int) -> Float32Array:
        """``[stop - start, reach]``: each new pixel as a mean of the old ones of `reach`."""
        first, last = self.reach(start, stop)
        factor = self.old / self.new
        new = np.arange(start, stop, dtype=np.float64)[:, None]
        old = np.arange(first, last, dtype=np.float64)[None, :]
        if factor >= 1:
            begin, end = np.maximum(new * factor, old), np.minimum((new + 1) * factor, old + 1)
            weights = np.clip(end - begin, 0.0, None)
        else:
            weights = np.clip(1.0 - np.abs((new + 0.5) * factor - 0.5 - old), 0.0, None)
        # At the border a linear weight has lost its outer neighbour: the rest still sums to one.
        weights /= weights.sum(axis=1, keepdims=True)
        result: Float32Array = weights.astype(np.float32)
        return result


def rescale(
    pixels: AnyArray, rows: Rescale, columns: Rescale, window: tuple[int, int, int, int]
) -> Float32Array:
    """New pixels ``[..., h, w]`` of ``window`` from the old ones ``[..., reach, reach]``."""
    top, bottom, left, right = window
    down = rows.weights(top, bottom)
    across = columns.weights(left, right)
    result: Float32Array = (down @ pixels.astype(np.float32)) @ across.T
    return result
