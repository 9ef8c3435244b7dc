"""``benchmark engine --size 8192 --classes 2``: the engine's own figures on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from digseg.errors import UsageError
from digseg.settings import SegmentSettings, parse_size

_DEFAULT = SegmentSettings()


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("benchmark", help="measure the engine on this machine")
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    engine = kinds.add_parser(
        "engine",
        help="a made-up scene from GeoTIFF to GeoTIFF and zarr",
        description=(
            "Segment a made-up scene with a small network and tell fwd_over_wall, bytes_per_pixel, "
            "redundancy, megapixels_per_second and output_sha256."
        ),
    )
    engine.add_argument(
        "--size", default="4096", metavar="N|ROWSxCOLUMNS", help="of the scene (default 4096)"
    )
    engine.add_argument("--classes", type=int, default=2, help="prompts (default 2)")
    engine.add_argument("--tile", type=int, default=512)
    engine.add_argument("--overlap", type=int, default=64)
    engine.add_argument("--batch", type=int, default=_DEFAULT.batch)
    engine.add_argument("--memory", default=None, metavar="SIZE", help="upper limit, such as 2GiB")
    engine.add_argument("--workers", type=int, default=_DEFAULT.workers)
    engine.add_argument("--scheduler", default=None, metavar="ADDRESS")
    engine.add_argument("--device", default=_DEFAULT.device, choices=("auto", "cpu", "cuda", "mps"))
    engine.add_argument(
        "--model",
        default="convnet",
        metavar="convnet|cheap|NAME|DIR",
        help="four convolutions (default), next to no work, or a model",
    )
    engine.add_argument(
        "--share", type=float, default=1.0, help="share of the scene that holds data (default 1)"
    )
    engine.add_argument(
        "--in-one-piece",
        action="store_true",
        help="what holds no data (see --share) is one piece, not blocks here and there",
    )
    engine.add_argument(
        "--threads", type=int, default=0, help="threads of the network; 0 leaves them alone"
    )
    engine.add_argument("--folder", type=Path, default=None, help="work here and keep the files")
    engine.add_argument("--json", action="store_true", help="one JSON object on standard output")
    engine.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from digseg.cli.output import console, print_json
    from digseg.run.benchmark import Task, run_benchmark, set_threads

    if args.classes < 1 or not 0 < args.share <= 1:
        raise UsageError("A benchmark needs at least one class and a share between 0 and 1.")
    if args.in_one_piece and args.share == 1:
        raise UsageError("--in-one-piece says where no data is: give --share below 1 with it.")
    settings = SegmentSettings(
        tile=args.tile,
        overlap=args.overlap,
        batch=args.batch,
        memory=None if args.memory is None else parse_size(args.memory),
        workers=args.workers,
        scheduler=args.scheduler,
        device=args.device,
    )
    if args.threads:
        set_threads(args.threads)
    task = Task(
        shape=_shape(args.size),
        classes=args.classes,
        work=args.model,
        share=args.share,
        in_one_piece=args.in_one_piece,
        settings=settings,
    )
    figures = run_benchmark(task, args.folder)
    if args.json:
        print_json(figures)
    else:
        for key, value in figures.items():
            console().print(f"{key:>22}  {value}", highlight=False)
    return 5 if figures["failed_tiles"] else 0


def _shape(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    try:
        sides = [int(part) for part in parts]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides, default=0) < 1:
        raise UsageError(f"{text!r} is no size: write 8192 or 512x200000.")
    return sides[0], sides[-1]
