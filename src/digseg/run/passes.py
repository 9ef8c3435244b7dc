"""The passes of the engine that one job takes.

One for a raster and for plain slices. A volume may take more, each a resumable run of the engine
with a store of its own beside the final one (``STORE.parts``), gone when all is done:

- ``planes="zyx"``: a pass across each axis, then their mean, voxel by voxel;
- ``propagate``: a plain pass, then one in which every slice starts from its neighbours' answer;
- ``uncertainty``: maps and their spread over the ensemble together, then the maps alone.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from digseg.errors import UsageError
from digseg.events import Callback, CancelToken, StageStarted
from digseg.memory import give_back
from digseg.orientation import AXES, Axis, Turn
from digseg.prompts import PromptSet
from digseg.raster import Raster, Volume
from digseg.run import cleanup
from digseg.run.asked import source_of
from digseg.run.blocks import watched_plan
from digseg.run.job import Job
from digseg.run.magnify import fitted
from digseg.run.stored import (
    Continuing,
    MeanSource,
    NeighbourSource,
    Passing,
    Spreading,
    StoredPass,
    spread_prompts,
)
from digseg.run.uncertainty import spread_view
from digseg.run.volumes import plane_turn
from digseg.types import (
    EnsembleModel,
    LazyArray,
    PropagatingModel,
    SegmentationModel,
    TileSource,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from digseg.engine import EngineResult, Workers

#: How far a neighbour's answer is noised before a slice starts from it: of 0.3, 0.5 and 0.7 the one
#: with the best Dice on the CT and MR sets (they hardly differ on hippocampi), see docs/volumes.md.
STRENGTH = 0.3

_NAMES: dict[Axis, str] = {"z": "axial", "y": "coronal", "x": "sagittal"}


def parts_path(store: Path) -> Path:
    """Where the stores of the passes lie while a run of several goes."""
    return store.with_name(f"{store.name}.parts")


@dataclass
class Passes:
    """The engine's passes of one job.

    Parameters
    ----------
    image, model, job
        What is segmented, by what, and how.
    store
        Folder of the final probability store.
    recipe, callback, cancel, order
        As `digseg.engine.segment` takes them.
    watched
        Somebody looks on: small blocks, see `digseg.run.blocks`.
    workers
        They serve all passes; where there are none, each pass has its own.
    """

    image: Raster | Volume
    model: SegmentationModel
    job: Job
    store: Path
    recipe: Mapping[str, Any]
    callback: Callback
    cancel: CancelToken | None = None
    order: Callable[..., Any] | None = None
    watched: bool = False
    workers: Workers | None = None
    _whole: bool = False

    def run(self) -> EngineResult:
        """Do what is left to do.

        Raises
        ------
        UsageError
            The model can't do what the settings ask of it.
        DigsegError
            As `digseg.engine.segment`.
        """
        settings = self.job.settings
        several = settings.planes == "zyx" and isinstance(self.image, Volume)
        self._check()
        if not (several or self._propagates or self.spreads):
            return self._plain(self._source(None), self.store, None)
        parts = parts_path(self.store)
        if self.job.overwrite and not self.job.resume:
            shutil.rmtree(parts, ignore_errors=True)
        finished = self.store.exists() and not parts.exists()
        if self.job.resume and finished and not self.spreads:
            done = self._last(several)  # finished before: nothing should be pending
            if not done.failed:
                return done
        parts.mkdir(parents=True, exist_ok=True)
        before = [self._across(axis) for axis in self._axes(several)]
        last = self._last(several)
        give_back()  # what the last one held of the others
        self._whole = not any(result.failed for result in (*before, last))
        if not self.spreads:
            self.tidy()
        return _together(last, before)

    def tidy(self) -> None:
        """Delete the stores of the passes, unless a resumed run has to go on from them."""
        if self._whole:
            shutil.rmtree(parts_path(self.store), ignore_errors=True)

    def spread(self) -> LazyArray:
        """What `digseg.run.uncertainty.spread_view` gives; to be read before `tidy`."""
        several = self.job.settings.planes == "zyx" and isinstance(self.image, Volume)
        shape = self._source("z" if several else None).shape
        stored = self.stored(len(self.job.prompts), len(self.job.prompts.positive))
        return spread_view(self.image, stored, self.job.settings, shape)

    @property
    def spreads(self) -> bool:
        """Whether the spread over the ensemble is wanted too."""
        return self.job.outputs.uncertainty is not None

    @property
    def _propagates(self) -> bool:
        return bool(self.job.settings.propagate) and isinstance(self.image, Volume)

    def _check(self) -> None:
        settings = self.job.settings
        if cleanup.wanted(settings) and not isinstance(self.image, Volume):
            raise UsageError(
                "Clean-up (--largest, --fill-holes, --minimum-ml) is for volumes: leave it out."
            )
        if self.spreads and (settings.ensemble < 2 or not isinstance(self.model, EnsembleModel)):
            raise UsageError(
                "The uncertainty is the spread over an ensemble: ask for one with --ensemble 4."
            )
        if self._propagates and not isinstance(self.model, PropagatingModel):
            raise UsageError(
                f"The model {settings.model} can't start from a neighbour's result: "
                "leave out --propagate."
            )
        if self._propagates and self.spreads:
            raise UsageError("Give either --propagate or --uncertainty, not both.")

    def _axes(self, several: bool) -> tuple[Axis | None, ...]:
        return AXES if several else (None,)

    def _across(self, axis: Axis | None) -> EngineResult:
        """What has to be done across one axis before the last pass."""
        parts = parts_path(self.store)
        name = axis or "plane"
        if axis is not None:
            self.callback(StageStarted(f"{_NAMES[axis]} planes"))
        if not self._propagates:
            return self._plain(self._source(axis), parts / f"{name}.zarr", axis)
        before = self._plain(self._source(axis), parts / f"{name}.first.zarr", axis)
        if axis is None:
            return before
        return _together(self._continued(axis, parts / f"{name}.zarr"), [before])

    def _last(self, several: bool) -> EngineResult:
        """The pass that fills the final store."""
        if several or self.spreads:
            return self._final(several)
        return self._continued(None, self.store)

    def _continued(self, axis: Axis | None, target: Path) -> EngineResult:
        """Every slice again, started from what its neighbours' first pass found."""
        self.callback(StageStarted("propagate"))
        source = self._source(axis)
        first = parts_path(self.store) / f"{axis or 'plane'}.first.zarr"
        found = StoredPass(first, Turn(), self._identity(axis), 0, len(self.job.prompts))
        model = Continuing(cast(PropagatingModel, self.model), STRENGTH)
        return self._segment(NeighbourSource(source, found), self._magnified(model, axis), target)

    def _plain(self, source: TileSource, target: Path, axis: Axis | None) -> EngineResult:
        model: SegmentationModel = self.model
        if self.spreads:
            model = Spreading(cast(EnsembleModel, model))
        return self._segment(source, self._magnified(model, axis), target, self._asked)

    def _final(self, several: bool) -> EngineResult:
        """The mean of the passes (or the maps of the only one) as the final store."""
        if several:
            self.callback(StageStarted("fuse"))
        sources = self.stored(0, len(self.job.prompts))
        shape = self._source("z" if several else None).shape
        return self._segment(MeanSource(shape, sources), Passing(), self.store)

    def stored(self, first: int, count: int) -> tuple[StoredPass, ...]:
        """Maps ``first`` to ``first + count`` of the passes' stores, on the final planes."""
        several = self.job.settings.planes == "zyx" and isinstance(self.image, Volume)
        found = []
        for axis in self._axes(several):
            turn = Turn()
            if axis is not None:
                assert isinstance(self.image, Volume)
                grid, settings = self.image.grid, self.job.settings
                turn = plane_turn(grid, settings, axis).inverse.then(plane_turn(grid, settings))
            path = parts_path(self.store) / f"{axis or 'plane'}.zarr"
            identity = self._identity(axis)
            found.append(StoredPass(path, turn, identity, first, count))
        return tuple(found)

    @property
    def _asked(self) -> PromptSet:
        return spread_prompts(self.job.prompts) if self.spreads else self.job.prompts

    def _source(self, axis: Axis | None) -> TileSource:
        return source_of(self.image, self.job.settings, axis)

    def _magnified(self, model: SegmentationModel, axis: Axis | None) -> SegmentationModel:
        return fitted(model, self.image, self.job.settings, axis)

    def _identity(self, axis: Axis | None) -> str:
        """What the first pass across an axis is the answer of."""
        model = self._magnified(self.model, axis)
        kind = f"continued {STRENGTH}" if self._propagates else "plain"
        return f"{self._source(axis).identity}|{model.identity}|{kind}"

    def _segment(
        self,
        source: TileSource,
        model: SegmentationModel,
        target: Path,
        prompts: PromptSet | None = None,
    ) -> EngineResult:
        from digseg import engine

        final, settings = target == self.store, self.job.settings
        asked = prompts or self.job.prompts
        plan = None
        if final and self.watched:
            plan = watched_plan(source.shape, model, asked, settings)
        return engine.segment(
            source,
            model,
            asked,
            settings,
            target,
            recipe=self.recipe,
            resume=self.job.resume,
            overwrite=self.job.overwrite,
            callback=self.callback,
            cancel=self.cancel,
            order=self.order if final else None,
            plan=plan,
            across=not final and settings.planes == "zyx",
            workers=self.workers,
        )


def _together(last: EngineResult, before: list[EngineResult]) -> EngineResult:
    """The last pass's result with the time, calls and failures of all."""
    meter = replace(last.meter)
    for result in before:
        meter.seconds += result.meter.seconds
        meter.calls += result.meter.calls
        meter.tiles += result.meter.tiles
        meter.pixels += result.meter.pixels
    return replace(
        last,
        seconds=last.seconds + sum(result.seconds for result in before),
        meter=meter,
    )
