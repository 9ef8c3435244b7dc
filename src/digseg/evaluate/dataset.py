"""Labelled sets on disk: a ``dataset.json`` beside ``images/`` and ``masks/``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digseg.errors import DatasetError, InputNotFoundError
from digseg.prompts import normalise
from digseg.train.parts import derived_groups
from digseg.types import AnyArray

#: A set whose training masks hold less background than this has no background to choose.
ALMOST_NONE = 0.005


@dataclass(frozen=True)
class ClassName:
    """One class of a set: its id in the masks, its name, other words for it."""

    id: int
    name: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledSet:
    """A set of images and masks.

    Parameters
    ----------
    folder
        Where ``dataset.json`` lies.
    classes
        In the order of the file.
    splits
        Names (without extension) by split.
    groups
        Class ids by the name for all of them together.
    unlabelled
        Class ids that the masks of single images don't know, by image name.
    foreign
        Names of things that may be in the images though no mask marks them.
    window
        CT display window in HU, where the set names one.
    bands
        Band names, where the set names them.
    files
        Name, image and mask by split, for data that lie in another layout.
    labels
        Reads class ids ``[plane, y, x]`` from name, image and mask, where the mask files hold
        something else; `None` reads the mask file as it is.
    """

    folder: Path
    name: str
    domain: str
    modality: str
    image_ext: str
    mask_ext: str
    ignore: int
    classes: tuple[ClassName, ...]
    splits: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unlabelled: Mapping[str, frozenset[int]] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    bands: tuple[str, ...] = ()
    use: str = ""
    licence: str = ""
    source: str = ""
    files: Mapping[str, tuple[tuple[str, Path, Path], ...]] = field(default_factory=dict)
    labels: Callable[[str, Path, Path], AnyArray] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.classes)

    def image(self, name: str) -> Path:
        return self.folder / "images" / f"{name}{self.image_ext}"

    def mask(self, name: str) -> Path:
        return self.folder / "masks" / f"{name}{self.mask_ext}"

    def split(self, split: str) -> tuple[str, ...]:
        """Names of a split.

        Raises
        ------
        DatasetError
            The set has no such split, or nothing is in it.
        """
        names = self.splits.get(split, ())
        if not names:
            have = ", ".join(sorted(self.splits)) or "none"
            raise DatasetError(
                f"{self.folder.name} has no split {split!r}; its splits are: {have}."
            )
        return names

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """Image and mask of each name of a split.

        Raises
        ------
        DatasetError
            One of the two is missing; the message names it.
        """
        self.split(split)  # says which splits there are where this one is not
        for _, image, mask in self.listed(split):
            for path, role in ((image, "image"), (mask, "mask")):
                if not path.exists():
                    raise DatasetError(
                        f"{self.folder.name}: the {role} {path.name} ({split} split) is missing."
                    )
        return [(image, mask) for _, image, mask in self.listed(split)]

    def listed(self, split: str) -> list[tuple[str, Path, Path]]:
        """Name, image and mask of a split, whether the files are there or not."""
        elsewhere = {name: (image, mask) for name, image, mask in self.files.get(split, ())}
        return [
            (name, *(elsewhere.get(name) or (self.image(name), self.mask(name))))
            for name in self.splits.get(split, ())
        ]


def open_sets(path: Path | str) -> list[LabelledSet]:
    """The set in ``path``, or every set in the folders of ``path``.

    Raises
    ------
    InputNotFoundError
        There is no such folder.
    DatasetError
        No set is there, or a ``dataset.json`` is broken.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputNotFoundError(f"There is no folder {str(path)!r} with labelled images.")
    if (folder / "dataset.json").is_file():
        return [read_set(folder)]
    found = [read_set(item.parent) for item in sorted(folder.glob("*/dataset.json"))]
    if not found:
        raise DatasetError(
            f"{str(path)!r} holds no dataset.json, nor do its folders: give the folder of a set."
        )
    return found


def read_set(folder: Path) -> LabelledSet:
    """One set from its ``dataset.json``.

    Raises
    ------
    DatasetError
        The file is no JSON, or a key is missing or wrong.
    """
    where = folder / "dataset.json"
    try:
        values = json.loads(where.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{where} is no readable JSON: {error}.") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{where} has to hold one JSON object.")
    try:
        return _from_values(folder, values)
    except KeyError as error:
        raise DatasetError(f"{where} lacks the key {error.args[0]!r}.") from error
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{where} is not as it should be: {error}.") from error


def _from_values(folder: Path, values: Mapping[str, Any]) -> LabelledSet:
    classes = tuple(
        ClassName(int(item["id"]), str(item["name"]), tuple(map(str, item.get("synonyms", ()))))
        for item in values["classes"]
    )
    ignore = int(values.get("ignore_index", 255))
    _check_classes(folder, classes, ignore)
    silent = values.get("not_annotated", ())
    by_image = silent if isinstance(silent, dict) else {}
    window = values.get("window")
    groups = {name: tuple(map(int, ids)) for name, ids in values.get("groups", {}).items()}
    return LabelledSet(
        folder=folder,
        name=str(values.get("name", folder.name)),
        domain=str(values.get("domain", "")),
        modality=str(values.get("modality", "")),
        image_ext=str(values["image_ext"]),
        mask_ext=str(values["mask_ext"]),
        ignore=ignore,
        classes=classes,
        splits={key: tuple(map(str, names)) for key, names in values["splits"].items()},
        groups=groups or derived_groups((item.id, item.name) for item in classes),
        unlabelled={str(key): frozenset(map(int, ids)) for key, ids in by_image.items()},
        foreign=() if isinstance(silent, dict) else tuple(map(str, silent)),
        window=None if window is None else (float(window[0]), float(window[1])),
        bands=tuple(map(str, values.get("bands", ()))),
        use=str(values.get("use", "")),
        licence=str(values.get("licence", "")),
        source=str(values.get("source", "")),
    )


def _check_classes(folder: Path, classes: Sequence[ClassName], ignore: int) -> None:
    if not classes:
        raise DatasetError(f"{folder / 'dataset.json'} names no class.")
    for item in classes:
        if item.id == ignore or not 0 < item.id < 2**16:
            raise DatasetError(f"{folder / 'dataset.json'}: class {item.name!r} has id {item.id}.")
    told: set[int | str] = set()
    for item in classes:
        for value in (item.id, normalise(item.name)):
            if value in told:
                raise DatasetError(f"{folder / 'dataset.json'} has {value!r} for two classes.")
            told.add(value)
