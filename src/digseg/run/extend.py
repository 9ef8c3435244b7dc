"""Further prompts for a finished run: only they are computed; ids of the old ones stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from digseg.errors import PromptError, UsageError
from digseg.events import Callback, CancelToken, ignore
from digseg.prompts import PromptSet
from digseg.raster import Raster, Volume
from digseg.run.job import Job
from digseg.run.result import Result
from digseg.types import SegmentationModel


def extend(
    job: Job,
    added: PromptSet,
    *,
    image: Raster | Volume,
    model: SegmentationModel,
    callback: Callback = ignore,
    cancel: CancelToken | None = None,
    order: Callable[..., Any] | None = None,
) -> Result:
    """Add prompts to the finished run of a job.

    Its probability store is replaced by one that holds all prompts, exactly as if they had been
    asked for together.

    Parameters
    ----------
    job
        The finished run; it kept its probabilities.
    added
        Positive prompts only: a further negative one would change what the others found.
    image, model
        As `digseg.run.execute.execute` takes them. A model that remembers encoded tiles
        (`digseg.run.remember.Remembering`) is spared the costly half of the work.

    Raises
    ------
    UsageError
        The run kept no probabilities, or took several passes: run it anew with all prompts.
    PromptError
        A prompt is there already.
    TilesFailedError
        Some tiles of the run are missing.
    Cancelled
        The person stopped; the finished run stays as it was.
    """
    from digseg import engine
    from digseg.engine.merge import merge
    from digseg.engine.state import identity_of
    from digseg.run.asked import source_of
    from digseg.run.magnify import fitted
    from digseg.run.views import make_mask

    place = _check(job, added)
    prompts = PromptSet((*job.prompts, *added))
    first = engine.ProbabilityStore.open(place)
    source = source_of(image, job.settings)
    seen_by = fitted(model, image, job.settings)
    extra = place.with_name(f".{place.name}.added")
    done = engine.segment(
        source,
        seen_by,
        added,
        job.settings,
        extra,
        overwrite=True,
        plan=first.plan,
        callback=callback,
        cancel=cancel,
        order=order,
    )
    whole = replace(job, prompts=prompts)
    recipe = {**first.recipe, **whole.recipe()}
    merged = place.with_name(f".{place.name}.merged")
    shutil.rmtree(merged, ignore_errors=True)
    try:
        merge(
            first,
            done.store,
            merged,
            prompts,
            identity=identity_of(source, seen_by, prompts, job.settings),
            recipe=recipe,
        )
        _replace(merged, place)
    finally:
        shutil.rmtree(extra, ignore_errors=True)
        shutil.rmtree(merged, ignore_errors=True)
    store = engine.ProbabilityStore.open(place)
    return Result(
        make_mask(image, store, whole),
        store,
        whole,
        image,
        recipe,
        tiles=store.plan.lattice.count,
        failed_tiles=len(done.failed),
        seconds=done.seconds,
        model_seconds=done.meter.seconds,
    )


def _check(job: Job, added: PromptSet) -> Path:
    if job.outputs.probabilities is None:
        raise UsageError("The run kept no probabilities to add a prompt to: run it anew with all.")
    if added.negative:
        raise PromptError("A negative prompt changes every label: run all prompts anew.")
    if job.settings.planes == "zyx" or job.settings.propagate:
        raise UsageError("A run of several passes can't be extended: run all prompts anew.")
    return job.outputs.probabilities


def _replace(new: Path, old: Path) -> None:
    """Put a folder in another's place; a viewer that has the old one open keeps its files."""
    aside = old.with_name(f".{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(old, aside)
    os.replace(new, old)
    shutil.rmtree(aside, ignore_errors=True)
