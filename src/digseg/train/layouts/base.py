"""What every public layout gives: a `SetInfo`, and its pictures read when they are looked at."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image, UnidentifiedImageError

from digseg.errors import DatasetError
from digseg.train.pack import IGNORE, Category, Picture, SetInfo
from digseg.types import AnyArray, UInt8Array

PICTURES = (".jpg", ".jpeg", ".png")

#: Decoded pictures that a set keeps; the others are read again when they are drawn again.
_KEPT = 256

Reader = Callable[["LayoutSet", "Pair"], tuple[UInt8Array, UInt8Array]]


@dataclass(frozen=True)
class Pair:
    """One image and its mask; ``name`` is unique in its split."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class LayoutSet:
    """A data set in a public layout.

    Parameters
    ----------
    info
        Classes, splits and domain, as of a set in the pack's format.
    pairs
        Files by split.
    values
        Value in a mask file to class id, 0 (background) or 255 (no label).
    read
        Pixels ``uint8 [planes, H, W, C]`` and file values ``[planes, H, W]`` of a pair.
    """

    info: SetInfo
    pairs: Mapping[str, tuple[Pair, ...]]
    values: Mapping[int, int]
    read: Reader
    _cache: OrderedDict[tuple[str, int | None], Picture] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )

    def ids_of(self, values: AnyArray, mask: Path) -> UInt8Array:
        """Class ids of the values in a mask file.

        Raises
        ------
        DatasetError
            A value that the layout doesn't know; the message names it and the file.
        """
        table = np.full(256, -1, dtype=np.int16)
        for value, label in self.values.items():
            table[value] = label
        if values.dtype != np.uint8:
            if values.size and (values.min() < 0 or values.max() > 255):
                worst = values.min() if values.min() < 0 else values.max()
                raise DatasetError(f"{mask} holds the label value {worst}, not one of 0 to 255.")
            if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
                raise DatasetError(f"{mask} holds label values that are no whole numbers.")
            values = values.astype(np.uint8)
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        strange = [int(value) for value in found if table[value] < 0]
        if strange:
            raise DatasetError(
                f"{mask} holds the label value {strange[0]}, which {self.info.name} doesn't know."
            )
        return table[values].astype(np.uint8)

    def picture(self, split: str, index: int, longest: int | None = None) -> Picture:
        """One picture of a split; those read last are kept.

        Raises
        ------
        DatasetError
            A file is unreadable, the sizes differ, or a label value is unknown.
        """
        pair = self.pairs[split][index]
        key = (f"{split}/{pair.name}", longest)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        try:
            pixels, values = self.read(self, pair)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{pair.image} or its mask can't be read ({error}).") from error
        if pixels.shape[:3] != values.shape:
            sizes = [" x ".join(map(str, shape)) for shape in (values.shape, pixels.shape[:3])]
            raise DatasetError(f"{pair.mask} is {sizes[0]} but its image is {sizes[1]}.")
        labels = self.ids_of(values, pair.mask)
        pixels, labels = shrink(pixels, labels, longest)
        picture = Picture(self.info.name, pair.name, pixels, labels)
        self._cache[key] = picture
        if len(self._cache) > _KEPT:
            self._cache.popitem(last=False)
        return picture

    def pictures(self, split: str, longest: int | None = None) -> Pictures:
        """The pictures of a split, read when they are looked at.

        Raises
        ------
        DatasetError
            There is no such split.
        """
        if not self.pairs.get(split):
            have = ", ".join(name for name, pairs in self.pairs.items() if pairs)
            raise DatasetError(f"{self.info.name} has no split {split!r}, it has: {have}.")
        return Pictures(self, split, longest)


class Pictures(Sequence[Picture]):
    """A split as a sequence of pictures that are read one by one."""

    def __init__(self, source: LayoutSet, split: str, longest: int | None) -> None:
        self.source, self.split, self.longest = source, split, longest

    def __len__(self) -> int:
        return len(self.source.pairs[self.split])

    @overload
    def __getitem__(self, index: int) -> Picture: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Picture]: ...

    def __getitem__(self, index: int | slice) -> Picture | Sequence[Picture]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.source.picture(self.split, range(len(self))[index], self.longest)


@cache
def class_names(layout: str) -> Mapping[int, tuple[str, ...]]:
    """Class id to name and synonyms, as the layout's makers number them."""
    text = (resources.files("digseg.train.layouts") / "names.json").read_text(encoding="utf-8")
    return {int(key): tuple(words) for key, words in json.loads(text)[layout].items()}


def make_info(
    folder: Path,
    name: str,
    domain: str,
    names: Mapping[int, Sequence[str]],
    pairs: Mapping[str, Sequence[Pair]],
    modality: str = "RGB",
) -> SetInfo:
    """`SetInfo` of a layout; public data are never marked to be shipped."""
    return SetInfo(
        folder=folder,
        name=name,
        domain=domain,
        modality=modality,
        use="research-only",
        licence="see the data set's own terms",
        image_ext="",
        mask_ext="",
        classes=tuple(
            Category(words[0], (label,), tuple(words[1:])) for label, words in names.items()
        ),
        groups=(),
        splits={split: tuple(pair.name for pair in found) for split, found in pairs.items()},
    )


def match(images: Mapping[str, Path], masks: Mapping[str, Path], where: Path) -> tuple[Pair, ...]:
    """Pairs by name, sorted.

    Raises
    ------
    DatasetError
        An image without a mask, a mask without an image; the message names the file.
    """
    for name in sorted(set(images) ^ set(masks)):
        there, lacks = (images, "mask") if name in images else (masks, "image")
        raise DatasetError(f"{there[name]} has no {lacks}: the pair is broken (in {where}).")
    return tuple(Pair(name, images[name], masks[name]) for name in sorted(images))


def files(folder: Path, suffixes: Sequence[str] = PICTURES, ending: str = "") -> dict[str, Path]:
    """Files of a folder by name without ``ending`` and suffix."""
    if not folder.is_dir():
        raise DatasetError(f"The folder {folder} is missing.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in suffixes and file.stem.endswith(ending):
            found[file.stem.removesuffix(ending)] = file
    return found


def read_list(file: Path) -> list[str]:
    """Names in a text file, one a line."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DatasetError(f"The list {file} can't be read ({error}).") from error
    return [line.split()[0] for line in lines if line.strip()]


def listed(
    names: Sequence[str], image: Path, mask: Path, ends: tuple[str, str]
) -> tuple[Pair, ...]:
    """Pairs of the names in a list.

    Raises
    ------
    DatasetError
        A file of a listed name is missing.
    """
    pairs = []
    for name in names:
        files_ = (image / f"{name}{ends[0]}", mask / f"{name}{ends[1]}")
        for file in files_:
            if not file.exists():
                raise DatasetError(f"{file} is missing though its name is listed.")
        pairs.append(Pair(name, *files_))
    return tuple(pairs)


def held_out(pairs: Sequence[Pair], every: int = 10) -> dict[str, tuple[Pair, ...]]:
    """A split for data that come without: one in ``every`` to ``val``, by the hash of its name."""
    chosen = {
        pair.name for pair in pairs if int(sha256(pair.name.encode()).hexdigest(), 16) % every == 0
    }
    if not chosen and len(pairs) > 1:
        chosen = {pairs[-1].name}
    return {
        "train": tuple(pair for pair in pairs if pair.name not in chosen),
        "val": tuple(pair for pair in pairs if pair.name in chosen),
    }


def read_pair(source: LayoutSet, pair: Pair) -> tuple[UInt8Array, AnyArray]:
    """A colour picture and its index mask (grey or with a palette), as one plane each."""
    with Image.open(pair.image) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return pixels[None], read_index(pair.mask)[None]


def read_index(file: Path) -> AnyArray:
    """An index mask ``[H, W]``.

    Raises
    ------
    DatasetError
        The file is a colour picture.
    """
    with Image.open(file) as mask:
        if mask.mode not in ("L", "P", "I", "I;16"):
            raise DatasetError(f"{file} is no index mask: it is a picture of mode {mask.mode}.")
        return np.asarray(mask)


def shrink(
    pixels: UInt8Array, labels: UInt8Array, longest: int | None
) -> tuple[UInt8Array, UInt8Array]:
    """Planes with at most ``longest`` pixels on the long side; labels take the nearest."""
    rows, columns = labels.shape[1:]
    if longest is None or max(rows, columns) <= longest:
        return pixels, labels
    factor = longest / max(rows, columns)
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    box, nearest = Image.Resampling.BOX, Image.Resampling.NEAREST
    smaller = [
        np.stack(
            [np.asarray(Image.fromarray(channel).resize(size, box)) for channel in plane], axis=-1
        )
        for plane in np.moveaxis(pixels, -1, 1)
    ]
    fewer = [np.asarray(Image.fromarray(plane).resize(size, nearest)) for plane in labels]
    return np.stack(smaller), np.stack(fewer)


def same(ids: Sequence[int], *ignored: int, background: int | None = 0) -> dict[int, int]:
    """Values that are the ids themselves, with background and ignored values."""
    table = {int(i): int(i) for i in ids}
    if background is not None:
        table[background] = 0
    return table | dict.fromkeys(ignored, IGNORE)
