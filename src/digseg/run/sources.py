"""A raster as the engine reads it: three channels in [0, 1], normalised by the whole data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from digseg.errors import BandError, UsageError
from digseg.normalize import (
    Stretch,
    default_bands,
    is_display_ready,
    sample_windows,
    stretch_of,
    three_channels,
)
from digseg.raster import Raster
from digseg.run.region import WHOLE
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, BoolArray, Float32Array, Window


@dataclass(frozen=True, eq=False)
class RasterSource:
    """One plane: the chosen bands of a raster, stretched.

    Parameters
    ----------
    raster
        Where pixels come from.
    bands
        One or three bands, from 0; with a palette, the one band whose colours are shown.
    stretch
        Values that become 0 and 1.
    palette
        ``uint8 [256, 3]`` for a raster with a colour table, else `None`.
    """

    raster: Raster
    bands: tuple[int, ...]
    stretch: Stretch
    palette: AnyArray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, *self.raster.shape)

    @property
    def identity(self) -> str:
        source = self.raster.source
        content = source.identity if source is not None else array_identity(self.raster.data)
        # The place tells parts of one file apart.
        place = self.raster.grid.affine
        told = f"{content}|{place}|{self.bands}|{self.stretch}|{self.palette is not None}"
        return hashlib.sha256(told.encode()).hexdigest()

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """Pixels ``float32 [3, h, w]`` and validity ``bool [h, w]`` of a window (plane 0)."""
        if plane != 0:
            raise IndexError(f"a raster has one plane, not plane {plane}")
        pixels = self.raster.read(window, self.bands)
        valid = self.raster.validity(window, pixels)
        if not valid.any():  # nobody looks at what lies there
            return np.zeros((3, *valid.shape), dtype=np.float32), valid
        if self.palette is not None:
            pixels = np.moveaxis(self.palette[pixels[0]], -1, 0)
        tile = self.stretch.apply(three_channels(pixels))
        if not valid.all():
            # What lies under nodata must not leak into the neighbours through the model.
            tile *= valid
        return tile, valid


def raster_source(raster: Raster, settings: SegmentSettings) -> RasterSource:
    """Choose bands and measure the stretch.

    Raises
    ------
    BandError
        A band that the raster does not have.
    UsageError
        A window in Hounsfield units, which no raster has.
    """
    if settings.window is not None:
        raise UsageError(
            "A CT window is for volumes, and the image is a raster: leave --window out."
        )
    palette = raster.meta.get("palette")
    bands = choose_bands(raster, settings.bands)
    if palette is not None and not settings.bands:
        table = np.asarray(palette, dtype=np.uint8)[:, :3]
        return RasterSource(raster, (0,), Stretch((0.0,) * 3, (255.0,) * 3), table)
    dtype = np.dtype(raster.data.dtype)
    if is_display_ready(dtype):
        stretch = Stretch((0.0,) * 3, (255.0,) * 3)
        return RasterSource(raster, bands, stretch)
    samples, valid = [], []
    # A part of a raster is stretched as the whole is.
    whole = raster.meta.get(WHOLE, raster)
    for window in sample_windows(whole.shape):
        pixels = whole.read(window, bands)
        samples.append(pixels.reshape(len(bands), -1))
        valid.append(whole.validity(window, pixels).ravel())
    measured = stretch_of(
        np.concatenate(samples, axis=1), np.concatenate(valid), dtype, settings.percentiles
    )
    if len(bands) == 1:
        measured = Stretch(measured.low * 3, measured.high * 3)
    return RasterSource(raster, bands, measured)


def choose_bands(raster: Raster, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Bands from 0 for those wanted (from 1), or the raster's own red, green and blue."""
    for band in wanted:
        if band > raster.bands:
            count = f"{raster.bands} band" + ("s" if raster.bands > 1 else "")
            raise BandError(f"There is no band {band}: the raster has {count}.")
    if wanted:
        return tuple(band - 1 for band in wanted)
    if np.dtype(raster.data.dtype).kind not in "uif":
        raise UsageError(f"Pixels of type {raster.data.dtype} can't be segmented.")
    return default_bands(raster.band_names, raster.meta.get("colors", ()))


def array_identity(data: object) -> str:
    """Identity of an array that came from no file: shape, type and a spread sample of values."""
    shape = tuple(int(side) for side in data.shape)  # type: ignore[attr-defined]
    digest = hashlib.sha256(f"{shape}|{data.dtype}".encode())  # type: ignore[attr-defined]
    steps = tuple(slice(None, None, max(1, side // 64)) for side in shape)
    digest.update(np.ascontiguousarray(np.asarray(data[steps])).tobytes())  # type: ignore[index]
    return digest.hexdigest()
