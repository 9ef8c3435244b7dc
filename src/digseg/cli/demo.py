"""``demo``: the main job on a real satellite scene and a real CT volume that ship with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from digseg.settings import SegmentSettings


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="segment a satellite scene and a CT volume that ship with the program",
        description="Segment a real satellite scene and a real CT volume by text, with pictures.",
    )
    parser.add_argument("--output", type=Path, default=Path("demo-output"), metavar="FOLDER")
    parser.add_argument("--model", default=SegmentSettings().model, metavar="NAME|DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from digseg.cli.output import ProgressListener, console, print_json
    from digseg.run.demo import demo

    settings = SegmentSettings(model=args.model)
    summaries = []
    with ProgressListener(quiet=not sys.stderr.isatty()) as progress:
        for part in demo(args.output, settings, overwrite=args.overwrite, callback=progress):
            summary = part.result.summary()
            summary["picture"] = str(part.picture)
            summaries.append(summary)
            progress.close_stage()
            _print(console(), part.title, summary)
    if args.json:
        print_json({"runs": summaries})
    return 0


def _print(out: Any, title: str, summary: dict[str, Any]) -> None:
    from digseg.cli.output import size_text

    out.print(f"\n{title}: {summary['command']}", highlight=False, markup=False, soft_wrap=True)
    for row in summary["labels"]:
        out.print(
            f"  {row['id']}  {row['name']}: {size_text(row)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for path in (*summary["files"], summary["picture"]):
        out.print(f"  wrote {path}", highlight=False, markup=False, soft_wrap=True)
