"""What a run found: its mask, its probability store and how to have it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.run.job import Job
from digseg.types import LabelArray, LazyArray, UInt8Array

if TYPE_CHECKING:
    import xarray

    from digseg.engine.store import ProbabilityStore


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
        UsageError
            It is the input itself.
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
        from digseg.run.measures import rows_of

        if self._rows is None:
            self._rows = rows_of(self.mask, self.image, self.probability_view)
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
