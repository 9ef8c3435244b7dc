"""Train: fine-tune a model on the person's own labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from napari_digseg._labels import classes_of
from napari_digseg._status import at_home
from napari_digseg._training import Wish, free_folder
from napari_digseg._widgets._curve import LossCurve
from napari_digseg._widgets._session import Panel
from napari_digseg._widgets._shared import LayerBox, StatusLabel
from napari_digseg._widgets._style import button, heading, hint, swatch

if TYPE_CHECKING:
    import napari

_ROW = 30  # pixels of a row of the table of classes
_MOST_ROWS = 6
_TIP = "Fine-tune on these labels."
_OWN = Path.home() / "digseg-own"


class TrainWidget(Panel):
    """Labels painted on an image become a model that knows their names."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        act = self.controller
        self.image = LayerBox(act, "image", "The image that was painted on.", self._set_image)
        self.labels = LayerBox(
            act, "labels", "Labels that were painted on the image.", self._choose_labels
        )
        self._watched: Any = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._list_again)
        self.destroyed.connect(lambda: self._watch(None))
        self.classes = _class_table()
        self.steps = QSpinBox()
        self.steps.setRange(1, 100_000)
        self.steps.setValue(200)
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 10_000)
        self.minutes.setValue(10)
        self.minutes.setDecimals(1)
        self._offered = at_home(free_folder(_OWN))
        self.output = QLineEdit(self._offered)
        self.output.setToolTip("Folder of the new model.")
        self.browse = button("…", self._browse, "Choose the folder of the new model.")
        self.start = button("Train", self._start, _TIP, "primary")
        self.stop = button("Stop", act.trainer.stop, "Stop after this step.", "danger")
        self.use = button("Use this model", self._use, "Segment with the new model from now on.")
        self.curve = LossCurve()
        self.picture = QLabel()
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.status = StatusLabel()
        self._shown = ""
        self._build()
        self.image.fill()
        self.labels.fill()
        self.refresh()

    def _build(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for text, widget in (
            ("Image", self.image),
            ("Labels", self.labels),
            ("Steps", self.steps),
            ("Minutes at most", self.minutes),
        ):
            form.addRow(text, widget)
        where = QHBoxLayout()
        where.addWidget(self.output, 1)
        where.addWidget(self.browse)
        form.addRow("New model", where)
        acts = QHBoxLayout()
        for act, share in ((self.start, 2), (self.stop, 1), (self.use, 1)):
            acts.addWidget(act, share)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 8, 8)
        layout.addWidget(heading("Train on my labels"))
        layout.addWidget(hint("Paint a few examples of each class on the image; 0 is background."))
        layout.addLayout(form)
        layout.addWidget(heading("Classes"))
        layout.addWidget(self.classes)
        layout.addLayout(acts)
        layout.addWidget(self.curve)
        layout.addWidget(self.picture)
        layout.addWidget(self.status)
        layout.addStretch(1)

    def refresh(self) -> None:
        """Show how the training goes."""
        control, training = self.controller, self.controller.trainer.now
        self.image.show_name(control.state.layer)
        ready = bool(self.labels.currentText() and self.image.currentText())
        busy = control.runs.hindrance
        self.start.setEnabled(not (training.active or busy) and ready)
        self.stop.setVisible(training.active)
        self.use.setEnabled(bool(training.model) and not training.active)
        missing = "" if ready else "Add a Labels layer (Layers > New Labels) and paint on it."
        self.start.setToolTip(busy or missing or _TIP)
        self.status.show_message(training.message or missing, problem=training.problem)
        self.curve.show_losses(training.losses)
        if training.picture != self._shown:
            self._shown = training.picture
            pixmap = QPixmap(training.picture)
            if not pixmap.isNull():
                mode = Qt.TransformationMode.SmoothTransformation
                pixmap = pixmap.scaledToWidth(max(240, self.width() - 20), mode)
            self.picture.setPixmap(pixmap)

    def names(self) -> dict[int, str]:
        """Names by label id, as they stand in the table."""
        named = {}
        for line in range(self.classes.rowCount()):
            text = self.classes.item(line, 1).text().strip()
            if text:
                named[int(self.classes.item(line, 0).text())] = text
        return named

    def _set_image(self, name: str) -> None:
        self.controller.set(replace(self.controller.state, layer=name))

    def _choose_labels(self, name: str) -> None:
        self._watch(next((layer for layer in self.viewer.layers if layer.name == name), None))
        self._list_classes()

    def _watch(self, layer: Any) -> None:
        """Follow a Labels layer: what is painted on it, and in which colours."""
        for watched, act in ((self._watched, "disconnect"), (layer, "connect")):
            if watched is not None:
                getattr(watched.events.paint, act)(self._hear_paint)
                getattr(watched.events.colormap, act)(self._list_again)
        self._watched = layer

    def _hear_paint(self, event: Any) -> None:
        """A label that was not painted before gets its row, to be named."""
        painted = str(event.source.selected_label)
        listed = [self.classes.item(line, 0).text() for line in range(self.classes.rowCount())]
        if painted not in ["0", *listed]:
            self._later.start()  # napari tells of a stroke before it is in the data

    def _list_classes(self) -> None:
        name = self.labels.currentText()
        self.classes.setRowCount(0)
        if name and name in self.viewer.layers:
            layer = self.viewer.layers[name]
            data = layer.data[0] if layer.multiscale else layer.data
            entries = classes_of(data, layer.as_layer_data_tuple()[1]).entries
            self.classes.setRowCount(len(entries))
            for line, entry in enumerate(entries):
                label = QTableWidgetItem(str(entry.id))
                label.setIcon(swatch(entry.color))
                label.setFlags(Qt.ItemFlag.ItemIsEnabled)
                self.classes.setItem(line, 0, label)
                self.classes.setItem(line, 1, QTableWidgetItem(entry.name))
        shown = min(_MOST_ROWS, max(1, self.classes.rowCount()))
        self.classes.setFixedHeight(_ROW * (shown + 1) + 2)

    def _start(self) -> None:
        self._list_again()
        if self.output.text() == self._offered:  # it may hold a model by now
            self._offered = at_home(free_folder(_OWN))
            self.output.setText(self._offered)
        self.controller.trainer.start(
            Wish(
                self.labels.currentText(),
                self.names(),
                Path(self.output.text()).expanduser(),
                steps=self.steps.value(),
                minutes=self.minutes.value(),
            )
        )

    def _list_again(self, *_: Any) -> None:
        """List labels and colours as they are now; names that were typed stay."""
        typed = self.names()
        self._list_classes()
        for line in range(self.classes.rowCount()):
            label = int(self.classes.item(line, 0).text())
            if label in typed:
                self.classes.item(line, 1).setText(typed[label])

    def _use(self) -> None:
        self.controller.shelf.use(self.controller.trainer.now.model)

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the new model")
        if chosen:
            self.output.setText(chosen)


def _class_table() -> QTableWidget:
    table = QTableWidget(0, 2)
    table.setHorizontalHeaderLabels(["Label", "Name to type later"])
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(_ROW)
    table.setShowGrid(False)
    header = table.horizontalHeader()
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
    header.setStretchLastSection(True)
    table.setToolTip("Double-click a name to change it.")
    return table
