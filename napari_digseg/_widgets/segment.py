"""Segment by text: the form, the run, the legend."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QGuiApplication, QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QElidingLabel

from digseg.settings import SegmentSettings
from napari_digseg._state import REGIONS, State
from napari_digseg._widgets._advanced import Advanced
from napari_digseg._widgets._icons import copy
from napari_digseg._widgets._prompts import PromptList
from napari_digseg._widgets._session import Panel
from napari_digseg._widgets._shared import CoverageBox, LayerBox, StatusLabel, listen, save_as
from napari_digseg._widgets._style import button, flat, heading, line, rename

if TYPE_CHECKING:
    import napari

_COMMAND_HEIGHT = 44  # pixels: three lines
_NEED_SLICES = [REGIONS.index("slice"), REGIONS.index("slab")]
_AROUND = 2  # slices on either side of the one on screen, in the slab that is offered first
_PREVIEW_MS = 350  # of quiet before a preview is asked for


class SegmentWidget(Panel):
    """The dock widget behind Layers > Segment > Segment by text."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._build()
        self._connect()
        self.refresh()
        self.controller.warm()

    # -- building --------------------------------------------------------------------------------

    def _build(self) -> None:
        self.layer = LayerBox(self.controller, "image", "The image to segment.", self._set_layer)
        self.prompts = PromptList(
            lambda: self.controller.state, self._set_prompts, self.controller.change
        )
        self.region = QComboBox()
        self.region.addItems(REGIONS)
        for place in _NEED_SLICES:
            tip = "Only a volume has slices."
            self.region.setItemData(place, tip, Qt.ItemDataRole.ToolTipRole)
        self.region.setToolTip(
            "Segment the whole layer, what is on screen, what lies inside a drawn shape, the slice "
            "on screen, or a slab of slices."
        )
        self.first, self.last = QSpinBox(), QSpinBox()
        for spin in (self.first, self.last):
            spin.setRange(0, 100_000)
            spin.setToolTip("First and last slice of the slab, from 0.")
        self.advanced = Advanced(
            self.controller.state, self.controller.preferences, self._set_settings, self._complain
        )
        folded = QCollapsible("Model and settings", expandedIcon="▾", collapsedIcon="▸")
        folded.layout().setContentsMargins(0, 0, 0, 0)
        folded.addWidget(self.advanced)
        folded.collapse(animate=False)
        self.folded = folded
        inner = QWidget()
        form = QVBoxLayout(inner)
        form.setContentsMargins(2, 2, 6, 2)
        form.addWidget(heading("Image"))
        form.addWidget(self.layer)
        form.addWidget(heading("What to find"))
        form.addWidget(self.prompts)
        where = QHBoxLayout()
        where.addWidget(heading("Where"))
        where.addWidget(self.region, 1)
        tip = "Add a Shapes layer that lies on the image, and draw a polygon on it."
        self.draw = button("Draw", self.controller.add_drawing, tip)
        where.addWidget(self.draw)
        form.addLayout(where)
        # A row of its own: napari's spin boxes are wide.
        self.slab = QWidget()
        slices = QHBoxLayout(self.slab)
        slices.setContentsMargins(0, 0, 0, 0)
        for widget in (QLabel("Slices"), self.first, QLabel("to"), self.last):
            slices.addWidget(widget)
        form.addWidget(self.slab)
        form.addWidget(folded)
        form.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 8, 8)
        layout.addWidget(scroll, 1)
        layout.addWidget(line())
        layout.addLayout(self._build_actions())

    def _build_actions(self) -> QVBoxLayout:
        act = self.controller
        self.run = button("Segment", act.runs.start, "Segment (Ctrl+Alt+R).", "primary")
        self.cancel = button(
            "Stop", act.runs.cancel, "Stop within a second (Ctrl+Alt+X).", "danger"
        )
        self.resume = button("Resume", act.runs.resume, "Go on where the run stopped.")
        self.preview = button(
            "Preview", act.previews.ask, "Segment the screen coarsely (Ctrl+Alt+V)."
        )
        self.undo = button("Undo", act.undo, "Take back the last threshold (Ctrl+Alt+Z).")
        save = partial(save_as, self, act)
        self.save = button("Save as…", save, "Save as GeoTIFF, NIfTI, polygons, table …")
        self.coverage = CoverageBox("Coverage", act)
        self.live_preview = QCheckBox("Preview while typing")
        self.live_preview.setToolTip("Preview whenever prompts or the view change.")
        self.live_preview.setChecked(act.preferences.preview)
        self.status = StatusLabel()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.command = QElidingLabel()
        self.command.setObjectName("command")
        self.command.setWordWrap(True)
        self.command.setMaximumHeight(_COMMAND_HEIGHT)
        self.copy = flat(copy(), self._copy, "Copy the command line.")
        layout = QVBoxLayout()
        first, second, third = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.run, 2)
        first.addWidget(self.cancel, 1)
        first.addWidget(self.resume, 1)
        for widget in (self.preview, self.undo, self.save):
            second.addWidget(widget)
        third.addWidget(self.coverage)
        third.addWidget(self.live_preview)
        third.addStretch(1)
        told = QHBoxLayout()
        told.addWidget(self.command, 1)
        told.addWidget(self.copy)
        for row in (first, second, third):
            layout.addLayout(row)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addLayout(told)
        return layout

    def _connect(self) -> None:
        self.region.currentTextChanged.connect(self._set_region)
        self.first.valueChanged.connect(self._set_region)
        self.last.valueChanged.connect(self._set_region)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_PREVIEW_MS)
        self._later.timeout.connect(self.controller.previews.ask)
        dims = self.viewer.dims.events.current_step
        listen(self, [self.viewer.scene.camera.events, dims], self._ask_preview)
        for keys, act in (
            ("Ctrl+Alt+R", self.controller.runs.start),
            ("Ctrl+Alt+X", self.controller.runs.cancel),
            ("Ctrl+Alt+V", self.controller.previews.ask),
            ("Ctrl+Alt+Z", self.controller.undo),
            ("Ctrl+Alt+U", self.controller.review.next_uncertain),
        ):
            QShortcut(QKeySequence(keys), self, activated=act)
        before = self.controller.state
        self.layer.fill()
        if before.layer in self.controller.layers_of("image"):
            # A dock that was closed comes back as it was.
            self.layer.setCurrentText(before.layer)
            self.controller.set(
                replace(self.controller.state, region=before.region, slab=before.slab)
            )
            self._show_region()

    # -- what was clicked ------------------------------------------------------------------------

    def _set_prompts(self, state: State) -> None:
        self.controller.set(state)
        if self.controller.runs.answers_form:
            self.controller.previews.clear()  # of prompts that were typed and taken back
        self._ask_preview()

    def _set_settings(self, settings: SegmentSettings, uncertainty: bool) -> None:
        before = self.controller.state.settings
        state = replace(self.controller.state, settings=settings, uncertainty=uncertainty)
        self.controller.set(state)
        if (before.model, before.device) != (settings.model, settings.device):
            self._ask_preview()

    def _complain(self, text: str) -> None:
        self.prompts.complain(text)

    def _set_layer(self, name: str) -> None:
        self.controller.set(replace(self.controller.state, layer=name))
        self._offer_slices()
        self._ask_preview()

    def _offer_slices(self) -> None:
        """Slices and slabs are for volumes; the first slab lies around what is on screen."""
        count, shown = self.controller.slices()
        for place in _NEED_SLICES:
            self.region.model().item(place).setEnabled(count > 0)
        if not count:
            if self.region.currentIndex() in _NEED_SLICES:
                self.region.setCurrentIndex(0)
            return
        for spin, at in ((self.first, shown - _AROUND), (self.last, shown + _AROUND)):
            spin.blockSignals(True)
            spin.setRange(0, count - 1)
            spin.setValue(at)
            spin.blockSignals(False)
        self._set_region()

    def _set_region(self, *_: Any) -> None:
        region: Any = self.region.currentText()
        slab = (self.first.value(), self.last.value())
        self.controller.set(replace(self.controller.state, region=region, slab=slab))

    def _show_region(self) -> None:
        """Show the region of the form; nothing is told to anybody."""
        state = self.controller.state
        widgets = self.region, self.first, self.last
        for widget in widgets:
            widget.blockSignals(True)
        self.region.setCurrentText(state.region)
        self.first.setValue(state.slab[0])
        self.last.setValue(state.slab[1])
        for widget in widgets:
            widget.blockSignals(False)

    def _ask_preview(self, *_: Any) -> None:
        """A preview in a moment, unless the labels of the newest run are the answer already."""
        control = self.controller
        busy = control.running or control.trainer.hindrance
        if not self.live_preview.isChecked() or busy or control.state.problem:
            return
        if control.runs.answers_form:
            self._later.stop()
        else:
            self._later.start()

    def _copy(self, *_: Any) -> None:
        QGuiApplication.clipboard().setText(self.controller.review.command_line)

    # -- what is shown ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the controller's state."""
        control = self.controller
        state, status, run = control.state, control.status, control.run
        self.layer.show_name(state.layer)
        if state.region != self.region.currentText():
            self._show_region()
        self.advanced.show_model(state.settings.model)
        self.prompts.show_state(state, run.histograms if run is not None else {})
        self.slab.setVisible(state.region == "slab")
        self.draw.setVisible(state.region == "drawn shape")
        busy, hindrance = control.running, control.trainer.hindrance
        free = not (busy or hindrance or state.problem)
        self.run.setEnabled(free)
        stopped = status.phase == "stopped"
        said = "Segment what is new" if control.runs.can_extend else "Segment"
        self.run.setText("Start over" if stopped else said)
        rename(self.run, "" if stopped else "primary")
        rename(self.resume, "primary" if stopped else "")
        self.cancel.setVisible(busy)
        self.cancel.setEnabled(status.phase == "running")
        failed = run is not None and bool(run.failed) and not busy
        self.resume.setVisible(stopped or failed)
        self.resume.setText("Retry failed" if failed and not stopped else "Resume")
        self.resume.setEnabled(not hindrance)
        self.resume.setToolTip(hindrance or "Go on where the run stopped.")
        self.preview.setEnabled(free)
        self.undo.setEnabled(control.can_undo)
        there = run is not None and run.live is not None
        self.save.setEnabled(there and status.phase in ("finished", "stopped"))
        self.coverage.refresh()
        self.progress.setVisible(busy)
        # Never Qt's endless bar: its animation redraws the whole window, canvas included.
        self.progress.setRange(0, max(1, status.total))
        self.progress.setValue(status.done)
        # Why a button is grey comes before what was done last.
        why = "" if busy or status.problem else state.problem
        self.status.show_message(why or status.message or state.problem, problem=status.problem)
        grey = hindrance or state.problem
        self.run.setToolTip(grey or "Segment (Ctrl+Alt+R).")
        self.preview.setToolTip(grey or "Segment the screen coarsely (Ctrl+Alt+V).")
        command = control.review.command_line
        for widget in (self.command, self.copy):
            widget.setVisible(bool(command))
        shown = command if run is None else command.replace(run.job.input, run.short_input, 1)
        if shown != self.command.text():
            self.command.setText(shown)
            self.command.setToolTip(f"Does the same run from a terminal:\n\n{command}")
