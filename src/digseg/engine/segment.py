"""A whole run: a store is made or taken up, the plan is held against the limits, the work is done.

The work itself is `digseg.engine.pipeline`'s in this process and `digseg.engine.distributed`'s over
the workers of dask.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digseg.engine.cluster import Workers
from digseg.engine.distributed import DistributedRun
from digseg.engine.durable import DurableStore
from digseg.engine.estimate import check_disk, disk_bytes, fitted_plan, held_bytes, probe
from digseg.engine.infer import Inference, Meter
from digseg.engine.pipeline import STAGE, LocalRun
from digseg.engine.plan import Block, Order, Plan
from digseg.engine.state import RunState, identity_of, ours, unbegun
from digseg.engine.store import PRIVATE, ProbabilityStore
from digseg.engine.worker import Kit
from digseg.errors import OutputExistsError, UsageError
from digseg.events import (
    Callback,
    CancelToken,
    RunFinished,
    RunPlanned,
    StageAdvanced,
    StageStarted,
    ignore,
)
from digseg.journal import Journal
from digseg.memory import Budget, budget, few_pools, give_back
from digseg.prompts import PromptSet
from digseg.settings import SegmentSettings
from digseg.tiles import Tile
from digseg.types import SegmentationModel, TileSource


@dataclass(frozen=True)
class EngineResult:
    """What a run did.

    Parameters
    ----------
    store
        The finished store.
    failed
        Tiles without an answer; their pixels are ``failed`` in the coverage.
    seconds
        Wall time.
    meter
        Calls, tiles, pixels and seconds of the model in this session.
    bytes_written, bytes_lent
        Bytes of the store's files, and of parts that waited on disk for a neighbour block.
    """

    store: ProbabilityStore
    failed: tuple[Tile, ...]
    seconds: float
    meter: Meter
    bytes_written: int = 0
    bytes_lent: int = 0


def segment(
    source: TileSource,
    model: SegmentationModel,
    prompts: PromptSet,
    settings: SegmentSettings,
    store_path: str | Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callback: Callback = ignore,
    cancel: CancelToken | None = None,
    order: Order | None = None,
    plan: Plan | None = None,
    backend: type[DurableStore] = DurableStore,
    across: bool = False,
    workers: Workers | None = None,
) -> EngineResult:
    """Segment all planes of a source into a probability store.

    Parameters
    ----------
    source
        What is read, already in the model's channels and range.
    store_path
        Folder of the zarr store.
    recipe
        Kept in the store's attributes.
    resume
        Finish the run that stands in ``store_path``; only what is missing is computed.
    overwrite
        Replace what stands there.
    callback
        Hears `events`, from the engine's threads, one call at a time.
    order
        Chooses the next block among the pending ones, for example those in view.
    plan
        Other blocks or batches than the plan's own choice; the answer is the same.
    across
        The store will be read across its planes, see `ProbabilityStore.create`.
    workers
        Those of the job, where they serve several runs or were started ahead; else its own.

    Returns
    -------
    The result; tiles that failed are in it, not raised.

    Raises
    ------
    OutputExistsError, ResumeError, DoesNotFitError, Cancelled
        The store is there already; the run does not match; the disk is full; the person stopped.
    """
    begun = time.perf_counter()
    few_pools()
    cancel = cancel or CancelToken()
    working = _working_bytes(source, model, prompts, settings)
    store, state = open_run(
        source, model, prompts, settings, Path(store_path),
        recipe=recipe, resume=resume, overwrite=overwrite, plan=plan, backend=backend,
        working=working, across=across,
    )  # fmt: skip
    try:
        limits, share = _budget(source, store.plan, model, prompts, settings, working)
        pending = state.pending()
        _announce(store, pending, limits, callback)
        run: LocalRun | DistributedRun
        with nullcontext(workers) if workers else Workers(settings) as helpers:
            if helpers.wanted:
                kit = Kit(source, model, prompts, Path(store_path).absolute(), share)
                run = DistributedRun(kit, store, state, helpers, callback, cancel, order)
            else:
                inference = Inference(model, prompts.prompts)
                run = LocalRun(source, inference, store, state, callback, cancel, order, limits)
                run.allowed = share
            if pending:
                run.go(pending)
    except UsageError:
        # Workers that can't be reached, say: nothing was done, so nothing is in the way next time.
        if not state.journal.records:
            shutil.rmtree(store.path, ignore_errors=True)
        raise
    finally:
        state.close()
    seconds = time.perf_counter() - begun
    failed = tuple(sorted(state.failed))
    meter = run.meter
    callback(RunFinished(meter.tiles, len(failed), seconds, meter.seconds))
    return EngineResult(store, failed, seconds, meter, run.bytes_written, run.bytes_lent)


def open_run(
    source: TileSource,
    model: SegmentationModel,
    prompts: PromptSet,
    settings: SegmentSettings,
    path: Path,
    *,
    recipe: Mapping[str, Any] | None,
    resume: bool,
    overwrite: bool,
    plan: Plan | None,
    backend: type[DurableStore],
    working: int = 0,
    across: bool = False,
) -> tuple[ProbabilityStore, RunState]:
    """A new store, or the one to be finished."""
    identity = identity_of(source, model, prompts, settings)
    if path.exists() and (resume or overwrite) and not ours(path):
        raise OutputExistsError(
            f"{path} is there and is no store of probabilities: choose another name."
        )
    if resume and unbegun(path):
        shutil.rmtree(path)
    if resume and path.exists():
        store = ProbabilityStore.open(path, writable=True, backend=backend)
        return store, RunState.resume(store, identity)
    if path.exists():
        if not overwrite:
            raise OutputExistsError(
                f"{path} is there already: use --resume to finish it or --overwrite to replace it."
            )
        Journal.refuse_if_busy(path / PRIVATE / "journal")
        shutil.rmtree(path)
    plan, _, _ = fitted_plan(
        source.shape, model, prompts, settings,
        plan=plan, working=working, held=held_bytes(source),
    )  # fmt: skip
    check_disk(plan, len(prompts), path.parent)
    store = ProbabilityStore.create(
        path, plan, prompts, recipe=recipe, backend=backend, across=across
    )
    return store, RunState.begin(store, identity)


def _announce(
    store: ProbabilityStore, pending: list[Block], limits: Budget, callback: Callback
) -> None:
    plan = store.plan
    disk = disk_bytes(plan, len(store.prompts))
    callback(RunPlanned(plan.lattice.count, len(pending), limits.total, disk))
    callback(StageStarted(STAGE, plan.lattice.count, "tiles"))
    waiting = set(pending)
    done = sum(len(plan.owned(block)) for block in plan.blocks() if block not in waiting)
    if done:
        callback(StageAdvanced(STAGE, done))


def _working_bytes(
    source: TileSource, model: SegmentationModel, prompts: PromptSet, settings: SegmentSettings
) -> int:
    """What the model takes at work, from one tile, where a limit has to be kept; else 0."""
    if settings.memory is None or settings.scheduler is not None:
        return 0
    # What can't be met in any case is refused before the model is called.
    held = held_bytes(source)
    plan, allowed, needs = fitted_plan(source.shape, model, prompts, settings, held=held)
    budget(needs, allowed, asked=True)
    found = probe(source, model, prompts.prompts, plan.lattice, calls=1)[0]
    give_back()
    return found


def _budget(
    source: TileSource,
    plan: Plan,
    model: SegmentationModel,
    prompts: PromptSet,
    settings: SegmentSettings,
    working: int,
) -> tuple[Budget, int | None]:
    """Limits of the queues, and what each process that does the work may take, if limited."""
    _, allowed, needs = fitted_plan(
        source.shape, model, prompts, settings,
        plan=plan, working=working, held=held_bytes(source),
    )  # fmt: skip
    limits = budget(needs, allowed, asked=settings.memory is not None)
    return limits, None if settings.memory is None else needs.share(allowed)
