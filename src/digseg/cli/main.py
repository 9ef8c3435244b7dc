"""``napari-digseg``: a module for each command, and one place that turns errors into exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from digseg._version import __version__
from digseg.cli.output import abandon, hand_over, open_closed_streams
from digseg.errors import DigsegError, OutputError
from digseg.memory import large_pages

#: Modules of this package, in the order of ``--help``.
COMMANDS = (
    "segment",
    "batch",
    "verify",
    "info",
    "replay",
    "relabel",
    "models",
    "train",
    "evaluate",
    "benchmark",
    "demo",
)

EPILOG = """\
exit codes: 0 done; 2 usage; 3 input unreadable; 4 does not fit (memory, disk);
5 some tiles or files failed; 6 refused to resume; 130 cancelled
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole parser; imports no heavy package."""
    parser = argparse.ArgumentParser(
        prog="napari-digseg",
        description="Type a phrase, get a mask: text-prompted segmentation of rasters and volumes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"napari-digseg {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"digseg.cli.{name}").register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `EPILOG`)."""
    # OpenMP threads that spin while they wait take many times as long on a machine that does other
    # work, too. Read when torch is loaded, which no command has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    large_pages()
    open_closed_streams()
    try:
        args = _parsed(argv)
        code = args.run(args)
        hand_over()
    except DigsegError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("Cancelled.")
        return 130
    except BrokenPipeError:
        # The reader of our standard output went away (`| head`): nothing is left to say to it.
        abandon(sys.stdout)
        abandon(sys.stderr)
        return 0
    except OSError as error:
        told = _explained(error)
        if told is None:
            raise
        _say(told[1])
        return told[0]
    return int(code)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        return build_parser().parse_args(argv)
    except SystemExit:
        hand_over()  # what --help prints
        raise


def _explained(error: OSError) -> tuple[int, str] | None:
    """Exit code and sentence for what the system refused and nobody foresaw; `None` where that
    can't be told from a fault of this program."""
    try:
        hand_over()
    except OutputError as found:  # a table was on its way to standard output
        return found.exit_code, str(found)
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 4, f"The disk has no room left ({reason}): make some, and run it again."
    if error.filename is None:
        return None
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return 3, f"{name} can't be read or written: {reason}."


def _say(message: str) -> None:
    try:
        print(f"napari-digseg: {' '.join(message.split())}", file=sys.stderr)
    except OSError:  # nor can this be said; the exit code still tells
        abandon(sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
