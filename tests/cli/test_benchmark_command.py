"""``benchmark engine``: what can't be measured is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from digseg.cli.main import main


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--threads", "-1"), "number of threads can't be -1"),
        (("--folder", "a.tif"), "a.tif can't be made"),
        (("--folder", "a.tif/more"), "more can't be made"),
        (("--size", "0"), "no size"),
        (("--classes", "0"), "at least one class"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.tif").write_bytes(b"")
    assert main(["benchmark", "engine", "--model", "cheap", *more]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1
