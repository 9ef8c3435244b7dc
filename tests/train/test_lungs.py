"""Lungs that are found in slices of the chest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from digseg.train.looks import in_wider_window
from digseg.train.lungs import lungs_of, with_lungs
from digseg.train.mix import shares
from digseg.train.pack import Category, Picture, SetInfo
from digseg.train.parts import derived_groups, kinds_of
from digseg.train.sampler import Sampler
from digseg.types import BoolArray, UInt8Array

SHAPE = (180, 240)
TUMOUR = SetInfo(
    folder=Path("chest"),
    name="chest",
    domain="ct",
    modality="CT",
    use="",
    licence="",
    image_ext=".png",
    mask_ext=".png",
    classes=(Category("lung tumour", (1,)),),
    groups=(),
    splits={},
)


def ellipse(row: float, column: float, height: float, width: float) -> BoolArray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside: BoolArray = ((y - row) / height) ** 2 + ((x - column) / width) ** 2 <= 1
    return inside


LUNGS = ellipse(90, 75, 50, 28) | ellipse(90, 165, 50, 28)


def chest(wide: bool, lungs: BoolArray = LUNGS) -> UInt8Array:
    """A body with two lungs, a vessel in each, and air around; in a wide window lungs are grey."""
    rng = np.random.default_rng(0)
    grey = np.where(ellipse(90, 120, 75, 105), 120.0, 0.0) + rng.normal(0, 2, SHAPE)
    grey[lungs] = (45 if wide else 0) + rng.normal(0, 1, int(lungs.sum()))
    if wide:
        grey[~ellipse(90, 120, 75, 105)] = 12
    grey[88:92, 70:74] = grey[88:92, 170:174] = 130
    return np.clip(grey, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("wide", [False, True])
def test_both_lungs_are_found_with_their_vessels(wide: bool) -> None:
    found = lungs_of(chest(wide))
    assert found is not None
    assert (found & LUNGS).sum() / (found | LUNGS).sum() > 0.93
    assert found[90, 72]
    assert found[90, 172]


def test_a_lung_that_runs_into_the_air_around_leaves_a_doubt() -> None:
    broken = chest(False)
    broken[:60, 55:95] = 0  # the chest wall is missing
    assert lungs_of(broken) is None
    one = lungs_of(broken, sure=False)
    assert one is not None
    right = LUNGS & (np.arange(SHAPE[1]) > 120)
    assert (one & right).sum() / (one | right).sum() > 0.93
    assert lungs_of(np.full(SHAPE, 90, np.uint8)) is None
    assert lungs_of(np.zeros(SHAPE, np.uint8)) is None


def test_a_set_of_tumours_also_teaches_lungs_where_they_are_sure() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[80:90, 60:70] = 1
    tumour = labels == 1
    sure = Picture("chest", "a", chest(False)[None, ..., None], labels[None])
    flat = Picture("chest", "b", np.full((1, *SHAPE, 1), 90, np.uint8), labels[None] * 0, (7,))
    volume = Picture("chest", "c", np.repeat(sure.pixels, 3, 0), np.repeat(sure.labels, 3, 0))
    info, (first, second, third) = with_lungs(TUMOUR, [sure, flat, volume])
    assert [(c.name, c.ids) for c in info.classes] == [("lung tumour", (1,)), ("lung", (2,))]
    assert "lungs" in info.classes[1].synonyms
    assert (first.labels[0][tumour] == 1).all()
    lungs = LUNGS & ~tumour
    got = first.labels[0] == 2
    assert (got & lungs).sum() / (got | lungs).sum() > 0.92
    assert second.unlabelled == (7, 2)
    assert third.unlabelled == (2,)
    assert not (third.labels == 2).any()
    assert sure.labels.max() == 1, "the given ones stay as they are"
    assert with_lungs(info, [first]) == (info, [first]), "lungs have a name already"


def test_a_mix_asks_for_lungs() -> None:
    picture = Picture("chest", "a", chest(False)[None, ..., None], np.zeros((1, *SHAPE), np.uint8))
    taken = shares([TUMOUR], {"sets": {"chest": {"lungs": True, "size": 128, "prompts": 2}}})
    sampler = Sampler([TUMOUR], {"chest": [picture]}, taken)
    rng = np.random.default_rng(1)
    asked = [sampler.draw(rng) for _ in range(20)]
    lungs = [m for q in asked for p, m in zip(q.prompts, q.masks, strict=True) if "tum" not in p[0]]
    assert any("lung" in p[0] for q in asked for p in q.prompts)
    assert np.mean([mask.any() for mask in lungs]) > 0.5


def test_a_wider_window_tells_air_from_lung_and_keeps_the_order() -> None:
    narrow = np.repeat(chest(False)[..., None], 3, -1)
    narrow[20:30, 110:130] = 255  # bone
    rng = np.random.default_rng(2)
    apart = darker = 0
    for _ in range(30):
        shown = in_wider_window(narrow, rng).astype(float)
        assert shown.shape == narrow.shape
        air, bone = shown[:8].mean(), shown[22:28, 114:126].mean()
        lung = shown[LUNGS].mean()
        tissue = shown[100:140, 115:125].mean()
        assert air <= lung + 1
        assert lung < tissue <= bone
        apart += lung > air + 8
        darker += tissue < 110
    assert 8 < apart < 30, "some windows begin above the lungs"
    assert 3 < darker < 30


def test_bones_are_a_whole_and_one_grey() -> None:
    names = ["L1 vertebra", "L2 vertebra", "left rib 7", "right rib 7", "left femur", "liver"]
    classes = list(enumerate(names, 1))
    groups = derived_groups(classes)
    assert groups == {"vertebrae": (1, 2), "rib": (3, 4), "bone": (1, 2, 3, 4, 5)}
    assert set(kinds_of(classes, groups.values())[1:6]) == {1}
    assert "bone" not in derived_groups(classes[:2]), "vertebrae alone are no skeleton"
