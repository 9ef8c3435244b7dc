"""What a model knows about one set: counts that grow plane by plane, then one plain result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.evaluate.dataset import LabelledSet
from digseg.evaluate.metrics import (
    Area,
    Boundary,
    Calibration,
    Confusion,
    Overlap,
    iou_of,
    mean,
    ratio,
)
from digseg.prompts import normalise
from digseg.types import AnyArray, BoolArray, Float32Array

#: Things that are surely not in a picture of the domain, asked for to see what is falsely marked.
_EARTH = ("liver", "nucleus", "hippocampus", "polyp")
_BODY = ("road", "solar panel", "forest", "car")
_ABSENT = {
    "satellite": _EARTH,
    "aerial": _EARTH,
    "agriculture": _EARTH,
    "street": _EARTH,
    "microscopy": ("road", "solar panel", "liver", "car"),
}


def absent_prompts(labelled: LabelledSet, count: int) -> tuple[str, ...]:
    """Names of things that no image of this set holds, never one of its own or unlabelled ones."""
    own = {normalise(name) for name in (*labelled.names, *labelled.groups, *labelled.foreign)}
    own |= {normalise(word) for item in labelled.classes for word in item.synonyms}
    words = _ABSENT.get(labelled.domain, _BODY)
    return tuple(word for word in words if normalise(word) not in own)[:count]


def decide(
    maps: Float32Array, threshold: float, exhaustive: bool, places: Sequence[int]
) -> NDArray[np.uint16]:
    """Index maps from soft maps ``[n, K, y, x]``: 0 background, else ``places[winner] + 1``.

    One map is cut at the threshold. Of several the highest wins; unless the vocabulary is
    exhaustive, background wins where all are below the threshold.
    """
    labels = np.asarray(places, dtype=np.uint16) + np.uint16(1)
    if maps.shape[1] == 1:
        return np.where(maps[:, 0] >= threshold, labels[0], np.uint16(0)).astype(np.uint16)
    winner = np.argmax(maps, axis=1)
    result: NDArray[np.uint16] = labels[winner]
    if not exhaustive:
        best = np.take_along_axis(maps, winner[:, None], axis=1)[:, 0]
        result = np.where(best >= threshold, result, np.uint16(0)).astype(np.uint16)
    return result


@dataclass(frozen=True)
class Vocabulary:
    """Names asked for together, each standing for one or several classes of the set.

    Parameters
    ----------
    names
        In the order of their indices.
    table
        ``uint16``: the set's truth index to the index in this vocabulary (0 for neither).
    """

    names: tuple[str, ...]
    table: NDArray[np.uint16]

    @classmethod
    def of_groups(cls, labelled: LabelledSet) -> Vocabulary | None:
        """Groups, and the classes outside them; `None` without groups.

        Of groups that share a class (``rib``, ``bone``) the first is taken.
        """
        if not labelled.groups:
            return None
        index_of = {item.id: index for index, item in enumerate(labelled.classes, start=1)}
        parts: dict[str, tuple[int, ...]] = {}
        grouped: set[int] = set()
        for whole, ids in labelled.groups.items():
            part = tuple(index_of[i] for i in ids)
            if not grouped & set(part):
                parts[whole] = part
                grouped |= set(part)
        alone = [index for index in index_of.values() if index not in grouped]
        names = [*parts, *(labelled.classes[index - 1].name for index in alone)]
        if len({normalise(name) for name in names}) != len(names):
            return None
        table = np.zeros(len(labelled.classes) + 1, dtype=np.uint16)
        for place, part in enumerate([*parts.values(), *((index,) for index in alone)], 1):
            table[list(part)] = place
        return cls(tuple(names), table)


@dataclass
class SetScores:
    """Counts of one set and split.

    Parameters
    ----------
    labelled
        The set.
    threshold
        Probability from which a pixel belongs to a prompt.
    exhaustive
        Whether every pixel has a class, so that the arg-max knows no background.
    tolerance
        Pixels by which outlines may differ in the boundary F-score.
    """

    labelled: LabelledSet
    threshold: float = 0.5
    exhaustive: bool = False
    tolerance: int = 2
    confusion: Confusion = field(init=False)
    grouped: Confusion | None = field(init=False)
    groups: Vocabulary | None = field(init=False)
    prompts: dict[str, Overlap] = field(init=False)
    boundary: dict[str, Boundary] = field(init=False)
    absent_inside: Area = field(init=False, default_factory=Area)
    absent_outside: dict[str, Area] = field(init=False, default_factory=dict)
    calibration: Calibration = field(init=False, default_factory=Calibration)
    reference: Confusion = field(init=False)
    synonyms: dict[tuple[int, str], Overlap] = field(init=False, default_factory=dict)
    pictures: list[dict[str, Any]] = field(init=False, default_factory=list)
    planes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        names = self.labelled.names
        self.confusion = Confusion(names)
        self.reference = Confusion(names)
        self.groups = Vocabulary.of_groups(self.labelled)
        self.grouped = Confusion(self.groups.names) if self.groups is not None else None
        self.prompts = {name: Overlap() for name in names}
        self.boundary = {name: Boundary(self.tolerance) for name in names}

    def add(
        self,
        maps: Mapping[str, Float32Array],
        truth: AnyArray,
        valid: BoolArray,
        known: Sequence[int],
    ) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """Count some planes.

        Parameters
        ----------
        maps
            Soft map ``[n, y, x]`` of each class name that is known here (and of each group).
        truth, valid
            ``[n, y, x]`` as in `Item`.
        known
            Indices of the classes asked for.

        Returns
        -------
        The index maps decided and their confusion counts.
        """
        names = self.labelled.names
        stack = np.stack([maps[names[index]] for index in known], axis=1)
        decided = decide(stack, self.threshold, self.exhaustive, known)
        counts = self.confusion.count(truth, decided, valid)
        self.confusion.matrix += counts
        self.planes += len(truth)
        for index in known:
            self._add_class(names[index], index + 1, maps[names[index]], truth, valid, decided)
        if self.groups is not None and self.grouped is not None:
            self._add_groups(maps, truth, valid, known)
        return decided, counts

    def _add_class(
        self,
        name: str,
        label: int,
        soft: Float32Array,
        truth: AnyArray,
        valid: BoolArray,
        decided: AnyArray,
    ) -> None:
        true = truth == label
        marked = soft >= self.threshold
        self.prompts[name].add(true, marked, valid)
        # Every second row and column: a quarter of the pixels tells the same reliability.
        self.calibration.add(soft[:, ::2, ::2], true[:, ::2, ::2], valid[:, ::2, ::2])
        for plane in range(len(truth)):
            self.boundary[name].add(true[plane], decided[plane] == label, valid[plane])
            if not (true[plane] & valid[plane]).any():
                self.absent_inside.add(marked[plane], valid[plane])

    def _add_groups(
        self,
        maps: Mapping[str, Float32Array],
        truth: AnyArray,
        valid: BoolArray,
        known: Sequence[int],
    ) -> None:
        assert self.groups is not None
        assert self.grouped is not None
        asked = {int(self.groups.table[index + 1]) for index in known}
        places = [place for place in range(len(self.groups.names)) if place + 1 in asked]
        stack = np.stack([maps[self.groups.names[place]] for place in places], axis=1)
        decided = decide(stack, self.threshold, self.exhaustive, places)
        self.grouped.add(self.groups.table[truth], decided, valid)

    def add_synonyms(
        self,
        stack: Float32Array,
        words: Mapping[int, Mapping[str, Float32Array]],
        truth: AnyArray,
        valid: BoolArray,
        known: Sequence[int],
    ) -> None:
        """Count planes in which one class is asked by a synonym, the others by their names.

        Parameters
        ----------
        stack
            Maps ``[n, K, y, x]`` of the names of ``known``.
        words
            By class index, the maps ``[n, y, x]`` of its synonyms.
        """
        # A class wins the arg-max where it beats those before it and those after it don't.
        before = np.maximum.accumulate(stack, axis=1)
        after = np.maximum.accumulate(stack[:, ::-1], axis=1)[:, ::-1]
        for place, index in enumerate(known):
            true = truth == index + 1
            for word, soft in words.get(index, {}).items():
                won = np.ones(soft.shape, dtype=bool)
                if len(known) == 1 or not self.exhaustive:
                    won &= soft >= self.threshold
                if place > 0:
                    won &= soft > before[:, place - 1]
                if place + 1 < len(known):
                    won &= soft >= after[:, place + 1]
                self.synonyms.setdefault((index, word), Overlap()).add(true, won, valid)

    def add_reference(self, decided: AnyArray, truth: AnyArray, valid: BoolArray) -> None:
        """Count the canonical answer on the planes that synonyms are asked on."""
        self.reference.add(truth, decided, valid)

    def add_absent(self, name: str, soft: Float32Array, valid: BoolArray) -> None:
        """Count a map ``[n, y, x]`` of something that is not there."""
        self.absent_outside.setdefault(name, Area()).add(soft >= self.threshold, valid)

    def result(self) -> dict[str, Any]:
        """Everything as JSON-ready values; `None` where nothing could be measured."""
        iou, dice = self.confusion.iou(), self.confusion.dice()
        matrix = self.confusion.matrix
        boundary = {name: item.f_score for name, item in self.boundary.items()}
        return {
            "miou": mean(iou.values()),
            "mdice": mean(dice.values()),
            "miou_all_named": mean(iou_of(matrix)),
            "iou": iou,
            "dice": dice,
            "pixel_accuracy": self.confusion.accuracy(),
            "boundary_f": mean(boundary.values()),
            "boundary": {"tolerance": self.tolerance, "f": boundary},
            "by_prompt": self._by_prompt(),
            "groups": self._groups(),
            "absent_area": self._absent_area(),
            "absent": self._absent(),
            **self._synonyms(),
            "calibration": {"ece": self.calibration.error, "bins": self.calibration.table()},
        }

    def _by_prompt(self) -> dict[str, Any]:
        iou = {name: item.iou for name, item in self.prompts.items()}
        dice = {name: item.dice for name, item in self.prompts.items()}
        return {"miou": mean(iou.values()), "iou": iou, "dice": dice}

    def _groups(self) -> dict[str, Any]:
        if self.grouped is None:
            return {}
        iou, dice = self.grouped.iou(), self.grouped.dice()
        return {"miou": mean(iou.values()), "iou": iou, "dice": dice}

    def _absent_area(self) -> float | None:
        areas = [self.absent_inside, *self.absent_outside.values()]
        return ratio(sum(a.marked for a in areas), sum(a.pixels for a in areas))

    def _absent(self) -> dict[str, Any]:
        outside = list(self.absent_outside.values())
        marked, pixels = sum(a.marked for a in outside), sum(a.pixels for a in outside)
        return {
            "in_set": self.absent_inside.share,
            "foreign": ratio(marked, pixels),
            "by_prompt": {name: item.share for name, item in self.absent_outside.items()},
        }

    def _synonyms(self) -> dict[str, Any]:
        by_class: dict[str, dict[str, float]] = {}
        canonical = self.reference.iou()
        for (index, word), overlap in self.synonyms.items():
            if overlap.iou is not None:
                by_class.setdefault(self.labelled.names[index], {})[word] = overlap.iou
        synonym = mean(mean(words.values()) for words in by_class.values())
        reference = mean(canonical[name] for name in by_class)
        return {
            "synonym_iou": synonym,
            "synonym_reference": reference,
            "synonym_ratio": ratio(synonym, reference)
            if synonym is not None and reference is not None
            else None,
            "synonyms": by_class,
        }
