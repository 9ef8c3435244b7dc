"""How much memory there is, how much a run will take, and the refusal. Level 3.

A run's memory is a sum of parts that don't grow with the scene: the process as it stands (weights
included), the model at work, tiles waiting for it, answers waiting to be written, and one block.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digseg.errors import DoesNotFitError
from digseg.wording import format_size

#: Share of free memory that a run takes when nothing was asked for.
FREE_SHARE = 0.75
#: What waits beyond one batch, so that the model never does: two or three tiles of 512 pixels. It
#: is not more because the peak of a long run is that of its fullest queues.
QUEUED = 8 << 20
#: A second answer waits for the disk while a block is written, unless it is larger than this.
LARGE_ANSWER = 24 << 20
#: Pools of the C library, and seconds between two times that what is free in them goes back.
_POOLS, _BETWEEN = 2, 0.5
_M_ARENA_MAX = -8  # of malloc.h
#: What reading and writing files holds while a run goes: GDAL's cache of 64 MiB, modules that are
#: loaded on the way, buffers of zarr's threads, and what the C library has not given back yet.
FILES = 112 << 20
#: What dask and its dashboard add to a process.
CLUSTER = 96 << 20
_STATM, _PAGE = Path("/proc/self/statm"), mmap.PAGESIZE
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def process_bytes() -> int:
    """Memory of this process that is resident now."""
    try:
        # Asked for at every tile and by a thread that watches: psutil takes three times as long.
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except OSError:  # no Linux
        import psutil

        return int(psutil.Process().memory_info().rss)


def family_bytes() -> int:
    """Memory of this process and of those that it started; pages they share count for each."""
    import psutil

    total = process_bytes()
    for child in psutil.Process().children(recursive=True):
        try:
            total += int(child.memory_info().rss)
        except psutil.Error:  # gone meanwhile
            continue
    return total


def few_pools() -> None:
    """Let the C library keep no more than two pools for the threads that come from now on.

    glibc has one for each of many threads and holds on to what large arrays leave behind in each;
    over a long run the holes add up.
    """
    option = _of_libc("mallopt")
    if option is not None:
        option(_M_ARENA_MAX, _POOLS)


def large_pages() -> None:
    """Let torch ask for pages of 2 MiB for its large arrays, where nobody chose otherwise.

    A network's arrays come and go with each tile; beyond 32 MiB the C library asks the system for
    each anew. In pages of 4 KiB that costs tens of thousands of page faults a tile, on some
    virtual machines half of all time. torch reads the variable at its first large array; systems
    other than Linux don't know it.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def give_back() -> None:
    """Hand memory that was freed back to the system, where the C library keeps it."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


class GiveBack:
    """`give_back`, but not more than twice a second: what went back has to be asked for anew."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last > _BETWEEN:
            give_back()
            self._last = time.monotonic()


@functools.cache
def _of_libc(name: str) -> Callable[..., int] | None:
    try:
        library = ctypes.CDLL(None)
        # musl has a mallopt that does nothing, and no malloc_trim.
        library.malloc_trim  # noqa: B018
        found: Callable[..., int] = getattr(library, name)
        return found
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None


def free_bytes() -> int:
    """Memory that this process could still take, a container's limit included."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no cgroup, or "max"
            continue
    return max(0, free)


def allowed_bytes(asked: int | None) -> int:
    """Upper limit for the whole process: what was asked for, else a share of what is free."""
    return asked if asked is not None else process_bytes() + int(FREE_SHARE * free_bytes())


@dataclass(frozen=True)
class Needs:
    """Bytes that the parts of a run take at their peak.

    Parameters
    ----------
    base
        The process with its weights, before the run.
    model
        What the model takes while it works, beyond its answer.
    tile, answer
        One batch of tiles as read; one batch of answers.
    block
        The block being filled and written.
    workers
        Processes beside this one that do the work, each with a program and a model of its own;
        0 where this process does it.
    files
        What reading and writing files takes in a process that does the work.
    """

    base: int
    model: int
    tile: int
    answer: int
    block: int
    workers: int = 0
    files: int = FILES

    @property
    def tiles(self) -> int:
        """Two batches read (waiting, in the model); a new answer, and one as parts being blended
        (bytes in cores, floats in ramps: half of it, and as much again while a part is lent)."""
        return 2 * self.tile + self.answer + self.answer // 2 + self.answer // 4

    @property
    def each(self) -> int:
        """The smallest total of a process that does the work."""
        program = self.base + (CLUSTER if self.workers else 0)
        return program + self.model + self.tiles + self.block + self.files

    @property
    def least(self) -> int:
        """The smallest total of all processes."""
        if not self.workers:
            return self.each
        return self.driver + self.workers * self.each

    @property
    def driver(self) -> int:
        """What this process takes while others do the work."""
        return self.base + CLUSTER

    def share(self, allowed: int) -> int:
        """What one process that does the work may take of what all may."""
        return (allowed - self.driver) // self.workers if self.workers else allowed


@dataclass(frozen=True)
class Budget:
    """Limits of the queues, and the total with them."""

    read_ahead: int
    write_behind: int
    total: int


def budget(needs: Needs, allowed: int, *, asked: bool) -> Budget:
    """Share what is left among the queues.

    Raises
    ------
    DoesNotFitError
        The least that the run needs is more than is allowed; the figures are in the message.
    """
    if needs.least > allowed:
        raise DoesNotFitError(_refusal(needs, allowed, asked))
    if needs.workers:  # they read one batch ahead and have no queues
        return Budget(needs.tile, needs.answer, needs.least)
    spare = allowed - needs.least
    read = needs.tile + min(QUEUED, spare // 4)
    second = needs.answer if QUEUED < needs.answer <= LARGE_ANSWER else QUEUED
    write = needs.answer + min(second, spare // 4)
    total = needs.least + read - needs.tile + write - needs.answer
    return Budget(read, write, total)


def _refusal(needs: Needs, allowed: int, asked: bool) -> str:
    given = "are allowed with --memory" if asked else "are free"
    several, fewer = "", ""
    if needs.workers:
        several = (
            f"{format_size(needs.driver)} for the program and, for each of {needs.workers} "
            f"workers, {format_size(needs.each)}: "
        )
        fewer = " fewer --workers,"
    program = needs.each - needs.model - needs.tiles - needs.block - needs.files
    return (
        f"The run needs {format_size(needs.least)} ({several}{format_size(program)} program and "
        f"model, {format_size(needs.model)} to compute, {format_size(needs.tiles)} tiles, "
        f"{format_size(needs.files)} for files, {format_size(needs.block)} for a block), but "
        f"{format_size(allowed)} {given}: "
        f"allow more, or take{fewer} a smaller --tile, a smaller --batch or fewer prompts."
    )


def check_within(allowed: int, *, worker: bool = False) -> None:
    """Stop a run that outgrew its limit.

    Parameters
    ----------
    allowed
        For this process; for one of several ``worker`` processes its share.

    Raises
    ------
    DoesNotFitError
        The process holds more than is allowed.
    """
    used = process_bytes()
    if used <= allowed:
        return
    who, leaves = ("A worker", "leaves it") if worker else ("The run", "allows")
    raise DoesNotFitError(
        f"{who} reached {format_size(used)} and was stopped: --memory {leaves} "
        f"{format_size(allowed)}; go on with --resume and a larger limit."
    )
