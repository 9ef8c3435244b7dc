"""What settings leave to the model: settled before a run, so that its recipe says all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from digseg.normalize import false_colour_bands
from digseg.raster import Raster, Volume
from digseg.run.job import Job
from digseg.types import PropagatingModel, SegmentationModel


def settled(job: Job, image: Raster | Volume, model: SegmentationModel) -> Job:
    """The job with what its settings leave to the model.

    A volume's slices start from their neighbours' results where the model recommends it (for all
    volumes, or for some modalities), unless
    the job asks for three planes, several steps or an ensemble, each of which is another way to
    spend the time. A raster's bands are those of `recommended_bands`, its scales those of
    `recommended_scales`.
    """
    settings = job.settings
    hints: Mapping[str, Any] = getattr(model, "recommended", {})
    if isinstance(image, Raster):  # a picture has no neighbours
        bands = settings.bands or recommended_bands(image, image.band_names, hints)
        scales = settings.scales or recommended_scales(image, hints)
        return replace(job, settings=settings.with_(propagate=None, bands=bands, scales=scales))
    if settings.propagate is not None:
        return job
    plain = settings.planes != "zyx" and settings.steps == settings.ensemble == 1
    helps = hints.get("propagate") or False  # or the modalities in which it does
    helps = helps if isinstance(helps, bool) else image.modality in helps
    wanted = plain and helps and isinstance(model, PropagatingModel)
    return replace(job, settings=settings.with_(propagate=wanted))


def recommended_bands(
    raster: Raster, names: Sequence[str], recommended: Mapping[str, Any]
) -> tuple[int, ...]:
    """Bands (from 1) that the model had better see; none where the reader may choose.

    Pixels of ten metres and more show little shape, and near infrared tells water, crops and
    forest apart where natural colour does not. A model that was trained for it recommends a
    composite of near infrared, red and green from some size of pixels on.

    Parameters
    ----------
    names
        Of the raster's bands, as its file or its data set tells them.
    recommended
        Of the model: ``near_infrared`` is the least size of such pixels, metres.
    """
    least = float(recommended.get("near_infrared") or 0)
    metres = _pixel_metres(raster) if least else None
    if metres is None or metres < least:
        return ()
    found = false_colour_bands(names, raster.meta.get("colors", ()))
    return () if found is None else tuple(band + 1 for band in found)


def recommended_scales(image: Raster | Volume, recommended: Mapping[str, Any]) -> tuple[float, ...]:
    """Scales at which the model had better see an image; none for once, as its pixels are.

    How large things are in photos, micrographs and single slices nobody tells, so a model may
    recommend several sizes for them. A scene on the ground is seen once: things have the size
    that they had in training, and scenes are large. So is a volume, whose planes have a size, too.

    Parameters
    ----------
    recommended
        Of the model: ``scales``.
    """
    scales = tuple(float(scale) for scale in recommended.get("scales") or ())
    if not scales or isinstance(image, Volume) or _pixel_metres(image) is not None:
        return ()
    return scales


def _pixel_metres(raster: Raster) -> float | None:
    """Side of the middle pixel on the ground; `None` where the place is not known."""
    from digseg.io.area import PixelAreas

    areas = PixelAreas(raster.grid)
    if not areas.known:
        return None
    row, column = (side // 2 for side in raster.shape)
    area = float(areas.window((row, row + 1, column, column + 1))[0, 0])
    return math.sqrt(area)
