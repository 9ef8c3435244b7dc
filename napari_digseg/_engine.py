"""The engine's own process: ``python -m napari_digseg._engine``. Never imports napari or Qt.

It reads commands from standard input and says what happens on standard output, as lines of
`napari_digseg._protocol`. It keeps the model and the opened images between commands, so that a
preview or another prompt starts at once. When its input ends (the viewer is gone) it ends too.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from digseg.errors import DigsegError
from digseg.events import CancelToken, Event
from digseg.raster import Raster, Volume
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from digseg.types import SegmentationModel
from napari_digseg import _protocol
from napari_digseg._kept import Kept, Loader
from napari_digseg._order import View, nearest_first
from napari_digseg._protocol import Message

if TYPE_CHECKING:
    from digseg.run.result import Result


class Engine:
    """Does one command after the other; views and cancellations are heard in between.

    Parameters
    ----------
    inbox, outbox
        Binary streams of messages.
    load
        Loads the model that settings name.
    """

    def __init__(self, inbox: IO[bytes], outbox: IO[bytes], load: Loader) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._lock = threading.Lock()
        self._commands: queue.Queue[Message] = queue.Queue()
        # By the id of the run or training; a few bytes for each, so they stay.
        self._tokens: dict[Any, CancelToken] = {}
        self._view: View | None = None
        self._newest_preview = 0
        self._kept = Kept(load)

    def serve(self) -> None:
        """Work until told to quit."""
        threading.Thread(target=self._hear, name="digseg commands", daemon=True).start()
        self._say({"say": "ready", "pid": os.getpid()})
        doers = {
            "load": self._warm,
            "run": self._run,
            "extend": self._extend,
            "preview": self._preview,
            "save": self._save,
            "statistics": self._statistics,
            "bring": self._bring,
            "train": self._train,
        }
        while True:
            command = self._commands.get()
            if command["do"] == "quit":
                return
            try:
                doers[command["do"]](command)
            except DigsegError as error:
                self._say(
                    {
                        "say": "error",
                        "id": command.get("id"),
                        "of": command["do"],
                        "kind": type(error).__name__,
                        "message": str(error),
                    }
                )

    # -- hearing ---------------------------------------------------------------------------------

    def _hear(self) -> None:
        for line in self._inbox:
            command = _protocol.read(line)
            do = command["do"]
            if do == "cancel":
                if (token := self._tokens.get(command["id"])) is not None:
                    token.cancel()
            elif do == "view":
                self._view = View.of(command)
            else:
                if do in ("run", "extend", "train"):
                    # A cancellation that comes while the run waits in the queue counts as well.
                    self._tokens[command["id"]] = command["token"] = CancelToken()
                elif do == "preview":
                    self._newest_preview = command["id"]
                self._commands.put(command)
        # The viewer is gone: whatever is being computed is for nobody, and is on disk.
        os._exit(0)

    def _say(self, message: Message) -> None:
        with self._lock:
            try:
                _protocol.write(self._outbox, message)
            except BrokenPipeError:
                os._exit(0)

    def _listener(self, identifier: Any) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            message = _protocol.event_message(event)
            if message is not None:
                self._say({**message, "run": identifier})

        return tell

    # -- doing -----------------------------------------------------------------------------------

    def _warm(self, command: Message) -> None:
        settings = SegmentSettings.from_dict(command["settings"])
        begun = time.perf_counter()
        model = self.model(settings)
        self._say(
            {
                "say": "loaded",
                "model": settings.model,
                "identity": model.identity,
                "seconds": time.perf_counter() - begun,
            }
        )

    def _run(self, command: Message) -> None:
        from digseg.run.execute import execute

        job = Job.from_recipe(
            command["recipe"], resume=command["resume"], overwrite=not command["resume"]
        )
        result = execute(
            job,
            image=self.image(job),
            model=self.model(job.settings, bare=job.outputs.uncertainty is not None),
            callback=self._listener(command["id"]),
            cancel=command["token"],
            order=self._order,
            watched=True,
        )
        self._say_finished(command, result)

    def _extend(self, command: Message) -> None:
        from digseg.prompts import PromptSet
        from digseg.run.extend import extend

        job = Job.from_recipe(command["recipe"])
        result = extend(
            job,
            PromptSet.from_list(command["added"]),
            image=self.image(job),
            model=self.model(job.settings),
            callback=self._listener(command["id"]),
            cancel=command["token"],
            order=self._order,
        )
        self._say_finished(command, result)

    def _say_finished(self, command: Message, result: Result) -> None:
        self._say(
            {
                "say": "finished",
                "id": command["id"],
                "tiles": result.tiles,
                "failed": result.failed_tiles,
                "seconds": result.seconds,
                "recipe": result.recipe,
            }
        )

    def _order(self, blocks: Any) -> Any:
        return nearest_first(blocks, self._view)

    def _preview(self, command: Message) -> None:
        from digseg.run.settled import settled
        from napari_digseg._preview import preview

        if command["id"] != self._newest_preview:
            return  # the person has moved on
        begun = time.perf_counter()
        job = Job.from_recipe(command["recipe"])
        job = replace(job, region=None, outline=None, settings=job.settings.with_(planes="z"))
        model = self.model(job.settings)
        whole = settled(job, self.image(job), model)
        settings = whole.settings
        labels = preview(
            self.image(whole),
            model,
            job.prompts,
            settings,
            command["plane"],
            tuple(command["window"]),
            whole=self._kept.source(whole),
        )
        self._say(
            {
                "say": "preview",
                "id": command["id"],
                "labels": _protocol.pack(labels),
                "plane": command["plane"],
                "window": command["window"],
                "seconds": time.perf_counter() - begun,
            }
        )

    def _save(self, command: Message) -> None:
        outputs = Outputs(**{key: Path(path) for key, path in command["outputs"].items()})
        files = self._relabelled(command, outputs).files
        self._say({"say": "saved", "id": command["id"], "files": [str(file) for file in files]})

    def _statistics(self, command: Message) -> None:
        rows = self._relabelled(command, Outputs()).stats()
        self._say({"say": "statistics", "id": command["id"], "rows": rows})

    def _relabelled(self, command: Message, outputs: Outputs) -> Any:
        """A finished run, read again with the thresholds of now."""
        from digseg.run.relabel import relabel

        return relabel(
            command["store"],
            outputs,
            threshold=command["threshold"],
            thresholds=command["thresholds"],
            suppress=command["suppress"],
            overwrite=True,
        )

    def _bring(self, command: Message) -> None:
        from digseg.model.collect import fetch_model, import_model

        folder = command["folder"]
        info = import_model(folder) if folder else fetch_model(command["hub_id"])
        self._say({"say": "brought", "name": info.name})

    def _train(self, command: Message) -> None:
        from napari_digseg._fine_tune import fine_tune

        summary = fine_tune(command, command["token"], self._say)
        self._say({"say": "trained", "id": command["id"], **summary})

    # -- what is kept ----------------------------------------------------------------------------

    def image(self, job: Job) -> Raster | Volume:
        """The input of a job, opened once, and its region."""
        return self._kept.image(job)

    def model(self, settings: SegmentSettings, *, bare: bool = False) -> SegmentationModel:
        """The model that the settings name, loaded once."""
        return self._kept.model(settings, bare=bare)


def load_model(settings: SegmentSettings) -> SegmentationModel:
    """The model that people use."""
    from digseg.run.execute import load_model as load

    return load(settings)


def main(load: Loader = load_model) -> None:
    """Serve standard input and output."""
    # Libraries print; what they print must not get between the messages.
    outbox = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    if hasattr(os, "nice"):
        os.nice(5)  # the viewer goes first where the two share a core
    # A stream of its own: at the end Python wants the standard one, which a thread still reads.
    inbox = os.fdopen(os.dup(0), "rb")
    Engine(inbox, outbox, load).serve()


if __name__ == "__main__":
    main()
