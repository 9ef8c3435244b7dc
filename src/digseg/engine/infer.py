"""One batch through the model: checked, timed, halved when memory runs out, retried by tile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from digseg.engine.reading import ReadTile
from digseg.errors import ModelError
from digseg.prompts import Prompt
from digseg.types import Float32Array, SegmentationModel

_MODEL_FAULTS = (RuntimeError, ValueError, ArithmeticError, MemoryError, OSError)


@dataclass
class Meter:
    """Counters of a run: time in the model, its calls, tiles and pixels."""

    seconds: float = 0.0
    calls: int = 0
    tiles: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of a tile: ``float32 [K, H, W]``, or `None` (empty, or failed for a reason).

    ``read`` has no pixels any more.
    """

    read: ReadTile
    values: Float32Array | None
    reason: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.reason)


class Inference:
    """Calls a model on batches.

    When memory runs out the batch is halved, for the rest of the run. When a batch fails otherwise
    its tiles are tried one by one, so that one bad tile costs no other.
    """

    def __init__(self, model: SegmentationModel, prompts: Sequence[Prompt]) -> None:
        self._model = model
        self._prompts = tuple(prompts)
        self._most = 1 << 30
        self.meter = Meter()

    def __call__(self, tiles: Sequence[ReadTile]) -> list[Answer]:
        full = [tile for tile in tiles if tile.pixels is not None]
        answers = {answer.read.tile: answer for answer in self._run(full)}
        return [
            answers.get(tile.tile) or Answer(tile, None, tile.reason if tile.valid is None else "")
            for tile in tiles
        ]

    def _run(self, tiles: Sequence[ReadTile]) -> list[Answer]:
        if not tiles:
            return []
        if len(tiles) > self._most:
            parts = [tiles[i : i + self._most] for i in range(0, len(tiles), self._most)]
            return [answer for part in parts for answer in self._run(part)]
        try:
            return self._call(tiles)
        except _MODEL_FAULTS as error:
            if isinstance(error, ModelError):
                raise
            if out_of_memory(error) and len(tiles) > 1:
                self._most = len(tiles) // 2
                return self._run(tiles)
            reason = f"{type(error).__name__}: {error}"
        if len(tiles) > 1:
            return [answer for tile in tiles for answer in self._run([tile])]
        try:
            return self._call(tiles)  # once more: a passing fault of a device
        except _MODEL_FAULTS as error:
            if isinstance(error, ModelError):
                raise
            return [Answer(replace(tiles[0], pixels=None), None, reason)]

    def _call(self, tiles: Sequence[ReadTile]) -> list[Answer]:
        stack = _stacked([tile.pixels for tile in tiles if tile.pixels is not None])
        begin = time.perf_counter()
        values = self._model(stack, self._prompts)  # [N, K, H, W]
        self.meter.seconds += time.perf_counter() - begin
        self.meter.calls += 1
        self.meter.tiles += len(tiles)
        self.meter.pixels += len(tiles) * stack.shape[2] * stack.shape[3]
        return self._checked(tiles, stack, values)

    def _checked(
        self, tiles: Sequence[ReadTile], stack: Float32Array, values: Float32Array
    ) -> list[Answer]:
        expected = (len(tiles), len(self._prompts), *stack.shape[2:])
        if tuple(values.shape) != expected:
            raise ModelError(f"The model answered {tuple(values.shape)} where {expected} was due.")
        answers = []
        for read, answer in zip(tiles, values, strict=True):
            tile = replace(read, pixels=None)  # they must not wait with the answer for the disk
            low, high = float(answer.min()), float(answer.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                answers.append(Answer(tile, None, "the model's answer is not finite"))
            elif low < 0 or high > 1:
                answers.append(Answer(tile, np.clip(answer, 0, 1).astype(np.float32)))
            else:
                answers.append(Answer(tile, np.asarray(answer, dtype=np.float32)))
        return answers


def _stacked(pixels: Sequence[Float32Array]) -> Float32Array:
    """``[N, C, H, W]`` that a model may write to; one tile is copied only where it is a view."""
    if len(pixels) == 1 and pixels[0].flags.owndata:
        return np.ascontiguousarray(pixels[0])[None]
    return np.stack(pixels)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    # torch.OutOfMemoryError by name: networks stay out of this room.
    names = {base.__name__ for base in type(error).__mro__}
    return isinstance(error, MemoryError) or "OutOfMemoryError" in names
