"""DICOM files made by pydicom for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from digseg.types import AnyArray

#: Directions along a row and down a column: oblique, so that a mistake in signs shows.
ROW, COLUMN = (0.8, 0.6, 0.0), (-0.6, 0.8, 0.0)
SPACING = (0.7, 0.9)  # between rows, between columns
ORIGIN = (-100.5, 40.25, -300.0)


def uid_of(text: str) -> str:
    return str(generate_uid(entropy_srcs=[text]))


def ct_slice(
    pixels: AnyArray,
    index: int,
    *,
    step: tuple[float, float, float] = (0.0, 0.0, 2.5),
    series: str = "one",
    number: int = 1,
) -> Any:
    """A CT slice ``[y, x]`` of a series, in its place."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid_of(f"{series} {index}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = uid_of("study")
    dataset.SeriesInstanceUID = uid_of(series)
    dataset.FrameOfReferenceUID = uid_of("frame")
    dataset.SeriesDescription = f"series {series}"
    dataset.SeriesNumber, dataset.InstanceNumber = number, index + 1
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Müller^Änne", "1"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = ""
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = ""
    dataset.ImagePositionPatient = [
        f"{o + index * s:.6g}" for o, s in zip(ORIGIN, step, strict=True)
    ]
    dataset.ImageOrientationPatient = [*ROW, *COLUMN]
    dataset.PixelSpacing, dataset.SliceThickness = list(SPACING), 2.5
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0 if pixels.dtype.kind == "u" else 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    return dataset


def ct_series(folder: Path, count: int = 5, **options: Any) -> AnyArray:
    """A series under shuffled names; returns its Hounsfield units ``[z, y, x]``."""
    folder.mkdir(exist_ok=True, parents=True)
    stored = np.arange(count * 12 * 10, dtype=np.uint16).reshape(count, 12, 10)
    series = options.get("series", "one")
    for index in range(count):
        dataset = ct_slice(stored[index], index, **options)
        # Neither names nor instance numbers follow the order in space.
        dataset.InstanceNumber = (index * 3) % count + 1
        name = f"{series}-{(index * 2) % count}-{index}"
        dataset.save_as(folder / name, enforce_file_format=True)
    return stored.astype(np.int32) - 1024
