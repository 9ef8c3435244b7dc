"""Labels that a person painted on: written and measured from memory, in a thread. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.blend import DONE, NODATA
from digseg.raster import Mask, Raster, Volume
from digseg.types import AnyArray
from napari_digseg._place import KEY

if TYPE_CHECKING:
    from napari_digseg._runs import Run

Rows = list[dict[str, Any]]


@dataclass
class Painted:
    """A copy of a run's labels that lies in the viewer to be painted on.

    Parameters
    ----------
    layer
        The Labels layer.
    """

    layer: Any
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="digseg painted")
    )

    def save(self, path: Path, kind: str) -> Future[list[str]]:
        """Write the labels as they are now, by the kind of file: labels, vector or stats."""
        return self._pool.submit(_save, *self._now(), path, kind)

    def measure(self) -> Future[Rows]:
        """The table of the labels as they are now; probabilities say nothing of what is painted."""
        from digseg.run.measures import rows_of

        return self._pool.submit(rows_of, *self._now())

    def _now(self) -> tuple[Mask, Raster | Volume | None]:
        """A copy, so that a person can go on painting, and the image that it belongs to."""
        from napari_digseg._labels import mask_of
        from napari_digseg._writer import source_of

        meta = self.layer.as_layer_data_tuple()[1]
        mask = mask_of(np.array(self.layer.data), meta)
        return mask, source_of(meta, mask.grid)


def with_holes(labels: AnyArray, run: Run, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Mark in ``labels`` (in place) what has no answer, and say so in a layer's metadata.

    On screen a hole looks like background; a file has to tell the two apart. As in the files of a
    run, voxels of a volume that hold no data are background, those of failed tiles are not.
    """
    store, turn = run.store, run.to_layer
    if store is None:
        return dict(metadata)
    whole = tuple(slice(None) for _ in labels.shape)
    coverage = np.asarray(store.coverage[0] if turn is None else turn.lazy(store.coverage)[whole])
    holes = coverage != DONE if turn is None else (coverage != DONE) & (coverage != NODATA)
    if not holes.any():
        return dict(metadata)
    nodata = int(np.iinfo(labels.dtype).max)
    labels[holes] = nodata
    return {**metadata, KEY: {**metadata.get(KEY, {}), "nodata": nodata}}


def _save(mask: Mask, image: Raster | Volume | None, path: Path, kind: str) -> list[str]:
    from digseg import io
    from digseg.io import statistics, vector
    from digseg.run.measures import rows_of

    write: dict[str, Callable[[], list[Path]]] = {
        "labels": lambda: io.write_mask(mask, path, source=image, overwrite=True),
        "vector": lambda: vector.write_polygons(mask, path, overwrite=True),
        "stats": lambda: statistics.write_csv(rows_of(mask, image), path, overwrite=True),
    }
    return [str(file) for file in write[kind]()]
