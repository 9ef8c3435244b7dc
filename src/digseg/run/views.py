"""Views of a probability store in the image's own order: labels, coverage, probabilities. Lazy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.blend import COVERAGE
from digseg.prompts import Color
from digseg.raster import ClassEntry, ClassTable, Mask, Raster, Volume
from digseg.run import cleanup
from digseg.run.job import Job
from digseg.run.outline import OUTLINE
from digseg.run.volumes import labels_to_volume, plane_turn, to_file_order, volume_source
from digseg.settings import SegmentSettings
from digseg.types import Float32Array, LabelArray, LazyArray

if TYPE_CHECKING:
    from digseg.engine.store import ProbabilityStore


def make_mask(
    image: Raster | Volume,
    store: ProbabilityStore,
    job: Job,
    *,
    failed: bool = False,
) -> Mask:
    """Labels of a finished (or still filling) store, lazily, in the image's own order.

    A nodata label is declared where the image can have nodata, or where tiles failed.
    """
    from digseg import engine

    labels = engine.labels(store, job.settings, job.suppress)
    table = ClassTable.of(job.prompts)
    if isinstance(image, Volume):
        from digseg.run.volumes import labels_to_volume, without_nodata

        whole = without_nodata(labels, store.coverage)
        nodata = labels.nodata if failed else None
        found = labels_to_volume(whole, image, job.settings)
        if cleanup.wanted(job.settings):
            found = cleanup.cleaned(found, image.grid, table, job.settings)
        return Mask(found, image.grid, table, nodata)
    holes = (
        failed
        or OUTLINE in image.meta
        or image.nodata is not None
        or image.valid is not None
        or np.dtype(image.data.dtype).kind == "f"
    )
    missing = labels.nodata if holes else None
    return Mask(_FirstPlane(labels), image.grid, table, nodata=missing)


def coverage_mask(
    image: Raster | Volume, store: ProbabilityStore, settings: SegmentSettings
) -> Mask:
    """Which pixels are done, failed, nodata or pending (0), in the image's own order."""
    colors: dict[str, Color] = {
        "done": (70, 160, 90),
        "failed": (220, 50, 50),
        "nodata": (150, 150, 150),
    }
    table = ClassTable(
        tuple(
            ClassEntry(value, name, colors[name]) for value, name in COVERAGE.items() if value > 0
        )
    )
    if isinstance(image, Volume):
        return Mask(labels_to_volume(store.coverage, image, settings), image.grid, table)
    return Mask(_FirstPlane(store.coverage), image.grid, table)


def probability_view(
    image: Raster | Volume, store: ProbabilityStore, settings: SegmentSettings
) -> LazyArray:
    """Stored probabilities ``uint8 [prompt, (z,) y, x]`` in the image's own order, lazily."""
    if isinstance(image, Volume):
        return to_file_order(store.probabilities, image, settings)
    return _FirstPlane(store.probabilities, axis=1)


def picture_plane(
    image: Volume, mask: Mask, settings: SegmentSettings
) -> tuple[Float32Array, LabelArray, tuple[float, float]]:
    """The plane that holds most of the mask, as a radiologist sees it.

    Returns
    -------
    ``float32 [3, y, x]`` in [0, 1], labels ``[y, x]``, and the millimetres of a row and a column.
    """
    turn = plane_turn(image.grid, settings)
    labels = turn.lazy(mask.labels)
    inside = [int((np.asarray(labels[plane]) > 0).sum()) for plane in range(labels.shape[0])]
    plane = int(np.argmax(inside))
    source = volume_source(image, settings.with_(context=False))
    _, rows, columns = source.shape
    tile, _ = source.read(plane, (0, rows, 0, columns))
    spacing = source.grid.spacing
    return tile, np.asarray(labels[plane]), (spacing[1], spacing[2])


class _FirstPlane:
    """A lazy array without its axis of one plane."""

    def __init__(self, data: LazyArray, axis: int = 0) -> None:
        self._data, self._axis = data, axis
        self.shape = tuple(side for index, side in enumerate(data.shape) if index != axis)
        self.dtype = data.dtype

    def __getitem__(self, key: Any, /) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        return self._data[(*parts[: self._axis], 0, *parts[self._axis :])]
