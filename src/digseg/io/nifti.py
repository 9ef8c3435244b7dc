"""NIfTI-1 and 2, one file or a ``.hdr``/``.img`` pair, gzipped or not; Analyze 7.5 pairs.

nibabel's header classes decide what a header means (which of qform and sform holds, what is
mended); the voxels are read here. SimpleITK takes no part: asked for ``x.nii.gz`` it answers with
the data of ``x.nii`` where both lie in a folder.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError
from digseg.io import _label_names as names
from digseg.io import modality
from digseg.io._nifti_header import Header, parse
from digseg.io._nifti_write import refuse, write
from digseg.io._volumes import identity_of, patient_grid, time_point, volume_info, whole_numbers
from digseg.io._voxels import Layout, Voxels, gzip_head
from digseg.io.files import suffix_of
from digseg.io.registry import Probe
from digseg.raster import Mask, Source, Volume
from digseg.types import LazyArray

__all__ = ["info", "read", "read_mask", "refuse", "sniff", "write"]

#: A header with its extensions; more than this before the voxels is read from the file again.
_HEAD = 1 << 16
_EXTENSIONS = 1 << 24

_PAIR = {".hdr": (".img", ".img.gz"), ".hdr.gz": (".img.gz", ".img")}


def sniff(probe: Probe) -> bool:
    """Whether this is NIfTI or Analyze: by the header's size field, or by a NIfTI name.

    A ``.hdr`` or ``.img`` of another kind (ENVI, ERDAS) is told apart by the header.
    """
    if probe.kind != "file":
        return False
    head = probe.head
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 1024)
        except zlib.error:
            return False
    if probe.suffix in (".nii", ".nii.gz"):
        # Damaged ones are refused by name; another format under this name is not claimed.
        return _has_header(head) or probe.head[:2] == b"\x1f\x8b" or not _foreign(head)
    if probe.suffix in (".img", ".img.gz"):
        header = _header_path(Path(probe.path))
        return header is not None and _has_header(_first_bytes(header, 1024))
    return _has_header(head)


def read(path: str, *, time: int = 0, series: str | None = None) -> Volume:
    """Open a volume lazily; see `digseg.io.read`.

    ``data[k, j, i]`` is voxel ``(i, j, k)`` of the file, scaled by its slope and intercept.
    ``meta`` has ``nifti_header`` (the header's bytes, mended as nibabel does) and ``notes``.
    """
    del series  # one file holds one series
    return _volume(path, *_open(Path(path)), time)


def _volume(
    path: str, header: Header, layout: Layout, files: list[Path], time: int, *, keep: bool = True
) -> Volume:
    """The volume; without ``keep`` a packed file is proved whole, and unpacked when it is used."""
    point = time_point(time, layout.points, Path(path).name)
    voxels = Voxels(layout, point, header.slope, header.inter)
    values = voxels.prove(modality.places(layout.shape), keep=keep)
    grid = patient_grid(layout.shape, header.affine, Path(path).name)
    notes = list(header.notes)
    if layout.points > 1:
        notes.append(f"{layout.points} time points: number {point} is read")
    kind, reason = modality.guess(voxels, Path(path), header.intent, values)
    notes.append(reason)
    meta = {"notes": tuple(notes), "nifti_header": header.raw, "nifti_class": header.klass}
    source = Source(str(path), header.format, identity_of(files))
    return Volume(voxels, grid, kind, layout.points, source, meta)


def info(path: str) -> dict[str, Any]:
    """See `digseg.io.info`; ``shape``, ``spacing`` in the file's axis order, time last."""
    header, layout, files = _open(Path(path))
    return volume_info(
        _volume(path, header, layout, files, 0, keep=False),
        shape=header.shape,
        dtype=layout.dtype.newbyteorder("=").name,
        byte_order="big" if header.big else "little",
        qform_code=header.qform_code,
        sform_code=header.sform_code,
        scaling=[header.slope, header.inter],
    )


def read_mask(path: str) -> Mask:
    """A label volume with its names, from the header extension or else from the sidecar.

    Without either, ``meta["named"]`` is false and the classes are called ``label 1`` ...

    Raises
    ------
    CorruptInputError
        The voxels are no labels.
    """
    header, layout, files = _open(Path(path))
    volume = _volume(path, header, layout, files, 0)
    labels: LazyArray = volume.data
    if (header.slope, header.inter) != (1.0, 0.0) or layout.dtype.kind != "u":
        labels = whole_numbers(volume.data, path)
    classes = header.classes or names.read_sidecar(Path(path))
    named = classes is not None
    if classes is None:
        ids = {int(label) for plane in range(labels.shape[0]) for label in np.unique(labels[plane])}
        classes = names.unnamed(sorted(ids))
    return Mask(labels, volume.grid, classes, meta={**volume.meta, "named": named})


def _open(path: Path) -> tuple[Header, Layout, list[Path]]:
    """Header, layout of the voxels and the files of a volume, all checked."""
    header_path = _header_path(path)
    if header_path is None:
        raise CorruptInputError(f"{path.name} has no header beside it: copy the .hdr file as well.")
    with header_path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    head = _first_bytes(header_path, _HEAD)
    header = parse(head, header_path.name)
    if header.single and header.offset > _HEAD:
        # Only for a sane offset: extensions of many megabytes are somebody's mistake.
        head = _first_bytes(header_path, min(header.offset, _EXTENSIONS))
        header = parse(head, header_path.name)
    data_path = header_path
    if not header.single:
        data_path = _image_path(header_path)
        with data_path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
    layout = Layout(
        data_path,
        header.dtype,
        header.spatial,
        header.offset,
        header.time_points,
        "gzip" if gzipped else "raw",
    )
    layout.check()
    files = [header_path] if header.single else [header_path, data_path]
    return header, layout, files


def _header_path(path: Path) -> Path | None:
    suffix = suffix_of(str(path))
    if suffix not in (".img", ".img.gz"):
        return path
    stem = path.name[: -len(suffix)]
    for candidate in (".hdr", ".hdr.gz", ".HDR"):
        header = path.with_name(stem + candidate)
        if header.is_file():
            return header
    return None


def _image_path(header: Path) -> Path:
    suffix = suffix_of(str(header))
    stem = header.name[: -len(suffix)] if suffix else header.name
    for candidate in (*_PAIR.get(suffix, (".img", ".img.gz")), ".IMG"):
        image = header.with_name(stem + candidate)
        if image.is_file():
            return image
    raise CorruptInputError(
        f"{header.name} is the header of a pair, but {stem}.img is not beside it: copy both files."
    )


def _first_bytes(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        head = file.read(size)
    return gzip_head(path, size) if head[:2] == b"\x1f\x8b" else head


def _has_header(head: bytes) -> bool:
    if len(head) < 348:
        return False
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if 540 in sizes:
        return head[4:6] in (b"n+", b"ni")
    # Analyze has no magic: its size field with a number of dimensions that makes sense.
    dims = {int.from_bytes(head[40:42], order) for order in ("little", "big")}
    return 348 in sizes and (head[344:346] in (b"n+", b"ni") or bool(dims & set(range(1, 8))))


def _foreign(head: bytes) -> bool:
    """Magic bytes of pictures, TIFF, HDF and DICOM, for files under a NIfTI name."""
    known = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"\x89HDF", b"NRRD", b"PK\x03\x04")
    return head.startswith(known) or head[128:132] == b"DICM"
