"""Areas of pixels where maps are odd: grads, poles, discs, turned grids; geodesics judge them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyproj
import pytest
from scipy import ndimage

from digseg.grid import Grid
from digseg.io import statistics, vector
from digseg.io.area import PixelAreas
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["land", "space"]))
TURNED = pyproj.CRS(
    "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +datum=WGS84"
).to_wkt()
DISC = "+proj=geos +h=35786023 +lon_0=-75 +sweep=x +ellps=GRS80"
DISC_SIDE, DISC_HALF = 5424, 5434894.885056  # 2 km, as GOES has them
MOLLWEIDE = Grid.from_transform(
    (96, 96), (376000.0, 0.0, -18048000.0, 0.0, -188000.0, 9024000.0), crs="ESRI:54009"
)

#: CRS, transform, and the same body's longitude and latitude in degrees.
PLACES = {
    "grads below": ("EPSG:27572", (100.0, 0.0, 6e5, 0.0, -100.0, 2.4e6), "EPSG:4275"),
    "grads below, zone 1": ("EPSG:27561", (100.0, 0.0, 6e5, 0.0, -100.0, 2e5), "EPSG:4275"),
    "grads": ("EPSG:4807", (0.01, 0.0, 0.3, 0.0, -0.01, 54.0), "EPSG:4275"),
    "grads, rotated": ("EPSG:4807", (0.01, 0.002, 0.3, 0.003, -0.01, 54.0), "EPSG:4275"),
    "a pole on a corner": ("EPSG:3413", (5e3, 0.0, -1e5, 0.0, -5e3, 1e5), "EPSG:4326"),
    "a pole in a pixel": ("EPSG:3413", (25e3, 0.0, -512.5e3, 0.0, -25e3, 512.5e3), "EPSG:4326"),
    "the south pole": ("EPSG:3031", (2e3, 0.0, -41e3, 0.0, -2e3, 41e3), "EPSG:4326"),
    "turned": (TURNED, (0.11, 0.0, -10.0, 0.0, -0.11, 10.0), "EPSG:4326"),
    "one degree": ("EPSG:4326", (1.0, 0.0, 0.0, 0.0, -1.0, 60.0), "EPSG:4326"),
    "one degree, rotated": ("EPSG:4326", (1.0, 0.4, 0.0, 0.3, -1.0, 60.0), "EPSG:4326"),
}


def geodesic(
    grid: Grid, degrees: str, row: float, column: float, sides: tuple[float, float] = (1, 1)
) -> float:
    """Area of a rectangle of pixels by Karney's algorithm, sides cut short."""
    t = np.linspace(0, 1, 65)[:-1]
    u = column + sides[1] * np.concatenate([t, 0 * t + 1, 1 - t, 0 * t])
    v = row + sides[0] * np.concatenate([0 * t, t, 0 * t + 1, 1 - t])
    a, b, c, d, e, f = grid.transform
    to_degrees = pyproj.Transformer.from_crs(grid.crs, degrees, always_xy=True)
    lon, lat = to_degrees.transform(a * u + b * v + c, d * u + e * v + f)
    return abs(pyproj.CRS(degrees).get_geod().polygon_area_perimeter(lon, lat)[0])


def whole(grid: Grid) -> AnyArray:
    return PixelAreas(grid).window((0, grid.shape[0], 0, grid.shape[1]))


def earth() -> float:
    return 2 * pyproj.Geod(ellps="WGS84").polygon_area_perimeter([0, 90, 180, 270], [0] * 4)[0]


@pytest.mark.parametrize("place", PLACES)
def test_pixels_are_geodesic(place: str) -> None:
    crs, transform, degrees = PLACES[place]
    grid = Grid.from_transform((41, 41), transform, crs=crs)
    found = whole(grid)
    for row, column in ((0, 0), (20, 20), (19, 20), (21, 19), (7, 33), (40, 12)):
        expected = geodesic(grid, degrees, row, column)
        assert found[row, column] == pytest.approx(expected, rel=1e-5)


def test_the_ground_around_a_pole_is_whole() -> None:
    grid = Grid.from_transform((400, 400), (10.0, 0.0, -2e3, 0.0, -10.0, 2e3), crs="EPSG:3413")
    expected = geodesic(grid, "EPSG:4326", 0, 0, (400, 400))
    found = whole(grid)
    assert found.sum() == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(found, found.mean(), rtol=1e-5)  # the pole's own ones too


@pytest.mark.parametrize(
    ("shape", "transform"),
    [
        ((180, 360), (1.0, 0.0, -180.0, 0.0, -1.0, 90.0)),
        ((180, 360), (1.0, 0.0, 0.0, 0.0, 1.0, -90.0)),
        # Half of the first and of the last row lie beyond the poles, as in ERA5.
        ((721, 1440), (0.25, 0.0, -180.125, 0.0, -0.25, 90.125)),
        ((3601, 2), (0.05, 0.0, 0.0, 0.0, -0.05, 90.025)),
    ],
)
def test_the_globe_is_whole(shape: tuple[int, int], transform: tuple[float, ...]) -> None:
    grid = Grid.from_transform(shape, transform, crs="EPSG:4326")
    share = shape[1] * transform[0] / 360
    assert whole(grid).sum() == pytest.approx(earth() * share, rel=1e-8)
    assert (whole(grid) > 0).all()


def test_perimeters_and_tolerances_in_grads() -> None:
    crs, transform, degrees = PLACES["grads below"]
    grid = Grid.from_transform((20, 30), transform, crs=crs)
    labels = np.ones((20, 30), np.uint8)
    _, columns = vector.polygons(Mask(labels, grid, CLASSES))
    to_degrees = pyproj.Transformer.from_crs(crs, degrees, always_xy=True)
    x, y = np.array([0, 30, 30, 0, 0]) * 100 + 6e5, 2.4e6 - np.array([0, 0, 20, 20, 0]) * 100
    expected = pyproj.CRS(degrees).get_geod().line_length(*to_degrees.transform(x, y))
    assert columns["perimeter_m"][0] == pytest.approx(expected, rel=1e-9)
    assert columns["area_m2"][0] == pytest.approx(6e6, rel=2e-3)
    assert vector.pixels_of("50m", grid) == pytest.approx(0.5, rel=1e-3)


def disc(side: int) -> Grid:
    """All that a geostationary satellite sees, and a frame of space."""
    step = 2 * DISC_HALF / side
    transform = (step, 0.0, -DISC_HALF, 0.0, -step, DISC_HALF)
    return Grid.from_transform((side, side), transform, crs=DISC)


def lit(grid: Grid, window: tuple[int, int, int, int]) -> AnyArray:
    """Which pixels lie on Earth by their centre."""
    top, bottom, left, right = window
    index = np.stack(np.mgrid[top:bottom, left:right], axis=-1)
    x, y = np.moveaxis(grid.world(index), -1, 0)
    to_degrees = pyproj.Transformer.from_crs(
        grid.crs, pyproj.CRS(grid.crs).geodetic_crs, always_xy=True
    )
    return np.isfinite(to_degrees.transform(x, y)[0])


def test_a_block_on_the_limb_of_a_disc() -> None:
    grid = disc(DISC_SIDE)
    window = (1900, 2200, 5100, DISC_SIDE)
    seen = lit(grid, window)
    found = PixelAreas(grid).window(window)
    assert np.isfinite(found[seen]).all()
    # What is not seen by its centre may be on the edge; two pixels further out nothing is.
    assert np.isnan(found[~ndimage.binary_dilation(seen, iterations=2)]).all()
    for row in (1900, 1990, 2199):
        last = 5100 + int(np.flatnonzero(seen[row - 1900])[-1])
        for column, tolerance in ((last - 90, 1e-3), (last - 30, 1e-4), (last - 5, 1e-3)):
            expected = geodesic(grid, "EPSG:4269", row, column)
            assert found[row - 1900, column - 5100] == pytest.approx(expected, rel=tolerance)
    # And as a sum, of which those on the very edge are known to some percent.
    rows = np.arange(300)
    starts = np.zeros(300, np.int64)
    sums = PixelAreas(grid).window_sums(window)
    np.testing.assert_allclose(
        sums(rows, starts, seen.sum(axis=1)), np.where(seen, found, 0).sum(axis=1), rtol=1e-9
    )
    np.testing.assert_allclose(sums(rows, starts, starts + 324), np.nansum(found, axis=1))


def test_the_whole_disc_and_a_block_outside_of_it() -> None:
    grid = disc(271)
    ball = pyproj.CRS(DISC).get_geod()
    # The sphere that has the ellipsoid's volume shows almost the same part of itself.
    radius = ball.a * (1 - ball.f) ** (1 / 3)
    expected = 2 * np.pi * radius**2 * (1 - radius / (radius + 35786023))
    found = whole(grid)
    assert np.nansum(found) == pytest.approx(expected, rel=1e-2)
    assert np.isnan(found[:30, :30]).all()
    areas = PixelAreas(grid)
    assert areas.window_sums((0, 30, 0, 30))(np.array([3]), np.array([0]), np.array([30])) == 0


def test_the_globe_in_an_oval() -> None:
    found = whole(MOLLWEIDE)
    seen = lit(MOLLWEIDE, (0, 96, 0, 96))
    assert np.isfinite(found[seen]).all()
    assert np.isnan(found[:3, :3]).all()
    assert np.nansum(found) == pytest.approx(earth(), rel=2e-3)
    assert found[48, 48] == pytest.approx(geodesic(MOLLWEIDE, "EPSG:4326", 48, 48), rel=1e-5)


def test_a_table_of_labels_beside_nothing(tmp_path: Path) -> None:
    labels = np.zeros((96, 96), np.uint8)
    labels[40:56, 40:56] = 1
    labels[:3, :3] = 2
    rows = statistics.table(Mask(labels, MOLLWEIDE, CLASSES))
    expected = geodesic(MOLLWEIDE, "EPSG:4326", 40, 40, (16, 16))
    assert rows[0]["area_m2"] == pytest.approx(expected, rel=1e-4)
    assert rows[1]["area_m2"] == 0
    _, columns = vector.polygons(Mask(labels, MOLLWEIDE, CLASSES))
    land = columns["label"] == 1
    assert columns["area_m2"][land] == pytest.approx(rows[0]["area_m2"])
    # A number that is not known is an empty cell, not the word nan.
    (path,) = statistics.write_csv([{**rows[0], "area_m2": float("nan")}], tmp_path / "a.csv")
    with path.open(newline="", encoding="utf-8") as stream:
        assert next(csv.DictReader(stream))["area_m2"] == ""
