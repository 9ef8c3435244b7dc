"""`digseg.segment`: the library's one call, on a path, an array or an `xarray.DataArray`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from digseg.events import Callback, CancelToken, ignore
from digseg.grid import Grid
from digseg.prompts import Prompt, PromptSet
from digseg.raster import Raster, Volume
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings, default_overlap, parse_size, parse_window
from digseg.types import AnyArray, SegmentationModel

if TYPE_CHECKING:
    import xarray

    from digseg.run.result import Result

Kind = Literal["auto", "raster", "volume"]


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
