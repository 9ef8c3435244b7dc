"""Runs in one process: exact, seamless, the same whatever the blocks, batches and order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from digseg import engine
from digseg.errors import OutputExistsError
from digseg.prompts import Prompt
from digseg.settings import SegmentSettings
from digseg.types import BoolArray, Float32Array, Window

from .conftest import ArraySource, Constant, Filter, prompts_of


def digest(store: engine.ProbabilityStore) -> str:
    parts = [np.asarray(level[:]) for level in store.levels] + [np.asarray(store.coverage[:])]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize(
    "shape", [(1, 64, 64), (1, 65, 130), (1, 301, 417), (3, 50, 70), (1, 9, 7)]
)
def test_a_model_that_answers_one_gives_exactly_one_everywhere(
    tmp_path: Path, small: SegmentSettings, shape: tuple[int, int, int]
) -> None:
    source = ArraySource(np.zeros((shape[0], 3, *shape[1:])))
    result = engine.segment(source, Constant(1.0), prompts_of(2), small, tmp_path / "s.zarr")
    assert result.store.probabilities.shape == (2, *shape)
    assert np.all(result.store.probabilities[:] == 255)
    assert np.all(result.store.coverage[:] == 1)
    for level in result.store.levels:
        assert np.all(level[:] == 255)


def test_a_model_that_writes_to_its_tiles_leaves_the_source_as_it_is(
    tmp_path: Path, small: SegmentSettings
) -> None:
    class Lent(ArraySource):
        def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
            top, bottom, left, right = window
            return (
                self.pixels[plane, :, top:bottom, left:right],
                self.valid[plane, top:bottom, left:right],
            )

    class Writes(Constant):
        def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
            tiles[...] = -1
            return super().__call__(tiles, prompts)

    lent = Lent(np.ones((1, 3, small.tile, small.tile)))  # one tile: read as it lies in memory
    before = lent.pixels.copy()
    engine.segment(lent, Writes(), prompts_of(1), small, tmp_path / "s.zarr")
    assert np.array_equal(lent.pixels, before)


def test_tiled_equals_whole_when_the_radius_fits_the_halo(
    tmp_path: Path, small: SegmentSettings, picture: ArraySource
) -> None:
    model = Filter(radius=4)
    result = engine.segment(picture, model, prompts_of(3), small, tmp_path / "s.zarr")
    whole = model.whole(picture.pixels[0], 3)
    got = np.asarray(result.store.probabilities[:, 0]).astype(float)
    # Half a step of the stored eighth bit, and the 1e-6 that floats may differ by.
    assert np.abs(got - whole * 255).max() <= 0.5 + 1e-6 * 255


@pytest.mark.parametrize("block", [(1, 64, 64), (1, 128, 32), (1, 32, 512), (1, 512, 512)])
@pytest.mark.parametrize("batch", [1, 4])
def test_the_answer_does_not_depend_on_blocks_or_batches(
    tmp_path: Path,
    small: SegmentSettings,
    picture: ArraySource,
    block: tuple[int, int, int],
    batch: int,
) -> None:
    base = engine.segment(picture, Filter(), prompts_of(2), small, tmp_path / "a.zarr")
    plan = engine.Plan.make(picture.shape, 2, small, multiple=4, batch=batch, block=block)
    model = Filter()
    other = engine.segment(picture, model, prompts_of(2), small, tmp_path / "b.zarr", plan=plan)
    assert np.array_equal(other.store.probabilities[:], base.store.probabilities[:])
    assert np.array_equal(other.store.coverage[:], base.store.coverage[:])
    assert other.meter.tiles == plan.lattice.count, "a tile was computed twice"


def test_blocks_in_view_come_first_and_change_nothing(
    tmp_path: Path, small: SegmentSettings, picture: ArraySource
) -> None:
    plan = engine.Plan.make(picture.shape, 2, small, multiple=4, block=(1, 64, 64))
    base = engine.segment(picture, Filter(), prompts_of(2), small, tmp_path / "a.zarr", plan=plan)
    seen = []

    def last_first(pending: list[engine.BlockInfo]) -> engine.BlockInfo:
        seen.append(pending[-1].block)
        return pending[-1]

    other = engine.segment(
        picture, Filter(), prompts_of(2), small, tmp_path / "b.zarr", plan=plan, order=last_first
    )
    assert seen == list(plan.blocks())[::-1]
    assert digest(other.store) == digest(base.store)
    assert other.meter.tiles == base.meter.tiles == plan.lattice.count


def test_nodata_is_kept_to_the_pixel_and_empty_tiles_are_skipped(
    tmp_path: Path, small: SegmentSettings, picture: ArraySource
) -> None:
    valid = np.ones(picture.shape, bool)
    valid[0, :, 200:] = False
    valid[0, 33, 44] = False
    source = ArraySource(picture.pixels, valid)
    model = Constant(0.6)
    result = engine.segment(source, model, prompts_of(2), small, tmp_path / "s.zarr")
    coverage = np.asarray(result.store.coverage[:])
    assert np.array_equal(coverage == 3, ~valid)
    assert np.array_equal(coverage == 1, valid)
    values = np.asarray(result.store.probabilities[:])
    assert np.all(values[:, ~valid] == 0)
    assert np.all(values[:, valid] == 153)
    tiles = result.store.plan.lattice
    with_data = [
        t for t in tiles if valid[0][slice(*tiles.window(t)[:2]), slice(*tiles.window(t)[2:])].any()
    ]
    assert result.meter.tiles == len(with_data) < tiles.count


def test_a_store_is_not_overwritten_unasked(
    tmp_path: Path, small: SegmentSettings, picture: ArraySource
) -> None:
    engine.segment(picture, Constant(0.2), prompts_of(1), small, tmp_path / "s.zarr")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        engine.segment(picture, Constant(0.8), prompts_of(1), small, tmp_path / "s.zarr")
    result = engine.segment(
        picture, Constant(0.8), prompts_of(1), small, tmp_path / "s.zarr", overwrite=True
    )
    assert np.all(result.store.probabilities[:] == 204)
