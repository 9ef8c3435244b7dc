"""Pixels that never travel without their grid. Level 2: values only, no file formats.

`Raster` is ``[band, y, x]``, `Volume` is ``[z, y, x]``, `Mask` is ``[y, x]`` or ``[z, y, x]``;
each checks its axis order once, here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from digseg.grid import Grid
from digseg.prompts import Color, PromptSet
from digseg.types import AnyArray, BoolArray, LazyArray, Window

Modality = Literal["CT", "MR", "other"]

#: Bands that are read at once to see whether any of them holds data.
_FEW = 4


@dataclass(frozen=True)
class Source:
    """Where pixels came from.

    Parameters
    ----------
    path
        File, folder or URL as given.
    format
        Short name of the format: ``"GTiff"``, ``"NIfTI-1"``, ``"DICOM"``, ``"OME-Zarr"`` ...
    identity
        Cheap content identity: sizes, header and sampled bytes; equal for equal content.
    """

    path: str
    format: str
    identity: str

    @property
    def stem(self) -> str:
        """File name without folder and extensions (``a.nii.gz`` gives ``a``)."""
        name = Path(self.path.rstrip("/")).name
        for suffix in (".nii.gz", ".ome.zarr", ".ome.tiff", ".ome.tif"):
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
        return Path(name).stem


@dataclass(frozen=True, eq=False)
class Raster:
    """A lazy raster ``[band, y, x]`` with its grid.

    Parameters
    ----------
    data
        Pixels, any real dtype; reading a slice reads only that window, from any thread.
    grid
        Two-axis grid.
    nodata
        Value that stands for "no data" (may be NaN); `None` where none is declared.
    valid
        Per-dataset mask or alpha ``[y, x]``, non-zero where there is data; `None` where absent.
    band_names
        One name for each band.
    levels
        Overviews, finer first, each ``[band, y, x]``; the full resolution is not among them.
    source
        Where it came from; `None` for arrays.
    meta
        Format extras that writers keep (GCPs, RPCs, tags, colour interpretation ...).
    """

    data: LazyArray
    grid: Grid
    nodata: float | None = None
    valid: LazyArray | None = None
    band_names: tuple[str, ...] = ()
    levels: tuple[LazyArray, ...] = ()
    source: Source | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.data.shape)
        if len(shape) != 3:
            raise ValueError(f"a raster is [band, y, x], not an array of shape {shape}")
        if shape[1:] != self.grid.shape:
            raise ValueError(f"the raster is {shape[1:]} but its grid is {self.grid.shape}")
        if self.valid is not None and tuple(self.valid.shape) != shape[1:]:
            raise ValueError(f"the mask is {tuple(self.valid.shape)}, the raster {shape[1:]}")
        if not self.band_names:
            names = tuple(f"band {index + 1}" for index in range(shape[0]))
            object.__setattr__(self, "band_names", names)
        elif len(self.band_names) != shape[0]:
            raise ValueError(f"{len(self.band_names)} band names for {shape[0]} bands")

    @property
    def bands(self) -> int:
        return int(self.data.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    def read(self, window: Window, bands: tuple[int, ...] | None = None) -> AnyArray:
        """Pixels ``[band, h, w]`` of a window; bands count from 0."""
        top, bottom, left, right = window
        if bands is None:
            return np.asarray(self.data[:, top:bottom, left:right])
        if bands == tuple(range(bands[0], bands[-1] + 1)):
            return np.asarray(self.data[bands[0] : bands[-1] + 1, top:bottom, left:right])
        # One slice for each band: readers then touch only the bands asked for.
        return np.stack([np.asarray(self.data[band, top:bottom, left:right]) for band in bands])

    def validity(self, window: Window, pixels: AnyArray) -> BoolArray:
        """Where ``pixels [band, h, w]`` of ``window`` hold data, ``bool [h, w]``.

        A pixel is nodata when the mask says so, or when every band holds the nodata value or NaN.
        Where ``pixels`` are of some bands only and all of them lack it, the others are read, too.
        """
        missing = self._missing(pixels)
        for first in range(0, self.bands if len(pixels) < self.bands else 0, _FEW):
            if not missing.any():
                break
            others = tuple(range(first, min(first + _FEW, self.bands)))
            missing &= self._missing(self.read(window, others))
        valid: BoolArray = np.logical_not(missing)
        if self.valid is not None:
            top, bottom, left, right = window
            valid = valid & (np.asarray(self.valid[top:bottom, left:right]) != 0)
        return valid

    def _missing(self, pixels: AnyArray) -> BoolArray:
        """Where all of ``pixels [band, h, w]`` hold the nodata value or NaN."""
        missing = np.zeros(pixels.shape, dtype=bool)
        if np.issubdtype(pixels.dtype, np.floating):
            missing |= np.isnan(pixels)
        if self.nodata is not None and not np.isnan(self.nodata):
            missing |= pixels == self.nodata
        return np.asarray(missing.all(axis=0), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Volume:
    """A lazy volume ``[z, y, x]`` with its grid in patient space (RAS+ millimetres).

    The array is the file's own voxel order, slowest axis first: a NIfTI voxel ``(i, j, k)`` is
    ``data[k, j, i]``, so the affine is the file's to the bit. `modality` chooses the default
    window. `time_points` counts those of the file; ``data`` holds one of them.
    """

    data: LazyArray
    grid: Grid
    modality: Modality = "other"
    time_points: int = 1
    source: Source | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.data.shape)
        if len(shape) != 3:
            raise ValueError(f"a volume is [z, y, x], not an array of shape {shape}")
        if shape != self.grid.shape:
            raise ValueError(f"the volume is {shape} but its grid is {self.grid.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.data.shape
        return int(z), int(y), int(x)


@dataclass(frozen=True)
class ClassEntry:
    """One label: its id, name and colour, as every output carries it."""

    id: int
    name: str
    color: Color
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassTable:
    """Label ids with names and colours; 0 is background and not in the table."""

    entries: tuple[ClassEntry, ...]

    @classmethod
    def of(cls, prompts: PromptSet) -> ClassTable:
        """Ids 1, 2, ... in the order of the positive prompts."""
        return cls(
            tuple(
                ClassEntry(index, prompt.name, prompt.color, prompt.synonyms)
                for index, prompt in enumerate(prompts.positive, start=1)
            )
        )

    @property
    def names(self) -> dict[int, str]:
        """Name by id, background included."""
        return {0: "background"} | {entry.id: entry.name for entry in self.entries}

    @property
    def colors(self) -> dict[int, Color]:
        return {entry.id: entry.color for entry in self.entries}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest unsigned type whose largest value stays free for nodata."""
        highest = max((entry.id for entry in self.entries), default=0)
        return np.dtype(np.uint8 if highest < 255 else np.uint16)

    def to_list(self) -> list[dict[str, Any]]:
        return [
            {
                "id": entry.id,
                "name": entry.name,
                "color": list(entry.color),
                "synonyms": list(entry.synonyms),
            }
            for entry in self.entries
        ]


@dataclass(frozen=True, eq=False)
class Mask:
    """Labels ``[y, x]`` or ``[z, y, x]`` with grid and class table.

    Parameters
    ----------
    labels
        Unsigned integers; 0 is background. May be lazy.
    nodata
        Label value that marks pixels without data; `None` where every pixel has data.
    meta
        Extras for writers: the image's GCPs and RPCs, the recipe, the source DICOM series ...
    """

    labels: LazyArray
    grid: Grid
    classes: ClassTable
    nodata: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.labels.shape)
        if shape != self.grid.shape:
            raise ValueError(f"the labels are {shape} but their grid is {self.grid.shape}")
        if np.dtype(self.labels.dtype).kind != "u":
            raise ValueError(f"labels are unsigned integers, not {self.labels.dtype}")
