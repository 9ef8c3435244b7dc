"""Small labelled sets whose pixels tell their class, and a model that reads it off them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from digseg.prompts import Prompt
from digseg.types import AnyArray, Float32Array

#: A pixel of class ``i`` is grey value ``STEP * i``.
STEP = 20


def write_set(
    folder: Path,
    masks: Mapping[str, Mapping[str, AnyArray]],
    classes: Sequence[tuple[int, str, Sequence[str]]],
    images: Mapping[str, AnyArray] | None = None,
    **extra: Any,
) -> Path:
    """A set with ``masks[split][name]``; images show the class ids unless given."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for named in masks.values():
        for name, mask in named.items():
            shown = np.where(mask == 255, 0, mask) * STEP
            image = shown if images is None or name not in images else images[name]
            Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{name}.png")
            Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    values = {
        "name": folder.name,
        "domain": "aerial",
        "image_ext": ".png",
        "mask_ext": ".png",
        "classes": [{"id": i, "name": n, "synonyms": list(s)} for i, n, s in classes],
        "splits": {split: list(named) for split, named in masks.items()},
    }
    (folder / "dataset.json").write_text(json.dumps(values | extra), encoding="utf-8")
    return folder


@dataclass
class Reader:
    """A fake model: the soft map of a word is 1 where the pixel's grey stands for it.

    ``words`` maps each known word to the ids it stands for, or to a function of the ids; unknown
    words get ``otherwise`` everywhere.
    """

    words: Mapping[str, tuple[int, ...] | Callable[[AnyArray], AnyArray]]
    otherwise: float = 0.0
    multiple: int = 8
    channel: int = 0
    asked: list[tuple[str, ...]] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)

    identity = "reader"

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        assert tiles.dtype == np.float32
        assert tiles.shape[-2] % self.multiple == 0
        assert tiles.shape[-1] % self.multiple == 0
        self.asked.append(tuple(prompt.name for prompt in prompts))
        self.sizes.append(tuple(tiles.shape))
        ids = np.rint(tiles[:, self.channel] * 255 / STEP).astype(int)
        maps = np.full((len(tiles), len(prompts), *ids.shape[1:]), self.otherwise, np.float32)
        for index, prompt in enumerate(prompts):
            meaning = self.words.get(prompt.name)
            if callable(meaning):
                maps[:, index] = meaning(ids)
            elif meaning is not None:
                maps[:, index] = np.isin(ids, meaning)
        return maps
