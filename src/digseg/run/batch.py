"""Many files, one set of prompts: what can be done is done, what can't is said."""

from __future__ import annotations

import csv
import glob
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from digseg.errors import (
    Cancelled,
    DigsegError,
    InputError,
    InputNotFoundError,
    OutputError,
    UsageError,
)
from digseg.events import Callback, CancelToken, ignore
from digseg.prompts import PromptSet
from digseg.raster import Raster, Volume
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from digseg.types import SegmentationModel
from digseg.wording import format_count

if TYPE_CHECKING:
    from digseg.run.result import Result

Status = Literal["done", "incomplete", "failed", "skipped"]

#: Endings of lists of files: one path in each line, relative to the list.
LIST_SUFFIXES = (".txt", ".lst", ".csv")

# Files that lie beside images and are none.
_BESIDE = (
    *(".json", ".csv", ".txt", ".md", ".xml", ".html", ".pdf", ".log", ".tfw", ".prj", ".wld"),
    *(".ovr", ".msk", ".gpkg", ".geojson", ".parquet", ".zip", ".gz", ".raw", ".bval", ".bvec"),
    *(".py", ".yaml", ".yml", ".toml", ".ini", ".sh"),
)


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
        Skip files whose mask is there, and go on with unfinished ones.
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


@dataclass(frozen=True)
class Found:
    """An input of a batch, and where in the output folder its mask belongs."""

    path: str
    place: Path = Path()


def find(inputs: Sequence[str], *, leave_out: Path | None = None) -> list[Found]:
    """Files named by folders, glob patterns, lists and plain paths, each once, in order.

    A folder that is itself an image (a DICOM series, a Zarr store) is one case; of any other
    folder everything inside that is, or is named like, an image. So a damaged image is found and
    reported later, a read-me is not.

    Parameters
    ----------
    leave_out
        The output folder, which may lie inside an input folder.

    Raises
    ------
    InputNotFoundError
        A path, a pattern or a list leads to nothing.
    """
    found: dict[str, Found] = {}
    for text in inputs:
        here = list(_find_one(text, leave_out))
        if not here:
            raise InputNotFoundError(f"There is no image to segment at {text}: check the path.")
        for item in here:
            found.setdefault(item.path, item)
    return list(found.values())


def run_batch(
    job: BatchJob,
    found: Sequence[Found],
    *,
    model: SegmentationModel | None = None,
    callback: Callback = ignore,
    cancel: CancelToken | None = None,
) -> Iterator[Case]:
    """Segment the files one after the other; a case is yielded as soon as it is over.

    The model is loaded once, and workers, if any are asked for, serve all files. A file that can't
    be read, segmented or written becomes a failed case and the next one begins.

    Raises
    ------
    DigsegError
        What concerns all files: the model, the output folder, a person who stops the run.
    """
    from digseg.run.execute import execute, load_model, start_workers

    # What is resumed may be done already.
    with start_workers(job.settings, model, at_once=not job.resume) as workers:
        loaded = load_model(job.settings) if model is None else model
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{job.folder} can't be made: {error.strerror}.") from error
        do = partial(execute, model=loaded, callback=callback, cancel=cancel, workers=workers)
        taken: set[Path] = set()
        inputs = {os.path.realpath(item.path): item.path for item in found}
        for item in found:
            begun = time.perf_counter()
            try:
                case = _one(job, item, do, taken, inputs)
            except Cancelled:
                raise
            except (DigsegError, OSError, MemoryError) as error:
                told = " ".join(str(error).split()) or type(error).__name__
                case = Case(item.path, "failed", error=told)
            yield replace(case, seconds=time.perf_counter() - begun)


def _one(
    job: BatchJob,
    item: Found,
    do: Callable[..., Result],
    taken: set[Path],
    inputs: Mapping[str, str],
) -> Case:
    from digseg import io
    from digseg.run.outputs import work_store_path

    image = io.read(item.path, time=job.settings.time)
    output = _output(job, item, image, taken)
    picture = output.with_name(f"{_stem(output.name)}.png") if job.pictures else None
    if picture == output:
        raise UsageError("Masks written as PNG and pictures of them have one name: drop one.")
    taken.update(path for path in (output, picture) if path is not None)
    for path in (output, picture):
        replaced = inputs.get(os.path.realpath(path)) if path is not None else None
        if replaced is not None:
            raise UsageError(f"Its output would replace {replaced}: choose another folder.")
    unfinished = work_store_path(output).exists()
    if job.resume and output.exists() and not unfinished:
        return Case(item.path, "skipped", output)
    output.parent.mkdir(parents=True, exist_ok=True)
    single = Job(
        item.path,
        job.prompts,
        job.settings,
        Outputs(labels=output, picture=picture),
        resume=job.resume and unfinished,
        overwrite=job.overwrite,
    )
    with do(single, image=image) as result:
        status: Status = "incomplete" if result.failed_tiles else "done"
        error = f"{format_count(result.failed_tiles, 'tile')} failed" if result.failed_tiles else ""
        return Case(item.path, status, output, error, labels=tuple(result.stats()))


def check_table(path: Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a table that could not be written at the end.

    Raises
    ------
    UsageError, OutputExistsError, OutputError
        As for the outputs of a single run.
    """
    from digseg.io.files import refuse_existing
    from digseg.run.outputs import check_folder

    if path.suffix.lower() != ".csv":
        raise UsageError(f"Statistics are written as .csv, not as {path.name}.")
    check_folder(path)
    refuse_existing(path, overwrite=overwrite)


def write_table(cases: Sequence[Case], path: Path, *, overwrite: bool = False) -> list[Path]:
    """One CSV row for each file and prompt."""
    from digseg.io import statistics

    rows = [{"file": case.input, **row} for case in cases for row in case.labels]
    # Rasters have areas, volumes have millilitres: the table has a column for either.
    columns = dict.fromkeys(key for row in rows for key in row)
    whole = [{key: row.get(key) for key in columns} for row in rows]
    return list(statistics.write_csv(whole, path, overwrite=overwrite))


def _output(job: BatchJob, item: Found, image: Raster | Volume, taken: set[Path]) -> Path:
    name = Path(item.path.rstrip("/")).name
    suffix = job.suffix or _suffix(image)
    folder = job.folder / item.place
    stem, whole = _stem(name), name.replace(".", "_")  # a.nii.gz may stand beside a.tif
    stems = chain((stem, whole), (f"{whole}_{number}" for number in count(2)))
    names = ((f"{found}_mask{suffix}", f"{found}_mask.png") for found in stems)
    return next(
        folder / mask
        for mask, picture in names
        if folder / mask not in taken and not (job.pictures and folder / picture in taken)
    )


def _suffix(image: Raster | Volume) -> str:
    if isinstance(image, Volume):
        return ".nii.gz"
    return ".png" if image.grid.space == "pixel" else ".tif"


def _stem(name: str) -> str:
    for ending in (".nii.gz", ".img.gz", ".hdr.gz", ".ome.zarr", ".ome.tiff", ".ome.tif"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(name).stem


def _find_one(text: str, leave_out: Path | None) -> Iterator[Found]:
    from digseg.io.files import is_remote

    path = Path(text)
    if is_remote(text):
        yield Found(text)
    elif path.is_dir():
        yield from _in_folder(path, Path(), leave_out)
    elif path.exists():
        if path.suffix.lower() in LIST_SUFFIXES:
            yield from _in_list(path)
        else:
            yield Found(text)
    elif glob.has_magic(text):
        for name in sorted(glob.glob(text, recursive=True)):
            if not _is_beside(Path(name)):
                yield Found(name)


def _in_folder(folder: Path, place: Path, leave_out: Path | None) -> Iterator[Found]:
    if leave_out is not None and folder.resolve() == leave_out.resolve():
        return
    if _is_image(folder):
        yield Found(str(folder), place.parent)
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _in_folder(path, place / path.name, leave_out)
        elif not _is_beside(path) and (_named_like_image(path) or _is_image(path)):
            yield Found(str(path), place)


def _in_list(path: Path) -> Iterator[Found]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no list of files: it is no text.") from error
    lines = csv.reader(text.splitlines()) if path.suffix.lower() == ".csv" else None
    names = [row[0] for row in lines if row] if lines is not None else text.splitlines()
    for name in names:
        name = name.strip()
        if name and not name.startswith("#"):
            yield Found(str(path.parent / name) if "://" not in name else name)


def _is_beside(path: Path) -> bool:
    """Whether a file belongs to an image, or to something else altogether."""
    name = path.name.lower()
    if path.is_dir() or name.endswith((".nii.gz", ".img.gz", ".hdr.gz")):
        return False
    if name.endswith(_BESIDE):
        return True
    # Analyze and NIfTI pairs: the header speaks for both.
    return name.endswith(".img") and path.with_suffix(".hdr").exists()


def _named_like_image(path: Path) -> bool:
    from digseg.io.registry import FORMATS

    return any(path.name.lower().endswith(item.suffixes) for item in FORMATS if item.suffixes)


def _is_image(path: Path) -> bool:
    from digseg.io.registry import find_reader

    try:
        find_reader(path)
    except InputError:
        return False
    return True
