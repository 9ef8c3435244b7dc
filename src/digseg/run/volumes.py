"""A volume as the engine reads it, plane by plane, and the answer back in the file's voxel order.

Three frames, from the file to the model and back, none of which ever moves a voxel in the world:

1. the file's own voxel order ``[z, y, x]``, any of 48 orientations (`digseg.orientation`);
2. planes ``[plane, row, column]`` as a radiologist looks at them;
3. the same planes with the pixels that the model sees: another number of pixels where the file's
   are not square (or ``spacing`` asks for it), the very same ones everywhere else.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digseg.grid import Grid
from digseg.lazy import Bounds, WindowArray, box
from digseg.normalize import Stretch, looks_like_hounsfield, stretch_of
from digseg.orientation import Axis, Turn, canonical, planes_across
from digseg.raster import Volume
from digseg.resample import Rescale, rescale
from digseg.run.sources import array_identity
from digseg.settings import CT_WINDOWS, SegmentSettings
from digseg.types import AnyArray, BoolArray, Float32Array, LazyArray, Window

#: In-plane pixels whose sides differ by less than this factor are left as they are.
SQUARE_ENOUGH = 1.25

# Percentiles are taken over all voxels up to this many, over a fixed lattice of them above.
_SAMPLES = 1 << 24
_SLAB_BYTES = 16 << 20
_SLABS = 3


@dataclass(frozen=True)
class PlaneGeometry:
    """Where the model's planes lie in a volume.

    Parameters
    ----------
    grid
        The file's grid.
    turn
        From the file's voxel order to ``[plane, row, column]``.
    rows, columns
        In-plane resampling; ``old == new`` keeps the file's pixels.
    """

    grid: Grid
    turn: Turn
    rows: Rescale
    columns: Rescale

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(planes, rows, columns)`` as the model sees them."""
        return self.turn.shape(self.grid.shape)[0], self.rows.new, self.columns.new

    @property
    def exact(self) -> bool:
        """Whether the model's pixels are the file's own."""
        return self.rows.old == self.rows.new and self.columns.old == self.columns.new

    @property
    def plane_grid(self) -> Grid:
        """Grid of the planes as the model sees them, in the same world."""
        turned = self.turn.grid(self.grid)
        return turned if self.exact else turned.scaled(self.shape)

    def to_file(self, planes: LazyArray) -> LazyArray:
        """``[..., plane, row, column]`` as the model sees it to the file's ``[..., z, y, x]``.

        Lazy. Without resampling values are moved, never changed; with it they are interpolated in
        the plane, so give probabilities, not labels.
        """
        return self.turn.inverse.lazy(self._unscaled(planes))

    def _unscaled(self, planes: LazyArray) -> LazyArray:
        if self.exact:
            return planes
        rows, columns = self.rows.inverse, self.columns.inverse
        lead = tuple(int(side) for side in planes.shape[:-2])

        def read(bounds: Bounds) -> AnyArray:
            (top, bottom), (left, right) = bounds[-2:]
            around = (*bounds[:-2], rows.reach(top, bottom), columns.reach(left, right))
            values = rescale(box(planes, around), rows, columns, (top, bottom, left, right))
            if np.dtype(planes.dtype).kind in "ui":
                values = np.rint(values)
            return values.astype(planes.dtype)

        return WindowArray((*lead, rows.new, columns.new), planes.dtype, read)


def plane_geometry(
    grid: Grid, settings: SegmentSettings, axis: Axis | None = None
) -> PlaneGeometry:
    """Planes across ``axis`` (by default the settings'; the axial one where all three are fused).

    Axes are the patient's: ``z`` gives axial planes whatever the order of the file. A fused
    volume keeps the file's pixels, because its three runs have to meet on one lattice.
    """
    fused = axis is None and settings.planes == "zyx"
    chosen: Axis = axis or ("z" if settings.planes == "zyx" else settings.planes)
    turn = canonical(grid).then(planes_across(chosen))
    turned = turn.grid(grid)
    _, rows, columns = turned.shape
    if fused:
        return PlaneGeometry(grid, turn, Rescale(rows, rows), Rescale(columns, columns))
    _, high, wide = turned.spacing
    target_high, target_wide = _pixel_size(high, wide, settings)
    return PlaneGeometry(
        grid,
        turn,
        Rescale(rows, max(1, round(rows * high / target_high))),
        Rescale(columns, max(1, round(columns * wide / target_wide))),
    )


def _pixel_size(high: float, wide: float, settings: SegmentSettings) -> tuple[float, float]:
    """Height and width of the model's pixels, in world units."""
    if settings.spacing is not None:
        return (settings.spacing or high), (settings.spacing or wide)
    if max(high, wide) < SQUARE_ENOUGH * min(high, wide):
        return high, wide
    # Organs squeezed to half their width are not the shapes the model knows; the finer side is
    # kept, so that nothing that can be seen in the file is lost.
    return min(high, wide), min(high, wide)


@dataclass(frozen=True, eq=False)
class VolumeSource:
    """A `digseg.types.TileSource`: the planes of a volume, three channels in [0, 1].

    Parameters
    ----------
    volume
        Where voxels come from.
    geometry
        Which planes, and with which pixels.
    stretch
        Values that become 0 and 1, one pair for the whole volume.
    context
        The outer channels are the neighbouring planes (the border plane is its own neighbour);
        else all three channels are the plane itself.
    """

    volume: Volume
    geometry: PlaneGeometry
    stretch: Stretch
    context: bool = True
    _slabs: _Slabs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_slabs", _Slabs(self.geometry.turn.lazy(self.volume.data)))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.geometry.shape

    @property
    def identity(self) -> str:
        source = self.volume.source
        content = source.identity if source is not None else array_identity(self.volume.data)
        geometry = self.geometry
        told = (
            f"{content}|{geometry.grid.affine}|{geometry.turn}|{geometry.shape}"
            f"|{self.stretch}|{self.context}"
        )
        return hashlib.sha256(told.encode()).hexdigest()

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """Pixels ``float32 [3, h, w]`` and validity ``bool [h, w]`` of a window of a plane.

        NaN voxels are no data; everything else is valid.
        """
        planes = self.shape[0]
        if not 0 <= plane < planes:
            raise IndexError(f"plane {plane} is outside a volume with {planes} planes")
        if self.context and planes > 1:
            neighbours = [max(0, plane - 1), plane, min(planes - 1, plane + 1)]
        else:
            neighbours = [plane]
        rows, columns = self.geometry.rows, self.geometry.columns
        top, bottom, left, right = window
        if self.geometry.exact:
            reach = window
        else:
            reach = (*rows.reach(top, bottom), *columns.reach(left, right))
        values = np.stack([self._slabs.read(index, reach) for index in neighbours])
        valid = np.ones((bottom - top, right - left), dtype=bool)
        missing = np.isnan(values) if values.dtype.kind == "f" else None
        tile = self.stretch.apply(values)
        if missing is not None and missing.any():
            own = missing[len(neighbours) // 2].astype(np.float32)
            if not self.geometry.exact:
                own = rescale(own, rows, columns, window)
            valid = own < 0.5
        if not self.geometry.exact:
            tile = np.clip(rescale(tile, rows, columns, window), 0.0, 1.0)
        if len(tile) == 1:
            tile = np.repeat(tile, 3, axis=0)
        return np.ascontiguousarray(tile * valid), valid


def volume_source(
    volume: Volume, settings: SegmentSettings, axis: Axis | None = None
) -> VolumeSource:
    """The planes of a volume for one run of the engine; `PlaneGeometry.to_file` is the way back.

    Parameters
    ----------
    axis
        Slice axis; the settings' by default. A run over all three planes makes a source of each.
    """
    if axis is None and settings.planes == "zyx":
        axis = "z"
    geometry = plane_geometry(volume.grid, settings, axis)
    return VolumeSource(volume, geometry, volume_stretch(volume, settings), settings.context)


def volume_stretch(volume: Volume, settings: SegmentSettings) -> Stretch:
    """Values that become 0 and 1: a CT's window in HU, else percentiles of the whole volume."""
    window = settings.window
    if window is None and volume.modality == "CT":
        window = CT_WINDOWS["soft-tissue"]
    if window is None:
        samples = _sampled(volume.data)
        if volume.modality == "other" and looks_like_hounsfield(samples):
            window = CT_WINDOWS["soft-tissue"]
        else:
            return stretch_of(
                samples.astype(np.float32)[None],
                np.ones(samples.size, dtype=bool),
                np.dtype(np.float32),
                settings.percentiles,
            )
    return Stretch((window[0],), (window[1],))


def _sampled(data: LazyArray) -> AnyArray:
    """All voxels of a volume, or evenly spread whole slices with evenly spread pixels."""
    shape = tuple(int(side) for side in data.shape)
    if int(np.prod(shape)) <= _SAMPLES:
        return np.asarray(data[:, :, :]).ravel()
    planes = np.unique(np.linspace(0, shape[0] - 1, 64).round().astype(int))
    step = max(1, int(np.ceil((shape[1] * shape[2] * len(planes) / _SAMPLES) ** 0.5)))
    return np.concatenate([np.asarray(data[int(p)])[::step, ::step].ravel() for p in planes])


class _Slabs:
    """Planes read in slabs of neighbours, the last few kept: context asks for each plane thrice.

    Memory stays below `_SLABS` x `_SLAB_BYTES` (or as many planes). Safe from several threads.
    """

    def __init__(self, data: LazyArray) -> None:
        self._data = data
        count, rows, columns = (int(side) for side in data.shape)
        plane_bytes = rows * columns * np.dtype(data.dtype).itemsize
        self._count = count
        self._thick = max(1, min(count, _SLAB_BYTES // max(1, plane_bytes)))
        self._kept: OrderedDict[int, AnyArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, plane: int, window: Window) -> AnyArray:
        top, bottom, left, right = window
        index, inside = divmod(plane, self._thick)
        with self._lock:
            slab = self._kept.get(index)
            if slab is None:
                start = index * self._thick
                slab = np.asarray(self._data[start : min(self._count, start + self._thick)])
                self._kept[index] = slab
                while len(self._kept) > _SLABS:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(index)
        return slab[inside, top:bottom, left:right]

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads for itself: neither the lock nor the pixels travel.
        return {**self.__dict__, "_kept": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
