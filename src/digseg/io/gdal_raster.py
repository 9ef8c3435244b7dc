"""The long tail: whatever GDAL opens as a raster and no other module took. Last in the list."""

from __future__ import annotations

from typing import Any

from digseg.errors import InputError, UnsupportedInputError
from digseg.io._gdal_open import opened
from digseg.io.gdal import environment
from digseg.io.geotiff import info_gdal, read_gdal
from digseg.io.registry import Probe
from digseg.raster import Raster

_VOLUMES = {".mnc": "MINC", ".mgh": "FreeSurfer", ".mgz": "FreeSurfer", ".par": "Philips PAR/REC"}


def sniff(probe: Probe) -> bool:
    """Ask GDAL's drivers; a remote path is left to `read`, which then says what failed."""
    if probe.kind == "remote":
        return True
    if probe.suffix in _VOLUMES:
        # GDAL would take their slices for bands and know nothing of their space.
        raise UnsupportedInputError(
            f"{probe.path} is a {_VOLUMES[probe.suffix]} volume, which is not read here: "
            "convert it to NIfTI first."
        )
    try:
        with environment(probe.path), opened(probe.path):
            return True
    except UnsupportedInputError:
        return False
    except InputError:
        return True  # its format, but damaged: `read` says how


def read(path: str, *, time: int = 0, series: str | None = None) -> Raster:
    """Open lazily as `Raster`."""
    return read_gdal(path, time=time, series=series)


def info(path: str) -> dict[str, Any]:
    """Facts as for a GeoTIFF."""
    return info_gdal(path)
