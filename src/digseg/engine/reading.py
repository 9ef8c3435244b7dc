"""Tiles read ahead of the model, in the order in which they will be needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from digseg.engine.plan import Batch
from digseg.tiles import Lattice, Tile
from digseg.types import BoolArray, Float32Array, TileSource

#: Faults of a file, a disk or a network that may pass; a programming error is none of them.
READ_FAULTS = (OSError, RuntimeError, ValueError)
_ATTEMPTS = 3
_PAUSE = 0.05  # seconds before the second attempt, doubled before the next


@dataclass(frozen=True)
class ReadTile:
    """A tile as read.

    Parameters
    ----------
    pixels
        ``float32 [3, H, W]`` of the whole tile, mirrored beyond the plane; `None` where the tile
        holds no data or could not be read.
    valid
        ``bool`` inside the plane; `None` where the tile could not be read.
    reason
        Why it could not be read.
    """

    tile: Tile
    pixels: Float32Array | None
    valid: BoolArray | None
    reason: str = ""


def read_batch(source: TileSource, lattice: Lattice, batch: Batch) -> list[ReadTile]:
    """Read the tiles of a batch; a tile that fails three times is reported, not raised."""
    return [read_tile(source, lattice, tile) for tile in batch]


def read_tile(
    source: TileSource,
    lattice: Lattice,
    tile: Tile,
    pause: Callable[[float], None] = time.sleep,
) -> ReadTile:
    window = lattice.window(tile)
    for attempt in range(_ATTEMPTS):
        try:
            pixels, valid = source.read(tile.plane, window)
            break
        except READ_FAULTS as error:
            reason = f"{type(error).__name__}: {error}"
            if attempt + 1 < _ATTEMPTS:
                pause(_PAUSE * 2**attempt)
    else:
        return ReadTile(tile, None, None, reason)
    if not valid.any():
        # One False for all pixels: of a sparse scene, hundreds of such tiles may wait in a row.
        return ReadTile(tile, None, np.broadcast_to(np.False_, valid.shape))
    return ReadTile(tile, padded(pixels, lattice.tile_shape), valid)


def padded(pixels: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """``[3, h, w]`` mirrored at its lower and right border up to ``shape``."""
    down, right = shape[0] - pixels.shape[1], shape[1] - pixels.shape[2]
    if not (down or right):
        return np.ascontiguousarray(pixels, dtype=np.float32)
    filled = np.pad(pixels, ((0, 0), (0, down), (0, right)), mode="symmetric")
    return np.ascontiguousarray(filled, dtype=np.float32)
