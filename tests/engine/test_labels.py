"""Thresholds, arg-max, negatives and nodata, against a plain rule pixel by pixel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digseg import engine
from digseg.engine import LabelRule, LazyLabels
from digseg.errors import UsageError
from digseg.prompts import PromptSet
from digseg.settings import SegmentSettings

from .conftest import ArraySource, Filter


@pytest.fixture
def store(tmp_path: Path, small: SegmentSettings) -> engine.ProbabilityStore:
    rng = np.random.default_rng(3)
    valid = np.ones((1, 90, 120), bool)
    valid[0, 5:20, 30:70] = False
    source = ArraySource(rng.random((1, 3, 90, 120)) ** 2, valid)
    prompts = PromptSet.parse(["a", "b"], ["c"])
    return engine.segment(source, Filter(radius=0), prompts, small, tmp_path / "s.zarr").store


def expected(store: engine.ProbabilityStore, least: list[float]) -> np.ndarray:
    values = np.asarray(store.probabilities[:])[:, 0] / 255
    coverage = np.asarray(store.coverage[0])
    out = np.zeros(coverage.shape, np.uint8)
    for y, x in np.ndindex(*out.shape):
        reached = [(-p, k) for k, p in enumerate(values[:, y, x]) if p >= least[k]]
        winner = min(reached)[1] if reached else None
        out[y, x] = 255 if coverage[y, x] != 1 else (winner + 1 if winner in (0, 1) else 0)
    return out


def test_labels_follow_the_rule(store: engine.ProbabilityStore) -> None:
    settings = SegmentSettings(threshold=0.3, thresholds={"B": 0.6})
    lazy = engine.labels(store, settings)
    got = lazy[0]
    assert (lazy.shape, lazy.dtype, lazy.nodata) == ((1, 90, 120), np.dtype(np.uint8), 255)
    assert np.array_equal(got, expected(store, [0.3, 0.6, 0.0]))
    assert set(np.unique(got)) == {0, 1, 2, 255}
    assert np.array_equal(lazy[0, 10:33, 50:120], got[10:33, 50:120])
    assert np.array_equal(lazy[:, 10:33, 50:120], got[None, 10:33, 50:120])


def test_a_suppressed_prompt_wins_pixels_but_labels_none(store: engine.ProbabilityStore) -> None:
    settings = SegmentSettings(threshold=0.2)
    plain = engine.labels(store, settings)[0]
    quiet = engine.labels(store, settings, suppress=["a"])[0]
    values = np.asarray(store.probabilities[:, 0])
    wins = (values[0] >= values[1:].max(axis=0)) & (plain != 255)
    assert np.all(quiet[wins] == 0)
    assert np.array_equal(quiet == 2, (plain == 2) & ~wins)


def test_a_threshold_for_an_unknown_prompt_is_refused(store: engine.ProbabilityStore) -> None:
    with pytest.raises(UsageError, match="no prompt 'tree'"):
        engine.labels(store, SegmentSettings(thresholds={"tree": 0.4}))


def test_a_large_box_is_found_in_pieces(
    store: engine.ProbabilityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SegmentSettings(threshold=0.3)
    whole = np.asarray(engine.labels(store, settings)[:, 7:83, 11:119])
    module = sys.modules[LazyLabels.__module__]  # `engine.labels` is the function
    monkeypatch.setattr(module, "_PIECE_SIDE", 32)
    monkeypatch.setattr(module, "_PIECE", 32 * 32)
    lazy = engine.labels(store, settings)
    seen: list[int] = []
    rule = LabelRule.__call__

    def counted(self: LabelRule, maps: Any, coverage: np.ndarray) -> np.ndarray:
        seen.append(coverage.size)
        return rule(self, maps, coverage)

    monkeypatch.setattr(LabelRule, "__call__", counted)
    assert np.array_equal(lazy[:, 7:83, 11:119], whole)
    assert sum(seen) == whole.size
    assert max(seen) <= 32 * 32
    assert lazy[0, 5:5, :].shape == (0, 120)
