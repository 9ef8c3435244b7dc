"""MetaImage (``.mha``, ``.mhd``) and NRRD through SimpleITK.

ITK speaks of LPS, the project of RAS+: the first two world axes change sign. Uncompressed
MetaImage is read by window; compressed files and NRRD are loaded once, on first use.
"""

from __future__ import annotations

import gzip
import re
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError
from digseg.io import _label_names as names
from digseg.io import modality
from digseg.io._itk_header import ItkHeader, parse
from digseg.io._volumes import (
    identity_of,
    patient_grid,
    slabs,
    time_point,
    volume_info,
    whole_numbers,
)
from digseg.io.files import replacing, suffix_of
from digseg.io.registry import Probe
from digseg.lazy import Bounds, WindowArray
from digseg.raster import Mask, Raster, Source, Volume
from digseg.types import AnyArray, LazyArray

__all__ = ["info", "read", "read_mask", "refuse", "sniff", "write"]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

#: MetaIO reads a header line into a buffer of 32 KiB.
_LONGEST_LINE = 30_000


def sniff(probe: Probe) -> bool:
    """NRRD by its magic, MetaImage by the key that its header starts with."""
    if probe.kind != "file":
        return False
    if probe.head.startswith(b"NRRD000"):
        return True
    start = probe.head[:256].lstrip()
    return start.startswith((b"ObjectType", b"NDims", b"Comment")) and b"=" in start


def read(path: str, *, time: int = 0, series: str | None = None) -> Volume:
    """Open a volume; see `digseg.io.read`. ``meta`` has ``notes`` and ``itk_geometry``."""
    del series  # one file holds one series
    place = Path(path)
    header = parse(place)
    point = time_point(time, header.time_points, place.name)
    reader = _reader(place)
    spacing, origin, direction = _geometry(reader, place)
    affine = _affine(spacing, origin, direction)
    if header.affine is not None and np.allclose(header.affine, affine, rtol=1e-9, atol=1e-9):
        affine = header.affine  # as written: ITK splits it in length and direction, and rounds
    data = _voxels(place, header, reader, point)
    kind, reason = modality.guess(data, place)
    notes = [] if header.stated else ["no orientation is stated: axes along LPS are assumed"]
    if header.time_points > 1:
        notes.append(f"{header.time_points} time points: number {point} is read")
    grid = patient_grid(header.volume_shape, affine, place.name)
    meta = {"notes": (*notes, reason), "itk_geometry": (spacing, origin, direction)}
    files = [place] if header.data == place else [place, header.data]
    source = Source(path, header.format, identity_of(files))
    return Volume(data, grid, kind, header.time_points, source, meta)


def info(path: str) -> dict[str, Any]:
    """See `digseg.io.info`."""
    volume = read(path)
    header = parse(Path(path))
    dtype = np.dtype(volume.data.dtype).name
    return volume_info(volume, shape=header.shape, dtype=dtype, encoding=header.encoding)


def read_mask(path: str) -> Mask:
    """A label volume with its names, from the header or else from the sidecar.

    Raises
    ------
    CorruptInputError
        The voxels are no labels.
    """
    volume = read(path)
    labels = whole_numbers(np.asarray(volume.data[:]), path)
    header = parse(Path(path))
    text = header.fields.get("labels", "")
    text = _unescaped(text) if header.format == "NRRD" else text
    classes = names.from_json(text) or names.read_sidecar(Path(path))
    named = classes is not None
    if classes is None:
        classes = names.unnamed([int(label) for label in np.unique(labels)])
    return Mask(labels, volume.grid, classes, meta={**volume.meta, "named": named})


def refuse(mask: Mask, source: Raster | Volume | None) -> str | None:
    """Why ITK's formats can't hold this mask; `None` where they can."""
    del source
    if len(mask.grid.shape) != 3 or mask.grid.space == "map":
        return "MetaImage and NRRD hold patient volumes: write these labels as .tif or .png."
    steps = mask.grid.matrix[:3, :3]
    steps = steps / np.linalg.norm(steps, axis=0)
    if not np.allclose(steps.T @ steps, np.eye(3), atol=1e-4):
        return "MetaImage and NRRD readers take no sheared volume: write the labels as .nii.gz."
    return None


def write(mask: Mask, path: Path, *, source: Raster | Volume | None = None) -> list[Path]:
    """Write ``.mha`` or ``.nrrd``, compressed, with label names inside and in a JSON sidecar."""
    sidecar = names.sidecar_of(path)
    with replacing(sidecar) as part, replacing(path) as temporary:
        part.write_text(names.to_json(mask.classes) + "\n", encoding="utf-8")
        if suffix_of(str(path)) == ".nrrd":
            _write_nrrd(mask, temporary)
        else:
            _write_meta(mask, temporary, source)
    return [path, sidecar]


def _write_meta(mask: Mask, path: Path, source: Raster | Volume | None) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.asarray(mask.labels[:]))
    meta = {**(source.meta if source is not None else {}), **mask.meta}
    geometry = meta.get("itk_geometry")
    # The source's own numbers, where they still speak of this grid: equal to the bit.
    if geometry is None or not np.array_equal(_affine(*geometry), mask.grid.matrix):
        lps = _LPS @ mask.grid.matrix
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        geometry = spacing, lps[:3, 3], lps[:3, :3] / spacing
    image.SetSpacing([float(value) for value in geometry[0]])
    image.SetOrigin([float(value) for value in geometry[1]])
    image.SetDirection([float(value) for value in np.ravel(geometry[2])])
    text = names.to_json(mask.classes, indent=None)
    if len(text.encode()) < _LONGEST_LINE:
        image.SetMetaData("labels", text)
    try:
        SimpleITK.WriteImage(image, str(path), True)
    except RuntimeError as error:
        # ITK says only that it failed; a full disk is the one cause that is left here.
        raise OSError(f"{_reason(error)}; no space left on device?") from error


def _write_nrrd(mask: Mask, path: Path) -> None:
    """NRRD with the affine's own numbers, which ITK's writer would round."""
    lps = _LPS @ mask.grid.matrix + 0.0
    vectors = [f"({','.join(repr(float(v)) for v in column)})" for column in lps[:3].T]
    dtype = np.dtype(mask.labels.dtype)
    lines = [
        "NRRD0004",
        f"type: {'uint8' if dtype.itemsize == 1 else 'uint16'}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(side) for side in mask.grid.shape[::-1])}",
        f"space directions: {' '.join(vectors[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {vectors[3]}",
        f"labels:={_escaped(names.to_json(mask.classes, indent=None))}",
    ]
    for index, entry in enumerate(mask.classes.entries):  # as 3D Slicer names its segments
        color = " ".join(f"{part / 255:.6f}" for part in entry.color)
        lines += [
            f"Segment{index}_ID:=Segment_{entry.id}",
            f"Segment{index}_Name:={_escaped(entry.name)}",
            f"Segment{index}_Color:={color}",
            f"Segment{index}_LabelValue:={entry.id}",
            f"Segment{index}_Layer:=0",
        ]
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
            for labels in slabs(mask.labels):
                stream.write(np.ascontiguousarray(labels, dtype.newbyteorder("<")).data)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def _reader(path: Path) -> Any:
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
        raise CorruptInputError(f"{path.name} can't be read ({_reason(error)}).") from error
    return reader


def _is_nrrd(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"NRRD"


def _geometry(reader: Any, path: Path) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Spacing, origin and direction in LPS of the first three axes."""
    n = int(reader.GetDimension())
    spacing, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    m = min(n, 3)
    spacing[:m] = reader.GetSpacing()[:m]
    origin[:m] = reader.GetOrigin()[:m]
    direction[:m, :m] = np.reshape(reader.GetDirection(), (n, n))[:m, :m]
    return spacing, origin, direction


def _affine(spacing: AnyArray, origin: AnyArray, direction: AnyArray) -> AnyArray:
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(direction) * np.asarray(spacing)
    lps[:3, 3] = origin
    affine: AnyArray = _LPS @ lps + 0.0  # no negative zeros
    return affine


def _voxels(path: Path, header: ItkHeader, reader: Any, point: int) -> LazyArray:
    import SimpleITK

    shape = header.volume_shape
    kind = SimpleITK.Image([1] * 3, reader.GetPixelID())
    if kind.GetNumberOfComponentsPerPixel() != 1:
        raise CorruptInputError(f"{path.name} has vector voxels: give one channel.")
    dtype = SimpleITK.GetArrayViewFromImage(kind).dtype
    axes = len(header.shape)
    if header.format == "MetaImage" and header.encoding == "raw":
        return WindowArray(shape, dtype, partial(_load, path, axes, point))
    whole = Loaded(path, shape, dtype, axes, point)
    whole[0, 0, 0]  # proves the stream whole before anybody works with it
    return whole


@dataclass
class Loaded:
    """A file that can only be read whole: read on first use, then kept."""

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
                bounds = tuple((0, side) for side in self.shape)
                self._array = _load(self.path, self.axes, self.point, bounds)
        return np.asarray(self._array[key])

    def __getstate__(self) -> dict[str, Any]:
        kept = ("path", "shape", "dtype", "axes", "point")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _load(path: Path, axes: int, point: int, bounds: Bounds) -> AnyArray:
    """A box ``[z, y, x]`` of one time point; a reader of its own, so threads don't meet."""
    import SimpleITK

    reader = _reader(path)
    starts = [start for start, _ in bounds][::-1][: min(axes, 3)]
    sizes = [stop - start for start, stop in bounds][::-1][: min(axes, 3)]
    if axes == 4:
        starts, sizes = [*starts, point], [*sizes, 0]
    reader.SetExtractIndex(starts)
    reader.SetExtractSize(sizes)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise CorruptInputError(f"{path.name} can't be read ({_reason(error)}).") from error
    array: AnyArray = SimpleITK.GetArrayFromImage(image)
    return array.reshape(tuple(stop - start for start, stop in bounds))


def _reason(error: RuntimeError) -> str:
    """The one line of an ITK exception that says something, without its addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line for line in reversed(lines) if "Reason:" in line), lines[-1])
    reason = line.rpartition("Reason:")[2].strip().rstrip(".")
    # "Success" is what ITK says when the system has no complaint but the data are no good.
    return reason if reason not in ("", "Success") else "its voxels are damaged"
