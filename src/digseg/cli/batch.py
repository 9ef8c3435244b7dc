"""``batch FOLDER|GLOB|LIST ... -p PROMPT -o FOLDER``: many files, one line of progress each."""

from __future__ import annotations

import argparse
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
    from digseg.run.batch import Case

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
    from digseg.cli.output import console, print_json
    from digseg.io import registry
    from digseg.run.batch import BatchJob, check_table, find, run_batch, write_table

    prompts, settings = prompts_of(args), settings_of(args)
    check_threshold_names(dict(settings.thresholds), prompts)
    if any(value is not None for value in (args.region, args.outline, args.series)):
        raise UsageError("A region, outline or series belongs to one image: use segment for it.")
    if args.suffix:
        registry.find_writer(f"mask{args.suffix}")
    if args.stats is not None:
        check_table(args.stats, overwrite=args.overwrite or args.resume)
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
    out, cases = console(), []
    for case in run_batch(job, found):
        cases.append(case)
        if not args.quiet or case.status in ("failed", "incomplete"):
            line = _line(case, len(cases), len(found))
            out.print(line, style=_COLORS[case.status], highlight=False, markup=False)
    if args.stats is not None:
        write_table(cases, args.stats, overwrite=args.overwrite or args.resume)
    counts = {name: sum(case.status == name for case in cases) for name in _COLORS}
    bad = counts["failed"] + counts["incomplete"]
    if args.json:
        summary = {"status": "incomplete" if bad else "done", "files": len(cases), **counts}
        print_json({**summary, "cases": [case.to_dict() for case in cases]})
    return 5 if bad else 0


def _line(case: Case, index: int, count: int) -> str:
    told = f"[{index}/{count}] {case.status}: {case.input}"
    if case.error:
        return f"{told}: {case.error}"
    if case.output is not None and case.status == "done":
        return f"{told} -> {case.output} ({case.seconds:.1f} s)"
    return told
