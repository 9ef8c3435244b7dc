"""Scenes as a radar might see them: water dark, buildings bright, grey and speckled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.train.test_sampler import LAND, picture

from digseg.train.augment import AugmentSettings
from digseg.train.drawn.radar import as_radar
from digseg.train.mix import Share
from digseg.train.pack import IGNORE
from digseg.train.sampler import Sampler


def test_water_is_darkest_and_buildings_are_brightest() -> None:
    labels = np.zeros((96, 96), np.uint8)
    labels[:, :30], labels[60:, 60:] = 1, 2
    light = np.where(labels == 1, 0.9, 0.3).astype(np.float32)  # glinting water in the photo
    image = np.stack([light, light * 0.9, light * 0.8])
    before = image.copy()
    brighter = []
    for seed in range(20):
        seen = as_radar(image, labels, 1, np.random.default_rng(seed), built=2)
        assert seen.dtype == np.float32
        assert (seen == seen[:1]).all(), "one grey"
        assert 0 <= seen.min() < 0.05
        assert 0.95 < seen.max() <= 1
        water, land, built = (float(seen[0][labels == kind].mean()) for kind in (1, 0, 2))
        assert water < land
        assert seen[0][labels == 0].std() > 0.01, "speckle"
        brighter.append(built > land)
    assert np.mean(brighter) > 0.6  # of each kind of land the backscatter is another each time
    np.testing.assert_array_equal(image, before)


def test_beyond_the_picture_it_stays_black() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[20:30] = 1
    image = np.full((3, 64, 64), 0.5, np.float32)
    image[:, :, 48:], labels[:, 48:] = 0, IGNORE
    seen = as_radar(image, labels, 1, np.random.default_rng(0))
    assert not seen[:, :, 52:].any()
    assert seen[:, 40:, :40].mean() > 0.3


def test_the_mix_shows_scenes_with_water_so() -> None:
    share = Share(region="earth", augment=AugmentSettings(size=64, as_radar=1.0, light=0))
    dry = replace(LAND, classes=tuple(c for c in LAND.classes if c.name != "water"))
    for info, grey in ((LAND, True), (dry, False)):
        given = picture(info.name)
        given.pixels[..., 0] //= 2  # no grey picture
        draws = Sampler([info], {info.name: [given]}, {info.name: share})
        images = [draws.draw(np.random.default_rng(seed)).image for seed in range(5)]
        assert all(bool((image == image[:1]).all()) is grey for image in images)
