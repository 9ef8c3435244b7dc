"""Which models are here, for lists and cards. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from digseg.settings import SegmentSettings
from digseg.wording import format_size


@dataclass(frozen=True)
class ModelRow:
    """One line of the list of models."""

    name: str
    origin: str
    size: str
    licence: str
    summary: str
    card: str


def model_rows() -> list[ModelRow]:
    """Every model on this machine, the shipped ones first."""
    from digseg.model.registry import list_models

    return [
        ModelRow(
            info.name,
            "shipped" if info.shipped else "local",
            format_size(info.size),
            info.licence or "not stated",
            info.summary,
            _without_header(info.card) or f"No model card in {info.folder}.",
        )
        for info in list_models()
    ]


def model_names() -> list[str]:
    """Names to choose from; the default one always among them."""
    names = [row.name for row in model_rows()]
    default = SegmentSettings().model
    return names if default in names else [default, *names]


def _without_header(card: str) -> str:
    """A card without its YAML header, which is for programs."""
    if not card.startswith("---"):
        return card
    parts = card.split("\n---", 1)
    return parts[1].lstrip("-\n") if len(parts) == 2 else card
