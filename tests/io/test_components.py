"""Regions, their measures and outlines against pixel-by-pixel counting, SciPy and GDAL."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rasterio import features
from scipy import ndimage

from digseg.grid import Grid
from digseg.io import components
from digseg.io.area import PixelAreas
from digseg.io.runs import runs_of
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["water", "road", "roof"]))
NODATA = 255
QUIET = settings(
    max_examples=150,
)


def labels_of(*sides: int) -> st.SearchStrategy[AnyArray]:
    """Labels that touch at corners, enclose one another and break off at nodata."""
    shape = st.tuples(*(st.integers(1, side) for side in sides))
    values = st.sampled_from([0, 1, 1, 1, 2, 2, 3, NODATA])
    return shape.flatmap(lambda sides: arrays.arrays(np.uint8, sides, elements=values))


def counted(labels: AnyArray) -> list[tuple[int, int, AnyArray]]:
    """First pixel, label and membership of each region, one label after the other, by SciPy."""
    found = []
    for label in np.unique(labels):
        if label not in (0, NODATA):
            numbers, count = ndimage.label(labels == label)
            for number in range(1, count + 1):
                own = numbers == number
                found.append((int(np.flatnonzero(own)[0]), int(label), own))
    return sorted(found, key=lambda item: item[0])


@QUIET
@given(labels=labels_of(9, 11), block=st.integers(1, 6), seed=st.integers(0, 99))
def test_regions_are_those_of_single_pixels(
    labels: AnyArray, block: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "_BLOCK", block)
    chances = np.random.default_rng(seed).integers(0, 256, (3, *labels.shape)).astype(np.uint8)
    grid = Grid.from_transform(
        (labels.shape[0], labels.shape[1]), (0.1, 0.02, 10.0, 0.0, -0.1, 60.0), crs="EPSG:4326"
    )
    ground = PixelAreas(grid).window((0, labels.shape[0], 0, labels.shape[1]))
    found = components.regions_of(Mask(labels, grid, CLASSES, nodata=NODATA), chances)
    expected = counted(labels)
    assert found.first.tolist() == [first for first, _, _ in expected]
    assert found.label.tolist() == [label for _, label, _ in expected]
    assert found.pixels.tolist() == [int(own.sum()) for *_, own in expected]
    assert found.valid_pixels == int((labels != NODATA).sum())
    # Sums of whole numbers, so equal to the last bit but for the order of one division.
    means = [
        chances[label - 1][own].sum(dtype=np.int64) / 255 / own.sum() for _, label, own in expected
    ]
    np.testing.assert_allclose(found.probability, means, rtol=1e-14)
    np.testing.assert_allclose(found.area, [ground[own].sum() for *_, own in expected], rtol=1e-6)


@QUIET
@given(labels=labels_of(5, 4, 6), deep=st.integers(1, 3))
def test_regions_of_volumes(labels: AnyArray, deep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "_SLAB_VOXELS", deep * labels.shape[1] * labels.shape[2])
    mask = Mask(labels, Grid.of(labels.shape), CLASSES, nodata=NODATA)
    found, expected = components.regions_of(mask), counted(labels)
    assert found.first.tolist() == [first for first, _, _ in expected]
    assert found.label.tolist() == [label for _, label, _ in expected]
    assert found.pixels.tolist() == [int(own.sum()) for *_, own in expected]


@QUIET
@given(labels=labels_of(10, 12), block=st.integers(1, 7))
def test_outlines_are_those_of_gdal(
    labels: AnyArray, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "_BLOCK", block)
    mask = Mask(labels, Grid.of(labels.shape), CLASSES, nodata=NODATA)
    regions, shapes = components.outlined(mask)
    bare = np.where(labels == NODATA, 0, labels).astype(np.uint8)
    expected = {
        shapely.normalize(shapely.geometry.shape(geometry)).wkt: value
        for geometry, value in features.shapes(bare, mask=bare > 0, connectivity=4)
    }
    found = {shapely.normalize(shape).wkt for shape in shapes}
    assert found == set(expected)
    assert [expected[shapely.normalize(shape).wkt] for shape in shapes] == regions.label.tolist()
    assert shapely.is_valid(shapes).all()
    np.testing.assert_array_equal(shapely.area(shapes), regions.pixels)


@QUIET
@given(labels=labels_of(10, 12), block=st.integers(1, 7), tolerance=st.floats(0.5, 4))
def test_neighbours_have_the_same_points(
    labels: AnyArray, block: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that simplifying opens no gap between them, also where three regions meet."""
    monkeypatch.setattr(components, "_BLOCK", block)
    mask = Mask(labels, Grid.of(labels.shape), CLASSES, nodata=NODATA)
    _, plain = components.outlined(mask)
    _, noded = components.outlined(mask, nodes=True)
    assert shapely.equals(plain, noded).all()
    assert shapely.coverage_is_valid(noded)
    simple = shapely.coverage_simplify(noded, tolerance) if len(noded) else noded
    assert shapely.is_valid(simple).all()
    assert not shapely.is_empty(simple).any()
    assert shapely.coverage_is_valid(simple)


def test_areas_of_stretches_are_sums_of_pixels() -> None:
    for crs, transform in (
        ("EPSG:32633", (10.0, 2.0, 5e5, 1.0, -10.0, 5e6)),
        ("EPSG:4326", (0.01, 0.0, 10.0, 0.0, -0.01, 60.0)),
        ("EPSG:3857", (300.0, 0.0, 0.0, 0.0, -300.0, 9.5e6)),
    ):
        areas = PixelAreas(Grid.from_transform((500, 700), transform, crs=crs))
        window = (100, 450, 37, 690)
        pixels = areas.window(window)
        rng = np.random.default_rng(3)
        rows = rng.integers(0, pixels.shape[0], 50)
        starts, stops = np.sort(rng.integers(0, pixels.shape[1] + 1, (2, 50)), axis=0)
        expected = [pixels[row, a:b].sum() for row, a, b in zip(rows, starts, stops, strict=True)]
        found = areas.window_sums(window)(rows, starts, stops)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


def test_runs_cover_the_block() -> None:
    labels = np.array([[1, 1, 0, 2], [2, 1, 1, 2]], np.uint8)
    runs = runs_of(labels)
    assert runs.start.tolist() == [0, 2, 3, 4, 5, 7]
    assert runs.lengths.tolist() == [2, 1, 1, 1, 2, 1]
    assert runs.number.tolist() == [1, 0, 2, 3, 1, 2]
    assert runs.at(np.arange(8)).tolist() == [0, 0, 1, 2, 3, 4, 4, 5]
    assert runs.face(1, -1).tolist() == [2, 5]
    assert runs.face(0, 0).tolist() == [0, 0, 1, 2]
