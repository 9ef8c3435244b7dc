"""How sets are mixed: the share of each, where its pictures come from, how they may be changed.

A mix is a JSON file: ``{"default": {...}, "domains": {NAME: {...}}, "sets": {NAME: {...}}}``.
Each level overrides the one before it. Keys: ``weight`` (share of the pictures drawn),
``region`` (pictures of one region may show things that their own set doesn't label, so absent
prompts are drawn from other regions only), ``prompts`` (asked of one picture), ``groups`` (chance
of asking for a group of classes as a whole), ``lungs`` (whether lungs are found in its slices of
the chest and asked for, too), and every field of `AugmentSettings`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any

from digseg.errors import DatasetError
from digseg.train.augment import AugmentSettings
from digseg.train.pack import SetInfo

#: Keys of an entry that say how pictures are changed.
_LOOKS = frozenset(item.name for item in fields(AugmentSettings))


@dataclass(frozen=True)
class Share:
    """How one set takes part in training."""

    weight: float = 1.0
    region: str = "other"
    prompts: int = 4
    groups: float = 0.3
    lungs: bool = False
    augment: AugmentSettings = field(default_factory=AugmentSettings)


def read_mix(file: str | Path | None) -> Mapping[str, Any]:
    """A mix file; `None` reads the one of the default model.

    Raises
    ------
    DatasetError
        The file is missing or no valid mix, or one of its entries has an unknown key or value.
    """
    try:
        if file is None:
            text = (resources.files("digseg.train") / "mix.json").read_text(encoding="utf-8")
        else:
            text = Path(file).read_text(encoding="utf-8")
        mix = json.loads(text)
    except FileNotFoundError:
        raise DatasetError(f"There is no mix file {file}.") from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"The mix {file} is no valid JSON ({error}).") from None
    if not isinstance(mix, dict) or set(mix) - {"default", "domains", "sets"}:
        raise DatasetError(f"The mix {file} may hold default, domains and sets only.")
    entries = [("default", mix.get("default", {}))]
    for level in ("domains", "sets"):
        named = mix.get(level, {})
        if not isinstance(named, dict):
            raise DatasetError(f"In the mix {file} {level!r} has to be an object of names.")
        entries += named.items()
    for name, entry in entries:
        if not isinstance(entry, dict):
            raise DatasetError(f"In the mix {file} the entry {name!r} has to be an object.")
        _check_entry(name, entry)
    return mix


def unused_names(infos: Sequence[SetInfo], mix: Mapping[str, Any]) -> tuple[str, ...]:
    """Sets and domains that a mix names and the data doesn't have; perhaps a name is misspelt."""
    sets = set(mix.get("sets", {})) - {info.name for info in infos}
    domains = set(mix.get("domains", {})) - {info.domain for info in infos}
    return tuple(sorted(sets | domains))


def shares(infos: Sequence[SetInfo], mix: Mapping[str, Any]) -> dict[str, Share]:
    """The share of each set.

    Raises
    ------
    DatasetError
        An entry of the mix is unknown.
    """
    result = {}
    for info in infos:
        entry: dict[str, Any] = {"region": info.domain}
        entry |= mix.get("default", {})
        entry |= mix.get("domains", {}).get(info.domain, {})
        entry |= mix.get("sets", {}).get(info.name, {})
        _check_entry(info.name, entry)
        augment = {key: entry.pop(key) for key in _LOOKS & set(entry)}
        if "scales" in augment:
            augment["scales"] = tuple(augment["scales"])
        result[info.name] = replace(Share(**entry), augment=AugmentSettings(**augment))
    sizes = sorted({share.augment.size for share in result.values()})
    if len(sizes) > 1:
        raise DatasetError(
            f"The mix has crops of {sizes[0]} and of {sizes[-1]} pixels: give all sets one size."
        )
    return result


def _check_entry(name: str, entry: Mapping[str, Any]) -> None:
    """Refuse a key or a value that training would stumble over later, or never notice."""
    unknown = set(entry) - _LOOKS - {"weight", "region", "prompts", "groups", "lungs"}
    if unknown:
        raise DatasetError(f"The mix has an unknown entry {sorted(unknown)[0]!r}.")
    for key, value in entry.items():
        _check(name, key, value)


def _check(name: str, key: str, value: Any) -> None:
    if key == "region":
        good, wanted = isinstance(value, str), "a word"
    elif key in ("flips", "quarter_turns", "lungs"):
        good, wanted = isinstance(value, bool), "true or false"
    elif key == "scales":
        pair = isinstance(value, (list, tuple)) and len(value) == 2
        good = pair and all(map(_number, value)) and 0 < value[0] <= value[1]
        wanted = "two numbers above 0, the smaller one first"
    elif key in ("size", "prompts"):
        step = 32 if key == "size" else 1
        whole = _number(value) and isinstance(value, int)
        good = whole and value > 0 and value % step == 0
        wanted = "a multiple of 32" if key == "size" else "a whole number from 1 on"
    elif key == "magnify":
        good, wanted = _number(value) and value > 0, "a number above 0"
    elif key in ("weight", "turn", "light"):
        good, wanted = _number(value) and value >= 0, "a number from 0 on"
    else:
        good, wanted = _number(value) and 0 <= value <= 1, "a chance from 0 to 1"
    if not good:
        raise DatasetError(f"In the mix {key!r} of {name} is {value!r}: it has to be {wanted}.")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
