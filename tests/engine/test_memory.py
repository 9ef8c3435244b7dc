"""Memory is planned, flat in the scene, refused with figures; tight limits change no byte."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digseg import engine, memory
from digseg.engine import worker, writing
from digseg.engine.estimate import disk_bytes, fitted_plan, needs
from digseg.engine.worker import Kit, compute_block, compute_border, packed
from digseg.errors import DoesNotFitError
from digseg.prompts import Prompt
from digseg.settings import SegmentSettings
from digseg.types import BoolArray, Float32Array, Window

from .conftest import ArraySource, Constant, Filter, prompts_of
from .test_segment import digest

DEFAULT = SegmentSettings()
VARIABLE = "THP_MEM_ALLOC_ENABLE"  # of torch


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
    said = r"needs .* for files, .* for a block\), but .* --memory"
    with pytest.raises(DoesNotFitError, match=said) as caught:
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


class Watched(Constant):
    """Tells how many of its earlier answers are still in memory when it is called."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.answers: list[weakref.ref[Float32Array]] = []
        self.alive: list[int] = []

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        self.alive.append(sum(answer() is not None for answer in self.answers))
        answer = super().__call__(tiles, prompts)
        self.answers.append(weakref.ref(answer))
        return answer


def test_of_large_answers_there_is_one_in_memory(tmp_path: Path) -> None:
    source = ArraySource(np.zeros((1, 3, 700, 700), np.float32))
    model, settings = Watched(), SegmentSettings(tile=512, overlap=64)
    assert memory.LARGE_ANSWER < 4 * 28 * 512**2
    engine.segment(source, model, prompts_of(28), settings, tmp_path / "s.zarr")
    assert model.alive == [0, 0, 0, 0]


class Sparse(ArraySource):
    """Nothing but nodata after the first tile; says when the last one was read."""

    def __init__(self, side: int) -> None:
        super().__init__(np.zeros((1, 3, 1, 1), np.float32))
        self.shape, self.side, self.done = (1, side, side), side, threading.Event()

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        top, bottom, left, right = window
        if (bottom, right) == (self.side, self.side):
            self.done.set()
        valid = np.full((bottom - top, right - left), top == left == 0)
        return np.zeros((3, *valid.shape), np.float32), valid


def test_empty_tiles_take_no_memory_while_they_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Sparse(8192)
    seen: list[int] = []
    write = engine.ProbabilityStore.write_block

    def slow(store: engine.ProbabilityStore, *given: Any) -> Any:
        if not seen:  # all other tiles wait for this block to be written
            assert source.done.wait(60)
            seen.append(tracemalloc.get_traced_memory()[0])
        return write(store, *given)

    monkeypatch.setattr(engine.ProbabilityStore, "write_block", slow)
    tracemalloc.start()
    try:
        settings = SegmentSettings(tile=256, overlap=32)
        engine.segment(source, Constant(1.0), prompts_of(1), settings, tmp_path / "s.zarr")
    finally:
        tracemalloc.stop()
    tiles = (8192 // 224) ** 2
    # One byte a pixel would be 85 MB; the block that is written takes 8.
    assert seen[0] < 30e6 < tiles * 256**2 / 2


def test_a_worker_holds_one_answer(tmp_path: Path) -> None:
    source, model = ArraySource(np.zeros((1, 3, 200, 200), np.float32)), Watched()
    prompts = prompts_of(2)
    plan = engine.Plan.make(source.shape, 2, SegmentSettings(tile=64, overlap=16), multiple=8)
    engine.ProbabilityStore.create(tmp_path / "s.zarr", plan, prompts)
    worker._opened.clear()
    bench = worker.Bench(
        Kit(source, model, prompts, tmp_path / "s.zarr"),
        engine.ProbabilityStore.open(tmp_path / "s.zarr", writable=True),
    )
    content = b"a kit that stays in this process"
    worker._opened[hashlib.sha256(content).digest()] = bench
    block = next(plan.blocks())
    compute_block(content, block, plan.touching(block), False, plan.batches(block))
    wanted = [(batch, {block: frozenset(batch)}) for batch in plan.batches(block)]
    compute_border(content, wanted)
    worker._opened.clear()
    assert len(model.alive) == 2 * plan.lattice.count
    assert not any(model.alive)


def test_workers_share_what_is_allowed(tmp_path: Path) -> None:
    settings = SegmentSettings(tile=64, overlap=16)
    shape = (1, 5000, 5000)
    alone, _, wanted = fitted_plan(shape, Filter(1), prompts_of(3), settings)
    three = settings.with_(workers=3)
    _, _, all_three = fitted_plan(shape, Filter(1), prompts_of(3), three)
    assert all_three.least == wanted.base + memory.CLUSTER + 3 * all_three.each
    assert all_three.each == wanted.least + memory.CLUSTER
    # What fits one process is refused to three, unless their blocks get smaller.
    tight = three.with_(memory=all_three.least - 1)
    small, allowed, needed = fitted_plan(shape, Filter(1), prompts_of(3), tight)
    assert np.prod(small.block) < np.prod(alone.block)
    assert needed.driver + 3 * needed.share(allowed) <= allowed
    assert needed.each <= needed.share(allowed)
    source = ArraySource(np.zeros((1, 3, 600, 600), np.float32))
    with pytest.raises(DoesNotFitError, match=r"for each of 3 workers, .* fewer --workers"):
        engine.segment(
            source, Filter(1), prompts_of(3),
            three.with_(memory=wanted.least), tmp_path / "s.zarr",
        )  # fmt: skip
    assert not (tmp_path / "s.zarr").exists()


def test_a_cluster_elsewhere_does_not_share_this_machine() -> None:
    there = SegmentSettings(tile=64, overlap=16, workers=3, scheduler="tcp://far.away:8786")
    _, _, needed = fitted_plan((1, 5000, 5000), Filter(1), prompts_of(3), there)
    assert needed.workers == 0
    assert needed.share(12345) == 12345


def test_a_worker_that_outgrows_its_share_is_stopped(tmp_path: Path) -> None:
    settings = SegmentSettings(tile=64, overlap=16)
    source = ArraySource(np.zeros((1, 3, 100, 100), np.float32))
    prompts = prompts_of(1)
    plan = engine.Plan.make(source.shape, 1, settings, multiple=4)
    engine.ProbabilityStore.create(tmp_path / "s.zarr", plan, prompts)
    block = next(plan.blocks())
    for allowed in (1 << 20, 1 << 50):
        kit = Kit(source, Filter(1), prompts, tmp_path / "s.zarr", allowed)
        work = (packed(kit), block, plan.touching(block), False, plan.batches(block))
        if allowed > memory.process_bytes():
            assert compute_block(*work).tiles == plan.lattice.count
        else:
            with pytest.raises(DoesNotFitError, match=r"A worker reached .* --memory leaves it"):
                compute_block(*work)


def test_a_peak_between_two_looks_is_seen_and_so_are_other_processes() -> None:
    code = """
import subprocess, sys
import numpy as np
from digseg.metering import PeakMeter
with PeakMeter(interval=60) as meter:
    np.ones(200 << 20, np.uint8)
words = [sys.executable, '-c', 'x = bytearray(150 << 20); print(1, flush=True); input()']
import time
with PeakMeter(interval=0.002) as moment:
    np.ones(200 << 20, np.uint8)
    time.sleep(0.5)
with PeakMeter(family=True) as family:
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        while family.grown < 150 << 20:
            pass
        child.communicate(b'\\n')
print(meter.grown >> 20, moment.usual - moment.start_bytes >> 20, family.grown >> 20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    alone, mostly, with_child = (int(word) for word in done.stdout.split())
    assert 195 <= alone <= 230
    assert mostly <= 20
    assert 150 <= with_child <= 230


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


def test_large_answers_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ArraySource(np.random.default_rng(3).random((1, 3, 200, 260), dtype=np.float32))
    settings = SegmentSettings(tile=64, overlap=16, batch=2)
    plan = engine.Plan.make((1, 200, 260), 3, settings, multiple=4, batch=2, block=(1, 64, 128))
    made = []
    for name, limit in (("parts", memory.LARGE_ANSWER), ("views", 0)):
        monkeypatch.setattr(writing, "LARGE_ANSWER", limit)
        found = engine.segment(
            source, Filter(1), prompts_of(3), settings, tmp_path / f"{name}.zarr", plan=plan
        )
        made.append(digest(found.store))
    assert made[0] == made[1]


def test_a_second_answer_waits_while_a_block_is_written_unless_it_is_large() -> None:
    for prompts, answers in ((2, 4), (20, 2), (117, 1)):
        plan = engine.Plan.make((1, 8192, 8192), prompts, DEFAULT)
        needed = needs(plan, prompts, base=0)
        limit = memory.budget(needed, 4 << 30, asked=True).write_behind
        assert limit // needed.answer >= answers
        assert limit <= needed.answer + memory.LARGE_ANSWER


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource
import torch
from digseg import memory
memory.large_pages()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)  # 64 MiB: 16,384 small pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[madvise]" not in HUGE_PAGES.read_text(),
    reason="the system gives large pages to all or to none",
)
def test_large_arrays_come_in_large_pages_unless_someone_chose_otherwise() -> None:
    def faults(**more: str) -> int:
        env = {name: value for name, value in os.environ.items() if name != VARIABLE} | more
        told = subprocess.run(
            [sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True
        )
        return int(told.stdout)

    assert faults() < 4000
    assert faults(**{VARIABLE: "0"}) > 16000
