"""Take the pictures of docs/tutorial.md with the shipped model, in a real viewer.

``python tools/screenshots.py`` takes all of them, ``python tools/screenshots.py volume train``
some. Without a display it starts one of its own (``xvfb-run`` has to be there).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1200
DOCK = 410
_CHILD = "DIGSEG_ONE_PICTURE"  # set in the process that takes one group
MOST_BYTES = 400_000


def spin(seconds: float) -> None:
    """Let the event loop run."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def wait(holds: Callable[[], bool], seconds: float = 1200) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s")
        spin(0.02)


def shot(viewer: Any, name: str) -> None:
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
    import napari
    from qtpy.QtCore import Qt

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1440, 900)
    viewer.open_sample("napari-digseg", sample)
    viewer.canvas.overlays.scale_bar.visible = True
    dock, widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")
    viewer.window._qt_window.resizeDocks([dock], [DOCK], Qt.Orientation.Horizontal)
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
    """A satellite scene from opening to measuring."""
    viewer, widget = opened("scene")
    control = widget.controller
    spin(0.5)
    shot(viewer, "open-scene")
    ask(widget, "trees=forest", "crops=fields,farmland", "built-up area=buildings")
    widget.preview.click()
    wait(lambda: "preview" in [layer.name for layer in viewer.layers])
    shot(viewer, "preview")
    run(widget)
    control.change(control.state.edit("built-up area", threshold=0.6))
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


def shape() -> None:
    """A drawn shape that limits the result."""
    viewer, widget = opened("scene")
    widget.region.setCurrentText("drawn shape")
    drawing = widget.controller.add_drawing()
    corners = [(30, 20), (25, 130), (90, 205), (190, 170), (150, 60)]
    drawing.add_polygons([np.asarray(corners, float)], edge_width=1.2, edge_color="white")
    drawing.mode = "pan_zoom"
    ask(widget, "trees=forest", "crops=fields,farmland", "built-up area=buildings")
    run(widget)
    shot(viewer, "drawn-shape")
    viewer.close()


def volume() -> None:
    """A slab of a CT."""
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


def models() -> None:
    """The list of models and a card."""
    viewer, _ = opened("scene")
    dock, _ = viewer.window.add_plugin_dock_widget("napari-digseg", "Models", tabify=True)
    dock.raise_()
    shot(viewer, "models")
    viewer.close()


def train() -> None:
    """Fine-tuning on painted labels."""
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
    dock, trainer = viewer.window.add_plugin_dock_widget("napari-digseg", "Train", tabify=True)
    dock.raise_()
    control = widget.controller
    trainer.output.setText(str(control.folder / "own-model"))
    trainer.steps.setValue(30)
    trainer.start.click()
    wait(lambda: not control.trainer.now.active, 2400)
    assert control.trainer.now.model, control.trainer.now.message
    trainer.output.setText("own-model")
    shot(viewer, "train")
    viewer.close()


PICTURES = {
    "scene": scene,
    "shape": shape,
    "volume": volume,
    "models": models,
    "train": train,
}


def main(names: list[str]) -> int:
    """Each group in a process of its own: one that fails costs none of the others."""
    unknown = set(names) - set(PICTURES)
    if unknown:
        print(f"There are no pictures {sorted(unknown)}; there are {sorted(PICTURES)}.")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    if names and os.environ.get(_CHILD):
        PICTURES[names[0]]()
        return 0
    display: list[str] = []
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            print("There is no display and no xvfb-run: install xvfb.")
            return 2
        display = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"]
    failed = []
    for name in names or PICTURES:
        command = [*display, sys.executable, "-W", "ignore", __file__, name]
        environment = {**os.environ, _CHILD: "1"}
        if subprocess.run(command, check=False, env=environment).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
