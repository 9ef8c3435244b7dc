"""Draw ``docs/images/orientation.png``: one phantom stored in four voxel orders, seen two ways.

Above, the middle plane of the file's slowest axis as the array holds it; below, the axial plane
that the model and the viewer get from `digseg.orientation`. Run from the repository root::

    python tools/draw_orientation.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from digseg.grid import Grid
from digseg.io.orientation import to_canonical, turn_to
from digseg.raster import Volume
from digseg.types import AnyArray

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OUT = Path("docs/images/orientation.png")
SIDE = 96  # voxels of 4 mm along each axis

#: Ellipsoids in RAS+ millimetres: centre, radii, grey value.
PARTS = (
    ((0, 0, 0), (150, 105, 175), 0.35),  # the body
    ((70, 25, 20), (55, 50, 60), 0.62),  # the liver lies on the right, where x of RAS+ is positive
    ((0, -65, 0), (22, 24, 175), 1.0),  # the spine, behind
    ((-55, -20, 30), (24, 22, 35), 0.8),  # the spleen, left and behind
    ((-12, 70, 95), (38, 26, 40), 0.9),  # the heart, front, above
)


def phantom() -> Volume:
    """A body in RAS order: no two sides alike."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -4.0 * (SIDE - 1) / 2
    grid = Grid.of((SIDE,) * 3, affine, space="patient", unit="millimetre")
    places = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    voxels = np.zeros(grid.shape, np.float32)
    for centre, radii, value in PARTS:
        inside = (((places - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) < 1
        voxels[inside] = value
    return Volume(voxels, grid)


def middle(array: AnyArray) -> AnyArray:
    return np.asarray(array[len(array) // 2 + 5])


def edges(grid: Grid) -> tuple[str, str, str, str]:
    """What lies at the left, right, top and bottom edge of a plane ``data[k]``."""
    from nibabel.orientations import aff2axcodes

    other = dict(zip("RLAPSI", "LRPAIS", strict=True))
    x, y, _ = aff2axcodes(grid.matrix)
    return other[x], x, other[y], y


def show(axes: plt.Axes, volume: Volume, title: str) -> None:
    axes.imshow(middle(np.asarray(volume.data[:])), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9, family="monospace")
    axes.set_xticks([])
    axes.set_yticks([])
    left, right, top, bottom = edges(volume.grid)
    style = {"color": "#ffd24a", "fontsize": 12, "weight": "bold", "ha": "center", "va": "center"}
    for x, y, text in ((4, 48, left), (91, 48, right), (48, 5, top), (48, 90, bottom)):
        axes.text(x, y, text, **style)


def main() -> None:
    body = phantom()
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
    for column, codes in enumerate(("LPS", "RAS", "PIR", "ASL")):
        turn = turn_to(body.grid, codes)
        stored = Volume(turn.apply(np.asarray(body.data)), turn.grid(body.grid))
        show(axes[0, column], stored, f"file in {codes}: data[k]")
        show(axes[1, column], to_canonical(stored), "turned to LPS: data[z]")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
