"""Soft maps of whole planes: planes of a fair size at once, larger ones by blended tiles."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from digseg.prompts import Prompt
from digseg.run.magnify import Factors, magnified
from digseg.tiles import SMALLEST_TILE
from digseg.types import Float32Array, SegmentationModel

#: Values of soft maps that one call of the model may give (0.5 GB of float32).
_CALL_VALUES = 1 << 27

#: Pixels that one call of the model may read (four tiles of 512 x 512).
_CALL_PIXELS = 1 << 20


@dataclass
class Predictor:
    """Calls a model on planes and keeps the time.

    Parameters
    ----------
    model
        Any segmentation model.
    tile, overlap
        A plane whose longer side is above one and a half tiles is read by tiles of this side with
        this overlap, blended by weights that fall linearly to the tile's edge.
    """

    model: SegmentationModel
    tile: int = 512
    overlap: int = 64
    seconds: float = field(default=0.0, init=False)
    pixel_prompts: int = field(default=0, init=False)
    planes: int = field(default=0, init=False)
    _seen: SegmentationModel = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._seen = self.model

    def __call__(
        self,
        planes: Float32Array,
        prompts: Sequence[Prompt],
        factors: Factors = (1.0, 1.0),
        scales: Sequence[float] = (),
    ) -> Iterator[tuple[slice, Float32Array]]:
        """Soft maps of ``[P, 3, H, W]``, some planes at a time: ``(which, [n, K, H, W])``."""
        count, _, height, width = planes.shape
        self._seen = magnified(self.model, factors, (height, width), scales)
        size = round(height * factors[0] * width * factors[1])
        batch = max(1, min(_CALL_PIXELS // size, _CALL_VALUES // (size * max(1, len(prompts)))))
        for start in range(0, count, batch):
            which = slice(start, min(count, start + batch))
            yield which, self._maps(planes[which], prompts)

    def latency(self) -> dict[str, float]:
        """Seconds inside the model: all, for each plane, for each megapixel and prompt."""
        return {
            "model_seconds": self.seconds,
            "seconds_per_plane": self.seconds / max(1, self.planes),
            "seconds_per_megapixel_prompt": self.seconds / max(1e-6, self.pixel_prompts / 1e6),
        }

    def _maps(self, planes: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        started = time.perf_counter()
        if max(planes.shape[-2:]) <= self.tile * 3 // 2:
            maps = self._call(planes, prompts)
        else:
            maps = self._tiled(planes, prompts)
        self.seconds += time.perf_counter() - started
        self.pixel_prompts += int(maps.size)
        self.planes += len(planes)
        return maps

    def _call(self, planes: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        """One call; sides are padded as the engine pads tiles, by reflection, then cut off."""
        _, _, height, width = planes.shape
        multiple = self._seen.multiple
        below, right = (
            -(-max(side, SMALLEST_TILE) // multiple) * multiple - side for side in (height, width)
        )
        if below or right:
            planes = np.pad(planes, ((0, 0), (0, 0), (0, below), (0, right)), mode="symmetric")
        maps = self._seen(np.ascontiguousarray(planes), prompts)
        return np.asarray(maps[:, :, :height, :width], dtype=np.float32)

    def _tiled(self, planes: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        count, _, height, width = planes.shape
        total = np.zeros((count, len(prompts), height, width), dtype=np.float32)
        weight = np.zeros((height, width), dtype=np.float32)
        for top, bottom in tile_spans(height, self.tile, self.overlap):
            for left, right in tile_spans(width, self.tile, self.overlap):
                ramp = np.minimum.outer(
                    _ramp(bottom - top, self.overlap), _ramp(right - left, self.overlap)
                )
                maps = self._call(planes[:, :, top:bottom, left:right], prompts)
                total[:, :, top:bottom, left:right] += maps * ramp
                weight[top:bottom, left:right] += ramp
        total /= weight
        return total


def tile_spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of at most ``tile`` that cover ``length`` with at least ``overlap`` in common."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [(start, start + tile) for start in starts]


def _ramp(length: int, overlap: int) -> Float32Array:
    distance = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
    return np.minimum(distance / (overlap + 1), 1.0).astype(np.float32)
