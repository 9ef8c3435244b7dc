"""Stored passes read again: few planes at once, from chunks that suit them, and no more memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from digseg.engine import ProbabilityStore
from digseg.engine.plan import Block, Plan
from digseg.lazy import Bounds, WindowArray
from digseg.orientation import AXES, Turn, planes_across
from digseg.prompts import PromptSet
from digseg.run.slabs import Slabs
from digseg.run.stored import MeanSource, StoredPass
from digseg.settings import SegmentSettings
from digseg.types import AnyArray

PROMPTS = PromptSet.parse(["a", "b"])


def stored(path: Path, values: AnyArray, *, across: bool) -> ProbabilityStore:
    """A finished store of ``uint8 [K, plane, y, x]``, block by block."""
    plan = Plan.make(values.shape[1:], len(PROMPTS), SegmentSettings())
    store = ProbabilityStore.create(path, plan, PROMPTS, across=across)
    for block in plan.blocks():
        planes, (top, bottom, left, right) = plan.planes(block), plan.window(block)
        part = values[:, planes.start : planes.stop, top:bottom, left:right]
        store.write_block(block, part, np.ones(part.shape[1:], np.uint8))
    return store


@pytest.mark.parametrize("across", [False, True])
def test_chunks_change_no_value(across: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 256, (2, 37, 70, 530), dtype=np.uint8)
    store = stored(tmp_path / "s.zarr", values, across=across)
    np.testing.assert_array_equal(store.probabilities[...], values)
    block = Block(1, 0, 0)
    np.testing.assert_array_equal(store.read_block(block)[0], values[:, 16:32])
    # A chunk for each 16 planes to read some rows of all, or one for every plane; as large.
    depth, _, _ = chunk = store.array("coverage").chunks
    assert depth == (16 if across else 1)
    assert store.array("0").chunks == (1, *chunk)
    assert np.prod(chunk) <= 512 * 512


def test_fusing_holds_some_planes_of_each_pass(tmp_path: Path, rng: np.random.Generator) -> None:
    """25 MiB of maps in three stores; what is read of them at once stays below what was told."""
    values = rng.integers(0, 256, (2, 64, 256, 256), dtype=np.uint8)
    passes = []
    for axis in AXES:
        turn = planes_across(axis)
        path = tmp_path / f"{axis}.zarr"
        stored(path, turn.apply(values), across=True)
        passes.append(StoredPass(path, turn.inverse, axis, 0, 2))
    source = MeanSource(values.shape[1:], tuple(passes))
    # 16 planes of two maps and of the coverage, three slabs of them in three stores.
    told = 3 * 3 * 16 * 3 * 256 * 256
    assert source.held_bytes == told
    source.read(0, (0, 1, 0, 1))  # what zarr imports
    tracemalloc.start()
    for plane in range(0, 64, 5):
        found, valid = source.read(plane, (0, 256, 0, 256))
        np.testing.assert_allclose(found * 255, values[:, plane], atol=1e-4)
        assert valid.all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < told + (12 << 20)
    assert peak < 3 * 3 * 64 * 256 * 256  # a whole volume of each


def test_only_the_maps_that_are_asked_for(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 256, (2, 5, 40, 40), dtype=np.uint8)
    stored(tmp_path / "s.zarr", values, across=False)
    second = StoredPass(tmp_path / "s.zarr", Turn(), "s", 1, 1)
    found, _ = second.read(3, (0, 40, 8, 20))
    np.testing.assert_allclose(found * 255, values[1:, 3, :, 8:20], atol=1e-4)
    assert second.held_bytes == 3 * 5 * 40 * 40 * 2


def test_a_pass_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert StoredPass(tmp_path / "gone.zarr", Turn(), "gone", 0, 1).held_bytes == 0


def test_slabs_make_room_before_they_read() -> None:
    held: list[int] = []

    def read(bounds: Bounds) -> AnyArray:
        held.append(len(slabs._kept))
        return np.zeros([stop - start for start, stop in bounds], np.uint8)

    slabs = Slabs(WindowArray((40, 8, 8), np.uint8, read), kept=2, thickest=4)
    assert slabs.thick == 4
    for plane in range(40):
        slabs.read(plane, (0, 8, 0, 8))
    assert held == [0, *[1] * 9]
