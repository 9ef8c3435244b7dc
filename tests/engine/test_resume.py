"""Killed, cut off, full or faulty: what is resumed is bit for bit what would have been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from digseg import engine
from digseg.blend import FAILED
from digseg.errors import Cancelled, DoesNotFitError, ResumeError
from digseg.events import CancelToken, Event, StageAdvanced, TileFailed
from digseg.journal import Journal
from digseg.settings import SegmentSettings

from .conftest import ArraySource, Filter, prompts_of
from .faults import FaultySource, FullStore, PowerCut, TornStore
from .test_segment import digest

SHAPE = (1, 3, 150, 210)


def plan(settings: SegmentSettings) -> engine.Plan:
    return engine.Plan.make((SHAPE[0], *SHAPE[2:]), 2, settings, multiple=4, block=(1, 64, 64))


@pytest.fixture
def scene() -> ArraySource:
    return ArraySource(np.random.default_rng(1).random(SHAPE))


@pytest.fixture
def truth(tmp_path: Path, small: SegmentSettings, scene: ArraySource) -> str:
    path = tmp_path / "truth.zarr"
    result = engine.segment(scene, Filter(1), prompts_of(2), small, path, plan=plan(small))
    return digest(result.store)


@pytest.mark.parametrize("writes", [7, 16, 23, 40])
def test_a_power_cut_in_the_middle_of_a_write_costs_nothing(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str, writes: int
) -> None:
    TornStore.writes = writes
    path = tmp_path / "s.zarr"
    args = (scene, Filter(1), prompts_of(2), small, path)
    with pytest.raises(PowerCut):
        engine.segment(*args, plan=plan(small), backend=TornStore)
    model = Filter(1)
    result = engine.segment(scene, model, prompts_of(2), small, path, resume=True)
    assert digest(result.store) == truth


def test_a_full_disk_is_said_and_resumed(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    FullStore.writes = 25
    path = tmp_path / "s.zarr"
    args = (scene, Filter(1), prompts_of(2), small, path)
    with pytest.raises(DoesNotFitError, match="--resume"):
        engine.segment(*args, plan=plan(small), backend=FullStore)
    result = engine.segment(*args, resume=True)
    assert digest(result.store) == truth


def test_a_torn_journal_and_a_truncated_shard_are_seen(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    path = tmp_path / "s.zarr"
    args = (scene, Filter(1), prompts_of(2), small, path)
    done = engine.segment(*args, plan=plan(small))
    journal = done.store.journal_path
    # The last line is the checkpoint, the one before it the last block's: torn.
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]) + lines[-2][:-20])
    shard = path / "0" / "c" / "1" / "0" / "0" / "1"
    shard.write_bytes(shard.read_bytes()[:-100])
    model = Filter(1)
    result = engine.segment(scene, model, prompts_of(2), small, path, resume=True)
    assert digest(result.store) == truth
    assert result.meter.tiles <= 2 * 9, "more than the two damaged blocks were computed again"


def test_a_shard_that_was_never_flushed_is_told_by_its_checksum(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    path = tmp_path / "s.zarr"
    args = (scene, Filter(1), prompts_of(2), small, path)
    done = engine.segment(*args, plan=plan(small))
    journal = done.store.journal_path
    lines = journal.read_bytes().splitlines(keepends=True)
    shard = path / "0" / "c" / "0" / "0" / "1" / "1"
    shard.write_bytes(bytes(shard.stat().st_size))  # its name and size, and nothing but zeros
    # No checkpoint came after it.
    journal.write_bytes(b"".join(line for line in lines if b"checkpoint" not in line))
    result = engine.segment(*args, resume=True)
    assert digest(result.store) == truth
    assert 0 < result.meter.tiles <= 9


def test_a_finished_run_resumes_to_nothing(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    path = tmp_path / "truth.zarr"
    model = Filter(1)
    result = engine.segment(scene, model, prompts_of(2), small, path, resume=True)
    assert (model.calls, result.failed) == ([], ())
    assert digest(result.store) == truth
    assert not (path / ".digseg" / "lent").exists()


@pytest.mark.parametrize("what", ["image", "model", "prompts", "settings.tile"])
def test_resuming_something_else_is_refused_by_name(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str, what: str
) -> None:
    model, prompts, settings = Filter(1), prompts_of(2), small
    if what == "image":
        scene.identity = "another"
    elif what == "model":
        model = Filter(2)
    elif what == "prompts":
        prompts = prompts_of(3)
    else:
        settings = small.with_(tile=96)
    with pytest.raises(ResumeError, match=what) as caught:
        engine.segment(scene, model, prompts, settings, tmp_path / "truth.zarr", resume=True)
    assert caught.value.exit_code == 6


def test_a_cancelled_run_goes_on_where_it_stood(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    token, heard = CancelToken(), 0

    def listen(event: Event) -> None:
        nonlocal heard
        if isinstance(event, StageAdvanced):
            heard += event.count
            if heard == 9:
                token.cancel()

    path = tmp_path / "s.zarr"
    args = (scene, Filter(1), prompts_of(2), small, path)
    with pytest.raises(Cancelled):
        engine.segment(*args, plan=plan(small), callback=listen, cancel=token)
    result = engine.segment(*args, resume=True)
    assert digest(result.store) == truth
    # Of the nine tiles, at most the unfinished block's were computed again.
    assert result.meter.tiles <= result.store.plan.lattice.count


def test_a_passing_fault_is_retried_and_leaves_no_trace(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    faulty = FaultySource(scene.pixels, bad=(70, 70), times=2)
    args = (faulty, Filter(1), prompts_of(2), small, tmp_path / "s.zarr")
    result = engine.segment(*args, plan=plan(small))
    assert result.failed == ()
    assert digest(result.store) == truth


def test_a_tile_that_stays_bad_is_reported_mapped_and_retried_alone(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    events: list[Event] = []
    path = tmp_path / "s.zarr"
    faulty = FaultySource(scene.pixels, bad=(70, 70))
    args = (faulty, Filter(1), prompts_of(2), small, path)
    first = engine.segment(*args, plan=plan(small), callback=events.append)
    lattice = first.store.plan.lattice
    bad = [t for t in lattice if _holds(lattice.window(t), faulty.bad)]
    assert list(first.failed) == bad
    told = [event for event in events if isinstance(event, TileFailed)]
    assert len(told) == len(bad)
    assert "bad sector" in told[0].reason
    # The map is exact: failed wherever a failed tile had a say, done elsewhere.
    expected = np.zeros(SHAPE[2:], bool)
    for tile in bad:
        top, bottom, left, right = lattice.owned(tile)
        expected[top:bottom, left:right] = True
    assert np.array_equal(np.asarray(first.store.coverage[0]) == FAILED, expected)
    labels = engine.labels(first.store, small)
    assert np.all(labels[0][expected] == labels.nodata), "a hole must not look like background"

    faulty.times = 0
    again = engine.segment(*args, resume=True)
    assert again.failed == ()
    assert again.meter.tiles == len(bad), "only the failed tiles are computed again"
    assert digest(again.store) == truth


def test_a_batch_is_halved_when_memory_runs_out(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    class Small(Filter):
        def __call__(self, tiles, prompts):  # type: ignore[no-untyped-def]
            if len(tiles) > 2:
                raise MemoryError("out of memory")
            return super().__call__(tiles, prompts)

    model = Small(1)
    wide = engine.Plan(plan(small).lattice, (1, 64, 64), batch=8)
    result = engine.segment(scene, model, prompts_of(2), small, tmp_path / "s.zarr", plan=wide)
    assert result.failed == ()
    assert {shape[0] for shape in model.calls} <= {1, 2}
    assert digest(result.store) == truth


def test_one_tile_without_a_finite_answer_costs_no_other(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource
) -> None:
    class Holes(Filter):
        def __call__(self, tiles, prompts):  # type: ignore[no-untyped-def]
            answer = super().__call__(tiles, prompts)
            answer[tiles[:, 0].mean(axis=(1, 2)) == 1] = np.nan
            return answer

    lattice = plan(small).lattice
    tile = list(lattice)[5]
    top, bottom, left, right = lattice.window(tile)
    scene.pixels[0, :, top:bottom, left:right] = 1
    result = engine.segment(scene, Holes(1), prompts_of(1), small, tmp_path / "s.zarr")
    assert result.failed == (tile,)


def test_killed_at_random_moments_the_result_is_bit_identical(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource, truth: str
) -> None:
    np.save(tmp_path / "scene.npy", scene.pixels)
    path = tmp_path / "killed.zarr"
    chance = random.Random(7)
    kills = 0
    while kills < 3:
        child = subprocess.Popen(
            [sys.executable, "-m", "engine.child", str(tmp_path / "scene.npy"), str(path)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "DIGSEG_TEST_DELAY": "0.02"},
        )
        # Wait until the run has begun to write, then a random moment more.
        begin = time.monotonic()
        size = _size(path)
        while child.poll() is None and _size(path) == size and time.monotonic() - begin < 60:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.5)
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    result = engine.segment(scene, Filter(1), prompts_of(2), small, path, resume=True)
    assert digest(result.store) == truth


def _size(store: Path) -> int:
    journal = store / ".digseg" / "journal"
    return journal.stat().st_size if journal.exists() else 0


def _holds(window: tuple[int, int, int, int], pixel: tuple[int, int]) -> bool:
    return window[0] <= pixel[0] < window[1] and window[2] <= pixel[1] < window[3]


def test_a_long_journal_is_read_back_about_as_fast_as_json_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(path, {"identity": {}})
    journal.close()
    line = Journal.create(tmp_path / "one", {})
    line.append({"block": "0.0.0", "failed": [], "files": {"0/c/0/0/0/0": 1000}})
    line.close()
    record = (tmp_path / "one").read_bytes().splitlines(keepends=True)[1]
    with path.open("ab") as file:
        file.write(record * 100_000)
        file.write(record[:-9])  # torn
    begin = time.process_time()  # a busy machine must not fail this
    loaded = Journal.load(path)
    seconds = time.process_time() - begin
    loaded.close()
    assert len(loaded.records) == 100_000
    # Against a yardstick of this very machine: 100,000 records take 1 to 2.5 s of different ones.
    begin = time.process_time()
    for text in path.read_bytes().splitlines()[1:]:
        json.loads(text[text.index(b"{") :])
    assert seconds < 6 * (time.process_time() - begin), seconds
    assert path.stat().st_size % len(record) != len(record) - 9, "the torn tail was not cut off"
