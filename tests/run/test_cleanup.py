"""Clean-up does what was asked for and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import digseg
from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.prompts import PromptSet
from digseg.raster import ClassTable
from digseg.run import cleanup
from digseg.run.cleanup import cleaned
from digseg.settings import SegmentSettings
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["liver", "tumour"]))
#: Voxels of 10 x 10 x 10 mm: one millilitre each.
GRID = Grid.of((12, 14, 16), np.diag([10.0, 10.0, 10.0, 1.0]), space="patient")


def scene() -> AnyArray:
    """A liver with a cavity, a tumour inside it, a second piece and a speck."""
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[3, 3, 3] = 0  # a cavity
    labels[5, 5, 5] = 2  # a tumour
    labels[10:12, 10:13, 10:13] = 1  # 18 voxels
    labels[0, 13, 15] = 1  # a speck
    labels[10, 1, 1] = 2  # a speck of tumour as large as the first: the first one stays
    return labels


def test_nothing_is_done_unasked() -> None:
    assert not cleanup.wanted(SegmentSettings())
    np.testing.assert_array_equal(cleaned(scene(), GRID, CLASSES, SegmentSettings()), scene())


def test_holes_are_filled_but_not_with_what_they_hold() -> None:
    found = cleaned(scene(), GRID, CLASSES, SegmentSettings(fill_holes=True))
    expected = scene()
    expected[3, 3, 3] = 1
    np.testing.assert_array_equal(found, expected)
    own = ndimage.binary_fill_holes(scene() == 1)
    np.testing.assert_array_equal(own & (scene() != 2), found == 1)


def test_the_largest_piece_of_each_label_stays() -> None:
    found = cleaned(scene(), GRID, CLASSES, SegmentSettings(largest=True))
    expected = scene()
    expected[10:12, 10:13, 10:13] = 0
    expected[0, 13, 15] = 0
    expected[10, 1, 1] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("least", "pieces"), [(1.0, 3), (1.5, 2), (18.0, 2), (18.1, 1)])
def test_minimum_in_millilitres(least: float, pieces: int) -> None:
    found = cleaned(scene(), GRID, CLASSES, SegmentSettings(minimum_ml=least))
    assert ndimage.label(found == 1)[1] == pieces


def test_a_minimum_needs_a_size() -> None:
    with pytest.raises(UsageError, match="known size"):
        cleaned(scene(), Grid.of((12, 14, 16)), CLASSES, SegmentSettings(minimum_ml=1.0))


def test_large_volumes_go_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = SegmentSettings(largest=True, fill_holes=True, minimum_ml=2)
    expected = cleaned(scene(), GRID, CLASSES, chosen)
    monkeypatch.setattr(cleanup, "IN_MEMORY", 1)
    through = cleaned(scene(), GRID, CLASSES, chosen)
    assert isinstance(through, np.memmap)
    np.testing.assert_array_equal(through, expected)


def test_a_run_cleans_when_asked_and_its_recipe_says_so() -> None:
    from tests.models import Brightness

    volume = (scene() == 1).astype(np.float32)
    chosen = {"model": Brightness(), "kind": "volume", "spacing": 0.0, "context": False}
    with digseg.segment(volume, ["bright"], largest=True, **chosen) as result:
        assert ndimage.label(result.labels)[1] == 1
        assert result.recipe["settings"]["largest"] is True
        assert "--largest" in result.recipe["command"]
    with digseg.segment(volume, ["bright"], **chosen) as result:
        np.testing.assert_array_equal(result.labels, volume)
    with pytest.raises(UsageError, match="volumes"):
        digseg.segment(volume[0], ["bright"], model=Brightness(), largest=True)
