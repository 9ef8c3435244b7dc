"""What runs in a worker process: the border tiles of a block, then the block. Idempotent.

A task may run twice, when a worker is killed after its work and before its answer is home: it
then writes the same files with the same bytes. The journal is the driver's alone.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digseg.blend import Contribution, contribute
from digseg.engine.durable import Seal
from digseg.engine.infer import Answer, Inference, Meter
from digseg.engine.lending import Lending
from digseg.engine.plan import Batch, Block
from digseg.engine.reading import ReadTile, read_batch
from digseg.engine.store import ProbabilityStore
from digseg.engine.writing import BlockWriter
from digseg.memory import check_within, few_pools, large_pages
from digseg.prompts import PromptSet
from digseg.tiles import Tile
from digseg.types import SegmentationModel, TileSource

#: A tile that failed, and why.
Failures = dict[Tile, str]


@dataclass(frozen=True)
class Kit:
    """All that a worker needs; unpickled, and so the model loaded, once in each process.

    ``allowed`` is the memory that the worker may take; `None` for no limit.
    """

    source: TileSource
    model: SegmentationModel
    prompts: PromptSet
    store: Path
    allowed: int | None = None


@dataclass
class Report:
    """What a task did."""

    failed: Failures = field(default_factory=dict)
    files: dict[str, Seal] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    lent_bytes: int = 0
    tiles: int = 0


def packed(kit: Kit) -> bytes:
    """A kit as bytes; models and sources of scripts and notebooks travel, too."""
    import cloudpickle  # type: ignore[import-untyped]

    content: bytes = cloudpickle.dumps(kit)
    return content


_opened: dict[bytes, Bench] = {}
_opening = threading.Lock()


@dataclass
class Bench:
    """A kit unpacked."""

    kit: Kit
    store: ProbabilityStore

    @property
    def lending(self) -> Lending:
        return Lending(self.store.private / "lent")


def unpacked(content: bytes) -> Bench:
    """The kit of this process; only one is kept, so that an old model's memory is free."""
    key = hashlib.sha256(content).digest()
    with _opening:
        if key not in _opened:
            _opened.clear()
            few_pools()
            large_pages()
            kit: Kit = pickle.loads(content)  # from our own driver, over dask's channel
            _opened[key] = Bench(kit, ProbabilityStore.open(kit.store, writable=True))
        return _opened[key]


def compute_border(content: bytes, wanted: Sequence[tuple[Batch, Mapping[Block, Any]]]) -> Report:
    """Compute batches that several blocks need and lend each block its parts.

    Parameters
    ----------
    wanted
        For each batch, the blocks that lack something of it, and which tiles.
    """
    bench = unpacked(content)
    report = Report()
    inference = Inference(bench.kit.model, bench.kit.prompts.prompts)
    blocks = dict(wanted)
    for batch, answers in _answers(bench, inference, [batch for batch, _ in wanted]):
        report.failed.update(_failures(answers))
        report.lent_bytes += _lend(bench, answers, blocks[batch])
        answers.clear()  # before the next is computed: they are large
        report.tiles += len(batch)
    report.meter = inference.meter
    return report


def _lend(bench: Bench, answers: Sequence[Answer], blocks: Mapping[Block, Any]) -> int:
    """Lend each block what it lacks of a batch; returns the bytes written."""
    plan, written = bench.store.plan, 0
    for block, tiles in blocks.items():
        parts: list[Contribution] = []
        for answer in answers:
            if answer.failed or answer.read.tile not in tiles:
                continue
            part = contribute(
                plan.lattice,
                answer.read.tile,
                plan.window(block),
                answer.values,
                answer.read.valid,
            )
            if part is not None:
                parts.append(part)
        if parts:
            written += bench.lending.put(block, parts)
    return written


def compute_block(
    content: bytes,
    block: Block,
    lacking: Iterable[Tile],
    reopened: bool,
    batches: Sequence[Batch],
    *borders: Report,
) -> Report:
    """Fill a block: what was lent to it, its inner batches, then its shards.

    Parameters
    ----------
    lacking
        Tiles that the block lacks.
    reopened
        The block was written before, with tiles missing.
    batches
        Batches that no other block needs.
    *borders
        Reports of the border tasks it waited for: what failed there fails here.
    """
    bench = unpacked(content)
    ledger = _Ledger(block, frozenset(lacking), reopened)
    writer = BlockWriter(bench.store, ledger)
    writer.skip({tile for border in borders for tile in border.failed})
    inference = Inference(bench.kit.model, bench.kit.prompts.prompts)
    report = Report()
    writer.begin(block)
    for batch, answers in _answers(bench, inference, batches):
        report.failed.update(_failures(answers))
        writer.take(answers)  # and empty it before the next is computed: answers are large
        report.tiles += len(batch)
    written = writer.end()
    report.files = written.files
    reasons = {tile: reason for border in borders for tile, reason in border.failed.items()}
    report.failed = {t: report.failed.get(t, reasons.get(t, "")) for t in written.failed}
    report.meter = inference.meter
    return report


@dataclass
class _Ledger:
    """Stands for the run's state while one block is filled; records nothing."""

    block: Block
    lacking: frozenset[Tile]
    reopened: bool

    @property
    def missing(self) -> Mapping[Block, frozenset[Tile]]:
        return {self.block: self.lacking} if self.reopened else {}

    def needs(self, block: Block) -> frozenset[Tile]:
        return self.lacking if block == self.block else frozenset()

    def needed(self, tile: Tile, block: Block) -> bool:
        return False  # inner batches are lent to nobody

    def commit(self, block: Block, failed: Sequence[Tile], files: Mapping[str, Seal]) -> None:
        return None


def _answers(
    bench: Bench, inference: Inference, batches: Sequence[Batch]
) -> Iterator[tuple[Batch, list[Answer]]]:
    """Batches through the model, the next one read meanwhile."""
    source, lattice = bench.kit.source, bench.store.plan.lattice
    if not batches:
        return
    with ThreadPoolExecutor(1, thread_name_prefix="digseg tile") as pool:
        ahead = pool.submit(read_batch, source, lattice, batches[0])
        for index, batch in enumerate(batches):
            tiles: list[ReadTile] = ahead.result()
            if index + 1 < len(batches):
                ahead = pool.submit(read_batch, source, lattice, batches[index + 1])
            yield batch, inference(tiles)
            if bench.kit.allowed is not None:
                check_within(bench.kit.allowed, worker=True)


def _failures(answers: Sequence[Answer]) -> Failures:
    return {answer.read.tile: answer.reason for answer in answers if answer.failed}
