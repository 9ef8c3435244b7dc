"""Review: what was found, how much of it, where to look twice, and saving it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QGridLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from napari_digseg._table import columns_of
from napari_digseg._widgets._session import Panel
from napari_digseg._widgets._shared import CoverageBox, StatusLabel, save_as
from napari_digseg._widgets._style import button, heading, hint, swatch

if TYPE_CHECKING:
    import napari

_LEGEND = (
    "&nbsp; ".join(
        f"<span style='color:{color}'>■</span> {name}"
        for color, name in (("#48a96b", "done"), ("#e0564f", "failed"), ("#9a9aa6", "no data"))
    )
    + "&nbsp; □ pending"
)
_TIPS = {
    "share": "Share of the pixels that were segmented.",
    "parts": "Connected parts.",
    "mean p": "Mean probability where the label lies.",
}
_RETRY = "Compute failed tiles once more."
_UNMEASURED = "Measure fills a table: area or volume, share and number of parts."
_OUTDATED = "Thresholds or labels changed since this was measured: Measure once more."
_NEXT = {
    True: ("Next disagreement", "Move to where the ensemble's runs differ most (Ctrl+Alt+U)."),
    False: (
        "Next close call",
        "Move to where the best answer is closest to its threshold (Ctrl+Alt+U). A run with an "
        "ensemble and its spread (Model and settings) goes by where its runs differ instead.",
    ),
}


class ReviewWidget(Panel):
    """The dock widget behind Layers > Segment > Review."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        act = self.controller
        self.coverage = CoverageBox("Show coverage", act)
        self.retry = button("Retry failed", act.runs.resume, _RETRY)
        self.next = button("", act.review.next_uncertain, "")
        self.measure = button("Measure", act.review.measure, "Areas or volumes of every label.")
        self.paint = button(
            "Paint corrections",
            act.review.editable_copy,
            "Copy the labels to a layer to paint on.",
        )
        tip = "Save labels, polygons or the table."
        self.save = button("Save as…", partial(save_as, self, act), tip, "primary")
        self.table = QTableWidget(0, 0)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.setShowGrid(False)
        self.empty = hint(_UNMEASURED)
        self.status = StatusLabel()
        self.files = hint()
        self._rows: Any = None
        self._build()
        self.refresh()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 8, 8)
        layout.addWidget(heading("Coverage"))
        layout.addWidget(self.coverage)
        layout.addWidget(hint(_LEGEND))
        layout.addWidget(heading("Look twice"))
        grid = QGridLayout()
        for place, widget in enumerate((self.next, self.retry, self.paint, self.measure)):
            grid.addWidget(widget, place // 2, place % 2)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        layout.addLayout(grid)
        layout.addWidget(heading("How much"))
        layout.addWidget(self.empty)
        layout.addWidget(self.table, 1_000)  # the stretch is for a table that is hidden
        layout.addStretch(1)
        layout.addWidget(self.save)
        layout.addWidget(self.status)
        layout.addWidget(self.files)

    def refresh(self) -> None:
        """Show the controller's state."""
        control = self.controller
        run, status = control.run, control.status
        there = run is not None and run.live is not None
        done = there and status.phase in ("finished", "stopped")
        for widget in (self.next, self.measure, self.paint, self.save):
            widget.setEnabled(done)
        text, tip = _NEXT[control.review.has_spread]
        self.next.setText(text)
        self.next.setToolTip(tip)
        self.coverage.refresh()
        hindrance = control.trainer.hindrance
        self.retry.setEnabled(done and run is not None and bool(run.failed) and not hindrance)
        self.retry.setToolTip(hindrance or _RETRY)
        self.status.show_message(
            status.message if there else "Run a segmentation first.",
            problem=there and status.problem,
        )
        outdated = control.review.outdated
        self.empty.setVisible(outdated or not control.review.statistics)
        self.empty.setText(_OUTDATED if outdated else _UNMEASURED)
        self.table.setVisible(bool(control.review.statistics))
        self.files.setText("\n".join(Path(file).name for file in control.review.saved))
        if control.review.statistics is not self._rows:
            self._rows = control.review.statistics
            self._show_table()

    def _show_table(self) -> None:
        columns = columns_of(self._rows)
        self.table.setColumnCount(len(columns))
        self.table.setHorizontalHeaderLabels([column.title for column in columns])
        self.table.setRowCount(len(self._rows))
        run = self.controller.run
        colors = {p.name: p.color for p in run.job.prompts} if run is not None else {}
        for place, column in enumerate(columns):
            head = self.table.horizontalHeaderItem(place)
            head.setToolTip(_TIPS.get(column.title, ""))
            for line, text in enumerate(column.texts):
                item = QTableWidgetItem(text)
                if place == 0:
                    item.setToolTip(text)
                    if text in colors:
                        item.setIcon(swatch(colors[text]))
                else:
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                self.table.setItem(line, place, item)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        if columns:
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
