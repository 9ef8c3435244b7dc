"""``segment INPUT -p PROMPT -o OUT``: the main job."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from digseg.cli.options import (
    add_output_options,
    add_prompt_options,
    add_run_options,
    check_threshold_names,
    outputs_of,
    prompts_of,
    settings_of,
)
from digseg.errors import UsageError
from digseg.wording import format_count, format_duration, format_size

if TYPE_CHECKING:
    from digseg.run.job import Job
    from digseg.run.outline import Outline
    from digseg.run.result import Result

Subparsers = Any  # argparse keeps the type of its subparsers action private


def register(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "segment",
        help="segment one image by text",
        description="Segment a raster or a volume by text, and save the mask in its place.",
    )
    parser.add_argument("input", metavar="INPUT", help="path or URL of a raster or volume")
    add_prompt_options(parser)
    add_output_options(parser)
    add_run_options(parser)
    parser.add_argument(
        "--suppress",
        action="append",
        default=[],
        metavar="NAME",
        help="give this prompt no label; it still competes, and the others keep their ids",
    )
    parser.add_argument("--dry-run", action="store_true", help="estimate and stop")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def job_of(args: argparse.Namespace) -> Job:
    """The job that the flags describe."""
    from digseg.run.job import Job, Outputs

    prompts = prompts_of(args)
    settings = settings_of(args)
    check_threshold_names(dict(settings.thresholds), prompts)
    for name in args.suppress:
        if name not in prompts.names:
            raise UsageError(f"There is no prompt {name!r} to suppress.")
    if set(args.suppress) >= set(prompts.names):
        raise UsageError("Every prompt is suppressed: leave at least one.")
    outputs = outputs_of(args) if not args.dry_run or args.output else Outputs()
    return Job(
        args.input,
        prompts,
        settings,
        outputs,
        series=args.series,
        region=args.region,
        outline=_outline(args),
        suppress=tuple(args.suppress),
        resume=args.resume,
        overwrite=args.overwrite,
    )


def _outline(args: argparse.Namespace) -> Outline | None:
    """The outline as typed; a GeoJSON needs the image's place on the earth."""
    if args.outline is None:
        return None
    from digseg import io
    from digseg.run.outline import read_outline

    image = io.read(args.input, time=args.time, series=args.series)
    return read_outline(args.outline, image.grid)


def run(args: argparse.Namespace) -> int:
    return run_job(job_of(args), dry_run=args.dry_run, as_json=args.json, quiet=args.quiet)


def run_job(
    job: Job,
    *,
    dry_run: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    expected_model: str | None = None,
) -> int:
    """Do (or only plan) a job with progress bars, print its summary, and return the exit code.

    ``expected_model`` is the identity that a recipe names; another one is said, not hidden.
    """
    from digseg.cli.output import ProgressListener, print_json
    from digseg.run.execute import execute

    if dry_run:
        from digseg.run.planned import plan

        found = plan(job)
        if as_json:
            print_json(found)
        else:
            _print_plan(found)
        return 0
    with ProgressListener(quiet=quiet or not sys.stderr.isatty()) as progress:
        result = execute(job, callback=progress)
        progress.close_stage()
    with result:
        found_model = result.recipe["model_identity"]
        if expected_model is not None and found_model != expected_model:
            _warn("The model differs from the recipe's: the result may differ, too.")
        if as_json:
            print_json(result.summary())
        else:
            _print_summary(result)
        return 5 if result.failed_tiles else 0


def _warn(message: str) -> None:
    from digseg.cli.output import console

    console().print(message, style="yellow", highlight=False)


def _print_plan(found: dict[str, Any]) -> None:
    from digseg.cli.output import console

    out = console()
    passes = f" in {found['passes']} passes" if found["passes"] > 1 else ""
    tiles, blocks = format_count(found["tiles"], "tile"), format_count(found["blocks"], "block")
    out.print(f"{tiles} in {blocks}{passes}", highlight=False)
    for key in ("memory_bytes", "disk_bytes", "vram_bytes"):
        if found.get(key):
            name = key.removesuffix("_bytes").replace("vram", "GPU memory")
            out.print(f"{name}: {format_size(found[key])}", highlight=False)
    if found.get("seconds") is not None:
        out.print(f"about {format_duration(found['seconds'])}", highlight=False)


def _print_summary(result: Result) -> None:
    from rich.table import Table

    from digseg.cli.output import console, size_text

    summary = result.summary()
    table = Table("id", "prompt", "share", "size")
    for row in summary["labels"]:
        share = "" if row["share"] is None else f"{100 * row['share']:.2f} %"  # no data at all
        table.add_row(str(row["id"]), row["name"], share, size_text(row))
    out = console()
    out.print(table)
    for path in summary["files"]:
        out.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    if result.failed_tiles:
        out.print(
            f"{result.failed_tiles} of {result.tiles} tiles failed; "
            "run the same command with --resume to try them again",
            style="bold red",
            highlight=False,
        )
