"""Colours and small helpers that all widgets share."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QFrame, QLabel, QPushButton, QToolButton, QWidget

ACCENT = "#2f7de1"
BAD = "#e0564f"
FAINT = "#7b828b"  # to be read on a light and on a dark theme

# Backgrounds are half transparent: they do on a light and on a dark theme.
SHEET = f"""
QPushButton#primary {{
    background: {ACCENT}; color: white; font-weight: 600; padding: 7px 14px; border-radius: 4px;
}}
QPushButton#primary:hover {{ background: #4a92ef; }}
QPushButton#primary:disabled {{ background: rgba(128, 128, 128, 50); color: gray; }}
QPushButton#danger {{ color: white; background: {BAD}; font-weight: 600; padding: 7px 14px;
    border-radius: 4px; }}
QPushButton#danger:disabled {{ background: rgba(128, 128, 128, 50); }}
QLabel#hint {{ color: {FAINT}; }}
QFrame#row QLabel#name {{ font-weight: 600; }}
QLabel#heading {{ font-weight: 600; padding-top: 4px; }}
QLabel#command {{ color: {FAINT}; font-family: monospace;
    font-size: 11px; padding: 0px; }}
QLabel#bad {{ color: {BAD}; }}
QProgressBar {{ max-height: 6px; border: none; border-radius: 3px;
    background: rgba(128, 128, 128, 60); }}
QProgressBar::chunk {{ background: {ACCENT}; border-radius: 3px; }}
QFrame#row {{ border: 1px solid rgba(128, 128, 128, 70); border-radius: 5px;
    background: rgba(128, 128, 128, 22); }}
QFrame#row QLabel {{ background: transparent; padding: 0px; }}
QToolButton#flat {{ border: none; background: transparent; padding: 1px 3px; }}
QToolButton#flat:hover {{ background: rgba(128, 128, 128, 80); border-radius: 3px; }}
"""


def heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setObjectName("heading")
    return label


def hint(text: str = "") -> QLabel:
    """Small explaining text that wraps."""
    label = QLabel(text)
    label.setObjectName("hint")
    label.setWordWrap(True)
    return label


def button(text: str, clicked: Any, tip: str, name: str = "") -> QPushButton:
    made = QPushButton(text)
    made.setToolTip(tip)
    if name:
        made.setObjectName(name)
    made.clicked.connect(lambda _checked=False: clicked())
    return made


def rename(widget: QWidget, name: str) -> None:
    """Give a widget the style of another name."""
    if widget.objectName() != name:
        widget.setObjectName(name)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def flat(sign: str | QIcon, clicked: Any, tip: str, *, checkable: bool = False) -> QToolButton:
    """A button of one word or icon, without a frame."""
    made = QToolButton()
    made.setObjectName("flat")
    if isinstance(sign, QIcon):
        made.setIcon(sign)
        made.setIconSize(QSize(15, 15))
    else:
        made.setText(sign)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.clicked.connect(clicked)
    return made


def swatch(color: tuple[int, int, int], side: int = 14) -> QIcon:
    """A square of one colour."""
    pixmap = QPixmap(side, side)
    pixmap.fill(QColor(*color))
    return QIcon(pixmap)


def line() -> QWidget:
    """A thin rule between groups."""
    rule = QFrame()
    rule.setFrameShape(QFrame.Shape.HLine)
    rule.setFixedHeight(1)
    return rule
