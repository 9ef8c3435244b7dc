"""How much memory there is, how much a run will take, and the refusal. Level 3.

A run's memory is a sum of parts that don't grow with the scene: the process as it stands (weights
included), the model at work, tiles waiting for it, answers waiting to be written, and one block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from digseg.errors import DoesNotFitError
from digseg.settings import format_size

#: Share of free memory that a run takes when nothing was asked for.
FREE_SHARE = 0.75
#: Queues never need more than this to keep a model busy.
MOST_QUEUED = 64 << 20
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def process_bytes() -> int:
    """Memory of this process that is resident now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def free_bytes() -> int:
    """Memory that this process could still take, a container's limit included."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no cgroup, or "max"
            continue
    return max(0, free)


def allowed_bytes(asked: int | None) -> int:
    """Upper limit for the whole process: what was asked for, else a share of what is free."""
    return asked if asked is not None else process_bytes() + int(FREE_SHARE * free_bytes())


@dataclass(frozen=True)
class Needs:
    """Bytes that the parts of a run take at their peak.

    Parameters
    ----------
    base
        The process with its weights, before the run.
    model
        What the model takes while it works, beyond its answer.
    tile, answer
        One batch of tiles as read; one batch of answers.
    block
        The block being filled and written.
    """

    base: int
    model: int
    tile: int
    answer: int
    block: int

    @property
    def least(self) -> int:
        """The smallest total: two batches read, three of answers (new, waiting, being blended)."""
        return self.base + self.model + 2 * self.tile + 3 * self.answer + self.block


@dataclass(frozen=True)
class Budget:
    """Limits of the queues, and the total with them."""

    read_ahead: int
    write_behind: int
    total: int


def budget(needs: Needs, allowed: int, *, asked: bool) -> Budget:
    """Share what is left among the queues.

    Raises
    ------
    DoesNotFitError
        The least that the run needs is more than is allowed; the figures are in the message.
    """
    if needs.least > allowed:
        given = "are allowed with --memory" if asked else "are free"
        raise DoesNotFitError(
            f"The run needs {format_size(needs.least)} ({format_size(needs.base)} program and "
            f"model, {format_size(needs.model)} to compute, "
            f"{format_size(2 * needs.tile + 3 * needs.answer)} tiles, "
            f"{format_size(needs.block)} for a block), but {format_size(allowed)} {given}: "
            "allow more, or take a smaller --tile, a smaller --batch or fewer prompts."
        )
    spare = allowed - needs.least
    read = needs.tile + min(MOST_QUEUED, spare // 4)
    write = needs.answer + min(MOST_QUEUED, spare // 4)
    total = needs.least + read - needs.tile + write - needs.answer
    return Budget(read, write, total)


class PeakMeter:
    """Watches the memory of this process while work is done in it.

    A context manager; `peak` is the largest seen and `grown` how much that is above the start.
    """

    def __init__(self, interval: float = 0.005) -> None:
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="digseg memory", daemon=True)
        self.start_bytes = self.peak = 0

    def __enter__(self) -> PeakMeter:
        self.start_bytes = self.peak = process_bytes()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, process_bytes())

    @property
    def grown(self) -> int:
        return self.peak - self.start_bytes

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, process_bytes())


def measured(work: Callable[[], object]) -> int:
    """Bytes by which the process grows at most while ``work`` runs."""
    with PeakMeter() as meter:
        work()
    return meter.grown


def check_within(allowed: int) -> None:
    """Stop a run that outgrew its limit.

    Raises
    ------
    DoesNotFitError
        The process holds more than is allowed.
    """
    used = process_bytes()
    if used > allowed:
        raise DoesNotFitError(
            f"The run reached {format_size(used)} and was stopped: --memory allows "
            f"{format_size(allowed)}; go on with --resume and a larger limit."
        )
