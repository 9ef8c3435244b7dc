"""Label ids, names and colours beside and inside the files of label volumes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from digseg.errors import OutputExistsError
from digseg.prompts import color_of
from digseg.raster import ClassEntry, ClassTable

#: Keys of the JSON that stands in a header extension and in the sidecar.
_KEY = "labels"


def to_json(classes: ClassTable, *, indent: int | None = 1) -> str:
    """JSON text with the class table under ``labels``."""
    return json.dumps({_KEY: classes.to_list()}, indent=indent, ensure_ascii=False)


def from_json(text: str) -> ClassTable | None:
    """Class table of `to_json`'s text; `None` where the text holds none."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    items = content.get(_KEY) if isinstance(content, dict) else None
    if not isinstance(items, list):
        return None
    try:
        return ClassTable(tuple(_entry(item) for item in items))
    except (KeyError, TypeError, ValueError):
        return None


def to_caret_xml(classes: ClassTable) -> str:
    """Label table in Connectome Workbench's XML, which several viewers show."""
    rows = "".join(
        f'<Label Key="{entry.id}" Red="{entry.color[0] / 255:.6f}" '
        f'Green="{entry.color[1] / 255:.6f}" Blue="{entry.color[2] / 255:.6f}" Alpha="1">'
        f"{escape(entry.name)}</Label>"
        for entry in classes.entries
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0">'
        f"<LabelTable>{rows}</LabelTable><VolumeType>Label</VolumeType>"
        "</VolumeInformation></CaretExtension>"
    )


def from_caret_xml(text: str) -> ClassTable | None:
    """Class table of a label table in Workbench's XML; `None` where there is none."""
    # No entities: a document type in here could only be a trap that expands without end.
    if "<CaretExtension" not in text or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        root = ET.fromstring(text.strip("\0 \n"))
        entries = []
        for index, label in enumerate(root.iter("Label")):
            key, name = int(label.attrib["Key"]), (label.text or "").strip()
            if key > 0 and name:
                parts = [float(label.attrib.get(part, 0)) for part in ("Red", "Green", "Blue")]
                red, green, blue = (round(255 * min(1.0, max(0.0, part))) for part in parts)
                known = color_of(name, index) if not any(parts) else (red, green, blue)
                entries.append(ClassEntry(key, name, known))
    except (ET.ParseError, KeyError, ValueError, OverflowError):
        return None
    return ClassTable(tuple(entries)) if entries else None


def sidecar_of(path: Path) -> Path:
    """JSON beside a label volume: ``mask.nii.gz`` has ``mask.json``, as BIDS does it."""
    name = path.name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    return path.with_name(Path(name).stem + ".json")


def read_sidecar(path: Path) -> ClassTable | None:
    """Class table of the sidecar of a label volume; `None` where there is none."""
    sidecar = sidecar_of(path)
    if not sidecar.is_file() or sidecar.stat().st_size > 1 << 22:
        return None
    return from_json(sidecar.read_text(encoding="utf-8", errors="replace"))


def refuse_foreign_sidecar(path: Path) -> None:
    """Raise where the place of the sidecar of ``path`` is taken by something that is none.

    A scan has its acquisition there (``sub-01_T1w.json`` of BIDS), which nothing brings back, so
    this holds for an output that may be replaced, too.

    Raises
    ------
    OutputExistsError
        The JSON there holds no label names.
    """
    sidecar = sidecar_of(path)
    if sidecar.exists() and read_sidecar(path) is None:
        raise OutputExistsError(
            f"The label names belong in {sidecar}, which holds something else, perhaps what is "
            "known of the scan: give the output another name."
        )


def unnamed(ids: list[int]) -> ClassTable:
    """A class table for labels that came without names."""
    return ClassTable(
        tuple(
            ClassEntry(label, f"label {label}", color_of(f"label {label}", index))
            for index, label in enumerate(ids)
            if label != 0
        )
    )


def _entry(item: dict[str, Any]) -> ClassEntry:
    red, green, blue = (int(part) for part in item["color"])
    synonyms = tuple(str(word) for word in item.get("synonyms", ()))
    return ClassEntry(int(item["id"]), str(item["name"]), (red, green, blue), synonyms)
