"""Where DICOM slices lie: one affine for all of them, or a refusal that says why there is none.

DICOM speaks of LPS, rows and columns; here index ``(column, row, slice)`` goes to RAS+. Slices
are ordered along the normal of their plane; the third column of the affine is the mean step, so a
tilted gantry gives a sheared affine, kept as it is (DICOM PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError
from digseg.io._dicom_scan import Instance, guarded
from digseg.types import AnyArray

#: Directions that differ by less are the same (they are written with few digits).
_SAME_DIRECTION = 1e-3

#: Slices may lie this share of a step beside their place on the straight line.
_UNEVEN = 0.05

_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of pixels.

    Parameters
    ----------
    position, orientation
        In LPS millimetres: centre of the first pixel; directions along a row and down a column.
        `None` where the file states none.
    spacing
        Between rows and between columns, in millimetres; `None` where unknown.
    order
        What tells time points, echoes or repetitions at one place apart.
    """

    path: Path
    index: int
    uid: str
    position: AnyArray | None
    orientation: AnyArray | None
    spacing: tuple[float, float] | None
    thickness: float
    slope: float
    inter: float
    order: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames in order: ``frames[time][slice]``, and their affine."""

    frames: tuple[tuple[Frame, ...], ...]
    affine: AnyArray
    notes: tuple[str, ...]
    stated: bool


def frames_of(instance: Instance) -> list[Frame]:
    """All frames of a file.

    Raises
    ------
    CorruptInputError
        Values that do not fit their meaning, or frames and positions that differ in number.
    UnsupportedInputError
        Several frames whose places are not stated.
    """
    with guarded(instance.path.name):
        if instance.header.get("PerFrameFunctionalGroupsSequence"):
            return _enhanced(instance)
        return _classic(instance)


def _classic(instance: Instance) -> list[Frame]:
    header = instance.header
    if "MOSAIC" in (header.get("ImageType") or ()):
        raise UnsupportedInputError(
            f"{instance.path.name} is a Siemens mosaic of many slices: convert it to NIfTI first."
        )
    first = _frame(instance, 0, header, [header])
    if instance.frames == 1:
        return [first]
    offsets = header.get("GridFrameOffsetVector")
    if offsets is None or len(offsets) != instance.frames or first.position is None:
        raise UnsupportedInputError(
            f"{instance.path.name} has {instance.frames} frames and does not state where they lie: "
            "convert it to NIfTI with what you know of it."
        )
    normal = np.cross(_directions(first)[0], _directions(first)[1])
    # Offsets are relative to the first frame, or are positions of their own (PS3.3 C.8.8.3.2).
    start = float(offsets[0])
    return [
        _moved(first, index, first.position + normal * (float(offset) - start))
        for index, offset in enumerate(offsets)
    ]


def _enhanced(instance: Instance) -> list[Frame]:
    header = instance.header
    groups = header.PerFrameFunctionalGroupsSequence
    if len(groups) != instance.frames:
        raise CorruptInputError(
            f"{instance.path.name} has {instance.frames} frames but places for {len(groups)}: "
            "it contradicts itself."
        )
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())[:1]
    frames = [_frame(instance, i, header, [group, *shared]) for i, group in enumerate(groups)]
    if len(frames) > 1 and any(frame.position is None for frame in frames):
        raise UnsupportedInputError(
            f"{instance.path.name} has {instance.frames} frames and does not state where they lie: "
            "convert it to NIfTI with what you know of it."
        )
    return frames


def _frame(instance: Instance, index: int, header: Any, groups: Sequence[Any]) -> Frame:
    def of(sequence: str, name: str) -> Any:
        for group in groups:
            item = group if group is header else (list(group.get(sequence) or ()) or [None])[0]
            value = None if item is None else item.get(name)
            if value is not None and value != "":
                return value
        return None

    position = _vector(of("PlanePositionSequence", "ImagePositionPatient"), 3)
    orientation = _vector(of("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = _vector(of("PixelMeasuresSequence", "PixelSpacing"), 2)
    if spacing is None:
        spacing = _vector(header.get("ImagerPixelSpacing") or header.get("PixelSpacing"), 2)
    thickness = _number(of("PixelMeasuresSequence", "SpacingBetweenSlices"))
    thickness = thickness or _number(of("PixelMeasuresSequence", "SliceThickness"))
    slope = _number(of("PixelValueTransformationSequence", "RescaleSlope"))
    inter = _number(of("PixelValueTransformationSequence", "RescaleIntercept"))
    if slope is None and header.get("DoseGridScaling") is not None:
        slope = _number(header.DoseGridScaling)
    order = (
        _number(of("FrameContentSequence", "TemporalPositionIndex"))
        or _number(header.get("TemporalPositionIdentifier")),
        _number(header.get("AcquisitionNumber")),
        _number(of("MREchoSequence", "EffectiveEchoTime")) or _number(header.get("EchoTime")),
        _number(header.get("InstanceNumber")),
        float(index),
    )
    return Frame(
        instance.path,
        index,
        str(header.get("SOPInstanceUID", "") or ""),
        position,
        orientation,
        None if spacing is None else (float(spacing[0]), float(spacing[1])),
        abs(thickness or 0.0),
        1.0 if slope is None else slope,
        0.0 if inter is None else inter,
        tuple(0.0 if value is None else value for value in order),
    )


def _moved(frame: Frame, index: int, position: AnyArray) -> Frame:
    values = {**frame.__dict__, "index": index, "position": position}
    return Frame(**values)


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def _vector(value: Any, length: int) -> AnyArray | None:
    if value is None or value == "" or len(value) == 0:
        return None
    vector = np.array([float(part) for part in value])
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise ValueError(f"{list(value)} should be {length} finite numbers")
    return vector


def _directions(frame: Frame) -> tuple[AnyArray, AnyArray]:
    orientation = frame.orientation
    if orientation is None:
        return np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    row, column = orientation[:3], orientation[3:]
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if abs(lengths[0] - 1) > 0.05 or abs(lengths[1] - 1) > 0.05 or abs(row @ column) > 0.05:
        raise CorruptInputError(f"{frame.path.name} states an orientation that is none.")
    return row, column


def stack(frames: Sequence[Frame], name: str) -> Stack:
    """Order the frames of a series and find their affine.

    Raises
    ------
    CorruptInputError
        Slices are missing or lie unevenly, orientations are mixed, or places hold different
        numbers of images.
    """
    placed = [frame for frame in frames if frame.position is not None]
    if placed and len(placed) != len(frames):
        raise CorruptInputError(f"{name} has images without a place among those with one.")
    if not placed and len(frames) > 1:
        raise UnsupportedInputError(
            f"{name} has {len(frames)} images that state no place: give a single one of them."
        )
    notes = []
    if len(frames) > 1 and len({frame.path for frame in frames}) == 1:
        notes.append("one file of several frames, placed by the positions it states for them")
    unique = list({(f.uid or str(f.path), f.index): f for f in frames}.values())
    if len(unique) < len(frames):
        notes.append(f"{len(frames) - len(unique)} copies of the same image left out")
    _refuse_mixed(unique, name)
    if not placed:
        notes.append("no position or orientation is stated: axes along LPS are assumed")
        return Stack(((unique[0],),), _affine(unique[0], None), tuple(notes), False)
    points = _time_points(unique, name)
    slices = points[0]
    step = _step(slices, name)
    notes += _doubts(slices[0], step)
    if len(points) > 1:
        notes.append(f"{len(points)} images at each place (time points, echoes or repetitions)")
    return Stack(points, _affine(slices[0], step), tuple(notes), True)


def _refuse_mixed(frames: Sequence[Frame], name: str) -> None:
    first = frames[0]
    for frame in frames:
        if (frame.orientation is None) != (first.orientation is None) or (
            frame.orientation is not None
            and np.abs(frame.orientation - first.orientation).max() > _SAME_DIRECTION
        ):
            raise CorruptInputError(
                f"{name} mixes slices of different orientations: separate them first."
            )
        if frame.spacing != first.spacing:
            raise CorruptInputError(f"{name} mixes images of different pixel sizes.")


def _time_points(frames: Sequence[Frame], name: str) -> tuple[tuple[Frame, ...], ...]:
    """Slices ordered along the normal, for each of the images at one place."""
    row, column = _directions(frames[0])
    normal = np.cross(row, column)
    along = np.array([float(normal @ frame.position) for frame in frames])
    order = np.argsort(along, kind="stable")
    places: list[list[Frame]] = []
    last = -np.inf
    for index in order:
        # A micrometre tells rounding from another place.
        if along[index] - last > 1e-3:
            places.append([])
        places[-1].append(frames[index])
        last = along[index]
    counts = sorted({len(place) for place in places})
    if len(counts) > 1:
        raise CorruptInputError(
            f"{name} has {counts[0]} images at some places and {counts[-1]} at others: slices are "
            "missing or doubled."
        )
    ordered = [sorted(place, key=lambda frame: frame.order) for place in places]
    return tuple(tuple(place[point] for place in ordered) for point in range(counts[0]))


def _step(slices: Sequence[Frame], name: str) -> AnyArray | None:
    """Mean step between slices, LPS; `None` for a single slice."""
    if len(slices) == 1:
        return None
    positions = np.array([frame.position for frame in slices])
    step: AnyArray = (positions[-1] - positions[0]) / (len(slices) - 1)
    line = positions[0] + np.arange(len(slices))[:, None] * step
    beside = np.linalg.norm(positions - line, axis=1)
    if beside.max() <= _UNEVEN * float(np.linalg.norm(step)) + 1e-2:
        return step
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual, widest = float(np.median(steps)), int(np.argmax(steps))
    usual = min(usual, float(steps.min()) * 1.5)
    if steps[widest] > 1.5 * usual:
        gone = max(1, round(float(steps[widest]) / usual) - 1)
        what = "a slice is" if gone == 1 else f"{gone} slices are"
        raise CorruptInputError(
            f"In {name} {what} missing: between {slices[widest].path.name} and "
            f"{slices[widest + 1].path.name} lie {steps[widest]:.3g} mm, elsewhere {usual:.3g} mm."
        )
    raise CorruptInputError(
        f"The slices of {name} lie unevenly ({steps.min():.3g} to {steps.max():.3g} mm apart): "
        "no single affine holds for them; resample them first."
    )


def _affine(first: Frame, step: AnyArray | None) -> AnyArray:
    row, column = _directions(first)
    between_rows, between_columns = first.spacing or (1.0, 1.0)
    if min(between_rows, between_columns) <= 0:
        raise CorruptInputError(f"{first.path.name} states a pixel size that is not positive.")
    if step is None:
        step = np.cross(row, column) * (first.thickness or 1.0)
    lps = np.stack(
        [
            row * between_columns,
            column * between_rows,
            step,
            np.zeros(3) if first.position is None else first.position,
        ],
        axis=1,
    )
    affine = np.eye(4)
    affine[:3] = lps * _TO_RAS[:, None] + 0.0  # no negative zeros
    return affine


def _doubts(first: Frame, step: AnyArray | None) -> list[str]:
    notes = []
    if first.spacing is None:
        notes.append("no pixel size is stated: 1 mm is assumed")
    if first.orientation is None:
        notes.append("no orientation is stated: axes along LPS are assumed")
    row, column = _directions(first)
    if step is None:
        if not first.thickness:
            notes.append("one slice without thickness: 1 mm is assumed")
        return notes
    cosine = abs(float(np.cross(row, column) @ step)) / float(np.linalg.norm(step))
    angle = float(np.degrees(np.arccos(min(1.0, cosine))))
    if angle > 0.5:
        notes.append(f"tilted gantry: slices are shifted by {angle:.1f} degrees, the affine shears")
    return notes
