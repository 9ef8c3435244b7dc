"""Pictures to look at: the best and the worst images of a set, with truth and result."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from digseg.evaluate.dataset import LabelledSet
from digseg.evaluate.metrics import Counts, iou_of, mean
from digseg.prompts import color_of
from digseg.types import AnyArray, BoolArray, Float32Array, UInt8Array

#: Longer side of a picture that is kept, in pixels.
_SIDE = 320


@dataclass(frozen=True, eq=False)
class Shown:
    """One plane: picture, truth and result side by side, ``uint8 [y, x, 3]`` each."""

    name: str
    score: float
    picture: UInt8Array
    truth: UInt8Array
    result: UInt8Array


@dataclass
class Gallery:
    """Keeps the best and the worst planes by mean IoU, at most one plane of each image."""

    labelled: LabelledSet
    count: int
    best: list[Shown] = field(default_factory=list)
    worst: list[Shown] = field(default_factory=list)

    def consider(
        self,
        name: str,
        planes: Float32Array,
        truth: AnyArray,
        valid: BoolArray,
        decided: AnyArray,
        counts: Counts,
    ) -> None:
        """Look at some planes ``[n, ...]`` of an image; the one with the most labels stands for it.

        ``counts`` are the confusion counts of these planes together.
        """
        if not self.count:
            return
        score = mean(v for v, row in zip(iou_of(counts), counts[1:], strict=True) if row.sum())
        if score is None:
            return
        plane = int(np.argmax(((truth > 0) & valid).reshape(len(truth), -1).sum(axis=1)))
        for kept, order in ((self.best, -1.0), (self.worst, 1.0)):
            rivals = [item for item in kept if item.name != name]
            mine = [item for item in kept if item.name == name]
            if mine and order * mine[0].score <= order * score:
                continue
            if len(rivals) >= self.count and order * rivals[-1].score <= order * score:
                continue
            rivals.append(self._shown(name, score, planes, truth, valid, decided, plane))
            rivals.sort(key=lambda item: order * item.score)
            kept[:] = rivals[: self.count]

    def _shown(
        self,
        name: str,
        score: float,
        planes: Float32Array,
        truth: AnyArray,
        valid: BoolArray,
        decided: AnyArray,
        plane: int,
    ) -> Shown:
        step = max(1, -(-max(planes.shape[-2:]) // _SIDE))
        rows = (slice(None, None, step), slice(None, None, step))
        picture = np.moveaxis(planes[plane][:, rows[0], rows[1]], 0, -1)
        if len(planes) > 1 or self.labelled.image_ext.startswith(".nii"):
            picture = np.repeat(picture[..., 1:2], 3, axis=-1)  # the slice itself, no neighbours
        # Copies: a view would keep the whole image in memory.
        return Shown(
            name,
            score,
            np.round(picture * 255).astype(np.uint8),
            self._painted(truth[plane][rows], valid[plane][rows]),
            self._painted(decided[plane][rows], np.ones_like(valid[plane][rows])),
        )

    def _painted(self, indices: AnyArray, valid: BoolArray) -> UInt8Array:
        colors: NDArray[np.uint8] = np.array(
            [(0, 0, 0), *(color_of(name, i) for i, name in enumerate(self.labelled.names))],
            dtype=np.uint8,
        )
        painted = colors[indices]
        painted[~valid] = 96  # grey: not labelled
        return painted
