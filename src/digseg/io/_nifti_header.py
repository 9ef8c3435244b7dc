"""What a NIfTI or Analyze header says, by nibabel's rules, with every doubt noted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError
from digseg.io import _label_names as names
from digseg.raster import ClassTable
from digseg.types import AnyArray

#: Extension codes: comments, and the code under which TotalSegmentator and others keep the label
#: table in Connectome Workbench's XML (its own code, 30, nibabel can't open).
COMMENT, LABEL_TABLE = 6, 0

_MOST_VOXELS = 1 << 62


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Parameters
    ----------
    format
        ``"NIfTI-1"``, ``"NIfTI-2"`` or ``"Analyze"``.
    klass
        Name of nibabel's header class.
    raw
        Bytes of the header after nibabel's mending.
    shape
        As in the file, fastest axis first.
    spatial
        ``(z, y, x)``; axes that the file lacks have length 1.
    affine
        Voxel index ``(i, j, k)`` to RAS+ millimetres.
    """

    format: str
    klass: str
    raw: bytes
    big: bool
    single: bool
    shape: tuple[int, ...]
    spatial: tuple[int, int, int]
    time_points: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: AnyArray
    qform_code: int
    sform_code: int
    intent: int
    classes: ClassTable | None
    notes: tuple[str, ...]


def parse(head: bytes, name: str) -> Header:
    """Read a header from the first bytes of a file.

    Raises
    ------
    CorruptInputError
        It contradicts itself, or nibabel can't make sense of it.
    UnsupportedInputError
        Its voxels are colours, complex numbers or vectors.
    """
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError

    klass = _class_of(head, name)
    size = klass.template_dtype.itemsize
    try:
        with np.errstate(all="ignore"):
            parsed = klass(head[:size], check=False)
            return _header(parsed, head, name, _mend(parsed))
    except (HeaderDataError, HeaderTypeError, ValueError, ArithmeticError, KeyError) as error:
        if isinstance(error, (CorruptInputError, UnsupportedInputError)):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptInputError(f"The header of {name} makes no sense ({reason}).") from error


def _class_of(head: bytes, name: str) -> Any:
    import nibabel as nib

    if len(head) < 348:
        raise CorruptInputError(f"{name} is too short for a NIfTI header: copy the file again.")
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if 540 in sizes:
        if len(head) < 540:
            raise CorruptInputError(f"{name} is too short for a NIfTI-2 header: copy it again.")
        single = head[4:6] == b"n+"
        return nib.nifti2.Nifti2Header if single else nib.nifti2.Nifti2PairHeader
    if 348 not in sizes:
        raise CorruptInputError(f"{name} does not begin with a NIfTI or Analyze header.")
    magic = head[344:348]
    if magic in (b"n+1\0", b"ni1\0"):
        single = magic == b"n+1\0"
        return nib.nifti1.Nifti1Header if single else nib.nifti1.Nifti1PairHeader
    if name.lower().endswith((".nii", ".nii.gz")):
        raise CorruptInputError(f"{name} lacks the mark of a NIfTI header: it is damaged.")
    # The flavour that nibabel takes first: its scale factor is that of SPM.
    return nib.spm2analyze.Spm2AnalyzeHeader


class _Listener(logging.Handler):
    """Collects what nibabel would print about a header."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _mend(parsed: Any) -> list[str]:
    """Let nibabel check and mend a header; what it put right, such as zero voxel sizes.

    Its own logger prints to standard error, so it gets one that listens only.
    """
    listener = _Listener()
    logger = logging.Logger("digseg.io.nifti", logging.INFO)
    logger.addHandler(listener)
    parsed.check_fix(logger=logger, error_level=40)
    # Only what touches the geometry: the other repairs change nothing that is used.
    return [f"header mended: {text}" for text in listener.messages if "pixdim" in text]


def _header(parsed: Any, head: bytes, name: str, mended: list[str]) -> Header:
    import nibabel as nib

    shape = tuple(int(side) for side in parsed.get_data_shape())
    nifti = isinstance(parsed, nib.nifti1.Nifti1Header)
    spatial, points = _axes(shape, name)
    dtype = _real_dtype(parsed.get_data_dtype(), name)
    offset = int(parsed.get_data_offset())
    if offset < 0 or float(np.prod([float(side) for side in shape])) > _MOST_VOXELS:
        raise CorruptInputError(f"The header of {name} promises more voxels than can exist.")
    slope, inter = parsed.get_slope_inter()
    slope = 1.0 if slope is None or not np.isfinite(slope) else float(slope)
    inter = 0.0 if inter is None or not np.isfinite(inter) else float(inter)
    single = nifti and bool(parsed.is_single)
    return Header(
        format=_format(parsed, nifti),
        klass=type(parsed).__name__,
        raw=bytes(parsed.binaryblock),
        big=parsed.endianness == ">",
        single=single,
        shape=shape,
        spatial=spatial,
        time_points=points,
        dtype=dtype,
        offset=offset,
        slope=slope,
        inter=inter,
        affine=np.asarray(parsed.get_best_affine(), dtype=np.float64),
        qform_code=int(parsed["qform_code"]) if nifti else 0,
        sform_code=int(parsed["sform_code"]) if nifti else 0,
        intent=int(parsed["intent_code"]) if nifti else 0,
        classes=_classes(head, parsed, offset) if nifti else None,
        notes=(*mended, *_orientation_notes(parsed, nifti), *_unit_notes(parsed, nifti)),
    )


def _format(parsed: Any, nifti: bool) -> str:
    if not nifti:
        return "Analyze"
    return "NIfTI-2" if len(parsed.binaryblock) == 540 else "NIfTI-1"


def _axes(shape: tuple[int, ...], name: str) -> tuple[tuple[int, int, int], int]:
    if not shape or any(side < 1 for side in shape):
        raise CorruptInputError(f"{name} has an axis without voxels: its header is damaged.")
    if any(side > 1 for side in shape[4:]):
        raise UnsupportedInputError(
            f"{name} has {len(shape)} axes (vectors or a connectivity matrix): give a volume of "
            "three axes, or four with time."
        )
    x, y, z, points = (*shape[:4], 1, 1, 1, 1)[:4]
    return (z, y, x), points


def _real_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    if dtype.names is not None:
        raise UnsupportedInputError(f"{name} has colour voxels: convert it to grey values first.")
    if dtype.kind == "c":
        raise UnsupportedInputError(f"{name} has complex voxels: take their magnitude first.")
    if dtype.kind not in "uif" or dtype.itemsize not in (1, 2, 4, 8):
        raise UnsupportedInputError(f"{name} has voxels of type {dtype}: convert it to float32.")
    return dtype


def _orientation_notes(parsed: Any, nifti: bool) -> list[str]:
    if not nifti:
        return ["no orientation is stored (Analyze): nibabel's convention is assumed"]
    qform, sform = parsed.get_qform(coded=True)[0], parsed.get_sform(coded=True)[0]
    if qform is None and sform is None:
        return ["no orientation is stored (both form codes are 0): nibabel's convention is assumed"]
    if qform is not None and sform is not None:
        distance = float(np.max(np.abs(qform - sform)))
        # Float32 quaternions lose some digits; a tenth of a voxel is another story.
        if not distance <= 0.1 * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
            return [f"qform and sform disagree by up to {distance:.3g}: the sform is used"]
    return []


def _unit_notes(parsed: Any, nifti: bool) -> list[str]:
    """nibabel takes the affine for millimetres, whatever unit the header names; so do we."""
    code = int(parsed["xyzt_units"]) % 8 if nifti else 0
    unit = {1: "metres", 3: "micrometres"}.get(code)
    return [f"the header says {unit}: taken as millimetres, as nibabel does"] if unit else []


def _classes(head: bytes, parsed: Any, offset: int) -> ClassTable | None:
    """Label names from the extensions between header and voxels."""
    start = len(parsed.binaryblock)
    byteorder: Literal["big", "little"] = "big" if parsed.endianness == ">" else "little"
    if head[start : start + 1] in (b"", b"\0"):
        return None
    found: ClassTable | None = None
    position, stop = start + 4, min(offset, len(head)) if offset else len(head)
    while position + 8 <= stop:
        size = int.from_bytes(head[position : position + 4], byteorder, signed=True)
        if size < 8 or position + size > stop:
            break
        text = head[position + 8 : position + size].rstrip(b"\0").decode("utf-8", "replace")
        ours = names.from_json(text) if text.startswith("{") else None
        if ours is not None:
            return ours
        found = found or names.from_caret_xml(text)
        position += size
    return found
