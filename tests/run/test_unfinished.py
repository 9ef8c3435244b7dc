"""Runs that end badly, or that somebody else is at: nothing wrong is kept, nothing good is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from tests.models import Brightness

import digseg
from digseg.engine.segment import Workers
from digseg.engine.state import identity_of
from digseg.errors import BusyError, Cancelled, OutputExistsError, ResumeError, UsageError
from digseg.events import CancelToken
from digseg.journal import Journal
from digseg.prompts import Prompt, PromptSet
from digseg.raster import Raster
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.run.outputs import work_store_path
from digseg.run.region import crop
from digseg.run.relabel import relabel
from digseg.run.sources import raster_source
from digseg.run.stored import spread_prompts
from digseg.settings import SegmentSettings
from digseg.types import Float32Array


@dataclass(frozen=True)
class Wavering(Brightness):
    """Has no answer for tiles whose middle channel is bright somewhere."""

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        maps = super().__call__(tiles, prompts)
        maps[tiles[:, 1].max(axis=(1, 2)) > 0.99] = np.nan
        return maps


@pytest.fixture
def scene(tmp_path: Path, rng: np.random.Generator) -> Path:
    pixels = rng.integers(0, 250, (3, 128, 128)).astype(np.uint8)
    pixels[:, 100, 100] = 255
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 128, "width": 128, "dtype": "uint8"}
    place = Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4e6)
    with rasterio.open(path, "w", **profile, crs="EPSG:32631", transform=place) as target:
        target.write(pixels)
    return path


def run(scene: Path, output: Path | None = None, model: Any = None, **settings: Any) -> Any:
    values = {"tile": 64, "overlap": 16, **settings}
    return digseg.segment(scene, "red", output=output, model=model or Brightness(), **values)


def test_a_run_of_another_region_is_not_resumed(scene: Path, tmp_path: Path) -> None:
    left, right = ((0, 128), (0, 64)), ((0, 128), (64, 128))
    settings = SegmentSettings(tile=64, overlap=16)
    outputs = Outputs(labels=tmp_path / "mask.tif")
    first = Job(str(scene), PromptSet.parse(["red"]), settings, outputs, region=right)
    with execute(first, model=Wavering()) as got:
        assert got.failed_tiles
    with pytest.raises(ResumeError):
        execute(replace(first, region=left, resume=True), model=Brightness())
    fresh = execute(replace(first, outputs=Outputs()), model=Brightness())
    with execute(replace(first, resume=True), model=Brightness()) as got, fresh:
        np.testing.assert_array_equal(got.labels, fresh.labels)


def test_parts_of_one_file_are_told_apart(scene: Path) -> None:
    from digseg import io

    image = io.read(scene)
    assert isinstance(image, Raster)
    parts = [crop(image, ((0, 64), (start, start + 64))) for start in (0, 1, 64)]
    found = {raster_source(part, SegmentSettings()).identity for part in parts}  # type: ignore[arg-type]
    assert len(found) == 3


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".ome.zarr"])
def test_a_volume_with_a_failed_tile_is_written_and_finished_later(
    suffix: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    voxels = rng.integers(0, 200, (40, 32, 6)).astype(np.uint8)
    voxels[5, 5, 3] = 255  # [x, y, z]
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    out = tmp_path / f"mask{suffix}"
    plain = {"spacing": 0, "propagate": False}
    with run(path, out, Wavering(), **plain) as got:
        assert got.failed_tiles == 1
        assert (got.labels[3] == 255).all()
        assert got.stats()[0]["pixels"] == (got.labels == 1).sum()
        assert out.exists()
    with run(path, out, resume=True, **plain) as got, run(path, **plain) as whole:
        assert got.failed_tiles == 0
        np.testing.assert_array_equal(got.labels, whole.labels)


def test_a_run_without_a_named_output_leaves_nothing(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with run(scene) as got:
        assert got.store.path.exists()
    with run(scene, model=Wavering()) as got:
        assert got.failed_tiles
    stopped = CancelToken()
    stopped.cancel()
    with pytest.raises(Cancelled):
        run(scene, cancel=stopped)
    assert not list(tmp_path.glob("digseg-*"))


def test_only_stores_of_probabilities_are_replaced(scene: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "mine.zarr"
    foreign.mkdir()
    (foreign / "precious").write_text("years of work")
    file = tmp_path / "file.zarr"
    file.write_text("a file")
    for path in (foreign, file):
        for how in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(OutputExistsError, match="no store"):
                run(scene, probabilities=path, **how)
    assert (foreign / "precious").read_text() == "years of work"
    own = tmp_path / "own.zarr"
    for _ in range(2):
        run(scene, probabilities=own, overwrite=True).close()


def test_relabelling_does_not_replace_the_store(scene: Path, tmp_path: Path) -> None:
    store = tmp_path / "own.zarr"
    run(scene, probabilities=store).close()
    with pytest.raises(UsageError, match="store itself"):
        relabel(store, Outputs(labels=store), overwrite=True)
    assert relabel(store, Outputs(labels=tmp_path / "mask.tif")).files


@pytest.mark.skipif("sys.platform == 'win32'", reason="no locks there")
def test_two_runs_do_not_share_an_output(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.tif"
    run(scene, out, Wavering()).close()
    store = work_store_path(out)
    other = Journal.load(store / ".digseg" / "journal")
    before = (store / ".digseg" / "journal").read_bytes()
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(BusyError, match="Another run"):
            run(scene, out, **how)
    assert (store / ".digseg" / "journal").read_bytes() == before
    other.close()
    with run(scene, out, resume=True) as got:
        assert got.failed_tiles == 0


def test_a_refused_run_is_not_in_the_way(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise UsageError("There is no scheduler there.")

    with monkeypatch.context() as patch:
        patch.setattr(Workers, "__enter__", refuse)
        with pytest.raises(UsageError):
            run(scene, tmp_path / "mask.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.tif"]
    run(scene, tmp_path / "mask.tif").close()


def test_a_spread_may_be_asked_for_by_name() -> None:
    prompts = PromptSet.parse(["water", "spread of water"])
    names = [prompt.name for prompt in spread_prompts(prompts)]
    assert names[:2] == ["water", "spread of water"]
    assert len(set(names)) == 4


def test_smoother_borders_are_no_other_run(scene: Path) -> None:
    from digseg import io

    image = io.read(scene)
    assert isinstance(image, Raster)
    source = raster_source(image, SegmentSettings())
    prompts, settings = PromptSet.parse(["red"]), SegmentSettings()
    smoother = replace(settings, simplify="2px")
    first, second = (
        identity_of(source, Brightness(), prompts, chosen) for chosen in (settings, smoother)
    )
    assert first == second
