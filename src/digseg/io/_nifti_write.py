"""Label volumes as NIfTI, in exactly the place of the scan they were made from."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from digseg.io import _label_names as names
from digseg.io._nifti_header import COMMENT, LABEL_TABLE
from digseg.io._volumes import slabs
from digseg.io.files import replacing
from digseg.raster import Mask, Raster, Volume

#: NIfTI's intent code for label maps.
_LABELS = 1002

#: Scanner coordinates, for masks whose scan was no NIfTI.
_SCANNER = 1

#: NIfTI-1 counts voxels along an axis in 16 bits.
_LONGEST = 32767


def refuse(mask: Mask, source: Raster | Volume | None) -> str | None:
    """Why NIfTI can't hold this mask; `None` where it can."""
    del source
    if len(mask.grid.shape) != 3:
        return "NIfTI holds volumes, these labels are flat: write them as .tif or .png."
    if mask.grid.space == "map":
        return "NIfTI has no place for a map projection: write the labels as .tif."
    return None


def write(mask: Mask, path: Path, *, source: Raster | Volume | None = None) -> list[Path]:
    """Write ``.nii`` or ``.nii.gz`` and the JSON sidecar; both or none.

    Where the scan was NIfTI and has the same affine, its qform and sform (codes and values) and
    voxel sizes are taken over bit for bit. Otherwise both forms are written from the grid, the
    qform only where the affine has no shear. Label names stand in two header extensions (JSON,
    and Connectome Workbench's XML) and in the sidecar.
    """
    header = _header(mask, source)
    for code, text in (
        (LABEL_TABLE, names.to_caret_xml(mask.classes)),  # first: readers look there only
        (COMMENT, names.to_json(mask.classes)),
    ):
        header.extensions.append(_extension(code, text))
    sidecar = names.sidecar_of(path)
    with replacing(sidecar) as part, replacing(path) as temporary:
        part.write_text(names.to_json(mask.classes) + "\n", encoding="utf-8")
        with _opened(temporary, gzipped=path.name.lower().endswith(".gz")) as stream:
            header.write_to(stream)
            stream.write(b"\0" * (int(header["vox_offset"]) - stream.tell()))
            for labels in slabs(mask.labels):
                stream.write(np.ascontiguousarray(labels, header.get_data_dtype()).data)
    return [path, sidecar]


def _extension(code: int, text: str) -> Any:
    from nibabel.nifti1 import Nifti1Extension

    return Nifti1Extension(code, text.encode())


def _header(mask: Mask, source: Raster | Volume | None) -> Any:
    header = _source_header(mask, source) or _fresh_header(mask)
    header.set_data_dtype(np.dtype(mask.labels.dtype))
    header.set_data_shape(mask.grid.shape[::-1])
    header.set_slope_inter(1.0, 0.0)
    header.set_intent(_LABELS, (), name="labels")
    header["descrip"] = b"napari-digseg labels"
    header["cal_min"] = header["cal_max"] = header["toffset"] = 0
    header["aux_file"] = b""
    header["slice_code"] = header["slice_start"] = header["slice_end"] = 0
    header["slice_duration"] = 0
    header["vox_offset"] = 0  # write_to puts it behind the extensions
    return header


def _source_header(mask: Mask, source: Raster | Volume | None) -> Any | None:
    import nibabel as nib

    raw = mask.meta.get("nifti_header")
    if raw is None and source is not None:
        raw = source.meta.get("nifti_header")
    if not isinstance(raw, bytes) or len(raw) not in (348, 540):
        return None
    klass: Any = nib.nifti2.Nifti2Header if len(raw) == 540 else nib.nifti1.Nifti1Header
    if raw[344:346] not in (b"n+", b"ni") and len(raw) == 348:
        return None  # Analyze stores no orientation to keep
    header = klass(raw, check=False).as_byteswapped("<")
    same = np.array_equal(np.asarray(header.get_best_affine(), np.float64), mask.grid.matrix)
    if not same:
        return None  # cropped or turned since: its forms speak of another grid
    header["magic"] = klass.single_magic
    return header


def _fresh_header(mask: Mask) -> Any:
    import nibabel as nib

    longest = max(mask.grid.shape)
    klass: Any = nib.nifti2.Nifti2Header if longest > _LONGEST else nib.nifti1.Nifti1Header
    header = klass()
    header.set_data_shape(mask.grid.shape[::-1])
    header.set_xyzt_units("mm")
    affine = mask.grid.matrix
    header.set_sform(affine, _SCANNER)
    header.set_qform(affine, _SCANNER, strip_shears=True)
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(steps.T @ steps, np.eye(3), atol=1e-5):
        header["qform_code"] = 0  # a quaternion can't hold shear: the sform alone speaks
    return header


@contextlib.contextmanager
def _opened(path: Path, *, gzipped: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        if not gzipped:
            yield file
            return
        # No name and no time inside: equal labels give equal bytes.
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
            yield stream  # type: ignore[misc]
