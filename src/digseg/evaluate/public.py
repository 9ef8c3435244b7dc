"""Public data sets in their makers' layouts, as labelled sets."""

from __future__ import annotations

from pathlib import Path

from digseg.evaluate.dataset import ClassName, LabelledSet
from digseg.train.layouts import open_layout
from digseg.train.layouts.base import Pair
from digseg.types import AnyArray


def open_public(path: Path | str, layout: str | None = None) -> LabelledSet:
    """A public data set; ``layout`` is a name of `digseg.train.layouts.LAYOUTS`.

    Raises
    ------
    DatasetError
        The folder is of no known layout, or a pair of it is broken.
    """
    opened = open_layout(path, layout)
    info = opened.info

    def labels(name: str, image: Path, mask: Path) -> AnyArray:
        _, values = opened.read(opened, Pair(name, image, mask))
        return opened.ids_of(values, mask)

    return LabelledSet(
        folder=Path(path),
        name=info.name,
        domain=info.domain,
        modality=info.modality,
        image_ext="",
        mask_ext="",
        ignore=255,
        classes=tuple(ClassName(item.ids[0], item.name, item.synonyms) for item in info.classes),
        splits=info.splits,
        window=info.window,
        use=info.use,
        licence=info.licence,
        files={
            split: tuple((pair.name, pair.image, pair.mask) for pair in pairs)
            for split, pairs in opened.pairs.items()
        },
        labels=labels,
    )
