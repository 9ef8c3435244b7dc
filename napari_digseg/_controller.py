"""Where everything of one viewer comes together: form, engine, and the parts that use them. No Qt.

The controller is polled from the event loop (`Controller.poll`), which never waits: the engine
works in its own process, disks are read in threads, and listeners are told when something changed.
Each part (`runs`, `previews`, `review`, `trainer`, `shelf`) looks after one thing that a person
does, and hears what the engine says about it.
"""

from __future__ import annotations

import importlib
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from digseg.errors import UsageError
from digseg.prompts import PromptSet
from digseg.raster import ClassTable
from digseg.settings import SegmentSettings
from napari_digseg._export import slices_of
from napari_digseg._labels import class_kwargs
from napari_digseg._preferences import KEPT_RUNS, Preferences
from napari_digseg._previewing import Previews
from napari_digseg._protocol import Message
from napari_digseg._regions import drawing_on
from napari_digseg._reviewing import Review
from napari_digseg._running import Runs
from napari_digseg._runs import Run, same_prompts
from napari_digseg._shelf import Shelf
from napari_digseg._state import State
from napari_digseg._status import Phase, Status
from napari_digseg._targets import Targets
from napari_digseg._training import Trainer
from napari_digseg._undo import Undo
from napari_digseg._worker import EngineProcess

_TELL_EVERY = 0.2  # seconds


class Part(Protocol):
    """What looks after one thing that a person does."""

    @property
    def hears(self) -> Mapping[str, Callable[[Message], None]]:
        """What it does when the engine says something, by the message's kind."""
        ...

    @property
    def commands(self) -> tuple[str, ...]:
        """Commands to the engine whose failures it hears."""
        ...

    def failed(self, message: Message) -> None:
        """Hear that one of its commands failed."""
        ...

    def poll(self) -> bool:
        """See to what threads have done since; whether anything changed."""
        ...

    def engine_died(self) -> None:
        """Hear that the engine is gone."""
        ...


class Controller:
    """One viewer, one form, one engine.

    Parameters
    ----------
    viewer
        A napari viewer, or its model alone.
    engine
        The engine's process; a new one otherwise.
    preferences
        What the person set; the defaults otherwise.
    """

    def __init__(
        self,
        viewer: Any,
        engine: EngineProcess | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        self.viewer = viewer
        self.preferences = preferences or Preferences()
        self.engine = engine or EngineProcess()
        self.state = State(settings=_settings(self.preferences))
        self.status = Status()
        self.run: Run | None = None
        self.listeners: list[Callable[[], None]] = []
        self.numbers = itertools.count(1)
        self.undo_steps = Undo()
        self._polling = False
        self._untold = False
        self._told = 0.0
        self._keep = bool(self.preferences.keep_runs or self.preferences.folder)
        self.folder = _folder(self.preferences)
        self.targets = Targets(self.folder / "layers")
        self.runs = Runs(self)
        self.previews = Previews(self)
        self.review = Review(self)
        self.trainer = Trainer(self)
        self.shelf = Shelf(self)
        self._parts: tuple[Part, ...] = (
            self.runs,
            self.previews,
            self.review,
            self.trainer,
            self.shelf,
        )

    # -- the form --------------------------------------------------------------------------------

    def set(self, state: State) -> None:
        """Take the form as it is now; what went wrong with another one is forgotten."""
        self.state = state
        if self.status.phase == "failed":
            self.status = Status()
        self.tell()

    def change(self, state: State) -> None:
        """Take thresholds, colours or visibility as they are now; labels follow, `undo` returns.

        Dragging one slider is one change.
        """
        self.undo_steps.remember(self.state, state)
        self.state = state
        self.apply_rule()
        self.tell()

    @property
    def can_undo(self) -> bool:
        return bool(self.undo_steps)

    def undo(self) -> None:
        """Thresholds, colours and visibility as they were one change ago."""
        if self.undo_steps:
            self.state = self.state.looking_like(self.undo_steps.take())
            self.apply_rule()
            self.tell()

    def apply_rule(self) -> None:
        """Make the labels on screen follow thresholds, colours and visibility of the form."""
        run = self.run
        if run is None or run.live is None or not same_prompts(self.state, run.job.prompts):
            return
        run.live.set_rule(self.state.run_settings, self.state.suppressed)
        if run.labels is None:
            return
        colored = PromptSet(
            tuple(replace(p, color=self.state.row(p.name).prompt.color) for p in run.job.prompts)
        )
        if colored != run.job.prompts:
            run.job = replace(run.job, prompts=colored)
            run.labels.colormap = class_kwargs(ClassTable.of(colored))["colormap"]

    # -- layers ----------------------------------------------------------------------------------

    def layer(self) -> Any:
        """The chosen image layer; raises `UsageError` when it is gone."""
        for layer in self.viewer.layers:
            if layer.name == self.state.layer:
                return layer
        raise UsageError(f"The layer {self.state.layer!r} is gone: choose another one.")

    def layers_of(self, kind: str) -> list[str]:
        """Names of the layers of a kind: ``"image"``, ``"labels"``."""
        return [layer.name for layer in self.viewer.layers if layer._type_string == kind]

    def point(self, layer: Any) -> tuple[float, ...]:
        """Position of the sliders, as indices of a layer's data."""
        world = np.asarray(self.viewer.dims.point, dtype=float)[-layer.ndim :]
        return tuple(float(value) for value in layer.world_to_data(world))

    def slices(self) -> tuple[int, int]:
        """Number of slices of the chosen layer, and which is on screen; 0 where it has none."""
        try:
            layer = self.layer()
            return slices_of(layer, self.point(layer))
        except UsageError:
            return 0, 0

    def shapes(self) -> list[Any]:
        """Shapes layers, the selected ones first."""
        drawn = [layer for layer in self.viewer.layers if layer._type_string == "shapes"]
        return sorted(drawn, key=lambda layer: layer not in self.viewer.layers.selection)

    def add_drawing(self) -> Any:
        """A Shapes layer that lies on the image as it does, ready to draw a polygon on."""
        try:
            drawing = drawing_on(self.layer())
        except UsageError as error:
            self.say(self.status.phase, str(error), problem=True)
            return None
        self.viewer.add_layer(drawing)
        drawing.mode = "add_polygon"
        self.say(self.status.phase, "Click the corners of the polygon; Enter or Escape ends it.")
        return drawing

    # -- listening -------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.status.phase in ("running", "cancelling")

    def warm(self) -> None:
        """Start the engine and load the model before they are needed."""
        threading.Thread(target=_import_ahead, daemon=True).start()
        self.shelf.load()

    def poll(self) -> None:
        """Hear what the engine said and show it. Called often from the event loop."""
        running, self._polling = self.running, True
        try:
            messages = self.engine.poll()
            for message in messages:
                self._hear(message)
            changed = [part.poll() for part in self._parts]
        finally:
            self._polling = False
        self._untold |= bool(messages) or any(changed)
        # Of pieces that come in a person is told a few times a second, of all else at once.
        later = running and self.running and time.monotonic() - self._told < _TELL_EVERY
        if self._untold and not later:
            self.tell()

    def _hear(self, message: Message) -> None:
        if message["say"] == "error":
            for part in self._parts:
                if message["of"] in part.commands:
                    part.failed(message)
                    return
            self.say(self.status.phase, message["message"], problem=True)
        elif message["say"] == "died":
            for part in self._parts:
                part.engine_died()
            self.runs.hear_death(message)
        else:
            for part in self._parts:
                if message["say"] in part.hears:
                    part.hears[message["say"]](message)

    def end_engine(self) -> None:
        """End the engine now; every part hears that what it was doing has ended."""
        self.engine.kill()
        for part in self._parts:
            part.engine_died()

    def tell(self) -> None:
        """Tell everybody who listens that something changed; once for all that one poll hears."""
        if self._polling:
            self._untold = True
            return
        self._untold, self._told = False, time.monotonic()
        for listener in list(self.listeners):
            listener()

    def say(self, phase: Phase, message: str, *, problem: bool = False) -> None:
        """Tell the person one sentence."""
        done, total = (self.run.blocks_done, self.run.blocks) if self.run else (0, 0)
        self.status = Status(phase, message, done, total, problem)
        self.tell()

    def close(self) -> None:
        """End the engine; runs are deleted unless they are to be kept."""
        self.listeners.clear()
        self.engine.close()
        self.targets.close()
        self.trainer.close()
        if self.run is not None:
            self.run.close()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def _import_ahead() -> None:
    """Do what takes half a second before the first block comes in, not then."""
    for name in ("zarr", "skimage.color.colorconv"):  # napari's Labels need the latter
        importlib.import_module(name)
    from vispy.visuals.line.dash_atlas import DashAtlas

    DashAtlas()  # its patterns are kept, and napari draws an outline for each Labels layer


def _folder(preferences: Preferences) -> Path:
    """Where runs are kept; a temporary folder for those that go when napari does."""
    if not (preferences.folder or preferences.keep_runs):
        return Path(tempfile.mkdtemp(prefix="digseg-runs-"))
    folder = Path(preferences.folder or KEPT_RUNS).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _settings(preferences: Preferences) -> SegmentSettings:
    memory = int(preferences.memory_gib * (1 << 30)) or None
    device: Any = preferences.device
    # One pass: labels come while a person looks, and a prompt can be added to a finished run.
    return SegmentSettings(model=preferences.model, device=device, memory=memory, propagate=False)
