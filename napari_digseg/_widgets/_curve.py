"""A loss curve."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_digseg._widgets._style import ACCENT, FAINT

_LEFT, _MARGIN = 40, 6  # pixels for the numbers at the left, and around


class LossCurve(QWidget):
    """The loss of every step, and a smooth line through it."""

    def __init__(self) -> None:
        super().__init__()
        self._losses: tuple[float, ...] = ()
        self.setMinimumHeight(96)
        self.setToolTip("Loss of every step (grey) and its running mean.")

    @property
    def losses(self) -> tuple[float, ...]:
        """What is drawn."""
        return self._losses

    def sizeHint(self) -> QSize:
        return QSize(240, 110)

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
        grey = QColor(FAINT)
        if len(self._losses) < 2:
            painter.setPen(grey)
            where = Qt.AlignmentFlag.AlignCenter
            painter.drawText(QRectF(self.rect()), where, "The loss appears here as it falls.")
            painter.end()
            return
        low, high = min(self._losses), max(self._losses)
        painter.setPen(grey)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for value, y in ((high, _MARGIN), (low, self.height() - _MARGIN - 12)):
            painter.drawText(QRectF(0, y, _LEFT - 5, 12), right, f"{value:.2f}")
        smooth, mean = [], self._losses[0]
        for loss in self._losses:
            mean = 0.9 * mean + 0.1 * loss
            smooth.append(mean)
        for values, pen in (
            (self._losses, QPen(QColor(128, 128, 128, 150), 1)),
            (tuple(smooth), QPen(QColor(ACCENT), 2)),
        ):
            painter.setPen(pen)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPolyline(QPolygonF(self._line(values, low, high)))
        painter.end()

    def _line(self, values: tuple[float, ...], low: float, high: float) -> list[QPointF]:
        step = (self.width() - _LEFT - _MARGIN) / (len(values) - 1)
        tall = self.height() - 2 * _MARGIN - 8
        span = (high - low) or 1.0
        return [
            QPointF(_LEFT + i * step, _MARGIN + 4 + tall * (high - value) / span)
            for i, value in enumerate(values)
        ]
