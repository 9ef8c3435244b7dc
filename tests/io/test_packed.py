"""Packed voxels: read in bounded memory, kept once, and proved whole to the end of their stream."""

from __future__ import annotations

import bz2
import gzip
import tracemalloc
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from digseg import io
from digseg.errors import CorruptInputError, DoesNotFitError
from digseg.io import _itk_reader, modality
from digseg.io._packed import Look
from digseg.io._volumes import whole_numbers
from digseg.io._voxels import Voxels
from digseg.raster import Volume
from digseg.types import AnyArray

SHAPE = (4, 5, 6)  # z, y, x
NRRD_TYPES = {"uint8": "uint8", "int16": "short", "uint32": "uint32", "float64": "double"}
META_TYPES = {"uint8": "UCHAR", "int16": "SHORT", "uint32": "UINT", "float64": "DOUBLE"}
PACKED = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "zlib": zlib.compress}


def nrrd(
    path: Path,
    voxels: AnyArray,
    encoding: str,
    *,
    order: str = "<",
    apart: str = "",
    more: str = "",
) -> Path:
    """A NRRD file made by hand, its voxels in the file ``apart`` where that is named."""
    content = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()
    lines = [
        "NRRD0004",
        f"type: {NRRD_TYPES[voxels.dtype.name]}",
        f"dimension: {voxels.ndim}",
        f"sizes: {' '.join(map(str, voxels.shape[::-1]))}",
        f"encoding: {encoding}",
        f"endian: {'big' if order == '>' else 'little'}",
        *([f"data file: {apart}"] if apart else []),
        *([more] if more else []),
    ]
    if encoding == "text":
        body = " ".join(str(value) for value in voxels.ravel()).encode()
    else:
        body = PACKED[encoding](content)
    head = ("\n".join(lines) + "\n\n").encode()
    path.write_bytes(head if apart else head + body)
    if apart:
        (path.parent / apart).write_bytes(body)
    return path


def meta(
    path: Path, voxels: AnyArray, *, packing: str = "raw", order: str = "<", apart: str = ""
) -> Path:
    """A MetaImage file made by hand."""
    body = PACKED[packing](voxels.astype(voxels.dtype.newbyteorder(order)).tobytes())
    lines = [
        "ObjectType = Image",
        f"NDims = {voxels.ndim}",
        "BinaryData = True",
        f"BinaryDataByteOrderMSB = {order == '>'}",
        f"CompressedData = {packing != 'raw'}",
        *([f"CompressedDataSize = {len(body)}"] if packing != "raw" else []),
        f"DimSize = {' '.join(map(str, voxels.shape[::-1]))}",
        f"ElementType = MET_{META_TYPES[voxels.dtype.name]}",
        f"ElementDataFile = {apart or 'LOCAL'}",
    ]
    head = ("\n".join(lines) + "\n").encode()
    path.write_bytes(head if apart else head + body)
    if apart:
        (path.parent / apart).write_bytes(body)
    return path


def voxels_of(path: Path) -> AnyArray:
    volume = io.read(path)
    assert isinstance(volume, Volume)
    return np.asarray(volume.data[:])


def pattern(dtype: str) -> AnyArray:
    return (np.arange(np.prod(SHAPE)) * 7919 % 251).astype(dtype).reshape(SHAPE)


@pytest.mark.parametrize("dtype", NRRD_TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_are_those_that_itk_reads(tmp_path: Path, dtype: str, order: str) -> None:
    expected = pattern(dtype)
    for encoding, apart in product(("raw", "gzip", "bzip2", "text"), ("", "apart.bin")):
        path = nrrd(tmp_path / "a.nrrd", expected, encoding, order=order, apart=apart)
        np.testing.assert_array_equal(voxels_of(path), expected)
        if encoding != "bzip2":  # ITK is built without it
            found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
            np.testing.assert_array_equal(found, expected)
    for packing, apart in product(("raw", "zlib", "gzip"), ("", "apart.raw")):
        path = meta(tmp_path / "a.mhd", expected, packing=packing, order=order, apart=apart)
        np.testing.assert_array_equal(voxels_of(path), expected)
        found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        np.testing.assert_array_equal(found, expected)


def test_bytes_to_skip_are_left_to_itk(tmp_path: Path) -> None:
    expected = pattern("int16")
    path = nrrd(tmp_path / "a.nhdr", expected, "raw", apart="a.bin", more="byte skip: 3")
    (tmp_path / "a.bin").write_bytes(b"abc" + (tmp_path / "a.bin").read_bytes())
    np.testing.assert_array_equal(voxels_of(path), expected)


@pytest.mark.parametrize("name", ["gzip.nrrd", "bzip2.nrrd", "zlib.mha", "gzip.nii.gz"])
def test_info_keeps_no_voxels(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = np.zeros((30, 1000, 1000), np.uint8)
    voxels[:, ::2] = 7
    path = tmp_path / name
    if name.endswith(".nii.gz"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path), True)
    elif name.endswith(".mha"):
        meta(path, voxels, packing="zlib")
    else:
        nrrd(path, voxels, path.stem)
    io.info(path)  # libraries are loaded now
    with monkeypatch.context() as patch:
        patch.setattr(Voxels, "stored", lambda self: pytest.fail("all voxels were unpacked"))
        tracemalloc.start()
        told = io.info(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < voxels.nbytes // 2
    volume = io.read(path)
    assert isinstance(volume, Volume)
    assert told["notes"] == list(volume.meta["notes"])
    assert told["modality"] == volume.modality


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "zlib"])
def test_streams_that_are_no_good_are_refused(tmp_path: Path, packing: str) -> None:
    voxels = np.random.default_rng(0).integers(0, 9, (6, 50, 60)).astype(np.uint8)
    if packing == "zlib":
        path = meta(tmp_path / "a.mha", voxels, packing=packing)
    else:
        path = nrrd(tmp_path / "a.nrrd", voxels, packing)
    np.testing.assert_array_equal(voxels_of(path), voxels)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 0x55]) + whole[middle + 1 :]
    head = whole[: len(whole) - len(PACKED[packing](voxels.tobytes()))]
    short = head + PACKED[packing](voxels[:5].tobytes())
    long = head + PACKED[packing](voxels.tobytes() + bytes(3 << 20))
    for content, word in (
        (whole[:-40], "damaged"),
        (flipped, "damaged"),
        (short, "cut short"),
        (long, f"{packing} bomb"),
    ):
        path.write_bytes(content)
        for ask in (io.info, io.read):
            with pytest.raises(CorruptInputError, match=word) as caught:
                ask(path)
            assert str(caught.value).endswith(".")


def test_what_only_itk_reads_has_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nrrd(tmp_path / "a.nrrd", pattern("int16"), "text")
    monkeypatch.setattr(_itk_reader, "free_bytes", lambda: 400)
    with pytest.raises(DoesNotFitError, match=r"needs 480 B of memory, 400 B are free"):
        io.info(path)


@given(st.data())
def test_a_look_sees_what_lies_there(data: st.DataObject) -> None:
    values = np.arange(data.draw(st.integers(1, 50)), dtype=">i4")
    wanted = data.draw(st.sets(st.integers(0, len(values) - 1)))
    places = np.array(sorted(wanted), dtype=np.int64)
    looking, content = Look(values.dtype, places), values.tobytes()
    while content:
        size = data.draw(st.integers(1, 30))
        looking.write(content[:size])
        content = content[size:]
    np.testing.assert_array_equal(looking.values, values[places])


def test_places_are_those_of_the_sample() -> None:
    for shape in ((1, 1, 1), (3, 200, 70), (40, 5, 300)):
        voxels = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
        np.testing.assert_array_equal(modality.sample(voxels), modality.places(shape))


def test_labels_are_looked_at_in_parts() -> None:
    labels = whole_numbers(np.arange(24, dtype=np.float64).reshape(2, 3, 4) * 20, "a")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(labels[1, 1:, ::2]), [[320, 360], [400, 440]])
    for bad, word in ((0.5, "whole numbers"), (-1.0, "0 to 65535"), (np.nan, "0 to 65535")):
        voxels = np.zeros((2, 3, 4))
        voxels[1, 2, 3] = bad
        with pytest.raises(CorruptInputError, match=word):
            whole_numbers(voxels, "a")
