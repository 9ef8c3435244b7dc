"""What tests of widgets have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

Wait = Callable[..., None]


def segment_widget(viewer: Any) -> Any:
    widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")[1]
    widget.live_preview.setChecked(False)
    widget.advanced.tile.setValue(128)
    widget.advanced.overlap.setValue(32)
    return widget


def typed(widget: Any, *prompts: str) -> None:
    for prompt in prompts:
        QTest.keyClicks(widget.prompts.entry, prompt)
        QTest.keyClick(widget.prompts.entry, Qt.Key.Key_Return)


def done(widget: Any) -> Callable[[], bool]:
    """Whether the run has ended and what is on screen is of its end, too."""
    control = widget.controller

    def is_done() -> bool:
        if control.status.phase != "finished" or control.run.busy:
            return False
        return control.run.live is None or control.run.live.settle(0.01)

    return is_done


def fill(box: Any, text: str) -> None:
    """Type into a box with a list, and press Enter."""
    box.lineEdit().selectAll()
    QTest.keyClicks(box.lineEdit(), text)
    QTest.keyClick(box.lineEdit(), Qt.Key.Key_Return)
