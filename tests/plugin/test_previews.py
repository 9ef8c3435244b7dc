"""Previews come when the form asks for what no run shows, and answer what was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari_digseg._controller import Controller
from napari_digseg._state import State
from qtpy.QtWidgets import QApplication
from tests.plugin.gui import Wait, done, segment_widget, typed
from tests.plugin.test_controller import opened

Make = Callable[..., Controller]
Until = Callable[..., None]


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


def test_previews_follow_the_person_after_a_run_as_well(
    viewer: Any, wait: Wait, scene: Path
) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    typed(widget, "red")
    widget.run.click()
    widget.live_preview.setChecked(True)
    viewer.scene.camera.zoom *= 1.1
    assert not widget._later.isActive()  # a run goes
    wait(done(widget))
    viewer.scene.camera.zoom *= 1.1
    assert not widget._later.isActive()  # its labels are the answer

    typed(widget, "blue")
    wait(lambda: "preview" in names(viewer))
    assert list(viewer.layers["preview"].features["name"]) == ["background", "red", "blue"]
    widget.prompts.row("blue").remove.click()
    assert "preview" not in names(viewer)
    assert not widget._later.isActive()

    viewer.add_image(np.full((50, 60, 3), 240, np.uint8), name="other")
    widget.layer.setCurrentText("other")
    wait(lambda: "preview" in names(viewer))
    assert viewer.layers["preview"].data.shape == (50, 60)
    viewer.layers["preview"].visible = False
    viewer.layers.remove("preview")
    viewer.scene.camera.zoom *= 1.1
    wait(lambda: "preview" in names(viewer))
    widget.live_preview.setChecked(False)


def test_a_further_prompt_takes_the_place_of_its_preview(
    viewer: Any, wait: Wait, scene: Path
) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    typed(widget, "red")
    widget.run.click()
    wait(done(widget))
    widget.live_preview.setChecked(True)
    typed(widget, "blue")
    wait(lambda: "preview" in names(viewer))
    assert widget.run.text() == "Segment what is new"
    widget.run.click()
    assert "preview" not in names(viewer)
    wait(done(widget))
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        QApplication.processEvents()
    assert "preview" not in names(viewer)


@pytest.mark.parametrize(
    "changed",
    [
        lambda state: state.remove("red"),
        lambda state: state.remove("red").remove("blue"),
        lambda state: state.add("green"),
        lambda state: replace(state, layer="other"),
    ],
)
def test_an_answer_to_another_form_is_not_shown(
    changed: Callable[[State], State], scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red", "blue")
    control.viewer.add_image(np.zeros((64, 64), np.uint8), name="other")
    control.previews.ask()
    control.set(changed(control.state))
    until(control, lambda: "changed" in control.status.message)
    assert "preview" not in names(control.viewer)
    control.previews.ask()
    if not control.state.problem:
        until(control, lambda: "preview" in names(control.viewer))


def test_an_answer_is_named_as_it_was_asked_for(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red", "blue")
    control.previews.ask()
    colors = [row.prompt.color for row in control.state.rows]
    control.set(replace(control.state, rows=control.state.rows[::-1]))
    until(control, lambda: "preview" in names(control.viewer))
    preview = control.viewer.layers["preview"]
    assert list(preview.features["name"]) == ["background", "red", "blue"]
    for label, color in enumerate(colors, start=1):
        np.testing.assert_allclose(preview.get_color(label)[:3], np.array(color) / 255, atol=1e-6)
