"""Halls drawn into aerial pictures: labelled where they are seen, all else as it was."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from digseg.train.drawn.halls import with_halls


def land() -> tuple[np.ndarray, np.ndarray]:
    """Bright sand, labelled 2, with a road, 1, and a rim that is no picture."""
    rng = np.random.default_rng(0)
    image = rng.normal(0.7, 0.04, (3, 128, 128)).clip(0, 1).astype(np.float32)
    labels = np.full((128, 128), 2, np.uint8)
    image[:, 60:70], labels[60:70] = 0.3, 1
    image[:, :, 110:], labels[:, 110:] = 0.0, 255
    return image, labels


def test_halls_are_labelled_where_they_are_seen() -> None:
    image, labels = land()
    before = image.copy()
    levels, shares = [], []
    for seed in range(40):
        drawn, marked = with_halls(image, labels, 3, np.random.default_rng(seed))
        assert drawn.dtype == np.float32
        assert marked.dtype == np.uint8
        assert 0 <= drawn.min() <= drawn.max() <= 1
        halls = marked == 3
        np.testing.assert_array_equal(marked[~halls], labels[~halls])
        assert not halls[:, 116:].any(), "beyond the picture"
        away = ~ndimage.binary_dilation(halls, iterations=13)
        np.testing.assert_array_equal(drawn[:, away], image[:, away])
        inner = ndimage.binary_erosion(halls, iterations=2)
        if inner.any():
            levels.append(drawn[:, inner].mean())
        shares.append(halls.mean())
    np.testing.assert_array_equal(image, before)
    assert max(levels) > 0.85
    assert min(levels) < 0.5
    assert np.mean(np.array(levels) > 0.5) > 0.6, "most are bright"
    assert min(shares) < 0.05
    assert max(shares) > 0.25


def test_halls_throw_a_shadow() -> None:
    image, labels = np.full((3, 128, 128), 0.7, np.float32), np.full((128, 128), 2, np.uint8)
    reached = 0
    for seed in range(30):
        drawn, marked = with_halls(image, labels, 3, np.random.default_rng(seed))
        apart = ~ndimage.binary_dilation(marked == 3, np.ones((3, 3)), iterations=3)  # unblended
        assert (drawn[:, apart] <= image[:, apart]).all()
        reached += bool((drawn[:, apart] < 0.55).any())
    assert 5 < reached < 30, "long ones reach so far, short ones don't"


def test_a_grey_picture_stays_grey_and_no_hall_stands_in_water() -> None:
    image, labels = land()
    grey = np.broadcast_to(image[:1], image.shape).copy()
    drawn, _ = with_halls(grey, labels, 3, np.random.default_rng(1))
    assert (drawn != grey).any()
    np.testing.assert_allclose(drawn[0], drawn[2], atol=1e-6)
    dark = (grey * 0.05).astype(np.float32)
    for seed in range(10):
        assert with_halls(dark, labels, 3, np.random.default_rng(seed))[0] is dark
