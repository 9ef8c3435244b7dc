"""A run over the workers of a dask cluster: local processes, a SLURM job, several GPUs.

Three kinds of tasks, by name in the dashboard: ``digseg-border-...`` computes the tiles that
several blocks need and lends their parts through the store's folder, which all workers see;
``digseg-block-...`` computes what is left of one block and writes its shards; of the last blocks
most is shared out as ``digseg-share-...``, so that all workers end together. All only write files
whose bytes are fixed by the plan, so dask may run them again on another worker. The driver alone
writes the journal, after a block's task is done.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from digseg.engine.borders import Borders
from digseg.engine.cluster import DEATHS, Workers
from digseg.engine.infer import Meter
from digseg.engine.lending import Lending
from digseg.engine.plan import Batch, Block, Order, ordered
from digseg.engine.state import RunState
from digseg.engine.store import ProbabilityStore
from digseg.engine.worker import Kit, Report, compute_block, compute_border, packed
from digseg.engine.writing import forget
from digseg.errors import DigsegError
from digseg.events import (
    BlockWritten,
    Callback,
    CancelToken,
    Notice,
    StageAdvanced,
    TileFailed,
)

_AHEAD = 3  # blocks in flight for each worker
_LAST = 2  # blocks for each worker, at the end, whose tiles all workers share
_SPLIT = 2  # tiles of such a block in one task
_COUNT = 2.0  # seconds between counts of the workers
_POLL = 0.2  # seconds between looks at the cancel token


@dataclass
class DistributedRun:
    """The driver of one run: hands out tasks, a few ahead of the workers, and keeps the journal."""

    kit: Kit
    store: ProbabilityStore
    state: RunState
    workers: Workers
    callback: Callback
    cancel: CancelToken
    order: Order | None = None
    meter: Meter = field(default_factory=Meter)
    bytes_written: int = 0
    bytes_lent: int = 0

    def go(self, pending: list[Block]) -> None:
        """Do the pending blocks on the workers."""
        from distributed import Client

        self._borders = Borders(self.store.plan, self.state, Lending(self.store.private / "lent"))
        self._total, self._done = len(pending), 0
        self._running: dict[Block, Any] = {}
        self._shares: dict[Block, list[Any]] = {}
        with Client(self.workers.address(), set_as_default=False) as client:
            if client.dashboard_link:
                self.callback(Notice(f"The dashboard of the workers: {client.dashboard_link}"))
            try:
                self._drive(client, pending)
            finally:  # nothing is left of a run that came to its end
                left = [*self._running.values(), *(f for fs in self._shares.values() for f in fs)]
                client.cancel(left, force=True)
        if not self.state.pending():
            Lending(self.store.private / "lent").clear()

    def _drive(self, client: Any, pending: list[Block]) -> None:
        self._something_done = threading.Event()
        content = client.submit(
            _as_is, packed(self.kit), key=f"digseg-model-{self.store.path.name}-{id(self)}"
        )
        queue = ordered(self.store.plan, pending, self.order)
        exhausted, workers, counted = False, 1, -math.inf
        while True:
            if time.monotonic() - counted >= _COUNT:  # more may come, on a cluster
                workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
                counted = time.monotonic()
            while not exhausted and len(self._running) < _AHEAD * workers:
                block = next(queue, None)
                if block is None:
                    exhausted = True
                    break
                last = len(pending) - self._done - len(self._running) <= _LAST * workers
                future = self._submit(client, content, block, last=last)
                future.add_done_callback(lambda _: self._something_done.set())
                self._running[block] = future
            if not self._running:
                return
            self.cancel.check()
            if self._something_done.wait(_POLL):
                self._something_done.clear()
                self._collect()

    def _submit(self, client: Any, content: Any, block: Block, *, last: bool) -> Any:
        plan, state = self.store.plan, self.state
        borders = []
        for owner in plan.owners(block):
            future = self._borders.futures.get(owner)
            if future is None and (wanted := self._borders.wanted(owner)):
                future = client.submit(
                    compute_border, content, wanted,
                    key=f"digseg-border-{owner.key}-{id(self)}",
                    retries=0, pure=False,
                )  # fmt: skip
                self._borders.futures[owner] = future
            if future is not None:
                borders.append(future)
        lacking = state.needs(block)
        inner = [b for b in plan.batches(block) if lacking.intersection(b) and not plan.shared(b)]
        if last:  # else one worker would compute the last block while the others have nothing to do
            borders += self._shared_out(client, content, block, inner)
            inner = []
        return client.submit(
            compute_block, content, block, sorted(lacking), block in state.missing, inner, *borders,
            key=f"digseg-block-{block.key}-{id(self)}",
            retries=0, pure=False,
        )  # fmt: skip

    def _shared_out(self, client: Any, content: Any, block: Block, inner: list[Batch]) -> list[Any]:
        """Tasks that compute a block's batches, a few each, and lend them to it."""
        lacking, there = self.state.needs(block), self._borders.lent(block)
        tiles = max(1, len(inner[0]) if inner else 1)
        step = max(1, _SPLIT // tiles)
        futures = []
        for start in range(0, len(inner), step):
            wanted = [
                (batch, {block: still})
                for batch in inner[start : start + step]
                if (still := lacking.intersection(batch) - there)
            ]
            if wanted:
                key = f"digseg-share-{block.key}-{start}-{id(self)}"
                futures.append(
                    client.submit(compute_border, content, wanted, key=key, retries=0, pure=False)
                )
        self._shares[block] = futures
        return futures

    def _collect(self) -> None:
        for block, future in list(self._running.items()):
            if not future.done():
                continue
            report = _result(future)
            del self._running[block]
            self.state.commit(block, sorted(report.failed), report.files)
            forget(self.store, block, whole=not report.failed)
            self._add(report)
            self._done += 1
            self._tell(block, report)
            for border in [*self._borders.finished(block), *self._shares.pop(block, ())]:
                self._add(_result(border))

    def _add(self, report: Report) -> None:
        self.meter.seconds += report.meter.seconds
        self.meter.calls += report.meter.calls
        self.meter.tiles += report.meter.tiles
        self.meter.pixels += report.meter.pixels
        self.bytes_written += sum(size for size, _ in report.files.values())
        self.bytes_lent += report.lent_bytes

    def _tell(self, block: Block, report: Report) -> None:
        plan = self.store.plan
        for tile, reason in report.failed.items():
            self.callback(TileFailed(tile.plane, plan.lattice.window(tile), reason))
        tiles = len(plan.owned(block))
        self.callback(StageAdvanced("segment", tiles))
        window = plan.window(block)
        for plane in plan.planes(block):
            self.callback(BlockWritten(plane, window, tiles, self._done, self._total))


def _as_is(content: bytes) -> bytes:
    return content


def _result(future: Any) -> Report:
    """A task's report.

    Raises
    ------
    DigsegError
        Several workers died of the task.
    """
    from distributed import KilledWorker

    try:
        report: Report = future.result()
    except KilledWorker as error:
        raise DigsegError(
            f"{DEATHS} workers died while they computed one block: give them more memory, or "
            "take a smaller --tile; go on with --resume."
        ) from error
    return report
