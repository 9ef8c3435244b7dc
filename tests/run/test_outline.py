"""Drawn shapes: which pixels are inside, and that nothing outside is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.transform import Affine
from tests.models import Brightness

from digseg.cli.main import main
from digseg.errors import UnsupportedInputError, UsageError
from digseg.grid import Grid
from digseg.prompts import PromptSet
from digseg.run import execute as execution
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs, read_recipe
from digseg.run.outline import Outline, read_outline
from digseg.settings import SegmentSettings

TRANSFORM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0)
TRIANGLE = "POLYGON ((20 10, 180 30, 60 110, 20 10))"

corners = st.tuples(st.integers(-20_000, 60_000), st.integers(-20_000, 60_000)).map(
    lambda pair: (pair[0] / 1000, pair[1] / 1000)
)
rings = st.lists(corners, min_size=3, max_size=9, unique=True).map(tuple)
outlines = st.builds(
    Outline,
    st.lists(rings.map(lambda ring: (ring,)), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["yx", "zx", "zy"]),
)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A map that is red everywhere, whose left third is blue as well."""
    pixels = np.full((3, 130, 210), 250, np.uint8)
    pixels[1] = 20
    pixels[2, :, 70:] = 20
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 130, "width": 210, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, crs="EPSG:32631", transform=TRANSFORM) as dataset:
        dataset.write(pixels)
    return path


@given(outlines)
def test_text_says_the_same_outline(outline: Outline) -> None:
    assert Outline.parse(str(outline)) == outline


@given(rings)
def test_pixels_inside_are_those_whose_centres_are(ring: Any) -> None:
    shape = shapely.Polygon(ring)
    inside = Outline(((ring,),)).inside(((0, 40), (0, 40)))
    rows, columns = np.mgrid[0:40, 0:40] + 0.5
    points = shapely.points(rows, columns)
    # Even-odd, as a self-crossing polygon is filled: shapely's own rule for repaired ones.
    filled = shapely.make_valid(shape)
    clear = shapely.distance(shapely.get_exterior_ring(shape), points) > 1e-6
    np.testing.assert_array_equal(inside[clear], shapely.contains(filled, points)[clear])


@given(outlines, st.integers(0, 30), st.integers(0, 30))
def test_a_window_is_a_part_of_the_whole(outline: Outline, row: int, column: int) -> None:
    whole = ((0, 40),) * (3 if "z" in outline.axes else 2)
    part = ((0, 40),) * (len(whole) - 2) + ((row, 40), (column, 40))
    cut = outline.inside(whole)[..., row:, column:]
    np.testing.assert_array_equal(outline.inside(part), cut)


def test_holes_are_outside() -> None:
    text = "POLYGON ((0 0, 10 0, 10 8, 0 8), (2 2, 5 2, 5 6, 2 6))"
    inside = Outline.parse(text).inside(((0, 8), (0, 10)))
    expected = np.ones((8, 10), bool)
    expected[2:6, 2:5] = False
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize(
    "text", ["", "POLYGON", "POLYGON ((1 2, 3 4))", "POINT (1 2)", "POLYGON ((a b, c d, e f))",
             "POLYGON ((1 1, 1 1, 1 1))", "POLYGON ((0 0, 1 0, nan 1))", "POLYGON ()"],
)  # fmt: skip
def test_what_is_no_polygon_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Outline.parse(text)


def test_outside_the_image_is_refused(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far = "POLYGON ((500 500, 600 500, 600 600))"
    with pytest.raises(UsageError, match="outside"):
        Outline.parse(far).bounds((130, 210))
    with pytest.raises(UsageError, match="axes yx"):
        Outline.parse(f"zx: {TRIANGLE}").bounds((130, 210))


def _job(scene: Path, out: Path, **more: Any) -> Job:
    settings = SegmentSettings(tile=64, overlap=16)
    prompts = PromptSet.parse(["red", "blue"])
    return Job(str(scene), prompts, settings, Outputs(labels=out), **more)


def test_labels_stop_at_the_outline_and_are_those_of_the_region(
    scene: Path, tmp_path: Path
) -> None:
    outline = Outline.parse(TRIANGLE)
    limited = execute(_job(scene, tmp_path / "a.tif", outline=outline), model=Brightness())
    region = outline.bounds((130, 210))
    assert region == ((10, 110), (20, 180))
    whole = execute(_job(scene, tmp_path / "b.tif", region=region), model=Brightness())
    with rasterio.open(tmp_path / "a.tif") as file:
        labels, transform, nodata = file.read(1), file.transform, file.nodata
    inside = outline.inside(region)
    assert 0 < inside.sum() < inside.size
    assert nodata is not None
    np.testing.assert_array_equal(labels, np.where(inside, whole.labels, int(nodata)))
    assert transform == TRANSFORM @ Affine.translation(20, 10)
    rows = {row["name"]: row["pixels"] for row in limited.stats()}
    assert sum(rows.values()) == inside.sum()


def test_a_geojson_a_polygon_and_a_replay_write_the_same_bytes(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "load_model", lambda settings: Brightness())
    to_earth = Transformer.from_crs("EPSG:32631", "OGC:CRS84", always_xy=True)
    ring = [to_earth.transform(*(TRANSFORM @ (x, y))) for x, y in [(20, 10), (180, 30), (60, 110)]]
    drawn = tmp_path / "drawn.geojson"
    polygon = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": polygon}
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    words = ["segment", str(scene), "-p", "red", "--tile", "64", "-q"]
    a, b, c = (tmp_path / f"{name}.tif" for name in "abc")
    assert main([*words, "--outline", str(drawn), "-o", str(a)]) == 0
    assert main([*words, "--outline", TRIANGLE, "-o", str(b)]) == 0
    assert main(["replay", f"{a}.recipe.json", "-o", str(c), "-q"]) == 0
    assert a.read_bytes() == b.read_bytes() == c.read_bytes()
    recipe = read_recipe(Path(f"{a}.recipe.json"))
    assert recipe["outline"] == TRIANGLE
    assert Job.from_recipe(recipe).outline == Outline.parse(TRIANGLE)
    # The command in the recipe needs no GeoJSON any more.
    assert TRIANGLE in recipe["command"]


def test_a_broken_file_is_one_sentence(scene: Path, tmp_path: Path) -> None:
    grid = Grid.from_transform((130, 210), TRANSFORM[:6], crs="EPSG:32631")
    path = tmp_path / "bad.geojson"
    for text in ("{", '{"type": "Polygon"}', '{"type": "Polygon", "coordinates": [[1]]}', "[]"):
        path.write_text(text)
        with pytest.raises(UnsupportedInputError, match=r"bad\.geojson"):
            read_outline(str(path), grid)
    path.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(UsageError, match="no polygon"):
        read_outline(str(path), grid)
    with pytest.raises(UsageError, match="CRS"):
        read_outline(str(path), Grid.of((4, 4)))


@pytest.mark.parametrize("axes", ["yx", "zx", "zy"])
def test_a_volume_is_limited_on_two_axes(
    axes: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    import nibabel

    data = np.full((20, 24, 12), 200, np.int16)  # [x, y, z], answered "bright" everywhere
    path = tmp_path / "box.nii.gz"
    # Left-posterior-inferior: every axis is turned for the model.
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-2.0, -2.0, 3.0, 1.0])), path)
    outline = Outline((((((1.0, 2.0), (9.0, 3.0), (4.0, 17.0))),),), axes)
    settings = SegmentSettings(tile=32, overlap=8, window=(0.0, 200.0), spacing=0.0)
    out = tmp_path / "out.nii.gz"
    job = Job(str(path), PromptSet.parse("bright"), settings, Outputs(labels=out), outline=outline)
    execute(job, model=Brightness())
    bounds = outline.bounds((12, 24, 20))
    labels = np.asarray(nibabel.load(out).dataobj).T  # [z, y, x]
    np.testing.assert_array_equal(labels, outline.inside(bounds).astype(np.uint8))
