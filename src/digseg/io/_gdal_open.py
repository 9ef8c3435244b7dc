"""Opening a file with GDAL, and the sentences for what it does not open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from digseg.errors import (
    CorruptInputError,
    DigsegError,
    InputError,
    UnsupportedInputError,
    UsageError,
)
from digseg.io.files import is_remote
from digseg.io.gdal import environment, failures, open_dataset, said

_ENVI_SUFFIXES = (".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip")


class opened:  # noqa: N801 - reads as a verb in `with opened(path)`
    """An open dataset for the length of a block; the library's errors become ours."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.dataset = open_dataset(self.path)
        except failures() as error:
            raise self._explained(error) from error
        return self.dataset

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        self.dataset.close()
        if isinstance(error, failures()) and not isinstance(error, DigsegError):
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> Exception:
        reason = said(error, self.path)
        if "not recognized as " in reason:
            return UnsupportedInputError(f"{self.path} is in no format that is read here.")
        if "ENVI header" in reason:
            return InputError(_envi(Path(self.path)))
        if is_remote(self.path):
            return UnsupportedInputError(
                f"{self.path} can't be opened ({reason}): check the address, the network and "
                "your credentials."
            )
        return CorruptInputError(
            f"{self.path} is damaged or of an unknown kind ({reason}): copy the file again."
        )


def _envi(header: Path) -> str:
    """What to open instead of an ENVI header."""
    stem = header.with_suffix("")
    names = [stem, *(stem.with_suffix(end) for end in _ENVI_SUFFIXES)]
    found = next((name.name for name in names if name.is_file()), None)
    if found is None:
        return f"{header} is the header of an ENVI raster: its data file is not beside it."
    return f"{header} is the header of an ENVI raster: give its data file, {found}."


def subdataset(path: str, series: str) -> str:
    """GDAL's name of the subdataset that ``series`` names, by its number or the end of its name.

    Raises
    ------
    UsageError
        There is none, or more than one.
    """
    with environment(path), opened(path) as dataset:
        names = list(dataset.subdatasets)
    if series.isdigit() and 1 <= int(series) <= len(names):
        return str(names[int(series) - 1])
    wanted = series.lower()
    ends = (f":{wanted}", f"/{wanted}")
    matches = [name for name in names if name.lower() == wanted or name.lower().endswith(ends)]
    if len(matches) == 1:
        return str(matches[0])
    if not names:
        raise UsageError(f"{path} holds one image: leave the series out.")
    if names[0].startswith("GTIFF_DIR:"):
        raise UsageError(f"{path} holds no page {series!r}: choose one of 1 to {len(names)}.")
    raise UsageError(f"{path} holds no image {series!r}: choose one of {listed(names)}.")


def listed(names: list[str]) -> str:
    """The first few names of subdatasets, without their driver and path."""
    short = [name.rsplit(":", 1)[-1] for name in names]
    return ", ".join(short[:8]) + (" ..." if len(short) > 8 else "")
