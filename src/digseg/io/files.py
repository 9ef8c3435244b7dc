"""Paths, cheap identities and writing that leaves nothing half-done."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from digseg.errors import DoesNotFitError, OutputError, OutputExistsError

#: Suffixes of more than one part; anything else ends at the last dot.
COMPOUND_SUFFIXES = (".nii.gz", ".img.gz", ".hdr.gz", ".ome.zarr", ".ome.tiff", ".ome.tif")

_URL = ("http://", "https://", "s3://", "gs://", "az://", "oss://", "swift://", "/vsi", "zip://")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAMPLE = 64 * 1024
_ROOM = 2**20


def is_remote(path: str) -> bool:
    """Whether GDAL's virtual file systems, and not the operating system, open this."""
    return path.startswith(_URL)


def suffix_of(path: str) -> str:
    """Lower-case suffix with its dot, compound ones whole: ``.nii.gz``."""
    name = path.rstrip("/").rsplit("/", 1)[-1].lower()
    if is_remote(path):
        name = name.split("?", 1)[0]
    for suffix in COMPOUND_SUFFIXES:
        if name.endswith(suffix):
            return suffix
    return Path(name).suffix


def identity(path: Path) -> str:
    """Hex digest of size and sampled bytes of a file, or of all files of a folder.

    Cheap by design: at most five samples of 64 KiB a file are read, never all pixels.
    """
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    # A zarr store may hold a million chunks: names and sizes say enough there.
    sampled = files if len(files) <= 256 else files[:: len(files) // 256]
    chosen = set(sampled)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path) if path.is_dir() else ''}:{size};".encode())
        if file in chosen:
            _sample(file, size, digest)
    return digest.hexdigest()


def _sample(file: Path, size: int, digest: hashlib._Hash) -> None:
    with file.open("rb") as stream:
        for part in range(5):
            stream.seek(max(0, (size - _SAMPLE) * part // 4))
            digest.update(stream.read(_SAMPLE))


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputExistsError` where something lies and may not be replaced."""
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} is there already: choose another name, or say --overwrite."
        )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well.

    The suffix stays the same, for libraries that go by it. Whatever goes wrong, the temporary
    file (and what a library wrote beside it under that name) is removed.

    Raises
    ------
    OutputError
        The folder can't be written.
    DoesNotFitError
        The disk is full.
    """
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist: make it first.")
    suffix = suffix_of(str(path))
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.part{suffix}")
    try:
        yield temporary
        sync(temporary)
        _move(temporary, path)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        for leftover in path.parent.glob(f"{temporary.name}*"):
            remove(leftover)


def _move(temporary: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # A folder can't be replaced in one step: set the old one aside, then drop it.
        old = path.with_name(f"{temporary.name}.old")
        os.replace(path, old)
        os.replace(temporary, path)
        remove(old)
        return
    if temporary.is_dir() and path.is_file():
        path.unlink()  # a folder can't take the place of a file in one step
    os.replace(temporary, path)
    # Overviews and masks of what was replaced would be taken for the new file's.
    for stale in (".ovr", ".msk"):
        path.with_name(path.name + stale).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file to the disk, so that a full disk is noticed before the renaming."""
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def explained(error: OSError, path: Path) -> Exception:
    """The project's error for an operating system's one; errors of the project stay."""
    from digseg.errors import DigsegError

    if isinstance(error, DigsegError):
        return error
    if error.errno in _FULL or "no space left" in str(error).lower() or _no_room(path.parent):
        return DoesNotFitError(f"The disk is full: {path} was not written; make room first.")
    reason = error.strerror or str(error).splitlines()[0]
    return OutputError(f"{path} can't be written ({reason}): choose another folder.")


def _no_room(folder: Path) -> bool:
    """Whether a megabyte finds no place there: C libraries fail without saying why."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as probe:
            probe.write(bytes(_ROOM))
            probe.flush()
    except OSError as error:
        return error.errno in _FULL
    return False
