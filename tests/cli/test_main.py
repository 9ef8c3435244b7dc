"""The frame of the command line: help is instant, errors become one sentence and a code."""

from __future__ import annotations

import argparse
import errno
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from digseg import errors
from digseg.cli import main as frame

SCENE = Path(str(resources.files("digseg") / "samples" / "scene.tif"))


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


def _fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise error

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=fail)
    monkeypatch.setattr(frame, "build_parser", lambda: parser)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a b.tif"), 3, "a b.tif can't be"),
        (OSError(errno.EIO, "Input/output error", b"c.tif"), 3, "c.tif can't be read"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "no room left"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    error: OSError,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _fails(monkeypatch, error)
    assert frame.main([]) == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("error", [OSError("no file is named"), ValueError("a"), KeyError("a")])
def test_faults_of_the_program_keep_their_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fails(monkeypatch, error)
    with pytest.raises(type(error)):
        frame.main([])


#: Standard output or error as a shell gives it; exit code; what is said on the other one.
STREAMS = [
    ("info SCENE --json >&-", 2, "standard output (Bad file descriptor)"),
    ("info SCENE >&-", 2, "standard output (Bad file descriptor)"),
    ("info SCENE --json >/dev/full", 2, "standard output (No space left on device)"),
    ("info SCENE >/dev/full", 2, "standard output (No space left on device)"),
    ("--help >/dev/full", 2, "standard output (No space left on device)"),
    ("info none.tif >&-", 3, "none.tif"),
    ("info SCENE --json 2>&-", 0, ""),
    ("info none.tif 2>&-", 3, ""),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize(("words", "code", "said"), STREAMS)
def test_streams_that_take_nothing(words: str, code: int, said: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m digseg.cli.main {words}"
    command = command.replace("SCENE", shlex.quote(str(SCENE)))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == (1 if said else 0)
    if code == 3:
        assert done.stdout == ""  # no sentence among the answers


def test_a_reader_that_goes_away_is_no_error() -> None:
    python, scene = shlex.quote(sys.executable), shlex.quote(str(SCENE))
    command = f"{{ {python} -m digseg.cli.main info {scene} --json; echo $? >&2; }} | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == "0\n"


def test_a_closed_stream_s_number_is_given_to_no_file(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom digseg.cli.output import open_closed_streams\n"
        "open_closed_streams()\nfile = open(sys.argv[1], 'w')\n"
        "assert file.fileno() > 2\nos.write(2, b'warning')\nprint('more', file=sys.stderr)"
    )
    target = tmp_path / "out"
    command = shlex.join([sys.executable, "-c", code, str(target)]) + " 2>&- <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert target.read_bytes() == b""


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
