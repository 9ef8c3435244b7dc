"""Which files a batch is of: what folders, patterns, lists and paths lead to."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

from digseg.errors import DigsegError, InputError, InputNotFoundError, UsageError
from digseg.run.job import read_recipe
from digseg.run.outputs import COVERAGE_SUFFIXES, RECIPE_SUFFIX

#: Endings of lists of files: one path in each line, relative to the list.
LIST_SUFFIXES = (".txt", ".lst", ".csv")

# The part of a pattern that stands for folders of any depth.
_ANY_DEPTH = "**"

# Files that lie beside images and are none.
_BESIDE = (
    *(".json", ".csv", ".txt", ".md", ".xml", ".html", ".pdf", ".log", ".tfw", ".prj", ".wld"),
    *(".ovr", ".msk", ".gpkg", ".geojson", ".parquet", ".zip", ".gz", ".raw", ".bval", ".bvec"),
    *(".py", ".yaml", ".yml", ".toml", ".ini", ".sh"),
)


@dataclass(frozen=True)
class Found:
    """An input of a batch, and where in the output folder its mask belongs."""

    path: str
    place: Path = Path()


def find(inputs: Sequence[str], *, leave_out: Path | None = None) -> list[Found]:
    """Files named by folders, glob patterns, lists and plain paths, each once, in order.

    A folder that is itself an image (a DICOM series, a Zarr store) is one case; of any other
    folder everything inside that is, or is named like, an image. So a damaged image is found and
    reported later, a read-me is not. What a recipe beside it calls the output of a run is found by
    its own path and in lists only.

    Parameters
    ----------
    leave_out
        The output folder, which may lie inside an input folder.

    Raises
    ------
    InputNotFoundError
        A path, a pattern or a list leads to nothing.
    UsageError
        An input folder is the output folder itself.
    """
    finder = _Finder(leave_out)
    found: dict[str, Found] = {}
    for text in inputs:
        here = list(finder.of(text))
        if not here:
            raise InputNotFoundError(f"There is no image to segment at {text}: check the path.")
        for item in here:
            found.setdefault(item.path, item)
    return list(found.values())


def names_of(found: Sequence[Found]) -> list[Path]:
    """For each input a name of its own in the output folder, without a suffix.

    Names follow from the list alone. Whether a file can be read, and what it holds, changes
    neither its name nor another's; so a mask that is there is known to be of which file.
    """
    taken: set[Path] = set()
    chosen = []
    for item in found:
        name = Path(item.path.rstrip("/")).name
        if name in ("", ".."):  # the folder somebody stands in, or the one above
            name = Path(os.path.abspath(item.path)).name
        whole = name.replace(".", "_")  # a.nii.gz may stand beside a.tif
        stems = chain((_stem(name), whole), (f"{whole}_{number}" for number in count(2)))
        free = next(path for stem in stems if (path := item.place / stem) not in taken)
        taken.add(free)
        chosen.append(free)
    return chosen


class _Finder:
    """One search; it remembers which files the recipes of a folder call outputs."""

    def __init__(self, leave_out: Path | None) -> None:
        self._leave_out = None if leave_out is None else os.path.realpath(leave_out)
        self._outputs: dict[Path, frozenset[str]] = {}

    def of(self, text: str) -> Iterator[Found]:
        from digseg.io.files import is_remote

        path = Path(text)
        if is_remote(text):
            yield Found(text)
        elif path.is_dir():
            if os.path.realpath(path) == self._leave_out:
                raise UsageError(
                    f"{text} is the folder of the masks itself: choose another one for them, or "
                    f"name its images by a pattern such as '{path / '*.tif'}'."
                )
            yield from self._in_folder(path, Path(), ())
        elif path.exists():
            if path.suffix.lower() in LIST_SUFFIXES:
                yield from _in_list(path)
            else:
                yield Found(text)
        elif glob.has_magic(text):
            yield from self._by_pattern(text)

    def _by_pattern(self, text: str) -> Iterator[Found]:
        parts = Path(text).parts
        fixed = Path(*takewhile(lambda part: not glob.has_magic(part), parts))
        for path in sorted(set(_matches(parts))):
            inside = path.relative_to(fixed)
            up = ".." in inside.parts
            again = _ANY_DEPTH in parts and not up and _loops(fixed, inside)
            if again or _is_beside(path) or self._is_output(path):
                continue
            # As in folders: where files lie under what is fixed, their masks lie, too.
            yield Found(str(path), Path() if up else inside.parent)

    def _in_folder(self, folder: Path, place: Path, above: tuple[str, ...]) -> Iterator[Found]:
        real = os.path.realpath(folder)
        if real == self._leave_out or real in above:  # a link back leads to the same files again
            return
        if _is_image(folder):
            yield Found(str(folder), place.parent)
            return
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or self._is_output(path):
                continue
            if path.is_dir():
                yield from self._in_folder(path, place / path.name, (*above, real))
            elif not _is_beside(path) and (_named_like_image(path) or _is_image(path)):
                yield Found(str(path), place)

    def _is_output(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._outputs:
            recipes = folder.glob(f"*{RECIPE_SUFFIX}")
            self._outputs[folder] = frozenset(chain.from_iterable(map(_written_beside, recipes)))
        return path.name in self._outputs[folder]


def _written_beside(recipe: Path) -> Iterator[str]:
    """Names of the files in the folder of a recipe that its run wrote."""
    main = recipe.name.removesuffix(RECIPE_SUFFIX)
    try:
        outputs: Any = read_recipe(recipe).get("outputs")
    except (DigsegError, OSError):
        return
    paths = outputs.values() if isinstance(outputs, Mapping) else ()
    written = [Path(path) for path in paths if isinstance(path, str)]
    # Folders as they were called then, and perhaps moved since: only which were the same counts.
    folders = {path.parent for path in written if path.name == main}
    if not folders:
        return
    yield from (path.name for path in written if path.parent in folders)
    yield from (main + suffix for suffix in COVERAGE_SUFFIXES)


def _matches(parts: Sequence[str]) -> Iterator[Path]:
    """What a pattern matches. ``glob`` itself runs through links back until a path is too long,
    which takes for ever where there are two of them."""
    if _ANY_DEPTH not in parts:
        yield from (Path(name) for name in glob.glob(str(Path(*parts))))
        return
    at = parts.index(_ANY_DEPTH)
    rest = parts[at + 1 :] or ("*",)
    for head in _matches(parts[:at]) if at else (Path(),):
        for folder in _folders(head, ()):
            yield from _matches((*Path(glob.escape(str(folder))).parts, *rest))


def _folders(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """A folder and all below it, through links, but not back."""
    real = os.path.realpath(folder)
    if real in above or not folder.is_dir():
        return
    yield folder
    inside: list[Path] = []
    with suppress(OSError):  # what may not be looked into holds nothing
        inside = list(folder.iterdir())
    for path in inside:
        if not path.name.startswith("."):
            yield from _folders(path, (*above, real))


def _loops(fixed: Path, inside: Path) -> bool:
    """Whether a path goes through a folder twice, by a link back."""
    folders = [os.path.realpath(fixed / folder) for folder in inside.parents]
    return len(set(folders)) < len(folders)


def _in_list(path: Path) -> Iterator[Found]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no list of files: it is no text.") from error
    lines = csv.reader(text.splitlines()) if path.suffix.lower() == ".csv" else None
    names = [row[0] for row in lines if row] if lines is not None else text.splitlines()
    for name in names:
        name = name.strip()
        if name and not name.startswith("#"):
            yield Found(str(path.parent / name) if "://" not in name else name)


def _stem(name: str) -> str:
    for ending in (".nii.gz", ".img.gz", ".hdr.gz", ".ome.zarr", ".ome.tiff", ".ome.tif"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(name).stem


def _is_beside(path: Path) -> bool:
    """Whether a file belongs to an image, or to something else altogether."""
    name = path.name.lower()
    if path.is_dir() or name.endswith((".nii.gz", ".img.gz", ".hdr.gz")):
        return False
    if name.endswith(_BESIDE):
        return True
    # Analyze and NIfTI pairs: the header speaks for both.
    return name.endswith(".img") and path.with_suffix(".hdr").exists()


def _named_like_image(path: Path) -> bool:
    from digseg.io.registry import FORMATS

    return any(path.name.lower().endswith(item.suffixes) for item in FORMATS if item.suffixes)


def _is_image(path: Path) -> bool:
    from digseg.io.registry import find_reader

    try:
        find_reader(path)
    except InputError:
        return False
    return True
