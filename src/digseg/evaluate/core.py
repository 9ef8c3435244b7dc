"""Evaluation of a model on labelled sets.

A set is asked for its own vocabulary, by name; the arg-max over it is what is scored (the
threshold where there is one class). Groups, single prompts, absent things and synonyms are
scored beside it. See `docs/evaluation.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from digseg.errors import DatasetError, UsageError
from digseg.evaluate.dataset import LabelledSet
from digseg.evaluate.gallery import Gallery
from digseg.evaluate.items import Item, crop_planes, is_exhaustive, items, spread
from digseg.evaluate.metrics import Counts, iou_of, mean
from digseg.evaluate.predict import Predictor
from digseg.evaluate.scores import SetScores, absent_prompts
from digseg.events import Callback, Notice, StageAdvanced, StageStarted, ignore
from digseg.prompts import Prompt
from digseg.settings import check_scales
from digseg.types import Float32Array, SegmentationModel


@dataclass(frozen=True)
class EvaluateSettings:
    """Choices of an evaluation.

    Parameters
    ----------
    split
        Which split to judge.
    threshold
        Probability from which a pixel belongs to a prompt.
    limit
        At most so many images of each set, evenly spread; `None` for all.
    planes
        At most so many planes of each volume, evenly spread; `None` for all.
    synonyms
        How many synonyms of each class to try.
    absent
        How many things that are not there to ask for.
    budget
        Megapixels times prompts that synonyms and absent things of one set may cost; where that
        is too little for all planes they are asked on evenly spread ones.
    tolerance
        Pixels by which outlines may differ in the boundary F-score.
    tile, overlap, scales
        As for `segment`.

    Raises
    ------
    UsageError
        A value is outside its range.
    """

    split: str = "val"
    threshold: float = 0.5
    limit: int | None = None
    planes: int | None = None
    synonyms: int = 2
    absent: int = 4
    budget: float = 30.0
    tolerance: int = 2
    tile: int = 512
    overlap: int = 64
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"A threshold lies between 0 and 1, not {self.threshold}.")
        for name in ("limit", "planes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} has to be at least 1, not {value}.")
        for name in ("synonyms", "absent", "budget", "tolerance"):
            value = getattr(self, name)
            if not 0 <= value < inf:  # NaN is neither
                raise UsageError(f"--{name} is a number from 0 on, not {value}.")
        if self.tile < 32:
            raise UsageError(f"The tile has to be at least 32 pixels, not {self.tile}.")
        if not 0 <= self.overlap <= self.tile // 2:
            raise UsageError(f"The overlap can't be {self.overlap} for tiles of {self.tile}.")
        check_scales(self.scales)


@dataclass
class SetResult:
    """Figures of one set, and pictures to look at."""

    name: str
    values: dict[str, Any]
    gallery: Gallery


@dataclass
class Evaluation:
    """Results of all sets."""

    settings: EvaluateSettings
    model: str
    sets: list[SetResult] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the set's own figures for one set; means and ``sets`` for several."""
        head = {"model": self.model, "split": self.settings.split}
        if len(self.sets) == 1:
            return head | self.sets[0].values
        every = {item.name: item.values for item in self.sets}
        joined = {
            key: {
                f"{name}/{word}": value
                for name, values in every.items()
                for word, value in values[key].items()
            }
            for key in ("iou", "dice")
        }
        means = {
            key: mean(values[key] for values in every.values())
            for key in ("miou", "mdice", "absent_area", "synonym_iou", "synonym_ratio")
        }
        n = sum(values["n"] for values in every.values())
        return head | means | joined | {"n": n, "sets": every}


def evaluate(
    sets: Sequence[LabelledSet],
    model: SegmentationModel,
    settings: EvaluateSettings | None = None,
    *,
    model_name: str = "",
    pictures: int = 3,
    callback: Callback = ignore,
) -> Evaluation:
    """Evaluate a model on sets, one after the other.

    Of several sets those without the split are passed over with a notice.

    Parameters
    ----------
    sets
        From `open_sets`.
    model
        Anything that answers tiles and prompts with soft maps.
    pictures
        How many of the best and of the worst images to keep for a report.

    Raises
    ------
    DatasetError
        No set has the split, or a file of one is broken.
    """
    settings = settings or EvaluateSettings()
    chosen = [item for item in sets if item.splits.get(settings.split)]
    for item in sets:
        if item not in chosen:
            callback(Notice(f"{item.name} has no {settings.split} split and is passed over."))
    if not chosen:
        sets[0].split(settings.split)  # says which splits there are
        raise DatasetError(f"No set has a split named {settings.split!r}.")
    evaluation = Evaluation(settings, model_name or model.identity)
    for item in chosen:
        evaluation.sets.append(evaluate_set(item, model, settings, pictures, callback))
    return evaluation


def evaluate_set(
    labelled: LabelledSet,
    model: SegmentationModel,
    settings: EvaluateSettings,
    pictures: int = 3,
    callback: Callback = ignore,
) -> SetResult:
    """Evaluate a model on one set."""
    predictor = Predictor(model, settings.tile, settings.overlap)
    exhaustive, told_by = is_exhaustive(labelled, settings.split)
    scores = SetScores(labelled, settings.threshold, exhaustive, settings.tolerance)
    gallery = Gallery(labelled, pictures)
    count = len(spread(len(labelled.split(settings.split)), settings.limit))
    callback(StageStarted(labelled.name, count, "images"))
    budget = _Budget(settings.budget * 1e6 / count)
    hints: Mapping[str, Any] = getattr(model, "recommended", {})
    for item in items(labelled, settings.split, settings.limit, hints):
        if settings.planes is not None:
            item = crop_planes(item, spread(len(item.planes), settings.planes))
        _evaluate_item(item, scores, predictor, settings, budget, gallery)
        callback(StageAdvanced(labelled.name))
    values: dict[str, Any] = {
        "set": labelled.name,
        "domain": labelled.domain,
        "n": count,
        "planes": scores.planes,
        "threshold": settings.threshold,
        "exhaustive": exhaustive,
        "exhaustive_by": told_by,
    }
    values |= scores.result()
    values["latency"] = predictor.latency()
    values["pictures"] = scores.pictures
    return SetResult(labelled.name, values, gallery)


@dataclass
class _Budget:
    """Pixels times prompts that one image may cost on average; what is left is carried over."""

    share: float
    credit: float = 0.0

    def take(self, planes: int, cost: float) -> int:
        """How many of ``planes`` may be asked at ``cost`` each."""
        first = self.credit == 0.0
        self.credit += self.share
        taken = min(planes, int(self.credit // cost)) if cost else 0
        if first and cost and not taken and self.share:
            taken = 1  # at least one plane of a set is always asked
        self.credit = max(1.0, self.credit - taken * cost)
        return taken


def _evaluate_item(
    item: Item,
    scores: SetScores,
    predictor: Predictor,
    settings: EvaluateSettings,
    budget: _Budget,
    gallery: Gallery,
) -> None:
    labelled = scores.labelled
    names = [labelled.classes[index].name for index in item.known]
    if not names:
        raise DatasetError(f"{labelled.name}: no class is annotated in {item.name}.")
    always = list(dict.fromkeys([*names, *_group_names(scores, item)]))
    absent = absent_prompts(labelled, settings.absent)
    synonyms = {
        index: labelled.classes[index].synonyms[: settings.synonyms] for index in item.known
    }
    more = [*absent, *(word for words in synonyms.values() for word in words)]
    more = [word for word in dict.fromkeys(more) if word not in always]
    size = int(np.prod(item.planes.shape[-2:]))
    asked = spread(len(item.planes), budget.take(len(item.planes), size * len(more)))
    rest = [plane for plane in range(len(item.planes)) if plane not in set(asked)]
    counts: Counts | None = None
    for planes, words in ((asked, [*always, *more]), (rest, always)):
        if not planes:
            continue
        part = crop_planes(item, planes)
        for which, maps in _ask(predictor, part, words, settings.scales or item.scales):
            truth, valid = part.truth[which], part.valid[which]
            decided, new = scores.add(maps, truth, valid, item.known)
            counts = new if counts is None else counts + new
            gallery.consider(item.name, part.planes[which], truth, valid, decided, new)
            if words is always:
                continue
            for word in absent:
                scores.add_absent(word, maps[word], valid)
            stack = np.stack([maps[name] for name in names], axis=1)
            asked_by = {i: {word: maps[word] for word in words} for i, words in synonyms.items()}
            scores.add_reference(decided, truth, valid)
            scores.add_synonyms(stack, asked_by, truth, valid, item.known)
    assert counts is not None
    present = [v for v, row in zip(iou_of(counts), counts[1:], strict=True) if row.sum()]
    scores.pictures.append({"name": item.name, "miou": mean(present)})


def _ask(
    predictor: Predictor, item: Item, words: Sequence[str], scales: Sequence[float]
) -> Iterator[tuple[slice, Mapping[str, Float32Array]]]:
    prompts = [Prompt(word) for word in words]
    for which, maps in predictor(item.planes, prompts, item.factors, scales):
        yield which, {word: maps[:, index] for index, word in enumerate(words)}


def _group_names(scores: SetScores, item: Item) -> list[str]:
    """Names of the group vocabulary that this image can be asked for."""
    if scores.groups is None:
        return []
    asked = {int(scores.groups.table[index + 1]) for index in item.known}
    return [name for place, name in enumerate(scores.groups.names, 1) if place in asked]
