"""Two finished stores of one image, with other prompts each, as one store; files are linked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digseg.engine.plan import Block
from digseg.engine.state import RunState
from digseg.engine.store import ProbabilityStore, level_count
from digseg.errors import ResumeError, TilesFailedError
from digseg.prompts import PromptSet, normalise


def merge(
    first: ProbabilityStore,
    second: ProbabilityStore,
    target: Path,
    prompts: PromptSet,
    *,
    identity: Mapping[str, Any],
    recipe: Mapping[str, Any] | None = None,
) -> ProbabilityStore:
    """Lay the maps of two stores side by side in a new one.

    Parameters
    ----------
    first, second
        Finished stores with the same plan; coverage is taken from the first.
    target
        Folder of the new store; nothing may be there.
    prompts
        The prompts of both, in the order of the new store.
    identity
        What the merged run is of, see `digseg.engine.state.identity_of`.

    Raises
    ------
    TilesFailedError
        One of the runs is not whole.
    ResumeError
        The plans differ.
    """
    if first.plan != second.plan:
        raise ResumeError("The two runs were cut into tiles in another way: run all prompts anew.")
    for store in (first, second):
        progress = store.progress()
        if progress.failed_tiles or progress.pending:
            raise TilesFailedError("Some tiles of the run are missing: try them again first.")
    merged = ProbabilityStore.create(target, first.plan, prompts, recipe=recipe)
    origins = [_origin(prompt.name, first, second) for prompt in prompts]
    for level in range(level_count(first.plan)):
        for index, (store, old) in enumerate(origins):
            source = store.path / str(level) / "c" / str(old)
            if source.exists():  # nothing but zeros is no file
                _link_tree(source, merged.path / str(level) / "c" / str(index))
    covered = first.path / "coverage" / "c"
    if covered.exists():
        _link_tree(covered, merged.path / "coverage" / "c")
    state = RunState.begin(merged, identity)
    try:
        for block in first.plan.blocks():
            state.commit(block, (), _files(merged, block))
    finally:
        state.close()
    return merged


def _origin(
    name: str, first: ProbabilityStore, second: ProbabilityStore
) -> tuple[ProbabilityStore, int]:
    for store in (first, second):
        for index, prompt in enumerate(store.prompts):
            if normalise(prompt.name) == normalise(name):
                return store, index
    raise ValueError(f"no store holds the prompt {name!r}")


def _files(store: ProbabilityStore, block: Block) -> dict[str, int]:
    """Files of a block's shards and their sizes, as the writer records them."""
    place = f"{block.layer}/{block.row}/{block.column}"
    names = [
        f"{level}/c/{prompt}/{place}"
        for level in range(level_count(store.plan))
        for prompt in range(len(store.prompts))
    ]
    names.append(f"coverage/c/{place}")
    paths = {name: store.path / name for name in names}
    return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}


def _link_tree(source: Path, target: Path) -> None:
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            _link(Path(folder) / name, place / name)


def _link(source: Path, target: Path) -> None:
    # Shards are never changed in place (they are replaced whole), so two names may share one file.
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
