"""One controller for each viewer, shared by its widgets; it goes when the last of them goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_digseg._controller import Controller
from napari_digseg._preferences import preferences
from napari_digseg._widgets._style import SHEET

_POLL_MS = 40
_WIDTH = 330  # pixels: below that, words are cut off
_SESSIONS: dict[int, tuple[Controller, list[int]]] = {}


class Panel(QWidget):
    """A dock widget of this plugin, tied to its viewer's controller as long as it lives.

    Widgets show the controller's state in `refresh`, which is called whenever it changed.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.setStyleSheet(SHEET)
        self.setMinimumWidth(_WIDTH)
        self.controller = join(self, napari_viewer, self.refresh)
        self.viewer = self.controller.viewer

    def refresh(self) -> None:
        """Show the controller's state."""
        raise NotImplementedError


def controller_for(viewer: Any) -> Controller:
    """The controller of a viewer, made when first asked for.

    napari hands every widget a proxy of its own: what is behind it is the same for all.
    """
    viewer = unwrapped(viewer)
    if id(viewer) not in _SESSIONS:
        _SESSIONS[id(viewer)] = (Controller(viewer, preferences=preferences()), [])
    return _SESSIONS[id(viewer)][0]


def unwrapped(viewer: Any) -> Any:
    """The viewer behind napari's proxy."""
    return getattr(viewer, "__wrapped__", viewer)


def join(widget: QWidget, viewer: Any, listener: Callable[[], None]) -> Controller:
    """Tie a widget to its viewer's controller for as long as the widget lives."""
    key, token = id(unwrapped(viewer)), id(widget)
    controller = controller_for(viewer)
    _SESSIONS[key][1].append(token)
    controller.listeners.append(listener)
    timer = QTimer(widget)
    timer.setInterval(_POLL_MS)
    timer.timeout.connect(controller.poll)
    timer.start()

    def leave() -> None:
        if listener in controller.listeners:
            controller.listeners.remove(listener)
        tokens = _SESSIONS.get(key, (controller, []))[1]
        if token in tokens:
            tokens.remove(token)
        if not tokens and _SESSIONS.pop(key, None) is not None:
            controller.close()

    widget.destroyed.connect(leave)
    return controller
