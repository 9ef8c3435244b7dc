"""A model that remembers what it read of a tile, so that another prompt costs no second encode."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digseg.prompts import Prompt
from digseg.types import AnyArray, Encoded, EncodingModel, Float32Array

_DEFAULT_BUDGET = 256 << 20


@dataclass(eq=False)
class Remembering:
    """An `EncodingModel` with a memory for encoded tiles, the least recently used forgotten first.

    Parameters
    ----------
    model
        Does the work; answers are its own.
    budget
        Bytes of encoded tiles to keep.
    """

    model: EncodingModel
    budget: int = _DEFAULT_BUDGET
    hits: int = 0
    _kept: OrderedDict[bytes, dict[str, AnyArray]] = field(default_factory=OrderedDict)
    _bytes: int = 0

    @property
    def identity(self) -> str:
        return self.model.identity

    @property
    def multiple(self) -> int:
        return self.model.multiple

    @property
    def recommended(self) -> Mapping[str, Any]:
        """What the model recommends."""
        return dict(getattr(self.model, "recommended", {}))

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return self.decode(self.encode(tiles), prompts)

    def encode(self, tiles: Float32Array) -> Encoded:
        """Encode the tiles not seen before, all in one batch, and recall the others."""
        keys = [_key(tile) for tile in tiles]
        missing = [index for index, key in enumerate(keys) if key not in self._kept]
        self.hits += len(keys) - len(missing)
        found = {key: self._kept[key] for key in keys if key in self._kept}
        for key in found:
            self._kept.move_to_end(key)
        if missing:
            encoded = self.model.encode(tiles[missing])
            for row, index in enumerate(missing):
                part = {name: np.array(array[row]) for name, array in encoded.items()}
                found[keys[index]] = part
                self._keep(keys[index], part)
        names = found[keys[0]]
        return {name: np.stack([found[key][name] for key in keys]) for name in names}

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        return self.model.decode(encoded, prompts)

    def _keep(self, key: bytes, part: dict[str, AnyArray]) -> None:
        if key not in self._kept:
            self._bytes += _size(part)
        self._kept[key] = part
        while self._bytes > self.budget and self._kept:
            _, old = self._kept.popitem(last=False)
            self._bytes -= _size(old)


def _key(tile: Float32Array) -> bytes:
    shape = np.asarray(tile.shape, dtype=np.int64).tobytes()
    return hashlib.blake2b(shape + np.ascontiguousarray(tile).tobytes(), digest_size=16).digest()


def _size(part: dict[str, AnyArray]) -> int:
    return sum(array.nbytes for array in part.values())
