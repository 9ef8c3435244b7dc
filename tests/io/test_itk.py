"""MetaImage and NRRD: the same place for SimpleITK, exact, and lies in the header refused."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

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
    UnsupportedInputError,
    UsageError,
)
from digseg.grid import Grid
from digseg.io import itk
from digseg.io.orientation import ORIENTATIONS
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Volume
from digseg.types import AnyArray

SHAPE = (4, 5, 6)  # z, y, x
CLASSES = ClassTable.of(PromptSet.parse(["left kidney=niere", "a \\ b & <c>", "Rückenmark"]))
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def scan(path: Path, *, angles: tuple[float, ...] = (0.1, 0.2, -0.3), packed: bool = False) -> Path:
    """An asymmetric oblique scan written by SimpleITK."""
    image = SimpleITK.GetImageFromArray(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    image.SetDirection(nib.eulerangles.euler2mat(*angles).ravel().tolist())
    image.SetSpacing((0.7, 1.1, 3.3))
    image.SetOrigin((-12.5, 7.25, 100.1))
    SimpleITK.WriteImage(image, str(path), packed)
    return path


def place(path: Path) -> AnyArray:
    """Affine to RAS+ by SimpleITK."""
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


def labels_for(volume: Volume) -> Mask:
    labels = (np.arange(np.prod(volume.shape)) * 7 % 4).astype(np.uint8).reshape(volume.shape)
    return Mask(labels, volume.grid, CLASSES)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_volumes_lie_where_simpleitk_says(tmp_path: Path, name: str, packed: bool) -> None:
    path = scan(tmp_path / name, packed=packed)
    volume = io.read(path)
    assert isinstance(volume, Volume)
    np.testing.assert_allclose(volume.grid.matrix, place(path), atol=1e-12)
    expected = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    np.testing.assert_array_equal(np.asarray(volume.data[:]), expected)
    np.testing.assert_array_equal(np.asarray(volume.data[2, 1:3, ::2]), expected[2, 1:3, ::2])
    told = io.info(path)
    assert told["shape"] == [6, 5, 4]
    np.testing.assert_allclose(told["spacing"], [0.7, 1.1, 3.3])
    assert told["orientation"] == "LPS"


@given(
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    name=st.sampled_from(["a.mha", "a.nrrd"]),
    out=st.sampled_from(["out.mha", "out.nrrd", "out.nii.gz"]),
)
@settings(max_examples=30)
def test_labels_lie_where_their_scan_lies(
    tmp_path: Path, angles: tuple[float, ...], name: str, out: str
) -> None:
    source = scan(tmp_path / name, angles=angles)
    volume = io.read(source)
    assert isinstance(volume, Volume)
    mask = labels_for(volume)
    io.write_mask(mask, tmp_path / out, source=volume, overwrite=True)
    assert io.verify(source, tmp_path / out) == []
    np.testing.assert_allclose(place(tmp_path / out), place(source), rtol=1e-5, atol=1e-4)
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / out)))
    np.testing.assert_array_equal(found, mask.labels)


@pytest.mark.parametrize("name", ["out.mha", "out.nrrd"])
@pytest.mark.parametrize("codes", ORIENTATIONS[::5])
def test_every_orientation_is_held(tmp_path: Path, name: str, codes: str) -> None:
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), SHAPE[::-1])
    mask = Mask(np.ones(SHAPE, np.uint8), Grid.of(SHAPE, affine, space="patient"), CLASSES)
    io.write_mask(mask, tmp_path / name)
    np.testing.assert_allclose(place(tmp_path / name), affine)
    assert itk.read_mask(str(tmp_path / name)).grid.affine == mask.grid.affine


@pytest.mark.parametrize("name", ["out.mha", "out.nrrd"])
def test_names_stand_inside_and_beside(tmp_path: Path, name: str) -> None:
    volume = itk.read(str(scan(tmp_path / "scan.mha")))
    written = io.write_mask(labels_for(volume), tmp_path / name, source=volume)
    assert [path.name for path in written] == [name, "out.json"]
    (tmp_path / "out.json").unlink()
    assert itk.read_mask(str(tmp_path / name)).classes == CLASSES
    if name.endswith(".nrrd"):
        image = SimpleITK.ReadImage(str(tmp_path / name))
        assert image.GetMetaData("Segment0_Name") == "left kidney"


def test_shear_is_refused(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    mask = Mask(np.ones(SHAPE, np.uint8), Grid.of(SHAPE, affine, space="patient"), CLASSES)
    with pytest.raises(UsageError, match="sheared"):
        io.write_mask(mask, tmp_path / "out.mha")


def test_time_points(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    image = SimpleITK.GetImageFromArray(data, isVector=False)
    for name, packed in (("a.mha", False), ("b.mha", True), ("c.nrrd", True)):
        SimpleITK.WriteImage(image, str(tmp_path / name), packed)
        volume = io.read(tmp_path / name, time=1)
        assert isinstance(volume, Volume)
        assert volume.time_points == 2
        np.testing.assert_array_equal(np.asarray(volume.data[:]), data[1])
        with pytest.raises(UsageError, match="2 time points"):
            io.read(tmp_path / name, time=2)


def test_volumes_travel_by_name(tmp_path: Path) -> None:
    volume = itk.read(str(scan(tmp_path / "a.nrrd", packed=True)))
    again = pickle.loads(pickle.dumps(volume.data))
    np.testing.assert_array_equal(again[1], volume.data[1])


META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = False\n"
    "ElementSpacing = 1 1 1\nDimSize = {size}\nElementType = {kind}\nElementDataFile = {data}\n"
)
NRRD = "NRRD0004\ntype: {kind}\ndimension: 3\nsizes: {size}\nencoding: {encoding}\n{more}\n\n"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (META.format(size="10000 10000 10000", kind="MET_SHORT", data="LOCAL"), "cut short"),
        (META.format(size="2 2 0", kind="MET_SHORT", data="LOCAL"), "without voxels"),
        (META.format(size="2 2 2", kind="MET_STRANGE", data="LOCAL"), "type"),
        (META.format(size="2 2 2", kind="MET_UCHAR", data="../secret.raw"), "outside its own"),
        (META.format(size="2 2 2", kind="MET_UCHAR", data="/etc/passwd"), "outside its own"),
        (META.format(size="2 2 2", kind="MET_UCHAR", data="gone.raw"), "beside it"),
        (META.format(size="2 2 2", kind="MET_UCHAR", data="LIST"), "list of files"),
        ("ObjectType = Image\nNDims = 3\n", "not complete"),
        (NRRD.format(kind="short", size="9999 9999 9999", encoding="raw", more=""), "cut short"),
        (NRRD.format(kind="short", size="9999 9999 9999", encoding="gzip", more=""), "cut short"),
        (NRRD.format(kind="block", size="2 2 2", encoding="raw", more=""), "type"),
        (NRRD.format(kind="uchar", size="2 2", encoding="raw", more=""), "contradicts"),
        (
            NRRD.format(
                kind="uchar", size="1 2 2", encoding="raw", more="kinds: time domain domain"
            ),
            "x, y, z, time",
        ),
        (
            NRRD.format(kind="uchar", size="2 2 2", encoding="raw", more="data file: ../x.raw"),
            "outside its own",
        ),
        (
            NRRD.format(
                kind="uchar", size="3 2 2", encoding="raw", more="kinds: RGB-color domain domain"
            ),
            "colour",
        ),
    ],
)
def test_headers_that_lie_are_refused_before_itk_sees_them(
    tmp_path: Path, content: str, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(8))
    path = folder / ("a.nrrd" if content.startswith("NRRD") else "a.mha")
    path.write_bytes(content.encode() + bytes(4))
    with pytest.raises(InputError, match=word):
        io.info(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_damaged_streams_are_refused(tmp_path: Path, name: str) -> None:
    path = scan(tmp_path / name, packed=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    with pytest.raises(CorruptInputError):
        io.info(path)


def test_colours_are_refused(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True)
    for name in ("a.mha", "a.nrrd"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        with pytest.raises(UnsupportedInputError):
            io.read(tmp_path / name)


def test_an_unstated_orientation_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(kind="uchar", size="2 2 2", encoding="raw", more="").encode())
    path.write_bytes(path.read_bytes()[:-1] + bytes(8))
    assert any("no orientation" in note for note in io.info(path)["notes"])


@given(st.data())
@settings(max_examples=60)
def test_broken_headers_never_break_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / data.draw(st.sampled_from(["a.mha", "a.nrrd"]))
    if not path.exists():
        scan(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 300))] = data.draw(st.integers(32, 126))
    broken = tmp_path / f"broken{path.suffix}"
    broken.write_bytes(content)
    with contextlib.suppress(DigsegError):
        io.info(broken)


@pytest.mark.parametrize(
    ("name", "before", "after", "number"),
    [
        ("a.nrrd", b"space origin: (", b",", b"inf"),
        ("a.nrrd", b"space origin: (", b",", b"nan"),
        ("a.nrrd", b"space origin: (", b",", b"1e999"),
        ("a.mha", b"Offset = ", b" ", b"1e999"),  # ITK takes words for zero
    ],
)
def test_endless_places_are_refused(
    tmp_path: Path, name: str, before: bytes, after: bytes, number: bytes
) -> None:
    path = scan(tmp_path / name)
    content = path.read_bytes()
    start = content.index(before) + len(before)
    end = content.index(after, start)
    path.write_bytes(content[:start] + number + content[end:])
    with pytest.raises(CorruptInputError):
        io.info(path)
