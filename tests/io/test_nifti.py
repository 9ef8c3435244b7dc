"""NIfTI and Analyze: read as nibabel reads, written where the scan lies, refused when damaged."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from digseg import io
from digseg.errors import (
    CorruptInputError,
    DigsegError,
    InputError,
    OutputExistsError,
    UnsupportedInputError,
    UsageError,
)
from digseg.grid import Grid
from digseg.io import nifti
from digseg.io.orientation import ORIENTATIONS
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Volume
from digseg.types import AnyArray

SHAPE = (4, 5, 6)  # z, y, x

#: Files of one folder are written again for each example; a busy machine is no failure.
CLASSES = ClassTable.of(
    PromptSet.parse(["left kidney=niere", "tumour <5 mm> & \\ more", "Rückenmark"])
)
FORMS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def scan(path: Path, affine: AnyArray | None = None, **changes: Any) -> Path:
    """A small asymmetric scan written by nibabel; ``changes`` set header fields afterwards."""
    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE).T
    image = nib.Nifti1Image(data, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    for field, value in changes.items():
        patch(path, field, value)
    return path


def patch(path: Path, field: str, value: Any) -> None:
    """Set one field of the header in the file, without anybody's checks."""
    dtype, offset = nib.Nifti1Header.template_dtype.fields[field]
    content = bytearray(path.read_bytes())
    content[offset : offset + dtype.itemsize] = np.asarray(value, dtype.base).tobytes()
    path.write_bytes(content)


def labels_for(volume: Volume, dtype: type = np.uint8) -> Mask:
    count = int(np.prod(volume.shape))
    labels = (np.arange(count) * 7 % 4).astype(dtype).reshape(volume.shape)
    return Mask(labels, volume.grid, CLASSES)


@st.composite
def affines(draw: st.DrawFn, sheared: bool = False) -> AnyArray:
    """Any orientation, handedness, voxel size and obliqueness."""
    numbers = st.floats(-0.5, 0.5)
    cosines = nib.eulerangles.euler2mat(draw(numbers), draw(numbers), draw(numbers))
    start = nib.orientations.axcodes2ornt(draw(st.sampled_from(ORIENTATIONS)))
    axes = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(start):
        axes[int(world), axis] = sign
    sizes = [draw(st.floats(0.3, 6.0)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = cosines @ axes @ np.diag(sizes)
    if sheared:
        affine[:3, :3] = affine[:3, :3] @ np.array([[1, 0.2, 0], [0, 1, -0.3], [0, 0, 1.0]])
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return affine


def test_all_odd_files_are_read_with_equal_facts_or_refused(shared: Callable[[str], Path]) -> None:
    root = shared("corpus")
    items = json.loads((root / "manifest.json").read_text())
    wrong = []
    for item in (item for item in items if item["kind"] == "nifti"):
        try:
            told = io.info(root / item["file"])
        except InputError as error:
            if item["expected"] == "reads" and not item.get("either_ok"):
                wrong.append(f"{item['file']}: refused ({error})")
            continue
        if item["expected"] == "refuses" and not item.get("either_ok"):
            wrong.append(f"{item['file']}: not refused")
        elif "facts" in item and (reason := unequal(told, item["facts"], root / item["file"])):
            wrong.append(f"{item['file']}: {reason}")
    assert wrong == []


def unequal(told: dict[str, Any], facts: dict[str, Any], path: Path) -> str:
    for ours, theirs in (("shape", "shape"), ("dtype", "dtype"), ("orientation", "axcodes")):
        if told[ours] != facts[theirs]:
            return f"{ours} {told[ours]}"
    if told["affine"] != facts["affine"]:
        return f"affine {told['affine']}"
    if facts.get("qform_code") == facts.get("sform_code") == 0 and not told["notes"]:
        return "a made-up orientation is not said"
    points = [np.asarray(nifti.read(str(path), time=t).data[:]) for t in range(told["time_points"])]
    array = np.ascontiguousarray(np.stack(points).T.reshape(facts["shape"]))
    little = array.astype(array.dtype.newbyteorder("<")).tobytes()
    if hashlib.sha256(little).hexdigest() != facts["data_sha256_C_order_little_endian"]:
        return "other voxels"
    return ""


@given(affine=affines(), dtype=st.sampled_from(["u1", "<i2", ">i2", "<f4", ">f8", "<u4"]))
@settings(max_examples=40)
def test_volumes_read_as_nibabel_reads(tmp_path: Path, affine: AnyArray, dtype: str) -> None:
    data = np.arange(np.prod(SHAPE)).reshape(SHAPE[::-1]).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(data, affine, header, dtype=np.dtype(dtype)), path)
    expected, volume = nib.load(path), nifti.read(str(path))
    assert np.array_equal(volume.grid.matrix, expected.affine)
    np.testing.assert_array_equal(np.asarray(volume.data[:]), np.asarray(expected.dataobj).T)
    assert io.info(path)["orientation"] == "".join(nib.aff2axcodes(expected.affine))


@given(affine=affines(), gzipped=st.booleans())
@settings(max_examples=40)
def test_labels_lie_where_their_scan_lies(tmp_path: Path, affine: AnyArray, gzipped: bool) -> None:
    source = scan(tmp_path / "scan.nii", affine)
    volume = nifti.read(str(source))
    out = tmp_path / ("out.nii.gz" if gzipped else "packed.nii")
    mask = labels_for(volume)
    io.write_mask(mask, out, source=volume, overwrite=True)
    before, after = nib.load(source), nib.load(out)
    assert np.array_equal(before.affine, after.affine)
    for field in FORMS:
        assert np.array_equal(before.header[field], after.header[field]), field
    assert np.array_equal(before.header["pixdim"][:4], after.header["pixdim"][:4])
    np.testing.assert_array_equal(np.asarray(after.dataobj).T, mask.labels)
    image, labels = SimpleITK.ReadImage(str(source)), SimpleITK.ReadImage(str(out))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(labels), mask.labels)
    assert image.GetDirection() == labels.GetDirection()
    assert image.GetOrigin() == labels.GetOrigin()
    assert image.GetSpacing() == labels.GetSpacing()
    assert io.verify(source, out) == []


@given(affine=affines())
@settings(max_examples=25)
def test_labels_of_other_formats_lie_right_for_both_libraries(
    tmp_path: Path, affine: AnyArray
) -> None:
    # No NIfTI header to take over: the forms are made from the grid.
    labels = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    classes = CLASSES
    mask = Mask(labels % 4, Grid.of(SHAPE, affine, space="patient"), classes)
    out = tmp_path / "fresh.nii.gz"
    io.write_mask(mask, out, overwrite=True)
    np.testing.assert_allclose(nib.load(out).affine, affine, rtol=1e-6, atol=2e-5)
    qform = nib.load(out).header.get_qform()
    np.testing.assert_allclose(qform, affine, rtol=1e-4, atol=2e-3)
    image = SimpleITK.ReadImage(str(out))
    corner = [side - 1 for side in SHAPE[::-1]]
    lps = np.array(image.TransformIndexToPhysicalPoint(corner))
    expected = affine @ np.array([*corner, 1.0])
    np.testing.assert_allclose(lps * [-1, -1, 1], expected[:3], atol=5e-3)


@given(affine=affines(sheared=True))
@settings(max_examples=10)
def test_shear_is_kept_in_the_sform(tmp_path: Path, affine: AnyArray) -> None:
    mask = Mask(np.ones(SHAPE, np.uint8), Grid.of(SHAPE, affine, space="patient"), CLASSES)
    out = tmp_path / "sheared.nii"
    io.write_mask(mask, out, overwrite=True)
    image = nib.load(out)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(image.affine, affine, rtol=1e-6, atol=2e-5)


def test_a_neighbour_of_the_same_stem_is_not_mistaken(tmp_path: Path) -> None:
    # SimpleITK answers for x.nii.gz with the voxels of x.nii when both are there.
    scan(tmp_path / "x.nii")
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), 9, np.int16), np.eye(4)), tmp_path / "x.nii.gz")
    assert (
        np.asarray(nifti.read(str(tmp_path / "x.nii.gz")).data[:]).tolist() == [[[9] * 3] * 3] * 3
    )
    assert nifti.read(str(tmp_path / "x.nii")).shape == SHAPE


def test_forms_that_disagree_are_said_and_the_sform_wins(tmp_path: Path) -> None:
    image = nib.load(scan(tmp_path / "a.nii"))
    image.set_qform(np.diag([-1.0, 2, 3, 1]), 1)
    image.set_sform(np.diag([1.0, 2, 3, 1]), 2)
    nib.save(image, tmp_path / "b.nii")
    told = io.info(tmp_path / "b.nii")
    assert told["affine"][0][0] == 1.0
    assert any("disagree" in note for note in told["notes"])
    assert (told["qform_code"], told["sform_code"]) == (1, 2)


def test_the_qform_alone_is_taken(tmp_path: Path) -> None:
    image = nib.load(scan(tmp_path / "a.nii"))
    image.set_qform(np.array([[0, 2.0, 0, 5], [-1.0, 0, 0, 6], [0, 0, -3.0, 7], [0, 0, 0, 1]]), 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "b.nii")
    told = io.info(tmp_path / "b.nii")
    assert told["affine"] == nib.load(tmp_path / "b.nii").affine.tolist()
    assert told["orientation"] == "PRI"


def test_no_form_at_all_is_said(tmp_path: Path) -> None:
    path = scan(tmp_path / "a.nii", qform_code=0, sform_code=0)
    told = io.info(path)
    assert told["affine"] == nib.load(path).affine.tolist()
    assert any("no orientation is stored" in note for note in told["notes"])
    volume = nifti.read(str(path))
    io.write_mask(labels_for(volume), tmp_path / "out.nii", source=volume)
    assert int(nib.load(tmp_path / "out.nii").header["sform_code"]) == 0
    assert io.verify(path, tmp_path / "out.nii") == []


@pytest.mark.filterwarnings("ignore:invalid value")
def test_zero_voxel_sizes_are_mended_as_nibabel_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = scan(tmp_path / "a.nii", pixdim=[1, 0, 2, 3, 0, 0, 0, 0], sform_code=0, qform_code=1)
    told = io.info(path)
    assert capfd.readouterr() == ("", "")  # nibabel's logger would print here
    assert told["affine"] == nib.load(path).affine.tolist()
    assert any("pixdim" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("srow_x", [np.nan, 0, 0, 0], "not finite"),
        ("srow_x", [0, 0, 0, 0], "flattens"),
        ("datatype", 777, "makes no sense"),
        ("dim", [3, 6, 0, 4, 1, 1, 1, 1], "without voxels"),
        ("dim", [3, -6, 5, 4, 1, 1, 1, 1], "without voxels"),
        ("dim", [3, 10000, 10000, 10000, 1, 1, 1, 1], "cut short"),
        ("dim", [5, 6, 5, 2, 1, 2, 1, 1], "axes"),
        ("vox_offset", np.inf, "makes no sense"),
        ("vox_offset", 1e9, "cut short"),
        ("magic", b"x", "lacks the mark"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, field: str, value: Any, word: str) -> None:
    path = scan(tmp_path / "a.nii", **{field: value})
    with pytest.raises(InputError, match=word):
        io.read(path)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), dtype), np.eye(4)), path)
    with pytest.raises(UnsupportedInputError):
        io.read(path)


def test_time_points_are_chosen_and_told(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    for name in ("a.nii", "b.nii.gz"):
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / name)
        volume = io.read(tmp_path / name, time=3)
        assert isinstance(volume, Volume)
        assert volume.time_points == 5
        np.testing.assert_array_equal(np.asarray(volume.data[:]), data[..., 3].T)
        assert io.info(tmp_path / name)["shape"] == [2, 3, 4, 5]
        with pytest.raises(UsageError, match="5 time points"):
            io.read(tmp_path / name, time=5)


@pytest.mark.parametrize(("unit", "word"), [("meter", "metres"), ("micron", "micrometres")])
def test_units_that_are_no_millimetres_are_said(tmp_path: Path, unit: str, word: str) -> None:
    image = nib.Nifti1Image(np.ones((2, 3, 4), np.int16), np.diag([0.25, 0.5, 2.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    volume = io.read(tmp_path / "a.nii")
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.grid.matrix, nib.load(tmp_path / "a.nii").affine)
    assert io.info(tmp_path / "a.nii")["notes"][0] == (
        f"the header says {word}: taken as millimetres, as nibabel does"
    )
    mask = Mask(np.ones((4, 3, 2), np.uint8), volume.grid, CLASSES)
    io.write_mask(mask, tmp_path / "out.nii", source=volume)
    written = nib.load(tmp_path / "out.nii")
    # The unit as well: a reader that goes by it finds both in one place.
    assert written.header.get_xyzt_units()[0] == unit
    assert np.array_equal(written.affine, image.affine)
    places = [SimpleITK.ReadImage(str(tmp_path / name)) for name in ("a.nii", "out.nii")]
    assert places[0].GetSpacing() == places[1].GetSpacing()


def test_scaling_is_applied(tmp_path: Path) -> None:
    path = scan(tmp_path / "a.nii", scl_slope=0.5, scl_inter=-1024.0)
    expected = np.asarray(nib.load(path).dataobj).T
    np.testing.assert_array_equal(
        np.asarray(nifti.read(str(path)).data[1:3, ::2]), expected[1:3, ::2]
    )


def test_plain_files_are_mapped_and_travel_by_name(tmp_path: Path) -> None:
    voxels = nifti.read(str(scan(tmp_path / "a.nii"))).data
    assert isinstance(voxels.stored(), np.memmap)  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(voxels))
    np.testing.assert_array_equal(again[2], voxels[2])


def test_large_gzip_files_stay_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digseg.io._voxels.IN_MEMORY", 16)
    plain = scan(tmp_path / "a.nii")
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    expected = np.asarray(nifti.read(str(plain)).data[:])
    np.testing.assert_array_equal(np.asarray(nifti.read(str(packed)).data[:]), expected)


def test_pairs_and_analyze(tmp_path: Path) -> None:
    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti1Pair(data.T, np.diag([2.0, 3, 4, 1])), tmp_path / "pair.hdr")
    for name in ("pair.hdr", "pair.img"):
        volume = io.read(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(volume.data[:]), data)
        assert volume.grid.spacing == (4.0, 3.0, 2.0)
    nib.save(nib.AnalyzeImage(data.T, np.diag([-2.0, 3, 4, 1])), tmp_path / "old.img")
    told = io.info(tmp_path / "old.hdr")
    assert told["format"] == "Analyze"
    assert "no orientation is stored" in told["notes"][0]
    volume = io.read(tmp_path / "old.hdr")
    assert isinstance(volume, Volume)
    io.write_mask(labels_for(volume), tmp_path / "out.nii", source=volume)
    assert np.array_equal(nib.load(tmp_path / "out.nii").affine, volume.grid.matrix)


def test_nifti_2_answers_in_nifti_2(tmp_path: Path) -> None:
    affine = np.diag([0.1, 0.2, 0.3, 1])  # not exact in float32
    nib.save(nib.Nifti2Image(np.zeros(SHAPE[::-1], np.int16), affine), tmp_path / "a.nii")
    volume = nifti.read(str(tmp_path / "a.nii"))
    assert volume.source is not None
    assert volume.source.format == "NIfTI-2"
    io.write_mask(labels_for(volume), tmp_path / "out.nii", source=volume)
    assert np.array_equal(nib.load(tmp_path / "out.nii").affine, affine)


def test_names_stand_inside_and_beside(tmp_path: Path) -> None:
    volume = nifti.read(str(scan(tmp_path / "scan.nii")))
    out = tmp_path / "out.nii.gz"
    assert io.write_mask(labels_for(volume), out, source=volume) == [out, tmp_path / "out.json"]
    beside = json.loads((tmp_path / "out.json").read_text())["labels"]
    assert [item["name"] for item in beside] == [entry.name for entry in CLASSES.entries]
    table, comment = nib.load(out).header.extensions
    assert json.loads(comment.get_content())["labels"] == beside
    assert b"tumour &lt;5 mm&gt; &amp;" in table.get_content()
    (tmp_path / "out.json").unlink()
    assert nifti.read_mask(str(out)).classes == CLASSES
    assert nib.load(out).header.get_intent()[0] == "label"


def test_names_of_other_tools_are_read(tmp_path: Path) -> None:
    path = scan(tmp_path / "a.nii")
    text = (
        "<?xml version='1.0'?><CaretExtension><VolumeInformation><LabelTable>"
        "<Label Key='3' Red='1' Green='0' Blue='0'><![CDATA[aorta]]></Label>"
        "</LabelTable></VolumeInformation></CaretExtension>"
    )
    for prefix, expected in (("", "aorta"), ("<!DOCTYPE x [<!ENTITY a 'b'>]>", "label 1")):
        image = nib.load(path)
        content = text.replace("<CaretExtension>", prefix + "<CaretExtension>")
        image.header.extensions[:] = [nib.nifti1.Nifti1Extension(0, content.encode())]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "b.nii")
        mask = nifti.read_mask(str(tmp_path / "b.nii"))
        assert mask.classes.entries[0].name == expected
        assert mask.meta["named"] is (prefix == "")


def test_scans_are_no_labels(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(CorruptInputError, match="no labels"):
        nifti.read_mask(str(tmp_path / "a.nii"))


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = nifti.read(str(scan(tmp_path / "scan.nii")))

    class Failing:
        shape, dtype = SHAPE, np.dtype("u1")

        def __getitem__(self, key: Any) -> AnyArray:
            if key.start == 2:
                raise OSError(28, "No space left on device")
            return np.zeros((2, *SHAPE[1:]), np.uint8)

    monkeypatch.setattr("digseg.io._volumes._SLAB", 2 * SHAPE[1] * SHAPE[2])
    with pytest.raises(DigsegError, match="disk is full"):
        io.write_mask(Mask(Failing(), volume.grid, CLASSES), tmp_path / "out.nii.gz")
    assert [item.name for item in tmp_path.iterdir()] == ["scan.nii"]


def test_outputs_are_not_overwritten_unasked(tmp_path: Path) -> None:
    volume = nifti.read(str(scan(tmp_path / "scan.nii")))
    with pytest.raises(OutputExistsError):
        io.write_mask(labels_for(volume), tmp_path / "scan.nii")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_what_is_known_of_a_scan_is_never_replaced(tmp_path: Path, suffix: str) -> None:
    volume = nifti.read(str(scan(tmp_path / "sub-01_T1w.nii")))
    told = tmp_path / "sub-01_T1w.json"
    told.write_text('{"Modality": "MR", "EchoTime": 0.003}')
    out = tmp_path / f"sub-01_T1w{suffix}"
    with pytest.raises(OutputExistsError, match=r"sub-01_T1w\.json"):
        io.write_mask(labels_for(volume), out, overwrite=True)
    assert json.loads(told.read_text())["EchoTime"] == 0.003
    assert not out.exists()
    told.unlink()
    for _ in range(2):  # label names may be
        io.write_mask(labels_for(volume), out, overwrite=True)
    assert "labels" in json.loads(told.read_text())


def test_equal_labels_give_equal_bytes(tmp_path: Path) -> None:
    volume = nifti.read(str(scan(tmp_path / "scan.nii")))
    for name in ("a.nii.gz", "b.nii.gz"):
        io.write_mask(labels_for(volume, np.uint16), tmp_path / name, source=volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def bomb(start: bytes) -> bytes:
    """A gzip stream of ``start`` and 3 GiB of zeros: one packed block of them, many times."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = stream.compress(start) + stream.flush(zlib.Z_FULL_FLUSH)
    block = stream.compress(bytes(16 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    return head + block * 192 + stream.flush()


def hostile(folder: Path) -> dict[str, Path]:
    """Files made to exhaust whoever believes them."""
    header = scan(folder / "start.nii").read_bytes()
    huge = bytearray(header)
    struct.pack_into("<8h", huge, 40, 3, 10000, 10000, 10000, 1, 1, 1, 1)
    wide = bytearray(header)
    struct.pack_into("<8h", wide, 40, 3, 1024, 1024, 1200, 1, 1, 1, 1)
    files = {
        "claims": bytes(huge),
        "claims, gzipped": gzip.compress(bytes(huge)),
        "bomb behind a small header": bomb(header),
        "bomb with its size in the header": bomb(bytes(wide)),
        "text": b"not a scan at all\n" * 40,
        "empty": b"",
        "cut in the header": header[:200],
        "cut in the voxels": header[:400],
        "gzip of nothing": gzip.compress(b""),
    }
    for index, (name, content) in enumerate(files.items()):
        gzipped = content[:2] == b"\x1f\x8b"
        path = folder / f"hostile{index}.nii{'.gz' if gzipped else ''}"
        path.write_bytes(content)
        files[name] = path  # type: ignore[assignment]
    return files  # type: ignore[return-value]


_MEASURE = """
import sys, time
from digseg import io
from digseg.errors import InputError
def peak():
    # Not ru_maxrss: that of a child begins with what its parent held.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
for path in sys.argv[1:]:
    start = time.process_time()
    try:
        io.info(path)
    except InputError:
        pass
    else:
        print("read", path)
    print(time.process_time() - start, peak())
"""


def test_hostile_files_are_refused_fast_and_small(tmp_path: Path) -> None:
    files = hostile(tmp_path)
    call = [sys.executable, "-c", _MEASURE, *map(str, files.values())]
    told = subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(told) == len(files), told
    for name, line in zip(files, told, strict=True):
        seconds, kilobytes = map(float, line.split())
        assert seconds < 5, name
        assert kilobytes < 500_000, name


@given(st.data())
@settings(max_examples=150)
def test_broken_bytes_never_break_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "scan.nii"
    if not path.exists():
        scan(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.nii"
    broken.write_bytes(content[: data.draw(st.sampled_from([len(content), 352, 348, 100]))])
    with contextlib.suppress(DigsegError):
        io.info(broken)


def test_modality_is_told_from_the_values(shared: Callable[[str], Path]) -> None:
    expected = {
        "ct_totalsegmentator/images/ct_abdomen_3mm.nii.gz": "CT",
        "ct_totalsegmentator/images/ct_dicom.nii.gz": "CT",
        "ct_totalsegmentator/masks/ct_dicom.nii.gz": "other",
        "mr_totalsegmentator/images/mr_abdomen_3mm.nii.gz": "MR",
        "hippocampus_mr/images/hippocampus_190.nii.gz": "MR",
        "hippocampus_mr/masks/hippocampus_190.nii.gz": "other",
    }
    found = {name: io.info(shared(f"data/{name}"))["modality"] for name in expected}
    assert found == expected


def test_a_sidecar_tells_the_modality(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii")
    (tmp_path / "scan.json").write_text('{"Modality": "MR"}')
    assert io.info(path)["modality"] == "MR"


def test_real_labels_survive(shared: Callable[[str], Path], tmp_path: Path) -> None:
    image = shared("data/ct_totalsegmentator/images/ct_abdomen_3mm.nii.gz")
    truth = nifti.read_mask(str(shared("data/ct_totalsegmentator/masks/ct_abdomen_3mm.nii.gz")))
    volume = nifti.read(str(image))
    out = tmp_path / "out.nii.gz"
    io.write_mask(Mask(truth.labels, volume.grid, truth.classes), out, source=volume)
    np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj).T, np.asarray(truth.labels[:]))
    assert io.verify(image, out) == []
