"""A run in a process of its own, to be killed: ``python -m engine.child SCENE.npy STORE.zarr``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from digseg import engine
from digseg.prompts import Prompt
from digseg.settings import SegmentSettings
from digseg.types import Float32Array

from .conftest import ArraySource, Filter, prompts_of


class Slow(Filter):
    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        time.sleep(float(os.environ.get("DIGSEG_TEST_DELAY", "0")))
        return super().__call__(tiles, prompts)


def main(scene: str, store: Path) -> None:
    source = ArraySource(np.load(scene))
    settings = SegmentSettings(tile=64, overlap=16)
    plan = engine.Plan.make(source.shape, 2, settings, multiple=4, block=(1, 64, 64))
    # A kill may have hit before the journal's header: then there is no run to go on with.
    resume = (store / ".digseg" / "journal").exists()
    engine.segment(
        source, Slow(1), prompts_of(2), settings, store,
        resume=resume, overwrite=not resume, plan=plan,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
