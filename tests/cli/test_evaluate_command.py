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
from digseg.errors import OutputError


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


@pytest.mark.parametrize(
    ("place", "more", "named"),
    [
        ("full", (), "holds something already"),
        ("full", ("--overwrite",), "something else than a report"),
        ("a.tif", (), "is a file"),
        ("a.tif", ("--overwrite",), "is a file"),
        ("a.tif/report", (), "takes no files"),
    ],
)
def test_a_report_s_place_is_looked_at_before_anything_is_measured(
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    more: tuple[str, ...],
    named: str,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    (tmp_path / "a.tif").write_bytes(b"")

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("digseg.model.load", load)
    words = ["evaluate", str(data / "one"), "--model", str(model), "--json", *more]
    assert main([*words, "--report", str(tmp_path / place)]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1
    assert (tmp_path / "full" / "mine.txt").read_text() == "kept"


def test_figures_are_told_where_the_report_can_t_be_written(
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(*_: object, **__: object) -> Path:
        raise OutputError("The disk is full.")

    monkeypatch.setattr("digseg.evaluate.write_report", write)
    words = ["evaluate", str(data / "one"), "--model", str(model), "--json", "-q"]
    assert main([*words, "--report", str(tmp_path / "report")]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["n"] == 2
    assert "The disk is full." in captured.err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--tile", "0", "--overlap", "0"), "at least 32 pixels"),
        (("--tile", "1", "--overlap", "0"), "at least 32 pixels"),
        (("--budget", "nan"), "--budget"),
        (("--budget", "inf"), "--budget"),
        (("--synonyms", "-1"), "--synonyms"),
        (("--seed", "9" * 23), "seed"),
        (("--steps", "0"), "step"),
        (("--scales", ","), "no scales"),
    ],
)
def test_choices_out_of_range_are_one_sentence(
    model: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    named: str,
) -> None:
    assert main(["evaluate", str(data / "one"), "--model", str(model), *more]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1


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
