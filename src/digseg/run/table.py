"""The table of a batch: rows for each file and prompt, kept from run to run."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digseg.errors import OutputError, UsageError
from digseg.io.files import refuse_existing
from digseg.run.outputs import check_folder

if TYPE_CHECKING:
    from digseg.run.batch import Case

#: The column that says which file a row is of.
_FILE = "file"


@dataclass(frozen=True)
class Table:
    """One CSV for all files of a batch; `open` it before the work and `write` it after.

    Parameters
    ----------
    path
        Where it lies.
    replace
        Whether what lies there may be replaced.
    kept
        Rows that it held, by the real path of their file.
    written
        When that was, in nanoseconds.
    """

    path: Path
    replace: bool = False
    kept: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    written: int = 0

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        folder: Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Table:
        """Refuse, before any work, a table that could not be written at the end.

        Parameters
        ----------
        folder
            The output folder of the batch; in it, a folder for the table is made.
        resume
            Rows that are there stay, but for files that are done anew.

        Raises
        ------
        UsageError, OutputExistsError, OutputError
            As for the outputs of a single run; what is to be kept is no table of a batch.
        """
        if path.suffix.lower() != ".csv":
            raise UsageError(f"Statistics are written as .csv, not as {path.name}.")
        if folder is not None and _inside(path.parent, folder):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{path.parent} can't be made: {error.strerror}.") from error
        check_folder(path)
        refuse_existing(path, overwrite=overwrite or resume)
        if resume and path.exists():
            return cls(path, True, _rows_of(path), path.stat().st_mtime_ns)
        return cls(path, overwrite)

    def holds(self, file: str, mask: Path, names: Sequence[str]) -> bool:
        """Whether it has the rows of a mask already, written after it and of the same labels."""
        rows = self.kept.get(os.path.realpath(file), ())
        if [row.get("name") for row in rows] != list(names):
            return False
        return mask.stat().st_mtime_ns <= self.written

    def write(self, cases: Sequence[Case]) -> list[Path]:
        """Write the rows of all cases, and those kept of files that have no new ones."""
        from digseg.io import statistics

        left = dict(self.kept)
        rows: list[Mapping[str, Any]] = []
        for case in cases:
            old = left.pop(os.path.realpath(case.input), ())
            rows += [{_FILE: case.input, **row} for row in case.labels] or old
        for old in left.values():  # not come to, or not asked for this time
            rows += old
        # Rasters have areas, volumes have millilitres: the table has a column for either.
        columns = dict.fromkeys(key for row in rows for key in row)
        whole = [{key: row.get(key) for key in columns} for row in rows]
        return list(statistics.write_csv(whole, self.path, overwrite=self.replace))


def _inside(path: Path, folder: Path) -> bool:
    real, outer = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return real == outer or outer in real.parents


def _rows_of(path: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [dict(row) for row in csv.DictReader(stream, strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _strange(path) from error
    except OSError as error:
        raise OutputError(f"{path} can't be read: {error.strerror}.") from error
    for row in rows:
        if not row.get(_FILE) or None in row:
            raise _strange(path)
        found.setdefault(os.path.realpath(row[_FILE]), []).append(row)
    return found


def _strange(path: Path) -> UsageError:
    return UsageError(
        f"{path} is no table of a batch that could be kept: give the table another name."
    )
