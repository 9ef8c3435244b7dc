"""Files in and out: the only room that knows formats. Level 4.

The faces below import their format when they need it, so that ``import digseg.io`` is instant.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digseg.io.difference import Difference
    from digseg.raster import Mask, Raster, Volume

__all__ = ["info", "read", "verify", "write_mask"]


def read(
    path: str | os.PathLike[str], *, time: int = 0, series: str | None = None
) -> Raster | Volume:
    """Open a file, folder or URL lazily.

    Parameters
    ----------
    path
        Anything that one of the formats of `digseg.io.registry` knows.
    time
        Time point of a 4-D volume, from 0.
    series
        Which of several: the UID of a DICOM series, the path of an array in a Zarr store, the
        name of a subdataset.

    Raises
    ------
    InputNotFoundError
        There is nothing at that path.
    UnsupportedInputError
        No reader takes it; the message says why.
    CorruptInputError
        It is damaged.
    """
    from digseg.io import registry

    return registry.read(path, time=time, series=series)


def info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the reader of ``path`` sees, as JSON-ready values; see `docs/formats.md`.

    Raises
    ------
    InputError
        As `read`; pixels are sampled, so that a file with damaged pixels is refused as well.
    """
    from digseg.io import registry

    return registry.info(path)


def write_mask(
    mask: Mask,
    path: str | os.PathLike[str],
    *,
    source: Raster | Volume | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write labels with their grid, names and colours; the format follows from the name.

    Parameters
    ----------
    mask
        Labels; a lazy array is read block by block.
    path
        Where to; ``.tif``, ``.nii.gz``, ``.ome.zarr``, ``.png`` ... A temporary file beside it is
        renamed when it is whole.
    source
        What the labels were made from: its GCPs, RPCs, header or DICOM series are carried over.
    overwrite
        Replace what is there.

    Returns
    -------
    All files written, the main one first.

    Raises
    ------
    UsageError
        No writer takes that name, or it can't hold these labels.
    OutputExistsError
        Something is there already and ``overwrite`` is false.
    DoesNotFitError
        The disk is full; nothing half-written stays.
    """
    from digseg.io import registry

    return registry.write_mask(mask, path, source=source, overwrite=overwrite)


def verify(
    input_path: str | os.PathLike[str] | Raster | Volume,
    output_path: str | os.PathLike[str],
    *,
    series: str | None = None,
    nodata: int | None = None,
) -> list[Difference]:
    """Reopen both files and list what differs in place and labels; empty when all is equal.

    An opened image may stand for the input: one of several series, say, or a time point. For a
    path, ``series`` names it, as for `read`. ``nodata`` is a label without a name that may be in
    the output: voxels of failed tiles, for which volumes have no word.
    """
    from digseg.io.verification import compare

    return compare(input_path, output_path, series=series, nodata=nodata)
