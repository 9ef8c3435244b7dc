"""Measures against values counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from digseg.evaluate.metrics import Area, Boundary, Calibration, Confusion, Overlap, outline
from digseg.types import AnyArray

TRUTH = np.array([[1, 1, 0, 0], [1, 2, 2, 0]])
RESULT = np.array([[1, 0, 0, 2], [1, 2, 1, 0]])


def test_confusion_counts_by_hand() -> None:
    confusion = Confusion(("a", "b", "c"))
    valid = np.ones(TRUTH.shape, bool)
    valid[1, 3] = False
    confusion.add(TRUTH, RESULT, valid)
    # a: 2 hit, 3 true, 3 marked; b: 1 hit, 2 true, 2 marked; c nowhere.
    assert confusion.iou() == {"a": pytest.approx(2 / 4), "b": pytest.approx(1 / 3), "c": None}
    assert confusion.dice() == {"a": pytest.approx(4 / 6), "b": pytest.approx(2 / 4), "c": None}
    assert confusion.accuracy() == pytest.approx(4 / 7)


def test_a_class_without_truth_has_no_iou_though_it_was_marked() -> None:
    confusion = Confusion(("a", "b"))
    confusion.add(np.array([1, 1]), np.array([1, 2]), np.ones(2, bool))
    assert confusion.iou() == {"a": 0.5, "b": None}


def test_counts_pool_over_pictures() -> None:
    one = Confusion(("a",))
    one.add(np.array([1, 0]), np.array([1, 1]), np.ones(2, bool))
    one.add(np.array([1, 1]), np.array([0, 1]), np.ones(2, bool))
    assert one.iou()["a"] == pytest.approx(2 / 4)


def test_overlap_against_sklearn_like_counting(rng: np.random.Generator) -> None:
    truth, marked, valid = (rng.random((3, 50, 40)) > 0.5).astype(bool)
    overlap = Overlap()
    overlap.add(truth, marked, valid)
    a = set(np.flatnonzero(truth & valid))
    b = set(np.flatnonzero(marked & valid))
    assert overlap.iou == pytest.approx(len(a & b) / len(a | b))
    assert overlap.dice == pytest.approx(2 * len(a & b) / (len(a) + len(b)))


def _square(left: int) -> AnyArray:
    mask = np.zeros((40, 40), bool)
    mask[10:30, left : left + 15] = True
    return mask


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (2, 1.0)])
def test_boundary_within_tolerance_is_whole(shift: int, expected: float) -> None:
    boundary = Boundary(tolerance=2)
    boundary.add(_square(10), _square(10 + shift), np.ones((40, 40), bool))
    assert boundary.f_score == pytest.approx(expected)


def test_boundary_beyond_tolerance_by_hand() -> None:
    boundary = Boundary(tolerance=1)
    boundary.add(_square(10), _square(15), np.ones((40, 40), bool))
    # Outlines are 15 x 20 rings (66 pixels). Shifted by five, the top and bottom rows share ten
    # columns and one more is near; the left and right sides are far apart. Only the rows next to
    # top and bottom of the inner sides touch too, counted below by brute force.
    edge_a = np.argwhere(outline(_square(10)))
    edge_b = np.argwhere(outline(_square(15)))
    assert len(edge_a) == len(edge_b) == 66
    distance = np.abs(edge_a[:, None] - edge_b[None]).max(axis=2)
    recall = (distance.min(axis=1) <= 1).mean()
    precision = (distance.min(axis=0) <= 1).mean()
    assert 0 < recall < 1
    assert boundary.f_score == pytest.approx(2 * precision * recall / (precision + recall))


def test_boundary_without_any_result_is_zero_and_without_truth_is_nothing() -> None:
    empty, full = np.zeros((40, 40), bool), np.ones((40, 40), bool)
    missed, invented = Boundary(), Boundary()
    missed.add(_square(10), empty, full)
    invented.add(empty, _square(10), full)
    assert missed.f_score == 0.0
    assert invented.f_score is None


def test_the_border_of_the_picture_is_no_outline() -> None:
    assert not outline(np.ones((5, 6), bool)).any()


def test_calibration_of_honest_and_boastful_maps() -> None:
    truth = np.array([True, False, True, False])
    everywhere = np.ones(4, bool)
    honest, boastful = Calibration(), Calibration()
    honest.add(np.full(4, 0.5, np.float32), truth, everywhere)
    boastful.add(np.full(4, 0.95, np.float32), truth, everywhere)
    assert honest.error == pytest.approx(0.0)
    assert boastful.error == pytest.approx(0.45)
    assert boastful.table() == [
        {"count": 4, "probability": pytest.approx(0.95), "true": pytest.approx(0.5)}
    ]


def test_area_is_a_share_of_valid_pixels() -> None:
    area = Area()
    area.add(np.array([True, True, False, False]), np.array([True, False, True, True]))
    assert area.share == pytest.approx(1 / 3)
    assert Area().share is None
