"""What the engine's process keeps between commands: opened images and a loaded model."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from digseg.raster import Raster, Volume
from digseg.run.job import Job
from digseg.settings import SegmentSettings
from digseg.types import EncodingModel, SegmentationModel, TileSource

Loader = Callable[[SegmentSettings], SegmentationModel]

_IMAGES = 4  # opened images kept
_SOURCE_FIELDS = ("bands", "window", "percentiles", "planes", "context")
_MODEL_FIELDS = ("model", "device", "steps", "ensemble", "seed")


class Kept:
    """Images and the model, so that a preview or another prompt starts at once.

    Parameters
    ----------
    load
        Loads the model that settings name.
    """

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._images: OrderedDict[tuple[Any, ...], Raster | Volume] = OrderedDict()
        self._source: tuple[Raster | Volume, tuple[Any, ...], TileSource] | None = None
        self._model: tuple[tuple[Any, ...], SegmentationModel] | None = None

    def image(self, job: Job) -> Raster | Volume:
        """The input of a job, opened once, and its region."""
        from digseg import io
        from digseg.run.region import part_of

        key = (job.input, job.settings.time, job.series, _stamp(job.input))
        if key not in self._images:
            self._images[key] = io.read(job.input, time=job.settings.time, series=job.series)
            while len(self._images) > _IMAGES:
                self._images.popitem(last=False)
        self._images.move_to_end(key)
        return part_of(self._images[key], job)

    def source(self, job: Job) -> TileSource:
        """The planes of a whole input: how values are stretched is measured once."""
        from digseg.run.asked import source_of

        image = self.image(replace(job, region=None, outline=None))
        key = tuple(getattr(job.settings, name) for name in _SOURCE_FIELDS)
        kept = self._source
        if kept is None or kept[0] is not image or kept[1] != key:
            kept = self._source = (image, key, source_of(image, job.settings))
        return kept[2]

    def model(self, settings: SegmentSettings, *, bare: bool = False) -> SegmentationModel:
        """The model that the settings name, loaded once; it remembers the tiles it read.

        Parameters
        ----------
        bare
            The model itself, which can do more than remember: tell the spread of an ensemble.
        """
        from digseg.run.remember import Remembering

        key = tuple(getattr(settings, name) for name in _MODEL_FIELDS)
        if self._model is None or self._model[0] != key:
            self._model = None  # two models at once may not fit
            loaded = self._load(settings)
            if isinstance(loaded, EncodingModel):
                loaded = Remembering(loaded)
            self._model = (key, loaded)
        model = self._model[1]
        return model.model if bare and isinstance(model, Remembering) else model


def _stamp(path: str) -> Any:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
