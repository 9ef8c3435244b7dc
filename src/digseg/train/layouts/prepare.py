"""Training pictures of whatever lies in a folder: the pack's sets, or a public layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from digseg.errors import DatasetError, InputNotFoundError
from digseg.train.layouts import detect, open_layout
from digseg.train.pack import Picture, SetInfo, find_sets
from digseg.train.run import LONGEST, Prepared, prepare

#: Mark of sets whose weights may be given away.
SHIPPED = "train-and-ship"


def prepare_any(
    data: Iterable[str | Path],
    *,
    layout: str | None = None,
    use: str | None = None,
    split: str = "train",
    longest: int | None = LONGEST,
) -> Prepared:
    """Sets and their pictures under each folder of `data`.

    Parameters
    ----------
    layout
        A name in `LAYOUTS` for all folders; `None` tells it from what they hold.
    use
        Keep only sets of the pack's format with this mark; ``"any"`` keeps all. `None` keeps all
        of a single set, and of a folder of sets those marked ``"train-and-ship"`` where there are
        such, so that weights made of a whole folder may be given away.

    Raises
    ------
    InputNotFoundError
        There is no such folder.
    DatasetError
        A folder is of no known kind, a pair is broken, or two sets have one name.
    """
    infos: list[SetInfo] = []
    pictures: dict[str, Sequence[Picture]] = {}
    for item in data:
        folder = Path(item)
        if not folder.is_dir():
            raise InputNotFoundError(f"There is no folder {str(item)!r} with training data.")
        found, theirs = _one(folder, layout, use, split, longest)
        for info in found:
            if info.name in pictures:
                raise DatasetError(f"Two sets are named {info.name!r}: give one of them.")
            infos.append(info)
            pictures[info.name] = theirs[info.name]
    return infos, pictures


def is_pack(folder: Path) -> bool:
    """Whether a folder is a set of the pack's format, or holds such sets."""
    file = folder / "dataset.json"
    if file.is_file():
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError):
            return True  # its own reader says what is wrong with it
        # A task of the Decathlon has a file of the same name.
        return not (isinstance(told, Mapping) and "training" in told and "classes" not in told)
    return any(folder.glob("*/dataset.json"))


def _one(
    folder: Path, layout: str | None, use: str | None, split: str, longest: int | None
) -> Prepared:
    if layout is None and (is_pack(folder) or detect(folder) is None):
        return prepare(folder, _mark(folder, use), split, longest)
    opened = open_layout(folder, layout)
    return [opened.info], {opened.info.name: opened.pictures(split, longest)}


def _mark(folder: Path, use: str | None) -> str | None:
    if use is not None:
        return None if use == "any" else use
    if (folder / "dataset.json").is_file() or not any(folder.glob("*/dataset.json")):
        return None
    marked = any(info.use == SHIPPED for info in find_sets(folder))
    return SHIPPED if marked else None
