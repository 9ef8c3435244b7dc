"""Choosing a model, and bringing in another. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_digseg._protocol import Message

if TYPE_CHECKING:
    from napari_digseg._controller import Controller

_LOADING = "Loading {}."


class Shelf:
    """The models of this machine, as the person uses them."""

    commands = ("bring", "load")

    def __init__(self, desk: Controller) -> None:
        self._desk = desk
        self.brought = 0
        self.message = ""
        self.problem = False
        self.loading = ""
        self._bringing = False

    @property
    def hears(self) -> Mapping[str, Callable[[Message], None]]:
        return {"brought": self._hear_brought, "loaded": self._hear_loaded}

    def use(self, name: str) -> None:
        """Segment with this model from now on."""
        desk = self._desk
        desk.state = replace(desk.state, settings=desk.state.settings.with_(model=name))
        self._say(f"{name} is used from now on.")
        self.load()

    def load(self) -> None:
        """Have the engine load the model that the form names, before it is needed."""
        desk = self._desk
        self.loading = desk.state.settings.model
        desk.engine.send({"do": "load", "settings": desk.state.settings.to_dict()})
        if not desk.running:
            desk.say(desk.status.phase, _LOADING.format(self.loading))

    def bring(self, *, folder: str | None = None, hub_id: str | None = None) -> None:
        """Copy a model from a folder, or download it, to the local models."""
        self._bringing = True
        self._say(f"Bringing in {folder or hub_id}.")
        self._desk.engine.send({"do": "bring", "id": 0, "folder": folder, "hub_id": hub_id})
        self._desk.tell()

    def _hear_brought(self, message: Message) -> None:
        self.brought += 1
        self._bringing = False
        self._say(f"{message['name']} is here now.")

    def _hear_loaded(self, message: Message) -> None:
        desk = self._desk
        if message["model"] != self.loading:
            return  # another one was chosen since
        self.loading = ""
        if desk.status.message == _LOADING.format(message["model"]):
            desk.say(desk.status.phase, f"{message['model']} is ready.")

    def failed(self, message: Message) -> None:
        self._say(message["message"], problem=True)
        if message["of"] == "bring":
            self._bringing = False
        else:
            self.loading = ""
            self._desk.say(self._desk.status.phase, message["message"], problem=True)

    def engine_died(self) -> None:
        self.loading = ""
        if self._bringing:
            self._bringing = False
            self._say("The engine stopped before the model was here: try again.", problem=True)

    def _say(self, told: str, *, problem: bool = False) -> None:
        self.message, self.problem = told, problem

    def poll(self) -> bool:
        return False
