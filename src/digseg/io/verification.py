"""Proof that an output lies where its input lies and says what its labels mean."""

from __future__ import annotations

import os
from itertools import product

import numpy as np

from digseg.errors import InputError
from digseg.grid import Grid
from digseg.io import registry
from digseg.io.difference import Difference, blocks_of, same_crs, short_crs
from digseg.io.vector import is_vector
from digseg.raster import Mask, Raster, Volume
from digseg.types import AnyArray, LazyArray

#: Share of a voxel by which corners may move between *different* volume formats: NIfTI keeps its
#: affine in float32. Within one format, and for all rasters, equal means equal to the bit.
VOXEL_TOLERANCE = 1e-3

#: Steps of 255 by which a colour may move: DICOM keeps colours as CIELab.
COLOR_TOLERANCE = 2


def compare(
    input_path: str | os.PathLike[str] | Raster | Volume,
    output_path: str | os.PathLike[str],
    *,
    series: str | None = None,
    nodata: int | None = None,
) -> list[Difference]:
    """Reopen both (or only the output, where the opened input is given) and list what differs.

    ``series`` says which of several the input is, as for `digseg.io.read`; ``nodata`` is a label
    without a name that may be there, where the format can't say so. Compared are shape,
    space, CRS, transform or affine, orientation, ground control points, label ids and, where both
    are labels, names, colours and the labels themselves; of polygons, see `vector_check`.

    Raises
    ------
    InputError
        One of them can't be read.
    UsageError
        The input holds several series and none of them, or none that is there, is named.
    """
    image: Raster | Volume
    before: Mask | None = None
    if isinstance(input_path, (Raster, Volume)):
        image = input_path
    else:
        image = registry.read(input_path, series=series)
        before = labels_of(input_path, image)
    if is_vector(output_path):
        from digseg.io.vector_check import compare_polygons

        return compare_polygons(image.grid, os.fspath(output_path), before)
    output = registry.read(output_path)
    found = compare_place(image, output)
    after = labels_of(output_path, output)
    if after is not None:
        found += check_ids(after, nodata)
    elif before is not None:
        found.append(Difference("the class table", "names for its labels", "missing"))
    if before is not None and after is not None:
        found += compare_names(before, after)
        if before.grid.shape == after.grid.shape:
            found += compare_labels(before.labels, after.labels)
    return found


def labels_of(path: str | os.PathLike[str], image: Raster | Volume) -> Mask | None:
    """The file as labels with names; `None` where it carries no names (an image, then)."""
    item, probe = registry.find_reader(path)
    reader = getattr(item.code, "read_mask", None)
    if reader is None or (isinstance(image, Raster) and image.bands != 1):
        return None
    try:
        mask: Mask = reader(probe.path)
    except InputError:
        return None
    return mask if mask.meta.get("named", bool(mask.classes.entries)) else None


def compare_place(image: Raster | Volume, output: Raster | Volume) -> list[Difference]:
    """What differs between the two grids."""
    a, b = image.grid, output.grid
    found = []
    if a.shape != b.shape:
        found.append(Difference("the shape", _sides(a), _sides(b)))
    if a.space != b.space:
        found.append(Difference("the space", a.space, b.space))
    if a.ndim != b.ndim:
        return found
    if not same_crs(a.crs, b.crs):
        found.append(Difference("the CRS", short_crs(a.crs), short_crs(b.crs)))
    found += _compare_affines(image, output)
    for key, name in (("gcps", "the list of ground control points"), ("rpcs", "the set of RPCs")):
        # Only where the output's format could hold them and nothing finer replaced them.
        if image.meta.get(key) and _keeps(output, key) and not _close(image, output, key):
            found.append(Difference(name, "there", "another or missing"))
    return found


def _keeps(output: Raster | Volume, key: str) -> bool:
    tiff = output.source is not None and output.source.format == "GTiff"
    return tiff and (key == "rpcs" or output.grid.space == "pixel")


def _close(image: Raster | Volume, output: Raster | Volume, key: str) -> bool:
    a, b = image.meta[key], output.meta.get(key)
    if key == "gcps":
        return b is not None and a == b
    # RPCs are kept as decimal text.
    return b is not None and all(
        np.allclose(_numbers(a[name]), _numbers(b.get(name, "")), rtol=1e-12, atol=0)
        for name in a
        if name in b
    )


def _numbers(text: str) -> AnyArray:
    return np.array([float(part) for part in str(text).split()])


def _compare_affines(image: Raster | Volume, output: Raster | Volume) -> list[Difference]:
    a, b = image.grid, output.grid
    if a.affine == b.affine:
        return []
    name = "the affine" if a.ndim == 3 else "the transform"
    formats = {image.source and image.source.format, output.source and output.source.format}
    if a.ndim == 3 and a.shape == b.shape and len(formats) == 2 and _corners_agree(a, b):
        return []
    found = [Difference(name, _rows(a), _rows(b))]
    if a.ndim == 3 and _codes(a) != _codes(b):
        found.append(Difference("the orientation", _codes(a), _codes(b)))
    return found


def _corners_agree(a: Grid, b: Grid) -> bool:
    corners = np.array(list(product(*((0, side - 1) for side in a.shape))), dtype=np.float64)
    apart = np.abs(a.world(corners) - b.world(corners)).max()
    return bool(apart <= VOXEL_TOLERANCE * min(a.spacing))


def _codes(grid: Grid) -> str:
    from nibabel.orientations import aff2axcodes

    return "".join(str(code) for code in aff2axcodes(grid.matrix))


def check_ids(mask: Mask, nodata: int | None = None) -> list[Difference]:
    """Whether every label in the file is one of its class table, or stands for none."""
    known = {0, *mask.classes.colors} | ({mask.nodata, nodata} - {None})
    strange = sorted(values_in(mask.labels) - known)
    if not strange:
        return []
    listed = ", ".join(map(str, strange[:8]))
    return [Difference("the set of label ids", "only ids with a name", f"with {listed} as well")]


def values_in(labels: LazyArray) -> set[int]:
    """All values of an array of labels, read block by block."""
    values: set[int] = set()
    for block in blocks_of(labels):
        values.update(int(value) for value in np.unique(block))
    return values


def compare_names(a: Mask, b: Mask) -> list[Difference]:
    """What differs between the names, or else the colours, of two label files."""
    if a.classes.names != b.classes.names:
        return [Difference("the class table", str(a.classes.names), str(b.classes.names))]
    found = []
    for label, color in a.classes.colors.items():
        other = b.classes.colors[label]
        if max(abs(x - y) for x, y in zip(color, other, strict=True)) > COLOR_TOLERANCE:
            found.append(Difference(f"the colour of label {label}", str(color), str(other)))
    return found


def compare_labels(a: LazyArray, b: LazyArray) -> list[Difference]:
    """How many labels differ."""
    different = sum(
        int(np.count_nonzero(x != y)) for x, y in zip(blocks_of(a), blocks_of(b), strict=True)
    )
    if not different:
        return []
    return [Difference("the label", "another value", f"different in {different} pixels")]


def _sides(grid: Grid) -> str:
    return " x ".join(map(str, grid.shape))


def _rows(grid: Grid) -> str:
    return "; ".join(", ".join(repr(value) for value in row) for row in grid.affine[: grid.ndim])
