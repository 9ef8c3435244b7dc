"""The engine beside MONAI's and dask's: one file, one network, one table.

    python -m benchmarks engine --size 4096 --classes 2 --repeat 3

Each run is a process of its own with one thread for the network, reading the same deflate GeoTIFF
and writing labels (and, where the engine keeps them, probabilities). The engines take turns, A B C
A B C, and the median of the repeats is told: machines are noisy, so compare ratios within a run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.engine.peers import PEERS

_ROWS = ("digseg", *PEERS)


def main() -> int:
    args = _arguments()
    if args.child:
        from benchmarks.engine.peers import run_peer

        print(json.dumps(run_peer(args.child, Path(args.scene), Path(args.out), args.classes)))
        return 0
    with tempfile.TemporaryDirectory(prefix="digseg-engines-") as made:
        folder = Path(made)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in args.engines}
        for turn in range(args.repeat):
            for name in args.engines:
                found = _run(name, folder, args)
                results[name].append(found)
                told = found.get("failed") or f"{found['seconds']:.1f} s"
                print(f"# {turn + 1}/{args.repeat} {name}: {told}", file=sys.stderr)
        _print_table(results, args)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks engine", description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--engines", nargs="+", default=list(_ROWS), choices=_ROWS)
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run")
    parser.add_argument("--json", type=Path, default=None, help="keep all figures in this file")
    for name in ("--child", "--scene", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    scene = folder / f"scene-{args.size}x{args.size}-1.tif"
    if not scene.exists():
        from digseg.io.synthetic import write_scene

        write_scene(scene, (args.size, args.size))
    words = ["-m", "benchmarks.engine", "--child", name, "--classes", str(args.classes)]
    words += ["--scene", str(scene), "--out", str(folder)]
    if name == "digseg":
        words = ["-m", "digseg.cli.main", "benchmark", "engine", "--json", "--threads", "1"]
        words += ["--size", str(args.size), "--classes", str(args.classes)]
        words += ["--folder", str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    try:
        done = subprocess.run(
            [sys.executable, *words], env=env, timeout=args.timeout, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {args.timeout:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": (error.stderr.strip().splitlines() or ["no message"])[-1][:160]}
    figures: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return figures


def _print_table(results: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    print(f"{args.size} x {args.size}, K={args.classes}, {os.cpu_count()} cores, {now}\n")
    keys = (
        ("fwd_over_wall", "fwd/wall", "{:.3f}"),
        ("bytes_per_pixel", "B/px", "{:.1f}"),
        ("redundancy", "redundancy", "{:.3f}"),
        ("megapixels_per_second", "Mpx/s", "{:.3f}"),
        ("write_amplification", "written/kept", "{:.2f}"),
    )
    print("| engine | " + " | ".join(title for _, title, _ in keys) + " | labels (sha256) |")
    print("|---" * (len(keys) + 2) + "|")
    for name, runs in results.items():
        good = [run for run in runs if "failed" not in run]
        if not good:
            print(f"| {name} | {runs[-1]['failed']} |" + " |" * len(keys))
            continue
        cells = [form.format(statistics.median(run[key] for run in good)) for key, _, form in keys]
        print(f"| {name} | " + " | ".join(cells) + f" | {good[0]['output_sha256'][:12]} |")
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    raise SystemExit(main())
