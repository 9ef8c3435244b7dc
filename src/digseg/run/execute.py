"""The one way from a job to files: CLI, GUI, library and replay all call `execute`."""

from __future__ import annotations

import importlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from digseg.errors import DigsegError, InputError
from digseg.events import Callback, CancelToken, Notice, StageStarted, ignore
from digseg.raster import Raster, Volume
from digseg.run.ahead import LabelsAhead
from digseg.run.asked import source_of
from digseg.run.job import Job
from digseg.run.outputs import check_image, check_outputs, save_outputs, work_store_path
from digseg.run.passes import Passes, parts_path
from digseg.run.region import part_of
from digseg.run.result import Result
from digseg.run.settled import settled
from digseg.run.uncertainty import write_spread
from digseg.run.views import make_mask
from digseg.settings import SegmentSettings
from digseg.types import SegmentationModel, TileSource

if TYPE_CHECKING:
    from digseg.engine import EngineResult, Workers


def execute(
    job: Job,
    *,
    image: Raster | Volume | None = None,
    model: SegmentationModel | None = None,
    callback: Callback = ignore,
    cancel: CancelToken | None = None,
    order: Callable[..., Any] | None = None,
    watched: bool = False,
    workers: Workers | None = None,
) -> Result:
    """Do a job.

    Parameters
    ----------
    job
        What to do.
    image
        The opened input; read from ``job.input`` otherwise.
    model
        A loaded model; loaded as the settings say otherwise.
    callback, cancel
        Listener to events; a token that stops the run.
    order
        Orders pending blocks, see `digseg.engine.segment` (the view first, say).
    watched
        Somebody looks on while it runs: small blocks, to the same labels.
    workers
        Those of `start_workers` for the same settings, where they serve several jobs; else its own,
        which end with it.

    Returns
    -------
    Result
        Close it (or use it in ``with``) to delete a temporary store.

    Raises
    ------
    DigsegError
        See `digseg.errors`. Nothing half-written stays; what can be resumed is kept.
    """
    # 1. Refuse what can't be written before anything is read.
    check_outputs(job)
    # 2. Open the input.
    opened = open_input(job, callback) if image is None else image
    if image is not None:
        check_image(job, opened)
    # 3. Let workers start, if any are wanted; load the model, and choose what it sees.
    with nullcontext(workers) if workers else start_workers(job.settings, model) as helpers:
        if model is None:
            callback(StageStarted("load model"))
            model = load_model(job.settings)
        job = settled(job, opened, model)
        source = source_of(opened, job.settings)
        # 4. Tiles to the probability store; labels follow as blocks are done.
        place = _Place.of(job)
        recipe = job.recipe(model_identity=model.identity, source_identity=source.identity)
        with place.left_to_resume(), LabelsAhead(opened, job, place.store) as ahead:
            heard = ahead.listener(callback)
            passes = Passes(
                opened, model, job, place.store, recipe, heard, cancel, order, watched, helpers
            )
            done = passes.run()
            if workers is None:
                helpers.release()
            if len(done.failed) == done.store.plan.lattice.count:
                _refuse_unreadable(done, source, place)
            return _written(passes, done, place, ahead)


def start_workers(
    settings: SegmentSettings, model: SegmentationModel | None = None, *, at_once: bool = True
) -> Workers:
    """The workers that the settings ask for, if any, about to start; they import the networks
    meanwhile. Use them in ``with``.

    Parameters
    ----------
    model
        A loaded model, of which they import the module; that of the settings otherwise.
    at_once
        Start them now; else with the first job, which may never come.

    Raises
    ------
    UsageError
        A worker process imports the script that asks for workers.
    """
    from digseg.engine import Workers

    module = "digseg.model.adapter" if model is None else type(model).__module__
    workers = Workers(settings, [module] if module.startswith("digseg.") else [])
    if workers.wanted and at_once:
        importlib.import_module(module)  # now it is known how many threads networks take here
        workers.start()
    return workers


def _written(passes: Passes, done: EngineResult, place: _Place, ahead: LabelsAhead) -> Result:
    """The result of a run whose probabilities are stored, with its files."""
    job, opened, recipe = passes.job, passes.image, dict(passes.recipe)
    # 5. Store to labels, in the file's own order.
    mask = make_mask(opened, done.store, job, failed=bool(done.failed))
    result = Result(
        mask,
        done.store,
        job,
        opened,
        recipe,
        tiles=done.store.plan.lattice.count,
        failed_tiles=len(done.failed),
        seconds=done.seconds,
        model_seconds=done.meter.seconds,
    )
    # 6. Labels, polygons, statistics, recipe.
    passes.callback(StageStarted("write"))
    try:
        save_outputs(result, ahead.tiles())
        if job.outputs.uncertainty is not None:
            spread, again = passes.spread(), job.overwrite or job.resume
            result.files += write_spread(opened, spread, job.outputs.uncertainty, overwrite=again)
    except (DigsegError, OSError, MemoryError):
        passes.callback(Notice(_left(result, place)))
        raise
    if place.temporary and (place.nameless or not done.failed):
        # Also when nobody closes the result: at its end, or at the end of the program.
        result._delete = weakref.finalize(result, shutil.rmtree, place.goes, ignore_errors=True)
    passes.tidy()
    return result


def _left(result: Result, place: _Place) -> str:
    """What there is when an output could not be written, and how to come to the rest."""
    names = ", ".join(path.name for path in result.files) or "nothing"
    how = "--resume writes" if place.temporary else f"relabel {place.store} writes"
    return f"Written and proved so far: {names}; {how} the rest without computing it again."


def load_model(settings: SegmentSettings) -> SegmentationModel:
    """The model that the settings name."""
    from digseg import model

    loaded = model.load(
        settings.model,
        device=settings.device,
        steps=settings.steps,
        ensemble=settings.ensemble,
        seed=settings.seed,
    )
    return cast(SegmentationModel, loaded)


def open_input(job: Job, callback: Callback) -> Raster | Volume:
    """The image that a job names, or the part of it that is asked for.

    Raises
    ------
    DigsegError
        It can't be read, or holds nothing that the job asks for.
    """
    from digseg import io

    callback(StageStarted("open"))
    whole = io.read(job.input, time=job.settings.time, series=job.series)
    image = part_of(whole, job)
    check_image(job, image)
    for note in whole.meta.get("notes", ()):
        # What a reader is in doubt of (a tilted gantry, disagreeing affines) is said, not hidden.
        callback(Notice(f"{job.input}: {note}"))
    return image


def _refuse_unreadable(done: EngineResult, source: TileSource, place: _Place) -> None:
    """Raise what reading says where no tile at all can be read; nothing of the run stays.

    A file that opens may still hold no pixels: a mosaic of files that are gone, say. Tiles that the
    model failed at are another matter, and are kept for a resume.
    """
    tile = done.failed[0]
    try:
        source.read(tile.plane, done.store.plan.lattice.window(tile))
    except InputError:
        for path in (place.goes, parts_path(place.store)):
            shutil.rmtree(path, ignore_errors=True)
        raise


@dataclass(frozen=True)
class _Place:
    """Where the probability store lies, and whether it goes when the run is done."""

    store: Path
    temporary: bool = True
    #: No output has a name, so nobody can resume: the store has a folder of its own.
    nameless: bool = False

    @property
    def goes(self) -> Path:
        """What is deleted when it is no longer needed."""
        return self.store.parent if self.nameless else self.store

    @contextmanager
    def left_to_resume(self) -> Iterator[None]:
        """Delete what nobody can resume when a run ends badly."""
        try:
            yield
        except BaseException:
            if self.nameless:
                shutil.rmtree(self.goes, ignore_errors=True)
            raise

    @classmethod
    def of(cls, job: Job) -> _Place:
        if job.outputs.probabilities is not None:
            return cls(job.outputs.probabilities, temporary=False)
        if job.outputs.main is not None:
            return cls(work_store_path(job.outputs.main))
        return cls(Path(tempfile.mkdtemp(prefix="digseg-")) / "store.zarr", nameless=True)
