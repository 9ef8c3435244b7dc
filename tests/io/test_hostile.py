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
import contextlib, io, json, sys, time
from digseg.cli.main import main
command = json.loads(sys.argv[1])
def peak():
    # Not ru_maxrss: that of a child begins with what its parent held.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
for path in sys.argv[2:]:
    start = time.process_time()
    out, text = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(text):
        code = main([path if word == "FILE" else word for word in command])
    took, most = time.process_time() - start, peak() // 1024
    print(json.dumps([path, code, out.getvalue(), text.getvalue(), took, most]), flush=True)
"""

#: What people do with a file; the output is named in a folder of its own.
_COMMANDS = {
    "info": ["info", "FILE"],
    "info --json": ["info", "FILE", "--json"],
    "segment": ["segment", "FILE", "-p", "water", "-o", "OUT/mask.tif"],
    "verify": ["verify", "FILE", "FILE"],
}


@pytest.mark.parametrize("how", _COMMANDS)
def test_all_are_refused_in_time_and_memory(tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    (tmp_path / "in").mkdir()
    out.mkdir()
    paths = make_all(tmp_path / "in")
    if how in ("segment", "verify"):
        # It opens, and only its pixels are missing: what that means for a run is tested below.
        paths = [path for path in paths if path.name != "no_source.vrt"]
    command = [word.replace("OUT", str(out)) for word in _COMMANDS[how]]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHILD, json.dumps(command), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.stderr[-2000:], rows[-1:])
    assert [row[0] for row in rows] == [str(path) for path in paths]
    # The child opens them one after the other, so its peak is that of the worst of them.
    wrong = [row for row in rows if row[1] != 3 or row[4] > SECONDS or row[5] > MEGABYTES]
    assert wrong == []
    for _, _, answer, text, _, _ in rows:
        assert answer == ""
        assert text.endswith(".\n")
        assert text.count("\n") == 1
        assert "Traceback" not in text
    assert list(out.iterdir()) == []


def test_a_mosaic_of_files_that_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It opens, but not one tile of it can be read: refused, and nothing stays of the run."""
    make_all(tmp_path)
    before = sorted(tmp_path.iterdir())
    words = ["segment", str(tmp_path / "no_source.vrt"), "-p", "water", "-q"]
    assert main([*words, "-o", str(tmp_path / "mask.tif")]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "missing.tif" in said.err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before


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
