"""Labels written while the run goes on: the same bytes as after it, whatever happens meanwhile."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from tests.models import Brightness

from digseg import engine, io
from digseg.errors import Cancelled
from digseg.events import BlockWritten, CancelToken, Event
from digseg.io import cog
from digseg.io._cog_tiles import Tiles
from digseg.prompts import Prompt, PromptSet
from digseg.run import ahead, passes
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.run.result import Result
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, Float32Array

SHAPE = (1100, 1500)


class Broken(Brightness):
    """Fails at tiles that are bright in their first corner."""

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        if (tiles[:, 0, 0, 0] > 0.8).any():
            raise ValueError("too bright")
        return super().__call__(tiles, prompts)


class Slow(Brightness):
    """Takes its time, so that a run can be stopped in its middle."""

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        time.sleep(0.05)
        return super().__call__(tiles, prompts)


@pytest.fixture
def job(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run of 15 blocks whose labels come in windows of 512 pixels."""
    monkeypatch.setattr(ahead, "_SIDE", 512)
    coarse = rng.integers(1, 250, (3, SHAPE[0] // 10, SHAPE[1] // 10), dtype=np.uint8)
    pixels = coarse.repeat(10, 1).repeat(10, 2)
    profile = {"driver": "GTiff", "count": 3, "height": SHAPE[0], "width": SHAPE[1]}
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 5e6)}
    with rasterio.open(tmp_path / "scene.tif", "w", **profile, **place, dtype="uint8") as file:
        file.write(pixels)
    settings = SegmentSettings(tile=256, overlap=32)
    prompts = PromptSet.parse(["red", "blue"])

    def small(*_: object) -> engine.Plan:
        return engine.Plan.make((1, *SHAPE), 2, settings, multiple=32, block=(1, 256, 512))

    monkeypatch.setattr(passes, "watched_plan", small)
    outputs = Outputs(labels=tmp_path / "labels.tif", probabilities=tmp_path / "store.zarr")
    return Job(str(tmp_path / "scene.tif"), prompts, settings, outputs, overwrite=True)


def written_after(result: Result) -> bytes:
    """The file as it is written from the finished store."""
    path = Path(result.job.input).with_name("after.tif")
    io.write_mask(result.mask, path, source=result.image, overwrite=True)
    return path.read_bytes()


def of(job: Job) -> bytes:
    assert job.outputs.labels is not None
    return job.outputs.labels.read_bytes()


def left(job: Job) -> set[str]:
    assert job.outputs.probabilities is not None
    return {path.name for path in (job.outputs.probabilities / ".digseg").iterdir()}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each COG that was written got its tiles from a run."""
    seen: list[bool] = []
    write = cog.write_cog

    def watched(*args: object, tiles: Tiles | None = None, **more: object) -> list[Path]:
        seen.append(tiles is not None)
        return write(*args, tiles=tiles, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(cog, "write_cog", watched)
    return seen


def test_the_same_bytes_as_after_the_run(job: Job, given: list[bool]) -> None:
    with execute(job, model=Brightness(), watched=True) as result:
        assert given == [True]
        assert of(job) == written_after(result)
        assert left(job) == {"journal"}


def test_failed_tiles_are_nodata_here_too(job: Job, given: list[bool]) -> None:
    with execute(job, model=Broken(), watched=True) as result:
        assert result.failed_tiles
        assert result.mask.nodata == 255
        assert given[0]
        assert of(job) == written_after(result)


def test_a_resumed_run_writes_the_same(job: Job, given: list[bool]) -> None:
    cancel = CancelToken()

    def stop(event: Event) -> None:
        if isinstance(event, BlockWritten) and event.done == 3:
            cancel.cancel()

    with pytest.raises(Cancelled):
        execute(job, model=Slow(), watched=True, callback=stop, cancel=cancel)
    assert "labels.tiles" not in left(job)
    assert given == []
    again = Job(job.input, job.prompts, job.settings, job.outputs, resume=True)
    with execute(again, model=Brightness(), watched=True) as result:
        assert given == [True]
        assert of(job) == written_after(result)
        ahead.scratch_path(result.store.path).write_bytes(b"of a run that was killed")
        result.files[0].unlink()
    with execute(again, model=Brightness(), watched=True) as result:  # nothing is left to do
        assert of(job) == written_after(result)
        assert left(job) == {"journal"}


def test_what_goes_wrong_ahead_is_done_after(
    job: Job, given: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = Tiles.put, [0]

    def fails_once(self: Tiles, top: int, left: int, labels: AnyArray) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise OSError("no room")
        put(self, top, left, labels)

    monkeypatch.setattr(Tiles, "put", fails_once)
    with execute(job, model=Brightness(), watched=True) as result:
        assert given == [False]
        assert of(job) == written_after(result)
        assert left(job) == {"journal"}


def test_a_store_that_is_taken_away_meanwhile_is_no_crash(job: Job, tmp_path: Path) -> None:
    """As when a run finds nothing that it could keep; an exception of a thread fails a test."""
    image = io.read(job.input)
    with execute(job, model=Brightness(), watched=True) as result:
        store = result.store.path
    for part in ("coverage", "probabilities"):
        shutil.rmtree(store / part, ignore_errors=True)
    with ahead.LabelsAhead(image, job, store) as labels:
        labels.listener(lambda event: None)(BlockWritten(0, (0, SHAPE[0], 0, SHAPE[1]), 1, 1, 1))
        assert labels.tiles() is None
