"""What of a run is done, and the layer that shows it. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from digseg.engine import ProbabilityStore
from digseg.events import BlockWritten
from digseg.orientation import Turn
from digseg.types import UInt8Array
from napari_digseg._summaries import coverage_map, read_coverage

_COVERAGE_COLORS = {
    None: (0.0, 0.0, 0.0, 0.0),
    0: (0.0, 0.0, 0.0, 0.0),
    1: (0.28, 0.66, 0.42, 1.0),
    2: (0.90, 0.22, 0.21, 1.0),
    3: (0.60, 0.60, 0.65, 1.0),
}
_COVERAGE_NAMES = ["pending", "done", "failed", "no data"]


class Coverage:
    """The coverage of a store that fills: read in a thread, shown by the event loop.

    Parameters
    ----------
    store
        The run's store.
    turn
        From the store's planes to the layer's axes; `None` for a raster.
    place
        Where the result lies, as keyword arguments of a layer, by how many of its pixels one of
        the map stands for.
    """

    def __init__(
        self, store: ProbabilityStore, turn: Turn | None, place: Callable[..., dict[str, Any]]
    ) -> None:
        self._store, self._turn, self._place = store, turn, place
        self._data: UInt8Array | None = None
        self._factor = 1
        self._changed = False
        self.layer: Any = None

    def read(self) -> None:
        """Read all of it, in a thread."""
        self._data, self._factor = coverage_map(self._store)
        self._changed = True

    def update(self, event: BlockWritten) -> None:
        """Read the part of a new block, in the same thread."""
        assert self._data is not None
        planes = (event.plane, event.plane + 1)
        read_coverage(self._store, self._data, self._factor, planes, event.window)
        self._changed = True

    def show(self, viewer: Any, visible: bool) -> None:
        """Show which parts are done, failed, without data or still pending."""
        if self._data is None:
            return
        if self.layer is None or self.layer not in viewer.layers:
            if not visible:
                return
            self.layer = coverage_layer(self._data, self._factor, self._turn, self._place)
            active = viewer.layers.selection.active
            viewer.add_layer(self.layer)
            viewer.layers.selection.active = active  # hovering goes on to name the labels
        self.layer.visible = visible

    def remove(self, viewer: Any) -> None:
        """Take the layer away: another store is shown from now on."""
        if self.layer is not None and self.layer in viewer.layers:
            viewer.layers.remove(self.layer)

    def refresh(self) -> bool:
        """Draw what is new; whether anything was."""
        changed, self._changed = self._changed, False
        if changed and self.layer is not None and self.layer.visible:
            self.layer.refresh(extent=False, thumbnail=False)
        return changed


def coverage_layer(
    data: UInt8Array, factor: int, turn: Turn | None, place: Callable[..., dict[str, Any]]
) -> Any:
    """A Labels layer over a reduced coverage map.

    Parameters
    ----------
    data, factor
        As `napari_digseg._summaries.coverage_map` gives them; the layer is a view of ``data``.
    turn
        From the store's planes to the layer's axes; `None` for a raster.
    place
        Where the result lies, as keyword arguments of a layer, by how many of its pixels one of
        ``data`` stands for.
    """
    from napari.layers import Labels

    steps = [1.0, factor, factor]
    steps = steps[1:] if turn is None else [steps[axis] for axis in turn.order]
    return Labels(
        data[0] if turn is None else turn.apply(data),
        name="coverage",
        opacity=0.35,
        colormap=_COVERAGE_COLORS,
        features={"index": list(range(4)), "state": _COVERAGE_NAMES},
        **place(steps),
    )
