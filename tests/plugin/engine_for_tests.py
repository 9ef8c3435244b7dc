"""The engine with a model whose answer is the picture itself; everything else is the real one."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from napari_digseg._engine import main
from tests.models import Brightness

from digseg.prompts import Prompt
from digseg.settings import SegmentSettings
from digseg.types import Encoded, Float32Array, SegmentationModel


@dataclass(frozen=True)
class Moody:
    """Knows the prompts of `Brightness`; other names misbehave and answer as their synonym."""

    answer: Brightness = field(default_factory=Brightness)
    counts: Counter[str] = field(default_factory=Counter)
    asked: Counter[bytes] = field(default_factory=Counter)

    @property
    def recommended(self) -> dict[str, float]:
        return {"near_infrared": 8.0}

    @property
    def identity(self) -> str:
        return self.answer.identity

    @property
    def multiple(self) -> int:
        return self.answer.multiple

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return self.decode(self.encode(tiles), prompts)

    def encode(self, tiles: Float32Array) -> Encoded:
        self.counts["read"] += len(tiles)
        return {"tiles": tiles}

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        known = []
        for prompt in prompts:
            if prompt.name == "crash":
                os._exit(9)  # as the system does when memory runs out
            if prompt.name == "once":  # ends when a tile is asked for it a second time
                keys = [tile.tobytes() for tile in np.asarray(encoded["tiles"])]
                self.asked.update(keys)
                self.counts["before"] = self.counts["read"]
                if any(self.asked[key] > 1 for key in keys):
                    os._exit(3)
            if prompt.name == "cached" and self.counts["read"] != self.counts["before"]:
                os._exit(4)  # a tile was read again
            if prompt.name == "tardy":
                time.sleep(0.15 * len(encoded["tiles"]))
            if prompt.name == "gated":  # its second synonym is a folder
                self._wait(Path(prompt.synonyms[1]), len(encoded["tiles"]))
            if prompt.name == "slow":
                time.sleep(0.3 * len(encoded["tiles"]))
            if prompt.name == "hang":
                time.sleep(60)
            known.append(Prompt(prompt.synonyms[0]) if prompt.synonyms else prompt)
        return self.answer(np.asarray(encoded["tiles"]), known)

    def _wait(self, folder: Path, tiles: int) -> None:
        """For each tile ask in a folder, and go on when the answer lies there."""
        for _ in range(tiles):
            self.counts["gate"] += 1
            number = self.counts["gate"]
            (folder / f"{number} asked").touch()
            while not (folder / f"{number} granted").exists():
                time.sleep(0.005)

    def spread(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        """Mean and spread: unsure by a quarter where a tile is bright green."""
        mean = self(tiles, prompts)
        unsure = np.where(tiles[:, 1:2] > 0.8, np.float32(0.25), np.float32(0))
        return np.stack([mean, np.broadcast_to(unsure, mean.shape)])


def load(settings: SegmentSettings) -> SegmentationModel:
    return Moody()


if __name__ == "__main__":
    main(load)
