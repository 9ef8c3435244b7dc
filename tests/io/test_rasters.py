"""GeoTIFF, PNG, JPEG, OME-TIFF and Zarr under the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from PIL import Image
from rasterio.transform import Affine
from tests.io.conformance import CLASSES, ValidateReader, ValidateWriter

from digseg import io
from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.raster import Mask
from digseg.types import AnyArray

# Rotated and sheared, with steps that no decimal notation holds.
TILTED = (1 / 3, 0.1, 500000.1, 0.07, -2 / 7, 5e6 + 1 / 3)


def pattern(*shape: int, dtype: str) -> AnyArray:
    """Every pixel another value, as far as the type goes."""
    size = int(np.prod(shape))
    if np.dtype(dtype).kind == "f":
        return (np.arange(size, dtype=dtype) / 7).reshape(shape)
    top = np.iinfo(dtype).max
    return (np.arange(size, dtype=np.uint64) * 2654435761 % top).astype(dtype).reshape(shape)


class GeoTiff(ValidateReader):
    suffix = ".tif"
    kind = "raster"
    dtype = "uint16"
    bands = 2
    options: ClassVar[dict[str, object]] = {}

    def make(self, path: Path) -> AnyArray:
        pixels = pattern(self.bands, 150, 133, dtype=self.dtype)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=self.bands,
            height=150,
            width=133,
            dtype=self.dtype,
            crs="EPSG:32633",
            transform=Affine(*TILTED),
            **self.options,
        ) as target:
            target.write(pixels)
        return pixels


class TestTiledDeflate(GeoTiff, ValidateWriter):
    options: ClassVar[dict[str, object]] = {
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
        "compress": "deflate",
    }

    def grid(self) -> Grid:
        return Grid.from_transform((150, 133), TILTED, crs="EPSG:32633")

    def independent(self, path: Path) -> AnyArray:
        with rasterio.open(path) as source:
            assert source.crs.to_epsg() == 32633
            assert tuple(source.transform)[:6] == TILTED
            return source.read(1)


class TestStripsLzw(GeoTiff):
    dtype = "float64"
    options: ClassVar[dict[str, object]] = {"compress": "lzw", "predictor": 3}


class TestPlanarBigTiff(GeoTiff):
    dtype = "int32"
    bands = 5
    options: ClassVar[dict[str, object]] = {"bigtiff": "yes", "interleave": "band"}


class TestSignedBytes(GeoTiff):
    dtype = "int8"
    bands = 1


class TestFloat32(GeoTiff):
    dtype = "float32"
    options: ClassVar[dict[str, object]] = {"compress": "zstd"}


class TestSixtyFourBits(GeoTiff):
    dtype = "uint64"
    bands = 1


class TestPng(ValidateReader, ValidateWriter):
    suffix = ".png"
    kind = "raster"

    def make(self, path: Path) -> AnyArray:
        pixels = pattern(41, 37, 3, dtype="uint8")
        Image.fromarray(pixels).save(path)
        return np.moveaxis(pixels, -1, 0)

    def grid(self) -> Grid:
        return Grid.from_transform((41, 37), TILTED, crs="EPSG:32633")

    def independent(self, path: Path) -> AnyArray:
        with Image.open(path) as picture:
            return np.asarray(picture)

    def test_palette_shows_the_classes(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.png"
        io.write_mask(self.mask(), path)
        with Image.open(path) as picture:
            shown = np.asarray(picture.convert("RGB"))
        labels = np.asarray(self.mask().labels)
        for entry in CLASSES.entries:
            assert (shown[labels == entry.id] == entry.color).all()


class TestJpeg(ValidateReader):
    suffix = ".jpg"
    kind = "raster"

    def make(self, path: Path) -> AnyArray:
        pixels = pattern(64, 48, 3, dtype="uint8")
        Image.fromarray(pixels).save(path, quality=95)
        with Image.open(path) as picture:
            return np.moveaxis(np.asarray(picture), -1, 0)


class TestOmeTiff(ValidateReader):
    suffix = ".ome.tif"
    kind = "array"

    def make(self, path: Path) -> AnyArray:
        pixels = pattern(4, 40, 56, dtype="uint16")
        tifffile.imwrite(path, pixels, metadata={"axes": "CYX"}, tile=(16, 16), compression="zlib")
        return pixels


class TestOmeTiffStack(ValidateReader):
    suffix = ".ome.tiff"
    kind = "array"

    def make(self, path: Path) -> AnyArray:
        pixels = pattern(7, 40, 56, dtype="float32")
        tifffile.imwrite(
            path,
            pixels,
            metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0},
        )
        return pixels

    def test_steps_are_the_files(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ome.tiff"
        self.make(path)
        grid = io.read(path).grid
        assert grid.spacing == (2.0, 1.0, 0.5)
        assert grid.unit == "micrometer"


class TestPlainZarr2(ValidateReader):
    suffix = ".zarr"
    kind = "array"

    def make(self, path: Path) -> AnyArray:
        pixels = pattern(6, 40, 56, dtype="int16")
        array = zarr.create_array(
            str(path), shape=pixels.shape, chunks=(2, 16, 16), dtype=">i2", zarr_format=2
        )
        array[:] = pixels
        return pixels


class TestOmeZarr(ValidateReader, ValidateWriter):
    suffix = ".ome.zarr"
    kind = "array"

    def make(self, path: Path) -> AnyArray:
        pixels = pattern(1, 3, 1, 40, 56, dtype="uint16")
        group = zarr.create_group(str(path), zarr_format=3)
        array = group.create_array("s0", shape=pixels.shape, chunks=(1, 1, 1, 16, 16), dtype="u2")
        array[:] = pixels
        group.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [
                {
                    "axes": [{"name": name} for name in "tczyx"],
                    "datasets": [{"path": "s0"}],
                }
            ],
        }
        return pixels[0, :, 0]

    def grid(self) -> Grid:
        return Grid.from_transform((600, 301), TILTED, crs="EPSG:32633")

    def independent(self, path: Path) -> AnyArray:
        return np.asarray(zarr.open_group(str(path), mode="r")["0"][:])

    def test_existing_folder_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.ome.zarr"
        path.mkdir()
        (path / "mine").write_text("precious")
        with pytest.raises(FileExistsError):
            io.write_mask(self.mask(), path)
        assert (path / "mine").read_text() == "precious"

    def test_volume(self, tmp_path: Path) -> None:
        affine = [[-2.0, 0.1, 0, 90], [0.1, 2.0, 0, -126], [0, 0, 3.5, -72], [0, 0, 0, 1]]
        grid = Grid.of((5, 30, 20), affine, space="patient", unit="millimetre")
        labels = pattern(5, 30, 20, dtype="uint8") % 4
        path = tmp_path / "volume.ome.zarr"
        io.write_mask(Mask(labels, grid, CLASSES), path)
        back = io.read(path)
        assert back.grid == grid
        np.testing.assert_array_equal(np.asarray(back.data[...]), labels)


def test_volume_as_picture_is_refused(tmp_path: Path) -> None:
    mask = Mask(np.zeros((2, 3, 4), np.uint8), Grid.of((2, 3, 4)), CLASSES)
    for name in ("a.tif", "a.png"):
        with pytest.raises(UsageError, match="one plane"):
            io.write_mask(mask, tmp_path / name)


def test_unknown_suffix_lists_what_is_written(tmp_path: Path) -> None:
    mask = Mask(np.zeros((3, 4), np.uint8), Grid.of((3, 4)), CLASSES)
    with pytest.raises(UsageError, match=r"\.tif"):
        io.write_mask(mask, tmp_path / "a.docx")
