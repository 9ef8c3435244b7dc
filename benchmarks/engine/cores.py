"""What a second core is worth to the network alone, with no engine around it.

    python -m benchmarks.engine.cores [--seconds 20]

One process with one thread on one core computes tiles of 512 pixels for a while, then two such
processes on two cores at the same time, turn by turn. Two cores share caches, memory and, on many
machines, one core's arithmetic: twice as fast is not to be had everywhere, and no engine can win
back what is lost here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

_TURNS = 3


def tiles_per_second(core: int, seconds: float) -> float:
    """Tiles that this process computes in a second on one core."""
    from digseg.model.convnet import ConvNetModel, set_threads
    from digseg.prompts import Prompt

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    set_threads(1)
    model, prompts = ConvNetModel(2), [Prompt("one"), Prompt("two")]
    tile = np.random.default_rng(core).random((1, 3, 512, 512), dtype=np.float32)
    model(tile, prompts)
    done, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        model(tile, prompts)
        done += 1
    return done / spent


def together(processes: int, seconds: float) -> float:
    """Tiles a second of several processes at once, one on each core."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine.cores", "--core", str(core),
             "--seconds", str(seconds)],
            stdout=subprocess.PIPE, text=True, env=env,
        )
        for core in range(processes)
    ]  # fmt: skip
    return sum(float(process.communicate()[0]) for process in started)


def measure(seconds: float) -> dict[str, float]:
    """Medians of some turns: tiles a second with one process and with two, and the ratio."""
    turns = [(together(1, seconds), together(2, seconds)) for _ in range(_TURNS)]
    one, two = (statistics.median(column) for column in zip(*turns, strict=True))
    return {"one": one, "two": two, "times": statistics.median(b / a for a, b in turns)}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine.cores", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=20, help="of each turn")
    parser.add_argument("--core", type=int, default=None, help="measure this one alone")
    args = parser.parse_args()
    if args.core is not None:
        print(tiles_per_second(args.core, args.seconds))
        return 0
    print(json.dumps(measure(args.seconds)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
