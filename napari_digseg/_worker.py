"""The engine in its own process, seen from the viewer: send, poll, stop. No Qt.

A thread reads what the engine says into a queue, nothing more; the controller polls the queue
from the event loop. Whatever happens over there (a crash, memory running out) is here only a
message that says so.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from napari_digseg import _protocol
from napari_digseg._protocol import Message

#: The engine that people use; tests start one with a model of their own.
ENGINE = (sys.executable, "-m", "napari_digseg._engine")

_TAIL = 4000  # characters of the engine's last words that are kept for a report
_RUNNING: weakref.WeakSet[EngineProcess] = weakref.WeakSet()


class EngineProcess:
    """One engine process at a time; started when it is first needed, again after a crash.

    Parameters
    ----------
    command
        What to start.
    """

    def __init__(self, command: Sequence[str] = ENGINE) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: queue.SimpleQueue[tuple[int, Message]] = queue.SimpleQueue()
        self._generation = 0
        self._log: IO[bytes] | None = None
        _RUNNING.add(self)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process unless it runs."""
        if self.alive:
            return
        if self._process is not None:
            _reap(self._process)
        self._close_log()
        self._log = tempfile.TemporaryFile(prefix="digseg-engine-")  # noqa: SIM115 - outlives this
        self._generation += 1
        environment = dict(os.environ)
        # With two OpenMP threads that spin and a viewer beside them, both crawl.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # The engine must find what the viewer found, also when it was started from a folder.
        paths = [str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            **_quietly(),
        )
        threading.Thread(
            target=_listen,
            args=(self._process, self._said, self._generation),
            name="digseg engine listener",
            daemon=True,
        ).start()

    def send(self, message: Message) -> None:
        """Say something to the engine, starting it first where it does not run."""
        self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        # A process that just died is reported by `poll`, not here.
        with contextlib.suppress(BrokenPipeError, OSError):
            _protocol.write(self._process.stdin, message)

    def poll(self) -> list[Message]:
        """Everything said since the last call; ``{"say": "died"}`` when the process ended."""
        messages: list[Message] = []
        while True:
            try:
                generation, message = self._said.get_nowait()
            except queue.Empty:
                return messages
            if generation != self._generation:
                continue  # the last words of a process that was stopped on purpose
            if message["say"] == "died":
                message = {**message, "report": self.report()}
            messages.append(message)

    def report(self) -> str:
        """The end of what the engine wrote to its standard error."""
        if self._log is None:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _TAIL))
        return self._log.read().decode(errors="replace").strip()

    def kill(self) -> None:
        """End the process now; what is on disk can be resumed. Does not wait for its end."""
        self._generation += 1
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            # A process with gigabytes takes its time to go: not in the event loop.
            threading.Thread(target=_reap, args=(process,), daemon=True).start()

    def close(self) -> None:
        """End the process, wait for its end and forget its log."""
        self._generation += 1
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            _reap(process)
        self._close_log()

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that ends and close what led to it."""
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _listen(
    process: subprocess.Popen[bytes],
    said: queue.SimpleQueue[tuple[int, Message]],
    generation: int,
) -> None:
    assert process.stdout is not None
    # The stream is closed under this thread when the process is killed on purpose.
    with contextlib.suppress(ValueError, OSError):
        for line in process.stdout:
            said.put((generation, _protocol.read(line)))
    code = process.wait()
    said.put((generation, {"say": "died", "code": code}))


def _quietly() -> dict[str, Any]:
    """No console window on Windows, and a lower priority than the viewer's."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        return {"creationflags": flags}
    return {}


@atexit.register
def _close_all() -> None:
    for process in list(_RUNNING):
        process.close()
