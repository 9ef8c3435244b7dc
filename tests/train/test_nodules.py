"""Tumours drawn into lungs: only there, labelled where they are seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from tests.train.test_sampler import info, picture, sampler

from digseg.train.drawn.nodules import with_nodule
from digseg.train.pack import Category, Picture

TUMOUR = Category("lung tumour", (3,))


def chest(seed: int = 0) -> tuple[Picture, np.ndarray]:
    """A slice with two black lungs in a grey body in black air, and where the lungs are."""
    y, x = np.mgrid[:140, :200]
    body = ((y - 70) / 60) ** 2 + ((x - 100) / 90) ** 2 < 1
    lungs = np.zeros_like(body)
    for middle in (60, 140):
        lungs |= ((y - 65) / 38) ** 2 + ((x - middle) / 28) ** 2 < 1
    noise = np.random.default_rng(seed).integers(0, 30, body.shape)
    grey = np.where(body & ~lungs, 70 + noise, 0).astype(np.uint8)
    labels = np.zeros((1, 140, 200), np.uint8)
    return Picture("chest", "a", grey[None, ..., None], labels), lungs


def test_a_tumour_is_seen_where_it_is_labelled_and_leaves_all_else_as_it_was() -> None:
    one, lungs = chest()
    before = one.pixels.copy()
    sizes = []
    for seed in range(25):
        drawn = with_nodule(one, 3, np.random.default_rng(seed))
        tumour = drawn.labels[0] == 3
        assert tumour.any()
        assert (drawn.labels[0][~tumour] == 0).all()
        inside = tumour & lungs
        assert inside.sum() > 0.7 * tumour.sum()
        grey = drawn.pixels[0, ..., 0]
        assert grey[inside].mean() > 12, "lighter than air"
        far = ~ndimage.binary_dilation(tumour, iterations=6)
        np.testing.assert_array_equal(grey[far], one.pixels[0, ..., 0][far])
        sizes.append(int(tumour.sum()))
    np.testing.assert_array_equal(one.pixels, before)
    assert not one.labels.any()
    assert max(sizes) > 6 * min(sizes), "small and large ones"


def test_a_volume_stays_as_it_is() -> None:
    one, _ = chest()
    volume = replace(
        one, pixels=np.repeat(one.pixels, 3, axis=0), labels=np.repeat(one.labels, 3, axis=0)
    )
    assert with_nodule(volume, 3, np.random.default_rng(0)) is volume


def test_labels_that_are_there_stay() -> None:
    one, lungs = chest()
    one.labels[0][lungs] = 255
    assert with_nodule(one, 3, np.random.default_rng(0)) is one, "no lung is known"
    one.labels[0][:, 100:] = 0
    for seed in range(5):
        drawn = with_nodule(one, 3, np.random.default_rng(seed))
        assert ((drawn.labels == 255) == (one.labels == 255)).all()


@pytest.mark.parametrize(("named", "seen"), [(TUMOUR, True), (Category("liver", (3,)), False)])
def test_only_sets_that_name_lung_tumours_get_them(named: Category, seen: bool) -> None:
    one, _ = chest()
    chosen = sampler()
    share = chosen.shares["scan"]
    chosen.shares = {
        **chosen.shares,
        "scan": replace(share, augment=replace(share.augment, nodule=1.0, size=160)),
    }
    chosen.infos = [info("scan", "ct", named)]
    chosen.chances = np.ones(1)
    chosen.pictures = {"scan": [one]}
    chosen.holding = {"scan": {}}
    asked = [chosen.draw(np.random.default_rng(seed)) for seed in range(6)]
    shown = sum(bool(question.masks.any()) for question in asked)
    assert shown >= 4 if seen else shown == 0  # a tiny one may leave the crop
    assert chosen._told(info("scan", "ct", TUMOUR), picture(unlabelled=(3,)), "lung tumour") is None
