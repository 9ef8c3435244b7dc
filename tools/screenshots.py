"""Take the pictures of docs/tutorial.md with the shipped model, in a real viewer.

``xvfb-run -s "-screen 0 1600x1000x24" python tools/screenshots.py [scene] [volume] [train]``
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication, QLineEdit

FOLDER = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1200
MOST_BYTES = 400_000


def spin(seconds: float) -> None:
    """Let the event loop run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def wait(holds: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s")
        spin(0.02)


def shot(viewer: Any, name: str) -> None:
    # The end of the command line tells more than where this machine keeps its samples.
    for line in viewer.window._qt_window.findChildren(QLineEdit):
        if line.text().startswith("napari-digseg "):
            line.end(False)
    spin(0.8)
    pixels = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    height = round(WIDTH * picture.height / picture.width)
    picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    # The commonest colours of a median cut miss small labels: cover the whole range instead.
    picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=4)
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{name}: {size} bytes", flush=True)
    assert size < MOST_BYTES


def opened(sample: str) -> tuple[Any, Any]:
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1440, 900)
    viewer.open_sample("napari-digseg", sample)
    viewer.canvas.overlays.scale_bar.visible = True
    _, widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")
    widget.live_preview.setChecked(False)
    return viewer, widget


def ask(widget: Any, *prompts: str) -> None:
    for prompt in prompts:
        widget.prompts.entry.setText(prompt)
        widget.prompts.entry.returnPressed.emit()


def run(widget: Any) -> None:
    control = widget.controller
    widget.run.click()
    wait(lambda: control.status.phase in ("finished", "failed", "stopped"))
    assert control.status.phase == "finished", control.status
    wait(lambda: not control.run.busy)
    settle(control)


def settle(control: Any) -> None:
    spin(0.3)
    control.run.live.settle()
    spin(0.3)


def scene() -> None:
    viewer, widget = opened("scene")
    control = widget.controller
    spin(0.5)
    shot(viewer, "open-scene")
    ask(widget, "trees=forest", "crops=fields,farmland", "built-up area=buildings")
    widget.preview.click()
    wait(lambda: "preview" in [layer.name for layer in viewer.layers])
    shot(viewer, "preview")
    run(widget)
    control.change(control.state.edit("built-up area", threshold=0.8))
    settle(control)
    shot(viewer, "segmented-scene")
    ask(widget, "water=river")
    shot(viewer, "add-prompt")
    run(widget)
    dock, review = viewer.window.add_plugin_dock_widget("napari-digseg", "Review", tabify=True)
    review.measure.click()
    wait(lambda: review.table.rowCount() > 0)
    dock.raise_()
    shot(viewer, "review")
    viewer.close()


def volume() -> None:
    viewer, widget = opened("volume")
    viewer.dims.set_current_step(0, 36)
    spin(0.5)
    ask(widget, "liver", "spleen", "left kidney", "right kidney", "vertebrae=spine")
    widget.region.setCurrentText("slab")
    widget.first.setValue(34)
    widget.last.setValue(38)
    run(widget)
    shot(viewer, "segmented-volume")
    viewer.close()


def train() -> None:
    viewer, widget = opened("scene")
    labels = np.zeros((224, 224), np.uint8)
    labels[62:95, 150:205] = 1
    labels[120:142, 25:70] = 2
    image = viewer.layers["scene"]
    viewer.add_labels(
        labels,
        name="painted",
        scale=image.scale,
        translate=image.translate,
        units=image.units,
        features={"index": [0, 1, 2], "name": ["background", "meadow", "woods"]},
    )
    _, trainer = viewer.window.add_plugin_dock_widget("napari-digseg", "Train", tabify=True)
    trainer.parent().raise_()
    control = widget.controller
    trainer.output.setText(str(control.folder / "own-model"))
    trainer.steps.setValue(30)
    trainer.start.click()
    wait(lambda: not control.trainer.now.active, 500)
    trainer.output.setText("own-model")
    print(control.trainer.now.message)
    shot(viewer, "train")
    viewer.close()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or ("scene", "volume", "train"):
        {"scene": scene, "volume": volume, "train": train}[name]()
