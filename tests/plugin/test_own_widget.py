"""The example of a widget of one's own, in a viewer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from digseg import samples

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_widget.py"


def test_a_phrase_becomes_a_labels_layer(viewer: Any, wait: Callable[..., None]) -> None:
    told = importlib.util.spec_from_file_location("own_widget", EXAMPLE)
    assert told is not None
    assert told.loader is not None
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    with rasterio.open(samples.scene()) as scene:
        pixels = np.moveaxis(scene.read([1, 2, 3], window=((0, 96), (0, 128))), 0, -1)
    shown = np.clip(pixels / np.percentile(pixels, 98) * 255, 0, 255).astype(np.uint8)
    viewer.add_image(shown, rgb=True, name="scene")
    viewer.window.add_dock_widget(module.segment_layer, name="One phrase")
    module.segment_layer.phrase.value = "trees"
    module.segment_layer.call_button.clicked.emit(True)
    wait(lambda: len(viewer.layers) == 2)
    labels = viewer.layers[1]
    assert labels._type_string == "labels"
    assert labels.data.shape == (96, 128)
    assert set(np.unique(labels.data)) <= {0, 1}
