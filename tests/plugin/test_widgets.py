"""Widgets in a real viewer on a virtual display: typed, clicked, dragged, saved, opened again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari_digseg._controller import Controller
from napari_digseg._place import KEY
from napari_digseg._widgets import _session
from napari_digseg._worker import EngineProcess
from npe2 import PluginManifest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from tests.plugin.gui import Wait, done, segment_widget, typed

ROOT = Path(__file__).parents[2]


def test_from_a_dropped_file_to_a_saved_one_and_back(
    viewer: Any, wait: Wait, scene: Path, tmp_path: Path
) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    assert widget.layer.currentText() == "scene"
    assert not widget.run.isEnabled()
    typed(widget, "red", "blue")
    QTest.mouseClick(widget.run, Qt.MouseButton.LeftButton)
    assert widget.cancel.isVisibleTo(widget)
    wait(done(widget))
    control = widget.controller
    labels = control.run.labels
    assert control.run.live.settle()
    found = np.asarray(labels.data)
    assert (found[:, :210] == 1).all()
    assert (found[:, 210:] == 2).all()
    assert widget.command.text().startswith("napari-digseg segment ")

    # Drag the threshold of "red" to the right end: its label goes, with no run.
    slider = widget.prompts.row("red").slider
    place = QPointF(slider.width() - 2, slider.height() / 2).toPoint()
    QTest.mouseClick(slider, Qt.MouseButton.LeftButton, pos=place)
    assert widget.prompts.row("red").value.text() != "0.50"
    assert control.run.live.settle()
    assert not (np.asarray(labels.data) == 1).any()
    QTest.mouseClick(widget.undo, Qt.MouseButton.LeftButton)
    assert widget.prompts.row("red").value.text() == "0.50"
    assert control.run.live.settle()
    np.testing.assert_array_equal(np.asarray(labels.data), found)

    out = tmp_path / "out.tif"
    control.review.save(out)
    wait(lambda: bool(control.review.saved))
    (again,) = viewer.open(out, plugin="napari-digseg")
    assert again._type_string == "labels"
    np.testing.assert_array_equal(np.asarray(again.data), found)
    assert list(again.features["name"]) == ["background", "red", "blue"]
    np.testing.assert_allclose(again.extent.world, viewer.layers["scene"].extent.world)
    np.testing.assert_allclose(again.get_color(2), labels.get_color(2), atol=1 / 255)


def test_stop_is_heard_within_a_second_and_resume_finishes(
    viewer: Any, wait: Wait, scene: Path
) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    typed(widget, "slow=red")
    widget.run.click()
    wait(lambda: widget.controller.run.blocks > 0)
    begun = time.monotonic()
    widget.cancel.click()
    wait(lambda: widget.controller.status.phase == "stopped", 5)
    assert time.monotonic() - begun < 1.0
    assert widget.resume.isVisibleTo(widget)
    assert (widget.run.text(), widget.resume.objectName()) == ("Start over", "primary")
    widget.resume.click()
    wait(done(widget))
    assert (np.asarray(widget.controller.run.labels.data)[:, :210] == 1).all()


def test_presets_fill_the_list_and_rows_can_be_edited(viewer: Any) -> None:
    viewer.add_image(np.zeros((64, 64), np.uint8), name="picture")
    widget = segment_widget(viewer)
    actions = {action.text(): action for action in widget.prompts.presets.menu().actions()}
    assert {"Land cover", "CT organs", "Crops"} <= set(actions)
    actions["Crops"].trigger()
    names = [row.prompt.name for row in widget.controller.state.rows]
    assert names == ["crop", "weed", "bare soil"]
    assert widget.controller.state.row("bare soil").prompt.negative
    widget.prompts.row("weed").negative.click()
    assert widget.controller.state.row("weed").prompt.negative
    widget.prompts.row("crop").remove.click()
    assert [row.prompt.name for row in widget.controller.state.rows] == ["weed", "bare soil"]
    assert not widget.run.isEnabled()  # nothing but negatives
    typed(widget, "bare soil")
    assert "twice" in widget.prompts.complaint.text()


def test_review_measures_and_shows_where_to_look(viewer: Any, wait: Wait, scene: Path) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    review = viewer.window.add_plugin_dock_widget("napari-digseg", "Review")[1]
    assert review.controller is widget.controller
    assert not review.measure.isEnabled()
    typed(widget, "red")
    widget.run.click()
    wait(done(widget))
    review.measure.click()
    wait(lambda: review.table.rowCount() > 0)
    header = [
        review.table.horizontalHeaderItem(i).text() for i in range(review.table.columnCount())
    ]
    assert any("m²" in title or "ha" in title for title in header)
    review.coverage.setChecked(True)
    wait(lambda: "coverage" in [layer.name for layer in viewer.layers])
    review.paint.click()
    painted = viewer.layers[-1]
    painted.paint((10, 10), 1)
    assert painted.data[10, 10] == 1
    assert painted.metadata[KEY]["classes"][0]["name"] == "red"


def test_models_are_listed(viewer: Any) -> None:
    widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Models")[1]
    from napari_digseg._models import model_rows

    rows = model_rows()
    assert widget.table.rowCount() == len(rows)
    for line, row in enumerate(rows):
        assert widget.table.item(line, 0).text() == row.name
        assert widget.table.item(line, 2).text() == row.size


def test_everything_goes_with_the_viewer(
    make_napari_viewer: Any, npe2pm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    npe2pm.register(PluginManifest.from_file(ROOT / "napari.yaml"))
    made: list[Controller] = []

    def make(viewer: Any, preferences: Any) -> Controller:
        made.append(Controller(viewer, EngineProcess(["sleep", "100"]), preferences))
        return made[-1]

    monkeypatch.setattr(_session, "Controller", make)
    viewer = make_napari_viewer()
    viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")
    assert made[0].engine.alive
    viewer.close()
    QApplication.sendPostedEvents(None, 52)  # deferred deletes, which need no further turn
    assert not made[0].engine.alive
    assert not made[0].folder.exists()
    assert not _session._SESSIONS
