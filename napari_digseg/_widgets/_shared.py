"""Controls that several widgets have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLabel, QWidget

from napari_digseg._controller import Controller
from napari_digseg._widgets._style import BAD

SAVE_FILTER = (
    "GeoTIFF (*.tif);;NIfTI (*.nii.gz);;OME-Zarr (*.ome.zarr);;PNG (*.png);;MetaImage (*.mha);;"
    "NRRD (*.nrrd);;DICOM segmentation (*.dcm);;Polygons (*.gpkg *.geojson *.parquet);;"
    "Table (*.csv)"
)


def save_as(parent: QWidget, controller: Controller) -> None:
    """Ask for a name and save the labels, polygons or table under it."""
    run = controller.run
    name = run.suggested_name if run is not None else "labels.tif"
    chosen, _ = QFileDialog.getSaveFileName(parent, "Save labels", name, SAVE_FILTER)
    if chosen:
        controller.review.save(Path(chosen))


class StatusLabel(QLabel):
    """One sentence; red when it is bad news."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)

    def show_message(self, text: str, *, problem: bool = False) -> None:
        if text != self.text():
            self.setText(text)
        style = f"color: {BAD}" if problem else ""
        if style != self.styleSheet():
            self.setStyleSheet(style)


class ShortLabel(QLabel):
    """One line that may become narrower than its text; what does not fit ends in dots."""

    def minimumSizeHint(self) -> QSize:
        return QSize(self.fontMetrics().averageCharWidth() * 6, super().minimumSizeHint().height())

    def paintEvent(self, event: Any) -> None:
        space = self.contentsRect()
        metrics = self.fontMetrics()
        text = metrics.elidedText(self.text(), Qt.TextElideMode.ElideRight, space.width())
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(space, Qt.AlignmentFlag.AlignVCenter, text)
        painter.end()


class CoverageBox(QCheckBox):
    """Shows and hides the coverage layer; all boxes of a viewer show the same."""

    def __init__(self, text: str, controller: Controller) -> None:
        super().__init__(text)
        self._controller = controller
        self.setToolTip("Show which parts are done, failed or without data.")
        self.toggled.connect(controller.runs.want_coverage)

    def refresh(self) -> None:
        """Follow the controller."""
        run = self._controller.run
        self.setEnabled(run is not None and run.live is not None)
        self.blockSignals(True)
        self.setChecked(self._controller.runs.coverage_wanted)
        self.blockSignals(False)


class LayerBox(QComboBox):
    """Names of the viewer's layers of one kind, kept up to date.

    Parameters
    ----------
    kind
        ``"image"`` or ``"labels"``.
    chosen
        Called with the name when another one is chosen, by a person or because one went.
    """

    def __init__(
        self, controller: Controller, kind: str, tip: str, chosen: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._controller, self._kind, self._chosen = controller, kind, chosen
        self._layers: list[Any] = []  # whose names are in the list, in this order
        self._told: str | None = None
        self.setToolTip(tip)
        # A long name must not make the dock wide.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.currentTextChanged.connect(self._choose)
        events = controller.viewer.layers.events
        self._ears = [events.inserted, events.removed, events.reordered]
        listen(self, self._ears, self.fill)
        self.destroyed.connect(lambda: self._follow([]))

    def fill(self, *_: Any) -> None:
        """Take the viewer's layers as they are now; the chosen one stays, whatever its name."""
        kept, called = self.chosen_layer, self.currentText()
        layers = self._controller.viewer.layers
        self._follow([layer for layer in layers if layer._type_string == self._kind])
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in self._layers])
        if kept in self._layers:
            self.setCurrentIndex(self._layers.index(kept))
        self.blockSignals(False)
        if self.chosen_layer is kept and self.currentText() != called:
            self._rename(called, self.currentText())
        else:
            self._choose(self.currentText())

    def _rename(self, old: str, new: str) -> None:
        """Another name is no other layer: what was set for it stays."""
        self._told = new
        state = self._controller.state
        if state.layer == old:
            self._controller.set(replace(state, layer=new))

    @property
    def chosen_layer(self) -> Any:
        """The chosen layer; `None` where there is none."""
        place = self.currentIndex()
        return self._layers[place] if 0 <= place < len(self._layers) else None

    def _follow(self, layers: list[Any]) -> None:
        """Listen to the names of these layers, and to no others' any more."""
        for layer in self._layers:
            if layer not in layers:
                layer.events.name.disconnect(self.fill)
        for layer in layers:
            if layer not in self._layers:
                layer.events.name.connect(self.fill)
        self._layers = layers

    def show_name(self, name: str) -> None:
        """Show a name that was chosen elsewhere, without telling anybody."""
        if name != self.currentText() and self.findText(name) >= 0:
            self._told = name
            self.blockSignals(True)
            self.setCurrentText(name)
            self.blockSignals(False)

    def _choose(self, name: str) -> None:
        if name != self._told:
            self._told = name
            self._chosen(name)


def listen(widget: QWidget, events: list[Any], callback: Callable[..., None]) -> None:
    """Call back on napari events for as long as a widget lives."""
    for event in events:
        event.connect(callback)

    def leave(*_: Any) -> None:
        for event in events:
            event.disconnect(callback)

    widget.destroyed.connect(leave)
