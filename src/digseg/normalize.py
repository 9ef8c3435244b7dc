"""Pixel values to the model's [0, 1], by data set and never by tile. Level 3: pure functions.

The same rule serves training, evaluation and use: 8-bit pictures keep their scale (0 to 255), all
other rasters are stretched between two percentiles of the whole data set, a CT between the bounds
of its window, an MR between percentiles of the whole volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digseg.types import AnyArray, BoolArray, Float32Array, Window


@dataclass(frozen=True)
class Stretch:
    """Lower and upper value of each channel that become 0 and 1."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, pixels: AnyArray) -> Float32Array:
        """Stretch ``[channel, ...]`` to ``float32`` in [0, 1], clipped; NaN becomes 0."""
        shape = (-1,) + (1,) * (pixels.ndim - 1)
        low = np.asarray(self.low, dtype=np.float32).reshape(shape)
        span = np.asarray(self.high, dtype=np.float32).reshape(shape) - low
        # A flat channel has no span; it becomes 0 instead of dividing by nothing.
        span = np.where(span > 0, span, np.float32(np.inf))
        # In place: tiles are read beside a model that wants the memory's speed for itself.
        scaled: Float32Array = np.subtract(pixels, low, dtype=np.float32, casting="unsafe")
        scaled /= span
        np.clip(scaled, 0.0, 1.0, out=scaled)
        if pixels.dtype.kind == "f":
            scaled[np.isnan(scaled)] = 0.0
        return scaled


def is_display_ready(dtype: np.dtype[Any]) -> bool:
    """Whether values are a picture already (8-bit), so that no stretch is wanted."""
    return np.dtype(dtype) == np.uint8


def stretch_of(
    samples: AnyArray,
    valid: BoolArray,
    dtype: np.dtype[Any],
    percentiles: tuple[float, float] = (2.0, 98.0),
) -> Stretch:
    """Stretch for sampled pixels.

    Parameters
    ----------
    samples
        ``[channel, n]`` pixels drawn from the whole data set.
    valid
        ``bool [n]``: False where a pixel is nodata.
    dtype
        Type in the file: 8-bit pictures are left as they are.
    percentiles
        Lower and upper percentile.
    """
    channels = samples.shape[0]
    if is_display_ready(dtype):
        return Stretch((0.0,) * channels, (255.0,) * channels)
    low, high = [], []
    for channel in samples:
        values = channel[valid].astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            low.append(0.0)
            high.append(1.0)
            continue
        lower, upper = np.percentile(values, percentiles)
        if not upper > lower:  # nearly constant: fall back to the extremes
            lower, upper = values.min(), values.max()
        low.append(float(lower))
        high.append(float(upper))
    return Stretch(tuple(low), tuple(high))


def looks_like_hounsfield(samples: AnyArray) -> bool:
    """Whether voxels ``[n]`` of an unnamed modality are a CT's Hounsfield units.

    Air is -1000 (scanners pad with -1024 to -3072) and hardly anything lies above 2000; an MR has
    no such negatives, and an MR phase image reaches as far up as down.
    """
    values = samples[np.isfinite(samples)] if samples.dtype.kind == "f" else samples
    if not values.size:
        return False
    low, high = float(values.min()), float(np.percentile(values, 99))
    return -3100 <= low <= -500 and 0 < high < 0.8 * max(2000.0, -low) and high < 2000


def sample_windows(shape: tuple[int, int], count: int = 16, side: int = 256) -> Iterator[Window]:
    """A fixed lattice of about ``count`` square windows over a plane, the same on every run."""
    rows, columns = shape
    if rows * columns <= count * side * side:
        yield (0, rows, 0, columns)
        return
    # Spread over both axes in proportion, so that a long strip is sampled along its length.
    down = max(1, min(count, round((count * rows / columns) ** 0.5)))
    across = max(1, count // down)
    for i in range(down):
        for j in range(across):
            top = _start(rows, side, i, down)
            left = _start(columns, side, j, across)
            yield (top, min(rows, top + side), left, min(columns, left + side))


def _start(length: int, side: int, index: int, count: int) -> int:
    centre = (2 * index + 1) * length // (2 * count)
    return max(0, min(length - side, centre - side // 2))


def three_channels(pixels: AnyArray) -> AnyArray:
    """``[1, ...]`` to three equal channels; ``[3, ...]`` as it is."""
    if pixels.shape[0] == 3:
        return pixels
    return np.repeat(pixels[:1], 3, axis=0)


# Names under which common sensors and drivers list red, green and blue.
_RGB_NAMES: Sequence[tuple[str, ...]] = (
    ("red", "r", "b4", "b04"),
    ("green", "g", "b3", "b03"),
    ("blue", "b", "b2", "b02"),
)
_NEAR_INFRARED = ("nir", "b8", "b08", "near infrared")


def default_bands(names: Sequence[str], colors: Sequence[str] = ()) -> tuple[int, ...]:
    """Bands (from 0) to show as red, green and blue.

    Colour interpretation first, then band names, then the first three bands; one or two bands
    give the first alone.
    """
    return _told_bands(names, colors) or ((0, 1, 2) if len(names) >= 3 else (0,))


def _told_bands(names: Sequence[str], colors: Sequence[str]) -> tuple[int, int, int] | None:
    """Red, green and blue by colour interpretation or name; `None` where they are not told."""
    lowered = [str(color).lower() for color in colors]
    if all(color in lowered for color in ("red", "green", "blue")):
        return lowered.index("red"), lowered.index("green"), lowered.index("blue")
    words = [str(name).lower().replace("_", " ").split() for name in names]
    found = []
    for wanted in _RGB_NAMES:
        hit = next((i for i, parts in enumerate(words) if set(parts) & set(wanted)), None)
        if hit is not None:
            found.append(hit)
    return (found[0], found[1], found[2]) if len(set(found)) == 3 else None


def near_infrared_band(names: Sequence[str], colors: Sequence[str] = ()) -> int | None:
    """The band of near infrared (from 0), by colour interpretation or name; `None` without one.

    Sentinel-2's numbers count (B8), Landsat's don't: B5 is another thing on another sensor.
    """
    for told in (colors, names):
        lowered = [str(word).lower().replace("_", " ").strip() for word in told]
        for wanted in _NEAR_INFRARED:
            if wanted in lowered:
                return lowered.index(wanted)
    return None


def false_colour_bands(
    names: Sequence[str], colors: Sequence[str] = ()
) -> tuple[int, int, int] | None:
    """Near infrared, red and green (from 0); `None` where one of them can't be told."""
    near, shown = near_infrared_band(names, colors), _told_bands(names, colors)
    return None if near is None or shown is None else (near, shown[0], shown[1])
