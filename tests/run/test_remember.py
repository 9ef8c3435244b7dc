"""What was read once is not read again, and answers stay the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from digseg.prompts import Prompt
from digseg.run.remember import Remembering
from digseg.types import Encoded, EncodingModel, Float32Array


class Counting:
    """Answers with the sum of a tile's channels plus the length of the prompt; counts encodes."""

    identity = "counting"
    multiple = 1

    def __init__(self) -> None:
        self.encoded = 0

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return self.decode(self.encode(tiles), prompts)

    def encode(self, tiles: Float32Array) -> Encoded:
        self.encoded += len(tiles)
        return {"sum": tiles.sum(axis=1), "first": tiles[:, 0]}

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        maps = [(encoded["sum"] + len(p.name)) / 100 + 0 * encoded["first"] for p in prompts]
        return np.stack(maps, axis=1).astype(np.float32)


def test_a_second_prompt_costs_no_second_encode(rng: np.random.Generator) -> None:
    tiles = rng.random((4, 3, 8, 8), dtype=np.float32)
    inner = Counting()
    model = Remembering(inner)
    assert isinstance(model, EncodingModel)
    first = model(tiles[:3], [Prompt("water")])
    second = model(tiles[[2, 3, 0]], [Prompt("a long road")])
    assert inner.encoded == 4
    assert model.hits == 2
    fresh = Counting()
    np.testing.assert_array_equal(first, fresh(tiles[:3], [Prompt("water")]))
    np.testing.assert_array_equal(second, fresh(tiles[[2, 3, 0]], [Prompt("a long road")]))


def test_memory_stays_within_its_budget(rng: np.random.Generator) -> None:
    inner = Counting()
    model = Remembering(inner, budget=2 * 2 * 8 * 8 * 4)  # two tiles of two arrays
    tiles = rng.random((5, 3, 8, 8), dtype=np.float32)
    for tile in tiles:
        model(tile[None], [Prompt("a")])
    assert len(model._kept) == 2
    model(tiles[4:], [Prompt("a")])
    assert inner.encoded == 5
    model(tiles[:1], [Prompt("a")])
    assert inner.encoded == 6
