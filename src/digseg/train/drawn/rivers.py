"""Rivers drawn into satellite scenes: narrow water, of which small sets show hardly any.

At ten metres a pixel a river is often a few pixels wide, and dark in every band. Where labelled
scenes hold coasts and floods alone, a model takes it for the trees on its banks.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from digseg.train.looks import within
from digseg.types import BoolArray, Float32Array, UInt8Array

#: Narrowest and widest, pixels.
_WIDTHS = (2.0, 14.0)
#: The line is drawn this much finer, then averaged, so that banks are mixed pixels.
_FINER = 4


def with_river(
    image: Float32Array, labels: UInt8Array, water: int, rng: np.random.Generator
) -> tuple[Float32Array, UInt8Array]:
    """A picture with a river through it.

    Parameters
    ----------
    image, labels
        ``float32 [3, H, W]`` in [0, 1] and ``uint8 [H, W]``.
    water
        Class id that the river gets where it covers half of a pixel or more.

    Returns
    -------
    Both, changed; those given stay as they are.
    """
    inside = within(image, labels)
    if not inside.any():
        return image, labels
    cover = _course(labels.shape, rng) * inside  # [H,W]
    color = _color(image, labels == water, inside, rng)  # [3,1,1]
    ripples = rng.normal(0, 0.008, image.shape).astype(np.float32)
    drawn = image * (1 - cover) + np.clip(color + ripples, 0, 1) * cover
    flooded = labels.copy()
    flooded[cover >= 0.5] = water
    return drawn.astype(np.float32), flooded


def _course(shape: tuple[int, ...], rng: np.random.Generator) -> Float32Array:
    """How much of each pixel a winding line from edge to edge covers, 0 to 1."""
    rows, columns = shape
    reach = float(np.hypot(rows, columns))
    along = np.linspace(-0.6, 0.6, 240) * reach
    across = np.full_like(along, rng.uniform(-0.3, 0.3) * reach)
    for bends in rng.uniform(0.5, 6.0, 4):  # of the whole course: wide sweeps, then meanders
        phase = rng.uniform(0, 2 * np.pi)
        size = rng.uniform(0.2, 1.0) * 0.12 * reach / max(1.0, bends)
        across += size * np.sin(2 * np.pi * bends * along / reach + phase)
    angle = rng.uniform(0, 2 * np.pi)
    x = (columns / 2 + np.cos(angle) * along - np.sin(angle) * across) * _FINER
    y = (rows / 2 + np.sin(angle) * along + np.cos(angle) * across) * _FINER
    low, high = np.log(_WIDTHS)
    width = np.exp(rng.uniform(low, high)) * _FINER
    swell = 1 + 0.35 * np.sin(rng.uniform(1, 5) * np.linspace(0, 2 * np.pi, along.size))
    sheet = Image.new("L", (columns * _FINER, rows * _FINER))
    draw = ImageDraw.Draw(sheet)
    for i in range(along.size - 1):
        wide = max(1.0, width * swell[i])
        draw.line((x[i], y[i], x[i + 1], y[i + 1]), 255, round(wide))
        draw.circle((x[i], y[i]), wide / 2, 255)  # no notches where it bends
    covered = sheet.resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(covered, dtype=np.float32) / np.float32(255)


def _color(
    image: Float32Array, water: BoolArray, inside: BoolArray, rng: np.random.Generator
) -> Float32Array:
    """The colour of water that the picture holds, or about its darkest in each channel."""
    if water.sum() >= 30 and rng.random() < 0.5:
        seen = image[:, water]  # [3,n]
        held = seen[:, rng.integers(seen.shape[1], size=8)].mean(axis=1)
        return np.asarray(held, dtype=np.float32)[:, None, None]
    dark = np.percentile(image[:, inside][:, ::7], rng.uniform(0.5, 5.0), axis=1)
    murk = rng.uniform(0, 0.06) * rng.uniform(0.3, 1.0, 3)
    return (dark * rng.uniform(0.6, 1.05) + murk).astype(np.float32)[:, None, None]
