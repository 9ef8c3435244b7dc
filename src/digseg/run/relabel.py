"""New labels from stored probabilities: other thresholds and class rules, no inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from digseg.errors import InputNotFoundError, UnsupportedInputError, UsageError
from digseg.prompts import normalise
from digseg.raster import Raster, Volume
from digseg.run.job import Job, Outputs
from digseg.run.outputs import check_image, check_outputs, save_outputs, would_replace
from digseg.run.region import part_of
from digseg.run.result import Result
from digseg.run.views import make_mask


def relabel(
    store_path: str | Path,
    outputs: Outputs,
    *,
    threshold: float | None = None,
    thresholds: Mapping[str, float] | None = None,
    suppress: Sequence[str] = (),
    simplify: str | None = None,
    input_path: str | None = None,
    overwrite: bool = False,
) -> Result:
    """Write labels, polygons or statistics anew from a probability store.

    Parameters
    ----------
    store_path
        A store that ``segment --probabilities`` wrote.
    threshold, thresholds
        The common threshold and those by prompt name; what is not given stays as in the run.
    suppress
        Prompts that compete but get no label now, like negative ones; the others keep their ids.
    simplify
        Tolerance of the borders of polygons, ``"2px"`` or ``"5m"``; `None` keeps that of the run.
    input_path
        The image, where it is no longer at the place that the recipe names.

    Raises
    ------
    InputNotFoundError, CorruptInputError, UsageError, OutputExistsError
        No such store or image; no such prompt; an output is there already.
    """
    from digseg import engine

    store = engine.ProbabilityStore.open(store_path)
    if "recipe" not in store.recipe:
        raise UnsupportedInputError(
            f"{store_path} holds no recipe: it was written by the engine alone, so the place of "
            "its labels is not known."
        )
    old = Job.from_recipe(store.recipe)
    settings = old.settings
    if threshold is not None:
        # A new common threshold replaces the old run's choices for single prompts, too.
        settings = settings.with_(threshold=threshold, thresholds={})
    if thresholds:
        settings = settings.with_(thresholds={**settings.thresholds, **thresholds})
    if simplify is not None:
        settings = settings.with_(simplify=simplify)
    job = replace(
        old, settings=settings, outputs=outputs, overwrite=overwrite, resume=False,
        input=input_path or old.input, suppress=tuple(suppress),
    )  # fmt: skip
    _check_names(job, suppress)
    check_outputs(job)
    if any(would_replace(path, str(store_path)) for path in outputs):
        raise UsageError("The output is the store itself: give the output another name.")
    image = _open(job)
    check_image(job, image)
    progress = store.progress()
    holes = bool(progress.failed_tiles or progress.pending)
    mask = make_mask(image, store, job, failed=holes)
    recipe = {**store.recipe, **job.recipe(), "relabelled_from": str(store_path)}
    result = Result(
        mask, store, job, image, recipe,
        tiles=store.plan.lattice.count,
        failed_tiles=len(progress.failed_tiles),
    )  # fmt: skip
    save_outputs(result)
    return result


def _check_names(job: Job, suppress: Sequence[str]) -> None:
    known = {normalise(name) for name in job.prompts.names}
    for name in (*job.settings.thresholds, *suppress):
        if normalise(name) not in known:
            names = ", ".join(job.prompts.names)
            raise UsageError(f"The store has no prompt {name!r}; it has: {names}.")
    if {normalise(name) for name in suppress} >= known:
        raise UsageError("Every prompt is suppressed: leave at least one.")


def _open(job: Job) -> Raster | Volume:
    from digseg import io

    try:
        image = io.read(job.input, time=job.settings.time, series=job.series)
    except InputNotFoundError as error:
        raise InputNotFoundError(
            f"The image of this store is no longer at {job.input}: say where it is with --input."
        ) from error
    return part_of(image, job)
