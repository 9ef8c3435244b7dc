"""Everything that is folded away: model, device, tiles, planes, window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QSpinBox, QWidget

from digseg.errors import UsageError
from digseg.settings import CT_WINDOWS, SegmentSettings, parse_scales, parse_window
from napari_digseg._models import model_names
from napari_digseg._preferences import Preferences
from napari_digseg._state import State


class Advanced(QWidget):
    """A form over `SegmentSettings`.

    Parameters
    ----------
    state
        What to begin with.
    preferences
        What the person set once for all; its model is offered, too.
    changed
        Called with new settings, and whether the spread of an ensemble is wanted.
    complain
        Called with a sentence when a value makes no sense, with nothing when all do.
    """

    def __init__(
        self,
        state: State,
        preferences: Preferences,
        changed: Callable[[SegmentSettings, bool], None],
        complain: Callable[[str], None],
    ) -> None:
        super().__init__()
        settings = state.settings
        models = list(dict.fromkeys([*model_names(), preferences.model]))
        self._settings, self._changed, self._complain = settings, changed, complain
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        self.model = _combo(models, settings.model, "A shipped model, or the folder of one.")
        self.device = _combo(
            ["auto", "cpu", "cuda", "mps"], settings.device, "auto takes a GPU where there is one."
        )
        self.tile = _spin(64, 2048, 64, settings.tile, "Side of a tile in pixels.")
        self.overlap = _spin(0, 512, 16, settings.overlap, "Overlap of neighbouring tiles.")
        self.steps = _spin(1, 50, 1, settings.steps, "Denoising steps; 1 is the trained way.")
        self.ensemble = _spin(1, 32, 1, settings.ensemble, "Runs from different noise, averaged.")
        self.uncertainty = QCheckBox("keep its spread")
        self.uncertainty.setToolTip(
            "With an ensemble of two or more and no second pass: keep how far its runs differ. "
            "Review then goes to where they differ most; labels appear when all is computed."
        )
        self.uncertainty.setChecked(state.uncertainty)
        self.seed = _spin(0, 2**31 - 1, 1, settings.seed, "Seed of the noise.")
        self.bands = QLineEdit(",".join(map(str, settings.bands)))
        self.bands.setPlaceholderText("automatic")
        self.bands.setToolTip(
            "Bands shown to the model as red, green, blue, from 1: 4,3,2. Left empty, those of "
            "natural colour, or what the model recommends for pixels of this size."
        )
        self.scales = QLineEdit(",".join(f"{scale:g}" for scale in settings.scales))
        self.scales.setPlaceholderText("automatic")
        self.scales.setToolTip(
            "How many times larger the model sees the image, several averaged: 0.7,1. Above 1 for "
            "things smaller than usual, below 1 for larger ones."
        )
        self.ct_window = _combo(
            ["auto", *CT_WINDOWS], _window_name(settings.window), "CT window, or two numbers in HU."
        )
        self.planes = _combo(
            ["z", "y", "x", "zyx"], settings.planes, "Slice axis of a volume; zyx fuses all three."
        )
        self.propagate = QCheckBox("second pass from neighbours")
        self.propagate.setToolTip(
            "Volumes: each slice again, from what its neighbours gave. Better organs in a CT, "
            "not in an MR, for more than twice the time; a prompt can't be added to such a run."
        )
        self.propagate.setChecked(bool(settings.propagate))
        self.largest = QCheckBox("largest part only")
        self.largest.setToolTip("Volumes: keep the largest connected part of each label.")
        self.largest.setChecked(settings.largest)
        self.fill_holes = QCheckBox("fill holes")
        self.fill_holes.setChecked(settings.fill_holes)
        for label, widget in (
            ("Model", self.model),
            ("Device", self.device),
            ("Tile", self.tile),
            ("Overlap", self.overlap),
            ("Steps", self.steps),
            ("Ensemble", self.ensemble),
            ("", self.uncertainty),
            ("Seed", self.seed),
            ("Bands", self.bands),
            ("Scales", self.scales),
            ("CT window", self.ct_window),
            ("Planes", self.planes),
            ("", self.propagate),
            ("Clean-up", self.largest),
            ("", self.fill_holes),
        ):
            form.addRow(label, widget)
        for combo in (self.device, self.planes):
            combo.currentTextChanged.connect(self._take)
        for combo in (self.model, self.ct_window):
            _until_done(combo).connect(self._take)
            combo.activated.connect(self._take)
        for spin in (self.tile, self.overlap, self.steps, self.ensemble, self.seed):
            spin.valueChanged.connect(self._take)
        self.bands.editingFinished.connect(self._take)
        self.scales.editingFinished.connect(self._take)
        self.propagate.toggled.connect(self._take)
        self.largest.toggled.connect(self._take)
        self.fill_holes.toggled.connect(self._take)
        self.uncertainty.toggled.connect(self._take)
        self._offer_spread(settings)

    def show_model(self, name: str) -> None:
        """Show a model that was chosen elsewhere; nothing is told to anybody."""
        if name == self._settings.model:
            return
        self._settings = self._settings.with_(model=name)
        self.model.blockSignals(True)
        if self.model.findText(name) < 0:
            self.model.addItem(name)
        self.model.setCurrentText(name)
        self.model.blockSignals(False)

    def _take(self, *_: Any) -> None:
        window = self.ct_window.currentText().strip()
        try:
            bands = tuple(int(part) for part in self.bands.text().split(",") if part.strip())
            settings = self._settings.with_(
                model=self.model.currentText().strip(),
                device=self.device.currentText(),
                tile=self.tile.value(),
                overlap=self.overlap.value(),
                steps=self.steps.value(),
                ensemble=self.ensemble.value(),
                seed=self.seed.value(),
                bands=bands,
                scales=parse_scales(self.scales.text()),
                window=None if window in ("", "auto") else parse_window(window),
                planes=self.planes.currentText(),
                propagate=self.propagate.isChecked(),
                largest=self.largest.isChecked(),
                fill_holes=self.fill_holes.isChecked(),
            )
        except UsageError as error:
            self._complain(str(error))
            return
        except ValueError:
            self._complain("Bands are whole numbers with commas: 4,3,2.")
            return
        self._complain("")
        self._settings = settings
        self._offer_spread(settings)
        self._changed(settings, self.uncertainty.isChecked() and self.uncertainty.isEnabled())

    def _offer_spread(self, settings: SegmentSettings) -> None:
        """One run has no spread, and a second pass keeps none."""
        self.uncertainty.setEnabled(settings.ensemble > 1 and not settings.propagate)


def _window_name(window: tuple[float, float] | None) -> str:
    """A CT window as the box shows it: by its name, or as two numbers."""
    if window is None:
        return "auto"
    names = [name for name, bounds in CT_WINDOWS.items() if tuple(bounds) == tuple(window)]
    return names[0] if names else f"{window[0]:g},{window[1]:g}"


def _combo(items: list[str], current: str, tip: str) -> QComboBox:
    combo = QComboBox()
    combo.addItems(items)
    if current not in items:
        combo.addItem(current)
    combo.setCurrentText(current)
    combo.setToolTip(tip)
    return combo


def _until_done(combo: QComboBox) -> Any:
    """Let a person type into a box; the signal that tells when they have done so.

    Half a folder's name is no folder, and half a window no window.
    """
    combo.setEditable(True)
    combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
    line = combo.lineEdit()
    assert line is not None
    return line.editingFinished


def _spin(low: int, high: int, step: int, value: int, tip: str) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(low, high)
    spin.setSingleStep(step)
    spin.setValue(value)
    spin.setToolTip(tip)
    return spin
