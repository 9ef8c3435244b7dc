"""A controller on a viewer without a window, and an engine that knows its answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari.components import ViewerModel
from napari_digseg._controller import Controller
from napari_digseg._worker import EngineProcess
from npe2 import PluginManifest
from rasterio.transform import Affine

ROOT = Path(__file__).parents[2]
TRANSFORM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0)

Until = Callable[..., None]


class _Kept(EngineProcess):
    """Outlives the controllers of single tests: starting an engine costs seconds."""

    def close(self) -> None:
        self.poll()


@pytest.fixture(scope="session")
def engine() -> Iterator[EngineProcess]:
    """The test engine; it starts again by itself after a test that ended it."""
    kept = _Kept([sys.executable, "-m", "tests.plugin.engine_for_tests"])
    kept.start()
    yield kept
    EngineProcess.close(kept)


@pytest.fixture
def scene(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A map whose left half is red and whose right half is blue."""
    pixels = np.zeros((3, 300, 420), np.uint8)
    pixels[0, :, :210] = 240
    pixels[2, :, 210:] = 240
    pixels[1] = rng.integers(1, 60, (300, 420))
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 300, "width": 420, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, crs="EPSG:32631", transform=TRANSFORM) as dataset:
        dataset.write(pixels)
    return path


@pytest.fixture
def controller(engine: EngineProcess) -> Iterator[Callable[[], Controller]]:
    """Makes controllers; closes them."""
    made: list[Controller] = []

    def make() -> Controller:
        engine.poll()
        made.append(Controller(ViewerModel(), engine))
        return made[-1]

    yield make
    for control in made:
        control.close()


@pytest.fixture
def until() -> Until:
    """Polls a controller until something holds."""

    def wait(control: Controller, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            control.poll()
            if holds():
                return
            time.sleep(0.01)
        raise AssertionError(f"waited {seconds} s; the status is {control.status}")

    return wait


@pytest.fixture
def viewer(
    make_napari_viewer: Any, npe2pm: Any, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A viewer that knows this plugin and napari's own readers; the engine is the tests'."""
    from napari_digseg._widgets import _session

    npe2pm.register(PluginManifest.from_file(ROOT / "napari.yaml"))
    npe2pm.register(PluginManifest.from_distribution("napari"))
    engine.poll()
    monkeypatch.setattr(
        _session, "Controller", lambda viewer, preferences: Controller(viewer, engine, preferences)
    )
    return make_napari_viewer(strict_qt="raise")


@pytest.fixture
def wait() -> Until:
    """Lets the event loop run until something holds."""

    from qtpy.QtWidgets import QApplication

    def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"waited {seconds} s"
            QApplication.processEvents()
            time.sleep(0.005)

    return until


@pytest.fixture
def trainer(viewer: Any, tmp_path: Path) -> Any:
    """The Train widget with a picture, painted labels and a model of a few thousand weights."""
    from tests.train.tiny import save_tiny

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8)
    labels = np.zeros((96, 128), np.uint8)
    labels[8:50, 10:60] = 1
    labels[60:90, 70:120] = 2
    picture[labels == 1] += 150
    viewer.add_image(picture, name="picture")
    viewer.add_labels(labels, name="painted")
    widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Train")[1]
    widget.controller.shelf.use(str(save_tiny(tmp_path / "tiny")))
    widget.output.setText(str(tmp_path / "own"))
    return widget
