"""One difference between an input and its output, and what finding differences needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from digseg.io.cog import chunks
from digseg.types import AnyArray, LazyArray


@dataclass(frozen=True)
class Difference:
    """One thing that differs: what, and its value in the input and in the output."""

    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what} is {self.found} where the input has {self.expected}"

    def to_dict(self) -> dict[str, str]:
        return {"what": self.what, "expected": self.expected, "found": self.found}


def same_crs(a: str | None, b: str | None) -> bool:
    """Whether two CRS texts mean the same system."""
    from rasterio.crs import CRS

    if a is None or b is None or a == b:
        return a == b
    return bool(CRS.from_user_input(a) == CRS.from_user_input(b))


def short_crs(crs: str | None) -> str:
    """EPSG code of a CRS, or the beginning of its text."""
    from rasterio.crs import CRS

    if crs is None:
        return "none"
    code = CRS.from_user_input(crs).to_epsg()
    return f"EPSG:{code}" if code else crs[:80]


def blocks_of(labels: LazyArray) -> Iterator[AnyArray]:
    """Blocks of ``[y, x]`` or, plane by plane, of ``[z, y, x]``."""
    if len(labels.shape) == 2:
        for top, bottom, left, right in chunks((labels.shape[0], labels.shape[1])):
            yield np.asarray(labels[top:bottom, left:right])
        return
    for plane in range(labels.shape[0]):
        yield np.asarray(labels[plane])
