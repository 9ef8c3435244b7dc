"""What of MetaImage and NRRD goes through SimpleITK: headers, and files that only it can read."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, DoesNotFitError
from digseg.memory import free_bytes
from digseg.types import AnyArray
from digseg.wording import format_size


def open_reader(path: Path) -> Any:
    """ITK's reader of a file, its header read.

    Raises
    ------
    CorruptInputError
        ITK can't make sense of the header.
    """
    import SimpleITK

    # ITK prints its doubts to standard error; what matters is raised or noted here.
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    # By format, never by name: ITK would take a neighbour's voxels for some names.
    reader.SetImageIO("NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise CorruptInputError(f"{path.name} can't be read ({reason(error)}).") from error
    return reader


def _is_nrrd(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"NRRD"


@dataclass
class Loaded:
    """A file that only ITK can read, and only whole: on first use, then kept."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    axes: int
    point: int
    _array: AnyArray | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __getitem__(self, key: Any) -> AnyArray:
        with self._lock:
            if self._array is None:
                self._array = _load(self.path, self.axes, self.point, self.shape, self.dtype)
        return np.asarray(self._array[key])

    def __getstate__(self) -> dict[str, Any]:
        kept = ("path", "shape", "dtype", "axes", "point")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _load(
    path: Path, axes: int, point: int, shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> AnyArray:
    """All voxels ``[z, y, x]`` of one time point, by ITK."""
    import SimpleITK

    needed = 2 * math.prod(shape) * dtype.itemsize  # ITK's copy and ours
    if needed > free_bytes():
        raise DoesNotFitError(
            f"{path.name} can only be loaded whole and needs {format_size(needed)} of memory, "
            f"{format_size(free_bytes())} are free: convert it to .nii.gz first."
        )
    reader = open_reader(path)
    if axes == 4:
        reader.SetExtractIndex([0, 0, 0, point])
        reader.SetExtractSize([*shape[::-1], 0])
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise CorruptInputError(f"{path.name} can't be read ({reason(error)}).") from error
    array: AnyArray = SimpleITK.GetArrayFromImage(image)
    return array.reshape(shape)


def reason(error: RuntimeError) -> str:
    """The one line of an ITK exception that says something, without its addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line for line in reversed(lines) if "Reason:" in line), lines[-1])
    reason = line.rpartition("Reason:")[2].strip().rstrip(".")
    # "Success" is what ITK says when the system has no complaint but the data are no good.
    return reason if reason not in ("", "Success") else "its voxels are damaged"
