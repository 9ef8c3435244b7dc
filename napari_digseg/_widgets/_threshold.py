"""A threshold on a histogram: drag the line, see what it lets through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_digseg._widgets._style import FAINT

_BINS = 64


class ThresholdSlider(QWidget):
    """A slider from 0 to 1 with the histogram of the stored probabilities behind it.

    Left of the line the histogram is grey, right of it it has the prompt's colour.
    """

    moved = Signal(float)

    def __init__(self, value: float, color: tuple[int, int, int]) -> None:
        super().__init__()
        self._value = value
        self._color = QColor(*color)
        self._heights = np.zeros(_BINS)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.SplitHCursor)
        self.setToolTip(
            "Threshold: drag, or use the arrow keys. Pixels of at least this probability get the "
            "label, with no new run. The bars show how often each probability occurs."
        )

    @property
    def value(self) -> float:
        return self._value

    @property
    def heights(self) -> Any:
        """Heights of the bars, from 0 to 1, the least probability first."""
        return self._heights

    @property
    def nothing(self) -> bool:
        """Whether a run was made and nothing in it reaches the threshold."""
        first = math.ceil(self._value * _BINS)
        return bool(self._heights.any()) and not self._heights[first:].any()

    def set_value(self, value: float) -> None:
        """Show a value without telling anybody."""
        if value != self._value:
            self._value = value
            self.update()

    def set_color(self, color: tuple[int, int, int]) -> None:
        self._color = QColor(*color)
        self.update()

    def set_histogram(self, counts: Any) -> None:
        """Counts of the 256 stored probabilities; `None` clears it."""
        if counts is None:
            self._heights = np.zeros(_BINS)
        else:
            folded = np.asarray(counts, dtype=float).reshape(_BINS, -1).sum(axis=1)
            # Nearly everything is far from the prompt: only a root shows the rest beside it.
            folded = np.sqrt(folded)
            rest = folded[2:].max() if folded[2:].any() else 1.0
            self._heights = np.minimum(1.0, folded / rest)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(160, 34)

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width, height = self.width() - 2, self.height() - 2
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(128, 128, 128, 36))
        painter.drawRoundedRect(QRectF(1, 1, width, height), 3, 3)
        grey = QColor(128, 128, 128, 130)
        step = width / _BINS
        for index, tall in enumerate(self._heights):
            above = (index + 0.5) / _BINS >= self._value
            painter.setBrush(self._color if above else grey)
            bar = max(1.0, tall * (height - 4)) if tall > 0 else 0.0
            painter.drawRect(QRectF(1 + index * step, 1 + height - bar, max(1.0, step - 0.6), bar))
        self._write_none(painter, width, height)
        x = 1 + self._value * width
        ink = self.palette().color(self.palette().ColorRole.WindowText)
        painter.setPen(QPen(ink, 2))
        painter.drawLine(round(x), 2, round(x), height)
        painter.setBrush(ink)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawEllipse(QRectF(x - 4, height / 2 - 4, 8, 8))
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(self._color, 1))
            painter.drawRoundedRect(QRectF(1, 1, width, height), 3, 3)
        painter.end()

    def _write_none(self, painter: QPainter, width: int, height: int) -> None:
        """Say so where a run found nothing that reaches the threshold."""
        if not self.nothing:
            return
        text, room = "nothing reaches it", 8
        space = QRectF(1 + self._value * width + room, 1, (1 - self._value) * width - room, height)
        if painter.fontMetrics().horizontalAdvance(text) < space.width():
            painter.setPen(QColor(FAINT))
            painter.drawText(space, Qt.AlignmentFlag.AlignCenter, text)

    def mousePressEvent(self, event: Any) -> None:
        self._to(event.position().x())

    def mouseMoveEvent(self, event: Any) -> None:
        self._to(event.position().x())

    def wheelEvent(self, event: Any) -> None:
        event.ignore()  # a list that scrolls must not move thresholds

    def keyPressEvent(self, event: Any) -> None:
        steps = {Qt.Key.Key_Left: -0.01, Qt.Key.Key_Right: 0.01}
        steps |= {Qt.Key.Key_Down: -0.05, Qt.Key.Key_Up: 0.05}
        if event.key() in steps:
            self._move(self._value + steps[event.key()])
        else:
            super().keyPressEvent(event)

    def _to(self, x: float) -> None:
        self._move((x - 1) / max(1, self.width() - 2))

    def _move(self, value: float) -> None:
        value = round(min(1.0, max(0.0, value)), 2)
        if value != self._value:
            self._value = value
            self.update()
            self.moved.emit(value)
