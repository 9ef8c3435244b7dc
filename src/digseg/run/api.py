"""`digseg.segment`: the library's one call, on a path, an array or an `xarray.DataArray`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from digseg.errors import UsageError
from digseg.events import Callback, CancelToken, ignore
from digseg.grid import Grid
from digseg.prompts import Prompt, PromptSet
from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings, default_overlap, parse_size, parse_window
from digseg.types import AnyArray, LabelArray, LazyArray, SegmentationModel, UInt8Array

if TYPE_CHECKING:
    import xarray

    from digseg.engine.store import ProbabilityStore

Kind = Literal["auto", "raster", "volume"]


@dataclass(eq=False)
class Result:
    """What a run found.

    Parameters
    ----------
    mask
        Labels with grid and class table; lazy, computed from the store by window.
    store
        The probability store.
    job
        What was asked for.
    image
        The raster or volume that was segmented.
    recipe
        What reproduces the run.
    files
        Every file written.
    failed_tiles
        Tiles that could not be read or computed.
    """

    mask: Mask
    store: ProbabilityStore
    job: Job
    image: Raster | Volume
    recipe: dict[str, Any]
    files: list[Path] = field(default_factory=list)
    tiles: int = 0
    failed_tiles: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    _delete: Callable[[], object] | None = None
    _rows: list[dict[str, Any]] | None = None

    @property
    def labels(self) -> LabelArray:
        """Labels ``[y, x]`` or ``[z, y, x]`` in memory; 0 is background."""
        whole = tuple(slice(None) for _ in self.mask.grid.shape)
        labels: LabelArray = np.asarray(self.mask.labels[whole])
        return labels

    @property
    def probabilities(self) -> UInt8Array:
        """Probabilities ``uint8 [prompt, (z,) y, x]`` (x 255) in memory, negatives last.

        In the file's own voxel order; see `store` for a lazy view.
        """
        view = self.probability_view
        return np.asarray(view[tuple(slice(None) for _ in view.shape)])

    @property
    def classes(self) -> ClassTable:
        return self.mask.classes

    @property
    def names(self) -> dict[int, str]:
        """Name by label id, background included."""
        return self.mask.classes.names

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the mask in the format of the suffix, prove it equal, and return the files.

        Raises
        ------
        OutputExistsError, OutputError
            The file is there already, or can't be written.
        """
        from digseg.run.outputs import write_labels

        files = write_labels(
            self.mask, self.image, Path(path), recipe=self.recipe, overwrite=overwrite
        )
        self.files.extend(files)
        return files

    @property
    def probability_view(self) -> LazyArray:
        """Probabilities ``uint8 [prompt, (z,) y, x]`` (x 255), lazily, negatives last."""
        from digseg.run.views import probability_view

        return probability_view(self.image, self.store, self.job.settings)

    def stats(self) -> list[dict[str, Any]]:
        """A row for each prompt: pixels, share, area or volume in real units, mean probability."""
        from digseg.io import statistics

        if self._rows is None:
            self._rows = statistics.table(
                self.mask, probabilities=self.probability_view, image=self.image
            )
            if isinstance(self.image, Volume):
                from digseg.run.measures import measure

                for row, more in zip(self._rows, measure(self.image, self.mask), strict=True):
                    row.update(more)
        return self._rows

    def summary(self) -> dict[str, Any]:
        """What ``segment --json`` prints."""
        return {
            "status": "incomplete" if self.failed_tiles else "done",
            "input": self.job.input,
            "output": None if self.job.outputs.labels is None else str(self.job.outputs.labels),
            "files": [str(path) for path in self.files],
            "shape": list(self.mask.grid.shape),
            "labels": self.stats(),
            "tiles": self.tiles,
            "failed_tiles": self.failed_tiles,
            "seconds": round(self.seconds, 3),
            "model_seconds": round(self.model_seconds, 3),
            "model": self.job.settings.model,
            "command": self.job.command_line(),
        }

    def to_xarray(self) -> xarray.DataArray:
        """Labels as a `DataArray` with the coordinates of pixel centres."""
        from digseg.run.arrays import mask_to_xarray

        return mask_to_xarray(self.mask, self.labels)

    @property
    def coverage(self) -> Mask:
        """Which pixels are done, failed, nodata or still pending, as a mask of its own."""
        from digseg.run.views import coverage_mask

        return coverage_mask(self.image, self.store, self.job.settings)

    def close(self) -> None:
        """Delete the temporary store of a run without ``probabilities``; files stay."""
        if self._delete is not None:
            self._delete()
            self._delete = None

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def segment(
    image: str | Path | AnyArray | xarray.DataArray | Raster | Volume | Any,
    prompts: str | Prompt | Mapping[str, Sequence[str] | str] | Iterable[str | Prompt],
    *,
    negatives: Iterable[str] = (),
    output: str | Path | None = None,
    probabilities: str | Path | None = None,
    kind: Kind = "auto",
    grid: Grid | None = None,
    series: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    model: SegmentationModel | str | Path | None = None,
    callback: Callback = ignore,
    cancel: CancelToken | None = None,
    **settings: Any,
) -> Result:
    """Segment an image by text.

    Parameters
    ----------
    image
        Path or URL of a raster or volume, a NumPy or dask array, a tensor of torch, or an image
        of Pillow, SimpleITK, nibabel or xarray (a `DataArray`).
        Arrays are ``[y, x]``, ``[band, y, x]``, ``[y, x, 3 or 4]`` or, with ``kind="volume"``,
        ``[z, y, x]``; a three-axis array whose first axis is longer than 16 is taken as a volume.
    prompts
        ``"water"``, ``["water", "building=roof,house"]`` or ``{"building": ["roof", "house"]}``.
    negatives
        What competes with the prompts but gets no label.
    output
        Where to write the mask at once; `Result.save` does it later.
    probabilities
        Folder of a probability store to keep; a temporary one otherwise.
    kind, grid
        What an array is and where it lies.
    series
        Which series of a DICOM folder.
    overwrite, resume
        Replace outputs that exist; go on with an unfinished run.
    model
        A model, or the name or folder of one.
    callback, cancel
        Listener to events; a token that stops the run.
    **settings
        Any field of `digseg.settings.SegmentSettings`; ``memory`` and ``window`` also as text.

    Returns
    -------
    Result

    Raises
    ------
    DigsegError
        See `digseg.errors`: each subclass says what was wrong.
    """
    from digseg.run.arrays import to_image
    from digseg.run.execute import execute

    if isinstance(model, (str, Path)):
        settings["model"] = str(model)
        model = None
    chosen = SegmentSettings().with_(**_parsed(settings))
    opened: Raster | Volume | None = None
    if isinstance(image, (str, Path)):
        name = str(image)
    else:
        opened = to_image(image, kind=kind, grid=grid)
        name = opened.source.path if opened.source is not None else "array"
    outputs = Outputs(
        labels=Path(output) if output is not None else None,
        probabilities=Path(probabilities) if probabilities is not None else None,
    )
    job = Job(
        name,
        PromptSet.parse(prompts, negatives),
        chosen,
        outputs,
        series=series,
        resume=resume,
        overwrite=overwrite,
    )
    return execute(job, image=opened, model=model, callback=callback, cancel=cancel)


def _parsed(settings: dict[str, Any]) -> dict[str, Any]:
    """Sizes and windows may be given as text, a threshold as a mapping by name."""
    values = dict(settings)
    if "tile" in values:
        values.setdefault("overlap", default_overlap(int(values["tile"])))
    if isinstance(values.get("memory"), str):
        values["memory"] = parse_size(values["memory"])
    if isinstance(values.get("window"), str):
        values["window"] = parse_window(values["window"])
    if isinstance(values.get("threshold"), Mapping):
        values["thresholds"] = values.pop("threshold")
    return values


def with_outputs(job: Job, **paths: Path | None) -> Job:
    """A copy of a job with some outputs changed."""
    unknown = set(paths) - {item.name for item in fields(Outputs)}
    if unknown:
        raise UsageError(f"There is no output named {sorted(unknown)[0]!r}.")
    return replace(job, outputs=replace(job.outputs, **paths))
