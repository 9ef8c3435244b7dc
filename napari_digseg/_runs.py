"""One run as the viewer sees it: its job, its store, its layers. No Qt."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from digseg.engine import ProbabilityStore
from digseg.events import BlockWritten
from digseg.lazy import Bounds
from digseg.orientation import Turn, planes_across
from digseg.prompts import PromptSet
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from napari_digseg._coverage import Coverage
from napari_digseg._inputs import Target, placed_like
from napari_digseg._live import LiveLabels
from napari_digseg._order import View
from napari_digseg._places import Place, close_calls, disagreements
from napari_digseg._results import result_layer
from napari_digseg._state import State
from napari_digseg._summaries import histograms

_DRAW_EVERY = 0.15  # seconds: each time the whole canvas is painted


@dataclass(eq=False)
class Run:
    """A run and what it has given so far.

    Parameters
    ----------
    number
        Identifies the run between viewer and engine.
    job
        What was asked for, with the region in the file's order.
    target, bounds
        The file behind the layer, and the region in the layer's axes.
    image_layer
        The layer that is segmented.
    asked
        The settings as the form gave them; the job's own are settled when it has run.
    blocks_done, blocks, blocks_kept
        How many are done, how many there are, and how many were done before it was resumed.
    """

    number: int
    job: Job
    target: Target
    bounds: Bounds | None
    image_layer: Any
    blocks_done: int = 0
    blocks: int = 0
    blocks_kept: int = 0
    tiles: int = 0
    failed: int = 0
    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)
    store: ProbabilityStore | None = None
    live: LiveLabels | None = None
    labels: Any = None
    coverage: Coverage | None = None
    histograms: dict[str, Any] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="digseg run")
    )
    _pending: list[Future[Any]] = field(default_factory=list)
    asked: SegmentSettings = field(init=False)
    _counted: bool = False
    _drawn: float = 0.0  # when layers were drawn last

    def __post_init__(self) -> None:
        self.asked = self.job.settings

    @property
    def store_path(self) -> Path:
        assert self.job.outputs.probabilities is not None
        return self.job.outputs.probabilities

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the result, in the layer's axes."""
        bounds = self.bounds or tuple((0, side) for side in self.target.shape)
        return tuple(high - low for low, high in bounds)

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(low for low, _ in self.bounds) if self.bounds else (0,) * self.target.ndim

    @property
    def to_layer(self) -> Turn | None:
        """From the store's planes to the layer's axes; `None` for a raster."""
        if self.target.ndim == 2:
            return None
        planes = self.job.settings.planes
        return planes_across("z" if planes == "zyx" else planes).inverse

    # -- layers ----------------------------------------------------------------------------------

    def attach(
        self, viewer: Any, state: State, filling: Callable[[], bool] = lambda: False
    ) -> bool:
        """Open the store, once there is one, and show its labels and coverage.

        Parameters
        ----------
        filling
            Tells whether the engine fills the store now.
        """
        if self.live is not None:
            return True
        # The engine makes the coverage last: before that the store is not whole.
        if not (self.store_path / "coverage" / "zarr.json").exists():
            return False
        self.store = ProbabilityStore.open(self.store_path)
        if self.store.prompts.to_list() != self.job.prompts.to_list():
            return False
        self.live = LiveLabels(
            self.store, state.run_settings, self.to_layer, state.suppressed, filling
        )
        self._show_labels(viewer)
        if self.coverage is not None:
            self.coverage.remove(viewer)
        place = partial(placed_like, self.image_layer, self.target, self.starts)
        self.coverage = Coverage(self.store, self.to_layer, place)
        self._pending.append(self._pool.submit(self.coverage.read))
        return True

    def _show_labels(self, viewer: Any) -> None:
        assert self.live is not None
        place = placed_like(self.image_layer, self.target, self.starts)
        if self.labels is not None and self.labels in viewer.layers:
            viewer.layers.remove(self.labels)
        self.labels = result_layer(
            self.live.levels, self.job, self.target, self.image_layer.name, place
        )
        viewer.add_layer(self.labels)

    def show_coverage(self, viewer: Any, visible: bool) -> None:
        """Show which parts are done, failed, without data or still pending."""
        if self.coverage is not None:
            self.coverage.show(viewer, visible)

    # -- progress --------------------------------------------------------------------------------

    def count_blocks(self, done: int, total: int) -> None:
        """Take in how far the engine is with what it was asked for."""
        self.blocks = max(self.blocks, total)
        self.blocks_kept = self.blocks - total
        self.blocks_done = self.blocks_kept + done

    def block_written(self, event: BlockWritten) -> None:
        """Take in a finished block (an event for each of its planes)."""
        self.count_blocks(event.done, event.total)
        if self.live is None:
            return
        self.live.block_written(event.plane, event.window)
        if self.coverage is not None:
            self._pending.append(self._pool.submit(self.coverage.update, event))

    def refresh(self, *, running: bool = False) -> bool:
        """Show what is new; whether anything was.

        Parameters
        ----------
        running
            Pieces come in: they are drawn a few times a second, and no thumbnail.
        """
        now = time.monotonic()
        if running and now - self._drawn < _DRAW_EVERY:
            return False
        changed = False
        if self.live is not None and self.live.take_changed() and self.labels is not None:
            self.labels.refresh(extent=False, thumbnail=not running)
            changed = True
        if self.coverage is not None:
            changed |= self.coverage.refresh()
        if self._counted:
            self._counted = False
            changed = True
        if changed:
            self._drawn = now
        for future in [future for future in self._pending if future.done()]:
            self._pending.remove(future)
            future.result()
        return changed

    def show_all(self) -> None:
        """Take in the whole store, whatever was heard of its blocks."""
        if self.live is not None and self.store is not None:
            planes, rows, columns = self.store.shape
            for plane in range(planes):
                self.live.block_written(plane, (0, rows, 0, columns))

    @property
    def spread_path(self) -> Path | None:
        """Where the spread of the ensemble stands; `None` before or without one."""
        path = self.job.outputs.uncertainty
        return path if path is not None and path.exists() else None

    def find_places(self, settings: SegmentSettings) -> Future[list[Place]]:
        """The least certain places, found in a thread."""
        assert self.store is not None
        if self.spread_path is not None:
            return self._pool.submit(disagreements, self.spread_path, self.target.turn)
        return self._pool.submit(close_calls, self.store, settings, self.to_layer)

    def count(self) -> None:
        """Read the histograms of the probabilities, in a thread."""
        if self.store is None:
            return
        store = self.store

        def read() -> None:
            self.histograms = histograms(store)
            self._counted = True

        self._pending.append(self._pool.submit(read))

    @property
    def busy(self) -> bool:
        """Whether a thread of this run still works on what is shown."""
        return bool(self._pending)

    # -- what follows from it --------------------------------------------------------------------

    def view(self, visible: Bounds) -> View:
        """What is on screen, in planes and pixels of the store."""
        inside = tuple(
            (max(0, low - start), max(1, high - start))
            for (low, high), start in zip(visible, self.starts, strict=True)
        )
        if self.target.ndim == 2:
            (top, bottom), (left, right) = inside
            return View((0, 1), (top, bottom, left, right))
        turn = self.to_layer
        assert turn is not None
        clipped = tuple(
            (min(low, side - 1), min(high, side))
            for (low, high), side in zip(inside, self.shape, strict=True)
        )
        planes, rows, columns = turn.bounds(clipped, turn.inverse.shape(self.shape))
        return View(planes, (*rows, *columns))

    def told(self, state: State, output: Path | None = None) -> Job:
        """The job that gives the same labels from the command line."""
        # Only what moves without a new run comes from the form as it is now.
        settings, hidden = self.job.settings, self.job.suppress
        if same_prompts(state, self.job.prompts):
            now, hidden = state.run_settings, state.suppressed
            settings = settings.with_(threshold=now.threshold, thresholds=now.thresholds)
        path = output or Path(self.suggested_name)
        spread = None
        if self.job.outputs.uncertainty is not None:
            spread = path.with_name(f"spread-{Path(self.suggested_name).name}")
        return replace(
            self.job,
            settings=settings,
            suppress=hidden,
            outputs=Outputs(labels=path, uncertainty=spread),
            resume=False,
            overwrite=False,
        )

    @property
    def short_input(self) -> str:
        """The input's name without its folders."""
        return f"…/{Path(self.job.input.rstrip('/')).name}"

    @property
    def suggested_name(self) -> str:
        stem = Path(self.job.input.rstrip("/")).name.split(".")[0] or "labels"
        return f"{stem}-labels{'.tif' if self.target.ndim == 2 else '.nii.gz'}"

    def close(self) -> None:
        """Stop threads; layers stay with what they show."""
        if self.live is not None:
            self.live.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def same_prompts(state: State, prompts: PromptSet) -> bool:
    """Whether the form still asks for exactly these prompts (colours aside)."""

    def key(items: Any) -> list[tuple[Any, ...]]:
        return sorted((p.name, p.synonyms, p.negative) for p in items)

    return key(row.prompt for row in state.rows) == key(prompts)
