"""The Labels layer that a run fills. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from digseg.raster import ClassTable
from digseg.run.job import Job
from napari_digseg._inputs import Target
from napari_digseg._labels import class_kwargs, labels_metadata
from napari_digseg._place import KEY


def result_layer(
    levels: Sequence[Any], job: Job, target: Target, image: str, place: Mapping[str, Any]
) -> Any:
    """A Labels layer over the labels of a run.

    Parameters
    ----------
    levels
        Arrays of labels, the finest first.
    target
        The file that is segmented.
    image
        Name of the image's layer.
    place
        Where the result lies, as keyword arguments of a layer.
    """
    from napari.layers import Labels

    classes = ClassTable.of(job.prompts)
    grid = target.grid
    if job.region is not None:
        starts = tuple(low for low, _ in job.region)
        grid = grid.crop(starts, tuple(high - low for low, high in job.region))
    metadata = labels_metadata(grid, classes, nodata=None)
    metadata["store"] = str(job.outputs.probabilities)
    if job.region is None:
        metadata["source"] = job.input
    several = len(levels) > 1
    # Labels have no axis of time: they lie over every time point, so they say which they are of.
    when = "" if target.moment is None else f", time {target.moment}"
    return Labels(
        list(levels) if several else levels[0],
        multiscale=several,
        name=_shortened(f"{image}{when}: {', '.join(job.prompts.names)}", 60),
        opacity=0.55,
        metadata={KEY: metadata},
        **class_kwargs(classes),
        **place,
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(", ") + "…"
