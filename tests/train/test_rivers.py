"""Rivers drawn into training pictures: where the labels say water, the picture shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.train.test_sampler import LAND, LIVER, info, picture, sampler

from digseg.train.drawn.rivers import with_river


def ground(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.4, 0.9, (3, 96, 128)).astype(np.float32)


def test_a_river_is_dark_water_from_edge_to_edge_and_nothing_else_changes() -> None:
    image, labels = ground(), np.full((96, 128), 2, np.uint8)
    before = image.copy()
    crossing, sizes = 0, set()
    for seed in range(30):
        drawn, flooded = with_river(image, labels, 7, np.random.default_rng(seed))
        assert drawn.dtype == np.float32
        assert flooded.dtype == np.uint8
        assert 0 <= drawn.min() <= drawn.max() <= 1
        river = flooded == 7
        assert (flooded[~river] == 2).all()
        changed = (drawn != image).any(axis=0)
        assert changed[river].all()  # banks, half covered or less, change, too
        if river.any():
            assert drawn[:, river].mean() < 1.05 * np.percentile(image, 5) + 0.07
            assert changed.mean() < 0.6
            edges = np.concatenate([river[0], river[-1], river[:, 0], river[:, -1]])
            crossing += bool(edges.any())
            sizes.add(int(river.sum()))
    np.testing.assert_array_equal(image, before)
    assert (labels == 2).all()
    assert crossing >= 25
    assert max(sizes) > 4 * min(sizes), "narrow and wide ones"


def test_half_of_the_rivers_look_like_water_that_is_there() -> None:
    image, labels = ground(), np.zeros((96, 128), np.uint8)
    labels[:, :12] = 1
    image[:, :, :12] = np.array([0.1, 0.3, 0.75], np.float32)[:, None, None]
    alike = 0
    for seed in range(40):
        drawn, flooded = with_river(image, labels, 1, np.random.default_rng(seed))
        new = (flooded == 1) & (labels == 0)
        if new.any():
            alike += bool(abs(np.median(drawn[2, new]) - 0.75) < 0.05)
    assert 10 <= alike <= 30


def test_no_river_runs_beyond_the_picture() -> None:
    image, labels = ground(), np.full((96, 128), 2, np.uint8)
    image[:, :50], labels[:50] = 0.01, 255
    for seed in range(10):
        drawn, flooded = with_river(image, labels, 1, np.random.default_rng(seed))
        np.testing.assert_array_equal(drawn[:, :50], image[:, :50])
        assert (flooded[:50] == 255).all()
    dark, unknown = np.zeros_like(image), np.full_like(labels, 255)
    assert with_river(dark, unknown, 1, np.random.default_rng(0))[1] is unknown


def test_only_sets_that_name_water_get_rivers() -> None:
    chosen = sampler()
    share = chosen.shares["land"]
    running = replace(share, augment=replace(share.augment, river=1.0))
    chosen.shares = {**chosen.shares, "land": running}
    one = picture()
    assert chosen._told(LAND, one, "water") == 1
    assert chosen._told(LAND, picture(unlabelled=(1,)), "water") is None
    assert chosen._told(info("scan", "ct", LIVER), one, "water") is None
    asked = [chosen.draw(np.random.default_rng(seed)) for seed in range(20)]
    found = [
        mask.mean()
        for question in asked
        for phrases, mask in zip(question.prompts, question.masks, strict=True)
        if question.set_name == "land" and {"water", "lake"} & set(phrases)
    ]
    assert max(found) > (one.labels[0] == 1).mean() + 0.01
