"""How sets are mixed: the share of each, where its pictures come from, how they may be changed.

A mix is a JSON file: ``{"default": {...}, "domains": {NAME: {...}}, "sets": {NAME: {...}}}``.
Each level overrides the one before it. Keys: ``weight`` (share of the pictures drawn),
``region`` (pictures of one region may show things that their own set doesn't label, so absent
prompts are drawn from other regions only), ``prompts`` (asked of one picture), ``groups`` (chance
of asking for a group of classes as a whole), and every field of `AugmentSettings`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from digseg.errors import DatasetError
from digseg.train.augment import AugmentSettings
from digseg.train.pack import SetInfo


@dataclass(frozen=True)
class Share:
    """How one set takes part in training."""

    weight: float = 1.0
    region: str = "other"
    prompts: int = 4
    groups: float = 0.3
    augment: AugmentSettings = field(default_factory=AugmentSettings)


def read_mix(file: str | Path | None) -> Mapping[str, Any]:
    """A mix file; `None` reads the one of the default model.

    Raises
    ------
    DatasetError
        The file is missing or no valid mix.
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
    return mix


def shares(infos: Sequence[SetInfo], mix: Mapping[str, Any]) -> dict[str, Share]:
    """The share of each set.

    Raises
    ------
    DatasetError
        An entry of the mix is unknown.
    """
    known = {item.name for item in fields(AugmentSettings)}
    result = {}
    for info in infos:
        entry: dict[str, Any] = {"region": info.domain}
        entry |= mix.get("default", {})
        entry |= mix.get("domains", {}).get(info.domain, {})
        entry |= mix.get("sets", {}).get(info.name, {})
        augment = {key: entry.pop(key) for key in known & set(entry)}
        if "scales" in augment:
            augment["scales"] = tuple(augment["scales"])
        unknown = set(entry) - {"weight", "region", "prompts", "groups"}
        if unknown:
            raise DatasetError(f"The mix has an unknown entry {sorted(unknown)[0]!r}.")
        result[info.name] = replace(Share(**entry), augment=AugmentSettings(**augment))
    return result
