"""Train: fine-tune a model on the person's own labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_digseg._labels import classes_of
from napari_digseg._widgets._session import join
from napari_digseg._widgets._style import ACCENT, SHEET, button, heading, hint, swatch

if TYPE_CHECKING:
    import napari


class TrainWidget(QWidget):
    """Labels painted on an image become a model that knows their names."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.setStyleSheet(SHEET)
        self.controller = join(self, napari_viewer, self.refresh)
        self.viewer = self.controller.viewer
        self.labels = QComboBox()
        self.labels.setToolTip("Labels that were painted on the image of Segment by text.")
        self.labels.currentTextChanged.connect(self._list_classes)
        self.classes = QTableWidget(0, 2)
        self.classes.setHorizontalHeaderLabels(["Label", "Name to type later"])
        self.classes.verticalHeader().hide()
        self.classes.horizontalHeader().setStretchLastSection(True)
        self.steps = QSpinBox()
        self.steps.setRange(1, 100_000)
        self.steps.setValue(200)
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 10_000)
        self.minutes.setValue(10)
        self.output = QLineEdit(str(Path.home() / "digseg-own"))
        self.browse = button("…", self._browse, "Choose the folder of the new model.")
        self.start = button("Train", self._start, "Fine-tune on these labels.", "primary")
        self.stop = button("Stop", self.controller.stop_training, "Stop after this step.", "danger")
        self.use = button("Use it", self._use, "Segment with the new model from now on.")
        self.curve = LossCurve()
        self.picture = QLabel()
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.status = QLabel()
        self.status.setWordWrap(True)
        form = QFormLayout()
        form.addRow("Labels", self.labels)
        form.addRow("Steps", self.steps)
        form.addRow("Minutes at most", self.minutes)
        where = QHBoxLayout()
        where.addWidget(self.output, 1)
        where.addWidget(self.browse)
        form.addRow("Folder", where)
        acts = QHBoxLayout()
        for widget in (self.start, self.stop, self.use):
            acts.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addWidget(heading("Train on my labels"))
        layout.addWidget(hint("Paint a few examples of each class on the image; 0 is background."))
        layout.addLayout(form)
        layout.addWidget(self.classes)
        layout.addLayout(acts)
        layout.addWidget(self.curve)
        layout.addWidget(self.picture)
        layout.addWidget(self.status)
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed):
            event.connect(self._list_layers)
        self.destroyed.connect(_Disconnect(self.viewer, self._list_layers))
        self._shown = ""
        self._list_layers()
        self.refresh()

    def refresh(self) -> None:
        """Show how the training goes."""
        training = self.controller.training
        self.start.setEnabled(
            not training.active and not self.controller.running and bool(self.labels.currentText())
        )
        self.stop.setVisible(training.active)
        self.use.setEnabled(bool(training.model) and not training.active)
        self.status.setText(training.message)
        self.status.setStyleSheet("color: #e0564f" if training.problem else "")
        self.curve.show_losses(training.losses)
        if training.picture != self._shown:
            self._shown = training.picture
            pixmap = QPixmap(training.picture)
            if not pixmap.isNull():
                mode = Qt.TransformationMode.SmoothTransformation
                pixmap = pixmap.scaledToWidth(max(240, self.width() - 30), mode)
            self.picture.setPixmap(pixmap)

    def names(self) -> dict[int, str]:
        """Names by label id, as they stand in the table."""
        named = {}
        for line in range(self.classes.rowCount()):
            text = self.classes.item(line, 1).text().strip()
            if text:
                named[int(self.classes.item(line, 0).text())] = text
        return named

    def _list_layers(self, *_: Any) -> None:
        kept = self.labels.currentText()
        names = [layer.name for layer in self.viewer.layers if layer._type_string == "labels"]
        self.labels.blockSignals(True)
        self.labels.clear()
        self.labels.addItems(names)
        if kept in names:
            self.labels.setCurrentText(kept)
        self.labels.blockSignals(False)
        self._list_classes()

    def _list_classes(self, *_: Any) -> None:
        name = self.labels.currentText()
        self.classes.setRowCount(0)
        if not name or name not in self.viewer.layers:
            return
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

    def _start(self) -> None:
        self._list_unnamed()
        self.controller.train(
            self.labels.currentText(),
            self.names(),
            Path(self.output.text()).expanduser(),
            steps=self.steps.value(),
            minutes=self.minutes.value(),
        )

    def _list_unnamed(self) -> None:
        """Labels painted since the table was filled get a row."""
        typed = self.names()
        self._list_classes()
        for line in range(self.classes.rowCount()):
            label = int(self.classes.item(line, 0).text())
            if label in typed:
                self.classes.item(line, 1).setText(typed[label])

    def _use(self) -> None:
        self.controller.use_model(self.controller.training.model)

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the new model")
        if chosen:
            self.output.setText(chosen)


class LossCurve(QWidget):
    """The loss of every step, and a smooth line through it."""

    def __init__(self) -> None:
        super().__init__()
        self._losses: tuple[float, ...] = ()
        self.setToolTip("Loss of every step (grey) and its running mean.")

    def sizeHint(self) -> QSize:
        return QSize(240, 90)

    def show_losses(self, losses: tuple[float, ...]) -> None:
        if losses != self._losses:
            self._losses = losses
            self.update()

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(128, 128, 128, 36))
        painter.drawRoundedRect(0, 0, self.width(), self.height(), 4, 4)
        if len(self._losses) > 1:
            top = max(self._losses) or 1.0
            smooth, mean = [], self._losses[0]
            for loss in self._losses:
                mean = 0.9 * mean + 0.1 * loss
                smooth.append(mean)
            for values, pen in (
                (self._losses, QPen(QColor(128, 128, 128, 150), 1)),
                (tuple(smooth), QPen(QColor(ACCENT), 2)),
            ):
                step = (self.width() - 8) / (len(values) - 1)
                high = self.height() - 8
                line = [
                    QPointF(4 + i * step, 4 + high * (1 - v / top)) for i, v in enumerate(values)
                ]
                painter.setPen(pen)
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawPolyline(QPolygonF(line))
        painter.end()


class _Disconnect:
    """Takes the widget's ears off the viewer when it goes."""

    def __init__(self, viewer: Any, on_layers: Any) -> None:
        self._viewer, self._on_layers = viewer, on_layers

    def __call__(self, *_: Any) -> None:
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed):
            event.disconnect(self._on_layers)
