"""Every row of `docs/performance.md` but those of volumes, in one run; goes on where it stopped.

    python -m benchmarks.engine.table --json rows.json                 # all of it
    python -m benchmarks.engine.table --json rows.json --only workers  # one part

Parts: ``engines`` (ours beside MONAI's and dask's), ``workers`` (one worker on one core, two on
two: what a further core with a worker adds), ``nodata`` (scenes of which 60 % hold no data, beside
full ones), ``memory`` (sparse scenes up to 65536 x 65536 under a limit). Each row is a process of
its own. Rows that are in the file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_OWN = ("-m", "digseg.cli.main", "benchmark", "engine", "--json")
_ENGINES = {
    "4096 K=2": ("--size", "4096", "--classes", "2"),
    "8192 K=2": (
        "--size", "8192", "--classes", "2", "--engines", "digseg", "monai-sliding-window",
    ),
    "4096 K=20": (
        "--size", "4096", "--classes", "20", "--engines", "digseg", "monai-sliding-window",
    ),
}  # fmt: skip
#: Tile and overlap, and how the 40 % that hold data lie.
_LATTICES = {"512": ("512", "64"), "256": ("256", "32")}
_NODATA = {
    "full": (),
    "one piece": ("--share", "0.4", "--in-one-piece"),
    "blocks": ("--share", "0.4"),
}
_CHEAP = ("--model", "cheap", "--memory", "2GiB")
_MEMORY = {
    "8192, K=2": (*_CHEAP, "--size", "8192", "--share", "0.05"),
    "512x200000, K=2": (*_CHEAP, "--size", "512x200000", "--share", "0.05"),
    "32768, K=2": (*_CHEAP, "--size", "32768", "--share", "0.05"),
    "65536, K=2": (*_CHEAP, "--size", "65536", "--share", "0.02"),
    **{
        f"4096, K={k}": (*_CHEAP, "--size", "4096", "--share", "0.1", "--classes", str(k))
        for k in (2, 20, 117)
    },
    **{
        f"2048, network, K={k}": ("--size", "2048", "--threads", "1", "--memory", "2GiB",
                                  "--classes", str(k))
        for k in (2, 20, 117)
    },
}  # fmt: skip
#: Each figure of these rows is also told as a multiple of another row's.
_TIMES = {
    "512x200000, K=2": "8192, K=2",
    "32768, K=2": "8192, K=2",
    "65536, K=2": "8192, K=2",
    "4096, K=20": "4096, K=2",
    "4096, K=117": "4096, K=2",
    "2048, network, K=20": "2048, network, K=2",
    "2048, network, K=117": "2048, network, K=2",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.table", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="rows are kept here")
    parser.add_argument("--only", nargs="+", default=list(_PARTS), choices=_PARTS)
    parser.add_argument("--repeat", type=int, default=1, help="of the rows with times")
    parser.add_argument("--worker-size", type=int, default=8192)
    parser.add_argument("--nodata-size", type=int, default=8192)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one row")
    args = parser.parse_args()
    rows: dict[str, Any] = json.loads(args.json.read_text()) if args.json.exists() else {}
    with tempfile.TemporaryDirectory(prefix="digseg-table-") as made:
        for part in args.only:
            for name, told in _PARTS[part](args, Path(made), rows):
                rows[name] = told
                args.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(
        f"{os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}, python -m benchmarks.engine.table"
    )
    _print_engines(rows)
    _print_workers(rows)
    _print_nodata(rows)
    _print_memory(rows)
    return 1 if any("failed" in row for row in rows.values() if isinstance(row, dict)) else 0


def _engines(args: argparse.Namespace, folder: Path, rows: dict[str, Any]) -> Any:
    for name, words in _ENGINES.items():
        if name in rows:
            continue
        kept = folder / "engines.json"
        told = ("--json", str(kept), "--repeat", str(args.repeat))
        table = _call(("-m", "benchmarks.engine", *words, *told), args.timeout * args.repeat * 4)
        if isinstance(table, dict):
            yield name, table
            continue
        yield name, {"table": table, "runs": json.loads(kept.read_text())}


def _workers(args: argparse.Namespace, folder: Path, rows: dict[str, Any]) -> Any:
    """Turn by turn, so that whatever else the machine does meets both."""
    if "cores" not in rows:
        yield "cores", _figures(_call(("-m", "benchmarks.engine.cores"), args.timeout))
    for turn in range(args.repeat):
        for workers in (1, 2):
            name = f"workers {workers} #{turn + 1}"
            if name in rows:
                continue
            words = (*_OWN, "--threads", "1", "--size", str(args.worker_size))
            words += ("--workers", str(workers), "--folder", str(folder))
            yield name, _figures(_call(words, args.timeout, cores=workers))


def _nodata(args: argparse.Namespace, folder: Path, rows: dict[str, Any]) -> Any:
    for tile, (side, overlap) in _LATTICES.items():
        for holes, words in _NODATA.items():
            name = f"nodata, tile {tile}, {holes}"
            if name in rows:
                continue
            lattice = ("--threads", "1", "--tile", side, "--overlap", overlap)
            scene = ("--size", str(args.nodata_size), "--folder", str(folder), *words)
            yield name, _figures(_call((*_OWN, *lattice, *scene), args.timeout))


def _memory(args: argparse.Namespace, folder: Path, rows: dict[str, Any]) -> Any:
    for name, words in _MEMORY.items():
        if name not in rows:
            yield name, _figures(_call((*_OWN, *words), args.timeout))


_PARTS = {"engines": _engines, "workers": _workers, "nodata": _nodata, "memory": _memory}


def _call(words: Sequence[str], timeout: float, cores: int | None = None) -> Any:
    """Standard output of a process; ``{"failed": why}`` where it did not end well."""
    print("#", " ".join(words), file=sys.stderr, flush=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def bind() -> None:
        if cores is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    try:
        done = subprocess.run(
            [sys.executable, *words], env=env, timeout=timeout, check=True,
            stdout=subprocess.PIPE, text=True, preexec_fn=bind,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {timeout:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": f"exit code {error.returncode}"}
    return done.stdout


def _figures(told: Any) -> dict[str, Any]:
    if isinstance(told, dict):
        return told
    figures: dict[str, Any] = json.loads(told[told.index("{") :])
    return figures


def _print_engines(rows: dict[str, Any]) -> None:
    for name in _ENGINES:
        if name in rows:
            print("\n" + rows[name].get("table", rows[name].get("failed")).strip())


def _print_workers(rows: dict[str, Any]) -> None:
    found = {n: [r for name, r in rows.items() if name.startswith(f"workers {n} ")] for n in (1, 2)}
    found = {n: [r for r in some if "failed" not in r] for n, some in found.items()}
    if not all(found.values()):
        return
    print("\n| workers, one core and one thread each | seconds | start, before | labels (sha256) |")
    print("|---|---|---|---|")
    middle = {n: sorted(r["seconds"] for r in some)[len(some) // 2] for n, some in found.items()}
    for n, some in found.items():
        start = max(r["start_seconds"] for r in some)
        print(f"| {n} | {middle[n]:.1f} | {start:.1f} | {some[0]['output_sha256'][:12]} |")
    print(f"\nTwo are {middle[1] / middle[2]:.2f} times as fast as one.")
    if "times" in rows.get("cores", {}):
        print(f"The network alone, on two cores at once: {rows['cores']['times']:.2f} times.")


def _print_nodata(rows: dict[str, Any]) -> None:
    found = {name: rows.get(f"nodata, tile {name}, full", {"failed": ""}) for name in _LATTICES}
    if any("failed" in row for row in found.values()):
        return
    print(
        "\n| scene | tile | without data | seconds | of the full time | of its time in the model |"
    )
    print("|---|---|---|---|---|---|")
    for tile, full in found.items():
        for holes in _NODATA:
            row = rows.get(f"nodata, tile {tile}, {holes}", {"failed": "not run"})
            head = f"| {full['rows']} x {full['columns']} | {tile} | {holes} "
            if "failed" in row:
                print(f"{head}| {row['failed']} | | |")
                continue
            times = [row[key] / full[key] for key in ("seconds", "model_seconds")]
            print(f"{head}| {row['seconds']:.1f} | {times[0]:.3f} | {times[1]:.3f} |")


def _print_memory(rows: dict[str, Any]) -> None:
    if not any(name in rows for name in _MEMORY):
        return
    print("\n| scene | peak, MB | median, MB | plan, MB | times | seconds |")
    print("|---|---|---|---|---|---|")
    for name in _MEMORY:
        row = rows.get(name)
        if row is None or "failed" in row:
            if row is not None:
                print(f"| {name} | {row['failed']} | | | | |")
            continue
        other = rows.get(_TIMES.get(name, ""), {})
        times = ""
        if "peak_bytes" in other:
            ratios = [row[key] / other[key] for key in ("peak_bytes", "usual_bytes")]
            times = f"{ratios[0]:.2f} (median {ratios[1]:.2f}) x {_TIMES[name]}"
        keys = ("peak_bytes", "usual_bytes", "planned_bytes")
        cells = " | ".join(f"{row[key] / 1e6:.0f}" for key in keys)
        print(f"| {name} | {cells} | {times} | {row['seconds']:.0f} |")


if __name__ == "__main__":
    raise SystemExit(main())
