"""GeoTIFF, COG and BigTIFF, and the reading that all of GDAL's rasters share."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError, UsageError
from digseg.io import tiff_guard
from digseg.io._gdal_open import listed, opened, subdataset
from digseg.io.files import identity, is_remote
from digseg.io.gdal import (
    environment,
    grid_of,
    open_dataset,
    pixels,
    validity,
)
from digseg.io.raster_info import pages_of, probe_pixels, raster_facts
from digseg.io.registry import Probe
from digseg.lazy import Bounds, WindowArray, box
from digseg.raster import ClassTable, Mask, Raster, Source, Volume
from digseg.types import AnyArray, LazyArray
from digseg.wording import format_size

_MOSAICS = ("VRT", "MRF")


def sniff(probe: Probe) -> bool:
    """By magic bytes; a remote one by its name, without a request."""
    if probe.kind == "remote":
        return probe.suffix in (".tif", ".tiff", ".gtiff", ".cog")
    return probe.kind == "file" and tiff_guard.is_tiff(probe.head)


def read(path: str, *, time: int = 0, series: str | None = None) -> Raster:
    """Open a GeoTIFF lazily as `Raster`."""
    _guard(path)
    return read_gdal(path, time=time, series=series)


def info(path: str) -> dict[str, Any]:
    """Facts as `docs/formats.md` lists them."""
    _guard(path)
    return info_gdal(path)


def refuse(mask: Mask, source: Raster | Volume | None) -> str | None:
    """GeoTIFF holds two axes."""
    if mask.grid.ndim != 2:
        return "A GeoTIFF holds one plane: write a volume's labels as .nii.gz or .ome.zarr."
    return None


def write(mask: Mask, path: Path, *, source: Raster | Volume | None) -> list[Path]:
    """Write a Cloud Optimized GeoTIFF; see `digseg.io.cog`."""
    from digseg.io.cog import write_cog

    return write_cog(mask, path, source=source)


def read_mask(path: str) -> Mask:
    """Labels of a GeoTIFF, lazily, with the names and colours that it carries."""
    return labels_of_raster(read(path))


def labels_of_raster(raster: Raster) -> Mask:
    """A raster as labels, with the names of its file.

    Raises
    ------
    UnsupportedInputError
        It has several bands, or values that are no labels.
    """
    from digseg.io.cog import read_classes

    path = raster.source.path if raster.source else "The raster"
    if raster.bands != 1 or np.dtype(raster.data.dtype).kind != "u":
        raise UnsupportedInputError(f"{path} holds no labels: those are one band of whole numbers.")
    nodata = None if raster.nodata is None else int(raster.nodata)
    classes = read_classes(path)
    meta = {"named": classes is not None}
    return Mask(plane(raster.data), raster.grid, classes or ClassTable(()), nodata, meta)


def plane(data: LazyArray) -> WindowArray:
    """The first band of ``[band, y, x]`` as a lazy ``[y, x]``."""
    return WindowArray(data.shape[1:], data.dtype, _FirstBand(data))


@dataclass(frozen=True, eq=False)
class _FirstBand:
    data: LazyArray

    def __call__(self, bounds: Bounds) -> AnyArray:
        found: AnyArray = box(self.data, ((0, 1), *bounds))[0]
        return found


def _guard(path: str) -> None:
    if not is_remote(path):
        tiff_guard.check_tiff(path)


def read_gdal(path: str, *, time: int = 0, series: str | None = None) -> Raster:
    """Open any raster that GDAL reads.

    Raises
    ------
    UnsupportedInputError
        No driver takes it, pixels are complex, or it holds several images and none was chosen.
    CorruptInputError
        The header is inconsistent.
    """
    if time:
        raise UsageError(f"{path} is a raster without time points: leave the time point at 0.")
    whole, path = path, subdataset(path, series) if series else path
    with environment(path), opened(path) as dataset:
        image = _raster(path, dataset)
        pages = pages_of(dataset)
    if whole == path and pages > 1:
        note = f"{pages} pages: the first is read, --series 2 takes the second"
        return replace(image, meta={**image.meta, "notes": (note,)})
    if whole == path or image.source is None:
        return image
    return replace(image, source=_part_of(image.source, whole, path))


def _part_of(source: Source, whole: str, name: str) -> Source:
    """The source of one image of a file that holds several."""
    content = source.identity
    if not is_remote(whole) and Path(whole).exists():
        content = hashlib.sha256(
            f"{identity(Path(whole))}|{name.replace(whole, '')}".encode()
        ).hexdigest()
    return replace(source, path=whole, identity=content)


def info_gdal(path: str) -> dict[str, Any]:
    """`info` for any raster that GDAL reads; decodes a sample of the pixels."""
    with environment(path), opened(path) as dataset:
        facts = raster_facts(dataset, _raster(path, dataset))
        probe_pixels(path, dataset)
    return facts


def _raster(path: str, dataset: Any) -> Raster:
    if dataset.count == 0:
        names = list(dataset.subdatasets)
        if names:
            raise UnsupportedInputError(
                f"{path} holds {len(names)} images ({listed(names)}): choose one with series."
            )
        raise UnsupportedInputError(f"{path} holds no bands: it is no image.")
    dtype = _dtype(path, dataset)
    _check_claims(path, dataset, dtype)
    grid = grid_of(dataset)
    shape = (int(dataset.count), *grid.shape)
    levels = tuple(
        pixels(path, (shape[0], *side), dtype, level) for level, side in _overviews(dataset)
    )
    nodata, valid = _validity(path, dataset)
    return Raster(
        data=pixels(path, (shape[0], shape[1], shape[2]), dtype),
        grid=grid,
        nodata=nodata,
        valid=valid,
        band_names=tuple(
            text or f"band {index}" for index, text in enumerate(dataset.descriptions, start=1)
        ),
        levels=levels,
        source=Source(path, str(dataset.driver), _identity(path, dataset)),
        meta=_meta(dataset, dtype),
    )


def _dtype(path: str, dataset: Any) -> np.dtype[Any]:
    if any("complex" in name for name in dataset.dtypes):
        raise UnsupportedInputError(
            f"{path} holds complex numbers: convert it to amplitude or intensity first."
        )
    return np.result_type(*(np.dtype(name) for name in dataset.dtypes))


def _check_claims(path: str, dataset: Any, dtype: np.dtype[Any]) -> None:
    """A header may ask for a terabyte; mosaics of other files are the exception."""
    if is_remote(path) or dataset.driver in _MOSAICS or not Path(path).is_file():
        return
    claimed = dataset.width * dataset.height * dataset.count * dtype.itemsize
    held = sum(Path(name).stat().st_size for name in dataset.files if Path(name).is_file())
    if claimed > tiff_guard.SUSPICIOUS_BYTES and claimed > held * tiff_guard.BEST_RATIO:
        raise CorruptInputError(
            f"{path} claims {dataset.width} x {dataset.height} pixels ({format_size(claimed)}) "
            f"and holds {format_size(held)}: its header is damaged."
        )


def _overviews(dataset: Any) -> list[tuple[int, tuple[int, int]]]:
    """Level number and shape of each overview that all bands have."""
    per_band = [dataset.overviews(band) for band in dataset.indexes]
    if any(factors != per_band[0] for factors in per_band):
        return []
    found = []
    for level in range(len(per_band[0])):
        with open_dataset(dataset.name, level) as overview:
            found.append((level, (int(overview.height), int(overview.width))))
    return found


def _validity(path: str, dataset: Any) -> tuple[float | None, WindowArray | None]:
    """One nodata value for all bands, and a mask where that does not say it all."""
    from rasterio.enums import MaskFlags

    values = list(dataset.nodatavals)
    shape = (int(dataset.height), int(dataset.width))
    flags = {flag for band in dataset.mask_flag_enums for flag in band}
    masked = bool(flags & {MaskFlags.per_dataset, MaskFlags.alpha})
    same = all(_same(value, values[0]) for value in values)
    if not same:
        return None, validity(path, shape)
    nodata = None if values[0] is None else float(values[0])
    return nodata, validity(path, shape) if masked else None


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return a == b or (math.isnan(a) and math.isnan(b))


def _identity(path: str, dataset: Any) -> str:
    if not is_remote(path) and Path(path).exists():
        return identity(Path(path))
    # Remote: the header and one coarse look at the pixels, a request or two.
    side = min(dataset.width, dataset.height, 64)
    sample = dataset.read(1, window=((0, side), (0, side)))
    digest = hashlib.sha256(repr(sorted(dataset.profile.items(), key=str)).encode())
    digest.update(np.ascontiguousarray(sample).tobytes())
    return digest.hexdigest()


def _meta(dataset: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Extras that writers and the choice of bands need, as plain picklable values."""
    meta: dict[str, Any] = {"colors": tuple(item.name for item in dataset.colorinterp)}
    points, crs = dataset.gcps
    if points:
        meta["gcps"] = tuple(
            (float(p.row), float(p.col), float(p.x), float(p.y), float(p.z or 0.0)) for p in points
        )
        meta["gcps_crs"] = None if not crs else crs.to_wkt()
    if dataset.rpcs is not None:
        meta["rpcs"] = dict(dataset.rpcs.to_gdal())
    palette = palette_of(dataset, dtype)
    if palette is not None:
        meta["palette"] = palette
    tags = dataset.tags()
    if tags:
        meta["tags"] = dict(tags)
    return meta


def palette_of(dataset: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Colour table of the first band, ``uint8 [256 or 65536, 4]``; `None` where it has none."""
    if dtype not in (np.uint8, np.uint16) or dataset.colorinterp[0].name != "palette":
        return None
    table = np.zeros((int(np.iinfo(dtype).max) + 1, 4), dtype=np.uint8)
    for index, color in dataset.colormap(1).items():
        if 0 <= index < len(table):
            table[index] = color
    return table
