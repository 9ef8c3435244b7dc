"""Measure a model on every set it was trained on, and write its card.

    python -m benchmarks model_card --data FOLDER [--model DIR] [--limit N] [--planes 10]
    python -m benchmarks model_card --data FOLDER --again       # write again, measure nothing

Writes ``docs/model-card.md``, and ``README.md`` and ``figures.json`` in the model's folder. The
defaults take a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from digseg.evaluate import EvaluateSettings, LabelledSet, open_sets
from digseg.evaluate.aims import figures, measure
from digseg.evaluate.card import render
from digseg.model.registry import find_model

ROOT = Path(__file__).resolve().parents[1]
SPECIALISTS = Path(__file__).with_name("specialists.json")
#: Made by ``python -m benchmarks scan``; quoted where it lies in the docs.
SHEET = "images/scan.png"
#: Pictures at most of each set that was not trained on.
ELSEWHERE = 24
#: Not elsewhere: the one chip of this set is `spain_flood` of satellite_dynamicworld, to the pixel.
LEARNED = ("s2_flood_sen1floods11",)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="model_card", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="digseg-tiny", metavar="NAME|DIR")
    parser.add_argument("--split", default="val")
    parser.add_argument("--use", default="train-and-ship")
    parser.add_argument("--sets", nargs="*", default=None, help="only these (others stay as told)")
    parser.add_argument("--limit", type=int, default=None, help="images of each set at most")
    parser.add_argument("--planes", type=int, default=10, help="planes of each volume at most")
    parser.add_argument("--budget", type=float, default=1.5, help="for synonyms and absent things")
    parser.add_argument("--synonyms", type=int, default=2)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument(
        "--missing", action="store_true", help="only sets that figures.json lacks (after a kill)"
    )
    parser.add_argument("--again", action="store_true", help="from figures.json, without measuring")
    args = parser.parse_args()

    info = find_model(args.model)
    every = open_sets(args.data)
    sets = [item for item in every if item.use == args.use]
    kept = info.folder / "figures.json"
    told: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"sets": {}}
    if not args.again:
        wanted = args.sets
        if args.missing:
            wanted = [item.name for item in sets if item.name not in told["sets"]]
        chosen = [item for item in sets if wanted is None or item.name in wanted]
        if wanted is None:
            told = {"sets": {}}
        told = _measure(args, info.folder, chosen, told, kept)
        if wanted is None or (args.missing and "elsewhere" not in told):
            told["elsewhere"] = _measure_elsewhere(args, info.folder, sets, every)
            write(kept, json.dumps(told, indent=1) + "\n")
    specialists = json.loads(SPECIALISTS.read_text())["miou"] if SPECIALISTS.exists() else {}
    has_sheet = (args.docs / SHEET).exists()
    common = (info.name, info.folder, told, sets)
    docs_card = render(*common, specialists=specialists, picture=SHEET if has_sheet else None)
    write(args.docs / "model-card.md", docs_card.split("---\n", 2)[2].lstrip())
    write(info.folder / "README.md", render(*common, specialists=specialists))
    print(f"{args.docs / 'model-card.md'} and {info.folder / 'README.md'}")
    return 0


def _measure(
    args: argparse.Namespace,
    folder: Path,
    sets: Sequence[LabelledSet],
    told: dict[str, Any],
    kept: Path,
) -> dict[str, Any]:
    """Judge the sets one by one; what is known is written after each."""
    from digseg.model import load

    settings = EvaluateSettings(
        split=args.split,
        limit=args.limit,
        planes=args.planes,
        budget=args.budget,
        synonyms=args.synonyms,
    )
    words = f"python -m benchmarks model_card --data FOLDER --planes {args.planes}"
    if args.limit is not None:
        words += f" --limit {args.limit}"
    told |= {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {_accelerator()}, Python {platform.python_version()}",
        "command": words,
        "split": args.split,
    }
    model, began = load(folder, device="cpu"), time.monotonic()
    for item in sets:
        found = measure([item], model, settings)
        told["sets"] |= figures(found, sets)
        write(kept, json.dumps(told, indent=1) + "\n")
        for one in found:
            miou = one.values["miou"]
            shown = "-" if miou is None else f"{miou:.3f}"
            print(f"{time.monotonic() - began:6.0f} s  {item.name:28} {shown}", file=sys.stderr)
    return told


def _measure_elsewhere(
    args: argparse.Namespace,
    folder: Path,
    sets: Sequence[LabelledSet],
    every: Sequence[LabelledSet],
) -> dict[str, Any]:
    """Judge sets that were not trained on, of domains that were: the larger split of each."""
    from digseg.model import load

    domains, names = {item.domain for item in sets}, {item.name for item in sets}
    model = load(folder, device="cpu")
    told: dict[str, Any] = {}
    for item in every:
        if item.name in (*names, *LEARNED) or item.domain not in domains or not item.splits:
            continue
        settings = EvaluateSettings(
            split=max(item.splits, key=lambda split: len(item.splits[split])),
            limit=min(args.limit or ELSEWHERE, ELSEWHERE),
            planes=args.planes,
            synonyms=0,
            absent=0,
        )
        told |= figures(measure([item], model, settings), every)
        print(f"elsewhere: {item.name:28} {told[item.name]['miou']}", file=sys.stderr)
    return told


def _accelerator() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"


def write(path: Path, text: str) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    raise SystemExit(main())
