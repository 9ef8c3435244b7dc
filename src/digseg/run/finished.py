"""A mask that is there already: whether it is what a job asks for, and what it measures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, DigsegError, ResumeError, UnsupportedInputError
from digseg.journal import differences
from digseg.prompts import Prompt
from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.run.asked import source_of
from digseg.run.job import Job, read_recipe
from digseg.run.outputs import recipe_path
from digseg.run.settled import settled
from digseg.types import SegmentationModel

#: Settings that change no label: how the work is done, and the borders of polygons. The model's
#: name is a path, too; what it is stands in its identity.
_FREE = {"model", "device", "batch", "memory", "workers", "scheduler", "simplify"}


def same_run(job: Job, image: Raster | Volume, model: SegmentationModel) -> dict[str, Any]:
    """The recipe with which a job would make the mask that lies where its labels belong.

    Raises
    ------
    ResumeError
        That mask was made of something else or otherwise, or no recipe beside it says how.
    """
    output = job.outputs.labels
    assert output is not None
    job = settled(job, image, model)
    old, told = _read(output)
    changed = differences(_choices(old), _choices(job))
    new = job.recipe()
    if not changed:  # else the source differs, too: bands and windows are part of it
        source = source_of(image, job.settings).identity
        new = job.recipe(model_identity=model.identity, source_identity=source)
        changed = _origins(told, new)
    if changed:
        raise ResumeError(
            f"{output} is of another run ({'; '.join(changed)}): "
            "choose another folder, or replace it with --overwrite."
        )
    return new


def finished_mask(job: Job, image: Raster | Volume) -> Mask:
    """The mask of a finished job, read back lazily.

    Raises
    ------
    InputError
        It can't be read, or is not of the image's shape.
    """
    from digseg.io import registry

    output = job.outputs.labels
    assert output is not None
    item, probe = registry.find_reader(output)
    reader = getattr(item.code, "read_mask", None)
    if reader is None:
        raise UnsupportedInputError(f"{output} holds no labels that could be counted: replace it.")
    labels = reader(probe.path).labels
    if tuple(labels.shape) != image.grid.shape:
        raise CorruptInputError(f"{output} has another shape than its image: replace it.")
    classes = ClassTable.of(job.prompts)
    # Not all formats say which value stands for no data, but it is always the same one.
    nodata = None if isinstance(image, Volume) else int(np.iinfo(classes.dtype).max)
    return Mask(labels, image.grid, classes, nodata)


def finished_rows(job: Job, image: Raster | Volume) -> list[dict[str, Any]]:
    """What `Result.stats` gave, counted from the mask; probabilities are not known any more.

    Raises
    ------
    InputError
        As for `finished_mask`.
    """
    from digseg.run.measures import rows_of

    return rows_of(finished_mask(job, image), image)


def _read(output: Path) -> tuple[Job, dict[str, Any]]:
    """The job that made a mask, and the recipe that says so."""
    try:
        recipe = read_recipe(recipe_path(output))
        return Job.from_recipe(recipe), recipe
    except (DigsegError, AttributeError, TypeError, ValueError) as error:
        raise ResumeError(
            f"{output} is there without a recipe that says how it was made: "
            "choose another folder, or replace it with --overwrite."
        ) from error


def _choices(job: Job) -> dict[str, Any]:
    """What a person chose that decides labels, in a form whose differences read well."""
    # Through JSON and back, as the recipe's.
    values = json.loads(job.settings.to_json())
    return {
        "series": job.series,
        "region": None if job.region is None else [list(pair) for pair in job.region],
        "outline": None if job.outline is None else str(job.outline),
        "suppressed": list(job.suppress),
        "prompts": [_text(prompt) for prompt in job.prompts],
        "settings": {key: value for key, value in values.items() if key not in _FREE},
    }


def _text(prompt: Prompt) -> str:
    """A prompt as it is typed; its colour is not what is looked for."""
    words = "=".join(part for part in (prompt.name, ",".join(prompt.synonyms)) if part)
    return f"not {words}" if prompt.negative else words


def _origins(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs in the image and the model of two recipes with the same choices."""
    found = []
    if old.get("model_identity") != new["model_identity"]:
        names = [recipe["settings"].get("model") for recipe in (old, new)]
        found.append(f"model: {_became(*names)}")
    if old.get("source_identity") != new["source_identity"]:
        found.append(f"image: {_became(old['input'], new['input'])}")
    return found


def _became(before: str, now: str) -> str:
    return "its content has changed" if before == now else f"{before} became {now}"
