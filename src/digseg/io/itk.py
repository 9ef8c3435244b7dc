"""MetaImage (``.mha``, ``.mhd``) and NRRD through SimpleITK.

ITK speaks of LPS, the project of RAS+: the first two world axes change sign. It says where the
voxels lie in the patient; they themselves are mapped, or unpacked once, as those of NIfTI are. What
is left to ITK (numbers as text, headers that skip bytes) it can only load whole.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError
from digseg.io import _label_names as names
from digseg.io import modality
from digseg.io._itk_header import ItkHeader, parse
from digseg.io._itk_reader import Loaded, open_reader, reason
from digseg.io._packed import Packing
from digseg.io._volumes import (
    LPS,
    affine_of_itk,
    identity_of,
    patient_grid,
    slabs,
    time_point,
    volume_info,
    whole_numbers,
)
from digseg.io._voxels import Layout, Voxels
from digseg.io.files import replacing, suffix_of
from digseg.io.registry import Probe
from digseg.raster import Mask, Raster, Source, Volume
from digseg.types import AnyArray, LazyArray

__all__ = ["info", "read", "read_mask", "refuse", "sniff", "write"]

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
    return _volume(path, parse(Path(path)), time)


def _volume(path: str, header: ItkHeader, time: int, *, keep: bool = True) -> Volume:
    """The volume; without ``keep`` a packed file is proved whole, and unpacked when it is used."""
    place = Path(path)
    point = time_point(time, header.time_points, place.name)
    reader = open_reader(place)
    spacing, origin, direction = _geometry(reader, place)
    affine = affine_of_itk(spacing, origin, direction)
    if header.affine is not None and np.allclose(header.affine, affine, rtol=1e-9, atol=1e-9):
        affine = header.affine  # as written: ITK splits it in length and direction, and rounds
    data, values = _voxels(place, header, reader, point), None
    if isinstance(data, Voxels):
        values = data.prove(modality.places(data.shape), keep=keep)
    kind, why = modality.guess(data, place, values=values)
    notes = [] if header.stated else ["no orientation is stated: axes along LPS are assumed"]
    if header.time_points > 1:
        notes.append(f"{header.time_points} time points: number {point} is read")
    grid = patient_grid(header.volume_shape, affine, place.name)
    meta = {"notes": (*notes, why), "itk_geometry": (spacing, origin, direction)}
    files = [place] if header.data == place else [place, header.data]
    source = Source(path, header.format, identity_of(files))
    return Volume(data, grid, kind, header.time_points, source, meta)


def info(path: str) -> dict[str, Any]:
    """See `digseg.io.info`."""
    header = parse(Path(path))
    volume = _volume(path, header, 0, keep=False)
    dtype = np.dtype(volume.data.dtype).name
    return volume_info(volume, shape=header.shape, dtype=dtype, encoding=header.encoding)


def read_mask(path: str) -> Mask:
    """A label volume with its names, from the header or else from the sidecar.

    Raises
    ------
    CorruptInputError
        The voxels are no labels.
    """
    header = parse(Path(path))
    volume = _volume(path, header, 0)
    labels = whole_numbers(volume.data, path)
    text = header.fields.get("labels", "")
    text = _unescaped(text) if header.format == "NRRD" else text
    classes = names.from_json(text) or names.read_sidecar(Path(path))
    named = classes is not None
    if classes is None:
        ids = {int(label) for part in slabs(labels) for label in np.unique(part)}
        classes = names.unnamed(sorted(ids))
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
    if geometry is None or not np.array_equal(affine_of_itk(*geometry), mask.grid.matrix):
        lps = LPS @ mask.grid.matrix
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
        raise OSError(f"{reason(error)}; no space left on device?") from error


def _write_nrrd(mask: Mask, path: Path) -> None:
    """NRRD with the affine's own numbers, which ITK's writer would round."""
    lps = LPS @ mask.grid.matrix + 0.0
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


def _geometry(reader: Any, path: Path) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Spacing, origin and direction in LPS of the first three axes."""
    n = int(reader.GetDimension())
    spacing, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    m = min(n, 3)
    spacing[:m] = reader.GetSpacing()[:m]
    origin[:m] = reader.GetOrigin()[:m]
    direction[:m, :m] = np.reshape(reader.GetDirection(), (n, n))[:m, :m]
    return spacing, origin, direction


def _voxels(path: Path, header: ItkHeader, reader: Any, point: int) -> LazyArray:
    import SimpleITK

    shape = header.volume_shape
    kind = SimpleITK.Image([1] * 3, reader.GetPixelID())
    if kind.GetNumberOfComponentsPerPixel() != 1:
        raise CorruptInputError(f"{path.name} has vector voxels: give one channel.")
    dtype = SimpleITK.GetArrayViewFromImage(kind).dtype
    if header.offset is None or dtype.itemsize != header.item or header.encoding == "text":
        return Loaded(path, shape, dtype, len(header.shape), point)
    order = dtype.newbyteorder(">" if header.big else "<")
    points, offset = header.time_points, header.offset
    if header.encoding == "raw":
        layout = Layout(header.data, order, shape, offset, points)
    else:
        layout = Layout(header.data, order, shape, 0, points, _packing(header), offset)
    layout.check()
    return Voxels(layout, point)


def _packing(header: ItkHeader) -> Packing:
    if header.encoding == "bzip2":
        return "bzip2"
    return "zlib" if header.format == "MetaImage" else "gzip"
