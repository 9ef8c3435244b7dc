"""``verify INPUT OUTPUT``: proves that an output lies where its input lies."""

from __future__ import annotations

import argparse
from typing import Any

from digseg.errors import VerificationError


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="prove CRS, affine, orientation, shape and labels of an output equal to its input's",
        description=(
            "Reopen both files and compare shape, CRS, affine, orientation, label ids and names. "
            "Exit code 0: all equal; 5: something differs (it is said what)."
        ),
    )
    parser.add_argument("input", metavar="INPUT", help="the image, or other labels")
    parser.add_argument("output", metavar="OUTPUT", help="the labels to check")
    parser.add_argument(
        "--series", default=None, help="which of the input's series the labels belong to"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from digseg import io
    from digseg.cli.output import console, print_json

    differences = io.verify(args.input, args.output, series=args.series)
    if args.json:
        print_json({"equal": not differences, "differences": [d.to_dict() for d in differences]})
    if differences:
        told = "; ".join(str(difference) for difference in differences)
        raise VerificationError(f"{args.output} differs from {args.input}: {told}.")
    if not args.json:
        console().print("Equal: shape, place and labels.", highlight=False)
    return 0
