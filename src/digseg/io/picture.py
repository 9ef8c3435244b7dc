"""PNG and JPEG, read by GDAL so that world files and palettes count; labels as palette PNG."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, DigsegError
from digseg.io import cog
from digseg.io.files import is_remote, remove, replacing
from digseg.io.gdal import environment, failures
from digseg.io.geotiff import info_gdal, labels_of_raster, read_gdal
from digseg.io.registry import Probe
from digseg.io.tiff_guard import BEST_RATIO
from digseg.raster import Mask, Raster, Volume
from digseg.wording import format_size

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
_CLAIM = 256 * 2**20
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def sniff(probe: Probe) -> bool:
    """By magic bytes; a remote one by its name."""
    if probe.kind == "remote":
        return probe.suffix in (".png", ".jpg", ".jpeg")
    return probe.kind == "file" and probe.head.startswith(_MAGIC)


def read(path: str, *, time: int = 0, series: str | None = None) -> Raster:
    """Open lazily as `Raster`; pixels as stored (a rotation noted in EXIF is not applied)."""
    _check_png(path)
    return read_gdal(path, time=time, series=series)


def read_mask(path: str) -> Mask:
    """Labels of a PNG with the names in the sidecar beside it."""
    return labels_of_raster(read(path))


def info(path: str) -> dict[str, Any]:
    """Facts as for a GeoTIFF."""
    _check_png(path)
    return info_gdal(path)


def refuse(mask: Mask, source: Raster | Volume | None) -> str | None:
    """A picture is one plane."""
    if mask.grid.ndim != 2:
        return "A PNG holds one plane: write a volume's labels as .nii.gz or .ome.zarr."
    if np.dtype(mask.labels.dtype).itemsize > 2:
        return "A PNG holds labels up to 65535: write these as .tif."
    return None


def write(mask: Mask, path: Path, *, source: Raster | Volume | None) -> list[Path]:
    """Write a palette PNG; CRS, transform and names go into GDAL's ``.aux.xml`` beside it."""
    import rasterio.shutil

    sidecar = path.with_name(path.name + ".aux.xml")
    with replacing(path) as temporary:
        tiled = temporary.with_name(temporary.name + ".tiled.tif")
        beside = temporary.with_name(temporary.name + ".aux.xml")
        try:
            with environment():
                # A PNG of 16 bits has no palette.
                palette = np.dtype(mask.labels.dtype).itemsize == 1
                cog.write_tiled(mask, tiled, source, palette=palette)
                rasterio.shutil.copy(tiled, temporary, driver="PNG")
            with replacing(sidecar) as text:
                written = beside.read_text(encoding="utf-8") if beside.exists() else None
                text.write_text(cog.sidecar_text(mask, written), encoding="utf-8")
        except failures() as error:
            if isinstance(error, DigsegError):
                raise
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise cog.write_error(error, path) from error
        finally:
            remove(beside)
            remove(tiled)
    return [path, sidecar]


def _check_png(path: str) -> None:
    """Walk a PNG's chunks to its end: GDAL fills in what is missing without a word.

    Raises
    ------
    CorruptInputError
        The file ends before its end chunk, or claims more than deflate can hold.
    """
    if is_remote(path):
        return
    with open(path, "rb") as stream:
        if stream.read(8) != _MAGIC[0]:
            return
        size = stream.seek(0, 2)
        at = 8
        while at + 12 <= size:
            stream.seek(at)
            length, kind = struct.unpack(">I4s", stream.read(8))
            if kind == b"IHDR" and length == 13:
                width, height, depth, color = struct.unpack(">IIBB", stream.read(10))
                claimed = width * height * depth * _SAMPLES.get(color, 1) // 8
                if claimed > _CLAIM and claimed > size * BEST_RATIO:
                    raise CorruptInputError(
                        f"{path} claims {width} x {height} pixels in a file of "
                        f"{format_size(size)}: its header is damaged."
                    )
            at += 12 + length
            if kind == b"IEND" and at <= size:
                return
    raise CorruptInputError(f"{path} is cut short: its end is missing; copy it again.")
