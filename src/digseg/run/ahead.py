"""Labels of a raster written while the run that finds them still goes on.

When the last block is done all but its own labels are compressed tiles already, overviews
included, and only have to be laid out as a file. Tiles lie in the store's private folder until
then. Nothing is taken over by a resumed run: what an earlier session did is read from the store at
the end. Where anything goes wrong here the labels are written as always, after the run.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digseg.errors import DigsegError
from digseg.events import BlockWritten, Callback, Event
from digseg.io import registry
from digseg.raster import Mask, Raster, Volume
from digseg.run.job import Job
from digseg.tiles import intersection
from digseg.types import Window

if TYPE_CHECKING:
    from digseg.io._cog_tiles import Tiles

#: Side of a window of labels that is taken at once: tiles of two levels, a few megabytes.
_SIDE = 1024
#: A store that was taken away (the run found nothing to keep) is a KeyError of zarr.
_FAULTS = (OSError, RuntimeError, ValueError, LookupError, DigsegError)


class LabelsAhead:
    """Follows a run by its events and makes tiles of the labels of blocks that are written.

    A context manager: `listener` is the run's callback, `tiles` are there when it is done. Does
    nothing where labels are not a raster's, of one pass, as a GeoTIFF.
    """

    def __init__(self, image: Raster | Volume, job: Job, store: Path) -> None:
        self._image, self._job, self._path = image, job, store
        self._written: queue.SimpleQueue[Window | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="digseg labels ahead", daemon=True)
        self._stopped = threading.Event()
        self._tiles: Tiles | None = None
        self._mask: Mask | None = None
        self._whole = False
        self._left: dict[Window, int] = {}  # pixels that are missing, by window

    def __enter__(self) -> LabelsAhead:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._written.put(None)
            self._thread.join()
        if self._tiles is not None:
            self._tiles.close()
        with contextlib.suppress(OSError):  # of a run that was killed
            scratch_path(self._path).unlink()

    def listener(self, callback: Callback) -> Callback:
        """``callback``, overheard."""
        if not _wanted(self._image, self._job):
            return callback

        def heard(event: Event) -> None:
            if isinstance(event, BlockWritten):
                if self._thread.ident is None:
                    self._thread.start()
                self._written.put(event.window)
            callback(event)

        return heard

    def tiles(self) -> Tiles | None:
        """All tiles, once the run is done; `None` where they have to be made anew."""
        if self._thread.ident is None:
            return None
        self._written.put(None)
        self._thread.join()
        return self._tiles if self._whole else None

    @property
    def _shape(self) -> tuple[int, int]:
        rows, columns = self._image.grid.shape
        return rows, columns

    def _work(self) -> None:
        from digseg.io.cog import chunks

        try:
            self._left = {
                window: (window[1] - window[0]) * (window[3] - window[2])
                for window in chunks(self._shape, _SIDE)
            }
            while (block := self._written.get()) is not None:
                for window in self._finished_by(block):
                    self._put(window)
            for window in list(self._left):  # what an earlier session did
                self._put(window)
            self._whole = not self._stopped.is_set()
        except _FAULTS:
            pass

    def _finished_by(self, block: Window) -> Iterator[Window]:
        """Windows of which a block held the last pixels that were missing."""
        for window in _touched(block, self._shape):
            part = intersection(window, block)
            if part is None or window not in self._left:
                continue
            self._left[window] -= (part[1] - part[0]) * (part[3] - part[2])
            if self._left[window] == 0:
                yield window

    def _put(self, window: Window) -> None:
        from digseg import engine
        from digseg.io.cog import tiles_for
        from digseg.run.views import make_mask

        if self._stopped.is_set():
            return
        del self._left[window]
        if self._tiles is None or self._mask is None:
            store = engine.ProbabilityStore.open(self._path)
            self._mask = make_mask(self._image, store, self._job)
            # Whether tiles failed, and nodata has to be declared, shows at the end only.
            missing = int(np.iinfo(self._mask.labels.dtype).max)
            self._tiles = tiles_for(self._mask, scratch_path(self._path), missing)
        top, bottom, left, right = window
        self._tiles.put(top, left, np.asarray(self._mask.labels[top:bottom, left:right]))


def scratch_path(store: Path) -> Path:
    """Where the tiles lie until they are a file."""
    from digseg.engine.store import PRIVATE

    return store / PRIVATE / "labels.tiles"


def _wanted(image: Raster | Volume, job: Job) -> bool:
    outputs = job.outputs
    if outputs.labels is None or outputs.uncertainty is not None or job.settings.propagate:
        return False
    return isinstance(image, Raster) and registry.find_writer(outputs.labels).name == "GTiff"


def _touched(block: Window, shape: tuple[int, int]) -> Iterator[Window]:
    """Windows of side `_SIDE` that a block touches."""
    top, bottom, left, right = block
    for y in range(top - top % _SIDE, bottom, _SIDE):
        for x in range(left - left % _SIDE, right, _SIDE):
            yield y, min(y + _SIDE, shape[0]), x, min(x + _SIDE, shape[1])
