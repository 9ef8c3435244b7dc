"""A model shown magnified (or reduced) pixels, and its answer brought back without a shift.

A volume's planes may be tiny, squeezed (pixels that are not square) or far finer than what a
model knows. The planes, the store and the labels keep the file's own pixels; only what goes
through the network is resampled, tile by tile, and the soft masks come back the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digseg.orientation import Axis
from digseg.prompts import Prompt
from digseg.raster import Raster, Volume
from digseg.resample import Rescale, rescale
from digseg.run.scales import Averaged, AveragedEncoder
from digseg.run.volumes import plane_turn
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, Encoded, EncodingModel, Float32Array, SegmentationModel

#: Pixels whose sides differ by less than this factor are square enough to be left alone.
SQUARE_ENOUGH = 1.25
#: Planes whose longer side has fewer pixels than this are magnified, at most `LARGEST` times.
SMALL, LARGEST = 224, 4.0
#: A scan's planes are reduced to the side that a model recommends, at most so far: a tile of 512
#: pixels still fills the crops of training.
LEAST = 0.5

Factors = tuple[float, float]
Plane = tuple[int, int]
#: No tile reaches beyond such a plane.
ENDLESS: Plane = (1 << 30, 1 << 30)


def magnification(
    volume: Volume,
    settings: SegmentSettings,
    axis: Axis | None = None,
    recommended: Mapping[str, Any] | None = None,
) -> Factors:
    """How many times taller and wider the model sees the pixels of the planes across ``axis``.

    With ``settings.spacing`` as asked (0: as they are). Else squeezed pixels are made square, the
    finer side kept, so that nothing is lost; planes of a CT or an MR are shown as large as the
    model recommends, so that organs look as they did in training; of other volumes (a cell has any
    size) those too small to show much are magnified.

    Parameters
    ----------
    recommended
        Of the model: ``plane`` is the longer side of a scan's planes in pixels.
    """
    grid = plane_turn(volume.grid, settings, axis).grid(volume.grid)
    _, rows, columns = grid.shape
    _, high, wide = grid.spacing
    if settings.spacing is not None:
        return (
            (1.0, 1.0)
            if settings.spacing == 0
            else (high / settings.spacing, wide / settings.spacing)
        )
    tall, broad = 1.0, 1.0
    if max(high, wide) >= SQUARE_ENOUGH * min(high, wide):
        tall, broad = high / min(high, wide), wide / min(high, wide)
    longest = max(rows * tall, columns * broad)
    factor = min(LARGEST, max(1.0, SMALL / longest))
    usual = int((recommended or {}).get("plane", 0))
    if usual and volume.modality != "other":
        factor = min(LARGEST, max(LEAST, usual / longest))
    return tall * factor, broad * factor


def magnified(
    model: SegmentationModel,
    factors: Factors,
    plane: Plane = ENDLESS,
    scales: Sequence[float] = (),
) -> SegmentationModel:
    """The model behind a magnifying glass; the model itself where the factors are 1.

    Parameters
    ----------
    plane
        Rows and columns of the planes that tiles are cut from.
    scales
        On top of the factors; the answers at several are averaged. None of them is 1 alone.
    """
    high, wide = factors
    seen = tuple(_at(model, (high * s, wide * s), plane) for s in scales or (1.0,))
    if len(seen) == 1:
        return seen[0]
    encoders = tuple(one for one in seen if isinstance(one, EncodingModel))
    return AveragedEncoder(encoders) if len(encoders) == len(seen) else Averaged(seen)


def _at(model: SegmentationModel, factors: Factors, plane: Plane) -> SegmentationModel:
    if factors == (1.0, 1.0):
        return model
    if isinstance(model, EncodingModel):
        return MagnifiedEncoder(model, factors, plane)
    return Magnified(model, factors, plane)


def plane_shape(volume: Volume, settings: SegmentSettings, axis: Axis | None = None) -> Plane:
    """Rows and columns of the planes across ``axis`` (the settings')."""
    _, rows, columns = plane_turn(volume.grid, settings, axis).grid(volume.grid).shape
    return rows, columns


def fitted(
    model: SegmentationModel,
    image: Raster | Volume,
    settings: SegmentSettings,
    axis: Axis | None = None,
) -> SegmentationModel:
    """The model as it looks at an image; at a volume's planes across ``axis`` (the settings')."""
    if not isinstance(image, Volume):
        return magnified(model, (1.0, 1.0), image.shape, settings.scales)
    factors = magnification(image, settings, axis, getattr(model, "recommended", None))
    return magnified(model, factors, plane_shape(image, settings, axis), settings.scales)


@dataclass(frozen=True)
class Magnified:
    """A `SegmentationModel` that sees each tile ``factors`` times taller and wider.

    A model that recommends a canvas sees what is smaller in the middle of it, black around, as it
    did in training; what a tile holds beyond the ``plane`` (its mirror image) is left out then.
    """

    model: SegmentationModel
    factors: Factors
    plane: Plane = ENDLESS

    @property
    def identity(self) -> str:
        told = f"{self.model.identity}|magnified {self.factors[0]:.9g} {self.factors[1]:.9g}"
        told += f"|canvas {self.canvas} {self.plane}" if self.canvas else ""
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def canvas(self) -> int:
        """Side of the black canvas on which smaller tiles are shown, as in training; 0: none."""
        return int(getattr(self.model, "recommended", {}).get("canvas", 0))

    @property
    def multiple(self) -> int:
        """Any tile will do: what the network sees is rounded to its own multiple."""
        return 1

    @property
    def preferred_batch(self) -> int:
        """As many tiles at once as the model itself likes."""
        return int(getattr(self.model, "preferred_batch", 1))

    def vram_bytes(self, tile: tuple[int, int], prompts: int, batch: int) -> int | None:
        """Peak on the GPU for a batch of tiles, at the size that the network sees.

        `None` where the model can't tell.
        """
        told = getattr(self.model, "vram_bytes", None)
        if not callable(told):
            return None
        rows, columns = self._scales(*tile)
        shape = max(rows.new, self.canvas), max(columns.new, self.canvas)
        return int(told(shape, prompts, batch))

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        height, width = tiles.shape[-2:]
        return self._back(self.model(self._seen(tiles), prompts), height, width)

    def _seen(self, tiles: AnyArray) -> Float32Array:
        """What the network sees of tiles ``[..., H, W]``."""
        rows, columns = self._scales(*tiles.shape[-2:])
        whole = (0, rows.new, 0, columns.new)
        inside = tiles[..., : rows.old, : columns.old]
        shown = np.clip(rescale(inside, rows, columns, whole), 0.0, 1.0)
        margins = [(0, 0)] * (shown.ndim - 2) + [self._margin(rows), self._margin(columns)]
        return np.pad(shown, margins)

    def _back(self, answers: AnyArray, height: int, width: int) -> Float32Array:
        """Answers to what `_seen` gave, as large as the tiles; 0 beyond the plane."""
        rows, columns = self._scales(height, width)
        (top, _), (left, _) = self._margin(rows), self._margin(columns)
        shown = answers[..., top : top + rows.new, left : left + columns.new]
        whole = (0, rows.old, 0, columns.old)
        inside = np.clip(rescale(shown, rows.inverse, columns.inverse, whole), 0.0, 1.0)
        beyond = [(0, 0)] * (inside.ndim - 2) + [(0, height - rows.old), (0, width - columns.old)]
        return np.pad(inside, beyond)

    def _margin(self, axis: Rescale) -> tuple[int, int]:
        missing = max(0, self.canvas - axis.new)
        return missing // 2, missing - missing // 2

    def _scales(self, height: int, width: int) -> tuple[Rescale, Rescale]:
        step = self.model.multiple
        if self.canvas:
            height, width = min(height, self.plane[0]), min(width, self.plane[1])
        new = (
            max(step, round(side * factor / step) * step)
            for side, factor in zip((height, width), self.factors, strict=True)
        )
        return Rescale(height, next(new)), Rescale(width, next(new))


@dataclass(frozen=True)
class MagnifiedEncoder(Magnified):
    """The same for a model that keeps what it read of a tile."""

    model: EncodingModel

    def encode(self, tiles: Float32Array) -> Encoded:
        """Tiles ``float32 [N, 3, H, W]`` to arrays worth keeping, with the tile's own size."""
        size = np.tile(np.array(tiles.shape[-2:], dtype=np.int32), (len(tiles), 1))
        return {**self.model.encode(self._seen(tiles)), "tile_size": size}

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        inner = {name: array for name, array in encoded.items() if name != "tile_size"}
        height, width = (int(side) for side in encoded["tile_size"][0])
        return self._back(self.model.decode(inner, prompts), height, width)
