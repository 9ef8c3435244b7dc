"""The flags of a run, shared by the commands that start one; their defaults stand in `settings`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from digseg.errors import UsageError
from digseg.prompts import PromptSet
from digseg.run.job import Outputs, Region, parse_region
from digseg.settings import (
    CT_WINDOWS,
    SegmentSettings,
    default_overlap,
    parse_scales,
    parse_size,
    parse_window,
)

_DEFAULT = SegmentSettings()


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """``-p`` and ``-n``."""
    parser.add_argument(
        "-p",
        "--prompt",
        action="append",
        default=[],
        metavar="NAME[=SYNONYM,...]",
        help="what to segment; give it once for each class",
    )
    parser.add_argument(
        "-n",
        "--negative",
        action="append",
        default=[],
        metavar="NAME",
        help="what must not be taken for it; competes but gets no label",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Everything of `SegmentSettings` that a person may set."""
    model = parser.add_argument_group("model")
    model.add_argument("--model", default=_DEFAULT.model, metavar="NAME|DIR")
    model.add_argument("--device", default=_DEFAULT.device, choices=("auto", "cpu", "cuda", "mps"))
    model.add_argument("--steps", type=int, default=_DEFAULT.steps, help="denoising steps")
    model.add_argument(
        "--ensemble", type=int, default=_DEFAULT.ensemble, help="runs from different noise"
    )
    model.add_argument("--seed", type=int, default=_DEFAULT.seed)

    tiles = parser.add_argument_group("tiles and memory")
    tiles.add_argument("--tile", type=int, default=_DEFAULT.tile, help="side in pixels")
    tiles.add_argument(
        "--overlap", type=int, default=None, help=f"in pixels (default {_DEFAULT.overlap})"
    )
    tiles.add_argument("--batch", type=int, default=_DEFAULT.batch, help="tiles at once; 0 chooses")
    tiles.add_argument("--memory", default=None, metavar="SIZE", help="upper limit, such as 4GiB")
    tiles.add_argument("--workers", type=int, default=_DEFAULT.workers, help="local processes")
    tiles.add_argument("--scheduler", default=None, metavar="ADDRESS", help="a dask scheduler")

    pixels = parser.add_argument_group("pixels")
    pixels.add_argument(
        "--bands",
        default=None,
        metavar="R,G,B",
        help="bands shown to the model, from 1 (natural colour, or what the model recommends)",
    )
    pixels.add_argument(
        "--percentiles", default=None, metavar="LOW,HIGH", help="of the data set, become 0 and 1"
    )
    pixels.add_argument(
        "--scales",
        default=None,
        metavar="S[,S...]",
        help="how many times larger the model sees the image, several averaged: 0.7,1 "
        "(default: 1; of photos and single slices what the model recommends)",
    )
    pixels.add_argument(
        "--window",
        default=None,
        metavar="NAME|LOW,HIGH",
        help=f"CT window of a volume in HU: {', '.join(CT_WINDOWS)}, or two numbers",
    )

    pixels.add_argument(
        "--region",
        type=_region,
        default=None,
        metavar="A:B,C:D",
        help="segment a part: rows and columns (slices first for a volume), from 0",
    )

    pixels.add_argument(
        "--outline",
        default=None,
        metavar="WKT|FILE.geojson",
        help="segment inside polygons only: in pixels, POLYGON ((column row, ...)), or a GeoJSON",
    )

    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="VALUE|NAME=VALUE",
        help=f"probability from which a pixel belongs to a prompt (default {_DEFAULT.threshold})",
    )

    volumes = parser.add_argument_group("volumes")
    volumes.add_argument("--planes", default=_DEFAULT.planes, choices=("z", "y", "x", "zyx"))
    volumes.add_argument(
        "--spacing",
        type=float,
        default=_DEFAULT.spacing,
        metavar="MM",
        help="pixels that the model sees; 0 takes the file's (default: square, organs as large "
        "as in training)",
    )
    volumes.add_argument("--time", type=int, default=_DEFAULT.time, help="time point, from 0")
    volumes.add_argument(
        "--series", default=None, help="which series of a DICOM folder, or page of a TIFF"
    )
    volumes.add_argument(
        "--propagate",
        action=argparse.BooleanOptionalAction,
        default=_DEFAULT.propagate,
        help="start each slice from its neighbours' results, in a second pass "
        "(default: as the model recommends, for one slice axis and a single answer)",
    )
    volumes.add_argument(
        "--no-context",
        dest="context",
        action="store_false",
        help="show the model single slices without their neighbours",
    )
    volumes.add_argument("--largest", action="store_true", help="keep the largest component")
    volumes.add_argument("--fill-holes", action="store_true")
    volumes.add_argument(
        "--minimum-ml", type=float, default=_DEFAULT.minimum_ml, help="drop smaller components"
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Where results go."""
    parser.add_argument("-o", "--output", type=Path, default=None, metavar="OUT")
    parser.add_argument(
        "--probabilities", type=Path, default=None, metavar="STORE.zarr", help="keep soft maps"
    )
    parser.add_argument("--vector", type=Path, default=None, metavar="OUT.gpkg", help="polygons")
    add_simplify_option(parser)
    parser.add_argument(
        "--stats", type=Path, default=None, metavar="OUT.csv", help="areas, volumes"
    )
    parser.add_argument(
        "--uncertainty", type=Path, default=None, metavar="OUT", help="spread of the ensemble"
    )
    parser.add_argument(
        "--picture", type=Path, default=None, metavar="OUT.png", help="image and mask to look at"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    again.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def add_simplify_option(parser: argparse.ArgumentParser) -> None:
    """``--simplify``, which belongs to polygons."""
    parser.add_argument(
        "--simplify",
        default=None,
        metavar="2px|5m",
        help="smooth the borders of polygons by so much; neighbours keep sharing them "
        "(default: every corner of the pixels)",
    )


def prompts_of(args: argparse.Namespace) -> PromptSet:
    """Prompts as typed; raises `PromptError`."""
    return PromptSet.parse(args.prompt, args.negative)


def outputs_of(args: argparse.Namespace) -> Outputs:
    """Outputs as typed; at least one is needed.

    Raises
    ------
    UsageError
        None was given.
    """
    outputs = Outputs(
        args.output,
        args.probabilities,
        args.vector,
        args.stats,
        args.uncertainty,
        args.picture,
    )
    if outputs.main is None:
        raise UsageError("No output was named: say where the mask goes with -o OUT.")
    return outputs


def settings_of(args: argparse.Namespace) -> SegmentSettings:
    """`SegmentSettings` from flags; raises `UsageError`."""
    values: dict[str, Any] = {
        name: getattr(args, name)
        for name in (
            *("model", "device", "steps", "ensemble", "seed", "tile", "batch"),
            *("workers", "scheduler", "planes", "time", "propagate", "context", "largest"),
            *("fill_holes", "minimum_ml", "spacing"),
        )
    }
    values["overlap"] = default_overlap(args.tile) if args.overlap is None else args.overlap
    if getattr(args, "simplify", None) is not None:  # a batch writes no polygons
        values["simplify"] = args.simplify
    if args.memory is not None:
        values["memory"] = parse_size(args.memory)
    if args.scales is not None:
        values["scales"] = parse_scales(args.scales)
    if args.window is not None:
        values["window"] = parse_window(args.window)
    if args.bands is not None:
        values["bands"] = tuple(int(band) for band in _numbers(args.bands, int, "bands"))
    if args.percentiles is not None:
        values["percentiles"] = _numbers(args.percentiles, float, "percentiles")
    threshold, thresholds = thresholds_of(args.threshold)
    if threshold is not None:
        values["threshold"] = threshold
    values["thresholds"] = thresholds
    return SegmentSettings(**values)


def thresholds_of(words: Sequence[str]) -> tuple[float | None, dict[str, float]]:
    """The common threshold (`None` when not given) and those by name."""
    common: float | None = None
    named: dict[str, float] = {}
    for word in words:
        name, equals, value = word.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise UsageError(f"{word!r} is no threshold: write 0.5 or NAME=0.5.") from None
        if equals:
            named[name.strip()] = number
        else:
            common = number
    return common, named


def check_threshold_names(thresholds: dict[str, float], prompts: PromptSet) -> None:
    """Raise `UsageError` when a threshold names no prompt, so that no typo is lost silently."""
    for name in thresholds:
        if name not in prompts.names:
            known = ", ".join(prompts.names)
            raise UsageError(f"The threshold names {name!r}, but the prompts are: {known}.")


def _region(text: str) -> Region:
    try:
        return parse_region(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _numbers(text: str, kind: type[int] | type[float], what: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no list of {what}: write numbers with commas.") from None
