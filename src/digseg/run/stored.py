"""Answers that stand in probability stores, read again as the pixels of a further pass.

The engine that computed them also combines them: a source that reads stored probabilities as its
channels, and a "model" that hands its channels on (`Passing`). So fusing and propagating are as
flat in memory, as resumable and as exact as the first pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.blend import DONE, NODATA
from digseg.errors import InputError
from digseg.lazy import Bounds, WindowArray, box
from digseg.orientation import Turn
from digseg.prompts import Prompt, PromptSet, normalise
from digseg.run.slabs import Slabs
from digseg.types import (
    AnyArray,
    BoolArray,
    EnsembleModel,
    Float32Array,
    PropagatingModel,
    TileSource,
    Window,
)

if TYPE_CHECKING:
    from digseg.engine import ProbabilityStore

# Planes across another axis than the store's own touch all of its files: some are read at once, as
# many as a block of the engine holds where there are few prompts.
_SLAB_BYTES, _SLAB_PLANES, _SLABS = 16 << 20, 16, 2


@dataclass(frozen=True)
class StoredPass:
    """The finished store of a pass.

    Parameters
    ----------
    path
        Folder of the store.
    turn
        From its planes to the planes that are read here.
    identity
        What it is the answer of.
    first, count
        Which of its maps are read.
    """

    path: Path
    turn: Turn
    identity: str
    first: int
    count: int

    def __getstate__(self) -> dict[str, Any]:
        # What was opened stays in this process.
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def store(self) -> ProbabilityStore:
        from digseg.engine import ProbabilityStore

        return ProbabilityStore.open(self.path)

    @cached_property
    def _probabilities(self) -> Slabs:
        whole, first = self.turn.lazy(self.store.probabilities), self.first

        def read(bounds: Bounds) -> AnyArray:
            (start, stop), *place = bounds
            return box(whole, ((first + start, first + stop), *place))

        chosen = WindowArray((self.count, *whole.shape[1:]), whole.dtype, read)
        return Slabs(chosen, _SLAB_BYTES, _SLABS, _SLAB_PLANES)

    @cached_property
    def _coverage(self) -> Slabs:
        # As many planes at once as of the maps.
        thick = self._probabilities.thick
        return Slabs(self.turn.lazy(self.store.coverage), _SLAB_BYTES, _SLABS, thick)

    @property
    def held_bytes(self) -> int:
        """The most that is kept of what was read; nothing where all is done and the pass gone."""
        if not self.path.exists():
            return 0
        return self._probabilities.most_bytes + self._coverage.most_bytes

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """Soft maps ``float32 [count, h, w]`` in [0, 1] and where there are any, ``bool [h, w]``.

        Raises
        ------
        InputError
            A tile of the pass failed here; the message says so, and a resumed run tries again.
        """
        coverage = self._coverage.read(plane, window)
        if not np.isin(coverage, (DONE, NODATA)).all():
            raise InputError(f"A tile of {self.path.name} failed here.")
        maps = self._probabilities.read(plane, window)
        return maps.astype(np.float32) / np.float32(255), coverage == DONE


@dataclass(frozen=True)
class MeanSource:
    """A `TileSource` whose channels are the mean of some passes' maps."""

    shape: tuple[int, int, int]
    passes: tuple[StoredPass, ...]

    @property
    def channels(self) -> int:
        return self.passes[0].count

    @property
    def held_bytes(self) -> int:
        """The most that is kept of what was read of all passes."""
        return sum(stored.held_bytes for stored in self.passes)

    @property
    def identity(self) -> str:
        told = "|".join(f"{p.identity} {p.first} {p.count} {p.turn}" for p in self.passes)
        return hashlib.sha256(f"mean of {told}".encode()).hexdigest()

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """Mean maps ``float32 [K, h, w]`` and where every pass has an answer."""
        total, everywhere = self.passes[0].read(plane, window)
        for stored in self.passes[1:]:
            maps, valid = stored.read(plane, window)
            total += maps
            everywhere = everywhere & valid
        return total / np.float32(len(self.passes)), everywhere


@dataclass(frozen=True)
class NeighbourSource:
    """A volume's planes with, as further channels, what was found in the neighbouring ones."""

    image: TileSource
    found: StoredPass

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.image.shape

    @property
    def channels(self) -> int:
        return 3 + self.found.count

    @property
    def held_bytes(self) -> int:
        """The most that is kept of what was read: of the volume and of its neighbours' maps."""
        return int(getattr(self.image, "held_bytes", 0)) + self.found.held_bytes

    @property
    def identity(self) -> str:
        told = f"{self.image.identity}|{self.found.identity}|neighbours"
        return hashlib.sha256(told.encode()).hexdigest()

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """``float32 [3 + K, h, w]``: three channels of the plane, K maps of its neighbours."""
        pixels, valid = self.image.read(plane, window)
        last = self.shape[0] - 1
        around = [index for index in (plane - 1, plane + 1) if 0 <= index <= last] or [plane]
        maps = [self.found.read(index, window)[0] for index in around]
        return np.concatenate([pixels, np.mean(maps, axis=0, dtype=np.float32)]), valid


@dataclass(frozen=True)
class Passing:
    """A "model" that answers with its channels: the source has done the work."""

    identity: str = "passing"
    multiple: int = 1

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return tiles


@dataclass(frozen=True)
class Continuing:
    """A `PropagatingModel` as the engine calls it, on the tiles of a `NeighbourSource`."""

    model: PropagatingModel
    strength: float

    @property
    def identity(self) -> str:
        told = f"{self.model.identity}|continued {self.strength}"
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def multiple(self) -> int:
        return self.model.multiple

    @property
    def recommended(self) -> Mapping[str, Any]:
        """What the model recommends."""
        return dict(getattr(self.model, "recommended", {}))

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        pixels = np.ascontiguousarray(tiles[:, :3])
        return self.model.continue_from(pixels, prompts, tiles[:, 3:], self.strength)


@dataclass(frozen=True)
class Spreading:
    """An `EnsembleModel` whose K prompts are followed by K spreads, see `spread_prompts`."""

    model: EnsembleModel

    @property
    def identity(self) -> str:
        return hashlib.sha256(f"{self.model.identity}|spread".encode()).hexdigest()

    @property
    def multiple(self) -> int:
        return self.model.multiple

    @property
    def recommended(self) -> Mapping[str, Any]:
        """What the model recommends."""
        return dict(getattr(self.model, "recommended", {}))

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        mean, spread = self.model.spread(tiles, prompts[: len(prompts) // 2])
        # Values in [0, 1] spread by at most a half: twice that uses the stored range.
        return np.concatenate([mean, np.clip(2 * spread, 0.0, 1.0)], axis=1)


def spread_prompts(prompts: PromptSet) -> PromptSet:
    """The prompts, then a map for the spread of each; negative ones, so that none gets a label."""
    known = {normalise(word) for prompt in prompts for word in (prompt.name, *prompt.synonyms)}
    spreads = []
    for prompt in prompts:
        name = f"spread of {prompt.name}"
        while normalise(name) in known:  # somebody asks for that
            name += "'"
        known.add(normalise(name))
        spreads.append(replace(prompt, name=name, synonyms=(), negative=True))
    return PromptSet((*prompts, *spreads))
