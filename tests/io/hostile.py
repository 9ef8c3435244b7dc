"""Files that lie, made from a few bytes: for tests, and for people who add formats."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

TERA = 10**6  # a side: 10^12 pixels


def make_all(folder: Path) -> list[Path]:
    """Write every hostile file into a folder; returns what to open."""
    before = set(folder.iterdir())
    good = _good_tiff()
    contents: dict[str, bytes] = {
        "empty.tif": b"",
        "empty.nii.gz": b"",
        "empty.png": b"",
        "text.tif": b"no pixels here\n" * 50,
        "text.nii": b"no voxels here\n" * 50,
        "text.dcm": b"no slices here\n" * 50,
        "words.txt": b"no image at all\n" * 50,
        "noise.tif": np.random.default_rng(1).bytes(4000),
        "noise.nii.gz": np.random.default_rng(2).bytes(4000),
        "noise": np.random.default_rng(3).bytes(4000),
        "tiff_named.png": good,
        "tiff_named.nii.gz": good,
        "tiff_named.dcm": good,
        "png_named.tif": _good_png(),
        "gzip_named.tif": gzip.compress(good),
        "tera_strips.tif": tiff_header(TERA, TERA),
        "tera_tiles.tif": tiff_header(TERA, TERA, tile=256, compression=8),
        "huge_block.tif": tiff_header(100_000, 100_000, compression=8),
        "huge_tile.tif": tiff_header(100_000, 100_000, tile=65_520, compression=5),
        "most_pixels.tif": tiff_header(2**32 - 1, 2**32 - 1),
        "no_pixels.tif": tiff_header(0, 0),
        "many_strips.tif": tiff_header(1000, 1000, count=4 * 10**9),
        "tera.png": _png(TERA, TERA, zlib.compress(bytes(1000))),
        "interlaced_bomb.png": _png(20_000, 20_000, zlib.compress(bytes(10**7)), interlaced=True),
        "tera.bmp": b"BM"
        + struct.pack("<IHHIIiiHH", 98, 0, 0, 54, 40, TERA, TERA, 1, 24)
        + bytes(80),
        "tera.asc": b"ncols 1000000\nnrows 1000000\nxllcorner 0\nyllcorner 0\ncellsize 1\n1 2\n",
        "tera.nii": _nifti(10_000),
        "tera.nii.gz": gzip.compress(_nifti(10_000)),
        "bomb.nii.gz": _gzip_bomb(_nifti(1000), 3 * 10**8),
        "tera.mha": _mha(10_000, compressed=False),
        "tera_compressed.mha": _mha(10_000, compressed=True),
        "tera.nrrd": _nrrd(10_000),
        "no_source.vrt": _vrt("missing.tif"),
    }
    for name, sides in (("tera", (TERA, TERA, 1)), ("planes", (8, 8, 10**9))):
        contents[f"{name}.ome.tif"] = _ome_tiff(*sides)
    for part in (3, 9, 60, len(good) // 3, len(good) - 1):
        contents[f"cut_at_{part}.tif"] = good[:part]
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    _archives(folder, good)
    _zarrs(folder)
    (folder / "empty_folder").mkdir()
    os.symlink("nowhere.tif", folder / "dangling.tif")
    os.symlink("round.tif", folder / "round.tif")
    os.mkfifo(folder / "pipe.tif")
    return sorted(set(folder.iterdir()) - before)


def tiff_header(
    width: int, height: int, *, tile: int = 0, compression: int = 1, count: int = 1
) -> bytes:
    """A TIFF that is nothing but a directory with these claims, and a few zero bytes."""
    tags = [(256, width), (257, height), (258, 8), (259, compression), (262, 1), (277, 1)]
    if tile:
        tags += [(322, tile), (323, tile), (324, 200), (325, 100)]
    else:
        tags += [(273, 200), (278, max(1, height)), (279, 100)]
    entries = b"".join(
        struct.pack("<HHII", tag, 4, count if tag in (273, 279) else 1, value)
        for tag, value in sorted(tags)
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + bytes(400)


def _good_tiff() -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(90 * 80, dtype=np.uint16).reshape(90, 80)
    Image.fromarray(pixels).save(stream, format="TIFF")
    return stream.getvalue()


def _ome_tiff(width: int, height: int, planes: int) -> bytes:
    """Eight by eight pixels whose metadata claim others."""
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="P" DimensionOrder="XYZCT" Type="uint8" SizeX="{width}" SizeY="{height}" '
        f'SizeZ="{planes}" SizeC="1" SizeT="1"><TiffData/></Pixels></Image></OME>'
    )
    stream = io.BytesIO()
    pixels = Image.fromarray(np.zeros((8, 8), np.uint8))
    pixels.save(stream, format="TIFF", description=text)
    return stream.getvalue()


def _good_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(90 * 80, dtype=np.uint16).reshape(90, 80)).save(stream, "PNG")
    return stream.getvalue()


def _png(width: int, height: int, data: bytes, *, interlaced: bool = False) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _nifti(side: int) -> bytes:
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_shape((side, side, side))
    header.set_data_dtype("uint8")
    return bytes(header.binaryblock) + bytes(100)


def _gzip_bomb(head: bytes, size: int) -> bytes:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=9, mtime=0) as packed:
        packed.write(head)
        for _ in range(size // 10**6):
            packed.write(bytes(10**6))
    return stream.getvalue()


def _mha(side: int, *, compressed: bool) -> bytes:
    lines = [
        "ObjectType = Image", "NDims = 3", f"DimSize = {side} {side} {side}",
        "ElementType = MET_UCHAR", "ElementSpacing = 1 1 1",
        *(["CompressedData = True", "CompressedDataSize = 50"] if compressed else []),
        "ElementDataFile = LOCAL", "",
    ]  # fmt: skip
    return "\n".join(lines).encode() + bytes(50)


def _nrrd(side: int) -> bytes:
    lines = [
        "NRRD0004", "type: uint8", "dimension: 3", f"sizes: {side} {side} {side}",
        "encoding: gzip", "space: left-posterior-superior",
        "space directions: (1,0,0) (0,1,0) (0,0,1)", "space origin: (0,0,0)", "", "",
    ]  # fmt: skip
    return "\n".join(lines).encode() + gzip.compress(bytes(1000))


def _vrt(source: str) -> bytes:
    return (
        '<VRTDataset rasterXSize="100" rasterYSize="100"><VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()


def _archives(folder: Path, good: bytes) -> None:
    for name, member in (("leaving.zip", "../../evil.tif"), ("leaving.zarr.zip", "../zarr.json")):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, good)
    with tarfile.open(folder / "leaving.tar.gz", "w:gz") as packed:
        member_info = tarfile.TarInfo("../../evil.tif")
        member_info.size = len(good)
        packed.addfile(member_info, io.BytesIO(good))


def _zarrs(folder: Path) -> None:
    def store(name: str, **files: bytes) -> None:
        (folder / name).mkdir()
        for file, content in files.items():
            (folder / name / file).write_bytes(content)

    array = {
        "zarr_format": 2, "shape": [TERA, TERA], "chunks": [1000, 1000], "dtype": "|u1",
        "compressor": None, "fill_value": 0, "filters": None, "order": "C",
    }  # fmt: skip
    store("tera.zarr", **{".zarray": json.dumps(array).encode()})
    one = {**array, "shape": [10**5, 10**5], "chunks": [10**5, 10**5]}
    store("one_chunk.zarr", **{".zarray": json.dumps(one).encode()})
    none = {**array, "shape": [64, 64], "chunks": [0, 64]}
    store("no_chunk.zarr", **{".zarray": json.dumps(none).encode()})
    store("torn.zarr", **{"zarr.json": b'{"zarr_format": 3,'})
    store("deep.zarr", **{"zarr.json": b"[" * 100_000})
    store("list.zarr", **{".zarray": b"[]"})
    level = [{"path": "../../../../etc"}]
    scales = {"multiscales": [{"version": "0.4", "axes": ["y", "x"], "datasets": level}]}
    store(
        "leaving.zarr",
        **{".zgroup": b'{"zarr_format": 2}', ".zattrs": json.dumps(scales).encode()},
    )
