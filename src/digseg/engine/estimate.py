"""What a run will take, before it starts: tiles, memory, disk, minutes. Refuses what can't be."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from digseg import memory, metering
from digseg.engine.infer import Inference
from digseg.engine.plan import Plan
from digseg.engine.reading import read_tile
from digseg.errors import DoesNotFitError
from digseg.prompts import Prompt, PromptSet
from digseg.settings import SegmentSettings
from digseg.tiles import Lattice, Tile
from digseg.types import SegmentationModel, TileSource
from digseg.wording import format_size

_TIMED_TILES = 3
_SMALLEST_BLOCK = 256
#: Soft masks of real scenes shrink to between a tenth and a half; less than a quarter of the
#: uncompressed size free is refused, more is let go on (a full disk stops a run, resumably).
_LEAST_DISK_SHARE = 0.25


@dataclass(frozen=True)
class Estimate:
    """Figures of a planned run.

    Parameters
    ----------
    tiles, blocks
        How many the model and the store get.
    redundancy
        Computed pixels over image pixels.
    memory_bytes, memory_allowed
        Peak of the process and its workers on this machine, and the limit of all together.
    vram_bytes
        Peak on the GPU; 0 on the CPU, `None` where the model can't tell.
    disk_bytes, disk_free
        Upper bound of the store, uncompressed; what is free there.
    seconds
        Wall time from a few timed tiles; `None` when they were not timed.
    """

    tiles: int
    blocks: int
    redundancy: float
    memory_bytes: int
    memory_allowed: int
    vram_bytes: int | None
    disk_bytes: int
    disk_free: int
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    source: TileSource,
    model: SegmentationModel,
    prompts: PromptSet,
    settings: SegmentSettings,
    folder: str | Path,
    *,
    timed: bool = False,
) -> Estimate:
    """Plan a run without doing it.

    Parameters
    ----------
    folder
        Where the store will lie.
    timed
        Compute a few tiles to tell memory and time; reads from the middle of the scene.

    Raises
    ------
    DoesNotFitError
        It can't be done in the memory or on the disk that there is.
    """
    lattice = Lattice.of(source.shape, settings.tile, settings.overlap, model.multiple)
    working, seconds = 0, None
    if timed:
        working, each = probe(source, model, prompts.prompts, lattice)
        seconds = each * lattice.count
    plan, _, needs = fitted_plan(
        source.shape, model, prompts, settings, working=working, held=held_bytes(source)
    )
    allowed = memory.allowed_bytes(settings.memory)
    budget = memory.budget(needs, allowed, asked=settings.memory is not None)
    disk = disk_bytes(plan, len(prompts))
    free = check_disk(plan, len(prompts), Path(folder))
    vram = getattr(model, "vram_bytes", None)
    return Estimate(
        tiles=lattice.count,
        blocks=plan.block_count,
        redundancy=round(lattice.redundancy, 4),
        memory_bytes=budget.total,
        memory_allowed=allowed,
        vram_bytes=vram(lattice.tile_shape, len(prompts), plan.batch) if callable(vram) else None,
        disk_bytes=disk,
        disk_free=free,
        seconds=seconds,
    )


def probe(
    source: TileSource,
    model: SegmentationModel,
    prompts: Sequence[Prompt],
    lattice: Lattice,
    *,
    calls: int = _TIMED_TILES,
) -> tuple[int, float]:
    """Bytes that the model takes at work beyond its answer, and its seconds for one tile."""
    middle = Tile(lattice.planes // 2, lattice.rows.count // 2, lattice.columns.count // 2)
    read = read_tile(source, lattice, middle)
    if read.pixels is None:
        read = replace(read, pixels=np.zeros((3, *lattice.tile_shape), dtype=np.float32))
    inference = Inference(model, prompts)  # a fault of the model is for the run to report
    times: list[float] = []

    def compute() -> None:
        for _ in range(calls):
            begin = time.perf_counter()
            inference([read])
            times.append(time.perf_counter() - begin)

    grown = metering.measured(compute)
    # The first call warms caches up.
    return grown, statistics.median(times[1:] or times)


def fitted_plan(
    shape: tuple[int, int, int],
    model: SegmentationModel,
    prompts: PromptSet,
    settings: SegmentSettings,
    *,
    working: int = 0,
    held: int = 0,
    plan: Plan | None = None,
) -> tuple[Plan, int, memory.Needs]:
    """The plan with the largest usual blocks that fit the memory, the limit, and its needs.

    ``working`` is what the model takes at work, ``held`` what the source keeps.
    Blocks never change an answer, so a tight limit makes them smaller before it is refused.
    """
    fixed = plan is not None
    batch = settings.batch or int(getattr(model, "preferred_batch", 1))
    plan = plan or Plan.make(shape, len(prompts), settings, multiple=model.multiple, batch=batch)
    allowed = memory.allowed_bytes(settings.memory)
    base = memory.process_bytes()
    workers = local_workers(settings)
    found = needs(plan, len(prompts), base, working, workers, held)
    while not fixed and found.least > allowed:
        smaller = _smaller(plan)
        if smaller is None:
            break
        plan = smaller
        found = needs(plan, len(prompts), base, working, workers, held)
    return plan, allowed, found


def local_workers(settings: SegmentSettings) -> int:
    """Processes on this machine that share its memory; those of a cluster elsewhere don't."""
    return settings.workers if settings.workers > 1 and settings.scheduler is None else 0


def held_bytes(source: TileSource) -> int:
    """What a source keeps of what it read; 0 where it keeps nothing or does not tell."""
    return int(getattr(source, "held_bytes", 0))


def needs(
    plan: Plan, prompts: int, base: int, working: int = 0, workers: int = 0, held: int = 0
) -> memory.Needs:
    """Bytes of each part of a run; ``workers`` as in `digseg.memory.Needs`."""
    height, width = plan.lattice.tile_shape
    tile = 4 * 3 * height * width * plan.batch
    answer = 4 * prompts * height * width * plan.batch
    # The model's answer exists once inside the model, too (its last activation).
    model = max(working, answer + tile)
    return memory.Needs(
        base, model, tile, answer, block_bytes(plan, prompts), workers, memory.FILES + held
    )


def block_bytes(plan: Plan, prompts: int) -> int:
    """Peak of the block being filled: bytes, sums of its ramps, and one prompt being encoded."""
    depth, rows, columns = plan.block
    pixels = depth * rows * columns
    lattice = plan.lattice
    share = 1.0
    for axis in (lattice.rows, lattice.columns):
        share *= 1 - min(1.0, axis.ramp * (axis.count - 1) / axis.length)
    ramps = int(8 * prompts * (1 - share) * pixels)
    lent = pixels * prompts // 2  # parts of border tiles, read back at the start of the block
    return pixels * (prompts + 1) + ramps + lent + 6 * pixels


def disk_bytes(plan: Plan, prompts: int) -> int:
    """Upper bound of the store: all levels uncompressed, coverage, and one row of lent parts."""
    planes, rows, columns = plan.lattice.shape
    pixels = planes * rows * columns
    lent = 2 * prompts * columns * plan.lattice.rows.tile
    return int(pixels * (prompts * 4 / 3 + 1)) + lent


def check_disk(plan: Plan, prompts: int, folder: Path) -> int:
    """Free bytes where the store will lie; `DoesNotFitError` when it surely can't hold it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    bound = disk_bytes(plan, prompts)
    if free < _LEAST_DISK_SHARE * bound:
        raise DoesNotFitError(
            f"The probabilities take up to {format_size(bound)}, but {format_size(free)} are free "
            f"on the disk of {folder}: free some space or write elsewhere with --probabilities."
        )
    return free


def _smaller(plan: Plan) -> Plan | None:
    depth, rows, columns = plan.block
    if depth > 1:
        return replace(plan, block=(depth // 2, rows, columns))
    if max(rows, columns) <= _SMALLEST_BLOCK:
        return None
    if rows >= columns:
        return replace(plan, block=(depth, rows // 2, columns))
    return replace(plan, block=(depth, rows, columns // 2))
