"""What the person is told, as frozen values. No napari, no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Phase = Literal["idle", "running", "cancelling", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Status:
    """How a run goes.

    Parameters
    ----------
    phase
        Where the run stands.
    message
        One sentence.
    done, total
        Blocks.
    problem
        Whether the sentence is bad news.
    """

    phase: Phase = "idle"
    message: str = ""
    done: int = 0
    total: int = 0
    problem: bool = False


@dataclass(frozen=True)
class Training:
    """How a fine-tuning goes.

    Parameters
    ----------
    active
        Whether it goes on.
    message, problem
        One sentence, and whether it is bad news.
    losses
        Of every step so far.
    model, picture
        Folder of the new model, and the picture before and after; empty until it is done.
    """

    active: bool = False
    message: str = ""
    problem: bool = False
    losses: tuple[float, ...] = ()
    model: str = ""
    picture: str = ""


def at_home(path: Path) -> str:
    """A path as people read it: what lies in their home begins with ``~``."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)
