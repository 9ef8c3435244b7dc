"""Parts of tiles that wait on disk for another block.

A tile on the border of blocks is computed once, by whichever block comes first; what the others
need of it is lent to them here: final bytes in cores, raw answers in the narrow ramps. A lent
part is only a cache. Where it is missing or torn (zip checks every member's CRC), the tile is
computed again and gives the same.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from digseg.blend import Cell, Contribution
from digseg.engine.durable import stream_whole
from digseg.engine.plan import Block
from digseg.tiles import Tile
from digseg.types import AnyArray

_SUFFIX = ".npz"


class Lending:
    """The folder of lent parts of one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, block: Block, parts: Sequence[Contribution]) -> int:
        """Lend the parts of a batch to a block; returns the bytes written."""
        first = parts[0].tile
        name = f"{first.plane}.{first.row}.{first.column}{_SUFFIX}"
        arrays = _arrays(parts)
        path = self._folder / block.key / name
        return stream_whole(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]

    def take(self, block: Block) -> Iterator[Contribution]:
        """All sound parts that were lent to a block, one file of them in memory at a time."""
        for path in sorted((self._folder / block.key).glob(f"*{_SUFFIX}")):
            yield from _unpack_file(path)

    def tiles(self, block: Block) -> set[Tile]:
        """Tiles of which sound parts were lent to a block."""
        return {part.tile for part in self.take(block)}

    def blocks(self) -> set[Block]:
        """Blocks to which something is lent."""
        if not self._folder.is_dir():
            return set()
        return {Block.from_key(path.name) for path in self._folder.iterdir()}

    def drop(self, block: Block) -> None:
        """Forget what was lent to a finished block."""
        shutil.rmtree(self._folder / block.key, ignore_errors=True)

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _arrays(parts: Sequence[Contribution]) -> dict[str, AnyArray]:
    """Some parts as the members of an uncompressed ``.npz``."""
    arrays: dict[str, AnyArray] = {}
    for part in parts:
        name = f"{part.tile.plane},{part.tile.row},{part.tile.column}"
        arrays[f"{name}/window"] = np.array([*part.window, int(part.failed)], dtype=np.int64)
        arrays[f"{name}/valid"] = np.packbits(part.valid)
        for (row, column), values in part.cells.items():
            arrays[f"{name}/{row},{column}"] = values
    return arrays


def _parts(file: Path) -> list[Contribution]:
    with np.load(file, allow_pickle=False) as arrays:
        names = [key.removesuffix("/window") for key in arrays.files if key.endswith("/window")]
        parts = []
        for name in names:
            plane, row, column = (int(value) for value in name.split(","))
            top, bottom, left, right, failed = (int(v) for v in arrays[f"{name}/window"])
            shape = (bottom - top, right - left)
            bits = np.unpackbits(arrays[f"{name}/valid"], count=shape[0] * shape[1])
            cells: dict[Cell, AnyArray] = {}
            for key in arrays.files:
                owner, _, place = key.rpartition("/")
                if owner == name and place not in ("window", "valid"):
                    cell_row, cell_column = (int(value) for value in place.split(","))
                    cells[cell_row, cell_column] = arrays[key]
            parts.append(
                Contribution(
                    Tile(plane, row, column),
                    (top, bottom, left, right),
                    cells,
                    bits.astype(np.bool_).reshape(shape),
                    bool(failed),
                )
            )
    return parts


def _unpack_file(path: Path) -> list[Contribution]:
    try:
        return _parts(path)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError):
        return []
