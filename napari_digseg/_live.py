"""Labels of a store that fills, as arrays that napari reads. No napari, no Qt.

The event loop must never wait for a disk. What was read last (what is on screen) is computed anew
in a thread whenever a block arrives or a threshold moves, and swapped in when it is ready. What was
never read is computed when it is asked for, so that every answer is true; while a run goes, which
answers nothing for what is pending anyhow, the event loop gets nothing for it and it follows from
the thread.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from digseg.blend import DONE
from digseg.engine import LabelRule, ProbabilityStore
from digseg.lazy import Bounds, WindowArray
from digseg.orientation import Turn
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, LazyArray, UInt8Array

_CHUNK = 512
_BUDGET = 192 << 20  # bytes of labels kept
_PAUSE = 0.1  # seconds in which blocks that come in gather, while a run goes
_STOP = None

Key = tuple[int, int, int, int]  # level, plane, chunk row, chunk column


class LiveLabels:
    """Labels of a store by level, kept up to date.

    Parameters
    ----------
    store
        A store, filling or finished.
    settings
        With the thresholds to begin with.
    turn
        From the store's planes to the layer's; `None` for a raster (whose plane axis goes).
    suppress
        Names of prompts that get no label now.
    filling
        Tells whether a run fills the store now.
    """

    def __init__(
        self,
        store: ProbabilityStore,
        settings: SegmentSettings,
        turn: Turn | None = None,
        suppress: Sequence[str] = (),
        filling: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._turn = turn
        self._filling = filling
        self._rule = LabelRule(store.prompts, settings, suppress)
        # A volume is small in y and x: its coarser levels would only blur what is shown.
        arrays = store.levels if turn is None else store.levels[:1]
        self._probabilities: list[LazyArray] = list(arrays)
        self._coverage = store.coverage
        self._lock = threading.Lock()
        self._chunks: OrderedDict[Key, AnyArray] = OrderedDict()
        self._seen: dict[int, list[Key]] = {}
        self._stale: set[Key] = set()
        self._missing: set[Key] = set()  # answered with nothing; the thread makes up for it
        self._working: Key | None = None
        self._todo: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="digseg labels", daemon=True)
        self._thread.start()

    @property
    def levels(self) -> list[Any]:
        """Arrays for a Labels layer, the finest first: ``[y, x]``, or ``[z, y, x]`` once."""
        return [self._level(level) for level in range(len(self._probabilities))]

    def set_rule(self, settings: SegmentSettings, suppress: Sequence[str] = ()) -> None:
        """Other thresholds: what is on screen follows at once, the rest when it is looked at."""
        rule = LabelRule(self._store.prompts, settings, suppress)
        with self._lock:
            self._rule = rule
            self._outdate([*self._chunks, *self._missing])

    def block_written(self, plane: int, window: tuple[int, int, int, int]) -> None:
        """A block of the store is new."""
        with self._lock:
            keys = {*self._chunks, *self._missing}
            self._outdate([key for key in keys if _touches(key, plane, window)])

    def take_changed(self) -> bool:
        """Whether something on screen is new since the last question."""
        changed = self._changed.is_set()
        if changed:
            self._changed.clear()
        return changed

    def settle(self, timeout: float = 10.0) -> bool:
        """Wait until nothing on screen is out of date: before labels are copied, and in tests."""
        waiter = threading.Event()
        deadline = timeout
        while deadline > 0:
            with self._lock:
                if not self._stale and self._working is None:
                    return True
            waiter.wait(0.01)
            deadline -= 0.01
        return False

    def close(self) -> None:
        """Stop the thread."""
        self._ended.set()
        self._todo.put(_STOP)
        self._thread.join(timeout=5)

    # -- reading ---------------------------------------------------------------------------------

    def _level(self, level: int) -> Any:
        planes, rows, columns = (int(side) for side in self._probabilities[level].shape[1:])
        dtype = self._rule.dtype
        if self._turn is None:
            return WindowArray(
                (rows, columns),
                dtype,
                lambda bounds: self._read(level, ((0, 1), *bounds))[0],
            )
        whole = WindowArray(
            (planes, rows, columns), dtype, lambda bounds: self._read(level, bounds)
        )
        return self._turn.lazy(whole)

    def _read(self, level: int, bounds: Bounds) -> AnyArray:
        (first, last), (top, bottom), (left, right) = bounds
        result = np.zeros((last - first, bottom - top, right - left), self._rule.dtype)
        hurried = threading.current_thread() is threading.main_thread() and self._filling()
        keys: list[Key] = [
            (level, plane, row, column)
            for plane in range(first, last)
            for row in range(top // _CHUNK, (bottom - 1) // _CHUNK + 1)
            for column in range(left // _CHUNK, (right - 1) // _CHUNK + 1)
        ]
        with self._lock:
            self._seen[level] = keys
        for key in keys:
            chunk = self._chunk(key, hurried)
            if chunk is None:
                continue
            y, x = key[2] * _CHUNK, key[3] * _CHUNK
            y0, y1 = max(top, y), min(bottom, y + chunk.shape[0])
            x0, x1 = max(left, x), min(right, x + chunk.shape[1])
            part = chunk[y0 - y : y1 - y, x0 - x : x1 - x]
            result[key[1] - first, y0 - top : y1 - top, x0 - left : x1 - left] = part
        return result

    def _chunk(self, key: Key, hurried: bool) -> AnyArray | None:
        with self._lock:
            chunk = self._chunks.get(key)
            if chunk is not None:
                self._chunks.move_to_end(key)
                return chunk
            if hurried:
                self._missing.add(key)
                self._queue(key)
                return None
        chunk = self._compute(key)
        with self._lock:
            self._keep(key, chunk)
        return chunk

    def _compute(self, key: Key) -> AnyArray:
        level, plane, row, column = key
        array = self._probabilities[level]
        rows, columns = int(array.shape[2]), int(array.shape[3])
        top, left = row * _CHUNK, column * _CHUNK
        bottom, right = min(rows, top + _CHUNK), min(columns, left + _CHUNK)
        values: UInt8Array = np.asarray(array[:, plane, top:bottom, left:right])
        if level == 0:
            coverage = np.asarray(self._coverage[plane, top:bottom, left:right])
        else:
            # Coverage has no pyramid; where nothing was found at all there is nothing to show.
            coverage = np.where(values.any(axis=0), DONE, 0).astype(np.uint8)
        labels = self._rule(values, coverage)
        return np.where(coverage == DONE, labels, 0).astype(labels.dtype)

    # -- keeping up ------------------------------------------------------------------------------

    def _outdate(self, keys: Sequence[Key]) -> None:
        """Compute anew what is on screen, forget the rest; the lock is held."""
        on_screen = {key for keys in self._seen.values() for key in keys}
        for key in keys:
            if key in on_screen:
                self._queue(key)
            else:
                self._chunks.pop(key, None)
                self._missing.discard(key)

    def _awaited(self, key: Key) -> bool:
        """Whether a missing chunk is still looked at; the lock is held."""
        if key in self._missing and key not in self._seen.get(key[0], ()):
            self._missing.discard(key)
        return key in self._missing

    def _queue(self, key: Key) -> None:
        """Let the thread compute a chunk; the lock is held."""
        if key not in self._stale:
            self._stale.add(key)
            self._todo.put(key)

    def _keep(self, key: Key, chunk: AnyArray) -> None:
        self._chunks[key] = chunk
        self._chunks.move_to_end(key)
        most = max(64, _BUDGET // max(1, _CHUNK * _CHUNK * self._rule.dtype.itemsize))
        while len(self._chunks) > most:
            self._chunks.popitem(last=False)

    def _work(self) -> None:
        while (key := self._todo.get()) is not _STOP:
            with self._lock:
                # From here on a further change puts the chunk in the queue again.
                self._stale.discard(key)
                self._working = key
                wanted = key in self._chunks or self._awaited(key)
            if wanted:
                chunk = self._compute(key)
                with self._lock:
                    self._keep(key, chunk)
                    self._missing.discard(key)
                self._changed.set()
            with self._lock:
                self._working = None
            if self._todo.empty() and self._filling():
                self._ended.wait(_PAUSE)


def _touches(key: Key, plane: int, window: tuple[int, int, int, int]) -> bool:
    level, of, row, column = key
    if of != plane:
        return False
    side = _CHUNK << level
    top, bottom, left, right = window
    return (
        row * side < bottom
        and (row + 1) * side > top
        and column * side < right
        and (column + 1) * side > left
    )
