"""Areas, polygons and statistics; geopandas, pyproj's geodesics and SciPy are the judges."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from scipy import ndimage

from digseg import io
from digseg.errors import OutputExistsError, UsageError
from digseg.grid import Grid
from digseg.io import components, statistics, vector
from digseg.io.area import PixelAreas
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["water", "road", "absent"]))
PLACES = {
    "utm": ("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5e6)),
    "web map at 65 north": ("EPSG:3857", (30.0, 0.0, 0.0, 0.0, -30.0, 9.5e6)),
    "degrees": ("EPSG:4326", (0.01, 0.0, 10.0, 0.0, -0.01, 60.0)),
    "across the antimeridian": ("EPSG:4326", (0.01, 0.0, 179.5, 0.0, -0.01, -40.0)),
    "rotated": ("EPSG:32633", (10.0, 2.0, 500000.0, 1.0, -10.0, 5e6)),
    "south-up": ("EPSG:32733", (10.0, 0.0, 500000.0, 0.0, 10.0, 6e6)),
    "feet": ("EPSG:2263", (30.0, 0.0, 980000.0, 0.0, -30.0, 200000.0)),
}


@pytest.fixture
def blobs(monkeypatch: pytest.MonkeyPatch) -> AnyArray:
    """Ragged regions with holes, over blocks of 48 pixels, nodata in a corner."""
    monkeypatch.setattr(components, "_BLOCK", 48)
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(150, 130)), 2)
    labels = np.digitize(noise, [-0.05, 0.07]).astype(np.uint8)
    labels[:20, :20] = 255
    return labels


def mask_of(labels: AnyArray, place: str = "utm") -> Mask:
    crs, transform = PLACES[place]
    grid = Grid.from_transform((labels.shape[0], labels.shape[1]), transform, crs=crs)
    return Mask(labels, grid, CLASSES, nodata=255)


def geodesic(crs: str, shape: shapely.Geometry, step: float) -> tuple[float, float]:
    """Area and perimeter by Karney's algorithm, sides cut short enough to follow the map."""
    source = pyproj.CRS(crs)
    flat = shapely.segmentize(shape, step)
    to_lonlat = pyproj.Transformer.from_crs(source, source.geodetic_crs, always_xy=True)
    ball = shapely.transform(flat, lambda xy: np.column_stack(to_lonlat.transform(*xy.T)))
    area, length = source.get_geod().geometry_area_perimeter(ball)
    return abs(area), abs(length)


@pytest.mark.parametrize("place", PLACES)
def test_pixel_areas_are_geodesic(place: str) -> None:
    crs, transform = PLACES[place]
    areas = PixelAreas(Grid.from_transform((300, 280), transform, crs=crs))
    found = areas.window((17, 290, 3, 270))
    a, b, c, d, e, f = transform
    for row, column in ((17, 3), (150, 99), (289, 269)):
        corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        shape = shapely.Polygon([(a * x + b * y + c, d * x + e * y + f) for x, y in corners])
        expected, _ = geodesic(crs, shape, abs(a) / 8)
        assert found[row - 17, column - 3] == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize("place", PLACES)
def test_polygons_are_whole_valid_and_measured(blobs: AnyArray, place: str, tmp_path: Path) -> None:
    mask = mask_of(blobs, place)
    path = tmp_path / "regions.gpkg"
    assert vector.write_polygons(mask, path) == [path]
    found = geopandas.read_file(path)
    assert found.is_valid.all()
    assert set(found.prompt) == {"water", "road"}
    assert found.crs == pyproj.CRS(mask.grid.crs)
    # As many as there are regions in the whole raster: nothing is cut where blocks meet.
    counts = [ndimage.label(blobs == label)[1] for label in (1, 2)]
    assert [int((found.label == label).sum()) for label in (1, 2)] == counts
    assert found.pixels.sum() == np.isin(blobs, (1, 2)).sum()
    for row in found.sample(5, random_state=1).itertuples():
        area, _ = geodesic(str(mask.grid.crs), row.geometry, mask.grid.spacing[0])
        assert row.area_m2 == pytest.approx(area, rel=2e-4)
        assert row.area_ha == pytest.approx(row.area_m2 / 1e4)
        rings = [row.geometry.exterior, *row.geometry.interiors]
        lengths = [geodesic(str(mask.grid.crs), shapely.Polygon(ring), 1e9)[1] for ring in rings]
        assert row.perimeter_m == pytest.approx(sum(lengths), rel=1e-6)


def test_polygons_burn_back_to_the_labels(blobs: AnyArray) -> None:
    from rasterio import features
    from rasterio.transform import Affine

    mask = mask_of(blobs, "rotated")
    shapes, columns = vector.polygons(mask)
    burnt = features.rasterize(
        zip(shapes, columns["label"], strict=True),
        out_shape=blobs.shape,
        transform=Affine(*mask.grid.transform),
        dtype="uint8",
    )
    np.testing.assert_array_equal(burnt, np.where(blobs == 255, 0, blobs))
    assert sum(len(shape.interiors) for shape in shapes) > 0  # holes are kept


def test_mean_probability_of_each_polygon(blobs: AnyArray) -> None:
    mask = mask_of(blobs)
    chances = np.random.default_rng(1).integers(0, 256, (3, *blobs.shape)).astype(np.uint8)
    shapes, columns = vector.polygons(mask, probabilities=chances)
    assert len(shapes) > 10
    regions = components.regions_of(mask, chances)
    for label in (1, 2):
        numbers, count = ndimage.label(blobs == label)
        means = ndimage.mean(chances[label - 1], numbers, range(1, count + 1)) / 255
        first = [np.flatnonzero(numbers.ravel() == i + 1)[0] for i in range(count)]
        own = regions.label == label
        order = np.argsort(first)
        np.testing.assert_array_equal(regions.first[own], np.array(first)[order])
        np.testing.assert_allclose(columns["mean_probability"][own], means[order])


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".json", ".parquet", ".geoparquet"])
def test_formats(blobs: AnyArray, suffix: str, tmp_path: Path) -> None:
    mask, path = mask_of(blobs), tmp_path / f"regions{suffix}"
    vector.write_polygons(mask, path)
    found = geopandas.read_parquet(path) if "parquet" in suffix else geopandas.read_file(path)
    shapes, columns = vector.polygons(mask)
    assert len(found) == len(shapes)
    assert found.crs.to_epsg() == (4326 if "json" in suffix else 32633)  # RFC 7946
    np.testing.assert_allclose(found.area_m2, columns["area_m2"], rtol=1e-12)
    np.testing.assert_allclose(
        found.to_crs("EPSG:32633").total_bounds, shapely.total_bounds(shapes), atol=1e-3
    )
    with pytest.raises(OutputExistsError):
        vector.write_polygons(mask, path)
    vector.write_polygons(mask, path, overwrite=True)
    assert {file.name for file in tmp_path.iterdir()} == {path.name}


def test_no_crs_and_no_regions(tmp_path: Path) -> None:
    labels = np.zeros((10, 12), np.uint8)
    path = tmp_path / "none.gpkg"
    vector.write_polygons(Mask(labels, Grid.of((10, 12)), CLASSES), path)
    assert len(geopandas.read_file(path)) == 0
    labels[2:5, 3:9] = 1
    vector.write_polygons(Mask(labels, Grid.of((10, 12)), CLASSES), path, overwrite=True)
    (row,) = geopandas.read_file(path).itertuples()
    assert row.geometry.bounds == (3, 2, 9, 5)
    assert row.pixels == 18
    assert np.isnan(row.area_m2)


def test_simplified_neighbours_share_their_border(blobs: AnyArray) -> None:
    mask = mask_of(np.where(blobs == 0, 1, blobs).astype(np.uint8))
    exact, _ = vector.polygons(mask)
    simple, columns = vector.polygons(mask, simplify=2.0)
    assert shapely.is_valid(simple).all()
    assert shapely.coverage_is_valid(simple)
    assert shapely.get_num_coordinates(simple).sum() < shapely.get_num_coordinates(exact).sum() / 2
    assert columns["pixels"].sum() == np.isin(blobs, (0, 1, 2)).sum()


def test_three_simplified_neighbours_leave_no_gap() -> None:
    """Where three regions meet, the border of one is straight and that of the others ends."""
    noise = ndimage.gaussian_filter(np.random.default_rng(6).normal(size=(90, 80)), 3)
    labels = (np.digitize(noise, [-0.05, 0.02]) + 1).astype(np.uint8)
    labels[40:, 40:] = 3
    mask = mask_of(labels)
    simple, _ = vector.polygons(mask, simplify=2.0)
    assert shapely.is_valid(simple).all()
    assert shapely.coverage_is_valid(simple)
    whole = shapely.unary_union(simple)
    assert len(whole.interiors) == 0
    assert shapely.area(simple).sum() == pytest.approx(whole.area)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
@pytest.mark.parametrize("place", ["utm", "degrees", "rotated"])
def test_simplified_files_are_valid(
    blobs: AnyArray, suffix: str, place: str, tmp_path: Path
) -> None:
    mask, path = mask_of(blobs, place), tmp_path / f"regions{suffix}"
    vector.write_polygons(mask, path, simplify=1.5)
    found = geopandas.read_parquet(path) if "parquet" in suffix else geopandas.read_file(path)
    exact, columns = vector.polygons(mask)
    assert len(found) == len(exact)
    assert found.is_valid.all()
    assert not found.is_empty.any()
    assert found.count_coordinates().sum() < shapely.get_num_coordinates(exact).sum() / 2
    np.testing.assert_allclose(found.area_m2, columns["area_m2"], rtol=1e-12)


def test_tolerances() -> None:
    shape = (100, 120)
    utm = Grid.from_transform(shape, PLACES["utm"][1], crs="EPSG:32633")
    web = Grid.from_transform(shape, PLACES["web map at 65 north"][1], crs="EPSG:3857")
    assert vector.pixels_of("", utm) == 0
    assert vector.pixels_of("3px", Grid.of(shape)) == 3
    assert vector.pixels_of("25m", utm) == pytest.approx(2.5, rel=1e-3)
    # A pixel of 30 m on the map is sqrt(1 / 5.4) of that on the ground there.
    area = PixelAreas(web).window((50, 51, 60, 61))[0, 0]
    assert 5.3 < 900 / area < 5.6
    assert vector.pixels_of("30m", web) == pytest.approx(np.sqrt(900 / area))
    with pytest.raises(UsageError, match="in pixels, such as 2px"):
        vector.pixels_of("5m", Grid.of(shape))


def test_what_vectors_refuse(tmp_path: Path) -> None:
    volume = Mask(np.zeros((2, 3, 4), np.uint8), Grid.of((2, 3, 4)), CLASSES)
    with pytest.raises(UsageError, match="volume"):
        vector.write_polygons(volume, tmp_path / "a.gpkg")
    with pytest.raises(UsageError, match=r"\.gpkg"):
        vector.check_suffix("a.shp")
    mars = "+proj=eqc +a=3396190 +b=3396190 +units=m +no_defs"
    nowhere = {"+proj=longlat +datum=WGS84": 500.0, mars: 0.0}
    for crs, x in nowhere.items():
        grid = Grid.from_transform((4, 5), (10.0, 0.0, x, 0.0, -10.0, 0.0), crs=crs)
        mask = Mask(np.ones((4, 5), np.uint8), grid, CLASSES)
        with pytest.raises(UsageError, match="longitude and latitude of the Earth"):
            vector.write_polygons(mask, tmp_path / "a.geojson")
        vector.write_polygons(mask, tmp_path / "a.gpkg", overwrite=True)
        assert len(geopandas.read_file(tmp_path / "a.gpkg")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.gpkg"]


def test_table_of_a_raster(blobs: AnyArray) -> None:
    mask = mask_of(blobs, "web map at 65 north")
    chances = np.full((3, *blobs.shape), 51, np.uint8)
    rows = statistics.table(mask, probabilities=chances)
    areas = PixelAreas(mask.grid).window((0, blobs.shape[0], 0, blobs.shape[1]))
    for row in rows[:2]:
        own = blobs == row["id"]
        assert row["pixels"] == own.sum()
        assert row["share"] == pytest.approx(own.sum() / (blobs != 255).sum())
        assert row["area_m2"] == pytest.approx(areas[own].sum(), rel=1e-6)
        assert row["mean_probability"] == pytest.approx(0.2)
        assert row["instances"] == ndimage.label(own)[1]
    absent = rows[2]
    assert (absent["pixels"], absent["area_m2"], absent["instances"]) == (0, 0.0, 0)
    assert absent["mean_probability"] is None
    # A web map at 65 degrees shows everything 5.6 times too large.
    planar = rows[0]["pixels"] * 900
    assert planar / rows[0]["area_m2"] == pytest.approx(5.6, rel=0.05)


def test_table_of_a_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "_SLAB_VOXELS", 3 * 20 * 24)  # three slices at once
    rng = np.random.default_rng(7)
    labels = (ndimage.gaussian_filter(rng.normal(size=(17, 20, 24)), 1) > 0.1).astype(np.uint8)
    affine = [[-2.0, 0, 0, 9], [0, 1.5, 0, 3], [0, 0, 5.0, 1], [0, 0, 0, 1]]
    grid = Grid.of(labels.shape, affine, space="patient", unit="millimetre")
    row = statistics.table(Mask(labels, grid, CLASSES))[0]
    assert row["volume_mm3"] == pytest.approx(labels.sum() * 15.0)
    assert row["volume_ml"] == pytest.approx(labels.sum() * 0.015)
    assert row["instances"] == ndimage.label(labels)[1]
    assert row["mean_probability"] is None


def test_csv(blobs: AnyArray, tmp_path: Path) -> None:
    rows = statistics.table(mask_of(blobs))
    (path,) = statistics.write_csv(rows, tmp_path / "a.csv")
    with path.open(newline="", encoding="utf-8") as stream:
        back = list(csv.DictReader(stream))
    assert [row["name"] for row in back] == ["water", "road", "absent"]
    assert float(back[0]["area_m2"]) == rows[0]["area_m2"]
    assert back[2]["mean_probability"] == ""
    with pytest.raises(OutputExistsError):
        statistics.write_csv(rows, path)


def test_labels_are_read_block_by_block(blobs: AnyArray) -> None:
    asked: list[int] = []

    class Watched:
        shape, dtype = blobs.shape, blobs.dtype

        def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
            asked.append(blobs[key].size)
            return blobs[key]

    whole = mask_of(blobs)
    lazy = Mask(Watched(), whole.grid, CLASSES, nodata=255)
    assert statistics.table(lazy) == statistics.table(whole)
    assert max(asked) <= 48 * 48
    assert sum(asked) == blobs.size


def test_real_scene(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """Labels on the grid of a real scene: polygons and table agree with each other."""
    image = io.read(shared("data/io_samples/nlcd_codes_uint8.tif"))
    codes = np.asarray(image.data[0])
    labels = np.select([codes == 11, np.isin(codes, (41, 42, 43))], [1, 2], 0).astype(np.uint8)
    mask = Mask(labels, image.grid, CLASSES)
    rows = statistics.table(mask)
    vector.write_polygons(mask, tmp_path / "a.gpkg")
    found = geopandas.read_file(tmp_path / "a.gpkg")
    for row in rows[:2]:
        own = found[found.label == row["id"]]
        assert len(own) == row["instances"]
        assert own.area_m2.sum() == pytest.approx(row["area_m2"])
        assert own.to_crs("EPSG:6933").area.sum() == pytest.approx(row["area_m2"], rel=1e-3)
