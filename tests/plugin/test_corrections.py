"""Painted corrections are what is saved and measured; going back changes looks alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari_digseg import _controller
from napari_digseg._controller import Controller
from napari_digseg._preferences import Preferences
from napari_digseg._state import State
from qtpy.QtWidgets import QApplication
from rasterio.transform import Affine
from tests.plugin.gui import segment_widget
from tests.plugin.test_controller import finished, opened

Make = Callable[..., Controller]
Until = Callable[..., None]


@pytest.fixture
def painted(scene: Path, controller: Make, until: Until) -> Controller:
    """A finished run of which a copy was painted on: 100 x 50 pixels of red are blue now."""
    control = opened(controller(), scene, "red", "blue")
    control.runs.start()
    until(control, lambda: finished(control))
    copy = control.review.editable_copy()
    copy.data[:100, :50] = 2
    return control


def test_painted_labels_are_saved(painted: Controller, until: Until, tmp_path: Path) -> None:
    out = tmp_path / "labels.tif"
    painted.review.save(out)
    until(painted, lambda: bool(painted.review.saved))
    assert "painted" in painted.status.message
    with rasterio.open(out) as saved, rasterio.open(tmp_path / "scene.tif") as image:
        assert saved.transform == image.transform
        assert saved.crs == image.crs
        labels = saved.read(1)
    assert (labels[:100, :50] == 2).all()
    assert (labels == 2).sum() == 300 * 210 + 100 * 50
    assert str(out) not in painted.review.command_line  # which paints nothing


def test_painted_labels_are_measured_and_drawn_as_polygons(
    painted: Controller, until: Until, tmp_path: Path
) -> None:
    painted.review.measure()
    until(painted, lambda: bool(painted.review.statistics))
    pixels = {row["name"]: row["pixels"] for row in painted.review.statistics}
    assert pixels == {"red": 300 * 210 - 100 * 50, "blue": 300 * 210 + 100 * 50}
    for name in ("regions.gpkg", "areas.csv"):
        painted.review.saved = []
        painted.review.save(tmp_path / name)
        until(painted, lambda: bool(painted.review.saved))
    with (tmp_path / "areas.csv").open() as file:
        assert {row["name"]: int(row["pixels"]) for row in csv.DictReader(file)} == pixels
    import geopandas

    drawn = geopandas.read_file(tmp_path / "regions.gpkg")
    assert drawn.groupby("prompt").pixels.sum().to_dict() == pixels


def test_what_can_not_be_saved_is_one_sentence(
    painted: Controller, until: Until, tmp_path: Path
) -> None:
    painted.review.save(tmp_path / "labels.nii.gz")
    until(painted, lambda: painted.status.problem)
    assert "flat" in painted.status.message
    assert not list(tmp_path.glob("labels*"))


def test_what_has_no_data_stays_without(controller: Make, until: Until, tmp_path: Path) -> None:
    pixels = np.full((3, 64, 96), 250, np.uint8)
    pixels[:, :, :32] = 0
    path = tmp_path / "holes.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 64, "width": 96, "dtype": "uint8"}
    place = Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4e6)
    with rasterio.open(path, "w", **profile, nodata=0, crs="EPSG:32631", transform=place) as target:
        target.write(pixels)
    control = opened(controller(), path, "red")
    control.runs.start()
    until(control, lambda: finished(control))
    copy = control.review.editable_copy()
    copy.data[:10, :10] = 1  # what a person paints is known
    copy.data[:10, 90:] = 0
    control.review.save(tmp_path / "labels.tif")
    until(control, lambda: bool(control.review.saved))
    with rasterio.open(tmp_path / "labels.tif") as saved:
        labels, nodata = saved.read(1), saved.nodata
    expected = np.ones((64, 96), np.uint8)
    expected[:, :32] = nodata
    expected[:10, :10], expected[:10, 90:] = 1, 0
    np.testing.assert_array_equal(labels, expected)


def test_without_the_painted_layer_the_run_is_saved(
    painted: Controller, until: Until, tmp_path: Path
) -> None:
    painted.viewer.layers.remove(painted.viewer.layers[-1])
    painted.review.save(tmp_path / "labels.tif")
    until(painted, lambda: bool(painted.review.saved))
    with rasterio.open(tmp_path / "labels.tif") as saved:
        assert (saved.read(1) == 2).sum() == 300 * 210


def test_undo_leaves_settings_and_new_prompts_alone() -> None:
    before = State().add("water").add("trees")
    changed = before.edit("water", threshold=0.8).edit("trees", shown=False)
    settings = changed.settings.with_(ensemble=4)
    now = replace(changed, settings=settings, region="view").remove("trees").add("road")
    back = now.looking_like(before)
    assert [row.prompt.name for row in back.rows] == ["water", "road"]
    assert back.row("water").threshold == 0.5
    assert (back.settings, back.region) == (settings, "view")


def test_places_are_visited_beside_a_layer_with_more_axes(
    controller: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = controller()
    image = control.viewer.add_image(np.zeros((6, 40, 50), np.float32), name="volume")
    control.viewer.add_image(np.zeros((3, 6, 40, 50), np.float32), name="film")
    control.viewer.dims.set_point(0, 2)

    class Run:
        image_layer, starts = image, (0, 0, 0)
        target = type("Target", (), {"lead": 0})

    place: Any = type("Place", (), {"index": (4, 10, 20)})
    control.review._look_at(Run, place)  # type: ignore[arg-type]
    assert control.viewer.dims.point[:2] == (2, 4)


def test_a_dock_that_was_closed_comes_back_as_it_was(viewer: Any) -> None:
    for name in ("first", "second"):
        viewer.add_image(np.zeros((8, 40, 50), np.float32), name=name)
    widget = segment_widget(viewer)
    widget.layer.setCurrentText("second")
    widget.region.setCurrentText("slab")
    widget.first.setValue(2)
    widget.last.setValue(5)
    widget.advanced.largest.setChecked(True)
    widget.advanced.ct_window.setCurrentText("lung")
    widget.advanced.ct_window.lineEdit().editingFinished.emit()
    state = widget.controller.state
    assert state.settings.window == (-1350.0, 150.0)
    control = widget.controller
    viewer.window.add_plugin_dock_widget("napari-digseg", "Review")  # keeps the session
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # deferred deletes, which need no further turn
    again = viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")[1]
    assert again is not widget
    assert again.controller is control
    assert again.controller.state == state
    assert (again.layer.currentText(), again.region.currentText()) == ("second", "slab")
    assert (again.first.value(), again.last.value()) == (2, 5)
    assert again.advanced.largest.isChecked()
    assert again.advanced.ct_window.currentText() == "lung"


def test_kept_runs_have_a_folder_that_one_can_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = _controller._folder(Preferences(keep_runs=True))
    assert kept == tmp_path / "digseg-runs"
    assert kept.is_dir()
    temporary = _controller._folder(Preferences())
    assert tmp_path not in temporary.parents
    temporary.rmdir()
