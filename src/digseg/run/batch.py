"""Many files, one set of prompts: what can be done is done, what can't is said."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from digseg.errors import Cancelled, DigsegError, OutputError, UsageError
from digseg.events import Callback, CancelToken, ignore
from digseg.prompts import PromptSet
from digseg.raster import Raster, Volume
from digseg.run.found import Found, names_of
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from digseg.types import SegmentationModel
from digseg.wording import format_count

if TYPE_CHECKING:
    from digseg.run.result import Result
    from digseg.run.table import Table

Status = Literal["done", "incomplete", "failed", "skipped"]


@dataclass(frozen=True)
class BatchJob:
    """One request for many files.

    Parameters
    ----------
    prompts, settings
        The same for every file.
    folder
        Where masks go, laid out as the inputs are.
    suffix
        Format of all masks; empty takes ``.nii.gz`` for volumes, ``.png`` for pictures without a
        place, ``.tif`` for everything else.
    pictures
        Write a PNG of image and mask beside each.
    resume
        Skip files whose mask is there as it is asked for, and go on with unfinished ones.
    overwrite
        Replace masks that are there.
    """

    prompts: PromptSet
    settings: SegmentSettings
    folder: Path
    suffix: str = ""
    pictures: bool = False
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Case:
    """What became of one file."""

    input: str
    status: Status
    output: Path | None = None
    error: str = ""
    seconds: float = 0.0
    labels: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "input": self.input,
            "status": self.status,
            "output": None if self.output is None else str(self.output),
            "error": self.error or None,
            "seconds": round(self.seconds, 3),
            "labels": list(self.labels),
        }


def run_batch(
    job: BatchJob,
    found: Sequence[Found],
    *,
    model: SegmentationModel | None = None,
    callback: Callback = ignore,
    cancel: CancelToken | None = None,
    table: Table | None = None,
) -> Iterator[Case]:
    """Segment the files one after the other; a case is yielded as soon as it is over.

    The model is loaded once, and workers, if any are asked for, serve all files. A file that can't
    be read, segmented or written becomes a failed case and the next one begins. So does a file
    whose mask is there and is not what is asked for now, where a batch is resumed.

    Parameters
    ----------
    table
        Where rows will be written: a file that is skipped and has none there is counted.

    Raises
    ------
    DigsegError
        What concerns all files: the model, the output folder, a person who stops the run.
    """
    from digseg import io
    from digseg.run.execute import execute, load_model, start_workers

    # What is resumed may be done already.
    with start_workers(job.settings, model, at_once=not job.resume) as workers:
        loaded = load_model(job.settings) if model is None else model
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{job.folder} can't be made: {error.strerror}.") from error
        do = partial(execute, model=loaded, callback=callback, cancel=cancel, workers=workers)
        inputs = {os.path.realpath(item.path): item.path for item in found}
        for item, name in zip(found, names_of(found), strict=True):
            begun = time.perf_counter()
            try:
                image = io.read(item.path, time=job.settings.time)
                single = _single(job, item, name, image, inputs)
                if job.resume and not single.resume and _is_there(single):
                    case = _skipped(single, image, loaded, table)
                else:
                    case = _done(single, image, do)
            except Cancelled:
                raise
            except (DigsegError, OSError, MemoryError) as error:
                told = " ".join(str(error).split()) or type(error).__name__
                case = Case(item.path, "failed", error=told)
            yield replace(case, seconds=time.perf_counter() - begun)


def _single(
    job: BatchJob,
    item: Found,
    name: Path,
    image: Raster | Volume,
    inputs: Mapping[str, str],
) -> Job:
    """The job of one file."""
    from digseg.run.outputs import unfinished, work_store_path

    stem = f"{name.name}_mask"
    output = job.folder / name.with_name(f"{stem}{job.suffix or _suffix(image)}")
    picture = output.with_name(f"{stem}.png") if job.pictures else None
    if picture == output:
        raise UsageError("Masks written as PNG and pictures of them have one name: drop one.")
    for path in (output, picture):
        replaced = inputs.get(os.path.realpath(path)) if path is not None else None
        if replaced is not None:
            raise UsageError(f"Its output would replace {replaced}: choose another folder.")
    return Job(
        item.path,
        job.prompts,
        job.settings,
        Outputs(labels=output, picture=picture),
        resume=job.resume and unfinished(work_store_path(output)),
        overwrite=job.overwrite,
    )


def _is_there(single: Job) -> bool:
    return single.outputs.labels is not None and single.outputs.labels.exists()


def _done(single: Job, image: Raster | Volume, do: Callable[..., Result]) -> Case:
    output = single.outputs.labels
    assert output is not None
    output.parent.mkdir(parents=True, exist_ok=True)
    with do(single, image=image) as result:
        status: Status = "incomplete" if result.failed_tiles else "done"
        error = f"{format_count(result.failed_tiles, 'tile')} failed" if result.failed_tiles else ""
        return Case(single.input, status, output, error, labels=tuple(result.stats()))


def _skipped(
    single: Job, image: Raster | Volume, model: SegmentationModel, table: Table | None
) -> Case:
    """A file whose mask is there; what is wanted beside it and is not there is made from it."""
    from digseg.run.finished import finished_mask, finished_rows, same_run
    from digseg.run.outputs import write_recipe
    from digseg.run.picture import save_picture

    output, picture = single.outputs.labels, single.outputs.picture
    assert output is not None
    recipe = same_run(single, image, model)
    if picture is not None and not picture.exists():
        settings = SegmentSettings.from_dict(recipe["settings"])
        save_picture(image, finished_mask(single, image), picture, settings)
        write_recipe(recipe, output)  # which names what lies beside it
    labels: list[dict[str, Any]] = []
    names = [prompt.name for prompt in single.prompts.positive]
    if table is not None and not table.holds(single.input, output, names):
        labels = finished_rows(single, image)
    return Case(single.input, "skipped", output, labels=tuple(labels))


def _suffix(image: Raster | Volume) -> str:
    if isinstance(image, Volume):
        return ".nii.gz"
    return ".png" if image.grid.space == "pixel" else ".tif"
