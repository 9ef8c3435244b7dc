"""The loss of a run as a picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from digseg.errors import MissingExtraError

#: Parts of the loss that are drawn beside it.
_PARTS = ("entropy", "dice", "choice", "diffusion")


def read_log(folder: Path) -> list[dict[str, float]]:
    """Rows of ``loss.csv``; empty cells are left out."""
    file = folder / "loss.csv"
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(opened)
        ]


def plot_loss(folders: Sequence[Path], path: Path) -> Path:
    """Draw the loss of the stages in ``folders`` side by side as a PNG.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "The loss plot needs matplotlib: pip install 'napari-digseg[train]'."
        ) from None
    figure = Figure(figsize=(6 * len(folders), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, folder in enumerate(folders, start=1):
        axes = figure.add_subplot(1, len(folders), place)
        rows = read_log(folder)
        for name in ("loss", *_PARTS):
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, label=name, linewidth=2.0 if name == "loss" else 1.0)
        axes.set(title=folder.name, xlabel="step", ylabel="loss")
        axes.grid(alpha=0.3)
        if rows:
            axes.legend()
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=110)
    os.replace(partial, path)
    return path
