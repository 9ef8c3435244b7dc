"""A run over the workers of a dask cluster: local processes, a SLURM job, several GPUs.

Three kinds of tasks, by name in the dashboard: ``digseg-border-...`` computes the tiles that
several blocks need and lends their parts through the store's folder, which all workers see;
``digseg-block-...`` computes what is left of one block and writes its shards; of the last blocks
most is shared out as ``digseg-share-...``, so that all workers end together. All only write files
whose bytes are fixed by the plan, so dask may run them again on another worker. The driver alone
writes the journal, after a block's task is done.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from digseg.engine.borders import Borders
from digseg.engine.infer import Meter
from digseg.engine.lending import Lending
from digseg.engine.plan import Batch, Block, Order, ordered
from digseg.engine.state import RunState
from digseg.engine.store import ProbabilityStore
from digseg.engine.worker import Kit, Report, compute_block, compute_border, packed
from digseg.engine.writing import forget
from digseg.errors import DigsegError, UsageError
from digseg.events import (
    BlockWritten,
    Callback,
    CancelToken,
    Notice,
    StageAdvanced,
    TileFailed,
)
from digseg.settings import SegmentSettings

_AHEAD = 3  # blocks in flight for each worker
_LAST = 2  # blocks for each worker, at the end, whose tiles all workers share
_SPLIT = 4  # tiles of such a block in one task
_POLL = 0.2  # seconds between looks at the cancel token
_DEATHS = 5  # workers that may die of one task before it is given up


@dataclass
class DistributedRun:
    """The driver of one run: hands out tasks, a few ahead of the workers, and keeps the journal."""

    kit: Kit
    store: ProbabilityStore
    state: RunState
    settings: SegmentSettings
    callback: Callback
    cancel: CancelToken
    order: Order | None = None
    meter: Meter = field(default_factory=Meter)
    bytes_written: int = 0
    bytes_lent: int = 0

    def go(self, pending: list[Block]) -> None:
        """Do the pending blocks on the cluster that the settings name."""
        from distributed import Client

        self._borders = Borders(self.store.plan, self.state, Lending(self.store.private / "lent"))
        self._total, self._done = len(pending), 0
        self._running: dict[Block, Any] = {}
        self._shares: dict[Block, list[Any]] = {}
        with _cluster(self.settings) as address, Client(address, set_as_default=False) as client:
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
        exhausted = False
        while True:
            workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
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
            inner, shares = self._shared_out(client, content, block, inner)
            borders += shares
        return client.submit(
            compute_block, content, block, sorted(lacking), block in state.missing, inner, *borders,
            key=f"digseg-block-{block.key}-{id(self)}",
            retries=0, pure=False,
        )  # fmt: skip

    def _shared_out(
        self, client: Any, content: Any, block: Block, inner: list[Batch]
    ) -> tuple[list[Batch], list[Any]]:
        """A few of a block's batches for its own task, and tasks that lend it the others."""
        lacking, there = self.state.needs(block), self._borders.lent(block)
        tiles = max(1, len(inner[0]) if inner else 1)
        step = max(1, _SPLIT // tiles)
        futures = []
        for start in range(step, len(inner), step):
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
        return inner[:step], futures

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


@contextmanager
def _cluster(settings: SegmentSettings) -> Iterator[Any]:
    """The scheduler that was named, or a local one with as many processes as were asked for."""
    import dask

    with dask.config.set({"distributed.scheduler.allowed-failures": _DEATHS}):
        if settings.scheduler is not None:
            yield _reachable(settings.scheduler)
            return
        from distributed import LocalCluster

        # As many threads for each worker's network as this process has: the number of threads
        # changes the last bits of an answer, and the result must not depend on --workers.
        threads = str(network_threads())
        env = {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            # A model or a source of somebody's own module is found where this process finds it.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        spawn = {"distributed.nanny.pre-spawn-environ": env}
        with (
            dask.config.set(spawn),
            LocalCluster(
                n_workers=settings.workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=50,
            ) as cluster,
        ):
            yield cluster


def network_threads() -> int:
    """Threads that the network of this process computes with."""
    torch = sys.modules.get("torch")  # asked only where the model has loaded it
    if torch is not None:
        return int(torch.get_num_threads())
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def _reachable(address: str) -> str:
    from distributed import Client

    try:
        with Client(address, timeout=10, set_as_default=False):
            return address
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"No dask scheduler answers at {address}: start one with `dask scheduler` or "
            "check the address given with --scheduler."
        ) from error


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
            f"{_DEATHS} workers died while they computed one block: give them more memory, or "
            "take a smaller --tile; go on with --resume."
        ) from error
    return report
