"""Images that SimpleITK and nibabel hold in memory: the same volume as from their file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from tests.models import Brightness

import digseg
from digseg import io
from digseg.errors import UnsupportedInputError
from digseg.io.held import volume_of
from digseg.raster import Volume
from digseg.run.arrays import to_image

#: Turned, left-handed, with unlike steps.
AFFINE = np.array(
    [[-0.8, 0.1, 0.0, 31.5], [0.1, 0.8, 0.3, -20.25], [0.0, -0.15, 2.5, 7.0], [0, 0, 0, 1]]
)
AFFINE[:3, :3] = np.linalg.qr(AFFINE[:3, :3])[0] * [0.8, 0.7, 2.5]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A CT with air, 12 x 40 x 48 voxels."""
    voxels = np.random.default_rng(0).integers(-1000, 400, (48, 40, 12)).astype(np.int16)
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return path


@pytest.mark.parametrize("library", ["SimpleITK", "nibabel"])
def test_a_volume_in_memory_is_that_of_its_file(file: Path, library: str, tmp_path: Path) -> None:
    held = SimpleITK.ReadImage(str(file)) if library == "SimpleITK" else nib.load(file)
    volume, read = volume_of(held), io.read(file)
    assert isinstance(volume, Volume)
    assert isinstance(read, Volume)
    np.testing.assert_array_equal(volume.data[:], read.data[:])
    np.testing.assert_allclose(volume.grid.matrix, read.grid.matrix, atol=1e-5)
    assert (volume.modality, read.modality) == ("CT", "CT")
    out = tmp_path / "mask.nii.gz"
    with digseg.segment(held, "bright", output=out, model=Brightness()) as found:
        written = nib.Nifti1Image.from_filename(out)
        assert np.array_equal(found.labels, np.asarray(written.dataobj).T)
        assert 0 < found.labels.mean() < 1
        with digseg.segment(file, "bright", model=Brightness()) as same:
            np.testing.assert_array_equal(same.labels, found.labels)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)


def test_what_is_no_volume_is_refused() -> None:
    several = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 2), np.float32), isVector=True)
    flat = SimpleITK.GetImageFromArray(np.zeros((5, 6), np.float32))
    moving = nib.Nifti1Image(np.zeros((6, 5, 4, 3), np.float32), np.eye(4))
    for image, words in ((several, "2 values"), (flat, "2 axes"), (moving, "4 axes")):
        with pytest.raises(UnsupportedInputError, match=words):
            to_image(image)


def test_an_array_of_hounsfield_units_is_a_ct() -> None:
    rng = np.random.default_rng(0)
    scan = to_image(rng.integers(-1000, 400, (20, 30, 40)).astype(np.int16))
    assert isinstance(scan, Volume)
    assert scan.modality == "CT"
    stack = to_image(rng.integers(0, 255, (20, 30, 40)).astype(np.uint8))
    assert isinstance(stack, Volume)
    assert stack.modality == "other"
