"""A model that looks at each tile at several sizes and answers with the mean.

A thing may be found at one size and missed at another, above all where a picture's pixels are
finer or coarser than those that a model learned from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digseg.prompts import Prompt
from digseg.types import AnyArray, Encoded, EncodingModel, Float32Array, SegmentationModel


@dataclass(frozen=True)
class Averaged:
    """The mean of what several models say to the same tiles, as one `SegmentationModel`.

    Parameters
    ----------
    models
        One model behind different magnifying glasses (see `digseg.run.magnify`).
    """

    models: tuple[SegmentationModel, ...]

    @property
    def identity(self) -> str:
        told = "|".join(["mean", *(model.identity for model in self.models)])
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def multiple(self) -> int:
        """What suits all of them."""
        return math.lcm(*(model.multiple for model in self.models))

    @property
    def preferred_batch(self) -> int:
        """What none of them finds too much."""
        return min(int(getattr(model, "preferred_batch", 1)) for model in self.models)

    def vram_bytes(self, tile: tuple[int, int], prompts: int, batch: int) -> int | None:
        """Peak on the GPU: they take turns. `None` where a model can't tell."""
        peaks: list[int] = []
        for model in self.models:
            told = getattr(model, "vram_bytes", None)
            peak = told(tile, prompts, batch) if callable(told) else None
            if peak is None:
                return None
            peaks.append(int(peak))
        return max(peaks)

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return self._mean([model(tiles, prompts) for model in self.models])

    def _mean(self, answers: Sequence[AnyArray]) -> Float32Array:
        # Added up, then divided: of ones the mean is exactly one.
        total = answers[0].astype(np.float32)
        for answer in answers[1:]:
            total += answer
        total /= np.float32(len(answers))
        return total


@dataclass(frozen=True)
class AveragedEncoder(Averaged):
    """The same for models that keep what they read of a tile."""

    models: tuple[EncodingModel, ...]

    def encode(self, tiles: Float32Array) -> Encoded:
        """Tiles ``float32 [N, 3, H, W]`` to what each model keeps, by its place and the name."""
        return {
            f"{place}.{name}": array
            for place, model in enumerate(self.models)
            for name, array in model.encode(tiles).items()
        }

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        answers = []
        for place, model in enumerate(self.models):
            head = f"{place}."
            mine = {n.removeprefix(head): a for n, a in encoded.items() if n.startswith(head)}
            answers.append(model.decode(mine, prompts))
        return self._mean(answers)
