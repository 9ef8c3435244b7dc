"""What is on screen comes first. Pure: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from digseg.engine import BlockInfo
from digseg.types import Window


@dataclass(frozen=True)
class View:
    """What is on screen, in planes and pixels of a store."""

    planes: tuple[int, int]
    window: Window

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> View:
        first, last = message["planes"]
        top, bottom, left, right = message["window"]
        return cls((int(first), int(last)), (int(top), int(bottom), int(left), int(right)))

    def message(self) -> dict[str, Any]:
        return {"do": "view", "planes": list(self.planes), "window": list(self.window)}


def nearest_first(blocks: Sequence[BlockInfo], view: View | None) -> BlockInfo:
    """The block to compute next: on screen, then nearest to it; among equals the central one."""
    if view is None:
        return blocks[0]
    return min(blocks, key=lambda block: distance(block, view))


def distance(block: BlockInfo, view: View) -> tuple[float, float, float]:
    """Planes off the screen, pixels off the screen, pixels from its centre."""
    planes = _gap(block.planes, view.planes)
    top, bottom, left, right = block.window
    v_top, v_bottom, v_left, v_right = view.window
    aside = _gap((top, bottom), (v_top, v_bottom)) + _gap((left, right), (v_left, v_right))
    off_centre = abs((top + bottom) - (v_top + v_bottom)) + abs((left + right) - (v_left + v_right))
    return planes, aside, off_centre / 2


def _gap(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Distance between two half-open ranges; 0 where they overlap."""
    return float(max(0, b[0] - a[1] + 1, a[0] - b[1] + 1))
