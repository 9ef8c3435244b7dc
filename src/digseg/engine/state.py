"""Where a run stands: finished blocks, missing tiles, and what each block still needs."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digseg.engine.durable import Seal, sound, sync_files
from digseg.engine.plan import Block
from digseg.engine.store import PRIVATE, ProbabilityStore
from digseg.errors import ResumeError
from digseg.journal import Journal, differences
from digseg.prompts import PromptSet
from digseg.settings import SegmentSettings
from digseg.tiles import Tile
from digseg.types import AnyArray, SegmentationModel, TileSource

_CHECKPOINT_SECONDS = 10.0
#: Settings that change neither what is computed nor what is stored.
_FREE = {
    "model", "device", "batch", "memory", "workers", "scheduler", "threshold", "thresholds",
    "largest", "fill_holes", "minimum_ml", "simplify",
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


def ours(path: Path) -> bool:
    """Whether a folder may be replaced: it is a store of this program's, or holds nothing."""
    if not path.is_dir() or path.is_symlink():
        return False
    if unbegun(path) or not any(path.iterdir()):
        return True
    try:
        return "digseg" in json.loads((path / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def unbegun(path: Path) -> bool:
    """Whether a run died before its journal was there: its store is headers and nothing else.

    There is nothing to go on with and nothing to lose, so a resumed run lays it out again.
    """
    if not path.is_dir() or (path / PRIVATE / "journal").exists():
        return False
    names = (file.name for file in path.rglob("*") if file.is_file())
    if not all(name.startswith("zarr.json") or name == "journal.partial" for name in names):
        return False
    try:
        attributes = json.loads((path / "zarr.json").read_bytes()).get("attributes")
    except FileNotFoundError:
        return True
    except (ValueError, AttributeError):  # another program's
        return False
    return not attributes or "digseg" in attributes


class RunState:
    """The journal read as a state: blocks done, and tiles missing from them."""

    def __init__(self, store: ProbabilityStore, journal: Journal) -> None:
        self.plan = store.plan
        self.journal = journal
        self._root = store.path
        self._unsynced: set[str] = set()
        self._synced_at = time.monotonic()
        self.missing: dict[Block, frozenset[Tile]] = {}
        for record in journal.records:
            self.missing[Block.from_key(record["block"])] = _tiles(record["failed"])

    @classmethod
    def begin(cls, store: ProbabilityStore, identity: Mapping[str, Any]) -> RunState:
        header = {"identity": dict(identity), "plan": store.plan.to_dict()}
        sync_files(store.path / name for name in store.take_written())
        return cls(store, Journal.create(store.journal_path, header))

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
        state = cls(store, journal)
        for block in unsound(store.path, journal.records, journal.trusted):
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

    def commit(self, block: Block, failed: Sequence[Tile], files: Mapping[str, Seal | int]) -> None:
        """Record a block whose files are written; now and then flush all of them to the disk."""
        self.journal.append(
            {
                "block": block.key,
                "failed": [[tile.plane, tile.row, tile.column] for tile in failed],
                "files": dict(files),
            }
        )
        self.missing[block] = frozenset(failed)
        self._unsynced.update(files)
        if time.monotonic() - self._synced_at > _CHECKPOINT_SECONDS:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Flush all files to the disk and say so in the journal."""
        if self._unsynced:
            sync_files(self._root / name for name in self._unsynced)
            self.journal.checkpoint()
            self._unsynced.clear()
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """A last checkpoint, and the journal is closed."""
        try:
            self.checkpoint()
        except OSError:
            # A full disk, perhaps: what stands after the last checkpoint is verified on resume.
            pass
        finally:
            self.journal.close()

    @property
    def failed(self) -> frozenset[Tile]:
        """Tiles missing from any block."""
        return frozenset(tile for tiles in self.missing.values() for tile in tiles)


def unsound(root: Path, records: Sequence[Mapping[str, Any]], trusted: int) -> set[Block]:
    """Blocks of which a file is missing or is not what was written.

    Sizes are compared for all; checksums for what was not flushed to the disk at a checkpoint.
    """
    latest = {record["block"]: (n, record["files"]) for n, record in enumerate(records)}
    bad = set()
    for key, (number, files) in latest.items():
        for name, seal in files.items():
            size, crc = seal if isinstance(seal, list) else (seal, None)
            if not sound(f"{root}/{name}", size, None if number < trusted else crc):
                bad.add(Block.from_key(key))
                break
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
