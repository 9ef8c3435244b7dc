"""What is asked of which picture: sets drawn by share, classes evenly, absent things in each batch.

Of a picture with several classes about a quarter of the prompts are absent ones. They come from
the picture's own set (a class that the crop doesn't hold) or from another region of the world (a
liver in an aerial photo). Never asked as absent: anything whose words lie close to something the
picture's set names, and what a volume's label scheme doesn't know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from digseg.errors import DatasetError
from digseg.train.augment import view
from digseg.train.drawn.fields import with_fields
from digseg.train.drawn.halls import with_halls
from digseg.train.drawn.hearts import with_heart, with_heart_classes
from digseg.train.drawn.nodules import with_nodule
from digseg.train.drawn.radar import as_radar
from digseg.train.drawn.rivers import with_river
from digseg.train.drawn.roofs import with_other_roofs
from digseg.train.drawn.transplants import transplanted
from digseg.train.looks import laid_over
from digseg.train.lungs import with_lungs
from digseg.train.mix import Share
from digseg.train.pack import IGNORE, Category, Picture, SetInfo
from digseg.train.parts import Tissues, tissues_of
from digseg.types import BoolArray, Float32Array, UInt8Array

#: How people name the kind of picture, by domain.
PLACES: Mapping[str, tuple[str, ...]] = {
    "aerial": ("an aerial photo", "an aerial image", "a drone image"),
    "satellite": ("a satellite image", "a satellite picture"),
    "agriculture": ("a field photo", "a crop photo"),
    "microscopy": ("a microscope image", "a micrograph"),
    "ct": ("a CT scan", "a CT slice"),
    "mr": ("an MR scan", "an MRI scan"),
}


@dataclass(frozen=True)
class Question:
    """A picture's crop and what is asked of it.

    Parameters
    ----------
    image
        ``float32 [3, H, W]`` in [0, 1].
    prompts
        For each prompt its phrases, averaged by the model.
    masks
        ``bool [K, H, W]``: where each prompt is.
    valid
        ``bool [H, W]``: False where the label says nothing.
    exclusive
        Whether no two masks overlap, so that an arg-max over them makes sense.
    """

    set_name: str
    image: Float32Array
    prompts: tuple[tuple[str, ...], ...]
    masks: BoolArray
    valid: BoolArray
    exclusive: bool


class Sampler:
    """Draws `Question`s for ever from prepared pictures.

    Parameters
    ----------
    infos, pictures, shares
        The sets, their pictures by set name, and how each takes part.
    alike
        Unit embeddings of phrases: texts to ``float32 [n, d]``. Decides what is too close to be
        asked as absent.
    closest
        Cosine from which two phrases may mean the same thing.
    """

    def __init__(
        self,
        infos: Sequence[SetInfo],
        pictures: Mapping[str, Sequence[Picture]],
        shares: Mapping[str, Share],
        alike: object = None,
        closest: float = 0.6,
    ) -> None:
        self.infos = [info for info in infos if pictures.get(info.name)]
        if not self.infos:
            raise DatasetError("There is no picture to train on.")
        self.pictures = dict(pictures)
        for place, info in enumerate(self.infos):
            more, marked = info, pictures[info.name]
            if shares[info.name].lungs:
                more, marked = with_lungs(more, marked)
            if shares[info.name].augment.heart:
                more, marked = with_heart_classes(more, marked)
            self.infos[place], self.pictures[info.name] = more, marked
        self.shares = shares
        weights = np.array([shares[info.name].weight for info in self.infos], float)
        if not weights.any():
            raise DatasetError("The mix gives every set the weight 0.")
        self.chances = weights / weights.sum()
        self.holding = {
            info.name: self._holding(info, self.pictures[info.name]) for info in self.infos
        }
        self.tissues = {info.name: self._tissues(info) for info in self.infos}
        self.foreign = {info.name: self._foreign(info, alike, closest) for info in self.infos}

    @staticmethod
    def _holding(info: SetInfo, pictures: Sequence[Picture]) -> dict[int, list[int]]:
        """For each class id the pictures that hold it."""
        holding: dict[int, list[int]] = {}
        for index, picture in enumerate(pictures):
            for value in np.flatnonzero(np.bincount(picture.labels.ravel(), minlength=256)):
                if value not in (0, IGNORE):
                    holding.setdefault(int(value), []).append(index)
        return holding

    @staticmethod
    def _tissues(info: SetInfo) -> Tissues:
        named = [(i, c.name) for c in info.classes if len(c.ids) == 1 for i in c.ids]
        return tissues_of(named, [group.ids for group in info.groups])

    def _foreign(self, info: SetInfo, alike: object, closest: float) -> list[Category]:
        """Things that surely are not in this set's pictures."""
        region = self.shares[info.name].region
        others = [
            category
            for other in self.infos
            if self.shares[other.name].region != region
            for category in (*other.classes, *other.groups)
        ]
        if not others or not callable(alike):
            return others
        own = [t for c in (*info.classes, *info.groups) for t in c.texts] + [*info.not_annotated]
        near = alike([c.name for c in others]) @ alike(own).T  # [others,own]
        return [c for c, row in zip(others, near, strict=True) if row.max() < closest]

    def draw(self, rng: np.random.Generator) -> Question:
        """One picture and its prompts."""
        info = self.infos[int(rng.choice(len(self.infos), p=self.chances))]
        share, pictures = self.shares[info.name], self.pictures[info.name]
        aim: int | None = None
        index = int(rng.integers(len(pictures)))
        holding = self.holding[info.name]
        if holding and rng.random() < 0.6:
            aim = int(rng.choice(sorted(holding)))
            index = int(rng.choice(holding[aim]))
        picture = pictures[index]
        if share.augment.nodule and rng.random() < share.augment.nodule:
            tumour = self._told(info, picture, "lung tumour")
            if tumour is not None:
                picture, aim = with_nodule(picture, tumour, rng), tumour
        if share.augment.heart and rng.random() < share.augment.heart:
            picture, aim = with_heart(picture, info, aim, rng)
        like = self._like(info, share, rng)
        image, labels = view(picture, share.augment, rng, aim, like, self.tissues[info.name])
        image, labels = self._added(info, picture, image, labels, rng)
        return self.ask(info, picture, image, labels, share.prompts, rng)

    def _like(self, info: SetInfo, share: Share, rng: np.random.Generator) -> Picture | None:
        """A picture whose levels another one of this set may take over."""
        if not share.augment.look:
            return None
        kin = [other for other in self.infos if other.domain == info.domain]
        pool = self.pictures[kin[int(rng.integers(len(kin)))].name]
        return pool[int(rng.integers(len(pool)))]

    def _added(
        self,
        info: SetInfo,
        picture: Picture,
        image: Float32Array,
        labels: UInt8Array,
        rng: np.random.Generator,
    ) -> tuple[Float32Array, UInt8Array]:
        """The crop with what is drawn into it, by its set's share; last of all as a radar's."""
        chances = self.shares[info.name].augment
        for chance, add in ((chances.cut, laid_over), (chances.transplant, transplanted)):
            if chance and rng.random() < chance:
                other = self._other(info, picture, rng)
                if other is not None:
                    image, labels = add(image, labels, other, rng)
        if chances.roofs and rng.random() < chances.roofs:
            building = self._told(info, picture, "building")
            if building is not None:
                image = with_other_roofs(image, labels, building, rng)
        if chances.halls and rng.random() < chances.halls:
            building = self._told(info, picture, "building")
            if building is not None:
                image, labels = with_halls(image, labels, building, rng)
        if chances.fields and rng.random() < chances.fields:
            crops = self._told(info, picture, "crops")
            if crops is not None:
                image, labels = with_fields(image, labels, crops, rng)
        if chances.river and rng.random() < chances.river:
            water = self._told(info, picture, "water")
            if water is not None:
                image, labels = with_river(image, labels, water, rng)
        if chances.as_radar and rng.random() < chances.as_radar:
            water = self._told(info, picture, "water")
            if water is not None:
                built = self._told(info, picture, "built-up area")
                image = as_radar(image, labels, water, rng, built)
        return image, labels

    def _other(
        self, info: SetInfo, picture: Picture, rng: np.random.Generator
    ) -> tuple[Float32Array, UInt8Array] | None:
        """A crop of another picture of the set, if its labels can tell the same classes."""
        share, pictures = self.shares[info.name], self.pictures[info.name]
        other = pictures[int(rng.integers(len(pictures)))]
        if other.unlabelled != picture.unlabelled:
            return None
        held = [i for i in self.holding[info.name] if (other.labels == i).any()]
        aim = int(rng.choice(held)) if held else None
        return view(
            other, share.augment, rng, aim, self._like(info, share, rng), self.tissues[info.name]
        )

    @staticmethod
    def _told(info: SetInfo, picture: Picture, name: str) -> int | None:
        """The id of a class, if the set has it and the picture's labels can tell it."""
        for category in info.classes:
            if category.name == name and len(category.ids) == 1:
                return category.ids[0] if category.ids[0] not in picture.unlabelled else None
        return None

    def ask(
        self,
        info: SetInfo,
        picture: Picture,
        image: Float32Array,
        labels: UInt8Array,
        count: int,
        rng: np.random.Generator,
    ) -> Question:
        """Choose `count` prompts for a crop, at least one of them absent where one can be."""
        areas = np.bincount(labels.ravel(), minlength=256)
        unknown = set(picture.unlabelled)
        pool = [c for c in info.classes if not unknown & set(c.ids)]
        groups = [g for g in info.groups if not unknown & set(g.ids)]
        grouped = bool(groups) and rng.random() < self.shares[info.name].groups
        if grouped:  # a group, one that is there if any is, and classes outside it
            here = [g for g in groups if any(areas[i] for i in g.ids)] or groups
            group = here[int(rng.integers(len(here)))]
            pool = [group, *(c for c in pool if not set(c.ids) & set(group.ids))]
        present = [c for c in pool if sum(areas[i] for i in c.ids) >= 20]
        absent = [c for c in pool if not any(areas[i] for i in c.ids)]
        rng.shuffle(present)
        rng.shuffle(absent)
        present.sort(key=lambda category: category not in groups)  # the group first
        chosen = present[: max(1, count - 1)]
        asked = list(chosen)
        foreign = self.foreign[info.name]
        while len(asked) < count and (absent or foreign):
            if absent and (not foreign or rng.random() < 0.6):
                asked.append(absent.pop())
            else:
                asked.append(foreign[int(rng.integers(len(foreign)))])
                if not absent:
                    break  # one stranger is enough where the set has nothing more to ask
        masks = np.zeros((len(asked), *labels.shape), bool)
        for row, category in enumerate(asked):
            if row < len(chosen) or category in pool:
                masks[row] = np.isin(labels, category.ids)
        own = [set(c.ids) for c in chosen]
        exclusive = sum(map(len, own)) == len(set().union(*own)) if own else True
        return Question(
            info.name,
            image,
            tuple(phrases(category, info.domain, rng) for category in asked),
            masks,
            labels != IGNORE,
            exclusive,
        )


def phrases(category: Category, domain: str, rng: np.random.Generator) -> tuple[str, ...]:
    """A category as somebody might type it: its name, a synonym, both, or with its place."""
    texts = list(category.texts)
    roll = rng.random()
    if roll < 0.5 or len(texts) == 1:
        chosen = texts[:1]
    elif roll < 0.9:
        chosen = [texts[int(rng.integers(1, len(texts)))]]
    else:
        chosen = [texts[0], *rng.choice(texts[1:], 1).tolist()]
    places = PLACES.get(domain, ())
    if places and len(chosen) == 1 and rng.random() < 0.12:
        chosen = [f"{chosen[0]} in {places[int(rng.integers(len(places)))]}"]
    return tuple(chosen)
