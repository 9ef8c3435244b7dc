"""`digseg.segment` from input to files, with a model whose answer is the picture itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.transform import Affine
from tests.models import Brightness

import digseg
from digseg import io
from digseg.errors import (
    BandError,
    Cancelled,
    DoesNotFitError,
    InputNotFoundError,
    OutputError,
    OutputExistsError,
    PromptError,
    UsageError,
)
from digseg.events import CancelToken, Event, Notice
from digseg.prompts import PromptSet
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.run.outputs import work_store_path
from digseg.settings import SegmentSettings

MODEL = Brightness()
TRANSFORM = Affine(2.5, 0.0, 500_000.25, 0.0, -2.5, 4_100_000.75)


@pytest.fixture
def scene(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A GeoTIFF whose left half is red and whose right half is blue, with a nodata corner."""
    pixels = np.zeros((3, 150, 210), np.uint8)
    pixels[0, :, :105] = 250
    pixels[2, :, 105:] = 250
    pixels[1] = rng.integers(1, 50, (150, 210))
    pixels[:, :20, :30] = 0
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 150, "width": 210, "dtype": "uint8"}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32631", transform=TRANSFORM, nodata=0
    ) as dataset:
        dataset.write(pixels)
    return path


def test_a_scene_becomes_a_mask_in_its_place(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.tif"
    with digseg.segment(
        scene, ["red", "blue"], output=out, model=MODEL, tile=64, overlap=16
    ) as got:
        labels = got.labels
        assert got.failed_tiles == 0
    with rasterio.open(out) as dataset:
        written = dataset.read(1)
        assert dataset.crs == rasterio.CRS.from_epsg(32631)
        assert dataset.transform == TRANSFORM
        assert dataset.nodata not in (None, 0, 1, 2)
        nodata = int(dataset.nodata)
    assert np.array_equal(written, labels)
    expected = np.ones((150, 210), np.uint8)
    expected[:, 105:] = 2
    expected[:20, :30] = nodata
    assert np.array_equal(written, expected)


def test_a_ct_window_is_for_volumes(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --window out"):
        digseg.segment(scene, "red", output=tmp_path / "a.tif", model=MODEL, window="lung")
    assert not list(tmp_path.glob("*a.tif*"))


def test_an_output_that_fails_late_costs_no_second_run(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, polygons, heard = tmp_path / "a.tif", tmp_path / "a.gpkg", list[Event]()
    job = Job(
        str(scene),
        PromptSet.parse(["red", "blue"]),
        SegmentSettings(tile=64, overlap=16),
        Outputs(labels=labels, vector=polygons),
    )

    def full(*args: object, **settings: object) -> None:
        raise DoesNotFitError("The disk is full: a.gpkg was not written; make room first.")

    with monkeypatch.context() as patch:
        patch.setattr("digseg.io.vector.write_polygons", full)
        with pytest.raises(DoesNotFitError):
            execute(job, model=MODEL, callback=heard.append)
    told = [event.message for event in heard if isinstance(event, Notice)]
    assert told == [
        "Written and proved so far: a.tif, a.tif.aux.xml, a.tif.recipe.json; "
        "--resume writes the rest without computing it again."
    ]
    with pytest.raises(OutputExistsError):
        execute(job, model=MODEL)
    with execute(replace(job, resume=True), model=MODEL) as result:
        assert result.model_seconds == 0
        assert polygons in result.files
    assert io.verify(labels, polygons) == []
    assert not work_store_path(labels).exists()


def test_what_a_reader_doubts_is_said(scene: Path, tmp_path: Path) -> None:
    pages, heard = tmp_path / "pages.tif", list[Event]()
    with tifffile.TiffWriter(pages) as target:
        for value in (10, 240):
            target.write(np.full((64, 64), value, np.uint8), photometric="minisblack")
    with digseg.segment(pages, "bright", model=MODEL, callback=heard.append) as first:
        assert not first.labels.any()
    with digseg.segment(pages, "bright", model=MODEL, series="2") as second:
        assert second.labels.all()
    (notice,) = [event.message for event in heard if isinstance(event, Notice)]
    assert notice == f"{pages}: 2 pages: the first is read, --series 2 takes the second"


def test_the_recipe_replays_to_the_same_labels(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.tif"
    with digseg.segment(scene, ["red"], output=out, model=MODEL, threshold=0.7, tile=96) as got:
        first = got.labels
    recipe = json.loads((tmp_path / "mask.tif.recipe.json").read_text())
    assert recipe["settings"]["threshold"] == 0.7
    assert recipe["command"].startswith("napari-digseg segment")
    from digseg.run.execute import execute
    from digseg.run.job import Job

    with execute(Job.from_recipe(recipe, overwrite=True), model=MODEL) as again:
        assert np.array_equal(again.labels, first)


def test_no_work_is_left_behind(scene: Path, tmp_path: Path) -> None:
    digseg.segment(scene, ["red"], output=tmp_path / "mask.tif", model=MODEL).close()
    names = {path.name for path in tmp_path.iterdir()}
    # GDAL keeps category names in the .aux.xml.
    assert names == {"scene.tif", "mask.tif", "mask.tif.aux.xml", "mask.tif.recipe.json"}


def test_an_array_has_no_place_but_labels() -> None:
    pixels = np.zeros((64, 80, 3), np.uint8)
    pixels[10:30, 20:50, 1] = 200
    with digseg.segment(pixels, "green", model=MODEL) as got:
        assert np.array_equal(got.labels, (pixels[..., 1] > 128).astype(np.uint8))
        assert got.probabilities.shape == (1, 64, 80)
        assert got.names == {0: "background", 1: "green"}


def test_a_dask_array_is_read_by_window() -> None:
    import dask.array

    pixels = np.zeros((3, 100, 120), np.uint8)
    pixels[2, 50:, 60:] = 255
    lazy = dask.array.from_array(pixels, chunks=(1, 40, 40))
    with digseg.segment(lazy, "blue", model=MODEL, tile=64, overlap=8) as got:
        assert np.array_equal(got.labels, pixels[2] // 255)


def test_a_dataarray_keeps_its_place() -> None:
    import xarray

    pixels = np.zeros((3, 40, 60), np.uint8)
    pixels[0, :, 30:] = 255
    array = xarray.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={"y": 1000.5 - np.arange(40), "x": 5.5 + np.arange(60)},
        attrs={"crs": "EPSG:32631"},
    )
    with digseg.segment(array, "red", model=MODEL) as got:
        found = got.to_xarray()
    assert got.mask.grid.transform == (1.0, 0.0, 5.0, 0.0, -1.0, 1001.0)
    assert found.dims == ("y", "x")
    np.testing.assert_array_equal(found.coords["x"], array.coords["x"])
    np.testing.assert_array_equal(found.coords["y"], array.coords["y"])
    assert np.array_equal(found.values, pixels[0] // 255)


def test_a_negative_prompt_takes_pixels_away(scene: Path) -> None:
    with digseg.segment(scene, ["all"], negatives=["blue"], model=MODEL, threshold=0.5) as got:
        # "all" answers 1.0 and blue 250/255, so the prompt wins everywhere it has data.
        assert (got.labels[30:] == 1).all()
    with digseg.segment(scene, ["bright"], negatives=["dark"], model=MODEL) as got:
        assert (got.labels[30:, :105] == 1).all()
        assert (got.labels[30:, 105:] == 0).all()


def test_events_tell_the_story(scene: Path) -> None:
    seen: list[Event] = []
    digseg.segment(scene, "red", model=MODEL, tile=64, callback=seen.append).close()
    kinds = [type(event).__name__ for event in seen]
    assert kinds[0] == "StageStarted"
    assert "RunPlanned" in kinds
    assert "BlockWritten" in kinds
    assert "RunFinished" in kinds


def test_cancel_leaves_no_output(scene: Path, tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        digseg.segment(scene, "red", output=tmp_path / "mask.tif", model=MODEL, cancel=token)
    assert not (tmp_path / "mask.tif").exists()


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (PromptError, {"prompts": []}),
        (PromptError, {"prompts": ["a", "A"]}),
        (BandError, {"bands": (1, 2, 4)}),
        (InputNotFoundError, {"image": "nowhere.tif"}),
        (UsageError, {"output": "mask.docx"}),
        (OutputError, {"output": "no/such/folder/mask.tif"}),
        (UsageError, {"output": "scene.tif"}),
        (OutputExistsError, {"output": "taken.tif"}),
        (UsageError, {"threshold": 2.0}),
    ],
)
def test_bad_requests_are_refused_before_any_work(
    error: type[Exception],
    changes: dict[str, object],
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.tif").write_bytes(b"somebody's work")
    before = sorted(tmp_path.iterdir())
    values = {"image": str(scene), "prompts": ["red"], "model": MODEL, **changes}
    with pytest.raises(error):
        digseg.segment(**values)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_a_result_does_not_take_the_place_of_its_input(scene: Path) -> None:
    before = scene.read_bytes()
    with (
        digseg.segment(scene, "red", model=MODEL) as got,
        pytest.raises(UsageError, match="input itself"),
    ):
        got.save(scene, overwrite=True)
    assert scene.read_bytes() == before


def test_a_closed_result_says_that_its_probabilities_are_gone(scene: Path, tmp_path: Path) -> None:
    with digseg.segment(scene, "red", model=MODEL, tile=64, overlap=16) as got:
        mask = got.mask
        labels = got.labels
    assert set(np.unique(labels)) == {0, 1, mask.nodata}
    for read in (lambda: got.labels, lambda: got.probabilities, lambda: mask.labels[:]):
        with pytest.raises(InputNotFoundError, match="Keep the result open"):
            read()
    with pytest.raises(InputNotFoundError, match="Keep the result open"):
        got.save(tmp_path / "late.tif")
    assert not list(tmp_path.glob("*late*"))
