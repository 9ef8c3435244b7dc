"""Every choice of a run in one frozen object. Level 2; the defaults stand here and nowhere else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import inf
from numbers import Integral, Real
from typing import Any, Literal

from digseg.errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps"]
Planes = Literal["z", "y", "x", "zyx"]

#: CT display windows by name: lower and upper bound in Hounsfield units.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "soft-tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "liver": (-45.0, 105.0),
}

#: How much smaller or larger than its pixels an image may be shown, and at how many sizes at once.
SMALLEST_SCALE, LARGEST_SCALE, MOST_SCALES = 0.25, 4.0, 4

#: Largest seed of which every member of an ensemble still has a seed that torch takes.
LARGEST_SEED = 10**13

#: Settings that may be left open, and what they are otherwise.
_OPTIONAL: Mapping[str, type] = {
    "memory": int, "scheduler": str, "window": tuple, "spacing": float, "propagate": bool,
}  # fmt: skip

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?\s*$", re.IGNORECASE)
_TOLERANCE = re.compile(r"^\s*(\d+(?:\.\d*)?|\.\d+)\s*(px|m)?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}


def parse_size(text: str) -> int:
    """Bytes of ``"4GiB"``, ``"500MB"`` or ``"1048576"``.

    Raises
    ------
    UsageError
        The text is no size.
    """
    match = _SIZE.match(text)
    if match is None:
        raise UsageError(f"{text!r} is no size in bytes: write 4GiB, 500MB or a whole number.")
    unit = (match[2] or "").lower()
    size = int(float(match[1]) * {**_UNITS, **_BINARY}[unit])
    if size < 1:
        raise UsageError("A size has to be at least one byte.")
    return size


def parse_tolerance(text: str) -> tuple[float, str]:
    """Tolerance of simplified borders from ``"2"``, ``"2px"`` or ``"5m"``: number and unit.

    Raises
    ------
    UsageError
        The text is no tolerance.
    """
    match = _TOLERANCE.match(text)
    if match is None:
        raise UsageError(f"{text!r} is no tolerance: write 2px for pixels, or 5m for metres.")
    return float(match[1]), (match[2] or "px").lower()


def parse_window(text: str) -> tuple[float, float]:
    """A CT window in HU from a name of `CT_WINDOWS` or from ``"-160,240"``.

    Raises
    ------
    UsageError
        The name is unknown or the bounds are no increasing pair.
    """
    key = text.strip().lower().replace(" ", "-").replace("_", "-")
    if key in CT_WINDOWS:
        return CT_WINDOWS[key]
    try:
        low, high = (float(part) for part in key.split(","))
    except ValueError:
        names = ", ".join(CT_WINDOWS)
        raise UsageError(
            f"{text!r} is no window: use one of {names}, or two numbers in HU such as -160,240."
        ) from None
    if not -inf < low < high < inf:
        raise UsageError(f"The window {text!r} is empty: write two numbers, the lower one first.")
    return low, high


def parse_scales(text: str) -> tuple[float, ...]:
    """Scales from ``"0.7,1"``; none from an empty text.

    Raises
    ------
    UsageError
        The text is no list of numbers.
    """
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = ()
    if not found and text.strip():
        raise UsageError(f"{text!r} are no scales: write numbers such as 0.7,1.")
    return found


def check_scales(scales: Sequence[float]) -> None:
    """Refuse scales that no model can be asked at.

    Raises
    ------
    UsageError
        One lies outside 0.25 to 4, is told twice, or there are more than four.
    """
    for scale in scales:
        if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
            raise UsageError(
                f"A scale lies between {SMALLEST_SCALE:g} and {LARGEST_SCALE:g}, not {scale:g}."
            )
    if len(set(scales)) < len(scales) or len(scales) > MOST_SCALES:
        raise UsageError(f"Give up to {MOST_SCALES} different scales.")


def default_overlap(tile: int) -> int:
    """Overlap for a tile when only the tile was chosen: 64 pixels, a quarter of small tiles."""
    return min(64, tile // 4)


@dataclass(frozen=True)
class SegmentSettings:
    """How a run is done; frozen, and the same for CLI, GUI, library and recipe.

    Parameters
    ----------
    model
        Name of a shipped model, or the folder of one.
    device
        ``"auto"`` takes a GPU where there is one.
    tile, overlap
        Side of a tile and the overlap of neighbours, in pixels.
    batch
        Tiles given to the model at once; 0 lets the run choose.
    memory
        Bytes the whole process may use; `None` takes three quarters of what is free.
    workers
        Processes of a local cluster; 0 or 1 runs in this process.
    scheduler
        Address of a dask scheduler to use in place of a local one.
    threshold
        Probability from which a pixel belongs to a prompt.
    thresholds
        Thresholds of single prompts, by name; the others take ``threshold``.
    steps, ensemble, seed
        Denoising steps; runs from different noise whose mean and spread are taken; their seed.
    bands
        Bands (from 1) shown to the model as red, green, blue; empty lets the reader choose.
    window
        CT display window in HU, lower and upper bound; `None` chooses by modality.
    percentiles
        Lower and upper percentile of the data set that become 0 and 1 (rasters, MR).
    planes
        Slice axis of a volume, or ``"zyx"`` to fuse all three.
    time
        Time point of a 4-D volume, from 0.
    spacing
        Millimetres of a pixel that the model sees in a volume's planes; 0 takes the file's own,
        `None` makes them square where they are not, and shows planes as large as the model is
        used to (see `digseg.run.magnify.magnification`).
    propagate
        Start each slice of a volume from its neighbours' results, in a second pass; `None` does
        what the model recommends (see `digseg.run.settled.settled`).
    scales
        How many times larger than its pixels are the model sees an image, between 0.25 and 4;
        the answers at several are averaged. Empty: once, or as the model recommends for
        pictures whose pixels have no known size on the ground.
    context
        Neighbouring slices are given to the model as its outer channels.
    largest, fill_holes, minimum_ml
        Clean-up of volumes, only when asked for.
    simplify
        Tolerance of the borders of polygons, ``"2px"`` or ``"5m"``; empty keeps every corner of
        the pixels.

    Raises
    ------
    UsageError
        A value is outside its range.
    """

    model: str = "digseg-tiny"
    device: Device = "auto"
    tile: int = 512
    overlap: int = 64
    batch: int = 0
    memory: int | None = None
    workers: int = 0
    scheduler: str | None = None
    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    steps: int = 1
    ensemble: int = 1
    seed: int = 0
    bands: tuple[int, ...] = ()
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (2.0, 98.0)
    planes: Planes = "z"
    time: int = 0
    spacing: float | None = None
    propagate: bool | None = None
    scales: tuple[float, ...] = ()
    context: bool = True
    largest: bool = False
    fill_holes: bool = False
    minimum_ml: float = 0.0
    simplify: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", dict(self.thresholds))
        object.__setattr__(self, "bands", tuple(self.bands))
        object.__setattr__(self, "percentiles", tuple(self.percentiles))
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        if self.simplify:
            size, unit = parse_tolerance(self.simplify)
            object.__setattr__(self, "simplify", f"{size:g}{unit}" if size else "")
        if self.window is not None:
            object.__setattr__(self, "window", tuple(self.window))
        _check(self)

    def threshold_of(self, name: str) -> float:
        """Threshold of the prompt ``name``."""
        return float(self.thresholds.get(name, self.threshold))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegmentSettings:
        """Inverse of `to_dict`; an unknown key is an error, so that no choice is lost silently."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"There is no setting named {unknown[0]!r}.")
        default = cls()
        for name, value in values.items():
            _check_kind(name, value, getattr(default, name))
        return cls(**values)

    def with_(self, **changes: Any) -> SegmentSettings:
        """A copy with some choices changed."""
        unknown = sorted(set(changes) - {item.name for item in fields(self)})
        if unknown:
            raise UsageError(f"There is no setting named {unknown[0]!r}.")
        return replace(self, **changes)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Refuse a value from a file that is of another kind than the setting's."""
    kind = _OPTIONAL.get(name, type(default))
    if value is None:
        good = name in _OPTIONAL
    elif kind is dict:
        good = isinstance(value, Mapping) and all(map(_number, value.values()))
    elif kind is tuple:
        good = isinstance(value, (list, tuple)) and all(map(_number, value))
    elif kind is float:
        good = _number(value)
    else:
        kind = Integral if kind is int else kind
        good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not good:
        raise UsageError(f"The setting {name!r} can't be {value!r}.")


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check(settings: SegmentSettings) -> None:
    s = settings
    problems = {
        f"The tile has to be at least 32 pixels, not {s.tile}.": s.tile < 32,
        f"The overlap has to lie between 0 and half of the tile, not {s.overlap}.": not (
            0 <= s.overlap <= s.tile // 2
        ),
        f"The batch can't be {s.batch}.": s.batch < 0,
        f"The number of workers can't be {s.workers}.": s.workers < 0,
        f"At least one step is needed, not {s.steps}.": not 1 <= s.steps <= 1000,
        f"At least one ensemble member is needed, not {s.ensemble}.": s.ensemble < 1,
        f"The seed lies between 0 and {LARGEST_SEED}, not {s.seed}.": not (
            0 <= s.seed <= LARGEST_SEED
        ),
        f"The time point can't be {s.time}: count from 0.": s.time < 0,
        f"The spacing can't be {s.spacing} mm.": s.spacing is not None and not 0 <= s.spacing < inf,
        f"The minimum volume can't be {s.minimum_ml} ml.": not 0 <= s.minimum_ml < inf,
        f"{s.device!r} is no device: use auto, cpu, cuda or mps.": s.device
        not in ("auto", "cpu", "cuda", "mps"),
        f"{s.planes!r} is no choice of planes: use z, y, x or zyx.": s.planes
        not in ("z", "y", "x", "zyx"),
        "The percentiles have to be increasing and between 0 and 100.": not (
            len(s.percentiles) == 2 and 0 <= s.percentiles[0] < s.percentiles[1] <= 100
        ),
        "The window needs two increasing numbers in HU.": s.window is not None
        and not (len(s.window) == 2 and -inf < s.window[0] < s.window[1] < inf),
        "Bands count from 1: give one or three of them.": any(band < 1 for band in s.bands)
        or len(s.bands) not in (0, 1, 3),
    }
    for value in (s.threshold, *s.thresholds.values()):
        problems[f"A threshold lies between 0 and 1, not {value}."] = not 0 <= value <= 1
    for message, wrong in problems.items():
        if wrong:
            raise UsageError(message)
    check_scales(s.scales)
