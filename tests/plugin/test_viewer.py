"""As a person meets it: dropped files, menus, keys, sliders, names on hover, training."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from tests.io.dicom_files import ct_series
from tests.plugin.gui import Wait, done, fill, segment_widget, typed

from digseg.grid import Grid
from digseg.io.images import write_image
from digseg.raster import Volume
from digseg.settings import CT_WINDOWS


def make_tif(folder: Path) -> tuple[Path, tuple[int, ...]]:
    path = folder / "dropped.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 50, "dtype": "uint8"}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32631", transform=rasterio.Affine(1, 0, 9, 0, -1, 9)
    ) as dataset:
        dataset.write(np.arange(2000, dtype=np.uint8).reshape(1, 40, 50))
    return path, (40, 50)


def make_nifti(folder: Path) -> tuple[Path, tuple[int, ...]]:
    path = folder / "dropped.nii.gz"
    data = np.zeros((6, 7, 8), np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path, (8, 7, 6)


def make_dicom(folder: Path) -> tuple[Path, tuple[int, ...]]:
    series = folder / "series"
    series.mkdir()
    pixels = ct_series(series, 4)
    return series, tuple(pixels.shape)


def make_zarr(folder: Path) -> tuple[Path, tuple[int, ...]]:
    path = folder / "dropped.ome.zarr"
    grid = Grid.of((5, 6, 7), np.diag([1.0, 1.0, 3.0, 1.0]), space="patient", unit="millimetre")
    write_image(Volume(np.ones((5, 6, 7), np.int16), grid), path)
    return path, (5, 6, 7)


@pytest.mark.parametrize("make", [make_tif, make_nifti, make_dicom, make_zarr])
def test_a_dropped_file_opens_in_its_place(
    make: Callable[[Path], tuple[Path, tuple[int, ...]]],
    viewer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog

    # What napari asks where it can read a file itself, too.
    monkeypatch.setattr(QtReaderDialog, "get_user_choices", lambda self: ("DiGSeg", False))
    path, shape = make(tmp_path)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(
        QPointF(9, 9),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    viewer.window._qt_viewer.dropEvent(event)
    (layer,) = viewer.layers
    found = layer.data[0] if layer.multiscale else layer.data
    assert sorted(found.shape) == sorted(shape)
    assert layer.metadata["digseg"]["path"] == str(path)
    widget = segment_widget(viewer)
    assert widget.layer.currentText() == layer.name


@pytest.mark.slow
def test_a_raster_of_100_000_pixels_opens_and_pans(viewer: Any, tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    profile = {
        "driver": "GTiff", "width": 100_000, "height": 100_000, "count": 3, "dtype": "uint8",
        "tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True,
        "BIGTIFF": "YES", "compress": "deflate", "crs": "EPSG:32631",
        "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 4_100_000),
    }  # fmt: skip
    with (
        rasterio.Env(SPARSE_OK_OVERVIEW="ON"),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        factors = [2**level for level in range(1, 9)]
        dataset.build_overviews(factors, rasterio.enums.Resampling.nearest)
    begun = time.perf_counter()
    (layer,) = viewer.open(path, plugin="napari-digseg")
    QApplication.processEvents()
    opened = time.perf_counter() - begun
    assert layer.multiscale
    assert layer.data[0].shape[:2] == (100_000, 100_000)
    steps = []
    for place in range(12):
        begun = time.perf_counter()
        viewer.scene.camera.zoom = 0.01 * 1.6**place
        viewer.scene.camera.center = (0, -4_050_000 + 900 * place, 550_000 - 700 * place)
        QApplication.processEvents()
        steps.append(time.perf_counter() - begun)
    print(f"opened in {opened:.2f} s, slowest of {len(steps)} moves {max(steps):.2f} s")
    assert opened < 3.0
    assert max(steps) < 1.0


def test_entries_stand_where_people_look_and_open(viewer: Any) -> None:
    from napari._app_model import get_app_model

    app = get_app_model()

    def commands(menu: str) -> set[str]:
        return {item.command.id for item in app.menus.get_menu(menu) if hasattr(item, "command")}

    named = {"segment", "review", "models", "train"}
    ours = {f"napari-digseg.{name}" for name in named}
    assert {"napari-digseg.segment", "napari-digseg.review"} <= commands("napari/layers/segment")
    assert "napari-digseg.train" in commands("napari/layers/classify")
    plugins = [menu for menu, _ in app.menus if str(menu).startswith("napari/plugins")]
    assert ours <= set().union(*(commands(menu) for menu in plugins))
    for name in ours:
        app.commands.execute_command(name).result()
    docked = " ".join(viewer.window.dock_widgets)
    for title in ("Segment by text", "Review", "Models", "Train"):
        assert title in docked


def test_keys_run_preview_undo_and_stop(
    viewer: Any, wait: Wait, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    typed(widget, "slow=red")
    viewer.window._qt_window.show()
    viewer.window._qt_window.activateWindow()
    wait(lambda: QApplication.activeWindow() is not None, 20)

    def press(key: Qt.Key) -> None:
        control = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier
        QTest.keyClick(viewer.window._qt_window, key, control)

    control = widget.controller
    press(Qt.Key.Key_V)
    wait(lambda: "preview" in [layer.name for layer in viewer.layers])
    press(Qt.Key.Key_R)
    wait(lambda: control.status.phase == "running", 10)
    wait(lambda: control.run is not None and control.run.blocks > 0)
    press(Qt.Key.Key_X)
    wait(lambda: control.status.phase == "stopped", 10)
    control.change(control.state.edit("slow", threshold=0.7))
    press(Qt.Key.Key_Z)
    assert control.state.row("slow").threshold == 0.5


def test_names_and_colours_are_the_same_on_hover_in_the_legend_and_on_screen(
    viewer: Any, wait: Wait, scene: Path
) -> None:
    viewer.open(scene, plugin="napari-digseg")
    widget = segment_widget(viewer)
    typed(widget, "red", "blue")
    widget.run.click()
    wait(done(widget))
    control = widget.controller
    assert control.run.live.settle()
    labels = control.run.labels
    for column, name in ((20, "red"), (400, "blue")):
        status = labels.get_status(labels.data_to_world((100, column)), world=True)
        assert f"name: {name}" in status["value"] + status["coordinates"]
        row = widget.prompts.row(name)
        assert row.name.text() == name
        swatch = row.color.icon().pixmap(16).toImage().pixelColor(8, 8).getRgbF()[:3]
        value = int(labels.data[100, column])
        shown = labels.get_color(value)[:3]
        exact = np.array(control.state.row(name).prompt.color) / 255
        np.testing.assert_allclose(shown, exact, atol=1e-6)
        np.testing.assert_allclose(shown, swatch, atol=1 / 30)  # a virtual display has 16 bits
        wait(lambda row=row: row.slider.heights.any())  # type: ignore[misc]
        # All pixels of this prompt are in the last bars, the others' at the left.
        assert row.slider.heights[-8:].any()


def test_a_time_point_is_segmented_where_the_slider_stands(
    viewer: Any, wait: Wait, tmp_path: Path
) -> None:
    data = np.full((64, 48, 4, 3), -100, np.int16)  # [x, y, z, t]
    data[10:30, 5:25, :, 1] = 200
    path = tmp_path / "series.nii.gz"
    nibabel.save(nibabel.Nifti1Image(data, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    viewer.open(path, plugin="napari-digseg")
    assert viewer.layers[0].axis_labels == ("t", "z", "y", "x")
    assert viewer.dims.nsteps[0] == 3
    widget = segment_widget(viewer)
    typed(widget, "bright")
    fill(widget.advanced.ct_window, "-100,200")
    counts = []
    for time_point in (1, 2):
        viewer.dims.set_current_step(0, time_point)
        widget.run.click()
        wait(done(widget))
        assert widget.controller.run.live.settle()
        counts.append(int((np.asarray(widget.controller.run.labels.data) == 1).sum()))
        assert f"--time {time_point}" in widget.controller.review.command_line
    assert counts[0] == pytest.approx(20 * 20 * 4, rel=0.2)
    assert counts[1] == 0


def test_settings_of_the_person_are_in_the_form(viewer: Any, plugin_settings: Any) -> None:
    from napari.settings import get_plugin_settings

    chosen = get_plugin_settings("napari-digseg").digseg
    chosen.preview, chosen.device, chosen.memory_gib = False, "cpu", 2.0
    widget = viewer.window.add_plugin_dock_widget("napari-digseg", "Segment by text")[1]
    assert not widget.live_preview.isChecked()
    assert widget.advanced.device.currentText() == "cpu"
    assert widget.controller.state.settings.memory == 2 << 30


def test_the_spread_is_offered_where_there_is_one(viewer: Any) -> None:
    """Of an ensemble, without a second pass; a tick that doesn't apply isn't passed on."""
    viewer.add_image(np.zeros((8, 64, 64), np.int16), name="picture")
    widget = segment_widget(viewer)
    form, control = widget.advanced, widget.controller
    assert not form.uncertainty.isEnabled()
    form.ensemble.setValue(2)
    form.uncertainty.click()
    assert control.state.uncertainty
    form.propagate.click()
    assert not form.uncertainty.isEnabled()
    assert control.state.settings.propagate
    assert not control.state.uncertainty
    form.propagate.click()
    assert control.state.uncertainty


def test_scales_are_taken_when_typed_and_refused_in_words(viewer: Any) -> None:
    widget = segment_widget(viewer)
    form = widget.advanced
    for text, taken, complaint in (
        ("0.7, 1", (0.7, 1.0), ""),
        ("9", (0.7, 1.0), "between 0.25 and 4"),
        ("large", (0.7, 1.0), "such as 0.7,1"),
        ("", (), ""),
    ):
        form.scales.setText(text)
        form.scales.editingFinished.emit()
        assert widget.controller.state.settings.scales == taken
        assert complaint in widget.prompts.complaint.text()


def test_boxes_that_one_types_in_wait_until_one_is_done(viewer: Any) -> None:
    viewer.add_image(np.zeros((8, 64, 64), np.int16), name="picture")
    widget = segment_widget(viewer)
    heard: list[Any] = []
    widget.controller.listeners.append(lambda: heard.append(widget.controller.state.settings))
    window, model = widget.advanced.ct_window, widget.advanced.model
    window.lineEdit().clear()
    QTest.keyClicks(window.lineEdit(), "-100,")  # no window yet, and no complaint either
    model.lineEdit().clear()
    QTest.keyClicks(model.lineEdit(), "/models/ow")
    assert not heard
    assert not widget.prompts.complaint.isVisibleTo(widget)
    fill(window, "-100,200")
    fill(model, "/models/own")
    assert heard[-1].window == (-100.0, 200.0)
    assert heard[-1].model == "/models/own"
    fill(window, "-100,")
    assert widget.prompts.complaint.isVisibleTo(widget)
    assert window.findText("-100,") < 0  # what was typed is not offered later
    window.setCurrentText("lung")
    window.activated.emit(window.currentIndex())  # as a person picks it from the list
    assert widget.controller.state.settings.window == CT_WINDOWS["lung"]
    assert not widget.prompts.complaint.isVisibleTo(widget)


def test_a_model_chosen_on_the_shelf_stays_chosen(viewer: Any) -> None:
    viewer.add_image(np.zeros((64, 64), np.uint8), name="picture")
    widget = segment_widget(viewer)
    widget.controller.shelf.use("another")
    assert widget.advanced.model.currentText() == "another"
    widget.advanced.seed.setValue(3)
    assert widget.controller.state.settings.model == "another"


def test_labels_become_a_model_with_a_curve_and_a_picture(
    trainer: Any, wait: Wait, tmp_path: Path
) -> None:
    widget, control = trainer, trainer.controller
    assert (widget.image.currentText(), widget.labels.currentText()) == ("picture", "painted")
    assert widget.classes.rowCount() == 2
    widget.classes.item(0, 1).setText("meadow")
    widget.classes.item(1, 1).setText("woods")
    widget.steps.setValue(3)
    assert not widget.use.isEnabled()
    widget.start.click()
    assert not widget.start.isEnabled()
    assert widget.stop.isVisibleTo(widget)
    wait(lambda: not control.trainer.now.active, 300)
    assert not control.trainer.now.problem, control.trainer.now.message
    assert len(widget.curve.losses) == 3
    assert str(tmp_path / "own") in widget.status.text()
    assert all(np.isfinite(loss) for loss in widget.curve.losses)
    assert not widget.picture.pixmap().isNull()
    assert widget.picture.pixmap().width() >= 240
    widget.use.click()
    assert control.state.settings.model == control.trainer.now.model
    from digseg.model import load
    from digseg.prompts import Prompt

    model = load(control.trainer.now.model, device="cpu", steps=1, ensemble=1, seed=0)
    tile = np.zeros((1, 3, 64, 64), np.float32)
    assert model(tile, (Prompt("meadow"), Prompt("woods"))).shape == (1, 2, 64, 64)
    names = (tmp_path / "own").glob("**/*")
    assert any(path.suffix == ".safetensors" for path in names)


def test_classes_are_listed_in_the_colours_of_the_layer(
    trainer: Any, viewer: Any, wait: Wait
) -> None:
    layer = viewer.layers["painted"]
    table = trainer.classes

    def shown(line: int) -> Any:
        return table.item(line, 0).icon().pixmap(16).toImage().pixelColor(8, 8).getRgbF()[:3]

    def same() -> None:
        for line in range(table.rowCount()):
            label = int(table.item(line, 0).text())
            # A virtual display has 16 bits.
            np.testing.assert_allclose(shown(line), layer.get_color(label)[:3], atol=1 / 30)

    same()
    before = shown(0)
    table.item(0, 1).setText("meadow")
    layer.new_colormap()
    assert shown(0) != before
    same()
    layer.selected_label = 6
    layer.paint((5, 100), 6)
    wait(lambda: table.rowCount() == 3)
    assert table.item(2, 0).text() == "6"
    assert trainer.names()[1] == "meadow"
    same()


def test_a_training_stops_when_told(trainer: Any, wait: Wait) -> None:
    widget, control = trainer, trainer.controller
    widget.steps.setValue(100_000)
    widget.start.click()
    wait(lambda: len(widget.curve.losses) >= 2, 300)
    widget.stop.click()
    begun = time.monotonic()
    wait(lambda: not control.trainer.now.active, 60)
    assert time.monotonic() - begun < 20
    assert widget.status.text() == "Stopped."
    assert not widget.use.isEnabled()
    assert widget.start.isEnabled()


def test_a_training_never_writes_over_what_is_there(trainer: Any, tmp_path: Path) -> None:
    kept = tmp_path / "documents" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("three years")
    trainer.output.setText(str(kept.parent))
    trainer.start.click()
    assert trainer.controller.trainer.now.problem
    assert "name another folder" in trainer.status.text()
    assert not trainer.controller.trainer.now.active
    assert kept.read_text() == "three years"
    from napari_digseg._training import free_folder

    assert free_folder(kept.parent) == tmp_path / "documents-2"
    assert free_folder(tmp_path / "new") == tmp_path / "new"


def test_what_can_not_be_trained_on_is_one_sentence(trainer: Any, viewer: Any, wait: Wait) -> None:
    viewer.add_labels(np.zeros((10, 10), np.uint8), name="another size")
    trainer.labels.setCurrentText("another size")
    trainer.start.click()
    wait(lambda: not trainer.controller.trainer.now.active)
    assert trainer.controller.trainer.now.problem
    assert "(10, 10)" in trainer.status.text()
