"""The table of the engine's rows: what is there is not run again, what failed is told."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks.engine import cores, table


def test_rows_are_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []

    def call(words: Sequence[str], timeout: float, cores: int | None = None) -> Any:
        asked.append(tuple(words))
        if "benchmarks.engine.cores" in words:
            return json.dumps({"one": 3.0, "two": 5.1, "times": 1.7})
        if "65536" in words:
            return {"failed": "exit code 4"}
        if words[-2:] == ("--share", "0.4") and "256" in words:
            return {"failed": "exit code 5"}
        workers = int(words[words.index("--workers") + 1]) if "--workers" in words else 0
        assert cores == (workers or None)
        size = words[words.index("--size") + 1]
        told = {
            "seconds": 37.0 / max(1, workers) * (0.4 if "--in-one-piece" in words else 1),
            "model_seconds": 18.0 * (0.3 if "--in-one-piece" in words else 1),
            "rows": 4096,
            "columns": 4096,
            "start_seconds": 2.5 if workers > 1 else 0.0,
            "output_sha256": "a" * 64,
            "peak_bytes": 105e6 if size == "32768" else 100e6,
            "usual_bytes": 80e6,
            "planned_bytes": 200e6,
        }
        return "a word of a library\n" + json.dumps(told)

    monkeypatch.setattr(table, "_call", call)
    words = ["table", "--json", str(tmp_path / "rows.json")]
    words += ["--only", "workers", "nodata", "memory"]
    monkeypatch.setattr("sys.argv", words)
    assert table.main() == 1
    told = capsys.readouterr().out
    assert "| 2 | 18.5 | 2.5 | aaaaaaaaaaaa |" in told
    assert "Two are 2.00 times as fast as one." in told
    assert "The network alone, on two cores at once: 1.70 times." in told
    assert "| 32768, K=2 | 105 | 80 | 200 | 1.05 (median 1.00) x 8192, K=2 | 37 |" in told
    assert "| 65536, K=2 | exit code 4 | | | | |" in told
    assert "| 4096 x 4096 | 512 | one piece | 14.8 | 0.400 | 0.300 |" in told
    assert "| 4096 x 4096 | 256 | blocks | exit code 5 | | |" in told
    before = len(asked)
    table.main()
    assert len(asked) == before
    assert capsys.readouterr().out == told


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are bound on Linux only")
def test_a_row_that_does_not_end_well_is_told() -> None:
    assert table._call(("-c", "raise SystemExit(4)"), 60) == {"failed": "exit code 4"}
    assert table._call(("-c", "import time; time.sleep(60)"), 0.2) == {
        "failed": "not done after 0 s"
    }
    assert table._call(("-c", "print(1)"), 60) == "1\n"
    seen = table._call(("-c", "import os; print(len(os.sched_getaffinity(0)))"), 60, cores=1)
    assert seen == "1\n"


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="two cores are compared with one, and bound on Linux only",
)
def test_two_processes_are_measured_and_this_one_stays_unbound() -> None:
    before = os.sched_getaffinity(0)
    found = cores.together(2, 0.2)
    alone = cores.together(1, 0.2)
    assert alone > 0
    assert 0 < found < 20 * alone  # a loaded machine may say anything, but not that
    assert os.sched_getaffinity(0) == before
