"""A DICOM series from the command line to DICOM-SEG and NIfTI, read back by other programs."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK
from tests.io.dicom_files import COLUMN, ORIGIN, ROW, SPACING, ct_slice
from tests.models import Brightness

from digseg.cli.main import main
from digseg.run import execute as running
from digseg.types import AnyArray

#: Voxels at or above are "green", those below "dark": the middle of the soft-tissue window.
MIDDLE = 40
COUNT, SHAPE, STEP = 6, (40, 36), 2.5


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An oblique CT of noise, its files in no order, among them another series."""
    monkeypatch.setattr(running, "load_model", lambda settings: Brightness())
    folder = tmp_path / "ct"
    folder.mkdir()
    rng = np.random.default_rng(11)
    for index in range(COUNT):
        units = rng.choice([-150, -40, 10, 70, 120, 230], size=SHAPE)
        for name, number, pixels in (("scan", 3, units + 1024), ("scout", 4, units * 0)):
            dataset = ct_slice(
                pixels.astype(np.uint16), index, step=(0.0, 0.0, STEP), series=name, number=number
            )
            dataset.save_as(folder / f"{(index * 5) % COUNT}-{name}", enforce_file_format=True)
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def by_simpleitk(folder: Path) -> tuple[AnyArray, SimpleITK.Image]:
    """Hounsfield units ``[z, y, x]`` of the scan, and the image with its place."""
    reader = SimpleITK.ImageSeriesReader()
    for uid in reader.GetGDCMSeriesIDs(str(folder)):
        names = reader.GetGDCMSeriesFileNames(str(folder), uid)
        if names[0].endswith("scan"):
            image = SimpleITK.ReadImage(names)
            return SimpleITK.GetArrayFromImage(image), image
    raise AssertionError("SimpleITK finds no such series")


def test_series_to_segmentation_and_nifti(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seg, nifti, store = tmp_path / "out.dcm", tmp_path / "out.nii.gz", tmp_path / "p.zarr"
    words = ["segment", series, "-p", "green", "-p", "dark", "-o", seg, "--probabilities", store]
    words += ["--spacing", "0", "--no-context", "--tile", "32", "--picture", tmp_path / "a.png"]
    assert run(*words) == 2
    assert "2 series, choose one" in capsys.readouterr().err
    assert run(*words, "--series", "3", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert run("relabel", store, "-o", nifti) == 0
    for output in (seg, nifti):
        assert run("verify", series, output, "--series", "3") == 0

    units, scan = by_simpleitk(series)
    expected = np.where(units >= MIDDLE, 1, 2)
    # SimpleITK: the labels lie where it puts the scan.
    labels = SimpleITK.ReadImage(str(nifti))
    assert labels.GetSize() == scan.GetSize()
    np.testing.assert_allclose(labels.GetOrigin(), scan.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(labels.GetDirection(), scan.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(labels.GetSpacing(), scan.GetSpacing(), atol=1e-6)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(labels), expected)
    # nibabel: the affine that the headers of the series give.
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = np.multiply(ROW, SPACING[1]), np.multiply(COLUMN, SPACING[0])
    lps[:3, 2], lps[:3, 3] = (0, 0, STEP), ORIGIN
    image = nibabel.load(nifti)
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, expected)
    # highdicom: every voxel of its volume, by its place in the patient.
    segmentation = highdicom.seg.segread(seg)
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["green", "dark"]
    volume = segmentation.get_volume(combine_segments=True)
    places = np.argwhere(np.ones(volume.array.shape, bool))
    world = volume.map_indices_to_reference(places.astype(float))
    i, j, k = np.rint((world - lps[:3, 3]) @ np.linalg.inv(lps[:3, :3]).T).astype(int).T
    np.testing.assert_array_equal(volume.array[tuple(places.T)], expected[k, j, i])

    rows = {row["name"]: row for row in told["labels"]}
    voxel = SPACING[0] * SPACING[1] * STEP
    assert rows["green"]["pixels"] == int((expected == 1).sum())
    assert rows["green"]["volume_mm3"] == pytest.approx(rows["green"]["pixels"] * voxel)
    assert rows["green"]["volume_ml"] == pytest.approx(rows["green"]["volume_mm3"] / 1000)
    assert rows["green"]["mean_value"] == pytest.approx(units[expected == 1].mean())
    assert rows["green"]["value_unit"] == "HU"
    assert (tmp_path / "a.png").stat().st_size > 0
