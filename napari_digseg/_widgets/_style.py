"""Colours and small helpers that all widgets share."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QFrame, QLabel, QPushButton, QToolButton, QWidget

ACCENT = "#2f7de1"
BAD = "#e0564f"

SHEET = f"""
QPushButton#primary {{
    background: {ACCENT}; color: white; font-weight: 600; padding: 7px 14px; border-radius: 4px;
}}
QPushButton#primary:hover {{ background: #4a92ef; }}
QPushButton#primary:disabled {{ background: palette(mid); color: palette(dark); }}
QPushButton#danger {{ color: white; background: {BAD}; font-weight: 600; padding: 7px 14px;
    border-radius: 4px; }}
QPushButton#danger:disabled {{ background: transparent; color: palette(mid); }}
QLabel#hint {{ color: palette(placeholder-text); }}
QLabel#heading {{ font-weight: 600; padding-top: 4px; }}
QLabel#bad {{ color: {BAD}; }}
QProgressBar {{ max-height: 6px; border: none; border-radius: 3px; background: palette(base); }}
QProgressBar::chunk {{ background: {ACCENT}; border-radius: 3px; }}
QFrame#row {{ border: 1px solid palette(mid); border-radius: 5px; }}
QToolButton#flat {{ border: none; background: transparent; padding: 1px 3px; }}
QToolButton#flat:hover {{ background: palette(mid); border-radius: 3px; }}
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


def flat(text: str, clicked: Any, tip: str, *, checkable: bool = False) -> QToolButton:
    """A button of one sign without a frame."""
    made = QToolButton()
    made.setObjectName("flat")
    made.setText(text)
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
