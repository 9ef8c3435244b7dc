"""Take the pictures of docs/tutorial.md with the shipped model, in a real viewer.

Files are dropped on the window, segmented, saved, and opened again in a new viewer. ``python
tools/screenshots.py`` takes all pictures, ``python tools/screenshots.py volume train`` some,
``--folder NAME`` puts them elsewhere. Without a display it starts one of its own (``xvfb-run`` has
to be there). What is on a picture is checked as far as a program can: it is not blank, and what is
saved lies where the image lies.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from hands import FOLDER, ask, dropped, reopened, run, sample, save, settle, shot, wait

_CHILD = "DIGSEG_ONE_PICTURE"  # set in the process that takes one group


def scene() -> None:
    """A satellite scene from the dropped file to the saved one, opened again."""
    image = sample("scene.tif")
    viewer, widget = dropped(image, "drop-scene")
    control = widget.controller
    shot(viewer, "open-scene")
    ask(widget, "trees=forest", "crops=fields,farmland", "built-up area=buildings")
    widget.preview.click()
    wait(lambda: "preview" in [layer.name for layer in viewer.layers])
    shot(viewer, "preview")
    run(widget)
    control.change(control.state.edit("built-up area", threshold=0.6))
    settle(control)
    shot(viewer, "segmented-scene")
    ask(widget, "water=river")
    shot(viewer, "add-prompt")
    run(widget)
    dock, review = viewer.window.add_plugin_dock_widget("napari-digseg", "Review", tabify=True)
    review.measure.click()
    wait(lambda: review.table.rowCount() > 0)
    dock.raise_()
    shot(viewer, "review")
    viewer.window._qt_window.tabifiedDockWidgets(dock)[0].raise_()
    save(widget, image.with_name("scene-labels.tif"))
    shot(viewer, "save-scene")
    viewer.close()
    reopened(image.with_name("scene-labels.tif"), image, "reopened-scene")


def shape() -> None:
    """A drawn shape that limits the result."""
    viewer, widget = dropped(sample("scene.tif"))
    widget.region.setCurrentText("drawn shape")
    drawing = widget.controller.add_drawing()
    corners = [(30, 20), (25, 130), (90, 205), (190, 170), (150, 60)]
    drawing.add_polygons([np.asarray(corners, float)], edge_width=1.2, edge_color="white")
    drawing.mode = "pan_zoom"
    ask(widget, "trees=forest", "crops=fields,farmland", "built-up area=buildings")
    run(widget)
    shot(viewer, "drawn-shape")
    viewer.close()


def volume() -> None:
    """A CT from the dropped file over a run that is watched and stopped to the saved one."""
    image = sample("ct.nii.gz")
    viewer, widget = dropped(image)
    control = widget.controller
    viewer.dims.set_current_step(0, 36)
    shot(viewer, "open-volume")
    ask(widget, "liver", "spleen", "left kidney", "right kidney", "vertebrae=spine")
    control.runs.want_coverage(True)
    widget.run.click()
    wait(lambda: control.run is not None and control.run.blocks_done >= 3)
    settle(control)
    shot(viewer, "running-volume")
    widget.cancel.click()
    wait(lambda: control.status.phase == "stopped")
    shot(viewer, "stopped-volume")
    control.runs.want_coverage(False)
    widget.region.setCurrentText("slab")
    widget.first.setValue(34)
    widget.last.setValue(38)
    run(widget)
    shot(viewer, "segmented-volume")
    save(widget, image.with_name("ct-labels.nii.gz"))
    shot(viewer, "save-volume")
    viewer.close()
    reopened(image.with_name("ct-labels.nii.gz"), image, "reopened-volume")


def zarr() -> None:
    """The same CT as an OME-Zarr, dropped."""
    from digseg import io
    from digseg.io.images import write_image

    image = Path.home() / "ct.ome.zarr"
    write_image(io.read(sample("ct.nii.gz")), image)
    viewer, widget = dropped(image)
    viewer.dims.set_current_step(0, 36)
    ask(widget, "liver", "spleen", "vertebrae=spine")
    widget.region.setCurrentText("slice")
    run(widget)
    save(widget, image.with_name("ct-labels.ome.zarr"))
    shot(viewer, "zarr-volume")
    viewer.close()


def models() -> None:
    """The list of models and a card."""
    viewer, _ = dropped(sample("scene.tif"))
    dock, _ = viewer.window.add_plugin_dock_widget("napari-digseg", "Models", tabify=True)
    dock.raise_()
    shot(viewer, "models")
    viewer.close()


#: Outlines ``(row, column)`` of what is painted on the scene: pasture by the river, and forest.
_MEADOW = (
    ((21, 141), (21, 181), (32, 176), (37, 161), (34, 150), (37, 141)),
    ((40, 160), (59, 158), (59, 137), (48, 125), (52, 121), (41, 142)),
    ((57, 165), (44, 187), (56, 192), (62, 206), (77, 186), (66, 175)),
)
_WOODS = (
    ((82, 52), (81, 86), (96, 84), (116, 66), (124, 60), (122, 48), (110, 50), (96, 51)),
    ((2, 44), (2, 76), (14, 80), (26, 70), (40, 52), (38, 43)),
)


def train() -> None:
    """Fine-tuning on painted labels."""
    viewer, widget = dropped(sample("scene.tif"))
    image = viewer.layers["scene"]
    painted = viewer.add_labels(
        np.zeros((224, 224), np.uint8),
        name="painted",
        scale=image.scale,
        translate=image.translate,
        units=image.units,
    )
    dock, trainer = viewer.window.add_plugin_dock_widget("napari-digseg", "Train", tabify=True)
    dock.raise_()
    for label, outlines in ((1, _MEADOW), (2, _WOODS)):
        painted.selected_label = label
        for outline in outlines:
            painted.paint_polygon(np.asarray(outline, float), label)
    wait(lambda: trainer.classes.rowCount() == 2, 20)
    trainer.classes.item(0, 1).setText("meadow")
    trainer.classes.item(1, 1).setText("woods")
    painted.mode = "pan_zoom"
    trainer.steps.setValue(30)
    trainer.start.click()
    control = widget.controller
    wait(lambda: not control.trainer.now.active, 2400)
    assert control.trainer.now.model, control.trainer.now.message
    shot(viewer, "train")
    viewer.close()


def report() -> None:
    """The picture of a whole CT that the command line writes beside its mask."""
    from digseg.cli.main import main as napari_digseg
    from digseg.samples import prompts_for

    image = sample("ct.nii.gz")
    words = ["segment", str(image), "-o", str(image.with_name("ct_mask.nii.gz")), "--propagate"]
    for prompt in prompts_for("volume"):
        words += ["-p", prompt]
    assert napari_digseg([*words, "--picture", str(FOLDER / "ct-report.png"), "--overwrite"]) == 0


PICTURES = {
    "report": report,
    "scene": scene,
    "shape": shape,
    "volume": volume,
    "zarr": zarr,
    "models": models,
    "train": train,
}


def main(arguments: list[str]) -> int:
    """Each group in a process of its own: one that fails costs none of the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="GROUP", help=f"some of {', '.join(PICTURES)}")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pictures go")
    asked = parser.parse_args(arguments)
    unknown = set(asked.names) - set(PICTURES)
    if unknown:
        print(f"There are no pictures {sorted(unknown)}; there are {sorted(PICTURES)}.")
        return 2
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.names and os.environ.get(_CHILD):
        PICTURES[asked.names[0]]()
        return 0
    display: list[str] = []
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            print("There is no display and no xvfb-run: install xvfb.")
            return 2
        display = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"]
    failed = []
    for name in asked.names or PICTURES:
        command = [*display, sys.executable, "-W", "ignore", __file__, name]
        # A home of its own: settings and models of whoever takes the pictures are not on them.
        with tempfile.TemporaryDirectory(prefix="home-") as home:
            pictures = str(asked.folder.resolve())
            own = {_CHILD: "1", "HOME": home, "XDG_CONFIG_HOME": home, "DIGSEG_PICTURES": pictures}
            environment = {**os.environ, **own}
            if subprocess.run(command, check=False, env=environment).returncode:
                failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
