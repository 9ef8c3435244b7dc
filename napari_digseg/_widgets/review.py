"""Review: what was found, how much of it, where to look twice, and saving it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_digseg._widgets._session import join
from napari_digseg._widgets._style import SHEET, button, heading, hint, swatch
from napari_digseg._widgets.segment import SAVE_FILTER

if TYPE_CHECKING:
    import napari


class ReviewWidget(QWidget):
    """The dock widget behind Layers > Segment > Review."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.setStyleSheet(SHEET)
        self.controller = join(self, napari_viewer, self.refresh)
        self.viewer = self.controller.viewer
        act = self.controller
        self.coverage = QCheckBox("Show coverage: done green, failed red, no data grey")
        self.coverage.toggled.connect(self._show_coverage)
        self.retry = button("Retry failed", act.retry_failed, "Compute failed tiles once more.")
        self.next = button(
            "Next doubtful place",
            act.next_uncertain,
            "Move to where answers are closest to their thresholds (Ctrl+Alt+U).",
        )
        self.measure = button("Measure", act.measure, "Areas or volumes of every label.")
        self.paint = button(
            "Paint corrections", act.editable_copy, "Copy the labels to a layer to paint on."
        )
        self.save = button("Save as…", self._save, "Save labels, polygons or the table.", "primary")
        self.table = QTableWidget(0, 0)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setShowGrid(False)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.files = hint()
        layout = QVBoxLayout(self)
        layout.addWidget(heading("Coverage"))
        layout.addWidget(self.coverage)
        layout.addWidget(heading("Look twice"))
        for pair in ((self.next, self.retry), (self.paint, self.measure)):
            row = QHBoxLayout()
            for widget in pair:
                row.addWidget(widget)
            layout.addLayout(row)
        layout.addWidget(heading("How much"))
        layout.addWidget(self.table, 1)
        layout.addWidget(self.save)
        layout.addWidget(self.status)
        layout.addWidget(self.files)
        self._rows: Any = None
        self.refresh()

    def refresh(self) -> None:
        """Show the controller's state."""
        control = self.controller
        run, status = control.run, control.status
        there = run is not None and run.live is not None
        done = there and status.phase in ("finished", "stopped")
        for widget in (self.next, self.measure, self.paint, self.save):
            widget.setEnabled(done)
        self.coverage.setEnabled(there)
        self.retry.setEnabled(done and run is not None and bool(run.failed))
        self.status.setText(status.message if there else "Run a segmentation first.")
        self.status.setStyleSheet("color: #e0564f" if status.problem else "")
        self.files.setText("\n".join(Path(file).name for file in control.saved))
        if self.coverage.isChecked() and run is not None and run.coverage is None:
            run.show_coverage(self.viewer, True)
        if control.statistics is not self._rows:
            self._rows = control.statistics
            self._show_table()

    def _show_table(self) -> None:
        rows = self._rows
        keys = [key for key in (rows[0] if rows else {}) if _is_for_people(key)]
        self.table.setColumnCount(len(keys))
        self.table.setHorizontalHeaderLabels([_title(key) for key in keys])
        self.table.setRowCount(len(rows))
        run = self.controller.run
        colors = {p.name: p.color for p in run.job.prompts} if run is not None else {}
        for line, row in enumerate(rows):
            for column, key in enumerate(keys):
                item = QTableWidgetItem(_text(row[key]))
                if key == "name" and row[key] in colors:
                    item.setIcon(swatch(colors[row[key]]))
                self.table.setItem(line, column, item)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)

    def _show_coverage(self, visible: bool) -> None:
        if self.controller.run is not None:
            self.controller.run.show_coverage(self.viewer, visible)

    def _save(self) -> None:
        run = self.controller.run
        name = run.suggested_name if run is not None else "labels.tif"
        chosen, _ = QFileDialog.getSaveFileName(self, "Save labels", name, SAVE_FILTER)
        if chosen:
            self.controller.save(Path(chosen))


def _is_for_people(key: str) -> bool:
    return key not in ("id", "color", "synonyms")


def _title(key: str) -> str:
    """``area_m2`` as ``area (m²)``."""
    for unit, sign in (("_m2", " (m²)"), ("_ha", " (ha)"), ("_km2", " (km²)"), ("_ml", " (ml)"),
                       ("_mm3", " (mm³)"), ("_mm2", " (mm²)")):  # fmt: skip
        if key.endswith(unit):
            return key.removesuffix(unit).replace("_", " ") + sign
    return key.replace("_", " ")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
