"""Small icons, drawn: fonts don't have them everywhere, and they must do on light and dark."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

_SIDE = 32
_INK = QColor(128, 136, 146)
_FAINT = QColor(128, 136, 146, 90)


def eye(*, on: bool) -> QIcon:
    """Shown, or (struck out) hidden."""

    def draw(painter: QPainter) -> None:
        painter.setPen(QPen(_INK if on else _FAINT, 2.6))
        path = QPainterPath(QPointF(2, 16))
        path.quadTo(QPointF(16, 0), QPointF(30, 16))
        path.quadTo(QPointF(16, 32), QPointF(2, 16))
        painter.drawPath(path)
        painter.setBrush(_INK if on else _FAINT)
        painter.drawEllipse(QRectF(12, 12, 8, 8))
        if not on:
            painter.setPen(QPen(_INK, 2.6))
            painter.drawLine(QPointF(5, 27), QPointF(27, 5))

    return _icon(draw)


def cross() -> QIcon:
    def draw(painter: QPainter) -> None:
        painter.drawLine(QPointF(8, 8), QPointF(24, 24))
        painter.drawLine(QPointF(24, 8), QPointF(8, 24))

    return _icon(draw)


def pencil() -> QIcon:
    def draw(painter: QPainter) -> None:
        corners = [QPointF(6, 26), QPointF(8, 19), QPointF(21, 6), QPointF(26, 11), QPointF(13, 24)]
        painter.drawPolygon(QPolygonF(corners))
        painter.drawLine(QPointF(17, 10), QPointF(22, 15))

    return _icon(draw)


def copy() -> QIcon:
    def draw(painter: QPainter) -> None:
        painter.drawRoundedRect(QRectF(5, 5, 15, 17), 3, 3)
        painter.setBrush(_FAINT)
        painter.drawRoundedRect(QRectF(12, 11, 15, 17), 3, 3)

    return _icon(draw)


def _icon(draw: Callable[[QPainter], None]) -> QIcon:
    pixmap = QPixmap(_SIDE, _SIDE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(_INK, 2.6))
    draw(painter)
    painter.end()
    return QIcon(pixmap)
