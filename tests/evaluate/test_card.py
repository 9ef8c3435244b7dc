"""The report and the model card, from a model whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from tests.evaluate.labelled_sets import Reader, write_set

from digseg.errors import OutputExistsError
from digseg.evaluate import EvaluateSettings, evaluate, open_sets, write_report
from digseg.evaluate.aims import figures, measure
from digseg.evaluate.card import parameters, render
from digseg.prompts import color_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    good, bad = np.zeros((32, 40), np.uint8), np.zeros((32, 40), np.uint8)
    good[:16, :20], bad[16:, :20] = 1, 1
    fooled = np.zeros((32, 40), np.uint8)  # the model sees no water here
    write_set(
        tmp_path / "data" / "crops_peanut",
        {"train": {"t": good}, "val": {"good": good, "bad": bad}},
        [(1, "water", ("lake",))],
        {"bad": fooled},
        domain="agriculture",
        licence="CC0",
        use="train-and-ship",
    )
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, shape in (("unet", (3, 4)), ("vae", (5,))):
        (tmp_path / "m" / part).mkdir(parents=True)
        file = tmp_path / "m" / part / "diffusion_pytorch_model.safetensors"
        save_file({"a": np.zeros(shape, np.float32), "b": np.zeros((), np.float32)}, file)
    return tmp_path / "m"


def test_report_shows_best_and_worst(data: Path, tmp_path: Path) -> None:
    found = evaluate(open_sets(data), Reader({"water": (1,)}), EvaluateSettings(), pictures=1)
    file = write_report(found, tmp_path / "report")
    text = file.read_text(encoding="utf-8")
    assert "| crops_peanut | 2 | 0.500 |" in text
    shown = sorted(path.name for path in (tmp_path / "report" / "pictures").iterdir())
    assert shown == ["crops_peanut-best-1.png", "crops_peanut-worst-1.png"]
    assert all(f"pictures/{name}" in text for name in shown)
    best = np.asarray(Image.open(tmp_path / "report" / "pictures" / shown[0]))
    worst = np.asarray(Image.open(tmp_path / "report" / "pictures" / shown[1]))
    assert best.shape == worst.shape == (32, 3 * 40 + 8, 3)
    water = color_of("water", 0)
    for truth, result, expected in ((best, best, True), (worst, worst, False)):
        row = 2 if expected else 30
        assert tuple(truth[row, 40 + 4 + 2]) == water
        assert (tuple(result[row, 80 + 8 + 2]) == water) is expected
    with pytest.raises(OutputExistsError):
        write_report(found, tmp_path / "report")
    write_report(found, tmp_path / "report", overwrite=True)
    assert not list(tmp_path.glob(".*partial"))


def test_card_holds_what_was_measured(data: Path, folder: Path) -> None:
    sets = open_sets(data)
    results = measure(sets, Reader({"water": (1,), "lake": (1,)}), EvaluateSettings(planes=2))
    told = json.loads(json.dumps(figures(results, sets)))  # as it comes back from a file
    assert told["crops_peanut"]["iou"] == {"water": 0.5}
    measured = {
        "sets": told,
        "date": "2026-01-01",
        "machine": "a machine",
        "command": "a command",
        "split": "val",
    }
    card = render("m", folder, measured, sets, specialists={"crops_peanut": 0.456})
    assert card.startswith("---\nlicense: ")
    assert "| crops_peanut | mIoU | 0.500 | 0.70 | no |" in card
    assert "| crops_peanut | 2 | 0.500 | 0.667 | – |" in card
    assert "0.456" in card
    assert "**Field and leaf photos:** water" in card
    assert "| crops_peanut | 1 / 2 | CC0 |" in card
    assert "keeps 100.0 % of the IoU" in card
    assert "a command" in card


def test_card_counts_the_specialists_that_can_be_compared(data: Path, folder: Path) -> None:
    sets = open_sets(data)
    results = measure(sets, Reader({"water": (1,)}), EvaluateSettings(planes=2))
    told = json.loads(json.dumps(figures(results, sets)))
    values = dict.fromkeys(("a", "b", "c"), told["crops_peanut"])
    measured = {"sets": values, "date": "", "machine": "", "command": "", "split": "val"}
    card = render("m", folder, measured, sets, specialists={"a": 0.5, "b": 0.25, "c": 0.0})
    assert "0.375 on the 2 sets that have a figure above 0 in that column, this model" in card


def test_card_lists_words_that_only_drawn_pictures_teach(tmp_path: Path, folder: Path) -> None:
    mask = np.ones((8, 8), np.uint8)
    write_set(tmp_path / "sets" / "m", {"val": {"a": mask}}, [(1, "kidney", ())], domain="mr")
    sets = open_sets(tmp_path / "sets")
    measured = {"sets": {}, "date": "", "machine": "", "command": "", "split": "val"}
    card = render("m", folder, measured, sets)
    assert "- **MR:** kidney, left ventricle, right ventricle, myocardium\n" in card


def test_parameters_are_counted_from_the_headers(folder: Path) -> None:
    assert parameters(folder) == {"unet": 13, "vae": 6}
