"""DICOM: single files, series in folders, enhanced multi-frame, DICOMDIR; segmentations.

Values are rescaled (HU for CT); the affine leads ``(column, row, slice)`` to RAS+. Pixels are
decoded slice by slice when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError
from digseg.grid import Grid
from digseg.io import _dicom_pixels as pixels
from digseg.io._dicom_geometry import Stack, frames_of, stack
from digseg.io._dicom_scan import Series, choose, find_series, guarded, is_dicom
from digseg.io._volumes import identity_of, patient_grid, time_point, volume_info
from digseg.io.dicom_seg import is_segmentation, read_mask, refuse, write
from digseg.io.files import suffix_of
from digseg.io.modality import of_dicom
from digseg.io.registry import Probe
from digseg.raster import Raster, Source, Volume

__all__ = ["info", "read", "read_mask", "refuse", "sniff", "write"]

#: Files of a folder that are looked at before it is taken for no DICOM.
_LOOK = 64

#: Files that make a tree a set of cases.
_OTHER_SCANS = {".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".tif", ".tiff"}


def sniff(probe: Probe) -> bool:
    """DICOM's mark in a file, or in one of the first files of a folder."""
    if probe.kind == "file":
        return probe.head[128:132] == b"DICM"
    if probe.kind != "folder":
        return False
    return _is_series(Path(probe.path))


def _is_series(folder: Path) -> bool:
    """Whether a folder is a DICOM folder, and not one of cases that holds such folders as well."""
    looked = list(islice(_walk(folder), _LOOK))
    found = [path for path in looked if is_dicom(path)]
    if any(path.parent == folder for path in found):
        return True  # what else lies there are notes, previews or answers
    others = {suffix_of(path.name) for path in looked} & _OTHER_SCANS
    return bool(found) and not others


def _walk(folder: Path) -> Iterator[Path]:
    """Files of a tree in order, one at a time: the tree may be a whole disk."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return  # it may not be looked into
    for path in entries:
        if path.is_dir():
            if not path.is_symlink():  # it might lead back
                yield from _walk(path)
        elif path.is_file():
            yield path


def read(path: str, *, time: int = 0, series: str | None = None) -> Raster | Volume:
    """Open a series lazily; see `digseg.io.read`.

    A colour image (ultrasound, endoscopy, photographs) comes as a `Raster` of three bands.
    ``meta`` has ``notes``, and ``dicom_files``: the files of the slices, in order.
    """
    place = Path(path)
    with guarded(place.name):
        return _read(place, path, time, series)


def _read(place: Path, path: str, time: int, series: str | None) -> Raster | Volume:
    chosen = choose(find_series(place), series, place.name)
    if is_segmentation(chosen.instances[0].header):
        return _labels(path, chosen)
    stacked = _stack(chosen, place)
    point = time_point(time, len(stacked.frames), place.name)
    if pixels.is_colour(chosen.instances[0].header):
        return _picture(path, chosen)
    data = pixels.slices(stacked.frames[point], chosen.instances[0].header, place.name)
    grid = patient_grid(data.shape, stacked.affine, place.name)
    notes = [*chosen.notes, *stacked.notes, *data.notes]
    meta = {
        "notes": tuple(notes),
        "dicom_files": tuple(str(frame.path) for frame in stacked.frames[point]),
        "dicom_frames": tuple(frame.index for frame in stacked.frames[point]),
        "geometry_stated": stacked.stated,
    }
    kind = of_dicom(chosen.instances[0].modality)
    points = len(stacked.frames)
    return Volume(data, grid, kind, points, _source(path, chosen, "DICOM"), meta)


def info(path: str) -> dict[str, Any]:
    """See `digseg.io.info`; a folder of several series lists them all and describes none."""
    place = Path(path)
    with guarded(place.name):
        return _info(place, path)


def _info(place: Path, path: str) -> dict[str, Any]:
    found = find_series(place)
    listed = [_described(item, place) for item in found]
    if len(found) > 1:
        return {
            "kind": "volume",
            "format": "DICOM",
            **dict.fromkeys(("shape", "dtype", "affine", "spacing", "orientation")),
            "series": listed,
            "notes": [f"{len(found)} series: choose one by its number or UID"],
        }
    header = found[0].instances[0].header
    volume = read(path)
    x_y_z = listed[0]["shape"]
    if isinstance(volume, Volume):
        volume.data[volume.shape[0] // 2]  # a damaged or unknown compression shows here
        dtype = str(pixels.stored_dtype(header))
        return volume_info(volume, shape=x_y_z, dtype=dtype, series=listed)
    return _picture_info(volume, found[0], place, listed)


def _stack(series: Series, place: Path) -> Stack:
    sizes = {
        (int(item.header.Rows), int(item.header.Columns), pixels.is_colour(item.header))
        for item in series.instances
    }
    if len(sizes) > 1:
        raise CorruptInputError(f"{place.name} mixes images of different sizes in one series.")
    frames = [frame for item in series.instances for frame in frames_of(item)]
    return stack(frames, place.name)


def _described(series: Series, place: Path) -> dict[str, Any]:
    told = series.summary()
    header = series.instances[0].header
    if is_segmentation(header):
        return told
    stacked = _stack(series, place)
    slices = len(stacked.frames[0])
    shape = [int(header.Columns), int(header.Rows), slices]
    if len(stacked.frames) > 1:
        shape.append(len(stacked.frames))
    return {**told, "shape": shape, "affine": stacked.affine.tolist()}


def _source(path: str, series: Series, kind: str) -> Source:
    files = sorted({item.path for item in series.instances})
    return Source(path, kind, identity_of(files))


def _labels(path: str, series: Series) -> Volume:
    mask = read_mask(str(series.instances[0].path))
    source = _source(path, series, "DICOM-SEG")
    return Volume(mask.labels, mask.grid, "other", 1, source, {"notes": mask.meta["notes"]})


def _picture(path: str, series: Series) -> Raster:
    instance = series.instances[0]
    if len(series.instances) > 1 or instance.frames > 1:
        raise UnsupportedInputError(
            f"{Path(path).name} is a colour film or several colour images: give a single frame."
        )
    data = pixels.colours(instance.path, instance.header)
    notes = (*series.notes, "a colour picture: segmented as three bands, without a place")
    return Raster(
        data,
        Grid.of((int(data.shape[1]), int(data.shape[2]))),
        band_names=("red", "green", "blue"),
        source=_source(path, series, "DICOM"),
        meta={"notes": notes, "colors": ("red", "green", "blue")},
    )


def _picture_info(
    picture: Raster, series: Series, place: Path, listed: list[dict[str, Any]]
) -> dict[str, Any]:
    stacked = _stack(series, place)
    grid = patient_grid((1, *picture.shape), stacked.affine, place.name)
    volume = Volume(np.zeros(grid.shape, np.uint8), grid, "other", 1, picture.source, picture.meta)
    dtype = str(pixels.stored_dtype(series.instances[0].header))
    return volume_info(volume, shape=listed[0]["shape"], dtype=dtype, series=listed, bands=3)
