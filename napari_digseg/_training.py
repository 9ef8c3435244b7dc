"""Fine-tuning on the person's own labels, seen from the viewer. No Qt."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digseg.errors import DigsegError, UsageError
from digseg.wording import format_duration
from napari_digseg._dataset import Example, write_set
from napari_digseg._protocol import Message
from napari_digseg._status import Training, at_home

if TYPE_CHECKING:
    from napari_digseg._controller import Controller

_BUSY = "A training is going on: wait for its end, or stop it in Train."


@dataclass(frozen=True)
class Wish:
    """A training as the person asked for it.

    Parameters
    ----------
    labels
        Name of the Labels layer.
    names
        Names by label id.
    output
        Folder of the new model.
    steps, minutes, rate, batch
        How long, and how.
    """

    labels: str
    names: Mapping[int, str]
    output: Path
    steps: int = 200
    minutes: float = 10.0
    rate: float = 2e-4
    batch: int = 2


def is_free(folder: Path) -> bool:
    """Whether a new model may be written there."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def free_folder(like: Path) -> Path:
    """The folder itself, or the first of ``like-2``, ``like-3`` … that holds nothing."""
    names = (like.with_name(f"{like.name}-{number}") for number in itertools.count(2))
    return like if is_free(like) else next(name for name in names if is_free(name))


class Trainer:
    """Starts, stops and follows a training; `now` tells how it goes."""

    commands = ("train",)

    def __init__(self, desk: Controller) -> None:
        self._desk = desk
        self.now = Training()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digseg set")
        self._waiting: tuple[Wish, Future[Example]] | None = None
        self._number = 0  # identifies the training between viewer and engine
        self._first = 0.0, 0.0  # share and time of the first step

    @property
    def hears(self) -> Mapping[str, Callable[[Message], None]]:
        return {"loss": self._hear_loss, "trained": self._hear_trained}

    @property
    def hindrance(self) -> str:
        """Why nothing else can begin while a training goes on; empty when none does."""
        return _BUSY if self.now.active else ""

    def start(self, wish: Wish) -> None:
        """Fine-tune the chosen model on a Labels layer; refused while a run goes."""
        desk = self._desk
        if self.now.active:
            return
        try:
            if desk.runs.hindrance:
                raise UsageError(desk.runs.hindrance)
            layer, labels = desk.layer(), self._labels(wish.labels)
        except DigsegError as error:
            self._tell(Training(message=str(error), problem=True))
            return
        if not is_free(wish.output):
            there = at_home(wish.output)
            told = f"{there} holds something already: name another folder for the new model."
            self._tell(Training(message=told, problem=True))
            return
        # Cutting a large layer into pictures takes seconds: not in the event loop.
        future = self._pool.submit(
            write_set, layer, labels, desk.point(layer), desk.folder / "set", dict(wish.names)
        )
        self._waiting = wish, future
        self._tell(Training(active=True, message="Cutting out what is labelled."))

    def _labels(self, name: str) -> Any:
        """The Labels layer of a name; raises `UsageError` when it is gone."""
        for layer in self._desk.viewer.layers:
            if layer.name == name and layer._type_string == "labels":
                return layer
        raise UsageError(f"The Labels layer {name!r} is gone: choose another one.")

    def stop(self) -> None:
        """Stop after the step that is being done; its checkpoints stay."""
        if not self.now.active:
            return
        if self._waiting is not None:
            self._waiting = None
            self._tell(Training(message="Stopped."))
        else:
            self._desk.engine.send({"do": "cancel", "id": self._number})
            self._tell(replace(self.now, message="Stopping after this step."))

    def poll(self) -> bool:
        """Begin when the labelled set is written."""
        if self._waiting is None or not self._waiting[1].done():
            return False
        wish, future = self._waiting
        self._waiting = None
        try:
            self._begin(wish, future.result())
        except DigsegError as error:
            self._tell(Training(message=str(error), problem=True))
        return True

    def _begin(self, wish: Wish, example: Example) -> None:
        prompts = [
            {"name": wish.names.get(e.id, e.name), "synonyms": [], "color": list(e.color)}
            for e in example.classes.entries
        ]
        pictures = "picture" if example.pictures == 1 else "pictures"
        classes = "class" if len(prompts) == 1 else "classes"
        told = f"Training on {example.pictures} {pictures} of {len(prompts)} {classes}."
        self._tell(Training(active=True, message=told))
        self._number = next(self._desk.numbers)
        self._desk.engine.send(
            {
                "do": "train",
                "id": self._number,
                "data": str(example.folder),
                "output": str(wish.output),
                "model": self._desk.state.settings.model,
                "prompts": prompts,
                "steps": wish.steps,
                "minutes": wish.minutes,
                "rate": wish.rate,
                "batch": wish.batch,
            }
        )

    def _tell(self, now: Training) -> None:
        self.now = now
        self._desk.tell()

    def _hear_loss(self, message: Message) -> None:
        losses = (*self.now.losses, float(message["loss"]))
        share = message["share"]
        told = f"Step {message['step']}, {100 * share:.0f} % done."
        if len(losses) > 1 and 0 < share < 1:
            # From the first step on: what came before was loading.
            first, begun = self._first
            left = (time.monotonic() - begun) / max(share - first, 1e-6) * (1 - share)
            told = f"{told[:-1]}, about {format_duration(left)} left."
        else:
            self._first = share, time.monotonic()
        self.now = replace(self.now, losses=losses, message=told)

    def _hear_trained(self, message: Message) -> None:
        folder = at_home(Path(message["model"]).parent)
        self.now = replace(
            self.now,
            active=False,
            model=message["model"],
            picture=message["picture"],
            message=f"Trained, in {folder}. Left: before, right: after.",
        )

    def failed(self, message: Message) -> None:
        """Hear that a training was stopped or went wrong."""
        stopped = message["kind"] == "Cancelled"
        told = "Stopped." if stopped else message["message"]
        self.now = replace(self.now, active=False, message=told, problem=not stopped)

    def engine_died(self) -> None:
        if self.now.active and self._waiting is None:  # what is cut out needs no engine
            told = "The engine stopped while it trained."
            self.now = replace(self.now, active=False, message=told, problem=True)

    def close(self) -> None:
        """Cut out no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
