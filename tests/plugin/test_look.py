"""What a person sees: nothing cut off in a narrow dock, a reason for every button that is grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QDockWidget,
    QPushButton,
    QToolButton,
)
from tests.plugin.gui import Wait, done, segment_widget, typed

NARROW = 330  # pixels


def _narrow(widget: Any) -> None:
    """Show a panel alone at the width of a narrow dock; napari's window stays hidden."""
    dock = widget.parent()
    while not isinstance(dock, QDockWidget):
        dock = dock.parent()
    dock.setFloating(True)
    dock.show()
    margin = dock.width() - widget.width()
    dock.resize(NARROW + margin, 800)
    for _ in range(10):
        QApplication.processEvents()
    assert widget.width() <= NARROW + 2


@pytest.mark.parametrize("name", ["Segment by text", "Review", "Models", "Train"])
def test_no_button_is_cut_off_in_a_narrow_dock(name: str, viewer: Any) -> None:
    panel = viewer.window.add_plugin_dock_widget("napari-digseg", name)[1]
    panel.controller.set(panel.controller.state.preset("Land cover"))
    _narrow(panel)
    shown = [button for button in panel.findChildren(QPushButton) if button.isVisible()]
    assert shown
    for button in shown:
        assert button.mapTo(panel, QPoint(button.width(), 0)).x() <= NARROW, button.text()
        words = button.fontMetrics().horizontalAdvance(button.text())
        assert words + 8 <= button.width(), button.text()


def test_twenty_prompts_with_long_names_fit_a_narrow_dock(viewer: Any) -> None:
    widget = segment_widget(viewer)
    long = "a very long name of a thing that is described in many words"
    state = widget.controller.state
    for number in range(20):
        state = state.add(f"{long} {number}=and,some more,of its synonyms")
    widget.controller.set(state)
    _narrow(widget)
    buttons = [button for button in widget.prompts.findChildren(QToolButton) if button.isVisible()]
    assert len(buttons) == 5 * 20
    assert widget.prompts.presets.mapTo(widget, QPoint(0, 0)).x() < NARROW
    for button in buttons:
        assert button.mapTo(widget, QPoint(button.width(), 0)).x() <= NARROW - 8
    row = widget.prompts.row(f"{long} 3")
    assert row.name.width() > 60
    assert row.name.toolTip().startswith(f"{long} 3")


def test_a_dropped_file_asks_for_the_reader_and_opens(viewer: Any, wait: Wait, scene: Path) -> None:
    asked: list[str] = []

    def answer() -> None:
        for dialog in QApplication.topLevelWidgets():
            if isinstance(dialog, QDialog) and dialog.isVisible():
                asked.append(type(dialog).__name__)
                ok = dialog.findChild(QDialogButtonBox).button(QDialogButtonBox.StandardButton.Ok)
                ok.click()

    timer = QTimer()
    timer.timeout.connect(answer)
    timer.start(200)
    carried = QMimeData()
    carried.setUrls([QUrl.fromLocalFile(str(scene))])
    event = QDropEvent(
        QPointF(200, 200),
        Qt.DropAction.CopyAction,
        carried,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    viewer.window._qt_viewer.dropEvent(event)
    wait(lambda: "scene" in viewer.layers)
    timer.stop()
    layer = viewer.layers["scene"]
    assert asked == ["QtReaderDialog"]
    assert layer.rgb  # the first one offered is ours: three bands are a picture
    assert tuple(layer.scale) == (10.0, 10.0)
    assert str(layer.units[0]) == "meter"


def test_every_grey_button_has_its_reason(viewer: Any, wait: Wait, scene: Path) -> None:
    widget = segment_widget(viewer)
    assert not widget.run.isEnabled()
    assert "Open an image first" in widget.status.text()
    viewer.open(scene, plugin="napari-digseg")
    assert not widget.run.isEnabled()
    assert "type it and press Enter" in widget.status.text()
    assert widget.run.toolTip() == widget.preview.toolTip() == widget.status.text()
    typed(widget, "red", "-blue")
    assert widget.run.isEnabled()
    assert widget.run.toolTip() == "Segment (Ctrl+Alt+R)."


def test_what_the_engine_does_is_told(viewer: Any, wait: Wait, scene: Path) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    control = widget.controller
    typed(widget, "red")
    assert widget.status.text().startswith("Loading digseg-tiny")
    wait(lambda: widget.status.text() == "digseg-tiny is ready.")
    widget.preview.click()
    assert widget.status.text() == "Looking at what is on screen."
    wait(lambda: widget.status.text().startswith("Preview of what is on screen"))
    widget.run.click()
    wait(done(widget))
    control.review.measure()
    assert widget.status.text() == "Measuring."
    wait(lambda: widget.status.text() == "Measured.")


def test_a_table_says_when_it_is_out_of_date(viewer: Any, wait: Wait, scene: Path) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    review = viewer.window.add_plugin_dock_widget("napari-digseg", "Review")[1]
    control = widget.controller
    typed(widget, "red")
    widget.run.click()
    wait(done(widget))
    review.measure.click()
    wait(lambda: review.table.rowCount() == 1)
    assert not review.empty.isVisibleTo(review)
    control.change(control.state.edit("red", threshold=0.97))
    assert review.empty.isVisibleTo(review)
    assert "Measure once more" in review.empty.text()
    control.undo()
    assert not review.empty.isVisibleTo(review)


def test_both_boxes_for_coverage_show_the_same(viewer: Any, wait: Wait, scene: Path) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    review = viewer.window.add_plugin_dock_widget("napari-digseg", "Review")[1]
    assert not review.coverage.isEnabled()
    typed(widget, "red")
    widget.run.click()
    wait(done(widget))
    labels = viewer.layers.selection.active
    review.coverage.click()
    assert widget.coverage.isChecked()
    assert viewer.layers["coverage"].visible
    assert viewer.layers.selection.active is labels  # so that hovering names the labels
    widget.coverage.click()
    assert not review.coverage.isChecked()
    assert not viewer.layers["coverage"].visible


def test_a_threshold_that_nothing_reaches_says_so(viewer: Any, wait: Wait, scene: Path) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    typed(widget, "red")
    slider = widget.prompts.row("red").slider
    assert not slider.nothing  # not before a run
    widget.run.click()
    wait(done(widget))
    assert not slider.nothing
    widget.controller.change(widget.controller.state.edit("red", threshold=1.0))
    assert slider.nothing


def test_slices_are_offered_for_volumes_around_the_one_on_screen(
    viewer: Any, scene: Path, rng: np.random.Generator
) -> None:
    widget = segment_widget(viewer)
    viewer.open(scene, plugin="napari-digseg")
    offered = [widget.region.model().item(place).isEnabled() for place in range(5)]
    assert offered == [True, True, True, False, False]
    viewer.add_image(rng.random((30, 40, 50), dtype=np.float32), name="stack")
    viewer.dims.set_current_step(0, 20)
    widget.layer.setCurrentText("stack")
    assert all(widget.region.model().item(place).isEnabled() for place in range(5))
    widget.region.setCurrentText("slab")
    assert widget.controller.state.slab == (18, 22)
    assert widget.last.maximum() == 29
    widget.layer.setCurrentText("scene")
    assert widget.region.currentText() == "whole layer"
