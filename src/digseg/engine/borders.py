"""What of a run over workers is computed once and lent: tiles that several blocks need."""

from __future__ import annotations

from typing import Any

from digseg.engine.lending import Lending
from digseg.engine.plan import Batch, Block, Plan
from digseg.engine.state import RunState
from digseg.tiles import Tile


class Borders:
    """Which shared batches are still to be computed, and the tasks that do it."""

    def __init__(self, plan: Plan, state: RunState, lending: Lending) -> None:
        self._plan, self._state = plan, state
        # Of an earlier session: sound parts need not be computed again.
        self._lent: dict[Block, set[Tile]] = {
            block: lending.tiles(block) for block in lending.blocks()
        }
        self.futures: dict[Block, Any] = {}

    def wanted(self, owner: Block) -> list[tuple[Batch, dict[Block, frozenset[Tile]]]]:
        """Shared batches of an owner with the blocks that lack parts of them."""
        found = []
        for batch in self._plan.owned_batches(owner):
            if not self._plan.shared(batch):
                continue
            lacking: dict[Block, set[Tile]] = {}
            for tile in batch:
                for block in self._plan.blocks_of(tile):
                    there = self._lent.get(block, set())
                    if self._state.needed(tile, block) and tile not in there:
                        lacking.setdefault(block, set()).add(tile)
            if lacking:
                found.append((batch, {b: frozenset(tiles) for b, tiles in lacking.items()}))
        return found

    def lent(self, block: Block) -> set[Tile]:
        """Tiles of which an earlier session lent a block its parts."""
        return self._lent.get(block, set())

    def finished(self, block: Block) -> list[Any]:
        """Tasks that no block waits for any more, now that ``block`` is written."""
        over = [
            owner
            for owner in self._plan.owners(block)
            if owner in self.futures
            and all(other in self._state.missing for other in self._dependents(owner))
        ]
        return [self.futures.pop(owner) for owner in over]

    def _dependents(self, owner: Block) -> set[Block]:
        tiles = [t for b in self._plan.owned_batches(owner) if self._plan.shared(b) for t in b]
        return {block for tile in tiles for block in self._plan.blocks_of(tile)}
