"""Counts that are added up over a set, and the measures read off them. Pure NumPy and SciPy.

All measures are pooled: true and false pixels are summed over every picture of a split before one
ratio is taken, so a picture in which a class hardly occurs weighs as little as its pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from digseg.types import AnyArray, BoolArray

Counts = NDArray[np.int64]


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, or `None` where there is nothing to divide by."""
    return float(part) / float(whole) if whole else None


def mean(values: Any) -> float | None:
    """Mean of the values that are not `None`; `None` where none is left."""
    kept = [float(value) for value in values if value is not None]
    return math.fsum(kept) / len(kept) if kept else None


@dataclass
class Confusion:
    """How often class ``row`` was called class ``column``; index 0 is background.

    Parameters
    ----------
    names
        Class names; the class at index ``i`` has row and column ``i + 1``.
    """

    names: tuple[str, ...]
    matrix: Counts = field(init=False)

    def __post_init__(self) -> None:
        side = len(self.names) + 1
        self.matrix = np.zeros((side, side), dtype=np.int64)

    def add(self, truth: AnyArray, predicted: AnyArray, valid: BoolArray) -> None:
        """Count pixels of two index maps of equal shape where ``valid``."""
        self.matrix += self.count(truth, predicted, valid)

    def count(self, truth: AnyArray, predicted: AnyArray, valid: BoolArray) -> Counts:
        """The same counts without adding them (for the score of one picture)."""
        side = self.matrix.shape[0]
        pairs = truth[valid].astype(np.int64) * side + predicted[valid]
        return np.bincount(pairs, minlength=side * side).reshape(side, side)

    @property
    def occurs(self) -> dict[str, bool]:
        """Whether the truth holds a pixel of each class."""
        rows = self.matrix.sum(axis=1)
        return {name: bool(rows[index + 1]) for index, name in enumerate(self.names)}

    def iou(self) -> dict[str, float | None]:
        """Intersection over union by class; `None` where the truth holds none of it."""
        return self._by_class(iou_of(self.matrix))

    def dice(self) -> dict[str, float | None]:
        """2 TP / (2 TP + FP + FN) by class; `None` where the truth holds none of it."""
        hit = np.diag(self.matrix)
        both = self.matrix.sum(axis=0) + self.matrix.sum(axis=1)
        return self._by_class([ratio(2 * h, b) for h, b in zip(hit[1:], both[1:], strict=True)])

    def accuracy(self) -> float | None:
        """Share of valid pixels with the right index, background included."""
        return ratio(int(np.trace(self.matrix)), int(self.matrix.sum()))

    def _by_class(self, values: list[float | None]) -> dict[str, float | None]:
        occurs = self.occurs
        return {
            name: value if occurs[name] else None
            for name, value in zip(self.names, values, strict=True)
        }


def iou_of(matrix: Counts) -> list[float | None]:
    """IoU of the classes 1.. of a confusion matrix; `None` where truth and result hold none."""
    hit = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hit
    return [ratio(h, u) for h, u in zip(hit[1:], union[1:], strict=True)]


@dataclass
class Overlap:
    """Intersection and union of one soft map, cut at a threshold, with one class."""

    intersection: int = 0
    union: int = 0
    truth: int = 0

    def add(self, truth: BoolArray, predicted: BoolArray, valid: BoolArray) -> None:
        true = truth & valid
        marked = predicted & valid
        self.intersection += int(np.count_nonzero(true & marked))
        self.union += int(np.count_nonzero(true | marked))
        self.truth += int(np.count_nonzero(true))

    @property
    def iou(self) -> float | None:
        """`None` where the truth holds none of the class."""
        return ratio(self.intersection, self.union) if self.truth else None

    @property
    def dice(self) -> float | None:
        whole = self.union + self.intersection
        return ratio(2 * self.intersection, whole) if self.truth else None


@dataclass
class Boundary:
    """Boundary F-score of one class: precision and recall of outlines within a tolerance.

    A pixel is on the outline where the 4-neighbourhood leaves the class. An outline pixel is
    matched when the other outline is at most ``tolerance`` pixels away (Chebyshev distance).
    """

    tolerance: int = 2
    matched_result: int = 0
    result: int = 0
    matched_truth: int = 0
    truth: int = 0

    def add(self, truth: BoolArray, predicted: BoolArray, valid: BoolArray) -> None:
        """Count outlines of two masks ``[y, x]``."""
        if not truth.any() and not predicted.any():
            return
        edge_true = outline(truth) & valid
        edge_marked = outline(predicted) & valid
        square = np.ones((2 * self.tolerance + 1,) * 2, dtype=bool)
        near_true = ndimage.binary_dilation(edge_true, square)
        near_marked = ndimage.binary_dilation(edge_marked, square)
        self.result += int(np.count_nonzero(edge_marked))
        self.matched_result += int(np.count_nonzero(edge_marked & near_true))
        self.truth += int(np.count_nonzero(edge_true))
        self.matched_truth += int(np.count_nonzero(edge_true & near_marked))

    @property
    def f_score(self) -> float | None:
        """Harmonic mean of precision and recall; `None` where the truth has no outline."""
        if not self.truth:
            return None
        precision = self.matched_result / self.result if self.result else 0.0
        recall = self.matched_truth / self.truth
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(mask: BoolArray) -> BoolArray:
    """Pixels of ``mask [y, x]`` that touch its outside; the picture's border is no outside."""
    inner: BoolArray = ndimage.binary_erosion(mask, border_value=1)
    return mask & ~inner


@dataclass
class Calibration:
    """Reliability of probabilities: ten equal bins, each with its mean probability and share true.

    `error` is the expected calibration error: the mean over pixels of the distance between what a
    bin promises and what comes true in it.
    """

    bins: int = 10
    count: Counts = field(init=False)
    true: Counts = field(init=False)
    total: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.count = np.zeros(self.bins, dtype=np.int64)
        self.true = np.zeros(self.bins, dtype=np.int64)
        self.total = np.zeros(self.bins, dtype=np.float64)

    def add(self, probability: AnyArray, truth: BoolArray, valid: BoolArray) -> None:
        """Count pixels of a soft map in [0, 1] against the class's mask."""
        values = probability[valid]
        places = np.minimum((values * self.bins).astype(np.intp), self.bins - 1)
        self.count += np.bincount(places, minlength=self.bins)
        self.true += np.bincount(places[truth[valid]], minlength=self.bins)
        self.total += np.bincount(places, weights=values, minlength=self.bins)

    @property
    def error(self) -> float | None:
        whole = int(self.count.sum())
        return float(np.abs(self.total - self.true).sum()) / whole if whole else None

    def table(self) -> list[dict[str, float | int]]:
        """Bins that hold pixels: count, mean probability, share true."""
        return [
            {
                "count": int(n),
                "probability": float(total) / int(n),
                "true": int(true) / int(n),
            }
            for n, total, true in zip(self.count, self.total, self.true, strict=True)
            if n
        ]


@dataclass
class Area:
    """Pixels marked where nothing was to be marked."""

    marked: int = 0
    pixels: int = 0

    def add(self, predicted: BoolArray, valid: BoolArray) -> None:
        self.marked += int(np.count_nonzero(predicted & valid))
        self.pixels += int(np.count_nonzero(valid))

    @property
    def share(self) -> float | None:
        return ratio(self.marked, self.pixels)
