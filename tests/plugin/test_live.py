"""Labels of a store that fills: true when nobody hurries, never waited for while a run goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari_digseg._live import LiveLabels

from digseg.blend import DONE
from digseg.prompts import PromptSet
from digseg.settings import SegmentSettings


class Gate:
    """Probabilities on a disk that answers when it is let."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.open = threading.Event()
        self.open.set()
        self.readers: set[int] = set()
        self.asked = threading.Event()

    def __getitem__(self, key: Any) -> Any:
        self.readers.add(threading.get_ident())
        self.asked.set()
        assert self.open.wait(10)
        return self.values[key]


@pytest.fixture
def scene() -> Iterator[SimpleNamespace]:
    """Two chunks beside each other; the left one is done and full of label 1."""
    values = np.zeros((1, 1, 512, 1024), np.uint8)
    coverage = np.zeros((1, 512, 1024), np.uint8)
    values[..., :512], coverage[..., :512] = 255, DONE
    gate = Gate(values)
    store = SimpleNamespace(
        prompts=PromptSet.parse(["water"]), levels=[gate], probabilities=gate, coverage=coverage
    )
    made = SimpleNamespace(gate=gate, coverage=coverage, running=True)
    store_any: Any = store
    made.live = LiveLabels(store_any, SegmentSettings(), filling=lambda: made.running)
    yield made
    gate.open.set()
    made.live.close()


def test_the_event_loop_never_waits_for_the_disk_while_a_run_goes(scene: Any) -> None:
    scene.gate.open.clear()
    (labels,) = scene.live.levels
    assert not labels[:, :600].any()  # at once, though the disk does not answer
    assert not scene.live.take_changed()
    scene.gate.open.set()
    assert scene.live.settle()
    assert scene.live.take_changed()
    shown = labels[:, :600]
    assert (shown[:, :512] == 1).all()
    assert not shown[:, 512:].any()
    assert threading.get_ident() not in scene.gate.readers


def test_a_block_that_comes_while_its_chunk_is_read_is_not_lost(scene: Any) -> None:
    scene.gate.open.clear()
    (labels,) = scene.live.levels
    assert not labels[...].any()
    # The thread waits for the left chunk; now a block comes in.
    scene.gate.values[:] = 255
    scene.coverage[:] = DONE
    scene.live.block_written(0, (0, 512, 0, 1024))
    scene.gate.open.set()
    assert scene.live.settle()
    assert (labels[...] == 1).all()


def test_every_answer_is_true_when_no_run_goes_and_in_other_threads(scene: Any) -> None:
    (labels,) = scene.live.levels
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(labels[:, :512]))
    other.start()
    other.join(10)
    assert (found[0] == 1).all()
    scene.running = False
    scene.gate.values[:] = 255
    scene.coverage[:] = DONE
    scene.live.block_written(0, (0, 512, 0, 1024))
    assert (labels[:, 512:] == 1).all()
    assert threading.get_ident() in scene.gate.readers


def test_what_is_no_longer_looked_at_is_not_computed(scene: Any) -> None:
    scene.gate.open.clear()
    (labels,) = scene.live.levels
    labels[:, :512]  # the thread begins with this one ...
    assert scene.gate.asked.wait(10)  # ... and has begun
    labels[:, 512:]
    labels[:, :512]  # the person went back before the other one was begun
    scene.gate.open.set()
    assert scene.live.settle()
    assert set(scene.live._chunks) == {(0, 0, 0, 0)}
