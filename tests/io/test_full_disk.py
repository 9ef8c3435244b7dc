"""A disk that gets full: every writer says so in one sentence and leaves nothing behind.

The kernel stands in for the disk: in a child process no file may grow beyond a limit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_CHILD = """
import json, resource, signal, sys
from pathlib import Path
import numpy as np
from tests.io.dicom_files import ct_series
from digseg import io
from digseg.errors import DigsegError
from digseg.grid import Grid
from digseg.io import statistics, vector
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask

folder, limits = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
classes = ClassTable.of(PromptSet.parse(["water", "road"]))
rng = np.random.default_rng(0)
plane = rng.integers(0, 3, (300, 320)).astype(np.uint8)
grid = Grid.from_transform(plane.shape, (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), crs="EPSG:32633")
raster = Mask(plane, grid, classes)
space = Grid.of((40, 60, 50), np.diag([-1.0, -1, 2, 1]), space="patient", unit="millimetre")
volume = Mask(rng.integers(0, 3, space.shape).astype(np.uint8), space, classes)
ct_series(folder / "ct", 60)
scan = io.read(folder / "ct")
organs = Mask(rng.integers(0, 3, scan.shape).astype(np.uint8), scan.grid, classes)
rows = [{"id": i, "name": "x" * 90} for i in range(900)]
jobs = {}
for suffix in (".tif", ".png", ".ome.zarr"):
    jobs["mask" + suffix] = lambda path: io.write_mask(raster, path)
for suffix in (".nii", ".nii.gz", ".mha", ".nrrd"):
    jobs["mask" + suffix] = lambda path: io.write_mask(volume, path)
jobs["mask.dcm"] = lambda path: io.write_mask(organs, path, source=scan)
for suffix in (".gpkg", ".geojson", ".parquet"):
    jobs["regions" + suffix] = lambda path: vector.write_polygons(raster, path)
jobs["table.csv"] = lambda path: statistics.write_csv(rows, path)
(folder / "good").mkdir()  # without a limit all goes well
for name, write in jobs.items():
    write(folder / "good" / name)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for name, write in jobs.items():
        out = folder / f"{limit}-{name}"
        out.mkdir()
        try:
            write(out / name)
            code, text = 0, ""
        except DigsegError as error:
            code, text = error.exit_code, str(error)
        print(json.dumps([name, code, text, sorted(p.name for p in out.iterdir())]), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are the kernel's on POSIX")
def test_no_writer_leaves_half_a_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHILD, str(tmp_path), "4096", "20000"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2 * 12
    for name, code, text, left in rows:
        assert code == 4, (name, text)
        assert text.startswith("The disk is full: ")
        assert text.endswith(f"{name} was not written; make room first.")
        assert "\n" not in text
        assert left == []
