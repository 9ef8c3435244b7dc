"""Structures that people ask for as one, where a set names only their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from digseg.prompts import normalise
from digseg.types import BoolArray, UInt8Array

_BONES = ("vertebra", "rib", "sacrum", "hip", "femur", "humerus", "scapula", "clavicle", "sternum")
#: The whole, the words of which one is in each part's name, and other words for the whole.
_WHOLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vertebrae": (("vertebra",), ("vertebral bodies", "bones of the spine")),
    "kidney": (("kidney",), ("kidneys",)),
    "lung": (("lung",), ("lungs",)),
    "rib": (("rib",), ("ribs",)),
    "bone": (_BONES, ("bones", "skeleton")),
}

#: Words of which one is in the name of what holds blood, in the chest and the abdomen.
_BLOOD = ("ventricle", "atrium", "aorta", "artery", "vein", "cava")


@dataclass(frozen=True)
class Tissues:
    """What label values have in common.

    Parameters
    ----------
    kinds
        ``uint8 [256]``: for each value the one whose greys it shares in a made-up MR.
    blood
        ``bool [256]``: which of them are full of blood.
    """

    kinds: UInt8Array
    blood: BoolArray


def tissues_of(
    classes: Sequence[tuple[int, str]], groups: Iterable[tuple[int, ...]] = ()
) -> Tissues:
    """By the names of classes and by groups (see `kinds_of` and `blood_in`)."""
    return Tissues(kinds_of(classes, groups), blood_in(classes))


def derived_groups(classes: Iterable[tuple[int, str]]) -> dict[str, tuple[int, ...]]:
    """Parts that share a word (``L3 vertebra``, ``T12 vertebra``) under the word for them all.

    Of bones the names tell that they are some; a set of vertebrae alone gets no ``bone``.

    Parameters
    ----------
    classes
        Ids and names.
    """
    told = [(index, normalise(name)) for index, name in classes]
    names = {name for _, name in told}
    groups: dict[str, tuple[int, ...]] = {}
    for whole, (words, _) in _WHOLES.items():
        parts = [(index, set(words) & set(name.split())) for index, name in told]
        ids = tuple(index for index, shared in parts if shared)
        if len(ids) > 1 and whole not in names and ids not in groups.values():
            groups[whole] = ids
    return groups


def other_words(whole: str) -> tuple[str, ...]:
    """Other words for a derived group; none for any other name."""
    return _WHOLES.get(whole, ((), ()))[1]


def kinds_of(
    classes: Iterable[tuple[int, str]], groups: Iterable[tuple[int, ...]] = ()
) -> UInt8Array:
    """For each label value the first one of its kind: a scan shows both in the same greys.

    Left and right of a pair are of one kind, and so are the members of a group.

    Parameters
    ----------
    classes
        Ids and names.
    groups
        Ids of each group; groups that share a member become one kind.

    Returns
    -------
    ``uint8 [256]``.
    """
    kinds: UInt8Array = np.arange(256, dtype=np.uint8)
    pairs: dict[str, list[int]] = {}
    for index, name in classes:
        either = " ".join(w for w in normalise(name).split() if w not in ("left", "right"))
        pairs.setdefault(either, []).append(index)
    for ids in (*pairs.values(), *groups):
        members = kinds[list(ids)]
        kinds[np.isin(kinds, members)] = members.min()
    return kinds


def blood_in(classes: Iterable[tuple[int, str]]) -> BoolArray:
    """``bool [256]``: which label values are chambers of the heart or large vessels, by name.

    Parameters
    ----------
    classes
        Ids and names.
    """
    held = np.zeros(256, bool)
    for index, name in classes:
        held[index] = bool(set(_BLOOD) & set(normalise(name).split()))
    return held
