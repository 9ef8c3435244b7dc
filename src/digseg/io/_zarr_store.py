"""The tree of a Zarr store: groups, arrays and attributes, read without trusting them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import CorruptInputError, MissingExtraError, UnsupportedInputError
from digseg.io.files import is_remote
from digseg.io.gdal import said
from digseg.io.tiff_guard import BEST_RATIO, SUSPICIOUS_BYTES
from digseg.wording import format_size

_METADATA_BYTES = 64 * 2**20
_BIGGEST_CHUNK = 4 * 2**30
_CHILDREN = 1000  # entries of a folder that are looked at


def failures() -> tuple[type[BaseException], ...]:
    """What zarr and its codecs raise when a store is at fault."""
    import zarr.errors

    return (zarr.errors.BaseZarrError, OSError, ValueError, TypeError, KeyError, RuntimeError)


@dataclass(frozen=True)
class Tree:
    """A store; hashable and picklable, for it holds a path only."""

    path: str

    @property
    def remote(self) -> bool:
        return is_remote(self.path)

    def _text(self, inside: str, name: str) -> dict[str, Any] | None:
        """One metadata file as JSON object; `None` where it is absent."""
        place = "/".join(part for part in (inside, name) if part)
        if self.remote:
            text = _fetch(f"{self.path.rstrip('/')}/{place}")
        else:
            file = Path(self.path) / place
            if not file.is_file():
                return None
            if file.stat().st_size > _METADATA_BYTES:
                raise CorruptInputError(f"{self.path} has metadata of more than 64 MiB in {place}.")
            text = file.read_bytes()
        if text is None:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorruptInputError(f"{self.path} has damaged metadata in {place}.") from error
        if not isinstance(found, dict):
            raise CorruptInputError(f"{self.path} has damaged metadata in {place}.")
        return found

    def is_array(self, inside: str) -> bool:
        """Whether an array (and not a group) lies there."""
        three = self._text(inside, "zarr.json")
        if three is not None:
            return three.get("node_type") == "array"
        return self._text(inside, ".zarray") is not None

    def attributes(self, inside: str) -> dict[str, Any]:
        """Attributes of a node; empty where it has none.

        Raises
        ------
        UnsupportedInputError
            There is no such node.
        """
        three = self._text(inside, "zarr.json")
        if three is not None:
            found = three.get("attributes", {})
        elif any(
            self._text(inside, mark) is not None for mark in (".zgroup", ".zarray", ".zattrs")
        ):
            found = self._text(inside, ".zattrs") or {}
        else:
            raise UnsupportedInputError(f"{self.path} has nothing at {inside or 'its top'!r}.")
        return found if isinstance(found, dict) else {}

    def is_image(self, inside: str) -> bool:
        """Whether an OME-Zarr image lies there."""
        try:
            attributes = self.attributes(inside)
        except UnsupportedInputError:
            return False
        ome = attributes.get("ome", attributes)
        return isinstance(ome, dict) and bool(ome.get("multiscales"))

    def default(self, path: str) -> str | None:
        """The path inside of what is read when nothing was chosen: the only image there is."""
        if self.is_array("") or self.is_image(""):
            return ""
        found = self.images()
        return found[0] if len(found) == 1 else None

    def images(self) -> list[str]:
        """Paths of the images one or two levels down (arrays where there are no images)."""
        if self.remote or self.is_array(""):
            return []
        groups = [inside for inside in self._nodes() if self.is_image(inside)]
        return groups or [inside for inside in self._nodes() if self.is_array(inside)]

    def labels(self) -> list[str]:
        """Names of the label images of an OME-Zarr image."""
        if self.remote:
            return []
        try:
            attributes = self.attributes("labels")
        except UnsupportedInputError:
            return []
        ome = attributes.get("ome", attributes)
        names = ome.get("labels", []) if isinstance(ome, dict) else []
        return [str(name) for name in names] if isinstance(names, list) else []

    def _nodes(self) -> Iterator[str]:
        for child in _folders(Path(self.path)):
            yield child
            for below in _folders(Path(self.path) / child):
                yield f"{child}/{below}"


def _folders(place: Path) -> list[str]:
    names = []
    with os.scandir(place) as entries:
        for _, entry in zip(range(_CHILDREN), entries, strict=False):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                names.append(entry.name)
    return sorted(names)


def _fetch(url: str) -> bytes | None:
    """A small remote file; `None` where it is absent."""
    try:
        import fsspec

        with fsspec.open(url, "rb", **storage_options(url)) as stream:
            return bytes(stream.read(_METADATA_BYTES))
    except FileNotFoundError:
        return None
    except ImportError as error:
        raise MissingExtraError(
            f"{url} needs the package {error.name}: install napari-digseg[remote]."
        ) from error
    except (OSError, ValueError) as error:
        raise UnsupportedInputError(
            f"{url} can't be fetched ({said(error)}): check the address and the network."
        ) from error


def storage_options(url: str) -> dict[str, Any]:
    """What s3fs has to be told so that GDAL's environment variables mean the same to it.

    Keys and profiles are botocore's own and need no telling.
    """
    if not url.startswith("s3://"):
        return {}
    options: dict[str, Any] = {}
    if _says("AWS_NO_SIGN_REQUEST", yes=True):
        options["anon"] = True
    endpoint = os.environ.get("AWS_S3_ENDPOINT")
    if endpoint:
        scheme = "http" if _says("AWS_HTTPS", yes=False) else "https"
        options["endpoint_url"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
    if _says("AWS_VIRTUAL_HOSTING", yes=False):
        options["config_kwargs"] = {"s3": {"addressing_style": "path"}}
    return options


def _says(name: str, *, yes: bool) -> bool:
    words = ("YES", "TRUE", "ON", "1") if yes else ("NO", "FALSE", "OFF", "0")
    return os.environ.get(name, "").upper() in words


def tree_of(path: str) -> Tree:
    """The tree at a path."""
    return Tree(path.rstrip("/") if is_remote(path) else path)


def open_array(tree: Tree, inside: str) -> Any:
    """A zarr array, opened once in each process; reading it from several threads is safe.

    Raises
    ------
    CorruptInputError
        Its metadata are damaged.
    """
    stamp = 0 if tree.remote else _stamp(Path(tree.path) / inside)
    return _opened(tree, inside, (stamp, os.getpid(), json.dumps(storage_options(tree.path))))


def _stamp(folder: Path) -> int:
    for mark in ("zarr.json", ".zarray"):
        if (folder / mark).is_file():
            return (folder / mark).stat().st_mtime_ns
    return 0


@functools.lru_cache(maxsize=64)
def _opened(tree: Tree, inside: str, key: tuple[int, int, str]) -> Any:
    import zarr

    del key  # another file, a forked process or another server opens anew
    try:
        separated = _legacy(tree, inside)
        if separated is not None:
            from zarr.storage import LocalStore, StorePath

            place = StorePath(LocalStore(Path(tree.path) / inside, read_only=True))
            return zarr.Array.from_dict(place, separated)
        if tree.remote:
            url = f"{tree.path}/{inside}".rstrip("/")
            return zarr.open_array(url, mode="r", storage_options=storage_options(url))
        return zarr.open_array(str(Path(tree.path) / inside), mode="r")
    except failures() as error:
        raise CorruptInputError(
            f"{tree.path} has no readable array at {inside or 'its top'!r} ({said(error)})."
        ) from error


def _legacy(tree: Tree, inside: str) -> dict[str, Any] | None:
    """Metadata with the separator that old writers forgot to state.

    zarr takes nested chunks without a stated separator for absent ones and answers with the fill
    value, silently; the folders tell.
    """
    if tree.remote:
        return None
    metadata = tree._text(inside, ".zarray")
    if metadata is None or "dimension_separator" in metadata:
        return None
    if len(metadata.get("shape", [])) < 2:
        return None
    nested = any(name.isdigit() for name in _folders(Path(tree.path) / inside))
    return {**metadata, "dimension_separator": "/"} if nested else None


def check_claims(path: str, tree: Tree, inside: str) -> None:
    """Refuse shapes and chunks out of all proportion to what is on the disk.

    Raises
    ------
    CorruptInputError
        It claims far more than it holds.
    """
    array = open_array(tree, inside)
    if not array.shape or min(array.shape) < 1:
        raise UnsupportedInputError(f"{path} has an array of shape {array.shape}: it is empty.")
    item = np.dtype(array.dtype).itemsize
    claimed = float(np.prod(array.shape, dtype=np.float64)) * item
    chunk = float(np.prod(array.chunks, dtype=np.float64)) * item
    if chunk <= 0:
        raise CorruptInputError(f"{path} has chunks of shape {array.chunks}: it is damaged.")
    if chunk > _BIGGEST_CHUNK:
        raise CorruptInputError(
            f"{path} has chunks of {format_size(chunk)}: they can't be read one by one."
        )
    if claimed > SUSPICIOUS_BYTES and not tree.remote:
        held = _size_below(Path(tree.path) / inside, claimed / BEST_RATIO)
        if claimed > held * BEST_RATIO:
            raise CorruptInputError(
                f"{path} claims {' x '.join(map(str, array.shape))} values "
                f"({format_size(claimed)}) and holds {format_size(held)}: its metadata is damaged."
            )


def _size_below(folder: Path, enough: float) -> float:
    """Bytes of all files below, counted until they are enough."""
    total = 0.0
    for root, _, names in os.walk(folder):
        total += sum(os.path.getsize(os.path.join(root, name)) for name in names)
        if total > enough:
            break
    return total
