"""Memory is planned, flat in the scene, refused with figures; tight limits change no byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from digseg import engine, memory
from digseg.engine.estimate import disk_bytes, fitted_plan, needs
from digseg.errors import DoesNotFitError
from digseg.settings import SegmentSettings

from .conftest import ArraySource, Filter, prompts_of
from .test_segment import digest

DEFAULT = SegmentSettings()


def total(shape: tuple[int, int, int], prompts: int) -> int:
    plan = engine.Plan.make(shape, prompts, DEFAULT)
    return needs(plan, prompts, base=0).least


def test_needs_are_flat_in_area_and_width() -> None:
    square = total((1, 8192, 8192), 2)
    assert total((1, 65536, 65536), 2) <= 1.01 * square
    assert total((1, 512, 200_000), 2) <= square


def test_needs_grow_slowly_with_prompts() -> None:
    # Beyond what a tile's own answer takes: a block never holds more than 32 million values.
    for prompts in (20, 117):
        plan = engine.Plan.make((1, 8192, 8192), prompts, DEFAULT)
        assert needs(plan, prompts, base=0).block <= 3 * (32 << 20)


def test_a_limit_that_can_not_be_met_is_refused_with_the_figures(tmp_path: Path) -> None:
    settings = SegmentSettings(memory=memory.process_bytes() + (1 << 20))
    source = ArraySource(np.zeros((1, 3, 600, 600), np.float32))
    with pytest.raises(DoesNotFitError, match=r"needs .* for a block\), but .* --memory") as caught:
        engine.segment(source, Filter(), prompts_of(2), settings, tmp_path / "s.zarr")
    assert caught.value.exit_code == 4


def test_a_tight_limit_takes_smaller_blocks_and_gives_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = ArraySource(rng.random((1, 3, 700, 900), dtype=np.float32))
    loose = SegmentSettings(tile=64, overlap=16)
    plan, _, wanted = fitted_plan(source.shape, Filter(1), prompts_of(3), loose)
    tight = loose.with_(memory=wanted.least - 1)
    small, _, _ = fitted_plan(source.shape, Filter(1), prompts_of(3), tight)
    assert np.prod(small.block) < np.prod(plan.block)
    one = engine.segment(source, Filter(1), prompts_of(3), loose, tmp_path / "a.zarr", plan=plan)
    two = engine.segment(source, Filter(1), prompts_of(3), loose, tmp_path / "b.zarr", plan=small)
    assert np.array_equal(one.store.probabilities[:], two.store.probabilities[:])


def test_a_run_that_outgrows_its_limit_is_stopped() -> None:
    with pytest.raises(DoesNotFitError, match="--resume"):
        memory.check_within(memory.process_bytes() // 2)
    memory.check_within(memory.process_bytes() * 2)


def test_the_estimate_tells_what_the_run_then_takes(tmp_path: Path) -> None:
    source = ArraySource(np.random.default_rng(0).random((1, 3, 300, 400), dtype=np.float32))
    settings = SegmentSettings(tile=64, overlap=16)
    told = engine.estimate(source, Filter(1), prompts_of(2), settings, tmp_path, timed=True)
    result = engine.segment(source, Filter(1), prompts_of(2), settings, tmp_path / "s.zarr")
    assert told.tiles == result.store.plan.lattice.count == result.meter.tiles
    assert told.blocks == result.store.plan.block_count
    assert told.seconds is not None
    assert told.seconds > 0
    written = sum(p.stat().st_size for p in (tmp_path / "s.zarr").rglob("*") if p.is_file())
    assert written <= 1.1 * told.disk_bytes + 50_000  # small files hold as much metadata as data
    assert set(told.to_dict()) >= {"tiles", "blocks", "memory_bytes", "disk_bytes", "vram_bytes"}


def test_a_disk_that_is_surely_too_small_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    source = ArraySource(np.zeros((1, 3, 300, 400), np.float32))
    with pytest.raises(DoesNotFitError, match="free some space"):
        engine.segment(source, Filter(1), prompts_of(2), DEFAULT, tmp_path / "s.zarr")
    plan = engine.Plan.make((1, 65536, 65536), 2, DEFAULT)
    assert disk_bytes(plan, 2) > 65536**2 * 2


def test_digest_sees_a_changed_pixel(tmp_path: Path) -> None:
    source = ArraySource(np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32))
    settings = SegmentSettings(tile=64, overlap=16)
    one = engine.segment(source, Filter(1), prompts_of(1), settings, tmp_path / "a.zarr")
    source.pixels[0, 0, 5, 5] += 0.5
    two = engine.segment(source, Filter(1), prompts_of(1), settings, tmp_path / "b.zarr")
    assert digest(one.store) != digest(two.store)
