"""The layer that shows what of a run is done. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from digseg.orientation import Turn
from digseg.types import UInt8Array

_COVERAGE_COLORS = {
    None: (0.0, 0.0, 0.0, 0.0),
    0: (0.0, 0.0, 0.0, 0.0),
    1: (0.28, 0.66, 0.42, 1.0),
    2: (0.90, 0.22, 0.21, 1.0),
    3: (0.60, 0.60, 0.65, 1.0),
}
_COVERAGE_NAMES = ["pending", "done", "failed", "no data"]


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
