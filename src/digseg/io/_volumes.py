"""What the medical readers share: grids in patient space, time points, what `info` prints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from digseg.errors import CorruptInputError, UsageError
from digseg.grid import Grid
from digseg.io.files import identity
from digseg.lazy import Bounds, WindowArray, box
from digseg.raster import Volume
from digseg.types import AnyArray, LazyArray

#: From RAS+ to LPS, and back.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

#: Bytes of labels that are computed at once for a file.
_SLAB = 32 << 20


def identity_of(paths: Sequence[Path]) -> str:
    """Content identity of the files of one volume, in their order."""
    if len(paths) == 1:
        return identity(paths[0])
    return hashlib.sha256("".join(identity(path) for path in paths).encode()).hexdigest()


def affine_of_itk(spacing: ArrayLike, origin: ArrayLike, direction: ArrayLike) -> AnyArray:
    """Voxel index to RAS+ millimetres from what ITK says of an image, which is LPS."""
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(direction) * np.asarray(spacing)
    lps[:3, 3] = origin
    # Row by row, as in the writer of NRRD; no negative zeros.
    affine: AnyArray = lps * np.diag(LPS)[:, None] + 0.0
    return affine


def patient_grid(shape: tuple[int, int, int], affine: AnyArray, name: str) -> Grid:
    """Grid in RAS+ millimetres.

    Raises
    ------
    CorruptInputError
        The affine is not finite or flattens the volume, so that no voxel has a place.
    """
    if not np.isfinite(affine).all():
        raise CorruptInputError(
            f"{name} has an affine with values that are not finite: no voxel has a place in "
            "the patient, so repair its header first."
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    volume = abs(float(np.linalg.det(affine[:3, :3])))
    if lengths.min() <= 0 or volume < 1e-9 * float(np.prod(lengths)):
        raise CorruptInputError(
            f"{name} has an affine that flattens the volume: repair its orientation first."
        )
    return Grid.of(shape, affine, space="patient", unit="millimetre")


def time_point(time: int, count: int, name: str) -> int:
    """The chosen time point, checked.

    Raises
    ------
    UsageError
        There is no such time point.
    """
    if not 0 <= time < count:
        has = "one time point" if count == 1 else f"{count} time points (0 to {count - 1})"
        raise UsageError(f"There is no time point {time}: {name} has {has}.")
    return time


def axis_codes(grid: Grid) -> str:
    """Where the file's axes point, fastest axis first: ``"RAS"``, ``"LPS"`` ..."""
    from nibabel.orientations import aff2axcodes

    return "".join(str(code) for code in aff2axcodes(grid.matrix))


def volume_info(
    volume: Volume,
    *,
    shape: Sequence[int],
    dtype: str,
    series: Sequence[Mapping[str, Any]] = (),
    **extra: Any,
) -> dict[str, Any]:
    """What ``info --json`` prints of a volume; ``shape`` and ``spacing`` in file axis order."""
    grid = volume.grid
    return {
        "kind": "volume",
        "format": volume.source.format if volume.source else "array",
        "shape": [int(side) for side in shape],
        "dtype": dtype,
        "affine": [list(row) for row in grid.affine],
        "spacing": list(grid.spacing[::-1]),
        "orientation": axis_codes(grid),
        "series": [dict(item) for item in series],
        "modality": volume.modality,
        "time_points": volume.time_points,
        **extra,
        "notes": list(volume.meta.get("notes", ())),
    }


def slabs(labels: LazyArray) -> Iterator[AnyArray]:
    """Blocks of planes ``[n, y, x]`` in order.

    Not plane by plane: labels that are computed for other planes (a sagittal file, axial answers)
    would be computed anew for each of them.
    """
    planes, rows, columns = labels.shape
    step = max(1, _SLAB // (rows * columns * labels.dtype.itemsize))
    for start in range(0, planes, step):
        yield np.asarray(labels[start : min(start + step, planes)])


def whole_numbers(voxels: LazyArray, path: str) -> LazyArray:
    """Voxels as lazy labels, ``uint8`` or ``uint16``; all are looked at, some planes at once.

    Raises
    ------
    CorruptInputError
        They are no whole numbers from 0 to 65535.
    """
    most = 0
    for part in slabs(voxels):
        if not np.isfinite(part).all() or part.min() < 0 or part.max() > 65535:
            raise CorruptInputError(f"{path} holds no labels: its voxels are not 0 to 65535.")
        if part.dtype.kind == "f" and not np.array_equal(part, np.floor(part)):
            raise CorruptInputError(f"{path} holds no labels: its voxels are not whole numbers.")
        most = max(most, int(part.max()))
    shape = (voxels.shape[0], voxels.shape[1], voxels.shape[2])
    return WindowArray(shape, np.uint16 if most > 255 else np.uint8, _Labels(voxels, most > 255))


@dataclass(frozen=True, eq=False)
class _Labels:
    """Reads a box of voxels as labels."""

    voxels: LazyArray
    wide: bool

    def __call__(self, bounds: Bounds) -> AnyArray:
        found: AnyArray = box(self.voxels, bounds).astype(np.uint16 if self.wide else np.uint8)
        return found
