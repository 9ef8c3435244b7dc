"""Labels as a Cloud Optimized GeoTIFF, written block by block.

rasterio's COG writer keeps the whole raster in memory, so the labels are written to a tiled
GeoTIFF first, overviews (by mode: a mean of labels is no label) are added, and GDAL copies the
file into the order that a COG has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.errors import DigsegError
from digseg.io.files import explained, remove, replacing
from digseg.io.gdal import environment, failures, open_dataset, said
from digseg.prompts import color_of
from digseg.raster import ClassEntry, ClassTable, Mask, Raster, Volume
from digseg.types import AnyArray, Window

#: TIFF tag (in GDAL's metadata) that carries the class table, so that it survives without sidecar.
CLASSES_TAG = "DIGSEG_CLASSES"

_BLOCK = 512
_SIDECAR_BYTES = 2**24
#: Megabytes of GDAL's cache while labels are written.
_CACHE_MB = 64
#: The file in between is read once and deleted: fast matters, small does not.
_BETWEEN = {"COMPRESS_OVERVIEW": "DEFLATE", "ZLEVEL_OVERVIEW": "1"}
_ROWS = 64
_CHUNK = 2048  # labels are asked for in chunks of 4 x 4 blocks


def write_cog(mask: Mask, path: Path, *, source: Raster | Volume | None) -> list[Path]:
    """Write ``mask`` as COG with colours, names, statistics and nodata.

    Category names go where GDAL keeps them, into ``<name>.aux.xml``, and into a tag as well.
    """
    sidecar = path.with_name(path.name + ".aux.xml")
    with replacing(path) as final:
        tiled = final.with_name(final.name + ".tiled.tif")
        try:
            with environment(GDAL_CACHEMAX=_CACHE_MB, GDAL_NUM_THREADS="ALL_CPUS"):
                write_tiled(mask, tiled, source)
                _add_overviews(mask, tiled)
                _copy_as_cog(tiled, final)
        except failures() as error:
            if isinstance(error, DigsegError):
                raise
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise write_error(error, path) from error
        finally:
            for leftover in path.parent.glob(f"{tiled.name}*"):
                remove(leftover)
        for leftover in final.parent.glob(f"{final.name}.*"):
            remove(leftover)
        with replacing(sidecar) as text:
            text.write_text(sidecar_text(mask), encoding="utf-8")
    return [path, sidecar]


def write_error(error: BaseException, path: Path) -> Exception:
    """The project's error for one of GDAL's, which keeps the operating system's reason to itself.

    To be asked before what was written so far is removed: a full disk has room again after that.
    """
    return explained(OSError(said(error, str(path))), path)


def chunks(shape: tuple[int, int], side: int = _CHUNK) -> Iterator[Window]:
    """Windows that tile a plane, row by row."""
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield top, min(top + side, shape[0]), left, min(left + side, shape[1])


def _profile(mask: Mask, source: Raster | Volume | None) -> dict[str, Any]:
    from rasterio.crs import CRS
    from rasterio.rpc import RPC
    from rasterio.transform import Affine

    rows, columns = mask.grid.shape
    block = _block(rows, columns)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "count": 1,
        "dtype": np.dtype(mask.labels.dtype).name,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "IF_SAFER",
        "nodata": mask.nodata,
    }
    if mask.grid.crs is not None:
        profile["crs"] = CRS.from_user_input(mask.grid.crs)
    transform = Affine(*mask.grid.transform)
    if not transform.is_identity:
        profile["transform"] = transform
    rpcs = _extra(mask, source, "rpcs")
    if rpcs:
        profile["rpcs"] = RPC.from_gdal(rpcs)
    points = _extra(mask, source, "gcps")
    if points and transform.is_identity:
        # A GeoTIFF holds a transform or ground control points, not both.
        profile["gcps"] = _points(points)
        crs = _extra(mask, source, "gcps_crs")
        profile["crs"] = CRS.from_user_input(crs) if crs else None
    return profile


def _block(rows: int, columns: int) -> int:
    """Side of a block: smaller for small masks, so that they are tiled, too."""
    block = _BLOCK
    while block > 16 and block >= min(rows, columns):
        block //= 2
    return block


def _extra(mask: Mask, source: Raster | Volume | None, key: str) -> Any:
    if key in mask.meta:
        return mask.meta[key]
    return source.meta.get(key) if source is not None else None


def _points(points: Any) -> list[Any]:
    from rasterio.control import GroundControlPoint

    return [GroundControlPoint(row, col, x, y, z) for row, col, x, y, z in points]


def write_tiled(
    mask: Mask, path: Path, source: Raster | Volume | None, *, palette: bool = True
) -> None:
    """Stream the labels into a tiled GeoTIFF with colours, class table and statistics."""
    import rasterio

    counts = _write_tiles(mask, path, source, palette=palette)
    with rasterio.open(path, "r+") as target:
        target.update_tags(**{CLASSES_TAG: json.dumps(mask.classes.to_list())})
        target.update_tags(1, **_statistics(mask, counts))
        target.set_band_description(1, "labels")


def _write_tiles(
    mask: Mask, path: Path, source: Raster | Volume | None, *, palette: bool
) -> NDArray[np.int64]:
    """Stream the labels; returns how many pixels each value has."""
    import rasterio

    dtype = np.dtype(mask.labels.dtype)
    counts = np.zeros(int(np.iinfo(dtype).max) + 1 if dtype.itemsize <= 2 else 0, dtype=np.int64)
    with rasterio.open(path, "w", **_profile(mask, source)) as target:
        if palette and dtype.itemsize <= 2:
            target.write_colormap(1, _colormap(mask))
        for (top, bottom, left, right), block in _ahead(mask):
            target.write(block, 1, window=((top, bottom), (left, right)))
            if len(counts):
                for rows in range(0, len(block), _ROWS):  # a few: counting takes 8 bytes a pixel
                    strip = block[rows : rows + _ROWS].ravel()
                    counts += np.bincount(strip, minlength=len(counts))
    return counts


def _ahead(mask: Mask) -> Iterator[tuple[Window, AnyArray]]:
    """Chunk after chunk of the labels, the next one found while the last is written."""

    def found(window: Window) -> AnyArray:
        top, bottom, left, right = window
        return np.ascontiguousarray(mask.labels[top:bottom, left:right])

    windows = list(chunks((mask.grid.shape[0], mask.grid.shape[1])))
    with ThreadPoolExecutor(1, thread_name_prefix="digseg labels") as pool:
        ahead = pool.submit(found, windows[0])
        for window, after in zip(windows, [*windows[1:], None], strict=True):
            block = ahead.result()
            if after is not None:
                ahead = pool.submit(found, after)
            yield window, block


def _colormap(mask: Mask) -> dict[int, tuple[int, int, int, int]]:
    return {0: (0, 0, 0, 0)} | {entry.id: (*entry.color, 255) for entry in mask.classes.entries}


def _add_overviews(mask: Mask, path: Path) -> None:
    import rasterio
    from rasterio.enums import Resampling

    factors = overview_factors((mask.grid.shape[0], mask.grid.shape[1]))
    if factors:
        # GDAL takes whole rows of blocks at once; several threads would hold several of them.
        with (
            rasterio.Env(GDAL_NUM_THREADS="1", **_BETWEEN),
            rasterio.open(path, "r+") as target,
        ):
            target.build_overviews(factors, Resampling.mode)


def overview_factors(shape: tuple[int, int], block: int = _BLOCK) -> list[int]:
    """Powers of two until a level fits into one block."""
    factors: list[int] = []
    while max(shape) / (2 ** len(factors)) > block:
        factors.append(2 ** (len(factors) + 1))
    return factors


def _statistics(mask: Mask, counts: NDArray[np.int64]) -> dict[str, str]:
    """Statistics of the labels that are data, under the names that GDAL gives them."""
    counts = counts.copy()
    total = int(counts.sum())
    if mask.nodata is not None and mask.nodata < len(counts):
        counts[mask.nodata] = 0
    present = np.flatnonzero(counts)
    if not len(present):
        return {}
    valid = int(counts.sum())
    values = np.arange(len(counts), dtype=np.float64)
    mean = float((values * counts).sum() / valid)
    deviation = math.sqrt(max(0.0, float(((values - mean) ** 2 * counts).sum() / valid)))
    return {
        "STATISTICS_MINIMUM": str(int(present[0])),
        "STATISTICS_MAXIMUM": str(int(present[-1])),
        "STATISTICS_MEAN": repr(mean),
        "STATISTICS_STDDEV": repr(deviation),
        "STATISTICS_VALID_PERCENT": f"{100 * valid / total:.4g}",
    }


def _copy_as_cog(tiled: Path, path: Path) -> None:
    import rasterio
    import rasterio.shutil

    with rasterio.open(tiled) as dataset:
        block = dataset.block_shapes[0][0]
        rasterio.shutil.copy(
            dataset,
            path,
            driver="COG",
            blocksize=max(block, 128),
            compress="DEFLATE",
            bigtiff="IF_SAFER",
            overviews="AUTO" if dataset.overviews(1) else "NONE",
            overview_resampling="MODE",
            resampling="MODE",
        )


def sidecar_text(mask: Mask, written: str | None = None) -> str:
    """GDAL's sidecar with the category names, index by index, added to what GDAL wrote."""
    import xml.etree.ElementTree as ET

    root = ET.Element("PAMDataset") if written is None else ET.fromstring(written)
    band = root.find("PAMRasterBand[@band='1']")
    if band is None:
        band = ET.SubElement(root, "PAMRasterBand", {"band": "1"})
    names = mask.classes.names
    categories = ET.SubElement(band, "CategoryNames")
    for index in range(max(names) + 1):
        ET.SubElement(categories, "Category").text = names.get(index, "")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def read_classes(path: str) -> ClassTable | None:
    """The class table that a label raster carries, as GDAL (and so QGIS) shows it.

    Names are the category names of GDAL's sidecar, or else those of our tag; colours are those
    that GDAL gives, which for a GeoTIFF are the sidecar's where it has some. Synonyms, which GDAL
    doesn't know, are the tag's. `None` where nothing is named: then it is an image, or labels
    without names.
    """
    with environment(path), open_dataset(path) as dataset:
        text = dataset.tags().get(CLASSES_TAG)
        colors = dataset.colormap(1) if dataset.colorinterp[0].name == "palette" else {}
    tagged = {entry.id: entry for entry in (classes_from_json(text) or ClassTable(())).entries}
    shown = {index: name for index, name in enumerate(_categories(Path(path))) if index and name}
    names = shown or {index: entry.name for index, entry in tagged.items()}
    entries = []
    for index, name in names.items():
        own = tagged.get(index)
        color = own.color if own is not None else color_of(name, index)
        if index in colors:
            red, green, blue = colors[index][:3]
            color = (int(red), int(green), int(blue))
        same = own is not None and own.name == name
        entries.append(ClassEntry(index, name, color, own.synonyms if own and same else ()))
    return ClassTable(tuple(entries)) if entries else None


def classes_from_json(text: str) -> ClassTable | None:
    """Inverse of ``json.dumps(table.to_list())``; `None` for anything else."""
    try:
        items = json.loads(text)
        return ClassTable(
            tuple(
                ClassEntry(
                    int(item["id"]),
                    str(item["name"]),
                    (int(item["color"][0]), int(item["color"][1]), int(item["color"][2])),
                    tuple(str(word) for word in item.get("synonyms", ())),
                )
                for item in items
            )
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None


def _categories(path: Path) -> list[str]:
    """Category names of GDAL's sidecar."""
    import xml.etree.ElementTree as ET

    sidecar = path.with_name(path.name + ".aux.xml")
    if not sidecar.is_file() or sidecar.stat().st_size > _SIDECAR_BYTES:
        return []
    text = sidecar.read_text(encoding="utf-8", errors="replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return []  # only a trap that expands without end needs those here
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return []
    return [node.text or "" for node in root.findall(".//PAMRasterBand[@band='1']//Category")]
