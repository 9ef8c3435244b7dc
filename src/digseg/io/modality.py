"""What kind of scan a volume is, where its format does not say. The rules stand in
``docs/orientation.md``.

The modality chooses the default window: CT in Hounsfield units, MR by percentiles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from digseg.io._label_names import sidecar_of
from digseg.raster import Modality
from digseg.types import AnyArray, LazyArray

#: NIfTI's intent code for label maps.
_LABELS = 1002

#: Hounsfield units: air is -1000, fat about -100. No other scan has so many values below this.
_AIR, _SHARE_OF_AIR = -200.0, 0.01

#: What scanners write around the field of view, and the densest metal.
_LOWEST, _HIGHEST = -10000.0, 32767.0

#: Resampled MR undershoots zero a little at sharp edges.
_RINGING, _SHARE_OF_RINGING = 0.1, 0.05

_SAMPLES = 64


def of_dicom(text: str) -> Modality:
    """Modality of DICOM's own code."""
    if text == "CT":
        return "CT"
    return "MR" if text == "MR" else "other"


def guess(
    voxels: LazyArray, path: Path | None, intent: int = 0, values: AnyArray | None = None
) -> tuple[Modality, str]:
    """Modality and the reason for it, as a note for people.

    A JSON sidecar of BIDS comes first, then the values: at least 1 % below -200 (air) and none
    outside what Hounsfield units can be is CT; at most 5 % negative, none of them deep, and more
    than 64 different values is MR; everything else (label maps, statistics) is ``"other"``.
    ``values`` are those at `places`, where somebody has them already; voxels that come from no
    file have no ``path``.
    """
    told = None if path is None else _bids(path)
    if told is not None and path is not None:
        return of_dicom(told), f"modality {told} by the sidecar {sidecar_of(path).name}"
    if intent == _LABELS:
        return "other", "modality other: the header says label map"
    values = sample(voxels) if values is None else finite(values)
    if not values.size:
        return "other", "modality other: no finite voxel in the sample"
    low, high = float(values.min()), float(values.max())
    air = float(np.mean(values <= _AIR))
    if low >= _LOWEST and high <= _HIGHEST and air >= _SHARE_OF_AIR:
        return "CT", f"modality CT by its values: {air:.0%} of a sample lie below {_AIR:.0f}"
    negative = float(np.mean(values < 0))
    if low >= -_RINGING * high and negative <= _SHARE_OF_RINGING and np.unique(values).size > 64:
        return "MR", "modality MR by its values: hardly any is negative"
    return "other", "modality other: the values are neither those of a CT nor of an MR"


def of_array(voxels: LazyArray, path: Path | None) -> tuple[Modality, str]:
    """Modality of an array that says nothing of it, and the note: a CT or ``"other"``.

    Stacks of a microscope and probabilities come as such, too, so that nothing but a CT is
    told by the values; unsigned ones hold no Hounsfield units and are not sampled.
    """
    told = None if path is None else _bids(path)
    if told is None and np.dtype(voxels.dtype).kind not in "if":
        return "other", "modality other: unsigned values are no Hounsfield units"
    kind, note = guess(voxels, path)
    if told is None and kind != "CT":
        return "other", "modality other: the values are not those of a CT"
    return kind, note


def sample(voxels: LazyArray) -> AnyArray:
    """Finite values of an even grid of at most 64 x 64 voxels on at most 16 planes."""
    chosen, rows, columns = _lattice(voxels.shape)
    thinned = [np.asarray(voxels[int(k)])[::rows, ::columns].ravel() for k in chosen]
    return finite(np.concatenate(thinned))


def places(shape: tuple[int, ...]) -> AnyArray:
    """Where `sample` looks: ascending indices into the flat array."""
    chosen, down, across = _lattice(shape)
    rows, columns = np.arange(0, shape[1], down), np.arange(0, shape[2], across)
    found: AnyArray = (chosen[:, None, None] * shape[1] + rows[:, None]) * shape[2] + columns
    return found.ravel()


def finite(values: AnyArray) -> AnyArray:
    """Values that are numbers."""
    found: AnyArray = values[np.isfinite(values)]
    return found


def _lattice(shape: tuple[int, ...]) -> tuple[AnyArray, int, int]:
    """Planes, and the steps along rows and columns."""
    planes, rows, columns = shape
    chosen = np.unique(np.linspace(0, planes - 1, min(planes, 16)).astype(int))
    return chosen, max(1, rows // _SAMPLES), max(1, columns // _SAMPLES)


def _bids(path: Path) -> str | None:
    sidecar = sidecar_of(path)
    if not sidecar.is_file() or sidecar.stat().st_size > 1 << 20:
        return None
    try:
        content: Any = json.loads(sidecar.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    told = content.get("Modality") if isinstance(content, dict) else None
    return told if isinstance(told, str) else None
