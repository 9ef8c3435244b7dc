"""The layer that shows what of a run is done. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np

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


def coverage_layer(data: UInt8Array, factor: int, turn: Turn | None, placed: dict[str, Any]) -> Any:
    """A Labels layer over a reduced coverage map.

    Parameters
    ----------
    data, factor
        As `napari_digseg._summaries.coverage_map` gives them; the layer is a view of ``data``.
    turn
        From the store's planes to the layer's axes; `None` for a raster.
    placed
        Where the result lies, as keyword arguments of a layer.
    """
    from napari.layers import Labels

    scale = np.asarray(placed["scale"])
    steps = np.ones(len(scale))
    steps[-2:] = factor
    if turn is not None and turn != Turn():
        steps = np.asarray([1.0, factor, factor])[list(turn.order)]
    # A reduced pixel is centred between those it stands for.
    translate = np.asarray(placed["translate"]) + scale * (steps - 1) / 2
    return Labels(
        data[0] if turn is None else turn.apply(data),
        name="coverage",
        opacity=0.35,
        colormap=_COVERAGE_COLORS,
        features={"index": list(range(4)), "state": _COVERAGE_NAMES},
        **{**placed, "translate": tuple(translate), "scale": tuple(scale * steps)},
    )
