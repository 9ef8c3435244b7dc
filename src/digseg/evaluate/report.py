"""A Markdown report with pictures of the best and the worst."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from digseg.errors import OutputError, OutputExistsError
from digseg.evaluate.core import Evaluation, SetResult
from digseg.evaluate.gallery import Shown
from digseg.prompts import color_of


def write_report(evaluation: Evaluation, folder: Path | str, *, overwrite: bool = False) -> Path:
    """Write ``README.md`` and its pictures to ``folder``.

    Written to a folder beside it first, then renamed.

    Raises
    ------
    OutputExistsError
        The folder holds something already and ``overwrite`` is false.
    OutputError
        It can't be written there.
    """
    target = check_report(folder, overwrite=overwrite)
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "pictures").mkdir(parents=True)
        text = "\n".join(_report(evaluation, partial / "pictures"))
        (partial / "README.md").write_text(text + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OutputError(f"The report can't be written to {target}: {error}.") from error
    return target / "README.md"


def check_report(folder: Path | str, *, overwrite: bool = False) -> Path:
    """Where a report goes, refused before anything is measured if it can't be written there.

    Raises
    ------
    OutputExistsError
        The folder holds something already and ``overwrite`` is false, or something else than a
        report.
    OutputError
        It is a file, or can't be made.
    """
    target = Path(folder).resolve()
    if target.exists() and not target.is_dir():
        raise OutputError(f"{folder} is a file: name a folder for the report.")
    held = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if held and not overwrite:
        raise OutputExistsError(
            f"{folder} holds something already: name another folder, or --overwrite a report."
        )
    if held and not {"README.md"} <= held <= {"README.md", "pictures"}:
        raise OutputExistsError(
            f"{folder} holds something else than a report, which is not replaced: name another "
            "folder."
        )
    there = next(place for place in (target.parent, *target.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise OutputError(f"The report can't be written to {folder}: {there} takes no files.")
    return target


def figure(value: float | None, digits: int = 3) -> str:
    """A number for a table; a dash where nothing could be measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None else f"{100 * value:.1f} %"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    titles = list(head)
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    return lines + [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]


def _report(evaluation: Evaluation, pictures: Path) -> list[str]:
    split = evaluation.settings.split
    lines = [
        f"# {evaluation.model} on {split}",
        "",
        "Pixels are summed over each set before a ratio is taken. mIoU: arg-max over the set's "
        "vocabulary, or the threshold where there is one class; classes that the split's truth "
        "does not hold are left out. Absent: share of pixels marked when asked for what is not "
        "there. Synonyms: mIoU asked by synonyms over mIoU asked by name, on the same planes.",
        "",
    ]
    rows = [
        [
            item.name,
            str(item.values["n"]),
            figure(item.values["miou"]),
            figure(item.values["mdice"]),
            figure(item.values["boundary_f"]),
            figure(item.values["pixel_accuracy"]),
            percent(item.values["absent_area"]),
            percent(item.values["synonym_ratio"]),
            figure(item.values["calibration"]["ece"]),
        ]
        for item in evaluation.sets
    ]
    head = ("set", "n", "mIoU", "Dice", "boundary F", "accuracy", "absent", "synonyms", "ECE")
    lines += table(head, rows)
    for item in evaluation.sets:
        lines += ["", f"## {item.name}", "", *_classes(item.values), *_gallery(item, pictures)]
    return lines


def _classes(values: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            figure(values["iou"][name]),
            figure(values["dice"][name]),
            figure(values["boundary"]["f"][name]),
            figure(values["by_prompt"]["iou"][name]),
            ", ".join(
                f"{word} {figure(value, 2)}"
                for word, value in values["synonyms"].get(name, {}).items()
            ),
        ]
        for name in values["iou"]
    ]
    head = ("class", "IoU", "Dice", "boundary F", "IoU alone", "IoU by synonym")
    lines = table(head, rows)
    if values["groups"]:
        groups = values["groups"]
        rows = [[n, figure(groups["iou"][n]), figure(groups["dice"][n])] for n in groups["iou"]]
        lines += ["", *table(("asked as a whole", "IoU", "Dice"), rows)]
    foreign = values["absent"]["by_prompt"]
    if foreign:
        told = ", ".join(f"{name} {percent(share)}" for name, share in foreign.items())
        lines += ["", f"Marked for what is in none of the pictures: {told}."]
    seconds = values["latency"]["seconds_per_plane"]
    lines += ["", f"{seconds:.2f} s a plane in the model, all prompts together."]
    return lines


def _gallery(item: SetResult, folder: Path) -> list[str]:
    lines: list[str] = []
    shown = (("Best", item.gallery.best), ("Worst", item.gallery.worst))
    for title, chosen in shown:
        if not chosen:
            continue
        lines += ["", f"{title}: picture, truth, result.", ""]
        for index, one in enumerate(chosen):
            file = folder / f"{item.name}-{title.lower()}-{index + 1}.png"
            save_strip(one, file)
            lines.append(f"![{one.name}](pictures/{file.name}) {one.name}, mIoU {one.score:.3f}")
            lines.append("")
    if lines:
        names = item.gallery.labelled.names
        legend = ", ".join(
            f"{name} (#{bytes(color_of(name, index)).hex()})" for index, name in enumerate(names)
        )
        lines += ["Colours: " + legend + "; black: background; grey: no label."]
    return lines


def save_strip(shown: Shown, path: Path) -> None:
    """Write picture, truth and result side by side as a PNG."""
    from PIL import Image

    gap = np.full((shown.picture.shape[0], 4, 3), 255, dtype=np.uint8)
    strip = np.concatenate([shown.picture, gap, shown.truth, gap, shown.result], axis=1)
    Image.fromarray(strip).save(path)
