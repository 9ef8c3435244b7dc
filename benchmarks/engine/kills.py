"""Kill a run with SIGKILL at random moments, resume, and compare the bytes.

    python -m benchmarks.engine.kills --kills 30

The scene is small and the network slowed down, so that kills fall into reading, computing,
writing of shards, of lent tiles and of the journal. After each kill the run is resumed and killed
again; when it has come to its end the store is compared with one of an uninterrupted run, and a
new run begins until all kills are spent.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from digseg import engine
from digseg.prompts import Prompt, PromptSet
from digseg.settings import SegmentSettings
from digseg.types import BoolArray, Float32Array, Window

SIDE, DELAY = 700, 0.01
SETTINGS = SegmentSettings(tile=96, overlap=24)


class Scene:
    """Waves, computed where they are asked for."""

    shape = (1, SIDE, SIDE)
    identity = f"waves {SIDE}"

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        top, bottom, left, right = window
        y = np.arange(top, bottom, dtype=np.float32)[:, None] / 37
        x = np.arange(left, right, dtype=np.float32)[None, :] / 23
        band = (2 + np.sin(y * x / 5) + np.cos(x + y)) / 4
        pixels = np.stack([band, 1 - band, band * band]).astype(np.float32)
        return pixels, np.ones(pixels.shape[1:], dtype=np.bool_)


class Slow:
    """Its own channels, after a pause."""

    multiple = 1
    identity = "slow"

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.calls = 0

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        self.calls += 1
        time.sleep(self.delay)
        return np.stack([tiles[:, index % 3] for index in range(len(prompts))], axis=1)


def one_run(store: Path, delay: float) -> engine.EngineResult:
    """Start or resume; a store without a journal's header is no run yet."""
    resume = (store / ".digseg" / "journal").exists()
    prompts = PromptSet.parse(["a", "b"])
    plan = engine.Plan.make(Scene.shape, 2, SETTINGS, block=(1, 128, 128))
    return engine.segment(
        Scene(), Slow(delay), prompts, SETTINGS, store,
        resume=resume, overwrite=not resume, plan=plan,
    )  # fmt: skip


def digest(store: Path) -> str:
    found = engine.ProbabilityStore.open(store)
    arrays = [*found.levels, found.coverage]
    return hashlib.sha256(b"".join(np.asarray(a[:]).tobytes() for a in arrays)).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        one_run(args.child, DELAY)
        return 0
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="digseg-kills-") as made:
        truth_path, path = Path(made) / "truth.zarr", Path(made) / "killed.zarr"
        one_run(truth_path, 0.0)
        truth = digest(truth_path)
        kills = runs = wrong = 0
        while kills < args.kills or path.exists():
            killed = kills < args.kills and _killed(path, chance)
            kills += killed
            if not killed:
                result = one_run(path, 0.0)  # the end of this run, or of what was left of it
                runs += 1
                wrong += bool(digest(path) != truth or result.failed)
                shutil.rmtree(path)
    print(f"{kills} kills over {runs} runs: {wrong} results differ from the uninterrupted run")
    return 1 if wrong else 0


def _killed(path: Path, chance: random.Random) -> bool:
    """Run a child and kill it after a random time; False when it came to its end before."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.engine.kills", "--child", str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    journal = path / ".digseg" / "journal"
    before = journal.stat().st_size if journal.exists() else 0
    while child.poll() is None:
        if (journal.stat().st_size if journal.exists() else 0) != before:
            break
        time.sleep(0.002)
    try:
        child.wait(timeout=chance.random() * 1.5)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


if __name__ == "__main__":
    raise SystemExit(main())
