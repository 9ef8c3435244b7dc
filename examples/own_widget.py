"""A widget of one's own in napari: an image, a phrase, a threshold and a button.

python examples/own_widget.py scene.tif
"""

# No "annotations" of __future__ here: magicgui makes its widgets from the types themselves.
import sys

from magicgui import magicgui
from napari.types import ImageData, LabelsData

import digseg


@magicgui(call_button="Segment", threshold={"max": 1.0, "step": 0.05})
def segment_layer(image: ImageData, phrase: str = "water", threshold: float = 0.5) -> LabelsData:
    """The pixels of one phrase; napari shows what is returned as a Labels layer."""
    with digseg.segment(image, [phrase], threshold=threshold) as result:
        return LabelsData(result.labels)


def main() -> None:
    import napari

    viewer = napari.Viewer()
    viewer.open(sys.argv[1], plugin="napari-digseg")
    viewer.window.add_dock_widget(segment_layer, name="One phrase")
    napari.run()


if __name__ == "__main__":
    main()
