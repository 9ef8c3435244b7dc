"""Workers: the same bytes as one process, also when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from digseg import engine
from digseg.errors import Cancelled, UsageError
from digseg.events import CancelToken, Event, StageAdvanced, TileFailed
from digseg.prompts import Prompt
from digseg.settings import SegmentSettings
from digseg.types import Float32Array

from .conftest import ArraySource, Filter, prompts_of
from .faults import FaultySource
from .test_segment import digest

# dask's own processes leave sockets to the garbage collector when one of them is killed.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Suicidal(Filter):
    """Kills its process at the second call, once: the file tells that it happened."""

    def __init__(self, flag: Path) -> None:
        super().__init__(1)
        self.flag = flag
        self.count = 0

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        self.count += 1
        if self.count == 2 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(tiles, prompts)


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers unpickle the models of these tests by their module's name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


@pytest.fixture
def scene() -> ArraySource:
    return ArraySource(np.random.default_rng(1).random((1, 3, 150, 210)))


def plan(settings: SegmentSettings) -> engine.Plan:
    return engine.Plan.make((1, 150, 210), 2, settings, multiple=4, block=(1, 64, 64))


def test_two_workers_one_killed_give_the_bytes_of_one_process(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource
) -> None:
    one = engine.segment(
        scene, Filter(1), prompts_of(2), small, tmp_path / "a.zarr", plan=plan(small)
    )
    model = Suicidal(tmp_path / "flag")
    two = engine.segment(
        scene, model, prompts_of(2), small.with_(workers=2), tmp_path / "b.zarr", plan=plan(small)
    )
    assert model.flag.exists(), "no worker was killed"
    assert digest(two.store) == digest(one.store)
    progress = two.store.progress()
    assert (progress.written, progress.pending) == (plan(small).block_count, 0)
    # Every tile is counted once: the killed task's work is lost with it, not doubled.
    assert two.meter.tiles == plan(small).lattice.count


def test_failures_and_a_cancel_reach_the_driver_and_resume_in_one_process(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource
) -> None:
    from distributed import LocalCluster

    truth = engine.segment(
        scene, Filter(1), prompts_of(2), small, tmp_path / "a.zarr", plan=plan(small)
    )
    faulty = FaultySource(scene.pixels, bad=(70, 70))
    token = CancelToken()
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, StageAdvanced):
            token.cancel()

    path = tmp_path / "b.zarr"
    with LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        there = small.with_(scheduler=cluster.scheduler_address)
        with pytest.raises(Cancelled):
            engine.segment(
                faulty, Filter(1), prompts_of(2), there, path,
                plan=plan(small), callback=listen, cancel=token,
            )  # fmt: skip
        assert engine.ProbabilityStore.open(path).progress().pending > 0
        result = engine.segment(
            faulty, Filter(1), prompts_of(2), there, path, resume=True, callback=events.append
        )
    assert result.failed
    assert "bad sector" in next(e for e in events if isinstance(e, TileFailed)).reason
    faulty.times = 0
    again = engine.segment(faulty, Filter(1), prompts_of(2), small, path, resume=True)
    assert again.meter.tiles == len(result.failed)
    assert digest(again.store) == digest(truth.store)


def test_a_scheduler_that_does_not_answer_is_said(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource
) -> None:
    settings = small.with_(scheduler="tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match="No dask scheduler answers"):
        engine.segment(scene, Filter(1), prompts_of(1), settings, tmp_path / "s.zarr")


def test_workers_of_a_job_serve_several_runs_and_are_gone_after_it(
    tmp_path: Path, small: SegmentSettings, scene: ArraySource
) -> None:
    import psutil

    settings = small.with_(workers=2)
    one = engine.segment(
        scene, Filter(1), prompts_of(2), small, tmp_path / "a.zarr", plan=plan(small)
    )
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    pids = []
    with engine.Workers(settings, ["colorsys"]) as workers:
        workers.start()
        for name in ("b.zarr", "c.zarr"):
            done = engine.segment(
                scene, Filter(1), prompts_of(2), settings, tmp_path / name,
                plan=plan(settings), workers=workers,
            )  # fmt: skip
            assert digest(done.store) == digest(one.store)
            pids.append({child.pid for child in me.children(recursive=True)} - before)
    assert pids[0] == pids[1]
    assert len(pids[0]) >= 2
    assert not [pid for pid in pids[0] if _runs(pid)]


def _runs(pid: int) -> bool:
    import psutil

    if not psutil.pid_exists(pid):
        return False
    # What multiprocessing itself keeps for later is no worker.
    return "resource_tracker" not in " ".join(psutil.Process(pid).cmdline())


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from digseg import engine\n"
        "from digseg.settings import SegmentSettings\n"
        "with engine.Workers(SegmentSettings(workers=2)) as workers:\n"
        "    workers.address()\n"
        "print('went on')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert not done.stdout
    last = done.stderr.splitlines()[-1]
    assert "The workers could not be started" in last
    assert "__main__" in last


def test_no_workers_are_started_where_none_are_wanted() -> None:
    with engine.Workers(SegmentSettings()) as workers:
        workers.start()
        assert not workers.wanted
