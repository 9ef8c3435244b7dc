"""Volumes: labels lie on what they are labels of, whatever the file's order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from napari_digseg._controller import Controller
from tests.plugin.test_controller import finished, opened, shown

Make = Callable[..., Controller]
Until = Callable[..., None]


@pytest.fixture(params=["RAS", "PIL"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bright box off the centre, in a file of one order or another."""
    data = np.full((96, 80, 12), -100, np.int16)
    data[20:50, 40:72, 3:9] = 200
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    image = nibabel.Nifti1Image(data, affine)
    turn = nibabel.orientations.axcodes2ornt(request.param)
    path = tmp_path / "box.nii.gz"
    nibabel.save(image.as_reoriented(turn), path)
    return path


def ready(control: Controller, path: Path) -> Controller:
    control = opened(control, path, "bright")
    settings = control.state.settings.with_(window=(-100.0, 200.0), context=False, tile=96)
    control.set(replace(control.state, settings=settings))
    return control


def test_labels_of_a_volume_lie_on_the_box(volume: Path, controller: Make, until: Until) -> None:
    control = ready(controller(), volume)
    control.runs.start()
    until(control, lambda: finished(control))
    image = control.viewer.layers["box"]
    expected = np.asarray(image.data[...]) > 50
    found = shown(control) == 1
    # Small planes are magnified for the model: an edge may move by a pixel, not the box.
    assert (found & expected).sum() / (found | expected).sum() > 0.85
    labels = control.run.labels  # type: ignore[union-attr]
    np.testing.assert_allclose(labels.extent.world, image.extent.world)


def test_a_saved_volume_is_in_the_order_of_the_file(
    volume: Path, controller: Make, until: Until, tmp_path: Path
) -> None:
    control = ready(controller(), volume)
    control.runs.start()
    until(control, lambda: finished(control))
    out = tmp_path / "out.nii.gz"
    control.review.save(out)
    until(control, lambda: bool(control.review.saved) or control.status.problem)
    assert control.review.saved, control.status
    image, mask = nibabel.load(volume), nibabel.load(out)
    np.testing.assert_array_equal(mask.affine, image.affine)
    expected = np.asarray(image.dataobj) > 50
    found = np.asarray(mask.dataobj) == 1
    assert (found & expected).sum() / (found | expected).sum() > 0.85


def test_a_slab_lies_where_its_slices_lie(volume: Path, controller: Make, until: Until) -> None:
    control = ready(controller(), volume)
    control.set(replace(control.state, region="slab", slab=(2, 5)))
    control.runs.start()
    until(control, lambda: finished(control))
    image = control.viewer.layers["box"]
    labels = control.run.labels  # type: ignore[union-attr]
    assert labels.data.shape == (4, *image.data.shape[1:])
    np.testing.assert_allclose(labels.data_to_world((0, 0, 0)), image.data_to_world((2, 0, 0)))
    expected = np.asarray(image.data[2:6]) > 50
    found = shown(control) == 1
    assert (found & expected).sum() / (found | expected).sum() > 0.85
