"""What the engine reads of an image: pixels as the model sees them, where they are asked for."""

from __future__ import annotations

from digseg.orientation import Axis
from digseg.raster import Raster, Volume
from digseg.run.outline import outlined
from digseg.settings import SegmentSettings
from digseg.types import TileSource


def source_of(
    image: Raster | Volume, settings: SegmentSettings, axis: Axis | None = None
) -> TileSource:
    """The planes of an image, limited to its outline.

    Parameters
    ----------
    axis
        Slice axis of a volume; the settings' by default.
    """
    if isinstance(image, Volume):
        from digseg.run.volumes import plane_turn, volume_source

        turn = plane_turn(image.grid, settings, axis)
        return outlined(volume_source(image, settings, axis), image, turn)
    from digseg.run.sources import raster_source

    return outlined(raster_source(image, settings), image)
