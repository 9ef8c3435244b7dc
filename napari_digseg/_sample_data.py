"""File > Open Sample > DiGSeg."""

from __future__ import annotations

from napari_digseg._layers import LayerData


def scene() -> list[LayerData]:
    """A Sentinel-2 scene with fields, forest and a river."""
    from digseg import samples
    from napari_digseg._reader import read_layers

    return read_layers(str(samples.scene()))


def volume() -> list[LayerData]:
    """An abdomen CT."""
    from digseg import samples
    from napari_digseg._reader import read_layers

    return read_layers(str(samples.volume()))
