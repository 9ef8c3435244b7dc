"""The scripts that the README points at run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio

from digseg import samples

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *_sample(name), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _sample(name: str) -> list[str]:
    return [str(samples.scene() if "satellite" in name else samples.volume())]


def test_satellite_scene(tmp_path: Path) -> None:
    told = run("satellite_scene.py", tmp_path)
    assert [line.split(":")[0] for line in told.splitlines()] == ["water", "trees", "crops"]
    with (
        rasterio.open(tmp_path / "land_cover.tif") as mask,
        rasterio.open(samples.scene()) as scene,
    ):
        assert mask.transform == scene.transform
        assert mask.crs == scene.crs
        assert set(np.unique(mask.read(1))) - {0, 1, 2, 3} <= {mask.nodata}


@pytest.mark.timeout(290)
def test_ct_volume(tmp_path: Path) -> None:
    told = run("ct_volume.py", tmp_path)
    assert told.startswith("liver: ")
    mask = nibabel.load(tmp_path / "organs.nii.gz")
    volume = nibabel.load(samples.volume())
    assert np.array_equal(mask.affine, volume.affine)
    assert mask.shape == volume.shape
    assert (np.asarray(mask.dataobj) == 1).sum() > 1000
