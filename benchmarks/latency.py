"""Seconds for one tile of 512 x 512 with four prompts on two threads: the goal is one second.

    python -m benchmarks latency [--model NAME|DIR] [--repeat 9] [--profile]

A made-up picture; nothing is read or written while the clock runs. Median and fastest of
``--repeat`` runs, in all and by part (the picture once, then the prompts), with CPU seconds beside
wall seconds, since a busy machine stretches the latter. ``--profile`` prints the modules that cost
most on one thread, by their own CPU time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks._shared import machine, write_json

from digseg.model import load
from digseg.model.registry import DEFAULT
from digseg.prompts import Prompt

PROMPTS = ("water", "forest", "building", "road")


def tile(size: int) -> np.ndarray:
    """Pixels ``float32 [1, 3, size, size]`` in [0, 1]: smooth hills with a little noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    hills = [np.sin(7 * x + k) * np.cos(5 * y - k) / 3 + 0.5 for k in range(3)]
    noisy = np.stack(hills) + rng.normal(0, 0.03, (3, size, size))
    return np.clip(noisy, 0, 1).astype(np.float32)[None]


def timed(call: Callable[[], object], repeat: int) -> dict[str, float]:
    """Median and fastest wall seconds, and median CPU seconds, of some calls after one to warm."""
    call()
    wall, busy = [], []
    for _ in range(repeat):
        began, before = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - began)
        busy.append(time.process_time() - before)
    return {
        "median": float(np.median(wall)),
        "fastest": float(np.min(wall)),
        "cpu": float(np.median(busy)),
    }


class Costs:
    """CPU seconds that each module of a pipeline spends itself, its children's left out.

    CPU time of the calling thread, so other processes don't disturb it; one thread of torch only.
    """

    def __init__(self, pipeline: Any) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self._open: list[float] = []
        parts = {k: v for k, v in pipeline.components.items() if isinstance(v, torch.nn.Module)}
        self._hooks: list[Any] = []
        for part, network in parts.items():
            for path, module in network.named_modules():
                name = f"{part}.{path}" if path else part
                self._hooks.append(module.register_forward_pre_hook(self._enter))
                self._hooks.append(module.register_forward_hook(partial(self._leave, name)))

    def _enter(self, module: torch.nn.Module, given: object) -> None:
        self._open.append(0.0)
        self._open.append(time.thread_time())

    def _leave(self, name: str, module: torch.nn.Module, given: object, made: object) -> None:
        spent = time.thread_time() - self._open.pop()
        self.own[f"{name} ({type(module).__name__})"] += spent - self._open.pop()
        if self._open:
            self._open[-2] += spent  # its caller's children

    def close(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()


def profile(model: Any, pixels: np.ndarray, prompts: list[Prompt], repeat: int, rows: int) -> str:
    """A Markdown table of the modules that cost most, in CPU milliseconds of one call."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model(pixels, prompts)
    costs = Costs(model.pipeline)
    began = time.thread_time()
    for _ in range(repeat):
        model(pixels, prompts)
    whole = time.thread_time() - began
    costs.close()
    torch.set_num_threads(threads)
    order = sorted(costs.own.items(), key=lambda item: -item[1])[:rows]
    lines = ["| module | ms | share |", "| --- | --- | --- |"]
    for name, spent in order:
        lines.append(f"| {name} | {1e3 * spent / repeat:.1f} | {spent / whole:.0%} |")
    outside = whole - sum(costs.own.values())
    lines.append(f"| outside of modules | {1e3 * outside / repeat:.1f} | {outside / whole:.0%} |")
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="latency", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default=DEFAULT, metavar="NAME|DIR")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--prompts", nargs="*", default=list(PROMPTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--profile", action="store_true", help="what costs most, on one thread")
    parser.add_argument("--rows", type=int, default=25, help="of the profile")
    parser.add_argument("--json", type=Path, default=None, metavar="OUT")
    args = parser.parse_args()
    model = load(args.model, device="cpu", threads=args.threads)
    pixels, prompts = tile(args.size), [Prompt(word) for word in args.prompts]
    encoded = model.encode(pixels)
    told = {
        "tile and prompts": timed(lambda: model(pixels, prompts), args.repeat),
        "picture, once": timed(lambda: model.encode(pixels), args.repeat),
        "prompts": timed(lambda: model.decode(encoded, prompts), args.repeat),
    }
    load_now = os.getloadavg()[0]
    print(
        f"{args.model}: {args.size} x {args.size}, {len(prompts)} prompts, {args.threads} threads "
        f"({machine()}, load {load_now:.1f})\n"
    )
    print("| part | median, s | fastest, s | CPU, s |\n| --- | --- | --- | --- |")
    for name, row in told.items():
        print(f"| {name} | {row['median']:.3f} | {row['fastest']:.3f} | {row['cpu']:.3f} |")
    if args.json is not None:
        write_json(args.json, {"seconds": told, "load": load_now, "machine": machine()})
    if args.profile:
        print(f"\n{profile(model, pixels, prompts, args.repeat, args.rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
