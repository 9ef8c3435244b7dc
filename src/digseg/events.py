"""What a run says while it goes. Level 2: values only; a progress bar is one listener of many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from digseg.errors import Cancelled
from digseg.types import Window

TileState = Literal["done", "failed", "nodata", "pending"]


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class StageStarted(Event):
    """A step of the run begins: ``"open"``, ``"load model"``, ``"segment"``, ``"write"`` ..."""

    stage: str
    total: int | None = None
    unit: str = "steps"


@dataclass(frozen=True)
class StageAdvanced(Event):
    """The current stage moved on by ``count`` of its units."""

    stage: str
    count: int = 1


@dataclass(frozen=True)
class RunPlanned(Event):
    """The plan, before anything is computed."""

    tiles: int
    blocks: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class BlockWritten(Event):
    """A block of probabilities is on disk and in the journal.

    ``window`` is in pixels of ``plane``; ``tiles`` counts tiles finished with it.
    """

    plane: int
    window: Window
    tiles: int
    done: int
    total: int


@dataclass(frozen=True)
class TileFailed(Event):
    """A tile could not be read or computed, after its retries."""

    plane: int
    window: Window
    reason: str


@dataclass(frozen=True)
class Notice(Event):
    """One sentence that the person should see and that stops nothing."""

    message: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The run is over. ``seconds`` is wall time, ``model_seconds`` time inside the model."""

    tiles: int
    failed: int
    seconds: float
    model_seconds: float


Callback = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""


class CancelToken:
    """Set from any thread to stop a run at its next safe point."""

    def __init__(self) -> None:
        self._flag = threading.Event()

    def cancel(self) -> None:
        self._flag.set()

    @property
    def cancelled(self) -> bool:
        return self._flag.is_set()

    def check(self) -> None:
        """Raise `Cancelled` when the run was cancelled."""
        if self._flag.is_set():
            raise Cancelled("The run was cancelled; nothing half-written was kept.")
