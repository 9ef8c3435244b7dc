"""The frame of the command line: help is instant, errors become one sentence and a code."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from digseg import errors
from digseg.cli import main as frame


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        frame.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("napari-digseg 0.")


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        frame.main([])
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("a"), 2),
        (errors.InputNotFoundError("a"), 3),
        (errors.DoesNotFitError("a"), 4),
        (errors.TilesFailedError("a"), 5),
        (errors.ResumeError("a"), 6),
        (errors.Cancelled("a"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_one_line_and_a_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise error

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=fail)
    monkeypatch.setattr(frame, "build_parser", lambda: parser)
    assert frame.main([]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_every_error_is_also_a_builtin() -> None:
    plain = {errors.DigsegError, errors.Cancelled}
    found = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DigsegError) and kind not in plain
    ]
    assert len(found) > 10
    builtin = (ValueError, OSError, MemoryError, RuntimeError, ImportError)
    assert all(issubclass(kind, builtin) for kind in found)


@pytest.mark.parametrize(
    "code",
    [
        "import digseg",
        "import digseg.cli.main as m; m.build_parser().format_help()",
        "import napari_digseg",
        "from npe2 import PluginManifest as P; P.from_distribution('napari-digseg')",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    heavy = (
        "torch",
        "diffusers",
        "transformers",
        "rasterio",
        "SimpleITK",
        "napari",
        "qtpy",
        "zarr",
    )
    check = f"{code}; import sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
