"""What commands print: people's messages on standard error, one JSON object on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from digseg.errors import OutputError
from digseg.events import Event, Notice, RunPlanned, StageAdvanced, StageStarted, TileFailed
from digseg.wording import format_count, format_size

if TYPE_CHECKING:
    from rich.console import Console


def print_json(obj: Any) -> None:
    """Print one JSON object on standard output; NaN and infinity become null.

    Raises
    ------
    OutputError
        Standard output is closed, or takes no more.
    """
    text = json.dumps(_finite(obj), indent=2, allow_nan=False, default=_plain)
    hand_over(text + "\n")


def hand_over(text: str = "") -> None:
    """Write to standard output, and don't leave in a buffer what was printed before.

    Raises
    ------
    OutputError
        Standard output is closed, or takes no more.
    BrokenPipeError
        Its reader went away.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon(sys.stdout)
        raise OutputError(
            f"The answer can't be written to standard output ({error.strerror}): send it to "
            "another place."
        ) from error


def open_closed_streams() -> None:
    """Give a process that was started without some standard stream one that leads nowhere.

    Else the next file that is opened takes its number, and what a library says to standard error
    goes into that file; and `print` to a missing standard error goes to standard output.
    """
    # Standard output is opened for reading, so that an answer that can't be given is an error.
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            os.dup2(opened, number)  # which also lets child processes have it
            if opened != number:
                os.close(opened)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def abandon(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere, so that the end of the process
    doesn't stumble over it again."""
    with suppress(OSError, ValueError):  # it is no file of the system (in tests)
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def console() -> Console:
    """A console on standard error."""
    from rich.console import Console

    return Console(stderr=True)


class ProgressListener:
    """Draw the stages of a run as progress bars on standard error.

    A `digseg.events.Callback` and a context manager; ``quiet`` keeps notices and failures only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = console()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
        )
        self._task: Any = None

    def __enter__(self) -> ProgressListener:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            if self._task is not None:
                self._finish()
            self._task = self._progress.add_task(event.stage, total=event.total)
        elif isinstance(event, StageAdvanced) and self._task is not None:
            self._progress.advance(self._task, event.count)
        elif isinstance(event, RunPlanned):
            memory = format_size(event.memory_bytes)
            disk = format_size(event.disk_bytes)
            tiles, blocks = format_count(event.tiles, "tile"), format_count(event.blocks, "block")
            self._say(f"{tiles} in {blocks}, {memory} memory, {disk} disk")
        elif isinstance(event, Notice):
            self._say(event.message)
        elif isinstance(event, TileFailed):
            top, bottom, left, right = event.window
            where = f"rows {top}-{bottom}, columns {left}-{right}"
            self._say(f"tile failed ({where}): {event.reason}")

    def close_stage(self) -> None:
        """Mark the current stage as complete."""
        if self._task is not None:
            self._finish()
            self._task = None

    def _finish(self) -> None:
        task = self._progress.tasks[self._progress.task_ids.index(self._task)]
        total = task.total if task.total is not None else 1
        self._progress.update(self._task, total=total, completed=total)

    def _say(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)


def size_text(row: Mapping[str, Any]) -> str:
    """Area or volume of a row of statistics as people read it."""
    if row.get("volume_ml") is not None:
        return f"{row['volume_ml']:,.1f} ml"
    if row.get("area_ha") is not None:
        return f"{row['area_ha']:,.2f} ha"
    return f"{row['pixels']:,} pixels"


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # NumPy scalars
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return value
