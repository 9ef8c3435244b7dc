"""The workers of a job: processes of this machine, or a dask scheduler that is there already.

Processes take seconds to start, and one to end. They start in a thread, while the input is opened
and the model loaded, serve every run of the job, and end while its results are written.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from digseg.errors import DigsegError, UsageError
from digseg.settings import SegmentSettings

#: Workers that may die of one task before it is given up.
DEATHS = 5

_GUARD = (
    "Workers start from a script that is imported anew: put the call under "
    'if __name__ == "__main__", or leave out the workers.'
)


class Workers:
    """Workers for all runs of one job; use it in ``with``.

    Parameters
    ----------
    settings
        ``workers`` says how many processes, ``scheduler`` names one that runs elsewhere.
    preload
        Modules beside the engine's that a process imports at its start, before it is waited for.

    Raises
    ------
    UsageError
        A worker process imports the script that asks for workers.
    """

    def __init__(self, settings: SegmentSettings, preload: Sequence[str] = ()) -> None:
        self._settings = settings
        self._preload = ["digseg.engine.worker", *preload]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="digseg workers")
        self._local: Future[Any] | None = None
        if self.wanted and getattr(multiprocessing.current_process(), "_inheriting", False):
            raise UsageError(_GUARD)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._thread.shutdown(wait=True)

    @property
    def wanted(self) -> bool:
        """Whether the work is not this process's own."""
        return self._settings.scheduler is not None or self._settings.workers > 1

    def start(self) -> None:
        """Begin to start processes, where any are wanted; returns at once."""
        if self.wanted and self._settings.scheduler is None and self._local is None:
            self._local = self._thread.submit(_local, self._settings.workers, self._preload)

    def address(self) -> Any:
        """What a dask client connects to; waits until it is there.

        Raises
        ------
        UsageError
            No scheduler answers there.
        DigsegError
            The processes could not be started.
        """
        if self._settings.scheduler is not None:
            return _reachable(self._settings.scheduler)
        self.start()
        assert self._local is not None
        try:
            return self._local.result()
        except (RuntimeError, OSError, TimeoutError) as error:
            raise DigsegError(f"The workers could not be started ({error}). {_GUARD}") from error

    def wait(self) -> float:
        """Wait until the processes are there, where any are wanted; seconds that it took."""
        begun = time.perf_counter()
        if self.wanted:
            self.address()
        return time.perf_counter() - begun

    def release(self) -> None:
        """Begin to end the processes: nothing more is asked of them."""
        local, self._local = self._local, None
        if local is not None:
            self._thread.submit(_end, local)


def _local(workers: int, preload: Sequence[str]) -> Any:
    import dask
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
    choices = {
        "distributed.nanny.pre-spawn-environ": env,
        "distributed.worker.preload": list(preload),
        "distributed.scheduler.allowed-failures": DEATHS,
        # A hundred looks a second at the stack of every thread, and fifty beats of every event
        # loop, take time from the networks where each core has one.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "500ms",
    }
    with dask.config.set(choices):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=50,
        )


def _end(local: Future[Any]) -> None:
    if local.exception() is None:
        local.result().close()


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
