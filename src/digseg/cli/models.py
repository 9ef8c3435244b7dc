"""``models list | show | fetch | import | convert | distil``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from digseg.wording import format_size

if TYPE_CHECKING:
    from digseg.model.registry import ModelInfo

Subparsers = Any  # argparse keeps the type of its subparsers action private


def register(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "models", help="list, show, fetch, import and convert models", description="Models."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listed = actions.add_parser("list", help="models that are here")
    listed.set_defaults(run=run_list)

    shown = actions.add_parser("show", help="what a model is, with its card")
    shown.add_argument("model", metavar="NAME|DIR")
    shown.set_defaults(run=run_show)

    fetched = actions.add_parser("fetch", help="download a model from the hub")
    fetched.add_argument("hub_id", metavar="OWNER/NAME")
    fetched.set_defaults(run=run_fetch)

    imported = actions.add_parser("import", help="check a model folder and keep a copy")
    imported.add_argument("folder", metavar="DIR")
    imported.set_defaults(run=run_import)
    for one in (fetched, imported):
        one.add_argument("--name", default=None, help="under which --model finds it")

    converted = actions.add_parser(
        "convert",
        help="make a model of a Stable Diffusion checkpoint",
        description="Make a model of a Stable Diffusion checkpoint (1.5, 2.1, Turbo; diffusers "
        "layout, safetensors). It starts as the checkpoint: train it before use.",
    )
    converted.add_argument("checkpoint", metavar="SD_FOLDER", help="folder or hub id (OWNER/NAME)")
    converted.add_argument("-o", "--output", required=True, metavar="DIR")
    converted.add_argument(
        "--prediction",
        choices=("v_prediction", "keep"),
        default="v_prediction",
        help="what the U-Net predicts from now on; keep leaves an eps-prediction as it is",
    )
    converted.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    converted.add_argument("--seed", type=int, default=0, help="of the new layers")
    converted.set_defaults(run=run_convert)

    distilled = actions.add_parser(
        "distil",
        help="give a converted model a small decoder of masks",
        description="Fit a one-channel mask decoder to the full decoder of a converted model's "
        "VAE, which is most of the work of one step, and save the model with it. Before or after "
        "training.",
    )
    distilled.add_argument("model", metavar="PIPELINE", help="name or folder of a model")
    distilled.add_argument("-o", "--output", required=True, metavar="DIR")
    distilled.add_argument("--minutes", type=float, default=10.0)
    distilled.add_argument("--steps", type=int, default=0, help="in place of minutes")
    distilled.add_argument(
        "--data",
        nargs="*",
        default=(),
        metavar="FOLDER",
        help="labelled data whose masks are learned from; made-up shapes where there are none",
    )
    distilled.add_argument("--size", type=int, default=128, help="side of the masks, pixels")
    distilled.add_argument("--precision", choices=("no", "bf16"), default="no")
    distilled.add_argument("--seed", type=int, default=0)
    distilled.set_defaults(run=run_distil)
    for one in (fetched, imported, converted, distilled):
        one.add_argument("--overwrite", action="store_true", help="replace what is there")
    for one in (listed, shown, fetched, imported, converted, distilled):
        one.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run_list(args: argparse.Namespace) -> int:
    from digseg.cli.output import print_json
    from digseg.model.registry import list_models, local_folder

    models = list_models()
    if args.json:
        print_json({"models": [info.to_dict() for info in models]})
        return 0
    for info in models:
        kind = "shipped" if info.shipped else "local"
        print(f"{info.name:24} {kind:8} {format_size(info.size):>10}  {info.summary}")
    if not models:
        print(f"No model is here: bring one in, or put its folder into {local_folder()}.")
    return 0


def run_show(args: argparse.Namespace) -> int:
    from digseg.cli.output import print_json
    from digseg.model.registry import find_model

    info = find_model(args.model)
    if args.json:
        print_json({**info.to_dict(), "card": info.card})
        return 0
    print(f"{info.name}: {info.folder} ({format_size(info.size)})")
    for part, kind in info.components.items():
        print(f"  {part:16} {kind}")
    if info.card:
        print("\n" + info.card.rstrip())
    return 0


def run_fetch(args: argparse.Namespace) -> int:
    from digseg.model.collect import fetch_model

    return _say(fetch_model(args.hub_id, args.name, overwrite=args.overwrite), args.json)


def run_import(args: argparse.Namespace) -> int:
    from digseg.model.collect import import_model

    return _say(import_model(args.folder, args.name, overwrite=args.overwrite), args.json)


def run_convert(args: argparse.Namespace) -> int:
    from digseg.model.collect import convert_model

    info = convert_model(
        args.checkpoint,
        args.output,
        overwrite=args.overwrite,
        prediction=args.prediction,
        dtype=args.dtype,
        seed=args.seed,
    )
    code = _say(info, args.json)
    print(
        "It starts as the checkpoint and knows no masks yet: "
        f"napari-digseg train DATA --model {info.folder} -o DIR",
        file=sys.stderr,
    )
    return code


def run_distil(args: argparse.Namespace) -> int:
    from digseg.cli.output import print_json
    from digseg.train.distil import DistilSettings
    from digseg.train.distil_job import distil_model

    settings = DistilSettings(
        minutes=args.minutes,
        steps=args.steps,
        size=args.size,
        seed=args.seed,
        half=args.precision == "bf16",
    )
    info, found = distil_model(
        args.model,
        args.output,
        args.data,
        settings,
        overwrite=args.overwrite,
        listen=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if args.json:
        print_json({**info.to_dict(), "distilled": found})
        return 0
    print(
        f"{info.name}: {info.folder} ({format_size(info.size)}); IoU of masks through the full "
        f"decoder {found['full_iou']:.4f}, through the small one {found['distilled_iou']:.4f}"
    )
    return 0


def _say(info: ModelInfo, as_json: bool) -> int:
    from digseg.cli.output import print_json

    if as_json:
        print_json(info.to_dict())
    else:
        print(f"{info.name}: {info.folder} ({format_size(info.size)})")
    return 0
