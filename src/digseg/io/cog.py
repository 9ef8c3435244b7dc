"""Labels as a Cloud Optimized GeoTIFF, each tile compressed once.

GDAL's COG writer needs the whole raster first, as a file with overviews, to decode and compress it
all again. Here labels become tiles and overviews as they come (`_cog_tiles`), while a run still
goes on where somebody asks for it; GDAL writes the header, and the tiles are laid out behind it
(`_cog_layout`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digseg.errors import DigsegError
from digseg.io._cog_header import (
    CLASSES_TAG,
    block_side,
    colormap_of,
    describe,
    profile_of,
    write_header,
)
from digseg.io._cog_layout import lay_out
from digseg.io._cog_tiles import Tiles
from digseg.io.files import explained, remove, replacing
from digseg.io.gdal import environment, failures, open_dataset, said
from digseg.prompts import color_of
from digseg.raster import ClassEntry, ClassTable, Mask, Raster, Volume
from digseg.types import AnyArray, Window

_SIDECAR_BYTES = 2**24
_SMALLEST_TILE = 128
_ROWS = 64
_CHUNK = 2048  # labels are asked for in chunks of 4 x 4 blocks


def write_cog(
    mask: Mask, path: Path, *, source: Raster | Volume | None, tiles: Tiles | None = None
) -> list[Path]:
    """Write ``mask`` as COG with colours, names, statistics and nodata.

    Category names go where GDAL keeps them, into ``<name>.aux.xml``, and into a tag as well.
    ``tiles`` are those of all its labels, where they were made before; they are closed.
    """
    sidecar = path.with_name(path.name + ".aux.xml")
    with replacing(path) as final:
        beside = final.with_name(final.name + ".tiles")
        try:
            if tiles is None:
                tiles = tiles_for(mask, beside)
                for (top, _, left, _), block in _ahead(mask):
                    tiles.put(top, left, block)
            tiles.complete()
            header = final.with_name(final.name + ".header.tif")
            write_header(mask, header, source, tiles)
            lay_out(header, tiles, final)
            # What TIFF's keys have no words for, as a rotated pole, GDAL writes beside the file.
            more = header.with_name(header.name + ".aux.xml")
            written = more.read_text(encoding="utf-8") if more.exists() else None
        except failures() as error:
            if isinstance(error, DigsegError):
                raise
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise write_error(error, path) from error
        finally:
            if tiles is not None:
                tiles.close()
            for leftover in final.parent.glob(f"{final.name}.*"):
                remove(leftover)
        with replacing(sidecar) as text:
            text.write_text(sidecar_text(mask, written), encoding="utf-8")
    return [path, sidecar]


def tiles_for(mask: Mask, scratch: Path, nodata: int | None = None) -> Tiles:
    """Where the labels of ``mask`` are put, window by window, for `write_cog`.

    ``nodata`` stands for pixels without a label, where the mask itself may declare one later.
    """
    rows, columns = mask.grid.shape
    side = max(block_side(rows, columns), _SMALLEST_TILE)
    gives_way = mask.nodata if mask.nodata is not None else nodata
    return Tiles((rows, columns), mask.labels.dtype, side, gives_way, scratch)


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


def write_tiled(
    mask: Mask, path: Path, source: Raster | Volume | None, *, palette: bool = True
) -> None:
    """Stream the labels into a tiled GeoTIFF with colours, class table and statistics."""
    import rasterio

    counts = _write_tiles(mask, path, source, palette=palette)
    with rasterio.open(path, "r+") as target:
        describe(mask, target, counts)


def _write_tiles(
    mask: Mask, path: Path, source: Raster | Volume | None, *, palette: bool
) -> NDArray[np.int64]:
    """Stream the labels; returns how many pixels each value has."""
    import rasterio

    dtype = np.dtype(mask.labels.dtype)
    counts = np.zeros(int(np.iinfo(dtype).max) + 1 if dtype.itemsize <= 2 else 0, dtype=np.int64)
    with rasterio.open(path, "w", **profile_of(mask, source)) as target:
        if palette and dtype.itemsize <= 2:
            target.write_colormap(1, colormap_of(mask))
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
