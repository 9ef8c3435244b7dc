"""Train ``digseg-tiny`` from the folder that ``assemble.py`` wrote: stage 1, then stage 2.

Killed or ended, it goes on from its last checkpoint when it is called again; ``--minutes`` of a
stage may be raised to train on.

Usage::

    python tools/build_default/train_tiny.py --data DATA --model START -o OUT \
        --stage1 8 --stage2 90

On a busy machine, or one with many cores, several processes of one thread each do more than one
process of several threads: ``ACCELERATE_USE_CPU=1 torchrun --nproc-per-node 2 ... --threads 1
--batch 1 --match-batch 12``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from digseg.model.fresh import Layout, add_matching
from digseg.model.pipeline import DiGSegPipeline
from digseg.train.run import describe, prepare, train_sets
from digseg.train.settings import TrainSettings


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True, help="what to begin with, and to go on from")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--stage1", type=float, default=8, help="minutes")
    parser.add_argument("--stage2", type=float, default=90, help="minutes")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--match-batch", type=int, default=4, help="pictures without the U-Net")
    parser.add_argument("--match-share", type=float, default=0.6, help="steps without the U-Net")
    parser.add_argument("--encoder-rate", type=float, default=0.0, help="of the trunk; 0: frozen")
    parser.add_argument("--encoder-from", type=int, default=4, help="its first stage that learns")
    parser.add_argument("--seed", type=int, default=0, help="another one for each further run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument(
        "--precision", default="no", help="bf16 is faster where a CPU has it, far slower elsewhere"
    )
    parser.add_argument("--decay", type=float, default=0.3, help="share with a falling rate")
    parser.add_argument("--mix", default=None)
    args = parser.parse_args()
    out = Path(args.output)
    first = int(os.environ.get("RANK", "0")) == 0
    prepared = prepare(args.data, "train-and-ship")
    source = Path(args.model)
    for stage, minutes in ((1, args.stage1), (2, args.stage2)):
        if not minutes:
            continue
        folder = out / f"stage{stage}"
        settings = TrainSettings(
            stage=stage,
            steps=1_000_000,
            minutes=minutes,
            batch=args.batch,
            rate=args.rate,
            threads=args.threads,
            decay=args.decay,
            ema=0.98 if stage == 1 else 0.998,
            diffusion_share=0.06,
            mixed_precision=args.precision,
            match_batch=args.match_batch if stage == 2 else 0,
            match_share=args.match_share if stage == 2 else 0.0,
            match_weight=1.0 if stage == 2 else 0.0,
            encoder_from=args.encoder_from,
            encoder_rate=args.encoder_rate,
            seed=args.seed,
        )
        print(settings.to_json(), flush=True)
        pipeline = DiGSegPipeline.from_pretrained(source).to(torch.float32)
        if len(pipeline.image_encoder.config.match_channels) < len(Layout.match):
            add_matching(pipeline)
        train_sets(
            pipeline,
            prepared,
            settings,
            folder,
            args.mix,
            (lambda done: print(describe(done), flush=True)) if first else None,
        )
        source = folder / "pipeline"


if __name__ == "__main__":
    main()
