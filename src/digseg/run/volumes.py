"""A volume as the engine reads it, plane by plane, and the answer back in the file's voxel order.

The file holds its voxels in any of 48 orders; the model sees planes ``[plane, row, column]`` as a
radiologist looks at them, and so does the probability store. Only whole voxels are moved between
the two (`digseg.orientation`), so what comes back lies where it was, to the bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.blend import NODATA
from digseg.grid import Grid
from digseg.lazy import Bounds, WindowArray, box
from digseg.normalize import Stretch, looks_like_hounsfield, stretch_of
from digseg.orientation import Axis, Turn, canonical, planes_across
from digseg.raster import Volume
from digseg.run.region import WHOLE
from digseg.run.slabs import Slabs
from digseg.run.sources import array_identity
from digseg.settings import CT_WINDOWS, SegmentSettings
from digseg.types import AnyArray, BoolArray, Float32Array, LazyArray, Window

if TYPE_CHECKING:
    from digseg.engine import ProbabilityStore

# Percentiles are taken over all voxels up to this many, over a fixed lattice of them above.
_SAMPLES = 1 << 24
_MAPPED = 32 << 20  # pages of a file that a reader may leave with the process
_PLANES = 16  # of a store, looked at together


def plane_turn(grid: Grid, settings: SegmentSettings, axis: Axis | None = None) -> Turn:
    """The turn from a file's voxel order to the planes across ``axis``.

    Axes are the patient's: ``z`` gives axial planes whatever the order of the file. By default
    the settings' axis; where all three are fused, the axial one.
    """
    chosen: Axis = axis or ("z" if settings.planes == "zyx" else settings.planes)
    return canonical(grid).then(planes_across(chosen))


@dataclass(frozen=True, eq=False)
class VolumeSource:
    """A `digseg.types.TileSource`: the planes of a volume, three channels in [0, 1].

    Parameters
    ----------
    volume
        Where voxels come from.
    turn
        From the file's voxel order to ``[plane, row, column]``.
    stretch
        Values that become 0 and 1, one pair for the whole volume.
    context
        The outer channels are the neighbouring planes (the border plane is its own neighbour);
        else all three channels are the plane itself.
    """

    volume: Volume
    turn: Turn
    stretch: Stretch
    context: bool = True
    _slabs: Slabs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_slabs", Slabs(self.turn.lazy(self.volume.data)))

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads for itself.
        return {item.name: getattr(self, item.name) for item in fields(self) if item.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def shape(self) -> tuple[int, int, int]:
        planes, rows, columns = self.turn.shape(self.volume.shape)
        return planes, rows, columns

    @property
    def grid(self) -> Grid:
        """Grid of the planes, in the same world as the file's."""
        return self.turn.grid(self.volume.grid)

    @property
    def identity(self) -> str:
        source = self.volume.source
        content = source.identity if source is not None else array_identity(self.volume.data)
        told = f"{content}|{self.volume.grid.affine}|{self.turn}|{self.stretch}|{self.context}"
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def held_bytes(self) -> int:
        """The most that is kept of what was read, pages of a mapped file included."""
        return self._slabs.most_bytes + _MAPPED

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """Pixels ``float32 [3, h, w]`` and validity ``bool [h, w]`` of a window of a plane.

        NaN voxels are no data; everything else is valid.
        """
        planes = self.shape[0]
        if not 0 <= plane < planes:
            raise IndexError(f"plane {plane} is outside a volume with {planes} planes")
        if self.context:
            around = [max(0, plane - 1), plane, min(planes - 1, plane + 1)]
        else:
            around = [plane] * 3
        values = np.stack([self._slabs.read(index, window) for index in around])  # [3,h,w]
        valid: BoolArray = np.ones(values.shape[1:], dtype=np.bool_)
        if values.dtype.kind == "f":
            valid = ~np.isnan(values[1])
        tile = self.stretch.apply(values)
        tile *= valid
        return tile, valid


def volume_source(
    volume: Volume, settings: SegmentSettings, axis: Axis | None = None
) -> VolumeSource:
    """The planes of a volume for one run of the engine; `to_file_order` is the way back.

    Parameters
    ----------
    axis
        Slice axis; the settings' by default. A run over all three planes makes a source of each.
    """
    turn = plane_turn(volume.grid, settings, axis)
    return VolumeSource(volume, turn, volume_stretch(volume, settings), settings.context)


def to_file_order(
    planes: LazyArray, volume: Volume, settings: SegmentSettings, axis: Axis | None = None
) -> LazyArray:
    """``[..., plane, row, column]`` of a store as ``[..., z, y, x]`` of the file, lazily."""
    return plane_turn(volume.grid, settings, axis).inverse.lazy(planes)


def labels_to_volume(labels: LazyArray, volume: Volume, settings: SegmentSettings) -> LazyArray:
    """Labels ``[plane, row, column]`` of a store as ``[z, y, x]`` in the file's voxel order."""
    return to_file_order(labels, volume, settings)


def probabilities_to_volume(
    store: ProbabilityStore, volume: Volume, settings: SegmentSettings
) -> LazyArray:
    """Stored maps as ``uint8 [prompt, z, y, x]`` in the file's voxel order, lazily."""
    return to_file_order(store.probabilities, volume, settings)


def without_nodata(labels: LazyArray, coverage: LazyArray) -> LazyArray:
    """Labels in which voxels without data (NaN around a brain, say) are background.

    Failed and pending voxels keep the labels' nodata value: a hole is never called background.
    """

    def read(bounds: Bounds) -> AnyArray:
        found = box(labels, bounds)
        (start, stop), *window = bounds
        for first in range(start, stop, _PLANES):  # a large box takes little more than itself
            last = min(first + _PLANES, stop)
            empty = box(coverage, ((first, last), *window)) == NODATA
            found[first - start : last - start][empty] = 0
        return found

    return WindowArray(tuple(labels.shape), labels.dtype, read)


def volume_stretch(volume: Volume, settings: SegmentSettings) -> Stretch:
    """Values that become 0 and 1: a CT's window in HU, else percentiles of the whole volume.

    A volume of bytes is a picture already and keeps its scale, 0 to 255.

    A part of a volume is stretched by what the whole one holds, so that it looks the same.
    """
    volume = volume.meta.get(WHOLE, volume)
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
                np.dtype(volume.data.dtype),  # 8-bit volumes keep their scale, as in training
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
