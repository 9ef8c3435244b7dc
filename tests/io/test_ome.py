"""Units and places of OME-TIFF and OME-Zarr, by their metadata as plain JSON and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from digseg import io
from digseg.errors import UnsupportedInputError
from digseg.grid import Grid
from digseg.io import statistics
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask

CLASSES = ClassTable.of(PromptSet.parse(["cell"]))

#: Lengths that OME-Zarr 0.5 lists for axes of space.
LENGTHS = [
    "angstrom", "attometer", "centimeter", "decimeter", "exameter", "femtometer", "foot",
    "gigameter", "hectometer", "inch", "kilometer", "megameter", "meter", "micrometer", "mile",
    "millimeter", "nanometer", "parsec", "petameter", "picometer", "terameter", "yard",
    "yoctometer", "yottameter", "zeptometer", "zettameter",
]  # fmt: skip


def ome_tiff(path: Path, shape: tuple[int, ...] = (4, 32, 48), **sizes: Any) -> Path:
    pixels = np.zeros(shape, np.uint16)
    tifffile.imwrite(path, pixels, metadata={"axes": "ZYX"[-len(shape) :], **sizes})
    return path


def ome_zarr(
    path: Path,
    shape: tuple[int, ...],
    units: list[str | None],
    scale: list[float] | None = None,
    translation: list[float] | None = None,
) -> Path:
    group = zarr.create_group(str(path), zarr_format=3)
    group.create_array("0", shape=shape, chunks=shape, dtype="u1")
    axes = [
        {"name": name, "type": "space", **({"unit": unit} if unit else {})}
        for name, unit in zip("zyx"[-len(shape) :], units, strict=True)
    ]
    steps = []
    if scale:
        steps.append({"type": "scale", "scale": scale})
    if translation:
        steps.append({"type": "translation", "translation": translation})
    level = {"path": "0", "coordinateTransformations": steps}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    return path


def labels_of(source: Path, path: Path, grid: Grid | None = None) -> list[dict[str, Any]]:
    """Write labels for an image; its axes, and scale and translation of each level, as JSON."""
    grid = grid or io.read(source).grid
    io.write_mask(Mask(np.ones(grid.shape, np.uint8), grid, CLASSES), path)
    written = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    found = []
    for dataset in written["datasets"]:
        scale, translation = dataset["coordinateTransformations"]
        assert (scale["type"], translation["type"]) == ("scale", "translation")
        units = [axis.get("unit") for axis in written["axes"]]
        found.append(
            {"units": units, "scale": scale["scale"], "translation": translation["translation"]}
        )
    return found


def by_the_standard(path: Path) -> Grid:
    """The grid of labels of ours for somebody who doesn't know our attribute."""
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"].pop("digseg")
    content.pop("consolidated_metadata", None)
    file.write_text(json.dumps(content))
    return io.read(path).grid


@pytest.mark.parametrize(
    ("sizes", "spacing", "unit", "mm3"),
    [
        (("100", "nm", "100", "nm", "1.5", "µm"), (1500, 100, 100), "nanometer", 1.5e-11),
        # OME's unit where none is stated is a micrometre.
        (("100", "nm", "100", "nm", "1.5", None), (1500, 100, 100), "nanometer", 1.5e-11),
        (("2", "mm", "2000", "\u03bcm", "1", "cm"), (10, 2, 2), "millimeter", 40.0),
        (("0.5", None, "0.25", None, "1", None), (1, 0.25, 0.5), "micrometer", 1.25e-10),
        (("5", "Å", "0.5", "nm", "0.001", "µm"), (10, 5, 5), "angstrom", 2.5e-19),
        (("1", "in", "1", "ft", "1", "yd"), (36, 12, 1), "inch", 432 * 25.4**3),
    ],
)
def test_axes_of_an_ome_tiff_have_one_unit(
    tmp_path: Path, sizes: Any, spacing: Any, unit: str, mm3: float
) -> None:
    named = {}
    for axis, size, own in zip("XYZ", sizes[::2], sizes[1::2], strict=True):
        named[f"PhysicalSize{axis}"] = float(size)
        if own is not None:
            named[f"PhysicalSize{axis}Unit"] = own
    grid = io.read(ome_tiff(tmp_path / "a.ome.tif", **named)).grid
    assert grid.spacing == pytest.approx(spacing, rel=1e-15)
    assert grid.unit == unit
    row = statistics.table(Mask(np.ones(grid.shape, np.uint8), grid, CLASSES))[0]
    assert row["volume_mm3"] == pytest.approx(4 * 32 * 48 * mm3)
    facts = io.info(tmp_path / "a.ome.tif")
    assert facts["scale"] == pytest.approx(spacing, rel=1e-15)
    assert facts["units"] == [unit] * 3


def test_axes_of_an_ome_zarr_have_one_unit(tmp_path: Path) -> None:
    path = ome_zarr(
        tmp_path / "a.ome.zarr",
        (4, 32, 48),
        ["micrometer", "nm", "nanometer"],
        [1.5, 100, 200],
        [2, 300, 400],
    )
    grid = io.read(path).grid
    assert grid.unit == "nanometer"
    assert grid.spacing == (1500.0, 100.0, 200.0)
    assert grid.world((0, 0, 0)).tolist() == [400.0, 300.0, 2000.0]
    facts = io.info(path)
    assert facts["translation"] == [2000.0, 300.0, 400.0]
    assert facts["units"] == ["nanometer"] * 3


def test_units_that_are_no_lengths(tmp_path: Path) -> None:
    units = {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 1.0,
             "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": 2.0,
             "PhysicalSizeZUnit": "reference frame"}  # fmt: skip
    with pytest.raises(UnsupportedInputError, match="µm along x and in reference frame along z"):
        io.read(ome_tiff(tmp_path / "a.ome.tif", **units))
    # One slice has no step that matters.
    plane = ome_zarr(tmp_path / "a.ome.zarr", (1, 8, 9), ["furlong", "meter", "meter"], [1, 2, 2])
    assert io.read(plane).grid.spacing == (2.0, 2.0)
    deep = ome_zarr(tmp_path / "b.ome.zarr", (2, 8, 9), ["furlong", "meter", "meter"], [1, 2, 2])
    with pytest.raises(UnsupportedInputError, match="meter along x and in furlong along z"):
        io.read(deep)
    # Not said at all: as x, and where all say the same, nothing has to be converted.
    silent = ome_zarr(tmp_path / "c.ome.zarr", (2, 8, 9), [None, "meter", "meter"], [3, 2, 2])
    assert io.read(silent).grid.spacing == (3.0, 2.0, 2.0)
    same = ome_zarr(tmp_path / "d.ome.zarr", (2, 8, 9), ["furlong"] * 3, [3, 2, 2])
    assert io.read(same).grid.unit == "furlong"


@pytest.mark.parametrize("unit", [*LENGTHS, "metre", "millimetre"])
def test_labels_have_the_unit_of_their_image(tmp_path: Path, unit: str) -> None:
    grid = Grid.of((8, 9), np.diag([2.0, 3.0, 1.0]), unit=unit)
    (level,) = labels_of(tmp_path, tmp_path / "labels.ome.zarr", grid)
    name = unit.replace("metre", "meter")
    assert name in LENGTHS
    assert level["units"] == [name, name]


@pytest.mark.parametrize("unit", ["pixel", "degree", "US survey foot"])
def test_what_is_no_length_is_not_written(tmp_path: Path, unit: str) -> None:
    grid = Grid.of((8, 9), np.diag([2.0, 3.0, 1.0]), unit=unit)
    (level,) = labels_of(tmp_path, tmp_path / "labels.ome.zarr", grid)
    assert level["units"] == [None, None]


@pytest.mark.parametrize(
    ("shape", "scale", "translation"),
    [
        ((900, 701), [0.5, 0.25], [100.0, 200.0]),
        ((901, 1), [0.5, 0.25], [-3.0, 0.0]),
        ((300, 520), [1.0, 1.0], [7.0, 9.0]),
        ((2, 300, 1027), [2.5, 0.5, 0.5], [-50.0, 100.0, 200.0]),
    ],
)
def test_labels_lie_where_their_image_lies(
    tmp_path: Path, shape: Any, scale: list[float], translation: list[float]
) -> None:
    image, path = tmp_path / "a.ome.zarr", tmp_path / "labels.ome.zarr"
    ome_zarr(image, shape, ["micrometer"] * len(shape), scale, translation)
    levels = labels_of(image, path)
    assert io.verify(image, path) == []
    assert levels[0]["scale"] == scale
    assert levels[0]["translation"] == translation
    assert len(levels) > 1
    for number, level in enumerate(levels):
        assert level["units"] == ["micrometer"] * len(shape)
        for axis, side in enumerate(shape):
            # Pixels of the image that pixel 1 of the level is made of, if it is made of some.
            count = 2**number if axis >= len(shape) - 2 else 1
            first = level["translation"][axis]
            middle = translation[axis] + scale[axis] * np.arange(min(count, side)).mean()
            if side >= count:
                assert first == pytest.approx(middle, rel=1e-12)
            if side >= 2 * count:
                second = translation[axis] + scale[axis] * np.arange(count, 2 * count).mean()
                assert first + level["scale"][axis] == pytest.approx(second, rel=1e-12)
    grid = io.read(image).grid
    assert by_the_standard(path) == grid


def test_labels_of_an_ome_tiff_begin_at_its_origin(tmp_path: Path) -> None:
    sizes = {f"PhysicalSize{axis}": step for axis, step in zip("XYZ", (0.5, 0.25, 2), strict=True)}
    path = tmp_path / "labels.ome.zarr"
    level, *_ = labels_of(ome_tiff(tmp_path / "a.ome.tif", **sizes), path)
    assert level["scale"] == [2.0, 0.25, 0.5]
    assert level["translation"] == [0.0, 0.0, 0.0]
    assert level["units"] == ["micrometer"] * 3
    assert by_the_standard(path) == io.read(tmp_path / "a.ome.tif").grid


def test_labels_of_an_image_without_a_place_begin_at_its_first_pixel(tmp_path: Path) -> None:
    image = ome_zarr(tmp_path / "a.ome.zarr", (300, 200), [None, None])
    levels = labels_of(image, tmp_path / "labels.ome.zarr")
    assert [level["translation"] for level in levels] == [[0.0, 0.0], [0.5, 0.5]]
    part = io.read(image).grid.crop((30, 20), (50, 60))
    (level,) = labels_of(image, tmp_path / "part.ome.zarr", part)
    assert level["translation"] == [30.0, 20.0]


@pytest.mark.parametrize(
    "grid",
    [
        Grid.from_transform((8, 9), (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), crs="EPSG:32633"),
        Grid.of((8, 9), [[2, 0.5, 7], [0, 2, 9], [0, 0, 1]], unit="micrometer"),
        Grid.of((8, 9), [[2, 0, 7], [0, -2, 9], [0, 0, 1]], unit="micrometer"),
        Grid.of((8, 9), [[0, 2, 7], [2, 0, 9], [0, 0, 1]], unit="micrometer"),
    ],
)
def test_places_that_ome_zarr_cannot_hold_stay_in_our_attribute(tmp_path: Path, grid: Grid) -> None:
    path = tmp_path / "labels.ome.zarr"
    (level,) = labels_of(tmp_path, path, grid)
    assert level["translation"] == [0.0, 0.0]
    assert io.read(path).grid == grid
