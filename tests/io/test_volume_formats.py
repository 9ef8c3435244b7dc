"""NIfTI, Analyze, MetaImage, NRRD and DICOM under the conformance suite."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from tests.io.conformance import ValidateReader, ValidateWriter
from tests.io.dicom_files import ct_slice

from digseg.grid import Grid
from digseg.types import AnyArray

SHAPE = (7, 9, 11)  # z, y, x

#: Oblique, left-handed, with steps that float32 holds: NIfTI-1 keeps no more.
AFFINE = np.array(
    [[-0.75, 0.5, 0.25, 12.5], [0.5, 1.5, 0.125, -40.25], [0.25, -0.75, 3.0, 7.0], [0, 0, 0, 1]]
)


def pattern(dtype: str) -> AnyArray:
    count = int(np.prod(SHAPE))
    return (np.arange(count) * 7919 % 30011 - 1024).astype(dtype).reshape(SHAPE)


class TestNifti(ValidateReader, ValidateWriter):
    suffix = ".nii"
    kind = "volume"
    has_nodata = False
    dtype = "int16"

    def make(self, path: Path) -> AnyArray:
        voxels = pattern(self.dtype)
        nib.save(nib.Nifti1Image(voxels.T, AFFINE), path)
        return voxels

    def grid(self) -> Grid:
        return Grid.of(SHAPE, AFFINE, space="patient", unit="millimetre")

    def independent(self, path: Path) -> AnyArray:
        image = nib.load(path)
        assert np.array_equal(image.affine, AFFINE)
        return np.asarray(image.dataobj).T


class TestNiftiGzip(TestNifti):
    suffix = ".nii.gz"
    dtype = "float32"


class TestNiftiPair(ValidateReader):
    suffix = ".hdr"
    kind = "volume"
    dtype = "float64"
    refuses_half = False  # the header is whole, or it is not one

    def make(self, path: Path) -> AnyArray:
        voxels = pattern(self.dtype)
        nib.save(nib.Nifti1Pair(voxels.T, AFFINE), path)
        return voxels


class TestBigEndian(TestNifti):
    def make(self, path: Path) -> AnyArray:
        voxels = pattern("int32")
        header = nib.Nifti1Header(endianness=">")
        nib.save(nib.Nifti1Image(voxels.T, AFFINE, header, dtype=np.int32), path)
        return voxels


class TestMetaImage(ValidateReader, ValidateWriter):
    suffix = ".mha"
    kind = "volume"
    has_nodata = False
    packed = False

    def make(self, path: Path) -> AnyArray:
        voxels = pattern("int16")
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing((0.7, 1.1, 2.5))
        image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        SimpleITK.WriteImage(image, str(path), self.packed)
        return voxels

    def grid(self) -> Grid:
        affine = np.array([[0, -1.1, 0, 3.3], [0.7, 0, 0, -8.1], [0, 0, -2.5, 4.2], [0, 0, 0, 1]])
        return Grid.of(SHAPE, affine, space="patient", unit="millimetre")

    def independent(self, path: Path) -> AnyArray:
        image = SimpleITK.ReadImage(str(path))
        np.testing.assert_allclose(image.GetSpacing(), (0.7, 1.1, 2.5))
        np.testing.assert_allclose(image.GetOrigin(), (-3.3, 8.1, 4.2))
        return SimpleITK.GetArrayFromImage(image)


class TestMetaImagePacked(TestMetaImage):
    packed = True


class TestNrrd(TestMetaImage):
    suffix = ".nrrd"
    packed = True


class TestDicom(ValidateReader):
    suffix = ".dcm"
    kind = "volume"

    def make(self, path: Path) -> AnyArray:
        pixels = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30) * 3
        dataset = ct_slice(pixels, 0)
        dataset.RescaleIntercept = 0
        dataset.save_as(path, enforce_file_format=True)
        return pixels[None]


def test_a_gzip_file_named_plain_is_refused_or_read_right(tmp_path: Path) -> None:
    # Named .nii but gzipped: the bytes say what it is.
    from digseg import io

    voxels = pattern("int16")
    nib.save(nib.Nifti1Image(voxels.T, AFFINE), tmp_path / "a.nii")
    path = tmp_path / "b.nii"
    path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    np.testing.assert_array_equal(np.asarray(io.read(path).data[:]), voxels)
