"""Other roofs, farmland, and things of one picture set into another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage
from tests.train.test_sampler import LAND, info, picture, sampler

from digseg.train.drawn.fields import with_fields
from digseg.train.drawn.roofs import with_other_roofs
from digseg.train.drawn.transplants import transplanted
from digseg.train.pack import Category


def houses() -> tuple[np.ndarray, np.ndarray]:
    """Sixteen houses of one colour on noisy ground: picture and labels."""
    labels = np.zeros((96, 96), np.uint8)
    for y in range(8, 96, 24):
        for x in range(8, 96, 24):
            labels[y : y + 10, x : x + 12] = 4
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 0.5, (3, 96, 96)).astype(np.float32)
    return np.where(labels == 4, image + 0.2, image), labels


def test_roofs_change_their_colour_and_keep_their_relief_and_surroundings() -> None:
    image, labels = houses()
    before = image.copy()
    colors = []
    for seed in range(30):
        painted = with_other_roofs(image, labels, 4, np.random.default_rng(seed))
        assert painted.dtype == np.float32
        assert 0 <= painted.min() <= painted.max() <= 1
        away = ~ndimage.binary_dilation(labels == 4, iterations=4)
        np.testing.assert_array_equal(painted[:, away], image[:, away])
        parts, count = ndimage.label(labels == 4)
        for index in range(1, count + 1):
            roof = ndimage.binary_erosion(parts == index, iterations=2)
            mean = painted[:, roof].mean(axis=1)
            if np.abs(mean - image[:, roof].mean(axis=1)).max() > 0.02:
                colors.append(mean)
                if mean.min() > 0.2 and mean.max() < 0.8:  # nothing is cut off
                    same = np.corrcoef(painted[0, roof], image[0, roof])[0, 1]
                    assert same > 0.9
    np.testing.assert_array_equal(image, before)
    assert len(colors) > 100
    assert np.ptp(np.array(colors), axis=0).min() > 0.5, "dark and light, warm and cold"


def test_roofs_of_a_grey_picture_stay_grey_and_without_buildings_nothing_changes() -> None:
    image, labels = houses()
    grey = np.broadcast_to(image[:1], image.shape).copy()
    painted = with_other_roofs(grey, labels, 4, np.random.default_rng(1))
    assert (painted != grey).any()
    np.testing.assert_allclose(painted[0], painted[2], atol=1e-6)
    assert with_other_roofs(image, labels, 9, np.random.default_rng(1)) is image


def test_farmland_covers_only_what_no_other_class_is_known_of() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.3, 0.6, (3, 96, 96)).astype(np.float32)
    labels = np.full((96, 96), 255, np.uint8)
    labels[:30], labels[30:40], labels[40:50] = 1, 5, 0
    image[:, 80:], before = 0.0, image.copy()
    image[:, 80:] = before[:, 80:] = 0.0
    shares, shades = [], []
    for seed in range(20):
        drawn, tilled = with_fields(image, labels, 5, np.random.default_rng(seed))
        assert drawn.dtype == np.float32
        assert tilled.dtype == np.uint8
        assert 0 <= drawn.min() <= drawn.max() <= 1
        np.testing.assert_array_equal(tilled[:30], labels[:30])
        assert (tilled[82:] == 255).all(), "beyond the picture"
        land = (tilled == 5) & (labels != 5)
        np.testing.assert_array_equal(drawn[:, :25], image[:, :25])
        shares.append(land.mean())
        shades.append(np.ptp(drawn[:, land].mean(axis=0)) if land.any() else 0)
    np.testing.assert_array_equal(image, before)
    assert max(shares) > 0.3
    assert min(shares) < 0.15
    assert np.median(shades) > 0.3, "parcels differ"
    known = np.ones_like(labels)
    assert with_fields(image, known, 5, np.random.default_rng(0))[1] is known


def test_no_parcel_looks_like_water() -> None:
    image = np.full((3, 96, 96), 0.5, np.float32)
    image[:, :, :40] = np.array([0.04, 0.08, 0.12], np.float32)[:, None, None]  # a lake
    labels = np.full((96, 96), 255, np.uint8)
    labels[:, :40] = 1
    seen = 0
    for seed in range(10):
        drawn, tilled = with_fields(image, labels, 5, np.random.default_rng(seed))
        land = ndimage.binary_erosion(tilled == 5, iterations=3)
        dark = ndimage.gaussian_filter(drawn, (0, 3, 3))[:, land]
        dark = dark[:, dark.mean(axis=0) < 0.2]
        seen += dark.shape[1]
        assert (dark[0] >= 0.95 * dark[2]).all()
    assert seen > 50


def donor() -> tuple[np.ndarray, np.ndarray]:
    """A red square that lies wholly inside, and a blue one that touches the rim."""
    image, labels = np.zeros((3, 80, 80), np.float32), np.zeros((80, 80), np.uint8)
    labels[30:42, 20:32], labels[60:80, 60:80] = 1, 2
    image[0, labels == 1], image[2, labels == 2] = 0.9, 0.9
    return image, labels


def test_things_set_in_are_labelled_where_they_are_seen_at_several_sizes() -> None:
    image, labels = np.full((3, 80, 80), 0.4, np.float32), np.full((80, 80), 3, np.uint8)
    before, sizes = image.copy(), set()
    for seed in range(30):
        drawn, marked = transplanted(image, labels, donor(), np.random.default_rng(seed), 1)
        assert drawn.dtype == np.float32
        assert marked.dtype == np.uint8
        assert set(np.unique(marked)) == {1, 3}, "what touches the rim is no whole thing"
        thing = marked == 1
        core = ndimage.binary_erosion(thing, iterations=2)
        assert (drawn[0, core] > 0.8).all()
        assert (drawn[1, core] < 0.1).all()
        away = ~ndimage.binary_dilation(thing, iterations=4)
        np.testing.assert_array_equal(drawn[:, away], image[:, away])
        sizes.add(int(thing.sum()))
    np.testing.assert_array_equal(image, before)
    assert (labels == 3).all()
    assert max(sizes) > 8 * min(sizes)
    assert max(sizes) <= (0.6 * 80 + 1) ** 2


def test_nothing_is_set_in_beyond_the_picture_or_from_an_empty_donor() -> None:
    image, labels = np.full((3, 80, 80), 0.4, np.float32), np.full((80, 80), 3, np.uint8)
    labels[:, 40:] = 255
    for seed in range(10):
        drawn, marked = transplanted(image, labels, donor(), np.random.default_rng(seed))
        assert (marked[:, 40:] == 255).all()
        np.testing.assert_array_equal(drawn[:, :, 40:], image[:, :, 40:])
    nothing = (donor()[0], np.zeros((80, 80), np.uint8))
    assert transplanted(image, labels, nothing, np.random.default_rng(0))[1] is labels


def test_the_sampler_adds_what_a_share_says() -> None:
    town = info("land", "aerial", Category("building", (1,)), Category("crops", (2,)))
    one = picture()
    crop = np.full((3, 64, 64), 0.4, np.float32)
    for field in ("roofs", "halls", "fields", "transplant", "cut", "river"):
        chosen = sampler()
        share = chosen.shares["land"]
        adding = replace(share.augment, **{field: 1.0})  # type: ignore[arg-type]
        chosen.shares = {"land": replace(share, augment=adding)}
        chosen.holding = {"land": chosen.holding["land"]}
        chosen.pictures = {"land": [one]}
        of = LAND if field == "river" else town
        added = [
            chosen._added(of, one, crop, one.labels[0], np.random.default_rng(seed))
            for seed in range(8)
        ]
        changed = [(image != crop).any() for image, _ in added]
        # Its areas span the whole width, so none of them is a thing that can be set in.
        assert any(changed) != (field == "transplant"), field
    assert chosen._other(town, picture(unlabelled=(1,)), np.random.default_rng(0)) is None
