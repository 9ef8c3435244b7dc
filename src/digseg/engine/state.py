"""Where a run stands: finished blocks, missing tiles, and what each block still needs."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digseg.engine.plan import Block, Plan
from digseg.engine.store import ProbabilityStore
from digseg.errors import ResumeError
from digseg.journal import Journal, differences
from digseg.prompts import PromptSet
from digseg.settings import SegmentSettings
from digseg.tiles import Tile
from digseg.types import AnyArray, SegmentationModel, TileSource

#: Settings that change neither what is computed nor what is stored.
_FREE = {
    "model", "device", "batch", "memory", "workers", "scheduler", "threshold", "thresholds",
    "largest", "fill_holes", "minimum_ml",
}  # fmt: skip


def identity_of(
    source: TileSource, model: SegmentationModel, prompts: PromptSet, settings: SegmentSettings
) -> dict[str, Any]:
    """What a run is of, JSON-ready; a run resumes only on an equal one."""
    values = settings.to_dict()
    return {
        "image": {"content": source.identity, "shape": list(source.shape)},
        "model": model.identity,
        "prompts": [
            {"name": p.name, "synonyms": list(p.synonyms), "negative": p.negative} for p in prompts
        ],
        "settings": {key: value for key, value in values.items() if key not in _FREE},
    }


class RunState:
    """The journal read as a state: blocks done, and tiles missing from them."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.plan = plan
        self.journal = journal
        self.missing: dict[Block, frozenset[Tile]] = {}
        for record in journal.records:
            self.missing[Block.from_key(record["block"])] = _tiles(record["failed"])

    @classmethod
    def begin(cls, store: ProbabilityStore, identity: Mapping[str, Any]) -> RunState:
        header = {"identity": dict(identity), "plan": store.plan.to_dict()}
        return cls(store.plan, Journal.create(store.journal_path, header))

    @classmethod
    def resume(cls, store: ProbabilityStore, identity: Mapping[str, Any]) -> RunState:
        """Take up a run; blocks whose files are gone or torn count as never done.

        Raises
        ------
        ResumeError
            The run is of another image, model, prompts or settings.
        """
        journal = Journal.load(store.journal_path)
        changed = differences(journal.header.get("identity", {}), identity)
        if changed:
            journal.close()
            raise ResumeError(
                f"The run in {store.path} can't be resumed: {'; '.join(changed)}. "
                "Ask for the same again, or start anew with --overwrite."
            )
        state = cls(store.plan, journal)
        for block in unsound(store.path, journal.records):
            del state.missing[block]
        for block in [block for block, tiles in state.missing.items() if tiles]:
            if load_leftovers(leftovers_path(store, block)) is None:
                del state.missing[block]
        return state

    def complete(self, block: Block) -> bool:
        return block in self.missing and not self.missing[block]

    def needs(self, block: Block) -> frozenset[Tile]:
        """Tiles that a block lacks: all at first, after that those that failed."""
        known = self.missing.get(block)
        return frozenset(self.plan.touching(block)) if known is None else known

    def needed(self, tile: Tile, block: Block) -> bool:
        """Whether ``tile``, which touches ``block``, is lacking there."""
        known = self.missing.get(block)
        return known is None or tile in known

    def pending(self) -> list[Block]:
        return [block for block in self.plan.blocks() if not self.complete(block)]

    def commit(self, block: Block, failed: Sequence[Tile], files: Mapping[str, Any]) -> None:
        """Record a block whose files are on disk."""
        self.journal.append(
            {
                "block": block.key,
                "failed": [[tile.plane, tile.row, tile.column] for tile in failed],
                "files": dict(files),
            }
        )
        self.missing[block] = frozenset(failed)

    @property
    def failed(self) -> frozenset[Tile]:
        """Tiles missing from any block."""
        return frozenset(tile for tiles in self.missing.values() for tile in tiles)


def unsound(root: Path, records: Sequence[Mapping[str, Any]]) -> set[Block]:
    """Blocks of which a file is missing or has another size than was written."""
    latest = {record["block"]: record["files"] for record in records}
    bad = set()
    for key, files in latest.items():
        for name, size in files.items():
            path = root / name
            if not path.is_file() or path.stat().st_size != size:
                bad.add(Block.from_key(key))
    return bad


def _tiles(items: Iterable[Sequence[int]]) -> frozenset[Tile]:
    return frozenset(Tile(*item) for item in items)


def leftovers_path(store: ProbabilityStore, block: Block) -> Path:
    """File with the unfinished sums of a block in which tiles failed."""
    return store.private / "unfinished" / f"{block.key}.npz"


def load_leftovers(path: Path) -> dict[str, AnyArray] | None:
    """Unfinished sums by cell; `None` where the file is missing or torn."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError):
        return None
