"""Pixels of DICOM slices, decoded one by one when they are asked for, and rescaled."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError
from digseg.io._dicom_geometry import Frame
from digseg.io._dicom_scan import broken, quiet, read_header
from digseg.lazy import Bounds, WindowArray
from digseg.types import AnyArray, LazyArray

#: Decoded slices that are kept: neighbours are asked for again at once.
_KEPT = 8

#: pydicom's switch of warnings belongs to the whole process, so slices are decoded in turn.
_DECODING = threading.Lock()


def is_colour(header: Any) -> bool:
    """Whether pixels are colours: three samples, or indices into a palette."""
    palette = header.get("PhotometricInterpretation") == "PALETTE COLOR"
    return int(header.get("SamplesPerPixel", 1) or 1) > 1 or palette


def stored_dtype(header: Any) -> np.dtype[Any]:
    """Type of the stored values, in the machine's byte order."""
    if "FloatPixelData" in header or int(header.BitsAllocated) not in (1, 8, 16, 32):
        return np.dtype(f"f{int(header.BitsAllocated) // 8}")
    sign = "i" if int(header.get("PixelRepresentation", 0) or 0) else "u"
    return np.dtype(f"{sign}{max(1, int(header.BitsAllocated) // 8)}")


def decode(path: Path, index: int | None) -> AnyArray:
    """Stored values of a frame, as pydicom gives them (YBR turned to RGB).

    Raises
    ------
    UnsupportedInputError
        No decoder for its compression.
    CorruptInputError
        The pixels are damaged.
    """
    from pydicom.pixels.utils import pixel_array

    try:
        with _DECODING, quiet():
            array: AnyArray = pixel_array(path, index=index)
    except NotImplementedError as error:
        raise UnsupportedInputError(
            f"{path.name} is compressed in a way not known ({error})."
        ) from error
    except broken() as error:
        extended = _extended_jpeg(path, index)
        if extended is not None:
            return extended
        if isinstance(error, RuntimeError) and "missing" in str(error).lower():
            raise UnsupportedInputError(
                f"{path.name} is compressed in a way that needs a decoder: install python-gdcm."
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptInputError(f"The pixels of {path.name} are damaged ({reason}).") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _extended_jpeg(path: Path, index: int | None) -> AnyArray | None:
    """Pixels of a JPEG of 12 bits, which no decoder of pydicom's takes; `None` for all others.

    Raises
    ------
    CorruptInputError
        It is one, and damaged.
    """
    import imagecodecs
    from pydicom import dcmread
    from pydicom.encaps import get_frame
    from pydicom.uid import JPEGExtended12Bit

    try:
        with quiet():
            file = dcmread(path)
            if file.file_meta.TransferSyntaxUID != JPEGExtended12Bit or file.BitsStored <= 8:
                return None
            count = int(file.get("NumberOfFrames", 1) or 1)
            wanted = range(count) if index is None else (index,)
            codes = [get_frame(file.PixelData, at, number_of_frames=count) for at in wanted]
            array = np.stack([imagecodecs.jpeg_decode(code) for code in codes])
    except broken() as error:
        raise CorruptInputError(f"The pixels of {path.name} are damaged ({error}).") from error
    if int(file.get("PixelRepresentation", 0) or 0):
        unused = 16 - int(file.BitsStored)  # the sign is the highest bit that is stored
        array = (array.astype(np.uint16) << unused).view(np.int16) >> unused
    return array[0] if len(array) == 1 else array


@dataclass
class Slices:
    """A lazy volume ``[z, y, x]`` of rescaled values, one frame for each plane.

    Safe to slice from several threads; pickles as file names.
    """

    frames: tuple[Frame, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    multiframe: bool
    inverted: float | None = None
    notes: tuple[str, ...] = ()
    _kept: OrderedDict[int, AnyArray] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __getitem__(self, key: Any) -> AnyArray:
        return WindowArray(self.shape, self.dtype, self._window)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[...], dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("frames", "shape", "dtype", "multiframe", "inverted", "notes")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def stored(self, plane: int) -> AnyArray:
        """Stored values of a plane, before rescaling."""
        frame = self.frames[plane]
        array = decode(frame.path, frame.index if self.multiframe else None)
        if array.shape != self.shape[1:]:
            raise CorruptInputError(
                f"{frame.path.name} decodes to {array.shape}, its header says {self.shape[1:]}."
            )
        return array

    def plane(self, plane: int) -> AnyArray:
        """Rescaled values of a plane."""
        with self._lock:
            if plane in self._kept:
                self._kept.move_to_end(plane)
                return self._kept[plane]
        frame, stored = self.frames[plane], self.stored(plane)
        if self.inverted is not None:
            stored = (self.inverted - stored).astype(self.dtype)
        if (frame.slope, frame.inter) == (1.0, 0.0):
            values = stored.astype(self.dtype, copy=False)
        elif self.dtype.kind == "f":
            values = (stored * np.float64(frame.slope) + frame.inter).astype(self.dtype)
        else:
            values = (stored.astype(np.int64) + int(frame.inter)).astype(self.dtype)
        with self._lock:
            self._kept[plane] = values
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return values

    def _window(self, bounds: Bounds) -> AnyArray:
        (first, last), (top, bottom), (left, right) = bounds
        planes = [self.plane(z)[top:bottom, left:right] for z in range(first, last)]
        return np.stack(planes)


def slices(frames: Sequence[Frame], header: Any, name: str) -> Slices:
    """The volume of some frames in order.

    Raises
    ------
    UnsupportedInputError
        The pixels are of no kind that can be segmented.
    """
    rows, columns = int(header.Rows), int(header.Columns)
    stored = stored_dtype(header)
    if stored.kind not in "iuf":
        raise UnsupportedInputError(f"{name} has pixels of {header.BitsAllocated} bits.")
    notes = []
    inverted = None
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        inverted = _brightest(header, stored)
        notes.append("MONOCHROME1 (low values are bright): values are inverted")
    if header.get("ModalityLUTSequence"):
        notes.append("its modality look-up table is not applied: stored values are read")
    multiframe = int(header.get("NumberOfFrames", 1) or 1) > 1
    dtype = _dtype(frames, stored, int(header.get("BitsStored", 0) or stored.itemsize * 8))
    shape = (len(frames), rows, columns)
    return Slices(tuple(frames), shape, dtype, multiframe, inverted, tuple(notes))


def colours(path: Path, header: Any) -> LazyArray:
    """Red, green and blue ``uint8 [3, y, x]`` of a colour image, decoded when asked for."""
    return Picture(path, (3, int(header.Rows), int(header.Columns)))


@dataclass
class Picture:
    """A colour image: decoded on first use, then kept; pickles as a file name."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    _array: AnyArray | None = field(default=None, repr=False)

    def __getitem__(self, key: Any) -> AnyArray:
        if self._array is None:
            self._array = _rgb(self.path, read_header(self.path).header)
        return np.asarray(self._array[key])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _rgb(path: Path, header: Any) -> AnyArray:
    array = decode(path, None)
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        try:
            with quiet():
                array = apply_color_lut(array, header)
        except broken() as error:
            raise CorruptInputError(f"The palette of {path.name} is damaged ({error}).") from error
    if array.ndim != 3 or array.shape[2] < 3:
        raise CorruptInputError(f"{path.name} decodes to {array.shape}, no colour picture.")
    bits = 8 * array.dtype.itemsize
    eight = array[..., :3] if bits == 8 else array[..., :3] >> (bits - 8)
    return np.ascontiguousarray(np.moveaxis(eight, -1, 0)).astype(np.uint8)


def _brightest(header: Any, stored: np.dtype[Any]) -> float:
    """Sum of the lowest and the highest value that can be stored."""
    bits = int(header.get("BitsStored", 0) or stored.itemsize * 8)
    return -1.0 if stored.kind == "i" else float(2**bits - 1)


def _dtype(frames: Sequence[Frame], stored: np.dtype[Any], bits: int) -> np.dtype[Any]:
    """The smallest type that holds the rescaled values without loss."""
    if all((frame.slope, frame.inter) == (1.0, 0.0) for frame in frames):
        return stored
    whole = all(frame.slope == 1.0 and frame.inter == int(frame.inter) for frame in frames)
    if stored.kind == "f" or not whole or bits > 16:
        return np.dtype(np.float32 if bits <= 16 else np.float64)
    low, high = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if stored.kind == "i" else (0, 2**bits - 1)
    )
    low += int(min(frame.inter for frame in frames))
    high += int(max(frame.inter for frame in frames))
    for candidate in (np.int16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max:
            return np.dtype(candidate)
    return np.dtype(np.int64)
