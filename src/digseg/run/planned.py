"""What a job would take, before it is done: the estimates of all its passes together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from digseg.events import ignore
from digseg.orientation import AXES, Axis
from digseg.raster import Raster, Volume
from digseg.run.asked import source_of
from digseg.run.execute import load_model, open_input
from digseg.run.job import Job
from digseg.run.magnify import fitted
from digseg.run.outputs import check_outputs
from digseg.run.settled import settled


def plan(job: Job) -> dict[str, Any]:
    """Tiles, blocks, memory, disk and minutes of a job; computes a few tiles only.

    Of several passes tiles, blocks, disk and seconds are summed (the stores of all lie there until
    the end), and memory is that of the largest. What fuses them, reading and writing alone, is in
    the disk and not in the seconds.

    Raises
    ------
    DoesNotFitError
        It can't be done in the memory or on the disk that there is.
    """
    from digseg import engine

    check_outputs(job)
    image = open_input(job, ignore)
    loaded = load_model(job.settings)
    job = settled(job, image, loaded)
    place = job.outputs.main or Path.cwd() / "out"
    axes = _axes(job, image)
    estimates = {
        axis: engine.estimate(
            source_of(image, job.settings, axis),
            fitted(loaded, image, job.settings, axis),
            job.prompts,
            job.settings,
            place.parent,
            timed=True,
        ).to_dict()
        for axis in dict.fromkeys(axes)
    }
    each = [estimates[axis] for axis in axes]
    told = dict(each[0])
    for key in ("tiles", "blocks", "disk_bytes", "seconds"):
        told[key] = sum(found[key] for found in each)
    told["memory_bytes"] = max(found["memory_bytes"] for found in each)
    maps = max(found["disk_bytes"] for found in each)
    if job.outputs.uncertainty is not None:
        told["disk_bytes"] *= 2  # the spread of each prompt beside its map
    if len(estimates) > 1 or job.outputs.uncertainty is not None:
        told["disk_bytes"] += maps  # what they are brought to in the end
    return {
        "input": job.input,
        "shape": list(image.data.shape),
        "prompts": [prompt.name for prompt in job.prompts],
        "passes": len(axes),
        **told,
        "command": job.command_line(),
    }


def _axes(job: Job, image: Raster | Volume) -> tuple[Axis | None, ...]:
    """The slice axis of each pass (`None`: the settings')."""
    if not isinstance(image, Volume):
        return (None,)
    several: tuple[Axis | None, ...] = AXES if job.settings.planes == "zyx" else (None,)
    times = 2 if job.settings.propagate else 1
    return tuple(axis for axis in several for _ in range(times))
