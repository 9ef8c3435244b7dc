"""From what the person chose to a run, and from the run to layers. No Qt.

The controller is polled from the event loop (`Controller.poll`), which never waits: the engine
works in its own process, disks are read in threads, and listeners are told when something changed.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from digseg.errors import DigsegError, UsageError
from digseg.events import BlockWritten, RunPlanned, StageStarted, TileFailed
from digseg.prompts import Prompt, PromptSet
from digseg.raster import ClassTable
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from napari_digseg import _protocol
from napari_digseg._inputs import Target, bounds_of, placed_like, target_of, visible_bounds
from napari_digseg._labels import class_kwargs
from napari_digseg._preferences import Preferences
from napari_digseg._protocol import Message
from napari_digseg._runs import Run, same_prompts
from napari_digseg._state import State
from napari_digseg._worker import EngineProcess

Phase = Literal["idle", "running", "cancelling", "finished", "stopped", "failed"]

#: Seconds that the engine gets to stop by itself; after that its process is ended.
PATIENCE = 0.7
_VIEW_EVERY = 0.25  # seconds between two messages about what is on screen
_UNDO_STEPS = 20


@dataclass(frozen=True)
class Status:
    """What the person is told.

    Parameters
    ----------
    phase
        Where the run stands.
    message
        One sentence.
    done, total
        Blocks.
    problem
        Whether the sentence is bad news.
    """

    phase: Phase = "idle"
    message: str = ""
    done: int = 0
    total: int = 0
    problem: bool = False


@dataclass(frozen=True)
class Training:
    """How a fine-tuning goes."""

    active: bool = False
    message: str = ""
    problem: bool = False
    losses: tuple[float, ...] = ()
    model: str = ""
    picture: str = ""


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
        self.statistics: list[dict[str, Any]] = []
        self.saved: list[str] = []
        self.models_brought = 0
        self.training = Training()
        self.model_message = ""
        self.places: list[tuple[int, float, float, float]] = []
        self.listeners: list[Callable[[], None]] = []
        self._numbers = itertools.count(1)
        self._undo: list[State] = []
        self._cancelled_at: float | None = None
        self._place = -1
        self._view_sent = 0.0
        self._view_told: Message | None = None
        self._preview_layer: Any = None
        self._preview_number = 0
        self._previewed: dict[int, tuple[Any, Target]] = {}
        keep = self.preferences.keep_runs or self.preferences.folder
        self._keep = bool(keep)
        if self.preferences.folder:
            self.folder = Path(self.preferences.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="digseg-runs-"))

    # -- the form --------------------------------------------------------------------------------

    def set(self, state: State) -> None:
        """Take the form as it is now."""
        self.state = state
        self.tell()

    def change(self, state: State) -> None:
        """Take thresholds, colours or visibility as they are now; labels follow, `undo` returns.

        Dragging one slider is one change.
        """
        before = self.state
        if not (self._undo and _same_but_one_threshold(self._undo, before, state)):
            self._undo = [*self._undo[-_UNDO_STEPS + 1 :], before]
        self.state = state
        self._apply_rule()
        self.tell()

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    def undo(self) -> None:
        """Thresholds, colours and visibility as they were one change ago."""
        if self._undo:
            self.state = self._undo.pop()
            self._apply_rule()
            self.tell()

    def _apply_rule(self) -> None:
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

    # -- running ---------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.status.phase in ("running", "cancelling")

    @property
    def can_extend(self) -> bool:
        """Whether the form asks for the finished run's prompts and some more."""
        return bool(self._added_prompts())

    def start(self) -> None:
        """Begin what the form asks for; only what is new of it is computed."""
        if self.running:
            return
        try:
            if self.state.problem:
                raise UsageError(self.state.problem)
            added = self._added_prompts()
            if added:
                self._extend(added)
            else:
                self._begin()
        except DigsegError as error:
            self._say("failed", str(error), problem=True)

    def resume(self) -> None:
        """Go on with a run that was stopped, or try its failed tiles again."""
        run = self.run
        if run is None or self.running:
            return
        run.begun = time.monotonic()
        self._say("running", "Going on where the run stopped.")
        self._cancelled_at = None
        self.engine.send(
            {"do": "run", "id": run.number, "recipe": run.job.recipe(), "resume": True}
        )

    def cancel(self) -> None:
        """Stop the run within a second; what is done stays, and can be resumed."""
        if self.status.phase != "running":
            return
        self._cancelled_at = time.monotonic()
        self.engine.send({"do": "cancel"})
        self._say("cancelling", "Stopping.")

    def _begin(self) -> None:
        layer = self.layer()
        job, target, bounds = self.job(layer)
        self.clear_preview()
        if self.run is not None:
            self.run.close()
        self._undo.clear()
        self.statistics, self.places, self._place = [], [], -1
        self.run = Run(next(self._numbers), job, target, bounds, layer)
        self._cancelled_at = None
        self._say("running", "Opening the image and the model.")
        self.tell_view(force=True)
        self.engine.send(
            {"do": "run", "id": self.run.number, "recipe": job.recipe(), "resume": False}
        )

    def _extend(self, added: Sequence[Prompt]) -> None:
        run = self.run
        assert run is not None
        self._cancelled_at = None
        names = ", ".join(prompt.name for prompt in added)
        self._say("running", f"Adding {names}: only what is new is computed.")
        run.begun = time.monotonic()
        run.blocks_done = 0
        self.engine.send(
            {
                "do": "extend",
                "id": run.number,
                "recipe": run.job.recipe(),
                "added": [prompt.to_dict() for prompt in added],
            }
        )

    def _added_prompts(self) -> list[Prompt]:
        run = self.run
        if run is None or self.status.phase != "finished" or run.failed:
            return []
        settings = run.job.settings
        if settings.planes == "zyx" or settings.propagate:
            return []
        old = {(p.name, p.synonyms, p.negative) for p in run.job.prompts}
        new = [row.prompt for row in self.state.rows]
        added = [p for p in new if (p.name, p.synonyms, p.negative) not in old]
        kept = len(new) - len(added)
        if kept != len(old) or not added or any(p.negative for p in added):
            return []
        try:
            layer = self.layer()
            job, _, bounds = self.job(layer)
        except DigsegError:
            return []
        same = (
            layer is run.image_layer
            and bounds == run.bounds
            and _lasting(job.settings) == _lasting(settings)
        )
        return added if same else []

    def job(self, layer: Any) -> tuple[Job, Target, Any]:
        """The job that the form describes, the file behind the layer, and the region in it."""
        point = self._point(layer)
        target = target_of(layer, point, self.folder / "layers")
        bounds = bounds_of(self.state, layer, target, point, self._shapes())
        settings = self.state.run_settings.with_(time=target.time)
        number = self.run.number + 1 if self.run is not None else 1
        store = self.folder / f"run-{int(time.time())}-{number}.zarr"
        job = Job(
            target.path,
            self.state.prompts,
            settings,
            Outputs(probabilities=store),
            region=None if bounds is None else target.file_bounds(bounds),
        )
        return job, target, bounds

    def layer(self) -> Any:
        """The chosen image layer; raises `UsageError` when it is gone."""
        for layer in self.viewer.layers:
            if layer.name == self.state.layer:
                return layer
        raise UsageError(f"The layer {self.state.layer!r} is gone: choose another one.")

    def image_layers(self) -> list[str]:
        """Names of the layers that can be segmented."""
        return [layer.name for layer in self.viewer.layers if layer._type_string == "image"]

    def _point(self, layer: Any) -> tuple[float, ...]:
        world = np.asarray(self.viewer.dims.point, dtype=float)[-layer.ndim :]
        return tuple(float(value) for value in layer.world_to_data(world))

    def _shapes(self) -> list[Any]:
        drawn = [layer for layer in self.viewer.layers if layer._type_string == "shapes"]
        return sorted(drawn, key=lambda layer: layer not in self.viewer.layers.selection)

    # -- what is on screen -----------------------------------------------------------------------

    def tell_view(self, *, force: bool = False) -> None:
        """Tell the engine what is on screen, so that it comes first."""
        run = self.run
        now = time.monotonic()
        if run is None or not (self.running or force):
            return
        if not force and now - self._view_sent < _VIEW_EVERY:
            return
        visible = list(visible_bounds(run.image_layer, run.target))
        if run.target.ndim == 3 and self.viewer.dims.ndisplay == 2:
            index = round(self._point(run.image_layer)[run.target.lead])
            visible[0] = (index, index + 1)
        message = run.view(tuple(visible)).message()
        self._view_sent = now
        if message != self._view_told or force:
            self._view_told = message
            self.engine.send(message)

    def preview(self) -> None:
        """Segment what is on screen coarsely, at once; nothing while a run goes."""
        if self.running or self.state.problem:
            return
        try:
            layer = self.layer()
            point = self._point(layer)
            target = target_of(layer, point, self.folder / "layers")
        except DigsegError as error:
            self._say(self.status.phase, str(error), problem=True)
            return
        visible = visible_bounds(layer, target)
        plane = 0
        if target.ndim == 3:
            plane = int(np.clip(round(point[target.lead]), 0, target.shape[0] - 1))
        (top, bottom), (left, right) = visible[-2:]
        self._preview_number = next(self._numbers)
        self._previewed = {self._preview_number: (layer, target)}
        settings = self.state.run_settings.with_(time=target.time)
        job = Job(target.path, self.state.prompts, settings)
        self.engine.send(
            {
                "do": "preview",
                "id": self._preview_number,
                "recipe": job.recipe(),
                "plane": plane,
                "window": [top, bottom, left, right],
            }
        )

    def _show_preview(self, message: Message) -> None:
        if message["id"] not in self._previewed or self.running:
            return
        from napari.layers import Labels

        layer, target = self._previewed[message["id"]]
        labels = _protocol.unpack(message["labels"])
        top, bottom, left, right = message["window"]
        starts = (top, left) if target.ndim == 2 else (message["plane"], top, left)
        kwargs = placed_like(layer, target, starts)
        steps = np.ones(target.ndim)
        steps[-2:] = (bottom - top) / labels.shape[0], (right - left) / labels.shape[1]
        scale = np.asarray(kwargs["scale"])
        kwargs["translate"] = tuple(np.asarray(kwargs["translate"]) + scale * (steps - 1) / 2)
        kwargs["scale"] = tuple(scale * steps)
        classes = ClassTable.of(self.state.prompts)
        self.clear_preview()
        data = labels if target.ndim == 2 else labels[None]
        self._preview_layer = Labels(
            data.copy(), name="preview", opacity=0.55, **class_kwargs(classes), **kwargs
        )
        active = self.viewer.layers.selection.active
        self.viewer.add_layer(self._preview_layer)
        self.viewer.layers.selection.active = active
        self._say("idle", f"Preview of what is on screen, in {message['seconds']:.1f} s.")

    def clear_preview(self) -> None:
        """Take the preview away."""
        if self._preview_layer is not None and self._preview_layer in self.viewer.layers:
            self.viewer.layers.remove(self._preview_layer)
        self._preview_layer = None

    def warm(self) -> None:
        """Start the engine and load the model before they are needed."""
        # zarr takes half a second to import: not when the first block comes in.
        threading.Thread(target=__import__, args=("zarr",), daemon=True).start()
        self.engine.send({"do": "load", "settings": self.state.settings.to_dict()})

    # -- models ----------------------------------------------------------------------------------

    def use_model(self, name: str) -> None:
        """Segment with this model from now on."""
        self.state = replace(self.state, settings=self.state.settings.with_(model=name))
        self.model_message = f"{name} is used from now on."
        self.engine.send({"do": "load", "settings": self.state.settings.to_dict()})
        self.tell()

    def bring_model(self, *, folder: str | None = None, hub_id: str | None = None) -> None:
        """Copy a model from a folder, or download it, to the local models."""
        self.model_message = f"Bringing in {folder or hub_id}."
        self.engine.send({"do": "bring", "id": 0, "folder": folder, "hub_id": hub_id})
        self.tell()

    def _hear_brought(self, message: Message) -> None:
        self.models_brought += 1
        self.model_message = f"{message['name']} is here now."

    # -- training --------------------------------------------------------------------------------

    def train(
        self,
        labels_name: str,
        names: dict[int, str],
        output: Path,
        *,
        steps: int = 200,
        minutes: float = 10.0,
        rate: float = 2e-4,
        batch: int = 2,
    ) -> None:
        """Fine-tune the chosen model on a Labels layer; `training` tells how it goes."""
        from napari_digseg._dataset import write_set

        if self.running or self.training.active:
            return
        try:
            layer = self.layer()
            labels = self.viewer.layers[labels_name]
            example = write_set(layer, labels, self._point(layer), self.folder / "set", names)
        except (DigsegError, KeyError) as error:
            self.training = Training(message=str(error), problem=True)
            self.tell()
            return
        prompts = [
            {"name": names.get(e.id, e.name), "synonyms": [], "color": list(e.color)}
            for e in example.classes.entries
        ]
        told = f"Training on {example.pictures} pictures of {len(prompts)} classes."
        self.training = Training(active=True, message=told)
        self.engine.send(
            {
                "do": "train",
                "id": 0,
                "data": str(example.folder),
                "output": str(output),
                "model": self.state.settings.model,
                "prompts": prompts,
                "steps": steps,
                "minutes": minutes,
                "rate": rate,
                "batch": batch,
            }
        )
        self.tell()

    def stop_training(self) -> None:
        """Stop after the step that is being done; its checkpoints stay."""
        if self.training.active:
            self.engine.send({"do": "cancel"})

    def _hear_loss(self, message: Message) -> None:
        losses = (*self.training.losses, float(message["loss"]))
        told = f"Step {message['step']}, {100 * message['share']:.0f} % done."
        self.training = replace(self.training, losses=losses, message=told)

    def _hear_trained(self, message: Message) -> None:
        self.training = replace(
            self.training,
            active=False,
            model=message["model"],
            picture=message["picture"],
            message="Trained. Left: before, right: after.",
        )

    # -- listening -------------------------------------------------------------------------------

    def poll(self) -> None:
        """Hear what the engine said and show it. Called often from the event loop."""
        hear = {
            "event": self._hear_event,
            "finished": self._hear_finished,
            "error": self._hear_error,
            "died": self._hear_death,
            "preview": self._show_preview,
            "saved": self._hear_saved,
            "statistics": self._hear_statistics,
            "brought": self._hear_brought,
            "loss": self._hear_loss,
            "trained": self._hear_trained,
        }
        messages = self.engine.poll()
        for message in messages:
            if message["say"] in hear:
                hear[message["say"]](message)
        self._mind_patience()
        changed = bool(messages)
        if self.run is not None:
            changed |= self.run.refresh()
            self.tell_view()
        if changed:
            self.tell()

    def _mind_patience(self) -> None:
        if self._cancelled_at is None or self.status.phase != "cancelling":
            return
        if time.monotonic() - self._cancelled_at > PATIENCE:
            self.engine.kill()
            self._stopped("Stopped. What is done is kept: Resume goes on from there.")

    def _hear_event(self, message: Message) -> None:
        run = self.run
        if run is None or message["run"] != run.number:
            return
        event = _protocol.event_of(message)
        if isinstance(event, RunPlanned):
            run.tiles, run.blocks = event.tiles, event.blocks
            if self.status.phase == "running":
                self._say("running", "Segmenting.")
        elif isinstance(event, BlockWritten):
            if run.attach(self.viewer, self.state):
                run.block_written(event)
            else:
                run.blocks_done, run.blocks = event.done, event.total
            if self.status.phase == "running":
                self._say("running", self._progress(run))
        elif isinstance(event, TileFailed):
            run.failed += 1
        elif isinstance(event, StageStarted) and self.status.phase == "running":
            self._say("running", _STAGES.get(event.stage, f"{event.stage.capitalize()}."))

    def _progress(self, run: Run) -> str:
        spent = time.monotonic() - run.begun
        if not 0 < run.blocks_done < run.blocks:
            return "Segmenting."
        left = spent / run.blocks_done * (run.blocks - run.blocks_done)
        return f"Segmenting, about {duration(left)} left."

    def _hear_finished(self, message: Message) -> None:
        run = self.run
        if run is None or message["id"] != run.number:
            return
        run.recipe, run.failed = message["recipe"], message["failed"]
        run.seconds = message["seconds"]
        run.tiles = message["tiles"]
        finished = Job.from_recipe(message["recipe"])
        if finished.prompts.to_list() != run.job.prompts.to_list() and run.live is not None:
            run.live.close()
            run.live = None  # the store was replaced by one with more prompts
        run.job = replace(finished, outputs=run.job.outputs)
        run.attach(self.viewer, self.state)
        self._apply_rule()
        if run.live is not None and run.store is not None:
            for plane in range(run.store.shape[0]):
                run.live.block_written(plane, (0, run.store.shape[1], 0, run.store.shape[2]))
        run.count()
        told = f"Done in {duration(run.seconds)}."
        if run.failed:
            told = f"{run.failed} of {run.tiles} tiles failed: see Coverage, or try them again."
        self._say("finished", told, problem=bool(run.failed))

    def _hear_error(self, message: Message) -> None:
        if message["kind"] == "Cancelled" and message["of"] != "train":
            self._stopped("Stopped. What is done is kept: Resume goes on from there.")
        elif message["of"] == "train":
            self.training = replace(
                self.training, active=False, message=message["message"], problem=True
            )
        elif message["of"] == "bring":
            self.model_message = message["message"]
        elif message["of"] == "preview":
            self._say(self.status.phase, message["message"], problem=True)
        else:
            phase: Phase = "failed" if message["of"] in ("run", "extend") else self.status.phase
            self._say(phase, message["message"], problem=True)

    def _hear_death(self, message: Message) -> None:
        if self.status.phase == "cancelling":
            self._stopped("Stopped. What is done is kept: Resume goes on from there.")
            return
        self.training = replace(self.training, active=False)
        code = message["code"]
        why = "it ran out of memory, most likely" if code in (-9, 137) else f"exit code {code}"
        if self.running:
            self._stopped(f"The engine stopped ({why}). Resume goes on from there.", problem=True)
        else:
            last = message["report"].splitlines()[-1:] or [""]
            self._say("failed", f"The engine stopped ({why}). {last[0]}", problem=True)

    def _stopped(self, told: str, *, problem: bool = False) -> None:
        self._cancelled_at = None
        self._say("stopped", told, problem=problem)
        if self.run is not None:
            self.run.count()

    # -- afterwards ------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the labels (or polygons, or the table: by the name) as they are shown now."""
        kinds = {".gpkg": "vector", ".geojson": "vector", ".parquet": "vector", ".csv": "stats"}
        outputs = {kinds.get(path.suffix.lower(), "labels"): str(path)}
        self._ask("save", outputs=outputs)

    def measure(self) -> None:
        """Ask for the table of areas or volumes."""
        self._ask("statistics")

    def _ask(self, what: str, **more: Any) -> None:
        run = self.run
        if run is None or self.status.phase not in ("finished", "stopped"):
            self._say(self.status.phase, "Run a segmentation first.", problem=True)
            return
        settings = self.state.run_settings
        same = same_prompts(self.state, run.job.prompts)
        if not same:
            settings = run.job.settings
        self.engine.send(
            {
                "do": what,
                "id": run.number,
                "store": str(run.store_path),
                "threshold": settings.threshold,
                "thresholds": dict(settings.thresholds),
                "suppress": list(self.state.suppressed) if same else [],
                **more,
            }
        )

    def _hear_saved(self, message: Message) -> None:
        self.saved = message["files"]
        name = Path(self.saved[0]).name if self.saved else ""
        self._say(self.status.phase, f"Saved {name}, read again and found equal in place.")

    def _hear_statistics(self, message: Message) -> None:
        self.statistics = message["rows"]

    @property
    def command_line(self) -> str:
        """What does the same run from a terminal."""
        if self.run is None:
            return ""
        output = Path(self.saved[0]) if self.saved else None
        return self.run.told(self.state, output).command_line()

    def next_uncertain(self) -> bool:
        """Move to the next most uncertain place; whether there was one."""
        run = self.run
        if run is None or run.store is None:
            return False
        if not self.places:
            from napari_digseg._live import uncertain_places

            self.places = uncertain_places(run.store, self.state.run_settings)
            self._place = -1
        if not self.places:
            self._say(self.status.phase, "Nothing is in doubt.")
            return False
        self._place = (self._place + 1) % len(self.places)
        plane, row, column, doubt = self.places[self._place]
        self._look_at(run, plane, row, column)
        told = f"Place {self._place + 1} of {len(self.places)}, doubt {100 * doubt:.0f} %."
        self._say(self.status.phase, told)
        return True

    def _look_at(self, run: Run, plane: int, row: float, column: float) -> None:
        inside: list[float] = [row, column]
        turn = run.to_layer
        if turn is not None:
            store = turn.inverse.shape(run.shape)
            where = [plane, row, column]
            moved = [
                store[axis] - 1 - where[axis] if flip else where[axis]
                for axis, flip in zip(turn.order, turn.flips, strict=True)
            ]
            inside = [float(value) for value in moved]
        index = [value + start for value, start in zip(inside, run.starts, strict=True)]
        world = run.image_layer.data_to_world([0.0] * run.target.lead + index)
        for axis, value in enumerate(world[:-2]):
            self.viewer.dims.set_point(axis, value)
        camera = self.viewer.scene.camera
        camera.center = (0.0, world[-2], world[-1])
        pixel = float(np.abs(np.asarray(run.image_layer.scale)[-1]))
        camera.zoom = max(camera.zoom, 4.0 / pixel)

    def retry_failed(self) -> None:
        """Compute the tiles that failed once more."""
        self.resume()

    def editable_copy(self) -> Any:
        """The labels as they are shown, in memory, to paint corrections on."""
        run = self.run
        if run is None or run.labels is None:
            return None
        from napari.layers import Labels

        data = run.labels.data[0] if run.labels.multiscale else run.labels.data
        kwargs = dict(run.labels.as_layer_data_tuple()[1])
        kwargs |= {"multiscale": False, "name": f"{run.labels.name} (painted)"}
        copy = Labels(np.asarray(data[...]).copy(), **kwargs)
        self.viewer.add_layer(copy)
        run.labels.visible = False
        return copy

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End the engine; runs are deleted unless they are to be kept."""
        self.listeners.clear()
        self.engine.close()
        if self.run is not None:
            self.run.close()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def tell(self) -> None:
        """Tell everybody who listens that something changed."""
        for listener in list(self.listeners):
            listener()

    def _say(self, phase: Phase, message: str, *, problem: bool = False) -> None:
        done, total = (self.run.blocks_done, self.run.blocks) if self.run else (0, 0)
        self.status = Status(phase, message, done, total, problem)
        self.tell()


_STAGES = {
    "open": "Opening the image.",
    "load model": "Loading the model.",
    "segment": "Segmenting.",
    "write": "Writing.",
}


def _settings(preferences: Preferences) -> SegmentSettings:
    memory = int(preferences.memory_gib * (1 << 30)) or None
    device: Any = preferences.device
    return SegmentSettings(model=preferences.model, device=device, memory=memory)


def _lasting(settings: SegmentSettings) -> SegmentSettings:
    """Settings without thresholds, which cost no new run."""
    return settings.with_(threshold=0.5, thresholds={})


def _same_but_one_threshold(undo: list[State], before: State, after: State) -> bool:
    """Whether the last change moved the one threshold that this change moves as well."""

    def moved(a: State, b: State) -> set[str]:
        if len(a.rows) != len(b.rows):
            return {"\0rows"}
        names = set()
        for x, y in zip(a.rows, b.rows, strict=True):
            if x != y:
                names.add(y.prompt.name if replace(x, threshold=y.threshold) == y else "\0other")
        return names

    last = moved(undo[-1], before)
    return len(last) == 1 and last == moved(before, after) and not any("\0" in n for n in last)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
