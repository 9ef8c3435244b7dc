"""Scores of a volume's labels against the truth, and of doubt against errors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from digseg.types import AnyArray, BoolArray


@dataclass
class Tally:
    """Scores of one way over volumes and classes."""

    dice: list[float] = field(default_factory=list)
    surface: list[float] = field(default_factory=list)
    jitter: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def row(self) -> dict[str, float]:
        """Means over all volumes and classes."""
        return {
            "dice": float(np.mean(self.dice)),
            "surface_dice": float(np.mean(self.surface)),
            "jitter": float(np.mean(self.jitter)),
            "seconds": self.seconds,
        }


def dice(found: BoolArray, truth: BoolArray) -> float:
    """2 |A and B| / (|A| + |B|)."""
    total = int(found.sum() + truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def surface_dice(found: BoolArray, truth: BoolArray, tolerance: float = 1.0) -> float:
    """Share of both surfaces that lies within ``tolerance`` voxels of the other."""
    shells = [mask & ~ndimage.binary_erosion(mask, border_value=1) for mask in (found, truth)]
    if not (shells[0].any() and shells[1].any()):
        return float(not shells[0].any() and not shells[1].any())
    near = 0
    for one, other in (shells, shells[::-1]):
        near += int((ndimage.distance_transform_edt(~other)[one] <= tolerance + 1e-6).sum())
    return near / int(shells[0].sum() + shells[1].sum())


def change(mask: BoolArray) -> int:
    """Voxels that change from one axial slice to the next, over all slices."""
    return int((mask[1:] != mask[:-1]).sum())


def share_inside(wrong: BoolArray, doubt: AnyArray, most: float = 0.1) -> float:
    """Share of ``wrong`` among the ``most`` most doubtful voxels; ties by the voxel's place."""
    count = int(doubt.size * most)
    order = np.argsort(-doubt.ravel(), kind="stable")[:count]
    return float(wrong.ravel()[order].sum() / max(1, wrong.sum()))
