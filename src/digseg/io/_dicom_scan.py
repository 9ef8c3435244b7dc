"""Finding DICOM images: headers of a file or a folder, without their pixels."""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digseg.errors import CorruptInputError, DigsegError, UnsupportedInputError, UsageError

#: Float, double and integer pixel data.
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)

_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
_UNKNOWN_LENGTH = 0xFFFFFFFF

#: A folder with more files is no series but somebody's disk.
_MOST_FILES = 100_000


@dataclass(frozen=True, eq=False)
class Instance:
    """One DICOM file with its header and what is known of its pixels."""

    path: Path
    header: Any
    has_pixels: bool

    @property
    def series_uid(self) -> str:
        return str(self.header.get("SeriesInstanceUID", "") or "")

    @property
    def modality(self) -> str:
        return str(self.header.get("Modality", "") or "")

    @property
    def frames(self) -> int:
        return int(self.header.get("NumberOfFrames", 1) or 1)


@dataclass(frozen=True)
class Series:
    """The images of one series."""

    uid: str
    instances: tuple[Instance, ...]
    notes: tuple[str, ...] = field(default=())

    def summary(self) -> dict[str, Any]:
        """What `info` says of it."""
        header = self.instances[0].header
        number = header.get("SeriesNumber")
        return {
            "uid": self.uid,
            "number": None if number in (None, "") else int(number),
            "description": str(header.get("SeriesDescription", "") or ""),
            "modality": self.instances[0].modality,
            "images": sum(instance.frames for instance in self.instances),
        }


def broken() -> tuple[type[Exception], ...]:
    """What pydicom raises on damaged files: it has no base of its own for most of it."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        AttributeError,
        BytesLengthException,
        EOFError,
        IndexError,
        InvalidDicomError,
        KeyError,
        NotImplementedError,
        OSError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """pydicom warns of every oddity; those that matter are errors or notes here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
    """Work on headers: values are converted only when they are asked for, and may be broken.

    Raises
    ------
    CorruptInputError
        In place of whatever pydicom raises there.
    """
    try:
        with quiet():
            yield
    except broken() as error:
        if isinstance(error, DigsegError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptInputError(f"The DICOM header of {name} is damaged ({reason}).") from error


def is_dicom(path: Path) -> bool:
    """Whether the file carries DICOM's mark."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_series(path: Path) -> list[Series]:
    """All series with images in a file, a folder or a DICOMDIR, largest first.

    Raises
    ------
    UnsupportedInputError
        There is no image.
    CorruptInputError
        The only file is damaged.
    """
    if path.is_dir():
        return _group(path, [item for item in _files(path) if is_dicom(item)])
    instance = read_header(path)
    if str(instance.header.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
        return _group(path, _listed(path, instance.header))
    if not instance.has_pixels:
        raise UnsupportedInputError(
            f"{path.name} is DICOM without an image ({_kind(instance.header)}): give the images."
        )
    return [Series(instance.series_uid, (instance,))]


def choose(series: Sequence[Series], wanted: str | None, name: str) -> Series:
    """The series that is meant.

    Parameters
    ----------
    wanted
        UID or number of a series; `None` where there can be only one.

    Raises
    ------
    UsageError
        Several and none chosen, or no such series; the message names them.
    """
    if wanted is None and len(series) == 1:
        return series[0]
    listed = "; ".join(_described(item) for item in series)
    if wanted is None:
        raise UsageError(
            f"{name} holds {len(series)} series, choose one by its number or UID: {listed}."
        )
    found = [item for item in series if wanted == item.uid]
    found = found or [item for item in series if wanted == str(item.summary()["number"])]
    if len(found) != 1:
        raise UsageError(f"{name} holds no single series {wanted!r}, it holds: {listed}.")
    return found[0]


def read_header(path: Path) -> Instance:
    """Header of one file; the pixels are neither read nor decoded, but have to be there.

    Raises
    ------
    CorruptInputError
        Damaged, or cut short.
    """
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_partial

    stop: list[tuple[int, int]] = []

    def at_pixels(tag: Any, vr: str | None, length: int) -> bool:
        if int(tag) in _PIXELS:
            stop.append((int(tag), int(length)))
        return bool(stop)

    with guarded(path.name), path.open("rb") as file:
        try:
            _refuse_deflate_bomb(path)
            header = read_partial(file, stop_when=at_pixels)
        except InvalidDicomError as error:
            raise CorruptInputError(f"{path.name} is no DICOM file: its mark is gone.") from error
        left = path.stat().st_size - file.tell()
        instance = Instance(path, header, bool(stop))
        if stop and not _is_deflated(header):
            _check_pixels(instance, stop[0][1], left)
        return instance


def _check_pixels(instance: Instance, length: int, left: int) -> None:
    """Compare what the header promises with the bytes that are there."""
    header, name = instance.header, instance.path.name
    sides = [int(header.get(key, 0) or 0) for key in ("Rows", "Columns")]
    bits = int(header.get("BitsAllocated", 0) or 0)
    if min(*sides, bits, instance.frames) < 1:
        raise CorruptInputError(f"{name} does not say how large its image is: it is damaged.")
    samples = int(header.get("SamplesPerPixel", 1) or 1)
    expected = sides[0] * sides[1] * instance.frames * samples * bits // 8
    encapsulated = length == _UNKNOWN_LENGTH
    if not encapsulated and (length > left + 16 or _subsampled(header) * expected > length):
        raise CorruptInputError(
            f"{name} is cut short: its header promises {expected} bytes of pixels, "
            f"{min(length, left)} are there; copy it again."
        )
    if encapsulated and expected > 1 << 28 and expected > 1000 * left:
        raise CorruptInputError(
            f"{name} promises {expected} bytes of pixels from {left} compressed ones: it is "
            "damaged or made to exhaust the memory."
        )


def _subsampled(header: Any) -> float:
    # Only YBR_FULL_422 stores fewer samples than its header counts.
    return 2 / 3 if header.get("PhotometricInterpretation") == "YBR_FULL_422" else 1.0


def _is_deflated(header: Any) -> bool:
    return str(header.file_meta.get("TransferSyntaxUID", "")) == _DEFLATED


def _refuse_deflate_bomb(path: Path) -> None:
    """pydicom inflates a deflated file at once: count first what would come."""
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path)
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    size = path.stat().st_size
    limit = max(1 << 28, 250 * size)
    inflater, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        pending = file.read(1 << 16)
        while pending and not inflater.eof:
            count += len(inflater.decompress(pending, 1 << 20))
            if count > limit:
                raise CorruptInputError(
                    f"{path.name} would expand more than 250-fold, like a zip bomb: it is not read."
                )
            pending = inflater.unconsumed_tail or file.read(1 << 16)


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        if len(found) > _MOST_FILES:
            raise UnsupportedInputError(f"{folder} holds more than {_MOST_FILES} files: go deeper.")
    return found


def _listed(path: Path, header: Any) -> list[Path]:
    """Files of a DICOMDIR; none outside its folder."""
    found = []
    for record in header.get("DirectoryRecordSequence", ()):
        parts = record.get("ReferencedFileID")
        if not parts:
            continue
        parts = [parts] if isinstance(parts, str) else list(parts)
        file = path.parent.joinpath(*parts)
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise UnsupportedInputError(
                f"{path.name} points to a file outside its own folder ({'/'.join(parts)})."
            )
        if file.is_file() and is_dicom(file):
            found.append(file)
    if not found:
        raise UnsupportedInputError(
            f"{path.name} is an index of images that are not there: copy the whole folder."
        )
    return found


def _group(path: Path, files: Sequence[Path]) -> list[Series]:
    by_uid: dict[str, list[Instance]] = {}
    passed_over = 0
    for file in files:
        instance = read_header(file)
        if not instance.has_pixels:
            passed_over += 1
            continue
        by_uid.setdefault(instance.series_uid, []).append(instance)
    notes = [f"{passed_over} DICOM files without an image passed over"] if passed_over else []
    found = [Series(uid, tuple(items), tuple(notes)) for uid, items in by_uid.items()]
    images = [item for item in found if item.instances[0].modality != "SEG"]
    if not found:
        raise UnsupportedInputError(f"{path} holds no DICOM image: give the folder of a series.")
    # A segmentation beside its scan is an answer, not another scan to choose from.
    return sorted(images or found, key=lambda item: -len(item.instances))


def _described(series: Series) -> str:
    told = series.summary()
    number = "without number" if told["number"] is None else str(told["number"])
    text = f"{number} ({told['modality']}, {told['images']} images"
    if told["description"]:
        text += f", {told['description']}"
    return f"{text}, {series.uid})"


def _kind(header: Any) -> str:
    from pydicom.uid import UID

    kind = str(header.get("SOPClassUID", "") or "")
    return UID(kind).name if kind else "of an unknown kind"
