"""Damaged and lying files: refused in one sentence, quickly, in little memory, without a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.io.hostile import make_all, tiff_header

from digseg.cli.main import main

# What one refusal may take, issue by issue of the machine's load: the time is processor time.
SECONDS = 5.0
MEGABYTES = 500

_CHILD = """
import json, sys, time
from digseg import io
from digseg.errors import DigsegError
def peak():
    # Not ru_maxrss: that of a child begins with what its parent held.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
for path in sys.argv[1:]:
    start = time.process_time()
    try:
        io.info(path)
        code, text = 0, ""
    except DigsegError as error:
        code, text = error.exit_code, str(error)
    most = peak() // 1024
    print(json.dumps([path, code, text, time.process_time() - start, most]), flush=True)
"""


def test_all_are_refused_in_time_and_memory(tmp_path: Path) -> None:
    paths = make_all(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHILD, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.stderr[-2000:], rows[-1:])
    assert [row[0] for row in rows] == [str(path) for path in paths]
    # The child opens them one after the other, so its peak is that of the worst of them.
    wrong = [row for row in rows if row[1] != 3 or row[3] > SECONDS or row[4] > MEGABYTES]
    assert wrong == []
    for _, _, text, _, _ in rows:
        assert text.endswith(".")
        assert "\n" not in text
        assert "Traceback" not in text


def test_nothing_left_the_archives(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for path in make_all(inner):
        if path.name.startswith("leaving"):
            assert main(["info", str(path)]) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b"}


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_command_says_one_sentence(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tera.tif"
    path.write_bytes(tiff_header(10**6, 10**6))
    assert main(["info", str(path), *flags]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert "claims 1000000 x 1000000 pixels" in said.err


def test_unreadable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    path = tmp_path / "secret.tif"
    path.write_bytes(tiff_header(10, 10))
    path.chmod(0)
    assert main(["info", str(path)]) == 3
    assert "may not be read" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothing.tif", "a\0b.tif", "", "x" * 5000 + ".tif"])
def test_paths_that_are_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", name]) == 3
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_sparse_file_is_no_liar(tmp_path: Path) -> None:
    """A gigapixel GeoTIFF that is mostly empty is honest work, not an attack."""
    import rasterio

    from digseg import io

    path = tmp_path / "sparse.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=60_000,
        height=50_000,
        count=3,
        dtype="uint8",
        tiled=True,
        compress="deflate",
        SPARSE_OK=True,
        transform=rasterio.Affine(1, 0, 5, 0, -1, 7),
    ):
        pass
    assert io.info(path)["shape"] == [3, 50_000, 60_000]
    assert not io.read(path).data[:, 49_990:, 59_990:].any()
