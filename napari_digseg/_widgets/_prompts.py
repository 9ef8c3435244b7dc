"""The prompt list: a row for each prompt, which is the legend as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QSize
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QFrame,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from digseg.errors import PromptError
from napari_digseg._presets import PRESETS
from napari_digseg._state import PromptRow, State
from napari_digseg._widgets._icons import cross, eye, pencil
from napari_digseg._widgets._shared import ShortLabel
from napari_digseg._widgets._style import flat, hint, swatch
from napari_digseg._widgets._threshold import ThresholdSlider

Set = Callable[[State], None]

_EMPTY = (
    "No prompts yet. Take a preset, or type<table cellpadding=1>"
    "<tr><td><b>water</b>&nbsp;&nbsp;</td><td>one thing</td></tr>"
    "<tr><td><b>building=roof,house</b>&nbsp;&nbsp;</td><td>with synonyms</td></tr>"
    "<tr><td><b>-shadow</b>&nbsp;&nbsp;</td><td>what it is not</td></tr>"
    "<tr><td><b>water; road</b>&nbsp;&nbsp;</td><td>several at once</td></tr></table>"
)


class PromptList(QWidget):
    """Type a phrase, get a row.

    Parameters
    ----------
    get
        The form as it is.
    set_prompts
        Called with the form when prompts were added, removed or renamed.
    set_look
        Called with the form when a threshold, a colour or an eye changed.
    """

    def __init__(self, get: Callable[[], State], set_prompts: Set, set_look: Set) -> None:
        super().__init__()
        self._get, self._set_prompts, self._set_look = get, set_prompts, set_look
        self._rows: dict[str, _Row] = {}
        self.entry = QLineEdit()
        self.entry.setPlaceholderText("Type what to find, then Enter")
        self.entry.setToolTip(
            "One phrase for each class. Synonyms after an equals sign: building=roof,house. "
            "A minus in front makes it negative: -shadow competes with the others but gets no "
            "label."
        )
        self.entry.returnPressed.connect(self.add)
        self.presets = QPushButton("Presets")
        self.presets.setToolTip("Start from a list of prompts.")
        menu = QMenu(self.presets)
        for name in PRESETS:
            menu.addAction(name, lambda name=name: self._set_prompts(self._get().preset(name)))
        self.presets.setMenu(menu)
        top = QHBoxLayout()
        top.addWidget(self.entry, 1)
        top.addWidget(self.presets)
        self.complaint = QLabel()
        self.complaint.setObjectName("bad")
        self.complaint.setWordWrap(True)
        self.complaint.hide()
        self._list = QVBoxLayout()
        self._list.setSpacing(4)
        self.empty = hint(_EMPTY)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.complaint)
        layout.addWidget(self.empty)
        layout.addLayout(self._list)

    def add(self) -> None:
        """Add what was typed; several phrases may be separated by semicolons."""
        state = self._get()
        try:
            for text in self.entry.text().split(";"):
                state = state.add(text)
        except PromptError as error:
            self.complain(str(error))
            return
        self.complain("")
        self.entry.clear()
        self._set_prompts(state)

    def complain(self, text: str) -> None:
        self.complaint.setText(text)
        self.complaint.setVisible(bool(text))

    def show_state(self, state: State, histograms: Mapping[str, Any]) -> None:
        """Show the rows of a form."""
        names = [row.prompt.name for row in state.rows]
        if names != list(self._rows):
            self._rebuild(state)
        for row in state.rows:
            self._rows[row.prompt.name].show_row(row, histograms.get(row.prompt.name))
        self.empty.setVisible(not names)

    def row(self, name: str) -> _Row:
        """The row of a prompt."""
        return self._rows[name]

    def _rebuild(self, state: State) -> None:
        wanted = [row.prompt.name for row in state.rows]
        for name in [name for name in self._rows if name not in wanted]:
            gone = self._rows.pop(name)
            gone.hide()
            self._list.removeWidget(gone)
            gone.deleteLater()
        rows = {}
        for place, row in enumerate(state.rows):
            name = row.prompt.name
            kept = self._rows.get(name)
            if kept is None:
                kept = _Row(row, self._edit_look, self._edit_prompt, self._remove)
            rows[name] = kept
            self._list.insertWidget(place, kept)
        self._rows = rows

    def _edit_look(self, name: str, **changes: Any) -> None:
        self._set_look(self._get().edit(name, **changes))

    def _edit_prompt(self, name: str, **changes: Any) -> None:
        try:
            self._set_prompts(self._get().edit(name, **changes))
        except PromptError as error:
            self.complain(str(error))

    def _remove(self, name: str) -> None:
        self._set_prompts(self._get().remove(name))


class _Row(QFrame):
    """One prompt: colour, name, synonyms, eye, negative, remove; below it the threshold."""

    def __init__(
        self,
        row: PromptRow,
        edit_look: Callable[..., None],
        edit_prompt: Callable[..., None],
        remove: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.setObjectName("row")
        name = row.prompt.name
        self._row: PromptRow | None = None
        self._histogram: Any = None
        self.color = flat("", lambda: self._choose_color(edit_look), "Colour of the label.")
        self.color.setIconSize(QSize(16, 16))
        # Long names are cut off rather than push the buttons out of the dock.
        self.name, self.also = ShortLabel(), ShortLabel()
        self.name.setObjectName("name")
        self.also.setObjectName("hint")
        self.also.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.edit = flat(pencil(), lambda: self._rename(edit_prompt), "Rename, or change synonyms.")
        self.eye = flat(
            eye(on=True),
            lambda on: edit_look(name, shown=on),
            "Give this prompt a label; without, it still competes with the others.",
            checkable=True,
        )
        self.negative = flat(
            "not",
            lambda on: edit_prompt(name, negative=on),
            "Negative: competes with the others but never gets a label.",
            checkable=True,
        )
        self.remove = flat(cross(), lambda: remove(name), "Remove this prompt.")
        top = QHBoxLayout()
        top.setSpacing(2)
        top.addWidget(self.color)
        top.addWidget(self.name)
        top.addSpacing(4)
        top.addWidget(self.also, 1)
        for widget in (self.edit, self.negative, self.eye, self.remove):
            top.addWidget(widget)
        self.slider = ThresholdSlider(row.threshold, row.prompt.color)
        self.slider.moved.connect(lambda value: edit_look(name, threshold=value))
        self.value = QLabel()
        self.value.setMinimumWidth(30)
        bottom = QHBoxLayout()
        bottom.addWidget(self.slider, 1)
        bottom.addWidget(self.value)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 3, 6, 4)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addLayout(bottom)
        self.show_row(row, None)

    def show_row(self, row: PromptRow, histogram: Any) -> None:
        """Show a row of the form; nothing is told to anybody."""
        if row == self._row and histogram is self._histogram:
            return  # while a run goes this is asked many times a second, for every row
        self._row, self._histogram = row, histogram
        prompt = row.prompt
        self.name.setText(prompt.name)
        self.also.setText(", ".join(prompt.synonyms))
        for label in (self.name, self.also):
            label.setToolTip(", ".join(prompt.texts))
        self.color.setIcon(swatch(prompt.color, 16))
        for button, on in ((self.eye, row.shown), (self.negative, prompt.negative)):
            button.blockSignals(True)
            button.setChecked(on)
            button.blockSignals(False)
        self.negative.setStyleSheet("font-weight: bold; color: #e0564f" if prompt.negative else "")
        self.eye.setEnabled(not prompt.negative)
        self.eye.setIcon(eye(on=row.shown and not prompt.negative))
        self.slider.set_color(prompt.color)
        self.slider.set_value(row.threshold)
        self.slider.set_histogram(histogram)
        self.slider.setVisible(not prompt.negative)
        self.value.setVisible(not prompt.negative)
        self.value.setText(f"{row.threshold:.2f}")

    def _choose_color(self, edit_look: Callable[..., None]) -> None:
        assert self._row is not None
        chosen = QColorDialog.getColor(QColor(*self._row.prompt.color), self, "Colour of the label")
        if chosen.isValid():
            color = (chosen.red(), chosen.green(), chosen.blue())
            edit_look(self._row.prompt.name, color=color)

    def _rename(self, edit_prompt: Callable[..., None]) -> None:
        assert self._row is not None
        prompt = self._row.prompt
        text = (
            "=".join([prompt.name, ",".join(prompt.synonyms)]) if prompt.synonyms else prompt.name
        )
        typed, ok = QInputDialog.getText(self, "Prompt", "NAME or NAME=synonym,synonym", text=text)
        if ok:
            edit_prompt(prompt.name, text=typed)
