"""``evaluate`` from the command line, with a whole (tiny, random) model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.evaluate.labelled_sets import write_set
from tests.train.layout_folders import kvasir
from tests.train.tiny import save_tiny

from digseg.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    mask = np.zeros((40, 56), np.uint8)
    mask[:20], mask[20:, :30] = 1, 2
    classes = [(1, "water", ("lake",)), (2, "road", ())]
    for name, use in (("one", "train-and-ship"), ("two", "research-only")):
        write_set(tmp_path / "data" / name, {"val": {"a": mask, "b": mask}}, classes, use=use)
    return tmp_path / "data"


def test_json_of_one_set(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(data / "one"), "--split", "val", "--model", str(model), "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)  # one JSON object and nothing else
    assert told["n"] == 2
    assert set(told["iou"]) == set(told["dice"]) == {"water", "road"}
    assert told["miou"] == pytest.approx(np.mean(list(told["iou"].values())))
    for key in ("miou", "absent_area", "synonym_iou"):
        assert 0 <= told[key] <= 1


def test_scales_asked_for_are_those_seen(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(data / "one"), "--model", str(model), "--json"]

    def told(*more: str) -> dict[str, float]:
        assert main([*words, *more]) == 0
        found: dict[str, float] = json.loads(capsys.readouterr().out)["iou"]
        return found

    plain = told()
    assert told("--scales", "1") == plain  # a tiny model recommends none
    assert told("--scales", "1,1.6") != plain
    assert main([*words, "--scales", "0"]) == 2
    assert "scale" in capsys.readouterr().err


def test_folder_of_sets_table_and_report(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(data), "--model", str(model), "--use", "research-only"]
    assert main([*words, "--report", str(tmp_path / "report")]) == 0
    assert "two" in capsys.readouterr().out
    assert "| one |" not in (tmp_path / "report" / "README.md").read_text()
    assert main([*words, "--report", str(tmp_path / "report")]) == 2
    assert main([*words[:-1], "nothing"]) == 2
    assert "research-only" in capsys.readouterr().err


def test_public_layout_is_judged(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = kvasir(tmp_path / "kvasir", [0, 255])
    assert main(["evaluate", str(folder), "--model", str(model), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["iou"]) == {"polyp"}


def test_exit_codes(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "nowhere"), "--model", str(model)]) == 3
    assert main(["evaluate", str(data / "one"), "--split", "test", "--model", str(model)]) == 3
    assert "val" in capsys.readouterr().err
    assert main(["evaluate", str(data / "one"), "--model", str(tmp_path / "none")]) == 3
    assert main(["evaluate", str(data / "one"), "--threshold", "2", "--model", str(model)]) == 2
    assert main(["evaluate", str(data / "one"), "--layout", "imagenet"]) == 2
