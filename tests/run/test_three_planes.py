"""The report picture of a volume: the same for every orientation, crossing where the mask is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.run.test_passes import TURNS, turned, upright

from digseg.orientation import Turn
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Volume
from digseg.run.picture import contoured, save_picture
from digseg.run.three_planes import three_planes
from digseg.settings import SegmentSettings
from digseg.types import AnyArray

TABLE = ClassTable.of(PromptSet.parse(["liver", "spleen"]))
SETTINGS = SegmentSettings(percentiles=(0.0, 100.0))


def masked(turn: Turn = TURNS[0]) -> tuple[Volume, Mask]:
    body = np.arange(10 * 12 * 14, dtype=np.float32).reshape(10, 12, 14)
    labels = np.zeros(body.shape, np.uint8)
    labels[6:9, 3:8, 2:6] = 1
    labels[6, 3:5, 9:12] = 2
    volume = turned(upright(body), turn)
    return volume, Mask(turn.apply(labels), volume.grid, TABLE)


@pytest.mark.parametrize("turn", TURNS[::5], ids=str)
def test_the_picture_is_the_same_in_every_orientation(turn: Turn) -> None:
    expected = three_planes(*masked(), SETTINGS)
    found = three_planes(*masked(turn), SETTINGS)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_planes_cross_in_the_mask() -> None:
    """The axial plane with both labels, and the planes through the middle of what it holds."""
    _, labels = three_planes(*masked(), SETTINGS)
    axial, sagittal = labels[:12, :14], labels[:12, 18:]
    coronal = labels[16:, :14]
    assert set(np.unique(axial)) == {0, 1, 2}
    assert (axial == 1).sum() == 20
    # The head is up: slices 6 to 8 of 10 are rows 1 to 3 from the top.
    assert set(np.nonzero(sagittal == 1)[0]) == {1, 2, 3}
    assert set(np.nonzero(coronal == 1)[0]) == {1, 2, 3}
    # The liver is on the right of the patient, which is the left of the picture.
    assert np.nonzero(coronal == 1)[1].max() < 7


def test_a_speck_draws_no_plane_and_a_small_thing_counts_as_much_as_a_large_one() -> None:
    """Planes go through the middle of both, not through the first pixels that hold both."""
    volume, _ = masked()
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[1:8, 2:9, 1:6] = 1
    labels[1, 0, 13] = 2  # a speck, in the first plane with both
    labels[4:7, 6:9, 9:12] = 2
    _, seen = three_planes(volume, Mask(labels, volume.grid, TABLE), SETTINGS)
    axial, coronal = seen[:12, :14], seen[16:, :14]
    assert (axial == 2).sum() == (coronal == 2).sum() == 9
    assert (axial == 1).sum() == (coronal == 1).sum() == 35


def test_contours_are_the_inner_border() -> None:
    labels: AnyArray = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    _, mask = masked()
    drawn = contoured(np.zeros((7, 7, 3), np.uint8), labels, mask)
    border = drawn.any(axis=-1)
    assert border.sum() == 16
    assert not border[2:5, 2:5].any()
    assert tuple(drawn[1, 1]) == TABLE.entries[0].color


def test_a_picture_is_written_with_its_legend(tmp_path: Path) -> None:
    volume, mask = masked()
    path = save_picture(volume, mask, tmp_path / "three.png", SETTINGS)
    with Image.open(path) as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24)}
    assert TABLE.entries[0].color in colors
    assert TABLE.entries[1].color in colors
    assert list(tmp_path.iterdir()) == [path]
