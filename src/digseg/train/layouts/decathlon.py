"""The Medical Segmentation Decathlon: volumes, one task a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from digseg import io
from digseg.errors import DatasetError, InputError
from digseg.normalize import Stretch, stretch_of
from digseg.orientation import canonical
from digseg.raster import Volume
from digseg.settings import CT_WINDOWS
from digseg.train.layouts.base import LayoutSet, Pair, held_out, make_info, same
from digseg.types import AnyArray, UInt8Array

#: Slices kept on either side of the labelled ones; a whole body scan is mostly without labels.
_MARGIN = 6

#: Names that say what they are, for labels that do so only within their task.
_NAMES: dict[tuple[str, str], tuple[str, ...]] = {
    ("braintumour", "edema"): ("brain tumour oedema", "oedema"),
    ("braintumour", "non-enhancing tumor"): ("non-enhancing brain tumour",),
    ("braintumour", "enhancing tumour"): ("enhancing brain tumour",),
    ("liver", "cancer"): ("liver tumour", "liver cancer", "liver lesion"),
    ("hippocampus", "anterior"): ("anterior hippocampus", "hippocampal head"),
    ("hippocampus", "posterior"): ("posterior hippocampus", "hippocampal tail"),
    ("prostate", "pz"): ("peripheral zone of the prostate",),
    ("prostate", "tz"): ("transition zone of the prostate",),
    ("lung", "cancer"): ("lung tumour", "lung cancer"),
    ("pancreas", "cancer"): ("pancreatic tumour", "pancreatic cancer"),
    ("hepaticvessel", "vessel"): ("hepatic vessel", "liver vessel"),
    ("hepaticvessel", "tumour"): ("liver tumour", "liver cancer"),
    ("colon", "colon cancer primaries"): ("colon cancer", "colon tumour"),
}


def decathlon(folder: Path) -> LayoutSet:
    """One task: ``dataset.json``, ``imagesTr``, ``labelsTr`` (NIfTI).

    One volume in ten, by the hash of its name, is held out as ``val`` (the test labels are not
    public). Of a file with several channels the first is read.
    """
    file = folder / "dataset.json"
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        name, labels, training = str(told["name"]), dict(told["labels"]), list(told["training"])
        modality = str(next(iter(told["modality"].values())))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{file} can't be read ({error}).") from error
    except (KeyError, TypeError, AttributeError, StopIteration, ValueError) as error:
        raise DatasetError(f"{file} is no description of a Decathlon task ({error}).") from error
    pairs = held_out(tuple(_pair(folder, entry) for entry in training))
    names = {
        int(value): _words(name, str(word)) for value, word in labels.items() if int(value) != 0
    }
    info = make_info(
        folder,
        f"msd-{name.lower()}",
        "ct" if modality.upper() == "CT" else "mr",
        names,
        pairs,
        modality,
    )
    return LayoutSet(info, pairs, same(list(names)), _read)


def _pair(folder: Path, entry: Any) -> Pair:
    if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
        raise DatasetError(f"{folder / 'dataset.json'}: {entry!r} is no pair of image and label.")
    image, label = folder / str(entry["image"]), folder / str(entry["label"])
    for file, other in ((image, label), (label, image)):
        if not file.exists():
            raise DatasetError(f"{file} is missing: the pair of {other} is broken.")
    return Pair(image.name.removesuffix(".gz").removesuffix(".nii"), image, label)


def _words(task: str, word: str) -> tuple[str, ...]:
    key = (task.lower().replace(" ", "").replace("_", ""), word.strip().lower())
    return _NAMES.get(key, (word.strip().lower(),))


def _read(source: LayoutSet, pair: Pair) -> tuple[UInt8Array, AnyArray]:
    """Planes in LPS around the labelled ones, windowed (CT) or stretched (MR) as a whole."""
    grey, values = (_volume(file) for file in (pair.image, pair.mask))
    if grey.shape != values.shape:
        sizes = [" x ".join(map(str, item.shape)) for item in (values, grey)]
        raise DatasetError(f"{pair.mask} is {sizes[0]} but its image is {sizes[1]}.")
    if source.info.domain == "ct":
        low, high = CT_WINDOWS["soft-tissue"]
        stretch = Stretch((low,), (high,))
    else:
        everywhere = np.ones(grey.size, dtype=bool)
        stretch = stretch_of(grey.reshape(1, -1), everywhere, np.dtype(np.float32))
    marked = np.flatnonzero((values != 0).any(axis=(1, 2)))
    if marked.size:
        span = slice(max(0, int(marked[0]) - _MARGIN), int(marked[-1]) + _MARGIN + 1)
        grey, values = grey[span], values[span]
    unit = stretch.apply(grey[None])[0]
    return np.round(unit * 255).astype(np.uint8)[..., None], values


def _volume(file: Path) -> AnyArray:
    try:
        volume = io.read(file)
    except InputError as error:
        raise DatasetError(f"{file} can't be read: {error}") from error
    if not isinstance(volume, Volume):
        raise DatasetError(f"{file} is no volume.")
    return canonical(volume.grid).apply(np.asarray(volume.data[:, :, :]))
