"""The probability store: ``uint8 [prompt, plane, y, x]`` in zarr v3, one write for each shard.

Layout of ``STORE.zarr``::

    0, 1, 2 ...   probabilities x 255, each level half the one before in y and x
    coverage      uint8 [plane, y, x]: 0 pending, 1 done, 2 failed, 3 nodata
    .digseg/      the journal of finished blocks, and tiles lent between blocks while a run goes

The group's attributes carry OME-NGFF 0.5 multiscales and, under ``digseg``, prompts, class table,
recipe and plan. Shards of blocks that are not written yet read as 0, so a viewer can open a store
while it fills.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digseg.engine.durable import DurableStore, Seal, gone
from digseg.engine.plan import Block, Plan
from digseg.errors import CorruptInputError, InputNotFoundError
from digseg.journal import Journal
from digseg.prompts import PromptSet
from digseg.raster import ClassTable
from digseg.tiles import Tile
from digseg.types import LazyArray, UInt8Array

if TYPE_CHECKING:
    import zarr

FORMAT = 1
#: Folder inside the store with the journal and, during a run, lent tiles.
PRIVATE = ".digseg"
_CHUNK = 512
_SMALLEST_LEVEL = 512  # no further level once both sides are this small
_TOGETHER = 8 << 20  # bytes of a block's maps that are written in one call
_SMALLEST_SHARD = 16


@dataclass(frozen=True)
class Progress:
    """Blocks written, blocks in all, tiles that failed."""

    written: int
    blocks: int
    failed_tiles: tuple[Tile, ...]

    @property
    def pending(self) -> int:
        return self.blocks - self.written


class ProbabilityStore:
    """A store on disk. Make one with `create`, look at one with `open`."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self.group = group
        self._meta: dict[str, Any] = dict(group.attrs["digseg"])  # type: ignore[arg-type]
        self.plan = Plan.from_dict(self._meta["plan"])
        store = group.store
        if not isinstance(store, DurableStore):
            raise TypeError(f"a probability store lies in a folder, not in {store}")
        self._backend = store

    @classmethod
    def create(
        cls,
        path: str | Path,
        plan: Plan,
        prompts: PromptSet,
        *,
        recipe: Mapping[str, Any] | None = None,
        backend: type[DurableStore] = DurableStore,
        across: bool = False,
    ) -> ProbabilityStore:
        """Lay out an empty store; nothing may be at ``path``.

        ``across`` makes chunks as deep as blocks, for readers of other planes than the store's.
        """
        import zarr

        path = Path(path)
        group = zarr.create_group(backend(path))
        levels = level_count(plan)
        group.attrs.update(
            {
                "ome": _multiscales(levels),
                "digseg": {
                    "format": FORMAT,
                    "prompts": prompts.to_list(),
                    "classes": ClassTable.of(prompts).to_list(),
                    "recipe": dict(recipe or {}),
                    "plan": plan.to_dict(),
                },
            }
        )
        for level in range(levels):
            _create_level(group, plan, level, len(prompts), across=across)
        depth, height, width = plan.block
        group.create_array(
            "coverage",
            shape=plan.lattice.shape,
            chunks=_chunk(depth, height, width, across=across),
            shards=(depth, height, width),
            dtype="uint8",
            fill_value=0,
            compressors=[_compressor()],
            dimension_names=["z", "y", "x"],
        )
        (path / PRIVATE).mkdir(exist_ok=True)
        return cls(path, group)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        writable: bool = False,
        backend: type[DurableStore] = DurableStore,
    ) -> ProbabilityStore:
        """Open a store, finished or not.

        Raises
        ------
        InputNotFoundError, CorruptInputError
            Nothing is there, or it is no probability store.
        """
        import zarr

        path = Path(path)
        if not path.exists():
            raise InputNotFoundError(f"There is no probability store at {path}.")
        try:
            store = backend(path, read_only=not writable)
            group = zarr.open_group(store, mode="r+" if writable else "r")
            return cls(path, group)
        except (FileNotFoundError, KeyError, ValueError, TypeError) as error:
            raise CorruptInputError(
                f"{path} is no probability store of this program: "
                "give one written by segment --probabilities."
            ) from error

    def array(self, name: str) -> zarr.Array[Any]:
        import zarr

        try:
            found = self.group[name]
        except KeyError:
            if not self.path.exists():
                raise gone(self.path) from None
            raise CorruptInputError(
                f"{self.path} lacks the array {name}: it is no whole probability store."
            ) from None
        if not isinstance(found, zarr.Array):
            raise CorruptInputError(f"{self.path}: {name} is no array.")
        return found

    @property
    def probabilities(self) -> LazyArray:
        """``uint8 [prompt, plane, y, x]``, probability x 255, prompts in the set's order."""
        return self.array("0")

    @property
    def coverage(self) -> LazyArray:
        """``uint8 [plane, y, x]``: 0 pending, 1 done, 2 failed, 3 nodata."""
        return self.array("coverage")

    @property
    def levels(self) -> list[LazyArray]:
        """Full resolution first, then each half the one before."""
        return [self.array(str(level)) for level in range(level_count(self.plan))]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(planes, rows, columns)``."""
        return self.plan.lattice.shape

    @property
    def prompts(self) -> PromptSet:
        return PromptSet.from_list(self._meta["prompts"])

    @property
    def classes(self) -> ClassTable:
        return ClassTable.of(self.prompts)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the run as the caller gave it."""
        return dict(self._meta["recipe"])

    @property
    def private(self) -> Path:
        """Folder of the journal and of lent tiles."""
        return self.path / PRIVATE

    @property
    def journal_path(self) -> Path:
        return self.private / "journal"

    def progress(self) -> Progress:
        """How far the run of this store is, read from its journal."""
        _, records = Journal.peek(self.journal_path)
        failed = {record["block"]: record["failed"] for record in records}
        tiles = {Tile(*tile) for tiles in failed.values() for tile in tiles}
        return Progress(len(failed), self.plan.block_count, tuple(sorted(tiles)))

    def write_block(
        self, block: Block, probabilities: UInt8Array, coverage: UInt8Array
    ) -> dict[str, Seal]:
        """Write ``[K, P, h, w]`` and ``[P, h, w]`` of a block: each shard once, all levels.

        Returns size and checksum of each file written, by its path in the store; shards that hold
        only zeros are no files.
        """
        # A torn shard of a run that was cut off would be read, and refused, before a write to it.
        for name in self.files_of(block):
            (self.path / name).unlink(missing_ok=True)
        self._backend.take_written()
        planes = self.plan.planes(block)
        depth = slice(planes.start, planes.stop)
        top, bottom, left, right = self.plan.window(block)
        levels = self.levels
        # Some maps at once spare calls; all of many prompts would take memory at the peak.
        step = max(1, _TOGETHER // max(1, coverage.nbytes))
        for first in range(0, len(probabilities), step):
            values = probabilities[first : first + step]
            some = slice(first, first + len(values))
            for level, array in enumerate(levels):
                if level:
                    values = halve(values)
                height, width = values.shape[2:]
                y, x = top >> level, left >> level
                array[some, depth, y : y + height, x : x + width] = values  # type: ignore[index]
        self.array("coverage")[depth, top:bottom, left:right] = coverage
        return self._backend.take_written()

    def take_written(self) -> dict[str, Seal]:
        """Size and checksum of each file written since the last call, by its path in the store."""
        return self._backend.take_written()

    def files_of(self, block: Block) -> list[str]:
        """Every file that a block may have, by its path in the store."""
        place = f"{block.layer}/{block.row}/{block.column}"
        levels, prompts = level_count(self.plan), len(self._meta["prompts"])
        names = [f"{level}/c/{k}/{place}" for level in range(levels) for k in range(prompts)]
        return [*names, f"coverage/c/{place}"]

    def read_block(self, block: Block) -> tuple[UInt8Array, UInt8Array]:
        """Full-resolution probabilities ``[K, P, h, w]`` and coverage ``[P, h, w]`` of a block."""
        planes = self.plan.planes(block)
        depth = slice(planes.start, planes.stop)
        top, bottom, left, right = self.plan.window(block)
        return (
            np.array(self.probabilities[:, depth, top:bottom, left:right], dtype=np.uint8),
            np.array(self.coverage[depth, top:bottom, left:right], dtype=np.uint8),
        )


def halve(values: UInt8Array) -> UInt8Array:
    """Mean of 2 x 2 pixels along the last two axes; an odd last row or column stands for itself."""
    height, width = values.shape[-2:]
    pad = [(0, 0)] * (values.ndim - 2) + [(0, height % 2), (0, width % 2)]
    even = np.pad(values, pad, mode="edge") if height % 2 or width % 2 else values
    rows = even[..., 0::2, :].astype(np.uint16) + even[..., 1::2, :]
    return ((rows[..., 0::2] + rows[..., 1::2] + 2) >> 2).astype(np.uint8)


def level_count(plan: Plan) -> int:
    """Levels of the pyramid: halved until a plane fits 512 pixels or a block's share gets tiny."""
    longest = max(plan.lattice.shape[1:])
    wanted = max(0, math.ceil(math.log2(longest / _SMALLEST_LEVEL)))
    possible = int(math.log2(min(plan.block[1:]) / _SMALLEST_SHARD))
    return 1 + min(wanted, possible)


def _create_level(group: zarr.Group, plan: Plan, level: int, prompts: int, *, across: bool) -> None:
    planes, rows, columns = plan.lattice.shape
    depth, height, width = plan.block
    height, width = height >> level, width >> level
    scale = 1 << level
    group.create_array(
        str(level),
        shape=(prompts, planes, -(-rows // scale), -(-columns // scale)),
        chunks=(1, *_chunk(depth, height, width, across=across)),
        shards=(1, depth, height, width),
        dtype="uint8",
        fill_value=0,
        compressors=[_compressor()],
        dimension_names=["c", "z", "y", "x"],
    )


def _chunk(depth: int, height: int, width: int, *, across: bool) -> tuple[int, int, int]:
    """Chunk of a shard, as many bytes either way: of one plane, or of all and few of their rows."""
    wide = min(width, _CHUNK)
    if not across:
        return 1, min(height, _CHUNK), wide
    rows = _CHUNK * _CHUNK // (depth * wide)
    return depth, min(height, 1 << (rows.bit_length() - 1)), wide


def _compressor() -> Any:
    from zarr.codecs import ZstdCodec

    # Level 1: soft masks shrink to within 2 % of level 3 at half its time.
    return ZstdCodec(level=1)


def _multiscales(levels: int) -> dict[str, Any]:
    """OME-NGFF 0.5 metadata in pixels; the geometry proper is in the recipe."""
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space"} for name in "zyx"]
    datasets = []
    for level in range(levels):
        factor = float(1 << level)
        shift = (factor - 1) / 2
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, 1.0, factor, factor]},
                    {"type": "translation", "translation": [0.0, 0.0, shift, shift]},
                ],
            }
        )
    return {
        "version": "0.5",
        "multiscales": [{"name": "probabilities", "axes": axes, "datasets": datasets}],
    }
