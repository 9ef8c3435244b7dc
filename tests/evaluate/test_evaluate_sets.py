"""Evaluation of fake models whose every answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.evaluate.labelled_sets import Reader, write_set
from tests.train import layout_folders as folders

from digseg.errors import DatasetError, InputNotFoundError, UsageError
from digseg.evaluate import EvaluateSettings, evaluate, open_public, open_sets
from digseg.evaluate.core import Evaluation

WATER = (1, "water", ("lake", "river"))
ROOF = (2, "roof", ("house",))


def _run(folder: Path, model: Reader, **choices: object) -> dict:
    settings = EvaluateSettings(**choices)  # type: ignore[arg-type]
    return evaluate(open_sets(folder), model, settings).to_dict()


def _halves(height: int = 16, width: int = 24) -> np.ndarray:
    """Background above; below water at the left and roof at the right."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :, : width // 2] = 1
    mask[height // 2 :, width // 2 :] = 2
    return mask


def test_a_perfect_model_is_perfect_everywhere(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "s", {"val": {"a": _halves()}}, [WATER, ROOF])
    words = {"water": (1,), "roof": (2,), "lake": (1,), "river": (1,), "house": (2,)}
    found = _run(folder, Reader(words))
    assert found["n"] == 1
    assert found["miou"] == found["mdice"] == found["pixel_accuracy"] == 1.0
    assert found["iou"] == found["dice"] == {"water": 1.0, "roof": 1.0}
    assert found["boundary_f"] == found["by_prompt"]["miou"] == found["synonym_iou"] == 1.0
    assert found["absent_area"] == 0.0
    assert found["calibration"]["ece"] == pytest.approx(0.0)
    assert found["synonyms"] == {"water": {"lake": 1.0, "river": 1.0}, "roof": {"house": 1.0}}


def test_a_synonym_that_is_not_understood_lowers_only_the_synonyms(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "s", {"val": {"a": _halves()}}, [WATER, ROOF])
    found = _run(folder, Reader({"water": (1,), "roof": (2,), "river": (1,), "house": (2,)}))
    assert found["miou"] == 1.0
    assert found["synonyms"]["water"] == {"lake": 0.0, "river": 1.0}
    assert found["synonym_iou"] == pytest.approx((0.5 + 1.0) / 2)
    assert found["synonym_ratio"] == pytest.approx(0.75)


def test_synonyms_compete_as_the_arg_max_does(tmp_path: Path, rng: np.random.Generator) -> None:
    """One class by a synonym, the others by name: equal to a whole arg-max with that map."""
    from digseg.evaluate.dataset import read_set
    from digseg.evaluate.scores import SetScores, decide

    classes = [(1, "a", ("s0",)), (2, "b", ("s1",)), (3, "c", ("s2",))]
    folder = write_set(tmp_path / "s", {"val": {"x": _halves()}}, classes)
    stack = rng.integers(0, 4, (2, 3, 9, 11)).astype(np.float32) / 4  # many ties
    synonym = rng.integers(0, 4, (2, 9, 11)).astype(np.float32) / 4
    truth = rng.integers(0, 4, (2, 9, 11)).astype(np.uint16)
    valid = rng.random((2, 9, 11)) > 0.2
    for exhaustive in (False, True):
        scores = SetScores(read_set(folder), exhaustive=exhaustive)
        for index in range(3):
            words = {index: {f"s{index}": synonym}}
            scores.add_synonyms(stack, words, truth, valid, (0, 1, 2))
            replaced = stack.copy()
            replaced[:, index] = synonym
            won = decide(replaced, 0.5, exhaustive, (0, 1, 2)) == index + 1
            true = truth == index + 1
            expected = (won & true & valid).sum() / ((won | true) & valid).sum()
            assert scores.synonyms[index, f"s{index}"].iou == pytest.approx(expected)


def test_background_is_left_out_of_the_mean_and_ignored_pixels_do_not_count(
    tmp_path: Path,
) -> None:
    mask = _halves()
    mask[0] = 255  # where the model invents water
    image = np.where(mask == 255, 20, mask * 20)
    folder = write_set(tmp_path / "s", {"val": {"a": mask}}, [WATER, ROOF], {"a": image})
    found = _run(folder, Reader({"water": (1,), "roof": (2,)}), synonyms=0)
    assert found["iou"] == {"water": 1.0, "roof": 1.0}
    # Asked for water, a roof is a false mark: every pixel of the row counted would show here.
    assert found["absent"]["in_set"] is None


def test_false_marks_on_background_cost_iou_exactly(tmp_path: Path) -> None:
    mask = _halves()
    image = mask * 20
    image[0, :12] = 20  # 12 background pixels that look like water
    folder = write_set(tmp_path / "s", {"val": {"a": mask}}, [WATER, ROOF], {"a": image})
    found = _run(folder, Reader({"water": (1,), "roof": (2,)}))
    assert found["iou"]["water"] == pytest.approx(96 / 108)
    assert found["dice"]["water"] == pytest.approx(192 / 204)
    assert found["miou"] == pytest.approx((96 / 108 + 1) / 2)
    assert found["pixel_accuracy"] == pytest.approx(1 - 12 / 384)


def test_background_wins_where_all_are_below_the_threshold(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "s", {"val": {"a": _halves()}}, [WATER, ROOF])
    weak = {
        "water": lambda ids: np.where(ids == 1, 0.9, 0.4),
        "roof": lambda ids: np.where(ids == 2, 0.9, 0.3),
    }
    assert _run(folder, Reader(weak))["miou"] == 1.0
    assert _run(folder, Reader(weak), threshold=0.35)["iou"]["water"] == pytest.approx(96 / 288)


def test_a_set_labelled_everywhere_knows_no_background(tmp_path: Path) -> None:
    mask = np.full((16, 16), 1, np.uint8)
    mask[:, 8:] = 2
    weak = {
        "water": lambda ids: np.where(ids == 1, 0.3, 0.1),
        "roof": lambda ids: np.where(ids == 2, 0.3, 0.1),
    }
    whole = write_set(tmp_path / "e", {"train": {"t": mask}, "val": {"a": mask}}, [WATER, ROOF])
    found = _run(whole, Reader(weak))
    assert found["exhaustive"] is True
    assert found["miou"] == 1.0
    # The train masks decide, never those that are judged.
    holes = _halves(16, 16)
    part = write_set(tmp_path / "p", {"train": {"t": holes}, "val": {"a": mask}}, [WATER, ROOF])
    found = _run(part, Reader(weak))
    assert found["exhaustive"] is False
    assert found["miou"] == 0.0


def test_without_train_files_another_split_tells_what_is_labelled(tmp_path: Path) -> None:
    whole, holes = np.full((16, 16), 1, np.uint8), _halves(16, 16)
    splits = {"train": {"t": holes}, "val": {"v": whole}, "test": {"x": whole}}
    folder = write_set(tmp_path / "s", splits, [WATER, ROOF])
    model = Reader({"water": (1,)})
    assert _run(folder, model, split="test")["exhaustive_by"] == "train"
    for part in ("images", "masks"):
        (folder / part / "t.png").unlink()
    found = _run(folder, model, split="test")
    assert (found["exhaustive"], found["exhaustive_by"]) == (True, "val")
    alone = write_set(tmp_path / "a", {"test": {"x": holes}}, [WATER, ROOF])
    found = _run(alone, model, split="test")
    assert (found["exhaustive"], found["exhaustive_by"]) == (False, "test")


def test_one_class_is_cut_at_the_threshold(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:4] = 1
    folder = write_set(tmp_path / "s", {"train": {"a": mask}, "val": {"a": mask}}, [WATER])
    soft = {"water": lambda ids: np.where(ids == 1, 0.5, 0.49)}
    assert _run(folder, Reader(soft))["miou"] == 1.0
    assert _run(folder, Reader(soft), threshold=0.4)["miou"] == pytest.approx(0.25)


def test_absent_prompts_are_counted_by_pixel(tmp_path: Path) -> None:
    only_water = np.where(_halves() == 2, 0, _halves()).astype(np.uint8)
    folder = write_set(tmp_path / "s", {"val": {"a": only_water}}, [WATER, ROOF])
    # Roofs are seen in the water (96 of 384 pixels); foreign things on a quarter of the picture.
    model = Reader({"water": (1,), "roof": (1,), "liver": (1,)})
    found = _run(folder, model, synonyms=0)
    assert found["absent"]["in_set"] == pytest.approx(0.25)
    assert found["absent"]["by_prompt"] == {
        "liver": pytest.approx(0.25),
        "nucleus": 0.0,
        "hippocampus": 0.0,
        "polyp": 0.0,
    }
    assert found["absent_area"] == pytest.approx(2 * 96 / (5 * 384))
    assert found["iou"]["roof"] is None


def test_groups_are_prompts_of_their_own(tmp_path: Path) -> None:
    masks = np.zeros((16, 24), np.uint8)
    masks[:, :6], masks[:, 6:12], masks[:, 12:18] = 1, 2, 3
    folder = write_set(
        tmp_path / "s",
        {"val": {"a": masks}},
        [(1, "left part", ()), (2, "right part", ()), (3, "stone", ())],
        groups={"whole": [1, 2]},
    )
    model = Reader({"whole": (1, 2), "stone": (3,), "left part": (2,), "right part": (1,)})
    found = _run(folder, model)
    assert found["groups"]["iou"] == {"whole": 1.0, "stone": 1.0}
    assert found["groups"]["miou"] == 1.0
    assert found["iou"] == {"left part": 0.0, "right part": 0.0, "stone": 1.0}


def test_parts_of_the_body_form_a_group_by_their_common_word(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:8], mask[8:12] = 1, 2
    classes = [(1, "L1 vertebra", ()), (2, "L2 vertebra", ()), (3, "liver", ())]
    folder = write_set(tmp_path / "s", {"val": {"a": mask}}, classes, domain="ct")
    found = _run(folder, Reader({"vertebrae": (1, 2), "L1 vertebra": (1,), "L2 vertebra": (2,)}))
    assert found["groups"]["iou"] == {"vertebrae": 1.0, "liver": None}


def test_of_groups_that_share_a_class_the_first_is_judged(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:4], mask[4:8], mask[8:12] = 1, 2, 3
    classes = [(1, "left rib 7", ()), (2, "right rib 7", ()), (3, "sacrum", ())]
    folder = write_set(tmp_path / "s", {"val": {"a": mask}}, classes, domain="ct")
    (one,) = open_sets(folder)
    assert one.groups == {"rib": (1, 2), "bone": (1, 2, 3)}
    found = _run(folder, Reader({"rib": (1, 2), "bone": (1, 2, 3), "sacrum": (3,)}))
    assert found["groups"]["iou"] == {"rib": 1.0, "sacrum": 1.0}


def test_a_class_that_an_image_does_not_know_is_not_asked_there(tmp_path: Path) -> None:
    knows, silent = _halves(), np.where(_halves() == 2, 0, _halves()).astype(np.uint8)
    folder = write_set(
        tmp_path / "s",
        {"val": {"a": knows, "b": silent}},
        [WATER, ROOF],
        {"b": knows * 20},  # the roof is in the picture, and no mask says so
        not_annotated={"b": [2]},
    )
    model = Reader({"water": (1,), "roof": (2,)})
    found = _run(folder, model, synonyms=0, absent=0)
    assert found["iou"] == {"water": 1.0, "roof": 1.0}
    assert found["absent"]["in_set"] is None
    assert ("water",) in model.asked


def test_things_not_annotated_are_never_asked_as_absent(tmp_path: Path) -> None:
    folder = write_set(
        tmp_path / "s", {"val": {"a": _halves()}}, [WATER, ROOF], not_annotated=["liver"]
    )
    found = _run(folder, Reader({}))
    assert "liver" not in found["absent"]["by_prompt"]


def test_planes_of_odd_size_are_padded_and_large_ones_tiled(tmp_path: Path) -> None:
    odd, large = _halves(67, 85), _halves(70, 200)
    folder = write_set(
        tmp_path / "s", {"val": {"a": odd, "b": large, "c": _halves(13, 21)}}, [WATER, ROOF]
    )
    model = Reader({"water": (1,), "roof": (2,)}, multiple=16)
    found = _run(folder, model, tile=64, overlap=16)
    assert found["miou"] == 1.0
    # 67 x 85 at once, 70 x 200 by tiles, 13 x 21 at the engine's smallest size.
    assert {size[-2:] for size in model.sizes} == {(80, 96), (64, 64)}


def test_synonyms_and_absent_things_keep_to_their_budget(tmp_path: Path) -> None:
    masks = {f"m{i}": _halves() for i in range(8)}
    folder = write_set(tmp_path / "s", {"val": masks}, [WATER, ROOF])
    words = {"water": (1,), "roof": (2,), "lake": (1,), "river": (1,), "house": (2,)}
    model = Reader(words)
    # 384 pixels x 7 words is one picture's cost; two pictures may be asked.
    found = _run(folder, model, budget=2.1 * 384 * 7 / 1e6)
    assert sum("lake" in asked for asked in model.asked) == 2
    assert found["synonym_iou"] == found["synonym_reference"] == 1.0
    assert found["n"] == 8


def test_limit_takes_images_evenly(tmp_path: Path) -> None:
    masks = {f"m{i}": _halves() for i in range(9)}
    folder = write_set(tmp_path / "s", {"val": masks}, [WATER, ROOF])
    found = _run(folder, Reader({"water": (1,), "roof": (2,)}), limit=3)
    assert [item["name"] for item in found["pictures"]] == ["m1", "m4", "m7"]
    assert found["n"] == 3


def test_a_folder_of_sets_reports_each_and_the_mean(tmp_path: Path) -> None:
    write_set(tmp_path / "one", {"val": {"a": _halves()}}, [WATER, ROOF])
    write_set(tmp_path / "two", {"val": {"a": _halves()}}, [(1, "sea", ()), (2, "hut", ())])
    write_set(tmp_path / "none", {"train": {"a": _halves()}}, [WATER, ROOF])
    model = Reader({"water": (1,), "roof": (2,), "sea": (1,)})
    found = _run(tmp_path, model)
    assert set(found["sets"]) == {"one", "two"}
    assert found["sets"]["two"]["miou"] == 0.5
    assert found["miou"] == 0.75
    assert found["iou"]["two/hut"] == 0.0
    assert found["n"] == 2


@pytest.mark.parametrize("key", ["miou", "iou", "dice", "absent_area", "synonym_iou", "n"])
def test_keys_of_the_contract(tmp_path: Path, key: str) -> None:
    folder = write_set(tmp_path / "s", {"val": {"a": _halves()}}, [WATER, ROOF])
    assert key in _run(folder, Reader({}))


def test_unknown_value_names_file_and_value(tmp_path: Path) -> None:
    mask = _halves()
    mask[3, 3] = 77
    folder = write_set(tmp_path / "s", {"val": {"odd": mask}}, [WATER, ROOF])
    with pytest.raises(DatasetError, match=r"odd\.png.* 77"):
        _run(folder, Reader({}))


def test_size_mismatch_names_file_and_sizes(tmp_path: Path) -> None:
    folder = write_set(
        tmp_path / "s",
        {"val": {"odd": _halves()}},
        [WATER, ROOF],
        {"odd": np.zeros((10, 24), np.uint8)},
    )
    with pytest.raises(DatasetError, match=r"odd\.png is 16x24 but its image is 10x24"):
        _run(folder, Reader({}))


def test_missing_mask_is_named(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "s", {"val": {"a": _halves()}}, [WATER, ROOF])
    (folder / "masks" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"mask a\.png"):
        _run(folder, Reader({}))


def test_missing_split_tells_which_there_are(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "s", {"val": {"a": _halves()}}, [WATER, ROOF])
    with pytest.raises(DatasetError, match=r"'test'.*val"):
        _run(folder, Reader({}), split="test")


def test_no_folder_no_set_and_broken_json(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError):
        open_sets(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        open_sets(tmp_path)
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(DatasetError, match="JSON"):
        open_sets(tmp_path)
    (tmp_path / "dataset.json").write_text('{"classes": []}', encoding="utf-8")
    with pytest.raises(DatasetError):
        open_sets(tmp_path)


@pytest.mark.parametrize(
    "choices", [{"threshold": 1.5}, {"limit": 0}, {"synonyms": -1}, {"overlap": 400}]
)
def test_choices_out_of_range(choices: dict) -> None:
    with pytest.raises(UsageError):
        EvaluateSettings(**choices)


def test_several_results_keep_their_names() -> None:
    empty = Evaluation(EvaluateSettings(), "m")
    assert empty.to_dict()["n"] == 0


@pytest.mark.parametrize("layout", ["voc", "loveda", "cityscapes", "kvasir", "msd"])
def test_public_layouts_are_judged_as_they_lie(layout: str, tmp_path: Path) -> None:
    values = {"msd": [1, 2], "kvasir": [0, 255], "loveda": [1, 2], "cityscapes": [7, 33]}
    folder = folders.WRITERS[layout](tmp_path, values.get(layout, [0, 1, 255]))
    everywhere = Reader({}, otherwise=1.0)
    found = evaluate([open_public(folder)], everywhere, EvaluateSettings(synonyms=0)).to_dict()
    assert found["n"] > 0
    # Everything is given to the first class, or marked: its IoU is its share of the labelled.
    name, share = {
        "voc": ("aeroplane", 5 / 11),
        "loveda": ("building", 0.5),
        "cityscapes": ("road", 0.5),
        "kvasir": ("polyp", 0.5),
        "msd": ("anterior hippocampus", 1 / (8 * 10 * 6)),
    }[layout]
    assert found["iou"][name] == pytest.approx(share, abs=0.02 if layout == "kvasir" else 1e-9)
