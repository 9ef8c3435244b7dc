"""What is asked of which picture."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from digseg.errors import DatasetError
from digseg.train.augment import AugmentSettings, view
from digseg.train.looks import as_mr, laid_over, restyled, synthesise, toned
from digseg.train.mix import Share, read_mix, shares, unused_names
from digseg.train.pack import Category, Picture, SetInfo, read_info
from digseg.train.parts import kinds_of, other_words
from digseg.train.sampler import PLACES, Sampler, phrases


def info(name: str, domain: str, *classes: Category, groups: tuple[Category, ...] = ()) -> SetInfo:
    return SetInfo(
        folder=Path(name),
        name=name,
        domain=domain,
        modality="",
        use="train-and-ship",
        licence="",
        image_ext=".png",
        mask_ext=".png",
        classes=classes,
        groups=groups,
        splits={},
    )


WATER, ROAD, SNOW = (
    Category("water", (1,), ("lake",)),
    Category("road", (2,)),
    Category("snow", (3,)),
)
LIVER = Category("liver", (1,), ("hepatic organ",))
LAND = info("land", "aerial", WATER, ROAD, SNOW)
SCAN = info("scan", "ct", LIVER)


def picture(name: str = "land", unlabelled: tuple[int, ...] = ()) -> Picture:
    labels = np.zeros((1, 64, 64), np.uint8)
    labels[:, :20], labels[:, 20:40], labels[:, 60:] = 1, 2, 255
    noise = np.random.default_rng(0).integers(0, 40, (1, 64, 64, 3), dtype=np.uint8)
    shades = np.array([0, 90, 200, *[0] * 253], np.uint8)
    pixels = shades[labels][..., None] + noise
    return Picture(name, "a", pixels, labels, unlabelled)


def sampler(**more: object) -> Sampler:
    still = AugmentSettings(
        size=64, scales=(1, 1), turn=0, flips=False, quarter_turns=False, light=0
    )
    both = {
        "land": Share(region="earth", prompts=4, augment=still),
        "scan": Share(region="torso", prompts=2, augment=still),
    }
    pictures = {"land": [picture()], "scan": [picture("scan")]}
    return Sampler([LAND, SCAN], pictures, both, **more)  # type: ignore[arg-type]


def test_masks_are_where_the_labels_are() -> None:
    rng = np.random.default_rng(0)
    one = picture()
    for _ in range(20):
        question = sampler().ask(
            LAND, one, np.zeros((3, 64, 64), np.float32), one.labels[0], 4, rng
        )
        names = [
            next(
                c
                for c in (WATER, ROAD, SNOW, LIVER)
                if set(p) & {*c.texts} or any(t.startswith(tuple(c.texts)) for t in p)
            )
            for p in question.prompts
        ]
        for category, mask in zip(names, question.masks, strict=True):
            where = np.isin(one.labels[0], category.ids) if category is not LIVER else False
            np.testing.assert_array_equal(mask, np.broadcast_to(where, mask.shape))
        np.testing.assert_array_equal(question.valid, one.labels[0] != 255)
        assert question.exclusive


def test_absent_things_are_asked_for() -> None:
    """At least one of four prompts is absent, from the set itself or from another region."""
    rng = np.random.default_rng(1)
    asked = [
        sampler().ask(
            LAND, picture(), np.zeros((3, 64, 64), np.float32), picture().labels[0], 4, rng
        )
        for _ in range(40)
    ]
    assert all(not q.masks.any((1, 2)).all() for q in asked)
    words = " ".join(" ".join(p) for q in asked for p in q.prompts)
    assert "snow" in words
    assert "liver" in words


def test_what_a_label_scheme_does_not_know_is_not_asked() -> None:
    rng = np.random.default_rng(2)
    unsure = picture(unlabelled=(3,))
    for _ in range(30):
        question = sampler().ask(
            LAND, unsure, np.zeros((3, 64, 64), np.float32), unsure.labels[0], 4, rng
        )
        assert not any("snow" in phrase for prompt in question.prompts for phrase in prompt)


def test_near_words_are_never_asked_as_absent() -> None:
    """Words whose embeddings lie close to a class of the set are left out."""

    def alike(texts: list[str]) -> np.ndarray:
        return np.stack([[1.0, 0.0] if t in ("liver", "lake") else [0.0, 1.0] for t in texts])

    assert sampler().foreign["land"] == [LIVER]
    assert sampler(alike=alike).foreign["land"] == []


def test_groups_and_their_members_are_not_asked_together() -> None:
    wet = Category("wet", (1, 2))
    grouped = info("land", "aerial", WATER, ROAD, SNOW, groups=(wet,))
    rng = np.random.default_rng(3)
    one, seen = picture(), 0
    for _ in range(60):
        question = sampler().ask(
            grouped, one, np.zeros((3, 64, 64), np.float32), one.labels[0], 4, rng
        )
        names = {phrase.split(" in ")[0] for prompt in question.prompts for phrase in prompt}
        if "wet" in names:
            seen += 1
            assert not names & {"water", "lake", "road"}
        assert question.masks.sum(0).max() <= 1
    assert seen > 5


def test_sets_are_drawn_by_share() -> None:
    still = AugmentSettings(size=32, scales=(1, 1))
    chosen = Sampler(
        [LAND, SCAN],
        {"land": [picture()], "scan": [picture("scan")]},
        {
            "land": Share(weight=3, region="earth", augment=still),
            "scan": Share(weight=1, region="torso", augment=still),
        },
    )
    rng = np.random.default_rng(4)
    drawn = [chosen.draw(rng).set_name for _ in range(200)]
    assert 0.65 < drawn.count("land") / 200 < 0.85


def test_phrases_are_names_synonyms_and_places() -> None:
    rng = np.random.default_rng(5)
    found = {phrases(WATER, "satellite", rng) for _ in range(400)}
    assert ("water",) in found
    assert ("lake",) in found
    assert ("water", "lake") in found
    assert any(f[0].startswith("water in a satellite") for f in found)


def test_a_view_moves_image_and_mask_together() -> None:
    """The picture is its own label: after any warp the two still agree."""
    labels = np.zeros((1, 96, 80), np.uint8)
    labels[0, 10:50, 5:40], labels[0, 40:90, 45:70] = 100, 200
    pixels = np.repeat(labels[..., None], 3, -1)
    drawn = Picture("x", "a", pixels, labels)
    for elastic in (0.0, 1.0):
        settings = AugmentSettings(size=64, scales=(0.6, 1.8), elastic=elastic, light=0)
        rng = np.random.default_rng(6)
        for _ in range(15):
            image, mask = view(drawn, settings, rng, aim=100)
            known = mask != 255
            difference = np.abs(image[0] * 255 - mask)[known]
            # Interpolation touches edges only.
            assert (difference > 60).mean() < 0.08
            assert image.shape == (3, 64, 64)
            assert image.dtype == np.float32


def test_no_warp_is_the_picture_itself() -> None:
    still = AugmentSettings(
        size=64, scales=(1, 1), turn=0, flips=False, quarter_turns=False, light=0
    )
    one = picture()
    rng = np.random.default_rng(0)
    for _ in range(5):
        image, mask = view(one, still, rng)
        # Only the random aspect (at most 12 %) is left; most labels stay in place.
        assert (mask == one.labels[0]).mean() > 0.85
        assert 0 <= image.min() < image.max() <= 1


def test_a_synthetic_image_shows_its_structures() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[8:30, 8:30], labels[34:60, 34:60] = 1, 2
    grey = np.random.default_rng(1).integers(0, 90, (64, 64, 1), dtype=np.uint8)
    rng = np.random.default_rng(2)
    steps = []
    for _ in range(8):
        image = synthesise(np.repeat(grey, 3, -1), labels, rng)[..., 0].astype(float)
        steps.append(abs(image[12:26, 12:26].mean() - image[38:56, 38:56].mean()))
        assert image[12:26, 12:26].std() < 25
    assert np.std(steps) > 5, "the greys are drawn anew each time"


def test_a_plain_view_has_the_very_pixels_of_the_picture() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (1, 90, 70, 3), dtype=np.uint8)
    one = Picture("x", "a", pixels, (pixels[..., 0] // 2).astype(np.uint8))
    rng = np.random.default_rng(4)
    spread = {tuple(p) for p in pixels.reshape(-1, 3).tolist()} | {(0, 0, 0)}
    settings = AugmentSettings(size=48, plain=1.0, elastic=1.0, light=0)
    for _ in range(12):
        image, mask = view(one, settings, rng)
        shown = np.round(np.moveaxis(image, 0, -1) * 255).astype(np.uint8)
        assert {tuple(p) for p in shown.reshape(-1, 3).tolist()} <= spread
        inside = mask != 255
        assert inside.any()
        np.testing.assert_array_equal(mask[inside], shown[..., 0][inside] // 2)


def test_a_ct_in_the_greys_of_an_mr_has_black_air_and_often_bright_fat() -> None:
    rng = np.random.default_rng(0)
    grey, labels = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    grey[10:50, 10:50] = 38  # fat
    grey[15:28, 15:45], grey[30:45, 15:45] = 110, 112  # two organs that a CT shows alike
    labels[15:28, 15:45], labels[30:45, 15:45] = 1, 2
    pixels = np.repeat(grey[..., None], 3, -1)
    brighter = whites = apart = 0
    for _ in range(60):
        drawn = as_mr(pixels, labels, rng)
        assert drawn.dtype == np.uint8
        assert drawn.shape == pixels.shape
        air, fat = drawn[:8].mean(), drawn[11:13, 12:48].mean()
        first, second = drawn[18:25, 18:42].mean(), drawn[33:42, 18:42].mean()
        assert air < max(fat, first, second)
        brighter += fat > first
        whites += drawn.max() > 230
        apart += abs(first - second) > 20
    assert 30 < brighter < 60, "unless the fat is suppressed"
    assert whites > 20
    assert apart > 20, "one grey in the CT, two in the MR"
    np.testing.assert_array_equal(pixels[..., 0], grey)


def test_both_of_a_pair_have_the_same_grey_in_a_made_up_mr() -> None:
    kidneys = (Category("left kidney", (4,)), Category("right kidney", (9,)))
    more = (Category("liver", (2,)), Category("left rib 7", (5,)), Category("left rib 8", (6,)))
    ribs = Category("rib", (5, 6))
    named = [(c.ids[0], c.name) for c in (*kidneys, *more)]
    kinds = kinds_of(named, [ribs.ids])
    assert kinds[[4, 9, 2, 5, 6, 0, 255]].tolist() == [4, 4, 2, 5, 5, 0, 255]
    assert kinds_of(named)[6] == 6, "not a pair, and no group says so"

    labels = np.zeros((1, 64, 64), np.uint8)
    labels[:, 4:28, 4:28], labels[:, 4:28, 36:60], labels[:, 36:60, 4:28] = 4, 9, 2
    pixels = np.where(labels > 0, 110, 0).astype(np.uint8)[..., None]
    body = info("body", "ct", *kidneys, *more, groups=(ribs,))
    still = AugmentSettings(
        size=64, scales=(1, 1), turn=0, flips=False, quarter_turns=False, light=0, as_mr=1.0
    )
    share = Share(weight=1.0, prompts=3, region="torso", augment=still)
    drawn = Sampler([body], {"body": [Picture("body", "a", pixels, labels)]}, {"body": share})
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(30):
        image = drawn.draw(rng).image[0]
        left, right, liver = (
            image[row : row + 12, column : column + 12].mean() + 0.02  # an organ may be black
            for row, column in ((10, 10), (10, 42), (42, 10))
        )
        ratios.append([right / left, liver / left])
    spread = np.abs(np.log(ratios)).mean(0)
    assert spread[0] < 0.35 * spread[1], "alike but for the uneven coil; the liver differs"


def test_levels_go_towards_another_picture_and_grey_stays_grey() -> None:
    rng = np.random.default_rng(5)
    dark = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
    green = np.stack([rng.integers(low, low + 40, (64, 64)) for low in (20, 190, 60)], -1)
    like = green.astype(np.uint8)
    means = np.array([restyled(dark, like, rng).mean((0, 1)) for _ in range(40)])
    assert (means[:, 1] > dark[..., 1].mean() + 20).all()
    assert means.std(0).max() > 10, "how far is drawn anew each time"
    grey = np.repeat(dark[..., :1], 3, -1)
    moved = restyled(grey, like, rng)
    assert (moved == moved[..., :1]).all()
    assert moved.mean() > grey.mean()
    scan = restyled(dark, like[..., :1], rng)  # a like of one channel stands for all
    assert scan.shape == dark.shape


def test_a_tone_curve_keeps_the_order_of_values() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, -1)
    rng = np.random.default_rng(6)
    curves = [toned(ramp, rng)[0, :, 0].astype(int) for _ in range(10)]
    assert all((np.diff(curve) >= 0).all() for curve in curves)
    assert max(abs(a - b).max() for a, b in pairwise(curves)) > 20


def test_a_cut_brings_its_labels_along() -> None:
    zeros, ones = np.zeros((3, 40, 50), np.float32), np.ones((3, 40, 50), np.float32)
    none, all_ = np.zeros((40, 50), np.uint8), np.full((40, 50), 7, np.uint8)
    rng = np.random.default_rng(7)
    shares_ = []
    for _ in range(20):
        image, labels = laid_over(zeros, none, (ones, all_), rng)
        np.testing.assert_array_equal(labels == 7, image[0] == 1)
        shares_.append((labels == 7).mean())
    assert 0.05 < min(shares_) < max(shares_) < 0.6
    assert not zeros.any(), "the first picture stays as it was"


def test_cuts_come_from_pictures_that_know_the_same_classes() -> None:
    chosen = sampler()
    bright = picture()
    bright = Picture("land", "b", np.full_like(bright.pixels, 255), bright.labels, (3,))
    share = chosen.shares["land"]
    cutting = replace(share, augment=replace(share.augment, cut=1.0))
    chosen.shares = {**chosen.shares, "land": cutting}
    chosen.pictures = {**chosen.pictures, "land": [picture(), bright]}
    rng = np.random.default_rng(8)
    drawn = [q.image.max() for q in (chosen.draw(rng) for _ in range(60)) if q.set_name == "land"]
    # Pixels of the first picture stay below 255, and the second one is never laid over it.
    assert max(value for value in drawn if value < 1) < 0.95
    assert {value == 1 for value in drawn} == {False, True}


def test_the_mix_knows_its_entries(tmp_path: Path) -> None:
    taken = shares([info("aerial_dubai", "aerial"), info("new", "ct")], read_mix(None))
    assert taken["aerial_dubai"].weight > 1
    assert taken["new"].region == "torso"
    assert not taken["new"].augment.flips, "left and right organs are no mirror images"
    wrong = tmp_path / "mix.json"
    wrong.write_text('{"sets": {"new": {"wieght": 2}}}')
    with pytest.raises(DatasetError, match="wieght"):
        shares([info("new", "ct")], read_mix(wrong))
    for key, value, wanted in (
        ("weight", "2", "a number from 0 on"),
        ("weight", float("nan"), "a number from 0 on"),
        ("scales", 2, "two numbers above 0"),
        ("scales", [2, 1], "the smaller one first"),
        ("prompts", 2.5, "a whole number from 1 on"),
        ("size", 48, "a multiple of 32"),
        ("flips", 1, "true or false"),
        ("magnify", 0, "a number above 0"),
        ("river", 1.5, "a chance from 0 to 1"),
        ("groups", True, "a chance from 0 to 1"),
        ("region", 3, "a word"),
    ):
        with pytest.raises(DatasetError, match=f"'{key}' of new is .*{wanted}"):
            shares([info("new", "ct")], {"sets": {"new": {key: value}}})
    sizes = {"sets": {"new": {"size": 128}}}
    with pytest.raises(DatasetError, match="128 and of 256 pixels"):
        shares([info("new", "ct"), info("other", "ct")], sizes)
    for text, said in (
        ("[", "no valid JSON"),
        ('{"sets": []}', "'sets' has to be an object of names"),
        ('{"default": 3}', "the entry 'default' has to be an object"),
        ('{"domains": {"ct": 1}, "sets": {"ct": {}}}', "the entry 'ct' has to be an object"),
    ):
        wrong.write_text(text)
        with pytest.raises(DatasetError, match=said):
            read_mix(wrong)


def test_names_of_a_mix_that_the_data_lacks_are_found() -> None:
    mix = {"domains": {"ct": {}, "arial": {}}, "sets": {"new": {}, "nwe": {}}}
    assert unused_names([info("new", "ct")], mix) == ("arial", "nwe")


def test_every_entry_of_a_mix_is_told_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    table = page[page.index("## A mix of one") : page.index("## From Stable Diffusion")]
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M))))
    keys = {item.name for kind in (Share, AugmentSettings) for item in fields(kind)}
    assert told == keys - {"augment"}


def test_weights_that_are_all_zero_are_refused() -> None:
    chosen = sampler()
    none = {name: replace(share, weight=0.0) for name, share in chosen.shares.items()}
    with pytest.raises(DatasetError, match="weight 0"):
        Sampler(chosen.infos, chosen.pictures, none)


def test_parts_are_asked_for_as_the_whole_that_people_name(tmp_path: Path) -> None:
    names = ["L1 vertebra", "L2 vertebra", "liver"]
    told = {
        "name": "spine", "domain": "ct", "image_ext": ".png", "mask_ext": ".png",
        "classes": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
        "splits": {"train": []},
    }  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    spine = read_info(tmp_path)
    assert [(group.name, group.ids) for group in spine.groups] == [("vertebrae", (1, 2))]
    one = picture("spine")
    still = AugmentSettings(size=64)
    chosen = Sampler(
        [spine], {"spine": [one]}, {"spine": Share(prompts=2, groups=1.0, augment=still)}
    )
    rng = np.random.default_rng(9)
    for _ in range(10):
        asked = chosen.ask(spine, one, np.zeros((3, 64, 64), np.float32), one.labels[0], 2, rng)
        assert set(asked.prompts[0]) <= {"vertebrae", *other_words("vertebrae")} | {
            f"{word} in {place}"
            for word in ("vertebrae", *other_words("vertebrae"))
            for place in PLACES["ct"]
        }
        np.testing.assert_array_equal(asked.masks[0], np.isin(one.labels[0], (1, 2)))
