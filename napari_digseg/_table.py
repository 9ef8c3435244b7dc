"""The statistics table as people read it: the columns that matter, in units that fit. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Sizes by key: title and factor to it, the first that a row has is shown.
_SIZES = (
    ("area_ha", "ha"),
    ("area_m2", "m²"),
    ("volume_ml", "ml"),
    ("volume_mm3", "mm³"),
    ("pixels", "pixels"),
)


@dataclass(frozen=True)
class Column:
    """A title and a text for each row."""

    title: str
    texts: tuple[str, ...]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Name, size, share, number of parts and mean probability; what is unknown is left out."""
    if not rows:
        return []
    columns = [Column("label", tuple(str(row["name"]) for row in rows))]
    size = next(
        ((key, title) for key, title in _SIZES if any(row.get(key) is not None for row in rows)),
        None,
    )
    if size is not None:
        columns.append(_column(rows, *size, _number))
    columns.append(_column(rows, "share", "share", _percent))
    columns.append(_column(rows, "instances", "parts", _number))
    columns.append(_column(rows, "mean_probability", "mean p", lambda value: f"{value:.2f}"))
    return [column for column in columns if any(column.texts)]


def _column(rows: Sequence[Mapping[str, Any]], key: str, title: str, write: Any) -> Column:
    values = [row.get(key) for row in rows]
    return Column(title, tuple("" if value is None else write(value) for value in values))


def _percent(value: float) -> str:
    share = 100 * value
    return f"{share:.1f} %" if share >= 0.1 or share == 0 else "< 0.1 %"


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
