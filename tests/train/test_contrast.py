"""Blood without a contrast agent: as grey as muscle, the rest as it was."""

from __future__ import annotations

import numpy as np
import pytest
from tests.train.test_sampler import info

from digseg.train.augment import AugmentSettings
from digseg.train.looks import without_contrast
from digseg.train.mix import Share
from digseg.train.pack import Category, Picture
from digseg.train.parts import blood_in
from digseg.train.sampler import Sampler
from digseg.types import BoolArray, UInt8Array

CHAMBER, VESSEL, BONE = np.s_[30:60, 30:60], np.s_[60:70, 40:50], np.s_[84:94, 40:56]
MUSCLE = np.s_[75:82, 10:90]


def chest(blood: int = 220) -> tuple[UInt8Array, BoolArray]:
    """Air, muscle (90), a chamber that is labelled, a vessel that joins it, a bone further away."""
    rng = np.random.default_rng(0)
    grey = np.zeros((100, 100))
    grey[8:96, 8:92] = 90
    grey[16:26, 16:84] = 10  # a lung
    grey[CHAMBER] = grey[VESSEL] = blood
    grey[BONE] = 240
    grey += rng.normal(0, 3, grey.shape)
    labelled = np.zeros(grey.shape, bool)
    labelled[CHAMBER] = True
    pixels = np.clip(grey, 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, -1), labelled


def test_blood_becomes_as_grey_as_muscle_and_bone_stays() -> None:
    pixels, labelled = chest()
    levels = []
    for seed in range(12):
        shown = without_contrast(pixels, labelled, np.random.default_rng(seed))
        assert shown.dtype == np.uint8
        inside = shown[35:55, 35:55, 0]
        levels.append(float(inside.mean()))
        assert 0 < inside.std() < 8, "still with its grain, and no flat patch"
        assert abs(shown[62:68, 43:47].mean() - inside.mean()) < 8, "the vessel goes with it"
        np.testing.assert_array_equal(shown[BONE], pixels[BONE])
        np.testing.assert_array_equal(shown[MUSCLE], pixels[MUSCLE])
        np.testing.assert_array_equal(shown[:26], pixels[:26])
    assert 75 < min(levels) < max(levels) < 130, "about 90; at most 15 % of the contrast is left"
    assert max(levels) - min(levels) > 5, "drawn anew each time"


@pytest.mark.parametrize(
    ("blood", "marked"), [(90, True), (220, False)], ids=["no contrast", "no label"]
)
def test_where_nothing_is_to_be_taken_away_nothing_changes(blood: int, marked: bool) -> None:
    pixels, labelled = chest(blood)
    shown = without_contrast(pixels, labelled & marked, np.random.default_rng(1))
    np.testing.assert_array_equal(shown, pixels)


def test_blood_is_known_by_its_names() -> None:
    named = [(1, "left ventricle"), (2, "myocardium"), (3, "Aorta"), (7, "inferior vena cava")]
    named += [(8, "portal vein and splenic vein"), (9, "liver"), (11, "aortic valve")]
    assert np.flatnonzero(blood_in(named)).tolist() == [1, 3, 7, 8]


def test_the_sampler_takes_it_from_what_the_set_names_so() -> None:
    pixels, labelled = chest()
    labels = labelled.astype(np.uint8)[None]
    levels = {}
    for name in ("left atrium", "liver"):
        body = info("body", "ct", Category(name, (1,)))
        still = AugmentSettings(
            size=96, scales=(1, 1), turn=0, flips=False, quarter_turns=False, light=0, no_contrast=1
        )
        share = Share(prompts=1, region="torso", augment=still)
        picture = Picture("body", "a", pixels[None, ..., :1], labels)
        question = Sampler([body], {"body": [picture]}, {"body": share}).draw(
            np.random.default_rng(2)
        )
        levels[name] = float(question.image[0][question.masks[0]].mean())
    assert levels["left atrium"] < 0.55 < 0.8 < levels["liver"]
