"""Volumes that other libraries hold in memory, with their place in the patient."""

from __future__ import annotations

from typing import Any

import numpy as np

from digseg.errors import UnsupportedInputError
from digseg.io import modality
from digseg.io._volumes import affine_of_itk, patient_grid
from digseg.raster import Volume
from digseg.types import AnyArray

__all__ = ["volume_of"]


def volume_of(image: Any) -> Volume | None:
    """A volume from an image of SimpleITK or nibabel; `None` for anything else.

    Voxels of SimpleITK are copied, those of nibabel are read as it reads them.

    Raises
    ------
    UnsupportedInputError
        The image has no three axes, or several values for a voxel.
    CorruptInputError
        Its affine flattens the volume.
    """
    library = type(image).__module__.partition(".")[0]
    if library == "SimpleITK" and hasattr(image, "GetDirection"):
        data, affine = _of_itk(image)
    elif library == "nibabel" and hasattr(image, "dataobj"):
        data, affine = _of_nibabel(image)
    else:
        return None
    kind, note = modality.guess(data, None)
    planes, rows, columns = data.shape
    grid = patient_grid((planes, rows, columns), affine, "The image in memory")
    return Volume(data, grid, kind, meta={"notes": (note,)})


def _of_itk(image: Any) -> tuple[AnyArray, AnyArray]:
    import SimpleITK

    _need_three_axes(int(image.GetDimension()))
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise UnsupportedInputError(
            f"The image in memory has {image.GetNumberOfComponentsPerPixel()} values for each "
            "voxel: choose one of its components."
        )
    direction = np.reshape(image.GetDirection(), (3, 3))
    affine = affine_of_itk(image.GetSpacing(), image.GetOrigin(), direction)
    return SimpleITK.GetArrayFromImage(image), affine


def _of_nibabel(image: Any) -> tuple[AnyArray, AnyArray]:
    _need_three_axes(len(image.shape))
    if image.affine is None:
        raise UnsupportedInputError("The image in memory has no affine: give it one first.")
    return np.asanyarray(image.dataobj).T, np.asarray(image.affine, float)


def _need_three_axes(count: int) -> None:
    if count != 3:
        raise UnsupportedInputError(
            f"The image in memory has {count} axes, a volume has three: choose one slice of it as "
            "an array, or one time point."
        )
