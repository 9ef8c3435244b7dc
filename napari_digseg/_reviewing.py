"""What is done with a finished run: save, measure, look twice, paint. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.errors import DigsegError
from napari_digseg._painted import Painted, Rows, with_holes
from napari_digseg._places import Place
from napari_digseg._protocol import Message
from napari_digseg._runs import Run, same_prompts

if TYPE_CHECKING:
    from napari_digseg._controller import Controller

_MOST_PAINTED = 1 << 28  # pixels
_KINDS = {".gpkg": "vector", ".geojson": "vector", ".parquet": "vector", ".csv": "stats"}


class Review:
    """Looks after the result of the newest run."""

    commands = ("save", "statistics")

    def __init__(self, desk: Controller) -> None:
        self._desk = desk
        self.clear()

    def clear(self) -> None:
        """A new run begins: nothing was measured or saved of it."""
        self.statistics: list[dict[str, Any]] = []
        self._measured: Any = None
        self.saved: list[str] = []
        self.places: list[Place] = []
        self._place = -1
        self._places_of: Any = None
        self._looking: Future[list[Place]] | None = None
        self._painted: Painted | None = None
        self._writing: Future[list[str]] | None = None
        self._counting: Future[Rows] | None = None

    @property
    def hears(self) -> Mapping[str, Callable[[Message], None]]:
        return {"saved": self._hear_saved, "statistics": self._hear_statistics}

    # -- files and tables ------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the labels (or polygons, or the table: by the name) as they are shown now.

        Labels that were painted on, while they are in the viewer, else those of the run.
        """
        kind = _KINDS.get(path.suffix.lower(), "labels")
        if (painted := self.painted) is not None:
            self._writing = painted.save(path, kind)
            self._desk.say(self._desk.status.phase, f"Saving {path.name}, as painted.")
            return
        self._ask(f"Saving {path.name}.", "save", outputs={kind: str(path)})

    def measure(self) -> None:
        """Ask for the table of areas or volumes, of painted labels where there are some."""
        if (painted := self.painted) is not None:
            self._counting = painted.measure()
            self._desk.say(self._desk.status.phase, "Measuring, as painted.")
            return
        self._ask("Measuring.", "statistics")

    @property
    def painted(self) -> Painted | None:
        """The copy that is painted on, while it is in the viewer."""
        copy = self._painted
        return copy if copy is not None and copy.layer in self._desk.viewer.layers else None

    def _rule(self, run: Run) -> tuple[dict[str, float], float, list[str]]:
        """Thresholds, the one for the rest, and what is hidden, as the labels show them now."""
        state = self._desk.state
        same = same_prompts(state, run.job.prompts)
        settings = state.run_settings if same else run.job.settings
        hidden = list(state.suppressed) if same else []
        return dict(settings.thresholds), settings.threshold, hidden

    @property
    def outdated(self) -> bool:
        """Whether thresholds or eyes were moved after the table was made."""
        run = self._desk.run
        return bool(self.statistics) and run is not None and self._rule(run) != self._measured

    def _ask(self, told: str, what: str, **more: Any) -> None:
        desk, run = self._desk, self._desk.run
        if run is None or desk.status.phase not in ("finished", "stopped"):
            desk.say(desk.status.phase, "Run a segmentation first.", problem=True)
            return
        thresholds, threshold, hidden = self._rule(run)
        if what == "statistics":
            self._measured = thresholds, threshold, hidden
        desk.engine.send(
            {
                "do": what,
                "id": run.number,
                "store": str(run.store_path),
                "threshold": threshold,
                "thresholds": thresholds,
                "suppress": hidden,
                **more,
            }
        )
        desk.say(desk.status.phase, told)

    def _hear_saved(self, message: Message) -> None:
        self.saved = message["files"]
        name = Path(self.saved[0]).name if self.saved else ""
        told = f"Saved {name}, read again and found equal in place."
        self._desk.say(self._desk.status.phase, told)

    def _hear_statistics(self, message: Message) -> None:
        self.statistics = message["rows"]
        self._desk.say(self._desk.status.phase, "Measured.")

    @property
    def command_line(self) -> str:
        """What does the same run from a terminal."""
        run = self._desk.run
        if run is None:
            return ""
        # No command line paints.
        output = Path(self.saved[0]) if self.saved and self._painted is None else None
        return run.told(self._desk.state, output).command_line()

    # -- looking twice ---------------------------------------------------------------------------

    @property
    def has_spread(self) -> bool:
        """Whether the run says where its ensemble disagreed."""
        run = self._desk.run
        return run is not None and run.spread_path is not None

    def next_uncertain(self) -> None:
        """Move to the next most uncertain place, as soon as the places are found."""
        desk, run = self._desk, self._desk.run
        if run is None or run.store is None or self._looking is not None:
            return
        # The ensemble disagrees whatever the thresholds are.
        rule = None if self.has_spread else desk.state.run_settings
        if self._places_of != (run.number, rule):
            self._places_of, self._place = (run.number, rule), -1
            self._looking = run.find_places(desk.state.run_settings)
        self._go_on()

    def _go_on(self) -> bool:
        desk, run = self._desk, self._desk.run
        if self._looking is not None:
            if not self._looking.done():
                return False
            self.places, self._looking = self._looking.result(), None
        if run is None or not self.places:
            desk.say(desk.status.phase, "Nothing is in doubt.")
            return True
        self._place = (self._place + 1) % len(self.places)
        place = self.places[self._place]
        self._look_at(run, place)
        which = f"Place {self._place + 1} of {len(self.places)}, in the middle of the view"
        told = "the ensemble disagrees by" if self.has_spread else "nearness to the threshold"
        desk.say(desk.status.phase, f"{which}: {told} {100 * place.doubt:.0f} %.")
        return True

    def _look_at(self, run: Run, place: Place) -> None:
        index = [value + start for value, start in zip(place.index, run.starts, strict=True)]
        world = run.image_layer.data_to_world([0.0] * run.target.lead + index)
        # A layer with more axes lends the viewer some before those of this one.
        before = self._desk.viewer.dims.ndim - len(world)
        for axis, value in enumerate(world[:-2]):
            self._desk.viewer.dims.set_point(before + axis, value)
        camera = self._desk.viewer.scene.camera
        camera.center = (0.0, world[-2], world[-1])
        pixel = float(np.abs(np.asarray(run.image_layer.scale)[-1]))
        camera.zoom = max(camera.zoom, 4.0 / pixel)

    def poll(self) -> bool:
        """Go to a place that was asked for before, and say what of painted labels was done."""
        moved = self._looking is not None and self._go_on()
        return self._hear_painted() or moved

    def _hear_painted(self) -> bool:
        desk, writing, counting = self._desk, self._writing, self._counting
        try:
            if writing is not None and writing.done():
                self._writing = None
                self.saved = writing.result()
                name = Path(self.saved[0]).name
                desk.say(desk.status.phase, f"Saved {name}, with what was painted.")
                return True
            if counting is not None and counting.done():
                self._counting = None
                self.statistics = counting.result()
                self._measured = None if desk.run is None else self._rule(desk.run)
                desk.say(desk.status.phase, "Measured, with what was painted.")
                return True
        except (DigsegError, OSError) as error:
            desk.say(desk.status.phase, str(error), problem=True)
            return True
        return False

    def editable_copy(self) -> Any:
        """The labels as they are shown, in memory, to paint corrections on."""
        run = self._desk.run
        if run is None or run.labels is None:
            return None
        from napari.layers import Labels

        if run.live is not None:
            run.live.settle()  # what was asked for last is on its way to the screen
        data = run.labels.data[0] if run.labels.multiscale else run.labels.data
        if np.prod(data.shape, dtype=float) > _MOST_PAINTED:
            told = "The labels are too large to hold in memory and paint on: segment a drawn shape."
            self._desk.say(self._desk.status.phase, told, problem=True)
            return None
        kwargs = dict(run.labels.as_layer_data_tuple()[1])
        kwargs |= {"multiscale": False, "name": f"{run.labels.name} (painted)"}
        labels = np.asarray(data[...]).copy()
        kwargs["metadata"] = with_holes(labels, run, kwargs["metadata"])
        copy = Labels(labels, **kwargs)
        self._desk.viewer.add_layer(copy)
        run.labels.visible = False
        self._painted = Painted(copy)
        return copy

    def failed(self, message: Message) -> None:
        self._desk.say(self._desk.status.phase, message["message"], problem=True)

    def engine_died(self) -> None:
        pass
