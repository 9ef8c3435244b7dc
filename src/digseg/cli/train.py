"""``train DATA -o DIR``: teach a model from labelled data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digseg.settings import SegmentSettings
from digseg.wording import format_size

if TYPE_CHECKING:
    from digseg.train.job import TrainJob
    from digseg.train.run import Prepared

Subparsers = Any  # argparse keeps the type of its subparsers action private


def register(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train or fine-tune a model on labelled data",
        description="Train a model on labelled sets (folders with dataset.json), on public data in "
        "their own layout, or on a cache file. Several machines or GPUs: "
        "accelerate launch -m digseg.cli.main train ...",
    )
    parser.add_argument(
        "data", nargs="+", metavar="DATA", help="folders of sets, a public data set, or a cache"
    )
    parser.add_argument("-o", "--output", type=Path, default=None, metavar="DIR")
    parser.add_argument(
        "--cache",
        type=Path,
        default=None,
        metavar="FILE",
        help="pack the prepared pictures into one file of at most 45 MB; without -o that is all, "
        "with -o training reads it (and does not pack it again where it is there)",
    )
    parser.add_argument("--layout", default=None, help="public layout of DATA, as ade20k")
    parser.add_argument("--split", default="train")
    parser.add_argument(
        "--use",
        default=None,
        metavar="MARK",
        help="sets of a folder marked so; by default train-and-ship where any is, any takes all",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="go on where a run ended or was killed"
    )
    again.add_argument("--overwrite", action="store_true", help="begin anew in DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="no lines of progress")
    _add_how(parser)
    parser.set_defaults(run=run)


def _add_how(parser: argparse.ArgumentParser) -> None:
    begin = parser.add_argument_group("what is trained")
    begin.add_argument("--model", default=SegmentSettings().model, metavar="NAME|DIR")
    begin.add_argument(
        "--fresh", action="store_true", help="keep only its text tower and mask autoencoder"
    )
    begin.add_argument("--lora", type=int, default=0, metavar="RANK", help="low-rank updates only")
    begin.add_argument(
        "--tune-encoder",
        action="store_true",
        help="let the image encoder's coarse stages learn, too: for pictures unlike any it knows",
    )
    begin.add_argument("--freeze-text-pathway", action="store_true")
    how = parser.add_argument_group("how")
    how.add_argument("--stage1", type=int, default=0, metavar="STEPS", help="v-prediction (0)")
    how.add_argument("--stage2", type=int, default=2000, metavar="STEPS", help="one step (2000)")
    how.add_argument("--minutes", type=float, default=0.0, help="of a stage at most (0: no limit)")
    how.add_argument("--batch", type=int, default=4, help="pictures a step (4)")
    how.add_argument("--lr", type=float, default=None, help="peak learning rate (1e-3; LoRA 1e-4)")
    how.add_argument("--ema", type=float, default=0.998, help="decay of the mean of weights")
    how.add_argument("--mix", type=Path, default=None, metavar="FILE", help="shares of the sets")
    how.add_argument("--gradient-checkpointing", action="store_true", help="less memory, slower")
    how.add_argument("--precision", choices=("no", "bf16", "fp16"), default="no")
    how.add_argument("--checkpoint-minutes", type=float, default=4.0)
    how.add_argument("--log-every", type=int, default=20, metavar="STEPS")
    how.add_argument("--threads", type=int, default=0, help="of torch (0: its own choice)")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--tensorboard", action="store_true")


def run(args: argparse.Namespace) -> int:
    from digseg.cli.output import print_json
    from digseg.errors import UsageError
    from digseg.train.job import check_job
    from digseg.train.mix import read_mix, unused_names

    if args.output is None and args.cache is None:
        raise UsageError("Say where to: -o DIR, or --cache FILE to pack the pictures only.")
    # All of this before minutes of reading pictures.
    mix = None if args.mix is None else read_mix(args.mix)
    job = None if args.output is None else _job(args)
    if job is not None:
        check_job(job, [*args.data, *([args.cache] if args.cache is not None else [])])
    prepared, told = _prepared(args)
    if mix is not None and (unused := unused_names(prepared[0], mix)):
        _say(args, f"The mix also names what is not among the data: {', '.join(unused)}")
    if job is not None:
        told = told | _train(args, job, prepared)
    if args.json:
        print_json(told)
    return 0


def _prepared(args: argparse.Namespace) -> tuple[Prepared, dict[str, Any]]:
    """Pictures from DATA or from a cache; the cache is written where it is asked for."""
    from digseg.train.cache import is_cache, load_cache, save_cache
    from digseg.train.layouts.prepare import prepare_any

    told: dict[str, Any] = {}
    if len(args.data) == 1 and is_cache(args.data[0]):
        prepared = load_cache(args.data[0])
    elif args.cache is not None and args.output is not None and args.cache.exists():
        prepared = load_cache(args.cache)
    else:
        prepared = prepare_any(args.data, layout=args.layout, use=args.use, split=args.split)
        if args.cache is not None:
            size = save_cache(prepared, args.cache)
            told = {"cache": str(args.cache), "bytes": size}
            _say(args, f"{args.cache}: {format_size(size)}")
    infos, pictures = prepared
    count = sum(len(pictures[info.name]) for info in infos)
    _say(args, f"{count} pictures of {len(infos)} sets")
    return prepared, told | {"sets": len(infos), "pictures": count}


def _job(args: argparse.Namespace) -> TrainJob:
    from digseg.train.job import TrainJob
    from digseg.train.settings import TUNED_ENCODER_RATE, TrainSettings

    default = TrainSettings()
    rate = args.lr if args.lr is not None else (1e-4 if args.lora else default.rate)
    settings = TrainSettings(
        minutes=args.minutes,
        batch=args.batch,
        rate=rate,
        encoder_rate=min(rate, TUNED_ENCODER_RATE) if args.tune_encoder else 0.0,
        ema=args.ema,
        checkpoint_minutes=args.checkpoint_minutes,
        log_every=args.log_every,
        gradient_checkpointing=args.gradient_checkpointing,
        lora_rank=args.lora,
        freeze_text_pathway=args.freeze_text_pathway,
        mixed_precision=args.precision,
        seed=args.seed,
        threads=args.threads,
        tensorboard=args.tensorboard,
    )
    return TrainJob(
        args.output,
        args.model,
        args.fresh,
        args.stage1,
        args.stage2,
        settings,
        args.mix,
        args.resume,
        args.overwrite,
    )


def _train(args: argparse.Namespace, job: TrainJob, prepared: Prepared) -> dict[str, Any]:
    from digseg.train.job import run_job
    from digseg.train.loop import Progress
    from digseg.train.run import describe

    def listen(stage: int, done: Progress) -> None:
        _say(args, f"stage {stage}  {describe(done)}")

    told = run_job(job, prepared, listen)
    _say(args, f"Model: {told['model']}   loss plot: {args.output / 'loss.png'}")
    return told


def _say(args: argparse.Namespace, line: str) -> None:
    if not args.quiet:
        print(line, file=sys.stderr, flush=True)
