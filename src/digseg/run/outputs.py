"""What a run leaves behind: checked before the work, written whole, proved equal afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.errors import (
    DigsegError,
    OutputError,
    OutputExistsError,
    UsageError,
    VerificationError,
)
from digseg.io.files import is_remote, refuse_existing, replacing
from digseg.lazy import WindowArray
from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.run.job import Job, Outputs, read_recipe
from digseg.run.passes import parts_path
from digseg.run.region import WHOLE
from digseg.run.result import Result

if TYPE_CHECKING:
    from digseg.io._cog_tiles import Tiles

#: Suffix of the recipe that stands beside the main output.
RECIPE_SUFFIX = ".recipe.json"

#: What is added to the name of an output for its coverage map: of rasters, of volumes.
COVERAGE_SUFFIXES = (".coverage.tif", ".coverage.nii.gz")

#: Most file systems take 255 bytes; what stands beside an output is named after it.
_LONGEST_NAME = 220


def recipe_path(output: Path) -> Path:
    """Where the recipe of an output stands."""
    return output.with_name(output.name + RECIPE_SUFFIX)


def coverage_path(output: Path, image: Raster | Volume) -> Path:
    """Where the coverage map of an output stands when tiles failed."""
    raster, volume = COVERAGE_SUFFIXES
    return output.with_name(output.name + (volume if isinstance(image, Volume) else raster))


def work_store_path(output: Path) -> Path:
    """Where the unfinished work of an output lies, for ``--resume``."""
    return output.with_name(f".{output.name}.digseg.zarr")


def unfinished(store: Path) -> bool:
    """Whether a run that fills ``store`` has begun: it is there, or stores of its passes are."""
    return store.exists() or parts_path(store).exists()


def check_outputs(job: Job) -> None:
    """Refuse, before any work, what could not be written at the end.

    Raises
    ------
    UsageError
        The suffix says no format, or two outputs have the same name.
    OutputExistsError
        An output is there already, or unfinished work is, and neither ``resume`` nor
        ``overwrite`` was asked for.
    OutputError
        The folder is not there or may not be written.
    """
    from digseg.io import registry

    outputs = job.outputs
    for path in outputs:
        check_folder(path)
    paths = [Path(os.path.realpath(path)) for path in outputs]
    if len(set(paths)) != len(paths):
        raise UsageError("Two outputs have the same name: give each its own.")
    if any(would_replace(path, job.input) for path in paths):
        raise UsageError("The output is the input itself: give the output another name.")
    if outputs.labels is not None:
        registry.find_writer(outputs.labels)
    if outputs.vector is not None:
        from digseg.io import vector

        vector.check_suffix(outputs.vector)
    if outputs.stats is not None and outputs.stats.suffix.lower() != ".csv":
        raise UsageError(f"Statistics are written as .csv, not as {outputs.stats.name}.")
    if outputs.picture is not None and outputs.picture.suffix.lower() != ".png":
        raise UsageError(f"Pictures are written as .png, not as {outputs.picture.name}.")
    if outputs.uncertainty is not None:
        registry.find_writer(outputs.uncertainty)
    if outputs.probabilities is not None and outputs.probabilities.suffix.lower() != ".zarr":
        raise UsageError(
            f"Probabilities are written as .zarr, not as {outputs.probabilities.name}."
        )
    _refuse_existing(job)


def _refuse_existing(job: Job) -> None:
    """Refuse what is there already, unless it is to be replaced or is what the job goes on from."""
    outputs, main = job.outputs, job.outputs.main
    if main is None or job.overwrite:
        return
    store = outputs.probabilities or work_store_path(main)
    left = unfinished(store)
    # Of a run that could not compute or write everything some outputs are there.
    written = _written_from(store, outputs) if job.resume and left else set()
    for path in outputs:
        if path.exists() and path not in written:
            raise OutputExistsError(
                f"{path} exists already: choose another name, or replace it with --overwrite."
            )
    if left and not job.resume:
        raise OutputExistsError(
            f"An unfinished run for {main.name} is there: go on with --resume, "
            "or start again with --overwrite."
        )


def _written_from(store: Path, outputs: Outputs) -> set[Path]:
    """The outputs that an unfinished run may replace, being its own.

    A work store is named after its outputs. One with a name of its own may have served another
    output, so its recipe, or the one beside the main output, has to speak of both.
    """
    if outputs.probabilities is None:
        return set(outputs)
    own = {store}
    for recipe in _recipes(store, next(iter(outputs))):
        named = recipe.get("outputs")
        named = named if isinstance(named, dict) else {}
        paths = {name: os.path.realpath(str(path)) for name, path in named.items()}
        if paths.get("probabilities") == os.path.realpath(store):
            own |= {path for path in outputs if os.path.realpath(path) in paths.values()}
    return own


def _recipes(store: Path, main: Path) -> Iterator[dict[str, Any]]:
    from digseg.engine import ProbabilityStore

    with suppress(DigsegError, KeyError, TypeError, ValueError):
        yield ProbabilityStore.open(store).recipe
    with suppress(DigsegError):
        yield read_recipe(recipe_path(main))


def would_replace(output: Path, source: str) -> bool:
    """Whether writing ``output`` takes the input away: the same file by any name, or its folder."""
    if is_remote(source) or not os.path.exists(source):
        return False
    there, written = Path(os.path.realpath(source)), Path(os.path.realpath(output))
    same = os.path.exists(written) and os.path.samefile(there, written)
    return same or written == there or written in there.parents


def check_image(job: Job, image: Raster | Volume) -> None:
    """Refuse, before any work, outputs that can't hold what this image will give.

    Raises
    ------
    UsageError
        Its suffix's format has no place for such labels; polygons of a volume; a tolerance in
        metres where the size of a pixel is unknown.
    """
    from digseg.io import registry, vector

    outputs, shape = job.outputs, image.grid.shape
    nothing = WindowArray(
        shape, np.uint8, lambda bounds: np.zeros([b - a for a, b in bounds], np.uint8)
    )
    mask = Mask(nothing, image.grid, ClassTable.of(job.prompts))
    for path in (outputs.labels, outputs.uncertainty):
        if path is not None:
            registry.check_mask(mask, path, source=image)
    if outputs.vector is not None:
        vector.check_grid(image.grid, outputs.vector)
        vector.pixels_of(job.settings.simplify, image.grid)


def write_labels(
    mask: Mask,
    image: Raster | Volume,
    path: Path,
    *,
    recipe: dict[str, Any],
    overwrite: bool = False,
    tiles: Tiles | None = None,
) -> list[Path]:
    """Write a mask and its recipe, reopen it, and prove place and labels equal to the input's.

    ``tiles`` are those of all its labels as a GeoTIFF, where `digseg.run.ahead` made them.

    Raises
    ------
    UsageError
        It would take the place of the input.
    VerificationError
        The file that was written does not lie where the input lies.
    """
    from digseg import io

    if image.source is not None and would_replace(path, image.source.path):
        raise UsageError("The output is the input itself: give the output another name.")
    if tiles is None:
        files = io.write_mask(mask, path, source=image, overwrite=overwrite)
    else:
        from digseg.io.cog import write_cog

        refuse_existing(path, overwrite=overwrite)
        files = write_cog(mask, path, source=image, tiles=tiles)
    # A part of an image has a grid of its own, which no file holds: nothing to compare with.
    if image.source is not None and WHOLE not in image.meta:
        _prove(image, path, mask.nodata)
    return [*files, write_recipe(recipe, path)]


def _prove(image: Raster | Volume, path: Path, nodata: int | None = None) -> None:
    """Reopen an output; the image is taken as opened: one of several series, say."""
    from digseg import io

    differences = io.verify(image, path, nodata=nodata)
    if differences:
        told = "; ".join(str(difference) for difference in differences)
        raise VerificationError(f"{path} differs from the input: {told}.")


def save_outputs(result: Result, tiles: Tiles | None = None) -> None:
    """Write every output that the job names, and add each to the result's files as it is proved.

    ``tiles`` as for `write_labels`.
    """
    outputs = result.job.outputs
    files = result.files
    replace = result.job.overwrite or result.job.resume
    if outputs.labels is not None:
        files += write_labels(
            result.mask,
            result.image,
            outputs.labels,
            recipe=result.recipe,
            overwrite=replace,
            tiles=tiles,
        )
    if outputs.vector is not None:
        from digseg.io import vector

        files += vector.write_polygons(
            result.mask,
            outputs.vector,
            probabilities=result.probability_view,
            simplify=vector.pixels_of(result.job.settings.simplify, result.mask.grid),
            overwrite=replace,
        )
        _prove(result.image, outputs.vector)
    if outputs.stats is not None:
        from digseg.io import statistics as tables

        files += tables.write_csv(result.stats(), outputs.stats, overwrite=replace)
    if outputs.picture is not None:
        from digseg.run.picture import save_picture

        files.append(save_picture(result.image, result.mask, outputs.picture, result.job.settings))
    if outputs.probabilities is not None:
        files.append(outputs.probabilities)
    if outputs.main is not None and outputs.main != outputs.labels:
        files.append(write_recipe(result.recipe, outputs.main))
    if outputs.main is None:
        return
    coverage = coverage_path(outputs.main, result.image)
    if result.failed_tiles:
        from digseg import io

        files += io.write_mask(result.coverage, coverage, source=result.image, overwrite=True)
    elif replace:  # no tile is missing any more
        for ending in ("", ".aux.xml"):
            coverage.with_name(coverage.name + ending).unlink(missing_ok=True)


def write_recipe(recipe: dict[str, Any], output: Path) -> Path:
    """Write the recipe beside ``output``."""
    path = recipe_path(output)
    write_text(path, json.dumps(recipe, indent=2, sort_keys=True) + "\n")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a small text file under a temporary name, then rename it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_folder(path: Path) -> None:
    """Refuse a file whose folder is not there or may not be written; see `check_outputs`."""
    folder = path.parent
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(f"The name {path.name[:20]}... is too long for a file: shorten it.")
    if is_remote(str(path).replace(":/", "://", 1)):  # a `Path` keeps one slash of the two
        raise UsageError(f"{path} is remote: write to a local file and copy it there.")
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist: make it first.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder {folder} may not be written: choose another one.")
    if path.is_dir() and not path.suffix == ".zarr":
        raise OutputError(f"{path} is a folder: give the name of a file.")
