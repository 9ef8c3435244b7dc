"""Structures that people ask for as one, where a set names only their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from digseg.prompts import normalise

#: The whole, the word that its parts have in common, and other words for the whole.
_WHOLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vertebrae": ("vertebra", ("vertebral bodies", "bones of the spine")),
    "kidney": ("kidney", ("kidneys",)),
    "lung": ("lung", ("lungs",)),
    "rib": ("rib", ("ribs",)),
}


def derived_groups(classes: Iterable[tuple[int, str]]) -> dict[str, tuple[int, ...]]:
    """Parts that share a word (``L3 vertebra``, ``T12 vertebra``) under the word for them all.

    Parameters
    ----------
    classes
        Ids and names.
    """
    told = [(index, normalise(name)) for index, name in classes]
    names = {name for _, name in told}
    groups = {}
    for whole, (word, _) in _WHOLES.items():
        ids = tuple(index for index, name in told if word in name.split())
        if len(ids) > 1 and whole not in names:
            groups[whole] = ids
    return groups


def other_words(whole: str) -> tuple[str, ...]:
    """Other words for a derived group; none for any other name."""
    return _WHOLES.get(whole, ("", ()))[1]
