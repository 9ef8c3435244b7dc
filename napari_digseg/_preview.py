"""What is on screen, segmented coarsely at once: one call of the model. No Qt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from digseg.engine import LabelRule
from digseg.prompts import PromptSet
from digseg.raster import Raster, Volume
from digseg.resample import Rescale, rescale
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, Float32Array, SegmentationModel, TileSource, Window
from napari_digseg._layers import pyramid

#: Longest side of what the model is shown, in pixels.
SIDE = 512


def preview(
    image: Raster | Volume,
    model: SegmentationModel,
    prompts: PromptSet,
    settings: SegmentSettings,
    plane: int,
    window: Window,
    side: int = SIDE,
    whole: TileSource | None = None,
) -> AnyArray:
    """Labels of a window, at most ``side`` pixels long, in its proportions.

    Parameters
    ----------
    plane
        Canonical plane of a volume; 0 for a raster.
    window
        In pixels of the full resolution.
    whole
        The image's planes, where they were measured before.

    Returns
    -------
    Unsigned ``[h, w]``; 0 where nothing was found or there is no data.
    """
    from digseg.run.asked import source_of
    from digseg.run.magnify import fitted

    source, seen = coarse_source(image, whole or source_of(image, settings), window, side)
    pixels, valid = source.read(plane, seen)
    looking = fitted(model, image, settings)
    tile, rows, columns = shrunk(pixels, side, looking.multiple)
    answer = looking(tile[None], tuple(prompts))[0]
    small = (0, rows.new, 0, columns.new)
    shape = (rows.new, columns.new)
    coverage = rescale(valid[None].astype(np.float32), rows, columns, small)[0] >= 0.5
    values = np.rint(np.clip(answer[:, : shape[0], : shape[1]], 0, 1) * 255).astype(np.uint8)
    labels = LabelRule(prompts, settings)(values, coverage.astype(np.uint8))
    return np.where(coverage, labels, 0).astype(labels.dtype)


def coarse_source(
    image: Raster | Volume, source: TileSource, window: Window, side: int
) -> tuple[TileSource, Window]:
    """The coarsest overview that still has ``side`` pixels along the window, and the window in it.

    Values are stretched as those of the full resolution.
    """
    if isinstance(image, Volume):
        return source, window
    from digseg.run.sources import RasterSource

    assert isinstance(source, RasterSource)
    top, bottom, left, right = window
    longest = max(bottom - top, right - left)
    chosen, factor = image, (1.0, 1.0)
    for level in pyramid(image)[1:]:
        ratio = (image.shape[0] / level.shape[0], image.shape[1] / level.shape[1])
        if longest / max(ratio) < side:
            break
        chosen, factor = level, ratio
    rows, columns = chosen.shape
    seen = (
        min(rows - 1, int(top / factor[0])),
        min(rows, max(int(np.ceil(bottom / factor[0])), int(top / factor[0]) + 1)),
        min(columns - 1, int(left / factor[1])),
        min(columns, max(int(np.ceil(right / factor[1])), int(left / factor[1]) + 1)),
    )
    return replace(source, raster=chosen), seen


def shrunk(pixels: Float32Array, side: int, multiple: int) -> tuple[Float32Array, Rescale, Rescale]:
    """Pixels ``[3, h, w]`` reduced to ``side`` and padded to the model's multiple.

    The padding repeats the border, so that the model sees no false edge.
    """
    height, width = pixels.shape[1:]
    factor = min(1.0, side / max(height, width))
    rows = Rescale(height, max(1, round(height * factor)))
    columns = Rescale(width, max(1, round(width * factor)))
    small = rescale(pixels, rows, columns, (0, rows.new, 0, columns.new))
    down = -rows.new % multiple
    across = -columns.new % multiple
    padded = np.pad(small, ((0, 0), (0, down), (0, across)), mode="edge")
    return np.clip(padded, 0.0, 1.0).astype(np.float32), rows, columns
