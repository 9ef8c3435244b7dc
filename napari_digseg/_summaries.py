"""A store in few numbers: how often each probability occurs, what is covered. No napari, no Qt."""

from __future__ import annotations

import numpy as np

from digseg.engine import ProbabilityStore
from digseg.lazy import box
from digseg.types import AnyArray, UInt8Array


def histograms(store: ProbabilityStore) -> dict[str, AnyArray]:
    """How often each probability (0 to 255) occurs, by prompt name, in the coarsest level."""
    array = store.levels[-1]
    planes = int(array.shape[1])
    step = max(1, planes // 24)
    counts = {}
    for index, prompt in enumerate(store.prompts):
        total = np.zeros(256, np.int64)
        for plane in range(0, planes, step):
            values = np.asarray(array[index, plane])
            total += np.bincount(values.ravel(), minlength=256)
        counts[prompt.name] = total
    return counts


def coverage_map(store: ProbabilityStore, most: int = 512) -> tuple[UInt8Array, int]:
    """Coverage ``[plane, y, x]`` reduced by a whole factor, and that factor; failures win.

    A failed pixel must be seen however far one is zoomed out.
    """
    planes, rows, columns = store.shape
    factor = max(1, -(-max(rows, columns) // most))
    shape = (planes, -(-rows // factor), -(-columns // factor))
    result = np.zeros(shape, np.uint8)
    for block in store.plan.blocks():
        window = store.plan.window(block)
        span = store.plan.planes(block)
        read_coverage(store, result, factor, (span.start, span.stop), window)
    return result, factor


def read_coverage(
    store: ProbabilityStore,
    into: UInt8Array,
    factor: int,
    planes: tuple[int, int],
    window: tuple[int, int, int, int],
) -> None:
    """Bring a part of a reduced coverage map up to date."""
    _, rows, columns = store.shape
    top, bottom = window[0] // factor * factor, min(rows, -(-window[1] // factor) * factor)
    left, right = window[2] // factor * factor, min(columns, -(-window[3] // factor) * factor)
    values = box(store.coverage, (planes, (top, bottom), (left, right)))
    # Worst first: failed (2), pending (0), done (1), nodata (3).
    worth = np.array([2, 1, 3, 0], np.uint8)[values]
    starts_y = np.arange(0, bottom - top, factor)
    starts_x = np.arange(0, right - left, factor)
    worst = np.maximum.reduceat(np.maximum.reduceat(worth, starts_y, axis=1), starts_x, axis=2)
    y, x = top // factor, left // factor
    shown = np.array([3, 1, 0, 2], np.uint8)[worst]
    into[planes[0] : planes[1], y : y + shown.shape[1], x : x + shown.shape[2]] = shown
