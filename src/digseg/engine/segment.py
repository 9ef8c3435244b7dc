"""A whole run in this process: read ahead | model | write behind.

Three threads, so that the model never waits: one reads the next tiles, the caller's thread is in
the model, one blends and writes. The queues between them are bounded in bytes; nothing else grows
with the scene.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digseg.engine.channel import Channel, Closed
from digseg.engine.distributed import DistributedRun
from digseg.engine.durable import DurableStore
from digseg.engine.estimate import check_disk, disk_bytes, fitted_plan, held_bytes, probe
from digseg.engine.infer import Answer, Inference, Meter
from digseg.engine.lending import Lending
from digseg.engine.plan import Batch, Block, Order, Plan, ordered
from digseg.engine.reading import ReadTile, read_batch
from digseg.engine.state import RunState, identity_of
from digseg.engine.store import ProbabilityStore
from digseg.engine.worker import Kit
from digseg.engine.writing import BlockWriter, Written, forget
from digseg.errors import DoesNotFitError, OutputExistsError
from digseg.events import (
    BlockWritten,
    Callback,
    CancelToken,
    RunFinished,
    RunPlanned,
    StageAdvanced,
    StageStarted,
    TileFailed,
    ignore,
)
from digseg.memory import Budget, budget, check_within
from digseg.prompts import PromptSet
from digseg.settings import SegmentSettings
from digseg.tiles import Tile
from digseg.types import SegmentationModel, TileSource

_NO_SPACE = 28  # errno.ENOSPC
_STAGE = "segment"


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

    Returns
    -------
    The result; tiles that failed are in it, not raised.

    Raises
    ------
    OutputExistsError, ResumeError, DoesNotFitError, Cancelled
        The store is there already; the run does not match; the disk is full; the person stopped.
    """
    begun = time.perf_counter()
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
        run: _Run | DistributedRun
        if settings.scheduler is not None or settings.workers > 1:
            kit = Kit(source, model, prompts, Path(store_path).absolute(), share)
            run = DistributedRun(kit, store, state, settings, callback, cancel, order)
        else:
            inference = Inference(model, prompts.prompts)
            run = _Run(source, inference, store, state, callback, cancel, order, limits)
            run.allowed = share
        if pending:
            run.go(pending)
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
    if resume and path.exists():
        store = ProbabilityStore.open(path, writable=True, backend=backend)
        return store, RunState.resume(store, identity)
    if path.exists():
        if not overwrite:
            raise OutputExistsError(
                f"{path} is there already: use --resume to finish it or --overwrite to replace it."
            )
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
    callback(StageStarted(_STAGE, plan.lattice.count, "tiles"))
    waiting = set(pending)
    done = sum(len(plan.owned(block)) for block in plan.blocks() if block not in waiting)
    if done:
        callback(StageAdvanced(_STAGE, done))


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
    return probe(source, model, prompts.prompts, plan.lattice, calls=1)[0]


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


@dataclass(frozen=True)
class _Begin:
    block: Block


@dataclass(frozen=True)
class _Read:
    batch: Batch
    tiles: Future[list[ReadTile]]


@dataclass(frozen=True)
class _End:
    block: Block


@dataclass
class _Run:
    source: TileSource
    inference: Inference
    store: ProbabilityStore
    state: RunState
    callback: Callback
    cancel: CancelToken
    order: Order | None
    budget: Budget
    allowed: int | None = None
    bytes_written: int = 0
    _fault: BaseException | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.writer = BlockWriter(self.store, self.state)
        self._to_model: Channel[_Begin | _Read | _End] = Channel(self.budget.read_ahead)
        self._to_disk: Channel[_Begin | list[Answer] | _End] = Channel(self.budget.write_behind)

    @property
    def meter(self) -> Meter:
        return self.inference.meter

    @property
    def bytes_lent(self) -> int:
        return self.writer.lent_bytes

    def go(self, pending: list[Block]) -> None:
        """Run the three threads to the end, or stop all of them."""
        threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"digseg {name}", daemon=True)
            for name, work in (("read", lambda: self._read(pending)), ("write", self._write))
        ]
        self._total = len(pending)
        for thread in threads:
            thread.start()
        finished = False
        try:
            self._infer()
            finished = True
        except Closed:
            pass
        finally:
            if not finished:
                self._abort()
            for thread in threads:
                thread.join()
        if self._fault is not None:
            raise self._fault
        if not self.state.pending():
            self.writer.close()

    def _abort(self) -> None:
        self._to_model.abort()
        self._to_disk.abort()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001
            # Whatever it is, the caller's thread has to hear of it, or it would wait for ever.
            self._fault = self._fault or _explained(error, self.store.path)
            self._abort()

    # The reading thread -------------------------------------------------------------------------

    def _read(self, pending: list[Block]) -> None:
        lending = Lending(self.store.private / "lent")
        lent_before = lending.blocks()
        asked: set[Tile] = set()  # first tiles of batches already on their way
        # Three channels, unless the source hands on stored maps of many prompts.
        channels = int(getattr(self.source, "channels", 3))
        size = 4 * channels * _area(self.store.plan.lattice.tile_shape)
        with ThreadPoolExecutor(2, thread_name_prefix="digseg tile") as pool:
            for block in ordered(self.store.plan, pending, self.order):
                self._to_model.put(_Begin(block))
                lacking = set(self.state.needs(block))
                if block in lent_before:
                    lacking -= lending.tiles(block)
                for batch in self.store.plan.batches(block):
                    if batch[0] in asked or not lacking.intersection(batch):
                        continue
                    asked.add(batch[0])
                    future = pool.submit(read_batch, self.source, self.store.plan.lattice, batch)
                    self._to_model.put(_Read(batch, future), size * len(batch))
                self._to_model.put(_End(block))
        self._to_model.end()

    # The caller's thread ------------------------------------------------------------------------

    def _infer(self) -> None:
        while True:
            self.cancel.check()
            try:
                item = self._to_model.get()
            except Closed:
                break
            if isinstance(item, _Read):
                self._answer(item.tiles.result())
                self._tell(StageAdvanced(_STAGE, len(item.batch)))
                if self.allowed is not None:
                    check_within(self.allowed)
            else:
                self._to_disk.put(item)
        self._to_disk.end()

    def _answer(self, tiles: list[ReadTile]) -> None:
        """One batch through the model and on; in a frame of its own, so that no answer outlives
        it. Where answers are large there is one, and the next waits until it was cut to parts."""
        lattice = self.store.plan.lattice
        each = 4 * len(self.store.prompts) * _area(lattice.tile_shape)
        self._to_disk.wait_for_room(each * sum(tile.pixels is not None for tile in tiles))
        answers = self.inference(tiles)
        for answer in answers:
            if answer.failed:
                window = lattice.window(answer.read.tile)
                self._tell(TileFailed(answer.read.tile.plane, window, answer.reason))
        size = sum(answer.values.nbytes for answer in answers if answer.values is not None)
        self._to_disk.put(answers, size)

    # The writing thread -------------------------------------------------------------------------

    def _write(self) -> None:
        done = 0
        while True:
            item = self._to_disk.get()
            if isinstance(item, _Begin):
                self.writer.begin(item.block)
            elif isinstance(item, _End):
                done += 1
                written = self.writer.end()
                forget(self.store, written.block, whole=not written.failed)
                self._report(written, done)
            else:
                parts = self.writer.cut(item)
                item.clear()
                self._to_disk.release()
                self.writer.add(parts)

    def _report(self, written: Written, done: int) -> None:
        self.bytes_written += sum(size for size, _ in written.files.values())
        window = self.store.plan.window(written.block)
        for plane in self.store.plan.planes(written.block):
            self._tell(BlockWritten(plane, window, written.tiles, done, self._total))

    def _tell(self, event: Any) -> None:
        with self._lock:
            self.callback(event)


def _area(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]


def _explained(error: BaseException, path: Path) -> BaseException:
    if isinstance(error, OSError) and error.errno == _NO_SPACE:
        return DoesNotFitError(
            f"The disk of {path} is full: free some space and go on with --resume."
        )
    return error
