"""What a person set under Preferences > DiGSeg; the defaults stand in ``napari.yaml`` as well."""

from __future__ import annotations

from dataclasses import dataclass, fields

#: Where runs that are kept lie unless a person names a folder.
KEPT_RUNS = "~/digseg-runs"


@dataclass(frozen=True)
class Preferences:
    """Choices that outlive a session.

    Parameters
    ----------
    composite
        Show multiband rasters as a red, green, blue picture, else as a stack of bands.
    model, device
        What a new session begins with.
    preview
        Show a preview of what is on screen while the person types.
    keep_runs
        Keep probability stores between sessions.
    folder
        Where runs are kept; empty for `KEPT_RUNS`, or a temporary folder where none are kept.
    memory_gib
        Most memory that the engine may use; 0 takes three quarters of what is free.
    """

    composite: bool = True
    model: str = "digseg-tiny"
    device: str = "auto"
    preview: bool = True
    keep_runs: bool = False
    folder: str = ""
    memory_gib: float = 0.0


def preferences() -> Preferences:
    """Preferences as napari holds them; the defaults where napari (or the plugin) is not set up."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:  # napari older than 0.9 has no settings for plugins
        return Preferences()
    try:
        stored = get_plugin_settings("napari-digseg")
    except (KeyError, ValueError):
        return Preferences()
    group = getattr(stored, "digseg", None)
    default = Preferences()
    return Preferences(
        **{
            item.name: getattr(group, item.name, getattr(default, item.name))
            for item in fields(Preferences)
        }
    )
