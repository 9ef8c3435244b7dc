"""``batch FOLDER|GLOB|LIST ... -p PROMPT -o FOLDER``: many files, one line of progress each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digseg.cli.options import (
    add_prompt_options,
    add_run_options,
    check_threshold_names,
    prompts_of,
    settings_of,
)
from digseg.errors import UsageError

if TYPE_CHECKING:
    from digseg.run.batch import BatchJob, Case
    from digseg.run.found import Found
    from digseg.run.table import Table

Subparsers = Any  # argparse keeps the type of its subparsers action private

_COLORS = {"done": "green", "incomplete": "yellow", "failed": "red", "skipped": "dim"}


def register(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "batch",
        help="segment many images by text",
        description="Segment every image of folders, patterns and lists. A bad file is named and "
        "passed over; the exit code is 5 if there was one.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FOLDER|GLOB|LIST",
        help="folders, quoted patterns, .txt or .csv lists of paths, or images",
    )
    add_prompt_options(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--suffix", default="", help="format of all masks, such as .nii.gz (default: by input)"
    )
    parser.add_argument(
        "--stats", type=Path, default=None, metavar="OUT.csv", help="one table for all files"
    )
    parser.add_argument("--pictures", action="store_true", help="a PNG of each image and mask")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="skip what is done, finish the rest")
    again.add_argument("--overwrite", action="store_true", help="replace masks that exist")
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what failed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from digseg.cli.output import print_json
    from digseg.io import registry
    from digseg.run.batch import BatchJob
    from digseg.run.found import find
    from digseg.run.table import Table

    prompts, settings = prompts_of(args), settings_of(args)
    check_threshold_names(dict(settings.thresholds), prompts)
    if any(value is not None for value in (args.region, args.outline, args.series)):
        raise UsageError("A region, outline or series belongs to one image: use segment for it.")
    if args.suffix:
        registry.find_writer(f"mask{args.suffix}")
    found = find(args.inputs, leave_out=args.output)
    job = BatchJob(
        prompts,
        settings,
        args.output,
        suffix=args.suffix,
        pictures=args.pictures,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    table = None
    if args.stats is not None:
        table = Table.open(
            args.stats, folder=args.output, resume=args.resume, overwrite=args.overwrite
        )
    cases = _cases(job, found, table, quiet=args.quiet)
    counts = {name: sum(case.status == name for case in cases) for name in _COLORS}
    bad = counts["failed"] + counts["incomplete"]
    if args.json:
        summary = {"status": "incomplete" if bad else "done", "files": len(cases), **counts}
        print_json({**summary, "cases": [case.to_dict() for case in cases]})
    return 5 if bad else 0


def _cases(
    job: BatchJob, found: Sequence[Found], table: Table | None, *, quiet: bool
) -> list[Case]:
    """Do the batch and say a line for each file; the table is written however it ends."""
    from digseg.cli.output import console
    from digseg.run.batch import run_batch

    out = console()
    cases: list[Case] = []
    try:
        for case in run_batch(job, found, table=table):
            cases.append(case)
            if not quiet or case.status in ("failed", "incomplete"):
                # One line for each file, for programs that read them: paths are not broken.
                out.print(
                    _line(case, len(cases), len(found)),
                    style=_COLORS[case.status],
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
    finally:
        if table is not None and cases:
            table.write(cases)
    return cases


def _line(case: Case, index: int, count: int) -> str:
    told = f"[{index}/{count}] {case.status}: {case.input}"
    if case.error:
        return f"{told}: {case.error}"
    if case.output is not None and case.status == "done":
        return f"{told} -> {case.output} ({case.seconds:.1f} s)"
    return told
