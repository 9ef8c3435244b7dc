"""DICOM series and segmentations: judged by pydicom, SimpleITK and highdicom."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import shutil
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import JPEGExtended12Bit
from tests.io.dicom_files import COLUMN, ORIGIN, ROW, SPACING, ct_series, ct_slice, uid_of

from digseg import io
from digseg.errors import (
    CorruptInputError,
    DigsegError,
    InputError,
    UnsupportedInputError,
    UsageError,
)
from digseg.io import dicom, dicom_seg
from digseg.io.registry import Probe
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["liver", "tumour <5 mm> & Änderung=lesion"]))
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume_of(path: Path, **options: Any) -> Volume:
    volume = io.read(path, **options)
    assert isinstance(volume, Volume)
    return volume


def labels_for(volume: Volume) -> Mask:
    """Labels with empty first and last slices, no two slices alike."""
    labels = (np.arange(np.prod(volume.shape)) * 7 % 3).astype(np.uint8).reshape(volume.shape)
    labels[0] = labels[-1] = 0
    return Mask(labels, volume.grid, CLASSES)


def test_a_series_is_ordered_in_space_and_in_hounsfield_units(tmp_path: Path) -> None:
    expected = ct_series(tmp_path / "ct")
    volume = volume_of(tmp_path / "ct")
    np.testing.assert_array_equal(np.asarray(volume.data[:]), expected)
    np.testing.assert_array_equal(np.asarray(volume.data[1:4, 3, ::-2]), expected[1:4, 3, ::-2])
    assert volume.modality == "CT"
    assert volume.data.dtype == np.int32  # 16 bits below zero: int16 would wrap
    lps = np.stack([np.multiply(ROW, SPACING[1]), np.multiply(COLUMN, SPACING[0])], axis=1)
    np.testing.assert_allclose((LPS @ volume.grid.matrix)[:3, :2], lps, atol=1e-12)
    np.testing.assert_allclose((LPS @ volume.grid.matrix)[:3, 3], ORIGIN)


def test_simpleitk_sees_the_same_place(tmp_path: Path) -> None:
    expected = ct_series(tmp_path / "ct")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image, volume = reader.Execute(), volume_of(tmp_path / "ct")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), expected)
    corner = [side - 1 for side in volume.shape]
    place = np.array(image.TransformIndexToPhysicalPoint(corner[::-1])) * [-1, -1, 1]
    np.testing.assert_allclose(volume.grid.world(corner), place, atol=1e-4)


def test_volumes_travel_by_name(tmp_path: Path) -> None:
    expected = ct_series(tmp_path / "ct")
    data = pickle.loads(pickle.dumps(volume_of(tmp_path / "ct").data))
    np.testing.assert_array_equal(np.asarray(data[2]), expected[2])


def test_several_series_are_named_and_asked_for(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct", series="thin", number=3)
    expected = ct_series(tmp_path / "ct", 3, series="thick", number=4)
    told = io.info(tmp_path / "ct")
    assert [item["number"] for item in told["series"]] == [3, 4]
    assert [item["shape"] for item in told["series"]] == [[10, 12, 5], [10, 12, 3]]
    assert told["shape"] is None
    with pytest.raises(UsageError, match=r"2 series.*3 \(CT.*series thin.*4 \(CT"):
        io.read(tmp_path / "ct")
    with pytest.raises(UsageError, match="no single series '9'"):
        io.read(tmp_path / "ct", series="9")
    for chosen in ("4", uid_of("thick")):
        volume = volume_of(tmp_path / "ct", series=chosen)
        np.testing.assert_array_equal(np.asarray(volume.data[:]), expected)


def test_a_missing_slice_is_said(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    next((tmp_path / "ct").glob("*-2")).unlink()
    with pytest.raises(CorruptInputError, match=r"a slice is missing.*5 mm.*2\.5 mm"):
        io.info(tmp_path / "ct")


def test_uneven_slices_are_refused(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    path = next((tmp_path / "ct").glob("*-4"))
    dataset = pydicom.dcmread(path)
    dataset.ImagePositionPatient[2] += 0.8
    dataset.save_as(path)
    with pytest.raises(CorruptInputError, match="unevenly"):
        io.read(tmp_path / "ct")


def test_copies_are_left_out_and_said(tmp_path: Path) -> None:
    expected = ct_series(tmp_path / "ct")
    path = next((tmp_path / "ct").glob("*-2"))
    shutil.copy(path, tmp_path / "ct" / "copy.dcm")
    volume = volume_of(tmp_path / "ct")
    np.testing.assert_array_equal(np.asarray(volume.data[:]), expected)
    assert any("copies" in note for note in volume.meta["notes"])


def test_another_image_at_the_same_place_is_refused(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    other = ct_slice(np.ones((12, 10), np.uint16), 2)
    other.SOPInstanceUID = uid_of("another")
    other.save_as(tmp_path / "ct" / "doubled", enforce_file_format=True)
    with pytest.raises(CorruptInputError, match="missing or doubled"):
        io.read(tmp_path / "ct")


def test_time_points_share_their_places(tmp_path: Path) -> None:
    for time in range(2):
        for index in range(3):
            dataset = ct_slice(np.full((4, 5), 10 * time + index, np.uint16), index)
            dataset.SOPInstanceUID = uid_of(f"{time} {index}")
            dataset.TemporalPositionIdentifier = 2 - time  # later files come first in time
            dataset.save_as(tmp_path / f"{time}{index}", enforce_file_format=True)
    told = io.info(tmp_path)
    assert told["shape"] == [5, 4, 3, 2]
    assert told["time_points"] == 2
    for time, first in ((0, 10), (1, 0)):
        volume = volume_of(tmp_path, time=time)
        found = np.asarray(volume.data[:, 0, 0]) + 1024
        assert found.tolist() == [first, first + 1, first + 2]
    with pytest.raises(UsageError, match="2 time points"):
        io.read(tmp_path, time=2)


def test_a_tilted_gantry_shears_the_affine(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct", step=(0.0, 0.6, 2.5))
    volume = volume_of(tmp_path / "ct")
    np.testing.assert_allclose(volume.grid.matrix[:3, 2], [0, -0.6, 2.5], atol=1e-4)
    assert any("tilted gantry" in note and "13.5" in note for note in volume.meta["notes"])
    mask = labels_for(volume)
    io.write_mask(mask, tmp_path / "out.nii.gz", source=volume)
    np.testing.assert_allclose(
        nib.load(tmp_path / "out.nii.gz").affine, volume.grid.matrix, rtol=1e-6
    )
    assert io.verify(tmp_path / "ct", tmp_path / "out.nii.gz") == []


@pytest.mark.parametrize("decade", ["orientation", "sizes", "spacing"])
def test_mixed_images_are_refused(tmp_path: Path, decade: str) -> None:
    ct_series(tmp_path / "ct")
    path = next((tmp_path / "ct").glob("*-4"))
    dataset = pydicom.dcmread(path)
    if decade == "orientation":
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    elif decade == "spacing":
        dataset.PixelSpacing = [1, 1]
    else:
        dataset.Rows, dataset.PixelData = 6, dataset.PixelData[:120]
    dataset.save_as(path)
    with pytest.raises(CorruptInputError, match="mixes"):
        io.read(tmp_path / "ct")


def test_a_segmentation_lies_where_its_series_lies(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    volume = volume_of(tmp_path / "ct")
    mask, out = labels_for(volume), tmp_path / "seg.dcm"
    assert io.write_mask(mask, out, source=volume) == [out]
    assert io.verify(tmp_path / "ct", out) == []
    back = dicom.read_mask(str(out))
    np.testing.assert_array_equal(back.labels, mask.labels)
    assert back.grid.affine == volume.grid.affine
    assert back.classes.names == CLASSES.names
    assert back.classes.colors == CLASSES.colors
    # highdicom: by place in the patient, for its own order of slices is the other way round.
    segmentation = highdicom.seg.segread(out)
    read = segmentation.get_volume(combine_segments=True)
    for index in np.argwhere(read.array > 0)[::17]:
        place = read.map_indices_to_reference(index[None].astype(float))[0] * [-1, -1, 1]
        k, j, i = np.round(volume.grid.index(place)).astype(int)
        assert mask.labels[k, j, i] == read.array[tuple(index)]
    assert np.count_nonzero(read.array) == np.count_nonzero(mask.labels)
    plain = pydicom.dcmread(out)
    assert [item.SegmentLabel for item in plain.SegmentSequence] == list(CLASSES.names.values())[1:]
    assert str(plain.PatientName) == "Müller^Änne"
    assert plain.ReferencedSeriesSequence[0].SeriesInstanceUID == uid_of("one")
    code = plain.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("10200004", "SCT")


def test_each_slice_is_found_by_the_image_it_was_made_from(tmp_path: Path) -> None:
    """As viewers overlay them: by the UID of the image, in whatever order one asks."""
    ct_series(tmp_path / "ct")
    volume = volume_of(tmp_path / "ct")
    mask = labels_for(volume)
    io.write_mask(mask, tmp_path / "seg.dcm", source=volume)
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in volume.meta["dicom_files"]]
    uids = [file.SOPInstanceUID for file in files]
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    for order in (range(5), (3, 0, 4)):
        planes = segmentation.get_pixels_by_source_instance(
            [uids[plane] for plane in order], combine_segments=True
        )
        np.testing.assert_array_equal(planes, np.asarray(mask.labels)[list(order)])


def test_images_without_a_uid_are_referred_to_by_that_of_their_file(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    """An anonymiser emptied the UIDs of this CT; the ones in the files' preambles are left."""
    volume = volume_of(shared("data/ct_totalsegmentator/dicom"))
    mask = labels_for(volume)
    io.write_mask(mask, tmp_path / "seg.dcm", source=volume)
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in volume.meta["dicom_files"]]
    assert not any(file.SOPInstanceUID for file in files)
    planes = highdicom.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance(
        [file.file_meta.MediaStorageSOPInstanceUID for file in files], combine_segments=True
    )
    np.testing.assert_array_equal(planes, mask.labels)


@pytest.mark.parametrize("time", [0, 1, 3])
def test_frames_of_another_time_point_are_not_referred_to(
    shared: Callable[[str], Path], tmp_path: Path, time: int
) -> None:
    path = shared("corpus/dicom/dicom2nifti__philips_enhanced_fmri_001")
    volume = volume_of(path, time=time)
    mask = labels_for(volume)
    io.write_mask(mask, tmp_path / "seg.dcm", source=volume)
    header = pydicom.dcmread(volume.meta["dicom_files"][0], stop_before_pixels=True)
    groups = header.PerFrameFunctionalGroupsSequence
    own = [
        number
        for number, group in enumerate(groups, start=1)
        if group.FrameContentSequence[0].TemporalPositionIndex == time + 1
    ]
    planes = highdicom.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_frame(
        header.SOPInstanceUID, own, combine_segments=True
    )
    np.testing.assert_array_equal(planes, mask.labels)


def test_equal_labels_give_equal_uids(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    volume = volume_of(tmp_path / "ct")
    uids = []
    for name in ("a.dcm", "b.dcm"):
        io.write_mask(labels_for(volume), tmp_path / name, source=volume)
        uids.append(pydicom.dcmread(tmp_path / name).SOPInstanceUID)
    assert uids[0] == uids[1]
    assert uids[0].is_valid


def test_segmentations_need_their_series(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    mask = labels_for(volume_of(tmp_path / "ct"))
    with pytest.raises(UsageError, match="needs the DICOM series"):
        io.write_mask(mask, tmp_path / "seg.dcm")


def test_overlapping_segments_are_refused(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    volume = volume_of(tmp_path / "ct")
    out = tmp_path / "seg.dcm"
    io.write_mask(labels_for(volume), out, source=volume)
    dataset = pydicom.dcmread(out)
    dataset.PixelData = b"\xff" * len(dataset.PixelData)
    dataset.save_as(out)
    with pytest.raises(CorruptInputError, match="overlap"):
        io.read(out)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_an_index_leads_to_its_series_and_nowhere_else(tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    ct_series(tmp_path / "ct")
    fileset = FileSet()
    for path in (tmp_path / "ct").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.StudyID, dataset.StudyTime = "A^B", "1", "000000"
        dataset.StudyDate = "20200101"
        fileset.add(dataset)
    fileset.write(tmp_path / "disk")
    fileset._stage["t"].cleanup()  # pydicom leaves it to the garbage collector, which warns
    volume = volume_of(tmp_path / "disk" / "DICOMDIR")
    np.testing.assert_array_equal(np.asarray(volume.data[:]), volume_of(tmp_path / "ct").data[:])
    index = pydicom.dcmread(tmp_path / "disk" / "DICOMDIR")
    for record in index.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = ["..", "ct", next((tmp_path / "ct").iterdir()).name]
    index.save_as(tmp_path / "disk" / "DICOMDIR")
    with pytest.raises(UnsupportedInputError, match="outside its own folder"):
        io.read(tmp_path / "disk" / "DICOMDIR")


def test_a_folder_of_cases_is_no_series(tmp_path: Path) -> None:
    ct_series(tmp_path / "cases" / "one" / "ct")
    assert io.info(tmp_path / "cases")["shape"] == [10, 12, 5]
    (tmp_path / "cases" / "two.nii.gz").write_bytes(b"another case")
    with pytest.raises(UnsupportedInputError, match="folder"):
        io.info(tmp_path / "cases")
    # An answer beside the slices doesn't hide the series.
    (tmp_path / "cases" / "one" / "ct" / "answer.nii.gz").write_bytes(b"labels")
    assert io.info(tmp_path / "cases" / "one" / "ct")["shape"] == [10, 12, 5]


def test_reports_beside_a_series_are_passed_over_and_said(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct")
    report = ct_slice(np.zeros((2, 2), np.uint16), 9)
    del report.PixelData
    report.SeriesInstanceUID = uid_of("report")
    report.save_as(tmp_path / "ct" / "report", enforce_file_format=True)
    (tmp_path / "ct" / "notes.txt").write_text("no image")
    assert any("passed over" in note for note in io.info(tmp_path / "ct")["notes"])


def test_white_is_low_only_in_the_file(tmp_path: Path) -> None:
    dataset = ct_slice(np.array([[0, 4095]], np.uint16), 0)
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.HighBit = "MONOCHROME1", 12, 11
    dataset.RescaleIntercept = 0
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    volume = volume_of(tmp_path / "a.dcm")
    assert np.asarray(volume.data[0]).tolist() == [[4095, 0]]


def test_fractional_rescaling(tmp_path: Path) -> None:
    dataset = ct_slice(np.array([[2, 5]], np.uint16), 0)
    dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-0.25"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.asarray(volume_of(tmp_path / "a.dcm").data[0]).tolist() == [[0.75, 2.25]]


def test_colours_come_as_a_picture(tmp_path: Path) -> None:
    dataset = ct_slice(np.zeros((2, 3), np.uint16), 0)
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration, dataset.PixelData = 0, pixels.tobytes()
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    picture = pickle.loads(pickle.dumps(io.read(tmp_path / "a.dcm")))
    assert isinstance(picture, Raster)
    np.testing.assert_array_equal(np.asarray(picture.data[:]), pixels.transpose(2, 0, 1))
    assert io.info(tmp_path / "a.dcm")["shape"] == [3, 2, 1]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_cut_files_are_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.dcm"
    ct_slice(np.zeros((40, 40), np.uint16), 0).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError):
        io.info(path)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("Rows", 60000, "cut short"),
        ("Rows", 0, "how large"),
        ("NumberOfFrames", 100000, "cut short"),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "orientation that is none"),
        ("PixelSpacing", [0, 1], "not positive"),
    ],
)
def test_lying_headers_are_refused(tmp_path: Path, name: str, value: Any, word: str) -> None:
    dataset = ct_slice(np.zeros((40, 40), np.uint16), 0)
    setattr(dataset, name, value)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=word):
        io.info(tmp_path / "a.dcm")


def test_a_deflate_bomb_is_refused(tmp_path: Path) -> None:
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dataset = ct_slice(np.zeros((4, 4), np.uint16), 0)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "a.dcm"
    dataset.save_as(path, enforce_file_format=True)
    assert volume_of(path).shape == (1, 4, 4)
    meta = path.read_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = meta.index(b"UI\x16\x00" + DeflatedExplicitVRLittleEndian.encode()) + 4 + 22
    block = packer.compress(bytes(16 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    # The elements that follow the syntax in the file's own header are kept.
    length = 132 + 12 + int(pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength)
    assert start <= length
    path.write_bytes(meta[:length] + block * 192 + packer.flush())
    with pytest.raises(CorruptInputError, match="250-fold"):
        io.info(path)


@given(st.data())
@settings(max_examples=80)
def test_broken_bytes_never_break_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "whole"
    if not path.exists():
        ct_slice(np.zeros((6, 5), np.uint16), 0).save_as(path, enforce_file_format=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(content)
    with contextlib.suppress(DigsegError):
        io.info(broken)


def test_lossless_jpeg_needs_no_copyleft_decoder(shared: Callable[[str], Path]) -> None:
    folder = shared("corpus/dicom/dicom2nifti__generic_compressed_jpeg_001")
    reference = shared("corpus/dicom/dicom2nifti__generic_compressed_rle_001")
    for path, other in zip(sorted(folder.iterdir()), sorted(reference.iterdir()), strict=True):
        found = pixel_array(path, decoding_plugin="gdcm")
        np.testing.assert_array_equal(found, pixel_array(other))


@pytest.mark.parametrize("signed", [False, True])
def test_lossy_jpeg_of_twelve_bits(tmp_path: Path, signed: bool) -> None:
    """No decoder of pydicom takes it; CT and MR of the nineties have it."""
    rows, columns = np.mgrid[:48, :64]
    pixels = (1500 + 20 * rows + 15 * columns).astype(np.uint16)  # smooth: hardly any loss
    dataset = ct_slice(pixels, 0)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelRepresentation = int(signed)
    code = imagecodecs.jpeg_encode(pixels, level=98, bitspersample=12)
    dataset.PixelData = encapsulate([code])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    dataset.save_as(tmp_path / "jpeg12.dcm", enforce_file_format=True)
    found = np.asarray(io.read(tmp_path / "jpeg12.dcm").data[0])
    stored = np.where(pixels >= 2048, pixels.astype(np.int32) - 4096, pixels) if signed else pixels
    away = np.abs(found - (stored.astype(np.int32) - 1024))
    assert np.minimum(away, 4096 - away).max() <= 4

    whole = (tmp_path / "jpeg12.dcm").read_bytes()
    (tmp_path / "gone.dcm").write_bytes(whole.replace(code[:30], bytes(30)))
    with pytest.raises(CorruptInputError, match="damaged"):
        io.info(tmp_path / "gone.dcm")


def test_a_tree_is_looked_at_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a folder is a series is seen from a few files, of however large a tree."""
    for branch in range(20):
        (tmp_path / f"{branch:02}").mkdir()
        for leaf in range(10):
            (tmp_path / f"{branch:02}" / f"{leaf}.txt").write_text("no image")
    (tmp_path / "00" / "round").symlink_to(tmp_path, target_is_directory=True)
    listed: list[Path] = []
    real = Path.iterdir

    def noted(folder: Path) -> Any:
        listed.append(folder)
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", noted)
    assert not dicom.sniff(Probe(str(tmp_path), "folder"))
    assert len(listed) < 10


def test_stored_pixels_of_all_odd_files_are_those_of_pydicom(
    shared: Callable[[str], Path],
) -> None:
    root = shared("corpus")
    seen = 0
    for item in json.loads((root / "manifest.json").read_text()):
        facts = item.get("facts", {})
        if item["kind"] != "dicom" or "pixels_sha256" not in facts or len(facts["frames"]) > 0:
            continue
        try:
            image = io.read(root / item["file"])
        except InputError:
            assert item.get("either_ok"), item["file"]
            continue
        if isinstance(image, Raster):
            continue
        stored: AnyArray = image.data.stored(0)  # type: ignore[attr-defined]
        little = stored.astype(np.dtype(facts["pixel_dtype"])).tobytes()
        assert hashlib.sha256(little).hexdigest() == facts["pixels_sha256"], item["file"]
        seen += 1
    assert seen >= 9


@pytest.mark.parametrize(
    "name", ["dicom2nifti__philips_enhanced_fmri_001", "dicom2nifti__failing_gantrytilting_001"]
)
def test_segmentations_of_odd_series(
    shared: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    path = shared(f"corpus/dicom/{name}")
    volume = volume_of(path)
    mask = labels_for(volume)
    io.write_mask(mask, tmp_path / "seg.dcm", source=volume)
    back = dicom_seg.read_mask(str(tmp_path / "seg.dcm"))
    np.testing.assert_array_equal(back.labels, mask.labels)
    assert io.verify(path, tmp_path / "seg.dcm") == []


def test_a_real_series_equals_its_conversion(shared: Callable[[str], Path]) -> None:
    """The series and the NIfTI that TotalSegmentator's makers converted it to."""
    volume = volume_of(shared("data/ct_totalsegmentator/dicom"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = nib.load(shared("data/ct_totalsegmentator/images/ct_dicom.nii.gz"))
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(volume.grid.matrix), nib.io_orientation(image.affine)
    )
    voxels = nib.orientations.apply_orientation(np.asarray(volume.data[:]).T, turn)
    np.testing.assert_array_equal(voxels, np.asarray(image.dataobj))
    moved = volume.grid.matrix @ nib.orientations.inv_ornt_aff(turn, volume.shape[::-1])
    np.testing.assert_allclose(moved, image.affine, atol=1e-3)
