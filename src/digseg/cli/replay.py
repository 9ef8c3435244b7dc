"""``replay RECIPE.json``: the same run again, to the same bytes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="do the run of a recipe again",
        description="Do the run of a recipe again; same input and model give the same bytes.",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.json")
    parser.add_argument("--input", default=None, help="take this input in place of the recipe's")
    parser.add_argument(
        "-o", "--output", type=Path, default=None, metavar="OUT", help="write the mask here"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    again.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--dry-run", action="store_true", help="estimate and stop")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from digseg.cli.segment import run_job
    from digseg.run.job import Job, Outputs, read_recipe

    changes: dict[str, Any] = {"resume": args.resume, "overwrite": args.overwrite}
    recipe = read_recipe(args.recipe)
    if args.output is not None:
        # Elsewhere: the recipe's other outputs would land on the first run's files.
        changes["outputs"] = Outputs(labels=args.output)
    job = Job.from_recipe(recipe, **changes)
    if args.input is not None:
        job = replace(job, input=args.input)
    return run_job(
        job,
        dry_run=args.dry_run,
        as_json=args.json,
        quiet=args.quiet,
        expected_model=recipe.get("model_identity"),
    )
