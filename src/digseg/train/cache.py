"""Prepared training pictures in one file, so that training can move to another machine in one go.

The file is a plain zip without compression of its own: ``index.json``, and for each picture its
channels as WebP (the planes of a volume one below the other) and its labels as lossless WebP. No
pickle. Where the limit is not met, everything is packed again smaller: lower quality first, then
a shorter long side, since a network trained on reduced pictures is used on pictures as they are.
WebP takes three quarters of JPEG's bytes at the same error (34 dB), and of PNG's for the labels.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from digseg.errors import DatasetError, DoesNotFitError, InputNotFoundError
from digseg.train.layouts.base import shrink
from digseg.train.pack import Category, Picture, SetInfo
from digseg.train.run import Prepared
from digseg.types import UInt8Array
from digseg.wording import format_size

#: Bytes that a cache may have.
LIMIT = 45_000_000

#: Long side of 2-D pictures and WebP quality, tried in this order.
_ATTEMPTS = (
    (2200, 85), (2200, 70), (2200, 60), (2200, 50), (1400, 50), (900, 50), (640, 55),
    (640, 40), (448, 50), (352, 45), (256, 40),
)  # fmt: skip

#: Rows of one WebP at most (the format ends at 16,383).
_ROWS = 16_000

_FORMAT = "digseg training pictures 2"


def save_cache(prepared: Prepared, path: str | os.PathLike[str], limit: int = LIMIT) -> int:
    """Write one file of at most ``limit`` bytes; returns its size.

    Raises
    ------
    DoesNotFitError
        Even the smallest pictures are too many.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        for longest, quality in _ATTEMPTS:
            # Some pictures tell whether it is worth writing them all.
            if _estimate(prepared, longest, quality) > 1.1 * limit:
                continue
            size = _write(prepared, partial, longest, quality, limit)
            if size <= limit:
                os.replace(partial, target)
                return size
    finally:
        partial.unlink(missing_ok=True)
    raise DoesNotFitError(f"These pictures don't fit into {format_size(limit)}: choose fewer sets.")


def load_cache(path: str | os.PathLike[str]) -> Prepared:
    """Sets and pictures of a cache file.

    Raises
    ------
    InputNotFoundError
        There is no such file.
    DatasetError
        It is damaged or something else.
    """
    file = Path(path)
    if not file.is_file():
        raise InputNotFoundError(f"There is no cache file {str(path)!r}.")
    try:
        with zipfile.ZipFile(file) as archive:
            index = json.loads(archive.read("index.json"))
            if index.get("format") != _FORMAT:
                raise DatasetError(f"{file} is no cache of training pictures.")
            infos = tuple(_info(values) for values in index["sets"])
            pictures: dict[str, list[Picture]] = {info.name: [] for info in infos}
            for entry in index["pictures"]:
                pictures[entry["set"]].append(_read(archive, entry))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, UnidentifiedImageError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"The cache {file} is damaged or something else ({error}).") from error
    return infos, pictures


def is_cache(path: str | os.PathLike[str]) -> bool:
    """Whether a path looks like a cache file (a zip)."""
    return Path(path).is_file() and zipfile.is_zipfile(path)


def _estimate(prepared: Prepared, longest: int, quality: int, every: int = 12) -> float:
    """Bytes of everything, from one picture in ``every`` of each set."""
    infos, pictures = prepared
    total = 0.0
    for info in infos:
        there = pictures[info.name]
        sample = range(0, len(there), every)
        size = sum(
            len(blob)
            for index in sample
            for _, blob in _packed(there[index], "0", longest, quality)[1]
        )
        total += size * len(there) / max(1, len(sample))
    return total


def _write(prepared: Prepared, file: Path, longest: int, quality: int, limit: int) -> int:
    """Write everything at one size; stops early where the limit is passed."""
    infos, pictures = prepared
    entries: list[dict[str, Any]] = []
    written = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for info in infos:
            for picture in pictures[info.name]:
                entry, blobs = _packed(picture, str(len(entries)), longest, quality)
                entries.append(entry)
                for name, blob in blobs:
                    archive.writestr(name, blob)
                    written += len(blob)
                if written > limit:
                    return written
        index = {
            "format": _FORMAT,
            "sets": [_told(info) for info in infos],
            "pictures": entries,
        }
        archive.writestr(
            "index.json", json.dumps(index), compress_type=zipfile.ZIP_DEFLATED, compresslevel=9
        )
    return file.stat().st_size


def _packed(
    picture: Picture, key: str, longest: int, quality: int
) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    pixels, labels = picture.pixels, picture.labels
    if picture.planes == 1:
        pixels, labels = shrink(pixels, labels, longest)
    planes, rows, columns, channels = pixels.shape
    blobs: list[tuple[str, bytes]] = []
    # Natural colour together (WebP shares what the channels have in common), the rest grey.
    groups = [slice(0, 3), *(slice(c, c + 1) for c in range(3, channels))]
    if channels < 3:
        groups = [slice(c, c + 1) for c in range(channels)]
    for part, span in enumerate(_spans(planes, rows)):
        for number, group in enumerate(groups):
            stacked = pixels[span][..., group].reshape(-1, columns, group.stop - group.start)
            blobs.append((f"{key}/{part}-{number}.webp", _lossy(stacked, quality)))
        blobs.append((f"{key}/{part}.webp", _lossless(labels[span].reshape(-1, columns))))
    entry = {
        "set": picture.set_name,
        "name": picture.name,
        "key": key,
        "shape": [planes, rows, columns, channels],
        "unlabelled": list(picture.unlabelled),
    }
    return entry, blobs


def _spans(planes: int, rows: int) -> Iterator[slice]:
    step = max(1, _ROWS // rows)
    for start in range(0, planes, step):
        yield slice(start, min(planes, start + step))


def _lossy(pixels: UInt8Array, quality: int) -> bytes:
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _lossless(labels: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(labels)).save(buffer, "WEBP", lossless=True, quality=60)
    return buffer.getvalue()


def _read(archive: zipfile.ZipFile, entry: dict[str, Any]) -> Picture:
    planes, rows, columns, channels = (int(side) for side in entry["shape"])
    groups = 1 + max(0, channels - 3) if channels >= 3 else channels
    pixels, labels = [], []
    for part, span in enumerate(_spans(planes, rows)):
        count = span.stop - span.start
        found = []
        for number in range(groups):
            mode = "RGB" if channels >= 3 and number == 0 else "L"
            shown = _open(archive, f"{entry['key']}/{part}-{number}.webp", mode)
            found.append(shown.reshape(count, rows, columns, -1))
        pixels.append(np.concatenate(found, axis=-1))
        flat = _open(archive, f"{entry['key']}/{part}.webp", "RGB")[..., 0]
        labels.append(flat.reshape(count, rows, columns))
    return Picture(
        entry["set"],
        entry["name"],
        np.concatenate(pixels),
        np.concatenate(labels),
        tuple(int(value) for value in entry["unlabelled"]),
    )


def _open(archive: zipfile.ZipFile, name: str, mode: str) -> UInt8Array:
    with Image.open(io.BytesIO(archive.read(name))) as picture:
        return np.asarray(picture.convert(mode))


def _told(info: SetInfo) -> dict[str, Any]:
    values = asdict(info)
    return values | {"folder": info.folder.name}


def _info(values: dict[str, Any]) -> SetInfo:
    def categories(items: Sequence[dict[str, Any]]) -> tuple[Category, ...]:
        return tuple(
            Category(item["name"], tuple(item["ids"]), tuple(item["synonyms"])) for item in items
        )

    window = values["window"]
    return SetInfo(
        **{
            **values,
            "folder": Path(values["folder"]),
            "classes": categories(values["classes"]),
            "groups": categories(values["groups"]),
            "splits": {key: tuple(names) for key, names in values["splits"].items()},
            "bands": tuple(values["bands"]),
            "window": None if window is None else (window[0], window[1]),
            "not_annotated": tuple(values["not_annotated"]),
            "unlabelled": {key: tuple(ids) for key, ids in values["unlabelled"].items()},
        }
    )
