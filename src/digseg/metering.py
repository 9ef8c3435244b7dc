"""What a process holds while it works, watched from a thread of its own."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from digseg.memory import family_bytes, process_bytes

_STATUS = Path("/proc/self/status")


def _highest() -> int:
    """The most that was ever resident of this process; 0 where the system does not tell."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:  # no Linux
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


class PeakMeter:
    """Watches the memory of this process while work is done in it.

    A context manager; `peak` is the largest seen, `grown` how much that is above the start, and
    `usual` the median: what the work holds on to, without the moments at which much comes together.

    Parameters
    ----------
    interval
        Seconds between two looks. A peak of this process alone that is the highest of its life
        is not missed, however short.
    family
        Count the processes that this one started, too.
    """

    def __init__(self, interval: float = 0.01, *, family: bool = False) -> None:
        self._interval = max(interval, 0.1) if family else interval
        self._read = family_bytes if family else process_bytes
        self._family = family
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="digseg memory", daemon=True)
        self.start_bytes = self.peak = 0
        self._seen = array("q")

    def __enter__(self) -> PeakMeter:
        self.start_bytes = self.peak = self._read()
        self._before = _highest()
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
        self.peak = max(self.peak, self._read())
        highest = _highest()
        if highest > self._before and not self._family:  # reached in between: exact
            self.peak = max(self.peak, highest)

    @property
    def grown(self) -> int:
        return self.peak - self.start_bytes

    @property
    def usual(self) -> int:
        return int(np.median(self._seen)) if self._seen else self.peak

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._seen.append(self._read())
            self.peak = max(self.peak, self._seen[-1])


def measured(work: Callable[[], object]) -> int:
    """Bytes by which the process grows at most while ``work`` runs."""
    with PeakMeter() as meter:
        work()
    return meter.grown
