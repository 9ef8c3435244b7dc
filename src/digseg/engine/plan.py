"""What is computed together and what is written together: batches and blocks, all integers.

A *block* is one window of the store, aligned to its shards. A *batch* is a fixed run of tiles
given to the model at once; it is the same run whichever block asks first, so that an answer does
not depend on order, workers or restarts. Every tile is owned by the block in which its owned
pixels begin, and lends its parts to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from digseg.settings import SegmentSettings
from digseg.tiles import Axis, Lattice, Tile, intersection
from digseg.types import Window


@dataclass(frozen=True, order=True)
class Block:
    """A block's place in the store: layer of planes, row, column."""

    layer: int
    row: int
    column: int

    @property
    def key(self) -> str:
        return f"{self.layer}.{self.row}.{self.column}"

    @classmethod
    def from_key(cls, key: str) -> Block:
        layer, row, column = (int(part) for part in key.split("."))
        return cls(layer, row, column)


@dataclass(frozen=True)
class BlockInfo:
    """A pending block as a scheduling rule sees it."""

    block: Block
    planes: tuple[int, int]
    window: Window


#: Chooses which pending block comes next; view-first scheduling passes one.
Order = Callable[[Sequence[BlockInfo]], BlockInfo]

Batch = tuple[Tile, ...]

#: Pixels of a block times prompts: bounds the memory of the block being filled.
_BLOCK_VALUES = 32 << 20
_LARGEST_SIDE, _SMALLEST_SIDE, _MOST_PLANES = 2048, 256, 16


@dataclass(frozen=True)
class Plan:
    """Lattice, block shape ``(planes, rows, columns)`` and tiles in a batch."""

    lattice: Lattice
    block: tuple[int, int, int]
    batch: int

    @classmethod
    def make(
        cls,
        shape: tuple[int, int, int],
        prompts: int,
        settings: SegmentSettings,
        *,
        multiple: int = 1,
        batch: int | None = None,
        block: tuple[int, int, int] | None = None,
    ) -> Plan:
        """The plan of a run; it depends on sizes, prompts and settings, not on the machine."""
        lattice = Lattice.of(shape, settings.tile, settings.overlap, multiple)
        return cls(
            lattice, block or block_shape(shape, prompts), batch or max(1, settings.batch or 1)
        )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of blocks along planes, rows and columns."""
        pairs = zip(self.lattice.shape, self.block, strict=True)
        layers, rows, columns = (-(-length // side) for length, side in pairs)
        return layers, rows, columns

    @property
    def block_count(self) -> int:
        layers, rows, columns = self.grid
        return layers * rows * columns

    def blocks(self) -> Iterator[Block]:
        layers, rows, columns = self.grid
        for layer in range(layers):
            for row in range(rows):
                for column in range(columns):
                    yield Block(layer, row, column)

    def planes(self, block: Block) -> range:
        first = block.layer * self.block[0]
        return range(first, min(first + self.block[0], self.lattice.planes))

    def window(self, block: Block) -> Window:
        """Pixels of a block in each of its planes."""
        _, height, width = self.block
        top, left = block.row * height, block.column * width
        return (
            top,
            min(top + height, self.lattice.rows.length),
            left,
            min(left + width, self.lattice.columns.length),
        )

    def info(self, block: Block) -> BlockInfo:
        planes = self.planes(block)
        return BlockInfo(block, (planes.start, planes.stop), self.window(block))

    def touching(self, block: Block) -> list[Tile]:
        """Tiles that answer for pixels of a block."""
        top, bottom, left, right = self.window(block)
        return [
            Tile(plane, row, column)
            for plane in self.planes(block)
            for row in self.lattice.rows.touching(top, bottom)
            for column in self.lattice.columns.touching(left, right)
        ]

    def batches(self, block: Block) -> list[Batch]:
        """Batches with at least one tile of a block, in a fixed order."""
        needed = set(self.touching(block))
        return [
            batch
            for owner in self.owners(block)
            for batch in _owned(self, owner)
            if needed.intersection(batch)
        ]

    def owners(self, block: Block) -> list[Block]:
        """Blocks that own the tiles of a block, itself included."""
        return sorted({self._owner(tile) for tile in self.touching(block)})

    def owned_batches(self, owner: Block) -> tuple[Batch, ...]:
        """Batches of the tiles that a block owns."""
        return _owned(self, owner)

    def shared(self, batch: Batch) -> bool:
        """Whether more than one block needs a batch."""
        return len({block for tile in batch for block in self.blocks_of(tile)}) > 1

    def owned(self, block: Block) -> list[Tile]:
        """Tiles that a block owns; each tile has one owner."""
        return [tile for batch in _owned(self, block) for tile in batch]

    def blocks_of(self, tile: Tile) -> list[Block]:
        """Blocks that a tile answers for."""
        top, bottom, left, right = self.lattice.owned(tile)
        depth, height, width = self.block
        return [
            Block(tile.plane // depth, row, column)
            for row in range(top // height, (bottom - 1) // height + 1)
            for column in range(left // width, (right - 1) // width + 1)
        ]

    def _owner(self, tile: Tile) -> Block:
        top, _, left, _ = self.lattice.owned(tile)
        depth, height, width = self.block
        return Block(tile.plane // depth, top // height, left // width)

    def to_dict(self) -> dict[str, Any]:
        return {
            "planes": self.lattice.planes,
            "rows": asdict(self.lattice.rows),
            "columns": asdict(self.lattice.columns),
            "block": list(self.block),
            "batch": self.batch,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        depth, height, width = values["block"]
        lattice = Lattice(values["planes"], Axis(**values["rows"]), Axis(**values["columns"]))
        return cls(lattice, (depth, height, width), values["batch"])


@lru_cache(maxsize=256)
def _owned(plan: Plan, owner: Block) -> tuple[Batch, ...]:
    top, bottom, left, right = plan.window(owner)
    tiles = [
        Tile(plane, row, column)
        for plane in plan.planes(owner)
        for row in plan.lattice.rows.starting(top, bottom)
        for column in plan.lattice.columns.starting(left, right)
    ]
    return tuple(tuple(tiles[i : i + plan.batch]) for i in range(0, len(tiles), plan.batch))


def block_shape(shape: tuple[int, int, int], prompts: int) -> tuple[int, int, int]:
    """Block of at most 32 million values: sides are powers of two, planes fill the rest.

    K=2 gives 2048 x 2048, K=20 1024 x 1024; a strip gets long blocks, a volume several planes.
    """
    pixels = max(_SMALLEST_SIDE**2, _BLOCK_VALUES // max(1, prompts))
    sides = [min(_power_of_two(length), _LARGEST_SIDE) for length in shape[1:]]
    while sides[0] * sides[1] > pixels and max(sides) > _SMALLEST_SIDE:
        largest = 0 if sides[0] >= sides[1] else 1
        sides[largest] //= 2
    depth = max(1, min(shape[0], _MOST_PLANES, pixels // (sides[0] * sides[1])))
    if sides[0] < shape[1] or sides[1] < shape[2]:
        depth = 1
    return depth, sides[0], sides[1]


def _power_of_two(length: int) -> int:
    return 1 << max(5, (length - 1).bit_length())


def touches(plan: Plan, tile: Tile, block: Block) -> bool:
    """Whether a tile answers for pixels of a block."""
    if tile.plane not in plan.planes(block):
        return False
    return intersection(plan.lattice.owned(tile), plan.window(block)) is not None


def ordered(plan: Plan, pending: Sequence[Block], order: Order | None) -> Iterator[Block]:
    """Pending blocks as they are, or as ``order`` chooses one after the other."""
    if order is None:
        yield from pending
        return
    left = {block: plan.info(block) for block in pending}
    while left:
        chosen = order(list(left.values())).block
        del left[chosen]
        yield chosen
