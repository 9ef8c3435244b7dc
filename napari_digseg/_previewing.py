"""A coarse answer for what is on screen, at once. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.errors import DigsegError, UsageError
from digseg.prompts import PromptSet
from digseg.raster import ClassTable
from digseg.run.job import Job
from digseg.types import AnyArray
from napari_digseg import _protocol
from napari_digseg._inputs import Target, placed_like
from napari_digseg._jobs import asks_for
from napari_digseg._labels import class_kwargs
from napari_digseg._protocol import Message
from napari_digseg._regions import visible_bounds

if TYPE_CHECKING:
    from napari_digseg._controller import Controller

NAME = "preview"


class Previews:
    """The preview layer of a viewer."""

    commands = ("preview",)

    def __init__(self, desk: Controller) -> None:
        self._desk = desk
        self._layer: Any = None
        self._kind = ""  # what of the layer can't be moved
        self._asked: dict[int, tuple[Any, Target, PromptSet]] = {}
        self._waiting: tuple[Any, Future[Target]] | None = None

    @property
    def hears(self) -> Mapping[str, Callable[[Message], None]]:
        return {"preview": self._show}

    def ask(self) -> None:
        """Segment what is on screen coarsely, at once; nothing while a run or a training goes."""
        desk = self._desk
        if desk.running or desk.state.problem:
            return
        try:
            if desk.trainer.hindrance:
                raise UsageError(desk.trainer.hindrance)
            layer = desk.layer()
            self._waiting = layer, desk.targets.of(layer, desk.point(layer))
            self.poll()
        except DigsegError as error:
            desk.say(desk.status.phase, str(error), problem=True)

    def poll(self) -> bool:
        """Ask the engine as soon as the layer's file is there."""
        if self._waiting is None or not self._waiting[1].done():
            return False
        layer, future = self._waiting
        self._waiting = None
        try:
            self._send(layer, future.result())
        except DigsegError as error:
            self._desk.say(self._desk.status.phase, str(error), problem=True)
        return True

    def _send(self, layer: Any, target: Target) -> None:
        desk = self._desk
        visible = visible_bounds(layer, target)
        plane = 0
        if target.ndim == 3:
            at = round(desk.point(layer)[target.lead])
            plane = int(np.clip(at, 0, target.shape[0] - 1))
        (top, bottom), (left, right) = visible[-2:]
        number, prompts = next(desk.numbers), desk.state.prompts
        self._asked = {number: (layer, target, prompts)}
        settings = desk.state.run_settings.with_(time=target.time)
        desk.engine.send(
            {
                "do": "preview",
                "id": number,
                "recipe": Job(target.path, prompts, settings).recipe(),
                "plane": plane,
                "window": [top, bottom, left, right],
            }
        )
        loading = desk.shelf.loading
        first = f"Loading {loading}; the preview comes then." if loading else ""
        desk.say(desk.status.phase, first or "Looking at what is on screen.")

    def clear(self) -> None:
        """Take the preview away, and whatever was asked for."""
        self._asked, self._waiting = {}, None
        self._take_away()

    def _take_away(self) -> None:
        if self._layer is not None and self._layer in self._desk.viewer.layers:
            self._desk.viewer.layers.remove(self._layer)
        self._layer = None

    def _show(self, message: Message) -> None:
        desk = self._desk
        if message["id"] not in self._asked or desk.running:
            return
        layer, target, prompts = self._asked[message["id"]]
        phase = desk.status.phase if desk.status.phase in ("finished", "stopped") else "idle"
        if not asks_for(desk, layer, prompts):
            desk.say(phase, "The form changed while the preview was made.")
            return
        labels = _protocol.unpack(message["labels"])
        top, bottom, left, right = message["window"]
        starts = (top, left) if target.ndim == 2 else (message["plane"], top, left)
        steps = np.ones(target.ndim)
        steps[-2:] = (bottom - top) / labels.shape[0], (right - left) / labels.shape[1]
        place = placed_like(layer, target, starts, tuple(steps))
        data = labels if target.ndim == 2 else labels[None]
        self._put(data.copy(), class_kwargs(ClassTable.of(prompts)), place)
        desk.say(phase, f"Preview of what is on screen, in {message['seconds']:.1f} s.")

    def _put(self, data: AnyArray, classes: dict[str, Any], place: dict[str, Any]) -> None:
        """Show labels in the layer that is there: a new one takes the event loop half a second."""
        from napari.layers import Labels

        moving = {key: place[key] for key in ("scale", "translate")}
        kind = str([data.ndim, classes, {**place, **dict.fromkeys(moving)}])
        viewer = self._desk.viewer
        if self._layer is not None and self._layer in viewer.layers and kind == self._kind:
            self._layer.data = data
            for key, value in moving.items():
                setattr(self._layer, key, value)
            return
        self._take_away()
        self._kind = kind
        self._layer = Labels(data, name=NAME, opacity=0.55, **classes, **place)
        active = viewer.layers.selection.active
        viewer.add_layer(self._layer)
        viewer.layers.selection.active = active

    def failed(self, message: Message) -> None:
        self._desk.say(self._desk.status.phase, message["message"], problem=True)

    def engine_died(self) -> None:
        self._asked = {}
