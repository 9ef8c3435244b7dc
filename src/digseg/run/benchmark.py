"""The engine's own row of the benchmark table: a whole run on a made-up scene, measured."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import OutputError, UsageError
from digseg.events import Callback, Event, RunPlanned, ignore
from digseg.metering import PeakMeter
from digseg.prompts import Prompt, PromptSet
from digseg.run.execute import execute, load_model, start_workers
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from digseg.types import Float32Array, LazyArray, SegmentationModel


@dataclass(frozen=True)
class Task:
    """What to measure.

    Parameters
    ----------
    shape
        Rows and columns of the scene.
    classes
        Prompts.
    work
        ``"convnet"``: four convolutions; ``"cheap"``: NumPy only, for scenes whose size is the
        point; or the name or folder of a model.
    share
        Share of the scene that holds data; the rest is a hole in the file.
    in_one_piece
        That hole is one piece; else it is blocks of 512 pixels here and there.
    settings
        Tile, overlap, memory, workers ...
    """

    shape: tuple[int, int]
    classes: int = 2
    work: str = "convnet"
    share: float = 1.0
    in_one_piece: bool = False
    settings: SegmentSettings = field(default_factory=SegmentSettings)


class Cheap:
    """Answers with the tile's own channels: a model whose cost is next to nothing."""

    multiple = 1
    identity = "cheap"

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        channels = [index % tiles.shape[1] for index in range(len(prompts))]
        return np.ascontiguousarray(tiles[:, channels])


def run_benchmark(
    task: Task, folder: Path | None = None, *, callback: Callback = ignore
) -> dict[str, Any]:
    """Make the scene, run it from file to file, and tell the figures.

    Returns
    -------
    JSON-ready figures: ``fwd_over_wall`` (seconds in the model over seconds in all),
    ``bytes_per_pixel`` (growth of peak memory over the idle process, for each image pixel),
    ``redundancy`` (computed over image pixels), ``megapixels_per_second``, ``output_sha256`` (of
    the label pixels) and what they were computed from. ``start_seconds`` is what workers took to
    start, before the clock ran.

    Raises
    ------
    OutputError
        The folder can't be made.
    """
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder {folder} can't be made ({error.strerror}): name another with --folder."
            ) from error
        return _measure(task, folder, callback)
    with tempfile.TemporaryDirectory(prefix="digseg-benchmark-") as made:
        return _measure(task, Path(made), callback)


def _measure(task: Task, folder: Path, callback: Callback) -> dict[str, Any]:
    from digseg.io.synthetic import write_scene

    rows, columns = task.shape
    piece = "-piece" if task.in_one_piece else ""
    scene = folder / f"scene-{rows}x{columns}-{task.share:g}{piece}.tif"
    if not scene.exists():
        partial = scene.with_suffix(".partial.tif")
        write_scene(partial, task.shape, share=task.share, in_one_piece=task.in_one_piece)
        partial.rename(scene)
    prompts = PromptSet.parse([f"class {index + 1}" for index in range(task.classes)])
    model = _model(task)
    store = folder / "probabilities.zarr"
    outputs = Outputs(labels=folder / "labels.tif", probabilities=store)
    job = Job(str(scene), prompts, task.settings, outputs, overwrite=True)
    planned = [0]

    def listen(event: Event) -> None:
        if isinstance(event, RunPlanned):
            planned[0] = event.memory_bytes
        callback(event)

    # Libraries are loaded before the clock runs, as those of the other engines are; so workers,
    # which load them once more, are there, too.
    importlib.import_module("digseg.engine")
    before = _written()
    workers = task.settings.workers
    with start_workers(task.settings, model) as helpers:
        started = helpers.wait()
        with PeakMeter(family=workers > 1) as meter:
            begin = time.perf_counter()
            result = execute(job, model=model, callback=listen, workers=helpers)
            seconds = time.perf_counter() - begin
    written = _written() - before
    pixels = rows * columns
    stored = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    outputs_bytes = (folder / "labels.tif").stat().st_size
    lattice = result.store.plan.lattice
    return {
        "engine": "digseg",
        "rows": rows,
        "columns": columns,
        "classes": task.classes,
        "tile": task.settings.tile,
        "overlap": task.settings.overlap,
        "work": task.work,
        "share": task.share,
        "in_one_piece": task.in_one_piece,
        # Workers are in the model at the same time.
        "fwd_over_wall": round(result.model_seconds / seconds / max(1, workers), 4),
        "bytes_per_pixel": round(meter.grown / pixels, 3),
        "redundancy": round(lattice.computed_pixels / pixels, 4),
        "megapixels_per_second": round(pixels / seconds / 1e6, 4),
        "output_sha256": hash_labels(result.mask.labels),
        "write_amplification": round(written / (stored + outputs_bytes), 3),
        "seconds": round(seconds, 3),
        "model_seconds": round(result.model_seconds, 3),
        "start_seconds": round(started, 3),
        "tiles": result.tiles,
        "failed_tiles": result.failed_tiles,
        "blocks": result.store.plan.block_count,
        "idle_bytes": meter.start_bytes,
        "peak_bytes": meter.peak,
        "usual_bytes": meter.usual,
        "planned_bytes": planned[0],
        "store_bytes": stored,
    }


def _written() -> int:
    """Bytes that this process has written so far; 0 where the system does not tell."""
    import psutil

    process = psutil.Process()
    if not hasattr(process, "io_counters"):  # macOS
        return 0
    return int(getattr(process.io_counters(), "write_chars", 0))


def hash_labels(labels: LazyArray, rows: int = 512) -> str:
    """SHA-256 of the pixels of ``labels [y, x]``, row by row."""
    digest = hashlib.sha256()
    for top in range(0, labels.shape[0], rows):
        digest.update(np.ascontiguousarray(labels[top : top + rows, :]).tobytes())
    return digest.hexdigest()


def set_threads(count: int) -> None:
    """Threads that networks use from now on in this process.

    Raises
    ------
    UsageError
        It is no number from 1 on.
    """
    if count < 1:
        raise UsageError(f"The number of threads can't be {count}.")
    from digseg.model import convnet

    convnet.set_threads(count)


def _model(task: Task) -> SegmentationModel:
    if task.work == "cheap":
        return Cheap()
    if task.work == "convnet":
        from digseg.model.convnet import ConvNetModel

        return ConvNetModel(task.classes)
    return load_model(task.settings.with_(model=task.work))
