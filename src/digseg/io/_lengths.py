"""Units of length: their names, how else they are written, and how long they are."""

from __future__ import annotations

import unicodedata
from fractions import Fraction

# Prefix, its sign, and its power of ten.
_PREFIXES = (
    ("yocto", "y", -24), ("zepto", "z", -21), ("atto", "a", -18), ("femto", "f", -15),
    ("pico", "p", -12), ("nano", "n", -9), ("micro", "μ", -6), ("milli", "m", -3),
    ("centi", "c", -2), ("deci", "d", -1), ("", "", 0), ("hecto", "h", 2), ("kilo", "k", 3),
    ("mega", "M", 6), ("giga", "G", 9), ("tera", "T", 12), ("peta", "P", 15), ("exa", "E", 18),
    ("zetta", "Z", 21), ("yotta", "Y", 24),
)  # fmt: skip

# Lengths in metres by the names that OME-Zarr allows (those of UDUNITS-2). Fractions, so that
# a micrometer is a thousand nanometers and nothing beside it.
_METRES = {f"{prefix}meter": Fraction(10) ** power for prefix, _, power in _PREFIXES} | {
    "angstrom": Fraction(1, 10**10),
    "inch": Fraction("0.0254"),
    "foot": Fraction("0.3048"),
    "yard": Fraction("0.9144"),
    "mile": Fraction("1609.344"),
    "parsec": Fraction(30_856_775_814_913_673),
}

# As OME-XML and people write them. Case tells a millimetre from a megametre.
_SIGNS = {f"{sign}m": f"{prefix}meter" for prefix, sign, _ in _PREFIXES} | {
    "um": "micrometer",
    "Å": "angstrom",
    "in": "inch",
    "ft": "foot",
    "yd": "yard",
    "mi": "mile",
    "pc": "parsec",
}


def length_name(unit: str) -> str | None:
    """Name of a unit of length in OME-Zarr (``"micrometer"``); `None` for what is none."""
    # The micro sign and the Greek letter, the angstrom sign and the letter become one.
    plain = unicodedata.normalize("NFKC", unit).strip()
    if plain in _SIGNS:
        return _SIGNS[plain]
    word = plain.lower().removesuffix("s").replace("metre", "meter")
    word = {"micron": "micrometer"}.get(word, word)
    return word if word in _METRES else None


def metres(unit: str) -> Fraction | None:
    """Length of one unit in metres; `None` for what is no unit of length."""
    name = length_name(unit)
    return None if name is None else _METRES[name]
