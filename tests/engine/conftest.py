"""Sources and models whose right answers are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.ndimage import correlate

from digseg.prompts import Prompt, PromptSet
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, BoolArray, Float32Array, Window


class ArraySource:
    """A source from memory, ``[planes, 3, y, x]`` with an optional mask, that counts its reads."""

    def __init__(self, pixels: AnyArray, valid: AnyArray | None = None) -> None:
        self.pixels = pixels.astype(np.float32)
        planes, _, rows, columns = pixels.shape
        self.valid = np.ones((planes, rows, columns), bool) if valid is None else valid
        self.shape = (planes, rows, columns)
        self.identity = "array"
        self.reads: list[tuple[int, Window]] = []

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        top, bottom, left, right = window
        assert 0 <= top < bottom <= self.shape[1]
        assert 0 <= left < right <= self.shape[2]
        self.reads.append((plane, window))
        return (
            self.pixels[plane, :, top:bottom, left:right].copy(),
            self.valid[plane, top:bottom, left:right].copy(),
        )


class Constant:
    """Answers one number."""

    multiple = 8

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self.identity = f"constant {value}"
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        self.calls.append(tiles.shape)
        return np.full((len(tiles), len(prompts), *tiles.shape[2:]), self.value, np.float32)


class Filter:
    """A convolution of known radius for each prompt: what a small conv net does."""

    multiple = 4

    def __init__(self, radius: int = 3) -> None:
        self.radius = radius
        self.identity = f"filter {radius}"
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        self.calls.append(tiles.shape)
        return np.stack([self.whole(tile, len(prompts)) for tile in tiles])

    def whole(self, pixels: AnyArray, prompts: int) -> Float32Array:
        """The answer for an image of any size, ``[K, y, x]``."""
        side = 2 * self.radius + 1
        answers = []
        for index in range(prompts):
            rng = np.random.default_rng(index)
            kernel = rng.random((side, side))
            kernel /= kernel.sum()
            answers.append(correlate(pixels[index % 3].astype(np.float64), kernel, mode="reflect"))
        return np.clip(np.stack(answers), 0, 1).astype(np.float32)


def prompts_of(count: int) -> PromptSet:
    return PromptSet.parse([f"thing {index}" for index in range(count)])


@pytest.fixture
def small() -> SegmentSettings:
    """Tiles of 64 with an overlap of 16, so that small images have many."""
    return SegmentSettings(tile=64, overlap=16)


@pytest.fixture
def picture() -> ArraySource:
    rng = np.random.default_rng(5)
    return ArraySource(rng.random((1, 3, 301, 417), dtype=np.float32))
