"""Street scenes as the public yardstick: CamVid alone, by text prompts.

    python -m benchmarks camvid --data FOLDER/street_camvid --start PIPELINE [--minutes 30]

Trains the default model's network on ``street_camvid`` (research-only: the weights are not
shipped), once with the encoder of ``--start`` (ImageNet weights, as ``assemble.py`` leaves it) and
once from random weights, and states the mean IoU of the 11 classes on ``val``, each class asked
for by its name, arg-max over the eleven. Published at this size of picture: SegNet 60.1, ENet 51.3,
FC-DenseNet103 66.9.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from digseg.evaluate import EvaluateSettings, evaluate_set
from digseg.evaluate.dataset import read_set
from digseg.model import DiGSegPipeline, load
from digseg.model.fresh import Layout, new_pipeline
from digseg.train.run import describe, prepare, train_sets
from digseg.train.settings import TrainSettings

MIX = {
    "default": {"size": 256, "prompts": 6, "scales": [0.6, 1.6], "turn": 8, "quarter_turns": False}
}


def start_of(folder: Path, pretrained: bool, seed: int) -> DiGSegPipeline:
    """The pipeline to begin with: as it is, or with everything random but text and masks."""
    pipeline = DiGSegPipeline.from_pretrained(folder)
    if pretrained:
        return pipeline
    encoder = pipeline.image_encoder
    layout = Layout(
        channels=tuple(pipeline.unet.config.block_out_channels),
        latents=pipeline.parts.mask_channels,
        detail=tuple(encoder.config.detail_channels),
        decoder=tuple(pipeline.mask_decoder.config.channels),
        neck=int(encoder.config.neck_channels),
        encoder_width=float(encoder.config.width),
        groups=int(pipeline.unet.config.norm_num_groups),
        hidden=int(pipeline.text_pathway.config.hidden),
    )
    return new_pipeline(layout, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, seed)


def run(args: argparse.Namespace, pretrained: bool, folder: Path) -> dict[str, Any]:
    """Train once and judge."""
    settings = TrainSettings(
        steps=args.steps or 1_000_000,
        minutes=0.0 if args.steps else args.minutes,
        batch=args.batch,
        encoder_from=4 if pretrained else 0,
        encoder_rate=2e-4 if pretrained else 1e-3,
        threads=args.threads,
        seed=args.seed,
    )
    mix = folder / "mix.json"
    mix.write_text(json.dumps(MIX))
    began = time.monotonic()
    pipeline = train_sets(
        start_of(args.start, pretrained, args.seed),
        prepare(args.data),
        settings,
        folder / "run",
        mix,
        lambda done: print(describe(done), file=sys.stderr, flush=True),
    )
    spent = time.monotonic() - began
    pipeline.save_pretrained(folder / "model")
    choices = EvaluateSettings(limit=args.limit, synonyms=0, absent=0)
    model = load(folder / "model", device="cpu")
    values = evaluate_set(read_set(args.data), model, choices, pictures=0).values
    return {"miou": values["miou"], "iou": values["iou"], "n": values["n"], "seconds": spent}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="camvid", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--start", required=True, type=Path, help="pipeline of assemble.py")
    parser.add_argument("--minutes", type=float, default=30.0, help="of each of the two runs")
    parser.add_argument("--steps", type=int, default=0, help="in place of minutes")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--limit", type=int, default=None, help="val pictures at most")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("pretrained", "random"), default=None)
    parser.add_argument("--json", type=Path, default=None, metavar="OUT")
    args = parser.parse_args()
    told: dict[str, Any] = {}
    for name in ("pretrained", "random"):
        if args.only in (None, name):
            with tempfile.TemporaryDirectory() as place:
                told[name] = run(args, name == "pretrained", Path(place))
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    words = f"{os.cpu_count()} cores, {gpu}, Python {platform.python_version()}"
    print(f"CamVid val, mIoU of 11 classes by text ({words}, {time.strftime('%Y-%m-%d')})\n")
    print("| encoder | mIoU | minutes |\n| --- | --- | --- |")
    for name, values in told.items():
        print(f"| {name} | {values['miou']:.3f} | {values['seconds'] / 60:.1f} |")
    if args.json is not None:
        args.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
