"""Going back one step. No napari, no Qt."""

from __future__ import annotations

from dataclasses import replace

from napari_digseg._state import State

_MOST = 20


class Undo:
    """Forms as they were; dragging one slider is one step."""

    def __init__(self) -> None:
        self._states: list[State] = []

    def __bool__(self) -> bool:
        return bool(self._states)

    def remember(self, before: State, after: State) -> None:
        """A form is about to change."""
        if not (self._states and _same_but_one_threshold(self._states[-1], before, after)):
            self._states = [*self._states[-_MOST + 1 :], before]

    def take(self) -> State:
        """The form as it was one step ago, once."""
        return self._states.pop()

    def clear(self) -> None:
        self._states.clear()


def _same_but_one_threshold(last: State, before: State, after: State) -> bool:
    """Whether the last change moved the one threshold that this change moves as well."""
    moved = _moved(last, before)
    return len(moved) == 1 and moved == _moved(before, after) and "" not in moved


def _moved(a: State, b: State) -> set[str]:
    """Names of the prompts that differ in their threshold alone; ``""`` for anything else."""
    if len(a.rows) != len(b.rows):
        return {""}
    names = set()
    for x, y in zip(a.rows, b.rows, strict=True):
        if x != y:
            names.add(y.prompt.name if replace(x, threshold=y.threshold) == y else "")
    return names
