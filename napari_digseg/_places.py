"""Where to look twice: the least certain places of a run. No napari, no Qt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digseg.engine import ProbabilityStore
from digseg.orientation import Turn
from digseg.raster import Volume
from digseg.settings import SegmentSettings
from digseg.types import AnyArray

#: Places worth a visit at most, and the least doubt that is worth one.
MOST, LEAST = 50, 0.2
#: The same for the spread of an ensemble, whose largest value is rarely met.
LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class Place:
    """A place in a result.

    Parameters
    ----------
    index
        In the layer's spatial axes, from the result's first pixel.
    doubt
        From 0 to 1.
    """

    index: tuple[float, ...]
    doubt: float


def close_calls(
    store: ProbabilityStore, settings: SegmentSettings, turn: Turn | None = None, count: int = MOST
) -> list[Place]:
    """Where the best prompt stands closest to its threshold, the closest first.

    Doubt is that closeness averaged over a neighbourhood, 1 where all of it stands on the
    threshold. Places keep a neighbourhood's distance from each other.

    Parameters
    ----------
    turn
        From the store's planes to the layer's axes; `None` for a raster.
    """
    level = len(store.levels) - 1
    array, scale = store.levels[level], 1 << level
    thresholds = np.array(
        [round(255 * settings.threshold_of(prompt.name)) for prompt in store.prompts], np.int16
    )[:, None, None]
    found: list[Place] = []
    for plane in range(int(array.shape[1])):
        values = np.asarray(array[:, plane]).astype(np.int16)
        if not values.any():
            continue
        best = np.abs(values - thresholds).min(axis=0)
        for row, column, doubt in _peaks(1.0 - np.minimum(best, 128) / 128.0, LEAST, count):
            index = (float(plane), row * scale, column * scale)
            found.append(Place(_in_layer(index, store.shape, turn), doubt))
    return _most_doubtful(found, count)


def disagreements(path: Path, turn: Turn, count: int = MOST) -> list[Place]:
    """Where the runs of an ensemble differ most, from the spread that a run wrote.

    Doubt is the largest spread of any prompt averaged over a neighbourhood, 1 for the largest
    that there can be.

    Parameters
    ----------
    turn
        From the file's voxels to the layer's axes (volumes).
    """
    from digseg import io

    image = io.read(str(path))
    found: list[Place] = []
    if isinstance(image, Volume):
        data = turn.lazy(image.data)
        for plane in range(int(data.shape[0])):
            peaks = _peaks(np.asarray(data[plane]) / 255.0, LEAST_SPREAD, count)
            found += [Place((float(plane), row, column), doubt) for row, column, doubt in peaks]
        return _most_doubtful(found, count)
    coarse = [image.data, *image.levels][-1]
    factor = image.shape[0] / int(coarse.shape[1]), image.shape[1] / int(coarse.shape[2])
    spread = np.asarray(coarse[0, :, :]) / 255.0
    found = [
        Place((row * factor[0], column * factor[1]), doubt)
        for row, column, doubt in _peaks(spread, LEAST_SPREAD, count)
    ]
    return _most_doubtful(found, count)


def _most_doubtful(places: Iterable[Place], count: int) -> list[Place]:
    return sorted(places, key=lambda place: -place.doubt)[:count]


def _in_layer(
    index: tuple[float, float, float], shape: tuple[int, int, int], turn: Turn | None
) -> tuple[float, ...]:
    if turn is None:
        return index[1:]
    return tuple(
        shape[axis] - 1 - index[axis] if flip else index[axis]
        for axis, flip in zip(turn.order, turn.flips, strict=True)
    )


def _peaks(doubt: AnyArray, least: float, count: int) -> list[tuple[float, float, float]]:
    """Row, column and mean doubt of the neighbourhoods with the most of it."""
    size = max(4, max(doubt.shape) // 24)
    rows, columns = -(-doubt.shape[0] // size), -(-doubt.shape[1] // size)
    padded = np.zeros((rows * size, columns * size), np.float32)
    padded[: doubt.shape[0], : doubt.shape[1]] = doubt
    cells = padded.reshape(rows, size, columns, size).mean(axis=(1, 3)).ravel()
    return [
        (
            min(doubt.shape[0] - 1, (index // columns + 0.5) * size),
            min(doubt.shape[1] - 1, (index % columns + 0.5) * size),
            float(cells[index]),
        )
        for index in np.argsort(cells)[::-1][:count]
        if cells[index] > least
    ]
