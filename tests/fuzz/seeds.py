"""Small good files, one of each format, for damaging; and what a reader may answer."""

from __future__ import annotations

import gzip
import io as streams
import json
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from tests.io.dicom_files import ct_slice

from digseg import io
from digseg.errors import InputError

PIXELS = (np.arange(24 * 20, dtype=np.uint16) * 131).reshape(24, 20)

#: The name under which the metadata of a Zarr store are damaged.
ZARR = ".zarr"


def _tiff(**options: object) -> bytes:
    stream = streams.BytesIO()
    tifffile.imwrite(stream, PIXELS, **options)
    return stream.getvalue()


def _picture(kind: str) -> bytes:
    stream = streams.BytesIO()
    Image.fromarray((PIXELS >> 8).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def _nifti() -> bytes:
    import nibabel as nib

    return bytes(nib.Nifti1Image(PIXELS[None].astype(np.int16), np.diag([2, 3, 4, 1])).to_bytes())


def _itk(suffix: str) -> bytes:
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed{suffix}"
        image = SimpleITK.GetImageFromArray(PIXELS[None])
        SimpleITK.WriteImage(image, str(path), useCompression=suffix == ".nrrd")
        return path.read_bytes()


def _dicom() -> bytes:
    stream = streams.BytesIO()
    ct_slice(PIXELS, 0).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _zarr() -> bytes:
    import zarr

    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(f"{folder}/a", shape=(24, 20), chunks=(24, 20), dtype="uint16")
        array.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [{"axes": [{"name": n} for n in "yx"], "datasets": [{"path": ""}]}],
        }
        return (Path(folder) / "a" / "zarr.json").read_bytes()


SEEDS = {
    ".tif": _tiff(compression="zlib", tile=(16, 16)),
    ".ome.tif": _tiff(metadata={"axes": "YX"}, ome=True),
    ".png": _picture("PNG"),
    ".jpg": _picture("JPEG"),
    ".nii": _nifti(),
    ".nii.gz": gzip.compress(_nifti(), mtime=0),
    ".mha": _itk(".mha"),
    ".nrrd": _itk(".nrrd"),
    ".dcm": _dicom(),
    ZARR: json.dumps(json.loads(_zarr())).encode(),
}


def write(folder: Path, suffix: str, content: bytes) -> Path:
    """Write a file (for Zarr: a store with these metadata) and return what to open."""
    path = folder / f"fuzz{suffix}"
    if suffix == ZARR:
        path.mkdir(exist_ok=True)
        (path / "zarr.json").write_bytes(content)
    else:
        path.write_bytes(content)
    return path


def problem(path: Path) -> InputError | None:
    """The refusal of a file; `None` where it is read, and then whole."""
    try:
        facts = io.info(path)
        image = io.read(path)
        if np.prod(image.data.shape, dtype=np.float64) < 10**7:
            np.asarray(image.data[0])
    except InputError as error:
        return error
    return None if facts["shape"] else InputError("It has no shape")
