"""The scores of the volumes benchmark on masks whose scores are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks._volume_scores import change, dice, share_inside, surface_dice
from benchmarks.volumes import MARKERS, _keep, _kept, filled, told

from digseg.types import BoolArray


def cube(start: int, stop: int) -> BoolArray:
    mask = np.zeros((20, 20, 20), np.bool_)
    mask[start:stop, 5:15, 5:15] = True
    return mask


def test_dice() -> None:
    assert dice(cube(5, 15), cube(5, 15)) == 1.0
    assert dice(cube(5, 10), cube(5, 15)) == pytest.approx(2 * 500 / 1500)
    assert dice(cube(0, 0), cube(0, 0)) == 1.0
    assert dice(cube(0, 0), cube(5, 15)) == 0.0


def test_surfaces_within_a_voxel_are_right() -> None:
    assert surface_dice(cube(5, 15), cube(5, 15)) == 1.0
    assert surface_dice(cube(6, 15), cube(5, 15)) == 1.0
    assert surface_dice(cube(8, 15), cube(5, 15)) < 0.9
    assert surface_dice(cube(0, 0), cube(5, 15)) == 0.0
    assert surface_dice(cube(0, 0), cube(0, 0)) == 1.0


def test_change_counts_what_flickers() -> None:
    assert change(cube(5, 15)) == 200
    flicker = cube(5, 15)
    flicker[9] = False
    assert change(flicker) == 400


def test_share_of_errors_where_doubt_is_largest() -> None:
    wrong = np.zeros(1000, np.bool_)
    wrong[:50] = True
    doubt = np.linspace(1, 0, 1000, dtype=np.float32)
    assert share_inside(wrong, doubt) == 1.0
    assert share_inside(wrong, doubt[::-1].copy()) == 0.0
    wrong[500:550] = True
    assert share_inside(wrong, doubt) == 0.5


def test_tables_replace_what_stands_between_the_markers() -> None:
    first, last = MARKERS
    page = f"before\n{first}\nold\n{last}\nafter\n"
    assert filled(page, "new") == f"before\n{first}\nnew\n{last}\nafter\n"
    with pytest.raises(SystemExit, match="put them where tables go"):
        filled(f"{last} {first}", "new")


def test_figures_of_another_model_are_not_kept(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    assert _kept(figures, "model a") == {}
    _keep(figures, "model a", {"set": {"ways": {}}})
    assert _kept(figures, "model a") == {"set": {"ways": {}}}
    assert _kept(figures, "model b") == {}


def test_page_names_no_place_of_the_machine() -> None:
    words = [
        "--data",
        "/home/me/data",
        "--ensemble",
        "4",
        "--json",
        "/tmp/a.json",
        "--write",
        "p.md",
    ]
    assert told(words) == "python -m benchmarks volumes --data FOLDER --ensemble 4"
