"""The model's room: the pipeline, its own components, and what the engine is handed.

The only room that imports torch, diffusers and transformers; nothing here is imported by
``import digseg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digseg.model.adapter import LoadedModel, load
    from digseg.model.pipeline import DiGSegOutput, DiGSegPipeline

__all__ = ["DiGSegOutput", "DiGSegPipeline", "LoadedModel", "load"]

_HOMES = {
    "DiGSegOutput": "digseg.model.pipeline",
    "DiGSegPipeline": "digseg.model.pipeline",
    "LoadedModel": "digseg.model.adapter",
    "load": "digseg.model.adapter",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `digseg.model.registry` (no torch) stays quick to import.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
