"""Labels from stored probabilities: thresholds and arg-max, window by window, no inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from digseg.blend import DONE
from digseg.engine.store import ProbabilityStore
from digseg.errors import UsageError
from digseg.prompts import PromptSet, normalise
from digseg.raster import ClassTable
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, UInt8Array


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
        self.nodata = self._rule.nodata

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._coverage.shape)

    @property
    def ndim(self) -> int:
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._rule.dtype

    def __getitem__(self, key: Any, /) -> AnyArray:
        coverage = np.asarray(self._coverage[key])
        every = key if isinstance(key, tuple) else (key,)
        probabilities = np.asarray(self._probabilities[(slice(None), *every)])
        return self._rule(probabilities, coverage)


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
        self._ids = [0 if off else index for index, off in enumerate(negative, start=1)]
        self.dtype = ClassTable.of(prompts).dtype
        self.nodata = int(np.iinfo(self.dtype).max)

    def __call__(self, probabilities: UInt8Array, coverage: UInt8Array) -> AnyArray:
        """Labels ``[...]`` of ``uint8 [K, ...]`` and coverage ``[...]``; ties go to the first."""
        labels = np.zeros(coverage.shape, dtype=self.dtype)
        # One above the best so far; 0 until a prompt reaches its threshold.
        best = np.zeros(coverage.shape, dtype=np.uint16)
        for values, least, label in zip(probabilities, self._least, self._ids, strict=True):
            score = values.astype(np.uint16) + 1
            wins = (score > best) & (values >= least)
            np.copyto(best, score, where=wins)
            np.copyto(labels, np.array(label, dtype=self.dtype), where=wins)
        np.copyto(labels, np.array(self.nodata, dtype=self.dtype), where=coverage != DONE)
        return labels


def _level(threshold: float) -> int:
    """Least stored value that reaches a threshold: 0.5 is 128 of 255."""
    return math.ceil(threshold * 255 - 1e-9)


def labels(
    store: ProbabilityStore, settings: SegmentSettings, suppress: Sequence[str] = ()
) -> LazyLabels:
    """Lazy labels ``[plane, y, x]`` of a store; its ``nodata`` is the largest value of its type."""
    return LazyLabels(store, settings, suppress)
