"""``evaluate DATA --split S --model M``: how good a model is on labelled data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digseg.settings import SegmentSettings, parse_scales

if TYPE_CHECKING:
    from digseg.evaluate import Evaluation

Subparsers = Any  # argparse keeps the type of its subparsers action private


def register(subparsers: Subparsers) -> None:
    default = SegmentSettings()
    parser = subparsers.add_parser(
        "evaluate",
        help="judge a model on labelled data",
        description="Judge a model on a labelled set (a folder with dataset.json, or one of the "
        "public layouts that `train` reads), or on every set in a folder.",
    )
    parser.add_argument("data", metavar="DATA", help="folder of a set, or a folder of sets")
    parser.add_argument("--split", default="val", help="which part to judge (val)")
    parser.add_argument("--use", default=None, help="only sets marked so, as train-and-ship")
    parser.add_argument(
        "--layout", default=None, metavar="NAME", help="public layout of DATA, as ade20k"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--report", default=None, metavar="DIR", help="a report with pictures")
    parser.add_argument("--overwrite", action="store_true", help="replace an older report")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    _add_choices(parser, default)
    parser.set_defaults(run=run)


def _add_choices(parser: argparse.ArgumentParser, default: SegmentSettings) -> None:
    model = parser.add_argument_group("model")
    model.add_argument("--model", default=default.model, metavar="NAME|DIR")
    model.add_argument("--device", default=default.device, choices=("auto", "cpu", "cuda", "mps"))
    model.add_argument("--steps", type=int, default=default.steps)
    model.add_argument("--ensemble", type=int, default=default.ensemble)
    model.add_argument("--seed", type=int, default=default.seed)
    how = parser.add_argument_group("what is measured")
    how.add_argument("--threshold", type=float, default=default.threshold)
    how.add_argument("--tile", type=int, default=default.tile, help="side in pixels")
    how.add_argument("--overlap", type=int, default=default.overlap, help="in pixels")
    how.add_argument("--scales", default=None, metavar="S[,S...]", help="as for segment")
    how.add_argument("--limit", type=int, default=None, help="images of each set at most")
    how.add_argument("--planes", type=int, default=None, help="planes of each volume at most")
    how.add_argument("--synonyms", type=int, default=2, help="synonyms of each class to try (2)")
    how.add_argument("--absent", type=int, default=4, help="absent things to ask for (4)")
    how.add_argument(
        "--budget",
        type=float,
        default=30.0,
        help="megapixels times prompts for synonyms and absent things of one set (30)",
    )
    how.add_argument("--tolerance", type=int, default=2, help="of outlines, in pixels (2)")


def run(args: argparse.Namespace) -> int:
    from digseg import model as models
    from digseg.cli.output import ProgressListener, print_json
    from digseg.evaluate import EvaluateSettings, check_report, evaluate, write_report

    settings = EvaluateSettings(
        split=args.split,
        threshold=args.threshold,
        limit=args.limit,
        planes=args.planes,
        synonyms=args.synonyms,
        absent=args.absent,
        budget=args.budget,
        tolerance=args.tolerance,
        tile=args.tile,
        overlap=args.overlap,
        scales=() if args.scales is None else parse_scales(args.scales),
    )
    chosen = SegmentSettings(
        model=args.model,
        device=args.device,
        steps=args.steps,
        ensemble=args.ensemble,
        seed=args.seed,
    )
    if args.report is not None:  # before minutes of measuring
        check_report(args.report, overwrite=args.overwrite)
    sets = _sets(args)
    model = models.load(
        chosen.model,
        device=chosen.device,
        steps=chosen.steps,
        ensemble=chosen.ensemble,
        seed=chosen.seed,
    )
    with ProgressListener(quiet=args.quiet or not sys.stderr.isatty()) as progress:
        found = evaluate(sets, model, settings, model_name=args.model, callback=progress)
        progress.close_stage()
    # The figures first: they are not lost where the disk has no room for a report.
    if args.json:
        print_json(found.to_dict())
    else:
        _print_table(found)
    if args.report is not None:
        where = write_report(found, args.report, overwrite=args.overwrite)
        print(f"Report: {where}", file=sys.stderr)
    return 0


def _sets(args: argparse.Namespace) -> Any:
    from digseg.errors import UsageError
    from digseg.evaluate import open_public, open_sets
    from digseg.train.layouts import detect
    from digseg.train.layouts.prepare import is_pack

    folder = Path(args.data)
    public = folder.is_dir() and not is_pack(folder) and detect(folder) is not None
    if public or args.layout is not None:
        return [open_public(folder, args.layout)]
    sets = open_sets(folder)
    if args.use is not None:
        kept = [item for item in sets if item.use == args.use]
        if not kept:
            have = ", ".join(sorted({item.use for item in sets if item.use})) or "none"
            raise UsageError(f"No set is marked {args.use!r}; the marks are: {have}.")
        return kept
    return sets


def _print_table(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found.model} on {found.settings.split}")
    heads = ("set", "n", "mIoU", "Dice", "boundary F", "absent area", "synonyms")
    for head in heads:
        table.add_column(head, justify="left" if head == "set" else "right")
    for item in found.sets:
        v = item.values
        figures = [v["miou"], v["mdice"], v["boundary_f"], v["absent_area"], v["synonym_iou"]]
        cells = ["–" if value is None else f"{value:.3f}" for value in figures]
        table.add_row(item.name, str(v["n"]), *cells)
    console = Console()
    console.print(table)
    if len(found.sets) == 1:
        classes = Table()
        for head in ("class", "IoU", "Dice"):
            classes.add_column(head, justify="left" if head == "class" else "right")
        v = found.sets[0].values
        for name, value in v["iou"].items():
            shown = ["–" if x is None else f"{x:.3f}" for x in (value, v["dice"][name])]
            classes.add_row(name, *shown)
        console.print(classes)
