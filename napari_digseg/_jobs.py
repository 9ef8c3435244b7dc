"""From the form to a job, and to what of it is new. No Qt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from digseg.errors import DigsegError
from digseg.prompts import Prompt, PromptSet
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from napari_digseg._inputs import Target
from napari_digseg._regions import Region, region_of
from napari_digseg._runs import same_prompts

if TYPE_CHECKING:
    from napari_digseg._controller import Controller


def job_of(desk: Controller, layer: Any, target: Target) -> tuple[Job, Region]:
    """The job that the form describes, and the region in the layer's axes.

    Raises
    ------
    DigsegError
        The form asks for something that can't be done.
    """
    region = region_of(desk.state, layer, target, desk.point(layer), desk.shapes())
    number = desk.run.number + 1 if desk.run is not None else 1
    stem = f"run-{int(time.time())}-{number}"
    spread = None
    if desk.state.uncertainty and desk.state.settings.ensemble > 1:
        spread = desk.folder / f"{stem}-spread{'.tif' if target.ndim == 2 else '.nii.gz'}"
    settings = desk.state.run_settings.with_(time=target.time)
    if target.ndim == 2:
        settings = settings.with_(propagate=None)  # of volumes: no word of the command line
    job = Job(
        target.path,
        desk.state.prompts,
        settings,
        Outputs(probabilities=desk.folder / f"{stem}.zarr", uncertainty=spread),
        region=None if region.bounds is None else target.file_bounds(region.bounds),
        outline=None if region.drawn is None else target.file_outline(region.drawn),
    )
    return job, region


def asks_for(desk: Controller, layer: Any, prompts: PromptSet) -> bool:
    """Whether the form asks for these prompts on this layer, now."""
    chosen = layer.name == desk.state.layer and layer in desk.viewer.layers
    return chosen and same_prompts(desk.state, prompts)


def added_prompts(desk: Controller) -> list[Prompt]:
    """Prompts of the form that the finished run lacks; none where it can't be extended."""
    run = desk.run
    if run is None or desk.status.phase != "finished" or run.failed:
        return []
    settings = run.job.settings
    several = settings.planes == "zyx" or settings.propagate
    if several or run.job.outputs.uncertainty is not None:
        return []
    old = {(p.name, p.synonyms, p.negative) for p in run.job.prompts}
    new = [row.prompt for row in desk.state.rows]
    added = [p for p in new if (p.name, p.synonyms, p.negative) not in old]
    kept = len(new) - len(added)
    if kept != len(old) or not added or any(p.negative for p in added):
        return []
    try:
        layer = desk.layer()
        target = desk.targets.known(layer, desk.point(layer))
        if layer is not run.image_layer or target is None:
            return []
        job, region = job_of(desk, layer, target)
    except DigsegError:
        return []
    same_place = region.bounds == run.bounds and job.outline == run.job.outline
    return added if same_place and _lasting(job.settings) == _lasting(run.asked) else []


def _lasting(settings: SegmentSettings) -> SegmentSettings:
    """Settings without thresholds, which cost no new run."""
    return settings.with_(threshold=0.5, thresholds={})
