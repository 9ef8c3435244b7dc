"""Blocks of a run that is watched: small and few, and the labels are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.models import Brightness

from digseg.events import BlockWritten, Event
from digseg.prompts import PromptSet
from digseg.run.blocks import MOST, watched_plan
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings


@pytest.mark.parametrize(
    "shape",
    [(1, 300, 420), (1, 1500, 1500), (1, 9000, 12_000), (1, 100_000, 90_000), (500, 512, 512),
     (90, 200, 180), (1, 100, 40_000)],
)  # fmt: skip
def test_blocks_are_small_and_few(shape: tuple[int, int, int]) -> None:
    prompts = PromptSet.parse(["red", "blue"])
    plan = watched_plan(shape, Brightness(), prompts, SegmentSettings())
    if shape[1] * shape[2] > MOST * 2048 * 2048:
        assert plan is None  # the usual blocks are as many as can be chosen among
        return
    assert plan is not None
    assert plan.block_count <= MOST
    assert plan.block_count >= min(MOST // 8, shape[0] * shape[1] * shape[2] // 256**2)


def test_batches_of_several_tiles_keep_their_blocks() -> None:
    settings = SegmentSettings(batch=4)
    prompts = PromptSet.parse("red")
    assert watched_plan((1, 1500, 1500), Brightness(), prompts, settings) is None


def test_a_watched_run_comes_in_pieces_and_ends_in_the_same_bytes(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    pixels = rng.integers(0, 256, (3, 600, 700), dtype=np.uint8)
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 600, "width": 700, "dtype": "uint8"}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32631", transform=rasterio.Affine(1, 0, 9, 0, -1, 9)
    ) as dataset:
        dataset.write(pixels)
    written: list[tuple[int, ...]] = []

    def listen(event: Event) -> None:
        if isinstance(event, BlockWritten):
            written.append(event.window)

    out = [tmp_path / "watched.tif", tmp_path / "alone.tif"]
    for target, watched in zip(out, (True, False), strict=True):
        written.clear()
        job = Job(
            str(path),
            PromptSet.parse(["red", "blue"]),
            SegmentSettings(tile=256, overlap=32),
            Outputs(labels=target),
        )
        execute(job, model=Brightness(), callback=listen, watched=watched)
        assert len(written) == (9 if watched else 1)
    assert out[0].read_bytes() == out[1].read_bytes()
