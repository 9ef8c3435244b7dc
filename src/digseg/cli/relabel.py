"""``relabel STORE.zarr --threshold ... -o OUT``: labels again, without inference."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from digseg.cli.options import add_simplify_option


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "relabel",
        help="labels again from stored probabilities",
        description=(
            "Apply other thresholds and class rules to a probability store that segment "
            "--probabilities wrote. Nothing is computed by the model."
        ),
    )
    parser.add_argument("store", type=Path, metavar="STORE.zarr")
    parser.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="VALUE|NAME=VALUE",
        help="probability from which a pixel belongs to a prompt; a common VALUE replaces all "
        "thresholds of the run",
    )
    parser.add_argument(
        "--suppress",
        "-n",
        "--negative",
        action="append",
        default=[],
        metavar="NAME",
        help="a stored prompt that competes but gets no label now; the others keep their ids",
    )
    parser.add_argument("-o", "--output", type=Path, default=None, metavar="OUT")
    parser.add_argument("--vector", type=Path, default=None, metavar="OUT.gpkg", help="polygons")
    add_simplify_option(parser)
    parser.add_argument(
        "--stats", type=Path, default=None, metavar="OUT.csv", help="areas, volumes"
    )
    parser.add_argument("--input", default=None, help="the image, where it was moved")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from digseg.cli.options import thresholds_of
    from digseg.cli.output import console, print_json
    from digseg.errors import UsageError
    from digseg.run.job import Outputs
    from digseg.run.relabel import relabel

    outputs = Outputs(labels=args.output, vector=args.vector, stats=args.stats)
    if outputs.main is None:
        raise UsageError("No output was named: say where the mask goes with -o OUT.")
    threshold, thresholds = thresholds_of(args.threshold)
    result = relabel(
        args.store,
        outputs,
        threshold=threshold,
        thresholds=thresholds,
        suppress=args.suppress,
        simplify=args.simplify,
        input_path=args.input,
        overwrite=args.overwrite,
    )
    if args.json:
        print_json(result.summary())
    else:
        for path in result.files:
            console().print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    return 5 if result.failed_tiles else 0
