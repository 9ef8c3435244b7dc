"""Labels as a DICOM segmentation beside the series they were made from (highdicom), and back.

Segments are binary, the kind that every viewer reads. All slices are written, the empty ones
too, so that the grid of the segmentation is the grid of the series.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from digseg._version import __version__
from digseg.errors import UsageError
from digseg.io._dicom_scan import Instance, broken, quiet, read_header
from digseg.io._dicom_seg_read import is_segmentation, read_mask
from digseg.io.files import replacing
from digseg.prompts import normalise
from digseg.raster import ClassEntry, Mask, Raster, Volume
from digseg.types import AnyArray

#: SNOMED CT codes of what people ask for most; other names get a code of the project's own.
_ANATOMY = {
    "liver": "10200004",
    "spleen": "78961009",
    "kidney": "64033007",
    "left kidney": "18639004",
    "right kidney": "9846003",
    "pancreas": "15776009",
    "gallbladder": "28231008",
    "stomach": "69695003",
    "heart": "80891009",
    "aorta": "15825003",
    "lung": "39607008",
    "brain": "12738006",
    "hippocampus": "5366008",
    "urinary bladder": "89837001",
    "prostate": "41216001",
    "vertebra": "51282000",
    "spinal cord": "2748008",
    "trachea": "44567001",
    "esophagus": "32849002",
    "bone": "272673000",
}

#: Storage classes of images whose own was removed.
_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

#: Longest text of a segment label and of a code's meaning in DICOM.
_LONGEST = 64

#: Bytes of one-bit frames that a file may hold: DICOM counts them in 32 bits.
_MOST_BYTES = (1 << 32) - (1 << 20)

__all__ = ["is_segmentation", "read_mask", "refuse", "write"]


def refuse(mask: Mask, source: Raster | Volume | None) -> str | None:
    """Why these labels can't become a DICOM segmentation; `None` where they can."""
    files = _source_files(mask, source)
    if len(mask.grid.shape) != 3 or not files:
        return (
            "A DICOM segmentation needs the DICOM series that it belongs to: segment the series "
            "itself, or write .nii.gz."
        )
    if source is not None and not source.meta.get("geometry_stated", True):
        return "The DICOM image states no place in the patient: write the labels as .nii.gz."
    if len(files) != mask.grid.shape[0]:
        return "A DICOM segmentation needs a label for each slice of its series: write .nii.gz."
    z, y, x = mask.grid.shape
    if len(mask.classes.entries) * z * y * x // 8 > _MOST_BYTES:
        return "These labels are too large for one DICOM file: write .nii.gz."
    return None


def write(mask: Mask, path: Path, *, source: Raster | Volume | None = None) -> list[Path]:
    """Write one ``.dcm`` file with a segment for each label.

    Raises
    ------
    UsageError
        The headers of the series lack what a segmentation has to repeat.
    """
    import highdicom

    instances = _instances(_source_files(mask, source))
    labels = np.asarray(mask.labels[:])
    ids = {entry.id: number for number, entry in enumerate(mask.classes.entries, start=1)}
    numbers = np.zeros(int(max(labels.max(initial=0), *ids, 0)) + 1, np.uint16)
    for label, number in ids.items():
        numbers[label] = number
    headers = [_completed(instance.header, mask) for instance in instances]
    uid = _uid(mask, labels, headers[0])
    places = _places(mask, source, headers)
    try:
        with quiet():
            dataset = highdicom.seg.Segmentation(
                source_images=headers,
                pixel_array=numbers[labels],
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[
                    _segment(n, e) for n, e in enumerate(mask.classes.entries, 1)
                ],
                series_instance_uid=uid + ".1",
                series_number=int(headers[0].get("SeriesNumber") or 0) + 9000,
                sop_instance_uid=uid + ".2",
                instance_number=1,
                manufacturer="napari-digseg",
                manufacturer_model_name="napari-digseg",
                software_versions=__version__,
                device_serial_number="0",
                content_label="SEGMENTATION",
                content_description="Text-prompted segmentation",
                omit_empty_frames=False,
                **places,
            )
            dataset.SeriesDescription = "napari-digseg labels"
            _name_frames(dataset, places.get("plane_positions", []), _source_frames(mask, source))
    except broken() as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"No DICOM segmentation can be made from this series ({reason}): write .nii.gz."
        ) from error
    with replacing(path) as temporary, quiet():
        dataset.save_as(temporary)
    return [path]


def _source_files(mask: Mask, source: Raster | Volume | None) -> tuple[str, ...]:
    return tuple(_meta(mask, source).get("dicom_files", ()))


def _source_frames(mask: Mask, source: Raster | Volume | None) -> tuple[int, ...]:
    """For each slice the frame, from 0, that it was read from."""
    return tuple(_meta(mask, source).get("dicom_frames", ()))


def _meta(mask: Mask, source: Raster | Volume | None) -> dict[str, Any]:
    return {**(source.meta if source is not None else {}), **mask.meta}


def _instances(files: tuple[str, ...]) -> list[Instance]:
    """Headers of the slices in order; a multi-frame file once."""
    return [read_header(Path(file)) for file in dict.fromkeys(files)]


def _completed(header: Any, mask: Mask) -> Any:
    """A header with the attributes that highdicom copies and anonymisers like to drop."""
    from pydicom.uid import generate_uid

    study = str(header.get("StudyInstanceUID", "") or header.get("SeriesInstanceUID", ""))
    empty = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate")
    for name in (*empty, "StudyTime", "AccessionNumber", "ReferringPhysicianName"):
        if name not in header:
            setattr(header, name, "")
    meta = header.file_meta
    if not header.get("SOPClassUID"):
        header.SOPClassUID = meta.get("MediaStorageSOPClassUID") or _CLASSES.get(
            str(header.get("Modality", "")), _SECONDARY_CAPTURE
        )
    if not header.get("SOPInstanceUID"):
        place = str(header.get("ImagePositionPatient", ""))
        told = [study, place, str(header.get("InstanceNumber", ""))]
        header.SOPInstanceUID = meta.get("MediaStorageSOPInstanceUID") or generate_uid(
            entropy_srcs=told
        )
    if not header.get("StudyInstanceUID"):
        header.StudyInstanceUID = generate_uid(entropy_srcs=[study, "study"])
    if not header.get("FrameOfReferenceUID"):
        header.FrameOfReferenceUID = generate_uid(entropy_srcs=[study, "frame of reference"])
    if "NumberOfFrames" not in header and not header.get("SliceThickness"):
        header.SliceThickness = f"{mask.grid.spacing[0]:.10g}"
    # Names were decoded on reading; one encoding that holds them all is written.
    header.decode()
    header.SpecificCharacterSet = "ISO_IR 192"
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups:
        shared = header.SharedFunctionalGroupsSequence[0]
        for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if name not in shared and name in groups[0]:
                setattr(shared, name, groups[0][name].value)
    return header


def _uid(mask: Mask, labels: AnyArray, header: Any) -> str:
    """A UID that follows from the content: the same run gives the same one."""
    from pydicom.uid import generate_uid

    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
    told = [str(header.SeriesInstanceUID), digest, str(mask.classes.to_list()), __version__]
    return str(generate_uid(entropy_srcs=told))[:60].rstrip(".")


def _places(mask: Mask, source: Raster | Volume | None, headers: list[Any]) -> dict[str, Any]:
    """Where the frames lie; single-frame series are copied from their own headers."""
    import highdicom

    if "NumberOfFrames" not in headers[0] or "ImagePositionPatient" in headers[0]:
        return {}
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ mask.grid.matrix
    steps = np.linalg.norm(matrix[:3, :3], axis=0)
    row, column = matrix[:3, 0] / steps[0], matrix[:3, 1] / steps[1]
    positions = [matrix[:3, 3] + plane * matrix[:3, 2] for plane in range(mask.grid.shape[0])]
    patient = highdicom.CoordinateSystemNames.PATIENT
    return {
        "plane_positions": [
            highdicom.PlanePositionSequence(patient, tuple(float(v) for v in position))
            for position in positions
        ],
        "plane_orientation": highdicom.PlaneOrientationSequence(
            patient, tuple(float(v) for v in (*row, *column))
        ),
        "pixel_measures": highdicom.PixelMeasuresSequence(
            pixel_spacing=(float(steps[1]), float(steps[0])), slice_thickness=float(steps[2])
        ),
    }


def _name_frames(dataset: Any, positions: list[Any], frames: tuple[int, ...]) -> None:
    """Refer to the frames that the slices were read from, and to those alone.

    highdicom refers to all frames at a place, those of other time points too.
    """
    plane_of = {str(item[0].ImagePositionPatient): plane for plane, item in enumerate(positions)}
    if len(frames) != len(plane_of):
        return
    for group in dataset.PerFrameFunctionalGroupsSequence if plane_of else ():
        number = frames[plane_of[str(group.PlanePositionSequence[0].ImagePositionPatient)]] + 1
        for derivation in group.get("DerivationImageSequence", ()):
            derivation.SourceImageSequence = [
                image
                for image in derivation.SourceImageSequence
                if image.get("ReferencedFrameNumber") in (None, number)
            ]


def _segment(number: int, entry: ClassEntry) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    snomed = _ANATOMY.get(normalise(entry.name))
    name = entry.name[:_LONGEST]
    if snomed is not None:
        category = highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
        kind = highdicom.sr.CodedConcept(snomed, "SCT", name)
    else:
        category = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
        code = hashlib.sha256(normalise(entry.name).encode()).hexdigest()[:12].upper()
        kind = highdicom.sr.CodedConcept(code, "99DIGSEG", name)
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="napari-digseg",
            family=codes.DCM.ArtificialIntelligence,
            version=__version__,
        ),
        tracking_uid=None,
        display_color=highdicom.color.CIELabColor.from_rgb(*entry.color),
    )
