"""``info INPUT``: what the readers see."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "info",
        help="say what a file holds",
        description="Say what the reader of a file, folder or URL sees: shape, type and place.",
    )
    parser.add_argument("input", metavar="INPUT", help="path or URL of a raster, volume or array")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from digseg import io
    from digseg.cli.output import print_json

    facts = io.info(args.input)
    if args.json:
        print_json(facts)
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        if value not in (None, [], {}):
            table.add_row(key, Text(str(value)))
    Console().print(table)  # the answer itself, so it goes to standard output
    return 0
