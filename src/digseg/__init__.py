"""Text-prompted segmentation with a latent diffusion model.

``digseg.segment("scene.tif", ["water", "road"]).save("mask.tif")`` is the whole job; see
`digseg.run.api.segment` for every choice. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from digseg._version import __version__

if TYPE_CHECKING:
    from digseg.grid import Grid
    from digseg.model.pipeline import DiGSegPipeline
    from digseg.prompts import Prompt, PromptSet
    from digseg.raster import Mask, Raster, Volume
    from digseg.run.api import segment
    from digseg.run.result import Result
    from digseg.settings import SegmentSettings

_WHERE = {
    "DiGSegPipeline": "digseg.model.pipeline",
    "Grid": "digseg.grid",
    "Mask": "digseg.raster",
    "Prompt": "digseg.prompts",
    "PromptSet": "digseg.prompts",
    "Raster": "digseg.raster",
    "Result": "digseg.run.result",
    "SegmentSettings": "digseg.settings",
    "Volume": "digseg.raster",
    "segment": "digseg.run.api",
}

__all__ = [
    "DiGSegPipeline",
    "Grid",
    "Mask",
    "Prompt",
    "PromptSet",
    "Raster",
    "Result",
    "SegmentSettings",
    "Volume",
    "__version__",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'digseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
