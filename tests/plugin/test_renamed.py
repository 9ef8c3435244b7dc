"""Layers that are called otherwise stay chosen, with what was set for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.plugin.gui import Wait, done, segment_widget, typed


def test_a_renamed_image_is_segmented(viewer: Any, wait: Wait) -> None:
    picture = np.zeros((16, 64, 64), np.uint8)
    picture[:, :, :32] = 240
    image = viewer.add_image(picture, name="picture")
    other = viewer.add_image(picture, name="other")
    segment = segment_widget(viewer)
    segment.layer.setCurrentText("picture")
    segment.region.setCurrentText("slab")
    segment.first.setValue(1)
    segment.last.setValue(2)
    typed(segment, "bright")
    control = segment.controller
    image.name = "a better name"
    assert segment.layer.currentText() == control.state.layer == "a better name"
    assert control.state.slab == (1, 2)
    other.name = "yet another"
    assert segment.layer.currentText() == control.state.layer == "a better name"
    assert segment.layer.findText("yet another") >= 0
    assert segment.layer.findText("other") < 0
    image.name = "yet another"  # which is taken: napari puts a number behind it
    assert control.state.layer == image.name != "yet another"
    segment.run.click()
    wait(done(segment))
    assert control.run.image_layer is image

    viewer.layers.remove(image)
    assert segment.layer.currentText() == control.state.layer == "yet another"
    heard: list[Any] = []
    control.listeners.append(lambda: heard.append(control.state.layer))
    image.name = "gone"
    assert not heard
    assert segment.layer.findText("gone") < 0


def test_renamed_labels_are_trained_on_under_the_names_that_were_typed(
    trainer: Any, viewer: Any, wait: Wait
) -> None:
    trainer.classes.item(0, 1).setText("meadow")
    viewer.layers["painted"].name = "fields"
    viewer.layers["picture"].name = "valley"
    assert trainer.labels.currentText() == "fields"
    assert trainer.image.currentText() == trainer.controller.state.layer == "valley"
    assert trainer.names()[1] == "meadow"
    trainer.steps.setValue(1)
    trainer.start.click()
    wait(lambda: not trainer.controller.trainer.now.active, 300)
    assert not trainer.controller.trainer.now.problem, trainer.status.text()


def test_two_boxes_follow_one_layer(trainer: Any, viewer: Any, scene: Path) -> None:
    segment = segment_widget(viewer)
    viewer.open(scene, plugin="napari-digseg")
    segment.layer.setCurrentText("scene")
    assert trainer.image.currentText() == "scene"
    viewer.layers["scene"].name = "valley"
    names = segment.layer.currentText(), trainer.image.currentText()
    assert names == ("valley", "valley")
    assert segment.controller.state.layer == "valley"
