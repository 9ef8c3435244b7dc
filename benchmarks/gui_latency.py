"""How long the viewer's event loop is held up while the engine works at full load.

A timer asks to be called every few milliseconds; how late each call comes is how long something
else held the loop. ``xvfb-run python -m benchmarks.gui_latency [--side 4096] [--seconds 30]``
prints one JSON object; the promise is a 99th percentile of at most 50 ms. Before the run it times
two previews: the first starts the engine's process and loads the model, the second is what a person
waits for from then on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

EVERY_MS = 5


class Probe:
    """Lateness of a periodic timer, in milliseconds."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.late: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.late.append(max(0.0, (now - self._last) * 1000 - EVERY_MS))
        self._last = now

    def start(self) -> None:
        self._last = time.perf_counter()
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()


def make_scene(path: Path, side: int) -> None:
    """A textured map of ``side`` pixels, with overviews."""
    import rasterio
    from rasterio.enums import Resampling

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (3, side // 32 + 1, side // 32 + 1), dtype=np.uint8)
    pixels = coarse.repeat(32, axis=1).repeat(32, axis=2)[:, :side, :side]
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8",
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
        "crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4.1e6),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
        dataset.build_overviews([2, 4, 8], Resampling.average)


def turn_loop(seconds: float, until: Any = None) -> None:
    """Run Qt's event loop, as an idle person would let it."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    ending = QTimer()
    ending.setSingleShot(True)
    ending.timeout.connect(loop.quit)
    ending.start(int(seconds * 1000))
    asking = QTimer()
    if until is not None:
        asking.timeout.connect(lambda: loop.quit() if until() else None)
        asking.start(100)
    loop.exec()


def measure(side: int, seconds: float) -> dict[str, Any]:
    """Lateness while idle and while a run goes, on a scene of ``side`` pixels."""
    import napari

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        make_scene(path, side)
        viewer = napari.Viewer()
        viewer.open(path, plugin="napari-digseg")
        _, widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")
        widget.live_preview.setChecked(False)
        control = widget.controller
        control.set(control.state.add("water").add("building"))
        turn_loop(2)
        previews = [preview(viewer, widget), preview(viewer, widget)]
        probe = Probe()
        probe.start()
        turn_loop(5)
        idle, probe.late = probe.late, []
        control.runs.start()
        turn_loop(120, lambda: control.run is not None and control.run.blocks > 0)
        starting, probe.late = probe.late, []
        turn_loop(seconds, lambda: not control.running)
        probe.stop()
        blocks = (control.run.blocks_done, control.run.blocks) if control.run else (0, 0)
        begun = time.perf_counter()
        if control.running:
            control.runs.cancel()
            turn_loop(5, lambda: not control.running)
        stopped = time.perf_counter() - begun
        told = {
            "side": side,
            "first_preview_seconds": previews[0],
            "preview_seconds": previews[1],
            "machine": f"{os.cpu_count()} cores, {platform.system()}",
            "idle": summary(idle),
            "starting": summary(starting),
            "running": summary(probe.late),
            "blocks": blocks,
            "stop_seconds": round(stopped, 2),
        }
        viewer.close()
    return told


def preview(viewer: Any, widget: Any) -> float:
    """Seconds from the click to the preview of what is on screen (polled every 0.1 s)."""

    def there() -> bool:
        return "preview" in viewer.layers

    if there():
        viewer.layers.remove("preview")
        turn_loop(1)
    begun = time.perf_counter()
    widget.preview.click()
    turn_loop(120, there)
    if not there():
        raise SystemExit("No preview came within two minutes.")
    return round(time.perf_counter() - begun, 2)


def summary(late: list[float]) -> dict[str, float]:
    values = np.asarray(late or [0.0])
    return {
        "calls": len(late),
        "p50_ms": round(float(np.percentile(values, 50)), 2),
        "p99_ms": round(float(np.percentile(values, 99)), 2),
        "worst_ms": round(float(values.max()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=30)
    args = parser.parse_args()
    print(json.dumps(measure(args.side, args.seconds), indent=1))


if __name__ == "__main__":
    main()
