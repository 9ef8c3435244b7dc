"""Runs of several passes, killed outright in each of them: going on gives the same to the bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.run.child import WAYS, run

from digseg.run.passes import parts_path
from digseg.types import AnyArray

ROOT = Path(__file__).parents[2]
#: Stores of the passes, in the order in which they are filled; the last is the run's own.
STORES = {
    "propagate": ("plane.first", ""),
    "zyx": ("z", "y", "x", ""),
    "both": ("z.first", "z", "y.first", "y", "x.first", "x", ""),
}


def bytes_of(store: Path) -> tuple[AnyArray, AnyArray]:
    from digseg.engine import ProbabilityStore

    opened = ProbabilityStore.open(store)
    return np.asarray(opened.probabilities[...]), np.asarray(opened.coverage[...])


def kill_when(there: Callable[[], bool], words: list[str]) -> int:
    """Start a run and kill it as soon as ``there`` is true; its exit status."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.run.child", *words],
        cwd=ROOT,
        env={**os.environ, "DIGSEG_TEST_DELAY": "0.03"},
    )
    begin = time.monotonic()
    while child.poll() is None and not there() and time.monotonic() - begin < 120:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    return child.wait()


@pytest.mark.parametrize("way", list(WAYS))
def test_killed_in_each_pass_the_result_is_bit_identical(
    way: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    volume, store = tmp_path / "v.npy", tmp_path / "killed.zarr"
    np.save(volume, rng.random((40, 36, 34), dtype=np.float32))
    run(volume, tmp_path / "whole.zarr", way).close()
    expected = bytes_of(tmp_path / "whole.zarr")

    def lines(name: str) -> int:
        folder = parts_path(store) / f"{name}.zarr" if name else store
        journal = folder / ".digseg" / "journal"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    words = [str(volume), str(store), way]
    statuses = [kill_when(lambda name=name: lines(name) >= 2, words) for name in STORES[way]]
    # A run that was at its end already when the signal came is no harm, but most were not.
    assert statuses.count(-signal.SIGKILL) >= len(statuses) - 1
    run(volume, store, way).close()
    for found, wanted in zip(bytes_of(store), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert not parts_path(store).exists()


@pytest.mark.parametrize("left", ["zarr.json", "store", "coverage"])
@pytest.mark.parametrize("name", ["y", ""])
def test_killed_while_a_store_is_laid_out(
    name: str, left: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Between a pass's folder and the first line of its journal: nothing of the others is lost."""
    volume, store = tmp_path / "v.npy", tmp_path / "killed.zarr"
    np.save(volume, rng.random((20, 18, 17), dtype=np.float32))
    run(volume, tmp_path / "whole.zarr", "zyx").close()
    folder = parts_path(store) / f"{name}.zarr" if name else store
    kept = parts_path(store) / "kept.zarr"
    shutil.copytree(tmp_path / "whole.zarr", kept)  # stands for the passes before
    shutil.copytree(tmp_path / "whole.zarr", folder, ignore=shutil.ignore_patterns("c", "journal"))
    if left != "store":
        (folder / "coverage" / "zarr.json").unlink()
    if left == "zarr.json":
        shutil.rmtree(folder / "0")
        (folder / "zarr.json").write_text('{"attributes": {}, "node_type": "group"}')
    run(volume, store, "zyx").close()
    for found, wanted in zip(bytes_of(store), bytes_of(tmp_path / "whole.zarr"), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["notes.txt", "0/c/0/0/0/0"])
def test_what_is_no_unbegun_run_is_never_replaced(
    name: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    from digseg.errors import DigsegError

    volume, store = tmp_path / "v.npy", tmp_path / "mine.zarr"
    np.save(volume, rng.random((6, 18, 17), dtype=np.float32))
    file = store / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    (store / "zarr.json").write_text('{"attributes": {}, "node_type": "group"}')
    with pytest.raises(DigsegError):
        run(volume, store, "zyx")
    assert file.read_text() == "mine"
