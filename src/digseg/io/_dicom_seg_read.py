"""Labels, names and colours of a DICOM segmentation, this program's or another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError
from digseg.io._dicom_geometry import Frame, frames_of, stack
from digseg.io._dicom_pixels import decode
from digseg.io._dicom_scan import Instance, guarded, read_header
from digseg.io._volumes import patient_grid
from digseg.prompts import Color, color_of
from digseg.raster import ClassEntry, ClassTable, Mask
from digseg.types import AnyArray

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


def is_segmentation(header: Any) -> bool:
    """Whether this is a segmentation object."""
    return str(header.get("SOPClassUID", "")) in (_SEGMENTATION, _LABEL_MAP)


def read_mask(path: str) -> Mask:
    """Labels, names and colours of a DICOM segmentation; ids are the segment numbers.

    Raises
    ------
    UnsupportedInputError
        It is no segmentation.
    CorruptInputError
        Damaged, or its segments overlap.
    """
    instance = read_header(Path(path))
    if not is_segmentation(instance.header):
        raise UnsupportedInputError(f"{path} is a DICOM image, no segmentation.")
    with guarded(Path(path).name):
        classes = _classes(instance)
        frames, segments = frames_of(instance), _segment_numbers(instance)
        placed = stack(_distinct_places(frames), Path(path).name)
        labels = _labels(instance, frames, segments, placed.frames[0])
    grid = patient_grid(labels.shape, placed.affine, Path(path).name)
    return Mask(labels, grid, classes, meta={"named": True, "notes": placed.notes})


def _classes(instance: Instance) -> ClassTable:
    entries = []
    for index, item in enumerate(instance.header.SegmentSequence):
        number, name = int(item.SegmentNumber), str(item.get("SegmentLabel", "") or "")
        name = name or f"segment {number}"
        entries.append(ClassEntry(number, name, _color(item) or color_of(name, index)))
    return ClassTable(tuple(entries))


def _color(item: Any) -> Color | None:
    import highdicom

    lab = item.get("RecommendedDisplayCIELabValue")
    if lab is None or len(lab) != 3:
        return None
    red, green, blue = highdicom.color.CIELabColor.from_dicom_value(list(lab)).to_rgb()
    return int(red), int(green), int(blue)


def _segment_numbers(instance: Instance) -> list[int]:
    """Segment of each frame; 0 where the frame is a map of all labels."""
    header = instance.header
    if str(header.SOPClassUID) == _LABEL_MAP:
        return [0] * instance.frames
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())[:1]
    numbers = []
    for group in header.PerFrameFunctionalGroupsSequence:
        found = group.get("SegmentIdentificationSequence") or (
            shared[0].SegmentIdentificationSequence
        )
        numbers.append(int(found[0].ReferencedSegmentNumber))
    return numbers


def _distinct_places(frames: list[Frame]) -> list[Frame]:
    """One frame for each place: segments lie over one another."""
    places: dict[tuple[float, ...], Frame] = {}
    for frame in frames:
        places.setdefault(_place(frame), frame)
    return list(places.values())


def _place(frame: Frame) -> tuple[float, ...]:
    return () if frame.position is None else tuple(np.round(frame.position, 4).tolist())


def _labels(
    instance: Instance, frames: list[Frame], segments: list[int], order: tuple[Frame, ...]
) -> AnyArray:
    header = instance.header
    rows, columns = int(header.Rows), int(header.Columns)
    many = max([*segments, len(header.SegmentSequence)]) > 254
    labels = np.zeros((len(order), rows, columns), np.uint16 if many else np.uint8)
    plane_of = {_place(frame): plane for plane, frame in enumerate(order)}
    half = 0.0
    if header.get("SegmentationType") == "FRACTIONAL":
        half = float(header.get("MaximumFractionalValue", 255)) / 2
    for index, (frame, segment) in enumerate(zip(frames, segments, strict=True)):
        stored = decode(instance.path, index if len(frames) > 1 else None)
        plane = labels[plane_of[_place(frame)]]
        if segment == 0:
            plane[...] = stored
            continue
        there = stored > half
        if np.any(plane[there]):
            raise CorruptInputError(
                f"The segments of {instance.path.name} overlap: one label for each voxel is needed."
            )
        plane[there] = segment
    return labels
