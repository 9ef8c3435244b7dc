"""A run as a value: input, prompts, settings and outputs. Its recipe reproduces it bit for bit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from digseg._version import __version__
from digseg.errors import (
    CorruptInputError,
    DigsegError,
    InputError,
    InputNotFoundError,
    UnsupportedInputError,
    UsageError,
)
from digseg.prompts import Prompt, PromptSet
from digseg.run.outline import Outline
from digseg.settings import SegmentSettings

#: Version of the recipe's layout; a reader refuses what it does not know.
RECIPE_VERSION = 1

#: Half-open bounds of each axis in array order: ``((row, row), (column, column))``, or three pairs.
Region = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Outputs:
    """Files that a run writes; `None` for those not wanted.

    Parameters
    ----------
    labels
        The mask: GeoTIFF, NIfTI, OME-Zarr ... by its suffix.
    probabilities
        Folder of the probability store, kept for new thresholds and prompts.
    vector
        Polygons: ``.gpkg``, ``.geojson`` or ``.parquet``.
    stats
        Table of areas or volumes, ``.csv``.
    uncertainty
        Spread over the ensemble, in the format of the mask.
    picture
        PNG of image and mask.
    """

    labels: Path | None = None
    probabilities: Path | None = None
    vector: Path | None = None
    stats: Path | None = None
    uncertainty: Path | None = None
    picture: Path | None = None

    def __iter__(self) -> Any:
        """The paths that are wanted."""
        return (path for item in fields(self) if (path := getattr(self, item.name)) is not None)

    @property
    def main(self) -> Path | None:
        """The output that names the run: its sidecars stand beside it."""
        return next(iter(self), None)


@dataclass(frozen=True)
class Job:
    """Everything that decides a run.

    Parameters
    ----------
    input
        Path or URL.
    prompts, settings, outputs
        What to find, how, and where it goes.
    series
        Which series of a DICOM folder that holds several.
    region
        Part of the input to segment; the output covers that part alone. `None` takes it all.
    outline
        Polygons, in pixels of the whole input, outside of which nothing is asked for; without a
        ``region`` the output covers the part around them.
    suppress
        Names of prompts that compete but get no label; the others keep their ids.
    resume
        Go on with the unfinished run that lies beside the outputs.
    overwrite
        Replace outputs that exist.
    """

    input: str
    prompts: PromptSet
    settings: SegmentSettings = field(default_factory=SegmentSettings)
    outputs: Outputs = field(default_factory=Outputs)
    series: str | None = None
    region: Region | None = None
    outline: Outline | None = None
    suppress: tuple[str, ...] = ()
    resume: bool = False
    overwrite: bool = False

    def recipe(self, **found: Any) -> dict[str, Any]:
        """JSON-ready recipe; ``found`` adds what the run learned (model identity, stretch ...)."""
        return {
            "recipe": RECIPE_VERSION,
            "program": f"napari-digseg {__version__}",
            "input": self.input,
            "series": self.series,
            "region": None if self.region is None else [list(pair) for pair in self.region],
            "outline": None if self.outline is None else str(self.outline),
            "suppressed": list(self.suppress),
            "prompts": self.prompts.to_list(),
            "settings": self.settings.to_dict(),
            "outputs": {
                item.name: str(path)
                for item in fields(self.outputs)
                if (path := getattr(self.outputs, item.name)) is not None
            },
            "command": self.command_line(),
            **found,
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], **changes: Any) -> Job:
        """The job of a recipe.

        Raises
        ------
        CorruptInputError
            The recipe lacks a part, holds something else in its place, or is of another version.
        UsageError
            A prompt or a setting in it is outside its range.
        """
        version = recipe.get("recipe")
        if version != RECIPE_VERSION:
            raise CorruptInputError(
                f"The recipe has version {version!r}, this program reads {RECIPE_VERSION}: "
                "run it with the program version that it names."
            )
        values: dict[str, Any] = {}
        for name, read in _ENTRIES.items():
            try:
                values[name] = read(recipe)
            except DigsegError:
                raise  # says what is wrong already
            except KeyError as error:
                raise CorruptInputError(f"The recipe is incomplete: {error} is missing.") from error
            except (TypeError, ValueError, AttributeError) as error:
                entry = "suppressed" if name == "suppress" else name
                raise CorruptInputError(
                    f"The entry {entry!r} of the recipe makes no sense ({error}): mend it, or "
                    "start the run with segment."
                ) from error
        return cls(**{**values, **changes})

    def command_line(self) -> str:
        """The command that does the same run."""
        words = ["napari-digseg", "segment", self.input]
        for prompt in self.prompts:
            words += ["-n" if prompt.negative else "-p", _prompt_text(prompt)]
        if self.outputs.labels is not None:
            words += ["-o", str(self.outputs.labels)]
        for name in ("probabilities", "vector", "stats", "uncertainty", "picture"):
            path = getattr(self.outputs, name)
            if path is not None:
                words += [f"--{name}", str(path)]
        if self.series is not None:
            words += ["--series", self.series]
        if self.region is not None:
            words += ["--region", ",".join(f"{start}:{stop}" for start, stop in self.region)]
        if self.outline is not None:
            words += ["--outline", str(self.outline)]
        for name in self.suppress:
            words += ["--suppress", name]
        return shlex.join(words + _setting_words(self.settings))


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe sidecar.

    Raises
    ------
    InputNotFoundError, InputError, UnsupportedInputError
        There is no such file, it can't be read, or it is no recipe.
    """
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputNotFoundError(f"There is no recipe at {path}.") from error
    except OSError as error:
        raise InputError(f"The recipe {path} can't be read: {error.strerror}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UnsupportedInputError(f"{path} is no recipe: {error}.") from error
    if not isinstance(recipe, dict) or "recipe" not in recipe:
        raise UnsupportedInputError(f"{path} is no recipe of napari-digseg.")
    return recipe


def parse_region(text: str) -> Region:
    """Bounds from ``"0:100,20:80"``: rows and columns, or slices, rows and columns.

    Raises
    ------
    UsageError
        The text is no region, or an axis is empty.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        region = tuple((int(start), int(stop)) for start, stop in pairs)
    except ValueError:
        region = ()
    if len(region) not in (2, 3) or any(not 0 <= start < stop for start, stop in region):
        raise UsageError(
            f"{text!r} is no region: write first:last of each axis, "
            "such as 0:512,256:768 for rows and columns."
        )
    return region


def _region(values: Any) -> Region | None:
    if values is None:
        return None
    region = tuple((int(start), int(stop)) for start, stop in values)
    if len(region) not in (2, 3) or any(not 0 <= start < stop for start, stop in region):
        raise ValueError(f"{values} are no bounds of two or three axes")
    return region


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is no list of names")
    return tuple(values)


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _outputs(values: Mapping[str, str]) -> Outputs:
    known = {item.name for item in fields(Outputs)}
    if unknown := sorted(set(values.keys()) - known):
        raise ValueError(f"there is no output named {unknown[0]!r}")
    return Outputs(**{name: Path(path) for name, path in values.items()})


def _outline(text: str | None) -> Outline | None:
    return None if text is None else Outline.parse(text)


#: Fields of a job, and how each is read from a recipe.
_ENTRIES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "input": lambda recipe: str(recipe["input"]),
    "prompts": lambda recipe: PromptSet.from_list(recipe["prompts"]),
    "settings": lambda recipe: SegmentSettings.from_dict(recipe["settings"]),
    "outputs": lambda recipe: _outputs(recipe.get("outputs", {})),
    "series": lambda recipe: _text(recipe.get("series")),
    "region": lambda recipe: _region(recipe.get("region")),
    "suppress": lambda recipe: _texts(recipe.get("suppressed", ())),
    "outline": lambda recipe: _outline(recipe.get("outline")),
}


def _prompt_text(prompt: Prompt) -> str:
    return f"{prompt.name}={','.join(prompt.synonyms)}" if prompt.synonyms else prompt.name


def _setting_words(settings: SegmentSettings) -> list[str]:
    """Flags for what differs from the defaults."""
    default = SegmentSettings()
    words: list[str] = []
    for item in fields(settings):
        value = getattr(settings, item.name)
        if value == getattr(default, item.name):
            continue
        flag = "--" + item.name.replace("_", "-")
        if item.name == "thresholds":
            for name, threshold in sorted(value.items()):
                words += ["--threshold", f"{name}={threshold}"]
        elif item.name == "context":
            words.append("--no-context")
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, tuple):
            # One word: a window's lower bound begins with a minus sign.
            words.append(f"{flag}={','.join(f'{part:g}' for part in value)}")
        else:
            words += [flag, str(value)]
    return words
