"""The list that knows all formats, in order of priority.

Each format is one module with the same small protocol (`FormatModule`). A module imports its
heavy library inside functions, so that asking all of them costs nothing. A new format is one
module, one line in `FORMATS`, and it inherits the conformance suite of ``tests/io``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from digseg.errors import InputNotFoundError, UnsupportedInputError, UsageError
from digseg.io._label_names import refuse_foreign_sidecar
from digseg.io.files import is_remote, refuse_existing, suffix_of
from digseg.raster import Mask, Raster, Volume

Kind = Literal["file", "folder", "remote"]

_HEAD = 64 * 1024


@dataclass(frozen=True)
class Probe:
    """What a format may look at to know its own: name, kind and first bytes."""

    path: str
    kind: Kind
    head: bytes = b""
    size: int = 0

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Probe:
        """Look at a path.

        Raises
        ------
        InputNotFoundError, UnsupportedInputError
            Nothing there; or it is empty, no regular file, or may not be read.
        """
        text = os.fspath(path)
        if is_remote(text):
            return cls(text, "remote")
        place = Path(text)
        try:
            if place.is_dir():
                return cls(text, "folder")
            if not place.exists():
                raise InputNotFoundError(f"There is no file or folder {text}: check the path.")
            if not place.is_file():
                raise UnsupportedInputError(f"{text} is no regular file: give an image file.")
            size = place.stat().st_size
            if size == 0:
                raise UnsupportedInputError(f"{text} is empty (0 bytes): copy it again.")
            with place.open("rb") as stream:
                return cls(text, "file", stream.read(_HEAD), size)
        except PermissionError as error:
            raise UnsupportedInputError(
                f"{text} may not be read: ask for permission to it."
            ) from error
        except (ValueError, OSError) as error:
            if isinstance(error, (InputNotFoundError, UnsupportedInputError)):
                raise
            raise InputNotFoundError(
                f"{text!r} is no path that can be opened: check it."
            ) from error

    @property
    def suffix(self) -> str:
        return suffix_of(self.path)

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]


class FormatModule(Protocol):
    """What a module in `FORMATS` has; those that only read leave out ``refuse`` and ``write``."""

    def sniff(self, probe: Probe) -> bool:
        """Whether this is the format, by magic bytes (or, where it has none, by name)."""
        ...

    def read(self, path: str, *, time: int = 0, series: str | None = None) -> Raster | Volume:
        """Open lazily; raises `InputError` subclasses."""
        ...

    def info(self, path: str) -> dict[str, Any]:
        """The object that ``info --json`` prints; samples pixels, so damage is found."""
        ...

    def refuse(self, mask: Mask, source: Raster | Volume | None) -> str | None:
        """Why this mask can't be written, as one sentence; `None` where it can."""
        ...

    def write(self, mask: Mask, path: Path, *, source: Raster | Volume | None) -> list[Path]:
        """Write under a temporary name, then rename (`files.replacing`); files, main one first."""
        ...


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    name
        Short name, as `info` prints it where the library has no finer one.
    title
        For people.
    module
        Where its `FormatModule` is.
    suffixes
        Names that promise this format: a file named so that holds something else is refused.
    writes
        Names that are written in this format.
    sidecar
        Whether label names are also written into a JSON file beside it.
    """

    name: str
    title: str
    module: str
    suffixes: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    sidecar: bool = False

    @cached_property
    def code(self) -> FormatModule:
        return cast(FormatModule, importlib.import_module(self.module))


#: In load priority: exact magic bytes first, formats known by their names after, GDAL's long
#: tail last. The first that writes a suffix is its writer.
FORMATS: tuple[Format, ...] = (
    Format(
        "OME-Zarr",
        "OME-Zarr or plain Zarr",
        "digseg.io.zarr_io",
        (".zarr", ".ome.zarr"),
        (".ome.zarr", ".zarr"),
    ),
    # Before TIFF: a DICOM file may carry a TIFF header in its preamble.
    Format(
        "DICOM", "DICOM file or series", "digseg.io.dicom", (".dcm", ".dicom", ".ima"), (".dcm",)
    ),
    Format("OME-TIFF", "OME-TIFF", "digseg.io.ometiff", (".ome.tif", ".ome.tiff")),
    Format(
        "GTiff",
        "TIFF or GeoTIFF",
        "digseg.io.geotiff",
        (".tif", ".tiff", ".gtiff", ".ome.tif", ".ome.tiff", ".btf", ".tf8"),
        (".tif", ".tiff"),
    ),
    Format("PNG", "PNG or JPEG picture", "digseg.io.picture", (".png", ".jpg", ".jpeg"), (".png",)),
    Format(
        "NIfTI",
        "NIfTI or Analyze",
        "digseg.io.nifti",
        (".nii", ".nii.gz", ".img", ".hdr", ".img.gz", ".hdr.gz"),
        (".nii", ".nii.gz"),
        sidecar=True,
    ),
    Format(
        "ITK",
        "MetaImage or NRRD",
        "digseg.io.itk",
        (".mha", ".mhd", ".nrrd", ".nhdr"),
        (".mha", ".nrrd"),
        sidecar=True,
    ),
    Format("GDAL", "raster that GDAL opens", "digseg.io.gdal_raster"),
)


def find_reader(path: str | os.PathLike[str]) -> tuple[Format, Probe]:
    """The format of what lies at ``path``.

    Raises
    ------
    UnsupportedInputError
        No format knows it, or its content is another format than its name says.
    """
    probe = Probe.of(path)
    named = [item for item in FORMATS if probe.suffix and probe.suffix in item.suffixes]
    for item in FORMATS:
        if available(item) and item.code.sniff(probe):
            _refuse_wrong_name(probe, named, item)
            return item, probe
    if named:
        raise UnsupportedInputError(
            f"{probe.path} is named like a {named[0].title} but does not hold one: "
            "check that the file is whole and has its right name."
        )
    known = "GeoTIFF, NIfTI, DICOM, OME-Zarr, PNG and others"
    what = "folder holds no image" if probe.kind == "folder" else "file is no image"
    raise UnsupportedInputError(f"The {what} that can be read here ({known} can): {probe.path}.")


def _refuse_wrong_name(probe: Probe, named: list[Format], found: Format) -> None:
    shared = {".hdr", ".img"}  # ENVI, ERDAS, Analyze and others all use them
    if not named or found in named or probe.kind != "file" or probe.suffix in shared:
        return
    raise UnsupportedInputError(
        f"{probe.path} is named like a {named[0].title} but holds a {found.title}: "
        "give it its right name."
    )


def available(item: Format) -> bool:
    """Whether the module of a format is part of this installation."""
    return importlib.util.find_spec(item.module) is not None


def read(
    path: str | os.PathLike[str], *, time: int = 0, series: str | None = None
) -> Raster | Volume:
    """See `digseg.io.read`."""
    item, probe = find_reader(path)
    return item.code.read(probe.path, time=time, series=series)


def info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """See `digseg.io.info`."""
    item, probe = find_reader(path)
    return item.code.info(probe.path)


def find_writer(path: str | os.PathLike[str]) -> Format:
    """The format that a file of this name is written in.

    Raises
    ------
    UsageError
        No writer takes the name.
    """
    suffix = suffix_of(os.fspath(path))
    for item in FORMATS:
        if suffix in item.writes and available(item):
            return item
    names = ", ".join(sorted({name for item in FORMATS for name in item.writes}))
    raise UsageError(
        f"No mask can be written as {os.fspath(path)}: end the name in one of {names}."
    )


def check_mask(
    mask: Mask, path: str | os.PathLike[str], *, source: Raster | Volume | None = None
) -> Format:
    """The format that this mask will be written in; its labels themselves are not looked at.

    Raises
    ------
    UsageError
        No writer takes the name, or that format can't hold such labels.
    OutputExistsError
        The JSON that would hold the label names holds something else.
    """
    if is_remote(os.fspath(path)):
        raise UsageError(f"{os.fspath(path)} is remote: write to a local file and copy it there.")
    item = find_writer(path)
    reason = item.code.refuse(mask, source)
    if reason is not None:
        raise UsageError(reason)
    if item.sidecar:
        refuse_foreign_sidecar(Path(path))
    return item


def write_mask(
    mask: Mask,
    path: str | os.PathLike[str],
    *,
    source: Raster | Volume | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """See `digseg.io.write_mask`."""
    item = check_mask(mask, path, source=source)
    target = Path(path)
    refuse_existing(target, overwrite=overwrite)
    return item.code.write(mask, target, source=source)
