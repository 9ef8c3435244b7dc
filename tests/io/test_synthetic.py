"""Scenes made up for benchmarks hold data where they say, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from digseg.io.synthetic import write_scene


def test_what_holds_no_data_lies_in_one_piece_to_the_pixel(tmp_path: Path) -> None:
    with rasterio.open(
        write_scene(tmp_path / "a.tif", (700, 1500), share=0.4, in_one_piece=True)
    ) as file:
        seen = file.read()
        assert file.nodata == 0
        mask = file.dataset_mask() > 0
    assert mask[:, :600].all()
    assert not mask[:, 600:].any()
    with rasterio.open(write_scene(tmp_path / "b.tif", (700, 1500))) as whole:
        assert whole.nodata is None
        assert (whole.read() > 0).all()
        np.testing.assert_array_equal(whole.read()[:, :512, :512], seen[:, :512, :512])


def test_blocks_without_data_lie_here_and_there_and_take_no_room(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", (2048, 4096), share=0.5, seed=3)
    with rasterio.open(path) as file:
        mask = file.dataset_mask() > 0
    blocks = mask.reshape(4, 512, 8, 512).transpose(0, 2, 1, 3).reshape(32, -1)
    full, empty = blocks.all(axis=1), ~blocks.any(axis=1)
    assert (full | empty).all()
    assert 8 <= full.sum() <= 24
    dense = write_scene(tmp_path / "b.tif", (2048, 4096), seed=3)
    assert path.stat().st_size < 0.8 * dense.stat().st_size
