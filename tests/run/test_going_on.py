"""What a resumed run may replace: outputs of its own, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from tests.models import Brightness
from tests.run.test_batch import volume
from tests.run.test_unfinished import Wavering

from digseg.errors import OutputExistsError
from digseg.events import BlockWritten, Event
from digseg.prompts import PromptSet
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.run.outputs import coverage_path, unfinished
from digseg.settings import SegmentSettings


@pytest.fixture
def job(tmp_path: Path, rng: np.random.Generator) -> Job:
    """A scene in which `Wavering` has no answer for one tile; the store has a name."""
    pixels = rng.integers(0, 250, (3, 128, 128)).astype(np.uint8)
    pixels[:, 100, 100] = 255
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 128, "width": 128, "dtype": "uint8"}
    place = Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4e6)
    with rasterio.open(path, "w", **profile, crs="EPSG:32631", transform=place) as target:
        target.write(pixels)
    outputs = Outputs(
        labels=tmp_path / "pr.tif",
        probabilities=tmp_path / "pr.zarr",
        stats=tmp_path / "pr.csv",
    )
    settings = SegmentSettings(tile=64, overlap=0)
    return Job(str(path), PromptSet.parse(["red"]), settings, outputs)


def test_failed_tiles_are_tried_again_where_the_store_has_a_name(job: Job, tmp_path: Path) -> None:
    with execute(job, model=Wavering()) as got:
        assert got.failed_tiles == 1
        coverage = coverage_path(tmp_path / "pr.tif", got.image)
    assert coverage.exists()
    with pytest.raises(OutputExistsError):
        execute(job, model=Brightness())
    # With polygons, too, and it fails again; then with all that is there by now.
    more = replace(job, outputs=replace(job.outputs, vector=tmp_path / "pr.gpkg"), resume=True)
    execute(more, model=Wavering()).close()
    with execute(more, model=Brightness()) as got:
        assert got.failed_tiles == 0
        found = got.labels
    with execute(replace(job, outputs=Outputs()), model=Brightness()) as fresh:
        np.testing.assert_array_equal(found, fresh.labels)
    with rasterio.open(tmp_path / "pr.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), found)
    assert not list(tmp_path.glob("*coverage*")), "no tile is missing any more"


def test_outputs_of_others_stay_where_the_store_has_a_name(job: Job, tmp_path: Path) -> None:
    other = replace(job.outputs, labels=tmp_path / "other.tif", stats=None)
    execute(replace(job, outputs=replace(other, probabilities=None)), model=Brightness()).close()
    execute(job, model=Wavering()).close()
    before = (tmp_path / "other.tif").read_bytes()
    with pytest.raises(OutputExistsError, match=r"other\.tif exists already"):
        execute(replace(job, outputs=other, resume=True), model=Brightness())
    polygons = tmp_path / "mine.gpkg"
    polygons.write_text("mine")
    more = replace(job.outputs, vector=polygons)
    with pytest.raises(OutputExistsError, match=r"mine\.gpkg exists already"):
        execute(replace(job, outputs=more, resume=True), model=Brightness())
    assert (tmp_path / "other.tif").read_bytes() == before
    assert polygons.read_text() == "mine"


@pytest.mark.parametrize("named", [False, True])
def test_a_volume_that_stopped_in_its_first_pass_is_known_to_be_unfinished(
    named: bool, tmp_path: Path
) -> None:
    store = tmp_path / ("v.zarr" if named else ".v.nii.gz.digseg.zarr")
    job = Job(
        str(volume(tmp_path / "in" / "v.nii.gz")),
        PromptSet.parse(["bright"]),
        SegmentSettings(planes="zyx", tile=32, overlap=8),
        Outputs(labels=tmp_path / "v.nii.gz", probabilities=store if named else None),
    )

    def stop(event: Event) -> None:
        if isinstance(event, BlockWritten):
            raise KeyboardInterrupt

    assert not unfinished(store)
    with pytest.raises(KeyboardInterrupt):
        execute(job, model=Brightness(), callback=stop)
    assert not store.exists()
    assert unfinished(store)
    with pytest.raises(OutputExistsError, match=r"An unfinished run for v\.nii\.gz is there"):
        execute(job, model=Brightness())
    with execute(replace(job, resume=True), model=Brightness()) as got:
        assert got.labels.any()
