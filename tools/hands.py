"""A person's hands and eyes for screenshots.py: drop, type, click, wait, take a picture, look."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

FOLDER = Path(os.environ.get("DIGSEG_PICTURES") or Path(__file__).parents[1] / "docs" / "images")
WIDTH = 1200
DOCK = 410
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


def shot(viewer: Any, name: str, over: Any = None) -> None:
    """Keep a picture of the window, with a dialog in its middle where there is one."""
    spin(0.8)
    pixels = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if over is not None:
        paste(picture, over, viewer.window._qt_window.width())
    assert looks_alive(np.asarray(picture)), f"{name} is blank"
    height = round(WIDTH * picture.height / picture.width)
    picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    # The commonest colours of a median cut miss swatches and small labels: cover the whole range,
    # of fewer colours, for that takes a minute otherwise.
    colors = ImageOps.posterize(picture, 5).quantize(
        256, method=Image.Quantize.MAXCOVERAGE, kmeans=1
    )
    picture = picture.quantize(palette=colors, dither=Image.Dither.NONE)
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{name}: {size} bytes", flush=True)
    assert size < MOST_BYTES


def looks_alive(pixels: Any) -> bool:
    """Whether the middle, where the canvas is, holds more than one colour."""
    rows, columns = pixels.shape[:2]
    middle = pixels[rows // 4 : -rows // 4, columns // 3 : -columns // 3]
    return float(middle.std()) > 2.0


def paste(picture: Any, dialog: Any, width: int) -> None:
    """Lay a dialog over the middle of the window's picture."""
    image = dialog.grab().toImage().convertToFormat(dialog.grab().toImage().Format.Format_RGB888)
    data = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
    data = data.reshape(image.height(), image.bytesPerLine())[:, : image.width() * 3]
    small = Image.fromarray(np.ascontiguousarray(data.reshape(image.height(), image.width(), 3)))
    factor = picture.width / width
    small = small.resize((round(small.width * factor), round(small.height * factor)))
    framed = Image.new("RGB", (small.width + 4, small.height + 4), (120, 125, 140))
    framed.paste(small, (2, 2))
    picture.paste(framed, ((picture.width - framed.width) // 2, picture.height // 3))


def a_viewer() -> Any:
    import napari

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1440, 900)
    return viewer


def drop(viewer: Any, path: Path, name: str = "") -> None:
    """Drop a file on the window; where napari asks for the reader, take the first one: ours."""
    from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
    from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
    from qtpy.QtGui import QDropEvent
    from qtpy.QtWidgets import QApplication, QDialogButtonBox

    def answer() -> None:
        for dialog in QApplication.topLevelWidgets():
            if isinstance(dialog, QtReaderDialog) and dialog.isVisible():
                timer.stop()
                if name:
                    shot(viewer, name, over=dialog)
                ok = dialog.findChild(QDialogButtonBox).button(QDialogButtonBox.StandardButton.Ok)
                ok.click()

    timer = QTimer()
    timer.timeout.connect(answer)
    timer.start(300)
    carried = QMimeData()
    carried.setUrls([QUrl.fromLocalFile(str(path))])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(300, 300), Qt.DropAction.CopyAction, carried, buttons, keys)
    before = len(viewer.layers)
    viewer.window._qt_viewer.dropEvent(event)
    wait(lambda: len(viewer.layers) > before, 60)
    timer.stop()
    viewer.canvas.overlays.scale_bar.visible = True
    spin(0.5)


def dropped(path: Path, name: str = "") -> tuple[Any, Any]:
    """A viewer on whose window a file was dropped, and the widget beside it."""
    from qtpy.QtCore import Qt

    viewer = a_viewer()
    spin(0.5)
    drop(viewer, path, name)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")
    viewer.window._qt_window.resizeDocks([dock], [DOCK], Qt.Orientation.Horizontal)
    widget.live_preview.setChecked(False)
    spin(0.5)
    viewer.reset_view()  # the canvas is narrower now
    return viewer, widget


def sample(name: str) -> Path:
    """A file to drop: one of the two samples, under a short name."""
    from digseg import samples

    path = {"scene.tif": samples.scene, "ct.nii.gz": samples.volume}[name]()
    return Path(shutil.copy(path, Path.home() / name))


def save(widget: Any, path: Path) -> None:
    """Click "Save as…" and give a name."""
    from qtpy.QtWidgets import QFileDialog

    ask_for_name = QFileDialog.getSaveFileName
    QFileDialog.getSaveFileName = staticmethod(lambda *_: (str(path), ""))
    widget.save.click()
    QFileDialog.getSaveFileName = ask_for_name
    control = widget.controller
    wait(lambda: bool(control.review.saved) or control.status.problem)
    assert path.exists(), control.status


def reopened(path: Path, image: Path, name: str) -> None:
    """Drop the image and the saved file on a new window: both have to lie on each other."""
    viewer = a_viewer()
    drop(viewer, image)
    drop(viewer, path)
    below, labels = viewer.layers
    assert labels._type_string == "labels"
    # A slab covers a part of the scan, all else the whole image.
    (low, high), (first, last) = labels.extent.world, below.extent.world
    assert (low >= first - 1e-6).all()
    assert (high <= last + 1e-6).all()
    np.testing.assert_allclose(labels.extent.world[:, -2:], below.extent.world[:, -2:])
    labels.opacity = 0.55
    assert (labels.get_color(1)[:3] > 0).any()
    if labels.ndim == 3:
        viewer.dims.set_current_step(0, 36)
    shot(viewer, name)
    viewer.close()


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
