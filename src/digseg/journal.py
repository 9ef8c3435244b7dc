"""The resume journal: what of a run is safely on disk. Level 3: one file, no arrays.

One line for each record, ``crc32 json``, appended after the files it speaks of are written. A
killed process or a power cut can tear the end only, and the checksum then tells; so a journal is
always a true prefix of the run. A checkpoint says that all files spoken of before it were flushed
to the disk. The first line is the header: what the run is of.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from digseg.errors import BusyError, ResumeError

Record = dict[str, Any]
_CHECKPOINT: Record = {"checkpoint": True}


class Journal:
    """An append-only file of records.

    Use `create` for a new run and `load` for one that was stopped; both leave the file open for
    `append`.
    """

    def __init__(
        self, path: Path, header: Mapping[str, Any], records: list[Record], trusted: int = 0
    ) -> None:
        self.path = path
        self.header = dict(header)
        self.records = records
        #: How many of the records stand before the last checkpoint.
        self.trusted = trusted
        self._file = path.open("ab")
        _lock(self._file, path)

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """Begin a journal; the header is whole or absent, never half there."""
        temporary = path.with_name(path.name + ".partial")
        with temporary.open("wb") as file:
            file.write(_line(dict(header)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
        return cls(path, header, [])

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read a journal back; a torn tail is cut off.

        Raises
        ------
        ResumeError
            There is no journal, or not even its header can be read.
        BusyError
            Another run has it.
        """
        cls.refuse_if_busy(path)
        header, records, trusted, good = _scan(path)
        with path.open("r+b") as file:
            file.truncate(good)
        return cls(path, header, records, trusted)

    @staticmethod
    def refuse_if_busy(path: Path) -> None:
        """Raise `BusyError` where another process has the journal open."""
        if path.exists():
            with path.open("ab") as file:
                _lock(file, path)

    @staticmethod
    def peek(path: Path) -> tuple[Record, list[Record]]:
        """Header and records, without touching the file (a run may be writing it)."""
        header, records, _, _ = _scan(path)
        return header, records

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it outlives this process when this returns."""
        self._file.write(_line(record))
        self._file.flush()
        self.records.append(dict(record))

    def checkpoint(self) -> None:
        """Say that all files spoken of so far are on the disk; flush the journal itself."""
        self._file.write(_line(_CHECKPOINT))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.trusted = len(self.records)

    def close(self) -> None:
        self._file.close()


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep others out for as long as the file is open; a process that dies lets go.

    Not on Windows, where a lock also keeps readers out, nor on file systems without locks.

    Raises
    ------
    BusyError
        Another process, or another run in this one, has it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise BusyError(
            f"Another run is at work in {path.parent.parent}: wait until it has ended, stop it, "
            "or give the output another name."
        ) from None
    except OSError:  # a network drive without locks
        return


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _scan(path: Path) -> tuple[Record, list[Record], int, int]:
    """Header, records, how many of them are trusted, bytes of the sound part."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ResumeError(
            f"There is no unfinished run in {path.parent}: start it without --resume."
        ) from None
    records: list[Record] = []
    trusted = good = 0
    for record, size in _records(content):
        if record == _CHECKPOINT:
            trusted = len(records) - 1
        else:
            records.append(record)
        good += size
    if not records:
        raise ResumeError(f"The journal {path} is damaged: start again with --overwrite.")
    return records[0], records[1:], trusted, good


def _records(content: bytes) -> Iterator[tuple[Record, int]]:
    for line in content.splitlines(keepends=True):
        text = line[9:-1]
        try:
            sound = line.endswith(b"\n") and int(line[:8], 16) == zlib.crc32(text)
        except ValueError:
            sound = False
        if not sound:
            return
        yield json.loads(text), len(line)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut (a no-op where the system can't)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the parts in which two headers differ, ``"settings.tile: 512 became 256"``."""
    found = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += [f"{key}.{line}" for line in differences(before, after)]
        else:
            found.append(f"{key}: {_short(before)} became {_short(after)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
