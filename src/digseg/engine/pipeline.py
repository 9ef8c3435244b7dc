"""The work of a run in this process: read ahead | model | write behind.

Three threads, so that the model never waits: one reads the next tiles, the caller's thread is in
the model, one blends and writes. The queues between them are bounded in bytes; nothing else grows
with the scene.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digseg.engine.channel import Channel, Closed
from digseg.engine.infer import Answer, Inference, Meter
from digseg.engine.lending import Lending
from digseg.engine.plan import Batch, Block, Order, ordered
from digseg.engine.reading import ReadTile, read_batch
from digseg.engine.state import RunState
from digseg.engine.store import ProbabilityStore
from digseg.engine.writing import BlockWriter, Written, forget
from digseg.errors import DoesNotFitError
from digseg.events import (
    BlockWritten,
    Callback,
    CancelToken,
    StageAdvanced,
    TileFailed,
)
from digseg.memory import Budget, check_within
from digseg.tiles import Tile
from digseg.types import TileSource

_NO_SPACE = 28  # errno.ENOSPC
_EMPTY = 4096  # bytes that an answer without values counts for while it waits, all told
#: Name of the stage that a run's events speak of.
STAGE = "segment"


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
class LocalRun:
    """One run: the pending blocks through three threads, to the store and the journal."""

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
                self._tell(StageAdvanced(STAGE, len(item.batch)))
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
        sizes = [_EMPTY if a.values is None else a.values.nbytes for a in answers]
        self._to_disk.put(answers, sum(sizes))

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
                self.writer.take(item, self._to_disk.release)

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
