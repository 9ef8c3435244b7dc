"""Labels from stored probabilities: thresholds and arg-max, window by window, no inference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from typing import Any

import numpy as np

from digseg.blend import DONE
from digseg.engine.store import ProbabilityStore
from digseg.errors import UsageError
from digseg.lazy import Bounds, WindowArray
from digseg.prompts import PromptSet, normalise
from digseg.raster import ClassTable
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, UInt8Array

#: Pixels whose labels are found at once, and the longest side of such a piece.
_PIECE, _PIECE_SIDE = 4 << 20, 2048
_RUN = 1 << 16


class LazyLabels:
    """Labels ``[plane, y, x]`` of a store, computed for the window that is asked for.

    A pixel gets the id of its most probable prompt among those that reach their threshold; 0 where
    none does or where a negative prompt wins; `nodata` where there is no data or no answer
    (failed and pending pixels: a hole is never called background).
    """

    def __init__(
        self, store: ProbabilityStore, settings: SegmentSettings, suppress: Sequence[str] = ()
    ) -> None:
        self._probabilities = store.probabilities
        self._coverage = store.coverage
        self._rule = LabelRule(store.prompts, settings, suppress)
        self._step = _piece(store.shape)
        self._window = WindowArray(self._coverage.shape, self._rule.dtype, self._read)
        self.nodata = self._rule.nodata

    @property
    def shape(self) -> tuple[int, ...]:
        return self._window.shape

    @property
    def ndim(self) -> int:
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._rule.dtype

    def __getitem__(self, key: Any, /) -> AnyArray:
        return self._window[key]

    def _read(self, bounds: Bounds) -> AnyArray:
        """A box, piece by piece and prompt by prompt: whoever asks for a large one gets it with
        little more memory than the labels themselves."""
        labels = np.empty([stop - start for start, stop in bounds], dtype=self.dtype)
        with ThreadPoolExecutor(1, thread_name_prefix="digseg labels") as pool:
            for piece in _pieces(bounds, self._step):
                coverage = np.asarray(self._coverage[piece])
                inside = tuple(
                    slice(part.start - start, part.stop - start)
                    for part, (start, _) in zip(piece, bounds, strict=True)
                )
                labels[inside] = self._rule(self._maps(piece, pool), coverage)
        return labels

    def _maps(self, piece: tuple[slice, ...], pool: ThreadPoolExecutor) -> Iterator[UInt8Array]:
        """Map after map, the next one being read meanwhile."""

        def read(prompt: int) -> UInt8Array:
            return np.asarray(self._probabilities[(prompt, *piece)])

        ahead = pool.submit(read, 0)
        for prompt in range(1, self._rule.prompts):
            found, ahead = ahead.result(), pool.submit(read, prompt)
            yield found
        yield ahead.result()


def _piece(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Planes, rows and columns of a piece: whole chunks of the store, as far as there are any."""
    height, width = min(shape[1], _PIECE_SIDE), min(shape[2], _PIECE_SIDE)
    return max(1, _PIECE // (height * width)), height, width


def _pieces(bounds: Bounds, step: tuple[int, int, int]) -> Iterator[tuple[slice, ...]]:
    """A box cut at multiples of ``step``."""
    cuts = []
    for (start, stop), side in zip(bounds, step, strict=True):
        edges = [start, *range(start - start % side + side, stop, side), stop]
        cuts.append([slice(a, b) for a, b in pairwise(edges)])
    yield from product(*cuts)


class LabelRule:
    """Thresholds and arg-max for one prompt set.

    Parameters
    ----------
    suppress
        Names of prompts that are taken as negative: they compete but get no label.

    Raises
    ------
    UsageError
        A threshold is given for a name that is no prompt.
    """

    def __init__(
        self, prompts: PromptSet, settings: SegmentSettings, suppress: Sequence[str] = ()
    ) -> None:
        names = {normalise(prompt.name) for prompt in prompts}
        for name in settings.thresholds:
            if normalise(name) not in names:
                known = ", ".join(prompt.name for prompt in prompts)
                raise UsageError(f"There is no prompt {name!r} to set a threshold for: {known}.")
        own = {normalise(name): value for name, value in settings.thresholds.items()}
        silent = {normalise(name) for name in suppress}
        negative = [p.negative or normalise(p.name) in silent for p in prompts]
        self._least = [
            # A negative prompt needs no threshold: it only has to win.
            0 if off else _level(own.get(normalise(prompt.name), settings.threshold))
            for prompt, off in zip(prompts, negative, strict=True)
        ]
        self.prompts = len(negative)
        self._ids = [0 if off else index for index, off in enumerate(negative, start=1)]
        self.dtype = ClassTable.of(prompts).dtype
        self.nodata = int(np.iinfo(self.dtype).max)

    def __call__(self, probabilities: Iterable[UInt8Array], coverage: UInt8Array) -> AnyArray:
        """Labels ``[...]`` of K maps ``uint8 [...]`` and coverage ``[...]``; ties go to the first.

        Each map is looked at once, so that they may come one by one.
        """
        labels = np.zeros(coverage.size, dtype=self.dtype)
        # One above the best so far; 0 until a prompt reaches its threshold.
        best = np.zeros(coverage.size, dtype=np.uint16)
        for values, least, label in zip(probabilities, self._least, self._ids, strict=True):
            flat = values.reshape(-1)
            for run in _runs(coverage.size):
                wins = flat[run] >= least
                score = flat[run].astype(np.uint16)
                score += 1
                wins &= score > best[run]
                np.copyto(best[run], score, where=wins)
                np.copyto(labels[run], np.array(label, dtype=self.dtype), where=wins)
        missing = coverage.reshape(-1) != DONE
        np.copyto(labels, np.array(self.nodata, dtype=self.dtype), where=missing)
        return labels.reshape(coverage.shape)


def _runs(size: int) -> Iterator[slice]:
    """Pixels that a processor's cache holds with all that is computed of them."""
    for start in range(0, size, _RUN):
        yield slice(start, start + _RUN)


def _level(threshold: float) -> int:
    """Least stored value that reaches a threshold: 0.5 is 128 of 255."""
    return math.ceil(threshold * 255 - 1e-9)


def labels(
    store: ProbabilityStore, settings: SegmentSettings, suppress: Sequence[str] = ()
) -> LazyLabels:
    """Lazy labels ``[plane, y, x]`` of a store; its ``nodata`` is the largest value of its type."""
    return LazyLabels(store, settings, suppress)
