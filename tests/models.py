"""Models whose answers are known exactly, for tests of everything around the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digseg.prompts import Prompt
from digseg.types import Float32Array

#: What `Brightness` knows: a prompt to the channel it reads.
CHANNELS = {"red": 0, "green": 1, "blue": 2, "bright": 0}


@dataclass(frozen=True)
class Brightness:
    """Answers with a channel of the tile itself, so the expected map is the picture.

    ``"dark"`` answers with one minus the first channel, ``"nothing"`` with 0, ``"all"`` with 1.
    """

    multiple: int = 32

    @property
    def identity(self) -> str:
        return f"brightness-{self.multiple}"

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        maps = []
        for prompt in prompts:
            if prompt.name == "dark":
                maps.append(1 - tiles[:, 0])
            elif prompt.name in ("nothing", "all"):
                maps.append(np.full_like(tiles[:, 0], prompt.name == "all"))
            else:
                maps.append(tiles[:, CHANNELS[prompt.name]])
        return np.stack(maps, axis=1).astype(np.float32)
