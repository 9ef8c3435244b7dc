"""``napari-digseg``: a module for each command, and one place that turns errors into exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from digseg._version import __version__
from digseg.errors import DigsegError
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
    args = build_parser().parse_args(argv)
    try:
        code = args.run(args)
    except DigsegError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("Cancelled.")
        return 130
    except BrokenPipeError:
        # The reader of our standard output went away (`| head`): nothing is left to say to it.
        sys.stderr.close()
        return 0
    return int(code)


def _say(message: str) -> None:
    print(f"napari-digseg: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
