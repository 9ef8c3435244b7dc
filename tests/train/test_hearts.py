"""Hearts drawn into MR slices: labelled where they are seen, asked for where they are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from tests.train.test_sampler import info

from digseg.train.augment import AugmentSettings
from digseg.train.drawn.hearts import PARTS, with_heart, with_heart_classes
from digseg.train.mix import Share
from digseg.train.pack import Category, Picture, SetInfo
from digseg.train.sampler import Sampler

KIDNEY = Category("kidney", (1,))


@pytest.fixture
def belly() -> tuple[SetInfo, Picture]:
    """A set with kidneys, and a grey slice with one, that knows of hearts."""
    grey = np.random.default_rng(0).integers(60, 80, (1, 120, 160, 1), dtype=np.uint8)
    labels = np.zeros((1, 120, 160), np.uint8)
    labels[0, 40:80, 60:100] = 1
    one = Picture("belly", "a", grey, labels)
    told, pictures = with_heart_classes(replace(info("belly", "mr"), classes=(KIDNEY,)), [one])
    return told, pictures[0]


def _ids(told: SetInfo) -> dict[str, int]:
    return {c.name: c.ids[0] for c in told.classes if c.name in PARTS}


def test_a_ring_of_muscle_lies_around_the_left_ventricle(belly: tuple[SetInfo, Picture]) -> None:
    told, one = belly
    ids = _ids(told)
    before = one.pixels.copy()
    places, sizes = set(), []
    for seed in range(25):
        drawn, aim = with_heart(one, told, None, np.random.default_rng(seed))
        assert aim in ids.values()
        assert drawn.unlabelled == ()
        labels, grey = drawn.labels[0], drawn.pixels[0, ..., 0].astype(float)
        assert set(np.unique(labels)) <= {0, 1, *ids.values()}
        left, ring = (labels == ids[name] for name in ("left ventricle", "myocardium"))
        rim = ndimage.binary_dilation(left) & ~left
        assert ring[rim].all()
        assert grey[ndimage.binary_erosion(left, iterations=2)].mean() > 1.1 * grey[ring].mean()
        heart = np.isin(labels, list(ids.values()))
        places.add(tuple(np.round(ndimage.center_of_mass(heart), -1)))
        sizes.append(int(heart.sum()))
    assert len(places) > 8
    assert max(sizes) > 3 * min(sizes), "small and large ones"
    np.testing.assert_array_equal(one.pixels, before)


def test_what_is_far_from_the_heart_stays(belly: tuple[SetInfo, Picture]) -> None:
    told, one = belly
    drawn, _ = with_heart(one, told, None, np.random.default_rng(1))
    changed = (drawn.pixels != one.pixels)[0, ..., 0]
    assert 0.01 < changed.mean() < 0.7
    covered = (drawn.labels != one.labels)[0]
    assert changed[covered].mean() > 0.9
    far = ~ndimage.binary_dilation(changed, iterations=2)
    np.testing.assert_array_equal(drawn.labels[0][far], one.labels[0][far])


def test_a_set_that_names_parts_of_a_heart_and_a_volume_stay(
    belly: tuple[SetInfo, Picture],
) -> None:
    told, one = belly
    assert with_heart_classes(told, [one]) == (told, [one])
    deep = replace(
        one, pixels=np.repeat(one.pixels, 3, axis=0), labels=np.repeat(one.labels, 3, axis=0)
    )
    assert with_heart(deep, told, 1, np.random.default_rng(0)) == (deep, 1)
    plain = replace(told, classes=(KIDNEY,))
    assert with_heart(one, plain, None, np.random.default_rng(0)) == (one, None)


@pytest.mark.parametrize(("chance", "asked"), [(1.0, True), (1e-9, False)])
def test_parts_of_a_heart_are_asked_for_where_one_is_drawn(
    belly: tuple[SetInfo, Picture], chance: float, asked: bool
) -> None:
    _, one = belly
    given = replace(info("belly", "mr"), classes=(KIDNEY,))
    picture = replace(one, unlabelled=())
    share = Share(region="torso", augment=AugmentSettings(size=96, heart=chance))
    draws = Sampler([given], {"belly": [picture]}, {"belly": share})
    words = {*PARTS, *(word for some in PARTS.values() for word in some)}
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(40):
        question = draws.draw(rng)
        for prompt, mask in zip(question.prompts, question.masks, strict=True):
            name = prompt[0].split(" in an")[0]
            if name in words:
                found.add((name, bool(mask.any())))
    assert bool(found) is asked
    assert asked is False or any(there for _, there in found)
