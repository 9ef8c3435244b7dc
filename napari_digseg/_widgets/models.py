"""Models: what is here, what each one is, and how to bring in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QTextBrowser,
    QVBoxLayout,
)

from napari_digseg._models import model_rows
from napari_digseg._widgets._session import Panel
from napari_digseg._widgets._shared import StatusLabel
from napari_digseg._widgets._style import button, heading, hint

if TYPE_CHECKING:
    import napari

_COLUMNS = ("Model", "From", "Size", "Licence")


class ModelsWidget(Panel):
    """Shipped models, local folders and hub ids; only "From the hub" needs a network."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setShowGrid(False)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        self.table.itemSelectionChanged.connect(self._show_card)
        self.card = QTextBrowser()
        self.card.setOpenExternalLinks(True)
        self.status = StatusLabel()
        self.use = button("Use this model", self._use, "Segment with the chosen model.", "primary")
        self.folder = button(
            "From a folder…", self._from_folder, "Copy a model folder to the local models."
        )
        self.hub = button(
            "From the hub…", self._from_hub, "Download a model by its hub id: NAME/MODEL."
        )
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.table)
        split.addWidget(self.card)
        split.setStretchFactor(1, 1)
        split.setSizes([120, 480])
        self.card.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        row = QHBoxLayout()
        for widget in (self.folder, self.hub):
            row.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addWidget(heading("Models on this machine"))
        layout.addWidget(split, 1)
        layout.addWidget(self.use)
        layout.addLayout(row)
        layout.addWidget(self.status)
        layout.addWidget(hint("Weights are safetensors only: no model can run code."))
        self._models_seen = -1
        self.refresh()

    def refresh(self) -> None:
        """Show the list again when a model was brought in."""
        shelf = self.controller.shelf
        self.status.show_message(shelf.message, problem=shelf.problem)
        if self._models_seen == shelf.brought:
            return
        self._models_seen = shelf.brought
        self._rows = model_rows()
        self.table.setRowCount(len(self._rows))
        for line, row in enumerate(self._rows):
            for column, text in enumerate((row.name, row.origin, row.size, row.licence)):
                item = QTableWidgetItem(text)
                item.setToolTip(text if text == row.licence else row.summary)
                self.table.setItem(line, column, item)
        if self._rows:
            self.table.selectRow(0)

    def _chosen(self) -> int:
        rows = self.table.selectionModel().selectedRows()
        return rows[0].row() if rows else -1

    def _show_card(self) -> None:
        index = self._chosen()
        self.card.setMarkdown(self._rows[index].card if index >= 0 else "")

    def _use(self) -> None:
        index = self._chosen()
        if index >= 0:
            self.controller.shelf.use(self._rows[index].name)

    def _from_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of a model")
        if chosen:
            self.controller.shelf.bring(folder=chosen)

    def _from_hub(self) -> None:
        text, ok = QInputDialog.getText(self, "From the hub", "Hub id, such as NAME/MODEL")
        if ok and text.strip():
            self.controller.shelf.bring(hub_id=text.strip())
