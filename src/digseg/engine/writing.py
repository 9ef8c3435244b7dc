"""Answers into blocks: blend, lend to neighbours, write, journal. Runs in one thread."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from digseg.blend import BlockBuffer, Contribution, contribute
from digseg.engine.durable import Seal, write_whole
from digseg.engine.infer import Answer
from digseg.engine.lending import Lending
from digseg.engine.plan import Block
from digseg.engine.state import leftovers_path, load_leftovers
from digseg.engine.store import ProbabilityStore
from digseg.memory import LARGE_ANSWER, GiveBack, give_back
from digseg.tiles import Tile
from digseg.types import UInt8Array

#: What a batch gives to each block.
Parts = dict[Block, list[Contribution]]

_NOTHING: tuple[UInt8Array, UInt8Array] = (np.zeros(0, np.uint8), np.zeros(0, np.uint8))


@dataclass(frozen=True)
class Written:
    """A block that is on disk and in the journal."""

    block: Block
    tiles: int
    failed: tuple[Tile, ...]
    files: dict[str, Seal]


class Ledger(Protocol):
    """What the writer asks of the run's state, see `RunState`."""

    @property
    def missing(self) -> Mapping[Block, frozenset[Tile]]: ...

    def needs(self, block: Block) -> frozenset[Tile]: ...

    def needed(self, tile: Tile, block: Block) -> bool: ...

    def commit(self, block: Block, failed: Sequence[Tile], files: Mapping[str, Seal]) -> None: ...


class BlockWriter:
    """Fills one block at a time: `begin`, for each batch `take`, `end`."""

    def __init__(self, store: ProbabilityStore, state: Ledger) -> None:
        self._store = store
        self._state = state
        self._plan = store.plan
        self._prompts = len(store.prompts)
        self._lending = Lending(store.private / "lent")
        self._failed: set[Tile] = set()  # in this session: not tried again for the next block
        self._block: Block | None = None
        self._buffers: dict[int, BlockBuffer] = {}
        self._arrays = _NOTHING
        self._wanted: set[Tile] = set()
        self._now_and_then = GiveBack()
        self.lent_bytes = 0

    def skip(self, tiles: set[Tile]) -> None:
        """Take tiles as failed without trying them."""
        self._failed |= tiles

    def begin(self, block: Block) -> None:
        """Start a block, from nothing or from what an earlier run left of it."""
        self._block = block
        self._wanted = set(self._state.needs(block))
        self._buffers = self._reopen(block) if block in self._state.missing else self._fresh(block)
        for part in self._lending.take(block):
            if part.tile in self._wanted:
                self._take(part)
        for tile in sorted(self._wanted & self._failed):
            part_ = contribute(self._plan.lattice, tile, self._plan.window(block), None, None)
            if part_ is not None:
                self._take(part_)

    def take(self, answers: list[Answer], release: Callable[[], None] = lambda: None) -> None:
        """Take in a batch and lend the other blocks their parts.

        ``answers`` is emptied, and ``release`` called, as soon as nothing of it is needed any more:
        before anything is blended or written, when all is cut to parts (less than half of its
        bytes). Of a large answer not even those are made beside it: it is blended where it lies.
        """
        if sum(a.values.nbytes for a in answers if a.values is not None) > LARGE_ANSWER:
            for block in self._blocks_of(answers):
                self._add(self._cut(answers, (block,), views=block == self._block))
            answers.clear()
            release()
        else:
            parts = self._cut(answers, self._blocks_of(answers))
            answers.clear()
            release()
            self._add(parts)
        self._now_and_then()

    def _blocks_of(self, answers: Sequence[Answer]) -> list[Block]:
        return sorted({b for a in answers for b in self._plan.blocks_of(a.read.tile)})

    def _cut(
        self, answers: Sequence[Answer], blocks: Sequence[Block], *, views: bool = False
    ) -> Parts:
        """What some blocks need of a batch."""
        parts: Parts = {}
        for answer in answers:
            tile = answer.read.tile
            if answer.failed:
                self._failed.add(tile)
            valid = None if answer.failed else answer.read.valid
            for block in blocks:
                mine = block == self._block
                if not (tile in self._wanted if mine else self._lacks(block, tile)):
                    continue
                window = self._plan.window(block)
                part = contribute(
                    self._plan.lattice, tile, window, answer.values, valid, views=views
                )
                if part is not None and (mine or not part.failed):
                    parts.setdefault(block, []).append(part)
        return parts

    def _lacks(self, block: Block, tile: Tile) -> bool:
        return block in self._plan.blocks_of(tile) and self._state.needed(tile, block)

    def _add(self, parts: Parts) -> None:
        """Take in what was cut for this block and lend the rest; ``parts`` is used up."""
        while parts:
            block, some = parts.popitem()
            if block == self._block:
                for part in some:
                    self._take(part)
            else:
                self.lent_bytes += self._lending.put(block, some)

    def end(self) -> Written:
        """Write the block, then its journal line; `forget` comes after."""
        block = self._block
        if block is None or self._wanted:
            raise RuntimeError(f"block {block} ends with {len(self._wanted)} tiles not heard of")
        for buffer in self._buffers.values():
            buffer.finish()
        failed = tuple(sorted({t for b in self._buffers.values() for t in b.failed}))
        files = self._store.write_block(block, *self._arrays)
        if failed:
            self._save_leftovers(block)
        self._state.commit(block, failed, files)
        self._block, self._buffers, self._arrays = None, {}, _NOTHING
        give_back()
        tiles = len(self._plan.touching(block)) - len(failed)
        return Written(block, tiles, failed, files)

    def close(self) -> None:
        """Tidy up after a run that left nothing to do."""
        self._lending.clear()

    def _take(self, part: Contribution) -> None:
        self._buffers[part.tile.plane].add(part)
        self._wanted.discard(part.tile)

    def _fresh(self, block: Block) -> dict[int, BlockBuffer]:
        top, bottom, left, right = self._plan.window(block)
        shape = (len(self._plan.planes(block)), bottom - top, right - left)
        return self._buffered(
            block,
            np.zeros((self._prompts, *shape), dtype=np.uint8),
            np.zeros(shape, dtype=np.uint8),
        )

    def _reopen(self, block: Block) -> dict[int, BlockBuffer]:
        """Buffers of a block in which tiles failed, as they stood when it was written."""
        sums = load_leftovers(leftovers_path(self._store, block))
        if sums is None:
            raise RuntimeError(f"block {block.key} was reopened without its unfinished sums")
        buffers = self._buffered(block, *self._store.read_block(block))
        for plane, buffer in buffers.items():
            prefix = f"{plane}:"
            buffer.restore(
                {k.removeprefix(prefix): v for k, v in sums.items() if k.startswith(prefix)}
            )
        return buffers

    def _buffered(
        self, block: Block, probabilities: UInt8Array, coverage: UInt8Array
    ) -> dict[int, BlockBuffer]:
        """Buffers of the planes of ``[K, P, h, w]`` and ``[P, h, w]``: views, so that the block
        is there once and goes to the store as it is."""
        self._arrays = probabilities, coverage
        return {
            plane: BlockBuffer(
                self._plan.lattice,
                self._plan.window(block),
                probabilities[:, index],
                coverage[index],
            )
            for index, plane in enumerate(self._plan.planes(block))
        }

    def _save_leftovers(self, block: Block) -> None:
        sums = {
            f"{plane}:{key}": total
            for plane, buffer in self._buffers.items()
            for key, total in buffer.leftovers().items()
        }
        content = io.BytesIO()
        np.savez(content, **sums)
        write_whole(leftovers_path(self._store, block), content.getvalue())


def forget(store: ProbabilityStore, block: Block, *, whole: bool) -> None:
    """Drop what a block borrowed, now that it is in the journal."""
    Lending(store.private / "lent").drop(block)
    if whole:
        leftovers_path(store, block).unlink(missing_ok=True)
