"""Choosing a model, and bringing in another. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_digseg._protocol import Message

if TYPE_CHECKING:
    from napari_digseg._controller import Controller


class Shelf:
    """The models of this machine, as the person uses them."""

    commands = ("bring",)

    def __init__(self, desk: Controller) -> None:
        self._desk = desk
        self.brought = 0
        self.message = ""

    @property
    def hears(self) -> Mapping[str, Callable[[Message], None]]:
        return {"brought": self._hear_brought}

    def use(self, name: str) -> None:
        """Segment with this model from now on."""
        desk = self._desk
        desk.state = replace(desk.state, settings=desk.state.settings.with_(model=name))
        self.message = f"{name} is used from now on."
        desk.load_model()
        desk.tell()

    def bring(self, *, folder: str | None = None, hub_id: str | None = None) -> None:
        """Copy a model from a folder, or download it, to the local models."""
        self.message = f"Bringing in {folder or hub_id}."
        self._desk.engine.send({"do": "bring", "id": 0, "folder": folder, "hub_id": hub_id})
        self._desk.tell()

    def _hear_brought(self, message: Message) -> None:
        self.brought += 1
        self.message = f"{message['name']} is here now."

    def failed(self, message: Message) -> None:
        self.message = message["message"]

    def engine_died(self) -> None:
        pass

    def poll(self) -> bool:
        return False
