"""A run of several passes in a process of its own, to be killed.

``python -m tests.run.child VOLUME.npy STORE.zarr propagate|zyx|both``
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import digseg
from digseg.grid import Grid
from digseg.prompts import Prompt
from digseg.raster import Volume
from digseg.types import Float32Array

WAYS: dict[str, dict[str, object]] = {
    "propagate": {"propagate": True},
    "zyx": {"planes": "zyx"},
    "both": {"planes": "zyx", "propagate": True},
}


class Blurred:
    """The picture, a little smeared along its rows; each prompt darker than the one before."""

    identity = "blurred"
    multiple = 1

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        time.sleep(float(os.environ.get("DIGSEG_TEST_DELAY", "0")))
        own = (tiles[:, 1] + np.roll(tiles[:, 1], 1, axis=-1)) / 2
        return np.stack([own * (1 - 0.2 * k) for k in range(len(prompts))], axis=1)

    def continue_from(
        self,
        tiles: Float32Array,
        prompts: Sequence[Prompt],
        previous: Float32Array,
        strength: float,
    ) -> Float32Array:
        return strength * self(tiles, prompts) + (1 - strength) * previous


def run(volume: Path, store: Path, way: str) -> digseg.Result:
    """Begin or go on."""
    data = np.load(volume)
    grid = Grid.of(data.shape, np.diag([-2.0, -2.0, 2.0, 1.0]), space="patient", unit="millimetre")
    return digseg.segment(
        Volume(data, grid, "MR"), ["a", "b"], model=Blurred(), probabilities=store,
        resume=True, spacing=0.0, tile=32, overlap=8, **WAYS[way],
    )  # fmt: skip


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]).close()
